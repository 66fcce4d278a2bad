"""Time what is done with a large library's catalogue, against the same for a tenth of it.

    python benchmarks/library_scale.py
    python benchmarks/library_scale.py --tracks 1000000 --json figures.json

No audio is analysed: predictions and embeddings are random. The files are real, so that tags can be
read: albums of twelve, half of them FLAC and half MP3, of which one in four has a genre; the files
of an album are hard links. Each figure is of a whole command, from start to end.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import mutagen
import numpy as np
import soundfile

from genrescope.classifier import Classifier, Prediction
from genrescope.library.catalogue import Catalogue, CatalogueEntry
from library_speed import command

ALBUM, ARTIST = 12, 36  # tracks
GENRES = ("Rock", "Jazz", "Reggae", "Techno", "Folk")


def main() -> None:
    """Print every figure, and write them as JSON if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tracks", type=int, default=100_000, help="of the larger library")
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for tracks in (given.tracks // 10, given.tracks):
            figures |= measure(Path(folder, str(tracks)).resolve(), tracks)
    for name, value in figures.items():
        print(f"{name:56s} {value:10.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(place: Path, tracks: int) -> dict[str, float]:
    """Make a library and run the commands on it, in an owner's order."""
    music, db = place / "music", place / "library.db"
    width = make(music, db, tracks)
    moved = place / "moved"
    names: dict[str, tuple[object, ...]] = {
        "library list": ("library", "list", "--db", db),
        "export": ("export", music, "--format", "csv", "--out", place / "genres.csv", "--db", db),
        "tag plan": (
            *("tag", "plan", music, "--break-hard-links", "--db", db),
            *("--out", place / "plan.csv", "--min-confidence", 0.5),
        ),
        "learn": ("learn", music, "--db", db, "--out", place / "model"),
        "library move": (
            *("library", "move", music, moved, "--db", db),
            *("--journal", place / "journal.db"),
        ),
        "library forget": ("library", "forget", moved, "--yes", "--db", db),
    }
    figures = {"catalogue, bytes a track": db.stat().st_size / tracks}
    for name, words in names.items():
        if name == "library move":
            music.rename(moved)
        figures[f"{name}, s"], figures[f"{name}, peak memory, MB"] = command(*words)
    figures["embeddings, MB"] = 2 * width * tracks / 2**20
    figures["catalogue after forgetting, MB"] = db.stat().st_size / 2**20
    return {f"{tracks} tracks: {name}": value for name, value in figures.items()}


def make(music: Path, db: Path, tracks: int) -> int:
    """Write files and a catalogue of them; give the width of an embedding."""
    classifier, rng = Classifier.default(), np.random.default_rng(0)
    points = rng.standard_normal((len(GENRES), classifier.embedding_width))
    with Catalogue(db, write=True) as catalogue:
        model, walk = catalogue.model(classifier), catalogue.begin_walk()
        for start in range(0, tracks, ALBUM):
            own = make_album(music, start, min(ALBUM, tracks - start))
            stats = [(path.name, path.stat()) for path in sorted(own.iterdir())]
            entries = [CatalogueEntry(name, s.st_size, s.st_mtime_ns) for name, s in stats]
            catalogue.see(str(own), entries, walk)
        catalogue.register(str(music))
        for file in catalogue.waiting(str(music), model):
            kind = int(file.path.parent.name.split()[-1]) // ALBUM % len(GENRES)
            row = 0.1 * points[kind] + rng.standard_normal(len(points[kind]))
            shares = rng.dirichlet(np.full(len(classifier.genres), 0.15))
            order = np.argsort(-shares)
            likely = {classifier.genres[i]: float(shares[i]) for i in order}
            best = classifier.genres[order[0]]
            found = Prediction(best, likely[best], likely[best] < 0.6, likely, {})
            result = found, row.astype(np.float16)
            catalogue.save(file.row, file.path.stat(), rng.bytes(16), model, result)
            catalogue.commit(now=False)
    return classifier.embedding_width


def make_album(music: Path, start: int, count: int) -> Path:
    """Write an album: a short silent file, tagged, and links to it."""
    number = start // ALBUM
    artist, genre = f"an artist {start // ARTIST}", GENRES[number % len(GENRES)]
    own = music / artist / f"album {start}"
    own.mkdir(parents=True)
    ending = ("flac", "mp3")[number % 2]
    first = own / f"00 a song of usual length.{ending}"
    soundfile.write(first, np.zeros(8000), 8000)
    file = mutagen.File(first, easy=True)
    if file.tags is None:
        file.add_tags()
    file["artist"], file["album"] = [artist], [f"album {start}"]
    if number % 4 == 0:
        file["genre"] = [genre]
    file.save()
    for i in range(1, count):
        os.link(first, own / f"{i:02d} a song of usual length.{ending}")
    return own


if __name__ == "__main__":
    main()
