"""Genres that the tagger names and the model does not, such as electronic, folk, soul and punk.

A tagger gives every track some of every tag. So a tag counts only well above what nearly all tracks
of other genres get: ``taxonomies/tags.csv``, which ``tools/tag_rates.py`` writes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_CLEAR = 1.5  # times what is usual


@dataclass(frozen=True, slots=True)
class TagRate:
    """A tag's genre, and the likelihood that 99 in 100 tracks of other genres stay below."""

    genre: str
    usual: float


@dataclass(frozen=True, slots=True)
class TagGenre:
    """The genre that a track's tags name.

    Attributes
    ----------
    genre
        Its name.
    reason
        A short clause for the plan.
    """

    genre: str
    reason: str


@cache
def tag_rates() -> dict[str, TagRate]:
    """Read the table in the package, by the names of the tags."""
    text = (files("genrescope") / "taxonomies" / "tags.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["tag"]: TagRate(row["genre"], float(row["usual"])) for row in rows}


def genre_by_tags(tags: Mapping[str, float]) -> TagGenre | None:
    """Name the genre of the tag that is furthest above what is usual; None if none is clearly.

    Parameters
    ----------
    tags
        Likelihoods in [0, 1] by tag, of ``Prediction``.
    """
    rates = tag_rates()
    lifts = {tag: tags[tag] / rates[tag].usual for tag in rates if tag in tags}
    best = max(lifts, key=lambda tag: lifts[tag], default=None)
    if best is None or lifts[best] < _CLEAR:
        return None
    rate = rates[best]
    reason = f"by its tags alone: {best} {tags[best]:.2f}, usually below {rate.usual:.2f}"
    return TagGenre(rate.genre, reason)
