"""The tool that shows how ranks change with the protocol reads a study's files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ranks.py"
SUMMARY = """recipe,protocol,scope,accuracy_mean,accuracy_sd
a,grouped,all,0.5,0.01
b,grouped,all,0.6,0.01
c,grouped,all,0.4,
a,kfold,all,0.9,0.02
b,kfold,all,0.7,0.01
c,kfold,all,0.6,0.01
a,kfold,audio,0.1,0.01
"""


def test_ranks_and_their_correlation_are_printed(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_text(SUMMARY)
    (tmp_path / "results.csv").write_text("recipe,protocol,seed\na,kfold,0\na,grouped,0\n")
    for protocol, twin, seed in (
        ("kfold", "disco", 0),
        ("grouped", "rock", 0),
        ("kfold", "pop", 1),
    ):
        folder = tmp_path / "runs" / "a-0123456789ab" / protocol / f"seed-{seed}"
        folder.mkdir(parents=True)
        rows = [f"disco.00098,0,disco,{twin}", "rock.00016,0,rock,rock", "pop.00001,0,pop,rock"]
        (folder / "predictions.csv").write_text("\n".join(["id,fold,genre,predicted", *rows]))
    done = subprocess.run(
        [sys.executable, TOOL, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "| model | `kfold` | `grouped` |",
        "| --- | --- | --- |",
        "| `a` | 0.900 ± 0.020 (1) | 0.500 ± 0.010 (2) |",
        "| `b` | 0.700 ± 0.010 (2) | 0.600 ± 0.010 (1) |",
        "| `c` | 0.600 ± 0.010 (3) | 0.400 (3) |",
        "| rank correlation | 1.00 | 0.33 |",
        "",
        "| model | protocol | with a twin | others |",
        "| --- | --- | --- | --- |",
        "| `a` | `grouped` | 0.000 | 0.500 |",
        "| `a` | `kfold` | 1.000 | 0.500 |",
    ]
