"""Time an encoder of wav2vec2-base's size on one core: PyTorch, ONNX Runtime, int8, in one run.

    python benchmarks/encoder_speed.py --data /path/to/gtzan

Its weights are random, so that no network is needed: they cost the same time. What int8 costs in
accuracy is that of a logistic regression on what such an encoder makes of each clip (5 folds, same
folds), and by how far its outputs are from those in full precision.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from genrescope.audio import load
from genrescope.classifier import Classifier
from genrescope.datasets.open import open_dataset
from genrescope.models import make_model
from genrescope.representations import make_representation
from genrescope.training.export import export

SAMPLING_RATE, SECONDS, OUTPUTS = 16000, 2, 64


def main() -> None:
    """Print every figure, and write them as JSON beside the pretty ones if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="GTZAN with clips")
    options.add_argument("--clips", type=int, default=100, help="for the accuracy")
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    logging.getLogger().setLevel(logging.ERROR)
    tracks = [t for t in open_dataset(given.data).tracks if t.audio]
    tracks = tracks[:: max(1, len(tracks) // given.clips)][: given.clips]
    clips = np.stack([clip(track.audio) for track in tracks if track.audio])
    labels = [track.genre for track in tracks]
    with tempfile.TemporaryDirectory() as folder:
        figures = encoders(clips, labels, Path(folder))
    figures |= pipeline(next(t.audio for t in tracks if t.audio_variant == "full"))
    for label, figure in figures.items():
        print(f"{label:<60} {figure:.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def clip(path: Path) -> NDArray[np.float32]:
    """Two seconds, from the middle."""
    samples, _ = load(path, SAMPLING_RATE)
    start = (len(samples) - SECONDS * SAMPLING_RATE) // 2
    return samples[start : start + SECONDS * SAMPLING_RATE]


def encoders(clips: NDArray[np.float32], labels: Sequence[str], folder: Path) -> dict[str, float]:
    """The same network three ways; they take turns at every clip."""
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(folder / "base")
    settings = {"weights": str(folder / "base"), "standardise": True, "hidden": 768}
    network = make_model("encoder", (SECONDS * SAMPLING_RATE,), OUTPUTS, settings).eval()
    names = [f"output {i}" for i in range(OUTPUTS)]
    export(folder, network, make_representation("waveform", {"seconds": SECONDS}), names, {})
    quantize_dynamic(
        folder / "model.onnx",
        folder / "int8.onnx",
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
    )
    ways: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
        "PyTorch": lambda x: network(torch.from_numpy(x)).detach().numpy(),
        "ONNX Runtime": session(folder / "model.onnx"),
        "int8": session(folder / "int8.onnx"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    outputs: dict[str, list[NDArray[np.float32]]] = {name: [] for name in ways}
    for one in clips:
        for name, way in ways.items():
            began = time.perf_counter()
            outputs[name].append(way(one[None]))
            seconds[name].append(time.perf_counter() - began)
    rows = {name: np.concatenate(found) for name, found in outputs.items()}
    whole = rows["ONNX Runtime"]
    figures = {f"{SECONDS} s by {name}, s": float(np.median(s)) for name, s in seconds.items()}
    torch_s, ort_s, int8_s = figures.values()
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    right = {name: float(cross_val_score(head, rows[name], labels, cv=5).mean()) for name in rows}
    began = time.perf_counter()
    head.fit(whole, labels)
    cached = (time.perf_counter() - began) / len(clips)
    return {
        **figures,
        "encoder: PyTorch / ONNX Runtime": torch_s / ort_s,
        "encoder: ONNX Runtime / int8": ort_s / int8_s,
        "encoder: PyTorch and ONNX Runtime apart": float(np.abs(rows["PyTorch"] - whole).max()),
        "encoder: int8 apart, in standard deviations": float(
            (np.abs(rows["int8"] - whole).mean(axis=0) / whole.std(axis=0)).mean()
        ),
        "encoder: accuracy in full precision": right["ONNX Runtime"],
        "encoder: accuracy in int8": right["int8"],
        "encoder: model.onnx, MB": (folder / "model.onnx").stat().st_size / 2**20,
        "encoder: int8.onnx, MB": (folder / "int8.onnx").stat().st_size / 2**20,
        "frozen encoder: forward pass / fit on its kept embeddings": torch_s / cached,
    }


def session(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Open a network with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = opened.get_inputs()[0].name
    return lambda x: opened.run(["logits"], {name: x})[0]


def pipeline(path: Any) -> dict[str, float]:
    """The whole of a 30 s clip by a transformers pipeline, against our default classifier."""
    config = transformers.Wav2Vec2Config()
    config.num_labels = 10
    model = transformers.Wav2Vec2ForSequenceClassification(config).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor()
    pipe = transformers.pipeline("audio-classification", model=model, feature_extractor=extractor)
    classifier = Classifier.default()

    def theirs() -> None:
        samples, _ = load(path, SAMPLING_RATE)
        pipe({"raw": samples, "sampling_rate": SAMPLING_RATE})

    seconds = []
    for job in (theirs, lambda: classifier.predict(path)):
        job()
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            job()
            taken.append(time.perf_counter() - began)
        seconds.append(min(taken))
    return {
        "a clip by a transformers pipeline (wav2vec2-base), s": seconds[0],
        "a clip by the default classifier, s": seconds[1],
        "transformers pipeline / default classifier": seconds[0] / seconds[1],
    }


if __name__ == "__main__":
    main()
