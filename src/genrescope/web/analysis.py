"""The analysis of an uploaded file, in a worker process: everything that an answer shows."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from genrescope.audio import Waveform, pieces
from genrescope.audio.spectral import mel_centres, mel_spectrogram, to_db
from genrescope.classifier import Classifier, Prediction, Timeline
from genrescope.classifier.explain import Explanation, explain
from genrescope.errors import InputError
from genrescope.tagging.formats import TrackNames, read_names

RATE = 16_000
"""Sampling rate of the picture and the sound, in Hz."""
PICTURE, SOUND = "spectrogram.png", "audio.mp3"
"""Names of the mel spectrogram, without axes, and of the model's input: mono, 16 kHz."""
_BANDS = 96
_WIDTH = 1200  # of the picture, at most
_N_FFT, _HOP = 1024, 256
# From silence to the loudest, dark to light so that it reads without colours, too.
_COLOURS = ("#0b0724", "#3b0f6f", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf")


@dataclass(frozen=True)
class AnalysisOptions:
    """What to compute beside the prediction.

    Attributes
    ----------
    timeline
        The genres over time.
    vector
        The embedding, to find similar tracks by.
    show
        Folder for the picture (``PICTURE``) and the sound (``SOUND``); None makes neither.
    longest_s
        Longer files are refused, in s.
    explain_s
        Longer files are not explained, in s.
    """

    timeline: bool = False
    vector: bool = False
    show: Path | None = None
    longest_s: float = 900.0
    explain_s: float = 0.0


@dataclass(frozen=True, eq=False)
class UploadAnalysis:
    """The analysis of a file.

    Attributes
    ----------
    prediction
        Of the whole.
    seconds
        Length.
    timeline, vector
        See ``AnalysisOptions``; float16 (columns,).
    names
        Title, artist and album by its tags.
    explanation
        What the answer rests on.
    """

    prediction: Prediction
    seconds: float
    timeline: Timeline | None = None
    vector: NDArray[np.float16] | None = None
    names: TrackNames = field(default_factory=TrackNames)
    explanation: Explanation | None = None


class TooLongError(InputError):
    """The audio is longer than is allowed."""


def analyse(classifier: Classifier, path: Path, wanted: AnalysisOptions) -> UploadAnalysis:
    """Analyse a file.

    Parameters
    ----------
    classifier
        Opened with one thread.
    path
        Of the file.
    wanted
        What to make.

    Raises
    ------
    TooLongError
        If it is longer than ``wanted.longest_s``; without decoding more than that.
    InputError
        If it cannot be read. Errors contain the file's name, not its folder.
    """
    try:
        waveform = _waveform(path, wanted.longest_s)
        prediction, embedding = classifier.analyse(path)
        if wanted.show is not None:
            if picture := _picture(waveform):
                (wanted.show / PICTURE).write_bytes(picture)
            (wanted.show / SOUND).write_bytes(_sound(waveform))
        return UploadAnalysis(
            prediction=prediction,
            seconds=len(waveform) / RATE,
            timeline=classifier.timeline(path) if wanted.timeline else None,
            vector=embedding if wanted.vector else None,
            names=_names(path),
            explanation=(
                explain(classifier, path) if len(waveform) <= wanted.explain_s * RATE else None
            ),
        )
    except InputError as error:
        raise type(error)(path.name, error.cause, error.remedy) from error


def picture_edges() -> list[float]:
    """Give the edges of the picture's rows, from its bottom to its top, in Hz."""
    return [0.0, *mel_centres(RATE, _BANDS - 1).tolist(), RATE / 2]


def minutes(count: float) -> str:
    """Write a number of minutes out."""
    return f"{count:g} minute{'' if count == 1 else 's'}"


def _names(path: Path) -> TrackNames:
    try:
        return read_names(path)
    except InputError:  # what can be decoded may have broken tags
        return TrackNames()


def _waveform(path: Path, longest_s: float) -> Waveform:
    found, length = [], 0
    for piece in pieces(path, RATE, 30 * RATE):
        found.append(piece)
        length += len(piece)
        if length > longest_s * RATE:
            cause = f"it is longer than {minutes(longest_s / 60)}, the limit of this server"
            raise TooLongError(path, cause, "Send a part of it, or use `genrescope classify`")
    return np.concatenate(found)


def _picture(waveform: Waveform) -> bytes:
    if len(waveform) <= _N_FFT // 2:
        return b""
    hop = max(_HOP, -(-len(waveform) // _WIDTH))
    mel = mel_spectrogram(waveform, RATE, n_fft=_N_FFT, hop=hop, bands=_BANDS)
    level = 1 + to_db(mel, factor=10) / 80  # 0 at -80 dB and less, 1 at the loudest
    image = Image.fromarray(np.round(255 * level.T[::-1]).astype(np.uint8)).convert("P")
    image.putpalette(_palette().tobytes())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _palette() -> NDArray[np.uint8]:
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _COLOURS], dtype=float)
    places = np.linspace(0, len(stops) - 1, 256)
    shades = [np.interp(places, range(len(stops)), stops[:, i]) for i in range(3)]
    return np.round(np.stack(shades, axis=1)).astype(np.uint8)


def _sound(waveform: Waveform) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.clip(waveform, -1, 1), RATE, format="MP3")
    return out.getvalue()
