"""Train a classifier: measure a recipe by cross-validation, then fit it on all tracks."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrescope.classifier.classifier import softmax
from genrescope.datasets.splits import PROTOCOLS, Split, without_test
from genrescope.datasets.track import Dataset
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.representations.store import Store
from genrescope.representations.transform import get_transforms
from genrescope.study.cell import tested_by_genre
from genrescope.study.config import StudyConfig
from genrescope.study.model_folder import check_place, put_model
from genrescope.study.results import ResultRow
from genrescope.study.run import NO_WEIGHTS, Listener, Options, run_study
from genrescope.study.statistics import Doubt, doubt, other_threshold
from genrescope.training.data import PackedTracks
from genrescope.training.export import export, export_transformers
from genrescope.training.fit import fit
from genrescope.training.recipe import Recipe

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
    with tempfile.TemporaryDirectory(prefix="genrescope-") as scratch:
        measured = _measure(recipe, dataset, Path(scratch), options, listener)
        representation = recipe.make_representation()
        versions = 1 + len(recipe.augmentations)
        collection = Store(options.store, allow_damaged=options.allow_damaged).collect(
            representation, dataset.tracks, transforms=get_transforms(recipe.augmentations)
        )
        dataset = dataset.with_usable(
            collection.ids, allow_missing_genres=options.allow_missing_genres
        )
        place = {track: i for i, track in enumerate(collection.ids)}
        genre_of = {track.id: dataset.genres.index(track.genre) for track in dataset.tracks}
        labels = np.array([genre_of[i] for i in collection.ids], dtype=np.int64)
        groups = np.array(dataset.group_numbers(collection.ids), dtype=np.int64)
        split = _held_back(dataset, place)
        train, valid = (
            np.array([place[i] for i in part], dtype=np.int64)
            for part in (split.train, split.valid)
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
            PackedTracks(
                representation, collection.packed, part, labels[part], versions, groups[part]
            )
            for part in (train, valid)
        )
        fitted = fit(
            plain,
            fit_part,
            held_part,
            shape=representation.shape,
            genres=len(dataset.genres),
            seed=0,
            folder=Path(scratch) / "fit",
            segmented=representation.segmented,
            on_epoch=report,
            **options.trainer_flags,
        )
        folder = Path(scratch) / "model"
        details = _details(recipe, dataset, measured, len(labels)) | {
            "name": one_line(out.resolve().name)
        }
        if licence:
            details["license"] = licence
        found = measured.doubt
        if found is None and plain.calibrate:
            scores = softmax(fitted.valid_logits)
            right = scores.argmax(axis=1) == labels[valid]
            found = doubt(scores.max(axis=1), right, len(dataset.genres))
        if found is not None:
            details["unsure"] = asdict(found)
        unsure_below = _UNSURE_BELOW if found is None else found.below
        if export_transformers(folder, fitted.network, dataset.genres):
            samples = recipe.windows.length if recipe.windows else representation.shape[-1]
            details["transformers_s"] = samples / representation.sampling_rate
        other_above = None
        if (known := measured.other) is not None:
            other_above = other_threshold(known)
            rejected = float((known > other_above).mean())
            details["other"] = {"rejected_known": rejected, "tracks": len(known)}
        export(
            folder,
            fitted.network,
            representation,
            dataset.genres,
            details,
            unsure_below,
            other=fitted.other,
            other_above=other_above,
        )
        put_model(folder, out)
    problems = [*dataset.problems, *collection.problems]
    return Trained(out, measured.row, measured.leaks, len(labels), problems, dataset.genres)


@dataclass(frozen=True)
class _Measured:
    # A recipe's cross-validation; without a row, ``protocol`` is the reason.
    row: ResultRow | None
    protocol: str
    leaks: str | None
    doubt: Doubt | None
    other: NDArray[np.float32] | None = None


def _measure(
    recipe: Recipe, dataset: Dataset, scratch: Path, options: Options, listener: Listener
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
        config = StudyConfig(recipes=[recipe], protocols=[protocol], seeds=1)
        study = run_study(config, dataset, scratch / "study", options, listener)
        if study.cells:
            cell = study.cells[0]
            confidence, right = zip(
                *((one.confidence, one.right) for one in cell.tested[0]), strict=True
            )
            found = doubt(confidence, right, len(dataset.genres))
            other = cell.other[0] if cell.other else None
            return _Measured(cell.rows[0], protocol, warning, found, other)
        lack = study.unavailable[0]
        if lack.mark == NO_WEIGHTS:
            raise GenrescopeError(lack.reason)
        reasons[protocol] = f"{lack.reason}."  # without the files that cannot be used
    listener.note(f"The classifier cannot be measured. {reasons[_PROTOCOLS[-1]]}")
    return _Measured(None, "none: too few tracks to hold some out", None, None)


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


def _details(recipe: Recipe, dataset: Dataset, measured: _Measured, tracks: int) -> dict[str, Any]:
    row, name = measured.row, one_line(dataset.name)
    details: dict[str, Any] = {
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
        details |= row.model_dump(include={"accuracy", "macro_f1", "ece", "n_test", "recall"})
        details["tested"] = tested_by_genre(row)
    return details
