"""Train a classifier: measure a recipe by cross-validation, then fit it on all tracks."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from genrescope.classifier.classifier import softmax
from genrescope.datasets.splits import PROTOCOLS, Split, without_test
from genrescope.datasets.track import Dataset
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.models.classical import Calibration, fit_calibration
from genrescope.representations import Representation
from genrescope.representations.store import Store
from genrescope.representations.transform import get_transforms
from genrescope.study.cell import tested_by_genre
from genrescope.study.config import StudyConfig
from genrescope.study.ensemble import LEAST_WEIGHT
from genrescope.study.model_folder import check_place, put_model
from genrescope.study.results import Cell, ResultRow
from genrescope.study.run import NO_WEIGHTS, Listener, Options, run_study
from genrescope.study.statistics import (
    Doubt,
    doubt,
    expected_calibration_error,
    other_threshold,
)
from genrescope.training.data import PackedTracks
from genrescope.training.export import export, export_transformers
from genrescope.training.fit import fit
from genrescope.training.join import join
from genrescope.training.recipe import Ensemble, Recipe, members_of

_PROTOCOLS = ("grouped", "kfold", "random")  # the first that the data allow is used
_UNSURE_BELOW = 0.5  # without held-out tracks


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Attributes
    ----------
    folder
        The model folder.
    row
        The recipe's result under cross-validation; None if there were too few tracks.
    leaks
        A sentence on why that figure may be too good; None if it cannot leak.
    used
        Number of tracks that the classifier was fitted on.
    problems
        Files that were left out.
    genres
        In the order of the logits.
    """

    folder: Path
    row: ResultRow | None
    leaks: str | None
    used: int
    problems: list[InputError]
    genres: tuple[str, ...]


def train_classifier(
    recipe: Recipe | Ensemble,
    dataset: Dataset,
    out: Path,
    options: Options,
    listener: Listener,
    *,
    licence: str | None = None,
    force: bool = False,
) -> Trained:
    """Measure a recipe on a data set, fit it on all of its tracks and write the model folder.

    The answers of the cross-validation calibrate the model: those for tracks that it was not fitted
    on. The calibration error in its details is of folds that the others calibrate.

    Parameters
    ----------
    recipe
        What to fit. Of an ensemble, each recipe is fitted on the tracks that it can use.
    dataset
        The tracks, of at least two genres.
    out
        The model folder; see ``check_place``. A former model is replaced when the new one is
        complete.
    options
        As for a study.
    listener
        Receives progress.
    licence
        Of the model, by its SPDX name in lower case, for the model card.
    force
        Whether ``out`` may hold files already.

    Raises
    ------
    GenrescopeError
        If the tracks are too few to fit on, or ``out`` cannot be used.
    """
    check_place(out, force=force)
    recipes = members_of(recipe) if isinstance(recipe, Ensemble) else [recipe]
    with tempfile.TemporaryDirectory(prefix="genrescope-") as scratch:
        measured = _measure(recipe, recipes, dataset, Path(scratch), options, listener)
        whole = [
            _fit_on_all(one, dataset, Path(scratch) / f"fit-{place}", options, listener)
            for place, one in enumerate(recipes)
        ]
        if len({one.genres for one in whole}) > 1:
            raise GenrescopeError(
                f"The recipes of {recipe.name} can use tracks of different genres. Give one of "
                f"them: {', '.join(one.name for one in recipes)}."
            )
        first = whole[0]
        used = {one.name: part.tracks for one, part in zip(recipes, whole, strict=True)}
        details = _details(recipe, dataset, measured, used) | {"name": one_line(out.resolve().name)}
        if licence:
            details["license"] = licence
        found = measured.doubt or first.doubt
        if found is not None:
            details["unsure"] = asdict(found)
        unsure_below = _UNSURE_BELOW if found is None else found.below
        other_above = None
        if (known := measured.other) is not None:
            other_above = other_threshold(known)
            rejected = float((known > other_above).mean())
            details["other"] = {"rejected_known": rejected, "tracks": len(known)}
        folder = Path(scratch) / "model"
        if len(whole) == 1:
            network = first.network
            if measured.calibration is not None:
                network = nn.Sequential(network, measured.calibration).eval()
            samples = recipes[0].windows.length if recipes[0].windows else None
            if export_transformers(folder, network, first.genres):
                samples = samples or first.representation.shape[-1]
                details["transformers_s"] = samples / first.representation.sampling_rate
            export(
                folder,
                network,
                first.representation,
                first.genres,
                details,
                unsure_below,
                other=first.other,
                other_above=other_above,
            )
        else:
            parts = [Path(scratch) / f"member-{place}" for place in range(len(whole))]
            for part, one in zip(parts, whole, strict=True):
                export(
                    part, one.network, one.representation, one.genres, trained={}, other=one.other
                )
            names = [one.name for one in recipes]
            weights = measured.weights or dict.fromkeys(names, 1 / len(names))
            join(
                folder,
                parts,
                [weights[name] for name in names],
                details | {"weights": weights},
                calibration=measured.calibration,
                unsure_below=unsure_below,
                other_above=other_above,
            )
        put_model(folder, out)
    problems = {str(p): p for p in (*dataset.problems, *(p for w in whole for p in w.problems))}
    most = max(used.values())
    return Trained(out, measured.row, measured.leaks, most, list(problems.values()), first.genres)


