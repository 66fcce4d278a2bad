"""The choice of genres for one track: which to write, or why its file is left unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from genrescope.errors import GenrescopeError

if TYPE_CHECKING:
    from genrescope.taxonomy import Taxonomy

_TOLERANCE = 1e-6  # probabilities are float32: 0.4 + 0.3 may be below 0.7


class Existing(StrEnum):
    """What is done with a file that has a genre: nothing, add to its genres, or replace them."""

    SKIP = "skip"
    ADD = "add"
    REPLACE = "replace"


@dataclass(frozen=True)
class Policy:
    """Rules for what is written.

    Attributes
    ----------
    existing
        What is done with a file that has a genre.
    min_confidence
        In [0, 1]: minimum sum of the chosen genres' probabilities.
    max_genres
        At least 1: maximum number of genres of a file. Existing genres are kept beyond that.
    map_existing
        With ``add``: whether its genres are renamed by the taxonomy.

    Raises
    ------
    GenrescopeError
        If a value is invalid.
    """

    existing: Existing = Existing.SKIP
    min_confidence: float = 0.7
    max_genres: int = 2
    map_existing: bool = False

    def __post_init__(self) -> None:
        if self.existing not in list(Existing):
            known = ", ".join(Existing)
            raise GenrescopeError(f"Existing genres: {self.existing!r} is none of {known}.")
        if not 0 <= self.min_confidence <= 1:
            cause = f"The minimum confidence must be between 0 and 1, not {self.min_confidence}."
            raise GenrescopeError(cause)
        if self.max_genres < 1:
            cause = f"The maximum number of genres must be at least 1, not {self.max_genres}."
            raise GenrescopeError(cause)


@dataclass(frozen=True)
class Choice:
    """The choice of a file's genres.

    Attributes
    ----------
    genres
        All that it will have, in order; None to leave it unchanged.
    confidence
        In [0, 1]: the sum of the probabilities of the predicted genres.
    reason
        A short clause for the plan.
    """

    genres: tuple[str, ...] | None
    confidence: float
    reason: str


def choose(
    old: Sequence[str],
    probabilities: Mapping[str, float],
    taxonomy: Taxonomy,
    policy: Policy,
    *,
    other: bool = False,
) -> Choice:
    """Choose the genres of a track.

    Parameters
    ----------
    old
        Genres of the file; blank ones are ignored.
    probabilities
        Of each of the model's genres, in [0, 1], with a sum of at most 1.
    taxonomy
        Names and tree of the genres.
    policy
        See the class.
    other
        Whether the track is none of the model's genres: then none is chosen, whatever the policy.

    Returns
    -------
    choice
        The most likely genre, and those at least half as likely, until their sum reaches
        ``min_confidence``; none if it never does. A genre is not added if the file has it or one
        of its subgenres.
    """
    old = tuple(genre for genre in old if genre.strip())
    predicted = _likely(taxonomy.map_probabilities(probabilities), policy)
    confidence = min(sum(predicted.values()), 1.0)

    def leave(reason: str) -> Choice:
        return Choice(None, confidence, reason)

    if old and policy.existing == Existing.SKIP:
        return leave("it has a genre")
    if other:
        return leave(_closest(probabilities))
    if not predicted:
        return leave("no genre on the whitelist")
    listed = ", ".join(f"{genre} {share:.2f}" for genre, share in predicted.items())
    if confidence < policy.min_confidence - _TOLERANCE:
        return leave(f"low confidence: {listed}")
    kept = _kept(old, taxonomy, policy) if policy.existing == Existing.ADD else ()
    genres = _added(kept, predicted, taxonomy, policy)
    return leave("unchanged") if genres == old else Choice(genres, confidence, listed)


def _closest(probabilities: Mapping[str, float]) -> str:
    best = max(probabilities, key=lambda genre: probabilities[genre])
    return f"none of the model's genres: closest is {best} {probabilities[best]:.2f}"


def _likely(shares: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """Take the most likely genres until their sum is high enough, or ``max_genres`` is reached."""
    min_share = max(shares.values(), default=0.0) / 2
    taken: dict[str, float] = {}
    for genre, share in list(shares.items())[: policy.max_genres]:
        enough = sum(taken.values()) >= policy.min_confidence - _TOLERANCE
        if share < min_share or (taken and enough):
            break
        taken[genre] = share
    return taken


def _kept(old: tuple[str, ...], taxonomy: Taxonomy, policy: Policy) -> tuple[str, ...]:
    if not policy.map_existing:
        return old
    return tuple(dict.fromkeys(taxonomy.canonical(genre) or genre for genre in old))


def _added(
    kept: tuple[str, ...], predicted: Iterable[str], taxonomy: Taxonomy, policy: Policy
) -> tuple[str, ...]:
    genres = list(kept)
    for genre in predicted:
        is_present = any(taxonomy.is_within(one, genre) for one in genres)
        if not is_present and len(genres) < policy.max_genres:
            genres.append(genre)
    return tuple(genres)
