"""The mel-spectrogram picture, the input of the study's CNN: cropped, resized, in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform
from genrescope.representations import picture
from genrescope.representations.representation import Array, representation

# The study's crop (left, upper, right, lower): 315 × 217 pixels of the plot area's 336 × 218.
_CROP = (55, 35, 370, 252)


def compute(waveform: Waveform, sampling_rate: int, size: int = 224) -> NDArray[np.float32]:
    """Draw a clip's picture and crop, resize and scale it.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    sampling_rate
        In Hz; resampled to 22,050.
    size
        Pixels on each side.

    Returns
    -------
    image
        float32 (3, size, size), RGB, in [-1, 1].

    Raises
    ------
    ValueError
        If the clip is shorter than 1,025 samples at 22,050 Hz.
    """
    return of_picture(picture.draw(waveform, sampling_rate), size)


def of_picture(pixels: NDArray[np.uint8], size: int = 224) -> NDArray[np.float32]:
    """Crop, resize (bilinear) and scale a picture.

    Parameters
    ----------
    pixels
        uint8 (288, 432, 3), RGB.
    size
        Pixels on each side.

    Returns
    -------
    image
        float32 (3, size, size), in [-1, 1].
    """
    from PIL import Image  # noqa: PLC0415  not needed for audio, and slow to import

    image = Image.fromarray(pixels).crop(_CROP).resize((size, size), Image.Resampling.BILINEAR)
    return _to_unit(np.asarray(image).transpose(2, 0, 1))


def _to_unit(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    scaled = pixels.astype(np.float32)
    scaled /= 127.5
    scaled -= 1
    return scaled


@representation("mel-image")
@dataclass(frozen=True)
class MelImage(picture.PictureRepresentation):
    """RGB picture of the mel spectrogram, from the published PNG or from audio."""

    size: int = 224

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows, columns."""
        return (3, self.size, self.size)

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """See the module's ``compute``."""
        return compute(waveform, sampling_rate, self.size)

    def of_picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See the module's ``of_picture``."""
        return of_picture(pixels, self.size)

    def pack(self, array: NDArray[np.float32]) -> Array:
        """Convert to 8 bits, without loss."""
        return np.asarray(np.rint((array + 1) * 127.5), dtype=np.uint8)

    def unpack(self, packed: Array) -> NDArray[np.float32]:
        """Convert back to [-1, 1]."""
        return _to_unit(packed)
