"""A loaded model: audio in, genre probabilities out. It does not need torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, is_silent, to_waveform
from genrescope.classifier import folder as files
from genrescope.classifier.folder import CONFIG, LOGITS, ONNX
from genrescope.classifier.prediction import OTHER, Prediction, Timeline
from genrescope.errors import GenrescopeError, InputError, WaveformError, one_line
from genrescope.files import read_bounded, sha256
from genrescope.hub import find_model, push
from genrescope.inference import MAX_MODEL_BYTES, first_line, on_gpu
from genrescope.quality import Quality
from genrescope.representations.representation import Analysis

_BATCH = 32
_MAX_FLOAT16 = float(np.finfo(np.float16).max)

Audio = str | os.PathLike[str] | NDArray[Any]
AudioBatch = list[Any] | tuple[Any, ...]
Outputs = tuple[NDArray[np.float32], NDArray[np.float32] | None]
F = TypeVar("F", bound=np.floating[Any])


class Classifier:
    """A loaded model.

    It can be called like `predict`, used from several threads at once, and pickled: the pickle
    holds the folder's path and ``threads``, and unpickling loads the folder again.

    Parameters
    ----------
    folder
        As ``save_pretrained`` or a study writes it.
    threads
        For inference; None lets ONNX Runtime use every core.
    quality
        How much of a track is analysed: ``fast``, ``standard`` or ``best``. Of the bundled model,
        ``fast`` uses the audio without its picture, from 24 s of a track.

    Raises
    ------
    InputError
        If a file of the folder is missing, too large or invalid.
    GenrescopeError
        If there is no such quality.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        threads: int | None = None,
        *,
        quality: str = "standard",
    ) -> None:
        self.folder = folder = Path(folder)
        self.threads = threads
        try:
            self.quality = Quality(quality)
        except ValueError:
            known = ", ".join(Quality)
            raise GenrescopeError(f"There is no quality {quality!r}; there are: {known}.") from None
        self.config = files.read_config(folder / CONFIG)
        self.representation = files.make_folder_representation(folder, self.config).at(self.quality)
        self._session = files.open_model(folder / ONNX, self.config, self.representation, threads)
        self._input = self._session.get_inputs()[0].name
        names = {output.name for output in self._session.get_outputs()}
        self._outputs = [LOGITS, OTHER] if OTHER in names else [LOGITS]

    def __repr__(self) -> str:
        backbones = getattr(self.representation, "backbones", ())
        names = [str(getattr(backbone, "source", backbone.kind)) for backbone in backbones]
        parts = [f"{len(self.genres)} genres", " + ".join(names) or self.representation.name]
        accuracy = self.config.trained.get("accuracy")
        if isinstance(accuracy, float):
            parts.append(f"accuracy {accuracy:.3f} ({self.config.trained.get('protocol')})")
        return one_line(f"<{type(self).__name__}: {', '.join(parts)}, {str(self.folder)!r}>")

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), quality=self.quality), (self.folder, self.threads)

    @classmethod
    def default(cls, *, quality: str = "standard") -> Classifier:
        """Load the bundled classifier."""
        return cls(find_model(None), threads=1, quality=quality)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        revision: str | None = None,
        *,
        token: str | None = None,
        threads: int | None = None,
        quality: str = "standard",
    ) -> Classifier:
        """Load a model from a folder or from the Hugging Face hub.

        Parameters
        ----------
        model
            A folder, a classifier named by ``genrescope.list_models``, or the hub's
            ``user/name``; an existing folder of that name comes first.
        revision
            A branch, tag or commit of the hub; None for the newest. Ignored for folders.
        token
            Hub access token, for private models; None uses the one stored by ``hf auth login``.
        threads, quality
            See the class.

        Raises
        ------
        GenrescopeError
            If the model does not exist or is invalid, or the hub cannot be reached. Fetching
            needs the extra ``hub``.
        """
        return cls(find_model(model, revision, token=token), threads, quality=quality)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Copy the model's files into a folder, which is created if it is missing.

        Raises
        ------
        InputError
            If a file's checksum differs from the one in ``config.json``.
        """
        self._check_files()
        for name in files.SHARED_FILES:
            if (self.folder / name).exists():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, Path(folder) / name)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model's files to the Hugging Face hub.

        Parameters
        ----------
        repo_id
            ``user/name``; created if it is missing.
        private
            Whether a created repository is private.
        token
            Hub access token with write permission; None uses the one stored by ``hf auth login``.

        Returns
        -------
        url
            Of the commit.

        Raises
        ------
        GenrescopeError
            If the hub cannot be reached or refuses the upload, or a file's checksum differs
            from the one in ``config.json``. Needs the extra ``hub``.
        """
        self._check_files()
        return push(self.folder, files.SHARED_FILES, repo_id, private=private, token=token)

    def _check_files(self) -> None:
        for name, expected in self.config.files.items():
            if (self.folder / name).is_file():
                files.check_sha256(self.folder / name, sha256(self.folder / name), expected)

    @cached_property
    def key(self) -> str:
        """16 hex digits that change with anything that its predictions depend on."""
        settings: dict[str, Any] = {
            "representation": self.representation.to_json(),
            "genres": self.genres,
        }
        if self.config.other_above is not None:
            settings["other_above"] = self.config.other_above
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update(read_bounded(self.folder / ONNX, MAX_MODEL_BYTES, files.REMEDY))
        return digest.hexdigest()[:16]

    @property
    def loader(self) -> Callable[[], Classifier]:
        """Loads it again, with one thread, in a process that this is sent to."""
        return partial(type(self), self.folder, 1, quality=self.quality)

    @property
    def title(self) -> str:
        """The folder's name, and the quality unless it is the standard one."""
        level = "" if self.quality is Quality.STANDARD else f" ({self.quality})"
        return f"{self.folder.name}{level}"

    @property
    def genres(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return tuple(self.config.genres)

    @property
    def on_gpu(self) -> bool:
        """Whether inference runs on a GPU, as it does where onnxruntime-gpu finds one."""
        return on_gpu(self._session)

    @overload
    def predict(self, audio: Audio, sampling_rate: int = 0) -> Prediction: ...

    @overload
    def predict(
        self, audio: AudioBatch, sampling_rate: int = 0, *, on_error: Literal["raise"] = "raise"
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, audio: AudioBatch, sampling_rate: int = 0, *, on_error: Literal["return"]
    ) -> list[Prediction | GenrescopeError]: ...

    def predict(
        self,
        audio: Audio | AudioBatch,
        sampling_rate: int = 0,
        *,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Prediction | list[Prediction] | list[Prediction | GenrescopeError]:
        """Classify one clip, or each of several.

        Parameters
        ----------
        audio
            A file, a waveform, or a list of them. A waveform is float32 or float64 in [-1, 1]:
            (samples,), (samples, channels) or (channels, samples). The shorter axis of two holds
            the channels, whose mean is used. Integers must be scaled first: int16 by
            ``samples / 32768.0``.
        sampling_rate
            Of the waveforms, in Hz; not needed for files.
        on_error
            What to do about an item of a list that cannot be classified: raise its error, or
            return the error in the item's place.

        Returns
        -------
        prediction
            Genres and their probabilities; for a list, a list in its order. `classify_files` does
            the same for many files with every core.

        Raises
        ------
        InputError
            If a file cannot be read or is silent.
        WaveformError
            If a waveform is of another type or shape, too short or silent.
        GenrescopeError
            If the network's output is not finite.
        ValueError
            If a waveform comes without a sampling rate.
        """
        if not isinstance(audio, list | tuple):
            return self._predict(audio, sampling_rate)
        results: list[Prediction | GenrescopeError] = []
        for item in audio:
            try:
                results.append(self._predict(item, sampling_rate))
            except GenrescopeError as error:
                if on_error == "raise":
                    raise
                results.append(error)
        return results

    __call__ = predict

    def _predict(self, audio: Audio, sampling_rate: int) -> Prediction:
        return self.analyse(audio, sampling_rate)[0]

    def analyse(
        self, audio: Audio, sampling_rate: int = 0
    ) -> tuple[Prediction, NDArray[np.float16]]:
        """Classify and embed one clip, from one decoding and one run of the backbone.

        Parameters, errors: see ``predict``.

        Returns
        -------
        prediction
            As of ``predict``.
        embedding
            float16 (embedding_width,): the mean of an embedding's columns over the windows; for
            models with another representation, the logits.
        """
        analysis = self._analyse(audio, sampling_rate)
        if isinstance(audio, np.ndarray) and is_silent(to_waveform(audio)):
            raise WaveformError("the waveform is silent")
        # As in training: the windows are averaged first, then classified.
        mean = analysis.arrays.mean(axis=0, keepdims=True)
        logits, scores = self._run_on(audio, mean)
        own = self.representation.embedding
        columns = logits if own is None else mean[:, own]
        embedding = np.clip(columns[0], -_MAX_FLOAT16, _MAX_FLOAT16).astype(np.float16)
        above = self.config.other_above
        other = above is not None and scores is not None and bool(scores[0] > above)
        return self._rank(analysis, softmax(logits)[0], other=other), embedding

    @cached_property
    def embedding_width(self) -> int:
        """Columns of an embedding of ``analyse``."""
        own = self.representation.embedding
        return len(self.genres) if own is None else own.stop - own.start

    def _rank(self, analysis: Analysis, shares: NDArray[np.float32], *, other: bool) -> Prediction:
        ranked = {self.genres[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable")}
        best, confidence = next(iter(ranked.items()))
        unsure = not other and confidence < self.config.unsure_below
        warnings = tuple(warning.message for warning in analysis.warnings)
        tags = dict(analysis.tags)
        return Prediction(best, confidence, unsure, ranked, tags, warnings, other)

    def timeline(self, audio: Audio, sampling_rate: int = 0) -> Timeline:
        """Classify every window of a clip.

        Parameters, errors: see ``predict``.

        Returns
        -------
        timeline
            One row for every whole window; a single row for a model without windows. Rows of
            silent windows are 0. Whether a clip is ``other`` is decided for the whole of it only.
        """
        parts: Iterable[Analysis]
        if isinstance(audio, np.ndarray):
            parts = [self._of_waveform(audio, sampling_rate, self.representation.over_time)]
        else:
            parts = self.representation.analyse_windows(Path(audio))
        # Part by part: of hours of audio, only the probabilities stay in memory.
        window_s, rows = inf, []
        for part in parts:
            window_s = part.window_s
            probabilities = softmax(self._run_on(audio, part.arrays)[0])
            probabilities[np.flatnonzero(part.silent)] = 0
            rows.append(probabilities)
        return Timeline(self.genres, window_s, np.concatenate(rows))

    def _analyse(self, audio: Audio, sampling_rate: int) -> Analysis:
        if isinstance(audio, np.ndarray):
            return self._of_waveform(audio, sampling_rate, self.representation.analyse)
        return self.representation.analyse_file(Path(audio))

    def _of_waveform(
        self,
        audio: NDArray[Any],
        sampling_rate: int,
        analyse: Callable[[Waveform, int], Analysis],
    ) -> Analysis:
        if sampling_rate <= 0:
            raise ValueError("a waveform needs its sampling rate in Hz")
        waveform = to_waveform(audio)
        try:
            analysis = analyse(waveform, sampling_rate)
        except ValueError as error:
            raise WaveformError(str(error)) from error
        if not np.isfinite(analysis.arrays).all():
            raise WaveformError(f"its {self.representation.name} are not all finite numbers")
        return analysis

    def _run_on(self, audio: Audio, arrays: NDArray[np.float32]) -> Outputs:
        # The error names the file that the network fails on, beside the network's own.
        try:
            return self.outputs(arrays)
        except InputError as error:
            if isinstance(audio, np.ndarray):
                raise
            cause = f"the classifier's {error.path.name} fails on it: {error.cause}"
            raise InputError(Path(audio), cause, error.remedy) from error

    def outputs(self, arrays: NDArray[np.float32]) -> Outputs:
        """Run the model alone.

        Parameters
        ----------
        arrays
            float32 (batch, *shape), of this classifier's representation.

        Returns
        -------
        logits
            float32 (batch, genres), finite.
        scores
            float32 (batch,), finite: larger for what is less like the genres; None if the model
            has no such output. See ``ClassifierConfig.other_above``.

        Raises
        ------
        InputError
            If the network cannot run on them, or gives anything else.
        """
        shapes = {LOGITS: (len(self.genres),), OTHER: ()}
        found = [[np.empty((0, *shapes[name]), dtype=np.float32)] for name in self._outputs]
        for start in range(0, len(arrays), _BATCH):
            batch = arrays[start : start + _BATCH]
            for name, values, parts in zip(self._outputs, self._run(batch), found, strict=True):
                self._check(name, values, (len(batch), *shapes[name]))
                parts.append(values)
        logits, *scores = map(np.concatenate, found)
        return logits, scores[0] if scores else None

    def logits(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the first of the ``outputs``; float32 (batch, genres)."""
        return self.outputs(arrays)[0]

    def _run(self, arrays: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            found: list[NDArray[np.float32]] = self._session.run(
                self._outputs, {self._input: arrays}
            )
        except Exception as error:
            cause = f"it cannot run on arrays of shape {arrays.shape} ({first_line(error)})"
            raise InputError(self.folder / ONNX, cause, files.REMEDY) from error
        return found

    def _check(self, name: str, values: NDArray[np.float32], shape: tuple[int, ...]) -> None:
        what = "logits are" if name == LOGITS else f"output {name} is"
        if values.shape != shape:
            cause = f"its {what} of shape {values.shape}, not {shape}"
        elif not np.isfinite(values).all():
            cause = f"its {what} not all finite numbers"
        else:
            return
        raise InputError(self.folder / ONNX, cause, files.REMEDY)

    def probabilities(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of ``logits``; float32 (batch, genres), rows sum to 1."""
        return softmax(self.logits(arrays))


def softmax(logits: NDArray[F]) -> NDArray[F]:
    """Logits (batch, genres) to probabilities of the same shape and dtype; rows sum to 1."""
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))
