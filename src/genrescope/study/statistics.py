"""What figures from few tracks are worth: intervals, paired tests and calibration.

Evidence is counted in tracks, never in seeds: a track that five seeds tested is one track heard
five times. So whatever is resampled here is tracks, each with all its outcomes. The functions are
pure, and draw by lot from a fixed seed: the same outcomes give the same figures.
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

_Z = 1.959963984540054  # what 95 % of a normal distribution lie within, in standard deviations
_SUPPOSED = 10  # predictions
_KEPT = 5000  # tracks; above, the draws take more memory than keeping them is worth


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies, a − b, with its 95 % interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Predictions of like confidence.

    Attributes
    ----------
    count
        Of predictions, at least 1.
    confidence
        Their mean probability of what was predicted.
    accuracy
        The share of them that are right.
    """

    count: int
    confidence: float
    accuracy: float


def wilson(right: float, n: int) -> tuple[float, float]:
    """95 % interval of a share.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal
    of the American Statistical Association 22, 1927.

    Parameters
    ----------
    right
        How many of ``n``; the mean over seeds need not be whole.
    n
        Tracks, each tested once (by every seed).

    Returns
    -------
    low, high
        Within [0, 1]; the share itself lies between.

    Raises
    ------
    ValueError
        If there are no tracks, or ``right`` is not within [0, n].
    """
    if n < 1:
        raise ValueError("an interval needs at least one track")
    if not 0 <= right <= n:
        raise ValueError(f"{right} right of {n} cannot be")
    share, spread = right / n, _Z**2 / n
    centre = share + spread / 2
    reach = np.sqrt(spread * (share * (1 - share) + spread / 4))
    # Rounding must not push an end past the share, nor out of [0, 1].
    low = max(0.0, min(share, (centre - reach) / (1 + spread)))
    high = min(1.0, max(share, (centre + reach) / (1 + spread)))
    return float(low), float(high)


def bootstrap(right: ArrayLike, count: ArrayLike) -> tuple[float, float]:
    """95 % interval of an accuracy by bootstrap over tracks (percentile method; B. Efron, 1979).

    Parameters
    ----------
    right
        int (tracks,): how many outcomes of each track are right.
    count
        int (tracks,): of how many, at least 1.

    Returns
    -------
    low, high
        Within [0, 1].

    Raises
    ------
    ValueError
        If there are no tracks, the lengths differ, or no outcomes are of a track.
    """
    hits, counts = np.asarray(right, dtype=np.int64), np.asarray(count, dtype=np.int64)
    if not len(hits) or hits.shape != counts.shape:
        raise ValueError(f"{len(hits)} and {len(counts)} tracks: give as many of each, and some")
    if counts.min() < 1 or hits.min() < 0 or (hits > counts).any():
        raise ValueError("each track needs at least one outcome, and no more right than it has")
    sums = _resampled(np.stack([hits, counts], axis=1))
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap(a: Sequence[Sequence[bool]], b: Sequence[Sequence[bool]]) -> Difference:
    """Difference of the accuracies of two recipes on the same tracks, by bootstrap over tracks.

    A track is drawn with all its outcomes of both recipes: what makes it hard for both falls out
    of the difference, which is why the interval is narrower than the two recipes' own (percentile
    method; B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993).

    Parameters
    ----------
    a, b
        Per track, whether each outcome (one a seed) is right; the same tracks in the same order,
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
        raise ValueError(f"{len(a)} and {len(b)} tracks: give the same ones, and some")
    if any(not len(one) or len(one) != len(other) for one, other in zip(a, b, strict=True)):
        raise ValueError("each track needs as many outcomes of one recipe as of the other")
    ahead = [sum(one) - sum(other) for one, other in zip(a, b, strict=True)]
    count = [len(one) for one in a]
    sums = _resampled(np.stack([ahead, count], axis=1))
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Difference(sum(ahead) / sum(count), float(low), float(high))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact McNemar test: how likely two equally good recipes differ as much on the same tracks.

    Only tracks that one got right and the other wrong count; under the hypothesis each falls to
    either by the toss of a coin. Q. McNemar, "Note on the sampling error of the difference between
    correlated proportions or percentages", Psychometrika 12, 1947; the exact, two-sided form.

    Parameters
    ----------
    a, b
        Whether each recipe's outcome is right; the same tracks in the same order.

    Returns
    -------
    p
        Within (0, 1]; 1 where the recipes are right on the same tracks.

    Raises
    ------
    ValueError
        If there are no tracks, or the lengths differ.
    """
    if not len(a) or len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} tracks: give the same ones, and some")
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
        float (predictions,), in [0, 1]: the probability of what was predicted.
    right
        bool (predictions,).
    bins
        How many.

    Returns
    -------
    bins
        Those that hold predictions, by confidence.

    Raises
    ------
    ValueError
        If there are no predictions, the lengths differ, or a confidence is not in [0, 1].
    """
    sure, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    if not len(sure) or sure.shape != hits.shape:
        raise ValueError(f"{len(sure)} confidences of {len(hits)} predictions: give as many")
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
    """How confident a prediction must be not to be called unsure, and what that is worth.

    Attributes
    ----------
    below
        Predictions of less confidence are unsure.
    count
        Held-out predictions that it was found by.
    unsure
        How many of them are unsure.
    right_unsure, right_sure
        Which share of the unsure, and of the others, are right; None if there are none.
    """

    below: float
    count: int
    unsure: int
    right_unsure: float | None
    right_sure: float | None


def doubt(confidence: ArrayLike, right: ArrayLike, genres: int) -> Doubt:
    """Find the confidence under which fewer than half of the predictions are right.

    Of two genres, of which guessing finds the right one half of the time, it is three quarters. How
    often predictions of a confidence are right is found by isotonic regression; ten predictions
    more, spread over all confidences, are taken to be right as often as they say, so that a few
    tracks do not decide alone.

    Parameters
    ----------
    confidence
        Of predictions for tracks that the model was not fitted on, in [0, 1].
    right
        Whether each is the label.
    genres
        How many there are; no confidence is below one over it.
    """
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415  slow to import

    sure, outcome = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    least = 1 / genres
    supposed = least + (1 - least) * (np.arange(_SUPPOSED) + 0.5) / _SUPPOSED
    seen = np.concatenate([sure, supposed])
    often = IsotonicRegression().fit_transform(seen, np.concatenate([outcome, supposed]))
    enough = often >= (0.5 if genres > 2 else 0.75)
    # Halfway between the two that it lies between; the surest of those supposed is right enough.
    last = seen[~enough].max(initial=0.0)
    below = round(float(last + seen[enough].min()) / 2, 3) if last else 0.0
    unsure = sure < below
    shares = [float(outcome[part].mean()) if part.any() else None for part in (unsure, ~unsure)]
    return Doubt(below, len(sure), int(unsure.sum()), *shares)


def _resampled(values: NDArray[np.int64]) -> NDArray[np.float64]:
    # (tracks, columns) -> (resamples, columns): sums over tracks drawn with replacement.
    n = len(values)
    if n <= _KEPT:  # whole numbers this small add up without error in float32
        return (_draws(n) @ values.astype(np.float32)).astype(np.float64)
    return np.array([draw @ values for draw in _each_draw(n)], dtype=np.float64)


@lru_cache(maxsize=4)
def _draws(n: int) -> NDArray[np.float32]:
    # Kept, for a study compares hundreds of pairs on equally many tracks.
    return np.stack([draw.astype(np.float32) for draw in _each_draw(n)])


def _each_draw(n: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield np.bincount(rng.integers(n, size=n), minlength=n)
