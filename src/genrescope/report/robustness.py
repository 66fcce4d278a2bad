"""The report's section on robustness: a table and a heat map for each protocol."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from genrescope.report.tables import ReportTable, TableGroup, TableRow
from genrescope.robustness.figure import heat_map
from genrescope.robustness.measure import Answers
from genrescope.robustness.results import RobustnessRow, summarise
from genrescope.robustness.transforms import TRANSFORMS, UNCHANGED
from genrescope.study.results import mark_of


def robustness_groups(found: Answers, stamp: str, draw: Callable[..., Any]) -> list[dict[str, Any]]:
    """Draw the heat maps and make the tables.

    Parameters
    ----------
    found
        The answers.
    stamp
        Data set and seeds, for titles.
    draw
        As of every section.

    Returns
    -------
    groups
        One for each protocol with answers.
    """
    by_protocol: defaultdict[str, defaultdict[str, list[RobustnessRow]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in summarise(found):
        by_protocol[row.protocol][row.model].append(row)
    groups = []
    for protocol, models in by_protocol.items():
        rows = [row for some in models.values() for row in some]
        file = f"robustness-{protocol}"
        left_out = Counter[str]()
        for model in found.models:
            if model.protocol == protocol:  # once for each fold
                left_out[model.name] += model.left_out
        table = ReportTable(
            file,
            f"Accuracy and answers on transformed audio by {protocol}, beside the same clips as "
            "they are",
            ("transform", "tracks", "accuracy", "difference", "95 % interval", "changed answers"),
            "lrrrrr",
            [TableGroup(list(map(_row, some)), name) for name, some in models.items()],
        )
        figure = heat_map(rows, f"Robustness, protocol {protocol}, {stamp}")
        alt = f"Share of changed answers and change of accuracy, transforms × models: {protocol}."
        groups.append(
            {
                "protocol": protocol,
                "mark": mark_of(protocol),
                "table": table,
                "picture": draw(figure, file, alt, mark_of(protocol)),
                "left_out": [f"{name} {count}" for name, count in left_out.items()],
                "problems": [str(problem) for problem in found.problems],
            }
        )
    return groups


def _row(row: RobustnessRow) -> TableRow:
    if row.transform == UNCHANGED.name:
        return TableRow((UNCHANGED.about, str(row.tracks), f"{row.accuracy:.3f}", "", "", ""))
    return TableRow(
        (
            TRANSFORMS[row.transform].about,
            str(row.tracks),
            f"{row.accuracy:.3f}",
            f"{row.difference:+.3f}",
            f"{row.low:+.3f} to {row.high:+.3f}",
            f"{row.changed:.0%}",
        )
    )
