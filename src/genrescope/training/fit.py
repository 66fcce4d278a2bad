"""Fit a recipe's model on packed arrays, through Lightning."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from genrescope.errors import GenrescopeError
from genrescope.models import make_model
from genrescope.models.classical import (
    ESTIMATORS,
    Temperature,
    fit_estimator,
    fit_temperature,
)
from genrescope.models.normalise import make_normaliser
from genrescope.representations import Representation
from genrescope.representations.representation import Array
from genrescope.training.recipe import Optimiser, Recipe

Batch = tuple[Tensor, Tensor]
Curves = list[dict[str, float]]
"""One row an epoch: epoch, train_loss, train_accuracy, valid_loss, valid_accuracy."""

CURVE_COLUMNS = ("epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
EpochDone = Callable[[Mapping[str, float]], None]

_CHECKPOINTS_PER_FIT = 25


@dataclass(frozen=True)
class Fitted:
    """A fitted network and how it came about.

    Attributes
    ----------
    network
        Representation's arrays, float32 (batch, *shape), to logits (batch, genres); on the CPU,
        in evaluation mode.
    curves
        Loss and accuracy after each epoch.
    """

    network: nn.Module
    curves: Curves


class PackedTracks(Dataset[Batch]):
    """Arrays held packed in memory, unpacked a whole batch at a time.

    Parameters
    ----------
    representation
        Knows how to unpack.
    packed
        (versions × all tracks, *shape); may be a memory map that several processes share.
    index
        int (tracks,): which of them.
    labels
        int64 (tracks,), one for each index.
    versions
        Of each track, the first of them as it is.
    """

    def __init__(
        self,
        representation: Representation,
        packed: Array,
        index: NDArray[np.int64],
        labels: NDArray[np.int64],
        versions: int = 1,
    ) -> None:
        steps = np.arange(versions)[:, None] * (len(packed) // versions)
        self._unpack = representation.unpack
        self._packed = np.ascontiguousarray(packed[(steps + index).ravel()])
        self._labels = torch.from_numpy(np.tile(labels, versions))
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
        """The tracks as they are, without their other versions."""
        tracks = copy(self)
        tracks._packed, tracks._labels = self._packed[: self._tracks], self._labels[: self._tracks]
        return tracks

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all of them."""
        return self._labels.numpy()

    @property
    def arrays(self) -> Tensor:
        """All of them, unpacked."""
        return torch.from_numpy(self._unpack(self._packed))


class EpochShuffle(Sampler[int]):
    """A new order every epoch that depends on nothing but the seed and the epoch.

    So a fit that is stopped and resumed sees the same batches as one that is not.
    """

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed, self._epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._length)
        return iter(order.tolist())


class CurveFile:
    """Curves on disk, so that those of a resumed fit are whole.

    Parameters
    ----------
    path
        A CSV file with the columns ``CURVE_COLUMNS``.
    on_epoch
        Told every row that is appended.
    """

    def __init__(self, path: Path, on_epoch: EpochDone | None = None) -> None:
        self._path, self._on_epoch = path, on_epoch

    def cut(self, epochs: int) -> None:
        """Keep the rows of so many epochs."""
        kept = [row for row in read_curves(self._path) if row["epoch"] <= epochs]
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, CURVE_COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def append(self, row: dict[str, float]) -> None:
        """Add an epoch."""
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, CURVE_COLUMNS).writerow(row)
        if self._on_epoch:
            self._on_epoch(row)


class _Tally:
    # Lightning's own per-step logging takes longer than a step of the small models.
    def __init__(self) -> None:
        self._sums, self._count = torch.zeros(2), 0

    def add(self, loss: Tensor, right: Tensor) -> None:
        self._sums = self._sums.to(loss.device) + torch.stack((loss * len(right), right.sum()))
        self._count += len(right)

    def take(self, part: str) -> dict[str, Tensor]:
        loss, accuracy = self._sums / max(self._count, 1)
        self.__init__()  # type: ignore[misc]
        return {f"{part}_loss": loss, f"{part}_accuracy": accuracy}


