"""Get the tags that the original musicnn package gives an audio file, for ``reference.json``.

Run once, in the environment that the package was made for (the tests only read the result):

    python3.7 -m venv old
    old/bin/pip install musicnn==0.1.0 tensorflow==1.15.5 librosa==0.7.2 numba==0.48.0 \
        resampy==0.2.2 "protobuf<3.21"
    old/bin/python tools/musicnn_reference.py signal.wav reference.json

``signal.wav`` is 16 kHz, mono, float32: ``convert_musicnn.reference_signal()`` written by
soundfile with ``subtype="FLOAT"``. Nothing of the package is changed: its ``extractor`` reads the
file, makes the spectrogram with librosa and runs the graph in TensorFlow 1.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import tensorflow as tf
from musicnn.extractor import extractor

MODELS = ("MSD_musicnn", "MTT_musicnn", "MSD_vgg", "MTT_vgg")
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"


def main(audio: str, out: str) -> None:
    """Write the mean tag likelihoods of every model on an audio file."""
    content = {
        "what": "mean over 3 s patches of the tag likelihoods that musicnn.extractor returned",
        "audio": (
            "convert_musicnn.reference_signal(): n = 0 … 159999, t = n/16000,"
            " u = (n mod 8000)/16000, v = (n mod 4000)/16000,"
            " f = (220, 174.6, 261.6, 196)[(n // 8000) mod 4];"
            " chord = sum over r in (1, 1.25, 1.5), h in 1 … 8 of sin(2π f r h t)/h;"
            " x = 0.04 chord exp(-3u) + 0.3 sin(2π 60 u) exp(-12u)"
            " + 0.05 (2 (n³ mod 16001)/16001 - 1) exp(-60v); 16 kHz, float32"
        ),
        "wheel": {"name": "musicnn-0.1.0-py3-none-any.whl", "sha256": SHA256},
        "environment": {
            "python": platform.python_version(),
            "tensorflow": tf.version.VERSION,
            "librosa": librosa.version.version,
            "numpy": np.__version__,
        },
        "models": {name: reference(audio, name) for name in MODELS},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    Path(out).write_text(text + "\n", encoding="utf-8")


def reference(audio: str, name: str) -> dict[str, Any]:
    """Return the number of patches, the five likeliest tags and the mean of all fifty."""
    likelihoods, tags = extractor(audio, model=name, extract_features=False)
    mean = likelihoods.mean(axis=0)
    return {
        "patches": len(likelihoods),
        "top": [tags[index] for index in mean.argsort()[:-6:-1]],
        "mean_tags": [round(float(value), 8) for value in mean],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
