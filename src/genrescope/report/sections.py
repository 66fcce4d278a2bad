"""The sections of a report: what each has to show, as tables, pictures and lines.

A section is a function here, registered in ``SECTIONS`` by the name of its template in
``templates/sections``. It gives the template's data, or None where it has nothing to show. The
templates are written once, for HTML and Markdown alike: they use the macros of ``html.j2`` or
``md.j2``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from genrescope.datasets.splits import get_protocol
from genrescope.report.findings import find
from genrescope.report.hard_tracks import hard_tracks
from genrescope.report.robustness import robustness_groups
from genrescope.report.tables import (
    ReportTable,
    TableGroup,
    TableRow,
    or_dash,
    plus_minus,
    signed,
    span,
)
from genrescope.study import figures
from genrescope.study.cell import slug
from genrescope.study.results import Cell, compare, mark_of, of_segments
from genrescope.study.run import Study
from genrescope.training.recipe import Recipe

NO_AUDIO = "no test track with audio"
"""Marks a recipe without results in a table of tracks with audio."""

_ACCURACY_COLUMNS = (
    "model", "test accuracy", "95 % interval", "by", "macro-F1", "train / valid / test",
)  # fmt: skip
_ENCODER_COLUMNS = ("encoder parameters", "s for 30 s")
_MAX_HARD = 40  # tracks in the table; the others are in the file


@dataclass(frozen=True)
class Picture:
    """A figure beside the report, as PNG and SVG.

    Attributes
    ----------
    file
        The path of the PNG, relative to the report.
    alt
        What it shows, for those who do not see it.
    svg
        Its SVG, in Base64.
    mark
        The word for its protocol, if it is of one.
    """

    file: str
    alt: str
    svg: str
    mark: str = ""


Draw = Callable[..., Picture]
"""Save a figure: ``draw(figure, name, alt, mark="")``."""

Section = Callable[[Study, Draw], dict[str, Any] | None]


def protocols_of(study: Study) -> list[str]:
    """Give the protocols: leakage-free ones first, segments last."""
    return sorted(
        study.config.protocols,
        key=lambda name: (not get_protocol(name).leakage_free, of_segments(name)),
    )


def on_audio(study: Study) -> list[Cell]:
    """Restrict all cells to tracks with audio, if recipes are tested on different tracks."""
    tracks: defaultdict[str, set[str]] = defaultdict(set)
    for cell in study.cells:
        tracks[cell.recipe] |= cell.tracks()
    audio_only = [tested <= study.audio for tested in tracks.values()]
    if all(audio_only) or not any(audio_only):
        return []
    return [left for cell in study.cells if (left := cell.restricted(study.audio)) is not None]


def accuracy_table(study: Study, among: Sequence[Cell] | None = None) -> ReportTable:
    """Make the table of accuracies, leakage-free protocols first.

    Parameters
    ----------
    study
        With its results.
    among
        Its cells on a part of their test tracks; None for the whole.
    """
    given = study.cells if among is None else among
    cells = {(cell.protocol, cell.recipe): cell for cell in given}
    groups: list[TableGroup] = []
    for protocol in protocols_of(study):
        best = _best([cell for cell in given if cell.protocol == protocol])
        rows: list[TableRow] = []
        marked: list[TableRow] = []
        for recipe in study.config.entries:
            if (cell := cells.get((protocol, recipe.name))) is not None:
                row = _accuracy_row(cell, bold=recipe.name in best)
                rows.append(replace(row, cells=(*row.cells, *_encoder_cells(study, recipe.name))))
            elif any(cell.recipe == recipe.name for cell in study.of(protocol)):
                marked.append(TableRow((recipe.name, NO_AUDIO)))
            elif mark := study.mark_of(recipe.name, protocol):
                marked.append(TableRow((recipe.name, mark)))
        if rows or marked:
            groups.append(TableGroup([*rows, *marked], protocol, mark_of(protocol)))
    probes = bool(study.config.encoder_parameters)
    scope = "" if among is None else f" on the {len(study.audio)} tracks with audio"
    return ReportTable(
        "accuracy" if among is None else "accuracy-audio",
        f"Test accuracy{scope}, mean{' ± standard deviation' * (study.config.seeds > 1)} over "
        f"{seeds(study)}, with its 95 % interval",
        (*_ACCURACY_COLUMNS, *(_ENCODER_COLUMNS if probes else ())),
        "lrrlrr" + "rr" * probes,
        groups,
    )


def _encoder_cells(study: Study, recipe: str) -> tuple[str, ...]:
    # Of a probe: its encoder's parameters, and its time for 30 s of audio.
    parameters, took = study.config.encoder_parameters, study.config.encoder_seconds
    return (f"{parameters[recipe]:,}", f"{took[recipe]:.2f}") if recipe in parameters else ()


def _accuracy_row(cell: Cell, *, bold: bool) -> TableRow:
    segments = " segments" if of_segments(cell.protocol) else ""
    counts = f"{cell.n_train} / {cell.n_valid} / {cell.n_test}{segments}"
    cells = (
        cell.recipe, plus_minus(cell.mean, cell.sd), span(cell.interval()), cell.interval_method,
        f"{cell.macro_f1:.3f}", counts,
    )  # fmt: skip
    return TableRow(cells, bold=1 if bold else None)


def _best(cells: Sequence[Cell]) -> set[str]:
    # The best recipe and those that are not distinguishable from it; none of a single one.
    if len(cells) < 2:
        return set()
    best = max(cells, key=lambda cell: cell.mean)
    found = {cell.recipe: compare(cell, best) for cell in cells}
    return {name for name, one in found.items() if one is not None and one.high >= 0}


def seeds(study: Study) -> str:
    """Count the seeds, in words."""
    return f"{study.config.seeds} seeds" if study.config.seeds > 1 else "one seed"


def _stamp(study: Study) -> str:
    return f"{study.dataset.name}, {seeds(study)}{', quick' * study.config.quick}"


def _ordered(study: Study, cells: Iterable[Cell] | None = None) -> list[Cell]:
    order = protocols_of(study)
    found = study.cells if cells is None else cells
    return sorted(found, key=lambda cell: order.index(cell.protocol))


def _leakage_free(study: Study) -> dict[str, bool]:
    return {name: get_protocol(name).leakage_free for name in study.config.protocols}


def findings(study: Study, draw: Draw) -> dict[str, Any] | None:
    """The first three sentences."""
    del draw
    return find(study, protocols_of(study))


def accuracy(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Table 4.1, and what its protocols are."""
    cells = _ordered(study)
    title = f"Test accuracy on {_stamp(study)}"
    return {
        "table": accuracy_table(study),
        "seeds": seeds(study),
        "protocols": [
            (name, get_protocol(name).about, mark_of(name)) for name in protocols_of(study)
        ],
        "recipes": study.config.entries,
        "picture": cells
        and draw(
            figures.accuracies(cells, _leakage_free(study), title),
            "accuracy",
            "Test accuracy of every recipe under every protocol, with 95 % intervals.",
        ),
        "segments": [
            (cell.recipe, cell.protocol, f"{cell.segment_accuracy:.3f}", f"{cell.mean:.3f}")
            for cell in cells
            if cell.segment_accuracy is not None
        ],
        "weights": [
            (cell.recipe, cell.protocol, ", ".join(f"{n} {w:.2f}" for n, w in cell.weights.items()))
            for cell in cells
            if cell.weights
        ],
    }


