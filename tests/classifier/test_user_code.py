"""A page of a user's code: it runs, and its types are right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import user_code

import genrescope

SOURCE = Path(genrescope.__file__).parents[1]


def test_it_runs(tmp_path: Path) -> None:
    music = tmp_path / "music"
    (music / "album").mkdir(parents=True)
    for name in genrescope.SAMPLES[1:]:
        shutil.copy(genrescope.sample(name), music / "album")
    models = user_code.open_models(tmp_path / "model")
    assert len(models) == 8
    assert len({str(user_code.classify(model)) for model in (models[0], models[-1])}) == 1
    genres = user_code.classify_library(models[0], music)
    assert list(genres) == ["pulse.mp3", "shuffle.mp3", "lament.mp3"]


@pytest.mark.slow
def test_mypy_is_strict_with_it(tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    shutil.copy(user_code.__file__, tmp_path / "user_code.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "user_code.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
