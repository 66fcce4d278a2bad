"""Statistics of a library: genres, their confidences, and failures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrescope.classifier import OTHER
from genrescope.io import picture_text
from genrescope.library.catalogue import Catalogue, CatalogueTrack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 20
"""Of the histogram of confidences, from 0 to 1."""


@dataclass(frozen=True, eq=False)
class Genre:
    """The tracks with the same first genre.

    Attributes
    ----------
    tracks
        Their number.
    unsure
        How many of them have a low confidence.
    confidences
        int64 (BINS,): histogram from 0 to 1.
    mean_confidence
        In [0, 1].
    """

    tracks: int
    unsure: int
    confidences: NDArray[np.int64]
    mean_confidence: float


@dataclass(frozen=True, eq=False)
class Stats:
    """Statistics of a library.

    Attributes
    ----------
    counts
        Of files ``analysed``, ``failed``, ``waiting`` and ``gone``.
    genres
        By name, the most frequent first.
    other
        How many tracks are none of the model's genres; they are in no genre.
    failures
        How many files failed for each cause, the most frequent first.
    with_warnings
        How many have a prediction with a warning, such as damaged files.
    """

    counts: dict[str, int]
    genres: dict[str, Genre] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    with_warnings: int = 0
    other: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            **self.counts,
            "genres": {
                name: {
                    "tracks": genre.tracks,
                    "unsure": genre.unsure,
                    "mean_confidence": round(genre.mean_confidence, 4),
                    "confidences": genre.confidences.tolist(),
                }
                for name, genre in self.genres.items()
            },
            "other": self.other,
            "failures": self.failures,
            "with_warnings": self.with_warnings,
        }


def summarise(catalogue: Catalogue, library: Path | None = None) -> Stats:
    """Summarise a library, or the whole catalogue."""
    where = None if library is None else str(library)
    genres, failures, with_warnings, other = _tally(catalogue.tracks(where))
    counts = catalogue.counts(where)
    return Stats(counts, genres, dict(failures.most_common()), with_warnings, other)


def _tally(tracks: Iterable[CatalogueTrack]) -> tuple[dict[str, Genre], Counter[str], int, int]:
    bins: dict[str, NDArray[np.int64]] = {}
    sums: Counter[str] = Counter()
    unsure: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    with_warnings = other = 0
    for known in tracks:
        found = known.prediction
        if found is None:
            failures[_kind(known.error or "")] += 1
            continue
        with_warnings += bool(found.warnings)
        if found.other:
            other += 1
            continue
        histogram = bins.setdefault(found.best, np.zeros(BINS, dtype=np.int64))
        histogram[min(BINS - 1, int(found.confidence * BINS))] += 1
        sums[found.best] += found.confidence  # type: ignore[assignment]  # a sum, not a count
        unsure[found.best] += found.unsure
    genres = {
        name: Genre(n := int(counts.sum()), unsure[name], counts, sums[name] / n)
        for name, counts in bins.items()
    }
    most_first = sorted(genres.items(), key=lambda item: (-item[1].tracks, item[0]))
    return dict(most_first), failures, with_warnings, other


def _kind(error: str) -> str:
    # "it is truncated (12.3 s of 30.0 s can be read). Replace …" is one of many truncated ones.
    return re.sub(r" \([^)]*\)", "", error.partition(". ")[0]) or "unknown"


def draw(stats: Stats, title: str) -> Figure:
    """Draw the genres and their confidences. Needs matplotlib."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra

    figure = Figure(figsize=(9, 1.6 + 0.34 * max(4, len(stats.genres))), layout="constrained")
    bars, sure = figure.subplots(1, 2, width_ratios=(3, 2))
    shown = list(stats.genres)[::-1]
    genres = [stats.genres[name] for name in shown]
    names = [picture_text(name) for name in shown]
    places = np.arange(len(genres))
    firm = [genre.tracks - genre.unsure for genre in genres]
    unsure = [genre.unsure for genre in genres]
    bars.barh(places, firm, color="#2f6db5", label="sure")
    bars.barh(places, unsure, left=firm, color="#b8c9df", label="unsure")
    totals = [genre.tracks for genre in genres]
    if stats.other:  # below the genres
        bars.barh(-1, stats.other, color="#9a9a9a", label="none of the genres")
        places, names = np.arange(-1, len(genres)), [OTHER, *names]
        totals = [stats.other, *totals]
    bars.set_yticks(places, names)
    for place, count in zip(places, totals, strict=True):
        bars.annotate(f"{count:,}", (count, place), (4, 0), textcoords="offset points", va="center")
    bars.margins(x=0.14)
    bars.set_xlabel("tracks")
    bars.legend(frameon=False, loc="lower right")
    total = np.sum([genre.confidences for genre in genres], axis=0) if genres else np.zeros(BINS)
    edges = np.arange(BINS) / BINS
    sure.bar(edges, total, width=1 / BINS, align="edge", color="#2f6db5", edgecolor="white")
    sure.set(xlim=(0, 1), xlabel="confidence of the genre", ylabel="tracks")
    for axes in (bars, sure):
        axes.spines[["top", "right"]].set_visible(False)
    counts = ", ".join(f"{count:,} {name}" for name, count in stats.counts.items() if count)
    figure.suptitle(f"{picture_text(title)}: {counts or 'nothing yet'}", fontsize=11)
    return figure
