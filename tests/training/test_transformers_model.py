"""A fine-tuned encoder is also a transformers model, which gives the same probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from torch import nn
from typer.testing import CliRunner, Result

import genrescope
from genrescope.cli.app import app
from genrescope.errors import GenrescopeError, InputError
from genrescope.models import make_model
from genrescope.models.classical import Temperature
from genrescope.models.encoder import encoder_config
from genrescope.models.windows import Windows
from genrescope.representations import make_representation
from genrescope.training.export import export, export_transformers
from genrescope.training.recipe import load_encoder_recipe, load_recipe
from tiny_backbones import save_checkpoint

SAMPLING_RATE = 16000
GENRES = ("blues", "jazz", "pop")
SAME = 1e-4


def probabilities(folder: Path, waveform: np.ndarray) -> dict[str, float]:
    """What transformers' own pipeline states of a clip at 16 kHz."""
    pipeline = transformers.pipeline("audio-classification", model=str(folder), top_k=None)
    return {row["label"]: row["score"] for row in pipeline(waveform)}


def agree(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(abs(one[k] - other[k]) < SAME for k in one)


def train(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def genres(music: Callable[..., np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two genres of six clips that any network distinguishes."""
    folder = tmp_path_factory.mktemp("genres")
    for genre in ("noise", "tune"):
        (folder / genre).mkdir()
        for number in range(6):
            noise = np.random.default_rng(number).uniform(-0.3, 0.3, 2 * SAMPLING_RATE)
            clip = noise if genre == "noise" else music(2.0, SAMPLING_RATE, seed=number)
            soundfile.write(folder / genre / f"{number}.wav", clip, SAMPLING_RATE)
    return folder


def test_train_with_another_encoder_and_use_it_through_transformers(
    genres: Path, music: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    save_checkpoint("wav2vec2", tmp_path / "tiny")
    out = tmp_path / "out"
    mine = out / "transformers" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("of the model that was here before")
    (mine.parent / "config.json").write_text("{}")
    (out / "config.json").write_text('{"genres": [], "representation": {}}')
    short = tmp_path / "short.yaml"
    short.write_text(
        "{extends: distilhubert, name: short, epochs: 2, batch_size: 4, "
        "representation: {seconds: 5}}"
    )
    made = train(
        *("--encoder", tmp_path / "tiny", "--recipe", short, "--data", genres, "--out", out),
        *("--cache-dir", tmp_path / "store", "--jobs", 1, "--force"),
    )
    assert made.exit_code == 0, made.output
    assert f"For transformers.pipeline: {out / 'transformers'}" in made.stderr
    assert mine.exists()
    config = json.loads((out / "transformers" / "config.json").read_text())
    assert config["id2label"] == {"0": "noise", "1": "tune"}
    assert config["label2id"] == {"noise": 0, "tune": 1}
    trained = json.loads((out / "config.json").read_text())["trained"]
    assert trained["recipe"] == "short (tiny)"
    assert trained["transformers_s"] == 5
    assert str(tmp_path) not in (out / "README.md").read_text()
    assert "Its input is 5 s at 16 kHz: for audio of this length" in (out / "README.md").read_text()

    classifier = genrescope.load(out)
    for clip in (
        music(5.0, SAMPLING_RATE, seed=9),
        music(5.0, SAMPLING_RATE, seed=10) * 3,
    ):  # beyond [-1, 1]
        shown = classifier.predict(clip, SAMPLING_RATE).probabilities
        assert agree(probabilities(out / "transformers", clip), shown)

    classifier.save_pretrained(tmp_path / "copy")
    copied = probabilities(tmp_path / "copy" / "transformers", clip)
    assert agree(copied, shown)


def test_the_recipe_of_another_encoder_differs_in_nothing_else() -> None:
    theirs = load_recipe("distilhubert").model_dump()
    changed = load_encoder_recipe("user/other").model_dump()
    assert changed["model"].pop("weights") == "user/other"
    assert changed.pop("name") == "distilhubert (other)"
    assert changed.pop("about") == "user/other fine-tuned with the settings of distilhubert."
    del theirs["model"]["weights"], theirs["name"], theirs["about"]
    assert changed == theirs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--encoder", "AST"),
            "audio-spectrogram-transformer is not an encoder of waveforms. Give wa",
        ),
        (("--encoder", "nowhere/to-be-found"), "nowhere/to-be-found cannot be fetched"),
        (("--encoder", "AST", "--recipe", "mlp"), "mlp fine-tunes no encoder"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused_before_any_work(
    arguments: tuple[str, ...], words: str, genres: Path, tmp_path: Path
) -> None:
    ast = save_checkpoint("ast", tmp_path / "ast")
    given = [str(ast) if part == "AST" else part for part in arguments]
    refused = train(*given, "--data", genres, "--out", tmp_path / "out")
    assert isinstance(refused.exception, GenrescopeError)
    assert words in str(refused.exception)
    assert not (tmp_path / "out").exists()


def fitted(
    kind: str, folder: Path, samples: int, checkpoint: dict[str, Any], **model: Any
) -> nn.Module:
    """An encoder as a fit leaves it."""
    weights = save_checkpoint(kind, folder / "checkpoint", **checkpoint)
    settings = {"weights": str(weights), "hidden": 6, "head": "projector", **model}
    torch.manual_seed(1)
    encoder = make_model("encoder", (samples,), len(GENRES), settings)
    for part in encoder.head:
        nn.init.normal_(part.weight) if hasattr(part, "weight") else None
    return nn.Sequential(nn.Identity(), encoder).eval()


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("standardise", [True, False])
def test_every_kind_of_encoder_agrees(
    kind: str, norm: str, standardise: bool, music: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    network = fitted(
        kind, tmp_path, SAMPLING_RATE, {"feat_extract_norm": norm}, standardise=standardise
    )
    network = nn.Sequential(network, Temperature(1.7)).eval()
    assert export_transformers(tmp_path, network, GENRES)
    export(tmp_path, network, make_representation("waveform", {"seconds": 1}), GENRES, {})
    clip = music(1.0, SAMPLING_RATE)
    shown = genrescope.load(tmp_path).predict(clip, SAMPLING_RATE).probabilities
    assert max(shown.values()) > 0.4  # they do differ
    assert agree(probabilities(tmp_path / "transformers", clip), shown)


def test_of_a_recipe_with_windows_it_is_the_network_of_a_window(
    music: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    network = fitted("wav2vec2", tmp_path, SAMPLING_RATE // 2, {}, standardise=True)
    whole = nn.Sequential(Windows(network, SAMPLING_RATE // 2, 3), Temperature(0.8)).eval()
    assert export_transformers(tmp_path, whole, GENRES)
    export(tmp_path, whole, make_representation("waveform", {"seconds": 1}), GENRES, {})
    clip = np.tile(music(0.25, SAMPLING_RATE), 4)  # of which every window has the same input
    shown = genrescope.load(tmp_path).predict(clip, SAMPLING_RATE).probabilities
    assert agree(probabilities(tmp_path / "transformers", clip[: SAMPLING_RATE // 2]), shown)


@pytest.mark.parametrize("model", [{"head": "batchnorm"}, {"pool": "lstm"}, {"layers": "weighted"}])
def test_what_transformers_has_no_form_for_is_not_written(
    model: dict[str, str], tmp_path: Path
) -> None:
    network = fitted("wav2vec2", tmp_path, SAMPLING_RATE, {}, **model)
    assert not export_transformers(tmp_path, network, GENRES)
    assert not (tmp_path / "transformers").exists()


def test_a_checkpoint_in_half_precision_is_read_in_full(tmp_path: Path) -> None:
    folder = save_checkpoint("hubert", tmp_path / "whole")
    transformers.HubertModel.from_pretrained(folder).half().save_pretrained(tmp_path / "half")
    encoder = make_model(
        "encoder", (SAMPLING_RATE,), 3, {"weights": str(tmp_path / "half"), "hidden": 6}
    )
    assert encoder.eval()(torch.zeros(1, SAMPLING_RATE)).dtype == torch.float32


def test_a_folder_of_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(InputError, match="describes no known network"):
        encoder_config(tmp_path)
