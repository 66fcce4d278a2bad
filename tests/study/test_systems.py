"""Every recipe in the package fits on the demo, and every network among them can learn by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_backbones
from genrescope.datasets.demo import make
from genrescope.datasets.track import Dataset
from genrescope.models.classical import ESTIMATORS
from genrescope.report.write import write_report
from genrescope.representations.store import Store
from genrescope.study.config import StudyConfig, load_study
from genrescope.study.run import Options, Study, run_study
from genrescope.training.data import PackedTracks
from genrescope.training.fit import fit
from genrescope.training.recipe import (
    Ensemble,
    Recipe,
    Schedule,
    bundled_recipes,
    load_entry,
    load_recipe,
)
from silent import Silent

ENTRIES = {name: load_entry(name) for name in bundled_recipes()}
RECIPES = {name: entry for name, entry in ENTRIES.items() if isinstance(entry, Recipe)}
ENSEMBLES = [entry for entry in ENTRIES.values() if isinstance(entry, Ensemble)]
NETWORKS = [name for name, recipe in RECIPES.items() if recipe.optimiser is not None]
CHECKPOINTS = {"facebook/wav2vec2-base": "wav2vec2", "ntu-spml/distilhubert": "hubert"}

pytestmark = pytest.mark.slow
one_process = pytest.mark.xdist_group("systems")  # its study takes a minute: once is enough


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("demo"), tracks_per_style=7, seconds=3.0)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipe]:
    """The package's recipes; of encoders a tiny one, small forests, clips not padded to 30 s."""
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {}
    for name, recipe in RECIPES.items():
        settings: dict[str, Any] = {"extends": name}
        for growing in {"trees", "rounds"} & recipe.model.parameters.keys():
            settings["model"] = {growing: 30}
        if "weights" in recipe.model.parameters:
            kind = CHECKPOINTS[recipe.model.parameters["weights"]]
            if not (folder / kind).exists():
                # Wide enough that what a frozen one hears, if by chance, tells clips apart.
                tiny_backbones.save_checkpoint(
                    kind, folder / kind, hidden_size=32, intermediate_size=64
                )
            settings["model"] = {"weights": str(folder / kind)}
            settings["representation"] = {"seconds": 3}
            settings["precision"] = "32-true"
            if recipe.windows is not None:
                settings["windows"] = {"length": 16000, "count": 2}
        made[name] = load_recipe(settings)
    return made


@pytest.fixture(scope="session")
def study(
    clips: Dataset, kept: Path, small: dict[str, Recipe], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Study, Path]:
    recipes = [
        recipe
        if recipe.epochs is None
        else recipe.model_copy(
            update={"epochs": 2, "validate_every": 1, "members": min(recipe.members, 2)}
        )
        for recipe in small.values()
    ]
    config = StudyConfig(
        recipes=recipes,
        ensembles=ENSEMBLES,
        protocols=["random", "leaky-segments"],
        seeds=1,
        train_shares=[0.5],
    )
    out = tmp_path_factory.mktemp("study")
    options = Options(jobs=1, store=kept, download=False, trainer_flags={"devices": 1})
    done = run_study(config, clips, out, options, Silent())
    write_report(done, out)
    return done, out


@one_process
@pytest.mark.parametrize("name", ENTRIES)
def test_every_recipe_fits_on_the_demo(study: tuple[Study, Path], name: str) -> None:
    done, _ = study
    (cell,) = [c for c in done.cells if c.recipe == name and c.protocol == "random"]
    assert cell.n_test == 14
    if not (RECIPES.get(name) and RECIPES[name].optimiser):
        assert cell.mean > 0.3  # of ten styles; two epochs teach a network little


@one_process
def test_what_could_not_be_run_is_nothing(study: tuple[Study, Path]) -> None:
    assert study[0].unavailable == []


