"""Where the recordings in a file begin and end, by its structure.

Killed recorders leave headers with zeros, placeholders or old sizes; programs count a few bytes
too many; people join files with ``cat``. As in players, the samples present decide, not the
header. If a header states more than is present, that is kept, to report how much is missing.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from genrescope.audio.source import View
from genrescope.audio.tags import (
    HEAD_BYTES,
    TagSizeError,
    head_size,
    is_tag,
    leading_end,
    trailing_size,
)

MAX_RECORDINGS = 10_000
"""Maximum number of recordings joined in a file; of more, one more is returned."""

_CHUNKS = 10_000  # maximum of a recording
_STALE = 2**16  # this many bytes behind the samples are samples, too
_NEAR = 2**16  # a size this close to one of _PLACEHOLDERS is one
_ABSURD = 2**40  # bytes; a larger size is a placeholder
_PLACEHOLDERS = (2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_RECORDING = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|BW64....WAVE|FORM....AIF[FC]|caff\0\x01|riff\x2e\x91\xcf\x11|\.snd\0\0",
    re.DOTALL,
)
_MATROSKA = b"\x1aE\xdf\xa3"
_FLAC = re.compile(rb"fLaC[\x00\x80]\0\0\x22", re.DOTALL)
_TAG_BYTES = 2**16  # read at once
_MIN_BYTES = 256  # bytes of a recording
_INNER = re.compile(
    rb"ID3[\x02-\x04]\0[\x00-\xf0][\x00-\x7f]{4}|APETAGEX[\xd0\xe8]\x07\0\0|"
    rb"(?:Xing|Info)\0\0\0[\x00-\x0f]"
)
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # its "file properties object"
_UNPACKED = re.compile(rb"NONE|sowt|twos|raw |in24|in32|fl32|FL32|fl64|FL64")
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Recording:
    """One recording in a file; usually the only one, and the whole file.

    Attributes
    ----------
    view
        Its bytes, with the sizes in its header corrected.
    promised
        Length stated in its header, relative to the samples present: 1, or more if the file is
        cut off; 0 if unknown.
    known
        The part of the samples present that the header covers: less than 1 if the header is
        outdated.
    damaged
        Whether it is certainly damaged.
    ended
        Whether it has an end mark, in formats with one.
    """

    view: View
    promised: float = 1.0
    known: float = 1.0
    damaged: bool = False
    ended: bool = True


def recordings(view: View) -> list[Recording]:
    """Find the recordings in a file, in formats that state where they end.

    Parameters
    ----------
    view
        Of the whole file.

    Returns
    -------
    recordings
        In order, for WAV, RF64, W64, AIFF, CAF, AU, FLAC and Ogg; empty for other formats, which
        FFmpeg handles.
    """
    found: list[Recording] = []
    rest: View | None = view.of(behind_id3(view))
    while rest is not None and len(found) <= MAX_RECORDINGS:
        parts, behind = _read(rest)
        # The last of several may be of a format that does not state where it ends.
        found += parts or ([Recording(rest)] if found else [])
        rest = behind
    return found


def _read(view: View) -> tuple[list[Recording], View | None]:
    # The recordings at the start of a file, and the rest of the file if there is another one.
    head = view.read_at(0, 16)
    if head.startswith(b"OggS\0"):
        return _ogg(view), None
    if head.startswith(b"fLaC"):
        return [Recording(part) for part in _split(view, _FLAC)], None
    for mark, reader in ((b".snd", _au), (b"dns.", _au), (_MATROSKA, _matroska), (b"ftyp", _mp4)):
        if head.startswith(mark, 4 if mark == b"ftyp" else 0):
            return reader(view)
    for kind in _KINDS:
        if kind.matches(head):
            return kind.read(view)
    return [], None


def _matroska(view: View) -> tuple[list[Recording], View | None]:
    # Another file is joined to it if its one segment ends where another header begins.
    at = 0
    for name in (_MATROSKA, b"\x18\x53\x80\x67"):
        head = view.read_at(at, 12)
        if not head.startswith(name) or not head[4:5].strip(b"\0"):
            return [], None
        width = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        at += 4 + width + size
    if view.read_at(at, 4) != _MATROSKA:
        return [], None
    return [Recording(view.of(0, at))], view.of(at)


def _mp4(view: View) -> tuple[list[Recording], View | None]:
    # Another file is joined to it if a first box follows its index.
    at, complete = 0, False
    for _ in range(_CHUNKS):
        head = view.read_at(at, 16).ljust(16, b"\0")
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if name == b"ftyp" and complete:
            return [Recording(view.of(0, at))], view.of(at)
        complete |= name == b"moov"
        size = int.from_bytes(head[8:], "big") if size == 1 else size
        if size < 8:
            break
        at += size
    return [], None


def behind_id3(view: View) -> int:
    """Return the offset behind a file's leading ID3v2 tags; 0 if they do not end in it."""
    try:
        at = leading_end(view.read_at)
    except TagSizeError:
        return 0
    return at if at < view.size else 0


