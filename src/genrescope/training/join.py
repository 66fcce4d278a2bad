"""Join the models of several members into one model folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from genrescope.classifier import CONFIG, ONNX, OTHER, WEIGHTS
from genrescope.classifier.folder import LOGITS, make_folder_representation, read_config
from genrescope.models.classical import TINY, Calibration
from genrescope.representations.members import Members
from genrescope.training.export import describe

_OPSET = 17  # that of ``genrescope.training.export``


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
    where one does not, the others' weights are scaled to 1. A weighted sum of logits is a
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
    networks = [onnx.load(str(member / ONNX)) for member in members]
    shapes = [part.shape for part in parts]
    graph = _JoinedGraph()
    present, terms = [], []
    for place, (network, start) in enumerate(zip(networks, _starts(shapes), strict=True)):
        size = prod(shapes[place])
        values = graph.columns("input", start, start + size)
        present.append(graph.columns("input", start + size, start + size + 1))
        shaped = graph.add("Reshape", values, graph.integers(-1, *shapes[place]))
        logits = graph.insert(network, f"member{place}/", shaped)
        share = graph.add("Mul", present[-1], graph.number(weights[place]))
        terms.append((share, graph.add("Mul", logits, share)))
    shares, scores = (graph.add("Sum", *column) for column in zip(*terms, strict=True))
    everyone = graph.add("Mul", present[0], present[0])
    for one in present[1:]:
        everyone = graph.add("Mul", everyone, one)
    surer = graph.add("Mul", everyone, graph.number(sum(weights) - 1))
    surer = graph.add("Add", surer, graph.number(1))
    mean = graph.add("Mul", graph.add("Div", scores, shares), surer)
    if calibration is not None:
        floor = float(calibration.floor)
        tempered = graph.add("Div", mean, graph.number(float(calibration.temperature)))
        kept = graph.add("Mul", graph.add("Softmax", tempered, axis=1), graph.number(1 - floor))
        shared = graph.number(max(floor / len(configs[0].genres), TINY))
        mean = graph.add("Log", graph.add("Add", kept, shared))
    graph.nodes.append(helper.make_node("Identity", [mean], [LOGITS]))
    outputs = {LOGITS: ["batch", len(configs[0].genres)]}
    if OTHER in {value.name for value in networks[0].graph.output}:
        graph.nodes.append(helper.make_node("Identity", [f"member0/{OTHER}"], [OTHER]))
        outputs[OTHER] = ["batch"]
    model = graph.model(networks, representation.shape[0], outputs)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / ONNX))
    state = {
        f"{place}.{name}": array
        for place, member in enumerate(members)
        for name, array in load_file(member / WEIGHTS).items()
    }
    save_file(state, folder / WEIGHTS)
    describe(folder, representation, configs[0].genres, trained, unsure_below, other_above)


def _starts(shapes: Sequence[tuple[int, ...]]) -> Iterator[int]:
    start = 0
    for shape in shapes:
        yield start
        start += prod(shape) + 1


class _JoinedGraph:
    # Nodes and constants of a graph in the making; methods return the names of their outputs.

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"joined{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def number(self, value: float) -> str:
        return self._constant(np.array(value, dtype=np.float32))

    def integers(self, *values: int) -> str:
        return self._constant(np.array(values, dtype=np.int64))

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def columns(self, rows: str, start: int, stop: int) -> str:
        ends = self.integers(start), self.integers(stop)
        return self.add("Slice", rows, *ends, self.integers(1))

    def insert(self, network: onnx.ModelProto, prefix: str, given: str) -> str:
        # All of a network but its input, which is ``given``; returns its logits.
        own = compose.add_prefix(network, prefix).graph
        self.nodes.append(helper.make_node("Identity", [given], [own.input[0].name]))
        self.nodes.extend(own.node)
        self._constants.extend(own.initializer)
        return f"{prefix}{LOGITS}"

    def model(
        self, of: Sequence[onnx.ModelProto], columns: int, outputs: dict[str, list[Any]]
    ) -> onnx.ModelProto:
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in {"input": ["batch", columns], **outputs}.items()
        ]
        graph = helper.make_graph(self.nodes, "members", ends[:1], ends[1:], self._constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=max(network.ir_version for network in of),
            producer_name="genrescope",
        )