class GenreModule(lightning.LightningModule):
    """Cross-entropy on a network's logits; logs loss and accuracy of every epoch."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        optimiser: Optimiser,
        seed: int,
        curves: CurveFile,
    ) -> None:
        super().__init__()
        self.network = network
        self._recipe, self._optimiser = recipe, optimiser
        self._seed, self._curves = seed, curves
        self._train, self._valid = _Tally(), _Tally()
        self._means: dict[str, Tensor] = {}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One batch's loss."""
        return self._step(batch, self._train)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Count one batch's loss and accuracy."""
        self._step(batch, self._valid)

    def on_train_start(self) -> None:
        """Drop what the curves hold beyond the checkpoint that this fit goes on from."""
        if self.trainer.is_global_zero:
            self._curves.cut(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and masking by epoch, so that resuming changes nothing."""
        del batch
        if batch_idx == 0:  # not when the epoch starts: the loader still draws numbers then
            lightning.seed_everything(self._seed + 1000 * (self.current_epoch + 1), verbose=False)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's means over the validation tracks."""
        self._log(self._valid.take("valid"))

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means over the training tracks, as they were met."""
        self._log(self._train.take("train"))
        if self.trainer.is_global_zero:
            means = {name: float(value) for name, value in self._means.items()}
            self._curves.append({"epoch": self.current_epoch + 1, **means})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's optimiser over all parameters."""
        settings = self._optimiser
        kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
        return kind(
            self.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )

    def _step(self, batch: Batch, tally: _Tally) -> Tensor:
        arrays, labels = batch
        logits = self.network(arrays)
        scores = logits.softmax(dim=1) if self._recipe.double_softmax else logits
        loss = nn.functional.cross_entropy(scores, labels)
        tally.add(loss.detach(), logits.detach().argmax(dim=1) == labels)
        return loss

    def _log(self, means: dict[str, Tensor]) -> None:
        self._means |= means
        self.log_dict(means, on_step=False, on_epoch=True, sync_dist=self.trainer.world_size > 1)


def read_curves(path: Path) -> Curves:
    """Read the curves that a fit has written; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]


def fit(
    recipe: Recipe,
    train: PackedTracks,
    valid: PackedTracks,
    *,
    shape: tuple[int, ...],
    genres: int,
    seed: int,
    folder: Path,
    on_epoch: EpochDone | None = None,
    **trainer_flags: Any,
) -> Fitted:
    """Fit a recipe's model; goes on from the last checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    recipe
        What to fit.
    train, valid
        Tracks to learn from, in all their versions, and to validate on, as they are.
    shape
        Of one track's array.
    genres
        How many there are; labels are 0 … genres - 1.
    seed
        Decides initial weights, order and dropout.
    folder
        For checkpoints, TensorBoard files and ``curves.csv``.
    on_epoch
        Told each epoch's row of the curves.
    trainer_flags
        Passed on to ``lightning.Trainer`` (accelerator, devices, strategy, …).

    Returns
    -------
    fitted
        Network and curves.

    Raises
    ------
    GenrescopeError
        If the recipe's model does not take such arrays, or its weights cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lightning.seed_everything(seed, verbose=False)
    # Only a kernel that read memory it never wrote would need it filled, at a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    normaliser = make_normaliser(
        recipe.normalise, train.arrays if recipe.normalise == "standardise" else torch.empty(0)
    )
    if recipe.optimiser is None:
        return Fitted(_fit_classical(recipe, normaliser, train, valid, genres, seed), [])
    network = nn.Sequential(
        normaliser, make_model(recipe.model.name, shape, genres, recipe.model.parameters)
    )
    curves = CurveFile(folder / "curves.csv", on_epoch)
    module = GenreModule(network, recipe, recipe.optimiser, seed, curves)
    _train(recipe, module, train, valid.plain, seed, folder, trainer_flags)
    network = network.cpu().eval()
    if recipe.calibrate:
        network = nn.Sequential(network, _temperature(network, valid.plain)).eval()
    return Fitted(network, read_curves(folder / "curves.csv"))


