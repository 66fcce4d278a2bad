"""Second-order pooling: how the feature maps of a pretrained tagger vary together over a clip.

The covariance of a network's maps over all frames, as the upper triangle of its matrix logarithm:
distances between logarithms are meaningful where those between covariances are not (V. Arsigny, P.
Fillard, X. Pennec and N. Ayache, "Log-Euclidean Metrics for Fast and Simple Calculus on Diffusion
Tensors", 2006; C. Ionescu, O. Vantzos and C. Sminchisescu, "Matrix Backpropagation for Deep
Networks with Structured Layers", ICCV 2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import AudioWarning, Waveform, level_gain, resample
from genrescope.backbones import log_mel
from genrescope.backbones.backbone import Backbone, open_backbone
from genrescope.backbones.musicnn import MusicnnConfig
from genrescope.datasets.track import AudioVariant
from genrescope.representations import picture
from genrescope.representations.embedding import decode_windows
from genrescope.representations.picture_embedding import to_log_mel
from genrescope.representations.representation import Representation, representation

RIDGE = 0.01
"""Added to the covariance's diagonal, in parts of its mean."""

MIN_EIGENVALUE = 1e-9
"""Of silence, whose maps are constant."""


def pool(maps: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Pool feature maps over all frames of all windows.

    Parameters
    ----------
    maps
        By layer: float32 (windows, maps, frames), of similar scale.

    Returns
    -------
    columns
        float32: of each layer of n maps, n (n + 1) / 2: the rows of the logarithm's upper
        triangle, values off the diagonal times √2, so that distances are those of the matrices.
    """
    return np.concatenate([_log_covariance(layer) for layer in maps.values()])


@dataclass(frozen=True)
class _Pooled(Representation):
    # What both have in common.
    backbone: str = "MSD_musicnn"

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _columns(self.backbone)  # an error if it has no maps

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        return (_columns(self.backbone),)


@representation("second-order")
@dataclass(frozen=True)
class SecondOrder(_Pooled):
    """Log-covariances of a pretrained network's feature maps, over the frames of the audio.

    Attributes
    ----------
    backbone
        One of musicnn's with feature maps: ``MSD_musicnn``.
    windows
        Maximum number of windows of a file: of longer ones as many are sampled, evenly spread.
    """

    windows: int = 40

    sampling_rate: ClassVar[int] = log_mel.SAMPLING_RATE
    audio_variants: ClassVar[frozenset[AudioVariant]] = frozenset({"full", "full-16k", "excerpt"})

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """Pool the maps over the clip; float32 (columns,)."""
        samples = resample(waveform, sampling_rate, self.sampling_rate)
        levelled = samples * np.float32(level_gain(samples, self.sampling_rate))
        return _pooled(self.backbone, log_mel.to_patches(levelled))

    def _decode(self, path: Path, sampling_rate: int) -> tuple[Waveform, tuple[AudioWarning, ...]]:
        return decode_windows(path, sampling_rate, _opened(self.backbone), self.windows)


@representation("picture-second-order")
@dataclass(frozen=True)
class PictureSecondOrder(_Pooled, picture.GridColumns):
    """Log-covariances of a pretrained network's feature maps, for the picture of all 30 s.

    Attributes
    ----------
    backbone
        As of ``SecondOrder``.
    loudest
        See ``to_log_mel``.
    """

    loudest: float = 5.0

    def of_grid(self, grid: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pool the maps over the picture; float32 (columns,)."""
        return _pooled(self.backbone, log_mel.patches(to_log_mel(grid, self.loudest)))


def _opened(backbone: str) -> Backbone:
    return open_backbone(MusicnnConfig(backbone))  # no file of the user's: those have no maps


def _pooled(backbone: str, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    opened = _opened(backbone)
    if opened.feature_maps is None:
        raise ValueError(f"{opened.name} has no feature maps; MSD_musicnn has")
    return pool(opened.feature_maps(patches))


@lru_cache(maxsize=8)
def _columns(backbone: str) -> int:
    return len(_pooled(backbone, np.zeros((1, log_mel.PATCH, log_mel.BANDS), dtype=np.float32)))


def _log_covariance(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    count = maps.shape[1]
    covariance = np.cov(maps.transpose(1, 0, 2).reshape(count, -1))
    covariance[np.diag_indices(count)] += RIDGE * covariance.trace() / count
    values, vectors = np.linalg.eigh(covariance)
    logarithm = (vectors * np.log(np.maximum(values, MIN_EIGENVALUE))) @ vectors.T
    rows, columns = np.triu_indices(count)
    scale = np.where(rows == columns, 1, np.sqrt(2))
    return np.asarray(logarithm[rows, columns] * scale, dtype=np.float32)
