"""What a study's report shows of robustness, by protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from genrescope.robustness.figure import heat_map
from genrescope.robustness.measure import Answers
from genrescope.robustness.results import RobustnessRow, summarise
from genrescope.robustness.transforms import TRANSFORMS, UNCHANGED


def robustness_section(
    found: Answers | None, stamp: str, folder: Path, save: Callable[..., Any]
) -> list[dict[str, Any]]:
    """Draw the heat maps and format the tables.

    Parameters
    ----------
    found
        The answers; None if they were not asked for.
    stamp
        Data set and seeds, for titles.
    folder
        Of the figures.
    save
        Called with a figure, its path and its text alternative; its result is the ``picture``.

    Returns
    -------
    groups
        One for each protocol with answers.
    """
    if found is None:
        return []
    by_protocol: defaultdict[str, list[RobustnessRow]] = defaultdict(list)
    for row in summarise(found):
        by_protocol[row.protocol].append(row)
    left_out: defaultdict[tuple[str, str], int] = defaultdict(int)
    for model in found.models:
        left_out[model.protocol, model.name] += model.left_out
    groups = []
    for protocol, rows in by_protocol.items():
        figure = heat_map(rows, f"Robustness, protocol {protocol}, {stamp}")
        name = f"robustness-{protocol}"
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        alt = f"Share of changed answers and change of accuracy, transforms × models: {protocol}."
        models = list(dict.fromkeys(row.model for row in rows))
        groups.append(
            {
                "protocol": protocol,
                "picture": save(figure, folder / f"{name}.png", alt),
                "models": models,
                "left_out": [f"{m} {left_out[protocol, m]}" for m in models],
                "lines": _lines(rows, models),
                "problems": [str(problem) for problem in found.problems],
            }
        )
    return groups


def _lines(rows: Sequence[RobustnessRow], models: Sequence[str]) -> list[dict[str, Any]]:
    cells = {(row.transform, row.model): row for row in rows}
    about = {UNCHANGED.name: UNCHANGED.about} | {t.name: t.about for t in TRANSFORMS.values()}
    shown = [name for name in about if any((name, model) in cells for model in models)]
    return [
        {"about": about[name], "cells": [_cell(cells.get((name, model))) for model in models]}
        for name in shown
    ]


def _cell(row: RobustnessRow | None) -> str:
    if row is None:
        return "not applicable"
    if row.transform == UNCHANGED.name:
        return f"{row.accuracy:.3f} ({row.tracks} tracks)"
    return f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f}); {row.changed:.0%} changed"
