"""Embeddings: what pretrained music taggers make of a clip, averaged over its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, excerpts, load, resample
from genrescope.errors import GenrescopeError
from genrescope.representations import log_mel
from genrescope.representations.backbone import open_backbone, tag_ranking
from genrescope.representations.representation import Analysis, Representation, representation
from genrescope.tracks.track import Extent


@representation("embedding")
@dataclass(frozen=True)
class Embedding(Representation):
    """Layers of pretrained taggers, averaged over windows of 3 s, side by side.

    Attributes
    ----------
    backbones
        Names; see ``genrescope.representations.backbone.BACKBONES``.
    layers
        Of each of them: ``penultimate``, ``pooled``, ``tags`` (log-odds).
    windows
        A file of more windows than these is sampled: so many, spread evenly, stand for it.
    """

    backbones: Sequence[str] = ("MSD_musicnn",)
    layers: Sequence[str] = ("penultimate",)
    windows: int = 40

    version: ClassVar[int] = 2
    rate: ClassVar[int] = log_mel.RATE
    extents: ClassVar[frozenset[Extent]] = frozenset({"full", "full-16k", "excerpt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "backbones", tuple(self.backbones))
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.backbones or not self.layers:
            raise ValueError("name at least one backbone and one layer")
        for backbone in map(open_backbone, self.backbones):
            if unknown := set(self.layers) - set(backbone.widths):
                known = ", ".join(backbone.widths)
                raise GenrescopeError(
                    f"{backbone.name} has no layer {', '.join(unknown)}; it has: {known}."
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        opened = map(open_backbone, self.backbones)
        return (sum(backbone.widths[layer] for backbone in opened for layer in self.layers),)

    def compute(self, waveform: Waveform, rate: int) -> NDArray[np.float32]:
        """Average the columns over windows; float32 (columns,)."""
        return np.asarray(self.analyse(waveform, rate).arrays.mean(axis=0))

    def analyse(self, waveform: Waveform, rate: int) -> Analysis:
        """Columns of every window of 3 s, and the first backbone's tags."""
        samples = resample(waveform, rate, self.rate)
        opened = [open_backbone(name) for name in self.backbones]
        heard = [backbone.hear(samples) for backbone in opened]
        columns = [part.layers[layer] for part in heard for layer in self.layers]
        return Analysis(
            arrays=np.concatenate(columns, axis=1),
            window_s=opened[0].window_s,
            tags=tag_ranking(heard[0].tags, opened[0].tag_names),
        )

    def _listen(self, path: Path, rate: int, *, whole: bool) -> Waveform:
        if whole:
            return load(path, rate)[0]
        # A span is a whole number of frames, so end to end each is a window; of its 187 frames one
        # looks a little across the seam.
        span_s = log_mel.PATCH_SECONDS * self.rate / rate
        return np.concatenate(excerpts(path, rate, span_s=span_s, most=self.windows).waveforms)
