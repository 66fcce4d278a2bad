"""Transforms of audio that keep its genre: augmentations in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genrescope.audio import Waveform
from genrescope.errors import GenrescopeError


@dataclass(frozen=True)
class AudioTransform:
    """A change of tempo and pitch, level and tone colour.

    Attributes
    ----------
    speed
        A factor of tempo and pitch together; above 1 faster and higher.
    gain_db
        Of all frequencies, in dB.
    tilt_db
        Gain of the highest frequency minus that of the lowest, in dB; linear on the mel scale.
    """

    speed: float = 1.0
    gain_db: float = 0.0
    tilt_db: float = 0.0

    def recorded_rate(self, sampling_rate: int) -> int:
        """Give the rate in Hz to decode at, for samples that then count as ``sampling_rate``."""
        return round(sampling_rate / self.speed)

    def colour(self, waveform: Waveform, sampling_rate: int) -> Waveform:
        """Apply gain and tilt.

        Parameters
        ----------
        waveform
            float32 (samples,), decoded at ``recorded_rate(sampling_rate)``.
        sampling_rate
            In Hz.

        Returns
        -------
        waveform
            float32 (samples,); may exceed [-1, 1].
        """
        if not self.gain_db and not self.tilt_db:
            return waveform
        spectrum = np.fft.rfft(waveform)
        # O'Shaughnessy's mel scale.
        mel = np.log1p(np.linspace(0, sampling_rate / 2, len(spectrum)) / 700)
        decibels = self.gain_db + self.tilt_db * (mel / mel[-1] - 0.5)
        return np.fft.irfft(spectrum * 10 ** (decibels / 20), len(waveform)).astype(np.float32)


PLAIN = AudioTransform()
"""The identity."""

TRANSFORMS: dict[str, AudioTransform] = {
    "fast": AudioTransform(speed=1.06),
    "slow": AudioTransform(speed=0.94),
    "faster": AudioTransform(speed=1.12, gain_db=-3, tilt_db=-3),
    "slower": AudioTransform(speed=0.89, gain_db=3, tilt_db=3),
    "loud": AudioTransform(gain_db=6),
    "soft": AudioTransform(gain_db=-6),
    "bright": AudioTransform(tilt_db=6),
    "dark": AudioTransform(tilt_db=-6),
}
"""By their names in recipes (`augmentations`)."""


def get_transforms(names: Sequence[str]) -> tuple[AudioTransform, ...]:
    """Look transforms up; GenrescopeError lists the known ones."""
    if unknown := [name for name in names if name not in TRANSFORMS]:
        known = ", ".join(TRANSFORMS)
        raise GenrescopeError(f"There is no augmentation {unknown[0]!r}; there are: {known}.")
    return tuple(TRANSFORMS[name] for name in names)
