"""MTG-Jamendo's genre subset: tracks with exactly one genre, and its first published split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from genrescope.datasets.facts import load_facts
from genrescope.datasets.published import (
    Part,
    PublishedRow,
    assemble,
    folders,
    several_genres,
)
from genrescope.datasets.track import Dataset, Track
from genrescope.errors import InputError
from genrescope.files import is_file
from genrescope.table import open_table

FACTS = load_facts("jamendo")
TABLE = "autotagging_genre.tsv"

_SPLIT = Path("splits", "split-0")
_PARTS: dict[Part, str] = {"train": "train", "valid": "validation", "test": "test"}
_HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
_GENRE = "genre---"
_PATH = re.compile(r"[\w/-]+\.mp3")
_REMEDY = "Get it again from the data set's repository"


def find(folder: Path) -> Path | None:
    """Return the folder with the tables, the repository's ``data``; None if it is not there."""
    return next((home for home in folders(folder) if (home / TABLE).is_file()), None)


def read(folder: Path, home: Path) -> Dataset:
    """Read the tracks with exactly one genre tag; the others are a finding.

    Audio may be in any folder up to two levels below, as ``14/214.mp3`` or ``14/214.low.mp3``.
    """
    parts = {
        cells[0]: part
        for part, name in _PARTS.items()
        for cells in _rows(home / _SPLIT / f"autotagging_genre-{name}.tsv")
    }
    listed = list(_rows(home / TABLE))
    place, suffix = _audio(folder, [cells[3] for cells in listed])
    rows: list[PublishedRow] = []
    for track, artist, _, path, _, *tags in listed:
        genres = [tag.removeprefix(_GENRE) for tag in tags if tag.startswith(_GENRE)]
        if len(genres) == 1:
            audio = (place / path).with_suffix(suffix)
            only = Track(track, genres[0], audio, group=artist)
            rows.append(PublishedRow(only, parts.get(track)))
    left = several_genres(home / TABLE, len(listed) - len(rows), len(listed))
    return assemble("mtg-jamendo", FACTS, home / TABLE, rows, left)


def _rows(path: Path) -> Iterator[list[str]]:
    table = open_table(path, remedy=_REMEDY, known=_HEADER.__contains__)
    if table.header != _HEADER:
        raise InputError(path, f"its header is not {' '.join(_HEADER)}", _REMEDY)
    for line, cells in table.rows():
        if len(cells) < len(_HEADER) or not _PATH.fullmatch(cells[3]):
            raise InputError(path, f"line {line} is not a track with path and tags", _REMEDY)
        yield cells


def _audio(folder: Path, paths: Sequence[str]) -> tuple[Path, str]:
    """Find the folder that holds the files, by the first that is there, and their ending."""
    names = {path.partition("/")[0] for path in paths}
    for home in folders(folder):
        here = {name for name in names if (home / name).is_dir()}
        for path in paths if here else ():
            if path.partition("/")[0] in here:
                for suffix in (".mp3", ".low.mp3"):
                    if is_file((home / path).with_suffix(suffix)):
                        return home, suffix
    return folder, ".mp3"
