"""What a study found, for the first sentences of its report; and what the original one printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genrescope.datasets.splits import get_protocol
from genrescope.report.tables import plus_minus, signed, span
from genrescope.study.results import Cell, compare, of_segments
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


def find(study: Study, protocols: list[str]) -> dict[str, Any]:
    """Give what the first three sentences say.

    Parameters
    ----------
    study
        With its results; may be any part of the models and protocols.
    protocols
        Leakage-free ones first.

    Returns
    -------
    found
        ``best`` (None if nothing ran), ``gap`` (None without both kinds of protocols) and
        ``printed``, of the original study.
    """
    ran = [name for name in protocols if any(cell.protocol == name for cell in study.cells)]
    leakage_free = {name: get_protocol(name).leakage_free for name in ran}
    strict = next((name for name in ran if leakage_free[name]), None)
    random = next(
        (name for name in ran if not get_protocol(name).leakage_free and not of_segments(name)),
        None,
    )
    return {
        "best": _best(study, strict or ran[0], strict is not None) if ran else None,
        "random": random,
        "gap": _gap(study, strict, random) if strict and random else None,
        "printed": _printed(study),
    }


def _best(study: Study, protocol: str, leakage_free: bool) -> dict[str, Any]:
    cells = sorted(study.of(protocol), key=lambda cell: -cell.mean)
    best, others = cells[0], cells[1:]
    found = compare(best, others[0]) if others else None
    return {
        "protocol": protocol,
        "leakage_free": leakage_free,
        "recipe": best.recipe,
        "accuracy": plus_minus(best.mean, best.sd),
        "interval": span(best.interval()),
        "n_test": len(best.tracks()),
        "next": others[0].recipe if others else "",
        "difference": None
        if found is None
        else {
            "more": f"{abs(found.difference):.3f} {'more' if found.difference >= 0 else 'less'}",
            "interval": f"{signed(found.low)} to {signed(found.high)}",
            "distinct": found.low > 0,
            "n_tracks": found.n_tracks,
        },
    }


def _gap(study: Study, strict: str, random: str) -> dict[str, Any] | None:
    kept = {cell.recipe: cell.mean for cell in study.of(strict)}
    gaps = {
        cell.recipe: cell.mean - kept[cell.recipe]
        for cell in study.of(random)
        if cell.recipe in kept
    }
    if not gaps:
        return None
    mean = sum(gaps.values()) / len(gaps)
    smallest, largest = min(gaps, key=lambda name: gaps[name]), max(gaps, key=lambda n: gaps[n])
    return {
        "protocol": random,
        "mean": f"{abs(mean):.3f} {'more' if mean >= 0 else 'less'}",
        "count": len(gaps),
        "smallest": (smallest, signed(gaps[smallest])),
        "largest": (largest, signed(gaps[largest])),
    }


def _printed(study: Study) -> dict[str, Any]:
    cells = {cell.recipe: cell for cell in study.of("random")}
    own = [name for name in STUDY_FIGURES if any(r.name == name for r in study.config.recipes)]
    reason = ""
    if study.dataset.name != "gtzan":
        reason = f"not comparable, {study.dataset.name} data"
    elif study.config.quick:
        reason = "not comparable, quick run"
    return {
        "models": [
            {
                "recipe": name,
                "printed": f"{figure.mean:g} ± {figure.sd:g}",  # with its own digits
                "here": _here(study, name, cells.get(name), reason),
                "is_figure": name in cells and not reason,
                "why": figure.difference,
            }
            for name, figure in STUDY_FIGURES.items()
            if name in own or not own
        ],
        "any": bool(own),
    }


def _here(study: Study, name: str, cell: Cell | None, reason: str) -> str:
    if cell is None:
        return study.mark_of(name, "random") or "not run"
    return reason or plus_minus(cell.mean, cell.sd)
