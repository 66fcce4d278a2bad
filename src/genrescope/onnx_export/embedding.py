"""Embeddings by musicnn's networks, as ONNX operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from genrescope.backbones.backbone import BackboneConfig, make_backbone_config, open_backbone
from genrescope.backbones.musicnn import MIN_LIKELIHOOD, WEIGHTS, MusicnnConfig
from genrescope.errors import GenrescopeError
from genrescope.onnx_export import spectral
from genrescope.onnx_export.columns import Columns, add_columns
from genrescope.onnx_graph import OnnxGraph
from genrescope.representations.embedding import Embedding

NOTICE = (WEIGHTS / "LICENSE").read_text(encoding="utf-8")
"""That goes with each copy of musicnn's networks."""


@add_columns.register
def _(representation: Embedding, graph: OnnxGraph) -> Columns:
    names = networks(representation.backbones)
    waveform = graph.waveform(representation.sampling_rate)
    patches = spectral.log_mel_patches(
        graph, spectral.levelled(graph, waveform, representation.sampling_rate)
    )
    found = [add_network(graph, name, patches) for name in names]
    return Columns(
        values=concatenated(graph, found, representation.layers),
        tags=graph.ReduceMean(found[0]["likelihoods"], axes=[0]),
        tag_names=open_backbone(names[0]).tag_names,
        notices=(NOTICE,),
    )


def networks(backbones: Iterable[str | Mapping[str, Any] | BackboneConfig]) -> list[str]:
    """Give the names of backbones, which must be musicnn's.

    Raises
    ------
    GenrescopeError
        If one is of another kind.
    """
    names = []
    for config in map(make_backbone_config, backbones):
        if not isinstance(config, MusicnnConfig):
            raise GenrescopeError(
                f"Models on a backbone of the kind {config.kind} cannot be exported. Train one on "
                "musicnn's networks, such as with the recipe default."
            )
        names.append(config.source)
    return names


def add_network(graph: OnnxGraph, name: str, patches: str) -> dict[str, str]:
    """Add one of musicnn's networks.

    Parameters
    ----------
    graph
        Is added to.
    name
        One of ``musicnn.NETWORKS``.
    patches
        float32 (patches, 187, 96).

    Returns
    -------
    outputs
        By layer: float32 (patches, width), and the feature maps, float32 (patches, maps, frames).
        ``tags`` are log-odds, as of ``Backbone.encode``; ``likelihoods``, the tags' likelihoods.
    """
    outputs = graph.call(onnx.load(WEIGHTS / f"{name}.onnx"), {"log_mel": patches})
    likelihoods = outputs["tags"]
    kept = graph.Clip(likelihoods, MIN_LIKELIHOOD, 1 - MIN_LIKELIHOOD)
    odds = graph.Div(kept, graph.Sub(np.float32(1), kept))
    return {**outputs, "tags": graph.Log(odds), "likelihoods": likelihoods}


def concatenated(
    graph: OnnxGraph, outputs: Sequence[Mapping[str, str]], layers: Sequence[str]
) -> str:
    """Concatenate the layers of networks, averaged over the patches; float32 (1, columns)."""
    columns = [one[layer] for one in outputs for layer in layers]
    return graph.ReduceMean(graph.Concat(*columns, axis=1), axes=[0])
