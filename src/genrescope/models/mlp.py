"""The study's multilayer perceptron on descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from genrescope.models.model import Count, Dropout, model


@model("mlp")
class Mlp(nn.Module):
    """Linear → BatchNorm → ReLU for each width, dropout after the last, then a linear layer.

    Parameters
    ----------
    shape
        (columns,) of one track's array.
    genres
        Number of logits.
    widths
        Of the hidden layers.
    dropout
        Probability, after the last hidden layer.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        genres: int,
        widths: Sequence[Count] = (512, 128),
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise ValueError(f"takes a row of columns per track, not arrays of shape {shape}")
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((shape[0], *widths)):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers, nn.Dropout(dropout), nn.Linear((shape[0], *widths)[-1], genres)
        )

    def forward(self, columns: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        logits: Tensor = self.layers(columns)
        return logits
