"""Any encoder can be probed: bundled, ONNX or of transformers, with what it costs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import soundfile

import commands
from genrescope.errors import InputError
from genrescope.study.config import load_study
from genrescope.study.probes import describe_encoder
from tiny_backbones import save_checkpoint, save_onnx


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("encoders")
    onnx = save_onnx(folder / "tiny.onnx", ["windows", 8000])
    return ["MSD_musicnn", str(onnx), str(save_checkpoint("wav2vec2", folder / "wav2vec2"))]


def test_each_kind_is_opened_and_counted(encoders: list[str]) -> None:
    musicnn, onnx, wav2vec2 = map(describe_encoder, encoders)
    assert (musicnn.layer, musicnn.columns) == ("penultimate", 200)
    assert musicnn.parameters == 220_034  # without the filters that never fire
    assert (onnx.name, onnx.layer) == ("tiny.onnx", "squared")
    assert (onnx.columns, onnx.parameters) == (5, 8000 * 5)
    from transformers import Wav2Vec2Model

    counted = sum(p.numel() for p in Wav2Vec2Model.from_pretrained(encoders[2]).parameters())
    assert (wav2vec2.layer, wav2vec2.columns, wav2vec2.parameters) == ("last", 8, counted)
    assert all(one.seconds is not None and one.seconds > 0 for one in (musicnn, onnx, wav2vec2))


def test_every_model_is_run_on_every_encoder(encoders: list[str]) -> None:
    study = load_study("probes", encoders=encoders)
    assert [recipe.name for recipe in study.recipes] == [
        f"{model} ({name})"
        for name in ("MSD_musicnn", "tiny.onnx", "wav2vec2")
        for model in ("linear", "knn")
    ]
    assert "8 columns" in study.recipes[-1].about
    assert study.recipes[0].model.name == "logistic-regression"
    assert study.recipes[2].search  # as in the recipe that it extends
    named = load_study("original", recipes=["svm"], encoders=encoders[:1])
    assert [recipe.name for recipe in named.recipes] == ["svm (MSD_musicnn)"]


def test_a_study_without_encoders_says_so() -> None:
    with pytest.raises(InputError, match="no encoders to replace"):
        load_study("original", encoders=["MSD_musicnn"])


def test_what_is_not_here_is_marked_and_the_rest_is_run() -> None:
    study = load_study("probes", encoders=["nobody/no-such-encoder"])
    assert [recipe.name for recipe in study.recipes] == [
        "linear (no-such-encoder)",
        "knn (no-such-encoder)",
    ]


def test_the_command_prints_parameters_and_seconds(
    encoders: list[str], music: Callable[..., Any], tmp_path: Path
) -> None:
    for seed in range(20):
        path = tmp_path / "data" / ("low", "high")[seed % 2] / f"{seed}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = music(2.0, 16000, seed).astype(np.float32) * (0.2 if seed % 2 else 1)
        soundfile.write(path, samples, 16000)
    done = commands.run(
        *("study", "probes", "--data", tmp_path / "data", "--encoders", ",".join(encoders[:2])),
        *("--protocols", "random", "--seeds", 1, "--out", tmp_path / "out"),
        *("--cache-dir", tmp_path / "store", "--jobs", 1),
        env={**os.environ, "COLUMNS": "140"},
    )
    assert done.returncode == 0, done.stderr
    (head,) = [line for line in done.stdout.splitlines() if "test accuracy" in line]
    assert " ".join(head.split()).endswith("parameters s for 30 s")
    (line,) = [line for line in done.stdout.splitlines() if "knn (tiny.onnx)" in line]
    assert line.split()[-2] == "40,000"
    assert float(line.split()[-1]) >= 0
    results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert len(results["rows"]) == 4
    assert results["study"]["encoder_parameters"]["linear (MSD_musicnn)"] == 220_034
    assert "s for 30 s of audio" in (tmp_path / "out" / "report.md").read_text("utf-8")


@pytest.mark.parametrize("option", ["--no-download", "--download"])
def test_the_hub_is_asked_only_if_downloads_are_allowed(option: str, tmp_path: Path) -> None:
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{hub.server_port}"
        done = commands.process(
            *("study", "probes", "--encoders", "nobody/no-such-encoder", "--quick"),
            *("--protocols", "random", option, "--out", tmp_path / "out"),
            env={**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"},
        )
        hub.shutdown()
    assert done.returncode == 1
    assert "weights not available" in done.stdout
    assert bool(asked) is (option == "--download")
