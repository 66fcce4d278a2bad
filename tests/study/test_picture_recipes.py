"""The recipes on second-order pooling and block-level features, from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import commands
from genrescope.datasets import demo

pytestmark = pytest.mark.slow

RECIPES = ("second-order", "picture-second-order", "block-level", "picture")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    demo.make(folder / "demo", tracks_per_style=8, seconds=6.0)
    done = commands.run(
        *("study", "--data", folder / "demo", "--recipes", ",".join(RECIPES)),
        *(
            "--protocols",
            "random",
            "--seeds",
            1,
            "--jobs",
            1,
            "--out",
            "out",
            "--cache-dir",
            "kept",
        ),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("recipe", RECIPES)
def test_they_learn_the_demos_styles(recipe: str, studied: Path) -> None:
    with (studied / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["recipe"] == recipe]
    assert float(row["accuracy"]) > 0.5  # of ten styles


@pytest.mark.parametrize("recipe", RECIPES)
def test_their_models_classify_audio(recipe: str, studied: Path) -> None:
    clip = next((studied / "demo").rglob("*.flac"))
    done = commands.run(
        "classify", "--model", f"out/models/{recipe}-random", "--jsonl", clip, cwd=studied
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert sum(score["score"] for score in scores) == pytest.approx(1, abs=1e-5)
