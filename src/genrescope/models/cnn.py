"""Convolutional networks on mel-spectrogram pictures: the study's, and a residual one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from genrescope.models.model import Count, Dropout, model
from genrescope.models.pooled_norm import can_pool_first, pooled_norm


@model("cnn")
class Cnn(nn.Module):
    """Blocks of 3×3 convolution → BatchNorm → ReLU → 2×2 max-pool, then two linear layers.

    Parameters
    ----------
    shape
        (channels, rows, columns) of one track's picture, or (rows, columns) of a spectrogram.
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
        channels: Sequence[Count] = (8, 16, 32, 64, 128),
        hidden: Count = 128,
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__()
        if len(shape) not in {2, 3}:
            raise ValueError(f"takes pictures (channels, rows, columns), not arrays of {shape}")
        shape = (1, *shape)[-3:]
        shrink = 2 ** len(channels)
        rows, columns = shape[1] // shrink, shape[2] // shrink
        if rows < 1 or columns < 1:
            raise ValueError(f"{len(channels)} poolings are too many for {shape[1]} × {shape[2]}")
        self.blocks = nn.Sequential(
            *(_ConvPoolBlock(a, b) for a, b in pairwise((shape[0], *channels)))
        )
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear((shape[0], *channels)[-1] * rows * columns, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, genres),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor) -> Tensor:
        """float32 (batch, channels, rows, columns) or without channels → logits (batch, genres)."""
        if pictures.ndim == 3:
            pictures = pictures[:, None]
        features = self.blocks(pictures.contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.head(features.flatten(1))
        return logits


class _ConvPoolBlock(nn.Sequential):
    # ReLU and max-pool commute; pooling first leaves a quarter of the values to rectify.
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        convolution, norm, pool, rectify = self
        maps = convolution(maps)
        if isinstance(norm, nn.BatchNorm2d) and can_pool_first(maps, norm):
            return pooled_norm(maps, norm)
        found: Tensor = rectify(pool(norm(maps)))
        return found


@model("resnet")
class ResNet(nn.Module):
    """Residual blocks, pooled over frequency and then over time, for any length.

    K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the BatchNorm of each
    band before the first layer and the pooling are those of Q. Kong et al., "PANNs", 2020.

    Parameters
    ----------
    shape
        (bands, columns) of one track's spectrogram.
    genres
        Number of logits.
    width
        Channels of the first block; each of the following three doubles them.
    dropout
        Probability, before the last layer.
    """

    def __init__(
        self, shape: tuple[int, ...], genres: int, width: Count = 24, dropout: Dropout = 0.3
    ) -> None:
        super().__init__()
        if len(shape) != 2:
            raise ValueError(f"takes spectrograms (bands, columns), not arrays of {shape}")
        if min(shape) < 16:
            raise ValueError(f"too small for four halvings: {shape[0]} × {shape[1]}")
        self.scale = nn.BatchNorm1d(shape[0])
        channels = [width * 2**i for i in range(4)]
        self.stem = nn.Sequential(*_convolution(1, width, kernel=5, stride=2), nn.ReLU())
        blocks: list[nn.Module] = [_Residual(width, width)]
        for inputs, outputs in pairwise(channels):
            blocks += [nn.MaxPool2d(2), _Residual(inputs, outputs)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * channels[-1], genres))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, spectrograms: Tensor) -> Tensor:
        """float32 (batch, bands, columns) → logits (batch, genres)."""
        scaled = self.scale(spectrograms)[:, None]
        maps = self.blocks(self.stem(scaled.contiguous(memory_format=torch.channels_last)))
        over_time = maps.mean(dim=2)
        logits: Tensor = self.head(torch.cat([over_time.mean(dim=2), over_time.amax(dim=2)], dim=1))
        return logits


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, outputs), nn.ReLU(), *_convolution(outputs, outputs)
        )
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs:
            self.skip = nn.Sequential(*_convolution(inputs, outputs, kernel=1))

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.relu(self.body(maps) + self.skip(maps))


def _convolution(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)
