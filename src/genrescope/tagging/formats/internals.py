"""Everything that the formats use of mutagen beyond its documented interface.

The documented classes parse frames, items and attributes and write them anew; carrying them over as
unchanged bytes needs the level below. pyproject.toml caps the version of mutagen, and
tests/tagging/test_internals.py fails where a name or its behaviour has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mutagen._util import resize_bytes
from mutagen.aiff import _IFFID3 as AiffId3  # noqa: N811
from mutagen.apev2 import _APEv2Data as ApeData
from mutagen.asf._objects import (
    ContentDescriptionObject,
    ExtendedContentDescriptionObject,
    HeaderExtensionObject,
    MetadataLibraryObject,
    MetadataObject,
    PaddingObject,
)
from mutagen.id3 import ID3
from mutagen.id3._tags import ID3Header, ID3Tags, determine_bpi
from mutagen.id3._util import unsynch
from mutagen.mp4 import MP4Tags
from mutagen.mp4._atom import Atoms
from mutagen.wave import _WaveFile as WaveFile
from mutagen.wave import _WaveID3 as WaveId3

__all__ = [
    "ASF_TAG_OBJECTS",
    "AiffId3",
    "ApeData",
    "Atoms",
    "ID3Header",
    "OpaqueFrame",
    "WaveFile",
    "WaveId3",
    "asf_attribute",
    "asf_objects",
    "check_before_parsing",
    "determine_bpi",
    "id3_flags",
    "id3_padding",
    "resize_bytes",
    "undo_unsynchronisation",
    "unparsed_atoms",
]

ASF_TAG_OBJECTS = frozenset(
    kind.GUID
    for kind in (
        ContentDescriptionObject,
        ExtendedContentDescriptionObject,
        HeaderExtensionObject,
        MetadataLibraryObject,
        MetadataObject,
        PaddingObject,
    )
)
"""GUIDs of the ASF header objects that hold tags, padding or other objects."""


class OpaqueFrame:
    """Stands in for every class of ID3 frames, so that mutagen keeps the frames as bytes."""

    @staticmethod
    def _fromData(*_: object) -> None:  # noqa: N802
        raise NotImplementedError  # makes mutagen list the frame among the unknown ones


def check_before_parsing(check: Callable[[ID3Header, bytes], None]) -> None:
    """Have every ID3v2 tag checked, by what may raise an error, before mutagen parses its frames.

    All of mutagen's classes do so, as most of them open a tag by a class that cannot be given.
    """
    parse = ID3Tags._read

    def read(tags: ID3Tags, header: ID3Header, data: bytes) -> bytes:
        check(header, data)
        return bytes(parse(tags, header, data))

    ID3Tags._read = read  # type: ignore[method-assign]


def id3_flags(tags: ID3) -> int:
    """Return the flags byte of a tag's header; 0 without a header."""
    return int(tags._header._flags) if tags._header else 0


def id3_padding(tags: ID3) -> int:
    """Return the number of bytes between the last frame and the end of the tag."""
    return int(tags._padding)


def undo_unsynchronisation(data: bytes) -> bytes:
    """Decode ID3's unsynchronisation scheme; ValueError if the data is not encoded so."""
    return bytes(unsynch.decode(data))


def asf_objects(file: Any) -> list[Any]:
    """Return the objects of an ASF file's header, and the objects inside them."""
    outer = file._header.objects
    return [*outer, *(inner for one in outer for inner in one.objects)]


def asf_attribute(value: Any) -> bytes:
    """Return the bytes of an ASF attribute's value."""
    return bytes(value._render())


def unparsed_atoms(tags: MP4Tags) -> dict[str, list[bytes]]:
    """Return the atoms, by name, that mutagen writes back as the bytes that they were."""
    atoms: dict[str, list[bytes]] = tags._failed_atoms
    return atoms
