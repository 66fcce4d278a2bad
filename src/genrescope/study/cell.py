"""One recipe under one protocol with one seed: fit, export, test, in a worker process."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from genrescope import system
from genrescope.classifier import Classifier
from genrescope.classifier.classifier import softmax
from genrescope.datasets.splits import Split, get_protocol
from genrescope.environment import set_torch_threads
from genrescope.io import CsvWriter
from genrescope.representations.representation import Array
from genrescope.study.results import MEASURED, ResultRow
from genrescope.study.statistics import Doubt, doubt, expected_calibration_error
from genrescope.system import return_freed_memory
from genrescope.training.data import PackedTracks, compute_logits
from genrescope.training.export import describe, export
from genrescope.training.fit import ENCODER_OUTPUTS, fit, precision_here
from genrescope.training.recipe import Recipe

Event = Callable[[str, dict[str, Any]], None]
"""Called with a cell's key, and a row of its curves with ``step`` of ``steps`` epochs."""

FoldIndex = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Indices of training, validation and test tracks in the packed arrays."""

RESULT, PREDICTIONS, FOLD = "result.json", "predictions.csv", "fold.npz"


@dataclass(frozen=True)
class CellTask:
    """All settings of a cell; picklable.

    Attributes
    ----------
    recipe
        Its model's pretrained weights, if any, are resolved to a folder.
    splits
        Of ids; those not in ``ids`` cannot be used by this recipe and are left out.
    train_share
        The fraction of the training tracks that the splits contain.
    packed
        A ``.npy`` file, (versions × tracks, *shape), shared by all processes.
    single_segments
        Whether ids are those of single segments; the first two axes of ``packed`` are then merged.
    ids, labels, groups
        Of the packed tracks; labels index ``genres``, and groups are equal for those of one artist.
    folder
        For the cell's files.
    model_folder
        For the exported model of the first fold; None to keep none.
    keep_models
        Whether the models of all folds are kept.
    """

    key: str
    recipe: Recipe
    protocol: str
    seed: int
    splits: tuple[Split, ...]
    packed: Path
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[int, ...]
    genres: tuple[str, ...]
    dataset: str
    recipe_hash: str
    data_checksum: str
    folder: Path
    model_folder: Path | None
    threads: int
    train_share: float = 1.0
    single_segments: bool = False
    keep_models: bool = False
    trainer_flags: dict[str, Any] = field(default_factory=dict)

    @property
    def kept_models(self) -> dict[int, Path]:
        """Folders of the models that are kept, by fold."""
        folds = {n: self.folder / f"fold-{n}" / "model" for n in range(len(self.splits))}
        kept = folds if self.keep_models else {}
        return kept if self.model_folder is None else kept | {0: self.model_folder}

    def index(self, number: int) -> FoldIndex:
        """Give the packed indices of a fold's usable training, validation and test tracks."""
        place = {track: i for i, track in enumerate(self.ids)}
        split = self.splits[number]
        train, valid, test = (
            np.array([place[i] for i in part if i in place], dtype=np.int64)
            for part in (split.train, split.valid, split.test)
        )
        return train, valid, test


@dataclass(frozen=True)
class Fold:
    """The results of a fold.

    Attributes
    ----------
    index
        See ``CellTask.index``.
    valid
        float32 (validation tracks, genres): probabilities by a model not fitted on them.
    test
        float32 (test tracks, genres): probabilities.
    segment_accuracy
        Of single segments of the test tracks; None if the input is whole tracks.
    cost
        ``parameters``, ``train_seconds``, ``predict_seconds`` and ``peak_memory`` of
        ``ResultRow``; empty for ensembles and folds of older versions.
    other
        float32 (test tracks,): scores for "none of these genres"; None if the recipe gives none.
    """

    index: FoldIndex
    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    segment_accuracy: float | None
    cost: dict[str, Any] = field(default_factory=dict)
    other: NDArray[np.float32] | None = None


def run_cell(task: CellTask, notify: Event | None = None) -> ResultRow:
    """Run a cell, or resume it; its row is written last.

    Returns
    -------
    row
        As written to ``result.json``.
    """
    began = time.monotonic()
    set_torch_threads(task.threads)
    if task.recipe.has_encoder:
        return_freed_memory()
    packed = np.load(task.packed, mmap_mode="r", allow_pickle=False)
    if task.single_segments:
        packed = packed.reshape(-1, 1, *packed.shape[2:])
    folds = [_run_fold(task, packed, number, notify) for number in range(len(task.splits))]
    row = write_result(task, folds, time.monotonic() - began)
    if task.model_folder is not None:
        representation = task.recipe.make_representation()
        details, below = card_details(task, folds, row)
        describe(task.model_folder, representation, task.genres, details, below)
    return row


