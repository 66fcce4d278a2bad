"""What the audio of a track, the rest of its album and its artist's other tracks say together.

Each track is a voice: the probabilities that the model gives it. The voices of an album are pooled
by the mean of their logarithms, and so are those of an artist. Tracks of one album resemble each
other, also in what the model gets wrong, so n of them count as n / (1 + (n - 1) r) independent
ones: r is the correlation of their errors, and 1 / r the most that any number of tracks can count.
All tracks that the artist has elsewhere count as one more track of the album, or a half.

Genres in tags are no evidence about the file that has them, which is compared with them; those of
the rest of the album, or else of the artist, are evidence about a file that has none.

``tools/learn.py --pool`` measures it, and how the weights were chosen is in docs/learn.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrescope.tagging.albums import Groups, Numbers
from genrescope.tagging.policy import AlbumVote

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Weights:
    """What the parts of the evidence count.

    Attributes
    ----------
    correlation
        Of the errors of an album's tracks, in [0, 1].
    agreement
        Tracks of an album agree if each gives its genre this much of what it gives to its own most
        likely one, by the geometric mean.
    artist
        Of all tracks that the artist has elsewhere, in tracks.
    wrong_tags
        Share of the genres in tags that are taken to be wrong.
    floor
        Minimum probability of a genre by one track, which alone does not rule one out.
    """

    correlation: float = 0.25
    agreement: float = 0.3
    artist: float = 0.5
    wrong_tags: float = 0.1
    floor: float = 0.01

    def of_tracks(self, counts: Numbers) -> Floats:
        """Give what the mean over so many tracks counts, in independent ones."""
        return np.asarray(counts / (1 + np.maximum(counts - 1, 0) * self.correlation))


WEIGHTS = Weights()
# What a track that is none of the genres gives to its album's, see `Weights.agreement`.
_BY_OTHER = 0.05


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of tracks; each array has a row for each.

    Attributes
    ----------
    posterior
        float64 (tracks, genres): all of it together; rows sum to 1.
    album, artist
        float64 (tracks, genres): the rest of the album, and what the artist has elsewhere; 0 where
        there is nothing.
    album_tracks, artist_tracks
        int (tracks,): of how many tracks.
    agree
        Whether the tracks of its album agree.
    """

    posterior: Floats
    album: Floats
    artist: Floats
    album_tracks: Numbers
    artist_tracks: Numbers
    agree: Flags


def weigh(
    shares: NDArray[np.floating],
    other: Flags,
    tags: NDArray[np.floating],
    groups: Groups,
    vote: AlbumVote,
    weights: Weights = WEIGHTS,
) -> Evidence:
    """Weigh the evidence about tracks that one model has analysed.

    Parameters
    ----------
    shares
        (tracks, genres): the model's probabilities; rows sum to 1.
    other
        bool (tracks,): none of the model's genres. They have no voice.
    tags
        (tracks, genres): shares of the model's genres in the tags of a file; rows sum to 1, or to 0
        where the tags name none of them.
    groups
        Albums and artists.
    vote
        When an album's tracks get the album's genre. With ``off`` the posterior is that of the
        audio alone.
    weights
        As they were measured.
    """
    audio: Floats = shares.astype(np.float64)
    logs = np.log(np.maximum(audio, weights.floor))
    sums, counts = _sums(logs, ~other, groups.albums)
    own = np.where(other, 0, 1)
    rest, rest_counts = sums - own[:, None] * logs, counts - own
    # All tracks of an album are by one artist here: see ``Groups``.
    elsewhere, elsewhere_counts = _sums(logs, ~other, groups.artists)
    elsewhere, elsewhere_counts = elsewhere - sums, elsewhere_counts - counts
    pooled = weights.of_tracks(counts)[:, None] * _mean(sums, counts)
    agree = _agree(logs, other, groups.albums, pooled, weights.agreement)
    album, artist = (
        np.where(
            number[:, None] > 0,
            _softmax(weights.of_tracks(number)[:, None] * _mean(total, number)),
            0,
        )
        for total, number in ((rest, rest_counts), (elsewhere, elsewhere_counts))
    )

    posterior = audio
    if vote != AlbumVote.OFF:
        is_pooled: Flags = agree | np.full(len(agree), vote == AlbumVote.VOTE)
        scores = np.where(is_pooled[:, None], pooled, logs)
        scores += weights.artist * _mean(elsewhere, elsewhere_counts)
        tagged = _tag_scores(tags, groups, weights.wrong_tags)
        is_tagged = np.asarray(tags.any(axis=1))
        scores += np.where(is_tagged[:, None], 0, tagged)
        lone = (np.where(is_pooled, rest_counts, 0) == 0) & (elsewhere_counts == 0)
        lone &= is_tagged | ~tagged.any(axis=1)
        posterior = np.where((other | lone)[:, None], audio, _softmax(scores))
    return Evidence(posterior, album, artist, rest_counts, elsewhere_counts, agree)


def _sums(rows: Floats, voices: Flags, groups: Numbers) -> tuple[Floats, Numbers]:
    """Give for each row the sum of its group's rows that have a voice, and their number."""
    count = int(groups.max(initial=-1)) + 1
    totals = np.zeros((count, rows.shape[1]))
    np.add.at(totals, groups[voices], rows[voices])
    return totals[groups], np.bincount(groups[voices], minlength=count)[groups]


def _mean(sums: Floats, counts: Numbers) -> Floats:
    return np.asarray(sums / np.maximum(counts, 1)[:, None])


def _agree(logs: Floats, other: Flags, albums: Numbers, pooled: Floats, agreement: float) -> Flags:
    """Whether an album's tracks give enough to its genre; see ``Weights.agreement``."""
    best = pooled.argmax(axis=1)
    ratios = logs[np.arange(len(logs)), best] - logs.max(axis=1)
    given = np.where(other, np.log(_BY_OTHER), ratios)
    sizes = np.maximum(np.bincount(albums), 1)
    mean = np.bincount(albums, weights=given) / sizes
    return np.asarray(mean[albums] >= np.log(agreement))


def _tag_scores(tags: NDArray[np.floating], groups: Groups, wrong: float) -> Floats:
    """Log-probabilities by the tags of the album's tracks, else of the artist's; else 0.

    The tags of an album are mostly one person's one decision, and count as one.
    """
    logs = np.log((1 - wrong) * tags + wrong / tags.shape[1])
    tagged = np.asarray(tags.any(axis=1))
    scores = np.zeros(tags.shape)
    for numbers in (groups.artists, groups.albums):
        sums, counts = _sums(logs, tagged, numbers)
        scores = np.where(counts[:, None] > 0, _mean(sums, counts), scores)
    return scores


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
