"""Analyses of uploads as responses of the API, and as the answers of the page."""

from __future__ import annotations

import io
import json
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from genrescope.audio.render import picture_edges
from genrescope.classifier import Timeline
from genrescope.classifier.batch import FileResult
from genrescope.errors import one_line
from genrescope.io import CsvWriter, written
from genrescope.library.similar import Neighbour
from genrescope.serialize import (
    CSV_COLUMNS,
    certainty,
    csv_cells,
    genre_values,
    result_row,
    sentence,
)
from genrescope.service.analysis import PICTURE, RATE, SOUND, UploadAnalysis, names_of
from genrescope.service.service import Service
from genrescope.tagging.formats import TrackNames

JSON, CSV = "answer.json", "answer.csv"
"""Names of an answer's files, beside its picture and sound."""

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


def track_values(track: Neighbour, folder: Path) -> dict[str, Any]:
    """Return a similar track of the library in a folder as JSON values."""
    return {
        "path": written(track.path.relative_to(folder).as_posix()),
        "similarity": max(-1.0, min(1.0, track.similarity)),
        **genre_values(track),
        "confidence": track.confidence,
    }


def write_answer(service: Service, analysis: UploadAnalysis, name: str, job: str, to: Path) -> None:
    """Write the page's answer to an analysis, as JSON and as CSV.

    Parameters
    ----------
    service
        Which has the model and the library.
    analysis
        With a timeline.
    name
        Of the file.
    job
        Id of the job, which is part of the links.
    to
        Folder with the picture and the sound.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    row = result_values(analysis, name, max(len(analysis.prediction.probabilities), _TAGS))
    folder = service.library.folder if service.library else Path()
    place = f"/api/answers/{job}"
    level = certainty(analysis.prediction)
    content = {
        **row,
        **_name_values(analysis.names),
        "tags": row["tags"][:_TAGS],
        "confidence_level": level,
        "confidence_text": _reliability(service, level),
        "timeline": _probabilities(analysis.timeline),
        "spectrogram": {"bands_hz": [round(edge, 1) for edge in picture_edges(RATE)]},
        "similar": [
            {
                **track_values(track, folder),
                **_name_values(names_of(track.path)),
                "audio": f"/api/library/tracks/{track.row}/audio",
            }
            for track in service.near(analysis)
        ],
        "links": {
            "spectrogram": f"{place}/{PICTURE}" if (to / PICTURE).exists() else None,
            "audio": f"{place}/{SOUND}",
            "json": f"{place}/{JSON}",
            "csv": f"{place}/{CSV}",
        },
    }
    (to / JSON).write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    table = io.StringIO()
    lines = CsvWriter(table)
    lines.row(*CSV_COLUMNS)
    lines.row(*csv_cells(name, analysis.prediction))
    (to / CSV).write_text(table.getvalue(), encoding="utf-8", newline="")


def calibration(trained: dict[str, Any]) -> str:
    """Say how far a model's percentages can be believed, by its ``trained``; empty if unknown."""
    if not isinstance(error := trained.get("ece"), float):
        return ""
    return (
        f"In tests ({trained.get('protocol')}) such percentages were off by "
        f"{100 * error:.0f} points on average."
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


def _reliability(service: Service, level: str) -> str:
    if level == "none":
        return "unlike the music of all its genres"
    shares = service.classifier.config.trained.get("unsure")
    known = shares if isinstance(shares, dict) else {}
    share = known.get("right_unsure" if level == "unsure" else "right_sure")
    return f"right in {10 * share:.0f} of 10 such cases" if isinstance(share, float) else ""
