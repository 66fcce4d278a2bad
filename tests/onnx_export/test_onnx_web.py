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
from genrescope.audio import decode
from genrescope.backbones.log_mel import SAMPLING_RATE
from genrescope.classifier import Classifier

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
for (const name of process.argv.slice(2)) {
  const bytes = new Uint8Array(readFileSync(name));
  found.push(await classify(session, genres, new Float32Array(bytes.buffer)));
}
console.log(JSON.stringify(found));
"""


@pytest.mark.slow
def test_the_javascript_of_the_page_gives_what_predict_gives(
    classifier: Classifier, tmp_path: Path
) -> None:
    if shutil.which("node") is None or not (PACKAGES / "onnxruntime-web").is_dir():
        missing("onnxruntime-web under Node (npm ci --prefix tests/onnx_export)")
    genrescope.export_onnx(classifier, tmp_path / "genres.onnx")
    [code, *_] = re.findall(r"^```js\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "genres.mjs").write_text(code, encoding="utf-8")
    (tmp_path / "check.mjs").write_text(CHECK, encoding="utf-8")
    (tmp_path / "genres.json").write_text(json.dumps(classifier.genres), encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    waveform = decode(genrescope.sample("shuffle"), SAMPLING_RATE).waveform
    clips = [waveform, waveform[:60_000], waveform[20_000:25_000]]
    names = [f"{place}.f32" for place in range(len(clips))]
    for name, clip in zip(names, clips, strict=True):
        clip.astype("<f4").tofile(tmp_path / name)
    done = subprocess.run(
        ["node", "check.mjs", *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for clip, ranked in zip(clips, json.loads(done.stdout), strict=True):
        expected = classifier.predict(clip, SAMPLING_RATE).probabilities
        assert [row["genre"] for row in ranked] == list(expected)
        found = [row["probability"] for row in ranked]
        np.testing.assert_allclose(found, list(expected.values()), atol=1e-4)
