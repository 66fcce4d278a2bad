"""Figures of robustness: accuracy and share of changed answers, with paired intervals; files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from genrescope import __version__
from genrescope.io import CsvWriter, to_json, write_text
from genrescope.robustness.measure import Answers
from genrescope.robustness.transforms import UNCHANGED
from genrescope.study.statistics import mcnemar, paired_bootstrap, wilson

_DIGITS = 6  # in files


@dataclass(frozen=True)
class RobustnessRow:
    """A model's answers under one transform, beside those for the same clips as they are.

    Attributes
    ----------
    tracks
        To which the transform applies; each is tested once.
    accuracy, accuracy_low, accuracy_high
        On the transformed clips, with Wilson's 95 % interval.
    unchanged_accuracy
        On the same clips as they are.
    difference, low, high
        ``accuracy`` minus ``unchanged_accuracy``, with the 95 % interval of a paired bootstrap over
        tracks.
    mcnemar_p
        Of the exact McNemar test, not corrected for multiple comparisons.
    changed, changed_low, changed_high
        Share of tracks with another answer, right or wrong, with Wilson's 95 % interval.
    """

    model: str
    protocol: str
    transform: str
    tracks: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    unchanged_accuracy: float
    difference: float
    low: float
    high: float
    mcnemar_p: float
    changed: float
    changed_low: float
    changed_high: float


def summarise(found: Answers) -> list[RobustnessRow]:
    """Compare each model's answers with those for the clips as they are.

    Returns
    -------
    rows
        By model, then transform; the first row of a model is that of the unchanged clips. There is
        none for a transform that applies to no clip.
    """
    predicted: defaultdict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    genre_of: dict[str, str] = {}
    for answer in found.answers:
        key = (answer.model, answer.protocol, answer.transform)
        predicted[key][answer.track] = answer.predicted
        genre_of[answer.track] = answer.genre
    names = [UNCHANGED.name, *(transform.name for transform in found.transforms)]
    models = dict.fromkeys((model.name, model.protocol) for model in found.models)
    return [
        _row(*model, name, predicted[*model, name], predicted[*model, UNCHANGED.name], genre_of)
        for model in models
        for name in names
        if predicted[*model, name]
    ]


def _row(
    model: str,
    protocol: str,
    transform: str,
    after: dict[str, str],
    before: dict[str, str],
    genre_of: dict[str, str],
) -> RobustnessRow:
    right = [genre == genre_of[track] for track, genre in after.items()]
    was_right = [before[track] == genre_of[track] for track in after]
    changed = [genre != before[track] for track, genre in after.items()]
    count = len(right)
    gap = paired_bootstrap([[one] for one in right], [[one] for one in was_right])
    return RobustnessRow(
        model,
        protocol,
        transform,
        count,
        sum(right) / count,
        *wilson(sum(right), count),
        sum(was_right) / count,
        gap.difference,
        gap.low,
        gap.high,
        mcnemar(right, was_right),
        sum(changed) / count,
        *wilson(sum(changed), count),
    )


def to_table(found: Answers, rows: Sequence[RobustnessRow], dataset: str) -> dict[str, Any]:
    """Return everything but the single answers as JSON values."""
    left_out: defaultdict[tuple[str, str], int] = defaultdict(int)
    for model in found.models:
        left_out[model.name, model.protocol] += model.left_out
    return {
        "genrescope": __version__,
        "dataset": dataset,
        "transforms": {t.name: t.about for t in (UNCHANGED, *found.transforms)},
        "without_usable_audio": [
            {"model": name, "protocol": protocol, "tracks": count}
            for (name, protocol), count in left_out.items()
        ],
        "problems": [str(problem) for problem in found.problems],
        "rows": [{k: _rounded(v) for k, v in asdict(row).items()} for row in rows],
    }


def write_robustness(
    folder: Path, found: Answers, rows: Sequence[RobustnessRow], dataset: str
) -> None:
    """Write ``robustness.csv``, ``robustness.json`` and ``robustness-answers.csv``."""
    columns = [field.name for field in fields(RobustnessRow)]
    with write_text(folder / "robustness.csv") as file:
        writer = CsvWriter(file, "\r\n")
        writer.row(*columns)
        for row in rows:
            writer.row(*(_rounded(getattr(row, column)) for column in columns))
    with write_text(folder / "robustness-answers.csv") as file:
        writer = CsvWriter(file, "\r\n")
        writer.row("model", "protocol", "id", "genre", "transform", "predicted")
        for one in found.answers:
            writer.row(one.model, one.protocol, one.track, one.genre, one.transform, one.predicted)
    with write_text(folder / "robustness.json") as file:
        file.write(to_json(to_table(found, rows, dataset), 1) + "\n")


def _rounded(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value
