"""One recipe under one protocol with one seed: fit, export, test. Runs in a process of its own."""

from __future__ import annotations

import csv
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from genrescope.classifier import Classifier
from genrescope.representations.representation import Array
from genrescope.study.results import Row
from genrescope.tracks.splits import Split
from genrescope.training.export import describe, export
from genrescope.training.fit import PackedTracks, fit
from genrescope.training.recipe import Recipe

Event = Callable[[str, dict[str, Any]], None]
"""Told a cell's key, and a row of its curves with ``step`` of ``steps`` epochs."""

RESULT, PREDICTIONS = "result.json", "predictions.csv"


@dataclass(frozen=True)
class CellTask:
    """What a process must know to run a cell; picklable.

    Attributes
    ----------
    recipe
        Its model's weights, if it has any, are a folder by now.
    splits
        Of ids; those not in ``ids`` cannot be used by this recipe and are left out.
    packed
        A ``.npy`` file, (versions × tracks, *shape), shared by all processes.
    ids, labels
        Of the packed tracks; labels index ``genres``.
    folder
        Where the cell's files go.
    model_folder
        Where the exported model of the first fold is kept; None to keep none.
    """

    key: str
    recipe: Recipe
    protocol: str
    seed: int
    splits: tuple[Split, ...]
    packed: Path
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    genres: tuple[str, ...]
    dataset: str
    recipe_hash: str
    data_checksum: str
    folder: Path
    model_folder: Path | None
    threads: int
    trainer_flags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Fold:
    index: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    probabilities: NDArray[np.float32]


