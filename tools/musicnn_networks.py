"""The two networks behind musicnn's pretrained music taggers.

J. Pons and X. Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging"
(2019). Both take patches of 187 log-mel frames (3 s) × 96 bands and estimate 50 tags. With these
definitions, ``convert_musicnn.py`` converts the published weights into ONNX files, which need no
torch. ``prune`` removes dead filters, which makes
``MSD_musicnn`` several times faster with the same results.

- ``Musicnn``: tall filters for timbre and long ones for rhythm, maximum over frequency; three dense
  layers along time; the maximum and mean over time.
- ``Vgg``: five blocks of 3 × 3 convolution and pooling.

In both, batch normalisation follows the ReLU.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-3
"""Added to the variance in batch normalisation."""

KERNELS = ((7, 38), (7, 67), (128, 1), (64, 1), (32, 1))
"""Frames × bands of ``Musicnn``'s front-end filters: two for timbre, three for rhythm."""
THRESHOLD = 1e-4
"""A filter whose weights are all below this is dead."""


class MusicnnOutput(NamedTuple):
    """A network's outputs for a batch of patches.

    Attributes
    ----------
    tags
        float32 (patches, 50), the likelihood of each tag in [0, 1]; they do not sum to one.
    penultimate
        float32 (patches, 200) for ``Musicnn``, (patches, 256) for ``Vgg``: input of the last
        layer.
    pooled
        float32 (patches, 1506) or (patches, 1280), fewer after ``prune``: maximum and mean of
        every feature map.
    maps
        Of ``Musicnn`` the feature maps of the front end and of the first and the third deeper
        layer, float32 (patches, maps, 187 frames), fewer after ``prune``; of ``Vgg`` none.
    """

    tags: Tensor
    penultimate: Tensor
    pooled: Tensor
    maps: tuple[Tensor, ...]


class Musicnn(nn.Module):
    """The musically motivated network: 787,000 parameters.

    ``pooled`` interleaves: maximum, mean of the first feature map over time, then of the second,
    and so on: timbral and temporal ones, then 3 × 64 deeper ones.

    Parameters
    ----------
    widths
        Feature maps of each of the five front-end branches.
    tags
        Number of tags.
    """

    def __init__(self, widths: Sequence[int] = (204, 204, 51, 51, 51), tags: int = 50) -> None:
        super().__init__()
        front = sum(widths)
        self.input_norm = nn.BatchNorm2d(1, eps=EPSILON)
        self.front = nn.ModuleList(map(_Front, KERNELS, widths))
        self.middle = nn.ModuleList(_Middle(width, 64) for width in (front, 64, 64))
        self.pooled_norm: nn.Module = nn.BatchNorm1d(2 * (front + 3 * 64), eps=EPSILON)
        self.hidden = nn.Linear(2 * (front + 3 * 64), 200)
        self.hidden_norm = nn.BatchNorm1d(200, eps=EPSILON)
        self.tags = nn.Linear(200, tags)

    def forward(self, log_mel: Tensor) -> MusicnnOutput:
        """Estimate tags from log-mel patches, float32 (patches, frames, 96)."""
        x = self.input_norm(log_mel.unsqueeze(1))
        front = torch.cat([branch(x) for branch in self.front], dim=1)
        first = self.middle[0](front)
        second = first + self.middle[1](first)
        third = second + self.middle[2](second)
        maps = torch.cat([front, first, second, third], dim=1)
        pooled = torch.stack([maps.amax(dim=2), maps.mean(dim=2)], dim=2).flatten(1)
        hidden = self.hidden(functional.dropout(self.pooled_norm(pooled), 0.5, self.training))
        penultimate = self.hidden_norm(hidden.relu())
        logits = self.tags(functional.dropout(penultimate, 0.5, self.training))
        return MusicnnOutput(logits.sigmoid(), penultimate, pooled, (front, first, third))


class Vgg(nn.Module):
    """The plain convolutional network: 605,000 parameters.

    ``pooled`` is, block by block, the maximum of each of its feature maps over time and
    frequency, then their means.

    Parameters
    ----------
    widths
        Feature maps of each of the five blocks.
    tags
        Number of tags.
    """

    def __init__(self, widths: Sequence[int] = (128, 128, 128, 128, 128), tags: int = 50) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=EPSILON)
        pools = [nn.MaxPool2d((4, 1), 2), *(nn.MaxPool2d(2) for _ in range(3)), nn.MaxPool2d(4)]
        self.blocks = nn.ModuleList(map(_ConvBlock, (1, *widths), widths, pools))
        self.tags = nn.Linear(2 * widths[-1], tags)

    def forward(self, log_mel: Tensor) -> MusicnnOutput:
        """Estimate tags from log-mel patches, float32 (patches, 187, 96)."""
        x = self.input_norm(log_mel.unsqueeze(1))
        pooled: list[Tensor] = []
        for block, dropout in zip(self.blocks, (0, 0.25, 0.25, 0.25, 0.25), strict=True):
            x = block(functional.dropout(x, dropout, self.training))
            pooled += [x.amax(dim=(2, 3)), x.mean(dim=(2, 3))]
        penultimate = x.permute(0, 2, 3, 1).flatten(1)  # as TensorFlow orders it: map last
        logits = self.tags(functional.dropout(penultimate, 0.5, self.training))
        return MusicnnOutput(logits.sigmoid(), penultimate, torch.cat(pooled, dim=1), ())


