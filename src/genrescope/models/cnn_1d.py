"""A convolutional network on coefficients over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from genrescope.models.model import Count, Dropout, model


@model("cnn-1d")
class Cnn1d(nn.Module):
    """Convolutions along time, with the coefficients as channels; pooled over time.

    BatchNorm of each coefficient, then blocks of convolution → BatchNorm → ReLU → max-pool by 2,
    then the mean and the maximum over time, concatenated → dropout → linear. Filters do not slide
    along coefficients, as neighbouring MFCCs have no common local patterns (S. Dieleman and B.
    Schrauwen, "End-to-end Learning for Music Audio", ICASSP 2014).

    Parameters
    ----------
    shape
        (coefficients, frames) of one track, or of a window of it.
    genres
        Number of logits.
    channels
        Of the blocks' outputs.
    kernel
        Frames that a filter spans in each block; odd.
    dropout
        Probability, before the logits.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        genres: int,
        channels: Sequence[Count] = (64, 128, 256),
        kernel: Count = 5,
        dropout: Dropout = 0.3,
    ) -> None:
        super().__init__()
        if len(shape) != 2:
            raise ValueError(f"takes (coefficients, frames), not arrays of shape {shape}")
        if shape[1] < 2 ** len(channels):
            raise ValueError(f"{len(channels)} poolings are too many for {shape[1]} frames")
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}")
        widths = (shape[0], *channels)
        self.norm = nn.BatchNorm1d(shape[0])
        self.blocks = nn.Sequential(*(_block(a, b, kernel) for a, b in pairwise(widths)))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], genres))

    def forward(self, coefficients: Tensor) -> Tensor:
        """float32 (batch, coefficients, frames) → logits (batch, genres)."""
        features = self.blocks(self.norm(coefficients))
        pooled = torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


def _block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    # ReLU and max-pool commute; pooling first leaves half of the values to rectify.
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
        nn.BatchNorm1d(outputs),
        nn.MaxPool1d(2),
        nn.ReLU(),
    )
