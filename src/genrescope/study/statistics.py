"""Intervals, paired tests and calibration for results from few tracks.

The independent units are tracks, not seeds. So tracks are resampled, each with the outcomes of all
seeds. The functions are pure, with a fixed random seed: the same outcomes give the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

RESAMPLES = 2000
"""Of every bootstrap."""

_Z = 1.959963984540054  # 95 % of a normal distribution, in standard deviations
_PRIOR = 10  # predictions
_SURE = (0.9, 0.8, 0.7)  # accuracy of the predictions that are not called unsure
_LEAST = 0.1  # share of these, for an aim to be of use
_MAX_CACHED = 5000  # tracks; draws of more would take too much memory


MAX_REJECTED = 0.05
"""Share of the tracks of a model's own genres that may be taken for none of them."""


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies, a − b, with its 95 % interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class F1:
    """An F1 with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Predictions of similar confidence.

    Attributes
    ----------
    count
        Of predictions, at least 1.
    confidence
        Mean probability of the predicted genres.
    accuracy
        Fraction that are right.
    """

    count: int
    confidence: float
    accuracy: float


def wilson(right: float, n: int) -> tuple[float, float]:
    """95 % interval of a proportion.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal
    of the American Statistical Association 22, 1927.

    Parameters
    ----------
    right
        Number of ``n``; the mean over seeds need not be an integer.
    n
        Tracks, each tested once (by every seed).

    Returns
    -------
    low, high
        In [0, 1]; the proportion lies between.

    Raises
    ------
    ValueError
        If there are no tracks, or ``right`` is not within [0, n].
    """
    if n < 1:
        raise ValueError("an interval needs at least one track")
    if not 0 <= right <= n:
        raise ValueError(f"{right} right of {n} is impossible")
    share, spread = right / n, _Z**2 / n
    centre = share + spread / 2
    reach = np.sqrt(spread * (share * (1 - share) + spread / 4))
    # Rounding must not move an end past the proportion, nor out of [0, 1].
    low = max(0.0, min(share, (centre - reach) / (1 + spread)))
    high = min(1.0, max(share, (centre + reach) / (1 + spread)))
    return float(low), float(high)


def bootstrap(right: ArrayLike, count: ArrayLike) -> tuple[float, float]:
    """95 % interval of an accuracy by bootstrap over tracks (percentile method; B. Efron, 1979).

    Parameters
    ----------
    right
        int (tracks,): right outcomes of each track.
    count
        int (tracks,): all outcomes of each track, at least 1.

    Returns
    -------
    low, high
        Within [0, 1].

    Raises
    ------
    ValueError
        If there are no tracks, the lengths differ, or a track has no outcomes.
    """
    hits, counts = np.asarray(right, dtype=np.int64), np.asarray(count, dtype=np.int64)
    if not len(hits) or hits.shape != counts.shape:
        raise ValueError(
            f"{len(hits)} and {len(counts)} tracks: both must be the same number, at least 1"
        )
    if counts.min() < 1 or hits.min() < 0 or (hits > counts).any():
        raise ValueError("each track needs at least one outcome, and at most as many right ones")
    sums = _resampled(np.stack([hits, counts], axis=1))
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def bootstrap_f1(counts: ArrayLike) -> tuple[F1, F1]:
    """Micro and macro F1 of tracks with several genres, with intervals by bootstrap over artists.

    Parameters
    ----------
    counts
        (artists, genres, 3): of each artist's tracks, how often a genre is rightly predicted, how
        often it is in the tags, and how often it is predicted.

    Returns
    -------
    micro, macro
        Over all tags, and averaged over the genres that are in the tags.
    """
    values = np.asarray(counts, dtype=np.int64)
    genres = values.shape[1]
    drawn = _resampled(values.reshape(len(values), -1)).reshape(-1, genres, 3)

    def f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:  # (…, 3) -> (…)
        return np.asarray(2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1))

    def macro(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        tagged = sums[..., 1] > 0
        return np.asarray((f1(sums) * tagged).sum(axis=-1) / np.maximum(tagged.sum(axis=-1), 1))

    whole = values.sum(axis=0).astype(np.float64)
    both = (
        (float(f1(whole.sum(axis=0))), f1(drawn.sum(axis=1))),
        (float(macro(whole)), macro(drawn)),
    )
    micro_f1, macro_f1 = (
        F1(value, *map(float, np.quantile(some, [0.025, 0.975]))) for value, some in both
    )
    return micro_f1, macro_f1


def paired_bootstrap(a: Sequence[Sequence[bool]], b: Sequence[Sequence[bool]]) -> Difference:
    """Difference of the accuracies of two recipes on the same tracks, by bootstrap over tracks.

    A track is drawn with its outcomes of both recipes. A track's common difficulty cancels out, so
    the interval is narrower than the recipes' own (percentile method; B. Efron and R. Tibshirani,
    "An Introduction to the Bootstrap", 1993).

    Parameters
    ----------
    a, b
        Per track, whether each outcome (one per seed) is right; the same tracks in the same order,
        each with as many outcomes in ``b`` as in ``a``, at least one.

    Returns
    -------
    difference
        Accuracy of ``a`` minus that of ``b``, over all outcomes.

    Raises
    ------
    ValueError
        If there are no tracks, or the outcomes do not pair up.
    """
    if not len(a) or len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} tracks: give the same ones, at least 1")
    if any(not len(one) or len(one) != len(other) for one, other in zip(a, b, strict=True)):
        raise ValueError("each track needs as many outcomes of one recipe as of the other")
    ahead = [sum(one) - sum(other) for one, other in zip(a, b, strict=True)]
    count = [len(one) for one in a]
    sums = _resampled(np.stack([ahead, count], axis=1))
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Difference(sum(ahead) / sum(count), float(low), float(high))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact McNemar test of the hypothesis that two recipes are equally good.

    Only tracks that exactly one recipe got right count; under the hypothesis, that is either with
    probability 1/2. Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12, 1947; the exact, two-sided form.

    Parameters
    ----------
    a, b
        Whether each recipe's outcome is right; the same tracks in the same order.

    Returns
    -------
    p
        In (0, 1]; 1 if the recipes are right on the same tracks.

    Raises
    ------
    ValueError
        If there are no tracks, or the lengths differ.
    """
    if not len(a) or len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} tracks: give the same ones, at least 1")
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> list[Bin]:
    """Accuracy against confidence, in bins of equal width over [0, 1].

    Parameters
    ----------
    confidence
        float (predictions,), in [0, 1]: probabilities of the predicted genres.
    right
        bool (predictions,).
    bins
        Number of bins.

    Returns
    -------
    bins
        Non-empty ones, by confidence.

    Raises
    ------
    ValueError
        If there are no predictions, the lengths differ, or a confidence is not in [0, 1].
    """
    sure, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    if not len(sure) or sure.shape != hits.shape:
        raise ValueError(
            f"{len(sure)} confidences of {len(hits)} predictions: their numbers differ"
        )
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("a confidence is a probability, in [0, 1]")
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return [
        Bin(int(own.sum()), float(sure[own].mean()), float(hits[own].mean()))
        for own in (place == b for b in np.unique(place))
    ]


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighted by their size.

    M. Naeini, G. Cooper and M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning", AAAI 2015. Parameters and errors are those of ``reliability``.
    """
    found = reliability(confidence, right, bins)
    gaps = sum(one.count * abs(one.accuracy - one.confidence) for one in found)
    return gaps / sum(one.count for one in found)