def claimed_size(view: View) -> int:
    """Return a file's size in bytes as stated in its header; 0 if unknown.

    For AVI, QCP, ASF, SoX, DSF and VOC, whose length FFmpeg takes from the bytes present.
    """
    head = view.read_at(0, 2**16)
    size = 0
    if head[:4] == b"RIFF" and head[8:12] in {b"AVI ", b"QLCM"}:
        size = 8 + int.from_bytes(head[4:8], "little")
    elif head[:4] == b"0&\xb2u" and (at := head.find(_ASF_FILE)) > 0:
        is_broadcast = int.from_bytes(head[at + 88 : at + 92], "little") & 1
        size = 0 if is_broadcast else int.from_bytes(head[at + 40 : at + 48], "little")
    elif head[:4] in {b".SoX", b"XoS."}:
        order: Literal["little", "big"] = "little" if head[:4] == b".SoX" else "big"
        samples = int.from_bytes(head[8:16], order)
        size = 4 + int.from_bytes(head[4:8], order) + 4 * samples if samples else 0
    elif head[:4] == b"DSD ":
        size = int.from_bytes(head[12:20], "little")
    elif head.startswith(b"Creative Voice File\x1a"):
        size = _voc_size(view)
    placeholder = any(abs(size - 8 - other) <= _NEAR for other in _PLACEHOLDERS)
    return 0 if placeholder and size > view.size else size


def _voc_size(view: View) -> int:
    at = int.from_bytes(view.read_at(20, 2), "little")
    for _ in range(_CHUNKS):
        head = view.read_at(at, 4)
        if not head or head[0] == 0:
            return at + len(head)
        at += 4 + int.from_bytes(head[1:], "little")
    return 0


def between_tags(view: View) -> View:
    """Return a file without leading tags and zeros and trailing tags.

    Decoders would decode them as audio, or search behind large ones for more.
    """
    start = behind_id3(view)
    if start and not view.read_at(start, 16).strip(b"\0"):
        while (block := view.read_at(start, _TAG_BYTES)) and not block.strip(b"\0"):
            start += len(block)
        start += len(block) - len(block.lstrip(b"\0"))
        start -= 3 if view.read_at(start + 1, 4) == b"ftyp" else 0  # a size begins with zeros
    stop = view.size
    while size := _tail_size(view, stop):
        stop -= size
    return view.of(start, stop) if start < stop else view


