"""The representations of a classifier's members, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import AudioWarning, Waveform, excerpts, resample
from genrescope.datasets.track import AudioVariant
from genrescope.quality import Quality
from genrescope.representations.picture import STRETCH_S
from genrescope.representations.representation import (
    Analysis,
    Representation,
    make_nested,
    representation,
)


@representation("members")
@dataclass(frozen=True)
class Members(Representation):
    """Several representations of the same audio, for a classifier with a model for each.

    The array is flat. After the values of each member's representation there is one more, 1 if the
    member takes part. It does not in clips shorter than its ``shortest_s``: then it and the values
    are 0.

    Attributes
    ----------
    of
        Representations by name, or mappings of name and parameters. The first one classifies the
        windows of a timeline alone.
    stretches
        Maximum number of stretches of 30 s of a file: of longer ones as many are sampled, evenly
        spread.
    first_only
        Whether only the first member takes part, from the windows that it takes of a file by
        itself.
    """

    of: Sequence[str | Mapping[str, Any] | Representation] = ("embedding", "picture-concat")
    stretches: int = 3
    first_only: bool = False

    nests: ClassVar[int] = 2
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.of, str | Mapping) or not self.of:
            raise TypeError("of must be a list of representations")
        parts = tuple(make_nested(part, deeper=True) for part in self.of)
        object.__setattr__(self, "of", parts)
        used = parts[:1] if self.first_only else parts
        object.__setattr__(self, "sampling_rate", max(part.sampling_rate for part in used))
        variants = set.intersection(*(set(part.audio_variants) for part in parts))
        short: set[AudioVariant] = {"excerpt"}
        object.__setattr__(
            self, "audio_variants", frozenset(variants | (short & parts[0].audio_variants))
        )

    @property
    def parts(self) -> list[Representation]:
        """The members' representations."""
        return [part for part in self.of if isinstance(part, Representation)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Values and marks of all members."""
        return (sum(prod(part.shape) + 1 for part in self.parts),)

    @property
    def embedding(self) -> slice | None:
        """That of the first member with one."""
        start = 0
        for part in self.parts:
            if (own := part.embedding) is not None:
                return slice(start + own.start, start + own.stop)
            start += prod(part.shape) + 1
        return None

    @property
    def embedder(self) -> Representation:
        """The first member's with an embedding."""
        return next((part for part in self.parts if part.embedding is not None), self)

    def at(self, quality: Quality) -> Self:
        """``fast`` is the first member alone; ``best`` takes 10 stretches of a file."""
        return replace(
            self,
            of=tuple(part.at(quality) for part in self.parts),
            stretches=max(self.stretches, 10) if quality is Quality.BEST else self.stretches,
            first_only=self.first_only or quality is Quality.FAST,
        )

    def to_json(self) -> dict[str, Any]:
        """As of every representation; the members' with their own names and versions."""
        own = {"name": self.name, "version": self.version, "stretches": self.stretches}
        fast = {"first_only": True} if self.first_only else {}
        return {**own, **fast, "of": [part.to_json() for part in self.parts]}

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """Represent a clip by each member; float32 (values,)."""
        return np.asarray(self.analyse(waveform, sampling_rate).arrays[0])

    def analyse(self, waveform: Waveform, sampling_rate: int) -> Analysis:
        """Represent a clip by each member, with the tags of the first that has some.

        Raises
        ------
        ValueError
            If it is too short for all of them.
        """
        seconds = len(waveform) / sampling_rate
        # As of a file, which is decoded once for all members.
        waveform = resample(waveform, sampling_rate, self.sampling_rate)
        sampling_rate = self.sampling_rate
        if self.first_only:
            return self._of_first(self.parts[0].analyse(waveform, sampling_rate))
        if seconds < (least := min(part.shortest_s for part in self.parts)):
            raise ValueError(
                f"it is too short: {seconds:.1f} s, and at least {least:g} s are needed"
            )
        analyses = [
            part.analyse(waveform, sampling_rate) if seconds >= part.shortest_s else None
            for part in self.parts
        ]
        rows = [None if one is None else one.arrays.mean(axis=0) for one in analyses]
        left_out = [part for part, row in zip(self.parts, rows, strict=True) if row is None]
        warnings = [
            AudioWarning(
                f"it is shorter than {max(part.shortest_s for part in left_out):g} s, so "
                f"{len(left_out)} of the classifier's {len(rows)} members took no part"
            )
            for _ in left_out[:1]
        ]
        tags = next((one.tags for one in analyses if one is not None and one.tags), {})
        return Analysis(self._row(rows)[np.newaxis], inf, tags, tuple(warnings))

    def _decode(self, path: Path, sampling_rate: int) -> tuple[Waveform, tuple[AudioWarning, ...]]:
        if self.first_only:
            return self.parts[0]._decode(path, sampling_rate)
        found = excerpts(path, sampling_rate, span_s=STRETCH_S, max_spans=self.stretches)
        return np.concatenate(found.waveforms), found.warnings

    def over_time(self, waveform: Waveform, sampling_rate: int) -> Analysis:
        """The windows of the first member."""
        return self._of_first(self.parts[0].over_time(waveform, sampling_rate))

    def _analyse_windows(self, path: Path) -> Iterator[Analysis]:
        return map(self._of_first, self.parts[0].analyse_windows(path))

    def _of_first(self, analysis: Analysis) -> Analysis:
        # The same with arrays in which no other member takes part.
        nothing = [None for _ in self.parts[1:]]
        rows = [self._row([array, *nothing]) for array in analysis.arrays]
        return replace(analysis, arrays=np.array(rows, np.float32).reshape(-1, *self.shape))

    def _row(self, arrays: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
        row = np.zeros(self.shape, dtype=np.float32)
        start = 0
        for part, array in zip(self.parts, arrays, strict=True):
            size = prod(part.shape)
            if array is not None:
                row[start : start + size] = array.ravel()
                row[start + size] = 1
            start += size + 1
        return row
