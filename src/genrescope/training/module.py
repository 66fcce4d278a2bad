"""The Lightning module: loss, optimiser steps and learning-rate schedule."""

from __future__ import annotations

import math
import random
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from genrescope.errors import GenrescopeError
from genrescope.training.data import Batch
from genrescope.training.loggers import CurveFile
from genrescope.training.recipe import Recipe, Schedule


class _Tally:
    # Of one epoch, added up at its end: for small models, doing so in every step takes a tenth of
    # the time, and Lightning's own logging of steps more than the step.
    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._losses.append(loss.detach())
        self._logits.append(logits.detach())
        self._labels.append(labels)

    def take(self, part: str) -> dict[str, Tensor]:
        sizes = torch.tensor([float(len(labels)) for labels in self._labels])
        losses = torch.stack(self._losses)
        right = torch.cat(self._logits).argmax(dim=1) == torch.cat(self._labels)
        self.__init__()  # type: ignore[misc]
        loss = (losses * sizes.to(losses.device)).sum() / sizes.sum()
        return {f"{part}_loss": loss, f"{part}_accuracy": right.float().mean()}


class GenreModule(lightning.LightningModule):
    """Cross-entropy on a network's logits; logs loss and accuracy of every epoch.

    A training step takes several batches of small arrays: Lightning's overhead per step is longer
    than the step of a small model.

    Parameters
    ----------
    network
        Arrays to logits.
    recipe
        Optimisation settings.
    seed
        Of dropout and masking.
    rows
        Arrays per epoch, summed over all devices.
    curves
        Receives a row after every epoch.
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
        """Train on several batches, concatenated."""
        wrapped, schedule = self.optimizers(), self.lr_schedulers()
        accumulate = self._recipe.accumulate
        # Lightning's wrappers of a step take half as long as a step of the small models; of one
        # device without a gradient scaler only its count is needed, to know of a new epoch.
        alone = self.trainer.world_size == 1 and self.trainer.scaler is None
        arrays, labels = (torch.split(part, self._batch_size) for part in batches)
        for batch in zip(arrays, labels, strict=True):
            loss = self._training_loss(batch) / accumulate
            if alone:
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                self.manual_backward(loss)
            self._batches += 1
            is_last = self._batches == self._batches_per_epoch
            if self._batches % accumulate == 0 or is_last:
                optimiser = wrapped.optimizer if alone and not is_last else wrapped  # type: ignore[union-attr]
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
        """Remove the curves' rows after the checkpoint that this fit resumes from."""
        if self.trainer.is_global_zero:
            self._curves.cut(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and masking by epoch, so that resuming changes nothing."""
        del batch
        if batch_idx == 0:  # not when the epoch starts: the loader still draws numbers then
            self._batches = 0
            seed = self._seed + 1000 * (self.current_epoch + 1)
            if self.device.type == "cpu":  # torch's own seeds GPUs that are not used, in 1 ms
                random.seed(seed)
                np.random.seed(seed)  # noqa: NPY002  transformers masks with it
                torch.default_generator.manual_seed(seed)
            else:
                lightning.seed_everything(seed, verbose=False)

    def on_validation_epoch_end(self) -> None:
        """Keep the epoch's means over the validation tracks; with patience, for its callbacks."""
        self._means |= self._reduced(self._valid.take("valid"))
        if self._recipe.patience is not None:
            self.log("valid_loss", self._means["valid_loss"], logger=False)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means over the training and validation tracks."""
        self._means |= self._reduced(self._train.take("train"))
        if self.trainer.is_global_zero:
            epoch = self.current_epoch + 1
            means = {name: float(value) for name, value in self._means.items()}
            self._curves.append({"epoch": epoch, **means})
            # Lightning's own logging takes a tenth of an epoch of small models.
            for logger in self.loggers:
                logger.log_metrics(means, epoch)
        self._means = {}  # not every epoch is validated

    def _reduced(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        # Over all devices.
        reduce = self.trainer.strategy.reduce
        return {name: reduce(value, reduce_op="mean") for name, value in means.items()}

    def configure_optimizers(self) -> Any:
        """Make the recipe's optimiser over all trainable parameters, and its schedule."""
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
                f"Recipe {self._recipe.name}: {self._recipe.model.name} does not define its "
                "layers' depths. Leave layer_decay out."
            )
        return [
            {"params": parameters, "lr": self._optimiser.lr * decay**depth}
            for parameters, depth in deep[0].parameter_depths()
        ]

    def _loss(self, logits: Tensor, labels: Tensor, tally: _Tally) -> Tensor:
        loss = self._cross_entropy(logits, labels)
        tally.add(loss, logits, labels)
        return loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        scores = logits.softmax(dim=1) if self._recipe.double_softmax else logits
        smoothing = self._recipe.label_smoothing if self.training else 0.0
        return nn.functional.cross_entropy(scores.float(), labels, label_smoothing=smoothing)


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Give the factor of the learning rate in step 0 … steps - 1 of a fit."""
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    moved = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return max(moved[schedule.name], 0.0)
