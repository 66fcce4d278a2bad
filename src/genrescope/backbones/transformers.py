"""Audio encoders of ``transformers``: wav2vec2, HuBERT, WavLM, AST, CLAP and their like.

They need torch and ``transformers``, here and wherever a classifier that hears through one is
used. Weights are read from safetensors files only, and code that a checkpoint brings is never run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform
from genrescope.backbones.backbone import (
    Backbone,
    BackboneConfig,
    BackboneOutput,
    backbone,
    cut,
    run_batches,
)
from genrescope.errors import GenrescopeError
from genrescope.hub import WeightsNotAvailableError, resolve_weights

_BATCH = 4  # windows

Layers = dict[str, NDArray[np.float32]]


@backbone("transformers")
@dataclass(frozen=True)
class TransformersConfig(BackboneConfig):
    """An encoder by hub id or folder; its own feature extractor prepares the sound.

    Layers: ``layer-0`` (what enters the first block), ``layer-1``, … (what leaves each), ``last``,
    each averaged over time, and ``pooled`` if the encoder pools by itself.

    Attributes
    ----------
    source
        ``user/name`` of the hub, or a folder that ``save_pretrained`` has written.
    revision
        Branch, tag or commit of the hub. Filled with the commit that was found.
    window_s
        Length of a window in s.
    sha256
        Of the checkpoint's files. Filled when it is empty, else what they must be.
    """

    source: str
    revision: str = ""
    window_s: float = 10.0
    sha256: str = ""

    def __post_init__(self) -> None:
        self._check_finite()
        folder = self._folder()
        if not self.revision and folder.parent.name == "snapshots":  # of the hub's cache
            object.__setattr__(self, "revision", folder.name)
        if not self.sha256:
            object.__setattr__(self, "sha256", _checksum(folder))

    def open(self) -> Backbone:
        """Open it; widths are told by running it on silence."""
        folder = self._folder()
        if self.sha256 != (found := _checksum(folder)):
            raise WeightsNotAvailableError(
                f"{self.source} is not the checkpoint that is needed: its sha256 is {found}, not "
                f"{self.sha256}. Get the right one."
            )
        listen, sampling_rate = _load(folder, self.source)
        samples = round(self.window_s * sampling_rate)
        try:
            widths = {name: rows.shape[1] for name, rows in listen(_silence(samples)).items()}
        except (RuntimeError, ValueError, TypeError) as error:
            told = str(error).strip().splitlines() or [type(error).__name__]
            raise GenrescopeError(
                f"{self.source} cannot hear {self.window_s} s of sound ({told[0]}). Give the "
                "name of an audio encoder, or another window_s."
            ) from error

        def hear(waveform: Waveform, *, is_continuation: bool = False) -> BackboneOutput:
            windows = cut(waveform, samples, is_continuation=is_continuation)
            layers = run_batches(listen, windows, _BATCH, widths)
            return BackboneOutput(layers, np.empty((len(windows), 0), np.float32))

        return Backbone(
            name=self.source,
            sampling_rate=sampling_rate,
            window_s=self.window_s,
            widths=widths,
            tag_names=(),
            licence="the checkpoint's own",
            hear=hear,
        )

    def _folder(self) -> Path:
        if not all(map(find_spec, ("torch", "transformers"))):
            raise WeightsNotAvailableError(
                f"Hearing through {self.source} needs torch and transformers: "
                "pip install 'genrescope[train]'"
            )
        folder = resolve_weights(
            self.source, download=True, revision=self.revision or None, pickled=False
        )
        if not any(folder.glob("*.safetensors")):
            raise WeightsNotAvailableError(
                f"{self.source} holds no safetensors weights, and others are not read, for they "
                "may run code. Open it with transformers where you trust it, and save it anew with "
                "save_pretrained."
            )
        return folder


def _silence(samples: int) -> NDArray[np.float32]:
    # Not quite: a feature extractor may divide by what varies.
    return np.random.default_rng(0).normal(0, 1e-3, (1, samples)).astype(np.float32)


def _checksum(folder: Path) -> str:
    # Of all that decides what is heard: settings, feature extractor and weights.
    digest = hashlib.sha256()
    told = (folder / name for name in ("config.json", "preprocessor_config.json"))
    for path in [*(path for path in told if path.is_file()), *sorted(folder.glob("*.safetensors"))]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _load(folder: Path, name: str) -> tuple[Callable[[NDArray[np.float32]], Layers], int]:
    # A function from windows (windows, samples) to layers (windows, width), and its rate in Hz.
    import torch  # noqa: PLC0415
    from transformers import AutoFeatureExtractor, AutoModel  # noqa: PLC0415

    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        extract: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, **safe
        )
        network = AutoModel.from_pretrained(folder, use_safetensors=True, **safe)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsNotAvailableError(
            f"{name} cannot be opened as an audio encoder ({told[0]}). Give a checkpoint that "
            "transformers knows without code of its own, with its preprocessor_config.json."
        ) from error
    network = getattr(network, "audio_model", network).eval()  # of CLAP, the half that hears

    def listen(windows: NDArray[np.float32]) -> Layers:
        inputs = extract(list(windows), sampling_rate=extract.sampling_rate, return_tensors="pt")
        if "is_longer" in inputs:  # CLAP's marks one clip of a batch by lot if there is none
            inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]))
        with torch.inference_mode():
            found = network(**inputs, output_hidden_states=True, return_dict=True)
        states = {f"layer-{i}": state for i, state in enumerate(found.hidden_states or ())}
        states["last"] = found.last_hidden_state
        # (windows, time, width); what some encoders keep as pictures is left out.
        rows = {layer: state.mean(dim=1) for layer, state in states.items() if state.ndim == 3}
        if getattr(found, "pooler_output", None) is not None:
            rows["pooled"] = found.pooler_output
        return {layer: row.float().numpy() for layer, row in rows.items()}

    return listen, int(extract.sampling_rate)
