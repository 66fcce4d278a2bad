"""Segments of a clip, each with another representation, such as the descriptors of 3 s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, resample
from genrescope.representations.representation import (
    Array,
    Representation,
    make_nested,
    representation,
)


@representation("segments")
@dataclass(frozen=True)
class Segments(Representation):
    """Segments of a clip, spread evenly over it, each represented separately.

    A model sees one segment at a time; a track's prediction is the average over its segments.

    Attributes
    ----------
    of
        Name of the representation of a segment, or a mapping of its name and parameters.
    seconds
        Length of a segment in s. A clip shorter than one is repeated until it fills it.
    count
        Number of segments. They overlap in clips shorter than all of them together.
    """

    of: str | Mapping[str, Any] | Representation = "descriptors"
    seconds: float = 3.0
    count: int = 10

    nests: ClassVar[int] = 1
    version: ClassVar[int] = 1
    segmented: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "of", make_nested(self.of))
        object.__setattr__(self, "sampling_rate", self._inner.sampling_rate)

    @property
    def _inner(self) -> Representation:
        assert isinstance(self.of, Representation)  # noqa: S101  set by __post_init__
        return self.of

    @property
    def shape(self) -> tuple[int, ...]:
        """Segments, then the shape of one."""
        return (self.count, *self._inner.shape)

    def to_json(self) -> dict[str, Any]:
        """As of every representation; that of a segment with its own name and version."""
        own = {"name": self.name, "version": self.version}
        return {**own, "of": self._inner.to_json(), "seconds": self.seconds, "count": self.count}

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """Represent each segment; float32 (segments, *shape of one)."""
        clip = resample(waveform, sampling_rate, self.sampling_rate)
        length = round(self.seconds * self.sampling_rate)
        if len(clip) < length:
            clip = np.resize(clip, length)
        starts = np.linspace(0, len(clip) - length, self.count).round().astype(int)
        # Identical segments are computed once.
        arrays = {
            s: self._inner.compute(clip[s : s + length], self.sampling_rate) for s in set(starts)
        }
        return np.stack([arrays[start] for start in starts])

    def pack(self, array: NDArray[np.float32]) -> Array:
        """As the representation of a segment does."""
        return self._inner.pack(array)

    def unpack(self, packed: Array) -> NDArray[np.float32]:
        """As the representation of a segment does."""
        return self._inner.unpack(packed)
