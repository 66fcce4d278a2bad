"""Audio files to waveforms: decode, mix to mono, resample.

A waveform is everywhere a float32 array (samples,), mono, nominally in [-1, 1]; a rate is an int
in Hz. What goes beyond 1 is heard as it is; beyond `LOUDEST` it is no sound. `load` gives a whole
clip; `excerpts` gives parts of a track that may be hours long, in time and memory that do not grow
with it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from genrescope.errors import InputError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Waveform = NDArray[np.float32]
_Result = TypeVar("_Result")

EXTENSIONS = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".au",
        ".aif",
        ".aiff",
        ".aifc",
        ".caf",
        ".m4a",
        ".m4b",
        ".aac",
        ".wma",
        ".ape",
        ".wv",
        ".tta",
        ".mka",
        # Films, for their sound track.
        ".mp4",
        ".m4v",
        ".mkv",
        ".webm",
        ".mov",
        ".avi",
    ]
)
"""File name endings, in lower case, that are taken for audio."""

LOUDEST = 2.0**31
"""As far as a sample may go: what a file of floats holds that was made of integers unscaled.

Up to here no representation overflows.
"""

QUIETEST = 2.0**-14
"""Two of the steps of 16-bit audio: what never goes further is silence, dithered at most."""

_RATES = range(1_000, 1_000_001)  # Hz; outside, a header is corrupt and resampling would run away
_PLANES = 8  # channels, on more of which PyAV crashes where each has a plane of its own
_BLOCK = 2**22  # values (samples × channels) decoded at once
_CONTEXT_S = 0.02  # read on both sides of a span, so that resampling meets no edge
_PADDING_S = 0.5  # a compressed header may promise a little more than the codec delivers
_RUN_UP_S = 0.25  # codecs need frames before the wanted one: Opus 80 ms, MP3 a few times 26 ms
_FAR_S = 30.0  # a seek that lands this much too early has not found its place
_LATE_S = 0.05  # a seek may land this much too late

_REPLACE = "Replace the file with an intact copy or remove it"


def is_audio(path: Path) -> bool:
    """Tell by its name whether a file is audio; hidden files never are."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def load(path: Path, rate: int | None = None) -> tuple[Waveform, int]:
    """Decode a file to mono and, if asked, resample it.

    Parameters
    ----------
    path
        Any format that libsndfile or FFmpeg reads.
    rate
        The wanted sample rate in Hz; None keeps the file's own.

    Returns
    -------
    waveform
        float32 (samples,), mono.
    rate
        In Hz.

    Raises
    ------
    InputError
        If the file is missing, is not audio, is empty, holds values that are no sound, or is
        truncated (where the format tells how long it should be: a cut-off Ogg file does not).
    """
    _refuse_unreadable(path)
    return _with_track(path, lambda track: _whole(path, track, rate or track.rate))


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
        float32 (samples,) each, mono, at the rate that was asked for.
    whole
        Whether they cover the whole track; then there is one.
    """

    seconds: float
    starts: tuple[float, ...]
    waveforms: list[Waveform]
    whole: bool


def excerpts(path: Path, rate: int, *, span_s: float, most: int) -> Excerpts:
    """Decode spans spread evenly over a track, or all of a track that is no longer than they are.

    The track falls into ``most`` equal shares; a span lies in the middle of each. It is sought,
    not decoded up to: time and memory depend on the spans and hardly on the track. Only formats
    that do not tell their length are read through (AAC without a container, MP3 without a Xing
    header, what was written to a pipe), and only what cannot be sought is decoded through, both in
    bounded memory.

    Parameters
    ----------
    path
        Any format that libsndfile or FFmpeg reads.
    rate
        The wanted sample rate in Hz.
    span_s
        Length of a span in s.
    most
        Number of spans. A track of up to ``most * span_s`` seconds comes whole, as from `load`.

    Returns
    -------
    excerpts
        Spans of ``round(span_s * rate)`` samples. They start where they say to the sample in
        formats that libsndfile reads, to about a tenth of a second in others.

    Raises
    ------
    ValueError
        If ``span_s`` or ``most`` is not positive.
    InputError
        As `load`; but faults between the spans of a long track go unseen.
    """
    if span_s <= 0 or most < 1:
        raise ValueError(f"span_s = {span_s} and most = {most} must be positive")
    _refuse_unreadable(path)
    return _with_track(path, lambda track: _excerpts(path, track, rate, span_s, most))


def pieces(path: Path, rate: int, length: int, margin: int = 0) -> Iterator[Waveform]:
    """Decode all of a track piece by piece, in memory that does not grow with it.

    Parameters
    ----------
    path
        Any format that libsndfile or FFmpeg reads.
    rate
        The wanted sample rate in Hz.
    length
        Of a piece, in samples.
    margin
        How many samples of both neighbours each piece has, too.

    Yields
    ------
    waveform
        float32 (samples,), mono: of the whole track as from `load`, samples
        ``i * length - margin`` to ``(i + 1) * length + margin``, as far as there are any.

    Raises
    ------
    InputError
        As `load`; of a fault late in the track, only then.
    """
    held = np.empty(0, np.float32)
    lead = 0  # samples of ``held`` that come before its piece
    for block in _resampled_blocks(path, rate):
        held = np.concatenate([held, block])
        # Strictly more, so that the last piece is not made of its margins alone.
        while len(held) > lead + length + margin:
            yield held[: lead + length + margin]
            held, lead = held[lead + length - margin :], margin
    yield held


def to_waveform(samples: NDArray[Any]) -> Waveform:
    """Check an array that is meant to be a waveform, and make it float32.

    Parameters
    ----------
    samples
        Floats (samples,), mono, in [-1, 1].

    Raises
    ------
    ValueError
        If it has another number of dimensions, is not of floats, or holds values that are not
        finite or beyond `LOUDEST`.
    """
    if samples.ndim != 1:
        raise ValueError(f"a waveform is mono, of shape (samples,), not {samples.shape}")
    if samples.dtype.kind != "f":
        raise ValueError(f"a waveform is of floats in [-1, 1], not of {samples.dtype}")
    if (fault := _fault(samples)) is not None:
        raise ValueError(fault)
    return np.ascontiguousarray(samples, dtype=np.float32)


def is_silent(waveform: Waveform) -> bool:
    """Tell whether float32 (samples,) has nothing to hear: samples, but none beyond `QUIETEST`."""
    return bool(len(waveform)) and float(np.abs(waveform).max()) <= QUIETEST


def resample(waveform: Waveform, rate: int, target: int) -> Waveform:
    """Resample with soxr's high quality (what librosa does by default).

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    rate, target
        Present and wanted sample rate in Hz.

    Returns
    -------
    waveform
        float32 (samples,) at ``target``.
    """
    if rate == target:
        return waveform
    out: Waveform = soxr.resample(waveform, rate, target, quality="HQ").astype(np.float32)
    return out


def fit_length(waveform: Waveform, samples: int) -> Waveform:
    """Cut, or pad with silence at the end, to exactly ``samples`` samples."""
    if len(waveform) >= samples:
        return waveform[:samples]
    return np.pad(waveform, (0, samples - len(waveform)))


class _Track(Protocol):
    """An open file."""

    rate: int
    """In Hz."""
    promised: float
    """Seconds that a header tells; 0 if none does. Less can be read of a truncated file."""

    def seconds(self) -> float:
        """Tell the length as well as can be told without decoding; 0 if it cannot."""

    def blocks(self) -> Iterator[Waveform]:
        """Decode from start to end."""

    def stretch(self, first: int, count: int) -> Waveform:
        """Seek sample ``first`` and decode ``count`` samples, fewer at the end."""


class _RatherFFmpegError(Exception):
    """Something that libsndfile does badly."""


class _CannotSeekError(Exception):
    """The place that was sought is not found."""


def _with_track(path: Path, use: Callable[[_Track], _Result]) -> _Result:
    try:
        with soundfile.SoundFile(path) as file:
            return use(_SoundfileTrack(path, file))
    except (soundfile.LibsndfileError, _RatherFFmpegError):
        with _open_with_av(path) as container:
            return use(_AvTrack(path, container))


def _resampled_blocks(path: Path, rate: int) -> Iterator[Waveform]:
    _refuse_unreadable(path)
    done = 0
    try:
        with soundfile.SoundFile(path) as file:
            for block in _resampled(path, _SoundfileTrack(path, file), rate):
                yield block
                done += len(block)
    except (soundfile.LibsndfileError, _RatherFFmpegError):
        with _open_with_av(path) as container:
            for block in _resampled(path, _AvTrack(path, container), rate):
                yield block[done:]  # what libsndfile could not
                done = max(0, done - len(block))


def _resampled(path: Path, track: _Track, rate: int) -> Iterator[Waveform]:
    if track.rate == rate:
        yield from _decode(path, track)
        return
    stream = soxr.ResampleStream(track.rate, rate, 1, dtype="float32", quality="HQ")
    for block in _decode(path, track):
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _decode(path: Path, track: _Track) -> Iterator[Waveform]:
    # By blocks, as a corrupt header may promise more than memory holds.
    count = 0
    for block in track.blocks():
        _refuse_no_sound(path, block)
        count += len(block)
        yield block
    if count == 0:
        raise InputError(path, "no samples can be decoded from it", _REPLACE)
    _refuse_truncated(path, track.promised, count / track.rate)


def _whole(path: Path, track: _Track, rate: int) -> tuple[Waveform, int]:
    return resample(np.concatenate(list(_decode(path, track))), track.rate, rate), rate


def _short(path: Path, track: _Track, most_s: float) -> tuple[Waveform | None, float]:
    # The track, or None if it turns out to be longer than ``most_s``; and its length in s.
    blocks: list[Waveform] = []
    count = 0
    for block in _decode(path, track):
        count += len(block)
        if count <= most_s * track.rate:
            blocks.append(block)
        else:
            blocks.clear()
    return (np.concatenate(blocks) if blocks else None), count / track.rate


def _excerpts(path: Path, track: _Track, rate: int, span_s: float, most: int) -> Excerpts:
    seconds, sources = track.seconds(), None
    if seconds > most * span_s:
        plan = _plan(seconds, span_s, most, track.rate, rate)
        sources = _seek(track, plan, seconds)
    if sources is None:
        whole, seconds = _short(path, track, most * span_s)
        if whole is not None:
            waveform = resample(whole, track.rate, rate)
            return Excerpts(seconds, (0.0,), [waveform], whole=True)
        plan = _plan(seconds, span_s, most, track.rate, rate)
        sources = _cut(track.blocks(), plan)
    waveforms = []
    for source, part in zip(sources, plan, strict=True):
        _refuse_no_sound(path, source)
        resampled = resample(source, track.rate, rate)[part.skip :]
        waveforms.append(fit_length(resampled, round(span_s * rate)).copy())
    return Excerpts(seconds, tuple(part.start for part in plan), waveforms, whole=False)


@dataclass(frozen=True)
class _Part:
    """What to read for a span: samples of the file, and how many to skip once resampled."""

    start: float  # s
    first: int
    count: int
    skip: int


def _plan(seconds: float, span_s: float, most: int, source: int, target: int) -> list[_Part]:
    # Both clocks tick together every ``step`` samples of the file (at most 1 s): starting there,
    # a part falls on the very grid of the whole resampled waveform.
    step = source // math.gcd(source, target)
    context = 0 if source == target else round(_CONTEXT_S * source)
    end = round(seconds * source)
    parts = []
    for share in range(most):
        start = (share + 0.5) * seconds / most - span_s / 2
        wanted = round(start * target)
        first = max(0, wanted * source // target - context) // step * step
        stop = math.ceil((wanted + round(span_s * target)) * source / target) + context
        parts.append(_Part(start, first, min(stop, end) - first, wanted - first * target // source))
    return parts


def _seek(track: _Track, plan: list[_Part], seconds: float) -> list[Waveform] | None:
    # None if a part or the track's end is not where it should be: the file is truncated, its
    # length was a guess, or its format cannot be sought. Reading through tells which.
    slack = _PADDING_S * track.rate
    try:
        sources = []
        for part in plan:
            source = track.stretch(part.first, part.count)
            if len(source) < part.count - slack:
                return None
            sources.append(source)
        reaches_end = len(track.stretch(math.floor(seconds * track.rate - slack), 1)) == 1
    except _CannotSeekError:
        return None
    return sources if reaches_end else None


def _cut(blocks: Iterable[Waveform], plan: list[_Part]) -> list[Waveform]:
    # Copies, as a view would keep its whole block in memory.
    pieces: list[list[Waveform]] = [[] for _ in plan]
    at = 0
    for block in blocks:
        for piece, part in zip(pieces, plan, strict=True):
            if part.first < at + len(block) and at < part.first + part.count:
                piece.append(block[max(0, part.first - at) : part.first + part.count - at].copy())
        at += len(block)
    return [np.concatenate(piece) for piece in pieces]


class _SoundfileTrack:
    """Sample exact, and quick to seek in nearly all its formats."""

    def __init__(self, path: Path, file: soundfile.SoundFile) -> None:
        self._is_mp3 = file.format == "MP3"
        # It must know the length: that of a FLAC file written to a pipe it does not, that of an
        # MP3 file without a Xing header it takes from the first frame's bitrate.
        if file.frames >= 2**62 or (self._is_mp3 and not _mp3_tells_length(path)):
            raise _RatherFFmpegError
        self.rate = _plausible_rate(path, file.samplerate)
        self.promised: float = file.frames / self.rate
        self._file = file

    def seconds(self) -> float:
        return self.promised

    def blocks(self) -> Iterator[Waveform]:
        self._file.seek(0)
        while len(samples := self._samples(max(1, _BLOCK // self._file.channels))):
            yield _mono(samples)

    def stretch(self, first: int, count: int) -> Waveform:
        if self._is_mp3:  # needs a run-up, and mpg123 would complain of it on the terminal
            raise _RatherFFmpegError
        self._file.seek(first)
        return _mono(self._samples(count))

    def _samples(self, count: int) -> NDArray[np.float32]:
        samples: NDArray[np.float32] = self._file.read(count, dtype="float32", always_2d=True)
        return samples


class _AvTrack:
    """As exact as the container's time stamps."""

    def __init__(self, path: Path, container: InputContainer) -> None:
        if not container.streams.audio:
            raise InputError(path, "there is no audio in it", "Give an audio file")
        self._path = path
        self._container = container
        self._stream = container.streams.audio[0]
        if self._stream.codec_context is None:
            cause = "its audio is of a kind that cannot be decoded"
            raise InputError(path, cause, "Convert it to WAV, FLAC or MP3")
        self.rate = _plausible_rate(path, self._stream.rate)
        self.promised = _promised_seconds(path, container, self._stream)

    def seconds(self) -> float:
        if self.promised:
            return self.promised
        if self._container.duration and not _is_bare(self._path, self._container):
            return self._container.duration / 1_000_000  # of a film's picture, perhaps
        # Without decoding; and FFmpeg notes on the way where to seek.
        packets = self._container.demux(self._stream)
        ticks: int = sum(packet.duration or 0 for packet in packets)
        return float(ticks * (self._stream.time_base or 0))

    def blocks(self) -> Iterator[Waveform]:
        with _open_with_av(self._path) as container:  # afresh: not all that plays can be sought
            yield from _mono_blocks(container.decode(container.streams.audio[0]), self.rate)

    def stretch(self, first: int, count: int) -> Waveform:
        lead, blocks = self._from(first)
        pieces, found = [np.empty(0, np.float32)], 0
        for block in blocks:
            piece = block[lead : lead + count - found]
            lead = max(0, lead - len(block))
            pieces.append(piece)
            found += len(piece)
            if found == count:
                break
        return np.concatenate(pieces)

    def _from(self, first: int) -> tuple[int, Iterator[Waveform]]:
        # Blocks from somewhat before sample ``first`` on; and how many samples before.
        import av.error  # noqa: PLC0415

        base = self._stream.time_base
        if not base:
            raise _CannotSeekError
        origin = self._stream.start_time or 0
        wanted = max(0.0, first / self.rate - _RUN_UP_S)
        try:
            self._container.seek(origin + int(wanted / base), stream=self._stream)
        except (av.error.FFmpegError, OverflowError) as error:
            raise _CannotSeekError from error
        frames = self._container.decode(self._stream)
        head = next(frames, None)
        if head is None:
            return 0, iter(())
        if head.time is None:
            raise _CannotSeekError
        lead = first - round((head.time - float(origin * base)) * self.rate)
        if not -_LATE_S * self.rate <= lead <= _FAR_S * self.rate:
            raise _CannotSeekError
        return max(0, lead), _mono_blocks(chain([head], frames), self.rate)


