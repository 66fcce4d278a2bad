"""The Free Music Archive's data set in its four sizes: top genre, artist and published split.

``tracks.csv`` has three header lines: the kind of each column (track, album, artist, set), its
name, and ``track_id``. It is read line by line, as it has a quarter of a gigabyte.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from genrescope.datasets.facts import load_facts
from genrescope.datasets.published import (
    Part,
    PublishedRow,
    assemble,
    several_genres,
)
from genrescope.datasets.track import Dataset, Track
from genrescope.errors import InputError
from genrescope.files import unreadable
from genrescope.io import CsvReader

FACTS = load_facts("fma")
TABLE = Path("fma_metadata", "tracks.csv")
SIZES = ("small", "medium", "large", "full")
"""Each holds the one before it; the last has whole tracks, the others clips of 30 s."""

_PARTS: dict[str, Part] = {"training": "train", "validation": "valid", "test": "test"}
_COLUMNS = (
    ("track", "genre_top"), ("artist", "id"), ("set", "split"), ("set", "subset"),
)  # fmt: skip
_ID = re.compile("[0-9]{1,9}")
_REMEDY = "Unpack fma_metadata.zip again"


def find(folder: Path) -> Path | None:
    """Return the folder with ``fma_metadata`` and the audio: this one, or the one that holds it."""
    homes = [folder, *([folder.parent] if folder.name in map(_audio, SIZES) else [])]
    return next((home for home in homes if (home / TABLE).is_file()), None)


def read(folder: Path, home: Path) -> Dataset:
    """Read the largest size whose audio is there; given ``fma_small`` itself, that one."""
    sizes = [size for size in SIZES if (home / _audio(size)).is_dir()]
    if home != folder:
        sizes = [size for size in SIZES if _audio(size) == folder.name]
    if not sizes:
        cause = f"none of the folders {', '.join(map(_audio, SIZES))} is beside {TABLE.parent}"
        raise InputError(home, cause, f"Unpack one of them there, from {FACTS.url}")
    size = sizes[-1]
    rows: list[PublishedRow] = []
    several = 0
    for number, genre, artist, split, subset in _table(home / TABLE):
        if subset not in SIZES[: SIZES.index(size) + 1] and size != "full":
            continue
        if not genre:
            several += 1
            continue
        track = f"{int(number):06d}"
        path = home / _audio(size) / track[:3] / f"{track}.mp3"
        fault = FACTS.data["faults"].get(track) if size != "full" else None
        faults = (fault,) if fault else ()
        group = f"artist {artist}" if artist else None
        known = Track(track, genre, path, group=group, faults=faults)
        rows.append(PublishedRow(known, _PARTS.get(split)))
    left = several_genres(home / TABLE, several, several + len(rows), "top genres")
    return assemble(f"fma_{size}", FACTS, home / TABLE, rows, left)


def _audio(size: str) -> str:
    return f"fma_{size}"


def _table(path: Path) -> Iterator[tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = CsvReader(file)
            kinds, names, _ = next(reader, []), next(reader, []), next(reader, [])
            columns = list(zip(kinds, names, strict=False))
            if missing := [" ".join(column) for column in _COLUMNS if column not in columns]:
                raise InputError(path, f"columns missing: {', '.join(missing)}", _REMEDY)
            places = [0, *map(columns.index, _COLUMNS)]
            for cells in reader:
                if len(cells) <= max(places) or not _ID.fullmatch(cells[0]):
                    cause = f"line {reader.line_num} is not a track of {len(columns)} cells"
                    raise InputError(path, cause, _REMEDY)
                yield tuple(cells[place].strip() for place in places)
    except OSError as error:
        raise unreadable(path, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"it is not CSV text in UTF-8 ({error})", _REMEDY) from error
