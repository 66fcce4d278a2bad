"""The choice of genres for one track: which to write, or why its file is left unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from genrescope.errors import GenrescopeError

if TYPE_CHECKING:
    from genrescope.taxonomy import Taxonomy

_TOLERANCE = 1e-6  # probabilities are float32: 0.4 + 0.3 may be below 0.7
_HALF = 0.5  # more likely than everything else together


class Existing(StrEnum):
    """What is done with a file that has a genre: nothing, add to its genres, or replace them."""

    SKIP = "skip"
    ADD = "add"
    REPLACE = "replace"


class AlbumVote(StrEnum):
    """Whether an album gets one genre: where its tracks agree, always, or never."""

    AGREE = "agree"
    VOTE = "vote"
    OFF = "off"


@dataclass(frozen=True)
class Policy:
    """Rules for what is written.

    Attributes
    ----------
    existing
        What is done with a file that has a genre.
    min_confidence
        In [0, 1]: minimum probability of the first genre by itself.
    max_genres
        At least 1: maximum number of genres of a file. Existing genres are kept beyond that.
    map_existing
        Whether genres of a file that are kept are renamed by the taxonomy.
    min_second
        In [0, 1]: minimum probability of each further genre.

    Raises
    ------
    GenrescopeError
        If a value is invalid.
    """

    existing: Existing = Existing.SKIP
    min_confidence: float = 0.7
    max_genres: int = 2
    map_existing: bool = False
    min_second: float = 0.25

    def __post_init__(self) -> None:
        if self.existing not in list(Existing):
            known = ", ".join(Existing)
            raise GenrescopeError(f"Existing genres: {self.existing!r} is none of {known}.")
        for name, value in (
            ("confidence", self.min_confidence),
            ("probability of a second genre", self.min_second),
        ):
            if not 0 <= value <= 1:
                raise GenrescopeError(f"The minimum {name} must be between 0 and 1, not {value}.")
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
        In [0, 1]: the probability of the first predicted genre; None if that is not allowed.
    reason
        A short clause for the plan.
    proposed
        What it would have, if a person agrees that the genres in tags are wrong; mostly empty.
    """

    genres: tuple[str, ...] | None
    confidence: float | None
    reason: str
    proposed: tuple[str, ...] = ()


def choose(
    old: Sequence[str],
    probabilities: Mapping[str, float],
    taxonomy: Taxonomy,
    policy: Policy,
    *,
    other: bool = False,
    unsure_below: float = 0.0,
    around: Sequence[str] = (),
) -> Choice:
    """Choose the genres of a track.

    Parameters
    ----------
    old
        Genres of the file; blank ones and placeholders are ignored.
    probabilities
        Of each of the model's genres, in [0, 1], with a sum of at most 1.
    taxonomy
        Names and tree of the genres.
    policy
        See the class.
    other
        Whether the track is none of the model's genres: then none is chosen, whatever the policy.
    unsure_below
        The model's threshold: nothing is chosen below it, whatever the policy.
    around
        Genres in the tags of the rest of the album, which a file without any should not contradict.

    Returns
    -------
    choice
        The most likely genre, if it reaches ``min_confidence`` and the model's threshold, and
        further ones that reach ``min_second``. With a whitelist, probabilities are those among the
        allowed genres; none is chosen if the model's most likely genre is not among them, or is
        sure only because others were left out. A genre of the file is never replaced by one that
        contains it.
    """
    old = tuple(one for one in old if one.strip() and not taxonomy.is_placeholder(one))
    mapped = taxonomy.map_probabilities(
        {name: share for name, share in probabilities.items() if not taxonomy.is_placeholder(name)}
    )
    shares = _renormalised(mapped, sum(probabilities.values()))
    predicted = _likely(shares, policy)
    first = next(iter(predicted), "")
    share = min(shares.get(first, 0.0), 1.0)
    confidence: float | None = share
    listed = ", ".join(f"{genre} {share:.2f}" for genre, share in predicted.items())
    needed = max(unsure_below, min(policy.min_confidence, _HALF))
    best = max(probabilities, key=lambda genre: probabilities[genre], default="")
    cause = None
    if other:
        cause = f"none of the model's genres: closest is {best} {probabilities[best]:.2f}"
    elif taxonomy.canonical(best) is None or taxonomy.is_placeholder(best):
        name = taxonomy.spelling(best)
        cause = f"{name[:1].upper()}{name[1:]} is not on your list" if best else "no genre"
        confidence = None  # there is one of other genres only
    elif not _reaches(share, policy.min_confidence):
        cause = f"low confidence: {first} {share:.2f}"
    elif not _reaches(mapped.get(first, 0), needed):
        cause = f"low confidence: {first} {mapped.get(first, 0):.2f}"
        if share > mapped.get(first, 0) + _TOLERANCE:
            cause += f", {share:.2f} of what is on your list"

    def review(tags: str) -> Choice:
        reason = f"review: sounds like {listed}, but {tags}"
        return Choice(None, confidence, reason, tuple(predicted))

    if old and policy.existing == Existing.SKIP:
        if cause is None and _contradicts(first, old, probabilities, taxonomy):
            return review(f"it is tagged {', '.join(old)}")
        cause = "it has a genre"
    if cause is not None:
        return Choice(None, confidence, cause)
    if not old and around and not any(_is_related(first, one, taxonomy) for one in around):
        return review(f"its album is tagged {', '.join(around)}")
    if policy.existing == Existing.ADD:
        genres = _added(_kept(old, taxonomy, policy), predicted, taxonomy, policy)
    else:
        genres = _replaced(old, predicted, taxonomy, policy)
    if genres == old:
        return Choice(None, confidence, "unchanged")
    kept = [one for one in genres if policy.existing == Existing.REPLACE and one not in predicted]
    return Choice(genres, confidence, f"{listed}; kept {', '.join(kept)}" if kept else listed)


