"""Small models to export, and the value of a part of a graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from genrescope.audio.waveform import Waveform
from genrescope.classifier import Classifier
from genrescope.representations import make_representation

GENRES = ("blues", "drum & bass", "rock")


@pytest.fixture(scope="session")
def save_model() -> Callable[..., Classifier]:
    """Save a random linear model on a representation, an embedding if it is not named."""
    pytest.importorskip("onnx", reason="models are exported with genrescope[train]")
    torch = pytest.importorskip("torch", reason="models are made with genrescope[train]")
    from genrescope.training.export import export

    def save(folder: Path, name: str = "embedding", **settings: object) -> Classifier:
        representation = make_representation(name, settings)
        torch.manual_seed(0)
        head = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(int(np.prod(representation.shape)), len(GENRES))
        ).eval()
        export(folder, head, representation, GENRES, {"recipe": "linear", "license": "cc0-1.0"})
        return Classifier(folder)

    return save


@pytest.fixture(scope="session")
def classifier(
    save_model: Callable[..., Classifier], tmp_path_factory: pytest.TempPathFactory
) -> Classifier:
    """Give a model on all layers of the default network."""
    folder = tmp_path_factory.mktemp("model") / "model"
    return save_model(folder, layers=["penultimate", "pooled", "tags"])


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., NDArray[np.float32]]:
    """Give what operators make of a waveform."""
    pytest.importorskip("onnx", reason="models are exported with genrescope[train]")
    from genrescope.onnx_graph import OnnxGraph

    def run(
        build: Callable[[OnnxGraph, str], str], waveform: Waveform, dimensions: int = 2
    ) -> NDArray[np.float32]:
        graph = OnnxGraph()
        value = build(graph, graph.waveform(16_000))
        shape = tuple(f"dimension_{place}" for place in range(dimensions))
        model = graph.to_model("part", {"found": (value, shape)}, {})
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return np.asarray(session.run(["found"], {"waveform": waveform[None]})[0])

    return run
