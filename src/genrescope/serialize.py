"""Results as JSON values and as a sentence, for the command line, the API and the page."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genrescope.classifier import GenreLabel, Prediction, Timeline
from genrescope.classifier.batch import FileResult
from genrescope.classifier.explain import Explanation
from genrescope.library.similar import Neighbour, Similar

CSV_COLUMNS = ("path", "genre", "confidence", "unsure", "warnings")
"""Of the table of results."""

_CERTAIN, _PART = 0.95, 1 / 7


def genre_values(found: GenreLabel) -> dict[str, Any]:
    """Return ``genre`` (None for other), ``other`` and ``best`` as JSON values."""
    return {"genre": found.genre, "other": found.other, "best": found.best}


def result_row(answer: FileResult, top_k: int) -> dict[str, Any]:
    """Return the result of a file as JSON values.

    Returns
    -------
    row
        ``path`` and ``error``, or ``path``, ``genre`` (None if it is none of the model's),
        ``other`` (whether it is none), ``best`` (the most likely of the model's), ``unsure``,
        ``scores``, ``tags``, ``warnings`` and, if they were computed, ``timeline``: ``step_s``
        (None if the clip was analysed whole) and the genre of each step (None if silent); and
        ``explanation``, see ``genrescope.explain``.
    """
    path, found = str(answer.path), answer.prediction
    if found is None:
        return {"path": path, "error": str(answer.error)}
    row: dict[str, Any] = {
        "path": path,
        **genre_values(found),
        "unsure": found.unsure,
        "scores": _scores(found.probabilities, top_k),
        "tags": _scores(found.tags, top_k),
        "warnings": list(found.warnings),
    }
    if (times := answer.timeline) is not None:
        step_s = round(times.step_s, 3) if isfinite(times.step_s) else None
        row["timeline"] = {"step_s": step_s, "genres": times.best}
    if answer.explanation is not None:
        row["explanation"] = explanation_values(answer.explanation)
    return row


def explanation_values(why: Explanation) -> dict[str, Any]:
    """Return what an answer rests on as JSON values."""
    return {
        "genre": why.genre,
        "probability": round(why.probability, 6),
        "times_s": np.round(why.times, 3).tolist(),
        "bands_hz": np.round(why.bands, 1).tolist(),
        "drops": [[round(drop, 6) for drop in step] for step in why.drops.tolist()],
    }


def csv_cells(path: Path | str, found: Prediction) -> tuple[object, ...]:
    """Return a prediction as the cells of ``CSV_COLUMNS``."""
    shares = fixed(found.genre_confidence), str(found.unsure).lower()
    return path, found.label, *shares, "; ".join(found.warnings)


def fixed(number: float | None, digits: int = 4) -> Decimal | None:
    """Round a number to the digits of CSV; None is an empty cell."""
    return None if number is None else round(Decimal(float(number)), digits)


def certainty(prediction: Prediction) -> Literal["sure", "likely", "unsure", "none"]:
    """Return how certain a prediction is; ``none`` is of what is none of the model's genres."""
    if prediction.other:
        return "none"
    if prediction.unsure:
        return "unsure"
    return "sure" if prediction.confidence >= _CERTAIN else "likely"


def similar_row(similar: Similar) -> dict[str, Any]:
    """Return the tracks similar to one as JSON values.

    Returns
    -------
    row
        ``track`` and ``error``, or ``track``, ``genre``, ``other``, ``best``, ``confidence`` and
        ``similar``, a list of ``path``, ``similarity``, ``genre``, ``other``, ``best`` and
        ``confidence``.
    """
    if similar.error is not None:
        return {"track": str(similar.path), "error": str(similar.error)}
    return {
        "track": str(similar.path),
        **genre_values(similar),
        "confidence": round(similar.confidence, 6),
        "similar": [neighbour_values(near, str(near.path)) for near in similar.neighbours],
    }


def neighbour_values(near: Neighbour, path: str) -> dict[str, Any]:
    """Return a similar track as JSON values, under a path as it is to be shown."""
    return {
        "path": path,
        "similarity": round(max(-1.0, min(1.0, near.similarity)), 6),
        **genre_values(near),
        "confidence": round(near.confidence, 6),
    }


def sentence(prediction: Prediction, timeline: Timeline | None = None) -> str:
    """Write a prediction as a sentence: "Probably metal (0.86); parts sound like rock.".

    Of what is none of the model's genres: "None of the model's 10 genres; closest is rock (0.41).".

    Parameters
    ----------
    prediction
        Of the whole clip.
    timeline
        Adds the genres of at least a seventh of the clip that have not been named.
    """
    if prediction.other:
        count, share = len(prediction.probabilities), prediction.confidence
        return f"None of the model's {count} genres; closest is {prediction.best} ({share:.2f})."
    first, *rest = prediction.likely
    named = {first}
    best_guess = f"{first} ({prediction.confidence:.2f})"
    if prediction.unsure:
        others = f", or {' or '.join(rest[:2])}" if rest else ""
        named |= set(rest[:2])
        text = f"Low confidence: perhaps {best_guess}{others}"
    else:
        degree = "Almost certainly" if certainty(prediction) == "sure" else "Probably"
        text = f"{degree} {best_guess}"
    if timeline is not None:
        best = timeline.best
        parts_of = {genre: best.count(genre) / len(best) for genre in best if genre is not None}
        ranked = sorted(parts_of, key=lambda genre: -parts_of[genre])
        parts = [name for name in ranked if name not in named and parts_of[name] >= _PART]
        if parts:
            text += f"; parts sound like {' and '.join(parts[:2])}"
    return f"{text}."


def _scores(probabilities: dict[str, float], top_k: int) -> list[dict[str, Any]]:
    first = list(probabilities.items())[:top_k]
    return [{"label": name, "score": round(score, 6)} for name, score in first]
