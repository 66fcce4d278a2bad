"""Time a library's scan and its tagging, each against a stated baseline, in one run.

    python benchmarks/library_speed.py
    python benchmarks/library_speed.py --links 100000 --json figures.json

The music is synthetic (chords, beats, noise), as MP3: songs of 4 minutes and clips of 30 s, each
different. Growth is measured on hard links to a few clips, whose audio is analysed once, and the
search for similar tracks on random embeddings.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from genrescope import sample
from genrescope.audio import excerpts
from genrescope.audio.ranges import fingerprint
from genrescope.classifier import Classifier
from genrescope.library import scan
from genrescope.library.catalogue import Catalogue, CatalogueEntry
from genrescope.library.similar import Library
from genrescope.tagging.apply import apply_plan, register_plan, undo_plan
from genrescope.tagging.journal import Journal
from genrescope.tagging.plan import make_plan, open_plan, write_plan
from genrescope.tagging.policy import Existing, Policy
from genrescope.taxonomy import load_taxonomy
from genrescope.workers import parallel_map

SAMPLING_RATE = 44100


def main() -> None:
    """Print every figure, and write them as JSON beside the pretty ones if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--songs", type=int, default=60, help="of 4 minutes")
    options.add_argument("--clips", type=int, default=120, help="of 30 s")
    options.add_argument("--links", type=int, default=10_000, help="files of the largest library")
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    figures: dict[str, float] = {"cores": os.cpu_count() or 1}
    with tempfile.TemporaryDirectory() as folder:
        for kind, count, seconds in (("songs", given.songs, 240), ("clips", given.clips, 30)):
            music = make(Path(folder, kind).resolve(), count, seconds)
            figures |= {f"{kind}: {name}": value for name, value in throughput(music).items()}
            figures |= {f"{kind}: {name}": value for name, value in tagging(music).items()}
        for number in (given.links // 10, given.links):
            figures |= growth(Path(folder, f"links-{number}").resolve(), number)
            figures |= search(Path(folder, f"{number}.db"), number)
    for name, value in figures.items():
        print(f"{name:58s} {value:10.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def make(folder: Path, count: int, seconds: int) -> Path:
    """Write different pieces of what sounds a little like music."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write, folder, seconds), range(count)))
    return folder


def write(folder: Path, seconds: int, number: int) -> None:
    """Write one piece, which its length and number determine."""
    rng = np.random.default_rng((seconds, number))
    at = np.arange(seconds * SAMPLING_RATE) / SAMPLING_RATE
    notes = 110 * 2 ** (rng.integers(0, 36, 4) / 12)
    chord = sum(np.sin(2 * np.pi * note * at) for note in notes) / 8
    beat = (at * rng.uniform(1, 3) % 1 < 0.05) * rng.standard_normal(len(at)) / 4
    both = np.stack([chord + beat, chord - beat], axis=1)
    soundfile.write(folder / f"{number:03d}.mp3", both.astype(np.float32), SAMPLING_RATE)


def seconds_of(job: Callable[[], Any]) -> float:
    """Wall-clock seconds of one run."""
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def throughput(music: Path) -> dict[str, float]:
    """Scan a library, compared with one `classify` per file and with decoding alone."""
    files = sorted(music.iterdir())
    classifier = Classifier.default()
    representation = classifier.representation
    decode = partial(
        excerpts,
        sampling_rate=representation.sampling_rate,
        span_s=3,
        max_spans=getattr(representation, "windows", 40),
    )
    list(parallel_map(classifier.predict, files[:4]))  # to warm up
    with ProcessPoolExecutor() as pool:  # as a scan of many files does it
        list(pool.map(decode, files[:4]))
        decoding = seconds_of(lambda: list(pool.map(decode, files)))
    one_core = seconds_of(lambda: [classifier.predict(path) for path in files])
    marks = seconds_of(lambda: [fingerprint(path) for path in files])
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "library.db"
        cold = seconds_of(partial(command, "scan", music, "--db", db))
        again = seconds_of(partial(command, "scan", music, "--db", db))
        with Catalogue(Path(folder) / "inside.db", write=True) as catalogue:
            hot = seconds_of(lambda: scan_library(catalogue, classifier, music))
    some = files[:8]
    single = seconds_of(lambda: [command("classify", path) for path in some]) / len(some)
    count = len(files)
    return {
        "scan, tracks/s": count / hot,
        "scan as a command, from start to end, tracks/s": count / cold,
        "decoding alone, tracks/s": count / decoding,
        "scan / decoding alone, in time": hot / decoding,
        "predict on one core, tracks/s": count / one_core,
        "speed-up by all cores": one_core / hot,
        "one classify after the other, tracks/s": 1 / single,
        "classify one by one / scan as a command, in time": single * count / cold,
        "second scan, s": again,
        "fingerprint, ms a file": 1000 * marks / count,
    }


def scan_library(catalogue: Catalogue, classifier: Classifier, music: Path) -> None:
    """Scan as the command does."""
    scan.survey(catalogue, music)
    for outcome in scan.analyse(catalogue, classifier, music):
        assert outcome.result is not None


def tagging(music: Path) -> dict[str, float]:
    """Plan, apply and undo, against a plain copy of the same files."""
    count = sum(1 for _ in music.iterdir())
    with tempfile.TemporaryDirectory(dir=music.parent) as folder:
        place = Path(folder)
        copy = seconds_of(
            lambda: [(place / p.name).write_bytes(p.read_bytes()) for p in files(music)]
        )
        with Catalogue(place / "library.db", write=True) as catalogue:
            scan.survey(catalogue, music)
            list(scan.analyse(catalogue, Classifier.default(), music))
            policy = Policy(Existing.REPLACE, min_confidence=0.0)
            steps = make_plan(catalogue, music, load_taxonomy(), policy)
            plan = place / "plan.csv"
            planning = seconds_of(lambda: write_plan(plan, music, steps))
        with Journal(place / "journal.db") as journal:
            entry = register_plan(journal, open_plan(plan))
            applying = seconds_of(lambda: list(apply_plan(journal, entry)))
            undoing = seconds_of(lambda: list(undo_plan(journal, entry)))
            assert journal.plans()[0].counts == {"undone": count}
    return {
        "plan, files/s": count / planning,
        "apply, files/s": count / applying,
        "undo, files/s": count / undoing,
        "apply / a plain copy, in time": applying / copy,
    }


def files(folder: Path) -> list[Path]:
    """Give the files of a folder."""
    return sorted(folder.iterdir())


def growth(library: Path, number: int) -> dict[str, float]:
    """Scan many files whose audio is the same, twice; time, memory and size of the catalogue."""
    sources = files(make(library / "source", 4, 10))  # a file has at most 65,000 links on ext4
    for i in range(number // 100):
        album = library / f"an artist with a name {i // 10}" / f"album {i % 10}"
        album.mkdir(parents=True)
        for track in range(100):
            os.link(sources[track % 4], album / f"{track:02d} a song of usual length {i}.mp3")
    db = library.parent / f"{library.name}.db"
    first, again = (command("scan", library, "--db", db) for _ in range(2))
    similar = command("similar", sources[0], "--library", library, "--db", db)
    return {
        f"{number} files: first scan, s": first[0],
        f"{number} files: first scan, peak memory, MB": first[1],
        f"{number} files: second scan, s": again[0],
        f"{number} files: second scan, peak memory, MB": again[1],
        f"{number} files: similar after it, s": similar[0],
        f"{number} files: similar after it, peak memory, MB": similar[1],
        f"{number} files: catalogue, bytes a track": db.stat().st_size / number,
    }


def search(db: Path, number: int) -> dict[str, float]:
    """Find the nearest of many tracks with random embeddings."""
    classifier, music, rng = Classifier.default(), Path("/music"), np.random.default_rng(0)
    result = classifier.predict(sample())
    with Catalogue(db, write=True) as catalogue:
        model, walk = catalogue.model(classifier), catalogue.begin_walk()
        for first in range(0, number, 10):
            entries = [
                CatalogueEntry(f"{track} a song of usual length.mp3", 1, 1) for track in range(10)
            ]
            catalogue.see(
                str(music / f"an artist {first // 100}" / f"album {first}"), entries, walk
            )
        for file in catalogue.waiting(str(music), model):
            embedding = rng.standard_normal(classifier.embedding_width).astype(np.float16)
            catalogue.save(file.row, None, rng.bytes(16), model, (result, embedding))
    with Catalogue(db) as catalogue:
        libraries: list[Library] = []
        loading = seconds_of(lambda: libraries.append(Library(catalogue, classifier, music)))
        finding = seconds_of(lambda: libraries[0].near(embedding))
    return {
        f"{number} tracks: load the embeddings, s": loading,
        f"{number} tracks: find the nearest to one, s": finding,
        f"{number} tracks: catalogue, bytes a track": db.stat().st_size / number,
    }


RUN = """
import sys, time
from pathlib import Path
began = time.perf_counter()
sys.argv[0] = "genrescope"
from genrescope.cli.app import main
code = 0
try:
    main()
except SystemExit as ended:
    code = ended.code
status = Path("/proc/self/status")  # getrusage also counts the process that started this one
peak = int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024 if status.exists() else 0
print(time.perf_counter() - began, peak, code or 0)
"""


def command(*words: object) -> tuple[float, float]:
    """Run a command; give its seconds and its peak memory in MB."""
    line = [sys.executable, "-c", RUN, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    seconds, peak, code = done.stdout.split()[-3:]
    assert code == "0", done.stderr
    return float(seconds), float(peak)


if __name__ == "__main__":
    main()
