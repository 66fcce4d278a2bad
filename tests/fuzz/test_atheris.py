"""Every target runs guided by coverage, too, and a crash would be reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from targets import TARGETS

TOOL = Path(__file__).parents[2] / "tools" / "fuzz.py"

pytestmark = pytest.mark.slow
pytest.importorskip("atheris", reason="atheris is not installed (it is not for every platform)")


def fuzz(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=folder
    )


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_seconds_find_nothing(name: str, tmp_path: Path) -> None:
    done = fuzz(tmp_path, name, "-max_total_time=4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_target_is_reported_which_there_are(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "nothing")
    assert done.returncode == 1
    assert "There are: recipe, study" in done.stderr
