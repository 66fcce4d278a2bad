"""musicnn's four taggers, bundled with the package. They do not need torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform
from genrescope.backbones import log_mel
from genrescope.backbones.backbone import (
    Backbone,
    BackboneConfig,
    BackboneOutput,
    backbone,
    run_batches,
)
from genrescope.errors import GenrescopeError
from genrescope.inference import open_session

NETWORKS = ("MSD_musicnn", "MSD_vgg", "MTT_musicnn", "MTT_vgg")
"""Trained on the Million Song Dataset (MSD) or MagnaTagATune (MTT)."""

TAGGERS = ("MSD_musicnn", "MTT_musicnn")
"""The one of each data set whose tags are merged by ``merge_tags``."""

WEIGHTS = Path(__file__).parents[1] / "weights" / "musicnn"
"""Folder of the networks, the names of their tags and their licence."""

MIN_LIKELIHOOD = np.float32(1e-6)
"""Of a tag, and of its absence, so that log-odds stay finite."""

_BATCH = 16  # patches; larger batches take more memory and are hardly faster


@backbone("musicnn")
@dataclass(frozen=True)
class MusicnnConfig(BackboneConfig):
    """One of ``NETWORKS``, as converted by ``tools/convert_musicnn.py``."""

    source: str = "MSD_musicnn"

    def __post_init__(self) -> None:
        if self.source not in NETWORKS:
            known = ", ".join(NETWORKS)
            raise GenrescopeError(
                f"There is no backbone {self.source!r}; there are: {known}. For other kinds write "
                "KIND:SOURCE."
            )

    def to_json(self) -> str:
        """Return the name alone."""
        return self.source

    def open(self) -> Backbone:
        """Load it; running it on silence gives the widths."""
        session = open_session((WEIGHTS / f"{self.source}.onnx").read_bytes())
        data_set = self.source.split("_", maxsplit=1)[0]
        tags = json.loads((WEIGHTS / f"{data_set}_tags.json").read_text(encoding="utf-8"))
        outputs = {output.name: len(output.shape) for output in session.get_outputs()}
        vectors = [name for name, dimensions in outputs.items() if dimensions == 2]
        silence = np.zeros((1, log_mel.PATCH, log_mel.BANDS), dtype=np.float32)

        scales = map_scales(self.source)
        last: list[tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]] = []

        def run(patches: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            return dict(zip(vectors, session.run(vectors, {"log_mel": patches}), strict=True))

        widths = {layer: rows.shape[1] for layer, rows in run(silence).items()}

        def encode_log_mel(patches: NDArray[np.float32]) -> BackboneOutput:
            known = next((layers for of, layers in last if np.array_equal(of, patches)), None)
            layers = run_batches(run, patches, _BATCH, widths) if known is None else known
            tags = layers["tags"]
            likelihoods = np.clip(tags, MIN_LIKELIHOOD, 1 - MIN_LIKELIHOOD)
            return BackboneOutput({**layers, "tags": np.log(likelihoods / (1 - likelihoods))}, tags)

        def feature_maps(patches: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            names = [*scales, *vectors]
            batches = [
                session.run(names, {"log_mel": patches[start : start + _BATCH]})
                for start in range(0, len(patches), _BATCH)
            ]
            outputs = dict(zip(names, map(np.concatenate, zip(*batches, strict=True)), strict=True))
            # An embedding of the same patches, which often follows, takes no second run.
            last[:] = [(patches, {name: outputs[name] for name in vectors})]
            return {
                layer: np.asarray(outputs[layer][:, scale > 0] / scale[scale > 0, None])
                for layer, scale in scales.items()
            }

        def encode(waveform: Waveform, *, is_continuation: bool = False) -> BackboneOutput:
            return encode_log_mel(log_mel.to_patches(waveform, is_continuation=is_continuation))

        return Backbone(
            name=self.source,
            sampling_rate=log_mel.SAMPLING_RATE,
            window_s=log_mel.PATCH_SECONDS,
            widths=widths,
            tag_names=tuple(tags),
            licence="ISC",
            encode=encode,
            margin=log_mel.HOP,
            encode_log_mel=encode_log_mel,
            feature_maps=feature_maps if scales else None,
        )


def merge_tags(rankings: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Merge the tags of several taggers into one ranking, in which no synonyms are.

    Parameters
    ----------
    rankings
        Likelihoods in [0, 1] by tag.

    Returns
    -------
    ranking
        The same by the names in ``synonyms.json``, most likely first: of several tags with the same
        name, the largest.
    """
    names = _merged_names()
    merged: dict[str, float] = {}
    for ranking in rankings:
        for tag, likelihood in ranking.items():
            name = names.get(tag, tag)
            merged[name] = max(likelihood, merged.get(name, 0.0))
    return dict(sorted(merged.items(), key=lambda item: -item[1]))


@cache
def _merged_names() -> dict[str, str]:
    synonyms = json.loads((WEIGHTS / "synonyms.json").read_text(encoding="utf-8"))
    return {tag: name for name, tags in synonyms.items() for tag in tags}


def map_scales(network: str) -> dict[str, NDArray[np.float32]]:
    """Give the standard deviation of each feature map over the frames of typical music.

    Parameters
    ----------
    network
        One of ``NETWORKS``.

    Returns
    -------
    scales
        By layer: float32 (maps,), 0 for a map that never varies; empty where they are not known.
    """
    path = WEIGHTS / f"{network}_scales.json"
    if not path.exists():
        return {}
    scales = json.loads(path.read_text(encoding="utf-8"))
    return {layer: np.array(sds, dtype=np.float32) for layer, sds in scales.items()}
