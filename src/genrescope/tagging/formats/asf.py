"""ASF, which WMA files are: attributes in several objects of the header."""

# mypy: disable-error-code="no-untyped-call"
# Most of mutagen has no annotations.

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from mutagen.asf import ASF

# Private: the kinds of objects in the header (ASF._header), and the bytes of an attribute
# (ASFBaseAttribute._render), to show that nothing but the genre changes.
from mutagen.asf._objects import (
    ContentDescriptionObject,
    ExtendedContentDescriptionObject,
    HeaderExtensionObject,
    MetadataLibraryObject,
    MetadataObject,
    PaddingObject,
)

from genrescope.audio.ranges import Container
from genrescope.tagging.formats.common import digest, words
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot

_GENRE = "WM/Genre"
_TAGS = {  # objects that hold nothing but tags and padding, or other objects
    ContentDescriptionObject.GUID,
    ExtendedContentDescriptionObject.GUID,
    HeaderExtensionObject.GUID,
    MetadataLibraryObject.GUID,
    MetadataObject.GUID,
    PaddingObject.GUID,
}


def _read(path: Path) -> list[str]:
    tags = ASF(path).tags or ()
    return words([str(value) for name, value in tags if name == _GENRE])


def _refusal(path: Path) -> str | None:
    ASF(path)
    return None


def _write(path: Path, genres: list[str]) -> None:
    file: Any = ASF(path)
    file.tags[_GENRE] = genres
    file.save()


def _others(path: Path) -> Snapshot:
    file: Any = ASF(path)
    found: Snapshot = defaultdict(list)
    for name, value in file.tags:
        if name != _GENRE:
            marks = f"{value.TYPE} {value.language or 0} {value.stream or 0}"
            found[f"{name} {marks}"].append(digest(value._render()))
    extension = [inner for outer in file._header.objects for inner in outer.objects]
    for part in (*file._header.objects, *extension):
        if part.GUID not in _TAGS:
            found[f"ASF {part.GUID.hex()}"].append(digest(part.data))
    return dict(found)


FORMATS[Container.ASF] = Format(_read, _refusal, _write, _others)
