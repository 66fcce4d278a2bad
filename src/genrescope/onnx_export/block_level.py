"""Block-level features as ONNX operators; see ``genrescope.representations.block_level``.

Bands and bins are float32 (grids, bands, columns), in dB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genrescope.onnx_graph import DOUBLE, FLOAT, OnnxGraph
from genrescope.representations import picture
from genrescope.representations.block_level import (
    BANDS,
    COARSE,
    LAG,
    LAGS,
    LONG,
    LONG_HOP,
    ONSET_BINS,
    modulation_edges,
)

_COLUMNS = picture.COLUMNS


def add_features(graph: OnnxGraph, grid: str) -> str:
    """Add the operators of all features.

    Parameters
    ----------
    graph
        Is added to.
    grid
        float32 (grids, 128, 336), colour indices.

    Returns
    -------
    features
        float32 (grids, 1801).
    """
    decibels = graph.Mul(grid, np.float32(picture.POWER_RANGE_DB / 255))
    bands, coarse = (
        graph.MatMul(_means(np.linspace(0, picture.BINS, count + 1).astype(int)), decibels)
        for count in (BANDS, COARSE)
    )
    parts = (
        _spectral_pattern(graph, bands),
        *_delta_patterns(graph, bands),
        _fluctuation_pattern(graph, coarse),
        _correlation_pattern(graph, coarse),
        *_band_statistics(graph, bands),
        _onset_autocorrelation(graph, decibels),
    )
    flat = [graph.Flatten(graph.Cast(part, to=FLOAT)) for part in parts]
    return graph.Concat(*flat, axis=1)


def _spectral_pattern(graph: OnnxGraph, bands: str) -> str:
    blocks = _sorted(graph, _blocks(graph, bands, _COLUMNS, 10, 5), 10)
    return _percentile(graph, blocks, _count(_COLUMNS, 10, 5), 90)


def _delta_patterns(graph: OnnxGraph, bands: str) -> tuple[str, str]:
    columns = _COLUMNS - LAG
    later = graph.Slice(bands, [LAG], [_COLUMNS], [2])
    delta = graph.Sub(later, graph.Slice(bands, [0], [columns], [2]))
    count = _count(columns, 25, 5)
    rises = graph.Relu(_blocks(graph, delta, columns, 25, 5))
    second = graph.Slice(_sorted(graph, rises, 25), [0], [25], [3], [2])
    blocks = _blocks(graph, delta, columns, 25, 5)
    centred = graph.Sub(blocks, graph.ReduceMean(blocks, axes=[3]))
    variance = graph.ReduceMean(graph.Mul(centred, centred), axes=[3], keepdims=0)
    return _percentile(graph, second, count, 90), _percentile(graph, variance, count, 85)


def _fluctuation_pattern(graph: OnnxGraph, bands: str) -> str:
    blocks = _blocks(graph, bands, _COLUMNS, LONG, LONG_HOP)
    centred = graph.Sub(blocks, graph.ReduceMean(blocks, axes=[3]))
    windowed = graph.Mul(graph.Cast(centred, to=DOUBLE), np.hanning(LONG))
    spectrum = np.fft.rfft(np.eye(LONG), axis=1)[:, 1:]
    real, imaginary = (
        graph.MatMul(windowed, np.ascontiguousarray(part))
        for part in (spectrum.real, spectrum.imag)
    )
    modulation = graph.Sqrt(graph.Add(graph.Mul(real, real), graph.Mul(imaginary, imaginary)))
    means = _means(modulation_edges(), LONG // 2).T.astype(np.float64)
    count = _count(_COLUMNS, LONG, LONG_HOP)
    strength = _percentile(graph, graph.MatMul(modulation, means), count, 60)
    return graph.Log(graph.Add(strength, 1.0))


def _correlation_pattern(graph: OnnxGraph, bands: str) -> str:
    blocks = graph.Transpose(_blocks(graph, bands, _COLUMNS, LONG, LONG_HOP), perm=[0, 2, 1, 3])
    centred = graph.Sub(blocks, graph.ReduceMean(blocks, axes=[3]))
    norms = graph.Sqrt(graph.ReduceSum(graph.Mul(centred, centred), [3]))
    unit = graph.Div(centred, graph.Add(norms, np.float32(1e-3)))
    correlations = graph.MatMul(unit, graph.Transpose(unit, perm=[0, 1, 3, 2]))
    first, second = np.triu_indices(COARSE, 1)
    flat = graph.Reshape(correlations, [0, 0, -1])
    pairs = graph.Gather(flat, first * COARSE + second, axis=2)
    count = _count(_COLUMNS, LONG, LONG_HOP)
    return _percentile(graph, graph.Transpose(pairs, perm=[0, 2, 1]), count, 50)


def _band_statistics(graph: OnnxGraph, bands: str) -> tuple[str, str, str, str]:
    mean = graph.ReduceMean(bands, axes=[2])
    centred = graph.Sub(bands, mean)
    deviation = graph.Sqrt(graph.ReduceMean(graph.Mul(centred, centred), axes=[2]))
    tenth, ninetieth = (_percentile(graph, bands, _COLUMNS, percent) for percent in (10, 90))
    return mean, deviation, tenth, ninetieth


def _onset_autocorrelation(graph: OnnxGraph, bins: str) -> str:
    columns = _COLUMNS - 1
    later = graph.Slice(bins, [1], [_COLUMNS], [2])
    rises = graph.Relu(graph.Sub(later, graph.Slice(bins, [0], [columns], [2])))
    onsets = graph.MatMul(_means((0, *ONSET_BINS, picture.BINS)), rises)
    onsets = graph.Sub(onsets, graph.ReduceMean(onsets, axes=[2]))
    padded = graph.Pad(onsets, [0, 0, 0, 0, 0, LAGS])
    lagged = graph.Gather(padded, np.arange(LAGS + 1)[:, None] + np.arange(columns), axis=2)
    products = graph.Mul(lagged, graph.Unsqueeze(onsets, [2]))
    correlation = graph.ReduceSum(products, [3], keepdims=0)
    energy = graph.Slice(correlation, [0], [1], [2])
    others = graph.Slice(correlation, [1], [LAGS + 1], [2])
    return graph.Div(others, graph.Add(energy, np.float32(1e-6)))


def _means(edges: ArrayLike, size: int | None = None) -> NDArray[np.float32]:
    # (groups, size): a product with it gives the means between the edges.
    limits = np.asarray(edges)
    places = np.arange(limits[-1] if size is None else size)
    within = (places >= limits[:-1, None]) & (places < limits[1:, None])
    return (within / np.diff(limits)[:, None]).astype(np.float32)


def _count(columns: int, length: int, hop: int) -> int:
    return (columns - length) // hop + 1


def _blocks(graph: OnnxGraph, bands: str, columns: int, length: int, hop: int) -> str:
    # (grids, bands, blocks, length)
    starts = hop * np.arange(_count(columns, length, hop))
    return graph.Gather(bands, starts[:, None] + np.arange(length), axis=2)


def _sorted(graph: OnnxGraph, values: str, count: int, axis: int = -1) -> str:
    return graph.node("TopK", values, [count], outputs=2, axis=axis, largest=0)[0]


def _percentile(graph: OnnxGraph, blocks: str, count: int, percent: float) -> str:
    # Over axis 2, of a known size, which is left out.
    place = (count - 1) * percent / 100
    below = int(place)
    ranked = _sorted(graph, blocks, count, axis=2)
    lower = graph.Gather(ranked, below, axis=2)
    upper = graph.Gather(ranked, min(below + 1, count - 1), axis=2)
    weight = graph.CastLike(place - below, ranked)
    return graph.Add(lower, graph.Mul(graph.Sub(upper, lower), weight))
