"""The genre contest of ISMIR 2004: Magnatune's tracks in six classes, in three published parts.

A part's ``tracklist.csv`` has no header: class, artist, album, title, number and path of each
track, and in ``evaluation`` Magnatune's number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from genrescope.datasets.facts import load_facts
from genrescope.datasets.published import Part, PublishedRow, assemble, folders
from genrescope.datasets.track import Dataset, Track, spelt_alike
from genrescope.errors import InputError
from genrescope.table import open_table

FACTS = load_facts("ismir2004")

_PARTS: dict[str, Part] = {"training": "train", "development": "valid", "evaluation": "test"}
_ANONYMOUS = "development"
_CELLS = 6
_REMEDY = "Unpack the data set's metadata again"


def find(folder: Path) -> Path | None:
    """Return the folder with ``metadata`` and ``audio``; None if it is not there."""
    return next((f for f in folders(folder, 1) if _table(f, "training").is_file()), None)


def read(folder: Path, home: Path) -> Dataset:
    """Read all parts whose lists are there."""
    del folder  # all is in its home
    rows = [row for name in _PARTS if _table(home, name).is_file() for row in _rows(home, name)]
    return assemble("ismir2004", FACTS, home / "metadata", rows)


def _table(root: Path, name: str) -> Path:
    return root / "metadata" / name / "tracklist.csv"


def _rows(root: Path, name: str) -> Iterator[PublishedRow]:
    path = _table(root, name)
    table = open_table(path, remedy=_REMEDY)
    for line, cells in [(1, list(table.header)), *table.rows()]:
        if len(cells) < _CELLS:
            raise InputError(path, f"line {line} has {len(cells)} cells, not {_CELLS}", _REMEDY)
        label, artist, _, _, _, place = (cell.strip() for cell in cells[:_CELLS])
        genre = FACTS.data["classes"].get(label, label)
        inside = PurePosixPath(place.replace("\\", "/"))
        anonymous = name == _ANONYMOUS
        group = f"{name} {artist}" if anonymous else spelt_alike(artist.replace("_", " "))
        audio = root / "audio" / name / inside
        track = Track(f"{name}/{inside}", genre, audio, group=group or None)
        yield PublishedRow(track, _PARTS[name], artist_known=not anonymous)
