"""Write a clip as all that ffmpeg writes, damage it, and say what comes of it.

    python tools/sweep.py --write docs/reliability.md

Prints a Markdown table, and with ``--write`` puts it between the marks in that page.
``tests/audio/test_sweep.py`` does the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import av

import sweep_harness as sweeping


def main() -> None:
    """Sweep and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", type=Path, help="page whose table is rewritten")
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="genrescope-sweep-") as folder:
        swept = sweeping.sweep(Path(folder), workers=given.workers)
    text = f"{heading(swept)}\n\n{sweeping.table(swept)}"
    print(text)
    for combination, reason in swept.unwritten.items():
        print(f"not written: {combination}: {reason}", file=sys.stderr)
    if given.write is not None:
        before, _, after = sweeping.parts_of(given.write)
        page = f"{before}{sweeping.BEGIN}\n{text}\n{sweeping.END}{after}"
        given.write.write_text(page, encoding="utf-8")


def heading(swept: sweeping.Sweep) -> str:
    """Say what was done, and count what came of it."""
    counts = "; ".join(
        f"{state}: "
        + ", ".join(
            f"{sum(found[state].kind == kind for found in swept.outcomes.values())} {words}"
            for kind, words in (
                ("answered", "answered"),
                ("warning", "with a warning"),
                ("refused", "refused"),
            )
        )
        for state in sweeping.STATES
    )
    return (
        f"{len(swept.outcomes)} combinations, written by {sweeping.version()}, read with PyAV "
        f"{av.__version__}. {counts[0].upper()}{counts[1:]}."
    )


if __name__ == "__main__":
    main()
