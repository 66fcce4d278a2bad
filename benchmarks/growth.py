"""Measure time and memory against the number of tracks and against their length, as figures.

    python benchmarks/growth.py
    python benchmarks/growth.py --most 100000 --hours 3 --figure growth.png --json growth.json

A library's files are hard links to a few different clips, whose audio is analysed once: the walk,
the fingerprints and the catalogue grow. A track of any length is synthetic music, as FLAC; it is
analysed whole by `timeline`, and in a bounded number of windows by `predict`.
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
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import numpy as np
import soundfile
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from library_speed import growth

SAMPLING_RATE = 22050
ANALYSE = """
import re, sys, time
from pathlib import Path
from genrescope.classifier import Classifier
classifier = Classifier.default()
began = time.perf_counter()
getattr(classifier, sys.argv[1])(Path(sys.argv[2]))
seconds = time.perf_counter() - began
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(seconds, int(peak) / 1024)
"""


def main() -> None:
    """Print every figure, draw them, and write them as JSON if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--most", type=int, default=100_000, help="files of the largest library")
    options.add_argument("--hours", type=float, default=3.0, help="length of the longest track")
    options.add_argument("--figure", type=Path, help="PNG file")
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = [count for count in (100, 1000, 10_000, 100_000) if count <= given.most]
        libraries = {count: library(Path(folder, str(count)).resolve(), count) for count in counts}
        lengths = [s for s in (10, 60, 600, 3600, 10_800) if s <= given.hours * 3600]
        tracks = {seconds: analyse(Path(folder), seconds) for seconds in lengths}
    figures = {
        **{
            f"{n} files: {name}": value
            for n, measured in libraries.items()
            for name, value in measured.items()
        },
        **{
            f"{s} s: {name}": value
            for s, measured in tracks.items()
            for name, value in measured.items()
        },
    }
    for label, figure in figures.items():
        print(f"{label:<50} {figure:.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if given.figure:
        draw(libraries, tracks, given.figure)


def library(folder: Path, count: int) -> dict[str, float]:
    """Scan so many files twice."""
    measured = growth(folder, count)
    return {name.partition(": ")[2]: value for name, value in measured.items()}


def analyse(folder: Path, seconds: int) -> dict[str, float]:
    """Analyse one track of this length, whole and by windows, each in its own process."""
    path = folder / "track.flac"
    rng = np.random.default_rng(seconds)
    with soundfile.SoundFile(path, "w", SAMPLING_RATE, 1) as file:
        for start in range(0, seconds, 10):
            at = (
                np.arange(start * SAMPLING_RATE, min(start + 10, seconds) * SAMPLING_RATE)
                / SAMPLING_RATE
            )
            notes = 110 * 2 ** (rng.integers(0, 36, 4) / 12)
            chord = sum(np.sin(2 * np.pi * note * at) for note in notes) / 8
            file.write(chord + (at * 2 % 1 < 0.05) * rng.standard_normal(len(at)) / 4)
    figures = {}
    for what in ("predict", "timeline"):
        line = [sys.executable, "-c", ANALYSE, what, str(path)]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        figures[f"{what}, s"], figures[f"{what}, peak memory, MB"] = map(float, done.stdout.split())
    return figures


def draw(
    libraries: dict[int, dict[str, float]], tracks: dict[int, dict[str, float]], path: Path
) -> None:
    """Draw time and memory, of libraries above and of tracks below."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    rows = (
        (libraries, "files", ("first scan", "second scan")),
        (tracks, "length of the track, s", ("predict", "timeline")),
    )
    for (measured, label, names), (left, right) in zip(rows, axes, strict=True):
        for name in names:
            x = list(measured)
            left.plot(x, [measured[n][f"{name}, s"] for n in x], "o-", label=name)
            right.plot(x, [measured[n][f"{name}, peak memory, MB"] for n in x], "o-", label=name)
        finish(left, label, "time, s")
        left.set_yscale("log")
        finish(right, label, "peak memory, MB")
        right.set_ylim(0, 1.15 * right.get_ylim()[1])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def finish(axes: Axes, x: str, y: str) -> None:
    """Label an axis pair."""
    axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


if __name__ == "__main__":
    main()
