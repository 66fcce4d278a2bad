"""Second-order pooling as ONNX operators, which have no eigenvalues: the logarithm by products.

Three square roots by coupled Newton–Schulz iterations, with the scaling that is best for the limits
of the eigenvalues (J. Chen and E. Chow, "A Stable Scaling of Newton-Schulz for Improving the Sign
Function Computation of a Hermitian Matrix", 2014), bring the eigenvalues near to one, where a
Chebyshev series gives their logarithm. The limits are known, as the covariance has a ridge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
from numpy.polynomial.chebyshev import Chebyshev
from numpy.typing import NDArray

from genrescope.backbones.musicnn import map_scales
from genrescope.onnx_export import spectral
from genrescope.onnx_export.columns import Columns, add_columns
from genrescope.onnx_export.embedding import NOTICE, add_network
from genrescope.onnx_graph import DOUBLE, FLOAT, OnnxGraph
from genrescope.representations.second_order import MIN_EIGENVALUE, RIDGE, SecondOrder

_ROOTS = 3
_DEGREE = 24  # of the series: its error is that of rounding
_CONVERGED = 1e-15

Array = NDArray[np.float64]


@add_columns.register
def _(representation: SecondOrder, graph: OnnxGraph) -> Columns:
    sampling_rate = representation.sampling_rate
    levelled = spectral.levelled(graph, graph.waveform(sampling_rate), sampling_rate)
    outputs = add_network(graph, representation.backbone, spectral.log_mel_patches(graph, levelled))
    return Columns(pool(graph, outputs, representation.backbone, [1, -1]), notices=(NOTICE,))


def pool(graph: OnnxGraph, outputs: Mapping[str, str], network: str, clips: Sequence[int]) -> str:
    """Pool feature maps over all frames of each clip, as of ``second_order.pool``.

    Parameters
    ----------
    graph
        Is added to.
    outputs
        Of the network; maps are float32 (patches, maps, frames).
    network
        Its name.
    clips
        Number of clips and of patches of each; -1 for one that varies.

    Returns
    -------
    columns
        float32 (clips, columns).
    """
    columns = []
    for layer, scale in map_scales(network).items():
        [live] = np.nonzero(scale)
        maps = graph.Gather(outputs[layer], live, axis=1)
        maps = graph.Cast(graph.Div(maps, scale[live, None]), to=DOUBLE)
        frames = graph.Shape(maps, start=2)
        shape = graph.Concat([*clips, len(live)], frames, axis=0)
        by_map = graph.Transpose(graph.Reshape(maps, shape), perm=[0, 2, 1, 3])
        rows = graph.Reshape(by_map, [0, 0, -1])
        covariance = _covariance(graph, rows, len(live))
        logarithm = _logarithm(graph, covariance, len(live))
        first, second = np.triu_indices(len(live))
        flat = graph.Reshape(logarithm, [0, -1])
        upper = graph.Gather(flat, first * len(live) + second, axis=1)
        columns.append(graph.Mul(upper, np.where(first == second, 1, sqrt(2))))
    return graph.Cast(graph.Concat(*columns, axis=1), to=FLOAT)


def _covariance(graph: OnnxGraph, rows: str, count: int) -> str:
    # Double (clips, count, count) of (clips, count, frames), with the ridge.
    centred = graph.Sub(rows, graph.ReduceMean(rows, axes=[2]))
    frames = graph.Cast(graph.Shape(rows, start=2), to=DOUBLE)
    products = graph.MatMul(centred, graph.Transpose(centred, perm=[0, 2, 1]))
    covariance = graph.Div(products, graph.Sub(frames, 1.0))
    # Python cuts eigenvalues at the minimum; adding it does the same where it matters, to silence.
    ridge = graph.Add(graph.Mul(_trace(graph, covariance, count), RIDGE / count), MIN_EIGENVALUE)
    return graph.Add(covariance, graph.Mul(ridge, np.eye(count)))


def _logarithm(graph: OnnxGraph, matrix: str, count: int) -> str:
    # Of symmetric matrices whose eigenvalues are at least the ridge; double (clips, count, count).
    eye = np.eye(count)
    scale = _trace(graph, matrix, count)
    low = RIDGE / (count * (1 + RIDGE))  # limits of the eigenvalues: this and 1
    root = graph.Div(matrix, scale)
    for _ in range(_ROOTS):
        root, low = _square_root(graph, root, low, eye), sqrt(low)
    series = Chebyshev.interpolate(np.log, _DEGREE, domain=[low, 1]).coef
    # Clenshaw's recurrence.
    centre = graph.Mul(eye, (1 + low) / (1 - low))
    place = graph.Sub(graph.Mul(root, 2 / (1 - low)), centre)
    after: str | Array = np.zeros_like(eye)
    following = graph.Mul(eye, series[-1])
    for coefficient in series[-2:0:-1]:
        twice = graph.Mul(graph.MatMul(place, following), 2.0)
        total = graph.Add(graph.Sub(twice, after), graph.Mul(eye, coefficient))
        after, following = following, total
    last = graph.Sub(graph.MatMul(place, following), after)
    total = graph.Add(last, graph.Mul(eye, series[0]))
    powered = graph.Mul(total, float(2**_ROOTS))
    return graph.Add(powered, graph.Mul(graph.Log(scale), eye))


def _square_root(graph: OnnxGraph, matrix: str, low: float, eye: Array) -> str:
    root = matrix
    inverse: str | Array = eye
    smallest = sqrt(low)
    while smallest < 1 - _CONVERGED:
        # It maps the ends of the interval [smallest, 1] to the same value, the new smallest.
        step = sqrt(3 / (1 + smallest + smallest**2))
        product = graph.MatMul(inverse, root)
        factor = graph.Sub(graph.Mul(eye, 1.5 * step), graph.Mul(product, step**3 / 2))
        root, inverse = graph.MatMul(root, factor), graph.MatMul(factor, inverse)
        smallest = (3 * step * smallest - (step * smallest) ** 3) / 2
    return root


def _trace(graph: OnnxGraph, matrix: str, count: int) -> str:
    # Double (clips, 1, 1).
    return graph.ReduceSum(graph.Mul(matrix, np.eye(count)), [1, 2])