def run_cell(task: CellTask, tell: Event | None = None) -> Row:
    """Run a cell, or what is left of it; its row is written last.

    Returns
    -------
    row
        As written to ``result.json``.
    """
    began = time.monotonic()
    torch.set_num_threads(task.threads)
    packed = np.load(task.packed, mmap_mode="r", allow_pickle=False)
    folds = [_run_fold(task, packed, number, tell) for number in range(len(task.splits))]
    test = np.concatenate([fold.index[2] for fold in folds])
    probabilities = np.concatenate([fold.probabilities for fold in folds])
    row = _row(task, folds, test, probabilities, time.monotonic() - began)
    _write_predictions(task, folds)
    if task.model_folder is not None:
        representation = task.recipe.make_representation()
        describe(task.model_folder, representation, task.genres, _trained(task, row))
    partial = task.folder / "result.part"
    partial.write_text(row.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(task.folder / RESULT)
    return row


def usable(splits: tuple[Split, ...], ids: tuple[str, ...], labels: tuple[int, ...]) -> str | None:
    """Tell why these tracks are too few to train or test on, or None if they are not."""
    genre_of = dict(zip(ids, labels, strict=True))
    for split in splits:
        if not any(i in genre_of for i in split.test):
            return "none of the test tracks can be used"
        if len({genre_of[i] for i in split.train if i in genre_of}) < 2:
            return "the usable training tracks are of fewer than two genres"
        if not any(i in genre_of for i in split.valid):
            return "none of the validation tracks can be used"
    return None


def _run_fold(task: CellTask, packed: Array, number: int, tell: Event | None) -> _Fold:
    recipe, representation = task.recipe, task.recipe.make_representation()
    place = {track: i for i, track in enumerate(task.ids)}
    labels = np.array(task.labels, dtype=np.int64)
    split = task.splits[number]
    train, valid, test = (
        np.array([place[i] for i in part if i in place], dtype=np.int64)
        for part in (split.train, split.valid, split.test)
    )
    versions = 1 + len(recipe.alterations)
    folder = task.folder / f"fold-{number}"
    done = folder / "probabilities.npy"
    if not done.exists():

        def on_epoch(row: Any) -> None:
            if tell:
                epochs = recipe.epochs or 1
                place = {"step": number * epochs + row["epoch"], "steps": len(task.splits) * epochs}
                tell(task.key, {**row, **place})

        fitted = fit(
            recipe,
            PackedTracks(representation, packed, train, labels[train], versions),
            PackedTracks(representation, packed, valid, labels[valid], versions),
            shape=representation.shape,
            genres=len(task.genres),
            seed=task.seed,
            folder=folder,
            on_epoch=on_epoch,
            **task.trainer_flags,
        )
        keep = task.model_folder if number == 0 else None
        model_folder = keep or folder / "model"
        export(model_folder, fitted.network, representation, task.genres, trained={})
        # Tested as users will run it: the exported model, through ONNX Runtime.
        classifier = Classifier(model_folder, threads=task.threads)
        probabilities = np.concatenate(
            [
                classifier.probabilities(representation.unpack(packed[rows]))
                for rows in np.array_split(test, max(1, len(test) // 32))
            ]
        )
        if keep is None:
            shutil.rmtree(model_folder)
        (folder / "last.ckpt").unlink(missing_ok=True)
        (folder / "best.ckpt").unlink(missing_ok=True)
        np.save(folder / "probabilities.part.npy", probabilities)
        (folder / "probabilities.part.npy").replace(done)
    return _Fold((train, valid, test), np.load(done, allow_pickle=False))


def _row(
    task: CellTask,
    folds: list[_Fold],
    test: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    seconds: float,
) -> Row:
    labels = np.array(task.labels, dtype=np.int64)[test]
    predicted = probabilities.argmax(axis=1)
    present = np.unique(labels)
    matrix = confusion_matrix(labels, predicted, labels=range(len(task.genres)))
    totals = matrix.sum(axis=1)
    recall = {
        genre: float(matrix[i, i] / totals[i]) if totals[i] else None
        for i, genre in enumerate(task.genres)
    }
    f1 = f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    return Row(
        recipe=task.recipe.name,
        protocol=task.protocol,
        seed=task.seed,
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1),
        n_train=round(float(np.mean([len(fold.index[0]) for fold in folds]))),
        n_valid=round(float(np.mean([len(fold.index[1]) for fold in folds]))),
        n_test=len(test),
        seconds=round(seconds, 2),
        recipe_hash=task.recipe_hash,
        data_checksum=task.data_checksum,
        genres=list(task.genres),
        recall=recall,
        confusion=matrix.tolist(),
        environment=_environment(task),
        ece=expected_calibration_error(probabilities, labels),
    )


def expected_calibration_error(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighted by their size.

    M. Naeini, G. Cooper and M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning", AAAI 2015.

    Parameters
    ----------
    probabilities
        float32 (tracks, genres), rows sum to 1.
    labels
        (tracks,).
    bins
        Of equal width over [0, 1].
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[place == b].sum() - confidence[place == b].sum()) for b in range(bins)]
    return float(np.sum(gaps) / len(labels))


def _write_predictions(task: CellTask, folds: list[_Fold]) -> None:
    with (task.folder / PREDICTIONS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "fold", "genre", "predicted", *task.genres])
        for number, fold in enumerate(folds):
            for i, scores in zip(fold.index[2], fold.probabilities, strict=True):
                genre, predicted = task.genres[task.labels[i]], task.genres[scores.argmax()]
                shares = [f"{score:.6f}" for score in scores]
                writer.writerow([task.ids[i], number, genre, predicted, *shares])


def _trained(task: CellTask, row: Row) -> dict[str, Any]:
    told = row.model_dump(exclude={"genres", "recall", "confusion", "environment", "seconds"})
    return {**told, "about": task.recipe.about, "dataset": task.dataset}


def _environment(task: CellTask) -> dict[str, str]:
    packages = ("genrescope", "torch", "lightning", "scikit-learn", "onnxruntime", "numpy")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "accelerator": str(task.trainer_flags.get("accelerator", "cpu")),
        "precision": task.recipe.precision,
        "threads": str(task.threads),
    }
