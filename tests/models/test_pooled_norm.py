"""BatchNorm, ReLU and pooling in one step against the three layers in double precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from genrescope.models import make_model
from genrescope.models.pooled_norm import can_pool_first, pooled_norm


def made(channels: int, rng: torch.Generator, momentum: float | None = 0.1) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=momentum)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels, generator=rng) + 0.2)
        norm.bias.copy_(torch.randn(channels, generator=rng))
    return norm


def layers(maps: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    return nn.functional.max_pool2d(torch.relu(norm(maps)), 2)


def results(work, maps: Tensor, norm: nn.BatchNorm2d, wanted: Tensor) -> list[Tensor]:
    """Outputs, gradients and running statistics, in double precision."""
    maps = maps.detach().requires_grad_()
    norm.zero_grad()
    found = work(maps, norm)
    (found * wanted.to(found.dtype)).sum().backward()
    parts = [found, maps.grad, norm.weight.grad, norm.bias.grad]
    parts += [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    return [part.detach().double() for part in parts]


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(
        st.integers(1, 5), st.integers(1, 20), st.integers(2, 13), st.integers(2, 13)
    ).filter(lambda size: size[0] * size[2] * size[3] > 4),
    seed=st.integers(0, 2**31),
    channels_last=st.booleans(),
    momentum=st.sampled_from([0.1, 1.0, None]),
)
def test_it_does_what_the_three_layers_do(
    size: tuple[int, ...], seed: int, channels_last: bool, momentum: float | None
) -> None:
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randn(size, generator=rng) * 3 + 1
    if channels_last:
        maps = maps.contiguous(memory_format=torch.channels_last)
    norm = made(size[1], rng, momentum)
    precise = nn.BatchNorm2d(size[1], momentum=momentum).double()
    precise.load_state_dict(norm.state_dict())
    wanted = torch.randn(size[0], size[1], size[2] // 2, size[3] // 2, generator=rng)
    for _ in range(2):  # the running statistics of a second batch stand on the first's
        ours = results(pooled_norm, maps, norm, wanted)
        theirs = results(layers, maps.double(), precise, wanted)
        for mine, their in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-4)


def test_statistics_of_many_places_are_exact_to_float32() -> None:
    # Sums over 800,000 places in a row were 1e-5 off, and losses after five steps 1e-4.
    rng = torch.Generator().manual_seed(0)
    maps = (torch.randn(16, 8, 224, 224, generator=rng) + 3).contiguous(
        memory_format=torch.channels_last
    )
    norm = made(8, rng, momentum=1.0)
    pooled_norm(maps, norm)
    exact = maps.double()
    mean, variance = exact.mean((0, 2, 3)), exact.var((0, 2, 3))
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(norm.running_var.double(), variance, rtol=2e-6, atol=0)


def test_channels_multiplied_by_less_than_zero_are_pooled_last() -> None:
    rng = torch.Generator().manual_seed(0)
    network = make_model("cnn", (3, 32, 32), 4, {"channels": [4], "hidden": 8}).train()
    convolution, norm, *_ = network.blocks[0]
    with torch.no_grad():
        norm.weight[1] = -1
    pictures = torch.rand(3, 3, 32, 32, generator=rng)
    maps = convolution(pictures)
    assert not can_pool_first(maps, norm)
    torch.testing.assert_close(network.blocks(pictures), layers(maps, norm))


@pytest.mark.parametrize("train", [True, False])
def test_a_network_learns_only_in_training(train: bool) -> None:
    torch.manual_seed(0)
    network = make_model("cnn", (3, 64, 64), 4, {"channels": [4, 8]}).train(train)
    network(torch.rand(3, 3, 64, 64))
    seen = [m.num_batches_tracked for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [int(count) for count in seen] == [train, train]