def without_tags(view: View) -> list[View]:
    """Return the parts of a bare stream between tags, and between the starts of MP3 files.

    Joined files keep their tags, with pictures that may be larger than the audio.
    """
    parts: list[View] = []
    start = 0
    for place, content in view.search(_INNER, HEAD_BYTES):
        if place < start:  # within a tag
            continue
        if len(parts) > MAX_RECORDINGS:
            break
        if content[:4] in {b"Xing", b"Info"}:
            stop = behind = _mp3_frame(view, place)
        else:
            stop, behind = place, min(place + _inner_size(content), view.size)
        if stop > start:
            parts.append(between_tags(view.of(start, stop)))
        start = max(start, behind)
    parts.append(between_tags(view.of(start)))
    whole = [part for part in parts if part.size > _MIN_BYTES]
    return whole or [view]


def _mp3_frame(view: View, mark: int) -> int:
    # Where the frame with such a mark begins, before its header and side information.
    for distance in (36, 21, 13):
        head = view.read_at(mark - distance, 2) if mark >= distance else b""
        if head[:1] == b"\xff" and head[1:] >= b"\xe0":
            return mark - distance
    return 0


def _inner_size(head: bytes) -> int:
    # Of a tag between recordings: an APE tag may have a header and a footer; this may be either.
    size = 32 + int.from_bytes(head[12:16], "little") if head[:3] == b"APE" else head_size(head)
    return size if head[:3] != b"APE" or head[23] & 0x20 else 32


def _tail_size(view: View, stop: int) -> int:
    try:
        return trailing_size(view.read_at, 0, stop)
    except TagSizeError:
        return 0


def _split(view: View, pattern: re.Pattern[bytes]) -> list[View]:
    # At every match of the pattern, which is 8 bytes long. No recording is shorter than a header.
    starts, at = [0], 42
    while len(starts) <= MAX_RECORDINGS and (at := view.find(b"fLaC", at)) >= 0:
        if pattern.match(view.read_at(at, 8)):
            starts.append(at)
        at += 4
    return [view.of(a, b) for a, b in zip(starts, [*starts[1:], view.size], strict=True)]


