"""Audio files to waveforms: decode, mix to mono, resample.

`load` returns a whole clip; `excerpts` returns parts of a track of any length in bounded time and
memory; `pieces` yields all of it in bounded memory.

Of a damaged file, what can be decoded is used, with a warning. It is refused if that is less than
half of it, or less than a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genrescope.audio.source import REPLACE, View, open_source
from genrescope.audio.streams import (
    AUDIBLE_S,
    PADDING_S,
    CannotSeekError,
    SoundStream,
    at_rate,
    open_stream,
)
from genrescope.audio.waveform import Waveform, fault_of, fit_length, resample
from genrescope.errors import InputError

_CONTEXT_S = 0.02  # read on both sides of a span, to avoid edge effects of resampling
_SHORTEST_S = 1.0  # minimum that must be decodable of a damaged file
_LONGEST_S, _ABSURD = 172_800.0, 1000
_CANCELLED = 0.05  # minimum share of a track that is reported
_MIN_SHARE = 0.1  # of audio among other bytes, below which a file is not audio
_FOREIGN_S = 1.0  # minimum of other bytes, in s of audio, that is reported


@dataclass(frozen=True, slots=True)
class AudioWarning:
    """A note about a file that was decoded.

    Attributes
    ----------
    message
        A clause, such as "0.5 s of 30.0 s could not be decoded".
    damage
        Whether some of its audio is missing.
    """

    message: str
    damage: bool = False


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded file.

    Attributes
    ----------
    waveform
        float32 (samples,), mono.
    sampling_rate
        In Hz.
    warnings
        Notes about it.
    channels
        Of the file.
    """

    waveform: Waveform
    sampling_rate: int
    warnings: tuple[AudioWarning, ...] = ()
    channels: int = 1


def load(path: Path, sampling_rate: int | None = None) -> tuple[Waveform, int]:
    """Decode a file to mono and, if asked, resample it: ``decode`` without its warnings.

    Returns
    -------
    waveform
        float32 (samples,), mono.
    sampling_rate
        In Hz.
    """
    clip = decode(path, sampling_rate)
    return clip.waveform, clip.sampling_rate


def length(path: Path) -> float:
    """Return the duration of a file in s, without decoding it; 0 if that is unknown.

    Raises
    ------
    InputError
        If it is not audio, or cannot be opened.
    """
    with _open(path) as track:
        return track.seconds()


def decode(path: Path, sampling_rate: int | None = None, *, channel: int | None = None) -> Clip:
    """Decode a file to mono and, if asked, resample it.

    Parameters
    ----------
    path
        Any format that libsndfile or FFmpeg reads. Of several audio streams the default one is
        decoded; of files joined end to end, all parts.
    sampling_rate
        Target sampling rate in Hz; None keeps the file's own.
    channel
        The channel to take alone, the last one of files with fewer; None mixes them.

    Raises
    ------
    InputError
        If the file is missing, not a regular file, not audio, empty, holds invalid samples, or is
        so damaged that less than half of it, or less than a second, can be decoded.
    """
    with _open(path) as track:
        target = sampling_rate or track.sampling_rate
        track.mixer.only = channel
        report = _DecodeReport(path, track)
        blocks = list(at_rate(report.checked(), track.sampling_rate, target))
        return Clip(np.concatenate(blocks), target, report.warnings(), track.mixer.channels)


@dataclass(frozen=True, eq=False)
class Excerpts:
    """Parts of a track, or all of a short one.

    Parameters
    ----------
    seconds
        Length of the track.
    starts
        Where each waveform starts, in s.
    waveforms
        float32 (samples,) each, mono, at the requested rate.
    whole
        Whether they cover the whole track; then there is one.
    warnings
        Notes about the decoded parts.
    """

    seconds: float
    starts: tuple[float, ...]
    waveforms: list[Waveform]
    whole: bool
    warnings: tuple[AudioWarning, ...] = ()


