"""Linear discriminants of tracks with several genres, cross-validated in one pass over the rows.

A track of m genres counts 1/m as one of each (the weighted copies of G. Tsoumakas and I. Katakis,
"Multi-Label Classification: An Overview", IJDWM 2007), so the softmax of the logits is the share
that each genre has in a track's tags: two genres that fit equally well have 0.5 each. With one
genre a track this is the discriminant of ``genrescope.models.classical.lda``.

A discriminant needs only sums over tracks. They are kept by fold, and those of a fold's training
tracks are the total less its own. So rows are read in blocks, and the memory does not grow with
their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096  # rows
_MIN_SPREAD = 1e-6

Rows = NDArray[np.float16] | NDArray[np.float32]
Floats = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Discriminant:
    """Linear logits of rows.

    Attributes
    ----------
    weight
        float64 (genres, columns).
    bias
        float64 (genres,).
    """

    weight: Floats
    bias: Floats


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums over the tracks of each fold, of rows that are standardised.

    Attributes
    ----------
    mean, spread
        float64 (columns,): of all rows, by which they are standardised.
    weights
        float64 (folds, genres): of the tracks of each genre; over all folds 1 / genres.
    sums
        float64 (folds, genres, columns).
    products
        float64 (folds, columns, columns).
    """

    mean: Floats
    spread: Floats
    weights: Floats
    sums: Floats
    products: Floats

    def fit(self, shrinkage: float, without: int | None = None) -> Discriminant:
        """Fit on every fold, or every fold but one.

        Parameters
        ----------
        shrinkage
            In (0, 1]: of the covariance towards a multiple of the identity.
        without
            The fold left out.

        Returns
        -------
        discriminant
            Of rows that are not standardised.
        """
        from scipy.linalg import solve  # noqa: PLC0415  an extra

        weights, sums, products = (
            part.sum(axis=0) - (0 if without is None else part[without])
            for part in (self.weights, self.sums, self.products)
        )
        # A genre whose tracks are all left out is taken for the mean of all music.
        means = sums / np.maximum(weights, _MIN_SPREAD / len(weights))[:, None]
        within = (products - means.T @ (weights[:, None] * means)) / weights.sum()
        ridge = shrinkage * np.trace(within) / len(within)
        matrix = (1 - shrinkage) * within + max(ridge, _MIN_SPREAD) * np.eye(len(within))
        weight = solve(matrix, means.T, assume_a="pos").T
        bias = -0.5 * (weight * means).sum(axis=1)
        weight = weight / self.spread
        return Discriminant(weight, bias - weight @ self.mean)


def measure_moments(
    rows: Rows, shares: Scores, weights: Floats, folds: NDArray[np.intp]
) -> Moments:
    """Sum up rows by fold.

    Parameters
    ----------
    rows
        float16 or float32 (tracks, columns).
    shares
        float32 (tracks, genres), as of ``track_shares``.
    weights
        float64 (tracks,): what a track counts among those of its genre. All genres count the same,
        whatever their numbers of tracks.
    folds
        (tracks,): 0, 1, … .
    """
    count, columns, total = int(folds.max()) + 1, rows.shape[1], np.zeros(2 * rows.shape[1])
    for _, block in _blocks(rows):
        total += np.concatenate([block.sum(axis=0), (block**2).sum(axis=0)])
    mean, square = np.split(total / len(rows), 2)
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    spread[spread <= _MIN_SPREAD * np.maximum(np.abs(mean), _MIN_SPREAD)] = 1
    by_genre = np.zeros(shares.shape[1])
    for part in _slices(len(rows)):
        by_genre += weights[part] @ shares[part]
    sums = np.zeros((count, shares.shape[1], columns))
    products, sizes = np.zeros((count, columns, columns)), np.zeros(sums.shape[:2])
    for part, block in _blocks(rows):
        scaled = ((block - mean) / spread).astype(np.float32)
        counted = shares[part] * weights[part, None] / by_genre / len(by_genre)
        for fold in range(count):
            own = folds[part] == fold
            some, shared = scaled[own], counted[own]
            weighted = some * np.sqrt(shared.sum(axis=1, keepdims=True)).astype(np.float32)
            products[fold] += weighted.T @ weighted
            sums[fold] += shared.T @ some
            sizes[fold] += shared.sum(axis=0)
    return Moments(mean, spread, sizes, sums, products)


