"""A study's report: ``report.md``, a self-contained ``report.html``, figures and tables."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure

from genrescope import __version__
from genrescope.datasets.splits import PROTOCOLS
from genrescope.io import markdown_text, write_text
from genrescope.study import figures
from genrescope.study.figures import LEAKS
from genrescope.study.results import (
    Cell,
    compare,
    of_segments,
    write_comparisons,
    write_summary,
)
from genrescope.study.run import Study


@dataclass(frozen=True)
class StudyFigure:
    """The study's figure for one of its models, and why ours may differ."""

    mean: float
    sd: float
    difference: str


STUDY_FIGURES: dict[str, StudyFigure] = {
    "original-mlp": StudyFigure(
        0.42,
        0.012,
        "After division by the row's norm, one column, the variance of the spectral roll-off, "
        "dominates and the others are almost zero. Training is so slow that the accuracy depends "
        "on the number of epochs, which the study gives only as several hundred. The second "
        "softmax flattens the gradient further. The spread here is larger because each seed has "
        "another test set.",
    ),
    "original-cnn": StudyFigure(
        0.63,
        0.013,
        "The study names neither the number of epochs nor where it applied dropout, and a softmax "
        "before the loss slows the fit: more epochs, or logits into the loss, raise the figure.",
    ),
    "original-wav2vec2": StudyFigure(
        0.27,
        0.048,
        "Public runs of the same model reach 0.80 to 0.88 on a random split after 10 to 20 epochs, "
        "and 0.24 to 0.44 after one. So 0.27 comes from too few epochs, or from a softmax before "
        "the loss; it is not the model's limit.",
    ),
}
"""The study's test accuracies on GTZAN, by random split over five iterations."""


NO_AUDIO = "no test track with audio"
"""Marks a recipe without results in a table of tracks with audio."""


@dataclass(frozen=True)
class _Picture:
    file: str
    alt: str
    data: str


