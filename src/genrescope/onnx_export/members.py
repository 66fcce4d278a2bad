"""The representations of a classifier's members as ONNX operators."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from genrescope.onnx_export.columns import Columns, add_columns
from genrescope.onnx_graph import FLOAT, OnnxGraph
from genrescope.representations.members import Members


@add_columns.register
def _(representation: Members, graph: OnnxGraph) -> Columns:
    used = representation.parts[:1] if representation.first_only else representation.parts
    found = [add_columns(part, graph) for part in used]
    values: list[str | NDArray[np.float32]] = []
    for part, own in zip(used, found, strict=True):
        samples = graph.Shape(graph.waveform(part.sampling_rate), start=1)
        shortest = round(part.shortest_s * part.sampling_rate)
        takes_part = graph.Not(graph.Less(samples, [shortest]))
        values.append(graph.Where(takes_part, own.values, np.float32(0)))
        values.append(graph.Unsqueeze(graph.Cast(takes_part, to=FLOAT), [0]))
    left_out = representation.parts[len(used) :]
    values += [np.zeros((1, prod(part.shape) + 1), dtype=np.float32) for part in left_out]
    tagged = next((own for own in found if own.tags), Columns(""))
    return Columns(
        values=graph.Concat(*values, axis=1),
        tags=tagged.tags,
        tag_names=tagged.tag_names,
        notices=tuple(dict.fromkeys(notice for own in found for notice in own.notices)),
    )