@one_process
def test_segments_are_tested_one_by_one_where_they_leak(study: tuple[Study, Path]) -> None:
    leaking = {c.recipe: c for c in study[0].cells if c.protocol == "leaky-segments"}
    assert set(leaking) == {name for name in RECIPES if name.endswith("-3s")}
    # A clip of 3 s is ten times the same segment: knowing one is knowing all.
    assert leaking["knn-3s"].mean > 0.95
    assert leaking["knn-3s"].n_test == 140
    apart = {c.recipe: c for c in study[0].cells if c.protocol == "random"}
    assert apart["knn-3s"].mean < leaking["knn-3s"].mean
    assert apart["knn-3s"].segment_accuracy == pytest.approx(apart["knn-3s"].mean)
    assert apart["knn"].segment_accuracy is None


@one_process
def test_ensembles_tell_their_weights(study: tuple[Study, Path]) -> None:
    for ensemble in ENSEMBLES:
        (cell,) = [c for c in study[0].cells if c.recipe == ensemble.name]
        weights = cell.rows[0].weights
        assert weights is not None
        assert set(weights) == set(ensemble.of)
        assert all(weight >= 0 for weight in weights.values())


@one_process
def test_learning_curves_are_of_fewer_tracks_and_the_same_test(study: tuple[Study, Path]) -> None:
    done, out = study
    whole = {c.recipe: c for c in done.cells if c.protocol == "random"}
    some = {c.recipe: c for c in done.learning}
    assert set(some) == set(whole)
    for name, cell in some.items():
        assert cell.train_share == 0.5
        assert cell.rows[0].n_train < 0.7 * whole[name].rows[0].n_train
        assert {o.id for o in cell.tested[0]} == {o.id for o in whole[name].tested[0]}
    assert (out / "figures" / "learning.png").is_file()


@one_process
def test_the_report_holds_every_line(study: tuple[Study, Path]) -> None:
    text = (study[1] / "report.md").read_text()
    for name in ENTRIES:
        assert f"| {name} |" in text
    assert "LEAKS" in text


def test_the_study_of_every_system_lists_every_recipe() -> None:
    config = load_study("systems")
    assert {entry.name for entry in config.entries} == set(ENTRIES)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_learn_a_handful_by_heart(
    name: str, clips: Dataset, kept: Path, small: dict[str, Recipe], tmp_path: Path
) -> None:
    recipe = small[name].model_copy(
        update={
            # What keeps a network from learning by heart is left out, and nothing else.
            "windows": None if "weights" in small[name].model.parameters else small[name].windows,
            "normalise": small[name].normalise.replace("l2-rows", "standardise"),
            "augment": None,
            "label_smoothing": 0.0,
            "double_softmax": False,
            "patience": None,
            "members": 1,
            "refit": False,
            "calibrate": False,
            "schedule": Schedule(name="cosine"),  # the last steps are small ones
            "accumulate": 1,
            "batch_size": 7,
            "epochs": 150,
            "validate_every": 150,
            "optimiser": small[name].optimiser.model_copy(
                update={"lr": 3e-3, "weight_decay": 0.0, "layer_decay": 1.0}
            ),
        }
    )
    representation = recipe.make_representation()
    few = [t for t in clips.tracks if t.genre in ("drone", "march", "pulse")]
    collection = Store(kept).collect(representation, few, workers=1)
    labels = np.repeat(np.arange(3), 7)
    tracks = PackedTracks(representation, collection.packed, np.arange(21), labels)
    fitted = fit(
        recipe,
        tracks,
        tracks,
        shape=representation.shape,
        genres=3,
        seed=0,
        folder=tmp_path,
        segmented=representation.segmented,
        accelerator="cpu",
        devices=1,
    )
    assert (fitted.valid_logits.argmax(axis=1) == labels).mean() >= 0.9


def test_classical_recipes_are_all_there_are() -> None:
    used = {recipe.model.name for recipe in RECIPES.values() if recipe.optimiser is None}
    assert used == set(ESTIMATORS)
