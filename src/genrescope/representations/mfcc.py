"""Mel-frequency cepstral coefficients over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, fit_length, resample
from genrescope.audio.spectral import cosines, log_power, mel_spectrogram
from genrescope.representations.representation import Representation, representation

SAMPLING_RATE = 22050
_N_FFT, _HOP, _BANDS = 2048, 512, 128


def compute(
    waveform: Waveform,
    sampling_rate: int,
    coefficients: int = 20,
    seconds: float = 30.0,
    *,
    hz: int = SAMPLING_RATE,
    loop: bool = False,
) -> NDArray[np.float32]:
    """Compute the MFCCs of a clip: the orthonormal DCT-II of a mel spectrogram in dB.

    The definition is librosa's (n_fft 2048, hop 512, 128 bands, 80 dB floor), without librosa.
    n_fft and hop are samples, whatever ``hz``: at 16,000, 128 ms and 32 ms.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    sampling_rate
        In Hz; resampled to ``hz``.
    coefficients
        How many, from the lowest.
    seconds
        The length in s: longer clips are cut at the end, shorter ones padded with silence.
    hz
        Sampling rate that they are computed at; the mel bands reach up to half of it.
    loop
        Whether shorter clips are repeated instead.

    Returns
    -------
    mfcc
        float32 (coefficients, frames), one frame every ``512 / hz`` s.
    """
    resampled, samples = resample(waveform, sampling_rate, hz), round(seconds * hz)
    clip = np.resize(resampled, samples) if loop else fit_length(resampled, samples)
    mel = mel_spectrogram(clip, hz, _N_FFT, _HOP, _BANDS)
    cepstrum = log_power(mel) @ cosines(_BANDS, coefficients)
    return np.ascontiguousarray(cepstrum.T, dtype=np.float32)


@representation("mfcc")
@dataclass(frozen=True)
class Mfcc(Representation):
    """MFCCs over time.

    Attributes
    ----------
    coefficients
        How many, from the lowest.
    seconds
        The length in s.
    loop
        Whether shorter clips are repeated, not padded with silence; allows excerpts.
    hz
        Sampling rate that they are computed at; up to 16,000, clips at 16 kHz can be used.
    """

    coefficients: int = 20
    seconds: float = 30.0
    loop: bool = False
    hz: int = SAMPLING_RATE

    sampling_rate: ClassVar[int] = SAMPLING_RATE
    added_later: ClassVar[Mapping[str, Any]] = {"loop": False, "hz": SAMPLING_RATE}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sampling_rate", self.hz)
        # A model could recognise clips without the highest bands by their absence.
        narrow = {"full-16k"} if self.hz <= 16000 else set()
        short = {"excerpt"} if self.loop else set()
        object.__setattr__(self, "audio_variants", self.audio_variants | narrow | short)
        if self.coefficients > _BANDS:
            raise ValueError(f"coefficients must be at most {_BANDS}, not {self.coefficients}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Coefficients, frames."""
        return (self.coefficients, 1 + round(self.seconds * self.hz) // _HOP)

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """See the module's ``compute``."""
        return compute(
            waveform, sampling_rate, self.coefficients, self.seconds, hz=self.hz, loop=self.loop
        )
