"""Join the models of several members into one model folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load_file, save_file

from genrescope.classifier import CONFIG, ONNX, OTHER, WEIGHTS
from genrescope.classifier.folder import LOGITS, make_folder_representation, read_config
from genrescope.models.classical import TINY, Calibration
from genrescope.onnx_graph import OnnxGraph
from genrescope.representations.members import Members
from genrescope.training.export import describe


def join(
    folder: Path,
    members: Sequence[Path],
    weights: Sequence[float],
    trained: dict[str, Any],
    *,
    calibration: Calibration | None = None,
    unsure_below: float = 0.0,
    other_above: float | None = None,
) -> None:
    """Write a model folder whose logits are the weighted sum of its members' logits.

    Weights that do not add up to 1 make the answer surer or less sure, where all members take part;
    where one does not, the outputs_of' weights are scaled to 1. A weighted sum of logits is a
    logarithmic opinion pool; see ``genrescope.study.ensemble.pool``.

    Parameters
    ----------
    folder
        Created if it does not exist.
    members
        Model folders with the same genres, written by ``export`` on this machine.
    weights
        Of each member's logits, positive.
    trained
        See ``describe``.
    calibration
        Of the sum.
    unsure_below, other_above
        See ``ClassifierConfig``. The score ``other`` is that of the first member, if it has one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    configs = [read_config(member / CONFIG) for member in members]
    parts = [
        make_folder_representation(member, config)
        for member, config in zip(members, configs, strict=True)
    ]
    representation = Members(tuple(parts))
    graph = OnnxGraph()
    rows = graph.input("input", ("batch", representation.shape[0]))
    present, terms, outputs_of = list[str](), list[tuple[str, str]](), list[dict[str, str]]()
    start = 0
    for part, member, weight in zip(parts, members, weights, strict=True):
        stop = start + prod(part.shape)
        values = graph.Reshape(graph.Slice(rows, [start], [stop], [1]), [-1, *part.shape])
        found = graph.call(onnx.load(str(member / ONNX)), {"input": values})
        present.append(graph.Slice(rows, [stop], [stop + 1], [1]))
        share = graph.Mul(present[-1], np.float32(weight))
        terms.append((share, graph.Mul(found[LOGITS], share)))
        outputs_of.append(found)
        start = stop + 1
    shares, scores = (graph.Sum(*column) for column in zip(*terms, strict=True))
    everyone = reduce(graph.Mul, present)
    surer = graph.Add(graph.Mul(everyone, np.float32(sum(weights) - 1)), np.float32(1))
    mean = graph.Mul(graph.Div(scores, shares), surer)
    if calibration is not None:
        floor = float(calibration.floor)
        tempered = graph.Div(mean, np.float32(calibration.temperature))
        kept = graph.Mul(graph.Softmax(tempered, axis=1), np.float32(1 - floor))
        shared = max(floor / len(configs[0].genres), TINY)
        mean = graph.Log(graph.Add(kept, np.float32(shared)))
    outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
        LOGITS: (mean, ("batch", len(configs[0].genres)))
    }
    if OTHER in outputs_of[0]:
        outputs[OTHER] = outputs_of[0][OTHER], ("batch",)
    onnx.save(graph.to_model("members", outputs), str(folder / ONNX))
    state = {
        f"{place}.{name}": array
        for place, member in enumerate(members)
        for name, array in load_file(member / WEIGHTS).items()
    }
    save_file(state, folder / WEIGHTS)
    describe(folder, representation, configs[0].genres, trained, unsure_below, other_above)
