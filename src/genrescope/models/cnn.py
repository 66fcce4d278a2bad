"""The study's convolutional network on mel-spectrogram pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from genrescope.models.model import model


@model("cnn")
class Cnn(nn.Module):
    """Blocks of 3×3 convolution → BatchNorm → ReLU → 2×2 max-pool, then two linear layers.

    Parameters
    ----------
    shape
        (channels, rows, columns) of one track's picture.
    genres
        Number of logits.
    channels
        Of the blocks' outputs.
    hidden
        Width of the layer between the flattened blocks and the logits.
    dropout
        Probability, before each of the two linear layers.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        genres: int,
        channels: Sequence[int] = (8, 16, 32, 64, 128),
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"takes pictures (channels, rows, columns), not arrays of {shape}")
        shrink = 2 ** len(channels)
        rows, columns = shape[1] // shrink, shape[2] // shrink
        if rows < 1 or columns < 1:
            raise ValueError(f"{len(channels)} poolings leave nothing of {shape[1]} × {shape[2]}")
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in pairwise((shape[0], *channels))))
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear((shape[0], *channels)[-1] * rows * columns, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, genres),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor) -> Tensor:
        """float32 (batch, channels, rows, columns) → logits (batch, genres)."""
        features = self.blocks(pictures.contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.head(features.flatten(1))
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    # ReLU and max-pool commute; pooling first leaves a quarter of the values to rectify.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.MaxPool2d(2),
        nn.ReLU(),
    )
