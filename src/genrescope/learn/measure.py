"""How well the genres of held-out tracks are predicted, and which tags look wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrescope.learn.discriminant import Scores
from genrescope.study.statistics import F1, bootstrap_f1
from genrescope.taxonomy import Taxonomy

_CUTS = np.arange(50, 14, -5) / 100  # with more than 0.5, a genre is the first anyway
_MIN_AT_THRESHOLD = 5  # tracks; of fewer, a precision means nothing
_MIXED = 3  # genres that one is confused with


@dataclass(frozen=True)
class GenreResult:
    """The result of a genre on artists that were held out.

    Attributes
    ----------
    tracks, artists
        That have it.
    precision, recall
        Of the predicted genres, see ``Measurement``; None if it is never predicted.
    threshold
        The lowest probability such that those at least as high have the precision that was asked;
        None if there is none.
    threshold_recall
        The share of its tracks that has it.
    mixed_up
        Other genres, to the share of its tracks whose first genre they are wrongly.
    """

    tracks: int
    artists: int
    precision: float | None
    recall: float
    threshold: float | None
    threshold_recall: float
    mixed_up: dict[str, float]


@dataclass(frozen=True)
class Measurement:
    """The results on artists that were held out.

    Attributes
    ----------
    genres
        By name.
    cut
        A track's predicted genres are the most probable one, and others of at least this
        probability: the one with the best micro F1.
    accuracy
        Share of tracks whose most probable genre is among their tags.
    micro, macro
        F1 over all tags, and averaged over genres.
    """

    genres: dict[str, GenreResult]
    cut: float
    accuracy: float
    micro: F1
    macro: F1


@dataclass(frozen=True, slots=True)
class TagDoubt:
    """A track whose tags the model contradicts.

    Attributes
    ----------
    path
        Of its file.
    tags
        Its genres.
    answer, probability
        The most probable genre.
    tags_probability
        Of the genres in its tags together.
    """

    path: str
    tags: tuple[str, ...]
    answer: str
    probability: float
    tags_probability: float


def measure(
    probabilities: Scores,
    member: NDArray[np.bool_],
    artists: NDArray[np.intp],
    genres: Sequence[str],
    precision: float,
) -> Measurement:
    """Compare the probabilities of held-out tracks with their tags.

    Parameters
    ----------
    probabilities, member
        float32 and bool (tracks, genres).
    artists
        (tracks,): numbers from 0, equal for tracks of one artist: the units of the intervals.
    genres
        Their names.
    precision
        That the thresholds must reach.
    """
    first = probabilities.argmax(axis=1)
    rows = np.arange(len(first))
    right = member[rows, first]
    cut = max(_CUTS, key=lambda cut: _micro(_predicted(probabilities, first, cut), member))
    predicted = _predicted(probabilities, first, cut)
    counts = np.zeros((int(artists.max()) + 1, len(genres), 3))
    for column, values in enumerate((predicted & member, member, predicted)):
        np.add.at(counts[..., column], artists, values)
    hits, tagged, made = counts.sum(axis=0).T
    results = {}
    for k, genre in enumerate(genres):
        own = member[:, k]
        threshold, reach = _threshold(probabilities[:, k], own, precision)
        wrong = np.bincount(first[own & ~right], minlength=len(genres)) / max(tagged[k], 1)
        results[genre] = GenreResult(
            int(tagged[k]),
            len(np.unique(artists[own])),
            float(hits[k] / made[k]) if made[k] else None,
            float(hits[k] / tagged[k]),
            threshold,
            reach,
            {
                genres[j]: float(wrong[j])
                for j in np.argsort(-wrong, kind="stable")[:_MIXED]
                if wrong[j]
            },
        )
    return Measurement(results, float(cut), float(right.mean()), *bootstrap_f1(counts))


def _predicted(probabilities: Scores, first: NDArray[np.intp], cut: float) -> NDArray[np.bool_]:
    predicted = probabilities >= cut
    predicted[np.arange(len(first)), first] = True
    return np.asarray(predicted)


def _micro(predicted: NDArray[np.bool_], member: NDArray[np.bool_]) -> float:
    return float(2 * (predicted & member).sum() / (predicted.sum() + member.sum()))


def _threshold(
    probability: Scores, own: NDArray[np.bool_], precision: float
) -> tuple[float | None, float]:
    order = np.argsort(-probability, kind="stable")
    right = own[order].cumsum()
    ends = np.append(np.diff(probability[order]) != 0, True)  # equal ones stand and fall together
    enough = ends & (right >= precision * np.arange(1, len(order) + 1))
    enough[: _MIN_AT_THRESHOLD - 1] = False
    at = np.flatnonzero(enough)
    if not len(at):
        return None, 0.0
    return float(probability[order[at[-1]]]), float(right[at[-1]] / own.sum())


def doubts(
    probabilities: Scores,
    member: NDArray[np.bool_],
    genres: Sequence[str],
    taxonomy: Taxonomy,
    paths: Sequence[str],
    tags: Sequence[tuple[str, ...]],
) -> list[TagDoubt]:
    """List the tracks whose tags are less probable than another genre, the least probable first.

    A genre above or below one of the tags does not contradict it.

    Parameters
    ----------
    probabilities, member
        As of ``measure``.
    genres
        Their names.
    taxonomy
        Their tree.
    paths, tags
        Of the tracks.
    """
    related = np.array(
        [[taxonomy.is_within(a, b) or taxonomy.is_within(b, a) for b in genres] for a in genres]
    )
    allowed = member @ related
    own = np.where(allowed, probabilities, 0).sum(axis=1)
    first = probabilities.argmax(axis=1)
    best = probabilities[np.arange(len(first)), first]
    found = np.flatnonzero(best > own)
    order = found[np.lexsort((-best[found], own[found]))]
    return [
        TagDoubt(paths[i], tags[i], genres[first[i]], float(best[i]), float(own[i])) for i in order
    ]
