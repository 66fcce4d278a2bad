"""A pretrained audio encoder from the Hugging Face hub (wav2vec2, HuBERT, …) with a head."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from genrescope.errors import GenrescopeError
from genrescope.models.model import model

HUB_TIMEOUT_S = 10


class WeightsNotAvailableError(GenrescopeError):
    """Pretrained weights are neither in a folder, nor in the cache, nor to be had from the hub."""


def resolve_weights(weights: str, *, download: bool) -> Path:
    """Find the folder of a checkpoint: a local folder, the Hugging Face cache, or the hub.

    Parameters
    ----------
    weights
        A folder as ``save_pretrained`` writes it, or a hub id such as ``facebook/wav2vec2-base``.
    download
        Whether the hub may be asked for what is not on this machine.

    Returns
    -------
    folder
        With ``config.json`` and the weights.

    Raises
    ------
    WeightsNotAvailableError
        If the checkpoint cannot be had; says why and what to do.
    """
    folder = Path(weights).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise WeightsNotAvailableError(
            f"{folder} holds no checkpoint (config.json is missing). Give a folder written by "
            "save_pretrained."
        )
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", str(HUB_TIMEOUT_S))
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    needed = ["*.json", "*.safetensors", "*.bin"]
    try:
        found = Path(snapshot_download(weights, local_files_only=True, allow_patterns=needed))
        if any(found.glob("*.safetensors")) or any(found.glob("*.bin")):
            return found
    except (LocalEntryNotFoundError, OSError, ValueError):
        pass  # not in the cache: the hub is next
    remedy = (
        f"Fetch it where there is a network (`hf download {weights}`) and give its folder, or "
        "copy the cache"
    )
    if not download:
        raise WeightsNotAvailableError(
            f"{weights} is not on this machine, and downloads are off. {remedy}."
        )
    try:
        revision = HfApi().model_info(weights, timeout=HUB_TIMEOUT_S)
        names = {file.rfilename for file in revision.siblings or ()}
        # The same weights often lie there twice; safetensors is safer and enough.
        skip = ["*.bin"] if "model.safetensors" in names else []
        return Path(
            snapshot_download(
                weights, revision=revision.sha, allow_patterns=needed, ignore_patterns=skip
            )
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsNotAvailableError(
            f"{weights} cannot be had from the hub ({reason}). {remedy}."
        ) from error


@model("encoder")
class Encoder(nn.Module):
    """An encoder's last hidden state, averaged over time, through a small head.

    Parameters
    ----------
    shape
        (samples,) of one track's waveform at 16 kHz.
    genres
        Number of logits.
    weights
        A checkpoint folder, or the hub id of one that is on this machine.
    hidden
        Width of the head's layer: linear → BatchNorm → ReLU → linear.
    gradient_checkpointing
        Trade time for memory when training; the result is the same.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        genres: int,
        weights: str,
        hidden: int = 768,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise ValueError(f"takes waveforms (samples,), not arrays of shape {shape}")
        from transformers import AutoConfig, AutoModel, Wav2Vec2Model  # noqa: PLC0415

        folder = resolve_weights(weights, download=False)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = Wav2Vec2Model if config.model_type == "wav2vec2" else AutoModel
        self.encoder = kind.from_pretrained(folder, local_files_only=True)
        if gradient_checkpointing:
            # transformers 5 has a new name for it
            old = self.encoder.gradient_checkpointing_enable
            getattr(self.encoder, "activation_checkpointing_enable", old)()
        self.head = nn.Sequential(
            nn.Linear(config.hidden_size, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, genres),
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """float32 (batch, samples) → logits (batch, genres)."""
        states = self.encoder(waveforms, return_dict=True).last_hidden_state
        logits: Tensor = self.head(torch.mean(states, dim=1))
        return logits
