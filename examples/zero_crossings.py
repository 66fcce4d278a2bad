"""A custom representation: zero-crossing rate for each second.

Run it instead of ``genrescope``, with any of its commands; see docs/extend.md.
"""

from dataclasses import dataclass

import numpy as np

from genrescope.audio import fit_length, resample
from genrescope.cli.app import main
from genrescope.representations.representation import Representation, representation


@representation("zero-crossings")
@dataclass(frozen=True)
class ZeroCrossings(Representation):
    """Fraction of samples at which the sign changes, for each second."""

    seconds: int = 3

    @property
    def shape(self) -> tuple[int, ...]:
        """One number for each second."""
        return (self.seconds,)

    def compute(self, waveform, sampling_rate):
        """Compute float32 (seconds,) from float32 (samples,) and its sampling rate in Hz."""
        clip = fit_length(
            resample(waveform, sampling_rate, self.sampling_rate), self.seconds * self.sampling_rate
        )
        changes = np.diff(np.signbit(clip), prepend=False).reshape(self.seconds, -1)
        return changes.mean(axis=1, dtype=np.float32)


if __name__ == "__main__":
    main()
