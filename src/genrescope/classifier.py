"""A trained model, opened from its folder: audio in, genre probabilities out. No torch here.

The folder holds ``config.json`` (genres, representation, how the model came about),
``model.onnx`` (one input, float32 (batch, *shape); one output ``logits`` (batch, genres)),
``model.safetensors`` and ``README.md``, the model card. A fine-tuned encoder's folder may hold
``transformers/``, the same network for those who use it through ``transformers``.

A folder may come from anybody: what is read of it is ``config.json`` and ``model.onnx``, links are
followed (the hub's cache is made of them), and both are checked before anything is heard.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, overload

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from genrescope.audio import Waveform, is_silent, to_waveform
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.hub import MODEL_FILES, WeightsNotAvailableError, find_model, push
from genrescope.inference import MOST_BYTES, first_line, on_gpu, open_session
from genrescope.reading import read_bounded, sha256
from genrescope.representations import Representation, make_representation
from genrescope.representations.backbone import SEPARATOR
from genrescope.representations.representation import Analysis
from genrescope.tracks.track import MOST_GENRES, genre_fault

CONFIG, ONNX, WEIGHTS, CARD = "config.json", "model.onnx", "model.safetensors", "README.md"
TRANSFORMERS = "transformers"
_SHARED = (  # what is handed on but, being the same network again, not fetched
    *MODEL_FILES,
    *(f"{TRANSFORMERS}/{name}" for name in (CONFIG, WEIGHTS, "preprocessor_config.json")),
)
_BATCH = 32
_MOST_CONFIG_BYTES = 2**20
_MOST_TOLD = 500  # letters
_INTACT = "Get an intact copy of the model"

Audio = str | os.PathLike[str] | Waveform


def _distinct_genres(genres: list[str]) -> list[str]:
    for genre in genres:
        if (fault := genre_fault(genre)) is not None:
            raise ValueError(fault)
        if genres.count(genre) > 1:
            raise ValueError(f"{genre!r} stands there twice")
    return genres


def _named(told: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(told.get("name"), str):
        raise ValueError("its name is missing")  # noqa: TRY004  which pydantic would not catch
    return told


class ClassifierConfig(BaseModel):
    """What ``config.json`` holds.

    Attributes
    ----------
    format
        Of the folder; raised when it changes.
    genres
        In the order of the logits.
    representation
        Name, version and parameters.
    unsure_below
        A most likely genre with less probability than this is called unsure.
    files
        SHA-256 of the folder's files by name, in hex digits; older folders tell none.
    trained
        Recipe, data set, protocol, seed, accuracy: whatever tells how the model came about.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    genres: Annotated[
        list[str], Field(min_length=2, max_length=MOST_GENRES), AfterValidator(_distinct_genres)
    ]
    representation: Annotated[dict[str, Any], AfterValidator(_named)]
    unsure_below: float = Field(default=0.0, ge=0, le=1)
    files: dict[
        Annotated[str, Field(pattern=r"^model\.(onnx|safetensors)$")],
        Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
    ] = Field(default_factory=dict)
    trained: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """Genres of one clip.

    Attributes
    ----------
    genre
        The most likely one.
    confidence
        Its probability, in [0, 1].
    unsure
        Whether the model had better not be believed: its confidence is too low.
    probabilities
        Of every genre, most likely first; they sum to 1.
    tags
        Likelihood in [0, 1] of every tag of the backbone, likeliest first; they do not sum to 1.
        Empty for models without one.
    warnings
        What is to be known of the file, such as how much of it is damaged; mostly empty.
    """

    genre: str
    confidence: float
    unsure: bool
    probabilities: dict[str, float]
    tags: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def likely(self) -> list[str]:
        """The genres at least half as probable as the first: several where several fit."""
        return [name for name, share in self.probabilities.items() if share >= self.confidence / 2]

    def to_pipeline(self, top_k: int | None = None) -> list[dict[str, Any]]:
        """Give the genres as Hugging Face's audio-classification pipeline does."""
        ranked = list(self.probabilities.items())[:top_k]
        return [{"score": share, "label": name} for name, share in ranked]


