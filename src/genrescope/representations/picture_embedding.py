"""Embeddings of a track's published mel-spectrogram picture by a pretrained music tagger.

The picture holds 128 mel bins of the whole clip every 89 ms. Interpolated to the bands and frames
of the network's input, it is a blurred version of the clip's log-mel spectrogram, so tracks
without audio can be embedded, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio.spectral import mel_centres
from genrescope.backbones import log_mel
from genrescope.backbones.backbone import Backbone, make_backbone_config, open_backbone
from genrescope.representations import picture
from genrescope.representations.representation import representation

_PATCHES = 10
_FRAMES = _PATCHES * log_mel.PATCH  # 29.92 s
_CLIP_S = 30.0  # as all of GTZAN's are


def to_log_mel(grid: NDArray[np.uint8], loudest: float) -> NDArray[np.float32]:
    """Convert a picture to the bands, frames and approximate level that the taggers expect.

    Parameters
    ----------
    grid
        uint8 (128, 336), colour indices: mel bin (low first) × column, of a clip of 30 s.
    loudest
        Level of the loudest point, in powers of ten (a picture does not hold the absolute level).

    Returns
    -------
    log_mel
        float32 (1870, 96), frames of 16 ms, as of ``genrescope.backbones.log_mel``.
    """
    shown = np.asarray((grid / 255 - 1) * picture.POWER_RANGE_DB, dtype=np.float32)
    decibels = _between(_between(shown, *band_places()).T, *column_places())
    return np.log10(10 ** (decibels / 10 + np.float32(loudest)) + 1, dtype=np.float32)


@representation("picture-embedding")
@dataclass(frozen=True)
class PictureEmbedding(picture.GridColumns):
    """Layers of musicnn's networks for the published picture, or for one drawn from audio.

    Attributes
    ----------
    backbones
        Of musicnn's networks; their layers are concatenated.
    layers
        Of each of them, such as ``penultimate``, ``pooled`` and ``tags``; averaged over windows.
    loudest
        See ``to_log_mel``.
    """

    backbones: tuple[str, ...] = ("MSD_musicnn",)
    layers: tuple[str, ...] = ("penultimate", "pooled", "tags")
    loudest: float = 5.0

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("backbones", "layers"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a list")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.backbones or not self.layers:
            raise ValueError("name at least one backbone and one layer")
        for backbone in self._opened():
            if backbone.encode_log_mel is None:
                raise ValueError(f"{backbone.name} does not take log-mel spectrograms")
            if unknown := set(self.layers) - set(backbone.widths):
                raise ValueError(f"{backbone.name} has no layer {', '.join(sorted(unknown))}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        return (sum(b.widths[layer] for b in self._opened() for layer in self.layers),)

    def of_grid(self, grid: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode a grid, uint8 (128, 336); float32 (columns,)."""
        patches = log_mel.patches(to_log_mel(grid, self.loudest))
        found = [b.encode_log_mel(patches).layers for b in self._opened() if b.encode_log_mel]
        return np.concatenate([one[layer].mean(axis=0) for one in found for layer in self.layers])

    def _opened(self) -> list[Backbone]:
        return [open_backbone(make_backbone_config(backbone)) for backbone in self.backbones]


Places = tuple[NDArray[np.int_], NDArray[np.float32]]


@lru_cache(maxsize=1)
def band_places() -> Places:
    """Give the mel bin below each of the network's bands, and the weight of the one above."""
    target = mel_centres(log_mel.SAMPLING_RATE, log_mel.BANDS)
    source = mel_centres(picture.SAMPLING_RATE, picture.BINS)
    return _places(np.interp(target, source, np.arange(picture.BINS)))


@lru_cache(maxsize=1)
def column_places() -> Places:
    """Give the column before each of the network's frames, and the weight of the one after."""
    seconds = (np.arange(_FRAMES) + 0.5) * log_mel.HOP / log_mel.SAMPLING_RATE
    centres = seconds * picture.COLUMNS / _CLIP_S - 0.5
    return _places(np.clip(centres, 0, picture.COLUMNS - 1))


def _places(positions: NDArray[np.float64]) -> Places:
    below = np.floor(positions).astype(int)
    weight: NDArray[np.float32] = (positions - below).astype(np.float32)[:, None]
    return below, weight


def _between(
    rows: NDArray[np.float32], below: NDArray[np.int_], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    # Linear interpolation between neighbouring rows.
    above = np.minimum(below + 1, len(rows) - 1)
    between: NDArray[np.float32] = rows[below] * (1 - weight) + rows[above] * weight
    return between
