"""The choice of genres for one track: which to write, or why its file is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from genrescope.errors import GenrescopeError
from genrescope.taxonomy import Taxonomy

Existing = Literal["if-empty", "keep", "replace"]

_TOLERANCE = 1e-6  # shares are float32, and 0.4 + 0.3 may miss 0.7


@dataclass(frozen=True)
class Policy:
    """What may be written.

    Attributes
    ----------
    existing
        ``if-empty`` leaves a file that has a genre; ``keep`` adds to its genres; ``replace``
        overwrites them.
    min_confidence
        In [0, 1]: what the chosen genres' probabilities must sum to.
    max_genres
        At least 1: how many genres a file may get. Those that it has are kept beyond that.
    map_existing
        With ``keep``: whether its genres are renamed as the taxonomy says.

    Raises
    ------
    GenrescopeError
        If one of them is none of these.
    """

    existing: Existing = "if-empty"
    min_confidence: float = 0.7
    max_genres: int = 2
    map_existing: bool = False

    def __post_init__(self) -> None:
        if self.existing not in get_args(Existing):
            known = ", ".join(get_args(Existing))
            raise GenrescopeError(f"Existing genres can be treated as: {known}.")
        if not 0 <= self.min_confidence <= 1:
            told = f"The least confidence must be between 0 and 1, not {self.min_confidence}."
            raise GenrescopeError(told)
        if self.max_genres < 1:
            told = f"The most genres that a file may get is at least 1, not {self.max_genres}."
            raise GenrescopeError(told)


@dataclass(frozen=True)
class Choice:
    """What is to become of a file's genres.

    Attributes
    ----------
    genres
        All that it is to have, in order; None to leave it alone.
    confidence
        In [0, 1]: the sum of the probabilities of the genres that were heard.
    reason
        For people, in a few words.
    """

    genres: tuple[str, ...] | None
    confidence: float
    reason: str


def choose(
    old: Sequence[str], probabilities: Mapping[str, float], taxonomy: Taxonomy, policy: Policy
) -> Choice:
    """Choose the genres of a track.

    Parameters
    ----------
    old
        The genres that its file has; blank ones do not count.
    probabilities
        In [0, 1], of each of the model's genres; they sum to at most 1.
    taxonomy
        Says how genres are called, and which are kinds of others.
    policy
        See the class.

    Returns
    -------
    choice
        The genre that is most likely, and with it those at least half as likely, until they are
        together likely enough; none if they never are. What the file says already, be it as a
        kind of such a genre, is not said again.
    """
    old = tuple(genre for genre in old if genre.strip())
    heard = _likely(taxonomy.map_shares(probabilities), policy)
    confidence = min(sum(heard.values()), 1.0)

    def leave(reason: str) -> Choice:
        return Choice(None, confidence, reason)

    if old and policy.existing == "if-empty":
        return leave("it has a genre")
    if not heard:
        return leave("no genre that the whitelist allows")
    told = ", ".join(f"{genre} {share:.2f}" for genre, share in heard.items())
    if confidence < policy.min_confidence - _TOLERANCE:
        return leave(f"not sure enough: {told}")
    kept = _kept(old, taxonomy, policy) if policy.existing == "keep" else ()
    genres = _added(kept, heard, taxonomy, policy)
    return leave("already so") if genres == old else Choice(genres, confidence, told)


def _likely(shares: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """The most likely genres, until they are likely enough together, or all that may be taken."""
    least = max(shares.values(), default=0.0) / 2
    taken: dict[str, float] = {}
    for genre, share in list(shares.items())[: policy.max_genres]:
        enough = sum(taken.values()) >= policy.min_confidence - _TOLERANCE
        if share < least or (taken and enough):
            break
        taken[genre] = share
    return taken


def _kept(old: tuple[str, ...], taxonomy: Taxonomy, policy: Policy) -> tuple[str, ...]:
    if not policy.map_existing:
        return old
    return tuple(dict.fromkeys(taxonomy.canonical(genre) or genre for genre in old))


def _added(
    kept: tuple[str, ...], heard: Iterable[str], taxonomy: Taxonomy, policy: Policy
) -> tuple[str, ...]:
    genres = list(kept)
    for genre in heard:
        said = any(taxonomy.is_within(one, genre) for one in genres)
        if not said and len(genres) < policy.max_genres:
            genres.append(genre)
    return tuple(genres)
