"""Attention in blocks of queries: the same function and gradients, in less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genrescope.models import attention, make_model
from tiny_backbones import SPEECH

TIME, HEADS = 600, 2
SAMPLES = TIME * 320 + 880


class Largest(TorchDispatchMode):
    """Remembers the size of the largest result of an operation."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        self.numel = max([self.numel, *sizes])
        return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**{**SPEECH, "mask_time_prob": 0.0, "layerdrop": 0.0})
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def network(checkpoint: Path) -> Any:
    settings = {"weights": str(checkpoint), "hidden": 8, "head": "projector"}
    torch.manual_seed(0)
    return make_model("encoder", (SAMPLES,), 3, settings)


def test_no_matrix_of_time_by_time_is_made_in_training(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveforms = torch.randn(1, SAMPLES)
    with Largest() as ours:
        network(checkpoint).train()(waveforms).sum().backward()
    monkeypatch.setattr(attention, "QUERIES", 10 * TIME)
    with Largest() as plain:
        network(checkpoint).train()(waveforms).sum().backward()
    assert plain.numel >= HEADS * TIME**2
    assert ours.numel < plain.numel / 2


def test_without_dropout_it_is_the_fused_attention(checkpoint: Path) -> None:
    waveforms = torch.randn(2, SAMPLES)
    ours = network(checkpoint).eval()
    assert ours.encoder.config._attn_implementation == attention._NAME
    theirs = network(checkpoint).eval()
    theirs.encoder.config._attn_implementation = "sdpa"
    with torch.no_grad():
        assert torch.equal(ours(waveforms), theirs(waveforms))


@pytest.mark.parametrize("queries", [1000, 100])
def test_gradients_are_those_of_the_same_blocks_kept_whole(
    queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERIES", queries)
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(2, 3, 250, 4, generator=generator) for _ in range(3)]
    found = []
    for ours in (True, False):
        q, k, v = (part.clone().requires_grad_() for part in given)
        torch.manual_seed(1)
        if ours:
            out = attention._attend(None, q, k, v, None, dropout=0.3, scaling=0.5)[0]
        else:
            blocks = [
                attention._attend_dropping(block, k, v, dropout=0.3, scale=0.5)
                for block in torch.split(q, queries, dim=2)
            ]
            out = torch.cat(blocks, dim=2).transpose(1, 2)
        out.square().sum().backward()
        found.append((out, q.grad, k.grad, v.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_keeps_the_mean_of_torchs_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 40, 8, generator=generator) for _ in range(3))
    torch.manual_seed(0)
    drawn = [attention._attend_dropping(q, k, v, dropout=0.1, scale=0.3) for _ in range(2000)]
    expected = scaled_dot_product_attention(q, k, v, scale=0.3)
    torch.testing.assert_close(torch.stack(drawn).mean(dim=0), expected, atol=0.03, rtol=0)
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_masks_have_the_share_of_dropout_and_follow_torchs_seed(share: float) -> None:
    torch.manual_seed(3)
    first = attention._draw(torch.Size((100, 1000)), share)
    second = attention._draw(torch.Size((100, 1000)), share)
    torch.manual_seed(3)
    assert torch.equal(attention._draw(torch.Size((100, 1000)), share), first)
    assert not torch.equal(first, second)
    assert float(first.float().mean()) == pytest.approx(share, abs=0.005)


def test_the_settings_of_a_saved_encoder_do_not_name_it(checkpoint: Path, tmp_path: Path) -> None:
    assert network(checkpoint).save_transformers(tmp_path, ("a", "b", "c"))
    assert attention._NAME not in (tmp_path / "config.json").read_text("utf-8")
    transformers.AutoModelForAudioClassification.from_pretrained(tmp_path)
