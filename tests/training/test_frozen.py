"""A frozen encoder encodes each clip once in a fit, and the fit is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from genrescope.models.encoder import Encoder
from genrescope.representations import make_representation
from genrescope.training.data import PackedTracks
from genrescope.training.fit import Fitted, fit
from genrescope.training.frozen import encodes_once
from genrescope.training.recipe import Recipe, load_recipe
from tiny_backbones import SPEECH

SECONDS, SAMPLING_RATE, GENRES = 0.5, 16000, 3
WINDOW, COUNT = 4000, 4
TRAIN, VALID = 12, 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**SPEECH)
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many waveforms the encoder has encoded, each time."""
    counts: list[int] = []
    encode = Encoder.encode

    def counted(self: Encoder, waveforms: torch.Tensor) -> torch.Tensor:
        counts.append(len(waveforms))
        return encode(self, waveforms)

    monkeypatch.setattr(Encoder, "encode", counted)
    return counts


def recipe(checkpoint: Path, **settings: Any) -> Recipe:
    model = {"weights": str(checkpoint), "freeze": "all", "layers": "weighted", "hidden": 8}
    return load_recipe(
        {
            "name": "tiny-probe",
            "representation": {"name": "waveform", "seconds": SECONDS},
            "windows": {"length": WINDOW, "count": COUNT},
            "optimiser": {"name": "adam", "lr": 0.02},
            "batch_size": 4,
            "epochs": 5,
            **settings,
            "model": {"name": "encoder", **model, **settings.get("model", {})},
        }
    )


