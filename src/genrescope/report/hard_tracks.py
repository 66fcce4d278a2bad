"""The tracks that every recipe of a study misclassifies: hard ones, or mislabelled."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from genrescope.io import CsvWriter, write_text
from genrescope.study.results import of_segments
from genrescope.study.run import Study


@dataclass(frozen=True)
class HardTrack:
    """A track that every recipe misclassified every time, with the predictions by number."""

    id: str
    genre: str
    predicted: Counter[str]
    faults: tuple[str, ...]


def hard_tracks(study: Study) -> tuple[list[HardTrack], int]:
    """Find the tracks that every recipe was tested on and always misclassified.

    Over all protocols and seeds, but not segments.

    Returns
    -------
    hard
        By id.
    count
        Of tracks that every recipe was tested on.
    """
    recipes: dict[str, set[str]] = defaultdict(set)
    predicted: dict[str, Counter[str]] = defaultdict(Counter)
    right: set[str] = set()
    cells = [cell for cell in study.cells if not of_segments(cell.protocol)]
    for cell in cells:
        for outcome in (one for tested in cell.tested for one in tested):
            recipes[outcome.id].add(cell.recipe)
            predicted[outcome.id][outcome.predicted] += 1
            if outcome.right:
                right.add(outcome.id)
    every = {cell.recipe for cell in cells}
    by_all = {track for track, tested in recipes.items() if tested == every}
    wrong = by_all - right
    hard = [
        HardTrack(track.id, track.genre, predicted[track.id], track.faults)
        for track in study.dataset.tracks
        if track.id in wrong
    ]
    return hard, len(by_all)


def write_errors(path: Path, study: Study) -> None:
    """Write ``errors.csv``: all hard tracks, their predictions by number, and their faults."""
    with write_text(path) as file:
        writer = CsvWriter(file, "\r\n")
        writer.row("track", "genre", "predicted", "faults")
        for track in hard_tracks(study)[0]:
            predicted = "; ".join(f"{genre} {n}" for genre, n in track.predicted.most_common())
            writer.row(track.id, track.genre, predicted, "; ".join(track.faults))
