"""A trained model, opened from its folder: audio in, genre probabilities out. No torch here.

The folder holds ``config.json`` (genres, representation, how the model came about),
``model.onnx`` (one input, float32 (batch, *shape); one output ``logits`` (batch, genres)),
``model.safetensors`` and ``README.md``, the model card. A fine-tuned encoder's folder may hold
``transformers/``, the same network for those who use it through ``transformers``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genrescope.audio import Waveform
from genrescope.errors import GenrescopeError, InputError
from genrescope.hub import WeightsNotAvailableError, fetch, push
from genrescope.inference import on_gpu, open_session
from genrescope.representations import Representation, make_representation
from genrescope.representations.representation import Analysis

CONFIG, ONNX, WEIGHTS, CARD = "config.json", "model.onnx", "model.safetensors", "README.md"
TRANSFORMERS = "transformers"
_FILES = (CONFIG, ONNX, WEIGHTS, CARD)
_SHARED = (  # what is handed on but, being the same network again, not fetched
    *_FILES,
    *(f"{TRANSFORMERS}/{name}" for name in (CONFIG, WEIGHTS, "preprocessor_config.json")),
)
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_BATCH = 32

Audio = str | os.PathLike[str] | Waveform


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
    trained
        Recipe, data set, protocol, seed, accuracy: whatever tells how the model came about.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    genres: list[str] = Field(min_length=2)
    representation: dict[str, Any]
    unsure_below: float = Field(default=0.0, ge=0, le=1)
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
    """

    genre: str
    confidence: float
    unsure: bool
    probabilities: dict[str, float]
    tags: dict[str, float]

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
        float32 (steps, genres), rows sum to 1.
    """

    genres: tuple[str, ...]
    step_s: float
    probabilities: NDArray[np.float32]


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
        If a file of the folder is missing or not what it should be.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = folder
        self.config = _read_config(folder / CONFIG)
        self.representation = _representation(folder, self.config)
        self._session = _open_session(folder / ONNX, threads)
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def default(cls) -> Classifier:
        """Open the classifier that comes with the package."""
        return cls(Path(str(files("genrescope") / "weights" / "default")), threads=1)

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
        folder = Path(model)
        if not folder.exists() and _HUB_ID.fullmatch(str(model)):
            folder = fetch(str(model), _FILES, revision=revision, token=token)
        return cls(folder, threads)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Copy the model's files into a folder, which is made if need be."""
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
            If the hub cannot be reached or does not let it be written. Needs
            ``pip install 'genrescope[hub]'``.
        """
        return push(self.folder, _SHARED, repo_id, private=private, token=token)

    @cached_property
    def key(self) -> str:
        """16 hex digits that change with anything that its predictions depend on."""
        told = {"representation": self.representation.to_json(), "genres": self.genres}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        digest.update((self.folder / ONNX).read_bytes())
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
            If a file cannot be read. A list ends at its first: to go on, and to keep every core
            busy, use ``genrescope.library.many.classify_files``.
        ValueError
            If a waveform comes without its rate, or is too short.
        """
        if isinstance(audio, list | tuple):
            return [self._predict(one, rate) for one in audio]
        return self._predict(audio, rate)

    def _predict(self, audio: Audio, rate: int) -> Prediction:
        analysis = self._analyse(audio, rate)
        # As in training: the windows are averaged first, then classified.
        mean = analysis.arrays.mean(axis=0, keepdims=True)
        scores = self.probabilities(mean)[0]
        ranked = {self.genres[i]: float(scores[i]) for i in np.argsort(-scores, kind="stable")}
        genre, confidence = next(iter(ranked.items()))
        unsure = confidence < self.config.unsure_below
        return Prediction(genre, confidence, unsure, ranked, dict(analysis.tags))

    def timeline(self, audio: Audio, rate: int = 0) -> Timeline:
        """Tell the genres of every window of a clip.

        Parameters, errors: see ``predict``.

        Returns
        -------
        timeline
            One row for every whole window; a single row for a model that takes clips as one.
        """
        parts: Iterable[Analysis]
        if isinstance(audio, np.ndarray):
            parts = [self._analyse(audio, rate)]
        else:
            parts = self.representation.analyse_windows(Path(audio))
        # Part by part: of hours of audio, no more than the genres need be kept.
        rows = [(part.window_s, self.probabilities(part.arrays)) for part in parts]
        return Timeline(self.genres, rows[0][0], np.concatenate([shares for _, shares in rows]))

    def _analyse(self, audio: Audio, rate: int) -> Analysis:
        if not isinstance(audio, np.ndarray):
            return self.representation.analyse_file(Path(audio))
        if rate <= 0:
            raise ValueError("a waveform needs its sample rate in Hz")
        return self.representation.analyse(audio, rate)

    def logits(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model alone.

        Parameters
        ----------
        arrays
            float32 (batch, *shape), of this classifier's representation.

        Returns
        -------
        logits
            float32 (batch, genres).
        """
        batches = [
            self._session.run(["logits"], {self._input: arrays[i : i + _BATCH]})[0]
            for i in range(0, len(arrays), _BATCH)
        ]
        if not batches:
            return np.empty((0, len(self.genres)), dtype=np.float32)
        return np.concatenate(batches)

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
    try:
        return ClassifierConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        cause = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        raise InputError(path, cause, "Get an intact copy of the model") from error


def _representation(folder: Path, config: ClassifierConfig) -> Representation:
    settings = dict(config.representation)
    name, version = str(settings.pop("name", "")), settings.pop("version", None)
    try:
        representation = make_representation(name, settings)
    except (InputError, WeightsNotAvailableError) as error:  # a backbone that is not part of it
        told = f"This classifier ({folder}) hears through a network that it does not hold. {error}"
        raise GenrescopeError(told) from error
    except GenrescopeError as error:
        raise InputError(folder / CONFIG, str(error).rstrip("."), "Update genrescope") from error
    if version != representation.version:
        cause = f"it needs version {version} of {name}, and this is {representation.version}"
        raise InputError(folder / CONFIG, cause, "Train it again or use another genrescope")
    return representation


def _open_session(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise InputError(path, "no such file", "Get an intact copy of the model")
    try:
        return open_session(path.read_bytes(), threads)
    except Exception as error:
        cause = f"ONNX Runtime cannot read it ({str(error).splitlines()[0]})"
        raise InputError(path, cause, "Get an intact copy of the model") from error
