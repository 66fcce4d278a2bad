"""The page's JavaScript gives the classifier's probabilities, in ONNX Runtime for the web."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import genrescope
from browser import missing
from genrescope.audio import decode, resample
from genrescope.representations.picture import SAMPLING_RATE as RATE

pytest.importorskip("onnx", reason="models are exported with genrescope[train]")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
PACKAGES = Path(__file__).parent / "node_modules"
CHECK = """
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import { classify, open } from "./genres.mjs";

ort.env.wasm.numThreads = 1;
const session = await open("genres.onnx");
const genres = JSON.parse(readFileSync("genres.json"));
const found = [];
for (const clip of process.argv.slice(2)) {
  const waveforms = {};
  for (const name of session.inputNames) {
    const bytes = new Uint8Array(readFileSync(`${clip}.${name}`));
    waveforms[name] = new Float32Array(bytes.buffer);
  }
  found.push(await classify(session, genres, waveforms));
}
console.log(JSON.stringify(found));
"""


@pytest.mark.slow
def test_the_javascript_of_the_page_gives_what_predict_gives(tmp_path: Path) -> None:
    if shutil.which("node") is None or not (PACKAGES / "onnxruntime-web").is_dir():
        missing("onnxruntime-web under Node (npm ci --prefix tests/onnx_export)")
    classifier = genrescope.load()
    sampling_rates = genrescope.export_onnx(classifier, tmp_path / "genres.onnx")
    [code, *_] = re.findall(r"^```js\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "genres.mjs").write_text(code, encoding="utf-8")
    (tmp_path / "check.mjs").write_text(CHECK, encoding="utf-8")
    (tmp_path / "genres.json").write_text(json.dumps(classifier.genres), encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    waveform = decode(genrescope.sample("shuffle"), RATE).waveform
    clips = {"sample": waveform, "part": waveform[:80_000], "second": waveform[20_000:42_050]}
    for clip, samples in clips.items():
        for name, sampling_rate in sampling_rates.items():
            resample(samples, RATE, sampling_rate).astype("<f4").tofile(tmp_path / f"{clip}.{name}")
    done = subprocess.run(
        ["node", "check.mjs", *clips], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for samples, ranked in zip(clips.values(), json.loads(done.stdout), strict=True):
        expected = classifier.predict(samples, RATE).probabilities
        found = {row["genre"]: row["probability"] for row in ranked}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert set(found) == set(expected)
        np.testing.assert_allclose([found[g] for g in expected], list(expected.values()), atol=1e-4)