@dataclass(frozen=True)
class Doubt:
    """The confidence threshold of unsure predictions, and the accuracies on both sides of it.

    Attributes
    ----------
    below
        Predictions with less confidence are unsure.
    count
        Held-out predictions that it was determined from.
    unsure
        Number of unsure ones among them.
    right_unsure, right_sure
        Accuracy of the unsure ones and of the others; None if there are none.
    """

    below: float
    count: int
    unsure: int
    right_unsure: float | None
    right_sure: float | None


def doubt(confidence: ArrayLike, right: ArrayLike, genres: int) -> Doubt:
    """Find the lowest confidence from which on at least nine in ten predictions are right.

    Where that holds for less than a tenth of them, as with labels of which many are wrong, it is
    eight, or else seven in ten. Ten calibrated predictions, spread over all confidences, are added
    as a prior for few tracks.

    Parameters
    ----------
    confidence
        Of predictions for tracks that the model was not fitted on, in [0, 1].
    right
        Whether each is the label.
    genres
        Their number; no confidence is below 1 / genres.
    """
    sure, outcome = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    chance = 1 / genres
    prior = chance + (1 - chance) * (np.arange(_PRIOR) + 0.5) / _PRIOR
    seen, results = np.concatenate([sure, prior]), np.concatenate([outcome, prior])
    order = np.argsort(-seen, kind="stable")
    ranked, counts = seen[order], np.arange(1, len(seen) + 1)
    often = np.cumsum(results[order]) / counts
    # Equal confidences are on one side.
    ends = np.append(ranked[1:] < ranked[:-1], True)

    def lowest(aim: float) -> float:
        enough = np.flatnonzero((often >= aim) & ends)
        if not len(enough):
            return 1.0
        last = enough[-1]
        lower = ranked[last + 1] if last + 1 < len(ranked) else 0.0
        return round(float(ranked[last] + lower) / 2, 3)

    found = [lowest(aim) for aim in _SURE]
    useful = (one for one in found if len(sure) and np.mean(sure >= one) >= _LEAST)
    below = next(useful, found[0])
    unsure = sure < below
    shares = [float(outcome[part].mean()) if part.any() else None for part in (unsure, ~unsure)]
    return Doubt(below, len(sure), int(unsure.sum()), *shares)


def other_threshold(scores: NDArray[np.float32]) -> float:
    """Find the score above which a track is of none of the genres.

    Parameters
    ----------
    scores
        float32 (tracks,), at least one, of tracks of the genres that no model was fitted on.

    Returns
    -------
    above
        The smallest of the scores with at most ``MAX_REJECTED`` of them above it.
    """
    return float(np.quantile(scores, 1 - MAX_REJECTED, method="inverted_cdf"))


def _resampled(values: NDArray[np.int64]) -> NDArray[np.float64]:
    # (tracks, columns) -> (resamples, columns): sums over tracks drawn with replacement.
    n = len(values)
    if n <= _MAX_CACHED:  # exact in float32 for such small integers
        return (_draws(n) @ values.astype(np.float32)).astype(np.float64)
    exact = values.astype(np.float64)  # the product of integers is slow
    return np.array([draw.astype(np.float64) @ exact for draw in _each_draw(n)])


@lru_cache(maxsize=4)
def _draws(n: int) -> NDArray[np.float32]:
    # Cached: a study compares hundreds of pairs on the same number of tracks.
    return np.stack([draw.astype(np.float32) for draw in _each_draw(n)])


def _each_draw(n: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield np.bincount(rng.integers(n, size=n), minlength=n)
