"""The contract that every model keeps, and the study's own numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError
from genrescope.hub import WeightsNotAvailableError, resolve_weights
from genrescope.models import MODELS, check_model, make_model
from genrescope.models.normalise import make_normaliser
from genrescope.representations import Representation, make_representation
from genrescope.training.export import export

GENRES = ("blues", "jazz", "pop", "rock")

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (5, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}


@dataclass(frozen=True)
class Case:
    """A small setting of a model, and what it sees."""

    representation: Representation
    parameters: dict[str, Any] = field(default_factory=dict)
    wrong_shape: tuple[int, ...] = ()

    def make(self, name: str) -> nn.Module:
        torch.manual_seed(0)
        return make_model(name, self.representation.shape, len(GENRES), self.parameters)

    def batch(self, tracks: int = 3) -> torch.Tensor:
        rng = torch.Generator().manual_seed(1)
        return torch.rand((tracks, *self.representation.shape), generator=rng) * 2 - 1


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-wav2vec2")
    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**TINY)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cases(checkpoint: Path) -> dict[str, Case]:
    return {
        "mlp": Case(make_representation("descriptors"), {"widths": [16, 8]}, (3, 57)),
        "cnn": Case(make_representation("mel-image", {"size": 64}), {"dropout": 0.5}, (57,)),
        "resnet": Case(make_representation("mel-from-image"), {"width": 4}, (3, 57, 57)),
        "cnn-1d": Case(make_representation("mfcc", {"seconds": 0.5}), {"channels": [8, 16]}, (57,)),
        "lstm": Case(make_representation("mfcc", {"seconds": 0.5}), {"width": 16}, (57,)),
        "encoder": Case(
            make_representation("waveform", {"seconds": 0.1}),
            {"weights": str(checkpoint), "hidden": 8},
            (3, 224, 224),
        ),
    }


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest, cases: dict[str, Case]) -> str:
    assert request.param in cases, f"give {request.param} a case, so that it is tested"
    return str(request.param)


@pytest.fixture
def case(name: str, cases: dict[str, Case]) -> Case:
    return cases[name]


def test_a_batch_becomes_logits(name: str, case: Case) -> None:
    network = case.make(name).eval()
    for tracks in (1, 3):
        logits = network(case.batch(tracks))
        assert logits.shape == (tracks, len(GENRES))
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()  # it looks at its input
    assert (logits.sum(dim=1) - 1).abs().max() > 1e-3  # and ends before any softmax


def test_every_parameter_learns(name: str, case: Case) -> None:
    network = case.make(name).train()
    loss = nn.functional.cross_entropy(network(case.batch(4)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    for part, parameter in network.named_parameters():
        assert parameter.grad is not None, part
        assert torch.isfinite(parameter.grad).all(), part
    learning = [part for part, p in network.named_parameters() if p.grad.abs().max() > 0]
    assert len(learning) >= 0.7 * len(list(network.parameters()))


def test_a_few_steps_lower_the_loss(name: str, case: Case) -> None:
    network = case.make(name).train()
    batch, labels = case.batch(4), torch.tensor([0, 1, 2, 3])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(network(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


def test_evaluation_is_deterministic_and_each_track_stands_alone(name: str, case: Case) -> None:
    network = case.make(name).eval()
    batch = case.batch(3)
    with torch.no_grad():
        first = network(batch)
        torch.testing.assert_close(network(batch), first, rtol=0, atol=0)
        torch.testing.assert_close(network(batch[1:2]), first[1:2], rtol=1e-4, atol=1e-5)


def test_the_same_seed_builds_the_same_model(name: str, case: Case) -> None:
    batch = case.batch()
    with torch.no_grad():
        torch.testing.assert_close(
            case.make(name).eval()(batch), case.make(name).eval()(batch), rtol=0, atol=0
        )


def test_the_exported_model_agrees(name: str, case: Case, tmp_path: Path) -> None:
    batch = case.batch(4)
    layers = nn.Sequential(make_normaliser("standardise", batch), case.make(name))
    layers.train()(batch)  # batch statistics that are not the initial ones
    layers.eval()
    export(tmp_path / "model", layers, case.representation, GENRES, {"recipe": "test"})
    with torch.no_grad():
        wanted = layers(batch).numpy()
    classifier = Classifier.from_pretrained(tmp_path / "model")
    assert classifier.genres == GENRES
    np.testing.assert_allclose(classifier.logits(batch.numpy()), wanted, atol=1e-4)
    np.testing.assert_allclose(classifier.logits(batch[:1].numpy()), wanted[:1], atol=1e-4)


def test_a_wrong_shape_is_refused_in_words(name: str, case: Case) -> None:
    with pytest.raises(GenrescopeError, match=rf"Model {name}: takes .*not arrays of"):
        make_model(name, case.wrong_shape, 4, case.parameters)


def test_an_unknown_parameter_is_told_which_there_are(name: str, case: Case) -> None:
    (known, *_) = case.parameters
    with pytest.raises(GenrescopeError, match=rf"{name} has no parameter colour; .*{known}"):
        check_model(name, {**case.parameters, "colour": "red"})
    for own in ("shape", "genres"):  # these are not the recipe's to give
        with pytest.raises(GenrescopeError, match=f"no parameter {own}"):
            check_model(name, {own: 3})
    check_model(name, case.parameters)


def test_an_unknown_model_is_told_which_there_are() -> None:
    with pytest.raises(GenrescopeError, match=r"no model 'unheard'; .*cnn.*mlp"):
        make_model("unheard", (57,), 10, {})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_studys_mlp() -> None:
    # 57 → 512 → BatchNorm → ReLU → 128 → BatchNorm → ReLU → Dropout 0.5 → 10
    network = make_model("mlp", (57,), 10, {})
    assert count(network) == (57 * 512 + 512) + 2 * 512 + (512 * 128 + 128) + 2 * 128 + 1290
    kinds = [type(layer).__name__ for layer in network.modules() if not list(layer.children())]
    middle = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == [*middle, *middle, "Dropout", "Linear"]
    (dropout,) = (layer for layer in network.modules() if isinstance(layer, nn.Dropout))
    assert dropout.p == 0.5


def test_the_studys_cnn() -> None:
    network = make_model("cnn", (3, 224, 224), 10, {})
    channels = (3, 8, 16, 32, 64, 128)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    found = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert found == list(pairwise(channels))
    for convolution in convolutions:
        assert convolution.kernel_size == (3, 3)
        assert (convolution.stride, convolution.padding) == ((1, 1), (1, 1))
    first, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    assert (first.in_features, first.out_features) == (128 * 7 * 7, 128) == (6272, 128)
    assert (last.in_features, last.out_features) == (128, 10)
    # Convolutions 98,384, BatchNorms 496, linear layers 802,944 and 1,290.
    assert count(network) == 903_114


def test_pooling_before_the_rectifier_changes_nothing() -> None:
    # The study has ReLU → max-pool; written out here by the study's order.
    torch.manual_seed(0)
    network = make_model("cnn", (3, 64, 64), 10, {}).eval()
    pictures = torch.rand(2, 3, 64, 64)
    features = pictures
    parts = list(network.modules())
    norms = (layer for layer in parts if isinstance(layer, nn.BatchNorm2d))
    for convolution in (layer for layer in parts if isinstance(layer, nn.Conv2d)):
        features = nn.functional.max_pool2d(torch.relu(next(norms)(convolution(features))), 2)
    first, last = (layer for layer in parts if isinstance(layer, nn.Linear))
    wanted = last(torch.relu(first(features.flatten(1))))
    torch.testing.assert_close(network(pictures), wanted, rtol=1e-4, atol=1e-5)


def test_a_cnn_of_too_many_poolings_says_so() -> None:
    with pytest.raises(GenrescopeError, match="5 poolings are too many for 16 × 16"):
        make_model("cnn", (3, 16, 16), 10, {})


def test_models_without_hidden_layers() -> None:
    assert count(make_model("mlp", (57,), 10, {"widths": []})) == 580
    plain = make_model("cnn", (3, 4, 4), 10, {"channels": [], "hidden": 5})
    assert plain(torch.zeros(2, 3, 4, 4)).shape == (2, 10)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    network = make_model("cnn", (3, 32, 32), 10, {"dropout": 0.9})
    picture = torch.rand(2, 3, 32, 32)
    network.train()
    assert not torch.equal(network(picture), network(picture))
    network.eval()
    assert torch.equal(network(picture), network(picture))


def test_the_encoder_averages_the_last_hidden_state_over_time(checkpoint: Path) -> None:
    settings = {"weights": str(checkpoint), "hidden": 8}
    network = make_model("encoder", (1600,), 4, settings).eval()
    sound = torch.randn(2, 1600)
    with torch.no_grad():
        states = Wav2Vec2Model.from_pretrained(checkpoint).eval()(sound).last_hidden_state
        assert states.shape[2] == TINY["hidden_size"]
        torch.testing.assert_close(network(sound), network.head(states.mean(dim=1)))


def test_the_encoder_takes_other_kinds_of_checkpoint(tmp_path: Path) -> None:
    HubertModel(HubertConfig(**TINY)).save_pretrained(tmp_path / "hubert")
    settings = {"weights": str(tmp_path / "hubert"), "gradient_checkpointing": True}
    assert make_model("encoder", (1600,), 4, settings).eval()(torch.randn(2, 1600)).shape == (2, 4)


def test_the_encoder_needs_weights() -> None:
    with pytest.raises(GenrescopeError, match=r"Model encoder needs 'weights'"):
        make_model("encoder", (1600,), 4, {})
    with pytest.raises(WeightsNotAvailableError, match="someone/no-such-model is not on this"):
        make_model("encoder", (1600,), 4, {"weights": "someone/no-such-model"})


def test_a_checkpoint_without_its_weights_says_so(tmp_path: Path) -> None:
    Wav2Vec2Config(**TINY).save_pretrained(tmp_path)
    with pytest.raises(GenrescopeError, match=r"(?s)Model encoder: .*model\.safetensors"):
        make_model("encoder", (1600,), 4, {"weights": str(tmp_path)})


def test_weights_in_a_folder_are_found(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_weights(str(checkpoint), download=False) == checkpoint
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    assert resolve_weights(f"~/{checkpoint.name}", download=False) == checkpoint


def test_a_folder_without_a_checkpoint_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotAvailableError, match=r"config\.json is missing.*save_pretrained"):
        resolve_weights(str(tmp_path), download=True)


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("weights", ["facebook/wav2vec2-base", "no/such/folder", "..", "a b?"])
def test_weights_that_are_not_here_say_so_at_once(
    weights: str, download: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    with pytest.raises(WeightsNotAvailableError) as caught:
        resolve_weights(weights, download=download)
    assert time.monotonic() - start < 20
    assert "\n" not in str(caught.value)
    if weights != "..":  # a folder, though no checkpoint
        known = weights == "facebook/wav2vec2-base"
        command = "genrescope data get wav2vec2-base" if known else f"hf download {weights}"
        assert f"`{command}`" in str(caught.value)
        reason = "cannot be fetched from the hub (" if download else "downloads are off"
        assert reason in str(caught.value)


@pytest.mark.slow
def test_a_hub_out_of_reach_is_told_soon() -> None:
    code = (
        "import json, time\n"
        "from genrescope.hub import WeightsNotAvailableError, resolve_weights\n"
        "start = time.monotonic()\n"
        "try:\n"
        "    resolve_weights('facebook/wav2vec2-base', download=True)\n"
        "except WeightsNotAvailableError as error:\n"
        "    print(json.dumps([str(error), time.monotonic() - start]))\n"
    )
    nowhere = "http://127.0.0.1:9"  # nobody listens on the discard port
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": nowhere}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    message, seconds = json.loads(run.stdout)
    assert "facebook/wav2vec2-base cannot be fetched from the hub (" in message
    assert "genrescope data get wav2vec2-base" in message
    assert seconds < 30


@pytest.mark.parametrize("name", ["none", "l2-rows", "standardise"])
def test_normalisers_keep_the_shape(name: str) -> None:
    rows = torch.rand(6, 5) * torch.tensor([1, 10, 100, 1000, 0]) + 3
    found = make_normaliser(name, rows)(rows)
    assert found.shape == rows.shape
    assert torch.isfinite(found).all()
    if name == "none":
        assert torch.equal(found, rows)
    elif name == "l2-rows":
        torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    else:
        torch.testing.assert_close(found.mean(dim=0), torch.zeros(5), rtol=0, atol=1e-5)
        wanted = torch.tensor([1.0, 1, 1, 1, 0])  # what never varies is only shifted
        torch.testing.assert_close(found.std(dim=0, correction=0), wanted, rtol=1e-4, atol=1e-5)


def test_normalising_learns_from_the_training_rows_alone() -> None:
    layer = make_normaliser("standardise", torch.tensor([[0.0], [2.0]]))
    torch.testing.assert_close(layer(torch.tensor([[5.0]])), torch.tensor([[4.0]]))


def test_the_cnn_takes_a_spectrogram_as_a_picture_of_one_channel() -> None:
    torch.manual_seed(0)
    network = make_model("cnn", (64, 96), 4, {"channels": [4, 8]}).eval()
    spectrograms = torch.rand(2, 64, 96)
    found = network(spectrograms)
    torch.testing.assert_close(found, network(spectrograms[:, None]))
    assert found.shape == (2, 4)
