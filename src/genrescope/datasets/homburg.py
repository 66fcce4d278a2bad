"""Homburg's data set: a folder for each genre, artist and title in the file names."""

from __future__ import annotations

from pathlib import Path

from genrescope.datasets.facts import load_facts
from genrescope.datasets.findings import list_audio
from genrescope.datasets.published import PublishedRow, assemble, folders
from genrescope.datasets.track import Dataset, Track, spelt_alike

FACTS = load_facts("homburg")


def find(folder: Path) -> Path | None:
    """Return the folder of the genres' folders, by names that hardly anything else has."""
    unusual = FACTS.data["unusual"]
    return next(
        (home for home in folders(folder) if any((home / name).is_dir() for name in unusual)), None
    )


def read(folder: Path, home: Path) -> Dataset:
    """Read it; the artist is what precedes the first hyphen of a file's name."""
    del folder  # all is in its home
    rows: list[PublishedRow] = []
    for genre in FACTS.data["genres"]:
        for path in list_audio(home / genre).audio:
            artist, hyphen, _ = path.stem.partition("-")
            group = spelt_alike(artist.replace("_", " ")) if hyphen else ""
            track = Track(f"{genre}/{path.name}", genre, path, group=group or None)
            rows.append(PublishedRow(track))
    return assemble("homburg", FACTS, home, rows, whole_folder=True)
