"""BatchNorm → ReLU → 2×2 max-pool in one step, for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_WINDOW = [2, 2]


def pooled_norm(maps: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Normalise by the batch's statistics, update those of ``norm``, then rectify and pool.

    BatchNorm's factors are positive here, so it commutes with ReLU and pooling: only a quarter of
    the values is normalised and rectified. S. Ioffe and C. Szegedy, "Batch Normalization", ICML
    2015.

    Parameters
    ----------
    maps
        float32 (batch, channels, rows, columns), on a CPU.
    norm
        In training mode, with running statistics and weights; see ``can_pool_first``.

    Returns
    -------
    Tensor
        float32 (batch, channels, rows // 2, columns // 2).
    """
    maps = maps.contiguous(memory_format=torch.channels_last)
    variance, mean = _statistics(maps.detach())
    _update_running(norm, mean, variance, maps.numel() // maps.shape[1])
    pooled: Tensor = _PooledNorm.apply(  # type: ignore[no-untyped-call]
        maps, norm.weight, norm.bias, mean, (variance + norm.eps).rsqrt()
    )
    return pooled


def can_pool_first(maps: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Return whether ``pooled_norm`` may replace the three layers.

    It is faster on a CPU only. A channel with a negative factor would need its minimum, with a
    factor of zero its first value.
    """
    return (
        norm.training
        and maps.device.type == "cpu"
        and maps.dtype == torch.float32
        and bool((norm.weight > 0).all())
    )


def _statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    # Variance and mean of each channel, over the rows of each column first: a float32 sum over all
    # places at once, as in BatchNorm, loses four digits.
    batch, channels, rows, columns = maps.shape
    flat = maps.permute(0, 2, 3, 1).reshape(batch * rows, columns * channels)
    found = torch.batch_norm_update_stats(flat, None, None, 0.0)
    means, variances = (part.view(columns, channels) for part in found)
    between, mean = torch.var_mean(means, dim=0, correction=0)
    return variances.mean(dim=0) + between, mean


@torch.no_grad()
def _update_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * (count / (count - 1)), share)


class _PooledNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor
    ) -> Tensor:
        highest, places = torch.ops.aten.max_pool2d_with_indices(maps, _WINDOW)
        slope = weight * scale
        result = torch.addcmul(_wide(bias - mean * slope), highest, _wide(slope)).relu_()
        ctx.save_for_backward(maps, places, highest, result, weight, mean, scale)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, places, highest, result, weight, mean, scale = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, result, 0)  # that of ReLU
        to_bias = gradient.sum((0, 2, 3))
        to_weight = scale * (gradient * (highest - _wide(mean))).sum((0, 2, 3))
        # Through the statistics, every place has a gradient linear in its value; the maximum of a
        # window has its own as well.
        share = weight * scale / (maps.numel() // maps.shape[1])
        slope = -share * scale * to_weight
        to_maps = torch.addcmul(_wide(-share * to_bias - slope * mean), maps, _wide(slope))
        _by_place(to_maps).scatter_add_(
            1, _by_place(places), _by_place(gradient * _wide(weight * scale))
        )
        return to_maps, to_weight, to_bias, None, None


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def _by_place(maps: Tensor) -> Tensor:
    # (batch, places, channels), the same memory where the maps are channels last.
    return maps.permute(0, 2, 3, 1).flatten(1, 2)
