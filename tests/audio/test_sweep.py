"""Every container and codec that FFmpeg's program writes, whole, damaged, cut off and joined."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sweep_harness as sweeping
from sweep_harness import BEFORE, BEHIND, CUT, JOINED, PLAIN, STATES, ZEROS, Combination, Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("sweep"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg"),
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def swept(folder: Path) -> sweeping.Sweep:
    return sweeping.sweep(folder)


def wrong(combination: Combination, found: dict[str, Outcome]) -> list[str]:
    """Say what is not as is promised."""
    plain = found[PLAIN].seconds
    slack, unread = sweeping.AGREE_S, str(combination) in sweeping.UNREAD
    checks: dict[str, dict[str, bool]] = {state: {} for state in STATES}
    for state, outcome in found.items():
        checks[state]["neither crashes nor hangs"] = (
            not outcome.cause.startswith(sweeping.FAILED) and outcome.took_s < sweeping.SLOW_S
        )
        said = outcome.kind != "answered" or (
            state == ZEROS and str(combination) in sweeping.UNTIMED
        )
        least = {CUT: 0.48 * plain, JOINED: 2 * plain - slack}.get(state, plain - slack)
        checks[state]["nothing is lost unsaid"] = said or outcome.seconds >= least
    checks[PLAIN]["is answered"] = unread == (found[PLAIN].kind == "refused")
    if not unread:
        outcome = found[PLAIN]
        checks[PLAIN]["has no warning"] = not outcome.warnings
        checks[PLAIN]["has its length"] = abs(outcome.seconds - sweeping.SECONDS) < 0.2
        checks[PLAIN]["has its level"] = 0.09 < outcome.level < 0.2
        checks[BEHIND]["is answered"] = found[
            BEHIND
        ].kind != "refused" or combination.encoder.startswith("pcm_f")
        checks[CUT]["is said"] = found[CUT].kind != "answered" or combination.muxer in (
            sweeping.CANNOT_KNOW
        )
        for state in (PLAIN, JOINED):
            outcome = found[state]
            checks[state]["is as long for all who read it"] = outcome.kind == "refused" or all(
                other is not None and abs(other - outcome.seconds) <= slack
                for other in outcome.others
            )
    return [
        f"{combination}, {state}: not true that it {what} ({found[state]})"
        for state, about in checks.items()
        for what, holds in about.items()
        if not holds
    ]


def test_nothing_crashes_hangs_or_is_halved_unsaid(swept: sweeping.Sweep) -> None:
    found = [line for pair in swept.outcomes.items() for line in wrong(*pair)]
    assert not found, "\n".join(found)


def test_at_least_sixty_combinations_are_written(swept: sweeping.Sweep) -> None:
    assert len(swept.outcomes) >= 60, swept.unwritten


def test_each_state_changes_the_bytes() -> None:
    content = bytes(range(1, 256)) * 100
    made = {state: sweeping.in_state(content, state) for state in STATES}
    assert len(set(made.values())) == len(STATES)
    assert made[PLAIN] == content
    assert len(made[JOINED]) == 2 * len(content)
    assert made[BEFORE].endswith(content)
    assert made[ZEROS].count(0) == 4096


def test_the_table_in_the_docs_is_what_comes_out(swept: sweeping.Sweep) -> None:
    _, table, _ = sweeping.parts_of(PAGE)
    shown = sweeping.read_table(table)
    assert len(shown) >= 60
    if sweeping.version() not in table:
        pytest.skip("the table was made with another ffmpeg")
    now = sweeping.read_table(sweeping.table(swept))
    assert set(now) == set(shown)
    for name, cells in now.items():
        for state, cell, expected in zip(STATES, cells, shown[name], strict=True):
            assert sweeping.same(cell, expected), (name, state, cell, expected)


def test_the_command_line_answers_all_of_them(swept: sweeping.Sweep, folder: Path) -> None:
    paths = {
        str(folder / str(swept.numbers[combination]) / f"plain.{combination.ending}"): combination
        for combination in swept.outcomes
    }
    command = [sys.executable, "-m", "genrescope", "classify", "--jsonl", "--workers", "2", *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == list(paths)
    for line in lines:
        unread = str(paths[line["path"]]) in sweeping.UNREAD
        assert ("error" in line) is unread, line
        assert not line.get("warnings"), line
    assert "Traceback" not in done.stderr