def write_report(study: Study, out: Path) -> Path:
    """Write the report of a study.

    Parameters
    ----------
    study
        With its results.
    out
        The folder; ``report.md``, ``report.html``, ``summary.csv``, ``comparisons.csv`` and
        ``figures/`` are replaced.

    Returns
    -------
    html
        The path of ``report.html``.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    restricted = _on_audio(study)
    used = {recipe: sum(counts.values()) for recipe, counts in study.used.items()}
    write_summary(out / "summary.csv", {"all": study.cells, "audio": restricted}, used)
    write_comparisons(out / "comparisons.csv", study.cells)
    with matplotlib.rc_context({"text.parse_math": False}):  # "$" in names is not a formula
        content = _content(study, restricted, folder)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genrescope.study", "templates"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["word_for_word"] = markdown_text
    for name in ("report.md", "report.html"):
        text = environment.get_template(f"{name}.j2").render(content)
        with write_text(out / name) as file:
            file.write(text)
    return out / "report.html"


def _content(study: Study, restricted: Sequence[Cell], folder: Path) -> dict[str, Any]:
    config, dataset = study.config, study.dataset
    names = _protocols(study)
    return {
        "config": config,
        "dataset": dataset,
        "version": __version__,
        "protocols": [PROTOCOLS[name] for name in names],
        "leakage_free": {name for name in names if PROTOCOLS[name].leakage_free},
        "leaks": {name: LEAKS for name in names if of_segments(name)},
        "table": summary(study),
        "segments": [
            {
                "recipe": cell.recipe,
                "protocol": cell.protocol,
                "single": f"{cell.segment_accuracy:.3f}",
                "averaged": f"{cell.mean:.3f}",
            }
            for cell in _ordered(study, study.cells)
            if cell.segment_accuracy is not None
        ],
        "weights": [
            {
                "recipe": cell.recipe,
                "protocol": cell.protocol,
                "shares": ", ".join(f"{n} {share:.2f}" for n, share in cell.weights.items()),
            }
            for cell in _ordered(study, study.cells)
            if cell.weights
        ],
        "on_audio": _lines(study, restricted) if restricted else [],
        "n_audio": len(study.audio),
        "against_best": _against_best(study),
        "learning": _learning(study),
        "is_gtzan": dataset.name == "gtzan",
        "against": _against(study),
        "recall": [_recall(cell) for cell in _ordered(study, study.cells)],
        "genres": dataset.genres,
        "used": [
            {"recipe": recipe, "counts": counts, "total": sum(counts.values()), "sources": sources}
            for recipe, counts in study.used.items()
            for sources in [study.sources[recipe]]
        ],
        "unavailable": study.unavailable,
        "left_out": [str(problem) for problem in study.problems],
        "pictures": _pictures(study, folder),
        "environment": study.cells[0].rows[0].environment if study.cells else {},
        "seeds": _seeds(config.seeds),
    }


def _protocols(study: Study) -> list[str]:
    # Leakage-free ones first, segments last, whatever the order in the study's file.
    return sorted(
        study.config.protocols,
        key=lambda name: (not PROTOCOLS[name].leakage_free, of_segments(name)),
    )


def _ordered(study: Study, cells: Iterable[Cell]) -> list[Cell]:
    order = _protocols(study)
    return sorted(cells, key=lambda cell: order.index(cell.protocol))


def _seeds(count: int) -> str:
    return f"{count} seeds" if count > 1 else "one seed"


def _stamp(study: Study) -> str:
    quick = ", quick" if study.config.quick else ""
    return f"{study.dataset.name}, {_seeds(study.config.seeds)}{quick}"


def _pictures(study: Study, folder: Path) -> dict[str, Any]:
    dataset, stamp = study.dataset, _stamp(study)
    leakage_free = {name: PROTOCOLS[name].leakage_free for name in study.config.protocols}
    cells = _ordered(study, study.cells)
    pictures: dict[str, Any] = dict.fromkeys(("accuracy", "gap", "learning", "calibration"))
    pictures["balance"] = _save(
        figures.class_balance(dataset.counts, dataset.name),
        folder / "class-balance.png",
        f"Bar chart: tracks per genre in {dataset.name}.",
    )
    if cells:
        pictures["accuracy"] = _save(
            figures.accuracies(cells, leakage_free, f"Test accuracy on {stamp}"),
            folder / "accuracy.png",
            "Test accuracy of every recipe under every protocol, with 95 % intervals.",
        )
    strict, random = figures.gap_protocols(cells, leakage_free)
    if strict and random:
        pictures["gap"] = _save(
            figures.gap(
                cells, leakage_free, f"Accuracy by leakage-free and random splits, {stamp}"
            ),
            folder / "gap.png",
            f"Every recipe's test accuracy by {strict} and by {random}: "
            f"{_mean_gap(cells, strict, random)}.",
        )
    if study.learning:
        pictures["learning"] = _save(
            figures.learning(
                _learnt(study),
                f"Accuracy by number of training tracks, protocol "
                f"{study.learning[0].protocol}, {stamp}",
            ),
            folder / "learning.png",
            "Test accuracy against the number of training tracks, a line for each recipe; the "
            "numbers are in the table below.",
        )
    first = [cell for cell in cells if cell.protocol == cells[0].protocol]
    if known := [cell for cell in first if cell.ece is not None]:
        pictures["calibration"] = _save(
            figures.calibration(known, f"Calibration, protocol {known[0].protocol}, {stamp}"),
            folder / "calibration.png",
            "Reliability diagrams. Expected calibration error: "
            + ", ".join(f"{cell.recipe} {cell.ece:.2f}" for cell in known)
            + ".",
        )
    pictures["recipes"] = _cell_pictures(study, cells, folder)
    return pictures


def _mean_gap(cells: Sequence[Cell], strict: str, random: str) -> str:
    mean = {(cell.protocol, cell.recipe): cell.mean for cell in cells}
    both = [recipe for name, recipe in mean if name == strict and (random, recipe) in mean]
    if not both:
        return "no recipe has both"
    gap = sum(mean[random, recipe] - mean[strict, recipe] for recipe in both) / len(both)
    return f"the second minus the first is {gap:+.2f} on average over {len(both)} recipes"


def _cell_pictures(study: Study, cells: Sequence[Cell], folder: Path) -> dict[str, Any]:
    # By recipe, so that the page can fold them.
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        leaks = f" {LEAKS}" if of_segments(cell.protocol) else ""
        title = f"{cell.recipe}, protocol {cell.protocol}{leaks}, {_stamp(study)}"
        name = f"{cell.recipe}-{cell.protocol}".replace(" ", "-")
        found[cell.recipe].append(
            {
                "protocol": cell.protocol,
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
    return {entry.name: found[entry.name] for entry in study.config.entries if entry.name in found}


def summary(study: Study) -> list[dict[str, str]]:
    """The table's lines, as text, in its order: leakage-free protocols first.

    ``mark`` is the reason why a line has no figures; ``leaks`` is ``LEAKS`` or empty.
    """
    return _lines(study, study.cells)


def _lines(study: Study, among: Sequence[Cell]) -> list[dict[str, str]]:
    cells = {(cell.protocol, cell.recipe): cell for cell in among}
    whole = {(cell.protocol, cell.recipe) for cell in study.cells}
    lines: list[dict[str, str]] = []
    for protocol in _protocols(study):
        for recipe in study.config.entries:
            line = {"recipe": recipe.name, "about": recipe.about, "protocol": protocol}
            line["leaks"] = LEAKS if of_segments(protocol) else ""
            if (cell := cells.get((protocol, recipe.name))) is not None:
                line |= {"mark": ""} | _figures(cell)
                line["used"] = str(sum(study.used[recipe.name].values()))
            elif (protocol, recipe.name) in whole:
                line["mark"] = NO_AUDIO
            elif mark := _mark(study, recipe.name, protocol):
                line["mark"] = mark
            else:
                continue  # the protocol does not apply to this recipe
            lines.append(line)
    return lines


def _figures(cell: Cell) -> dict[str, str]:
    segments = " segments" if of_segments(cell.protocol) else ""
    return {
        "accuracy": _plus_minus(cell.mean, cell.sd),
        "interval": _to(cell.interval()),
        "method": cell.interval_method,
        "macro_f1": f"{cell.macro_f1:.3f}",
        "n_test": str(cell.n_test),
        "n": f"{cell.n_train} / {cell.n_valid} / {cell.n_test}{segments}",
        "seconds": f"{cell.seconds:.0f}",
    }


def _mark(study: Study, recipe: str, protocol: str) -> str:
    marks = (
        entry.mark
        for entry in study.unavailable
        if entry.recipe in (recipe, "") and entry.protocol in (protocol, None)
    )
    return next(marks, "")


def _on_audio(study: Study) -> list[Cell]:
    # Only if recipes with audio are tested on fewer tracks than those with tables or pictures.
    tracks: defaultdict[str, set[str]] = defaultdict(set)
    for cell in study.cells:
        tracks[cell.recipe] |= cell.tracks()
    audio_only = [tested <= study.audio for tested in tracks.values()]
    if all(audio_only) or not any(audio_only):
        return []
    return [left for cell in study.cells if (left := cell.restricted(study.audio)) is not None]


def _against_best(study: Study) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for protocol in _protocols(study):
        cells = [cell for cell in study.cells if cell.protocol == protocol]
        best = max(cells, key=lambda cell: cell.mean, default=None)
        lines = [_behind(cell, best) for cell in cells if best is not None and cell is not best]
        if best is not None and lines:
            lines.sort(key=lambda line: -line["sort"])
            groups.append({"protocol": protocol, "best": best.recipe, "lines": lines})
    return groups


def _behind(cell: Cell, best: Cell) -> dict[str, Any]:
    found = compare(cell, best)
    if found is None:
        return {"recipe": cell.recipe, "mark": "no test track in common", "sort": float("-inf")}
    return {
        "recipe": cell.recipe,
        "mark": "",
        "difference": f"{found.difference:+.3f}",
        "interval": _to((found.low, found.high), sign="+"),
        "p": "–" if found.mcnemar_p is None else _p_value(found.mcnemar_p),
        "n_tracks": found.n_tracks,
        "sort": found.difference,
    }


def _learnt(study: Study) -> list[Cell]:
    # With the cells on all training tracks, the last points of the lines.
    recipes = {cell.recipe for cell in study.learning}
    protocol = study.learning[0].protocol
    whole = [c for c in study.cells if c.recipe in recipes and c.protocol == protocol]
    return [*study.learning, *whole]


def _learning(study: Study) -> dict[str, Any] | None:
    if not study.learning:
        return None
    cells = _learnt(study)
    shares = sorted({cell.train_share for cell in cells})
    lines: defaultdict[str, dict[float, str]] = defaultdict(dict)
    for cell in cells:
        text = f"{_plus_minus(cell.mean, cell.sd)} ({cell.n_train} tracks)"
        lines[cell.recipe][cell.train_share] = text
    return {
        "protocol": cells[0].protocol,
        "shares": [f"{100 * share:.3g} %" for share in shares],
        "lines": [
            {"recipe": recipe, "figures": [found.get(share, "") for share in shares]}
            for recipe, found in lines.items()
        ],
    }


def _against(study: Study) -> list[dict[str, Any]]:
    # The study's figures are comparable only on GTZAN under its own protocol.
    cells = {cell.recipe: cell for cell in study.cells if cell.protocol == "random"}
    return [
        {
            "recipe": name,
            "theirs": _plus_minus(figure.mean, figure.sd),
            "ours": _ours(study, cells.get(name)),
            "difference": figure.difference,
        }
        for name, figure in STUDY_FIGURES.items()
        if any(recipe.name == name for recipe in study.config.recipes)
    ]


def _ours(study: Study, cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    if study.dataset.name != "gtzan":
        return f"not comparable ({study.dataset.name} data)"
    if study.config.quick:
        return "not comparable (quick run)"
    gap = cell.mean - STUDY_FIGURES[cell.recipe].mean
    return f"{_plus_minus(cell.mean, cell.sd)} ({gap:+.3f})"


def _recall(cell: Cell) -> dict[str, Any]:
    shares = {
        genre: "–" if scores.recall is None else f"{scores.recall:.2f}"
        for genre, scores in cell.by_genre.items()
    }
    return {"recipe": cell.recipe, "protocol": cell.protocol, "shares": shares}


def _to(ends: tuple[float, float], sign: str = "") -> str:
    return f"{ends[0]:{sign}.3f} to {ends[1]:{sign}.3f}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _plus_minus(mean: float, sd: float | None) -> str:
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"


def _save(figure: Figure, path: Path, alt: str) -> _Picture:
    # No dates or versions inside: the same figures give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return _Picture(f"{path.parent.name}/{path.name}", alt, data)
