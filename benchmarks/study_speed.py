"""Time the whole study against a plain PyTorch script with the same settings, in one run.

The plain script is the usual first version: a Dataset that decodes and resizes its PNG at every
access, a DataLoader, the usual loop, PyTorch's default threads, one fit after the other. Its
epochs all cost the same, so it is timed over a few of them and multiplied; genrescope is timed
completely: the whole `run_study` with an empty store.

    python benchmarks/study_speed.py --data /path/to/gtzan
    python benchmarks/study_speed.py --data /path/to/gtzan --epochs-share 0.2   # shorter
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, Dataset

from genrescope.cli.progress import StudyProgress
from genrescope.datasets.open import open_dataset
from genrescope.datasets.splits import get_protocol
from genrescope.datasets.track import Track
from genrescope.study.config import load_study
from genrescope.study.run import Options, run_study

CROP = (55, 35, 370, 252)


class Rows(Dataset[Any]):
    """Descriptor rows, each divided by its norm."""

    def __init__(self, tracks: Sequence[Track], genres: Sequence[str]) -> None:
        self.tracks, self.genres = tracks, genres

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        row = torch.tensor(self.tracks[i].descriptors)
        return row / row.norm(), self.genres.index(self.tracks[i].genre)


class Pictures(Rows):
    """Pictures, decoded, cropped, resized and scaled at every access."""

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.tracks[i].image).convert("RGB")  # type: ignore[arg-type]
        image = image.crop(CROP).resize((224, 224), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5, self.genres.index(self.tracks[i].genre)


def plain_mlp() -> nn.Module:
    """The study's MLP."""
    return nn.Sequential(
        *(nn.Linear(57, 512), nn.BatchNorm1d(512), nn.ReLU()),
        *(nn.Linear(512, 128), nn.BatchNorm1d(128), nn.ReLU()),
        *(nn.Dropout(0.5), nn.Linear(128, 10), nn.Softmax(dim=1)),
    )


def plain_cnn() -> nn.Module:
    """The study's CNN."""
    channels = (3, 8, 16, 32, 64, 128)
    blocks = [
        layer
        for a, b in itertools.pairwise(channels)
        for layer in (nn.Conv2d(a, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
    ]
    head = (nn.Flatten(), nn.Linear(6272, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(dim=1))
    return nn.Sequential(*blocks, *head)


def plain_epochs(model: nn.Module, train: Rows, valid: Rows, epochs: int) -> float:
    """Fit with the usual loop; seconds per epoch, without the first (warm-up)."""
    loader = DataLoader(train, batch_size=16, shuffle=True)
    valid_loader = DataLoader(valid, batch_size=16)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)
    loss_of = nn.CrossEntropyLoss()
    began = 0.0
    for epoch in range(epochs + 1):
        if epoch == 1:
            began = time.perf_counter()
        model.train()
        for arrays, labels in loader:
            optimiser.zero_grad()
            loss_of(model(arrays), labels).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            for arrays, labels in valid_loader:
                loss_of(model(arrays), labels).item()
    return (time.perf_counter() - began) / epochs


def main() -> None:
    """Time both and print the ratio; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="GTZAN with table and pictures")
    parser.add_argument("--plain-epochs", type=int, default=3, help="timed per CNN fit")
    parser.add_argument("--epochs-share", type=float, default=1.0, help="of each recipe's epochs")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    dataset = open_dataset(options.data)
    config = load_study("original", recipes=["original-mlp", "original-cnn"], seeds=options.seeds)
    recipes = [
        recipe.model_copy(update={"epochs": max(1, round(recipe.epochs * options.epochs_share))})
        for recipe in config.recipes
    ]
    config = config.model_copy(update={"recipes": recipes})
    by_id = {track.id: track for track in dataset.tracks}
    if not all(track.descriptors for track in dataset.tracks):
        parser.error("the data lacks features_30_sec.csv")

    plain: dict[str, float] = {}
    parts = {"original-mlp": (plain_mlp, Rows, 20), "original-cnn": (plain_cnn, Pictures, 1)}
    for recipe in config.recipes:
        make, kind, times = parts[recipe.name]
        total = 0.0
        for protocol in config.protocols:
            split = get_protocol(protocol).splits(dataset, 0)[0]
            train, valid = (
                kind([by_id[i] for i in ids if kind is Rows or by_id[i].image], dataset.genres)
                for ids in (split.train, split.valid)
            )
            epoch = plain_epochs(make(), train, valid, options.plain_epochs * times)
            print(f"plain {recipe.name} {protocol}: {epoch:.2f} s an epoch", flush=True)
            total += epoch * (recipe.epochs or 1) * config.seeds
        plain[recipe.name] = total

    ours: dict[str, float] = {}
    for recipe in config.recipes:
        with tempfile.TemporaryDirectory() as folder, StudyProgress(Console(stderr=True)) as bars:
            began = time.perf_counter()
            run_study(
                config.model_copy(update={"recipes": [recipe]}),
                dataset,
                Path(folder) / "out",
                Options(store=Path(folder) / "store", trainer_flags={"devices": 1}),
                bars,
            )
            ours[recipe.name] = time.perf_counter() - began
    ratio = sum(plain.values()) / sum(ours.values())
    for name, seconds in plain.items():
        print(f"{name}: plain {seconds:.0f} s, genrescope {ours[name]:.0f} s")
    print(f"whole study: genrescope takes 1/{ratio:.2f} of the plain script's time")
    settings = {"cores": os.cpu_count(), "torch": torch.__version__, "seeds": config.seeds}
    figures = {"plain_s": plain, "genrescope_s": ours, "ratio": ratio, **settings}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
