"""Train on one data set and test on another, over the genres that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from genrescope.datasets.splits import across_name
from genrescope.datasets.track import Dataset, SplitLists, Track
from genrescope.errors import GenrescopeError
from genrescope.taxonomy import Taxonomy


@dataclass(frozen=True)
class GenreMap:
    """The genres of another data set in terms of one's own.

    Attributes
    ----------
    names
        From genre of the other to the same, or nearest broader, of one's own.
    own_left, other_left
        Genres without counterpart.
    """

    names: dict[str, str]
    own_left: tuple[str, ...]
    other_left: tuple[str, ...]

    def __str__(self) -> str:
        own = sorted({*self.names.values()})
        pairs = [
            f"{genre} ← {', '.join(sorted(g for g, to in self.names.items() if to == genre))}"
            for genre in own
        ]
        left = ", ".join((*self.own_left, *self.other_left))
        return "; ".join([*pairs, *([f"left out: {left} (no counterpart)"] if left else [])])


def map_genres(own: Sequence[str], other: Sequence[str], taxonomy: Taxonomy) -> GenreMap:
    """Match the genres of two data sets by a taxonomy's aliases and tree.

    Parameters
    ----------
    own
        Of the data set that models are trained on: their outputs.
    other
        Of the data set that they are tested on.
    taxonomy
        Its whitelist is ignored.
    """
    nearest = {genre: taxonomy.nearest(genre, own) for genre in other}
    names = {genre: to for genre, to in nearest.items() if to is not None}
    return GenreMap(
        names,
        tuple(genre for genre in own if genre not in names.values()),
        tuple(genre for genre in other if genre not in names),
    )


def across(own: Dataset, other: Dataset, taxonomy: Taxonomy) -> tuple[Dataset, str]:
    """Combine two data sets: the tracks of the first for training, of the second for testing.

    Returns
    -------
    dataset
        With the tracks of common genres, the second's under the names of the first's; their ids
        begin with ``train/`` and ``test/``. Test tracks by artists of the training tracks are left
        out.
    protocol
        Its only one, named after both.

    Raises
    ------
    GenrescopeError
        If fewer than two genres are common to both.
    """
    found = map_genres(own.genres, other.genres, taxonomy)
    if len({*found.names.values()}) < 2:
        raise GenrescopeError(
            f"{own.name} and {other.name} have fewer than two genres in common ({found}). Give "
            "data sets with more, or rename the genres of one."
        )
    kept = {*found.names.values()}
    train = tuple(
        _renamed("train", track, track.genre) for track in own.tracks if track.genre in kept
    )
    artists = {track.group for track in train} - {None}
    matching = [track for track in other.tracks if track.genre in found.names]
    test = tuple(
        _renamed("test", track, found.names[track.genre])
        for track in matching
        if track.group not in artists
    )
    protocol = across_name(own.name, other.name)
    note = f"Genres of {own.name} ← {other.name}: {found}."
    if (left := len(matching) - len(test)) > 0:
        note += f" Left out: {left:,} tracks of {other.name} by artists of {own.name}."
    lists = SplitLists(tuple(t.id for t in train), (), tuple(t.id for t in test))
    return (
        Dataset(
            name=f"{own.name}-to-{other.name}",
            tracks=(*test, *train),
            lists={protocol: lists},
            problems=(*own.problems, *other.problems),
            notes=(note, *own.notes, *other.notes),
            findings=(*own.findings, *other.findings),
        ),
        protocol,
    )


def _renamed(side: str, track: Track, genre: str) -> Track:
    return replace(track, id=f"{side}/{track.id}", genre=genre)
