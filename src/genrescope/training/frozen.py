"""Clips heard once in a fit, where an encoder that does not learn would hear them in every epoch.

A waveform of seconds becomes a few thousand numbers, on which all that learns stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from genrescope.models.encoder import Encoder
from genrescope.models.windows import Segments, evenly_spread
from genrescope.training.recipe import Recipe, Windows


def frozen_encoder(recipe: Recipe, network: nn.Module, *, segmented: bool) -> Encoder | None:
    """Find the encoder in a recipe's network if its clips may be heard once.

    None if it learns or its sequence is needed, or if a clip is altered before it is heard.
    """
    if recipe.augment is not None or recipe.normalise != "none" or segmented:
        return None
    found = [part for part in network.modules() if isinstance(part, Encoder)]
    return found[0] if found and found[0].hears_the_same else None


def above(encoder: Encoder, windows: Windows | None) -> nn.Module:
    """Return what learns, from the arrays of ``hear_once`` to logits.

    It shares its parameters with the encoder, and draws one of a clip's windows in training.
    """
    probe = encoder.probe()
    return probe if windows is None else Segments(probe)


def hear_once(
    encoder: Encoder,
    windows: Windows | None,
    waveforms: Any,
    path: Path,
    *,
    batch_size: int,
    **fabric_flags: Any,
) -> NDArray[np.float32]:
    """Hear every clip, or what of it has not been heard by a fit that was stopped.

    Parameters
    ----------
    encoder
        Frozen.
    windows
        Of a clip, all of which are heard; None for the whole.
    waveforms
        A ``PackedTracks`` of float32 (samples,).
    path
        Of a file that keeps what has been heard.
    batch_size
        Clips at once.
    fabric_flags
        For ``lightning.fabric.Fabric``: accelerator, precision.

    Returns
    -------
    heard
        (clips, windows, layers, width), or (clips, layers, width) of whole clips.
    """
    fabric = Fabric(devices=1, **fabric_flags)
    hears = fabric.setup_module(_Hears(encoder, windows).eval())

    def heard(rows: list[int]) -> NDArray[np.float32]:
        arrays = fabric.to_device(waveforms.__getitems__(rows)[0])
        with torch.inference_mode():
            found: NDArray[np.float32] = hears(arrays).float().cpu().numpy()
        return found

    kept = _kept(path, (len(waveforms), *heard([0]).shape[1:]))
    flat = kept.reshape(len(kept), -1)
    missing = np.flatnonzero(flat[:, 0] == 0)
    for start in range(0, len(missing), batch_size):
        rows = missing[start : start + batch_size]
        values = heard(rows.tolist()).reshape(len(rows), -1)
        flat[rows, 1:] = values[:, 1:]
        flat[rows, 0] = values[:, 0]  # last: by it a clip is known to have been heard
    return np.array(kept)


def _kept(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if path.is_file():
        kept = np.lib.format.open_memmap(path, mode="r+")
        if kept.shape == shape and kept.dtype == np.float32:
            return kept
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


class _Hears(nn.Module):
    def __init__(self, encoder: Encoder, windows: Windows | None) -> None:
        super().__init__()
        self.encoder, self._windows = encoder, windows

    def forward(self, waveforms: Tensor) -> Tensor:
        if self._windows is None:
            return self.encoder.hear(waveforms)
        parts = evenly_spread(waveforms, self._windows.length, self._windows.count)
        return torch.stack([self.encoder.hear(part) for part in parts], dim=1)
