"""A classifier of one's own: how it was measured, what leaks, and when it is unsure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from genrescope.classifier import Classifier
from genrescope.datasets.track import Dataset, Track
from genrescope.study.config import StudyConfig
from genrescope.study.run import Options, run_study
from genrescope.study.train import Trained, train_classifier
from genrescope.training.recipe import load_recipe
from silent import Silent

Artist = Callable[[int], str | None]
GENRES = ("fado", "polka", "ska")


def unknown(_: int) -> None: ...


def tracks(each: int, artist: Artist, apart: float = 1.0, seed: int = 0) -> Dataset:
    """Tracks of three genres with the published rows of descriptors, and no audio."""
    rng = np.random.default_rng(seed)
    made = []
    for number, genre in enumerate(GENRES):
        rows = rng.normal(size=(each, 57))
        rows[:, number] += apart * rng.uniform(0, 4, size=each)
        made += [
            Track(f"{genre}.{i:03}", genre, descriptors=tuple(row), group=artist(i))
            for i, row in enumerate(rows.tolist())
        ]
    return Dataset("my-music", tuple(made))


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[Trained, dict[str, Any], str]]:
    def run(
        dataset: Dataset, recipe: str = "svm", *, other: bool = False
    ) -> tuple[Trained, dict[str, Any], str]:
        options = Options(jobs=1, store=tmp_path / "store", trainer_flags={"devices": 1})
        chosen = load_recipe({"extends": recipe, "search": {}, "other": other})
        trained = train_classifier(chosen, dataset, tmp_path / "mine", options, Silent())
        config = json.loads((tmp_path / "mine" / "config.json").read_text())
        return trained, config, (tmp_path / "mine" / "README.md").read_text()

    return run


@pytest.mark.parametrize(
    ("each", "artist", "protocol", "short", "why"),
    [
        (12, lambda i: f"artist {i}", "grouped", None, None),
        (12, unknown, "kfold", "the figure may leak", "no artists are known"),
        (12, lambda i: "A" if i else "B", "kfold", "the figure leaks", "too few artists"),
        (
            12,
            lambda i: f"artist {i}" if i < 6 else None,
            "grouped",
            "the figure may leak",
            "18 of 36",
        ),
    ],
)
def test_a_figure_that_leaks_says_so_and_why(
    train: Any, each: int, artist: Artist, protocol: str, short: str | None, why: str | None
) -> None:
    trained, config, card = train(tracks(each, artist))
    assert trained.row.protocol == protocol
    assert f"| protocol | `{protocol}`" in card
    if short is None:
        assert trained.leaks is config["trained"]["leaks"] is None
        assert "leak" not in card
        return
    assert trained.leaks.lower().startswith(f"{short}: ")
    assert why in trained.leaks
    assert f"test tracks; {short} |" in card
    assert f"**{trained.leaks}**" in card


def test_the_card_is_the_models_own(train: Any) -> None:
    _, config, card = train(tracks(12, lambda i: f"artist {i}"))
    assert "\n# mine\n" in card
    assert "A classifier of 3 genres, trained on 36 tracks of my-music" in card
    assert load_recipe("svm").about not in card
    about = config["trained"]
    weakest = min(about["recall"], key=about["recall"].get)
    assert f"Weakest: {weakest} {about['recall'][weakest]:.2f} (of 12 tracks)" in card


@pytest.mark.parametrize("recipe", ["svm", "knn", "logistic-regression"])
def test_what_is_unsure_is_set_by_tracks_that_were_held_back(train: Any, recipe: str) -> None:
    trained, config, card = train(tracks(40, lambda i: f"artist {i}", apart=0.7), recipe)
    found = config["trained"]["unsure"]
    assert found["count"] == trained.row.n_test == 120
    assert 1 / 3 < config["unsure_below"] == found["below"] < 0.9
    shares = [found["unsure"], found["count"] - found["unsure"]]
    right = (shares[0] * (found["right_unsure"] or 0) + shares[1] * found["right_sure"]) / 120
    assert right == pytest.approx(trained.row.accuracy)
    assert found["right_sure"] > 0.5 > (found["right_unsure"] or 0)
    assert (
        f"less confidence than {found['below']:g} is marked unsure: of 120 held-out tracks" in card
    )


def other_scores(folder: Path, dataset: Dataset) -> np.ndarray:
    """The second output of a model, float32 (tracks,)."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    rows = np.array([track.descriptors for track in dataset.tracks], dtype=np.float32)
    return session.run(["other"], {"input": rows})[0]


