"""Encoding a batch part by part: the gradients are those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from genrescope.models import encoder as encoder_module
from genrescope.models import make_model
from genrescope.models.encoder import Encoder
from tiny_backbones import SPEECH

SAMPLES, GENRES = 4000, 3
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
STEADY = {
    f"{part}_dropout": 0.0 for part in ("hidden", "attention", "activation", "final", "feat_proj")
} | {"layerdrop": 0.0}
RANDOM = {"layerdrop": 0.4, "mask_time_prob": 0.4, "mask_feature_prob": 0.3}

Make = Callable[..., Encoder]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make an encoder; ``config`` names one of the checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints")
    masks = {"mask_time_length": 2, "mask_feature_length": 2}
    for name, config in (("steady", STEADY), ("random", RANDOM)):
        torch.manual_seed(0)
        told = transformers.Wav2Vec2Config(**{**SPEECH, **masks, **config})
        transformers.Wav2Vec2Model(told).save_pretrained(folder / name)

    def made(config: str, **options: Any) -> Encoder:
        torch.manual_seed(0)
        given_ = {"weights": str(folder / config), "hidden": 8, **options}
        network = make_model("encoder", (SAMPLES,), GENRES, given_)
        assert isinstance(network, Encoder)
        return network

    return made


def step(network: Encoder, batch: int) -> tuple[Tensor, dict[str, Tensor], float, float]:
    """Logits, gradients and the next random numbers, after a step with fixed seeds."""
    dtype = network.head[0].weight.dtype
    generator = torch.Generator().manual_seed(1)
    waveforms = torch.randn(batch, SAMPLES, generator=generator, dtype=dtype)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    network.zero_grad()
    logits = network(waveforms)
    loss = nn.functional.cross_entropy(logits, torch.arange(batch) % GENRES)
    if loss.requires_grad:
        loss.backward()
    grads = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return logits.detach(), grads, float(torch.rand(1)), float(np.random.rand())  # noqa: NPY002


def whole_graph(encode: Callable[[Tensor], Tensor], part: Tensor, **_: Any) -> Tensor:
    """Instead of ``checkpoint``: keep the part's graph, so that there is one backward pass."""
    return encode(part)


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one[0], other[0], **CLOSE)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], **CLOSE, msg=lambda m, n=name: n + m)


OPTIONS = st.fixed_dictionaries(
    {
        "pool": st.sampled_from(["mean", "lstm"]),
        "layers": st.sampled_from(["last", "weighted"]),
        "freeze": st.sampled_from(["none", "features", "all"]),
        "gradient_checkpointing": st.booleans(),
    }
)


@given(OPTIONS, st.integers(2, 6), st.integers(1, 7), st.booleans())
@settings(max_examples=25, deadline=None)
def test_without_random_numbers_it_is_the_plain_step(
    make: Make, options: dict[str, Any], batch: int, size: int, training: bool
) -> None:
    # In double precision: a BatchNorm over clips that are nearly alike multiplies rounding errors.
    network = make("steady", masking=False, lstm_width=4, **options).double().train(training)
    plain = step(network, batch)
    running = {name: b.clone() for name, b in network.named_buffers()}
    network = make("steady", masking=False, lstm_width=4, **options).double().train(training)
    network.micro_batch = size
    assert_same(step(network, batch), plain)
    for name, buffer in network.named_buffers():  # BatchNorm has seen the whole batch, once
        torch.testing.assert_close(buffer, running[name], **CLOSE)


@given(OPTIONS, st.integers(2, 6), st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_dropout_layerdrop_and_masks_are_the_same_in_both_passes(
    make: Make, options: dict[str, Any], batch: int, size: int
) -> None:
    network = make("random", lstm_width=4, **options).train()
    network.micro_batch = size
    ours = step(network, batch)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoder_module, "checkpoint", whole_graph)
        reference = step(network, batch)
    assert_same(ours, reference)
    assert ours[2:] == reference[2:]  # the second pass leaves no trace in the generators


def test_without_replay_of_numpys_generator_the_masks_would_differ(make: Make) -> None:
    network = make("random").train()
    network.micro_batch = 1
    ours = step(network, 4)
    real = encoder_module.checkpoint
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            encoder_module,
            "checkpoint",
            lambda encode, part, **_: real(
                encode, part, use_reentrant=False, determinism_check="none"
            ),
        )
        careless = step(network, 4)
    with pytest.raises(AssertionError):
        assert_same(ours, careless)


@pytest.mark.parametrize("size", [None, 2])
def test_each_part_is_encoded_at_most_twice_and_the_last_once(
    make: Make, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make("steady", masking=False).train()
    network.micro_batch = size
    counts: list[int] = []
    network.encoder.register_forward_pre_hook(lambda _, given_: counts.append(len(given_[0])))
    step(network, 5)
    assert counts == ([5] if size is None else [2, 2, 1, 2, 2])
    counts.clear()
    with torch.no_grad():
        network(torch.zeros(5, SAMPLES))
    assert counts == ([5] if size is None else [2, 2, 1])


def test_an_encoder_with_batch_normalisation_takes_the_whole_batch(make: Make) -> None:
    network = make("steady", masking=False).train()
    network.encoder.extra = nn.BatchNorm1d(2)
    network.micro_batch = 1
    counts: list[int] = []
    network.encoder.register_forward_pre_hook(lambda _, given_: counts.append(len(given_[0])))
    step(network, 3)
    assert counts == [3]


def test_frozen_features_get_no_gradients_in_parts(make: Make) -> None:
    network = make("steady", freeze="features", masking=False).train()
    network.micro_batch = 2
    _, grads, *_ = step(network, 4)
    assert grads
    assert not [name for name in grads if "feature_extractor" in name]


def test_half_precision_in_parts_is_that_of_one_backward_pass(make: Make) -> None:
    network = make("random", gradient_checkpointing=True).train()
    network.micro_batch = 1
    with torch.autocast("cpu", torch.bfloat16), pytest.MonkeyPatch.context() as patched:
        ours = step(network, 3)
        patched.setattr(encoder_module, "checkpoint", whole_graph)
        assert_same(ours, step(network, 3))
