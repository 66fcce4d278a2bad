"""The first layer: how a representation's values are scaled before the network sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class L2Rows(nn.Module):
    """Divide each track's row by its Euclidean norm, as the study did."""

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → the same shape, rows of norm 1."""
        return nn.functional.normalize(rows, dim=1)


class Standardise(nn.Module):
    """Subtract each column's mean and divide by its standard deviation over the training tracks.

    Parameters
    ----------
    training
        float32 (tracks, *shape); a constant column is only shifted.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, training: Tensor) -> None:
        super().__init__()
        rows = training.double()
        deviation = rows.std(dim=0, correction=0)
        self.register_buffer("mean", rows.mean(dim=0).float())
        # Variation below the resolution of float32 is rounding; do not amplify it.
        constant = deviation <= 1e-6 * rows.abs().amax(dim=0)
        self.register_buffer("scale", torch.where(constant, 1.0, deviation).float())

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, *shape) → the same shape."""
        return (rows - self.mean) / self.scale


class SignedLog(nn.Module):
    """Compress long tails: ``sign(x) · log(1 + |x|)`` of every value."""

    def forward(self, rows: Tensor) -> Tensor:
        """float32, any shape → the same shape."""
        return rows.sign() * rows.abs().log1p()


def make_normaliser(name: str, training: Tensor) -> nn.Module:
    """Make the layer; ``training`` (tracks, *shape) are the rows for its statistics."""
    if name == "standardise":
        return Standardise(training)
    return {"l2-rows": L2Rows, "signed-log": SignedLog, "none": nn.Identity}[name]()
