"""Backbones that do not come with the package: how they are named, pinned, checked and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from genrescope.audio import level_gain
from genrescope.backbones.backbone import BACKBONES, cut, make_backbone_config, open_backbone
from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError, InputError
from genrescope.hub import WeightsNotAvailableError
from genrescope.representations import make_representation
from tiny_backbones import save_checkpoint, save_onnx

Checkpoints = Callable[[str], dict[str, Any]]
SAMPLING_RATE = 16000


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * SAMPLING_RATE))).astype(np.float32)


def embed(settings: dict[str, Any], waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    return make_representation("embedding", settings).compute(waveform, SAMPLING_RATE)


def reference(settings: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {**settings["backbones"][0], **changes}


def test_the_kinds_there_are() -> None:
    assert set(BACKBONES) == {"musicnn", "onnx", "transformers"}


def test_columns_are_the_layers_the_network_itself_gives(checkpoints: Checkpoints) -> None:
    settings = checkpoints("wav2vec2")
    network = AutoModel.from_pretrained(settings["backbones"][0]["source"]).eval()
    sound = noise(2.0)
    rows = []
    for window in (sound[:SAMPLING_RATE], sound[SAMPLING_RATE:]):
        scaled = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
        with torch.no_grad():
            found = network(torch.from_numpy(scaled[None]), output_hidden_states=True)
        states = (found.hidden_states[1], found.last_hidden_state)
        rows.append(torch.cat([state.mean(dim=1)[0] for state in states]).numpy())
    np.testing.assert_allclose(embed(settings, sound), np.mean(rows, axis=0), atol=1e-5)


def test_columns_are_the_outputs_of_the_onnx_file(checkpoints: Checkpoints) -> None:
    settings = checkpoints("onnx-waveform")
    model = onnx.load(settings["backbones"][0]["source"])
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
    sound = noise(1.0)
    levelled = sound * np.float32(level_gain(sound, 16000))
    projected = levelled.reshape(2, 8000) @ weights
    wanted = np.concatenate([projected, projected**2], axis=1).mean(axis=0)
    np.testing.assert_allclose(embed(settings, sound), wanted, rtol=1e-4, atol=1e-4)


def test_windows_follow_each_other_and_a_short_clip_is_repeated() -> None:
    steps = np.arange(7, dtype=np.float32)
    assert cut(steps, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert cut(steps, 10).tolist() == [[0, 1, 2, 3, 4, 5, 6, 0, 1, 2]]
    assert cut(steps, 10, is_continuation=True).shape == (0, 10)


def test_a_name_of_one_word_will_do(checkpoints: Checkpoints, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "a.onnx", ["n", 8000])
    assert make_backbone_config(f"onnx:{path}") == make_backbone_config(
        {"kind": "onnx", "source": str(path)}
    )
    assert make_backbone_config("musicnn:MSD_vgg") == make_backbone_config("MSD_vgg")
    assert make_backbone_config("MSD_vgg").to_json() == "MSD_vgg"


@pytest.mark.parametrize("name", ["onnx-waveform", "wav2vec2"])
def test_backbones_are_pinned(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    settings = checkpoints(name)
    shown = make_representation("embedding", settings).to_json()
    (pinned,) = shown["backbones"]
    assert len(pinned["sha256"]) == 64
    with pytest.raises(GenrescopeError, match=r"not the expected .*: its sha256 is"):
        make_representation(
            "embedding", {**settings, "backbones": [reference(settings, sha256="0" * 64)]}
        )
    if name == "wav2vec2":
        other = save_checkpoint("hubert", tmp_path / "other")
    else:
        other = save_onnx(tmp_path / "other.onnx", ["n", 4000])
    swapped = {**settings, "backbones": [reference(settings, source=str(other))]}
    new = make_representation("embedding", swapped)
    assert new.key != make_representation("embedding", settings).key


def test_several_backbones_must_take_the_same_input(checkpoints: Checkpoints) -> None:
    log_mel, wave = (
        checkpoints(f"onnx-{form}")["backbones"][0] for form in ("log-mel", "waveform")
    )
    with pytest.raises(GenrescopeError, match="same sampling rate and window length"):
        make_representation("embedding", {"backbones": [log_mel, wave], "layers": ["projected"]})
    both = make_representation(
        "embedding", {"backbones": [log_mel, log_mel], "layers": ["projected"]}
    )
    assert both.shape == (10,)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("tape:x", "no kind of backbone 'tape'; there are: musicnn, onnx, transformers"),
        ({"source": "x"}, "no kind of backbone ''"),
        ({"kind": "onnx", "source": "x.onnx", "speed": 1}, "'speed'"),
        (
            {"kind": "onnx", "source": "x.onnx", "sampling_rate": -1},
            "sampling_rate must be a positive number",
        ),
        ({"kind": "onnx", "source": "x.onnx", "input": "tape"}, "waveform, log-mel"),
        ({"kind": "onnx", "source": 5}, "source must be text"),
        ("onnx:gone.onnx", "gone.onnx: the backbone's ONNX file cannot be read"),
        ("transformers:nobody/nothing", "nobody/nothing cannot be fetched from the hub"),
        ({"kind": "transformers", "source": "x", "window_s": "10"}, "window_s must be"),
    ],
)
def test_what_cannot_be_is_reported(shown: str | dict[str, Any], words: str) -> None:
    with pytest.raises(GenrescopeError, match=words) as caught:
        make_representation("embedding", {"backbones": [shown], "layers": ["last"]})
    assert "\n" not in str(caught.value)


def test_layers_that_are_not_there_are_reported_which_are(checkpoints: Checkpoints) -> None:
    settings = {**checkpoints("ast"), "layers": ["last", "penultimate"]}
    with pytest.raises(GenrescopeError, match="layer-0, layer-1, layer-2, last, pooled"):
        make_representation("embedding", settings)


def damaged_onnx(path: Path, way: str) -> Path:
    if way == "text":
        path.write_text("not a network", encoding="utf-8")
    elif way == "custom":
        save_onnx(path, ["n", 8000], operator="Steal", domain="their.own")
    elif way == "fixed":
        save_onnx(path, ["n", 11, 13, 8000])
    elif way == "double":
        model = onnx.load(save_onnx(path, ["n", 8000]))
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        path.write_bytes(model.SerializeToString())
    else:
        model = onnx.load(save_onnx(path, ["n", 8000]))
        path.with_name("secret.bin").write_bytes(bytes(200_000))
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "secret.bin"
        path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("text", "ONNX Runtime cannot read it"),
        ("custom", "uses custom operations, which are never loaded .*their.own"),
        ("fixed", "cannot run on an input of shape"),
        ("double", "one input, of float32|cannot read it"),
        ("external", "keeps weights in another file"),
    ],
)
def test_onnx_files_that_will_not_do(way: str, words: str, tmp_path: Path) -> None:
    path = damaged_onnx(tmp_path / "theirs.onnx", way)
    with pytest.raises(InputError, match=rf"theirs\.onnx: .*{words}"):
        make_representation("embedding", {"backbones": [f"onnx:{path}"], "layers": ["projected"]})


def test_a_huge_onnx_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(InputError, match="more than 1,073,741,824"):
        make_backbone_config(f"onnx:{path}")


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    folder = save_checkpoint("wav2vec2", tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "c.C", "AutoModel": "c.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "c.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(WeightsNotAvailableError, match="without custom code"):
        open_backbone(f"transformers:{folder}")
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = save_checkpoint("wav2vec2", tmp_path / "old")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsNotAvailableError, match="no safetensors weights"):
        open_backbone(f"transformers:{folder}")


def test_a_checkpoint_without_a_feature_extractor_says_so(tmp_path: Path) -> None:
    folder = save_checkpoint("hubert", tmp_path / "half")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsNotAvailableError, match=r"preprocessor_config\.json"):
        open_backbone(f"transformers:{folder}")


RECIPE = """\
name: {name}
representation: {representation}
normalise: standardise
model: {{name: lda}}
calibrate: true
"""


@pytest.fixture(scope="module")
def genres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genres")
    for genre, hertz in (("low", 200), ("high", 3000)):
        (folder / genre).mkdir()
        for i in range(10):
            tone = np.sin(
                2 * np.pi * hertz * (1 + i / 50) * np.arange(SAMPLING_RATE) / SAMPLING_RATE
            )
            soundfile.write(
                folder / genre / f"{i}.wav", 0.4 * tone + noise(1.0, i) / 10, SAMPLING_RATE
            )
    return folder


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "genrescope", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hubert", "onnx-log-mel"])
def test_a_classifier_of_such_a_backbone_is_trained_and_used(
    name: str, checkpoints: Checkpoints, genres: Path, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "mine.yaml", tmp_path / "out"
    settings = {"name": "embedding", **checkpoints(name)}
    recipe.write_text(RECIPE.format(name="mine", representation=json.dumps(settings)))
    made = run(
        *("train", "--recipe", recipe, "--data", genres, "--out", out),
        *("--cache-dir", tmp_path / "store", "--jobs", 1),
    )
    assert made.returncode == 0, made.stderr
    shown = run("classify", "--model", out, "--json", "--timeline", genres / "low" / "0.wav")
    assert shown.returncode == 0, shown.stderr
    (row,) = json.loads(shown.stdout)
    assert {score["label"] for score in row["scores"]} == {"low", "high"}
    # What it needs stands in its folder, and is looked at when it is opened.
    (needed,) = json.loads((out / "config.json").read_text())["representation"]["backbones"]
    assert needed["source"] in (out / "README.md").read_text()
    config = json.loads((out / "config.json").read_text())
    config["representation"]["backbones"][0]["sha256"] = "1" * 64
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(GenrescopeError, match="requires external weights"):
        Classifier(out)


def test_without_torch_the_extra_is_named(checkpoints: Checkpoints, tmp_path: Path) -> None:
    settings = checkpoints("wavlm")
    code = (
        "import sys, json\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "from genrescope.representations import make_representation\n"
        "make_representation('embedding', json.loads(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install '.[train]'" in done.stderr.splitlines()[-1]
