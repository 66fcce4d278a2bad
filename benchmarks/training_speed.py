"""Time an epoch of the study's MLP and CNN against a plain PyTorch script, in one run.

    python benchmarks/training_speed.py --data /path/to/gtzan

The plain script is that of `study_speed.py`: a Dataset that reads its track at every access, a
DataLoader, the usual loop, PyTorch's default threads, one fit after the other. genrescope fits as
in a study: arrays in memory, one fit per core in parallel, each with one thread. Both have the
same initial weights, batches and dropout; the difference of the losses of the first steps is
printed. Runs alternate, so that changes of the machine affect both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from genrescope.datasets.open import open_dataset
from genrescope.datasets.splits import get_protocol
from genrescope.datasets.track import Dataset
from genrescope.representations.store import Store
from genrescope.study.run import worker_context
from genrescope.training.data import EpochShuffle, PackedTracks
from genrescope.training.fit import fit
from genrescope.training.recipe import Recipe, load_recipe
from study_speed import Pictures, Rows, plain_cnn, plain_mlp

SEED = 0
FIRST = 5  # steps whose losses are compared; later, rounding has grown


def main() -> None:
    """Print all figures; optionally write them as JSON."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="GTZAN with table and pictures")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    dataset = open_dataset(given.data)
    cores = os.cpu_count() or 1
    figures: dict[str, float] = {"cores": cores}
    with tempfile.TemporaryDirectory() as folder:
        for name, make, kind, epochs in (
            ("original-mlp", plain_mlp, Rows, 40),
            ("original-cnn", plain_cnn, Pictures, 2),
        ):
            recipe = load_recipe(name)
            data = Path(folder) / f"{name}.npz"
            train, valid = prepare(recipe, dataset, kind, data)
            plain, alone, together = [], [], []
            for _ in range(given.turns):
                plain.append(plain_epoch(make, train, valid, max(1, epochs // 4)))
                alone.append(ours(recipe, data, epochs, 1))
                together.append(ours(recipe, data, epochs, cores))
            loss = plain_loss(make, train, recipe)
            apart = abs(loss - first_loss(recipe, data))
            slow, one, all_ = map(statistics.median, (plain, alone, together))
            figures |= {
                f"{name}: plain epoch, s": slow,
                f"{name}: epoch of one fit alone, s": one,
                f"{name}: epoch, one fit a core, s": all_,
                f"{name}: plain / one fit alone": slow / one,
                f"{name}: plain / one fit a core": slow / all_,
                f"{name}: losses of the first steps apart": apart,
            }
    for label, figure in figures.items():
        print(f"{label:<50} {figure:.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def prepare(recipe: Recipe, dataset: Dataset, kind: type[Rows], out: Path) -> tuple[Rows, Rows]:
    """Write the arrays of the training and validation tracks; give those for the plain script."""
    split = get_protocol("random").splits(dataset, SEED)[0]
    representation = recipe.make_representation()
    with tempfile.TemporaryDirectory() as store:
        collection = Store(Path(store)).collect(representation, dataset.tracks)
    by_id = {track.id: track for track in dataset.tracks}
    place = {track: i for i, track in enumerate(collection.ids)}
    parts: dict[str, Any] = {}
    plain = []
    for name, ids in (("train", split.train), ("valid", split.valid)):
        tracks = [by_id[i] for i in ids if i in place]
        parts[name] = collection.packed[[place[track.id] for track in tracks]]
        parts[f"{name}_labels"] = [dataset.genres.index(track.genre) for track in tracks]
        plain.append(kind(tracks, dataset.genres))
    np.savez(out, **parts)
    return plain[0], plain[1]


def plain_epoch(make: Any, train: Rows, valid: Rows, epochs: int) -> float:
    """Seconds per epoch with the usual loop, without the first (warm-up)."""
    torch.set_num_threads(os.cpu_count() or 1)
    model = make()
    loaders = DataLoader(train, batch_size=16, shuffle=True), DataLoader(valid, batch_size=16)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)
    loss_of = nn.CrossEntropyLoss()
    ends = []
    for _ in range(epochs + 1):
        model.train()
        for arrays, labels in loaders[0]:
            optimiser.zero_grad()
            loss_of(model(arrays), labels).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            for arrays, labels in loaders[1]:
                loss_of(model(arrays), labels).item()
        ends.append(time.perf_counter())
    return statistics.median(after - before for before, after in pairwise(ends))


def plain_loss(make: Any, train: Rows, recipe: Recipe) -> float:
    """Mean loss of the first steps, of the plain script with our seed and order."""
    size = recipe.batch_size or 1
    some = Subset(train, range(FIRST * size))
    torch.manual_seed(SEED)
    model = make().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)
    loader = iter(DataLoader(some, batch_size=size, sampler=list(EpochShuffle(len(some), SEED))))
    torch.manual_seed(SEED + 1000)  # the loader has drawn a number, too
    total = 0.0
    for arrays, labels in loader:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(arrays), labels)
        loss.backward()
        optimiser.step()
        total += float(loss.detach()) / FIRST
    return total


def ours(recipe: Recipe, data: Path, epochs: int, jobs: int) -> float:
    """Seconds per epoch with this number of fits in parallel processes."""
    with ProcessPoolExecutor(jobs, mp_context=worker_context()) as pool:
        times = list(pool.map(partial(epoch_seconds, recipe, data, epochs), range(jobs)))
    return statistics.median(times) / jobs


def epoch_seconds(recipe: Recipe, data: Path, epochs: int, seed: int) -> float:
    """Seconds per epoch of one fit with one thread, without the first."""
    ends: list[float] = []
    fitted(recipe, data, epochs, seed, lambda _: ends.append(time.perf_counter()))
    return statistics.median(after - before for before, after in pairwise(ends))


def first_loss(recipe: Recipe, data: Path) -> float:
    """Mean loss of the first steps."""
    few = FIRST * (recipe.batch_size or 1)
    return float(fitted(recipe, data, 1, SEED, None, few)[0]["train_loss"])


def fitted(
    recipe: Recipe, data: Path, epochs: int, seed: int, on_epoch: Any, few: int | None = None
) -> Sequence[Any]:
    """Fit as in a study; give the curves."""
    torch.set_num_threads(1)
    recipe = recipe.model_copy(update={"epochs": max(2, epochs + 1) if on_epoch else epochs})
    representation = recipe.make_representation()
    with np.load(data) as parts, tempfile.TemporaryDirectory() as folder:
        train, valid = (
            PackedTracks(
                representation, parts[name], np.arange(len(parts[name])), parts[f"{name}_labels"]
            )
            for name in ("train", "valid")
        )
        return fit(
            recipe,
            train.first(few) if few else train,
            valid,
            shape=representation.shape,
            genres=10,
            seed=seed,
            folder=Path(folder),
            on_epoch=on_epoch,
            accelerator="cpu",
            devices=1,
        ).curves


if __name__ == "__main__":
    main()