def excerpts(path: Path, sampling_rate: int, *, span_s: float, max_spans: int) -> Excerpts:
    """Decode spans spread evenly over a track, or all of a short track.

    The track is divided into ``max_spans`` equal parts, with a span in the middle of each. Spans
    are reached by seeking: time and memory hardly depend on the track's length. Only formats
    without a stated length are read through (AAC without a container, MP3 without a Xing header,
    output of a pipe), and only files without seeking are decoded through, both in bounded memory.

    Parameters
    ----------
    path
        Any format that libsndfile or FFmpeg reads.
    sampling_rate
        Target sampling rate in Hz.
    span_s
        Length of a span in s.
    max_spans
        Number of spans. A track of up to ``max_spans * span_s`` seconds is returned whole.

    Returns
    -------
    excerpts
        Spans of ``round(span_s * sampling_rate)`` samples. Their starts are exact in formats that
        libsndfile reads, and within about 0.1 s in others.

    Raises
    ------
    ValueError
        If ``span_s`` or ``max_spans`` is not positive.
    InputError
        As `decode`, but not for faults between the spans of a long track.
    """
    if span_s <= 0 or max_spans < 1:
        raise ValueError(f"span_s = {span_s} and max_spans = {max_spans} must be positive")
    with _open(path) as track:
        return _excerpts(path, track, sampling_rate, span_s, max_spans)


def pieces(path: Path, sampling_rate: int, length: int, margin: int = 0) -> Iterator[Waveform]:
    """Decode all of a track piece by piece, in bounded memory.

    Parameters
    ----------
    path
        Any format that libsndfile or FFmpeg reads.
    sampling_rate
        Target sampling rate in Hz.
    length
        Of a piece, in samples.
    margin
        Samples of either neighbour that each piece includes.

    Yields
    ------
    waveform
        float32 (samples,), mono: of the whole track as from `load`, samples
        ``i * length - margin`` to ``(i + 1) * length + margin``, as far as there are any.

    Raises
    ------
    InputError
        As `decode`, when the fault is reached.
    """
    held = np.empty(0, np.float32)
    lead = 0  # samples of ``held`` before its piece
    with _open(path) as track:
        report = _DecodeReport(path, track)
        for block in at_rate(report.checked(), track.sampling_rate, sampling_rate):
            held = np.concatenate([held, block])
            # Strictly more, so that the last piece does not consist of margins only.
            while len(held) > lead + length + margin:
                yield held[: lead + length + margin]
                held, lead = held[lead + length - margin :], margin
        report.warnings()
    yield held


@contextmanager
def _open(path: Path) -> Iterator[SoundStream]:
    with open_source(path) as source, open_stream(View(source)) as track:
        yield track


class _DecodeReport:
    # Checks and counts the blocks of a file that is decoded from start to end.

    def __init__(self, path: Path, track: SoundStream) -> None:
        self._path, self._track, self.seconds = path, track, 0.0

    def checked(self) -> Iterator[Waveform]:
        # In blocks, as a corrupt header may state more than fits into memory.
        count = 0
        for block in self._track.blocks():
            _check_samples(self._path, block)
            count += len(block)
            yield block
        self.seconds = count / self._track.sampling_rate
        if count == 0:
            raise InputError(self._path, "no samples can be decoded from it", REPLACE)

    def warnings(self) -> tuple[AudioWarning, ...]:
        return _warnings(self._path, self._track, self.seconds)


def _warnings(path: Path, track: SoundStream, found: float) -> tuple[AudioWarning, ...]:
    # For ``found`` decoded seconds. A header that states days, or a thousand times the decoded
    # length, is wrong; then it is unknown how much is missing.
    absurd = track.promised > max(_LONGEST_S, _ABSURD * found)
    missing = 0.0 if absurd else track.promised - found
    lost = max(track.lost, missing if missing > PADDING_S else 0.0)
    whole = found + lost
    if found < max(whole / 2, _MIN_SHARE * track.foreign) or (
        lost >= AUDIBLE_S and found < _SHORTEST_S
    ):
        cause = f"it is damaged or cut off ({found:.1f} s of {whole:.1f} s can be decoded)"
        raise InputError(path, cause, REPLACE)
    warnings = [AudioWarning(note) for note in track.notes]
    if absurd:
        warnings.append(AudioWarning("its header promises more audio than any file has"))
    if lost >= AUDIBLE_S:
        digits = 2 if lost < 1 else 1
        amount = f"{lost:.{digits}f} s of {found + lost:.1f} s could not be decoded"
        warnings.append(AudioWarning(f"{amount}: it is damaged or cut off", damage=True))
    if track.foreign > _FOREIGN_S:
        warnings.append(AudioWarning("bytes in front of its audio or behind it are not audio"))
    if track.mixer.cancelled > _CANCELLED * track.mixer.total:
        cause = "its channels cancel each other out, as one of them is inverted"
        warnings.append(AudioWarning(f"{cause}: the loudest channel alone was used"))
    return tuple(warnings)


