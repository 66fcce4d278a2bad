"""Putting recipes together without touching the test."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrescope.datasets.splits import Split
from genrescope.study.cell import PREDICTIONS, CellTask
from genrescope.study.ensemble import ensemble_task, fit_weights, pool, run_ensemble
from genrescope.training.recipe import Ensemble, load_recipe

GENRES = ("a", "b", "c")
PAIR = Ensemble(name="pair", of=("svm", "knn"))


def shares(right: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Probabilities that give ``sure`` to the right genre and share out the rest."""
    found = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1)
    found[np.arange(len(right)), right] = sure
    return found.astype(np.float32)


def noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1, 1, 1], count).astype(np.float32)


LABELS = np.arange(60) % 3


def test_who_knows_is_believed() -> None:
    knows, guesses = shares(LABELS, np.full(60, 0.8)), noise(60, 0)
    found = fit_weights(np.stack([knows, guesses]), LABELS)
    assert found[0] > 0.6  # equal weights would be 0.5
    assert found[1] < 0.4


def test_the_contrary_is_not_listened_to() -> None:
    knows, wrong = shares(LABELS, np.full(60, 0.7)), shares((LABELS + 1) % 3, np.full(60, 0.9))
    found = fit_weights(np.stack([knows, wrong]), LABELS)
    assert found[1] < 0.1
    assert found[0] > 0.5


def test_alike_are_weighted_alike() -> None:
    knows = shares(LABELS, np.full(60, 0.6))
    found = fit_weights(np.stack([knows, knows, knows]), LABELS)
    np.testing.assert_allclose(found, found[0], rtol=1e-3)


@given(seed=st.integers(0, 99), weights=st.none() | st.tuples(*[st.floats(0, 3)] * 2))
def test_pooled_are_probabilities(seed: int, weights: tuple[float, float] | None) -> None:
    both = np.stack([noise(5, seed), noise(5, seed + 1)])
    given_weights = None if weights is None else np.array(weights)
    pooled = pool(both, given_weights)
    assert pooled.shape == (5, 3)
    np.testing.assert_allclose(pooled.sum(axis=1), 1, rtol=1e-5)
    if weights is None:
        np.testing.assert_allclose(pooled, both.mean(axis=0), rtol=1e-6)


def test_certainty_of_nothing_spoils_no_pool() -> None:
    certain = np.array([[[1, 0, 0]], [[0, 1, 0]]], dtype=np.float32)
    assert np.isfinite(pool(certain, np.array([1.0, 1.0]))).all()


def task(folder: Path, name: str, ids: tuple[str, ...], splits: tuple[Split, ...]) -> CellTask:
    made = CellTask(
        key=f"{name} · report · seed 0",
        recipe=load_recipe(name),
        protocol="random",
        seed=0,
        splits=splits,
        packed=folder / "none.npy",
        ids=ids,
        labels=tuple(int(i[1:]) % 3 for i in ids),
        groups=tuple(range(len(ids))),
        genres=GENRES,
        dataset="invented",
        recipe_hash=load_recipe(name).hash,
        data_checksum=name,
        folder=folder / "runs" / f"{name}-{load_recipe(name).hash}" / "random" / "seed-0",
        model_folder=None,
        threads=1,
    )
    for number in range(len(splits)):
        kept = made.folder / f"fold-{number}"
        kept.mkdir(parents=True)
        rows = [np.array([int(ids[i][1:]) for i in part]) for part in made.index(number)]
        np.savez(
            kept / "fold.npz",
            # Each row states whose it is, so that a wrong order would show.
            valid=shares(rows[1] % 3, 0.4 + rows[1] / 1000),
            test=shares(rows[2] % 3, 0.4 + rows[2] / 1000),
            segment_accuracy=np.nan,
        )
    return made


@pytest.fixture
def members(tmp_path: Path) -> list[CellTask]:
    ids = tuple(f"t{n}" for n in range(60))
    halves = (ids[:20], ids[20:40], ids[40:])
    splits = tuple(Split(halves[i - 2], halves[i - 1], halves[i]) for i in range(3))
    some = tuple(reversed(ids[5:]))  # fewer tracks, and in another order
    return [task(tmp_path, "svm", ids, splits), task(tmp_path, "knn", some, splits)]


def test_tracks_are_those_that_all_have_and_rows_stay_with_them(members: list[CellTask]) -> None:
    own = ensemble_task(PAIR, members)
    assert own.ids == tuple(f"t{n}" for n in range(5, 60))
    assert run_ensemble(PAIR.model_copy(update={"pool": "average"}), own, members) is None
    lines = (own.folder / PREDICTIONS).read_text().splitlines()[1:]
    assert len(lines) == 55
    for line in lines:
        track, _, genre, predicted, *scores = line.split(",")
        assert genre == predicted
        assert max(map(float, scores)) == pytest.approx(0.4 + int(track[1:]) / 1000, abs=1e-5)


def test_weights_stand_in_the_result_and_know_nothing_of_the_test(
    members: list[CellTask],
) -> None:
    own = ensemble_task(PAIR, members)
    run_ensemble(PAIR, own, members)
    before = json.loads((own.folder / "result.json").read_text())
    assert set(before["weights"]) == {"svm", "knn"}
    assert before["recipe"] == "pair"
    for member in members:  # other test rows, the same validation rows
        for path in member.folder.glob("*/fold.npz"):
            with np.load(path) as kept:
                content = dict(kept)
            content["test"] = content["test"][:, ::-1]
            np.savez(path, **content)
    run_ensemble(PAIR, own, members)
    after = json.loads((own.folder / "result.json").read_text())
    assert after["weights"] == before["weights"]
    assert after["accuracy"] < before["accuracy"] == 1


def test_nothing_in_common_is_reported(members: list[CellTask]) -> None:
    apart = replace(members[1], ids=("elsewhere",), labels=(0,))
    own = ensemble_task(PAIR, [members[0], apart])
    assert "none of the test tracks" in str(run_ensemble(PAIR, own, [members[0], apart]))


def test_other_members_are_another_ensemble(members: list[CellTask]) -> None:
    one = ensemble_task(PAIR, members)
    other = ensemble_task(PAIR, [members[0], replace(members[1], recipe_hash="0" * 12)])
    assert one.recipe_hash != other.recipe_hash
    assert one.folder != other.folder
