"""What a fit logs: its curves as CSV, TensorBoard files and, if configured, an MLflow run."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from platformdirs import user_cache_path

from genrescope.environment import configure, quiet
from genrescope.errors import GenrescopeError, install
from genrescope.training.recipe import Recipe

CURVE_COLUMNS = ("epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
Curves = list[dict[str, float]]
"""One row per epoch, by ``CURVE_COLUMNS``."""

CURVES = "curves.csv"
EpochDone = Callable[[Mapping[str, Any]], None]


class CurveFile:
    """Curves on disk, so that those of a resumed fit are complete.

    Parameters
    ----------
    path
        A CSV file with the columns ``CURVE_COLUMNS``.
    on_epoch
        Called with every row that is appended.
    """

    def __init__(self, path: Path, on_epoch: EpochDone | None = None) -> None:
        self._path, self._on_epoch = path, on_epoch

    def cut(self, epochs: int) -> None:
        """Keep the rows of the first ``epochs`` epochs."""
        kept = [row for row in read_curves(self._path) if row["epoch"] <= epochs]
        with self._path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, CURVE_COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def append(self, row: dict[str, float]) -> None:
        """Add an epoch."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, CURVE_COLUMNS).writerow(row)
        if self._on_epoch:
            self._on_epoch(row)


def read_curves(path: Path) -> Curves:
    """Read the curves that a fit has written; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]


def make_loggers(recipe: Recipe, seed: int, folder: Path) -> list[Logger]:
    """Make a TensorBoard logger and, if MLFLOW_TRACKING_URI is set, one for MLflow.

    Raises
    ------
    GenrescopeError
        If the MLflow server or folder cannot be used.
    """
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
        # Of fits in parallel, only one may create the experiment.
        with FileLock(user_cache_path("genrescope", ensure_exists=True) / "mlflow.lock"):
            logger.log_hyperparams({"seed": seed, "recipe_hash": recipe.hash, **settings})
    except ImportError as error:
        raise GenrescopeError(
            f"MLFLOW_TRACKING_URI is {uri}, but there is no MLflow. Unset it, or run "
            f"{install('mlflow')}."
        ) from error
    except Exception as error:  # each kind of store has its own
        cause = " ".join(str(error).split()).rstrip(".")
        raise GenrescopeError(
            f"MLFLOW_TRACKING_URI is {uri}, which cannot be written to ({cause}). Correct it, or "
            "unset it."
        ) from error
    return logger


def quiet_lightning() -> AbstractContextManager[None]:
    """Silence Lightning's notes on devices, and its advice that does not apply here."""
    return quiet(
        ".*does not have many workers.*",  # arrays in memory need none
        ".*number of training batches.*smaller than the logging.*",
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*in eval mode at the start.*",  # frozen encoders
        ".*but have no `val_dataloader`.*",  # in a refit
        ".*isinstance.treespec, LeafSpec.*",
        logger="lightning.pytorch",
    )