def _excerpts(
    path: Path, track: SoundStream, sampling_rate: int, span_s: float, max_spans: int
) -> Excerpts:
    def finish(part: _Part, source: Waveform) -> Waveform:
        _check_samples(path, source)
        resampled = resample(source, track.sampling_rate, sampling_rate)[part.skip :]
        return fit_length(resampled, round(span_s * sampling_rate)).copy()

    seconds, waveforms = track.seconds(), None
    if seconds > max_spans * span_s:
        plan = _plan(seconds, span_s, max_spans, track.sampling_rate, sampling_rate)
        waveforms = _seek(track, plan, seconds, finish)
        warnings = _warnings(path, track, seconds) if waveforms is not None else ()
    if waveforms is None:
        track.lost = track.foreign = 0.0
        report = _DecodeReport(path, track)
        blocks, count = [], 0
        for block in at_rate(report.checked(), track.sampling_rate, sampling_rate):
            count += len(block)
            blocks.append(block)
            if count > max_spans * span_s * sampling_rate + 1:
                blocks.clear()
        warnings, seconds = report.warnings(), report.seconds
        if seconds <= max_spans * span_s:
            whole = np.concatenate(blocks)
            return Excerpts(seconds, (0.0,), [whole], whole=True, warnings=warnings)
        plan = _plan(seconds, span_s, max_spans, track.sampling_rate, sampling_rate)
        waveforms = _cut(track.blocks(), plan, finish)
    starts = tuple(part.start for part in plan)
    return Excerpts(seconds, starts, waveforms, whole=False, warnings=warnings)


@dataclass(frozen=True)
class _Part:
    """What to read for a span: samples of the file, and how many to skip once resampled."""

    start: float  # s
    first: int
    count: int
    skip: int


def _plan(seconds: float, span_s: float, max_spans: int, source: int, target: int) -> list[_Part]:
    # Both sampling grids coincide every ``step`` samples of the file (at most 1 s): parts starting
    # there equal those of the whole resampled waveform.
    step = source // math.gcd(source, target)
    context = 0 if source == target else round(_CONTEXT_S * source)
    end = round(seconds * source)
    parts = []
    for i in range(max_spans):
        start = (i + 0.5) * seconds / max_spans - span_s / 2
        offset = round(start * target)
        first = max(0, offset * source // target - context) // step * step
        stop = math.ceil((offset + round(span_s * target)) * source / target) + context
        parts.append(_Part(start, first, min(stop, end) - first, offset - first * target // source))
    return parts


_Finish = Callable[[_Part, Waveform], Waveform]


def _seek(
    track: SoundStream, plan: list[_Part], seconds: float, finish: _Finish
) -> list[Waveform] | None:
    # None if a part or the track's end is not at its expected place: the file is cut off or longer,
    # its length was estimated, or its format has no seeking. Decoding it all resolves that.
    slack = PADDING_S * track.sampling_rate
    try:
        waveforms = []
        for part in plan:
            source = track.stretch(part.first, part.count)
            if len(source) < part.count - slack:
                return None
            waveforms.append(finish(part, source))
        if len(track.stretch(math.floor(seconds * track.sampling_rate - slack), 1)) != 1:
            return None
    except CannotSeekError:
        return None
    return None if track.goes_beyond(4 * PADDING_S) else waveforms


def _cut(blocks: Iterable[Waveform], plan: list[_Part], finish: _Finish) -> list[Waveform]:
    # Copies, as a view would keep its whole block in memory. Only overlapping parts are held.
    waveforms: list[Waveform] = []
    held: dict[int, list[Waveform]] = {}
    at = 0
    for block in blocks:
        for i, part in enumerate(plan[len(waveforms) :], start=len(waveforms)):
            if part.first >= at + len(block):
                break
            stop = part.first + part.count - at
            held.setdefault(i, []).append(block[max(0, part.first - at) : max(0, stop)].copy())
            if stop <= len(block):
                waveforms.append(finish(part, np.concatenate(held.pop(i))))
        at += len(block)
    rest = plan[len(waveforms) :]
    nothing = np.empty(0, np.float32)
    return waveforms + [
        finish(part, np.concatenate([nothing, *held.get(i, ())]))
        for i, part in enumerate(rest, start=len(waveforms))
    ]


def _check_samples(path: Path, waveform: Waveform) -> None:
    if (fault := fault_of(waveform)) is not None:
        raise InputError(path, fault, REPLACE)