@dataclass(frozen=True)
class _Whole:
    # A recipe fitted on all of the ``tracks`` that it can use.
    network: nn.Module
    representation: Representation
    genres: tuple[str, ...]
    tracks: int
    doubt: Doubt | None
    other: nn.Module | None
    problems: tuple[InputError, ...]


def _fit_on_all(
    recipe: Recipe, dataset: Dataset, folder: Path, options: Options, listener: Listener
) -> _Whole:
    representation = recipe.make_representation()
    versions = 1 + len(recipe.augmentations)
    collection = Store(options.store, allow_damaged=options.allow_damaged).collect(
        representation, dataset.tracks, transforms=get_transforms(recipe.augmentations)
    )
    dataset = dataset.with_usable(collection.ids, allow_missing_genres=options.allow_missing_genres)
    place = {track: i for i, track in enumerate(collection.ids)}
    genre_of = {track.id: dataset.genres.index(track.genre) for track in dataset.tracks}
    labels = np.array([genre_of[i] for i in collection.ids], dtype=np.int64)
    groups = np.array(dataset.group_numbers(collection.ids), dtype=np.int64)
    split = _held_back(dataset, place)
    train, valid = (
        np.array([place[i] for i in part], dtype=np.int64) for part in (split.train, split.valid)
    )
    plain = recipe
    if set(split.train) & set(split.valid):  # training tracks cannot calibrate
        plain = recipe.model_copy(update={"calibrate": False})
    if len(set(labels[train].tolist())) < 2:
        raise GenrescopeError("The tracks that can be used are of fewer than two genres.")

    def report(row: Mapping[str, Any]) -> None:
        if "micro_batch" in row:
            listener.note(f"{recipe.name}, on all tracks: {row['micro_batch']}")

    fit_part, held_part = (
        PackedTracks(representation, collection.packed, part, labels[part], versions, groups[part])
        for part in (train, valid)
    )
    fitted = fit(
        plain,
        fit_part,
        held_part,
        shape=representation.shape,
        genres=len(dataset.genres),
        seed=0,
        folder=folder,
        segmented=representation.segmented,
        on_epoch=report,
        **options.trainer_flags,
    )
    found = None
    if plain.calibrate:
        scores = softmax(fitted.valid_logits)
        right = scores.argmax(axis=1) == labels[valid]
        found = doubt(scores.max(axis=1), right, len(dataset.genres))
    return _Whole(
        fitted.network,
        representation,
        dataset.genres,
        len(labels),
        found,
        fitted.other,
        tuple(collection.problems),
    )


@dataclass(frozen=True)
class _Measured:
    # A recipe's cross-validation; without a row, ``protocol`` is the reason.
    row: ResultRow | None
    protocol: str
    leaks: str | None
    doubt: Doubt | None
    calibration: Calibration | None = None
    weights: dict[str, float] | None = None
    other: NDArray[np.float32] | None = None


def _measure(
    recipe: Recipe | Ensemble,
    recipes: list[Recipe],
    dataset: Dataset,
    scratch: Path,
    options: Options,
    listener: Listener,
) -> _Measured:
    reasons: dict[str, str] = {}
    for protocol in _PROTOCOLS:
        try:
            PROTOCOLS[protocol].splits(dataset, 0)
        except GenrescopeError as error:
            reasons[protocol] = str(error)
            continue  # too few tracks, or no artists
        if (warning := _leaks(dataset, protocol, reasons)) is not None:
            listener.note(warning)
        together = [recipe] if isinstance(recipe, Ensemble) else []
        config = StudyConfig(recipes=recipes, ensembles=together, protocols=[protocol], seeds=1)
        study = run_study(config, dataset, scratch / "study", options, listener)
        if (cell := next((c for c in study.cells if c.recipe == recipe.name), None)) is not None:
            scores = next((c.other[0] for c in study.cells if c.other), None)
            return replace(_measured(recipes, cell, warning), other=scores)
        lack = study.unavailable[0]
        if lack.mark == NO_WEIGHTS:
            raise GenrescopeError(lack.reason)
        reasons[protocol] = f"{lack.reason}."  # without the files that cannot be used
    listener.note(f"The classifier cannot be measured. {reasons[_PROTOCOLS[-1]]}")
    return _Measured(None, "none: too few tracks to hold some out", None, None)


