"""Run the benchmarks one after the other, and hold what they print against what we aim at.

    python benchmarks/bench.py --data /path/to/gtzan
    python benchmarks/bench.py --data /path/to/gtzan --only startup_speed pictures_speed
    python benchmarks/bench.py --data /path/to/gtzan --write docs/performance.md

Each keeps its figures in `build/bench/`; those of benchmarks that are left out are taken from
there. Without --data, the benchmarks that need real clips are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / "build" / "bench"
FIGURE = HERE.parent / "docs" / "images" / "growth.png"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


@dataclass(frozen=True)
class Aim:
    """Something that we aim at.

    Attributes
    ----------
    of
        The benchmark.
    figure
        Its name there; of two, the first divided by the second.
    what
        For people.
    least, most
        Between which it should lie.
    unit
        Behind the figure.
    """

    of: str
    figure: str | tuple[str, str]
    what: str
    least: float = 0.0
    most: float = float("inf")
    unit: str = "×"


AIMS = (
    Aim("descriptors_speed", "57 descriptors: librosa / ours", "57 descriptors / librosa's", 10),
    Aim(
        "descriptors_speed",
        "57 descriptors: largest relative difference",
        "how far they are apart",
        most=1e-3,
        unit="relative",
    ),
    Aim(
        "pictures_speed",
        "mel picture: librosa and matplotlib / ours",
        "mel picture / librosa and matplotlib",
        5,
    ),
    Aim(
        "classify_speed",
        "log-mel: ours / its FFTs alone",
        "log-mel spectrogram, time / its FFTs'",
        most=1.5,
    ),
    Aim(
        "training_speed", "original-mlp: plain / one fit a core", "epoch of original-mlp / plain", 3
    ),
    Aim(
        "training_speed",
        "original-mlp: losses of the first steps apart",
        "original-mlp: losses apart",
        most=1e-4,
        unit="",
    ),
    Aim(
        "training_speed", "original-cnn: plain / one fit a core", "epoch of original-cnn / plain", 3
    ),
    Aim(
        "training_speed",
        "original-cnn: losses of the first steps apart",
        "original-cnn: losses apart",
        most=1e-4,
        unit="",
    ),
    Aim("classify_speed", "30 s clip: times real time", "30 s clip, one core / real time", 100),
    Aim("classify_speed", "4 min MP3: times real time", "4 min MP3, one core / real time", 100),
    Aim("version_speed", "clip: standard / 0.1.0", "30 s clip, time / 0.1.0's", most=3),
    Aim("version_speed", "song: standard / 0.1.0", "4 min song, time / 0.1.0's", most=2),
    Aim("version_speed", "song: fast / 0.1.0", "the same, --quality fast", most=0.5),
    Aim("version_speed", "scan: standard / 0.1.0", "scan, songs a second / 0.1.0's", 0.5),
    Aim("version_speed", "scan: fast / 0.1.0", "the same, --quality fast", 2),
    Aim(
        "encoder_speed",
        "transformers pipeline / default classifier",
        "30 s clip / transformers pipeline (wav2vec2-base)",
        10,
    ),
    Aim(
        "growth",
        ("100000 files: first scan, s", "10000 files: first scan, s"),
        "scan of 100,000 files, time / of 10,000",
        most=12,
    ),
    Aim(
        "growth",
        ("100000 files: first scan, peak memory, MB", "1000 files: first scan, peak memory, MB"),
        "scan of 100,000 files, memory / of 1,000",
        most=1.25,
    ),
    Aim(
        "growth",
        ("10800 s: timeline, s", "3600 s: timeline, s"),
        "timeline of 3 h, time / of 1 h",
        most=3.6,
    ),
    Aim(
        "growth",
        ("10800 s: timeline, peak memory, MB", "3600 s: timeline, peak memory, MB"),
        "timeline of 3 h, memory / of 1 h",
        most=1.25,
    ),
    Aim(
        "encoder_memory",
        "original-wav2vec2: ours, peak MB",
        "step of original-wav2vec2 on 8 clips of 30 s, memory",
        most=5000,
        unit="MB",
    ),
    Aim("startup_speed", "genrescope --help, s", "`genrescope --help`", most=0.3, unit="s"),
    Aim("startup_speed", "genrescope classify CLIP, s", "`classify` of one clip", most=1, unit="s"),
    Aim("page_speed", "first paint, s", "page at 1.6 Mbit/s: first paint", most=1, unit="s"),
    Aim("page_speed", "ready, s", "page at 1.6 Mbit/s: ready", most=2, unit="s"),
    Aim("page_speed", "before the first answer, kB", "before an answer", most=300, unit="kB"),
    Aim(
        "page_speed",
        ("100000 tracks: search, ms", "10000 tracks: search, ms"),
        "page: search among 100,000 tracks, time / 10,000",
        most=10,
    ),
    Aim(
        "page_speed",
        ("100000 tracks: sort, ms", "10000 tracks: sort, ms"),
        "page: sort 100,000 tracks, time / 10,000",
        most=12,
    ),
)

WITHOUT_DATA = {
    "startup_speed": [],
    "page_speed": [],
    "encoder_memory": [],
    "growth": ["--figure", str(FIGURE)],
}
WITH_DATA: dict[str, list[str]] = {
    "descriptors_speed": [],
    "pictures_speed": [],
    "classify_speed": [],
    "training_speed": [],
    "encoder_speed": [],
}


def main() -> None:
    """Run, print the table, write it into a page if asked to.

    Ends with 1 if an aim is missed or a benchmark fails; the others are run all the same.
    """
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, help="GTZAN with whole clips, table and pictures")
    options.add_argument("--only", nargs="+", choices=[*WITHOUT_DATA, *WITH_DATA], metavar="NAME")
    options.add_argument("--write", type=Path, help="page whose measured part is replaced")
    given = options.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    all_ = {**WITHOUT_DATA, **(WITH_DATA if given.data else {})}
    failed = []
    for name, words in all_.items():
        if given.only and name not in given.only:
            continue
        data = ["--data", str(given.data)] if name in WITH_DATA else []
        print(f"{name} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        line = [sys.executable, str(HERE / f"{name}.py"), *data, *words]
        with (KEPT / f"{name}.txt").open("w", encoding="utf-8") as log:
            kept = str(KEPT / f"{name}.json")
            done = subprocess.run([*line, "--json", kept], check=False, stdout=log)
        if done.returncode:
            failed.append(name)
            print(f"{name} failed, as is printed above; its figures are older", file=sys.stderr)
            continue
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    lines = table()
    print("\n".join(lines))
    if given.write:
        page = given.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        middle = "\n".join([BEGIN, machine(), "", *lines, END])
        given.write.write_text(f"{before}{middle}{after}", encoding="utf-8")
    sys.exit(bool(failed) or any("| no |" in line for line in lines))


def table() -> list[str]:
    """Every aim whose benchmark has been run: what is aimed at, what was reached."""
    lines = ["| | aim | reached | met |", "| --- | --- | --- | --- |"]
    for aim in AIMS:
        kept = KEPT / f"{aim.of}.json"
        figures = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        names = (aim.figure,) if isinstance(aim.figure, str) else aim.figure
        wanted = f"≥ {aim.least:g}" if aim.least else f"≤ {aim.most:g}"
        if not all(name in figures for name in names):
            lines.append(f"| {aim.what} | {wanted} {aim.unit} | not run | |")
            continue
        first, *second = (figures[name] for name in names)
        value = first / second[0] if second else first
        met = "yes" if aim.least <= value <= aim.most else "no"
        lines.append(f"| {aim.what} | {wanted} {aim.unit} | {value:.3g} {aim.unit} | {met} |")
    return lines


def machine() -> str:
    """On what it was measured."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        fields = dict(
            line.split(":", 1)
            for line in info.read_text(encoding="utf-8").splitlines()
            if ":" in line
        )
        names = {key.strip(): value.strip() for key, value in fields.items()}
        flags = set(names.get("flags", "").split())
        widest = next((f for f in ("avx512f", "avx2", "sse4_2") if f in flags), "no SIMD known")
        model = f"{names.get('model name', model)} ({widest}), {os.cpu_count()} cores"
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "torch"))
    return f"Measured on {model}; Python {platform.python_version()}, {versions}."


if __name__ == "__main__":
    main()
