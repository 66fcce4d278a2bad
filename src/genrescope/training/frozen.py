"""Clips heard once in a fit, where an encoder that does not learn would hear them in every epoch.

A waveform of seconds becomes a few thousand numbers, on which all that learns stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from genrescope.models.encoder import Encoder
from genrescope.models.windows import Segments, evenly_spread
from genrescope.training.recipe import Recipe, Windows


def hears_once(recipe: Recipe, *, segmented: bool) -> bool:
    """Tell whether a recipe's fits may hear each clip once.

    Not if the encoder learns or its sequence is needed, nor if clips are altered before that.
    """
    settings = recipe.model.parameters
    return (
        recipe.model.name == "encoder"
        and settings.get("freeze") == "all"
        and settings.get("pool", "mean") == "mean"
        and recipe.augment is None
        and recipe.normalise == "none"
        and not segmented
    )


def above(network: nn.Module, windows: Windows | None) -> nn.Module:
    """Return what learns in a network, from the arrays of ``hear_once`` to logits.

    It shares its parameters with the network, and draws one of a clip's windows in training.
    """
    probe = _encoder(network).probe()
    return probe if windows is None else Segments(probe)


def hear_once(
    network: nn.Module,
    windows: Windows | None,
    waveforms: Any,
    path: Path,
    *,
    batch_size: int,
    on_heard: Callable[[int], None],
    **fabric_flags: Any,
) -> NDArray[np.float32]:
    """Hear every clip, or what of it has not been heard by a fit that was stopped.

    Parameters
    ----------
    network
        Around an encoder that is frozen.
    windows
        Of a clip, all of which are heard; None for the whole.
    waveforms
        A ``PackedTracks`` of float32 (samples,).
    path
        Of a file that keeps what has been heard, in NumPy's format.
    batch_size
        Clips at once.
    on_heard
        Told how many clips have been heard.
    fabric_flags
        For ``lightning.fabric.Fabric``: accelerator, devices, precision.

    Returns
    -------
    heard
        (clips, windows, layers, width), or (clips, layers, width) of whole clips.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    fabric = Fabric(**fabric_flags)
    hears = fabric.setup_module(_Hears(_encoder(network), windows).eval())

    def heard(rows: Sequence[int]) -> NDArray[np.float32]:
        arrays = fabric.to_device(waveforms.__getitems__(list(rows))[0])
        with torch.inference_mode():
            found: NDArray[np.float32] = hears(arrays).float().cpu().numpy()
        return found

    count = len(waveforms)
    with _Kept(path, (count, *heard([0]).shape[1:])) as kept:
        for start in range(kept.rows, count, batch_size):
            on_heard(start)
            kept.append(heard(range(start, min(start + batch_size, count))))
    on_heard(count)
    return np.asarray(np.load(path))


class _Kept:
    # A file of rows that grows, so that whatever ends the process leaves whole rows.
    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        header = {"shape": shape, "fortran_order": False, "descr": "<f4"}
        told = BytesIO()
        np.lib.format.write_array_header_1_0(told, header)
        begins, row = told.getvalue(), 4 * prod(shape[1:])
        path.touch()
        self._file = path.open("r+b")
        if self._file.read(len(begins)) != begins:  # new, damaged or of other arrays
            self._file.seek(0)
            self._file.write(begins)
            self._file.truncate()
        self.rows = min((path.stat().st_size - len(begins)) // row, shape[0])
        self._file.seek(len(begins) + self.rows * row)
        self._file.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: NDArray[np.float32]) -> None:
        self._file.write(rows.astype("<f4").tobytes())
        self._file.flush()


class _Hears(nn.Module):
    def __init__(self, encoder: Encoder, windows: Windows | None) -> None:
        super().__init__()
        self.encoder, self._windows = encoder, windows

    def forward(self, waveforms: Tensor) -> Tensor:
        if self._windows is None:
            return self.encoder.hear(waveforms)
        parts = evenly_spread(waveforms, self._windows.length, self._windows.count)
        return torch.stack([self.encoder.hear(part) for part in parts], dim=1)


def _encoder(network: nn.Module) -> Encoder:
    return next(part for part in network.modules() if isinstance(part, Encoder))
