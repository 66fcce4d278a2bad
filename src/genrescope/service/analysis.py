"""The analysis of an uploaded file, in a worker process: everything that an answer shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, pieces
from genrescope.audio.render import flac, picture
from genrescope.classifier import Classifier, Prediction, Timeline
from genrescope.classifier.explain import Explanation, explain
from genrescope.errors import InputError
from genrescope.files import check_inside
from genrescope.tagging.formats import TrackNames, read_names

RATE = 16_000
"""Sampling rate of the picture and the sound, in Hz."""
PICTURE, SOUND = "spectrogram.png", "audio.flac"
"""Names of the mel spectrogram, without axes, and of the model's input: mono, 16 kHz."""


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
    explain
        What the answer rests on; takes several times as long.
    within
        Folder in which the file must still be, whatever has been done to it while it waited.
    """

    timeline: bool = False
    vector: bool = False
    show: Path | None = None
    longest_s: float = 900.0
    explain: bool = False
    within: Path | None = None


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
        If it cannot be read, or is not ``wanted.within`` that folder. Errors contain the file's
        name, not its folder.
    """
    with _named_alone(path):
        if wanted.within is not None:
            check_inside(path, wanted.within)
        waveform = _waveform(path, wanted.longest_s)
        prediction, embedding = classifier.analyse(path)
        if wanted.show is not None:
            if drawn := picture(waveform, RATE):
                (wanted.show / PICTURE).write_bytes(drawn)
            (wanted.show / SOUND).write_bytes(flac(waveform, RATE))
        return UploadAnalysis(
            prediction=prediction,
            seconds=len(waveform) / RATE,
            timeline=classifier.timeline(path) if wanted.timeline else None,
            vector=embedding if wanted.vector else None,
            names=names_of(path),
            explanation=explain(classifier, path) if wanted.explain else None,
        )


def explain_sound(classifier: Classifier, path: Path) -> Explanation:
    """Find what an answer rests on, from the sound that ``analyse`` made; errors as there."""
    with _named_alone(path):
        return explain(classifier, path)


@contextmanager
def _named_alone(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise type(error)(path.name, error.cause, error.remedy) from error


def minutes(count: float) -> str:
    """Write a number of minutes out."""
    return f"{count:g} minute{'' if count == 1 else 's'}"


def names_of(path: Path) -> TrackNames:
    """Read the names in a file's tags; none of tags that are broken, though it can be decoded."""
    try:
        return read_names(path)
    except InputError:
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
