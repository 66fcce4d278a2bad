"""A score for "none of these genres": how far a track is from all that a model was trained on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrescope.models.normalise import Standardise

_COMPONENTS = 50
_RELATIVE = 0.5
_MIN_SPREAD = 1e-6
_MAX_DEVIATION = 1e6  # standard deviations; the squares of more may overflow


class OtherScore(nn.Module):
    """The distance from the nearest genre's mean, less half of that from the mean of all tracks.

    The distances are squared Euclidean ones in the first principal components of the standardised
    columns, each divided by its mean over the training tracks. Music of another genre is hardly
    farther from the mean of all than music of these genres, but near none of them; what is no
    music is far from everything. The difference finds the former, the distance alone the latter
    (compare J. Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD
    Detection", 2021). Only half is subtracted, so that in each of these directions the score grows
    with the distance.

    Parameters
    ----------
    rows
        float32 (tracks, columns).
    labels
        int64 (tracks,): genres.
    """

    basis: Tensor
    genres: Tensor
    within: Tensor
    total: Tensor

    def __init__(self, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        from sklearn.utils.extmath import randomized_svd  # noqa: PLC0415

        super().__init__()
        tensor = torch.from_numpy(rows)
        self.scale = Standardise(tensor)
        scaled = self.scale(tensor).double().numpy()
        _, _, basis = randomized_svd(scaled, min(_COMPONENTS, *rows.shape), random_state=0)
        parts = scaled @ basis.T
        known, places = np.unique(labels, return_inverse=True)
        genres = np.stack([parts[labels == genre].mean(axis=0) for genre in known])
        spreads = [(some**2).sum(axis=1).mean() for some in (parts - genres[places], parts)]
        # Above 0 where no two tracks of a genre differ: any other track is far then.
        within, total = (max(spread, _MIN_SPREAD) for spread in spreads)
        self.register_buffer("basis", torch.from_numpy(basis).float())
        self.register_buffer("genres", torch.from_numpy(genres).float())
        self.register_buffer("within", torch.tensor(within, dtype=torch.float32))
        self.register_buffer("total", torch.tensor(total, dtype=torch.float32))

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns), finite → (batch,), finite: larger is less like the genres."""
        scaled = self.scale(rows).clamp(-_MAX_DEVIATION, _MAX_DEVIATION)
        parts = scaled @ self.basis.T
        nearest = ((parts[:, None] - self.genres) ** 2).sum(dim=2).amin(dim=1)
        score: Tensor = nearest / self.within - _RELATIVE * (parts**2).sum(dim=1) / self.total
        return score
