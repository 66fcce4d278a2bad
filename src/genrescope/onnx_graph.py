"""An ONNX graph in the making: operators are methods, values are names, arrays are constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, compose, helper, numpy_helper

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
OPSET, IR_VERSION = 17, 8  # of the networks in the package


class OnnxGraph:
    """A graph to which operators are added: ``graph.Add(a, b)`` gives the name of the sum.

    The methods are ONNX's operators of opset 17; keyword arguments are their attributes. An
    argument is the name of a value, or a constant as NumPy understands it: a Python ``int`` is
    int64, a ``float`` is double, ``np.float32(…)`` is single.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._inputs: dict[str, tuple[int | str, ...]] = {}
        self._waveforms: dict[int, str] = {}
        self._made: dict[tuple[Any, ...], list[str]] = {}

    def __getattr__(self, operator: str) -> Callable[..., str]:
        if not operator[0].isupper():
            raise AttributeError(operator)
        return lambda *inputs, **attributes: self.node(operator, *inputs, **attributes)[0]

    def node(
        self, operator: str, *inputs: str | ArrayLike, outputs: int = 1, **attributes: Any
    ) -> list[str]:
        """Add an operator with any number of outputs; their names.

        One that is there already, with the same arguments and attributes, is not added again.
        """
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        key = operator, *names, outputs, repr(sorted(attributes.items()))
        if key not in self._made:
            made = [f"{operator}_{len(self._nodes)}_{place}" for place in range(outputs)]
            self._nodes.append(helper.make_node(operator, names, made, **attributes))
            self._made[key] = made
        return self._made[key]

    def _constant(self, value: ArrayLike) -> str:
        array = np.asarray(value)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return self._constants[key].name

    def input(self, name: str, shape: tuple[int | str, ...]) -> str:
        """Add an input, float32, with names for dimensions that vary; its name."""
        self._inputs[name] = shape
        return name

    def waveform(self, sampling_rate: int) -> str:
        """The input of audio at a sampling rate in Hz: float32 (1, samples), mono, in [-1, 1].

        The first that is asked for is called ``waveform``, one of another rate
        ``waveform_`` and the rate.
        """
        if sampling_rate not in self._waveforms:
            suffix = f"_{sampling_rate}" if self._waveforms else ""
            name = self.input(f"waveform{suffix}", (1, f"samples{suffix}"))
            self._waveforms[sampling_rate] = name
        return self._waveforms[sampling_rate]

    @property
    def sampling_rates(self) -> dict[str, int]:
        """Of the inputs, by name, in Hz."""
        return {name: sampling_rate for sampling_rate, name in self._waveforms.items()}

    def call(self, network: onnx.ModelProto, inputs: Mapping[str, str]) -> dict[str, str]:
        """Add a whole network, unless it is there already with the same inputs.

        Parameters
        ----------
        network
            Of opset 17.
        inputs
            Values of this graph by the names of the network's inputs.

        Returns
        -------
        outputs
            Values of this graph by the names of the network's outputs.

        Raises
        ------
        ValueError
            If it is of another opset, or has functions of its own; the message is a clause.
        """
        versions = {one.domain: one.version for one in network.opset_import}
        if versions != {"": OPSET} or network.functions:
            found = ", ".join(
                f"{name or 'ai.onnx'} {version}" for name, version in versions.items()
            )
            raise ValueError(f"its operators are those of {found}, not ai.onnx {OPSET} alone")
        names = [value.name for value in network.graph.output]
        key = network.SerializeToString(deterministic=True), *sorted(inputs.items())
        if key not in self._made:
            prefix = f"network_{len(self._nodes)}_"
            given = {  # copies of a network share their weights
                tensor.name: self._constant(numpy_helper.to_array(tensor))
                for tensor in network.graph.initializer
            }
            for name, value in {**inputs, **given}.items():
                self._nodes.append(helper.make_node("Identity", [value], [prefix + name]))
            self._nodes.extend(compose.add_prefix_graph(network.graph, prefix).node)
            self._made[key] = [prefix + name for name in names]
        return dict(zip(names, self._made[key], strict=True))

    def to_model(
        self,
        name: str,
        outputs: Mapping[str, tuple[str, tuple[int | str, ...]]],
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> onnx.ModelProto:
        """Make the model, checked.

        Parameters
        ----------
        name
            Of the graph.
        outputs
            By name: a float32 value and its shape, with names for dimensions that vary.
        metadata
            Of the model.
        """
        ends = [
            helper.make_node("Identity", [value], [output])
            for output, (value, _) in outputs.items()
        ]
        graph = helper.make_graph(
            [*self._nodes, *ends],
            name,
            [
                helper.make_tensor_value_info(own, FLOAT, shape)
                for own, shape in self._inputs.items()
            ],
            [
                helper.make_tensor_value_info(output, FLOAT, shape)
                for output, (_, shape) in outputs.items()
            ],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="genrescope",
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model
