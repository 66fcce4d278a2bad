"""A user's own network, as an ONNX file. The file is not trusted; torch is not needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from genrescope.audio import Waveform
from genrescope.backbones import log_mel
from genrescope.backbones.backbone import (
    Backbone,
    BackboneConfig,
    BackboneOutput,
    backbone,
    cut,
    run_batches,
)
from genrescope.errors import InputError
from genrescope.files import read_bounded
from genrescope.inference import first_line, open_session

MAX_BYTES = 2**30
INPUTS = ("waveform", "log-mel")

_BATCH = 16  # windows
_EXPORT = "Export it again with all weights in one file and operations of ONNX's own"


@backbone("onnx")
@dataclass(frozen=True)
class OnnxConfig(BackboneConfig):
    """An ONNX file with one float32 input and float32 outputs, each of which is a layer.

    Outputs are (windows, width), or (windows, time, width), which is averaged over time.

    Attributes
    ----------
    source
        The file.
    input
        ``waveform``: (windows, samples), mono, in [-1, 1]; ``log-mel``: (windows, 187, 96), the
        patches of ``genrescope.backbones.log_mel``.
    sampling_rate
        Of the waveform, in Hz; ignored for log-mel.
    window_s
        Length of a window in s; ignored if the file fixes the number of samples, and for log-mel
        (2.992 s).
    licence
        Of the network, for the model card.
    sha256
        Of the file: computed if empty, else checked.
    """

    source: str
    input: str = INPUTS[0]
    sampling_rate: int = 16000
    window_s: float = 10.0
    licence: str = "not stated"
    sha256: str = ""

    def __post_init__(self) -> None:
        self._check_finite()
        if self.input not in INPUTS:
            cause = f"its input cannot be {self.input!r}"
            raise InputError(self.source, cause, f"Choose one of: {', '.join(INPUTS)}")
        if not self.sha256:
            object.__setattr__(self, "sha256", hashlib.sha256(_read(self.source)).hexdigest())

    def open(self) -> Backbone:
        """Load it; running it on silence gives the widths."""
        content = _read(self.source)
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            cause = f"it is not the expected file: its sha256 is {found}, not {self.sha256}"
            raise InputError(self.source, cause, "Put the right file there")
        session = _open_session(self.source, content)
        shape = session.get_inputs()[0].shape
        sampling_rate, window_s = self.sampling_rate, self.window_s
        if self.input == "log-mel":
            sampling_rate, window_s = log_mel.SAMPLING_RATE, log_mel.PATCH_SECONDS
        elif len(shape) == 2 and isinstance(shape[1], int):
            window_s = shape[1] / sampling_rate
        samples = round(window_s * sampling_rate)
        # Some exports accept only one window at a time.
        batch = 1 if shape and shape[0] == 1 else _BATCH

        def windows(waveform: Waveform, *, is_continuation: bool) -> NDArray[np.float32]:
            if self.input == "log-mel":
                return log_mel.to_patches(waveform, is_continuation=is_continuation)
            return cut(waveform, samples, is_continuation=is_continuation)

        run = _runner(self.source, session)
        silence = windows(np.zeros(samples, np.float32), is_continuation=False)
        widths = {name: rows.shape[1] for name, rows in run(silence[:1]).items()}

        def encode(waveform: Waveform, *, is_continuation: bool = False) -> BackboneOutput:
            inputs = windows(waveform, is_continuation=is_continuation)
            layers = run_batches(run, inputs, batch, widths)
            return BackboneOutput(layers, np.empty((len(inputs), 0), np.float32))

        return Backbone(
            name=self.source,
            sampling_rate=sampling_rate,
            window_s=window_s,
            widths=widths,
            tag_names=(),
            licence=self.licence,
            encode=encode,
            margin=log_mel.HOP if self.input == "log-mel" else 0,
        )


def _read(source: str) -> bytes:
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:
        cause = f"the backbone's ONNX file cannot be found ({error})"
        raise InputError(source, cause, "Give its whole path") from error
    try:
        return read_bounded(path, MAX_BYTES, "Put the right file there, or give its right path")
    except InputError as error:
        cause = f"the backbone's ONNX file cannot be read: {error.cause}"
        raise InputError(path, cause, error.remedy) from error


def _open_session(source: str, content: bytes) -> onnxruntime.InferenceSession:
    try:
        session = open_session(content)
    except ValueError as error:
        raise InputError(source, str(error), _EXPORT) from error
    if [value.type for value in session.get_inputs()] != ["tensor(float)"]:
        raise InputError(source, "it must have one input, of float32", _EXPORT)
    return session


def _runner(
    source: str, session: onnxruntime.InferenceSession
) -> Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    name = session.get_inputs()[0].name
    outputs = [output.name for output in session.get_outputs()]

    def run(windows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        try:
            found: list[Any] = session.run(outputs, {name: windows})
        except Exception as error:
            cause = f"it cannot run on an input of shape {windows.shape} ({first_line(error)})"
            remedy = "Set input, sampling_rate and window_s to the network's own"
            raise InputError(source, cause, remedy) from error
        layers = {}
        for output, values in zip(outputs, found, strict=True):
            rows = values.mean(axis=1) if np.ndim(values) == 3 else values
            if np.ndim(rows) != 2 or len(rows) != len(windows) or rows.dtype != np.float32:
                cause = f"its output {output} is {np.shape(values)} {getattr(values, 'dtype', '')}"
                remedy = "It must be float32 (windows, width) or (windows, time, width)"
                raise InputError(source, cause, remedy)
            layers[output] = rows
        return layers

    return run
