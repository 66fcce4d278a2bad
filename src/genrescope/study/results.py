"""Results of a study: one row per recipe × protocol × seed, their summary and comparisons."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from genrescope.datasets.splits import PROTOCOLS, get_protocol
from genrescope.io import CsvReader, CsvWriter, read_back, read_cell, to_json, write_text
from genrescope.study.statistics import (
    bootstrap,
    expected_calibration_error,
    mcnemar,
    paired_bootstrap,
    wilson,
)

if TYPE_CHECKING:
    from genrescope.training.loggers import Curves

COLUMNS = (
    "recipe",
    "protocol",
    "seed",
    "accuracy",
    "macro_f1",
    "n_train",
    "n_valid",
    "n_test",
    "seconds",
    "recipe_hash",
    "data_checksum",
    "train_share",
    "parameters",
    "train_seconds",
    "predict_seconds",
    "peak_memory",
)
"""Of ``results.csv``."""

SUMMARY_COLUMNS = (
    "recipe",
    "protocol",
    "scope",
    "seeds",
    "accuracy_mean",
    "accuracy_sd",
    "low",
    "high",
    "interval_method",
    "macro_f1",
    "ece",
    "n_train",
    "n_valid",
    "n_test",
    "tracks_used",
    "seconds",
    "epochs",
    "parameters",
    "train_seconds",
    "predict_seconds",
    "peak_memory",
)
"""Of ``summary.csv``; followed by ``precision_``, ``recall_`` and ``f1_<genre>`` for each genre."""

MEASURED = ("seconds", "train_seconds", "predict_seconds", "peak_memory")
"""Columns that differ when the same fit is repeated."""

LEAKS = "LEAKS"
"""Marks every result of a protocol that splits segments."""

_DIGITS = 6  # in CSV files


class GenreScores(NamedTuple):
    """Precision, recall and F1 of a genre; None where it was never predicted, or not tested."""

    precision: float | None
    recall: float | None
    f1: float | None


class ResultRow(BaseModel):
    """One fit and test (over all folds of its protocol).

    Attributes
    ----------
    accuracy, macro_f1
        Over all test tracks; macro-F1 over the genres that the test holds.
    n_train, n_valid
        Tracks, averaged over folds.
    n_test
        Tracks over all folds.
    seconds
        For fitting, exporting and testing.
    ece
        Expected calibration error of the probabilities, in 15 bins of confidence; None in results
        of older versions.
    train_share
        The fraction of the training tracks that were used; below 1 for learning curves.
    segment_accuracy
        Accuracy of single segments of 3 s, if a track's prediction is their average; else None.
    weights
        An ensemble's weights of its members; None for a recipe.
    recall
        Per genre; None where the test holds no track of it.
    confusion
        Counts, true genre × predicted genre, in the order of ``genres``.
    parameters
        Of the network; None for classical models.
    train_seconds
        For fitting alone, over all folds.
    predict_seconds
        For a test track, from its array to its probabilities.
    peak_memory
        Largest resident memory of the process while it fitted, in bytes.

    The last three are None in results of older versions, and of ensembles.
    """

    model_config = ConfigDict(extra="forbid")

    recipe: str
    protocol: str
    seed: int
    accuracy: float
    macro_f1: float
    n_train: int
    n_valid: int
    n_test: int
    seconds: float
    recipe_hash: str
    data_checksum: str
    genres: list[str]
    recall: dict[str, float | None]
    confusion: list[list[int]]
    environment: dict[str, str]
    ece: float | None = None
    train_share: float = 1.0
    segment_accuracy: float | None = None
    weights: dict[str, float] | None = None
    parameters: int | None = None
    train_seconds: float | None = None
    predict_seconds: float | None = None
    peak_memory: int | None = None

    @property
    def by_genre(self) -> dict[str, GenreScores]:
        """Precision, recall and F1 of each genre, from ``confusion``."""
        matrix = np.asarray(self.confusion)
        scores = {}
        for i, genre in enumerate(self.genres):
            hits, true, predicted = matrix[i, i], matrix[i].sum(), matrix[:, i].sum()
            scores[genre] = GenreScores(
                float(hits / predicted) if predicted else None,
                float(hits / true) if true else None,
                float(2 * hits / (true + predicted)) if true else None,
            )
        return scores


class Unavailable(BaseModel):
    """A recipe that could not be run under a protocol, or under all (None), and the reason."""

    recipe: str
    protocol: str | None
    mark: str
    reason: str


@dataclass(frozen=True)
class TrackPrediction:
    """One line of ``predictions.csv``.

    Attributes
    ----------
    confidence
        Probability of the predicted genre; NaN if unknown.
    fold
        The fold whose model predicted it; None if unknown.
    probabilities
        Of the genres in their order; empty if unknown.
    """

    id: str
    genre: str
    predicted: str
    confidence: float = math.nan
    fold: int | None = None
    probabilities: tuple[float, ...] = ()

    @property
    def right(self) -> bool:
        """Whether the prediction is the label."""
        return self.genre == self.predicted


@dataclass(frozen=True)
class Cell:
    """All seeds of one recipe under one protocol.

    Attributes
    ----------
    rows
        By seed.
    curves
        By seed and fold.
    tested
        By seed.
    other
        By seed: the test tracks' scores for "none of these genres", float32 (tracks,); empty if the
        recipe gives none.
    """

    recipe: str
    protocol: str
    rows: list[ResultRow]
    curves: list[Curves]
    tested: list[list[TrackPrediction]]
    other: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Of the seeds' accuracies."""
        return float(np.mean([row.accuracy for row in self.rows]))

    @property
    def sd(self) -> float | None:
        """Sample standard deviation of the seeds' accuracies; None for one seed."""
        accuracies = [row.accuracy for row in self.rows]
        return float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None

    @property
    def macro_f1(self) -> float:
        """Mean over seeds."""
        return float(np.mean([row.macro_f1 for row in self.rows]))

    @property
    def ece(self) -> float | None:
        """Expected calibration error, mean over seeds; None if one is unknown."""
        return _mean([row.ece for row in self.rows], of_all=True)

    @property
    def segment_accuracy(self) -> float | None:
        """Accuracy of single segments, mean over seeds; None if one is unknown."""
        return _mean([row.segment_accuracy for row in self.rows], of_all=True)

    @property
    def weights(self) -> dict[str, float]:
        """An ensemble's weights of its members, mean over seeds; empty for a recipe."""
        given = [row.weights for row in self.rows if row.weights is not None]
        return {name: float(np.mean([one[name] for one in given])) for name in (given or [{}])[0]}

    @property
    def by_genre(self) -> dict[str, GenreScores]:
        """Per genre, means over the seeds that have the score."""
        seeds = [row.by_genre for row in self.rows]
        return {
            genre: GenreScores(*map(_mean, zip(*(seed[genre] for seed in seeds), strict=True)))
            for genre in self.rows[0].genres
        }

    @property
    def epochs(self) -> float | None:
        """Mean number of epochs of a fit; None for models without epochs."""
        return _mean([len(run) or None for run in self.curves])

    @property
    def parameters(self) -> int | None:
        """Of the network; None for classical models."""
        return self.rows[0].parameters

    @property
    def train_seconds(self) -> float | None:
        """For fitting, mean over seeds; None if one is unknown."""
        return _mean([row.train_seconds for row in self.rows], of_all=True)

    @property
    def predict_seconds(self) -> float | None:
        """For a test track, mean over seeds; None if one is unknown."""
        return _mean([row.predict_seconds for row in self.rows], of_all=True)

    @property
    def peak_memory(self) -> int | None:
        """Of the fit that took most, in bytes; None if unknown."""
        return max((row.peak_memory for row in self.rows if row.peak_memory), default=None)

    @property
    def train_share(self) -> float:
        """The fraction of the training tracks that were used."""
        return self.rows[0].train_share

    @property
    def n_train(self) -> int:
        """Training tracks of a seed."""
        return round(float(np.mean([row.n_train for row in self.rows])))

    @property
    def n_valid(self) -> int:
        """Validation tracks of a seed."""
        return round(float(np.mean([row.n_valid for row in self.rows])))

    @property
    def n_test(self) -> int:
        """Test tracks of a seed."""
        return round(float(np.mean([row.n_test for row in self.rows])))

    @property
    def seconds(self) -> float:
        """Mean over seeds."""
        return float(np.mean([row.seconds for row in self.rows]))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Summed over seeds; int (genres, genres), true × predicted."""
        return np.asarray(np.sum([row.confusion for row in self.rows], axis=0))

    @property
    def interval_method(self) -> str:
        """The method of ``interval``: ``Wilson`` or ``bootstrap``.

        Wilson's needs independent tracks: tested once, by one fit per seed, and the same ones by
        every seed. Folds, segments, changing test sets and results without folds are resampled.
        """
        tests = [[self._track(outcome) for outcome in tested] for tested in self.tested]
        same = all(set(test) == set(tests[0]) for test in tests)
        once = all(len(test) == len(set(test)) for test in tests)
        folds = {outcome.fold for tested in self.tested for outcome in tested}
        return "Wilson" if same and once and len(folds) == 1 and None not in folds else "bootstrap"

    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, by ``interval_method``.

        Wilson's is that of the mean number right. The bootstrap draws a track with the outcomes
        of all seeds: seeds do not count as independent.
        """
        if self.interval_method == "Wilson":
            right = sum(outcome.right for tested in self.tested for outcome in tested)
            return wilson(right / len(self.tested), len(self.tested[0]))
        outcomes: defaultdict[str, list[bool]] = defaultdict(list)
        for tested in self.tested:
            for outcome in tested:
                outcomes[self._track(outcome)].append(outcome.right)
        right_of = [sum(track) for track in outcomes.values()]
        return bootstrap(right_of, [len(track) for track in outcomes.values()])

    def restricted(self, ids: Collection[str]) -> Cell | None:
        """The same fits, measured on a subset of their test tracks.

        Parameters
        ----------
        ids
            Of tracks.

        Returns
        -------
        cell
            Without the seeds that tested none of these tracks; None if no seed did. It has no
            accuracy of single segments, as predictions are stored by track.
        """
        rows: list[ResultRow] = []
        kept: list[list[TrackPrediction]] = []
        for row, tested in zip(self.rows, self.tested, strict=True):
            if left := [outcome for outcome in tested if self._track(outcome) in ids]:
                rows.append(_measured(row, left))
                kept.append(left)
        return replace(self, rows=rows, tested=kept) if rows else None

    def tracks(self) -> set[str]:
        """Ids of the tracks that it was tested on."""
        return {self._track(outcome) for tested in self.tested for outcome in tested}

    def _track(self, outcome: TrackPrediction) -> str:
        # In other protocols, a # is part of a file's name.
        return outcome.id.rpartition("#")[0] if of_segments(self.protocol) else outcome.id


