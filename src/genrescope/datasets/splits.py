"""Protocols: how tracks become train, validation and test.

Every protocol splits whole tracks of the whole dataset, independently of which model can use
which track, so all recipes share every split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from genrescope.datasets.published import LEAKY, PUBLISHED
from genrescope.datasets.track import Dataset, Track
from genrescope.errors import GenrescopeError

_VALID_SHARE = 0.2  # of what is not test, as in the study


@dataclass(frozen=True)
class Split:
    """One way to train, select and test: three disjoint sets of track ids, each sorted."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """A way of splitting, with notes for readers of results.

    Attributes
    ----------
    name
        As printed beside every result.
    about
        One clause for tables and reports.
    leakage_free
        Whether neither artists nor segments can leak from training to test.
    of_segments
        Whether it splits segments, with ids as of ``segment_id``, instead of whole tracks.
    """

    name: str
    about: str
    leakage_free: bool
    of_segments: bool
    _make: Callable[[Dataset, int], list[Split]]

    def splits(self, dataset: Dataset, seed: int) -> list[Split]:
        """Split a dataset; several splits are folds that together test every track.

        Parameters
        ----------
        dataset
            All its tracks are used, except by published lists that leave some out.
        seed
            Determines all random choices.

        Raises
        ------
        GenrescopeError
            If the dataset lacks artists, or tracks.
        """
        return self._make(dataset, seed)


PROTOCOLS: dict[str, Protocol] = {}

Maker = Callable[[Dataset, int], list[Split]]


def protocol(
    name: str, about: str, *, leakage_free: bool, of_segments: bool = False
) -> Callable[[Maker], Maker]:
    """Register a function from dataset and seed to splits."""

    def register(make: Maker) -> Maker:
        PROTOCOLS[name] = Protocol(name, about, leakage_free, of_segments, make)
        return make

    return register


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name, or as of ``across_name``; an unknown one is a GenrescopeError."""
    if _ACROSS.fullmatch(name):
        about = "all of one data set for training, another for testing; no known artist is in both"
        return Protocol(name, about, True, False, partial(_across, name))
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        former = " The protocol report is now called random." if name == "report" else ""
        raise GenrescopeError(f"There is no protocol {name!r}; there are: {known}.{former}")
    return PROTOCOLS[name]


@protocol(
    "filtered",
    "artist- and fault-filtered: no artist on both sides, known faults left out",
    leakage_free=True,
)
def filtered(dataset: Dataset, seed: int) -> list[Split]:
    """Published lists if there are any; otherwise one fixed split of whole artists."""
    del seed  # the split is fixed; seeds vary only the training
    if (lists := dataset.lists.get("filtered")) is not None:
        return [Split(*(tuple(sorted(ids)) for ids in (lists.train, lists.valid, lists.test)))]
    train, test = _folds(dataset.tracks, 3, seed=0, grouped=True)[0]
    return [_with_validation(train, test, seed=0, grouped=True)]


@protocol(
    PUBLISHED,
    "the data set's own lists, checked: no artist on both sides",
    leakage_free=True,
)
def published(dataset: Dataset, seed: int) -> list[Split]:
    """The split that the data set's authors published, without missing tracks."""
    return _own_lists(dataset, PUBLISHED, seed)


@protocol(
    LEAKY,
    "the data set's own lists, with artists on both sides or unknown: artists leak",
    leakage_free=False,
)
def leaky_published(dataset: Dataset, seed: int) -> list[Split]:
    """As ``published``, where artists are in several lists, or are not known."""
    return _own_lists(dataset, LEAKY, seed)


def _own_lists(dataset: Dataset, name: str, seed: int) -> list[Split]:
    del seed  # the split is fixed; seeds vary only the training
    if (lists := dataset.lists.get(name)) is not None:
        return [Split(lists.train, lists.valid, lists.test)]
    other = next((known for known in (PUBLISHED, LEAKY) if known in dataset.lists), None)
    if other is None:
        raise GenrescopeError(
            f"{dataset.name} has no published split. Use protocol `grouped` if its artists are "
            "known, else `random`."
        )
    found = "is artist-disjoint" if other == PUBLISHED else "leaks artists, or does not name them"
    raise GenrescopeError(f"The published split of {dataset.name} {found}. Use protocol `{other}`.")


def across_name(own: str, other: str) -> str:
    """Name the protocol that trains on one data set and tests on another."""
    return f"trained on {own}, tested on {other}"


_ACROSS = re.compile(r"trained on .+, tested on .+", re.DOTALL)


def _across(name: str, dataset: Dataset, seed: int) -> list[Split]:
    if (lists := dataset.lists.get(name)) is None:
        raise GenrescopeError(f"{dataset.name} is not a pair of data sets. Use --test-on.")
    train = set(lists.train)
    own = replace(dataset, tracks=tuple(t for t in dataset.tracks if t.id in train))
    return [replace(without_test(own, seed), test=tuple(sorted(lists.test)))]


@protocol("random", "stratified random 64/16/20 by track, artists leak", leakage_free=False)
def random(dataset: Dataset, seed: int) -> list[Split]:
    """The study's own split: each seed draws another fifth for testing."""
    train, test = _folds(dataset.tracks, 5, seed, grouped=False)[0]
    return [_with_validation(train, test, seed, grouped=False)]