@contextmanager
def _open_with_av(path: Path) -> Iterator[InputContainer]:
    import av  # noqa: PLC0415  FFmpeg's libraries take 0.1 s to load and few files need them
    import av.error  # noqa: PLC0415

    try:
        # "file:", lest a colon in a name be taken for the end of a protocol's name.
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        cause = f"it cannot be decoded as audio ({error.strerror})"
        raise InputError(path, cause, _REPLACE) from error


def _mono_blocks(frames: Iterable[AudioFrame], rate: int) -> Iterator[Waveform]:
    import av  # noqa: PLC0415

    form = None
    for frame in frames:
        planes = frame.layout.nb_channels
        if frame.format.name == "fltp" and planes <= _PLANES and frame.sample_rate == rate:
            # As most codecs have it; the detour below would cost as much again, and keep Python
            # from other threads.
            yield _mono(frame.to_ndarray().T.astype(np.float32, copy=False))
            continue
        now = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if form != now:  # at the start; in a joined or corrupt file again later
            # Interleaved, for there may be more than _PLANES.
            form, to_float = now, av.AudioResampler(format="flt", rate=rate)
        for block in to_float.resample(frame):
            samples = block.to_ndarray().astype(np.float32, copy=False)
            yield _mono(samples.reshape(-1, block.layout.nb_channels))


