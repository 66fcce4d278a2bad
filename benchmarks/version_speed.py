"""Time a clip, a song and a scan at each quality against version 0.1.0, in one run.

    python benchmarks/version_speed.py --data /path/to/gtzan

Version 0.1.0 is taken from this repository's history and run by the same Python. Clip and song are
classified on one core, in processor time; a scan is of songs of four minutes, with every core.
Songs are made of whole clips of `--data`, as MP3.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
FIRST = "9965c23"  # the commit of version 0.1.0
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
CLIPS_A_SONG = 8
CHILD = """
import sys, time, genrescope
quality, rounds, *paths = sys.argv[1:]
classifier = genrescope.load(**({"quality": quality} if quality else {}))
for path in paths:
    classifier.predict(path)
    began = time.process_time()
    for _ in range(int(rounds)):
        classifier.predict(path)
    print((time.process_time() - began) / int(rounds))
"""
VERSIONS = (("0.1.0", ""), ("fast", "fast"), ("standard", "standard"), ("best", "best"))


def main() -> None:
    """Print all figures; optionally write them as JSON."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="GTZAN with whole clips")
    options.add_argument("--songs", type=int, default=24, help="of the scan")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    from genrescope.datasets.open import open_dataset

    tracks = open_dataset(given.data).tracks
    clips = [t.audio for t in tracks if t.audio and t.audio_variant == "full"]
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        packed = subprocess.run(
            ["git", "-C", ROOT, "archive", FIRST, "src"],  # noqa: S607
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(first, filter="data")
        library = Path(folder) / "library"
        library.mkdir()
        for number in range(given.songs):
            write_song(library / f"{number}.mp3", clips, number)
        clip, song = str(clips[0]), str(library / "0.mp3")
        took: dict[tuple[str, str], list[float]] = {}
        for _ in range(given.turns):
            for name, quality in VERSIONS:
                source = (ROOT if quality else first) / "src"
                for what, seconds in zip(
                    ("clip", "song"), classify(source, quality, clip, song), strict=True
                ):
                    took.setdefault((name, what), []).append(seconds)
        for (name, what), turns in took.items():
            figures[f"{name}: {what}, s"] = statistics.median(turns)
        for name, quality in VERSIONS[:3]:
            source = (ROOT if quality else first) / "src"
            wall = scan(source, quality, library, Path(folder) / f"{name}.db")
            figures[f"{name}: scan, songs a second"] = given.songs / wall
    for name, _ in VERSIONS[1:]:
        for what in ("clip", "song"):
            figures[f"{what}: {name} / 0.1.0"] = (
                figures[f"{name}: {what}, s"] / figures[f"0.1.0: {what}, s"]
            )
    for name in ("fast", "standard"):
        figures[f"scan: {name} / 0.1.0"] = (
            figures[f"{name}: scan, songs a second"] / figures["0.1.0: scan, songs a second"]
        )
    for label, figure in figures.items():
        print(f"{label:<40} {figure:.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def write_song(path: Path, clips: list[Path], number: int) -> None:
    """Write some clips, one after the other, as a stereo MP3 of 44.1 kHz."""
    chosen = np.random.default_rng(number).choice(len(clips), CLIPS_A_SONG, replace=False)
    samples = np.concatenate([soundfile.read(clips[i])[0] for i in chosen])
    twice = np.repeat(samples, 2)  # 22,050 to 44,100 Hz; how good it sounds does not matter
    soundfile.write(path, np.stack([twice, twice], axis=1), 44100, format="MP3")


def classify(source: Path, quality: str, *paths: str) -> list[float]:
    """Seconds of processor time for each file."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, quality, "5", *paths],
        env={**os.environ, **SINGLE, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    return list(map(float, done.stdout.split()))


def scan(source: Path, quality: str, library: Path, catalogue: Path) -> float:
    """Seconds of a first scan."""
    words = ["scan", str(library), "--db", str(catalogue)]
    words += ["--quality", quality] if quality else []
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "genrescope", *words],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
