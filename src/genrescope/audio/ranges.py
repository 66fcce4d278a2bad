"""Where the audio is in a file: the bytes that stay the same when tags and pictures change.

Formats are recognised by the first bytes, not by the name. Every size stated in a file is checked
against the file's own size, and at most one block of a file is in memory.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from genrescope.audio.tags import TagSizeError, leading_end, trailing_size
from genrescope.errors import InputError
from genrescope.files import check_regular

Ranges = list[tuple[int, int]]
"""Byte ranges (start, stop) of a file, in order."""


class Container(StrEnum):
    """Structure of a file, as far as it matters for tags."""

    FRAMES = "frames"  # MP3, AAC, TTA: leading ID3v2, any trailing tags
    APE = "ape"  # WavPack, Monkey's Audio, Musepack and similar ones: a trailing APEv2 tag
    FLAC = "flac"
    MP4 = "mp4"
    WAVE = "wave"
    AIFF = "aiff"
    OGG = "ogg"
    ASF = "asf"
    OTHER = "other"  # formats without supported tags: the whole file counts as audio


BLOCK = 2**20  # bytes read at once
_PIECE, _PIECES = 2**16, 16  # of a fingerprint
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_APE_MAGICS = (b"wvpk", b"MAC ", b"MPCK", b"MP+", b"OFR ", b"tBaK")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_JUNK, _FEWEST = 2**16, 8  # bytes in which MPEG audio must begin; minimum number of frames
_KBITS = (  # of MPEG frames: MPEG-1 layers 1, 2 and 3, then MPEG-2 layer 1 and others
    (),
    (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_UNKNOWN_SIZE = 0xFFFFFFFF  # of files written to a pipe
_REMEDY = "Replace the file with an intact copy or remove it"


class _BrokenError(Exception):
    """An invalid size or mark in a file; the text is a clause."""


def kind_of(path: Path) -> Container:
    """Return the structure of a file.

    Raises
    ------
    InputError
        If the file cannot be read, or a leading ID3v2 tag is longer than the file.
    """
    with _opened(path) as (file, size):
        return _kind(file, size)[0]


def audio_ranges(path: Path) -> Ranges:
    """Find the bytes of a file that are audio.

    Editing tags does not change the concatenated bytes of the ranges, but may move them.

    Parameters
    ----------
    path
        Any file; in a format without supported tags it is a single range.

    Returns
    -------
    list of (start, stop) in bytes, in order, none empty.

    Raises
    ------
    InputError
        If the file cannot be read or its structure is broken.
    """
    with _opened(path) as (file, size):
        kind, start = _kind(file, size)
        if kind in {Container.FRAMES, Container.APE}:
            found: Iterable[tuple[int, int]] = [(start, _without_tail(file, start, size))]
        elif kind is Container.OTHER:
            found = [(0, size)]
        else:
            found = _FINDERS[kind](file, start, size)
        return [(first, stop) for first, stop in found if stop > first]


def fingerprint(path: Path) -> bytes:
    """Digest a file's audio quickly: its length and, above 1 MiB, 16 pieces of it.

    Returns
    -------
    bytes (16,): equal for two files of the same audio, and very rarely for others.

    Raises
    ------
    InputError
        If the file cannot be read or its structure is broken.
    """
    ranges = audio_ranges(path)
    ends = list(accumulate(stop - start for start, stop in ranges))
    length = ends[-1] if ends else 0
    digest = blake2b(struct.pack("<Q", length), digest_size=16)
    pieces = [(0, length)]
    if length > BLOCK:
        step = (length - _PIECE) / (_PIECES - 1)
        pieces = [(round(i * step), round(i * step) + _PIECE) for i in range(_PIECES)]
    for first, stop in pieces:
        for block in blocks(path, _clipped(ranges, ends, first, stop)):
            digest.update(block)
    return digest.digest()


def blocks(path: Path, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Read byte ranges of a file in blocks of at most 1 MiB.

    Raises
    ------
    InputError
        If the file cannot be read or ends before a range does.
    """
    with _opened(path) as (file, _):
        for start, stop in ranges:
            file.seek(start)
            left = stop - start
            while left:
                block = file.read(min(left, BLOCK))
                if not block:
                    raise _BrokenError("it has become shorter while it was read")
                left -= len(block)
                yield block


