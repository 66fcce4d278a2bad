"""The 128 × 336 mel spectrogram of a published picture, in dB, or the same from audio.

Inverting the colour map gives a mel spectrogram of the whole clip with 8 bits over 40 dB, one
column every 89 ms of a 30 s clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrescope.representations import picture
from genrescope.representations.representation import Array, representation

_STEP_DB = picture.POWER_RANGE_DB / 255


def _to_db(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return levels.astype(np.float32) * np.float32(_STEP_DB) - np.float32(picture.POWER_RANGE_DB)


@representation("mel-from-image")
@dataclass(frozen=True)
class MelFromImage(picture.GridRepresentation):
    """Mel spectrogram in dB, recovered from the published PNG or computed from audio."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Mel bins, columns."""
        return (picture.BINS, picture.COLUMNS)

    def of_grid(self, grid: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Convert a grid to dB.

        Parameters
        ----------
        grid
            uint8 (128, 336), colour indices: mel bin (low first) × column.

        Returns
        -------
        mel
            float32 (128, 336), in dB of power below the clip's maximum: -40 to 0. A range below
            40 dB is stretched to it, as in the pictures.
        """
        return _to_db(grid)

    def pack(self, array: NDArray[np.float32]) -> Array:
        """Convert to 8 bits, without loss."""
        levels = np.rint((array + picture.POWER_RANGE_DB) / _STEP_DB)
        return np.asarray(levels, dtype=np.uint8)

    def unpack(self, packed: Array) -> NDArray[np.float32]:
        """Convert back to dB."""
        return _to_db(packed)
