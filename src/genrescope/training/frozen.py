"""Outputs of a frozen encoder, computed once per fit instead of in every epoch.

Seconds of waveform become a few thousand numbers, the input of all layers that are trained.
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
from genrescope.models.windows import SegmentNetwork, evenly_spread
from genrescope.training.recipe import Recipe, WindowSettings


def encodes_once(recipe: Recipe, *, segmented: bool) -> bool:
    """Return whether a recipe's fits can compute the encoder's outputs once.

    Not if the encoder is trained or its sequence is needed, or if its input is augmented.
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


def above(network: nn.Module, windows: WindowSettings | None) -> nn.Module:
    """Give the trainable part of a network, from the arrays of ``encode_once`` to logits.

    It shares its parameters with the network. In training it uses one random window per clip.
    """
    probe = _encoder(network).probe()
    return probe if windows is None else SegmentNetwork(probe)


def encode_once(
    network: nn.Module,
    windows: WindowSettings | None,
    waveforms: Any,
    path: Path,
    *,
    batch_size: int,
    on_encoded: Callable[[int], None],
    **fabric_flags: Any,
) -> NDArray[np.float32]:
    """Encode every clip; resume if an earlier fit was stopped.

    Parameters
    ----------
    network
        Contains a frozen encoder.
    windows
        Of a clip, all of which are encoded; None for whole clips.
    waveforms
        A ``PackedTracks`` of float32 (samples,).
    path
        Of the file for the outputs, in NumPy's format.
    batch_size
        Clips at once.
    on_encoded
        Called with the number of clips that are encoded.
    fabric_flags
        For ``lightning.fabric.Fabric``: accelerator, devices, precision.

    Returns
    -------
    outputs
        float32 (clips, windows, layers, width), or (clips, layers, width) for whole clips.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    fabric = Fabric(**fabric_flags)
    module = fabric.setup_module(_WindowEncoder(_encoder(network), windows).eval())

    def encode(rows: Sequence[int]) -> NDArray[np.float32]:
        arrays = fabric.to_device(waveforms.__getitems__(list(rows))[0])
        with torch.inference_mode():
            found: NDArray[np.float32] = module(arrays).float().cpu().numpy()
        return found

    count = len(waveforms)
    with _RowFile(path, (count, *encode([0]).shape[1:])) as kept:
        for start in range(kept.rows, count, batch_size):
            on_encoded(start)
            kept.append(encode(range(start, min(start + batch_size, count))))
    on_encoded(count)
    return np.asarray(np.load(path))


class _RowFile:
    # A growing .npy file. After a crash, a partial last row is cut off.
    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        header = {"shape": shape, "fortran_order": False, "descr": "<f4"}
        start = BytesIO()
        np.lib.format.write_array_header_1_0(start, header)
        begins, row = start.getvalue(), 4 * prod(shape[1:])
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


class _WindowEncoder(nn.Module):
    def __init__(self, encoder: Encoder, windows: WindowSettings | None) -> None:
        super().__init__()
        self.encoder, self._windows = encoder, windows

    def forward(self, waveforms: Tensor) -> Tensor:
        if self._windows is None:
            return self.encoder.encode(waveforms)
        parts = evenly_spread(waveforms, self._windows.length, self._windows.count)
        return torch.stack([self.encoder.encode(part) for part in parts], dim=1)


def _encoder(network: nn.Module) -> Encoder:
    return next(part for part in network.modules() if isinstance(part, Encoder))
