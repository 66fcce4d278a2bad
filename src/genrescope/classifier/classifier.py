"""A loaded model: audio in, genre probabilities out. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, is_silent, to_waveform
from genrescope.classifier import folder as files
from genrescope.classifier.folder import CONFIG, ONNX
from genrescope.classifier.prediction import Prediction, Timeline
from genrescope.errors import InputError
from genrescope.hub import find_model, push
from genrescope.inference import MAX_MODEL_BYTES, first_line, on_gpu
from genrescope.reading import read_bounded, sha256
from genrescope.representations.representation import Analysis

_BATCH = 32

Audio = str | os.PathLike[str] | Waveform
F = TypeVar("F", bound=np.floating[Any])


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
        self.config = files.read_config(folder / CONFIG)
        self.representation = files.make_folder_representation(folder, self.config)
        self._session = files.open_model(folder / ONNX, self.config, self.representation, threads)
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
        self._check_files()
        return push(self.folder, files.SHARED_FILES, repo_id, private=private, token=token)

    def _check_files(self) -> None:
        for name, told in self.config.files.items():
            if (self.folder / name).is_file():
                files.check_sha256(self.folder / name, sha256(self.folder / name), told)

    @cached_property
    def key(self) -> str:
        """16 hex digits that change with anything that its predictions depend on."""
        told = {"representation": self.representation.to_json(), "genres": self.genres}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        digest.update(read_bounded(self.folder / ONNX, MAX_MODEL_BYTES, files.REMEDY))
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
    def predict(self, audio: Audio, sampling_rate: int = 0) -> Prediction: ...

    @overload
    def predict(
        self, audio: list[Any] | tuple[Any, ...], sampling_rate: int = 0
    ) -> list[Prediction]: ...

    def predict(
        self, audio: Audio | list[Any] | tuple[Any, ...], sampling_rate: int = 0
    ) -> Prediction | list[Prediction]:
        """Tell the genre of one clip, or of each of several.

        Parameters
        ----------
        audio
            A file, or a waveform: float32 (samples,), mono, in [-1, 1]; or a list of them.
        sampling_rate
            Of the waveforms, in Hz; not needed for files.

        Returns
        -------
        prediction
            Genres and their probabilities; of a list, a list in its order.

        Raises
        ------
        InputError
            If a file cannot be read or is silent. A list ends at its first: to go on, and to keep
            every core busy, use ``genrescope.classifier.batch.classify_files``.
        GenrescopeError
            If the network gives no finite numbers.
        ValueError
            If a waveform comes without its rate, is too short, silent, or not what ``to_waveform``
            takes.
        """
        if isinstance(audio, list | tuple):
            return [self._predict(one, sampling_rate) for one in audio]
        return self._predict(audio, sampling_rate)

    def _predict(self, audio: Audio, sampling_rate: int) -> Prediction:
        analysis = self._analyse(audio, sampling_rate)
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

    def timeline(self, audio: Audio, sampling_rate: int = 0) -> Timeline:
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
            parts = [self._analyse(audio, sampling_rate)]
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

    def _analyse(self, audio: Audio, sampling_rate: int) -> Analysis:
        if not isinstance(audio, np.ndarray):
            return self.representation.analyse_file(Path(audio))
        if sampling_rate <= 0:
            raise ValueError("a waveform needs its sample rate in Hz")
        analysis = self.representation.analyse(to_waveform(audio), sampling_rate)
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
            raise InputError(path, cause, files.REMEDY) from error
        if logits.shape != (wanted := (len(arrays), len(self.genres))):
            cause = f"its logits are of shape {logits.shape}, not {wanted}"
            raise InputError(path, cause, files.REMEDY)
        if not np.isfinite(logits).all():
            raise InputError(path, "its logits are not all finite numbers", files.REMEDY)
        return logits

    def probabilities(self, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of ``logits``; float32 (batch, genres), rows sum to 1."""
        return softmax(self.logits(arrays))


def softmax(logits: NDArray[F]) -> NDArray[F]:
    """Logits (batch, genres) to probabilities of the same shape and dtype; rows sum to 1."""
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))
