"""Peak memory and time of a training step of each encoder recipe: a plain step against ours.

    python benchmarks/encoder_memory.py
    python benchmarks/encoder_memory.py --recipes distilhubert --clips 4

A step takes 8 clips of 30 s (also in the recipes that train on windows), on networks of the real
size with random weights, which cost the same: wav2vec2-base, and HuBERT with DistilHuBERT's two
layers. The plain step holds the activations of the whole batch, as a usual training loop does; ours
encodes as many clips at once as `micro_batch: auto` chooses. Each runs in a process of its own, the
plain one within a limit of memory; if that is too little for it, it is measured on 2 clips. An
epoch's time is that of a clip times GTZAN's 640 training clips under `random`; on a GPU it is not
measured, but computed from floating-point operations.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from genrescope.environment import set_torch_threads
from genrescope.models import make_model
from genrescope.models.encoder import Encoder, encoder_config, outline
from genrescope.system import return_freed_memory, used_memory
from genrescope.training.fit import precision_here
from genrescope.training.memory import choose_micro_batch
from genrescope.training.recipe import load_recipe

RECIPES = ("original-wav2vec2", "wav2vec2", "wav2vec2-lstm", "wav2vec2-probe", "distilhubert")
SAMPLES = 30 * 16000
TRAINING_CLIPS = 640  # of GTZAN, under `random`
GPU_OPERATIONS = 50e12
"""A second, in mixed precision: a sixth of the 312e12 of an A100's data sheet."""


def main() -> None:
    """Print all figures; optionally write them as JSON."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES, metavar="NAME")
    options.add_argument("--clips", type=int, default=8)
    options.add_argument("--limit-gb", type=float, default=9.0, help="memory of the plain step")
    options.add_argument("--json", type=Path, help="file for the figures")
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        print(json.dumps(step(given.child[0], Path(given.child[1]), given.clips, given.limit_gb)))
        return
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = save_weights(Path(folder))
        for name in given.recipes:
            found = compare(name, weights[name == "distilhubert"], given.clips, given.limit_gb)
            for label, figure in found.items():
                print(f"{label:<60} {figure:.4g}", flush=True)
            figures |= found
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def save_weights(folder: Path) -> tuple[Path, Path]:
    """Save wav2vec2-base and DistilHuBERT's size with random weights."""
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(folder / "base")
    small = transformers.HubertConfig(num_hidden_layers=2)
    transformers.HubertModel(small).save_pretrained(folder / "distil")
    return folder / "base", folder / "distil"


def compare(name: str, weights: Path, clips: int, limit_gb: float) -> dict[str, float]:
    """Give the figures of one recipe."""
    figures: dict[str, float] = {}
    for count in dict.fromkeys((clips, 2)):
        plain = run(name, weights, count, limit_gb)
        fits = f"{name}: plain step of {count} clips fits {limit_gb:g} GB"
        figures[fits] = float(plain is not None)
        if plain is not None:
            figures[f"{name}: plain step of {count} clips, peak MB"] = plain["peak"] / 1e6
            figures[f"{name}: plain step of {count} clips, s a clip"] = plain["seconds"] / count
            break
    ours = run(name, weights, clips, None)
    assert ours is not None
    seconds = ours["seconds"] / clips
    return figures | {
        f"{name}: ours, clips at once": ours["micro_batch"],
        f"{name}: ours, peak MB": ours["peak"] / 1e6,
        f"{name}: ours, s a clip": seconds,
        f"{name}: ours, cores busy": ours["cores"],
        f"{name}: ours, epoch, min": seconds * TRAINING_CLIPS / 60,
        f"{name}: epoch on a GPU, computed, min": (
            ours["operations"] * TRAINING_CLIPS / GPU_OPERATIONS / 60
        ),
    }


def run(name: str, weights: Path, clips: int, limit_gb: float | None) -> dict[str, float] | None:
    """Take a step in a process, the plain one with a limit; None if there was no memory for it."""
    line = [sys.executable, __file__, "--child", name, str(weights), "--clips", str(clips)]
    line += ["--limit-gb", str(limit_gb or 0)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found
    if limit_gb and "memory" in done.stderr:
        return None
    raise RuntimeError(f"{name}: {done.stderr}")


def step(name: str, weights: Path, clips: int, limit_gb: float) -> dict[str, float]:
    """Take a step; the plain one if there is a limit."""
    set_torch_threads(os.cpu_count() or 1)
    settings = {"extends": name, "windows": None, "model": {"weights": str(weights)}}
    recipe = load_recipe({**settings, "batch_size": clips})
    mixed = precision_here(recipe, {"accelerator": "cpu"}) != "32-true"
    network = make_model("encoder", (SAMPLES,), 10, recipe.model.parameters).train()
    assert isinstance(network, Encoder)
    if limit_gb:
        import resource  # POSIX's

        resource.setrlimit(resource.RLIMIT_DATA, (round(limit_gb * 1e9),) * 2)
        size = clips
    else:
        return_freed_memory()
        network.micro_batch = size = choose_micro_batch(recipe, SAMPLES, mixed=mixed).size
    inner = list(network.encoder.parameters())
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-5, fused=True)
    waveforms = torch.randn(clips, SAMPLES) * 0.1
    began, busy = time.perf_counter(), time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = network(waveforms)
    nn.functional.cross_entropy(logits.float(), torch.arange(clips) % 10).backward()
    optimiser.step()
    seconds = time.perf_counter() - began
    return {
        "micro_batch": size,
        "peak": used_memory(os.getpid()),
        "seconds": seconds,
        "cores": (time.process_time() - busy) / seconds,
        "operations": operations(weights, is_trained=any(p.requires_grad for p in inner)),
    }


def operations(weights: Path, *, is_trained: bool) -> float:
    """Count a clip's floating-point operations in a step, with nothing computed.

    A training step takes four times those of the forward pass: it, itself again for checkpointed
    layers, and the backward pass, which takes two.
    """
    encoder = outline(encoder_config(weights)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.zeros(1, SAMPLES, device="meta"))
    return counter.get_total_flops() * (4.0 if is_trained else 1.0)


if __name__ == "__main__":
    main()