def tracks(count: int, seed: int) -> PackedTracks:
    """Tones in noise; a genre has its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % GENRES
    time = np.arange(int(SECONDS * SAMPLING_RATE)) / SAMPLING_RATE
    tones = np.sin(2 * np.pi * (300 * 3.0 ** labels[:, None]) * time)
    arrays = (tones + 0.1 * rng.normal(size=tones.shape)).astype(np.float32)
    representation = make_representation("waveform", {"seconds": SECONDS})
    return PackedTracks(representation, arrays, np.arange(count), labels.astype(np.int64))


def run(chosen: Recipe, folder: Path, **more: Any) -> Fitted:
    return fit(
        chosen,
        tracks(TRAIN, 0),
        tracks(VALID, 1),
        shape=(int(SECONDS * SAMPLING_RATE),),
        genres=GENRES,
        seed=3,
        folder=folder,
        accelerator="cpu",
        **more,
    )


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in network.parameters()])


@pytest.mark.parametrize("windows", [{"length": WINDOW, "count": COUNT}, None])
def test_each_clip_is_encoded_once_however_many_epochs(
    checkpoint: Path, tmp_path: Path, encoded: list[int], windows: dict[str, int] | None
) -> None:
    run(recipe(checkpoint, windows=windows, epochs=5), tmp_path)
    each = COUNT if windows else 1
    # A clip of each part tells the arrays' shape, and the fitted network encodes the
    # validation clips anew.
    assert sum(encoded) == each * (TRAIN + 1 + VALID + 1 + VALID)
    encoded.clear()
    run(recipe(checkpoint, windows=windows, epochs=5), tmp_path)
    assert sum(encoded) == each * (1 + 1 + VALID)


@pytest.mark.parametrize("layers", ["last", "weighted"])
@pytest.mark.parametrize("refit", [False, True])
def test_the_network_gives_what_was_validated(
    checkpoint: Path, tmp_path: Path, layers: str, refit: bool
) -> None:
    fitted = run(recipe(checkpoint, model={"layers": layers}, refit=refit), tmp_path)
    logits = torch.from_numpy(fitted.valid_logits)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(VALID) % GENRES)
    assert float(loss) == pytest.approx(fitted.curves[-1]["valid_loss"], rel=1e-4)
    if not refit:
        with torch.no_grad():
            again = fitted.network(tracks(VALID, 1).arrays)
        torch.testing.assert_close(again, logits)


def test_it_learns(checkpoint: Path, tmp_path: Path) -> None:
    fitted = run(recipe(checkpoint, epochs=40), tmp_path)
    assert fitted.curves[0]["train_loss"] > 0.8
    assert fitted.curves[-1]["valid_accuracy"] == 1


def test_a_fit_stopped_while_it_encodes_resumes_and_ends_the_same(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    whole = run(recipe(checkpoint), tmp_path / "whole")
    in_all = sum(encoded)
    encoded.clear()
    encode = Encoder.encode

    def stopped(self: Encoder, waveforms: torch.Tensor) -> torch.Tensor:
        if sum(encoded) >= COUNT * (1 + 8):  # after two batches
            raise KeyboardInterrupt
        return encode(self, waveforms)

    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "encode", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(recipe(checkpoint), tmp_path / "broken")
    encoded.clear()
    resumed = run(recipe(checkpoint), tmp_path / "broken")
    assert sum(encoded) == in_all - COUNT * 8
    assert torch.equal(weights(resumed.network), weights(whole.network))
    assert np.array_equal(resumed.valid_logits, whole.valid_logits)


@pytest.mark.parametrize("kept", ["nothing", "half a row", "another shape", "no array"])
def test_what_was_kept_is_taken_if_it_is_whole(checkpoint: Path, tmp_path: Path, kept: str) -> None:
    wanted = run(recipe(checkpoint), tmp_path).valid_logits
    path = tmp_path / "train-encoder-outputs.npy"
    content = path.read_bytes()
    other = np.ones((TRAIN, 2, 3), np.float32)
    if kept == "another shape":
        np.save(path, other)
    else:
        cut = {
            "nothing": b"",
            "half a row": content[: len(content) // 2 - 7],
            "no array": b"x" * 999,
        }
        path.write_bytes(cut[kept])
    for checkpoint_file in tmp_path.glob("*.ckpt"):
        checkpoint_file.unlink()
    assert np.array_equal(run(recipe(checkpoint), tmp_path).valid_logits, wanted)
    assert path.read_bytes() == content


def test_the_progress_of_encoding_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    run(recipe(checkpoint, epochs=2), tmp_path, on_epoch=rows.append)
    told = [row["encoded"] for row in rows if "encoded" in row]
    assert told == [0, 4, 8, 12, 12, 16, 18]
    assert {row["clips"] for row in rows if "encoded" in row} == {TRAIN + VALID}
    assert [row["epoch"] for row in rows if "train_loss" in row] == [1, 2]
    assert str(rows[0]["micro_batch"]).startswith("encodes 4 of 4 clips of a batch at once")


def test_other_versions_of_validation_clips_are_encoded_only_for_training(
    checkpoint: Path, tmp_path: Path, encoded: list[int]
) -> None:
    for refit in (False, True):
        encoded.clear()
        train, valid = (
            PackedTracks(
                make_representation("waveform", {"seconds": SECONDS}),
                np.concatenate([part.arrays.numpy(), -part.arrays.numpy()]),
                np.arange(len(part)),
                part.labels,
                versions=2,
            )
            for part in (tracks(TRAIN, 0), tracks(VALID, 1))
        )
        fit(
            recipe(checkpoint, epochs=1, refit=refit),
            train,
            valid,
            shape=(int(SECONDS * SAMPLING_RATE),),
            genres=GENRES,
            seed=0,
            folder=tmp_path / str(refit),
            accelerator="cpu",
        )
        assert sum(encoded) == COUNT * (2 * TRAIN + 1 + VALID * (1 + refit) + 1 + VALID)


def test_segments_are_encoded_in_each_epoch(checkpoint: Path, tmp_path: Path) -> None:
    given = {"name": "segments", "of": {"name": "waveform", "seconds": SECONDS / 2}}
    chosen = recipe(checkpoint, windows=None, representation=given, epochs=2)
    whole = tracks(TRAIN, 0)
    halves = whole.arrays.numpy().reshape(TRAIN, 2, -1)
    labels = whole.labels
    part = PackedTracks(chosen.make_representation(), halves, np.arange(TRAIN), labels)
    fitted = fit(
        chosen,
        part,
        part,
        shape=halves.shape[1:],
        genres=GENRES,
        seed=0,
        folder=tmp_path,
        segmented=True,
        accelerator="cpu",
    )
    assert fitted.valid_logits.shape == (TRAIN, GENRES)
    assert not list(tmp_path.rglob("*encoder-outputs.npy"))


@pytest.mark.parametrize(
    ("settings", "segmented"),
    [
        ({"model": {"freeze": "features"}}, False),
        ({"model": {"freeze": "all", "pool": "lstm", "lstm_width": 4}}, False),
        ({"augment": {"mixup": 0.2}}, False),
        ({"normalise": "signed-log"}, False),
        ({}, True),
    ],
    ids=["learns", "sequence", "mixed", "normalised", "segments"],
)
def test_what_differs_between_epochs_is_encoded_in_each(
    checkpoint: Path, settings: dict[str, Any], segmented: bool
) -> None:
    assert encodes_once(recipe(checkpoint), segmented=False)
    assert not encodes_once(recipe(checkpoint, **settings), segmented=segmented)
