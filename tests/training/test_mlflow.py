"""A fit states MLflow, too, if its address is set; and nothing and nobody if it is not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation
from genrescope.training.data import PackedTracks
from genrescope.training.fit import Fitted, fit
from genrescope.training.recipe import Recipe, load_recipe

pytest.importorskip("mlflow")

RECIPE = {"extends": "original-mlp", "name": "tiny", "model": {"widths": [8]}, "epochs": 3}


def run(folder: Path, seed: int = 0) -> tuple[Fitted, Recipe]:
    recipe = load_recipe(RECIPE)
    rows = np.random.default_rng(0).normal(size=(24, 57)).astype(np.float32)
    labels = np.arange(24) % 3
    descriptors = make_representation("descriptors")
    train, valid = (
        PackedTracks(descriptors, rows, part, labels[part])
        for part in (np.arange(16), np.arange(16, 24))
    )
    shown = {"shape": (57,), "genres": 3, "seed": seed, "accelerator": "cpu"}
    return fit(recipe, train, valid, folder=folder, **shown), recipe


def forget_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of files, which newer versions of MLflow want to be asked for twice."""
    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    return uri


def test_mlflow_has_settings_and_curves_of_every_fit(store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    fitted, recipe = run(tmp_path / "fit")
    run(tmp_path / "other", seed=1)
    assert list((tmp_path / "fit").glob("tensorboard/events*"))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("genrescope")
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"tiny, seed 0", "tiny, seed 1"}
    first = runs["tiny, seed 0"]
    assert first.info.status == "FINISHED"
    assert first.data.params["recipe_hash"] == recipe.hash
    assert first.data.params["optimiser/lr"] == "0.0001"
    history = client.get_metric_history(first.info.run_id, "valid_loss")
    assert [point.value for point in history] == pytest.approx(
        [row["valid_loss"] for row in fitted.curves], abs=1e-6
    )


def test_without_the_variable_mlflow_is_not_even_imported(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_mlflow(monkeypatch)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run(tmp_path / "fit")
    assert "mlflow" not in sys.modules
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_used_is_named(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://somewhere")
    with pytest.raises(GenrescopeError, match="MLFLOW_TRACKING_URI is gopher://somewhere, which"):
        run(tmp_path)


def test_without_mlflow_the_extra_is_named(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_mlflow(monkeypatch)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(GenrescopeError, match=r"Unset it, or run pip install '\.\[mlflow\]'"):
        run(tmp_path)