def original(study: Study, draw: Draw) -> dict[str, Any] | None:
    """The original study's figures beside ours."""
    del draw
    printed = find(study, protocols_of(study))["printed"]
    if not printed["any"]:
        return None
    rows = [TableRow((m["recipe"], m["printed"], m["here"], m["why"])) for m in printed["models"]]
    return {
        "table": ReportTable(
            "original",
            "Test accuracy by random split: printed by the original study, and here",
            ("model", "original study", "here", "why they may differ"),
            "lrrX",
            [TableGroup(rows)],
        )
    }


def gap(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Accuracy by leakage-free and random splits."""
    cells, leakage_free = _ordered(study), _leakage_free(study)
    strict, random = figures.gap_protocols(cells, leakage_free)
    if not (strict and random):
        return None
    title = f"Accuracy by leakage-free and random splits, {_stamp(study)}"
    alt = f"Every recipe's test accuracy by {strict} and by {random}."
    return {"picture": draw(figures.gap(cells, leakage_free, title), "gap", alt)}


def audio(study: Study, draw: Draw) -> dict[str, Any] | None:
    """All recipes on the tracks that have audio."""
    del draw
    restricted = on_audio(study)
    if not restricted:
        return None
    return {"table": accuracy_table(study, restricted), "count": len(study.audio)}


def comparison(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Each recipe's accuracy minus that of its protocol's best."""
    del draw
    groups: list[TableGroup] = []
    for protocol in protocols_of(study):
        cells = sorted(study.of(protocol), key=lambda cell: -cell.mean)
        if len(cells) > 1:
            rows = [_behind(cell, cells[0]) for cell in cells[1:]]
            rows.sort(key=lambda row: len(row.cells) == 2)
            title = f"{protocol}, best: {cells[0].recipe}"
            groups.append(TableGroup(rows, title, mark_of(protocol)))
    if not groups:
        return None
    return {
        "table": ReportTable(
            "comparison",
            "Accuracy minus that of the protocol's best model, on the test tracks of both",
            ("model", "difference", "95 % interval", "McNemar p", "tracks"),
            "lrrrr",
            groups,
        )
    }


def _behind(cell: Cell, best: Cell) -> TableRow:
    found = compare(cell, best)
    if found is None:
        return TableRow((cell.recipe, "no test track in common"))
    p = found.mcnemar_p
    small = "< 0.001" if p is not None and p < 0.001 else or_dash(p, ".3f")
    interval = f"{signed(found.low)} to {signed(found.high)}"
    return TableRow((cell.recipe, signed(found.difference), interval, small, str(found.n_tracks)))


def genres(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Precision, recall and F1 of each genre: a small table for each cell."""
    del draw
    if not study.cells:
        return None
    return {"tables": [_genre_table(cell) for cell in _ordered(study)]}


def _genre_table(cell: Cell) -> ReportTable:
    tested = cell.confusion.sum(axis=1)
    rows = [
        TableRow((genre, str(count), *(or_dash(score, ".2f") for score in scores)))
        for (genre, scores), count in zip(cell.by_genre.items(), tested, strict=True)
    ]
    return ReportTable(
        f"genres-{_file(cell)}",
        f"{cell.recipe}, {cell.protocol}",
        ("genre", "tests", "precision", "recall", "F1"),
        "lrrrr",
        [TableGroup(rows, mark=mark_of(cell.protocol))],
    )


def _file(cell: Cell) -> str:
    return slug(f"{cell.recipe}-{cell.protocol}")


def confusions(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Confusion matrices and training curves."""
    if not study.cells:
        return None
    found: list[tuple[Cell, Picture, Picture | None]] = []
    for cell in _ordered(study):
        mark = mark_of(cell.protocol)
        title = f"{cell.recipe}, {cell.protocol} ({mark}), {_stamp(study)}"
        matrix = draw(
            figures.confusion(cell.confusion, cell.rows[0].genres, title),
            f"confusion-{_file(cell)}",
            f"Confusion matrix over all seeds: {title}.",
            mark,
        )
        curves = (
            draw(
                figures.curves(cell, title),
                f"curves-{_file(cell)}",
                f"Loss and accuracy by epoch for train and validation: {title}.",
                mark,
            )
            if any(cell.curves)
            else None
        )
        found.append((cell, matrix, curves))
    return {"cells": found}


def calibration(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Reliability diagrams under the first protocol."""
    cells = _ordered(study)
    known = [c for c in cells if c.protocol == cells[0].protocol and c.ece is not None]
    if not known:
        return None
    title = f"Calibration, protocol {known[0].protocol}, {_stamp(study)}"
    errors = ", ".join(f"{cell.recipe} {cell.ece:.2f}" for cell in known)
    alt = f"Reliability diagrams. Expected calibration error: {errors}."
    return {"picture": draw(figures.calibration(known, title), "calibration", alt)}


def learning(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Learning curves; with the cells on all training tracks, the last points of the lines."""
    if not study.learning:
        return None
    protocol, recipes = study.learning[0].protocol, {cell.recipe for cell in study.learning}
    cells = [*study.learning, *(c for c in study.of(protocol) if c.recipe in recipes)]
    shares = sorted({cell.train_share for cell in cells})
    lines: defaultdict[str, dict[float, str]] = defaultdict(dict)
    for cell in cells:
        text = f"{plus_minus(cell.mean, cell.sd)} ({cell.n_train})"
        lines[cell.recipe][cell.train_share] = text
    rows = [TableRow((name, *(own.get(s, "–") for s in shares))) for name, own in lines.items()]
    title = f"Accuracy by number of training tracks, protocol {protocol}, {_stamp(study)}"
    return {
        "protocol": protocol,
        "picture": draw(
            figures.learning(cells, title),
            "learning",
            "Test accuracy against the number of training tracks, a line for each recipe; the "
            "numbers are in the table below.",
        ),
        "table": ReportTable(
            "learning",
            f"Test accuracy by {protocol} and number of training tracks, by their fraction",
            ("model", *(f"{100 * share:.3g} %" for share in shares)),
            "l" + "r" * len(shares),
            [TableGroup(rows)],
        ),
    }


def robustness(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Accuracy and answers on transformed audio."""
    if study.robustness is None:
        return None
    groups = robustness_groups(study.robustness, _stamp(study), draw)
    return {"groups": groups} if groups else None


def errors(study: Study, draw: Draw) -> dict[str, Any] | None:
    """The tracks that every recipe misclassifies, those with known faults first."""
    del draw
    hard, count = hard_tracks(study)
    if not count:
        return None
    hard.sort(key=lambda track: (not track.faults, -max(track.predicted.values())))
    rows = [
        TableRow(
            (
                track.id,
                track.genre,
                ", ".join(f"{genre} {n}" for genre, n in track.predicted.most_common(3)),
                ", ".join(track.faults) or "none",
            )
        )
        for track in hard[:_MAX_HARD]
    ]
    models = list(dict.fromkeys(c.recipe for c in study.cells if not of_segments(c.protocol)))
    return {
        "models": models,
        "count": count,
        "hard": len(hard),
        "faulty": sum(bool(track.faults) for track in hard),
        "left": len(hard) - len(rows),
        "table": ReportTable(
            "errors",
            "Tracks that are always misclassified",
            ("track", "label", "predictions by number", "known faults"),
            "llXX",
            [TableGroup(rows)],
        ),
    }


def cost(study: Study, draw: Draw) -> dict[str, Any] | None:
    """Parameters, epochs, time and memory of each recipe."""
    del draw
    groups = [
        TableGroup([_cost_row(cell) for cell in cells], protocol, mark_of(protocol))
        for protocol in protocols_of(study)
        if (cells := study.of(protocol))
    ]
    if not groups:
        return None
    columns = ("model", "parameters", "epochs", "training, s", "all, s", "prediction, ms")
    return {
        "table": ReportTable(
            "cost",
            "Size, training and prediction of each model, means over seeds",
            (*columns, "peak memory, MiB"),
            "lrrrrrr",
            groups,
        ),
        "machine": study.cells[0].rows[0].environment.get("machine", ""),
    }


def _cost_row(cell: Cell) -> TableRow:
    milliseconds = None if cell.predict_seconds is None else 1000 * cell.predict_seconds
    mebibytes = None if cell.peak_memory is None else cell.peak_memory / 2**20
    return TableRow(
        (
            cell.recipe,
            or_dash(cell.parameters, ",d"),
            or_dash(cell.epochs, ".4g"),
            or_dash(cell.train_seconds, ".1f"),
            f"{cell.seconds:.1f}",
            or_dash(milliseconds, ".3f"),
            or_dash(mebibytes, ",.0f"),
        )
    )


def settings(study: Study, draw: Draw) -> dict[str, Any] | None:
    """The hyper-parameters of each model."""
    del draw
    recipes = [TableRow((recipe.name, *_settings(recipe))) for recipe in study.config.recipes]
    ensembles = [
        TableRow((entry.name, f"{entry.pool} mean of {', '.join(entry.of)}"))
        for entry in study.config.ensembles
    ]
    return {
        "table": ReportTable(
            "settings",
            "Hyper-parameters",
            ("model", "input", "network or estimator", "training"),
            "lXXX",
            [TableGroup([*recipes, *ensembles])],
        )
    }


def _settings(recipe: Recipe) -> tuple[str, str, str]:
    given = recipe.model_dump(exclude_defaults=True, exclude={"name", "about", "parallel"})
    if recipe.optimiser is not None:
        given["optimiser"]["name"] = recipe.optimiser.name  # also if it is the default
    inputs = [_setting(given.pop("representation"))]
    inputs += [
        _setting(given.pop(name)) for name in ("normalise", "augmentations") if name in given
    ]
    model = _setting(given.pop("model"))
    return ", ".join(inputs), model, _setting(given) or "–"


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        own = {name: one for name, one in value.items() if one is not None and name != "name"}
        parts = [
            name.replace("_", " ") if one is True else f"{name.replace('_', ' ')} {_setting(one)}"
            for name, one in own.items()
        ]
        text = ", ".join(parts)
        if "name" in value:
            return f"{value['name']} ({text})" if text else str(value["name"])
        return text
    if isinstance(value, list | tuple):
        return " / ".join(map(_setting, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def not_run(study: Study, draw: Draw) -> dict[str, Any] | None:
    """What was not run, and why."""
    del draw
    return {"entries": study.unavailable} if study.unavailable else None


def tracks(study: Study, draw: Draw) -> dict[str, Any] | None:
    """The data: class balance, usable tracks, problems."""
    dataset = study.dataset
    rows = [
        TableRow(
            (
                recipe,
                str(sum(counts.values())),
                ", ".join(f"{n} × {kind}" for kind, n in study.sources[recipe].items()) or "–",
                ", ".join(f"{genre} {n}" for genre, n in counts.items()),
            )
        )
        for recipe, counts in study.used.items()
    ]
    return {
        "picture": draw(
            figures.class_balance(dataset.counts, dataset.name),
            "class-balance",
            f"Bar chart: tracks per genre in {dataset.name}.",
        ),
        "notes": dataset.notes,
        "problems": [str(problem) for problem in study.problems],
        "table": ReportTable(
            "tracks",
            "Usable tracks of each model",
            ("model", "tracks", "sources", "by genre"),
            "lrlX",
            [TableGroup(rows)],
        )
        if rows
        else None,
    }


def references(study: Study, draw: Draw) -> dict[str, Any] | None:
    """All works cited before; last."""
    del study, draw
    return {}


SECTIONS: dict[str, Section] = {
    make.__name__: make
    for make in (
        findings, accuracy, original, gap, audio, comparison, genres, confusions, calibration,
        learning, robustness, errors, cost, settings, not_run, tracks, references,
    )
}  # fmt: skip
"""In their order in the report; by the names of their templates."""