@protocol("kfold", "stratified 10-fold by track, artists leak", leakage_free=False)
def kfold(dataset: Dataset, seed: int) -> list[Split]:
    """What most papers report."""
    folds = _folds(dataset.tracks, 10, seed, grouped=False)
    return [_with_validation(train, test, seed, grouped=False) for train, test in folds]


@protocol("grouped", "stratified 5-fold, no artist on both sides", leakage_free=True)
def grouped(dataset: Dataset, seed: int) -> list[Split]:
    """Every track is tested once by a model that was not trained on its artist."""
    folds = _folds(dataset.tracks, 5, seed, grouped=True)
    return [_with_validation(train, test, seed, grouped=True) for train, test in folds]


@protocol(
    "leaky-segments",
    "3 s segments split at random 64/16/20: every track LEAKS, to show how much that inflates",
    leakage_free=False,
    of_segments=True,
)
def leaky_segments(dataset: Dataset, seed: int) -> list[Split]:
    """What some papers report: parts of the same track on both sides."""
    segments = [
        replace(track, id=segment_id(track.id, number))
        for track in dataset.tracks
        for number in range(SEGMENTS)
    ]
    train, test = _folds(segments, 5, seed, grouped=False)[0]
    return [_with_validation(train, test, seed, grouped=False)]


SEGMENTS = 10
"""Segments of a track by ``leaky-segments``: as many as of 3 s as fit into 30 s."""


def segment_id(track: str, number: int) -> str:
    """Name a segment, numbered from 0, of a track."""
    return f"{track}#{number}"


def share_of(split: Split, genre_of: Mapping[str, str], share: float, seed: int) -> Split:
    """Keep a fraction of every genre's training and validation tracks, and all test tracks.

    Parameters
    ----------
    split
        Of ids.
    genre_of
        By id.
    share
        In (0, 1]; of each genre at least one track is kept.
    seed
        Determines which.
    """
    rng = np.random.default_rng(seed)

    def some(ids: tuple[str, ...]) -> tuple[str, ...]:
        by_genre: dict[str, list[str]] = {}
        for track in ids:
            by_genre.setdefault(genre_of[track], []).append(track)
        kept = [
            track
            for _, own in sorted(by_genre.items())
            for track in rng.permutation(own)[: max(1, round(share * len(own)))].tolist()
        ]
        return tuple(sorted(kept))

    return Split(some(split.train), some(split.valid), split.test)


def without_test(dataset: Dataset, seed: int) -> Split:
    """Split all tracks into train and validation, artist-disjoint if artists are known.

    For a final classifier, fitted on all data after evaluation. If there are too few tracks for
    validation, all are on both sides.
    """
    for apart in (True, False):
        try:
            split = _with_validation(list(dataset.tracks), [], seed, grouped=apart)
        except GenrescopeError:
            continue
        return split
    ids = tuple(track.id for track in dataset.tracks)
    return Split(ids, ids, ())


Fold = tuple[list[Track], list[Track]]


def _with_validation(train: list[Track], test: list[Track], seed: int, *, grouped: bool) -> Split:
    count = round(1 / _VALID_SHARE)
    fit, valid = _folds(train, count, seed, grouped=grouped, left=" left beside the test")[0]
    return Split(*(tuple(sorted(track.id for track in part)) for part in (fit, valid, test)))


def _folds(
    tracks: Sequence[Track], count: int, seed: int, *, grouped: bool, left: str = ""
) -> list[Fold]:
    # Slow to import, and an extra.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # noqa: PLC0415

    genres: NDArray[np.str_] = np.array([track.genre for track in tracks])
    _require_enough(tracks, genres, count, grouped=grouped, left=left)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    splitter = kind(n_splits=count, shuffle=True, random_state=seed)
    groups = [track.unit for track in tracks] if grouped else None
    folds = [
        ([tracks[i] for i in train], [tracks[i] for i in test])
        for train, test in splitter.split(genres, genres, groups)
    ]
    for train, test in folds:  # artists may have too many tracks to distribute
        lost = sorted(set(genres.tolist()) - {track.genre for track in train})
        if lost or not test:
            raise _too_few_artists(f"Genre {lost[0]} has" if lost else "There are", count, left)
    return folds


def _require_enough(
    tracks: Sequence[Track], genres: NDArray[np.str_], count: int, *, grouped: bool, left: str
) -> None:
    names, sizes = np.unique(genres, return_counts=True)
    if len(names) < 2:
        raise GenrescopeError(f"{len(names)} genre(s) with tracks: at least two are needed.")
    if (smallest := int(sizes.min())) < count:
        raise GenrescopeError(
            f"Genre {names[sizes.argmin()]} has {smallest} tracks{left}, and {count} are needed to "
            f"split it {count} ways. Add tracks or leave the genre out."
        )
    if grouped and all(track.group is None for track in tracks):
        raise GenrescopeError(
            "No track's artist is known, so no artist-disjoint split can be made. Give artists "
            "(an artist column, or metadata/GTZANindex.txt for GTZAN), or use protocol `random`."
        )
    artists = {track.unit for track in tracks}
    if grouped and len(artists) < count:
        raise _too_few_artists("There are", count, left)


def _too_few_artists(who: str, count: int, left: str) -> GenrescopeError:
    return GenrescopeError(
        f"{who} too few artists{left} to keep each on one side when splitting {count} ways. Add "
        "tracks by other artists, or use protocol `random`."
    )
