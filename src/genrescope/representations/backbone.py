"""Pretrained networks that hear music, and the registry of those there are.

A backbone takes a waveform and gives, for every stretch of a few seconds, some layers of
activations and, if it is a tagger, the likelihood of its tags. A further kind is one file with an
``open_`` function and a ``BACKBONES`` line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from genrescope.audio import Waveform
from genrescope.errors import GenrescopeError
from genrescope.representations import log_mel

_LEAST = np.float32(1e-6)  # likelihood, so that log-odds stay finite
_BATCH = 16  # patches; the memory of a forward pass grows with it, its speed hardly


@dataclass(frozen=True)
class Heard:
    """What a backbone makes of a waveform.

    Attributes
    ----------
    layers
        By name: float32 (windows, width). ``tags`` holds the log-odds of the likelihoods.
    tags
        Likelihoods in [0, 1], float32 (windows, tags); no columns if it is no tagger.
    """

    layers: Mapping[str, NDArray[np.float32]]
    tags: NDArray[np.float32]


@dataclass(frozen=True)
class Backbone:
    """An opened backbone.

    Attributes
    ----------
    name
        As registered.
    rate
        Of the audio it takes, in Hz.
    window_s
        Length of a window in s.
    widths
        Of its layers.
    tag_names
        In the order of ``Heard.tags``.
    licence
        Of its weights.
    hear
        From a waveform, float32 (samples,) at ``rate``, at least one sample.
    """

    name: str
    rate: int
    window_s: float
    widths: Mapping[str, int]
    tag_names: tuple[str, ...]
    licence: str
    hear: Callable[[Waveform], Heard]


@lru_cache(maxsize=8)
def open_musicnn(name: str) -> Backbone:
    """Open one of musicnn's networks, as ``tools/convert_musicnn.py`` has written it."""
    folder = files("genrescope") / "weights" / "musicnn"
    options = onnxruntime.SessionOptions()
    # Parallelism is over files: a thread a file is faster than several for each.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = (folder / f"{name}.onnx").read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    tags = json.loads(
        (folder / f"{name.split('_', maxsplit=1)[0]}_tags.json").read_text(encoding="utf-8")
    )
    outputs = [output.name for output in session.get_outputs()]
    silence = np.zeros((1, log_mel.PATCH, log_mel.BANDS), dtype=np.float32)
    probe = dict(zip(outputs, session.run(outputs, {"log_mel": silence}), strict=True))

    def hear(waveform: Waveform) -> Heard:
        spectrogram = log_mel.compute(waveform, log_mel.RATE)
        short = len(spectrogram) < 2 * log_mel.PATCH
        patches = (log_mel.views if short else log_mel.patches)(spectrogram)
        batches = [
            session.run(outputs, {"log_mel": patches[start : start + _BATCH]})
            for start in range(0, len(patches), _BATCH)
        ]
        joined = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        layers = dict(zip(outputs, joined, strict=True))
        tags = layers["tags"]
        likelihoods = np.clip(tags, _LEAST, 1 - _LEAST)
        layers["tags"] = np.log(likelihoods / (1 - likelihoods))
        if short:  # it is one window, seen three times
            layers = {name: rows.mean(axis=0, keepdims=True) for name, rows in layers.items()}
            tags = tags.mean(axis=0, keepdims=True)
        return Heard(layers, tags)

    return Backbone(
        name=name,
        rate=log_mel.RATE,
        window_s=log_mel.PATCH_SECONDS,
        widths={layer: probe[layer].shape[1] for layer in outputs},
        tag_names=tuple(tags),
        licence="ISC",
        hear=hear,
    )


BACKBONES: dict[str, Callable[[str], Backbone]] = {
    "MSD_musicnn": open_musicnn,
    "MTT_musicnn": open_musicnn,
    "MSD_vgg": open_musicnn,
    "MTT_vgg": open_musicnn,
}
"""From name to the function that opens it."""


def open_backbone(name: str) -> Backbone:
    """Open a backbone by name; GenrescopeError names those there are."""
    if name not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise GenrescopeError(f"There is no backbone {name!r}; there are: {known}.")
    return BACKBONES[name](name)


def tag_ranking(likelihoods: NDArray[np.float32], names: tuple[str, ...]) -> dict[str, float]:
    """Average likelihoods (windows, tags) over windows: tags by name, likeliest first."""
    mean: NDArray[Any] = likelihoods.mean(axis=0)
    return {names[i]: float(mean[i]) for i in np.argsort(-mean, kind="stable")}