def _mono(samples: NDArray[np.float32]) -> Waveform:
    # From (samples, channels).
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
        mixed = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    return np.ascontiguousarray(mixed)


def _is_bare(path: Path, container: InputContainer) -> bool:
    # A codec's packets without a container: FFmpeg guesses the length from the first of them.
    if container.format.name == "mp3":
        return not _mp3_tells_length(path)
    return container.format.name in {"aac", "ac3", "amr", "dts", "eac3", "loas"}


def _promised_seconds(path: Path, container: InputContainer, stream: AudioStream) -> float:
    # What a header tells; 0 if none does.
    if _is_bare(path, container):
        return 0.0
    alone = len(container.streams) == 1
    # Matroska tells the length of the whole film, which FFmpeg may pass on to its streams.
    if stream.duration and stream.time_base and (alone or "matroska" not in container.format.name):
        return float(stream.duration * stream.time_base)
    if container.duration and alone:
        return container.duration / 1_000_000
    return 0.0


def _mp3_tells_length(path: Path) -> bool:
    # In the first frame, after ID3 tags.
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3" and len(head) == 10:
            size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        frame = file.read(4096)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _plausible_rate(path: Path, rate: int | None) -> int:
    if not rate:  # FFmpeg took it for audio and found none
        raise InputError(path, "no samples can be decoded from it", _REPLACE)
    if rate not in _RATES:
        raise InputError(path, f"its header tells a sample rate of {rate:,} Hz", _REPLACE)
    return rate


