"""Make a classifier to use: measure a recipe by cross-validation, then fit it on every track."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genrescope.errors import GenrescopeError, InputError
from genrescope.representations.alteration import get_alterations
from genrescope.representations.store import Store
from genrescope.study.model_folder import check_place, put_model
from genrescope.study.plan import Plan
from genrescope.study.results import Row
from genrescope.study.run import Listener, Options, run_study
from genrescope.tracks.splits import PROTOCOLS, without_test
from genrescope.tracks.track import Dataset
from genrescope.training.export import export, export_transformers
from genrescope.training.fit import PackedTracks, fit
from genrescope.training.recipe import Recipe

_PROTOCOLS = ("grouped", "kfold", "report")  # the most telling that the data allow
_UNSURE_BELOW = 0.5  # by its own calibrated word, more likely wrong than right


@dataclass(frozen=True)
class Trained:
    """What came of training.

    Attributes
    ----------
    folder
        The model folder.
    row
        How the recipe did under cross-validation; None if there were too few tracks to tell.
    used
        Tracks that the classifier was fitted on.
    problems
        Files that were left out.
    """

    folder: Path
    row: Row | None
    used: int
    problems: list[InputError]


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
    split = without_test(dataset, seed=0)
    with tempfile.TemporaryDirectory(prefix="genrescope-") as scratch:
        row, protocol = _measure(recipe, dataset, Path(scratch), options, listener)
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
        train, valid = (
            np.array([place[i] for i in part if i in place], dtype=np.int64)
            for part in (split.train, split.valid)
        )
        if len(set(labels[train].tolist())) < 2:
            raise GenrescopeError("The tracks that can be used are of fewer than two genres.")
        fitted = fit(
            recipe,
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
        told = _told(recipe, dataset, row, protocol, len(labels))
        if licence:
            told["license"] = licence
        unsure_below = _UNSURE_BELOW if recipe.calibrate else 0.0
        if export_transformers(folder, fitted.network, dataset.genres):
            samples = recipe.windows.length if recipe.windows else representation.shape[-1]
            told["transformers_s"] = samples / representation.rate
        export(folder, fitted.network, representation, dataset.genres, told, unsure_below)
        put_model(folder, out)
    return Trained(out, row, len(labels), [*dataset.problems, *collection.problems])


def _measure(
    recipe: Recipe, dataset: Dataset, scratch: Path, options: Options, listener: Listener
) -> tuple[Row | None, str]:
    for protocol in _PROTOCOLS:
        try:
            PROTOCOLS[protocol].splits(dataset, 0)
        except GenrescopeError:
            continue  # too few tracks or no artists: the next asks for less
        plan = Plan(recipes=[recipe], protocols=[protocol], seeds=1)
        study = run_study(plan, dataset, scratch / "study", options, listener)
        if study.cells:
            return study.cells[0].rows[0], protocol
        raise GenrescopeError(study.unavailable[0].reason)
    return None, "none: too few tracks to hold some back"


def _told(
    recipe: Recipe, dataset: Dataset, row: Row | None, protocol: str, tracks: int
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "recipe": recipe.name,
        "about": recipe.about,
        "recipe_hash": recipe.hash,
        "dataset": dataset.name,
        "protocol": protocol,
        "seed": 0,
        "n_train": tracks,
        "fitted_on": "all tracks, after it was measured",
    }
    if row is not None:
        told |= row.model_dump(include={"accuracy", "macro_f1", "ece", "n_test", "recall"})
    return told
