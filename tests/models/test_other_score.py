"""The score for "none of these genres"."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from genrescope.models.classical import Temperature, fit_estimator
from genrescope.models.normalise import make_normaliser
from genrescope.models.other import OtherScore
from genrescope.representations import make_representation
from genrescope.training.export import export

COLUMNS = 57  # of descriptors
MEANS = 4 * np.random.default_rng(0).normal(size=(3, COLUMNS))

Rows = NDArray[np.float32]
Score = Callable[[Rows], NDArray[np.float32]]


def tracks(genres: NDArray[np.float64], each: int, seed: int = 1) -> tuple[Rows, NDArray[np.int64]]:
    """Rows around the genres' means."""
    labels = np.arange(each * len(genres)) % len(genres)
    spread = np.random.default_rng(seed).normal(size=(len(labels), COLUMNS))
    return (genres[labels] + spread).astype(np.float32), labels.astype(np.int64)


def scorer(module: nn.Module) -> Score:
    """The module on arrays, without gradients."""

    def score(rows: Rows) -> NDArray[np.float32]:
        with torch.no_grad():
            return module(torch.from_numpy(rows)).numpy()

    return score


@pytest.fixture(scope="module")
def score() -> Score:
    return scorer(OtherScore(*tracks(MEANS, 40)))


def test_what_is_of_another_genre_or_of_nothing_known_scores_more(score: Score) -> None:
    known = score(tracks(MEANS, 40, seed=2)[0])
    another = score(tracks(4 * np.random.default_rng(3).normal(size=(1, COLUMNS)), 40)[0])
    nothing = score(tracks(np.full((1, COLUMNS), 30.0), 40)[0])
    assert known.max() < another.min() < another.max() < nothing.min()


def test_between_the_genres_is_near_none_of_them(score: Score) -> None:
    """Where only the distance from the centre of all would score least."""
    known = score(tracks(MEANS, 40, seed=2)[0])
    between = score(tracks(MEANS.mean(axis=0, keepdims=True), 40)[0])
    assert between.min() > known.max()


def test_it_grows_away_from_all_tracks(score: Score) -> None:
    rows, _ = tracks(MEANS, 10, seed=4)
    centre = rows.mean(axis=0)
    steps = [score(centre + factor * (rows - centre)) for factor in (2, 4, 8, 100, 1e4)]
    assert all((more > less).all() for less, more in pairwise(steps))


@settings(deadline=None)
@given(
    arrays(
        np.float32,
        (3, COLUMNS),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_it_is_finite_for_all_finite_rows(score: Score, rows: Rows) -> None:
    assert np.isfinite(score(rows)).all()


@pytest.mark.parametrize("each", [1, 2])
def test_few_tracks_are_enough(each: int) -> None:
    rows, labels = tracks(MEANS[:2], each)
    score = scorer(OtherScore(rows, labels))
    assert np.isfinite(score(rows)).all()
    assert score(rows).max() < score(rows + 10).min()


def test_tracks_that_are_all_the_same_are_enough() -> None:
    rows, labels = np.ones((4, COLUMNS), dtype=np.float32), np.array([0, 0, 1, 1])
    assert np.isfinite(scorer(OtherScore(rows, labels))(rows * 3)).all()


def test_labels_are_any_numbers() -> None:
    """As where a genre has no tracks."""
    rows, labels = tracks(MEANS, 20)
    found = scorer(OtherScore(rows, 2 * labels + 1))(rows)
    np.testing.assert_array_equal(found, scorer(OtherScore(rows, labels))(rows))


@pytest.mark.parametrize("name", ["none", "signed-log", "standardise", "l2-rows"])
def test_an_exported_model_has_it_as_a_second_output(name: str, tmp_path: Path) -> None:
    rows, labels = tracks(MEANS, 40)
    layers = [make_normaliser(name, torch.from_numpy(rows)) for _ in range(2)]
    scaled = layers[0](torch.from_numpy(rows)).numpy()
    head = fit_estimator("lda", scaled, labels, 3, 0, {})
    other = nn.Sequential(layers[1], OtherScore(scaled, labels)).eval()
    descriptors, genres = make_representation("descriptors"), ["a", "b", "c"]
    found = {}
    for temperature in (1.0, 4.0):
        folder = tmp_path / str(temperature)
        network = nn.Sequential(layers[0], head, Temperature(temperature)).eval()
        export(folder, network, descriptors, genres, {}, other=other, other_above=1.5)
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        assert [output.name for output in session.get_outputs()] == ["logits", "other"]
        found[temperature] = session.run(["logits", "other"], {"input": rows[:7]})
        assert '"other_above": 1.5' in (folder / "config.json").read_text()
        kept = load_file(folder / "model.safetensors")
        assert {name for name in kept if name.startswith("other.")} == {
            f"other.{name}" for name in other.state_dict()
        }
    np.testing.assert_allclose(found[1.0][1], scorer(other)(rows[:7]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1.0][0], 4 * found[4.0][0], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[1.0][1], found[4.0][1])  # calibration leaves it alone
