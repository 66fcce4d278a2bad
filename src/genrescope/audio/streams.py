"""Audio streams, decoded by libsndfile or FFmpeg: length, samples, damage."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from genrescope import system
from genrescope.audio.formats import DEMUXERS, looks_like_audio
from genrescope.audio.headers import (
    MAX_RECORDINGS,
    Recording,
    behind_id3,
    between_tags,
    claimed_size,
    recordings,
    without_tags,
)
from genrescope.audio.source import REPLACE, View
from genrescope.audio.tags import is_tag
from genrescope.audio.waveform import Mixer, Waveform
from genrescope.errors import InputError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

PADDING_S = 0.5
"""Tolerance: a compressed header may state slightly more than the codec decodes."""

AUDIBLE_S = 0.02
"""About one packet of most codecs: a shorter loss is ignored."""

_RATES = range(1_000, 1_000_001)  # Hz; others are corrupt and would make resampling explode
_PLANES = 7  # channels; PyAV crashes on more in planar formats
_BLOCK = 2**22  # values (samples × channels) decoded at once
_FRAMES = 2**16  # samples per block, collected from FFmpeg's frames of often 1024
_RUN_UP_S = 0.25  # codecs need earlier frames: Opus 80 ms, MP3 a few times 26 ms
_FAR_S = 30.0  # a seek that lands earlier than this has failed
_LATE_S = 0.05  # tolerance for a seek that lands too late
_FAILURES = 20  # consecutive read errors after which decoding stops
_GAP_S = 0.45, 60.0  # between packets; a longer gap separates recordings
_EDGE = 3  # packets at the start of an excerpt that may depend on missing ones
_REST = 2**14  # minimum bytes behind the last packet to look for another recording
_PAST_MARK = 4
_SHORTEST = 2**9  # minimum bytes of a recording joined to another
_LARGEST = {"mp3": 3000}  # bytes of a packet; a larger one includes other bytes
_PLACELESS = {"aac", "dts"}  # formats whose packet positions FFmpeg does not know
_BARE = {"aac", "ac3", "amr", "dts", "eac3", "flac", "loas", "mlp", "mp3", "truehd"}
# Formats with checksums in packets, which FFmpeg verifies only on request.
_STRICT = {"flac", "tta", "wavpack"}
_NO_END = "its end is missing: it was cut off, or recorded from a stream"
_NO_SOUND = re.compile(rb"^(TAG|ID3|3DI|APETAGEX|LYRICSBEGIN)|Xing|Info|VBRI|LAME")
_MARKS = {b"wvpk", b"TTA1", b"MAC ", b"MPCK", b"MP+\x07", b"tBaK", b"RIFF", b"FLV\x01"}
_MARKS |= {b".RMF", b"DSD ", b"FRM8", b"Crea", b"\x1aE\xdf\xa3", b"0&\xb2u", b"STRM"}
_MARKS |= {b"\xb7\xd8\x00 "}
# Packet streams without marks for joined files; FFmpeg estimates their length.
_ENDLESS = {"mpeg", "mpegts", "nut"}


class CannotSeekError(Exception):
    """The requested position cannot be reached."""


class SoundStream(Protocol):
    """An open recording.

    Attributes
    ----------
    sampling_rate
        In Hz.
    promised
        Duration stated in its header, in s; 0 if unknown.
    lost
        Seconds that could not be decoded so far, if known.
    foreign
        Bytes around the audio that are not audio, in s of audio.
    mixer
        Mixes its channels to mono.
    notes
        Other notes, as clauses.
    """

    sampling_rate: int
    promised: float
    lost: float
    foreign: float
    mixer: Mixer
    notes: list[str]

    def seconds(self) -> float:
        """Return the duration in s as far as known without decoding; 0 if unknown."""

    def blocks(self) -> Iterator[Waveform]:
        """Decode from start to end."""

    def stretch(self, first: int, count: int) -> Waveform:
        """Seek to sample ``first`` and decode ``count`` samples, fewer at the end."""

    def goes_beyond(self, seconds: float) -> bool:
        """Return, after a ``stretch`` near the end, whether more than ``seconds`` follow."""


class SoundfileStream:
    """A stream decoded by libsndfile: sample exact, with fast seeking in nearly all formats."""

    def __init__(self, recording: Recording, file: soundfile.SoundFile) -> None:
        self.sampling_rate = _plausible_rate(recording.view, file.samplerate)
        self._seconds: float = file.frames / self.sampling_rate
        self.promised = self._seconds * recording.promised
        self.lost = self.foreign = 0.0
        self.mixer = Mixer()
        self.notes: list[str] = []
        if recording.known < 1 - 1e-3:
            known = self._seconds * recording.known
            self.notes.append(f"its header promises {known:.1f} s; what follows was used as well")
        if not recording.ended:
            self.notes.append(_NO_END)
        self._file, self._view = file, recording.view
        self._has_begun = False

    def seconds(self) -> float:
        """See `SoundStream`."""
        return self._seconds

    def blocks(self) -> Iterator[Waveform]:
        """Decode from start to end; FFmpeg continues behind damage."""
        done = 0
        try:
            if self._has_begun:  # some formats cannot seek back to the start
                self._file = _soundfile(self._view)
            while len(samples := self._samples(max(1, _BLOCK // self._file.channels))):
                yield self.mixer.mix(samples)
                done += len(samples)
        except soundfile.LibsndfileError:
            yield from self._behind(done)

    def _behind(self, done: int) -> Iterator[Waveform]:
        found = 0
        with suppress(InputError), open_with_av(self._view) as container:
            track = PyavStream(self._view, container)
            track.mixer = self.mixer
            for block in at_rate(track.blocks(), track.sampling_rate, self.sampling_rate):
                yield block[max(0, done - found) :]
                found += len(block)
            self.lost += track.lost
        short = self.promised - max(done, found) / self.sampling_rate
        self.lost = max(self.lost, short, AUDIBLE_S)

    def stretch(self, first: int, count: int) -> Waveform:
        """See `SoundStream`; exact to the sample."""
        pieces = [np.empty(0, np.float32)]
        try:
            self._file.seek(first)
            while count:
                samples = self._samples(min(count, max(1, _BLOCK // self._file.channels)))
                if not len(samples):
                    break
                pieces.append(self.mixer.mix(samples))
                count -= len(samples)
        except soundfile.LibsndfileError as error:
            raise CannotSeekError from error
        return np.concatenate(pieces)

    def goes_beyond(self, seconds: float) -> bool:  # noqa: ARG002  it knows its length
        """See `SoundStream`."""
        return False

    def _samples(self, count: int) -> NDArray[np.float32]:
        samples: NDArray[np.float32] = self._file.read(count, dtype="float32", always_2d=True)
        self._has_begun = True
        return samples


class PyavStream:
    """A stream decoded by FFmpeg: as exact as the container's time stamps.

    Packets that cannot be decoded are skipped and counted.
    """

    def __init__(self, view: View, container: InputContainer) -> None:
        self._view, self._container = view, container
        self._stream = _audio_stream(view, container)
        self.sampling_rate = _plausible_rate(view, self._stream.rate)
        self.promised = _promised_seconds(view, container, self._stream)
        self.lost = self.foreign = 0.0
        self.mixer = Mixer()
        self.notes: list[str] = []
        self._cut = max(
            0.0, claimed_size(view) / view.size - 1
        )  # how much longer it was before it was cut off
        self._end = 0  # of the last packet, in bytes
        self._can_seek = True
        self._count = _Count(self._stream)

    def seconds(self) -> float:
        """See `SoundStream`; for bare streams, by reading all packets."""
        if self.promised:
            return self.promised
        if self._container.duration and not _is_bare(self._view, self._container):
            return self._container.duration / 1_000_000  # possibly of the video stream
        # Without decoding; meanwhile FFmpeg builds its seek index.
        ticks, kinds, good, holes = 0, set(), 0, self._view.size
        for packet in self._packets(self._stream):
            holes -= packet.size
            if packet.size > _LARGEST.get(self._container.format.name, packet.size):
                holes += packet.size  # other bytes, included in a packet
                continue
            ticks += packet.duration or 0
            good += packet.size
            if self._container.format.name == "aac":
                kinds.add(bytes(packet)[2:3])
        self._can_seek = len(kinds) < 3  # the last packet is empty
        seconds = float(ticks * (self._stream.time_base or 0))
        lost = holes * seconds / good if good else 0.0
        self.lost = lost if lost > PADDING_S else 0.0
        return seconds

    def blocks(self) -> Iterator[Waveform]:
        """See `SoundStream`; includes the recordings joined to it."""
        yield from self._own_blocks()
        following, parts = self._following(), 1
        while following is not None and parts < MAX_RECORDINGS:
            view, following, parts, count = following, None, parts + 1, 0
            with suppress(InputError), open_with_av(view) as container:  # it may only look like one
                track = PyavStream(view, container)
                track.mixer = self.mixer
                for block in at_rate(track._own_blocks(), track.sampling_rate, self.sampling_rate):
                    count += len(block)
                    yield block
                following = track._following()
                if count:
                    self.promised = 0.0  # unknown for both together
                    self.lost += track.lost
            if not count:
                following = self._following(view.start - self._view.start + _PAST_MARK)

    def _own_blocks(self) -> Iterator[Waveform]:
        # Opened again, as not every format can seek back to the start.
        with open_with_av(self._view) as container:
            stream = _audio_stream(self._view, container)
            self._count = _Count(stream)
            yield from self._mono(self._frames(container, stream))
        if (name := container.format.name) in _BARE:
            self._count.look_between(self._view, knows_places=name not in _PLACELESS)
        self.lost += self._count.lost
        self.lost += (self._cut + self._unread(container)) * self._count.good
        self.foreign += self._count.foreign
        if self._count.gaps > 0:
            self.notes.append(f"its time stamps leap over {self._count.gaps:.1f} s")

    def _unread(self, container: InputContainer) -> float:
        # For an MP4, the unread part behind damage, where FFmpeg stops, relative to the part read.
        # In an intact file another box follows the samples.
        rest = self._view.size - self._end
        box = self._view.read_at(self._end + 4, 4)
        is_box = box.isascii() and box.decode("ascii").isprintable()
        if not container.format.name.startswith("mov") or is_box or not 0 < self._end < rest * 9:
            return 0.0
        return rest / self._end

    def stretch(self, first: int, count: int) -> Waveform:
        """See `SoundStream`."""
        self._count = _Count(self._stream)
        lead, blocks = self._from(first)
        pieces, found = [np.empty(0, np.float32)], 0
        for block in blocks:
            piece = block[lead : lead + count - found]
            lead = max(0, lead - len(block))
            pieces.append(piece)
            found += len(piece)
            if found == count:
                break
        self.lost += self._count.lost
        return np.concatenate(pieces)

    def goes_beyond(self, seconds: float) -> bool:
        """See `SoundStream`."""
        if self._cut > 0 or self._following() is not None:
            return True
        more = 0.0  # by decoding, as not all packets state their duration
        for frame in self._frames(self._container, self._stream):
            more += frame.samples / frame.sample_rate
            if more > seconds:
                return True
        return self._following() is not None

    def _from(self, first: int) -> tuple[int, Iterator[Waveform]]:
        # Blocks from somewhat before sample ``first`` on, and the number of samples before it.
        import av.error  # noqa: PLC0415

        base = self._stream.time_base
        if not base or not self._can_seek:
            raise CannotSeekError
        origin = self._stream.start_time or 0
        wanted = max(0.0, first / self.sampling_rate - _RUN_UP_S)
        try:
            self._container.seek(origin + int(wanted / base), stream=self._stream)
        except (av.error.FFmpegError, OverflowError) as error:
            raise CannotSeekError from error
        frames = self._frames(self._container, self._stream)
        head = next(frames, None)
        if head is None:
            return 0, iter(())
        if head.time is None:
            raise CannotSeekError
        lead = first - round((head.time - float(origin * base)) * self.sampling_rate)
        if not -_LATE_S * self.sampling_rate <= lead <= _FAR_S * self.sampling_rate:
            raise CannotSeekError
        return max(0, lead), self._mono(chain([head], frames), collect=1)

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        import av.error  # noqa: PLC0415

        for packet in self._packets(stream, container):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._count.failed(packet)
                continue
            self._count.decoded(packet, frames)
            yield from frames

    def _packets(
        self, stream: AudioStream, container: InputContainer | None = None
    ) -> Iterator[Packet[AudioStream]]:
        # Damage ends demuxing with an error; more packets may follow.
        import av.error  # noqa: PLC0415

        failures = 0
        while failures < _FAILURES:
            try:
                for packet in (container or self._container).demux(stream):
                    failures = 0
                    if packet.size and packet.pos is not None:
                        self._end = max(self._end, packet.pos + packet.size)
                    yield packet
            except av.error.FFmpegError:
                failures += 1
            except IndexError:  # raised by PyAV at the end of streams that begin late
                return
            else:
                return

    def _mono(self, frames: Iterable[AudioFrame], collect: int = _FRAMES) -> Iterator[Waveform]:
        import av  # noqa: PLC0415

        form = None
        held: list[NDArray[np.float32]] = []
        for frame in frames:
            planes = frame.layout.nb_channels
            if (
                frame.format.name == "fltp"
                and planes <= _PLANES
                and frame.sample_rate == self.sampling_rate
            ):
                # The common case. Resampling, as below, would double the time and hold the GIL.
                blocks = [frame.to_ndarray().T]
            else:
                now = (frame.format.name, frame.layout.name, planes, frame.sample_rate)
                if form != now:  # at the start, and at each change in a joined or corrupt file
                    form = now
                    # Interleaved, as there may be more channels than _PLANES.
                    to_float = av.AudioResampler(format="flt", rate=self.sampling_rate)
                blocks = [
                    block.to_ndarray().reshape(-1, block.layout.nb_channels)
                    for block in to_float.resample(frame)
                ]
            for block in blocks:
                samples = block.astype(np.float32, copy=False)
                if held and held[0].shape[1] != samples.shape[1]:
                    yield self.mixer.mix(np.concatenate(held))
                    held = []
                held.append(samples)
                if sum(map(len, held)) >= collect:
                    yield self.mixer.mix(np.concatenate(held))
                    held = []
        if held:
            yield self.mixer.mix(np.concatenate(held))

    def _following(self, start: int = 0) -> View | None:
        # Another file of the same kind joined to this one, which FFmpeg does not read.
        mark = self._view.read_at(0, 4)
        start = max(start, self._end)
        if mark not in _MARKS or self._view.size - start < _SHORTEST or not self._end:
            return None
        at = self._view.find(mark, start)
        return None if at < 0 else self._view.of(at)


class _Count:
    # Statistics of a stream's packets.

    def __init__(self, stream: AudioStream) -> None:
        # A float: fractions cost more than the decoding of an MP3, and hold the GIL.
        self._tick_s = float(stream.time_base or 0)
        self.lost = self.foreign = self.gaps = 0.0
        self.good = 0.0
        self._next_s: float | None = None
        self._packets = self._bytes = self._good_bytes = 0
        self._pending = (0.0, 0)  # s and bytes that failed last, possibly just the file's end
        self._failed_bytes = 0
        self._start: int | None = None
        self._end = 0

    def decoded(self, packet: Packet[AudioStream], frames: list[AudioFrame]) -> None:
        self._place(packet)
        if frames:
            self._packets += 1
            self.lost += self._pending[0]
            self._failed_bytes += self._pending[1]
            self._pending = 0.0, 0
            seconds = sum(frame.samples / frame.sample_rate for frame in frames)
            self.good += seconds
            if self._next_s is not None and not packet.duration:
                self._next_s += seconds
            self._good_bytes += packet.size

    def failed(self, packet: Packet[AudioStream]) -> None:
        self._place(packet)
        # Not counted: packets at the start, which may depend on missing ones, tags, and headers of
        # joined files.
        content = bytes(packet)
        if self._packets >= _EDGE and not _NO_SOUND.search(content[:1024]):
            seconds = (packet.duration or 0) * self._tick_s
            self._pending = self._pending[0] + seconds, self._pending[1] + packet.size

    def _place(self, packet: Packet[AudioStream]) -> None:
        if packet.pts is not None and self._tick_s:
            start_s = packet.pts * self._tick_s
            if self._next_s is not None and _GAP_S[0] < start_s - self._next_s < _GAP_S[1]:
                self.gaps += start_s - self._next_s
            self._next_s = start_s + (packet.duration or 0) * self._tick_s
        if packet.size and packet.pos is not None:
            self._start = packet.pos if self._start is None else self._start
            self._end = max(self._end, packet.pos + packet.size)
            self._bytes += packet.size

    def look_between(self, view: View, *, knows_places: bool) -> None:
        """Count the bytes of a bare stream that are neither packets nor tags.

        If FFmpeg does not know the positions of packets, all other bytes count as lost.
        """
        if not self._good_bytes or self._start is None:
            return
        per_byte = self.good / self._good_bytes
        skipped = max(0, self._end - self._start - self._bytes)
        self.lost = max(self.lost, (self._failed_bytes + skipped) * per_byte)
        ends = (0, self._start), (self._end, view.size)
        self.foreign = sum(b - a for a, b in ends if not is_tag(view.read_at(a, 16))) * per_byte
        self.foreign += self._pending[1] * per_byte
        if not knows_places:
            self.lost, self.foreign = max(self.lost, self.foreign), 0.0


class ChainedStream:
    """Recordings joined end to end, as one stream at the rate of the first; opened one by one."""

    def __init__(self, parts: list[Recording]) -> None:
        self._parts: list[Recording] = []
        self.sampling_rate, self.promised = 0, 0.0
        known, fault = True, None
        for part in parts:
            try:
                with _open_recording(part) as track:
                    self._parts.append(part)
                    self.sampling_rate = self.sampling_rate or track.sampling_rate
                    self.promised += track.promised
                    known = known and track.promised > 0
            except InputError as error:
                fault = fault or error
        if not self._parts and fault is not None:
            raise fault
        self.promised = self.promised if known else 0.0
        self.lost = self.foreign = 0.0
        self.mixer, self.notes = Mixer(), []
        if left_out := len(parts) - len(self._parts):
            several = f"{left_out} of the {len(parts)} recordings joined in it cannot be decoded"
            self.notes.append(several)

    def seconds(self) -> float:
        """See `SoundStream`."""
        total = 0.0
        for part in self._parts:
            with _open_recording(part) as track:
                total += track.seconds()
        return total

    def blocks(self) -> Iterator[Waveform]:
        """See `SoundStream`."""
        for part in self._parts:
            with _open_recording(part) as track:
                track.mixer.only = self.mixer.only
                yield from at_rate(track.blocks(), track.sampling_rate, self.sampling_rate)
                self.mixer.channels = max(self.mixer.channels, track.mixer.channels)
                self.lost += track.lost
                self.foreign += track.foreign
                self.mixer.cancelled += track.mixer.cancelled
                self.mixer.total += track.mixer.total
                last = track.notes
        self.notes += last

    def stretch(self, first: int, count: int) -> Waveform:  # noqa: ARG002
        """Raise an error: it has no seeking."""
        raise CannotSeekError

    def goes_beyond(self, seconds: float) -> bool:  # noqa: ARG002  it is never sought
        """See `SoundStream`."""
        return False


def at_rate(blocks: Iterator[Waveform], sampling_rate: int, target: int) -> Iterator[Waveform]:
    """Resample a stream of blocks from ``sampling_rate`` to ``target``, both in Hz."""
    if sampling_rate == target:
        yield from blocks
        return
    stream = soxr.ResampleStream(sampling_rate, target, 1, dtype="float32", quality="HQ")
    # A block at 1 kHz would become fifty times longer.
    size = max(1, _BLOCK * sampling_rate // target)
    for block in blocks:
        for start in range(0, len(block), size):
            yield stream.resample_chunk(block[start : start + size])
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


@contextmanager
def open_stream(view: View) -> Iterator[SoundStream]:
    """Open a file with the most suitable decoder.

    Raises
    ------
    InputError
        If it is not audio in a supported format.
    """
    with ExitStack() as stack:
        parts = recordings(view)
        if not parts:
            inner = between_tags(view)
            bare = without_tags(inner) if _is_split(inner) else [inner]
            if len(bare) == 1:
                yield stack.enter_context(_open_other(bare[0]))
                return
            parts = [Recording(part) for part in bare]
        if len(parts) > MAX_RECORDINGS:
            cause = f"it holds more than {MAX_RECORDINGS:,} recordings joined end to end"
            raise InputError(view.source.path, cause, "Split it")
        if len(parts) > 1:
            yield ChainedStream(parts)
        else:
            yield stack.enter_context(_open_recording(parts[0]))


def _is_split(view: View) -> bool:
    # Whether tags may occur in the middle: in packets without a container, except for an MP3 that
    # states its length.
    head = view.read_at(0, 4)
    return (_may_be_mpeg(view) and not _mp3_states_length(view)) or head[:2] == b"\x0b\x77"


@contextmanager
def _open_recording(recording: Recording) -> Iterator[SoundStream]:
    with ExitStack() as stack:
        track: SoundStream | None = None
        if not recording.damaged and not _may_be_mpeg(recording.view):
            track = _by_soundfile(recording, stack)
        if track is None:
            container = stack.enter_context(open_with_av(recording.view))
            track = PyavStream(recording.view, container)
            track.promised *= recording.promised
            if not recording.ended:
                track.notes.append(_NO_END)
        yield track


@contextmanager
def _open_other(view: View) -> Iterator[SoundStream]:
    with ExitStack() as stack:
        track: SoundStream | None
        try:
            track = PyavStream(view, stack.enter_context(open_with_av(view)))
        except InputError:
            # libsndfile reads a few more old formats; its MPEG library prints to the terminal.
            track = None if _may_be_mpeg(view) else _by_soundfile(Recording(view), stack)
            if track is None:
                raise
        yield track


def _by_soundfile(recording: Recording, stack: ExitStack) -> SoundStream | None:
    # None if libsndfile cannot read it or its length (FLAC written to a pipe).
    try:
        file = stack.enter_context(_soundfile(recording.view))
    except soundfile.LibsndfileError:
        return None
    if file.frames >= 2**62 or _is_misread(recording.view, file):
        return None
    return SoundfileStream(recording, file)


def _is_misread(view: View, file: soundfile.SoundFile) -> bool:
    # libsndfile reads all samples of W64 with an extensible format chunk as integers.
    head = view.read_at(0, 4096)
    return file.format == "W64" and head.find(b"\xfe\xff", at := head.find(b"fmt ") + 24) == at


def _soundfile(view: View) -> soundfile.SoundFile:
    source = view.source
    if not system.IS_WINDOWS and view.size == source.size and not view.patches:
        os.lseek(source.descriptor, 0, os.SEEK_SET)
        return soundfile.SoundFile(source.descriptor, closefd=False)
    view.seek(0)
    return soundfile.SoundFile(view)


@contextmanager
def open_with_av(view: View) -> Iterator[InputContainer]:
    """Open a file with FFmpeg: these bytes only, by one of the allowed demuxers.

    Raises
    ------
    InputError
        If FFmpeg cannot open it.
    """
    import av  # noqa: PLC0415  FFmpeg's libraries take 0.1 s to load and few files need them
    import av.error  # noqa: PLC0415

    fault = InputError(
        view.source.path, "not audio that genrescope can read", "Try MP3, WAV, FLAC or M4A"
    )
    if looks_like_audio(view.read_at(0, 16)):
        cause = "it is damaged or cut off, and nothing of it can be decoded"
        fault = InputError(view.source.path, cause, REPLACE)
    try:
        container = av.open(
            View(view.source, view.start, view.stop, view.patches),
            "r",
            metadata_errors="replace",
            container_options={"format_whitelist": DEMUXERS, "protocol_whitelist": ""},
            io_open=_open_nothing,
        )
    except (av.error.FFmpegError, OverflowError, ValueError) as error:
        raise fault from error
    with container:
        try:
            yield container
        except av.error.FFmpegError as error:
            raise fault from error


def _open_nothing(url: str, *_: object) -> None:
    # Files and addresses named in a file are never opened.
    raise PermissionError(f"{url}: files that a file names are not opened")


def _audio_stream(view: View, container: InputContainer) -> AudioStream:
    # As players do: the one marked as default, else the first that can be decoded.
    from av.stream import Disposition  # noqa: PLC0415

    streams = container.streams.audio
    if not streams:
        raise InputError(view.source.path, "there is no audio in it", "Give an audio file")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        cause = "its audio codec is not supported"
        raise InputError(view.source.path, cause, "Convert it to WAV, FLAC or MP3")
    marked = [stream for stream in known if stream.disposition & Disposition.default]
    stream = (marked or known)[0]
    if stream.codec_context.name in _STRICT:
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    return stream


def _is_bare(view: View, container: InputContainer) -> bool:
    # A codec's packets without a container: FFmpeg estimates the length from the first of them.
    if container.format.name == "mp3":
        return not _mp3_states_length(view)
    if container.format.name in _ENDLESS:
        return True
    return container.format.name in _BARE and not (
        container.format.name == "flac" and container.duration
    )


def _promised_seconds(view: View, container: InputContainer, stream: AudioStream) -> float:
    # Stated in a header; 0 if unknown.
    if _is_bare(view, container):
        return 0.0
    if container.format.name == "avi":  # often wrong for ADPCM; its size is stated, too
        return 0.0
    alone = len(container.streams) == 1
    # Matroska states the length of the whole video, which FFmpeg may copy to its streams.
    if stream.duration and stream.time_base and (alone or "matroska" not in container.format.name):
        return float(stream.duration * stream.time_base)
    if container.duration and alone:
        return container.duration / 1_000_000
    return 0.0


def _mp3_states_length(view: View) -> bool:
    # The first frame states how many bytes follow: too few in joined files.
    start = behind_id3(view)
    frame = view.read_at(start, 4096)
    for mark in (b"Xing", b"Info"):
        if (at := frame.find(mark)) > 0:
            flags = frame[at + 7]
            size = int.from_bytes(frame[at + 8 + 4 * (flags & 1) :][:4], "big") if flags & 2 else 0
            return view.size - start - size < max(_REST, size // 100)
    return frame.find(b"VBRI") > 0


def _may_be_mpeg(view: View) -> bool:
    head = view.read_at(behind_id3(view), 4)
    return view.read_at(0, 3) == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")


def _plausible_rate(view: View, sampling_rate: int | None) -> int:
    if not sampling_rate:  # recognised as audio without any
        raise InputError(view.source.path, "no samples can be decoded from it", REPLACE)
    if sampling_rate not in _RATES:
        raise InputError(
            view.source.path, f"its header states a sampling rate of {sampling_rate:,} Hz", REPLACE
        )
    return sampling_rate