def _fit_classical(
    recipe: Recipe,
    normaliser: nn.Module,
    train: PackedTracks,
    valid: PackedTracks,
    genres: int,
    seed: int,
) -> nn.Module:
    name = recipe.model.name
    if name not in ESTIMATORS:
        raise GenrescopeError(
            f"Recipe {recipe.name}: {name} is a network and needs optimiser, batch_size and epochs "
            f"(classical models are: {', '.join(sorted(ESTIMATORS))})."
        )

    def fitted(arrays: Tensor, labels: NDArray[np.int64]) -> nn.Module:
        rows = normaliser(arrays).numpy()
        model = fit_estimator(name, rows, labels, genres, seed, recipe.model.parameters)
        return nn.Sequential(normaliser, model).eval()

    # Nothing is chosen by the validation tracks but the temperature; then they are learnt from.
    arrays = torch.cat([train.arrays, valid.arrays])
    refitted = fitted(arrays, np.concatenate([train.labels, valid.labels]))
    if not recipe.calibrate:
        return refitted
    first = fitted(train.arrays, train.labels)
    return nn.Sequential(refitted, _temperature(first, valid.plain)).eval()


def _temperature(network: nn.Module, tracks: PackedTracks) -> Temperature:
    with torch.no_grad():
        logits = network(tracks.arrays).numpy()
    return Temperature(fit_temperature(logits, tracks.labels))


def _train(
    recipe: Recipe,
    module: GenreModule,
    train: PackedTracks,
    valid: PackedTracks,
    seed: int,
    folder: Path,
    trainer_flags: dict[str, Any],
) -> None:
    batch_size, epochs = recipe.batch_size or 2, recipe.epochs or 1  # validated: both are given
    module.train()  # pretrained encoders are loaded in evaluation mode
    last = folder / "last.ckpt"
    every = max(1, epochs // _CHECKPOINTS_PER_FIT)
    # The newest checkpoint only, replaced every so many epochs and after the last.
    keep_newest = ModelCheckpoint(
        folder,
        "last",
        save_top_k=1,
        every_n_epochs=every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [keep_newest]
    if recipe.patience is not None:
        best = ModelCheckpoint(folder, "best", "valid_loss", enable_version_counter=False)
        callbacks += [EarlyStopping("valid_loss", patience=recipe.patience), best]
    with _quiet_lightning():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            precision=recipe.precision,
            deterministic=True,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            **trainer_flags,
        )
        trainer.fit(
            module,
            _loader(train, batch_size, EpochShuffle(len(train), seed)),
            _loader(valid, 2 * batch_size, None) if len(valid) else None,
            ckpt_path=last if last.exists() else None,
            weights_only=True,
        )
    if recipe.patience is not None:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])


def _loader(tracks: PackedTracks, batch_size: int, sampler: Sampler[int] | None) -> DataLoader[Any]:
    # BatchNorm cannot learn from a batch of one, which may be left over at the end.
    lone = sampler is not None and len(tracks) > batch_size and len(tracks) % batch_size == 1
    return DataLoader(
        tracks,
        batch_size,
        sampler=sampler,
        collate_fn=_as_is,
        drop_last=lone,
        num_workers=0,
    )


def _as_is(batch: Any) -> Any:
    # PackedTracks makes whole batches already.
    return batch


class _quiet_lightning(warnings.catch_warnings):  # noqa: N801  used like a function
    # Lightning tells of devices, and advises workers that arrays in memory have no use for.
    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings(
            "ignore", ".*number of training batches.*smaller than the logging.*"
        )
        warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
        self._level = logging.getLogger("lightning.pytorch").level
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

    def __exit__(self, *exc: Any) -> None:
        logging.getLogger("lightning.pytorch").setLevel(self._level)
        super().__exit__(*exc)
