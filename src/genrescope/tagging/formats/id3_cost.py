"""The cost of an ID3v2 tag for mutagen, known before it is parsed.

mutagen moves the rest of a tag for each frame, and the rest of a frame for each of its texts, and
inflates compressed frames without a limit: a crafted megabyte would take gigabytes and hours.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress

from mutagen.id3 import error as Id3Error  # noqa: N812

from genrescope.tagging.formats.internals import (
    ID3Header,
    OpaqueFrame,
    determine_bpi,
    undo_unsynchronisation,
)

MAX_COST = 2**34
"""Bytes that may be moved for a tag, which takes some seconds."""

_MAX_INFLATED = 2**24  # bytes of a frame
_EVENTS = frozenset({"SYLT", "SLT", "ETCO", "ETC", "EQU2"})  # of 4 bytes and more each
_LISTS = frozenset({"IPLS", "IPL", "GRP1", "MVNM"})  # of texts, as frames of names with T are
_COMPRESSED = {3: 0x80, 4: 0x08}  # flags of frames, by the tag's version
_UNSYNCHRONISED = 0x02


def check_cost(header: ID3Header, data: bytes) -> None:
    """Refuse a tag that would take too long or too much memory.

    Parameters
    ----------
    header
        Of the tag.
    data
        Its frames and padding, as they are in the file.

    Raises
    ------
    Id3Error
        Which is a MutagenError.
    """
    cost = 0
    for name, flags, body, rest in _frames(header, data):
        cost += rest
        if header.known_frames.get(name) not in {None, OpaqueFrame}:
            plain = _plain(header, flags, body)
            cost += len(plain) * _parts(name, plain)
            if len(plain) > max(_MAX_INFLATED, len(body)):
                cost = MAX_COST + 1
        if cost > MAX_COST:
            raise Id3Error(f"frame {name} would take too long, or too much memory")


def _frames(header: ID3Header, data: bytes) -> Iterator[tuple[str, int, bytes, int]]:
    # Name, flags, body, and the number of bytes from there on, as mutagen finds them.
    version = header.version[1]
    if version < 4 and header.f_unsynch:
        with suppress(ValueError):
            data = undo_unsynchronisation(data)
    size_of = determine_bpi(data, header.known_frames) if version == 4 else int
    letters, length = (3, 6) if version == 2 else (4, 10)
    at = 0
    while at + length <= len(data) and data[at : at + letters].strip(b"\0"):
        name = data[at : at + letters].decode("latin-1").rstrip("\0")
        size = size_of(int.from_bytes(data[at + letters : at + (6 if version == 2 else 8)]))
        flags = int.from_bytes(data[at + 8 : at + length])
        yield name, flags, data[at + length : at + length + size], len(data) - at
        at += length + size


def _parts(name: str, body: bytes) -> int:
    # That are taken from the body one after the other.
    if name in _EVENTS:
        return len(body) // 4
    return body.count(b"\0") if name.startswith("T") or name in _LISTS else 0


def _plain(header: ID3Header, flags: int, body: bytes) -> bytes:
    # Inflated to little more than the limit; with or without a length in front.
    if not flags & _COMPRESSED.get(header.version[1], 0):
        return body
    forms = [body[4:], body]
    if header.version[1] == 4 and (flags & _UNSYNCHRONISED or header.f_unsynch):
        with suppress(ValueError):
            forms = [undo_unsynchronisation(body[4:])]
            forms.append(body[:4] + forms[0])
    for form in forms:
        with suppress(zlib.error):
            return zlib.decompressobj().decompress(form, _MAX_INFLATED + 1)
    return body
