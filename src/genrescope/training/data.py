"""The training data: packed arrays, their order in each epoch, and their loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from genrescope.representations import Representation
from genrescope.representations.representation import Array
from genrescope.training.recipe import Recipe

Batch = tuple[Tensor, Tensor]

_VALUES_PER_LOAD = 2**20  # loaded at once: many batches of small arrays


class PackedTracks(Dataset[Batch]):
    """Arrays held packed in memory, unpacked a whole batch at a time.

    Parameters
    ----------
    representation
        Unpacks the arrays.
    packed
        (versions × all tracks, *shape); may be a memory map that several processes share.
    index
        int (tracks,): which tracks to use.
    labels
        int64 (tracks,), one for each index.
    versions
        Of each track; the first is the unchanged one.
    groups
        int64 (tracks,), equal for tracks of one artist; by default each is an artist of its own.
    """

    def __init__(
        self,
        representation: Representation,
        packed: Array,
        index: NDArray[np.int64],
        labels: NDArray[np.int64],
        versions: int = 1,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        steps = np.arange(versions)[:, None] * (len(packed) // versions)
        self._unpack: Callable[[Array], NDArray[np.float32]] = representation.unpack
        self._packed = np.ascontiguousarray(packed[(steps + index).ravel()])
        self._labels = torch.from_numpy(np.tile(labels, versions))
        self._groups = np.tile(index if groups is None else groups, versions)
        self._tracks = len(index)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> Batch:
        return self.__getitems__([i])

    def __getitems__(self, rows: list[int]) -> Batch:
        arrays = torch.from_numpy(self._unpack(self._packed[rows]))
        return arrays, self._labels[rows]

    @property
    def plain(self) -> PackedTracks:
        """The unchanged version of every track."""
        return self.first(self._tracks)

    def first(self, tracks: int) -> PackedTracks:
        """The unchanged version of the first ``tracks`` tracks."""
        some = copy(self)
        some._packed, some._labels = self._packed[:tracks], self._labels[:tracks]
        some._groups = self._groups[:tracks]
        some._tracks = tracks
        return some

    def replaced(self, arrays: NDArray[np.float32]) -> PackedTracks:
        """The same tracks with other arrays, one for each of these."""
        others = copy(self)
        others._packed, others._unpack = arrays, _identity
        return others

    def joined(self, others: PackedTracks) -> PackedTracks:
        """These tracks and others of the same representation, in all their versions."""
        both = copy(self)
        both._packed = np.concatenate([self._packed, others._packed])
        both._labels = torch.cat([self._labels, others._labels])
        both._groups = np.concatenate([self._groups, others._groups])
        both._tracks = len(both._labels)  # each version counts as a track of its own from here
        return both

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (arrays,)."""
        return self._labels.numpy()

    @property
    def groups(self) -> NDArray[np.int64]:
        """int64 (arrays,)."""
        return self._groups

    @property
    def values(self) -> int:
        """Numbers in the array of one track."""
        return int(np.prod(self._packed.shape[1:]))

    @property
    def arrays(self) -> Tensor:
        """float32 (arrays, *shape), unpacked."""
        return torch.from_numpy(self._unpack(self._packed))


class EpochShuffle(Sampler[int]):
    """A new order every epoch, which depends only on the seed and the epoch.

    So a fit that is stopped and resumed sees the same batches as one that is not.
    """

    def __init__(self, length: int, seed: int, without: int = 0) -> None:
        self._length, self._seed, self._epoch = length, seed, 0
        self._taken = length - without  # the last ``without`` of the order are left out

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._taken

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._length)
        return iter(order[: self._taken].tolist())


def make_order(tracks: PackedTracks, recipe: Recipe, seed: int) -> EpochShuffle:
    """Make the order of the training arrays."""
    # BatchNorm cannot learn from a batch of one, which may be left over at the end.
    size = recipe.batch_size or 2
    lone = len(tracks) > size and len(tracks) % size == 1
    return EpochShuffle(len(tracks), seed, without=int(lone))


def make_loader(
    tracks: PackedTracks, recipe: Recipe, order: EpochShuffle | None
) -> DataLoader[Any]:
    """Make a loader of several batches at once; ``order`` is None for validation tracks."""
    size = recipe.batch_size or 2  # validated: it is given
    together = max(1, _VALUES_PER_LOAD // (size * tracks.values)) * size
    return DataLoader(
        tracks,
        max(2 * size, together) if order is None else together,
        sampler=order,
        collate_fn=_identity,  # PackedTracks makes whole batches already
        num_workers=0,
    )


def compute_logits(network: nn.Module, tracks: PackedTracks) -> NDArray[np.float32]:
    """Run a network on all arrays; float32 (arrays, genres), or what else it gives for each."""
    with torch.no_grad():
        parts = [
            network(tracks.__getitems__(list(rows))[0]).float().numpy()
            for rows in np.array_split(np.arange(len(tracks)), max(1, len(tracks) // 32))
        ]
    return np.concatenate(parts)


def _identity(arrays: Any) -> Any:
    return arrays
