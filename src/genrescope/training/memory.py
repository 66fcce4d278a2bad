"""The memory of an encoder's training steps, and how many clips are encoded at once for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from genrescope.errors import GenrescopeError
from genrescope.hub import resolve_weights
from genrescope.models.attention import QUERIES
from genrescope.models.encoder import (
    SAMPLING_RATE,
    encoder_config,
    normalises_batch,
    outline,
)
from genrescope.system import free_memory
from genrescope.training.recipe import Recipe

_MAX_BYTES = 4 * 10**9
"""Of ``auto`` on a CPU: there, more clips at once are not faster, unless it is the whole batch."""

_USABLE = 0.9  # of the free memory


@dataclass(frozen=True)
class StepMemory:
    """The memory of a training step.

    Attributes
    ----------
    fixed
        Bytes of weights, gradients and the optimiser's state.
    per_clip
        Bytes for each clip that is encoded at the same time.
    """

    fixed: int
    per_clip: int

    def of(self, clips: int) -> int:
        """Bytes with so many clips encoded at once."""
        return self.fixed + clips * self.per_clip

    def clips(self, available: float) -> int:
        """Clips that can be encoded at once within so many bytes; may be less than 1."""
        return math.floor((available - self.fixed) / self.per_clip)


@dataclass(frozen=True)
class MicroBatch:
    """How many clips are encoded at once, and why.

    Attributes
    ----------
    size
        Clips, at most a batch.
    batch
        Clips of a batch.
    needed
        Bytes of a step, estimated.
    free
        Bytes that are free; None if unknown.
    """

    size: int
    batch: int
    needed: int
    free: int | None

    def __str__(self) -> str:
        free = "" if self.free is None else f" of {_gigabytes(self.free)} free"
        return (
            f"encodes {self.size} of {self.batch} clips of a batch at once "
            f"(about {_gigabytes(self.needed)}{free})"
        )


def choose_micro_batch(
    recipe: Recipe, samples: int, device: str = "cpu", *, mixed: bool = False
) -> MicroBatch:
    """Choose how many clips of a batch are encoded at once, by the memory that is free.

    Parameters
    ----------
    recipe
        Of an encoder; a number as its ``micro_batch`` is taken if it fits.
    samples
        Of a track's waveform.
    device
        ``cpu`` or ``gpu``; elsewhere nothing is known of the free memory.
    mixed
        Whether in mixed precision.

    Raises
    ------
    GenrescopeError
        If it does not fit; the message says what would.
    """
    batch = recipe.batch_size or 1
    seen = samples if recipe.windows is None else recipe.windows.length
    free = _free(device)
    weights = resolve_weights(recipe.model.parameters["weights"], download=False)
    encoder = outline(encoder_config(weights))
    step = step_memory(recipe, encoder, seen, mixed=mixed)
    usable = math.inf if free is None else _USABLE * free
    if whole := normalises_batch(encoder):
        size = batch
    elif recipe.micro_batch == "auto":
        most = usable if device == "gpu" else min(usable, _MAX_BYTES)
        size = min(max(step.clips(most), 1), batch)
    else:
        size = min(recipe.micro_batch, batch)
    if step.of(size) > usable:
        assert free is not None  # noqa: S101  it is not infinite then
        remedy = (
            "Its batch normalisation takes a whole batch: give a smaller batch_size."
            if whole
            else _remedy(recipe, step, seen, usable)
        )
        raise GenrescopeError(
            f"Recipe {recipe.name}: a training step with {size} clips of "
            f"{seen / SAMPLING_RATE:g} s at once takes about {_gigabytes(step.of(size))}, "
            f"and {_gigabytes(free)} of memory are free. {remedy}"
        )
    return MicroBatch(size, batch, step.of(size), free)


def step_memory(recipe: Recipe, encoder: Any, samples: int, *, mixed: bool) -> StepMemory:
    """Estimate a step's memory from an encoder's outline.

    The factors were measured on a network of wav2vec2-base's size, with clips of 5, 10 and 30 s.

    Parameters
    ----------
    recipe
        Says what is trained, and whether activations are computed anew for the backward pass.
    encoder
        With the settings and the shapes of the weights.
    samples
        Of a clip.
    mixed
        Whether in mixed precision, which halves activations.
    """
    settings, config = recipe.model.parameters, encoder.config
    freeze, anew = settings.get("freeze", "none"), settings.get("gradient_checkpointing", False)
    maps, length = [], samples
    for width, kernel, stride in zip(
        config.conv_dim, config.conv_kernel, config.conv_stride, strict=True
    ):
        length = (length - kernel) // stride + 1
        maps.append(width * length)
    queries = min(length, QUERIES) if config._attn_implementation == "sdpa" else length
    layer = length * (12 * config.hidden_size + 3 * config.intermediate_size)
    layer += 4 * config.num_attention_heads * length * queries
    layers = config.num_hidden_layers
    # The largest map enters several operations, forwards and backwards.
    numbers = 3 * maps[0] if freeze != "none" else 5 * maps[0] + sum(maps) * (1 if anew else 3)
    if freeze == "all":
        numbers += layer
    else:
        numbers += layers * length * config.hidden_size + layer if anew else layers * layer
    per_clip = (2 if mixed else 4) * numbers
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    if freeze == "all":
        return StepMemory(4 * parameters, per_clip)
    # Weights, their halved copies, gradients, sums of them over several batches, Adam's moments.
    bytes_each = 16 + (2 if mixed else 0) + (4 if recipe.accumulate > 1 else 0)
    return StepMemory(bytes_each * parameters, per_clip)


def _remedy(recipe: Recipe, step: StepMemory, samples: int, usable: float) -> str:
    if (fits := step.clips(usable)) >= 1:
        return f"Give --micro-batch {fits}."
    share = (usable - step.fixed) / step.per_clip
    seconds = math.floor(share * samples / SAMPLING_RATE)
    if seconds < 1:
        return "Close other programs, or give a smaller encoder."
    setting = (
        f"`representation: {{seconds: {seconds}}}`"
        if recipe.windows is None
        else f"`windows: {{length: {seconds * SAMPLING_RATE}}}`"
    )
    return f"With --micro-batch 1, {seconds} s of a clip fit: {setting} in a recipe."


def _free(device: str) -> int | None:
    if device == "cpu":
        return free_memory()
    import torch  # noqa: PLC0415

    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
