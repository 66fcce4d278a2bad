"""Mel-frequency cepstral coefficients over time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, fit_length, resample
from genrescope.representations.representation import Representation, representation
from genrescope.representations.spectral import mel_spectrogram, to_db

RATE = 22050
_N_FFT, _HOP, _BANDS = 2048, 512, 128


def compute(
    waveform: Waveform, rate: int, coefficients: int = 20, seconds: float = 30.0
) -> NDArray[np.float32]:
    """Make the MFCCs of a clip: the orthonormal DCT-II of a mel spectrogram in dB.

    The definition is librosa's (n_fft 2048, hop 512, 128 bands, 80 dB floor), without librosa.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    rate
        In Hz; resampled to 22,050.
    coefficients
        How many, from the lowest.
    seconds
        The length in s: longer clips are cut at the end, shorter ones padded with silence.

    Returns
    -------
    mfcc
        float32 (coefficients, frames), one frame every 23.2 ms.
    """
    clip = fit_length(resample(waveform, rate, RATE), round(seconds * RATE))
    mel = mel_spectrogram(clip, RATE, _N_FFT, _HOP, _BANDS)
    # Unlike to_db, the MFCCs keep the clip's level: their first coefficient is its loudness.
    loudest = 10 * np.log10(max(float(mel.max()), 1e-10))
    level = to_db(mel, factor=10) + np.float32(loudest)
    cepstrum = level @ _cosines(coefficients)
    return np.ascontiguousarray(cepstrum.T, dtype=np.float32)


@lru_cache(maxsize=8)
def _cosines(coefficients: int) -> NDArray[np.float64]:
    # The first columns of the orthonormal DCT-II, (bands, coefficients).
    band, coefficient = np.arange(_BANDS)[:, None], np.arange(coefficients)
    cosines = np.cos(np.pi * (band + 0.5) * coefficient / _BANDS) * np.sqrt(2 / _BANDS)
    cosines[:, 0] /= np.sqrt(2)
    return np.asarray(cosines)


@representation("mfcc")
@dataclass(frozen=True)
class Mfcc(Representation):
    """MFCCs over time."""

    coefficients: int = 20
    seconds: float = 30.0

    rate: ClassVar[int] = RATE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coefficients > _BANDS:
            raise ValueError(f"coefficients must be at most {_BANDS}, not {self.coefficients}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Coefficients, frames."""
        return (self.coefficients, 1 + round(self.seconds * RATE) // _HOP)

    def compute(self, waveform: Waveform, rate: int) -> NDArray[np.float32]:
        """See the module's ``compute``."""
        return compute(waveform, rate, self.coefficients, self.seconds)
