"""The report on a study: ``report.md``, a self-contained ``report.html``, and the figures."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from genrescope import __version__
from genrescope.study import figures
from genrescope.study.results import Cell
from genrescope.study.run import Study
from genrescope.tracks.splits import PROTOCOLS


@dataclass(frozen=True)
class StudyFigure:
    """What the study printed for one of its models, and why ours may differ."""

    mean: float
    sd: float
    difference: str


STUDY_FIGURES: dict[str, StudyFigure] = {
    "report-mlp": StudyFigure(
        0.42,
        0.012,
        "Dividing each row by its norm leaves nearly all of it to one column, the variance of the "
        "spectral roll-off; the other columns shrink to almost nothing, and the model learns so "
        "slowly that the figure is set by the number of epochs, which the study gives only as "
        "several hundred. The second softmax flattens the gradient further. The spread here is "
        "larger because each seed draws another test set.",
    ),
    "report-cnn": StudyFigure(
        0.63,
        0.013,
        "The study names neither the number of epochs nor where it applied dropout, and a softmax "
        "before the loss slows the fit: more epochs, or logits into the loss, raise the figure.",
    ),
    "report-wav2vec2": StudyFigure(
        0.27,
        0.048,
        "Public runs of the same model reach 0.80 to 0.88 on a random split after 10 to 20 epochs, "
        "and stand at 0.24 to 0.44 after one. So 0.27 is a run stopped far too early, or one held "
        "up by a softmax before the loss; not the model's limit.",
    ),
}
"""Test accuracy by random split over five iterations, as the study printed it, on GTZAN."""


@dataclass(frozen=True)
class _Picture:
    file: str
    alt: str
    data: str


def write_report(study: Study, out: Path) -> Path:
    """Write the report of a study that has been run.

    Parameters
    ----------
    study
        With its results.
    out
        The folder; ``report.md``, ``report.html`` and ``figures/`` are written anew.

    Returns
    -------
    html
        The path of ``report.html``.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    content = _content(study, folder)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genrescope.study", "templates"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in ("report.md", "report.html"):
        text = environment.get_template(f"{name}.j2").render(content)
        (out / name).write_text(text, encoding="utf-8")
    return out / "report.html"


def _content(study: Study, folder: Path) -> dict[str, Any]:
    plan, dataset = study.plan, study.dataset
    honest = {name: PROTOCOLS[name].honest for name in plan.protocols}
    stamp = f"{dataset.name}, {_seeds(plan.seeds)}" + (", quick" if plan.quick else "")
    pictures: dict[str, Any] = {
        "balance": _save(
            figures.class_balance(dataset.counts, dataset.name),
            folder / "class-balance.png",
            f"Bar chart: tracks per genre in {dataset.name}.",
        ),
        "accuracy": None,
        "cells": [],
    }
    if study.cells:
        pictures["accuracy"] = _save(
            figures.accuracies(study.cells, honest, f"Test accuracy on {stamp}"),
            folder / "accuracy.png",
            "Test accuracy of every recipe under every protocol, with 95 % intervals.",
        )
    for cell in study.cells:
        title = f"{cell.recipe}, protocol {cell.protocol}, {stamp}"
        name = f"{cell.recipe}-{cell.protocol}".replace(" ", "-")
        pictures["cells"].append(
            {
                "title": f"{cell.recipe}, protocol {cell.protocol}",
                "curves": any(cell.curves)
                and _save(
                    figures.curves(cell, title),
                    folder / f"curves-{name}.png",
                    f"Loss and accuracy by epoch for train and validation: {title}.",
                ),
                "confusion": _save(
                    figures.confusion(cell.confusion, cell.rows[0].genres, title),
                    folder / f"confusion-{name}.png",
                    f"Confusion matrix over all seeds: {title}.",
                ),
            }
        )
    return {
        "plan": plan,
        "dataset": dataset,
        "version": __version__,
        "protocols": [PROTOCOLS[name] for name in plan.protocols],
        "table": summary(study),
        "is_gtzan": dataset.name == "gtzan",
        "against": _against(study),
        "recall": [_recall(cell) for cell in study.cells],
        "genres": dataset.genres,
        "used": [
            {"recipe": recipe, "counts": counts, "total": sum(counts.values()), "sources": sources}
            for recipe, counts in study.used.items()
            for sources in [study.sources[recipe]]
        ],
        "unavailable": study.unavailable,
        "left_out": [str(problem) for problem in study.problems],
        "pictures": pictures,
        "environment": study.cells[0].rows[0].environment if study.cells else {},
        "seeds": _seeds(plan.seeds),
    }


def _seeds(count: int) -> str:
    return f"{count} seeds" if count > 1 else "one seed"


def summary(study: Study) -> list[dict[str, str]]:
    """The table's lines, as text, in its order; ``mark`` tells why a line has no figures."""
    cells = {(cell.protocol, cell.recipe): cell for cell in study.cells}
    lines: list[dict[str, str]] = []
    for protocol in study.plan.protocols:
        for recipe in study.plan.recipes:
            cell = cells.get((protocol, recipe.name))
            line = {"recipe": recipe.name, "about": recipe.about, "protocol": protocol}
            if cell is not None:
                low, high = cell.interval()
                line |= {
                    "mark": "",
                    "accuracy": _plus_minus(cell.mean, cell.sd),
                    "interval": f"{low:.3f} to {high:.3f}",
                    "macro_f1": f"{cell.macro_f1:.3f}",
                    "n_test": str(cell.n_test),
                    "n": f"{cell.rows[0].n_train} / {cell.rows[0].n_valid} / {cell.n_test}",
                    "seconds": f"{np.mean([row.seconds for row in cell.rows]):.0f}",
                }
            else:
                line["mark"] = next(
                    entry.mark
                    for entry in study.unavailable
                    if entry.recipe in (recipe.name, "") and entry.protocol in (protocol, None)
                )
            lines.append(line)
    return lines


def _against(study: Study) -> list[dict[str, Any]]:
    # The study's figures are for GTZAN under its own protocol; they stand beside nothing else.
    cells = {cell.recipe: cell for cell in study.cells if cell.protocol == "report"}
    return [
        {
            "recipe": name,
            "theirs": _plus_minus(figure.mean, figure.sd),
            "ours": _ours(study, cells.get(name)),
            "difference": figure.difference,
        }
        for name, figure in STUDY_FIGURES.items()
        if any(recipe.name == name for recipe in study.plan.recipes)
    ]


def _ours(study: Study, cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    if study.dataset.name != "gtzan":
        return f"not comparable ({study.dataset.name} data)"
    if study.plan.quick:
        return "not comparable (quick run)"
    gap = cell.mean - STUDY_FIGURES[cell.recipe].mean
    return f"{_plus_minus(cell.mean, cell.sd)} ({gap:+.3f})"


def _recall(cell: Cell) -> dict[str, Any]:
    shares: dict[str, str] = {}
    for genre in cell.rows[0].genres:
        found = [row.recall[genre] for row in cell.rows]
        known = [share for share in found if share is not None]
        shares[genre] = f"{np.mean(known):.2f}" if known else "–"
    return {"recipe": cell.recipe, "protocol": cell.protocol, "shares": shares}


def _plus_minus(mean: float, sd: float | None) -> str:
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"


def _save(figure: Figure, path: Path, alt: str) -> _Picture:
    # No dates or versions inside: the same figures give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return _Picture(f"{path.parent.name}/{path.name}", alt, data)