def _renormalised(shares: Mapping[str, float], total: float) -> dict[str, float]:
    """Scale probabilities to a sum."""
    scale = total / sum(shares.values()) if any(shares.values()) else 1.0
    return {genre: share * scale for genre, share in shares.items()}


def _reaches(share: float, threshold: float) -> bool:
    return share >= threshold - _TOLERANCE


def _likely(shares: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """Take the most likely genre, and further ones that are likely enough."""
    taken = list(shares.items())[: policy.max_genres]
    further = [one for one in taken[1:] if _reaches(one[1], policy.min_second)]
    return dict(taken[:1] + further)


def _is_related(genre: str, other: str, taxonomy: Taxonomy) -> bool:
    # Also by the default's tree: a short list of a user's may not know that Bebop is Jazz.
    known = (taxonomy, _default())
    return any(one.is_within(genre, other) or one.is_within(other, genre) for one in known)


@cache
def _default() -> Taxonomy:
    from genrescope.taxonomy import load_taxonomy  # noqa: PLC0415  takes long

    return load_taxonomy()


def _contradicts(genre: str, old: Sequence[str], known: Iterable[str], taxonomy: Taxonomy) -> bool:
    # A model cannot contradict a tag that none of its own genres is near to: it has no name for it.
    known = list(known)
    return all(
        not _is_related(genre, one, taxonomy)
        and any(_is_related(name, one, taxonomy) for name in known)
        for one in old
    )


def _kept(old: tuple[str, ...], taxonomy: Taxonomy, policy: Policy) -> tuple[str, ...]:
    if not policy.map_existing:
        return old
    return tuple(dict.fromkeys(taxonomy.canonical(genre) or genre for genre in old))


def _added(
    kept: tuple[str, ...], predicted: Iterable[str], taxonomy: Taxonomy, policy: Policy
) -> tuple[str, ...]:
    genres = list(kept)
    for number, genre in enumerate(predicted):
        is_present = any(taxonomy.is_within(one, genre) for one in genres)
        if is_present and number == 0:
            break  # a further genre stands beside the first only
        if not is_present and len(genres) < policy.max_genres:
            genres.append(genre)
    return tuple(genres)


def _replaced(
    old: tuple[str, ...], predicted: Iterable[str], taxonomy: Taxonomy, policy: Policy
) -> tuple[str, ...]:
    """Replace genres by the predicted ones, unless they say the same more finely."""
    genres: list[str] = []
    for genre in predicted:
        if any(taxonomy.is_within(one, genre) for one in genres):
            continue
        within = tuple(one for one in old if taxonomy.is_within(one, genre))
        is_finer = any(taxonomy.key(one) != taxonomy.key(genre) for one in within)
        names = _kept(within, taxonomy, policy) if is_finer else (genre,)
        if not genres or len(genres) + len(names) <= policy.max_genres:
            genres += names
    return tuple(dict.fromkeys(genres))
