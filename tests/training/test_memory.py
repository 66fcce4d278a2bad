"""How many clips an encoder encodes at once, by the memory that is free."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from genrescope import system
from genrescope.errors import GenrescopeError
from genrescope.models.encoder import outline
from genrescope.representations import make_representation
from genrescope.study.run import worker_context
from genrescope.training import memory
from genrescope.training.data import PackedTracks
from genrescope.training.fit import Fitted, fit
from genrescope.training.memory import MicroBatch, StepMemory, choose_micro_batch, step_memory
from genrescope.training.recipe import Recipe, bundled_recipes, load_recipe, set_micro_batch
from tiny_backbones import SPEECH

GIGABYTE = 10**9
SAMPLES = 30 * 16000
ENCODERS = ("original-wav2vec2", "wav2vec2", "wav2vec2-lstm", "wav2vec2-probe", "distilhubert")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The settings of wav2vec2-base, without weights, which are not read."""
    transformers.Wav2Vec2Config().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], None]:
    def set_(gigabytes: float | None) -> None:
        found = None if gigabytes is None else round(gigabytes * GIGABYTE)
        monkeypatch.setattr(memory, "free_memory", lambda: found)

    return set_


def recipe(base: Path, name: str = "original-wav2vec2", **settings: Any) -> Recipe:
    return load_recipe({"extends": name, "model": {"weights": str(base)}, **settings})


def test_all_encoder_recipes_stay_under_five_gigabytes_with_much_memory(
    base: Path, free: Callable[[float | None], None]
) -> None:
    free(200)
    for name in ENCODERS:
        assert choose_micro_batch(recipe(base, name), SAMPLES).needed < 4.2 * GIGABYTE, name
    free(None)
    assert choose_micro_batch(recipe(base), SAMPLES).needed < 4.2 * GIGABYTE


def test_less_memory_never_gives_more_clips(
    base: Path, free: Callable[[float | None], None]
) -> None:
    sizes = []
    for gigabytes in (4, 6, 8, 200):
        free(gigabytes)
        sizes.append(choose_micro_batch(recipe(base, batch_size=64), 16000).size)
    assert sizes == sorted(sizes)
    assert 1 <= sizes[0] < sizes[-1] <= 64


def test_what_does_not_fit_says_what_would(
    base: Path, free: Callable[[float | None], None]
) -> None:
    free(6)
    with pytest.raises(
        GenrescopeError, match=r"8 clips of 30 s at once takes about .* GB, and 6\.0"
    ):
        choose_micro_batch(recipe(base, micro_batch=8), SAMPLES)
    with pytest.raises(GenrescopeError, match=r"Give --micro-batch (\d+)\.") as caught:
        choose_micro_batch(recipe(base, micro_batch=8), SAMPLES)
    fits = int(str(caught.value).rpartition(" ")[2].rstrip("."))
    assert choose_micro_batch(recipe(base, micro_batch=fits), SAMPLES).size == fits
    free(3)
    with pytest.raises(GenrescopeError, match=r"representation: \{seconds: \d+\}") as caught:
        choose_micro_batch(recipe(base), SAMPLES)
    seconds = int(str(caught.value).partition("seconds: ")[2].partition("}")[0])
    assert choose_micro_batch(recipe(base), seconds * 16000).size >= 1
    windowed = recipe(base, "wav2vec2", windows={"length": SAMPLES})
    with pytest.raises(GenrescopeError, match=r"windows: \{length: \d+\}"):
        choose_micro_batch(windowed, SAMPLES)
    free(1)
    with pytest.raises(GenrescopeError, match="Close other programs"):
        choose_micro_batch(recipe(base), SAMPLES)


def test_an_encoder_with_batch_normalisation_is_not_split(
    tmp_path: Path, free: Callable[[float | None], None]
) -> None:
    transformers.Wav2Vec2ConformerConfig(num_hidden_layers=2).save_pretrained(tmp_path)
    free(200)
    assert choose_micro_batch(recipe(tmp_path, micro_batch=1), 16000).size == 8
    free(1)
    with pytest.raises(GenrescopeError, match="give a smaller batch_size"):
        choose_micro_batch(recipe(tmp_path), SAMPLES)


def test_the_estimate_grows_with_what_is_kept() -> None:
    encoder = outline(transformers.Wav2Vec2Config())

    def of(samples: int = SAMPLES, *, mixed: bool = False, **model: Any) -> StepMemory:
        made = load_recipe({"extends": "original-wav2vec2", "model": model})
        return step_memory(made, encoder, samples, mixed=mixed)

    plain = of()
    assert of(gradient_checkpointing=False).per_clip > plain.per_clip
    assert of(freeze="features").per_clip < plain.per_clip
    assert of(freeze="all").fixed < plain.fixed
    assert of(mixed=True).per_clip < plain.per_clip
    assert of(2 * SAMPLES).per_clip == pytest.approx(2 * plain.per_clip, rel=0.01)
    assert plain.clips(plain.of(3)) == 3
    assert plain.clips(plain.of(3) - 1) == 2