def _clipped(ranges: Ranges, ends: list[int], first: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of the ranges that hold bytes first to stop of the audio."""
    for at in range(bisect_right(ends, first), len(ranges)):
        begin, end = ranges[at]
        offset = ends[at] - (end - begin)  # where in the audio this range begins
        if offset >= stop:
            return
        yield begin + max(first - offset, 0), min(end, begin + stop - offset)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    check_regular(path)  # opening a pipe would block until a writer opens it
    try:
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        cause = f"it cannot be read ({error.strerror or error})"
        raise InputError(path, cause, "Check that it exists and that you may read it") from error
    except (_BrokenError, TagSizeError) as error:
        raise InputError(path, str(error), _REMEDY) from error


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _kind(file: BinaryIO, size: int) -> tuple[Container, int]:
    """Return the structure, and the offset behind leading ID3v2 tags."""
    start = _without_head(file, size)
    head = _read(file, start, 12)
    if head.startswith(b"fLaC"):
        return Container.FLAC, start
    if head.startswith(_APE_MAGICS):
        return Container.APE, start
    if start or head.startswith(b"TTA1") or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        return Container.FRAMES, start
    kind = _kind_untagged(head, _read(file, 0, 16))
    return (Container.FRAMES if kind is Container.OTHER and _has_frames(file, size) else kind), 0


def _has_frames(file: BinaryIO, size: int) -> bool:
    """Return whether a file is MPEG audio from somewhere near its beginning to its very end.

    A file that begins with letters may be another format with such audio inside, which a leading
    tag would break.
    """
    front = _read(file, 0, _JUNK)
    if front[:3].isalnum():
        return False
    stop = _without_tail(file, 0, size)
    for found in re.finditer(rb"\xff[\xe2-\xff]", front):
        head = _read(file, at := found.start(), 4)
        first, count = _mark(head), 0
        while at + 4 <= stop and (length := _frame_length(head)) and _mark(head) == first:
            at, count = at + length, count + 1
            head = _read(file, at, 4)
        if count >= _FEWEST:
            return at + 4 > stop
    return False


def _mark(head: bytes) -> tuple[int, int]:
    """Return what all frames of a file have in common: version and layer, sampling rate."""
    return head[1] & 0xFE, head[2] & 0x0C


def _frame_length(head: bytes) -> int:
    """Return the length of an MPEG frame in bytes by its first four; 0 if they are no header."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, sampling_rate = head[2] >> 4, head[2] >> 2 & 3
    if (
        head[0] != 0xFF
        or head[1] < 0xE0
        or version == 1
        or layer == 4
        or bits in {0, 15}
        or sampling_rate == 3
    ):
        return 0
    kbits = _KBITS[layer if version == 3 else min(layer + 3, 5)][bits]
    hertz = (44100, 48000, 32000)[sampling_rate] >> {3: 0, 2: 1, 0: 2}[version]
    slots = 12 if layer == 1 else 72 if layer == 3 and version != 3 else 144
    return (slots * kbits * 1000 // hertz + (head[2] >> 1 & 1)) * (4 if layer == 1 else 1)


def _kind_untagged(head: bytes, start: bytes) -> Container:
    if head.startswith(b"OggS"):
        return Container.OGG
    if head[:4] in {b"RIFF", b"RF64", b"BW64"} and head[8:] == b"WAVE":
        return Container.WAVE
    if head[:4] == b"FORM" and head[8:] in {b"AIFF", b"AIFC"}:
        return Container.AIFF
    if head[4:8] in _MP4_BOXES:
        return Container.MP4
    return Container.ASF if start == _ASF_HEADER else Container.OTHER


def _without_head(file: BinaryIO, size: int) -> int:
    """Return the offset behind leading ID3v2 tags."""
    at = leading_end(partial(_read, file))
    if at > size:
        raise _BrokenError("its ID3 tag is longer than the file")
    return at


def _without_tail(file: BinaryIO, start: int, stop: int) -> int:
    """Return the offset of the trailing ID3v1, Lyrics3, APEv2 and ID3v2 tags."""
    while size := trailing_size(partial(_read, file), start, stop):
        stop -= size
    return stop


def flac_blocks(path: Path) -> list[tuple[int, int, int]]:
    """Find the metadata blocks of a FLAC file: type, where the body starts and where it stops.

    Raises
    ------
    InputError
        If the file cannot be read or its metadata are cut off.
    """
    with _opened(path) as (file, size):
        return list(_flac_blocks(file, _without_head(file, size), size))


def _flac_blocks(file: BinaryIO, start: int, size: int) -> Iterator[tuple[int, int, int]]:
    at, last = start + 4, False
    while not last:
        head = _read(file, at, 4)
        start = at + 4
        at = start + int.from_bytes(head[1:])
        if len(head) < 4 or at > size:
            raise _BrokenError("its metadata end in the middle")
        last = bool(head[0] & 0x80)
        yield head[0] & 0x7F, start, at


def _flac(file: BinaryIO, start: int, size: int) -> Ranges:
    *_, (_, _, at) = _flac_blocks(file, start, size)
    stop = _without_tail(file, at, size)
    sync = _read(file, at, 2)
    if stop > at and (sync[:1] != b"\xff" or sync[1:2] not in {b"\xf8", b"\xf9"}):
        raise _BrokenError("no audio follows its metadata")
    return [(at, stop)]


def _mp4(file: BinaryIO, _: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        head = _read(file, at, 16)
        if len(head) < 8:
            raise _BrokenError("its last box has no size")
        length, name, body = int.from_bytes(head[:4]), head[4:8], at + 8
        if length == 1:
            length, body = int.from_bytes(head[8:]), at + 16
        stop = size if length == 0 else at + length
        if not body <= stop <= size:
            raise _BrokenError("a box in it has a size that cannot be right")
        if name == b"mdat":
            yield body, stop
        at = stop


def _wave(file: BinaryIO, _: int, size: int) -> Ranges:
    return _bodies(_chunks(file, size, "little"), b"data", size)


def _aiff(file: BinaryIO, _: int, size: int) -> Ranges:
    return _bodies(_chunks(file, size, "big"), b"SSND", size)


def _bodies(chunks: Iterable[tuple[bytes, int, int]], wanted: bytes, size: int) -> Ranges:
    found = [(start, stop) for name, start, stop in chunks if name == wanted]
    if not found:
        raise _BrokenError("it holds no audio")
    if found[-1][1] > size:
        raise _BrokenError("its audio is cut off")
    return found


def _chunks(
    file: BinaryIO, size: int, order: Literal["little", "big"]
) -> Iterator[tuple[bytes, int, int]]:
    """Walk the chunks of RIFF and AIFF: name, where the body starts and where it stops."""
    at, long = 12, 0
    while len(head := _read(file, at, 8)) == 8:
        length = int.from_bytes(head[4:], order)
        if head[:4] == b"ds64":
            long = int.from_bytes(_read(file, at + 16, 8), "little")
        if length == _UNKNOWN_SIZE:
            length = long or size - at - 8
        yield head[:4], at + 8, at + 8 + length
        at += 8 + length + length % 2


def _asf(file: BinaryIO, _: int, size: int) -> Ranges:
    start = int.from_bytes(_read(file, 16, 8), "little")
    if not 30 <= start <= size:
        raise _BrokenError("its header is longer than the file")
    return [(start, size)]


def ogg_streams(path: Path) -> set[int]:
    """Return the serial numbers of all streams in an Ogg file.

    Raises
    ------
    InputError
        If the file cannot be read or its structure is broken.
    """
    with _opened(path) as (file, size):
        return {page.serial for page in _ogg_pages(file, size)}


class _Page(NamedTuple):
    """An Ogg page: fields of its header, and the range of its body."""

    serial: int
    begins: bool
    laces: bytes
    start: int
    stop: int


def _ogg_pages(file: BinaryIO, size: int) -> Iterator[_Page]:
    at = 0
    while at < size:
        head = _read(file, at, 27 + 255)
        if head[:4] != b"OggS" or len(head) < 27 or len(head) < 27 + head[26]:
            raise _BrokenError("a page of it is broken")
        laces = head[27 : 27 + head[26]]
        start = at + 27 + len(laces)
        at = start + sum(laces)
        if at > size:
            raise _BrokenError("its last page is cut off")
        yield _Page(int.from_bytes(head[14:18], "little"), bool(head[5] & 2), laces, start, at)


def _ogg(file: BinaryIO, _: int, size: int) -> Iterator[tuple[int, int]]:
    waiting: dict[int, int] = {}  # header packets still to come, of each stream
    for page in _ogg_pages(file, size):
        start = page.start
        if page.begins or page.serial not in waiting:
            headers = ogg_headers(_read(file, start, min(page.stop - start, 80)))
            if (
                headers or page.serial not in waiting
            ):  # else the mark is wrong, and the stream is not new
                waiting[page.serial] = headers
        left = waiting.get(page.serial, 0)
        for lace in page.laces if left else b"":
            start += lace
            left -= lace < 255  # a packet ends with the first lace below
            if not left:
                break
        waiting[page.serial] = left
        yield start, page.stop


def ogg_headers(first: bytes) -> int:
    """Count the header packets of a stream by its first one."""
    if first.startswith((b"\x01vorbis", b"\x80theora")):
        return 3
    if first.startswith(b"OpusHead"):
        return 2
    if first.startswith(b"Speex   ") and len(first) >= 72:
        return 2 + min(int.from_bytes(first[68:72], "little"), 255)
    if first.startswith(b"\x7fFLAC") and len(first) >= 9:
        return 1 + int.from_bytes(first[7:9])
    return 0


_FINDERS = {
    Container.FLAC: _flac,
    Container.MP4: _mp4,
    Container.WAVE: _wave,
    Container.AIFF: _aiff,
    Container.ASF: _asf,
    Container.OGG: _ogg,
}