def test_what_is_of_none_of_the_genres_is_set_by_tracks_that_were_held_back(
    train: Any, tmp_path: Path
) -> None:
    dataset = tracks(40, lambda i: f"artist {i}", apart=5)
    _, config, _ = train(dataset, other=True)
    found, above = config["trained"]["other"], config["other_above"]
    assert found == {"rejected_known": pytest.approx(0.05), "tracks": 120}
    # The model was fitted on these tracks, and rejects fewer of them than of those held back.
    known = other_scores(tmp_path / "mine", dataset)
    assert 0 <= (known > above).mean() <= 0.05
    unlike = replace(dataset, tracks=tuple(far(track) for track in dataset.tracks))
    assert (other_scores(tmp_path / "mine", unlike) > above).all()


def far(track: Track) -> Track:
    """The track with descriptors unlike those of any genre here."""
    assert track.descriptors is not None
    return replace(track, descriptors=tuple(value + 8 for value in track.descriptors))


def test_without_tracks_held_back_no_track_is_of_none_of_the_genres(train: Any) -> None:
    _, config, _ = train(tracks(2, unknown), other=True)
    assert config["other_above"] is None
    assert "other" not in config["trained"]


@pytest.mark.parametrize(("each", "held"), [(3, 3), (2, 3), (1, None)])
def test_a_handful_of_tracks_makes_no_model_that_is_sure_of_everything(
    train: Any, tmp_path: Path, each: int, held: int | None
) -> None:
    dataset = tracks(each, unknown, apart=5)
    trained, config, card = train(dataset)
    assert trained.row is None
    assert "| accuracy by that protocol | not measured |" in card
    assert config["trained"].get("unsure", {}).get("count") == held
    assert 0.3 < config["unsure_below"] < 0.9
    others = tracks(20, unknown, apart=5, seed=1).tracks
    arrays = np.array([track.descriptors for track in others], dtype=np.float32)
    shares = Classifier(tmp_path / "mine", threads=1).probabilities(arrays)
    assert shares.max(axis=1).mean() < 0.95
    assert config["trained"]["recipe_hash"] == load_recipe({"extends": "svm", "search": {}}).hash


@pytest.mark.parametrize(
    ("artist", "same"), [(lambda i: f"artist {i % 4}", False), (unknown, True)]
)
def test_artists_reach_models_that_weight_them(artist: Artist, same: bool, tmp_path: Path) -> None:
    dataset = tracks(12, lambda i: artist(i) if i % 2 else None)
    recipes = [
        load_recipe(
            {
                "name": name,
                "representation": {"name": "descriptors"},
                "model": {"name": "lda", "group_weight": weight},
            }
        )
        for name, weight in (("plain", 0.0), ("weighted", 1.0))
    ]
    options = Options(jobs=1, store=tmp_path / "store", trainer_flags={"devices": 1})
    config = StudyConfig(recipes=recipes, protocols=["random"], seeds=1)
    study = run_study(config, dataset, tmp_path / "study", options, Silent())
    plain, weighted = ([one.confidence for one in cell.tested[0]] for cell in study.cells)
    assert (plain == pytest.approx(weighted, abs=1e-6)) == same
    models = []
    for recipe in recipes:
        folder = tmp_path / recipe.name
        train_classifier(recipe, dataset, folder, options, Silent())
        rows = np.array([track.descriptors for track in dataset.tracks], dtype=np.float32)
        models.append(Classifier(folder).probabilities(rows))
    assert np.allclose(*models, atol=1e-5) == same
