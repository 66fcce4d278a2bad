"""Ensembles: combine the probabilities of several recipes, with weights from validation tracks."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genrescope.classifier.classifier import softmax
from genrescope.study.cell import (
    CellTask,
    Fold,
    card_details,
    read_fold,
    slug,
    usable,
    write_result,
)
from genrescope.training.join import join
from genrescope.training.recipe import Ensemble

_MIN_PROBABILITY = 1e-6  # so that its logarithm stays finite
LEAST_WEIGHT = 1e-3
"""Of a member of a model: clips that it takes part in alone need one."""

_PENALTY = 0.5  # of unequal weights: a fold has few validation tracks to fit them on


def ensemble_task(ensemble: Ensemble, members: Sequence[CellTask]) -> CellTask:
    """Make the task of an ensemble from those of its recipes, all of one protocol and seed.

    Its tracks are those that all of its recipes can use.
    """
    first = members[0]
    shared = set.intersection(*(set(member.ids) for member in members))
    kept = [i for i, track in enumerate(first.ids) if track in shared]
    settings = {"pool": ensemble.pool, "of": [member.recipe_hash for member in members]}
    own_hash = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    runs, below = first.folder.parents[2], first.folder.parts[-2:]
    return replace(
        first,
        key=first.key.replace(first.recipe.name, ensemble.name, 1),
        recipe=first.recipe.model_copy(update={"name": ensemble.name}),
        ids=tuple(first.ids[i] for i in kept),
        labels=tuple(first.labels[i] for i in kept),
        groups=tuple(first.groups[i] for i in kept),
        recipe_hash=own_hash,
        data_checksum=hashlib.sha256(
            "".join(member.data_checksum for member in members).encode()
        ).hexdigest()[:16],
        folder=runs.joinpath(f"{slug(ensemble.name)}-{own_hash}", *below),
        model_folder=(
            first.model_folder.with_name(f"{slug(ensemble.name)}-{slug(first.protocol)}")
            if first.model_folder is not None and ensemble.pool == "weighted"
            else None
        ),
    )


def run_ensemble(ensemble: Ensemble, task: CellTask, members: Sequence[CellTask]) -> str | None:
    """Write the results of an ensemble whose members are done; else give the reason."""
    if (reason := usable(task.splits, task.ids, task.labels)) is not None:
        return f"of the tracks that all its recipes can use, {reason}"
    began = time.monotonic()
    folds: list[Fold] = []
    weights: list[NDArray[np.float64]] = []
    for number in range(len(task.splits)):
        train, valid, test = task.index(number)
        parts = [read_fold(member, number) for member in members]
        held = _shared(task, members, [part.valid for part in parts], number, valid, 1)
        tested = _shared(task, members, [part.test for part in parts], number, test, 2)
        labels = np.array(task.labels, dtype=np.int64)[valid]
        found = fit_weights(held, labels) if ensemble.pool == "weighted" else None
        pooled = [pool(some, found) for some in (held, tested)]
        weights += [found] if found is not None else []
        longest = max((part.index[0] for part in parts), key=len, default=train)
        folds.append(Fold((longest, valid, test), pooled[0], pooled[1], None))
    mean = np.mean(weights, axis=0) if weights else np.full(len(members), 1 / len(members))
    shown = {m.recipe.name: round(float(w), 4) for m, w in zip(members, mean, strict=True)}
    row = write_result(task, folds, time.monotonic() - began, shown)
    details, below = card_details(task, folds, row)
    for number, folder in task.kept_models.items() if ensemble.pool == "weighted" else ():
        models = [member.kept_models[number] for member in members]
        least = [max(float(weight), LEAST_WEIGHT) for weight in weights[number]]
        join(folder, models, least, details, unsure_below=below)
    return None


def pool(
    probabilities: NDArray[np.float32], weights: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    """Combine probabilities.

    Parameters
    ----------
    probabilities
        float32 (recipes, tracks, genres).
    weights
        float64 (recipes,), exponents of a weighted geometric mean (a logarithmic opinion pool;
        C. Genest and J. V. Zidek, 1986); None for the arithmetic mean.

    Returns
    -------
    pooled
        float32 (tracks, genres), rows sum to 1.
    """
    if weights is None:
        return np.asarray(probabilities.mean(axis=0), dtype=np.float32)
    logits = np.tensordot(weights, np.log(np.maximum(probabilities, _MIN_PROBABILITY)), axes=1)
    return softmax(logits).astype(np.float32)


def fit_weights(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Find the weights for ``pool`` with the lowest cross-entropy, penalised for inequality.

    Parameters
    ----------
    probabilities
        float32 (recipes, tracks, genres), of tracks that no recipe was fitted on.
    labels
        (tracks,).

    Returns
    -------
    weights
        float64 (recipes,), each 0 or more.
    """
    from scipy.optimize import minimize  # noqa: PLC0415

    logarithms = np.log(np.maximum(probabilities.astype(np.float64), _MIN_PROBABILITY))
    rows, equal = np.arange(len(labels)), 1 / len(probabilities)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = np.tensordot(weights, logarithms, axes=1)
        pooled = softmax(logits)
        wrong = pooled.copy()
        wrong[rows, labels] -= 1
        slope = np.tensordot(logarithms, wrong, axes=2) / len(labels)
        value = -np.log(np.maximum(pooled[rows, labels], 1e-12)).mean()
        excess = weights - equal
        return float(value + _PENALTY * (excess**2).sum()), slope + 2 * _PENALTY * excess

    start = np.full(len(probabilities), equal)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start))
    return np.asarray(found.x)


def _shared(
    task: CellTask,
    members: Sequence[CellTask],
    rows: Sequence[NDArray[np.float32]],
    number: int,
    wanted: NDArray[np.int64],
    part: int,
) -> NDArray[np.float32]:
    # Each member's rows of the common tracks, in the order of the ensemble's tracks.
    ids = [task.ids[i] for i in wanted]
    found = []
    for member, own in zip(members, rows, strict=True):
        place = {member.ids[i]: row for row, i in enumerate(member.index(number)[part])}
        found.append(own[[place[track] for track in ids]])
    return np.stack(found)