class _Front(nn.Module):
    """Convolution that keeps the length, ReLU, normalisation, maximum over all frequencies.

    From (patches, 1, frames, 96) to (patches, maps, frames).
    """

    def __init__(self, kernel: tuple[int, int], maps: int) -> None:
        super().__init__()
        frames, _ = kernel
        self.conv = nn.Conv2d(1, maps, kernel, padding=(frames // 2, 0))
        self.norm = nn.BatchNorm2d(maps, eps=EPSILON)
        # With equal padding on both sides, an even kernel gives one frame too many: the first, as
        # TensorFlow pads more at the end.
        self.surplus = 1 - frames % 2

    def forward(self, x: Tensor) -> Tensor:
        strongest = self.norm(self.conv(x).relu()).amax(dim=3)
        return cast(Tensor, strongest[:, :, self.surplus :])


class _Middle(nn.Module):
    """Dense layer over all maps and seven frames: (patches, maps, frames), the same length out."""

    def __init__(self, maps_in: int, maps_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(maps_in, maps_out, 7, padding=3)
        self.norm = nn.BatchNorm1d(maps_out, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.conv(x).relu()))


class _ConvBlock(nn.Module):
    """3 × 3 convolution, ReLU, normalisation, pooling.

    From (patches, maps in, frames, bands) to (patches, maps out, fewer frames, fewer bands).
    """

    def __init__(self, maps_in: int, maps_out: int, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(maps_in, maps_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(maps_out, eps=EPSILON)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.pool(self.norm(self.conv(x).relu())))


NETWORKS: dict[str, type[Musicnn] | type[Vgg]] = {
    "MSD_musicnn": Musicnn,
    "MTT_musicnn": Musicnn,
    "MSD_vgg": Vgg,
    "MTT_vgg": Vgg,
}
"""The published sets of weights: on the Million Song Dataset or MagnaTagATune."""


def from_tensorflow(name: str, variables: Mapping[str, Tensor]) -> Musicnn | Vgg:
    """Build a network from weights in TensorFlow 1's names and layout.

    Parameters
    ----------
    name
        A key of ``NETWORKS``.
    variables
        Tensors by TensorFlow name: the n-th layer of each kind is ``conv2d_n`` (or ``nCNN``),
        ``batch_normalization_n`` and ``dense_n``, the first without a number.

    Returns
    -------
    The network, in evaluation mode.

    Raises
    ------
    KeyError
        If a variable is missing.
    RuntimeError
        If a variable's shape does not fit.
    """
    network = NETWORKS[name]()
    seen = dict.fromkeys(("conv", "norm", "dense"), 0)
    for layer in network.modules():
        kind = _kind(layer)
        if kind is not None:
            _fill(layer, variables, _layer_name(kind, seen[kind], variables))
            seen[kind] += 1
    return network.eval()


def prune(network: Musicnn | Vgg, threshold: float = THRESHOLD) -> Musicnn | Vgg:
    """Remove the filters whose weights weight decay has driven to zero.

    Many filters of the published networks are dead: in ``MSD_musicnn`` 497 of the 561 at the front
    have no weight above 1e-6, and 398 none above 1e-29. The output of such a filter is constant,
    so a single filter with output 1 replaces all dead ones of a layer, and the next layer scales
    it. Even at the edges, where that layer's input is zero padding, the result is the same but for
    rounding.

    Parameters
    ----------
    network
        A network in evaluation mode.
    threshold
        A filter with no weight above this is dead.

    Returns
    -------
    A narrower network for evaluation: the last map of each narrowed layer is constantly 1, and in
    ``Musicnn`` the normalisation of ``pooled`` is part of the next layer.
    """
    pruned = copy.deepcopy(network)
    with torch.no_grad():
        if isinstance(pruned, Musicnn):
            front = _diagonal(*(_narrow(cast(_Front, s), threshold) for s in pruned.front))
            _read(cast(_Middle, pruned.middle[0]).conv, front)
            _merge(pruned.pooled_norm, pruned.hidden)
            _read(pruned.hidden, _diagonal(front, torch.eye(3 * 64)).kron(torch.eye(2)))
            pruned.pooled_norm = nn.Identity()
        else:
            for block, following in pairwise(pruned.blocks):
                old_from_new = _narrow(cast(_ConvBlock, block), threshold)
                _read(cast(_ConvBlock, following).conv, old_from_new)
    return pruned.requires_grad_(requires_grad=False)


def _narrow(stage: _Front | _ConvBlock, threshold: float) -> Tensor:
    """Replace a stage's dead filters by one with output 1.

    Returns
    -------
    The matrix (old maps, new maps) that gives the old maps from the new ones.
    """
    conv, norm = stage.conv, stage.norm
    live = conv.weight.abs().flatten(1).amax(dim=1) > threshold
    old_from_new = torch.eye(len(live))[:, live]
    if live.all():
        return old_from_new
    constant: Tensor = norm(cast(Tensor, conv.bias).relu()[None, :, None, None]).flatten()
    state = {name: value[live] for name, value in stage.state_dict().items() if value.ndim}
    one = {"norm.weight": (1 + EPSILON) ** 0.5, "norm.running_var": 1.0, "conv.bias": 1.0}
    for name, value in state.items():
        added = torch.full_like(value[:1], one.get(name, 0.0))
        state[name] = torch.cat([value, added])
    stage.conv = nn.Conv2d(
        conv.in_channels,
        len(state["conv.bias"]),
        cast(tuple[int, int], conv.kernel_size),
        padding=cast(tuple[int, int], conv.padding),
    )
    stage.norm = nn.BatchNorm2d(len(state["conv.bias"]), eps=EPSILON).eval()
    stage.load_state_dict(state, strict=False)  # but for a counter that only training reads
    return torch.cat([old_from_new, (constant * ~live)[:, None]], dim=1)


def _read(layer: nn.Conv1d | nn.Conv2d | nn.Linear, old_from_new: Tensor) -> None:
    """Change a layer's input from the old maps to the new ones."""
    weight = torch.einsum("oi...,in->on...", layer.weight, old_from_new)
    layer.weight = nn.Parameter(weight)
    if not isinstance(layer, nn.Linear):
        layer.in_channels = weight.shape[1]


def _merge(norm: nn.Module, dense: nn.Linear) -> None:
    """Merge a normalisation into the dense layer after it."""
    shift = norm(torch.zeros(1, dense.in_features))
    scale = norm(torch.ones(1, dense.in_features)) - shift
    dense.bias = nn.Parameter(dense(shift).flatten())
    dense.weight = nn.Parameter(dense.weight * scale)


def _diagonal(*blocks: Tensor) -> Tensor:
    """Join matrices to one, along its diagonal."""
    return cast(Tensor, torch.block_diag(*blocks))  # type: ignore[no-untyped-call]


def _kind(layer: nn.Module) -> str | None:
    """Give the TensorFlow counter that numbers a layer; None for layers without weights."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return "conv"
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return "norm"
    return "dense" if isinstance(layer, nn.Linear) else None


def _layer_name(kind: str, index: int, variables: Mapping[str, Tensor]) -> str:
    """Name the layer as TensorFlow did."""
    if kind == "conv" and "1CNN/kernel" in variables:
        return f"{index + 1}CNN"
    stem = {"conv": "conv2d", "norm": "batch_normalization", "dense": "dense"}[kind]
    return f"{stem}_{index}" if index else stem


def _fill(layer: nn.Module, variables: Mapping[str, Tensor], name: str) -> None:
    """Copy one layer's variables in PyTorch's order of axes."""
    state = layer.state_dict()
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        state["weight"] = variables[f"{name}/gamma"]
        state["bias"] = variables[f"{name}/beta"]
        state["running_mean"] = variables[f"{name}/moving_mean"]
        state["running_var"] = variables[f"{name}/moving_variance"]
    else:
        state["weight"] = _weight(layer, variables[f"{name}/kernel"])
        state["bias"] = variables[f"{name}/bias"]
    layer.load_state_dict(state)


def _weight(layer: nn.Module, kernel: Tensor) -> Tensor:
    """Permute a TensorFlow kernel, (in, out) or (frames, bands, in, out), to PyTorch's order."""
    if isinstance(layer, nn.Linear):
        return kernel.T
    if isinstance(layer, nn.Conv1d):  # in TensorFlow, maps are the bands of one map
        return kernel.squeeze(2).permute(2, 1, 0)
    return kernel.permute(3, 2, 0, 1)