def write_result(
    task: CellTask,
    folds: list[Fold],
    seconds: float,
    weights: dict[str, float] | None = None,
) -> ResultRow:
    """Write a cell's predictions and, last, its row; ``weights`` are those of an ensemble."""
    row = _row(task, folds, seconds, weights)
    task.folder.mkdir(parents=True, exist_ok=True)
    _write_predictions(task, folds)
    partial = task.folder / "result.part"
    partial.write_text(row.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(task.folder / RESULT)
    return row


def read_fold(task: CellTask, number: int) -> Fold:
    """Read a fold's results; FileNotFoundError if it is not done."""
    with np.load(task.folder / f"fold-{number}" / FOLD, allow_pickle=False) as kept:
        single = float(kept["segment_accuracy"])
        return Fold(
            task.index(number),
            kept["valid"],
            kept["test"],
            None if np.isnan(single) else single,
            json.loads(str(kept["cost"])) if "cost" in kept else {},
            kept.get("other"),
        )


def read_other(task: CellTask) -> list[NDArray[np.float32]]:
    """Read each fold's scores for "none of these genres"; empty if the recipe gives none."""
    folds = [read_fold(task, number) for number in range(len(task.splits))]
    return [fold.other for fold in folds if fold.other is not None]


def usable(splits: tuple[Split, ...], ids: tuple[str, ...], labels: tuple[int, ...]) -> str | None:
    """Give the reason why these tracks are too few to train or test on; None if they are enough."""
    genre_of = dict(zip(ids, labels, strict=True))
    for split in splits:
        if not any(i in genre_of for i in split.test):
            return "none of the test tracks can be used"
        if len({genre_of[i] for i in split.train if i in genre_of}) < 2:
            return "the usable training tracks are of fewer than two genres"
        if not any(i in genre_of for i in split.valid):
            return "none of the validation tracks can be used"
    return None


def _run_fold(task: CellTask, packed: Array, number: int, notify: Event | None) -> Fold:
    recipe, representation = task.recipe, task.recipe.make_representation()
    labels = np.array(task.labels, dtype=np.int64)
    groups = np.array(task.groups, dtype=np.int64)
    train, valid, test = task.index(number)
    versions = 1 + len(recipe.augmentations)
    folder = task.folder / f"fold-{number}"
    if (folder / FOLD).exists():
        return read_fold(task, number)
    shape = representation.shape
    system.reset_peak_memory()
    began = time.monotonic()
    fitted = fit(
        recipe,
        PackedTracks(representation, packed, train, labels[train], versions, groups[train]),
        PackedTracks(representation, packed, valid, labels[valid], versions, groups[valid]),
        shape=(1, *shape[1:]) if task.single_segments else shape,
        genres=len(task.genres),
        seed=task.seed,
        folder=folder,
        segmented=representation.segmented,
        on_epoch=_steps_of(task, number, notify),
        **task.trainer_flags,
    )
    cost: dict[str, Any] = {
        "parameters": sum(part.numel() for part in fitted.network.parameters()) or None,
        "train_seconds": round(time.monotonic() - began, 3),
        "peak_memory": system.peak_memory(),
    }
    model_folder = task.kept_models.get(number, folder / "model")
    export(
        model_folder,
        fitted.network,
        representation,
        task.genres,
        trained={},
        other=fitted.other,
    )
    # Test the exported model with ONNX Runtime, as users run it. A clip fills an encoder.
    classifier = Classifier(model_folder, threads=task.threads)
    parts = len(test) if recipe.has_encoder else max(1, len(test) // 32)
    began = time.monotonic()
    probabilities = [
        classifier.probabilities(representation.unpack(packed[rows]))
        for rows in np.array_split(test, parts)
    ]
    cost["predict_seconds"] = (time.monotonic() - began) / len(test)
    single = None
    if representation.segmented and not task.single_segments:
        single = _segment_accuracy(classifier, representation.unpack(packed[test]), labels[test])
    scores: dict[str, Any] = {}
    if fitted.other is not None:
        tested = PackedTracks(representation, packed, test, labels[test])
        scores["other"] = compute_logits(fitted.other, tested)
    if number not in task.kept_models:
        shutil.rmtree(model_folder)
    for kind in ("*.ckpt", f"*{ENCODER_OUTPUTS}"):
        for path in folder.rglob(kind):
            path.unlink()
    partial = folder / "fold.part.npz"
    np.savez(
        partial,
        valid=softmax(fitted.valid_logits),
        test=np.concatenate(probabilities),
        segment_accuracy=np.nan if single is None else single,
        found=json.dumps(fitted.found),
        cost=json.dumps(cost),
        **scores,
    )
    partial.replace(folder / FOLD)
    return read_fold(task, number)


def _steps_of(task: CellTask, number: int, notify: Event | None) -> Any:
    if notify is None:
        return None
    recipe = task.recipe
    epochs = recipe.epochs or 1
    fits = recipe.members * (1 + recipe.refit)

    def on_epoch(row: Any) -> None:
        done = (number * fits + row["fit"]) * epochs + row["epoch"]
        notify(task.key, {**row, "step": done, "steps": len(task.splits) * fits * epochs})

    return on_epoch


def _segment_accuracy(
    classifier: Classifier, arrays: NDArray[np.float32], labels: NDArray[np.int64]
) -> float:
    single = arrays.reshape(-1, 1, *arrays.shape[2:])
    predicted = classifier.logits(single).argmax(axis=1)
    return float((predicted == labels.repeat(arrays.shape[1])).mean())


def slug(name: str) -> str:
    """Give a name as part of a path: other characters than letters, digits, -, _ and . become -."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _row(
    task: CellTask, folds: list[Fold], seconds: float, weights: dict[str, float] | None
) -> ResultRow:
    test = np.concatenate([fold.index[2] for fold in folds])
    probabilities = np.concatenate([fold.test for fold in folds])
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
    sizes = [len(fold.index[2]) for fold in folds]
    singles = [fold.segment_accuracy for fold in folds if fold.segment_accuracy is not None]
    return ResultRow(
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
        ece=expected_calibration_error(probabilities.max(axis=1), predicted == labels),
        train_share=task.train_share,
        segment_accuracy=float(np.average(singles, weights=sizes)) if singles else None,
        weights=weights,
        **_cost(folds),
    )


def _cost(folds: list[Fold]) -> dict[str, Any]:
    # Without those of all folds, a sum would be too small.
    costs = [fold.cost for fold in folds]
    if not all(costs):
        return {}
    peaks = [cost["peak_memory"] for cost in costs if cost["peak_memory"] is not None]
    return {
        "parameters": costs[0]["parameters"],
        "train_seconds": sum(cost["train_seconds"] for cost in costs),
        "predict_seconds": float(np.mean([cost["predict_seconds"] for cost in costs])),
        "peak_memory": max(peaks, default=None),
    }


def card_details(task: CellTask, folds: list[Fold], row: ResultRow) -> tuple[dict[str, Any], float]:
    """Give the details of a cell's model card, and its ``unsure_below``."""
    found = _doubt(task, folds)
    return _trained(task, row) | {"unsure": asdict(found)}, found.below


def _doubt(task: CellTask, folds: list[Fold]) -> Doubt:
    # From the validation tracks: the test tracks must not set the threshold.
    probabilities = np.concatenate([fold.valid for fold in folds])
    labels = np.array(task.labels, dtype=np.int64)[np.concatenate([f.index[1] for f in folds])]
    right = probabilities.argmax(axis=1) == labels
    return doubt(probabilities.max(axis=1), right, len(task.genres))


def _write_predictions(task: CellTask, folds: list[Fold]) -> None:
    with (task.folder / PREDICTIONS).open("w", newline="", encoding="utf-8") as file:
        writer = CsvWriter(file, "\r\n")
        writer.row("id", "fold", "genre", "predicted", *task.genres)
        for number, fold in enumerate(folds):
            for i, scores in zip(fold.index[2], fold.test, strict=True):
                genre, predicted = task.genres[task.labels[i]], task.genres[scores.argmax()]
                rounded = (round(Decimal(float(score)), 6) for score in scores)
                writer.row(task.ids[i], number, genre, predicted, *rounded)


def _trained(task: CellTask, row: ResultRow) -> dict[str, Any]:
    details = row.model_dump(exclude={"genres", "confusion", "environment", *MEASURED})
    return {
        **details,
        "about": task.recipe.about,
        "dataset": task.dataset,
        "tested": tested_by_genre(row),
        "leaks": leaks(task.protocol),
    }


def tested_by_genre(row: ResultRow) -> dict[str, int]:
    """Count the test tracks of each genre."""
    return {g: sum(counts) for g, counts in zip(row.genres, row.confusion, strict=True)}


def leaks(protocol: str) -> str | None:
    """Give a sentence that a protocol's figures may leak; None if they cannot."""
    about = get_protocol(protocol)
    return None if about.leakage_free else f"The figure may leak: {about.about}."


def _environment(task: CellTask) -> dict[str, str]:
    packages = ("genrescope", "torch", "lightning", "scikit-learn", "onnxruntime", "numpy")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "accelerator": str(task.trainer_flags.get("accelerator", "cpu")),
        "precision": precision_here(task.recipe, task.trainer_flags),
        "threads": str(task.threads),
    }
