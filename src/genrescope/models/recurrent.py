"""A recurrent network on coefficients over time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from genrescope.models.model import Count, Dropout, model

Pool = Literal["mean-max", "last"]


@model("lstm")
class Lstm(nn.Module):
    """A bidirectional LSTM over frames, such as of MFCCs, whose outputs are pooled over time.

    BatchNorm of each coefficient → LSTM layers → pooling → dropout → linear. S. Hochreiter and J.
    Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.

    Parameters
    ----------
    shape
        (coefficients, frames) of one track, or of a window of it.
    genres
        Number of logits.
    width
        Of each layer, in each direction.
    layers
        Number of LSTM layers.
    dropout
        Probability, between the layers and before the logits.
    pool
        ``mean-max``: the mean and the maximum of the outputs over time, concatenated; ``last``:
        the last output of each direction.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        genres: int,
        width: Count = 64,
        layers: Count = 2,
        dropout: Dropout = 0.3,
        pool: Pool = "mean-max",
    ) -> None:
        super().__init__()
        if len(shape) != 2:
            raise ValueError(f"takes (coefficients, frames), not arrays of shape {shape}")
        self._pool = pool
        self.norm = nn.BatchNorm1d(shape[0])
        self.lstm = nn.LSTM(
            shape[0],
            width,
            layers,
            dropout=dropout if layers > 1 else 0.0,  # torch warns if it has no effect
            batch_first=True,
            bidirectional=True,
        )
        pooled = 4 * width if pool == "mean-max" else 2 * width
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(pooled, genres))

    def forward(self, coefficients: Tensor) -> Tensor:
        """float32 (batch, coefficients, frames) → logits (batch, genres)."""
        outputs, (states, _) = self.lstm(self.norm(coefficients).transpose(1, 2))
        if self._pool == "last":
            pooled = torch.cat([states[-2], states[-1]], dim=1)
        else:
            pooled = torch.cat([outputs.mean(dim=1), outputs.amax(dim=1)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits
