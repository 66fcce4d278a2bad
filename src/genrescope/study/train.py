"""Make a classifier to use: measure a recipe by cross-validation, then fit it on every track."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genrescope.datasets.splits import PROTOCOLS, Split, without_test
from genrescope.datasets.track import Dataset
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.representations.alteration import get_alterations
from genrescope.representations.store import Store
from genrescope.study.cell import softmax, tested_by_genre
from genrescope.study.config import StudyConfig
from genrescope.study.model_folder import check_place, put_model
from genrescope.study.results import ResultRow
from genrescope.study.run import NO_WEIGHTS, Listener, Options, run_study
from genrescope.study.statistics import Doubt, doubt
from genrescope.training.export import export, export_transformers
from genrescope.training.fit import PackedTracks, fit
from genrescope.training.recipe import Recipe

_PROTOCOLS = ("grouped", "kfold", "random")  # the most telling that the data allow
_UNSURE_BELOW = 0.5  # where nothing was held back that could say better


@dataclass(frozen=True)
class Trained:
    """What came of training.

    Attributes
    ----------
    folder
        The model folder.
    row
        How the recipe did under cross-validation; None if there were too few tracks to tell.
    leaks
        Why that figure may be too good, as a sentence; None if it is not.
    used
        Tracks that the classifier was fitted on.
    problems
        Files that were left out.
    genres
        That it knows.
    """

    folder: Path
    row: ResultRow | None
    leaks: str | None
    used: int
    problems: list[InputError]
    genres: tuple[str, ...]


def train_classifier(
    recipe: Recipe,
    dataset: Dataset,
    out: Path,
    options: Options,
    listener: Listener,
    *,
    licence: str | None = None,
    force: bool = False,
) -> Trained:
    """Measure a recipe on a data set, fit it on all of its tracks and write the model folder.

    Parameters
    ----------
    recipe
        What to fit.
    dataset
        On which tracks; at least two genres.
    out
        The model folder; see `model_folder.check_place`. A model that is there is replaced when
        the new one is complete.
    options
        As for a study.
    listener
        Told how it goes.
    licence
        Of the model, by its SPDX name in small letters, for the model card.
    force
        Whether ``out`` may hold something already.

    Raises
    ------
    GenrescopeError
        If the tracks are too few to fit on, or ``out`` cannot be used.
    """
    check_place(out, force=force)
    with tempfile.TemporaryDirectory(prefix="genrescope-") as scratch:
        measured = _measure(recipe, dataset, Path(scratch), options, listener)
        representation = recipe.make_representation()
        versions = 1 + len(recipe.alterations)
        collection = Store(options.store, allow_damaged=options.allow_damaged).collect(
            representation, dataset.tracks, alterations=get_alterations(recipe.alterations)
        )
        dataset = dataset.with_usable(
            collection.ids, allow_missing_genres=options.allow_missing_genres
        )
        place = {track: i for i, track in enumerate(collection.ids)}
        genre_of = {track.id: dataset.genres.index(track.genre) for track in dataset.tracks}
        labels = np.array([genre_of[i] for i in collection.ids], dtype=np.int64)
        split = _held_back(dataset, place)
        train, valid = (
            np.array([place[i] for i in part], dtype=np.int64)
            for part in (split.train, split.valid)
        )
        plain = recipe
        if set(split.train) & set(split.valid):  # what it was fitted on calibrates nothing
            plain = recipe.model_copy(update={"calibrate": False})
        if len(set(labels[train].tolist())) < 2:
            raise GenrescopeError("The tracks that can be used are of fewer than two genres.")
        fitted = fit(
            plain,
            PackedTracks(representation, collection.packed, train, labels[train], versions),
            PackedTracks(representation, collection.packed, valid, labels[valid], versions),
            shape=representation.shape,
            genres=len(dataset.genres),
            seed=0,
            folder=Path(scratch) / "fit",
            segmented=representation.segmented,
            **options.trainer_flags,
        )
        folder = Path(scratch) / "model"
        told = _told(recipe, dataset, measured, len(labels)) | {
            "name": one_line(out.resolve().name)
        }
        if licence:
            told["license"] = licence
        found = measured.doubt
        if found is None and plain.calibrate:
            shares = softmax(fitted.valid_logits)
            right = shares.argmax(axis=1) == labels[valid]
            found = doubt(shares.max(axis=1), right, len(dataset.genres))
        if found is not None:
            told["unsure"] = asdict(found)
        unsure_below = _UNSURE_BELOW if found is None else found.below
        if export_transformers(folder, fitted.network, dataset.genres):
            samples = recipe.windows.length if recipe.windows else representation.shape[-1]
            told["transformers_s"] = samples / representation.sampling_rate
        export(folder, fitted.network, representation, dataset.genres, told, unsure_below)
        put_model(folder, out)
    problems = [*dataset.problems, *collection.problems]
    return Trained(out, measured.row, measured.leaks, len(labels), problems, dataset.genres)


@dataclass(frozen=True)
class _Measured:
    # What cross-validation said of a recipe; where there is no row, ``protocol`` says why.
    row: ResultRow | None
    protocol: str
    leaks: str | None
    doubt: Doubt | None


def _measure(
    recipe: Recipe, dataset: Dataset, scratch: Path, options: Options, listener: Listener
) -> _Measured:
    reasons: dict[str, str] = {}
    for protocol in _PROTOCOLS:
        try:
            PROTOCOLS[protocol].splits(dataset, 0)
        except GenrescopeError as error:
            reasons[protocol] = str(error)
            continue  # too few tracks or no artists: the next asks for less
        if (warning := _leaks(dataset, protocol, reasons)) is not None:
            listener.note(warning)
        plan = StudyConfig(recipes=[recipe], protocols=[protocol], seeds=1)
        study = run_study(plan, dataset, scratch / "study", options, listener)
        if study.cells:
            cell = study.cells[0]
            sure, right = zip(*((one.confidence, one.right) for one in cell.tested[0]), strict=True)
            found = doubt(sure, right, len(dataset.genres))
            return _Measured(cell.rows[0], protocol, warning, found)
        lack = study.unavailable[0]
        if lack.mark == NO_WEIGHTS:
            raise GenrescopeError(lack.reason)
        reasons[protocol] = f"{lack.reason}."  # without the files that cannot be used
    listener.note(f"It cannot be measured. {reasons[_PROTOCOLS[-1]]}")
    return _Measured(None, "none: too few tracks to hold some back", None, None)


def _leaks(dataset: Dataset, protocol: str, reasons: dict[str, str]) -> str | None:
    # Why a figure may be too good: artists that are not known, or cannot be kept apart.
    known = sum(track.group is not None for track in dataset.tracks)
    count = len(dataset.tracks)
    if protocol == "grouped":
        if known == count:
            return None
        return (
            f"The figure may leak: the artists of {count - known} of {count} tracks are not known, "
            "and each is taken for an artist of its own."
        )
    if not known:
        return (
            f"The figure may leak: no artists are known, so protocol `{protocol}` cannot keep them "
            "apart. Name them in a CSV file."
        )
    return (
        "The figure leaks: artists are known but cannot be kept apart, so models are tested on "
        f"artists that they were trained on (protocol `{protocol}`). {reasons['grouped']}"
    )


def _held_back(dataset: Dataset, usable: Collection[str]) -> Split:
    # All usable tracks, in two parts; of too few to split, one of every genre that has two.
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


def _told(recipe: Recipe, dataset: Dataset, measured: _Measured, tracks: int) -> dict[str, Any]:
    row, name = measured.row, one_line(dataset.name)
    told: dict[str, Any] = {
        "recipe": recipe.name,
        "about": (
            f"A classifier of {len(dataset.genres)} genres, trained on {tracks} tracks of "
            f"{name} by genrescope's recipe {recipe.name}."
        ),
        "recipe_hash": recipe.hash,
        "dataset": name,
        "protocol": measured.protocol,
        "seed": 0,
        "n_train": tracks,
        "fitted_on": "all tracks, after it was measured",
        "leaks": measured.leaks,
    }
    if row is not None:
        told |= row.model_dump(include={"accuracy", "macro_f1", "ece", "n_test", "recall"})
        told["tested"] = tested_by_genre(row)
    return told