@dataclass(frozen=True)
class Timeline:
    """Genres over time.

    Attributes
    ----------
    genres
        In the order of the columns.
    step_s
        Seconds from one row to the next.
    probabilities
        float32 (steps, genres); rows sum to 1, and those of silence are 0.
    """

    genres: tuple[str, ...]
    step_s: float
    probabilities: NDArray[np.float32]

    @property
    def best(self) -> list[str | None]:
        """The most likely genre of every step; None for silence, which has none."""
        return [
            self.genres[row.argmax()] if row.any() else None  # rows of probabilities sum to 1
            for row in self.probabilities
        ]


class Classifier:
    """A trained model folder, opened.

    Parameters
    ----------
    folder
        As ``save_pretrained`` or a study writes it.
    threads
        For inference; None lets ONNX Runtime take every core.

    Raises
    ------
    InputError
        If a file of the folder is missing, too large or not what it should be.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = folder
        self.config = _read_config(folder / CONFIG)
        self.representation = _representation(folder, self.config)
        self._session = _open_session(folder / ONNX, self.config, self.representation, threads)
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def default(cls) -> Classifier:
        """Open the classifier that comes with the package."""
        return cls(find_model(None), threads=1)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        revision: str | None = None,
        *,
        token: str | None = None,
        threads: int | None = None,
    ) -> Classifier:
        """Open a model folder, or fetch one from the Hugging Face hub and open it.

        Parameters
        ----------
        model
            A folder, or the hub's ``user/name``; a folder of that name comes first.
        revision
            A branch, tag or commit of the hub; None for the newest. A folder has none.
        token
            Of the hub, for a private model; None takes what ``hf auth login`` has kept.
        threads
            See the class.

        Raises
        ------
        GenrescopeError
            If there is no such model, the hub cannot be reached, or its files are not what they
            should be. Fetching needs ``pip install 'genrescope[hub]'``.
        """
        return cls(find_model(model, revision, token=token), threads)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Copy the model's files into a folder, which is made if need be.

        Raises
        ------
        InputError
            If one of them is not the file that ``config.json`` tells of.
        """
        self._refuse_other_files()
        for name in _SHARED:
            if (self.folder / name).exists():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, Path(folder) / name)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model's files to the Hugging Face hub.

        Parameters
        ----------
        repo_id
            ``user/name``; made if need be.
        private
            Whether a repository that is made is private.
        token
            One that may write; None takes what ``hf auth login`` has kept.

        Returns
        -------
        url
            Of the commit.

        Raises
        ------
        GenrescopeError
            If the hub cannot be reached or does not let it be written, or a file is not the one
            that ``config.json`` tells of. Needs ``pip install 'genrescope[hub]'``.
        """
        self._refuse_other_files()
        return push(self.folder, _SHARED, repo_id, private=private, token=token)

    def _refuse_other_files(self) -> None:
        for name, told in self.config.files.items():
            if (self.folder / name).is_file():
                _refuse_other(self.folder / name, sha256(self.folder / name), told)

    @cached_property
    def key(self) -> str:
        """16 hex digits that change with anything that its predictions depend on."""
        told = {"representation": self.representation.to_json(), "genres": self.genres}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        digest.update(read_bounded(self.folder / ONNX, MOST_BYTES, _INTACT))
        return digest.hexdigest()[:16]

    @property
    def genres(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return tuple(self.config.genres)

    @property
    def on_gpu(self) -> bool:
        """Whether its networks run on a GPU, as they do where onnxruntime-gpu finds one."""
        return on_gpu(self._session)

    @overload
    def predict(self, audio: Audio, rate: int = 0) -> Prediction: ...

    @overload
    def predict(self, audio: list[Any] | tuple[Any, ...], rate: int = 0) -> list[Prediction]: ...

    def predict(
        self, audio: Audio | list[Any] | tuple[Any, ...], rate: int = 0
    ) -> Prediction | list[Prediction]:
        """Tell the genre of one clip, or of each of several.

        Parameters
        ----------
        audio
            A file, or a waveform: float32 (samples,), mono, in [-1, 1]; or a list of them.
        rate
            Of the waveforms, in Hz; not needed for files.

        Returns
        -------
        prediction
            Genres and their probabilities; of a list, a list in its order.

        Raises
        ------
        InputError
            If a file cannot be read or is silent. A list ends at its first: to go on, and to keep
            every core busy, use ``genrescope.library.many.classify_files``.
        GenrescopeError
            If the network gives no finite numbers.
        ValueError
            If a waveform comes without its rate, is too short, silent, or not what ``to_waveform``
            takes.
        """
        if isinstance(audio, list | tuple):
            return [self._predict(one, rate) for one in audio]
        return self._predict(audio, rate)

    def _predict(self, audio: Audio, rate: int) -> Prediction:
        analysis = self._analyse(audio, rate)
        if isinstance(audio, np.ndarray) and is_silent(audio):
            raise ValueError("the waveform is silent")
        # As in training: the windows are averaged first, then classified.
        mean = analysis.arrays.mean(axis=0, keepdims=True)
        scores = self._shares(audio, mean)[0]
        ranked = {self.genres[i]: float(scores[i]) for i in np.argsort(-scores, kind="stable")}
        genre, confidence = next(iter(ranked.items()))
        unsure = confidence < self.config.unsure_below
        warnings = tuple(warning.message for warning in analysis.warnings)
        return Prediction(genre, confidence, unsure, ranked, dict(analysis.tags), warnings)

    def timeline(self, audio: Audio, rate: int = 0) -> Timeline:
        """Tell the genres of every window of a clip.

        Parameters, errors: see ``predict``.

        Returns
        -------
        timeline
            One row for every whole window; a single row for a model that takes clips as one. Rows
            of silent windows are 0.
        """
        parts: Iterable[Analysis]
        if isinstance(audio, np.ndarray):
            parts = [self._analyse(audio, rate)]
        else:
            parts = self.representation.analyse_windows(Path(audio))
        # Part by part: of hours of audio, no more than the genres need be kept.
        window_s, rows = inf, []
        for part in parts:
            window_s = part.window_s
            shares = self._shares(audio, part.arrays)
            shares[np.flatnonzero(part.silent)] = 0
            rows.append(shares)
        return Timeline(self.genres, window_s, np.concatenate(rows))

    def _analyse(self, audio: Audio, rate: int) -> Analysis:
        if not isinstance(audio, np.ndarray):
            return self.representation.analyse_file(Path(audio))
        if rate <= 0:
            raise ValueError("a waveform needs its sample rate in Hz")
        analysis = self.representation.analyse(to_waveform(audio), rate)
        if not np.isfinite(analysis.arrays).all():
            raise ValueError(f"its {self.representation.name} are not all finite numbers")
        return analysis

    def _shares(self, audio: Audio, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        # An error that says in which file the network failed, and not only which network.
        try:
            return self.probabilities(arrays)
        except InputError as error:
            if isinstance(audio, np.ndarray):
                raise
            cause = f"the classifier's {error.path.name} fails on it: {error.cause}"
            raise InputError(Path(audio), cause, error.remedy) from error

    def logits(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model alone.

        Parameters
        ----------
        arrays
            float32 (batch, *shape), of this classifier's representation.

        Returns
        -------
        logits
            float32 (batch, genres), finite.

        Raises
        ------
        InputError
            If the network cannot run on them, or gives anything else.
        """
        batches = [self._run(arrays[i : i + _BATCH]) for i in range(0, len(arrays), _BATCH)]
        return np.concatenate([np.empty((0, len(self.genres)), dtype=np.float32), *batches])

    def _run(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        path = self.folder / ONNX
        try:
            logits: NDArray[np.float32] = self._session.run(["logits"], {self._input: arrays})[0]
        except Exception as error:
            cause = f"it cannot run on arrays of shape {arrays.shape} ({first_line(error)})"
            raise InputError(path, cause, _INTACT) from error
        if logits.shape != (wanted := (len(arrays), len(self.genres))):
            cause = f"its logits are of shape {logits.shape}, not {wanted}"
            raise InputError(path, cause, _INTACT)
        if not np.isfinite(logits).all():
            raise InputError(path, "its logits are not all finite numbers", _INTACT)
        return logits

    def probabilities(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of ``logits``; float32 (batch, genres), rows sum to 1."""
        return _softmax(self.logits(arrays))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True), dtype=np.float32)


def _read_config(path: Path) -> ClassifierConfig:
    if not path.is_file():
        remedy = (
            "Give a folder that `genrescope train` or `genrescope study` has written, or a model "
            "of the Hugging Face hub (user/name)"
        )
        raise InputError(path, "no such file, so this is no model folder", remedy)
    content = read_bounded(path, _MOST_CONFIG_BYTES, _INTACT)
    try:
        return ClassifierConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        cause = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        raise InputError(path, _in_short(cause), _INTACT) from error


def _representation(folder: Path, config: ClassifierConfig) -> Representation:
    settings = dict(config.representation)
    name, version = settings.pop("name"), settings.pop("version", None)
    if (backbone := _unpinned(settings)) is not None:
        cause = f"it tells no sha256 of the network {backbone!r} that it hears through"
        raise InputError(folder / CONFIG, _in_short(cause), "Train it again with this genrescope")
    try:
        representation = make_representation(name, settings)
    except (InputError, WeightsNotAvailableError) as error:  # a backbone that is not part of it
        told = f"This classifier ({folder}) hears through a network that it does not hold. "
        raise GenrescopeError(told + _in_short(str(error))) from error
    except GenrescopeError as error:
        cause = _in_short(str(error).rstrip("."))
        raise InputError(folder / CONFIG, cause, "Update genrescope") from error
    if version != representation.version:
        cause = f"it needs version {version} of {name}, and this is {representation.version}"
        remedy = "Train it again or use another genrescope"
        raise InputError(folder / CONFIG, _in_short(cause), remedy)
    return representation


def _unpinned(settings: Any) -> Any:
    # A backbone that is no part of the package, and could be another tomorrow; None if none is.
    if not isinstance(settings, dict):
        return None
    given = settings.get("backbones", ())
    for told in given if isinstance(given, list) else ():
        pinned = bool(told.get("sha256")) if isinstance(told, dict) else SEPARATOR not in str(told)
        if not pinned and not (isinstance(told, dict) and told.get("kind") == "musicnn"):
            return told
    return _unpinned(settings.get("of"))


def _open_session(
    path: Path, config: ClassifierConfig, representation: Representation, threads: int | None
) -> onnxruntime.InferenceSession:
    content = read_bounded(path, MOST_BYTES, _INTACT)
    if (told := config.files.get(ONNX)) is not None:
        _refuse_other(path, hashlib.sha256(content).hexdigest(), told)
    try:
        session = open_session(content, threads)
    except ValueError as error:
        raise InputError(path, str(error), _INTACT) from error
    if (cause := _misfit(session, representation, len(config.genres))) is not None:
        raise InputError(path, _in_short(cause), _INTACT)
    return session


def _refuse_other(path: Path, found: str, told: str) -> None:
    if found != told:
        cause = f"it is not the file that {CONFIG} tells of: its sha256 is {found}, not {told}"
        raise InputError(path, cause, _INTACT)


def _misfit(
    session: onnxruntime.InferenceSession, representation: Representation, genres: int
) -> str | None:
    # Why the network is none for these arrays and genres, as far as it tells; dimensions that it
    # leaves open are no numbers.
    inputs = session.get_inputs()
    if [given.type for given in inputs] != ["tensor(float)"]:
        return "it must have one input, of float32"
    wanted = [None, *representation.shape]
    free = 2 if representation.segmented else 1
    shape = inputs[0].shape
    if len(shape) != len(wanted) or isinstance(shape[0], int):
        return f"its input is {shape}, not (batch, {', '.join(map(str, representation.shape))})"
    for found, size in zip(shape[free:], wanted[free:], strict=True):
        if isinstance(found, int) and found != size:
            return f"its input is {shape}, and its representation {representation.shape}"
    logits = [made for made in session.get_outputs() if made.name == "logits"]
    if not logits or logits[0].type != "tensor(float)":
        return "it must have an output logits, of float32"
    told = logits[0].shape
    if told and (len(told) != 2 or (isinstance(told[1], int) and told[1] != genres)):
        return f"its logits are {told}, not (batch, {genres}), of as many genres as {CONFIG} names"
    return None


def _in_short(text: str) -> str:
    # Of what a stranger's file holds, no more than a line.
    shown = one_line(text)
    return shown if len(shown) <= _MOST_TOLD else f"{shown[:_MOST_TOLD]} …"
