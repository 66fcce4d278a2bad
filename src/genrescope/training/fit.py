"""Fit a recipe's model on packed arrays, through Lightning."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from genrescope.environment import configure, quiet
from genrescope.errors import GenrescopeError
from genrescope.models import make_model
from genrescope.models.classical import (
    ESTIMATORS,
    Temperature,
    fit_estimator,
    fit_temperature,
)
from genrescope.models.normalise import make_normaliser
from genrescope.models.windows import Average, Masks, Segments, Windows
from genrescope.representations import Representation
from genrescope.representations.representation import Array
from genrescope.training.frozen import above, hear_once, hears_once
from genrescope.training.recipe import Precision, Recipe, Schedule

Batch = tuple[Tensor, Tensor]
Curves = list[dict[str, float]]
"""One row an epoch: epoch, train_loss, train_accuracy, valid_loss, valid_accuracy."""

CURVES = "curves.csv"
HEARD = ".heard.npy"
"""Ends the names of files in a fit's folder that are of no more use once it is over."""
CURVE_COLUMNS = ("epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
EpochDone = Callable[[Mapping[str, float]], None]

_CHECKPOINTS_PER_FIT = 25
_TOGETHER = 2**20  # numbers that Lightning is handed at once: many batches of small arrays


@dataclass(frozen=True)
class Fitted:
    """A fitted network and how it came about.

    Attributes
    ----------
    network
        Representation's arrays, float32 (batch, *shape), to logits (batch, genres); on the CPU,
        in evaluation mode.
    curves
        Loss and accuracy after each epoch; of the first, where several networks are averaged.
    valid_logits
        float32 (validation tracks, genres), by a model that was not fitted on them.
    found
        The parameters that a search has found best.
    """

    network: nn.Module
    curves: Curves
    valid_logits: NDArray[np.float32]
    found: dict[str, Any] = field(default_factory=dict)


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
        self._unpack: Callable[[Array], NDArray[np.float32]] = representation.unpack
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
        return self.first(self._tracks)

    def first(self, tracks: int) -> PackedTracks:
        """Only so many of them, as they are."""
        some = copy(self)
        some._packed, some._labels = self._packed[:tracks], self._labels[:tracks]
        some._tracks = tracks
        return some

    def replaced(self, arrays: NDArray[np.float32]) -> PackedTracks:
        """The same tracks by other arrays, one for each of these."""
        others = copy(self)
        others._packed, others._unpack = arrays, _as_is
        return others

    def joined(self, others: PackedTracks) -> PackedTracks:
        """These, and others of the same representation, in all their versions."""
        both = copy(self)
        both._packed = np.concatenate([self._packed, others._packed])
        both._labels = torch.cat([self._labels, others._labels])
        both._tracks = len(both._labels)  # each version is a track of its own from here
        return both

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all of them."""
        return self._labels.numpy()

    @property
    def values(self) -> int:
        """Numbers in the array of one track."""
        return int(np.prod(self._packed.shape[1:]))

    @property
    def arrays(self) -> Tensor:
        """All of them, unpacked."""
        return torch.from_numpy(self._unpack(self._packed))


class EpochShuffle(Sampler[int]):
    """A new order every epoch that depends on nothing but the seed and the epoch.

    So a fit that is stopped and resumed sees the same batches as one that is not.
    """

    def __init__(self, length: int, seed: int, without: int = 0) -> None:
        self._length, self._seed, self._epoch = length, seed, 0
        self._taken = length - without  # so many of the order's last are left out

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._taken

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._length)
        return iter(order[: self._taken].tolist())


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
    """Cross-entropy on a network's logits; logs loss and accuracy of every epoch.

    Lightning hands it many batches of small arrays at once, for what it does around a training step
    takes longer than the step of a small model.

    Parameters
    ----------
    network
        Arrays to logits.
    recipe
        Says how the network is fitted.
    seed
        Decides dropout and masking.
    rows
        Arrays in an epoch, on all devices together.
    curves
        Told every epoch.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, seed: int, rows: int, curves: CurveFile
    ) -> None:
        super().__init__()
        assert recipe.optimiser is not None  # noqa: S101  classical recipes are fitted elsewhere
        assert recipe.batch_size is not None  # noqa: S101
        self.automatic_optimization = False
        self.network = network
        self._recipe, self._optimiser, self._batch_size = (
            recipe,
            recipe.optimiser,
            recipe.batch_size,
        )
        self._seed, self._rows, self._curves = seed, rows, curves
        self._train, self._valid = _Tally(), _Tally()
        self._means: dict[str, Tensor] = {}
        self._batches = 0  # of this epoch, so far

    def training_step(self, batches: Batch, _: int) -> None:
        """Learn from each of some batches, which lie one after the other."""
        optimiser, schedule = self.optimizers(), self.lr_schedulers()
        accumulate = self._recipe.accumulate
        arrays, labels = (torch.split(part, self._batch_size) for part in batches)
        for batch in zip(arrays, labels, strict=True):
            self.manual_backward(self._training_loss(batch) / accumulate)
            self._batches += 1
            if self._batches % accumulate == 0 or self._batches == self._batches_per_epoch:
                optimiser.step()  # type: ignore[union-attr]
                optimiser.zero_grad()  # type: ignore[union-attr]
                if schedule is not None:
                    schedule.step()  # type: ignore[union-attr]

    @property
    def _batches_per_epoch(self) -> int:
        return math.ceil(math.ceil(self._rows / self.trainer.world_size) / self._batch_size)

    def _training_loss(self, batch: Batch) -> Tensor:
        arrays, labels = batch
        augment = self._recipe.augment
        if augment is None or not augment.mixup:
            return self._loss(self.network(arrays), labels, self._train)
        share = float(torch.distributions.Beta(augment.mixup, augment.mixup).sample())
        others = torch.randperm(len(labels))
        logits = self.network(arrays.lerp(arrays[others], 1 - share))
        loss = self._loss(logits, labels, self._train)
        return share * loss + (1 - share) * self._cross_entropy(logits, labels[others])

    def validation_step(self, batch: Batch, _: int) -> None:
        """Count one batch's loss and accuracy."""
        arrays, labels = batch
        self._loss(self.network(arrays), labels, self._valid)

    def on_train_start(self) -> None:
        """Drop what the curves hold beyond the checkpoint that this fit goes on from."""
        if self.trainer.is_global_zero:
            self._curves.cut(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and masking by epoch, so that resuming changes nothing."""
        del batch
        if batch_idx == 0:  # not when the epoch starts: the loader still draws numbers then
            self._batches = 0
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
        self._means = {}  # not every epoch looks at the validation tracks

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser over all parameters that learn, and its schedule."""
        settings, schedule = self._optimiser, self._recipe.schedule
        kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
        optimiser = kind(
            self._groups(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        if schedule is None:
            return optimiser
        per_epoch = math.ceil(self._batches_per_epoch / self._recipe.accumulate)
        steps = per_epoch * (self._recipe.epochs or 1)
        moves = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate_factor(schedule, step, steps)
        )
        return [optimiser], [{"scheduler": moves, "interval": "step"}]

    def _groups(self) -> Any:
        decay = self._optimiser.layer_decay
        if decay == 1:
            return [parameter for parameter in self.parameters() if parameter.requires_grad]
        deep: list[Any] = [m for m in self.network.modules() if hasattr(m, "parameter_depths")]
        if not deep:
            raise GenrescopeError(
                f"Recipe {self._recipe.name}: {self._recipe.model.name} does not tell its layers' "
                "depths; leave layer_decay out."
            )
        return [
            {"params": parameters, "lr": self._optimiser.lr * decay**depth}
            for parameters, depth in deep[0].parameter_depths()
        ]

    def _loss(self, logits: Tensor, labels: Tensor, tally: _Tally) -> Tensor:
        loss = self._cross_entropy(logits, labels)
        tally.add(loss.detach(), logits.detach().argmax(dim=1) == labels)
        return loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        scores = logits.softmax(dim=1) if self._recipe.double_softmax else logits
        smoothing = self._recipe.label_smoothing if self.training else 0.0
        return nn.functional.cross_entropy(scores.float(), labels, label_smoothing=smoothing)

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


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the learning rate is multiplied by in step 0 … steps - 1 of a fit."""
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    moved = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return max(moved[schedule.name], 0.0)


def fit(
    recipe: Recipe,
    train: PackedTracks,
    valid: PackedTracks,
    *,
    shape: tuple[int, ...],
    genres: int,
    seed: int,
    folder: Path,
    segmented: bool = False,
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
    segmented
        Whether the first axis of ``shape`` counts segments of a track.
    on_epoch
        Told each epoch's row of the curves and of which fit it is; before them, where a frozen
        encoder hears all beforehand, how many ``clips`` it has ``heard``.
    trainer_flags
        Passed on to ``lightning.Trainer`` (accelerator, devices, strategy, …).

    Returns
    -------
    fitted
        Network and curves.

    Raises
    ------
    GenrescopeError
        If the recipe's model does not take such arrays, its weights cannot be read, or there is
        no getting through to MLflow, which is told of the fit, too, if MLFLOW_TRACKING_URI is set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Only a kernel that read memory it never wrote would need it filled, at a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if recipe.optimiser is None:
        return _fit_classical(recipe, train, valid, genres, seed, segmented=segmented)

    learn, check = train, valid if recipe.refit else valid.plain
    if hears_once(recipe, segmented=segmented):
        learn, check = _heard(
            recipe, (learn, check), shape, genres, folder, on_epoch, trainer_flags
        )

    def fitted(place: int, tracks: PackedTracks, held: PackedTracks) -> nn.Module:
        own = folder if place == 0 else folder / f"fit-{place}"
        tell = None if on_epoch is None else lambda row: on_epoch({**row, "fit": place})
        return _fit_network(
            recipe,
            tracks,
            held,
            shape=shape,
            genres=genres,
            seed=seed + 1000 * (place % recipe.members),
            folder=own,
            segmented=segmented,
            on_epoch=tell,
            trainer_flags=trainer_flags,
        )

    places = range(recipe.members)
    network = _averaged([fitted(place, learn, check.plain) for place in places])
    logits = _logits(network, valid.plain)
    if recipe.refit:
        whole, nothing = learn.joined(check), check.first(0)
        network = _averaged([fitted(recipe.members + p, whole, nothing) for p in places])
    network, logits = _calibrated(recipe, network, logits, valid.plain)
    return Fitted(network, read_curves(folder / CURVES), logits)


def _heard(
    recipe: Recipe,
    parts: tuple[PackedTracks, PackedTracks],
    shape: tuple[int, ...],
    genres: int,
    folder: Path,
    on_epoch: EpochDone | None,
    trainer_flags: dict[str, Any],
) -> tuple[PackedTracks, PackedTracks]:
    # The same tracks by what an encoder that does not learn makes of them.
    network = _model(recipe, shape, genres)
    devices = trainer_flags.get("devices", 1)
    if isinstance(devices, str):
        devices = [int(devices.split(",")[0])] if "," in devices else 1
    clips = sum(map(len, parts))

    def heard(place: int) -> PackedTracks:
        def tell(count: int) -> None:
            if on_epoch is not None:
                done = count + place * len(parts[0])
                on_epoch({"fit": 0, "epoch": 0, "heard": done, "clips": clips})

        arrays = hear_once(
            network,
            recipe.windows,
            parts[place],
            folder / f"{('train', 'valid')[place]}{HEARD}",
            batch_size=recipe.batch_size or 1,
            on_heard=tell,
            accelerator=trainer_flags.get("accelerator", "auto"),
            devices=devices[:1] if isinstance(devices, list) else 1,
            precision=precision_here(recipe, trainer_flags),
        )
        return parts[place].replaced(arrays)

    return heard(0), heard(1)


def _fit_network(
    recipe: Recipe,
    train: PackedTracks,
    valid: PackedTracks,
    *,
    shape: tuple[int, ...],
    genres: int,
    seed: int,
    folder: Path,
    segmented: bool,
    on_epoch: EpochDone | None,
    trainer_flags: dict[str, Any],
) -> nn.Module:
    folder.mkdir(parents=True, exist_ok=True)
    lightning.seed_everything(seed, verbose=False)
    network: nn.Module = nn.Sequential(
        _normaliser(recipe, train, segmented=segmented),
        _model(recipe, shape[1:] if segmented else shape, genres),
    )
    if segmented:
        network = Segments(network)
    once = hears_once(recipe, segmented=segmented)
    learner = above(network, recipe.windows) if once else network
    order = _order(train, recipe, seed)
    module = GenreModule(learner, recipe, seed, len(order), CurveFile(folder / CURVES, on_epoch))
    _train(recipe, module, train, order, valid, seed, folder, trainer_flags)
    return network.cpu().eval()


def _normaliser(recipe: Recipe, train: PackedTracks, *, segmented: bool) -> nn.Module:
    if recipe.normalise != "standardise":
        return make_normaliser(recipe.normalise, torch.empty(0))
    return make_normaliser(
        recipe.normalise, train.arrays.flatten(0, 1) if segmented else train.arrays
    )


def _model(recipe: Recipe, shape: tuple[int, ...], genres: int) -> nn.Module:
    windows, augment = recipe.windows, recipe.augment
    if windows is not None and windows.length > shape[-1]:
        raise GenrescopeError(
            f"Recipe {recipe.name}: windows of {windows.length} columns do not fit into arrays of "
            f"shape {shape}."
        )
    seen = shape if windows is None else (*shape[:-1], windows.length)
    network = make_model(recipe.model.name, seen, genres, recipe.model.parameters)
    if augment is not None and augment.time_masks + augment.frequency_masks:
        if len(shape) < 2:
            raise GenrescopeError(
                f"Recipe {recipe.name}: masks are for arrays of bands and columns, not {shape}."
            )
        masks = Masks(
            (augment.time_masks, augment.time_mask),
            (augment.frequency_masks, augment.frequency_mask),
        )
        network = nn.Sequential(masks, network)
    return network if windows is None else Windows(network, windows.length, windows.count)


def _averaged(networks: list[nn.Module]) -> nn.Module:
    return networks[0] if len(networks) == 1 else Average(networks).eval()


def _fit_classical(
    recipe: Recipe,
    train: PackedTracks,
    valid: PackedTracks,
    genres: int,
    seed: int,
    *,
    segmented: bool,
) -> Fitted:
    name = recipe.model.name
    if name not in ESTIMATORS:
        raise GenrescopeError(
            f"Recipe {recipe.name}: {name} is a network and needs optimiser, batch_size and epochs "
            f"(classical models are: {', '.join(sorted(ESTIMATORS))})."
        )
    lightning.seed_everything(seed, verbose=False)
    normaliser = _normaliser(recipe, train, segmented=segmented)

    def fitted(tracks: PackedTracks, settings: dict[str, Any]) -> nn.Module:
        arrays, labels = tracks.arrays, tracks.labels
        if segmented:
            labels = labels.repeat(arrays.shape[1])
            arrays = arrays.flatten(0, 1)
        rows = normaliser(arrays).numpy()
        parameters = {**recipe.model.parameters, **settings}
        model = nn.Sequential(
            normaliser, fit_estimator(name, rows, labels, genres, seed, parameters)
        )
        return (Segments(model) if segmented else model).eval()

    # What is chosen is chosen by the validation tracks; then they are learnt from, too.
    logits, settings = _searched(recipe, fitted, train, valid.plain)
    network, logits = _calibrated(
        recipe, fitted(train.joined(valid), settings), logits, valid.plain
    )
    return Fitted(network, [], logits, settings)


def _searched(
    recipe: Recipe,
    fitted: Callable[[PackedTracks, dict[str, Any]], nn.Module],
    train: PackedTracks,
    valid: PackedTracks,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    # The best by accuracy on the validation tracks, then by likelihood; of equals the first.
    tried: list[tuple[tuple[float, float], NDArray[np.float32], dict[str, Any]]] = []
    for values in product(*recipe.search.values()):
        settings = dict(zip(recipe.search, values, strict=True))
        logits = _logits(fitted(train, settings), valid)
        scores, labels = torch.from_numpy(logits), torch.from_numpy(valid.labels)
        right = float((scores.argmax(dim=1) == labels).float().mean())
        likelihood = -float(nn.functional.cross_entropy(scores, labels))
        tried.append(((right, likelihood), logits, settings))
    _, logits, settings = max(tried, key=lambda one: one[0])
    return logits, settings


def _logits(network: nn.Module, tracks: PackedTracks) -> NDArray[np.float32]:
    with torch.no_grad():
        parts = [
            network(tracks.__getitems__(list(rows))[0]).float().numpy()
            for rows in np.array_split(np.arange(len(tracks)), max(1, len(tracks) // 32))
        ]
    return np.concatenate(parts)


def precision_here(recipe: Recipe, trainer_flags: dict[str, Any]) -> Precision:
    """
    Return the precision that a recipe's fits have on this machine, in Lightning's spelling.

    A processor without bfloat16 works it out number by number, ten times slower than in full
    precision, or lacks the operator: there, what asks for mixed precision is fitted in full.
    """
    known = torch.cpu.get_capabilities()
    has_bf16 = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    accelerator = trainer_flags.get("accelerator", "auto")
    on_cpu = accelerator == "cpu" or (
        accelerator == "auto" and not torch.accelerator.is_available()
    )
    return "32-true" if on_cpu and not has_bf16 else recipe.precision


def _calibrated(
    recipe: Recipe, network: nn.Module, logits: NDArray[np.float32], valid: PackedTracks
) -> tuple[nn.Module, NDArray[np.float32]]:
    if not recipe.calibrate:
        return network, logits
    scale = Temperature(fit_temperature(logits, valid.labels))
    return nn.Sequential(network, scale).eval(), scale(torch.from_numpy(logits)).numpy()


def _train(
    recipe: Recipe,
    module: GenreModule,
    train: PackedTracks,
    order: EpochShuffle,
    valid: PackedTracks,
    seed: int,
    folder: Path,
    trainer_flags: dict[str, Any],
) -> None:
    epochs = recipe.epochs or 1  # validated: it is given
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
    with quiet(*_NEEDLESS_WARNINGS, logger="lightning.pytorch"):
        trainer = lightning.Trainer(
            max_epochs=epochs,
            check_val_every_n_epoch=recipe.validate_every,
            precision=precision_here(recipe, trainer_flags),
            deterministic=True,
            callbacks=callbacks,
            logger=_loggers(recipe, seed, folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            **trainer_flags,
        )
        trainer.fit(
            module,
            _loader(train, recipe, order),
            _loader(valid, recipe, None) if len(valid) else None,
            ckpt_path=last if last.exists() else None,
            weights_only=True,
        )
    if recipe.patience is not None:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])


def _loggers(recipe: Recipe, seed: int, folder: Path) -> list[Logger]:
    loggers: list[Logger] = [TensorBoardLogger(folder, name="", version="tensorboard")]
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        loggers.append(_mlflow_logger(uri, recipe, seed))
    return loggers


def _mlflow_logger(uri: str, recipe: Recipe, seed: int) -> MLFlowLogger:
    configure("mlflow")
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "genrescope")
    try:
        logger = MLFlowLogger(experiment, f"{recipe.name}, seed {seed}", uri)
        settings = recipe.model_dump(exclude={"about"}, exclude_none=True)
        # Of fits side by side, one at a time may find that there is no such experiment yet.
        with FileLock(user_cache_path("genrescope", ensure_exists=True) / "mlflow.lock"):
            logger.log_hyperparams({"seed": seed, "recipe_hash": recipe.hash, **settings})
    except ImportError as error:
        raise GenrescopeError(
            f"MLFLOW_TRACKING_URI is {uri}, but there is no MLflow: pip install "
            "'genrescope[mlflow]', or unset it."
        ) from error
    except Exception as error:  # of whatever kind of store it is
        told = " ".join(str(error).split())
        raise GenrescopeError(
            f"MLFLOW_TRACKING_URI is {uri}, which cannot be written to ({told.rstrip('.')}). Mend "
            "it, or unset it."
        ) from error
    return logger


def _order(tracks: PackedTracks, recipe: Recipe, seed: int) -> EpochShuffle:
    # BatchNorm cannot learn from a batch of one, which may be left over at the end.
    size = recipe.batch_size or 2
    lone = len(tracks) > size and len(tracks) % size == 1
    return EpochShuffle(len(tracks), seed, without=int(lone))


def _loader(tracks: PackedTracks, recipe: Recipe, order: EpochShuffle | None) -> DataLoader[Any]:
    size = recipe.batch_size or 2  # validated: it is given
    together = max(1, _TOGETHER // (size * tracks.values)) * size
    return DataLoader(
        tracks,
        max(2 * size, together) if order is None else together,
        sampler=order,
        collate_fn=_as_is,  # PackedTracks makes whole batches already
        num_workers=0,
    )


def _as_is(arrays: Any) -> Any:
    return arrays


_NEEDLESS_WARNINGS = (
    ".*does not have many workers.*",  # the arrays are in memory
    ".*number of training batches.*smaller than the logging.*",
    ".*Checkpoint directory.*exists and is not empty.*",
    ".*in eval mode at the start.*",  # frozen encoders
    ".*but have no `val_dataloader`.*",  # in a refit
    ".*isinstance.treespec, LeafSpec.*",
)
