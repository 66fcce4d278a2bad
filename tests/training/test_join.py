"""Several models as one: the same logits as by hand, whoever takes part."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from genrescope.classifier import Classifier
from genrescope.models.classical import Calibration, fit_calibration
from genrescope.representations import make_representation
from genrescope.training.export import export
from genrescope.training.join import join

GENRES = ("fado", "polka", "ska")
PARTS = (
    ("embedding", {}),
    ("mel-from-image", {}),
    ("picture-concat", {"of": ["block-level"]}),
)
WEIGHTS = (0.5, 0.4, 0.3)
CALIBRATION = Calibration(1.3, 0.04)


class Conv(nn.Module):
    """A network of images, whose input is not flat."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.LazyLinear(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(images[:, None])
        return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    torch.manual_seed(0)
    made = []
    for name, settings in PARTS:
        representation = make_representation(name, settings)
        flat = len(representation.shape) == 1
        network = nn.Linear(representation.shape[0], 3) if flat else Conv()
        with torch.no_grad():
            network(torch.zeros(1, *representation.shape))
        folder = tmp_path_factory.mktemp(name)
        export(folder, network.eval(), representation, GENRES, trained={})
        made.append(folder)
    return made


def by_hand(logits: list[NDArray[np.float32] | None]) -> NDArray[np.float64]:
    pairs = [(w, z) for w, z in zip(WEIGHTS, logits, strict=False) if z is not None]
    mean = sum(w * z.astype(np.float64) for w, z in pairs) / sum(w for w, _ in pairs)
    if len(pairs) == len(logits):
        mean = mean * sum(w for w, _ in pairs)
    odds = np.exp((mean - mean.max()) / 1.3)
    return 0.96 * odds / odds.sum() + 0.04 / 3


@pytest.mark.parametrize("count", [2, 3])
def test_probabilities_are_those_of_the_weighted_logits(
    count: int, folders: list[Path], tmp_path: Path, music: Callable[..., NDArray[np.float32]]
) -> None:
    join(
        tmp_path / "joined",
        folders[:count],
        WEIGHTS[:count],
        {"recipe": "both", "weights": {}},
        calibration=CALIBRATION,
        unsure_below=0.5,
    )
    shutil.rmtree(tmp_path / "joined" / "nothing", ignore_errors=True)
    Classifier(tmp_path / "joined").save_pretrained(tmp_path / "copy")
    joined = Classifier.from_pretrained(tmp_path / "copy")
    assert joined.genres == GENRES
    assert joined.config.unsure_below == 0.5
    alone = [Classifier(folder) for folder in folders[:count]]
    for seconds in (2.0, 30.0, 70.0):
        clip = music(seconds)
        logits = [
            one.logits(one.representation.compute(clip, 22050)[np.newaxis])[0]
            if seconds >= one.representation.shortest_s
            else None
            for one in alone
        ]
        found = joined.predict(clip, 22050).probabilities
        np.testing.assert_allclose([found[g] for g in GENRES], by_hand(logits), atol=2e-5)
    _, embedding = joined.analyse(music(30.0), 22050)
    assert embedding.shape == (joined.embedding_width,) == (200,)


def test_a_floor_takes_from_sure_answers_only_its_share() -> None:
    logits = torch.tensor([[50.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    shares = CALIBRATION(logits).softmax(dim=1)
    torch.testing.assert_close(shares[0], torch.tensor([0.96 + 0.04 / 3, 0.04 / 3, 0.04 / 3]))
    torch.testing.assert_close(shares[1], torch.full((3,), 1 / 3))


def test_wrong_labels_are_taken_for_a_floor() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(4000, 4)).astype(np.float32)
    odds = np.exp(logits / 1.5)
    labels = np.array([rng.choice(4, p=row / row.sum()) for row in odds])
    wrong = rng.uniform(size=4000) < 0.2
    labels[wrong] = rng.integers(0, 4, wrong.sum())
    found = fit_calibration(logits, labels)
    assert float(found.temperature) == pytest.approx(1.5, rel=0.1)
    assert float(found.floor) == pytest.approx(0.2, abs=0.04)


def test_a_model_without_errors_is_not_made_certain() -> None:
    logits = np.array([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0]] * 3, np.float32)
    found = fit_calibration(logits, np.array([0, 1, 2] * 3))
    assert 0.05 < float(found.temperature) < 20
    assert 0.001 < float(found.floor) < 0.5
