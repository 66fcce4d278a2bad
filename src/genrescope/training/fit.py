"""Fit a recipe's model on packed arrays; a stopped fit resumes from its last checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from torch import nn

from genrescope.errors import GenrescopeError
from genrescope.models import make_model
from genrescope.models.classical import Temperature, fit_temperature
from genrescope.models.encoder import Encoder
from genrescope.models.windows import Average, Masks, SegmentNetwork, Windows
from genrescope.training.classical import fit_classical, fit_normaliser, fit_other
from genrescope.training.data import (
    EpochShuffle,
    PackedTracks,
    compute_logits,
    make_loader,
    make_order,
)
from genrescope.training.frozen import above, encode_once, encodes_once
from genrescope.training.loggers import (
    CURVES,
    CurveFile,
    Curves,
    EpochDone,
    make_loggers,
    quiet_lightning,
    read_curves,
)
from genrescope.training.memory import MicroBatch, choose_micro_batch
from genrescope.training.module import GenreModule
from genrescope.training.recipe import Precision, Recipe

ENCODER_OUTPUTS = "encoder-outputs.npy"
"""Ends the names of files in a fit's folder that can be deleted once the fit is over."""

_CHECKPOINT_S = 1.0  # minimum time between checkpoints
_CHECKPOINT_COST = 50  # and in multiples of the time that one takes
_MICRO_BATCH = "micro-batch"  # a file: a resumed fit draws the same random numbers


