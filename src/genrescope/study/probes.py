"""Frozen probes: small models on the embeddings of encoders that are not trained further."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from genrescope.backbones.backbone import BackboneConfig, make_backbone_config, open_backbone
from genrescope.backbones.musicnn import NETWORKS
from genrescope.hub import WeightsNotAvailableError, resolve_weights

_SECONDS = 30.0  # of audio that is encoded to measure the time
_PREFERRED = ("penultimate", "last")  # layers; else the last one of the network


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder and what it costs.

    Attributes
    ----------
    name
        Short, as in the names of its recipes.
    settings
        Of its representation, as in a recipe.
    layer
        The one that is probed.
    columns
        Its width; None if the encoder is not on this machine.
    parameters
        Of its file or checkpoint; None likewise.
    seconds
        For 30 s of audio on one thread of this machine; None likewise.
    """

    name: str
    settings: dict[str, Any]
    layer: str
    columns: int | None = None
    parameters: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.columns is None:
            return f"{self.name}, layer {self.layer}"
        return (
            f"{self.name}, layer {self.layer}: {self.columns:,} columns, {self.parameters:,} "
            f"parameters, {self.seconds:.2f} s for 30 s of audio"
        )


def describe_encoder(reference: str) -> EncoderFacts:
    """Open an encoder and measure it.

    Parameters
    ----------
    reference
        The name of a bundled network, an ONNX file, a folder of transformers, its id on the hub, or
        ``KIND:SOURCE``.

    Raises
    ------
    GenrescopeError
        If it is of no known kind, or cannot be used.
    """
    source = reference
    if reference not in NETWORKS and not re.match(r"[a-z]+:", reference):
        kind = "onnx" if Path(reference).suffix == ".onnx" else "transformers"
        source = f"{kind}:{reference}"
    short = re.sub(r"[^\w.-]+", "-", reference.rstrip("/").rpartition("/")[2], flags=re.ASCII)
    try:
        config = make_backbone_config(source)
        backbone = open_backbone(config)
    except WeightsNotAvailableError:
        return EncoderFacts(short, _settings(source, "last"), "last")
    layer = next((name for name in _PREFERRED if name in backbone.widths), [*backbone.widths][-1])
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, round(_SECONDS * backbone.sampling_rate)).astype(np.float32)
    began = time.perf_counter()
    backbone.encode(noise)
    seconds = time.perf_counter() - began
    parameters = _parameters(config)
    width = backbone.widths[layer]
    return EncoderFacts(short, _settings(source, layer), layer, width, parameters, seconds)


def probe(recipe: Mapping[str, Any] | str, encoder: EncoderFacts) -> dict[str, Any]:
    """Give the settings of a recipe with an encoder's embeddings as its input."""
    settings = {"extends": recipe} if isinstance(recipe, str) else dict(recipe)
    name = settings.get("name", settings.get("extends"))
    return settings | {
        "name": f"{name} ({encoder.name})",
        "about": f"{name} on {encoder}.",
        "representation": encoder.settings,
    }


def _settings(source: str, layer: str) -> dict[str, Any]:
    return {"name": "embedding", "backbones": [source], "layers": [layer]}


def _parameters(config: BackboneConfig) -> int:
    if config.kind == "transformers":
        from safetensors import safe_open  # noqa: PLC0415  an extra

        folder = resolve_weights(config.source, download=False)  # type: ignore[attr-defined]
        shapes: list[Sequence[int]] = []
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "numpy") as file:
                shapes += [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        return sum(map(prod, shapes))
    import onnx  # noqa: PLC0415  an extra

    path = Path(config.source).expanduser()  # type: ignore[attr-defined]
    if config.kind == "musicnn":
        path = Path(__file__).parents[1] / "weights" / "musicnn" / f"{path}.onnx"
    graph = onnx.load(path).graph
    return sum(prod(tensor.dims) for tensor in graph.initializer)
