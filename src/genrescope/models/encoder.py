"""A pretrained audio encoder from the Hugging Face hub (wav2vec2, HuBERT, …) with a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrescope.hub import resolve_weights
from genrescope.models.model import model


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
