"""The waveform itself: 16 kHz, mono, peak within [-1, 1], equal length for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, fit_length, resample
from genrescope.representations.representation import Array, Representation, representation
from genrescope.tracks.track import Extent

RATE = 16000
_INT16 = 32767


def compute(waveform: Waveform, rate: int, seconds: float = 30.0) -> NDArray[np.float32]:
    """Resample, bring the peak within [-1, 1] and cut or pad to the length.

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    rate
        In Hz; resampled to 16,000.
    seconds
        The length in s: longer clips are cut at the end, shorter ones padded with silence.

    Returns
    -------
    waveform
        float32 (seconds · 16000,), in [-1, 1]; scaled down only if its peak lay beyond.
    """
    resampled = resample(waveform, rate, RATE)
    peak = float(np.abs(resampled).max(initial=0.0))
    if peak > 1:
        resampled = resampled / np.float32(peak)
    return fit_length(resampled, round(seconds * RATE)).astype(np.float32)


@representation("waveform")
@dataclass(frozen=True)
class WaveformRepresentation(Representation):
    """16 kHz mono audio of equal length."""

    seconds: float = 30.0

    rate: ClassVar[int] = RATE
    extents: ClassVar[frozenset[Extent]] = frozenset({"full", "full-16k"})

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples."""
        return (round(self.seconds * RATE),)

    def compute(self, waveform: Waveform, rate: int) -> NDArray[np.float32]:
        """See the module's ``compute``."""
        return compute(waveform, rate, self.seconds)

    def pack(self, array: NDArray[np.float32]) -> Array:
        """To 16 bits, as most recordings have."""
        return np.rint(array * _INT16).astype(np.int16)

    def unpack(self, packed: Array) -> NDArray[np.float32]:
        """To [-1, 1] again."""
        return packed.astype(np.float32) / np.float32(_INT16)
