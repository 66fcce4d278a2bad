"""The networks on coefficients over time: the LSTM and the one-dimensional CNN."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genrescope.errors import GenrescopeError
from genrescope.models import make_model

SHAPE = (5, 24)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {"width": 12}),
    "lstm, last": ("lstm", {"width": 12, "pool": "last"}),
    "cnn-1d": ("cnn-1d", {"channels": [8, 16]}),
}


def clips(count: int = 6, frames: int = SHAPE[1]) -> Tensor:
    return torch.randn(count, SHAPE[0], frames, generator=torch.Generator().manual_seed(1))


def make(name: str, shape: tuple[int, ...] = SHAPE, **more: Any) -> nn.Module:
    model, parameters = NETWORKS[name]
    torch.manual_seed(0)
    return make_model(model, shape, 3, {**parameters, **more})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_handful_of_clips_is_learnt(name: str) -> None:
    network = make(name, dropout=0.0).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    labels = torch.arange(6) % 3
    for _ in range(40):
        loss = nn.functional.cross_entropy(network(clips()), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", NETWORKS)
def test_coefficients_may_be_of_any_scale(name: str) -> None:
    # MFCCs are: the first is in the hundreds, the last in the ones.
    scales = torch.tensor([300.0, 30, 3, 1, 0.1])[:, None]
    network = make(name, dropout=0.0).train()
    torch.testing.assert_close(network(clips() * scales + 70), network(clips()), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_of_other_lengths_will_do(name: str) -> None:
    network = make(name).eval()
    for frames in (9, 40):
        assert network(clips(2, frames)).shape == (2, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_frames_counts(name: str) -> None:
    network = make(name).eval()
    order = torch.randperm(SHAPE[1], generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        moved = (network(clips()[..., order]) - network(clips())).abs().max()
    assert moved > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_acts_in_training_alone(name: str) -> None:
    network = make(name, dropout=0.5).train()
    assert not torch.equal(network(clips()), network(clips()))
    network.eval()
    assert torch.equal(network(clips()), network(clips()))


def test_the_lstm_pools_as_it_says() -> None:
    for pool, wanted in (
        ("mean-max", lambda out: torch.cat([out.mean(1), out.max(1).values], 1)),
        # Backwards, the last input is the first frame.
        ("last", lambda out: torch.cat([out[:, -1, :12], out[:, 0, 12:]], 1)),
    ):
        network = make("lstm", pool=pool).eval()
        with torch.no_grad():
            out, _ = network.lstm(network.norm(clips()).transpose(1, 2))
            torch.testing.assert_close(network(clips()), network.head(wanted(out)))


def test_one_layer_of_lstm_is_made_without_complaint() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = make("lstm", layers=1, dropout=0.5)
    assert (network.lstm.num_layers, network.lstm.bidirectional) == (1, True)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("lstm", {"pool": "max"}, "pool must be one of mean-max, last, not 'max'"),
        ("cnn-1d", {"kernel": 4}, "kernel must be odd, not 4"),
        ("cnn-1d", {"channels": [4] * 5}, "5 poolings are too many for 24 frames"),
    ],
)
def test_senseless_parameters_are_named(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(GenrescopeError, match=f"Model {name}: {words}"):
        make(name, **parameters)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_coefficients_over_time_are_taken(name: str) -> None:
    with pytest.raises(GenrescopeError, match=r"takes .*not arrays of shape"):
        make(name, (3, 5, 24))
