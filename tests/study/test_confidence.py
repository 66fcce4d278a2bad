"""Every recipe in the package is more often right where it is surer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import tiny_backbones
from genrescope.classifier import Classifier
from genrescope.models.classical import Temperature
from genrescope.representations import Representation
from genrescope.training.data import PackedTracks
from genrescope.training.export import export
from genrescope.training.fit import fit
from genrescope.training.recipe import Ensemble, Recipe, bundled_recipes, load_entry, load_recipe

GENRES = 4
ENTRIES = {name: load_entry(name) for name in bundled_recipes()}
RECIPES = {name: entry for name, entry in ENTRIES.items() if isinstance(entry, Recipe)}
CLASSICAL = [name for name, recipe in RECIPES.items() if recipe.optimiser is None]
NETWORKS = [name for name, recipe in RECIPES.items() if recipe.optimiser is not None]
CHECKPOINTS = {"facebook/wav2vec2-base": "wav2vec2", "ntu-spml/distilhubert": "hubert"}


def tracks(
    representation: Representation, count: int, seed: int, versions: int
) -> tuple[PackedTracks, NDArray[np.int64]]:
    """Arrays in which a genre's pattern is plain in some tracks and faint in others."""
    shape = representation.shape
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % GENRES
    if len(shape) == 1 and shape[0] > 10_000:  # a waveform: tones
        time = np.arange(shape[0]) / 16_000
        patterns = np.stack([np.sin(2 * np.pi * 300 * 2**genre * time) for genre in range(GENRES)])
    else:
        patterns = np.random.default_rng(0).normal(size=(GENRES, *shape[-2:]))
        if len(shape) > 1:  # of bands over time, such that windows of it are alike
            patterns = np.repeat(patterns.mean(axis=-1, keepdims=True), shape[-1], axis=-1)
            patterns *= np.sqrt(shape[-1])
        if representation.segmented:
            patterns = np.random.default_rng(0).normal(size=(GENRES, 1, *shape[1:]))
    plain = rng.normal(size=(count, *shape)).astype(np.float32)
    strongest = 3.0 if representation.name == "waveform" else 0.6
    for i, strength in enumerate(rng.uniform(size=count)):
        plain[i] += strongest * strength * patterns[labels[i]]
    packed = np.concatenate(
        [
            np.stack([representation.pack(0.3 * (array + 0.1 * version)) for array in plain])
            for version in range(versions)
        ]
    )
    rows = PackedTracks(representation, packed, np.arange(count), labels, versions)
    return rows, labels


def check(recipe: Recipe, folder: Path) -> None:
    representation = recipe.make_representation()
    versions = 1 + len(recipe.augmentations)
    train, valid, test = (
        tracks(representation, count, seed, versions) for seed, count in enumerate((80, 60, 120))
    )
    fitted = fit(
        recipe,
        train[0],
        valid[0],
        shape=representation.shape,
        genres=GENRES,
        seed=0,
        folder=folder,
        segmented=representation.segmented,
        accelerator="cpu",
        devices=1,
    )
    assert any(isinstance(part, Temperature) for part in fitted.network.modules())
    names = [f"genre {i}" for i in range(GENRES)]
    export(folder / "model", fitted.network, representation, names, {})
    arrays = test[0].plain.arrays.numpy()
    shares = Classifier(folder / "model", threads=1).probabilities(arrays)
    with torch.no_grad():
        expected = fitted.network(torch.from_numpy(arrays)).softmax(dim=1).numpy()
    np.testing.assert_allclose(shares, expected, atol=1e-3)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == test[1]
    assert 1.2 / GENRES < right.mean() < 0.98  # or nothing could be said of the confidence
    assert len(np.unique(confidence.round(3))) > 5
    assert confidence.std() > 0.03
    assert roc_auc_score(right, confidence) > 0.6
    assert abs(confidence.mean() - right.mean()) < 0.2


def test_every_recipe_is_calibrated() -> None:
    assert [name for name, recipe in RECIPES.items() if not recipe.calibrate] == []
    pooled = {
        name for entry in ENTRIES.values() if isinstance(entry, Ensemble) for name in entry.of
    }
    assert pooled <= set(RECIPES)


@pytest.mark.parametrize("name", CLASSICAL)
def test_where_a_classical_recipe_is_surer_it_is_more_often_right(
    name: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"extends": name}
    for growing in {"trees", "rounds"} & RECIPES[name].model.parameters.keys():
        settings["model"] = {growing: 30}
    if RECIPES[name].search:  # of a search's values the first and the last are enough
        found = {key: (values[0], values[-1]) for key, values in RECIPES[name].search.items()}
        settings["search"] = {key: list(dict.fromkeys(values)) for key, values in found.items()}
    check(load_recipe(settings), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_where_a_network_is_surer_it_is_more_often_right(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    settings: dict[str, Any] = {
        "extends": name,
        "epochs": 12,
        "optimiser": {"lr": 3e-3},
        "precision": "32-true",
        "augmentations": [],
    }
    if recipe.normalise == "l2-rows":
        settings["epochs"] = 60
    if recipe.representation.name == "mfcc":  # it averages the noise of these tracks away
        settings["epochs"] = 3
    if recipe.members > 1:
        settings["members"] = 2
    if recipe.patience is None:
        settings["validate_every"] = 12
    if "weights" in recipe.model.parameters:
        kind = CHECKPOINTS[recipe.model.parameters["weights"]]
        tiny_backbones.save_checkpoint(kind, tmp_path / kind, hidden_size=32, intermediate_size=64)
        settings["model"] = {"weights": str(tmp_path / kind), "masking": False}
        settings["optimiser"] = {"lr": 1e-3, "layer_decay": 1.0}
        settings["representation"] = {"seconds": 1}
        if recipe.windows is not None:
            settings["windows"] = {"length": 8000, "count": 2}
    elif recipe.representation.name == "mel-image":
        settings["representation"] = {"size": 32}
        settings["model"] = {"channels": [8, 16]}
    elif recipe.model.name == "resnet":
        settings["model"] = {"width": 8}
    check(load_recipe(settings), tmp_path)
