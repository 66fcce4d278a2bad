"""What an answer shows, as JSON values and in words."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from genrescope.audio.render import picture_edges
from genrescope.classifier import Timeline
from genrescope.classifier.batch import FileResult
from genrescope.errors import one_line
from genrescope.io import written
from genrescope.library.similar import Library, Neighbour
from genrescope.serialize import certainty, neighbour_values, result_row, sentence
from genrescope.service.analysis import RATE, UploadAnalysis
from genrescope.service.shelf import track_names
from genrescope.tagging.formats import TrackNames

_TAGS = 12  # of an answer
_LONGEST = 300  # letters of a name


def result_values(analysis: UploadAnalysis, name: str, top_k: int) -> dict[str, Any]:
    """Return an analysis as JSON values, with the timeline and the explanation that it has.

    Parameters
    ----------
    analysis
        Of the file.
    name
        Of the file.
    top_k
        Genres and tags, at most.
    """
    found = analysis.prediction
    row = result_row(FileResult(Path(name), found, analysis.timeline, analysis.explanation), top_k)
    del row["path"]
    return {
        "file": name,
        "seconds": round(analysis.seconds, 3),
        "confidence": round(found.confidence, 6),
        "sentence": sentence(found, analysis.timeline),
        **row,
    }


def answer_values(analysis: UploadAnalysis, name: str, trained: dict[str, Any]) -> dict[str, Any]:
    """Return all that the page shows of an analysis with a timeline, but similar tracks.

    Parameters
    ----------
    analysis, name
        As of ``result_values``.
    trained
        Of the model: how often its answers are right.
    """
    row = result_values(analysis, name, max(len(analysis.prediction.probabilities), _TAGS))
    level = certainty(analysis.prediction)
    return {
        **row,
        **_name_values(analysis.names),
        "tags": row["tags"][:_TAGS],
        "confidence_level": level,
        "confidence_text": _reliability(trained, level),
        "timeline": _probabilities(analysis.timeline),
        "spectrogram": {"bands_hz": [round(edge, 1) for edge in picture_edges(RATE)]},
    }


def track_values(track: Neighbour, folder: Path) -> dict[str, Any]:
    """Return a similar track of the library in a folder as JSON values."""
    return neighbour_values(track, written(track.path.relative_to(folder).as_posix()))


def named_track_values(track: Neighbour, library: Library) -> dict[str, Any]:
    """Return ``track_values`` and the names in the track's tags."""
    names = track_names(library, track.row)
    return track_values(track, library.folder) | _name_values(names)


def calibration(trained: dict[str, Any]) -> str:
    """Say how far a model's percentages can be believed, by its ``trained``; empty if unknown."""
    if not isinstance(error := trained.get("ece"), float):
        return ""
    return (
        "For example, of answers with 80 %, about 80 in 100 are right "
        f"(in tests, {max(1, round(100 * error))} more or fewer on average)."
    )


def _name_values(names: TrackNames) -> dict[str, str | None]:
    texts = {"title": names.title, "artist": names.artist, "album": names.album}
    return {key: one_line(text)[:_LONGEST] or None for key, text in texts.items()}


def _probabilities(timeline: Timeline | None) -> dict[str, Any]:
    if timeline is None:
        raise ValueError("the analysis has no timeline")
    rows = np.round(timeline.probabilities.astype(np.float64), 4)
    return {
        "step_s": round(timeline.step_s, 3) if isfinite(timeline.step_s) else None,
        "genres": timeline.genres,
        "probabilities": [row.tolist() if row.any() else None for row in rows],
    }


def _reliability(trained: dict[str, Any], level: str) -> str:
    if level == "none":
        return "unlike the music of all genres that the model knows"
    shares = trained.get("unsure")
    known = shares if isinstance(shares, dict) else {}
    share = known.get("right_unsure" if level == "unsure" else "right_sure")
    if not isinstance(share, float):
        return ""
    # Measured of both together: less likely ones among them are right less often.
    such = "unsure answers" if level == "unsure" else "sure and likely answers"
    return f"{10 * share:.0f} in 10 {such} are right"