@dataclass(frozen=True)
class Comparison:
    """Two recipes on the test tracks that both could use.

    Attributes
    ----------
    n_tracks
        Tested by both in the same seed.
    difference
        Accuracy of a minus that of b on these tracks, over their common seeds.
    low, high
        Its 95 % interval, by paired bootstrap over tracks.
    mcnemar_p
        Of the exact McNemar test on the first seed; not corrected for multiple comparisons.
        None for segments, which are not independent of each other.
    """

    recipe_a: str
    recipe_b: str
    protocol: str
    n_tracks: int
    difference: float
    low: float
    high: float
    mcnemar_p: float | None


def of_segments(protocol: str) -> bool:
    """Whether a protocol splits segments, so that tracks leak from training to test."""
    return protocol in PROTOCOLS and PROTOCOLS[protocol].of_segments


def mark_of(protocol: str) -> str:
    """Give the word for whether artists or tracks leak by a protocol."""
    if of_segments(protocol):
        return LEAKS
    return "leakage-free" if get_protocol(protocol).leakage_free else "artists leak"


def compare(cell_a: Cell, cell_b: Cell) -> Comparison | None:
    """Compare two recipes under one protocol, track by track.

    Returns
    -------
    comparison
        None if they were tested on no track in common.

    Raises
    ------
    ValueError
        If the protocols differ.
    """
    if cell_a.protocol != cell_b.protocol:
        raise ValueError(f"{cell_a.protocol} and {cell_b.protocol} are not comparable")
    pairs = _pairs(cell_a, cell_b)
    if not pairs:
        return None
    by_track: defaultdict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for _, track, *right in pairs:
        by_track[track].append((right[0], right[1]))
    found = paired_bootstrap(
        [[a for a, _ in outcomes] for outcomes in by_track.values()],
        [[b for _, b in outcomes] for outcomes in by_track.values()],
    )
    first = [pair for pair in pairs if pair[0] == pairs[0][0]]
    p = mcnemar([a for _, _, a, _ in first], [b for *_, b in first])
    return Comparison(
        cell_a.recipe,
        cell_b.recipe,
        cell_a.protocol,
        len(by_track),
        found.difference,
        found.low,
        found.high,
        None if of_segments(cell_a.protocol) else p,
    )