@dataclass(frozen=True)
class _HeaderFormat:
    """A format of chunks.

    Parameters
    ----------
    magic
        Of its first 16 bytes.
    first
        Where its first chunk begins.
    name
        Bytes of a chunk's name.
    size
        Format of a chunk's size, as of ``struct``.
    whole
        Whether a chunk's size includes its header.
    align
        Chunks begin at multiples of this.
    samples
        Name of the chunk of samples.
    outer
        Offset of the size of the whole file; None if there is none.
    """

    magic: re.Pattern[bytes]
    first: int
    name: int
    size: str
    whole: bool
    align: int
    samples: bytes
    outer: int | None

    def matches(self, head: bytes) -> bool:
        return self.magic.match(head) is not None

    def read(self, view: View) -> tuple[list[Recording], View | None]:
        """Return the recording, and the rest of the file if there is another one."""
        head = self.name + struct.calcsize(self.size)
        at, large, counts = self.first, None, {}
        for _ in range(_CHUNKS):
            raw = view.read_at(at, head)
            if len(raw) < head or not self._is_name(raw):
                break
            size = int(struct.unpack(self.size, raw[self.name :])[0])
            size -= head if self.whole else 0
            if raw[: self.name] == b"ds64":
                large = int(struct.unpack("<Q", view.read_at(at + 16, 8).ljust(8, b"\0"))[0])
            if raw[:4] in {b"COMM", b"fact"}:
                counts[raw[:4]] = at + head
            if raw[: self.name] == self.samples:
                claimed = large if large is not None and size == 2**32 - 1 else size
                return self._samples(view, at, head, claimed, counts)
            if size < 0:
                break
            at += head + size
            at += -at % self.align
        return [Recording(view)], None

    def _is_name(self, raw: bytes) -> bool:
        name = raw[:4]
        return name.isascii() and name.decode("ascii").isprintable()

    def _samples(
        self, view: View, at: int, head: int, claimed: int, counts: dict[bytes, int]
    ) -> tuple[list[Recording], View | None]:
        first = at + head
        there = view.size - first
        if there <= 0:
            return [Recording(view)], None
        end, following = self._end(view, first + claimed) if 0 <= claimed < there else (0, None)
        if following is not None:
            there = following - first
        is_right = 0 <= claimed < there and (
            following is not None
            or first + claimed + _STALE > view.size
            or (end > first + claimed and view.size - end < _STALE)
            or is_tag(view.read_at(first + claimed, 16))
        )
        if is_right and claimed > 0:
            used, promised, known = claimed, 1.0, 1.0
        elif is_right and end > first + claimed:  # other chunks follow, so it is empty
            return [Recording(view)], None
        else:
            used = there
            placeholder = not 0 < claimed < _ABSURD or any(
                abs(claimed - size) <= _NEAR and claimed > there for size in _PLACEHOLDERS
            )
            promised = 0.0 if placeholder else max(1.0, claimed / there)
            known = 1.0 if placeholder else min(1.0, claimed / there)
        stop = view.size if following is None else following
        patches = {}
        if used != claimed:
            patches = self._sizes(at, head, used, stop) | self._counts(
                view, counts, used, known, promised
            )
        part = View(view.source, view.start, view.start + stop, patches)
        rest = None if following is None else view.of(following)
        return [Recording(part, promised, known)], rest

    def _end(self, view: View, at: int) -> tuple[int, int | None]:
        # Where the chunks behind the samples end, and where another recording begins.
        head = self.name + struct.calcsize(self.size)
        for _ in range(_CHUNKS):
            for place in {at, at + (-at % self.align)}:
                if _RECORDING.match(view.read_at(place, 16)):
                    return place, place
            if _INNER.match(tag := view.read_at(at, HEAD_BYTES).ljust(HEAD_BYTES, b"\0")):
                at += _inner_size(tag)
                continue
            at += -at % self.align
            raw = view.read_at(at, head)
            if len(raw) < head or not self._is_name(raw):
                break
            size = int(struct.unpack(self.size, raw[self.name :])[0]) - (head if self.whole else 0)
            if not 0 <= size <= view.size - at:
                break
            at += head + size
        return at, None

    def _sizes(self, at: int, head: int, used: int, stop: int) -> dict[int, bytes]:
        limit = 2 ** (8 * struct.calcsize(self.size) - (self.size[-1] == "q")) - 1
        patches = {
            at + self.name: struct.pack(self.size, min(limit, used + (head if self.whole else 0)))
        }
        if self.outer is not None:
            whole = stop if self.whole else stop - 8
            patches[self.outer] = struct.pack(self.size, min(limit, whole))
        return patches

    def _counts(
        self, view: View, counts: dict[bytes, int], used: int, known: float, promised: float
    ) -> dict[int, bytes]:
        # Corrects the numbers of samples in earlier chunks.
        patches = {}
        if (comm := counts.get(b"COMM")) is not None:
            channels, _, bits = struct.unpack(">hIh", view.read_at(comm, 8).ljust(8, b"\0"))
            kind = view.read_at(comm + 18, 4)
            width = max(1, channels) * max(1, -(-bits // 8))
            if view.read_at(8, 4) == b"AIFF" or _UNPACKED.match(kind):
                patches[comm + 2] = struct.pack(">I", min(2**32 - 1, (used - 8) // width))
        if (fact := counts.get(b"fact")) is not None:
            width = struct.calcsize(self.size)
            order: Literal["little", "big"] = "little" if self.size[0] == "<" else "big"
            count = int.from_bytes(view.read_at(fact, width), order)
            count = round(count / known / promised) if known and promised else 0
            patches[fact] = min(count, 2 ** (8 * width) - 1).to_bytes(width, order)
        return patches


def _magic(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


_KINDS = (
    _HeaderFormat(_magic(rb"(RIFF|RF64|BW64)....WAVE"), 12, 4, "<I", False, 2, b"data", 4),
    _HeaderFormat(_magic(rb"RIFX....WAVE"), 12, 4, ">I", False, 2, b"data", 4),
    _HeaderFormat(_magic(rb"FORM....AIF[FC]"), 12, 4, ">I", False, 2, b"SSND", 4),
    _HeaderFormat(_magic(rb"caff\0\x01"), 8, 4, ">q", False, 1, b"data", None),
    _HeaderFormat(
        _magic(rb"riff\x2e\x91\xcf\x11"),
        40,
        16,
        "<Q",
        True,
        8,
        bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"),
        16,
    ),
)


def _au(view: View) -> tuple[list[Recording], View | None]:
    order = ">" if view.read_at(0, 4) == b".snd" else "<"
    first, claimed = struct.unpack(f"{order}II", view.read_at(4, 8).ljust(8, b"\0"))
    there = view.size - first
    if there <= 0:
        return [Recording(view)], None
    if 0 < claimed < there:
        if _RECORDING.match(view.read_at(first + claimed, 16)):
            end = first + claimed
            return [Recording(view.of(0, end))], view.of(end)
        if there - claimed < max(_STALE, claimed // 100):
            return [Recording(view.of(0, first + claimed))], None
    if claimed == there:
        return [Recording(view)], None
    placeholder = claimed == 0 or any(abs(claimed - size) <= _NEAR for size in _PLACEHOLDERS)
    promised = 0.0 if placeholder else max(1.0, claimed / there)
    if promised < 1.01:  # old programs miscounted slightly
        promised = min(promised, 1.0)
    patch = {8: struct.pack(f"{order}I", min(there, 2**32 - 1))}
    known = 1.0 if placeholder else min(1.0, claimed / there)
    return [Recording(View(view.source, view.start, view.stop, patch), promised, known)], None


@dataclass
class _Link:
    start: int
    stop: int
    damaged: bool = False
    ended: bool = False
    next_number: dict[int, int] = field(default_factory=dict)


def _ogg(view: View) -> list[Recording]:
    # Chained streams: each begins with first pages of its own.
    links: list[_Link] = []
    begins = False
    gap = False
    for page in _pages(view):
        if page is None:
            gap = True
            continue
        at, flags, serial, number, intact = page
        first = bool(flags & 2)
        if first and not begins:
            if len(links) > MAX_RECORDINGS:
                break
            if links:
                links[-1].stop = at
            links.append(_Link(at, view.size))
            gap = False
        begins = first
        if not links:  # it begins in the middle of a stream
            links.append(_Link(at, view.size, damaged=True))
        link = links[-1]
        expected = link.next_number.get(serial)
        link.damaged |= gap or not intact or (expected is not None and number != expected)
        link.next_number[serial] = number + 1
        link.ended = bool(flags & 4)
        gap = False
    return [
        Recording(view.of(link.start, link.stop), damaged=link.damaged, ended=link.ended)
        for link in links
    ]


def _pages(view: View) -> Iterator[tuple[int, int, int, int, bool] | None]:
    # Offset, flags, serial and sequence number of each page, and whether its checksum is right;
    # None for other bytes between pages.
    at = 0
    while at < view.size:
        head = view.read_at(at, 282)
        if len(head) < 27:
            return
        size = 27 + head[26] + sum(head[27 : 27 + head[26]])
        if not head.startswith(b"OggS\0") or at + size > view.size:
            following = view.find(b"OggS\0", at + 1)
            if following < 0:
                return
            yield None
            at = following
            continue
        page = view.read_at(at, size)
        flags = page[5]
        serial, number, checksum = struct.unpack("<III", page[14:26])
        blank = page[:22] + bytes(4) + page[26:]
        yield at, flags, serial, number, _ogg_sum(blank) == checksum
        at += size


def _ogg_sum(page: bytes) -> int:
    # Ogg's CRC has zlib's polynomial with reversed bits, and no inversion at start and end.
    turned = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(turned.to_bytes(4, "little").translate(_REVERSED), "big")
