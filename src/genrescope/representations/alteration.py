"""Ways to alter audio that leave its genre what it was, so that training hears more of it."""

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
        As of a tape: above 1, faster and higher.
    gain_db
        Of the whole, in dB.
    tilt_db
        How much more the highest frequency is amplified than the lowest, in dB; between them
        evenly on the mel scale.
    """

    speed: float = 1.0
    gain_db: float = 0.0
    tilt_db: float = 0.0

    def recorded_rate(self, sampling_rate: int) -> int:
        """Give the rate in Hz to read a file at, for what is then taken to be ``sampling_rate``."""
        return round(sampling_rate / self.speed)

    def colour(self, waveform: Waveform, sampling_rate: int) -> Waveform:
        """Change level and tone colour.

        Parameters
        ----------
        waveform
            float32 (samples,), read at ``recorded_rate(rate)``.
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
        mel = np.log1p(
            np.linspace(0, sampling_rate / 2, len(spectrum)) / 700
        )  # O'Shaughnessy's scale
        decibels = self.gain_db + self.tilt_db * (mel / mel[-1] - 0.5)
        return np.fft.irfft(spectrum * 10 ** (decibels / 20), len(waveform)).astype(np.float32)


PLAIN = AudioTransform()
"""Changes nothing."""

ALTERATIONS: dict[str, AudioTransform] = {
    "fast": AudioTransform(speed=1.06),
    "slow": AudioTransform(speed=0.94),
    "faster": AudioTransform(speed=1.12, gain_db=-3, tilt_db=-3),
    "slower": AudioTransform(speed=0.89, gain_db=3, tilt_db=3),
    "loud": AudioTransform(gain_db=6),
    "soft": AudioTransform(gain_db=-6),
    "bright": AudioTransform(tilt_db=6),
    "dark": AudioTransform(tilt_db=-6),
}
"""By the names that recipes use."""


def get_alterations(names: Sequence[str]) -> tuple[AudioTransform, ...]:
    """Look alterations up; GenrescopeError names those there are."""
    if unknown := [name for name in names if name not in ALTERATIONS]:
        known = ", ".join(ALTERATIONS)
        raise GenrescopeError(f"There is no alteration {unknown[0]!r}; there are: {known}.")
    return tuple(ALTERATIONS[name] for name in names)
