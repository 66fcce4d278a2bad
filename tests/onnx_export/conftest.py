"""Small models to export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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
