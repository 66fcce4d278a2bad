"""Kill scans, applications and undoings of plans by the hundred, and count what came of it.

    python tools/reliability.py --kills 300 --write docs/reliability.md

Prints a Markdown table, and with ``--write`` puts it between the marks in that page. Ends with code
1 if a file was half written, a row was lost or anything else was not as it should be. What is done
is what ``tests/tagging/test_faults.py`` does by the dozen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import faults_harness as faults
from formats import make_library
from genrescope.tagging.formats import can_write

DECODED = ("mp3-bare", "flac-bare", "ogg-bare", "opus-bare", "m4a-bare", "aac-bare", "wma-bare")
HEAD = """| killed | kills | before the first file | between | after the last | \
right after the kills | then finished by | wrong in the end | s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=500, help="of scan and of apply")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--write", type=Path, help="page whose table is rewritten")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="genrescope-reliability-") as folder:
        tallies = measure(Path(folder), given.kills, given.seed)
    table = "\n".join([HEAD, *(row(name, tally) for name, tally in tallies.items())])
    print(table)
    if given.write is not None:
        rewrite(given.write, table)
    wrong = [f"{name}: {error}" for name, tally in tallies.items() for error in tally.wrong]
    sys.exit("\n".join(wrong) or 0)


def measure(folder: Path, kills: int, seed: int) -> dict[str, faults.Tally]:
    """Kill everything: undo two times for five of the others."""
    made = make_library(folder / "clips", 1.0)
    clips = [path for path in made.values() if can_write(path) is None]
    with faults.Runner(folder / "runs") as runner:
        scanned = faults.ScannedLibrary(
            runner, folder / "decoded", [made[name] for name in DECODED]
        )
        tagged = faults.Tagged(runner, folder / "tagged", clips)
        return {
            "scan": scanned.kill(kills, seed),
            "tag apply": tagged.kill("apply", kills, seed),
            "tag undo": tagged.kill("undo", max(1, kills * 2 // 5), seed),
        }


def row(name: str, tally: faults.Tally) -> str:
    """Give a line of the table."""
    fell = [f"{tally.fell[where]:,}" for where in ("before", "between", "after")]
    kinds = ("kept", "lost") if name == "scan" else ("old", "new", "half")
    what = "rows" if name == "scan" else "files"
    states = f"{what}: " + ", ".join(f"{tally.files[kind]:,} {kind}" for kind in kinds)
    ended = ", ".join(f"{command} {count:,}" for command, count in sorted(tally.ended.items()))
    cells = name, f"{tally.kills:,}", *fell, states, ended, str(len(tally.wrong))
    return f"| {' | '.join(cells)} | {tally.seconds:.0f} |"


def rewrite(page: Path, table: str) -> None:
    """Put the table between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.exit(f"{page}: there is no {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
