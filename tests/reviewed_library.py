"""A library of small clips in every format, with genres that the model is sure of."""

from __future__ import annotations

import shutil
import sqlite3
from hashlib import sha256
from pathlib import Path

import numpy as np

import formats
import genrescope
from genrescope.library import scan
from genrescope.library.catalogue import Catalogue
from genrescope.library.similar import Library

SURE = ("blues", "metal", "jazz")


def make(folder: Path, *, seconds: float = 1.0) -> tuple[Path, Path]:
    """Make the library's folder and a catalogue of it; two albums and files in no folder."""
    root = folder / "Music & <b>more"
    made = formats.make_library(root, seconds)
    shutil.rmtree(root / "plain")
    for i, path in enumerate(sorted(made.values())):
        album = root / ("Album one", "Second/Disc 1", "")[i % 3]
        album.mkdir(parents=True, exist_ok=True)
        path.rename(album / path.name)
    (root / "broken.mp3").write_bytes(b"ID3\4\0\0" + bytes(500))
    catalogue = folder / "library.db"
    analyse(root, catalogue)
    return root, catalogue


def analyse(root: Path, catalogue: Path) -> None:
    """Scan a folder, and let every track be sure of a genre: chords by themselves are of none."""
    classifier = genrescope.load()
    with Catalogue(catalogue, write=True) as opened:
        scan.survey(opened, root)
        for _ in scan.analyse(opened, classifier, root, 1):
            pass
    genres = list(classifier.genres)
    with sqlite3.connect(catalogue) as connection:
        for row, mark in connection.execute(
            "SELECT id, fingerprint FROM tracks WHERE error IS NULL"
        ).fetchall():
            # By the audio, as the prediction is: copies of it have the same.
            genre = genres.index(SURE[sum(mark or b"") % len(SURE)])
            shares = np.full(len(genres), 0.01, dtype="<f2")
            shares[genre] = 0.9
            connection.execute(
                "UPDATE tracks SET other = 0, genre = ?, confidence = 0.9, probabilities = ? "
                "WHERE id = ?",
                (genre, shares.tobytes(), row),
            )
    connection.close()


def opened(root: Path, catalogue: Path) -> Library:
    """Open the library as `genrescope serve` does."""
    with Catalogue(catalogue) as found:
        return Library(found, genrescope.load(), root)


def digests(root: Path) -> dict[str, tuple[str, int]]:
    """Give the digest and the time of change of every file below a folder."""
    return {
        path.relative_to(root).as_posix(): (
            sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
