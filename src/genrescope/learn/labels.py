"""The genres of a library's tracks by their tags, and which of them can be learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrescope.datasets.track import MAX_GENRES, genre_fault
from genrescope.taxonomy import Taxonomy


@dataclass(frozen=True)
class LeftOut:
    """A genre of the tags that is not learned by itself.

    Attributes
    ----------
    genre
        Its name.
    tracks, artists
        Their numbers, with those of subgenres that are too rare.
    reason
        A clause.
    learned_as
        The genre above it whose tracks they count among; None if there is none.
    """

    genre: str
    tracks: int
    artists: int
    reason: str
    learned_as: str | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """The genres to learn.

    Attributes
    ----------
    genres
        By name, in alphabetical order.
    member
        bool (tracks, genres): a track may have several, or none.
    left_out
        The others, those of most tracks first.
    """

    genres: tuple[str, ...]
    member: NDArray[np.bool_]
    left_out: tuple[LeftOut, ...]


def choose_genres(
    tracks: Sequence[tuple[str, ...]],
    artists: NDArray[np.intp],
    taxonomy: Taxonomy,
    *,
    min_tracks: int,
    min_artists: int,
) -> Labels:
    """Choose the genres that have enough tracks; the tracks of others count as the genre above.

    Parameters
    ----------
    tracks
        Of each, as of ``genrescope.taxonomy.track_genres``.
    artists
        (tracks,): numbers that are equal for tracks of one artist.
    taxonomy
        Names and tree of the genres.
    min_tracks, min_artists
        Of a genre that is learned.
    """
    spellings: dict[str, Counter[str]] = {}
    found: dict[str, set[int]] = {}
    for i, own_genres in enumerate(tracks):
        for name in own_genres:
            key = taxonomy.key(name)
            spellings.setdefault(key, Counter())[name] += 1
            found.setdefault(key, set()).add(i)
    names = {key: counts.most_common(1)[0][0] for key, counts in spellings.items()}
    above = {key: taxonomy.ancestors(name) for key, name in names.items()}
    for parents in list(above.values()):
        for step, name in enumerate(parents):
            names.setdefault(taxonomy.key(name), name)
            above.setdefault(taxonomy.key(name), parents[step + 1 :])
    learned: dict[str, set[int]] = {}
    rare: list[tuple[str, int, int, str]] = []
    # From the leaves of the tree upwards, so that a genre has those of its subgenres that are rare.
    for key in sorted(names, key=lambda key: -len(above[key])):
        own = found.get(key, set())
        count = len({int(artists[i]) for i in own})
        if not own:
            continue
        fault = genre_fault(names[key]) or _too_few(len(own), count, min_tracks, min_artists)
        if fault is None:
            learned[key] = own
            continue
        rare.append((key, len(own), count, fault))
        if above[key]:
            found.setdefault(taxonomy.key(above[key][0]), set()).update(own)
    by_size = sorted(learned, key=lambda key: (-len(learned[key]), names[key]))
    for key in by_size[MAX_GENRES:]:
        own = learned.pop(key)
        count = len({int(artists[i]) for i in own})
        rare.append((key, len(own), count, f"{MAX_GENRES} genres have more tracks"))
    kept = sorted(learned, key=lambda key: (names[key].casefold(), names[key]))
    member = np.zeros((len(tracks), len(kept)), dtype=bool)
    for column, key in enumerate(kept):
        member[list(learned[key]), column] = True
    left_out = [
        LeftOut(
            names[key],
            count,
            by,
            reason,
            next((name for name in above[key] if taxonomy.key(name) in learned), None),
        )
        for key, count, by, reason in rare
    ]
    left_out.sort(key=lambda one: (-one.tracks, one.genre))
    return Labels(tuple(names[key] for key in kept), member, tuple(left_out))


def _too_few(tracks: int, artists: int, min_tracks: int, min_artists: int) -> str | None:
    if tracks < min_tracks:
        return f"fewer than {min_tracks} tracks"
    if artists < min_artists:
        return f"fewer than {min_artists} artists"
    return None
