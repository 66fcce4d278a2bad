"""Embeddings: layers of pretrained networks, averaged over a clip's windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import (
    AudioWarning,
    Waveform,
    excerpts,
    is_silent,
    level_gain,
    pieces,
    resample,
)
from genrescope.backbones.backbone import (
    Backbone,
    BackboneConfig,
    make_backbone_config,
    open_backbone,
    tag_ranking,
)
from genrescope.backbones.musicnn import TAGGERS, merge_tags
from genrescope.datasets.track import AudioVariant
from genrescope.errors import GenrescopeError
from genrescope.representations.representation import Analysis, Representation, representation

_PIECE = 32  # windows of a long track that are in memory at once


@representation("embedding")
@dataclass(frozen=True)
class Embedding(Representation):
    """Concatenated layers of pretrained networks, averaged over windows of a few seconds.

    The networks are given every track at the same level, see ``level_gain``.

    Attributes
    ----------
    backbones
        Such as ``MSD_musicnn``, ``transformers:USER/NAME``, ``onnx:FILE``, or a mapping of a kind
        and its settings; see ``genrescope.backbones.backbone.make_backbone_config``.
    layers
        Of each of them. musicnn's have ``penultimate``, ``pooled`` and ``tags`` (log-odds).
    windows
        Maximum number of windows of a file: of longer ones as many are sampled, evenly spread.
    more_tags
        Whether the tags are the first backbone's and those of musicnn's taggers together, see
        ``musicnn.merge_tags``, at the cost of running these. The columns are the same.
    """

    backbones: Sequence[str | Mapping[str, Any] | BackboneConfig] = ("MSD_musicnn",)
    layers: Sequence[str] = ("penultimate",)
    windows: int = 40
    more_tags: bool = False

    version: ClassVar[int] = 3
    audio_variants: ClassVar[frozenset[AudioVariant]] = frozenset({"full", "full-16k", "excerpt"})
    added_later: ClassVar[Mapping[str, Any]] = {"more_tags": False}

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.backbones, str | Mapping):
            raise TypeError("backbones must be a list")
        object.__setattr__(self, "backbones", tuple(map(make_backbone_config, self.backbones)))
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.backbones or not self.layers:
            raise ValueError("name at least one backbone and one layer")
        opened = self._opened()
        object.__setattr__(self, "sampling_rate", opened[0].sampling_rate)
        taggers = map(open_backbone, TAGGERS if self.more_tags else ())
        if len({(one.sampling_rate, one.window_s, one.margin) for one in (*opened, *taggers)}) > 1:
            more = ", and with more_tags those of musicnn's networks" if self.more_tags else ""
            raise ValueError(
                f"all backbones must have the same sampling rate and window length{more}"
            )
        for backbone in opened:
            if unknown := set(self.layers) - set(backbone.widths):
                known = ", ".join(backbone.widths)
                raise GenrescopeError(
                    f"{backbone.name} has no layer {', '.join(unknown)}; it has: {known}."
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        opened = self._opened()
        return (sum(backbone.widths[layer] for backbone in opened for layer in self.layers),)

    def to_json(self) -> dict[str, Any]:
        """As of every representation, with the backbones' checksums."""
        backbones = [make_backbone_config(backbone).to_json() for backbone in self.backbones]
        return {**super().to_json(), "backbones": backbones}

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """Average the columns over windows; float32 (columns,)."""
        return np.asarray(self.analyse(waveform, sampling_rate).arrays.mean(axis=0))

    def analyse(self, waveform: Waveform, sampling_rate: int) -> Analysis:
        """Encode every window; for the tags, see ``more_tags``."""
        samples = resample(waveform, sampling_rate, self.sampling_rate)
        gain = level_gain(samples, self.sampling_rate)
        analysis = self._encode(samples, gain)
        if not self.more_tags:
            return analysis
        rankings = {self._opened()[0].name: analysis.tags}
        for name in TAGGERS:
            if name not in rankings:
                tagger = open_backbone(name)
                output = tagger.encode(samples * np.float32(gain))
                rankings[name] = tag_ranking(output.tags, tagger.tag_names)
        return replace(analysis, tags=merge_tags(rankings.values()))

    def _decode(self, path: Path, sampling_rate: int) -> tuple[Waveform, tuple[AudioWarning, ...]]:
        return decode_windows(path, sampling_rate, self._opened()[0], self.windows)

    def _analyse_windows(self, path: Path) -> Iterator[Analysis]:
        first, *_ = self._opened()
        length = _PIECE * round(first.window_s * first.sampling_rate)
        # The level of the track, by the windows that an answer for the whole of it is from.
        gain = level_gain(self._decode(path, first.sampling_rate)[0], first.sampling_rate)
        for index, piece in enumerate(pieces(path, first.sampling_rate, length, first.margin)):
            yield self._encode(piece, gain, is_continuation=index > 0)

    def _encode(self, samples: Waveform, gain: float, *, is_continuation: bool = False) -> Analysis:
        opened = self._opened()
        levelled = samples * np.float32(gain)
        outputs = [
            backbone.encode(levelled, is_continuation=is_continuation) for backbone in opened
        ]
        columns = [output.layers[layer] for output in outputs for layer in self.layers]
        arrays = np.concatenate(columns, axis=1)
        if not is_continuation and len(samples) < 2 * opened[0].window_s * opened[0].sampling_rate:
            arrays = arrays.mean(axis=0, keepdims=True)  # overlapping views of one window
        window = round(opened[0].window_s * opened[0].sampling_rate)
        first = opened[0].margin if is_continuation else 0
        starts = range(first, first + window * len(arrays), window)
        return Analysis(
            arrays=arrays,
            window_s=opened[0].window_s,
            tags=tag_ranking(outputs[0].tags, opened[0].tag_names) if len(outputs[0].tags) else {},
            silent=tuple(is_silent(samples[start : start + window]) for start in starts),
        )

    def _opened(self) -> list[Backbone]:
        return [open_backbone(make_backbone_config(backbone)) for backbone in self.backbones]


def decode_windows(
    path: Path, sampling_rate: int, backbone: Backbone, windows: int
) -> tuple[Waveform, tuple[AudioWarning, ...]]:
    """Decode an audio file, of a long one only some windows, evenly spread.

    Parameters
    ----------
    path
        The file.
    sampling_rate
        To decode at, in Hz; the samples then count as those at ``backbone.sampling_rate``.
    backbone
        Its windows are meant.
    windows
        Maximum number of them.

    Returns
    -------
    waveform
        float32 (samples,), mono, in [-1, 1]; the windows follow one another.
    warnings
        Notes about the decoded file.
    """
    # A span is a whole number of frames, so each of the concatenated spans is one window; where
    # frames overlap, the last one crosses the seam.
    span_s = backbone.window_s * backbone.sampling_rate / sampling_rate
    found = excerpts(path, sampling_rate, span_s=span_s, max_spans=windows)
    return np.concatenate(found.waveforms), found.warnings