def _refuse_unreadable(path: Path) -> None:
    if not path.is_file():
        if path.is_dir():
            raise InputError(path, "it is a folder", "Give the path of an audio file")
        raise InputError(path, "no such file", "Check the path")
    try:
        str(path).encode()  # as the libraries will; old collections have names in Latin-1
    except UnicodeEncodeError as error:
        raise InputError(path, "its name is not valid UTF-8", "Rename it") from error
    try:
        _refuse_truncated_header(path)
    except OSError as error:
        remedy = "Check that you may read it"
        raise InputError(path, f"it cannot be read ({error.strerror})", remedy) from error


def _refuse_no_sound(path: Path, waveform: Waveform) -> None:
    if (fault := _fault(waveform)) is not None:
        raise InputError(path, fault, _REPLACE)


def _fault(samples: NDArray[Any]) -> str | None:
    # Where there is one NaN, both ends are.
    peak = max(float(samples.max(initial=0)), -float(samples.min(initial=0)))
    if not math.isfinite(peak):
        return "it holds samples that are not finite numbers"
    return f"it holds samples of {peak:.0e}, where 1 is loud" if peak > LOUDEST else None


def _refuse_truncated_header(path: Path) -> None:
    # libsndfile quietly reads what is left of a cut-off WAV, AIFF or AU file.
    size = path.stat().st_size
    if size == 0:
        raise InputError(path, "the file is empty (0 bytes)", _REPLACE)
    with path.open("rb") as file:
        head = file.read(12).ljust(12, b"\0")
    slack = 1  # a pad byte is often forgotten
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        kind, header, body = "WAV", 8, struct.unpack("<I", head[4:8])[0]
    elif head[:4] == b"FORM" and head[8:11] == b"AIF":
        kind, header, body = "AIFF", 8, struct.unpack(">I", head[4:8])[0]
    elif head[:4] == b".snd":
        kind, (header, body) = "AU", struct.unpack(">II", head[4:])
        slack = body // 100  # old programs counted loosely
    else:
        return
    streamed = body in (0, 0xFFFFFFFF)  # written to a pipe: the length was not known
    if not streamed and size < header + body - slack:
        cause = f"the {kind} file is truncated ({size:,} bytes of {header + body:,})"
        raise InputError(path, cause, _REPLACE)


def _refuse_truncated(path: Path, promised: float, found: float) -> None:
    # Seconds.
    if found < promised - _PADDING_S:
        cause = f"it is truncated ({found:.1f} s of {promised:.1f} s can be read)"
        raise InputError(path, cause, _REPLACE)
