"""Audio encoders of ``transformers``: wav2vec2, HuBERT, WavLM, AST, CLAP and similar ones.

They need torch and ``transformers``, and so does every classifier built on one. Weights are read
from safetensors files only, and code in a checkpoint is never run.
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
from genrescope.errors import GenrescopeError, install
from genrescope.hub import WeightsNotAvailableError, resolve_weights

_BATCH = 4  # windows

Layers = dict[str, NDArray[np.float32]]


@backbone("transformers")
@dataclass(frozen=True)
class TransformersConfig(BackboneConfig):
    """An encoder by hub id or folder; its own feature extractor prepares the audio.

    Layers: ``layer-0`` (input of the first block), ``layer-1``, … (output of each block),
    ``last``, each averaged over time, and ``pooled`` if the encoder has a pooled output.

    Attributes
    ----------
    source
        ``user/name`` of the hub, or a folder written by ``save_pretrained``.
    revision
        Branch, tag or commit of the hub. If empty, set to the commit found.
    window_s
        Length of a window in s.
    sha256
        Of the checkpoint's files: computed if empty, else checked.
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
        """Load it; running it on silence gives the widths."""
        folder = self._folder()
        if self.sha256 != (found := _checksum(folder)):
            raise WeightsNotAvailableError(
                f"{self.source} is not the expected checkpoint: its sha256 is {found}, not "
                f"{self.sha256}. Get the right one."
            )
        run, sampling_rate = _load(folder, self.source)
        samples = round(self.window_s * sampling_rate)
        try:
            widths = {name: rows.shape[1] for name, rows in run(_silence(samples)).items()}
        except (RuntimeError, ValueError, TypeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise GenrescopeError(
                f"{self.source} cannot encode {self.window_s} s of audio ({lines[0]}). Give the "
                "name of an audio encoder, or another window_s."
            ) from error

        def encode(waveform: Waveform, *, is_continuation: bool = False) -> BackboneOutput:
            windows = cut(waveform, samples, is_continuation=is_continuation)
            layers = run_batches(run, windows, _BATCH, widths)
            return BackboneOutput(layers, np.empty((len(windows), 0), np.float32))

        return Backbone(
            name=self.source,
            sampling_rate=sampling_rate,
            window_s=self.window_s,
            widths=widths,
            tag_names=(),
            licence="the checkpoint's own",
            encode=encode,
        )

    def _folder(self) -> Path:
        if not all(map(find_spec, ("torch", "transformers"))):
            raise WeightsNotAvailableError(
                f"The backbone {self.source} needs torch and transformers. Run {install('train')}."
            )
        folder = resolve_weights(
            self.source, download=True, revision=self.revision or None, pickled=False
        )
        if not any(folder.glob("*.safetensors")):
            raise WeightsNotAvailableError(
                f"{self.source} holds no safetensors weights; other formats may run code and are "
                "not read. If you trust it, open it with transformers and save it with "
                "save_pretrained."
            )
        return folder


def _silence(samples: int) -> NDArray[np.float32]:
    # Faint noise, because a feature extractor may divide by the variance.
    return np.random.default_rng(0).normal(0, 1e-3, (1, samples)).astype(np.float32)


def _checksum(folder: Path) -> str:
    # Of all that affects the output: settings, feature extractor and weights.
    digest = hashlib.sha256()
    settings = (folder / name for name in ("config.json", "preprocessor_config.json"))
    for path in [*filter(Path.is_file, settings), *sorted(folder.glob("*.safetensors"))]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _load(folder: Path, name: str) -> tuple[Callable[[NDArray[np.float32]], Layers], int]:
    # A function from windows (windows, samples) to layers (windows, width), and its sampling rate.
    import torch  # noqa: PLC0415
    from transformers import AutoFeatureExtractor, AutoModel  # noqa: PLC0415

    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        extract: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, **safe
        )
        network = AutoModel.from_pretrained(folder, use_safetensors=True, **safe)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsNotAvailableError(
            f"{name} cannot be opened as an audio encoder ({lines[0]}). Give a checkpoint that "
            "transformers supports without custom code, with its preprocessor_config.json."
        ) from error
    network = getattr(network, "audio_model", network).eval()  # CLAP has a text half, too

    def run(windows: NDArray[np.float32]) -> Layers:
        inputs = extract(list(windows), sampling_rate=extract.sampling_rate, return_tensors="pt")
        if "is_longer" in inputs:  # if no clip is, CLAP's extractor marks a random one
            inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]))
        with torch.inference_mode():
            found = network(**inputs, output_hidden_states=True, return_dict=True)
        states = {f"layer-{i}": state for i, state in enumerate(found.hidden_states or ())}
        states["last"] = found.last_hidden_state
        # (windows, time, width); feature maps of some encoders have other dimensions.
        rows = {layer: state.mean(dim=1) for layer, state in states.items() if state.ndim == 3}
        if getattr(found, "pooler_output", None) is not None:
            rows["pooled"] = found.pooler_output
        return {layer: row.float().numpy() for layer, row in rows.items()}

    return run, int(extract.sampling_rate)
