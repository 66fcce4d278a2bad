"""ASF (WMA): attributes in several objects of the header."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from mutagen.asf import ASF

from genrescope.audio.ranges import Container
from genrescope.tagging.formats.common import digest, words
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot
from genrescope.tagging.formats.internals import ASF_TAG_OBJECTS, asf_attribute, asf_objects

_GENRE = "WM/Genre"


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
            found[f"{name} {marks}"].append(digest(asf_attribute(value)))
    for part in asf_objects(file):
        if part.GUID not in ASF_TAG_OBJECTS:
            found[f"ASF {part.GUID.hex()}"].append(digest(part.data))
    return dict(found)


FORMATS[Container.ASF] = Format(_read, _refusal, _write, _others)
