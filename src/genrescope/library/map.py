"""A map of a library: tracks that sound alike lie close together in a plane.

It is computed by t-SNE (L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", JMLR
2008) of at most ``LANDMARKS`` tracks, exactly; the others are placed among those they are most
similar to. So the time and memory for a large library grow with its tracks, not their square.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LANDMARKS = 2000
"""Tracks that are placed by t-SNE."""

_PERPLEXITY = 20.0
_STEPS, _EARLY = 400, 100  # of the descent; during the early ones neighbours attract more
_EXAGGERATION = 8.0
_NEAREST = 5  # landmarks that place another track
_BLOCK = 4096  # tracks
_MIN = 1e-12

Vectors = NDArray[np.float16] | NDArray[np.float32]
Plane = NDArray[np.float32]


def place(vectors: Vectors) -> Plane:
    """Place tracks in a plane.

    Parameters
    ----------
    vectors
        float16 or float32 (tracks, width), whose cosines are similarities.

    Returns
    -------
    places
        float32 (tracks, 2), in [0, 1], the same for the same vectors.
    """
    count = len(vectors)
    if count < 3:
        return np.linspace(0.25, 0.75, 2 * count, dtype=np.float32).reshape(count, 2)
    rows = np.sort(np.random.default_rng(0).permutation(count)[:LANDMARKS])
    chosen = vectors[rows].astype(np.float32)
    known = _descend(_affinities(chosen), _principal(chosen))
    places = np.empty((count, 2), dtype=np.float32)
    for first in range(0, count, _BLOCK):
        block = slice(first, first + _BLOCK)
        places[block] = _among(vectors[block].astype(np.float32) @ chosen.T, known)
    places[rows] = known
    low, high = places.min(axis=0), places.max(axis=0)
    centred = (places - (low + high) / 2) / np.maximum((high - low).max(), _MIN)
    return np.asarray(np.clip(centred + 0.5, 0, 1), dtype=np.float32)


def _principal(chosen: NDArray[np.float32]) -> Plane:
    # The first two principal components: t-SNE keeps their large-scale arrangement.
    centred = chosen - chosen.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, np.argsort(-values)[:2]]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1, 1)  # no chance in the sign
    plane = centred @ axes
    return np.asarray(1e-4 * plane / max(float(plane.std()), _MIN), dtype=np.float32)


def _affinities(chosen: NDArray[np.float32]) -> NDArray[np.float32]:
    # Of each pair of tracks; every track has about as many neighbours as the perplexity.
    distances = np.maximum(1 - chosen @ chosen.T, 0)
    np.fill_diagonal(distances, np.inf)
    wanted = np.log(min(_PERPLEXITY, (len(chosen) - 1) / 2))
    low = np.zeros((len(chosen), 1), dtype=np.float32)
    high = np.full_like(low, np.inf)
    narrow = np.full_like(low, 10.0)  # 1 / (2 variance) of each
    for _ in range(40):
        shares = np.exp(-narrow * (distances - distances.min(axis=1, keepdims=True)))
        shares /= shares.sum(axis=1, keepdims=True)
        logs = np.log(np.maximum(shares, _MIN))
        is_wide = -(shares * logs).sum(axis=1, keepdims=True) > wanted
        low, high = np.where(is_wide, narrow, low), np.where(is_wide, high, narrow)
        narrow = np.where(np.isinf(high), 2 * narrow, (low + high) / 2).astype(np.float32)
    both = shares + shares.T
    return np.asarray(both / both.sum(), dtype=np.float32)


def _descend(wanted: NDArray[np.float32], plane: Plane) -> Plane:
    rate = max(len(plane) / _EXAGGERATION / 4, 50.0)
    speed, gain = np.zeros_like(plane), np.ones_like(plane)
    for step in range(_STEPS):
        early = step < _EARLY
        squares = (plane**2).sum(axis=1)
        near = 1 / (1 + np.maximum(squares[:, None] + squares - 2 * plane @ plane.T, 0))
        np.fill_diagonal(near, 0)
        pull = (wanted * (_EXAGGERATION if early else 1) - near / near.sum()) * near
        slope = 4 * (pull.sum(axis=1, keepdims=True) * plane - pull @ plane)
        gain = np.maximum(np.where(slope * speed < 0, gain + 0.2, gain * 0.8), 0.01)
        speed = (0.5 if early else 0.8) * speed - rate * gain * slope
        plane = plane + speed
        plane -= plane.mean(axis=0)
    return plane


def _among(similar: NDArray[np.float32], known: Plane) -> Plane:
    # The mean place of a track's nearest landmarks, weighted by how near each is.
    nearest = min(_NEAREST, similar.shape[1])
    rows = np.argpartition(-similar, nearest - 1, axis=1)[:, :nearest]
    cosines = np.take_along_axis(similar, rows, axis=1)
    weight = np.exp(20 * (cosines - cosines.max(axis=1, keepdims=True)))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray((weight[:, :, None] * known[rows]).sum(axis=1), dtype=np.float32)
