"""Attention with dropout on a CPU, without a matrix of time × time for each head.

On a CPU, PyTorch's fused attention takes no dropout. With dropout, it holds scores, masks and
weights of all heads for the backward pass: half a gigabyte in each layer for a clip of 30 s. Unless
the processor is Intel's, it draws masks on one core, which takes as long as all else in a step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_NAME = "genrescope-blocks"
QUERIES = 256
"""That attend at once."""

_STEPS = 2**16  # a dropout of 0.1 is one of 6554 / 65536


def attend_in_blocks(encoder: Any) -> None:
    """Let an encoder of transformers attend in blocks of queries where dropout is on, on a CPU.

    Older versions of transformers, and encoders with attention of their own, such as WavLM, stay as
    they are.
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface  # noqa: PLC0415
        from transformers.masking_utils import sdpa_mask  # noqa: PLC0415
    except ImportError:
        return
    if encoder.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        encoder.config._attn_implementation = _NAME


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    # (batch, heads, time, width) → (batch, time, heads, width)
    if not dropout or query.device.type != "cpu" or attention_mask is not None:
        from transformers.integrations.sdpa_attention import (  # noqa: PLC0415
            sdpa_attention_forward,
        )

        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
        return found
    attend = partial(_attend_dropping, dropout=dropout, scale=scaling or query.shape[-1] ** -0.5)
    blocks = [
        checkpoint(attend, block, key, value, use_reentrant=False)
        for block in torch.split(query, QUERIES, dim=2)
    ]
    return torch.cat(blocks, dim=2).transpose(1, 2).contiguous(), None


def _attend_dropping(
    query: Tensor, key: Tensor, value: Tensor, *, dropout: float, scale: float
) -> Tensor:
    # As scaled_dot_product_attention, which neither does in full precision under autocast.
    with torch.autocast("cpu", enabled=False):
        weights = (query * scale @ key.transpose(-2, -1)).softmax(dim=-1)
        dropped = _draw(weights.shape, dropout)
        return weights.masked_fill(dropped, 0) @ value / (1 - round(dropout * _STEPS) / _STEPS)


def _draw(shape: torch.Size, share: float) -> Tensor:
    # A bool tensor, as random as torch's generator, whose state checkpoints restore.
    seed = int(torch.randint(2**63 - 1, ()))
    drawn = np.random.Generator(np.random.SFC64(seed)).bytes(2 * shape.numel())
    numbers = np.frombuffer(drawn, dtype=np.uint16).reshape(shape)
    return torch.from_numpy(numbers < round(share * _STEPS))