@dataclass(frozen=True)
class Fitted:
    """A fitted network, with its curves and validation results.

    Attributes
    ----------
    network
        From the representation's arrays, float32 (batch, *shape), to logits (batch, genres); on
        the CPU, in evaluation mode.
    curves
        Loss and accuracy after each epoch; of several averaged networks, those of the first.
    valid_logits
        float32 (validation tracks, genres), by a model that was not fitted on them.
    found
        The best parameters of a search.
    other
        From the same arrays to a score for "none of these genres", float32 (batch,), which is
        larger for what is less like them; None if the recipe has no ``other``.
    """

    network: nn.Module
    curves: Curves
    valid_logits: NDArray[np.float32]
    found: dict[str, Any] = field(default_factory=dict)
    other: nn.Module | None = None


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
    """Fit a recipe's model; resume from the last checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    recipe
        What to fit.
    train, valid
        Training tracks, in all their versions, and validation tracks.
    shape
        Of one track's array.
    genres
        Their number; labels are 0 … genres - 1.
    seed
        Of initial weights, order and dropout.
    folder
        For checkpoints, TensorBoard files and ``curves.csv``.
    segmented
        Whether the first axis of ``shape`` counts segments of a track.
    on_epoch
        Called with each epoch's row of the curves and the number of its ``fit``. For an encoder,
        first with a ``micro_batch``, see ``choose_micro_batch``; if it is frozen and its outputs
        are computed once, then with the number of ``encoded`` clips, of ``clips``.
    trainer_flags
        Passed on to ``lightning.Trainer`` (accelerator, devices, strategy, …).

    Raises
    ------
    GenrescopeError
        If the recipe's model does not take such arrays, its weights cannot be read, a step of an
        encoder does not fit into the free memory, or MLFLOW_TRACKING_URI is set and MLflow cannot
        be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Filling takes a tenth of the time, and changes only kernels that read unwritten memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if recipe.optimiser is None:
        network, logits, found = fit_classical(
            recipe, train, valid, genres, seed, segmented=segmented
        )
        network, logits = _calibrated(recipe, network, logits, valid.plain)
        other = fit_other(recipe, train, valid) if recipe.other else None
        return Fitted(network, [], logits, found, other)

    if recipe.has_encoder:
        recipe = _with_micro_batch(recipe, shape, folder, on_epoch, trainer_flags)
    learn, check = train, valid if recipe.refit else valid.plain
    if encodes_once(recipe, segmented=segmented):
        learn, check = _encode(
            recipe, (learn, check), shape, genres, folder, on_epoch, trainer_flags
        )

    def fitted(place: int, tracks: PackedTracks, held: PackedTracks) -> nn.Module:
        own = folder if place == 0 else folder / f"fit-{place}"
        notify = None if on_epoch is None else lambda row: on_epoch({**row, "fit": place})
        return _fit_network(
            recipe,
            tracks,
            held,
            shape=shape,
            genres=genres,
            seed=seed + 1000 * (place % recipe.members),
            folder=own,
            segmented=segmented,
            on_epoch=notify,
            trainer_flags=trainer_flags,
        )

    places = range(recipe.members)
    network = _averaged([fitted(place, learn, check.plain) for place in places])
    logits = compute_logits(network, valid.plain)
    if recipe.refit:
        whole, nothing = learn.joined(check), check.first(0)
        network = _averaged([fitted(recipe.members + p, whole, nothing) for p in places])
    network, logits = _calibrated(recipe, network, logits, valid.plain)
    return Fitted(network, read_curves(folder / CURVES), logits)


def micro_batch_here(
    recipe: Recipe, shape: tuple[int, ...], trainer_flags: dict[str, Any]
) -> MicroBatch:
    """Choose how many clips a fit encodes at once on this machine; see ``choose_micro_batch``."""
    device = "cpu" if _is_on_cpu(trainer_flags) else "gpu"
    mixed = precision_here(recipe, trainer_flags) != "32-true"
    return choose_micro_batch(recipe, shape[-1], device, mixed=mixed)


def _with_micro_batch(
    recipe: Recipe,
    shape: tuple[int, ...],
    folder: Path,
    on_epoch: EpochDone | None,
    trainer_flags: dict[str, Any],
) -> Recipe:
    # The recipe with a number.
    kept = folder / _MICRO_BATCH
    if recipe.micro_batch == "auto" and kept.exists():
        before = kept.read_text(encoding="ascii").strip()
        if before.isdecimal():  # else it was stopped while it wrote
            recipe = recipe.model_copy(update={"micro_batch": int(before)})
    chosen = micro_batch_here(recipe, shape, trainer_flags)
    kept.write_text(f"{chosen.size}\n", encoding="ascii")
    if on_epoch is not None:
        on_epoch({"fit": 0, "epoch": 0, "micro_batch": chosen})
    return recipe.model_copy(update={"micro_batch": chosen.size})


def _encode(
    recipe: Recipe,
    parts: tuple[PackedTracks, PackedTracks],
    shape: tuple[int, ...],
    genres: int,
    folder: Path,
    on_epoch: EpochDone | None,
    trainer_flags: dict[str, Any],
) -> tuple[PackedTracks, PackedTracks]:
    # The same tracks, with the outputs of a frozen encoder as their arrays.
    network = _model(recipe, shape, genres)
    devices = trainer_flags.get("devices", 1)
    if isinstance(devices, str):
        devices = [int(devices.split(",")[0])] if "," in devices else 1
    clips = sum(map(len, parts))

    def encoded(place: int) -> PackedTracks:
        def notify(count: int) -> None:
            if on_epoch is not None:
                done = count + place * len(parts[0])
                on_epoch({"fit": 0, "epoch": 0, "encoded": done, "clips": clips})

        arrays = encode_once(
            network,
            recipe.windows,
            parts[place],
            folder / f"{('train', 'valid')[place]}-{ENCODER_OUTPUTS}",
            batch_size=recipe.batch_size or 1,
            on_encoded=notify,
            accelerator=trainer_flags.get("accelerator", "auto"),
            devices=devices[:1] if isinstance(devices, list) else 1,
            precision=precision_here(recipe, trainer_flags),
        )
        return parts[place].replaced(arrays)

    return encoded(0), encoded(1)


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
        fit_normaliser(recipe, train, segmented=segmented),
        _model(recipe, shape[1:] if segmented else shape, genres),
    )
    if segmented:
        network = SegmentNetwork(network)
    once = encodes_once(recipe, segmented=segmented)
    learner = above(network, recipe.windows) if once else network
    order = make_order(train, recipe, seed)
    module = GenreModule(learner, recipe, seed, len(order), CurveFile(folder / CURVES, on_epoch))
    _train(recipe, module, train, order, valid, seed, folder, trainer_flags)
    return network.cpu().eval()


def _model(recipe: Recipe, shape: tuple[int, ...], genres: int) -> nn.Module:
    windows, augment = recipe.windows, recipe.augment
    if windows is not None and windows.length > shape[-1]:
        raise GenrescopeError(
            f"Recipe {recipe.name}: windows of {windows.length} columns do not fit into arrays of "
            f"shape {shape}."
        )
    seen = shape if windows is None else (*shape[:-1], windows.length)
    network = make_model(recipe.model.name, seen, genres, recipe.model.parameters)
    if isinstance(network, Encoder) and recipe.micro_batch != "auto":
        network.micro_batch = recipe.micro_batch
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


def precision_here(recipe: Recipe, trainer_flags: dict[str, Any]) -> Precision:
    """Give the precision of a recipe's fits on this machine, in Lightning's spelling.

    A CPU without bfloat16 instructions emulates them, ten times slower than full precision, or
    lacks the operator. There, mixed precision becomes full precision.
    """
    known = torch.cpu.get_capabilities()
    has_bf16 = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "32-true" if _is_on_cpu(trainer_flags) and not has_bf16 else recipe.precision


def _is_on_cpu(trainer_flags: dict[str, Any]) -> bool:
    accelerator = trainer_flags.get("accelerator", "auto")
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


def _calibrated(
    recipe: Recipe, network: nn.Module, logits: NDArray[np.float32], valid: PackedTracks
) -> tuple[nn.Module, NDArray[np.float32]]:
    if not recipe.calibrate:
        return network, logits
    scale = Temperature(fit_temperature(logits, valid.labels))
    return nn.Sequential(network, scale).eval(), scale(torch.from_numpy(logits)).numpy()


class _NewestCheckpoint(ModelCheckpoint):
    """Keeps a checkpoint of the newest epoch; saving takes a fiftieth of the time at most."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        self._due = 0.0

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save if it is time to, or the last epoch has ended."""
        begun = time.monotonic()
        if begun >= self._due or trainer.current_epoch + 1 == trainer.max_epochs:
            super().on_train_epoch_end(trainer, pl_module)
            took = time.monotonic() - begun
            self._due = begun + max(_CHECKPOINT_S, _CHECKPOINT_COST * took)


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
    callbacks: list[Callback] = [_NewestCheckpoint(folder)]
    if recipe.patience is not None:
        best = ModelCheckpoint(folder, "best", "valid_loss", enable_version_counter=False)
        callbacks += [EarlyStopping("valid_loss", patience=recipe.patience), best]
    with quiet_lightning():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            check_val_every_n_epoch=recipe.validate_every,
            precision=precision_here(recipe, trainer_flags),
            deterministic=True,
            callbacks=callbacks,
            logger=make_loggers(recipe, seed, folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            **trainer_flags,
        )
        trainer.fit(
            module,
            make_loader(train, recipe, order),
            make_loader(valid, recipe, None) if len(valid) else None,
            ckpt_path=last if last.exists() else None,
            weights_only=True,
        )
    if recipe.patience is not None:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