def _pairs(cell_a: Cell, cell_b: Cell) -> list[tuple[int, str, bool, bool]]:
    # Seed, track, and whether each recipe is right; by seed.
    theirs = {row.seed: tested for row, tested in zip(cell_b.rows, cell_b.tested, strict=True)}
    pairs: list[tuple[int, str, bool, bool]] = []
    for row, tested in zip(cell_a.rows, cell_a.tested, strict=True):
        right = {outcome.id: outcome.right for outcome in theirs.get(row.seed, [])}
        pairs += [
            (row.seed, cell_a._track(outcome), outcome.right, right[outcome.id])
            for outcome in tested
            if outcome.id in right
        ]
    return pairs


def _measured(row: ResultRow, outcomes: Sequence[TrackPrediction]) -> ResultRow:
    place = {genre: i for i, genre in enumerate(row.genres)}
    matrix = np.zeros((len(place), len(place)), dtype=np.int64)
    for outcome in outcomes:
        matrix[place[outcome.genre], place[outcome.predicted]] += 1
    hits, true, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    present = true > 0
    confidence = [outcome.confidence for outcome in outcomes]
    known = not any(math.isnan(value) for value in confidence)
    right = [outcome.right for outcome in outcomes]
    return row.model_copy(
        update={
            "accuracy": float(hits.sum() / len(outcomes)),
            "macro_f1": float(np.mean((2 * hits / np.maximum(true + predicted, 1))[present])),
            "recall": {g: float(hits[i] / true[i]) if true[i] else None for g, i in place.items()},
            "confusion": matrix.tolist(),
            "n_test": len(outcomes),
            "ece": expected_calibration_error(confidence, right) if known else None,
            "segment_accuracy": None,
        }
    )


