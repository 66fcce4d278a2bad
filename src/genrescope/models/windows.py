"""Layers that split a track into parts for a network, and average over parts or networks.

They take a network's logits and give the logarithms of averaged probabilities, which are logits
again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Windows(nn.Module):
    """A random window of each track in training; otherwise the average over evenly spread windows.

    Parameters
    ----------
    network
        From arrays (batch, …, length) to logits (batch, genres).
    length
        Columns of the last axis.
    count
        Windows that are averaged; fewer if some would start at the same column.
    """

    def __init__(self, network: nn.Module, length: int, count: int) -> None:
        super().__init__()
        self.network, self._length, self._count = network, length, count

    def forward(self, arrays: Tensor) -> Tensor:
        """float32 (batch, …, columns), at least ``length`` → logits (batch, genres)."""
        if self.training:
            spare = int(arrays.shape[-1]) - self._length
            starts = torch.randint(spare + 1, (len(arrays),)).tolist()
            parts = [
                array[..., start : start + self._length]
                for array, start in zip(arrays, starts, strict=True)
            ]
            logits: Tensor = self.network(torch.stack(parts))
            return logits
        parts = evenly_spread(arrays, self._length, self._count)
        return mean_of_logits([self.network(part) for part in parts])


class SegmentNetwork(nn.Module):
    """A random segment of each track in training; otherwise the average over all segments.

    Parameters
    ----------
    network
        From the arrays of segments (batch, *shape) to logits (batch, genres).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, arrays: Tensor) -> Tensor:
        """float32 (batch, segments, *shape) → logits (batch, genres)."""
        if self.training:
            chosen = torch.randint(arrays.shape[1], (len(arrays),))
            logits: Tensor = self.network(arrays[torch.arange(len(arrays)), chosen])
            return logits
        each = self.network(arrays.reshape(-1, *arrays.shape[2:]))
        return _log_mean(each.reshape(arrays.shape[0], arrays.shape[1], -1).log_softmax(2), 1)


class Average(nn.Module):
    """The average of several networks on the same arrays.

    Parameters
    ----------
    networks
        From the same arrays to logits (batch, genres).
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, arrays: Tensor) -> Tensor:
        """float32 (batch, …) → logits (batch, genres)."""
        return mean_of_logits([network(arrays) for network in self.networks])


class Masks(nn.Module):
    """Mask ranges of time and of frequency in training with the array's mean.

    D. S. Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
    Recognition", Interspeech 2019.

    Parameters
    ----------
    time, frequency
        Number of masks on the last axis and on the one before, and their maximum width.
    """

    def __init__(self, time: tuple[int, int], frequency: tuple[int, int]) -> None:
        super().__init__()
        self._kinds = ((-1, *time), (-2, *frequency))

    def forward(self, arrays: Tensor) -> Tensor:
        """float32 (batch, …, bands, columns) → the same shape."""
        if not self.training:
            return arrays
        inner = tuple(range(1, arrays.ndim))
        for axis, count, width in self._kinds:
            length = arrays.shape[axis]
            for _ in range(count if width else 0):
                widths = torch.rand(len(arrays), 1) * min(width, length)
                starts = torch.rand(len(arrays), 1) * (length - widths)
                place = torch.arange(length)
                hidden = (place >= starts.floor()) & (place < (starts + widths).floor())
                shape = [len(arrays)] + [1] * (arrays.ndim - 1)
                shape[axis] = length
                hidden = hidden.reshape(shape).to(arrays.device)
                arrays = torch.where(hidden, arrays.mean(dim=inner, keepdim=True), arrays)
        return arrays


def evenly_spread(arrays: Tensor, length: int, count: int) -> list[Tensor]:
    """Cut windows (batch, …, length), the first at the start and the last at the end."""
    spare = int(arrays.shape[-1]) - length
    places = sorted({round(spare * i / max(count - 1, 1)) for i in range(count)})
    return [arrays[..., start : start + length] for start in places]


def mean_of_logits(logits: Sequence[Tensor]) -> Tensor:
    """Logarithms of the mean probabilities; each of (batch, genres), and so is the result."""
    if len(logits) == 1:
        return logits[0]
    return _log_mean(torch.stack([part.log_softmax(1) for part in logits]), 0)


def _log_mean(logarithms: Tensor, axis: int) -> Tensor:
    # A normalised sum, so that the number of parts can stay dynamic in the exported model.
    return torch.logsumexp(logarithms, dim=axis).log_softmax(dim=-1)
