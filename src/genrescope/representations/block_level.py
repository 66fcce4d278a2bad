"""Block-level features: statistics of stretches of a mel spectrogram a few seconds long.

After K. Seyerlehner, G. Widmer and T. Pohle, "Fusing Block-Level Features for Music Similarity
Estimation", DAFx 2010, and K. Seyerlehner, M. Schedl, T. Pohle and P. Knees, "Using Block-Level
Features for Genre Classification, Tag Classification and Music Similarity Estimation", MIREX 2010:
each feature is computed for overlapping blocks, and summarised by a percentile over them. Here
with the bands and frames of the published pictures: 128 mel bins every 89 ms over 40 dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.representations import picture
from genrescope.representations.representation import representation

BANDS, COARSE = 40, 24  # bands of mel bins: for spectra; for rhythm and correlations
LONG, LONG_HOP = 80, 20  # columns of a block of 7 s and between two of them
LAG = 3  # columns from which to which a delta is taken
ONSET_BINS = (30, 80)  # limits of the low, middle and high bins
LAGS = 39  # of the autocorrelation, in columns: up to 3.5 s

Array = NDArray[np.floating]


@representation("block-level")
@dataclass(frozen=True)
class BlockLevel(picture.GridColumns):
    """Seyerlehner's block-level features of the mel spectrogram: timbre, change, rhythm."""

    version: ClassVar[int] = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        return (1801,)

    def of_grid(self, grid: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a grid, uint8 (128, 336); float32 (1801,)."""
        decibels = grid * np.float32(picture.POWER_RANGE_DB / 255)
        bands, coarse = _in_bands(decibels, BANDS), _in_bands(decibels, COARSE)
        parts = (
            spectral_pattern(bands),
            delta_pattern(bands),
            variance_delta_pattern(bands),
            fluctuation_pattern(coarse),
            correlation_pattern(coarse),
            band_statistics(bands),
            onset_autocorrelation(decibels),
        )
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def spectral_pattern(bands: Array) -> Array:
    """Levels in each band, sorted within blocks of 10 columns: 90th percentile over blocks.

    Parameters
    ----------
    bands
        float32 (bands, columns), in dB; as of every function here.

    Returns
    -------
    pattern
        float32 (bands, 10).
    """
    return _percentile(np.sort(_blocks(bands, 10, 5), axis=2), 90)


def delta_pattern(bands: Array) -> Array:
    """Rises of level over three columns, sorted within blocks of 25: (bands, 13), every second."""
    rises = np.sort(_blocks(np.maximum(_delta(bands), 0), 25, 5), axis=2)
    return _percentile(rises[:, :, ::2], 90)


def variance_delta_pattern(bands: Array) -> Array:
    """Variance of the changes over three columns in blocks of 25: (bands,), 85th percentile."""
    return _percentile(_blocks(_delta(bands), 25, 5).var(axis=2), 85)


def fluctuation_pattern(bands: Array) -> Array:
    """Strength of the modulation of each band by its rate, logarithmic: (bands, 12).

    Rates are those of rhythm, from one to 40 periods in a block of 7 s, in steps that widen
    geometrically.
    """
    blocks = _blocks(bands, LONG, LONG_HOP)
    blocks = (blocks - blocks.mean(axis=2, keepdims=True)) * np.hanning(LONG)
    modulation = np.abs(np.fft.rfft(blocks, axis=2))[:, :, 1:]
    edges = modulation_edges()
    widths = np.diff(edges)
    sums = np.add.reduceat(modulation[:, :, : edges[-1]], edges[:-1], axis=2)
    return np.log1p(_percentile(sums / widths, 60))


def correlation_pattern(bands: Array) -> Array:
    """Correlation of every two bands in blocks of 7 s: (pairs,), median over blocks."""
    blocks = _blocks(bands, LONG, LONG_HOP)
    centred = blocks - blocks.mean(axis=2, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=2)) + 1e-3  # of a band of one level: no correlation
    unit = centred / norms[:, :, None]
    correlations = unit @ unit.transpose(0, 2, 1)
    first, second = np.triu_indices(len(bands), 1)
    return _percentile(correlations[:, first, second], 50)


def band_statistics(bands: Array) -> Array:
    """Mean, standard deviation, 10th and 90th percentile of each band: (4, bands)."""
    tenth, ninetieth = np.percentile(bands, (10, 90), axis=1)
    return np.stack([bands.mean(axis=1), bands.std(axis=1), tenth, ninetieth])


def onset_autocorrelation(bins: Array) -> Array:
    """Autocorrelation of the rises in low, middle and high bins, lags 1 to 39 columns: (3, 39)."""
    rises = np.maximum(np.diff(bins, axis=1), 0)
    onsets = np.stack([part.mean(axis=0) for part in np.split(rises, ONSET_BINS)])
    onsets = onsets - onsets.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(onsets, 2 * onsets.shape[1])  # zeros keep the ends apart
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, : LAGS + 1]
    return np.asarray(correlation[:, 1:] / (correlation[:, :1] + 1e-6))


def modulation_edges() -> NDArray[np.int_]:
    """Edges of the groups of rates of ``fluctuation_pattern``, the first rate being number 0."""
    return np.asarray(np.unique(np.geomspace(1, LONG // 2, 16).round().astype(int)) - 1)


def _in_bands(bins: Array, count: int) -> Array:
    # Means of neighbouring mel bins, as equal in number as can be.
    edges = np.linspace(0, len(bins), count + 1).astype(int)
    widths = np.diff(edges)[:, None].astype(np.float32)
    return np.asarray(np.add.reduceat(bins, edges[:-1], axis=0) / widths)


def _delta(bands: Array) -> Array:
    return bands[:, LAG:] - bands[:, :-LAG]


def _blocks(bands: Array, length: int, hop: int) -> Array:
    # (blocks, bands, length)
    every = np.lib.stride_tricks.sliding_window_view(bands, length, axis=1)[:, ::hop]
    return every.transpose(1, 0, 2)


def _percentile(blocks: Array, percent: float) -> Array:
    return np.asarray(np.percentile(blocks, percent, axis=0))
