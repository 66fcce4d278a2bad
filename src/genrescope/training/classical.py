"""Fit a recipe's scikit-learn estimator, with a search over its parameters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from genrescope.models.classical import fit_estimator
from genrescope.models.normalise import make_normaliser
from genrescope.models.other import OtherScore
from genrescope.models.windows import SegmentNetwork
from genrescope.training.data import PackedTracks, compute_logits
from genrescope.training.recipe import Recipe


def fit_classical(
    recipe: Recipe,
    train: PackedTracks,
    valid: PackedTracks,
    genres: int,
    seed: int,
    *,
    segmented: bool,
) -> tuple[nn.Module, NDArray[np.float32], dict[str, Any]]:
    """Choose the parameters by the validation tracks, then fit on both parts.

    Parameters: see ``genrescope.training.fit.fit``.

    Returns
    -------
    network
        In evaluation mode.
    logits
        float32 (validation tracks, genres), by the model that was fitted on ``train`` alone.
    found
        The best parameters of the search.
    """
    lightning.seed_everything(seed, verbose=False)
    normaliser = fit_normaliser(recipe, train, segmented=segmented)

    def fitted(tracks: PackedTracks, settings: dict[str, Any]) -> nn.Module:
        arrays, labels, groups = tracks.arrays, tracks.labels, tracks.groups
        if segmented:
            labels, groups = labels.repeat(arrays.shape[1]), groups.repeat(arrays.shape[1])
            arrays = arrays.flatten(0, 1)
        rows = normaliser(arrays).numpy()
        parameters = {**recipe.model.parameters, **settings}
        model = nn.Sequential(
            normaliser,
            fit_estimator(recipe.model.name, rows, labels, genres, seed, parameters, groups),
        )
        return (SegmentNetwork(model) if segmented else model).eval()

    logits, found = _search(recipe, fitted, train, valid.plain)
    return fitted(train.joined(valid), found), logits, found


def fit_other(recipe: Recipe, train: PackedTracks, valid: PackedTracks) -> nn.Module:
    """Fit a recipe's score for "none of these genres" on both parts.

    Returns
    -------
    other
        From the model's arrays, float32 (batch, columns), to (batch,); see ``OtherScore``.
    """
    normaliser = fit_normaliser(recipe, train, segmented=False)
    tracks = train.joined(valid)
    rows = normaliser(tracks.arrays).numpy()
    return nn.Sequential(normaliser, OtherScore(rows, tracks.labels)).eval()


def fit_normaliser(recipe: Recipe, train: PackedTracks, *, segmented: bool) -> nn.Module:
    """Make a recipe's first layer, fitted on the training arrays if it has statistics."""
    if recipe.normalise != "standardise":
        return make_normaliser(recipe.normalise, torch.empty(0))
    return make_normaliser(
        recipe.normalise, train.arrays.flatten(0, 1) if segmented else train.arrays
    )


def _search(
    recipe: Recipe,
    fitted: Callable[[PackedTracks, dict[str, Any]], nn.Module],
    train: PackedTracks,
    valid: PackedTracks,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    # The best by accuracy on the validation tracks, then by likelihood; of equals the first.
    tried: list[tuple[tuple[float, float], NDArray[np.float32], dict[str, Any]]] = []
    for values in product(*recipe.search.values()):
        settings = dict(zip(recipe.search, values, strict=True))
        logits = compute_logits(fitted(train, settings), valid)
        scores, labels = torch.from_numpy(logits), torch.from_numpy(valid.labels)
        right = float((scores.argmax(dim=1) == labels).float().mean())
        likelihood = -float(nn.functional.cross_entropy(scores, labels))
        tried.append(((right, likelihood), logits, settings))
    _, logits, settings = max(tried, key=lambda one: one[0])
    return logits, settings
