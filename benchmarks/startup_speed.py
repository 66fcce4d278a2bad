"""Time how long a command takes from start to end, against Python's own start, in one run.

python benchmarks/startup_speed.py
python benchmarks/startup_speed.py --python /path/to/a/base/install/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import genrescope


def main() -> None:
    """Print every figure, and write them as JSON beside the pretty ones if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--python", type=Path, default=Path(sys.executable))
    options.add_argument("--times", type=int, default=15)
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    clip = str(genrescope.sample())
    commands = {
        "python -c pass": ["-c", "pass"],
        "genrescope --help": ["-m", "genrescope", "--help"],
        "genrescope classify CLIP": ["-m", "genrescope", "classify", clip],
    }
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(given.times + 1):
        for name, words in commands.items():
            began = time.perf_counter()
            subprocess.run([given.python, *words], check=True, capture_output=True, env=environment)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    figures = {f"{name}, s": statistics.median(taken) for name, taken in seconds.items()}
    for name, value in figures.items():
        print(f"{name:40s} {value:8.3f}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