def held_out_scores(
    rows: Rows, moments: Moments, folds: NDArray[np.intp], shrinkage: float
) -> Scores:
    """Logits of every track by the discriminant of the other folds; float32 (tracks, genres)."""
    fitted = [moments.fit(shrinkage, fold) for fold in range(len(moments.weights))]
    weight = np.stack([one.weight for one in fitted]).astype(np.float32)
    bias = np.stack([one.bias for one in fitted]).astype(np.float32)
    scores = np.empty((len(rows), bias.shape[1]), dtype=np.float32)
    for part, block in _blocks(rows):
        own = folds[part]
        for fold in np.unique(own):
            at = own == fold
            scores[part.start + np.flatnonzero(at)] = block[at] @ weight[fold].T + bias[fold]
    return scores


def track_shares(member: NDArray[np.bool_]) -> Scores:
    """Divide each track among its genres; float32 (tracks, genres), 0 for a track without one."""
    counts = np.maximum(member.sum(axis=1, keepdims=True), 1)
    return np.asarray(member / counts, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class ShareCalibration:
    """A factor and a shift (genres,) of logits, and the cross-entropy with them, in nats."""

    factor: float
    shift: Floats
    loss: float

    def probabilities(self, scores: Scores) -> Scores:
        """Logits (tracks, genres) to shares of each track, float32, the rows' sums 1."""
        found = np.empty_like(scores)
        for part in _slices(len(scores)):
            found[part] = np.exp(_log_softmax(scores[part] * self.factor + self.shift))
        return found

    def apply(self, discriminant: Discriminant) -> Discriminant:
        """Give the discriminant of the calibrated logits."""
        return Discriminant(
            discriminant.weight * self.factor, discriminant.bias * self.factor + self.shift
        )


def calibrate(scores: Scores, member: NDArray[np.bool_]) -> ShareCalibration:
    """Find the factor and shift of logits whose softmax best predicts the shares of held-out tags.

    The shift is a multiple, in [0, 1], of the logarithm of each genre's share of the tags: a
    discriminant takes all genres for equally frequent. The equal shares of one more track are
    spread over all of them, as a model without errors would otherwise be certain.

    Parameters
    ----------
    scores
        float32 (tracks, genres), of discriminants that were not fitted on the tracks.
    member
        bool (tracks, genres); tracks without a genre are ignored.
    """
    from scipy.optimize import minimize  # noqa: PLC0415  an extra

    genres, tagged = member.shape[1], member.any(axis=1)
    scores, member = scores[tagged], member[tagged]
    tracks = len(member)
    totals = np.zeros(genres)
    for part in _slices(tracks):
        totals += track_shares(member[part]).sum(axis=0)
    frequency = np.log((totals + 1 / genres) / (tracks + 1))

    def loss(found: Floats) -> float:
        total = 0.0
        for part in _slices(tracks):
            logits = scores[part] * np.exp(found[0]) + found[1] * frequency
            shares = track_shares(member[part]) + 1 / (tracks * genres)
            total -= float((shares * _log_softmax(logits)).sum())
        return total / max(tracks, 1)

    limits = [(np.log(1e-3), np.log(1e2)), (0.0, 1.0)]
    found = minimize(loss, np.array([0.0, 0.5]), bounds=limits, method="L-BFGS-B")
    return ShareCalibration(float(np.exp(found.x[0])), found.x[1] * frequency, float(found.fun))


def _log_softmax(logits: Floats) -> Floats:
    """Logarithms of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def signed_log(rows: Rows) -> Scores:
    """Apply the default recipe's normaliser, ``genrescope.models.normalise.SignedLog``."""
    exact = rows.astype(np.float32)
    return np.copysign(np.log1p(np.abs(exact)), exact)


def _slices(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, min(start + _BLOCK, count))


def _blocks(rows: Rows) -> Iterator[tuple[slice, Scores]]:
    for part in _slices(len(rows)):
        yield part, signed_log(rows[part])
