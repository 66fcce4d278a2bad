"""Results of a study: one row per recipe × protocol × seed, and what they add up to."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from genrescope.training.fit import Curves

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
)
"""Of ``results.csv``."""

_RESAMPLES = 2000


class Row(BaseModel):
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
    recall
        Per genre; None where the test holds no track of it.
    confusion
        Counts, true genre × predicted genre, in the order of ``genres``.
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


class Unavailable(BaseModel):
    """A recipe (under a protocol, or under all of them) that could not be run, and why."""

    recipe: str
    protocol: str | None
    mark: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """One line of ``predictions.csv``."""

    id: str
    genre: str
    predicted: str

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
    """

    recipe: str
    protocol: str
    rows: list[Row]
    curves: list[Curves]
    tested: list[list[Outcome]]

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
    def n_test(self) -> int:
        """Test tracks of a seed."""
        return round(float(np.mean([row.n_test for row in self.rows])))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Summed over seeds; int (genres, genres), true × predicted."""
        return np.asarray(np.sum([row.confusion for row in self.rows], axis=0))

    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, by bootstrap over tracks.

        A track that several seeds tested is drawn with all its outcomes, for seeds are no
        substitute for tracks (percentile method; B. Efron, 1979).
        """
        outcomes: defaultdict[str, list[bool]] = defaultdict(list)
        for tested in self.tested:
            for track in tested:
                outcomes[track.id].append(track.right)
        right = np.array([sum(track) for track in outcomes.values()])
        count = np.array([len(track) for track in outcomes.values()])
        drawn = np.random.default_rng(0).integers(len(right), size=(_RESAMPLES, len(right)))
        accuracies = right[drawn].sum(axis=1) / count[drawn].sum(axis=1)
        low, high = np.quantile(accuracies, [0.025, 0.975])
        return float(low), float(high)


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write ``results.csv``: one line a row, the columns of ``COLUMNS``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def read_tested(path: Path) -> list[Outcome]:
    """Read ``predictions.csv``."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Outcome(line["id"], line["genre"], line["predicted"]) for line in csv.DictReader(file)
        ]