def _measured(recipes: list[Recipe], cell: Cell, leaks: str | None) -> _Measured:
    row, [tested] = cell.rows[0], cell.tested
    genres = row.genres
    labels = np.array([genres.index(one.genre) for one in tested], dtype=np.int64)
    probabilities = np.array([one.probabilities for one in tested])
    weights = {name: max(w, LEAST_WEIGHT) for name, w in (row.weights or {}).items()}
    # An encoder's folder for transformers has a temperature, and nothing else.
    if not all(one.calibrate and not one.has_encoder for one in recipes):
        right = probabilities.argmax(axis=1) == labels
        found = doubt(probabilities.max(axis=1), right, len(genres))
        return _Measured(row, cell.protocol, leaks, found, None, weights)
    logits = np.log(np.maximum(probabilities, 1e-6)).astype(np.float32)
    calibrated = probabilities.copy()
    folds = np.array([one.fold for one in tested])
    for fold in np.unique(folds):
        own = folds == fold
        if own.all():  # one fold: no other can calibrate it
            continue
        scale = fit_calibration(logits[~own], labels[~own])
        calibrated[own] = softmax(scale(torch.from_numpy(logits[own])).numpy())
    confidence, right = calibrated.max(axis=1), calibrated.argmax(axis=1) == labels
    row = row.model_copy(update={"ece": expected_calibration_error(confidence, right)})
    found = doubt(confidence, right, len(genres))
    whole = fit_calibration(logits, labels)
    return _Measured(row, cell.protocol, leaks, found, whole, weights)


def _leaks(dataset: Dataset, protocol: str, reasons: dict[str, str]) -> str | None:
    # Artists may be unknown, or impossible to keep apart.
    known = sum(track.group is not None for track in dataset.tracks)
    count = len(dataset.tracks)
    if protocol == "grouped":
        if known == count:
            return None
        return (
            f"The figure may leak: the artists of {count - known} of {count} tracks are not known, "
            "and each counts as an artist of its own."
        )
    if not known:
        return (
            f"The figure may leak: no artists are known, so protocol `{protocol}` is not "
            "artist-disjoint. Name the artists in a CSV file."
        )
    return (
        "The figure leaks: the known artists allow no artist-disjoint split, so models are tested "
        f"on artists that they were trained on (protocol `{protocol}`). {reasons['grouped']}"
    )


def _held_back(dataset: Dataset, usable: Collection[str]) -> Split:
    # All usable tracks in two parts; if too few to split, one track per genre with at least two.
    kept = replace(dataset, tracks=tuple(t for t in dataset.tracks if t.id in usable))
    counts = kept.counts
    for some in (dataset, kept):
        split = without_test(some, seed=0)
        train, valid = (
            tuple(i for i in part if i in usable) for part in (split.train, split.valid)
        )
        fitted = set(train)
        genres = {track.genre for track in kept.tracks if track.id in fitted}
        if valid and genres == set(counts) and fitted.isdisjoint(valid):
            return Split(train, valid, ())
    last = {track.genre: track.id for track in kept.tracks if counts[track.genre] > 1}
    held = set(last.values())
    rest = tuple(track.id for track in kept.tracks if track.id not in held)
    return Split(rest, tuple(sorted(held)) or rest, ())


def _details(
    recipe: Recipe | Ensemble, dataset: Dataset, measured: _Measured, used: dict[str, int]
) -> dict[str, Any]:
    # ``used``: by recipe, the tracks that it was fitted on.
    row, name, tracks = measured.row, one_line(dataset.name), max(used.values())
    several = ", ".join(f"{member} on {count}" for member, count in used.items())
    members = f" ({several})" if len(used) > 1 else ""
    details: dict[str, Any] = {
        "recipe": recipe.name,
        "about": (
            f"A classifier of {len(dataset.genres)} genres, trained on {tracks} tracks of "
            f"{name} by genrescope's recipe {recipe.name}{members}."
        ),
        "recipe_hash": recipe.hash if isinstance(recipe, Recipe) else row and row.recipe_hash,
        "dataset": name,
        "protocol": measured.protocol,
        "seed": 0,
        "n_train": tracks,
        "fitted_on": "all tracks, after it was measured",
        "leaks": measured.leaks,
    }
    if row is not None:
        details |= row.model_dump(include={"accuracy", "macro_f1", "ece", "n_test", "recall"})
        details["tested"] = tested_by_genre(row)
    return details