def _mean(values: Iterable[float | None], *, of_all: bool = False) -> float | None:
    given = list(values)
    known = [value for value in given if value is not None]
    return float(np.mean(known)) if known and not (of_all and len(known) < len(given)) else None


def write_csv(path: Path, rows: list[ResultRow]) -> None:
    """Write ``results.csv``: one line per row, the columns of ``COLUMNS``."""
    with write_text(path) as file:
        writer = CsvWriter(file, "\r\n")
        writer.row(*COLUMNS)
        for row in rows:
            writer.row(*(getattr(row, column) for column in COLUMNS))


def write_summary(
    path: Path, scopes: Mapping[str, Sequence[Cell]], used: Mapping[str, int]
) -> None:
    """Write ``summary.csv``: one line per cell, ``SUMMARY_COLUMNS`` and each genre's scores.

    Parameters
    ----------
    path
        Of the file.
    scopes
        Cells by the restriction of their test tracks: ``all``, ``audio``.
    used
        Per recipe, the number of usable tracks.
    """
    cells = [(scope, cell) for scope, several in scopes.items() for cell in several]
    genres = list(dict.fromkeys(genre for _, cell in cells for genre in cell.rows[0].genres))
    with write_text(path) as file:
        writer = CsvWriter(file, "\r\n")
        scored = [f"{score}_{genre}" for score in GenreScores._fields for genre in genres]
        writer.row(*SUMMARY_COLUMNS, *scored)
        for scope, cell in cells:
            low, high = cell.interval()
            figures = (cell.mean, cell.sd, low, high)
            line = [cell.recipe, cell.protocol, scope, len(cell.rows), *map(_rounded, figures)]
            line += [cell.interval_method, _rounded(cell.macro_f1), _rounded(cell.ece)]
            line += [cell.n_train, cell.n_valid, cell.n_test, used[cell.recipe]]
            line += [round(cell.seconds, 2), _rounded(cell.epochs), cell.parameters]
            line += [_rounded(cell.train_seconds), _rounded(cell.predict_seconds)]
            line += [cell.peak_memory]
            scores = cell.by_genre
            for i in range(len(GenreScores._fields)):
                line += [_rounded(scores[g][i]) if g in scores else None for g in genres]
            writer.row(*line)


def write_comparisons(path: Path, cells: Sequence[Cell]) -> None:
    """Write ``comparisons.csv``: every pair of recipes under the same protocol.

    One line per ``Comparison``; pairs without a common test track have none.
    """
    columns = [field.name for field in fields(Comparison)]
    with write_text(path) as file:
        writer = CsvWriter(file, "\r\n")
        writer.row(*columns)
        for a, b in combinations(cells, 2):
            if a.protocol == b.protocol and (found := compare(a, b)) is not None:
                values = [getattr(found, column) for column in columns]
                writer.row(*(_rounded(v) if isinstance(v, float) else v for v in values))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with write_text(path) as file:
        file.write(to_json(content, 1) + "\n")


def read_tested(path: Path) -> list[TrackPrediction]:
    """Read ``predictions.csv``."""
    # By position: a genre may have the name of a column.
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = ([read_back(read_cell(c)) for c in line] for line in CsvReader(file))
    genres = {genre: place for place, genre in enumerate(header[4:])}
    return [
        TrackPrediction(track, genre, predicted, shares[genres[predicted]], int(fold), shares)
        for line in lines
        for (track, fold, genre, predicted), shares in [(line[:4], tuple(map(float, line[4:])))]
    ]
