"""The picture of a clip, and what is made from it, as ONNX operators.

The grids of all stretches of a clip are computed at once: float32 (stretches, 128, 336), colour
indices.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from genrescope.backbones import log_mel
from genrescope.onnx_export import block_level, second_order
from genrescope.onnx_export.columns import Columns, add_columns, no_operators
from genrescope.onnx_export.embedding import NOTICE, add_network, networks
from genrescope.onnx_export.spectral import levelled, mel_spectrogram
from genrescope.onnx_graph import DOUBLE, FLOAT, INT64, OnnxGraph
from genrescope.representations import picture
from genrescope.representations.block_level import BlockLevel
from genrescope.representations.picture_concat import PictureConcat
from genrescope.representations.picture_embedding import (
    PictureEmbedding,
    Places,
    band_places,
    column_places,
)
from genrescope.representations.second_order import PictureSecondOrder

_SMALLEST = np.float32(1e-5)  # as of ``audio.spectral.to_db``


@add_columns.register
def _(representation: picture.GridColumns, graph: OnnxGraph) -> Columns:
    waveform = levelled(graph, graph.waveform(picture.SAMPLING_RATE), picture.SAMPLING_RATE)
    clips = stretches(graph, waveform)
    values = add_grid_columns(representation, graph, grids(graph, clips))
    return Columns(graph.ReduceMean(values, axes=[0]), notices=(NOTICE,))


@singledispatch
def add_grid_columns(representation: picture.GridColumns, graph: OnnxGraph, grid: str) -> str:
    """Add the operators that make a representation's columns from grids.

    Parameters
    ----------
    representation
        One of the package's.
    graph
        Is added to.
    grid
        float32 (stretches, 128, 336).

    Returns
    -------
    columns
        float32 (stretches, columns).

    Raises
    ------
    GenrescopeError
        If there are none for it.
    """
    del graph, grid
    raise no_operators(representation)


@add_grid_columns.register
def _(representation: PictureConcat, graph: OnnxGraph, grid: str) -> str:
    parts = [add_grid_columns(part, graph, grid) for part in representation.parts]
    return graph.Concat(*parts, axis=1)


@add_grid_columns.register
def _(representation: PictureEmbedding, graph: OnnxGraph, grid: str) -> str:
    patches = log_mel_patches(graph, grid, representation.loudest)
    found = [add_network(graph, name, patches) for name in networks(representation.backbones)]
    layers = [one[layer] for one in found for layer in representation.layers]
    joined = graph.Concat(*layers, axis=1)
    width = representation.shape[0]
    return graph.ReduceMean(graph.Reshape(joined, [-1, _patches(), width]), axes=[1], keepdims=0)


@add_grid_columns.register
def _(representation: PictureSecondOrder, graph: OnnxGraph, grid: str) -> str:
    patches = log_mel_patches(graph, grid, representation.loudest)
    outputs = add_network(graph, representation.backbone, patches)
    return second_order.pool(graph, outputs, representation.backbone, [-1, _patches()])


@add_grid_columns.register
def _(representation: BlockLevel, graph: OnnxGraph, grid: str) -> str:
    del representation
    return block_level.add_features(graph, grid)


def stretches(graph: OnnxGraph, waveform: str) -> str:
    """Cut a clip into stretches, as of ``picture.stretches``.

    Parameters
    ----------
    graph
        Is added to.
    waveform
        float32 (1, samples) at 22,050 Hz, not empty.

    Returns
    -------
    stretches
        float32 (stretches, samples).
    """
    whole = round(picture.STRETCH_S * picture.SAMPLING_RATE)
    samples = graph.Shape(waveform, start=1)
    ratio = graph.Div(graph.Cast(samples, to=DOUBLE), float(whole))
    is_one = graph.LessOrEqual(graph.Abs(graph.Sub(ratio, 1.0)), picture.TOLERANCE)
    length = graph.Where(is_one, samples, [whole])
    parts = graph.Ceil(graph.Sub(ratio, picture.TOLERANCE))
    count = graph.Where(graph.Or(is_one, graph.Less(ratio, 1.0)), [1.0], parts)
    numbers = graph.Range(0.0, graph.Squeeze(count), 1.0)
    last = graph.Cast(graph.Sub(samples, length), to=DOUBLE)
    step = graph.Div(last, graph.Max(graph.Sub(count, 1.0), 1.0))
    starts = graph.Cast(graph.Round(graph.Mul(numbers, step)), to=INT64)
    # A clip that is shorter is read from its start again.
    places = graph.Add(graph.Unsqueeze(starts, [1]), graph.Range(0, graph.Squeeze(length), 1))
    return graph.Gather(graph.Squeeze(waveform, [0]), graph.Mod(places, samples))


def grids(graph: OnnxGraph, clips: str) -> str:
    """Make the grids of clips, as of ``picture.grid_of_waveform``.

    Parameters
    ----------
    graph
        Is added to.
    clips
        float32 (clips, samples) at 22,050 Hz, at least 1,025 samples.

    Returns
    -------
    grids
        float32 (clips, 128, 336), whole numbers from 0 to 255.
    """
    mel = mel_spectrogram(graph, clips, picture.SAMPLING_RATE, 2048, 512, picture.BINS)
    power = graph.Max(mel, _SMALLEST)
    # Rounded as by ``to_db``, so that few of them fall on the other side of a colour's limit.
    decibels = graph.Cast(graph.Cast(_decibels(graph, power), to=FLOAT), to=DOUBLE)
    loudest = _decibels(graph, graph.ReduceMax(power, axes=[1, 2]))
    level = graph.Max(graph.Cast(graph.Sub(decibels, loudest), to=FLOAT), np.float32(-80))
    low, high = (reduce(level, axes=[1, 2]) for reduce in (graph.ReduceMin, graph.ReduceMax))
    share = graph.Div(graph.Sub(level, low), graph.Sub(high, low))
    shown = graph.Floor(graph.Min(graph.Mul(share, np.float32(256)), np.float32(255)))
    levels = graph.Where(graph.Greater(high, low), shown, np.float32(0))
    frames = graph.Shape(levels, start=1, end=2)
    places = graph.Mul(picture.grid_pixels(), graph.Cast(frames, to=DOUBLE))
    places = graph.Cast(graph.Floor(graph.Div(places, picture.PLOT_PIXELS)), to=INT64)
    columns = graph.Gather(levels, graph.Min(places, graph.Sub(frames, [1])), axis=1)
    return graph.Transpose(columns, perm=[0, 2, 1])


def log_mel_patches(graph: OnnxGraph, grid: str, loudest: float) -> str:
    """Make log-mel patches from grids, as of ``picture_embedding.to_log_mel``.

    Parameters
    ----------
    graph
        Is added to.
    grid
        float32 (stretches, 128, 336).
    loudest
        See ``to_log_mel``.

    Returns
    -------
    patches
        float32 (stretches * 10, 187, 96).
    """
    share = graph.Sub(graph.Div(graph.Cast(grid, to=DOUBLE), 255.0), 1.0)
    shown = graph.Cast(graph.Mul(share, picture.POWER_RANGE_DB), to=FLOAT)
    bands = graph.Transpose(_between(graph, shown, picture.BINS, band_places()), perm=[0, 2, 1])
    decibels = _between(graph, bands, picture.COLUMNS, column_places())
    exponent = graph.Add(graph.Div(decibels, np.float32(10)), np.float32(loudest))
    power = graph.Add(graph.Pow(np.float32(10), exponent), np.float32(1))
    log = graph.Mul(graph.Log(power), np.float32(1 / np.log(10)))
    return graph.Reshape(log, [-1, log_mel.PATCH, log_mel.BANDS])


def _patches() -> int:
    return len(column_places()[0]) // log_mel.PATCH


def _decibels(graph: OnnxGraph, power: str) -> str:
    # Of amplitudes, as the published pictures have it; in double.
    return graph.Mul(graph.Log(graph.Cast(power, to=DOUBLE)), 20 / np.log(10))


def _between(graph: OnnxGraph, rows: str, count: int, places: Places) -> str:
    # Linear interpolation between neighbours of the ``count`` rows of each stretch.
    below, weight = places
    lower = graph.Mul(graph.Gather(rows, below, axis=1), 1 - weight)
    above = graph.Gather(rows, np.minimum(below + 1, count - 1), axis=1)
    return graph.Add(lower, graph.Mul(above, weight))
