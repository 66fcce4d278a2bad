"""The waveform itself: 16 kHz, mono, peak within [-1, 1], equal length for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, fit_length, resample
from genrescope.datasets.track import AudioVariant
from genrescope.representations.representation import Array, Representation, representation

SAMPLING_RATE = 16000
_INT16 = 32767


def compute(
    waveform: Waveform, sampling_rate: int, seconds: float = 30.0, *, loop: bool = False
) -> NDArray[np.float32]:
    """Resample, limit the peak to [-1, 1] and cut, pad or repeat to the length.

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    sampling_rate
        In Hz; resampled to 16,000.
    seconds
        The length in s: longer clips are cut at the end, shorter ones padded with silence.
    loop
        Shorter ones are repeated instead.

    Returns
    -------
    waveform
        float32 (seconds · 16000,), in [-1, 1]; scaled down only if its peak exceeds 1.
    """
    resampled = resample(waveform, sampling_rate, SAMPLING_RATE)
    peak = float(np.abs(resampled).max(initial=0.0))
    if peak > 1:
        resampled = resampled / np.float32(peak)
    samples = round(seconds * SAMPLING_RATE)
    fitted = np.resize(resampled, samples) if loop else fit_length(resampled, samples)
    return fitted.astype(np.float32)


@representation("waveform")
@dataclass(frozen=True)
class WaveformRepresentation(Representation):
    """16 kHz mono audio of equal length.

    Attributes
    ----------
    seconds
        The length in s.
    loop
        Whether shorter clips are repeated, not padded with silence; allows excerpts.
    """

    seconds: float = 30.0
    loop: bool = False

    sampling_rate: ClassVar[int] = SAMPLING_RATE
    audio_variants: ClassVar[frozenset[AudioVariant]] = frozenset({"full", "full-16k"})
    added_later: ClassVar[Mapping[str, Any]] = {"loop": False}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loop:
            object.__setattr__(self, "audio_variants", self.audio_variants | {"excerpt"})

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples."""
        return (round(self.seconds * SAMPLING_RATE),)

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """See the module's ``compute``."""
        return compute(waveform, sampling_rate, self.seconds, loop=self.loop)

    def pack(self, array: NDArray[np.float32]) -> Array:
        """Convert to 16 bits."""
        return np.rint(array * _INT16).astype(np.int16)

    def unpack(self, packed: Array) -> NDArray[np.float32]:
        """Convert back to [-1, 1]."""
        return packed.astype(np.float32) / np.float32(_INT16)
