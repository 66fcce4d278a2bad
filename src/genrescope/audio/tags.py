"""Sizes of the tags in front of, behind and between audio: ID3, Lyrics3 and APEv2.

``Read`` gives bytes of a file: from an offset, as many as asked for, fewer at its end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]

HEAD_BYTES = 32
"""Bytes of a tag by which ``head_size`` states its size."""

_MARKS = (b"TAG", b"ID3", b"3DI", b"APETAGEX", b"LYRICSBEGIN")
_MAX_TAGS = 10_000  # in front of audio
_LYRICS_BYTES = 5100 + 20  # maximum of the form that states no size


class TagSizeError(ValueError):
    """A tag of an impossible size, or too many tags; the text is a clause."""


def is_tag(head: bytes) -> bool:
    """Return whether a tag begins with these bytes, of which 16 are enough."""
    return head.startswith(_MARKS)


def head_size(head: bytes) -> int:
    """Return the total size in bytes of an ID3v2 tag or APEv2 tag by its header or footer.

    Parameters
    ----------
    head
        10 bytes of an ID3v2 tag, 32 of an APEv2 tag.

    Returns
    -------
    size
        0 if it is neither.

    Raises
    ------
    TagSizeError
        If it states none that is possible.
    """
    if head.startswith((b"ID3", b"3DI")) and len(head) >= 10:
        digits = head[6:10]
        if max(digits) & 0x80:
            raise TagSizeError("the size of its ID3 tag is not a size")
        body = sum(digit << shift for digit, shift in zip(digits, (21, 14, 7, 0), strict=True))
        return 10 + body + (10 if head[5] & 0x10 and head[3] == 4 else 0)
    if head.startswith(b"APETAGEX") and len(head) >= 24:
        size, _, flags = struct.unpack("<3I", head[12:24])
        if size < 32:
            raise TagSizeError("the size of its APE tag is not a size")
        return int(size) + (32 if flags & 0x80000000 else 0)
    return 0


def leading_end(read: Read) -> int:
    """Return the offset behind leading ID3v2 tags, of which there may be several.

    Raises
    ------
    TagSizeError
        If one states an impossible size, or there are more than 10,000.
    """
    at = 0
    for _ in range(_MAX_TAGS):
        head = read(at, 10)
        if not head.startswith(b"ID3") or len(head) < 10 or head[3] == 0xFF:
            return at
        at += head_size(head)
    raise TagSizeError(f"it begins with more than {_MAX_TAGS:,} ID3 tags")


def trailing_size(read: Read, start: int, stop: int) -> int:
    """Return the size in bytes of the tag that ends at ``stop``; 0 if none does.

    Parameters
    ----------
    read
        Gives bytes.
    start
        No tag begins before it.
    stop
        Where the tag would end.

    Raises
    ------
    TagSizeError
        If it states an impossible size.
    """
    for measure in (_id3v1_size, _lyrics_size, _id3v2_size, _ape_size):
        if size := measure(read, start, stop):
            if size > stop - start:
                raise TagSizeError("a tag behind its audio is longer than the file")
            return size
    return 0


def _id3v1_size(read: Read, start: int, stop: int) -> int:
    if stop - start >= 128 and read(stop - 128, 3) == b"TAG":
        return 0 if stop >= 131 and read(stop - 131, 8) == b"APETAGEX" else 128
    return 227 if stop - start >= 227 and read(stop - 227, 4) == b"TAG+" else 0


def _lyrics_size(read: Read, start: int, stop: int) -> int:
    end = read(stop - 15, 15) if stop - start >= 15 else b""
    if end[6:] == b"LYRICS200" and end[:6].isdigit():
        return int(end[:6]) + 15
    if end[6:] != b"LYRICSEND":
        return 0
    reach = min(_LYRICS_BYTES, stop - start)
    begin = read(stop - reach, reach).rfind(b"LYRICSBEGIN")
    return reach - begin if begin >= 0 else 0


def _id3v2_size(read: Read, start: int, stop: int) -> int:
    foot = read(stop - 10, 10) if stop - start >= 20 else b""
    if foot[:3] != b"3DI" or max(foot[6:]) & 0x80:
        return 0
    size = head_size(foot)
    inside = size <= stop - start and read(stop - size, 3) == b"ID3"
    return size if inside else 0  # three letters alone may be audio


def _ape_size(read: Read, start: int, stop: int) -> int:
    foot = read(stop - 32, 32) if stop - start >= 32 else b""
    return head_size(foot) if foot.startswith(b"APETAGEX") else 0