def test_only_recipes_with_an_encoder_take_it() -> None:
    assert {n for n in bundled_recipes() if n in ENCODERS} == set(ENCODERS)
    with pytest.raises(GenrescopeError, match="micro_batch: not for mlp, only for encoders"):
        load_recipe({"extends": "original-mlp", "micro_batch": 2})
    with pytest.raises(GenrescopeError, match="none here: original-mlp"):
        set_micro_batch([load_recipe("original-mlp")], 2)
    mlp, encoder = set_micro_batch([load_recipe("mlp"), load_recipe("wav2vec2")], 2)
    assert (mlp.micro_batch, encoder.micro_batch) == ("auto", 2)
    assert encoder.hash == load_recipe("wav2vec2").hash  # the gradients are the same


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with all that is random."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    random = {"layerdrop": 0.3, "mask_time_prob": 0.3, "mask_time_length": 2}
    config = transformers.Wav2Vec2Config(**{**SPEECH, **random})
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def run(tiny: Path, folder: Path, on_epoch: Any = None, **settings: Any) -> Fitted:
    chosen = load_recipe(
        {
            "extends": "wav2vec2",
            "model": {"weights": str(tiny), "head": "batchnorm", "hidden": 8},
            "windows": {"length": 4000, "count": 2},
            "refit": False,
            "epochs": 4,
            "precision": "32-true",
            **settings,
        }
    )
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(12, 5000)).astype(np.float32)
    labels = (np.arange(12) % 3).astype(np.int64)
    waveform = make_representation("waveform", {"seconds": 5000 / 16000})
    part = PackedTracks(waveform, waveform.pack(arrays / 4), np.arange(12), labels)
    return fit(
        chosen,
        part,
        part,
        shape=(5000,),
        genres=3,
        seed=1,
        folder=folder,
        on_epoch=on_epoch,
        accelerator="cpu",
    )


def weights(fitted: Fitted) -> np.ndarray:
    return torch.cat([p.detach().ravel() for p in fitted.network.parameters()]).numpy()


def test_a_stopped_fit_in_parts_goes_on_to_the_same_bits_whatever_is_free(
    tiny: Path, tmp_path: Path, free: Callable[[float | None], None]
) -> None:
    whole = run(tiny, tmp_path / "whole", micro_batch=2)

    class StopError(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise StopError

    with pytest.raises(StopError):
        run(tiny, tmp_path / "stopped", stop, micro_batch=2)
    free(1000)
    rows: list[dict[str, Any]] = []
    resumed = run(tiny, tmp_path / "stopped", rows.append)  # auto would take the whole batch
    assert rows[0]["micro_batch"].size == 2
    assert len([row for row in rows if "train_loss" in row]) < 4
    assert np.array_equal(weights(resumed), weights(whole))
    other = run(tiny, tmp_path / "other")
    assert not np.array_equal(weights(other), weights(whole))  # other random numbers


def test_the_choice_is_written_for_people() -> None:
    text = str(MicroBatch(1, 8, round(3.26e9), round(20.04e9)))
    assert text == "encodes 1 of 8 clips of a batch at once (about 3.3 GB of 20.0 GB free)"


def test_free_memory_is_that_of_the_machine_or_of_a_smaller_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = system.free_memory()
    assert free is not None
    assert 10**8 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text("900000\n")
    (group / "memory.current").write_text("500000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    names = ("memory.max", "memory.current")
    monkeypatch.setattr(system, "_memory_groups", lambda: [(group, names), (tmp_path, names)])
    assert system.free_memory() == 500_000
    (group / "memory.max").write_text("max\n")
    assert system.free_memory() > 10**8


def test_the_memory_of_a_process_is_its_largest_and_nothing_after_its_end() -> None:
    before = system.used_memory(os.getpid())
    assert before > 10**7
    assert np.ones(before // 8).sum() > 0  # for a moment twice as much
    assert system.used_memory(os.getpid()) > 1.5 * before
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert system.used_memory(process.pid) == 0


FREED = """
import re, sys
from pathlib import Path
import numpy as np
from genrescope.system import return_freed_memory
if sys.argv[1] == "return":
    return_freed_memory()
arrays = [np.ones(2 * 10**6) for _ in range(10)]
del arrays
print(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="GNU's C library alone keeps memory")
def test_freed_memory_is_returned_where_fits_otherwise_keep_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    worker_context()
    held = [
        int(subprocess.check_output([sys.executable, "-c", FREED, way], env=os.environ))
        for way in ("keep", "return")
    ]
    assert held[0] - held[1] > 100_000  # kB, of 160,000 that were freed
