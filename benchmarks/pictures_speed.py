"""Time the mel-spectrogram picture on one core against librosa and matplotlib, in one run.

    python benchmarks/pictures_speed.py --data /path/to/gtzan

What GTZAN's pictures were made with: librosa's mel spectrogram in dB (of amplitudes, though it is
of power), drawn by matplotlib and saved as PNG, which a data set then decodes, crops and resizes.
Each clip is done by both in turn. That ours is the published picture is held by the tests.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import io
import json
import statistics
import time
from pathlib import Path

import librosa
import matplotlib as mpl

mpl.use("agg")
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from PIL import Image

from genrescope.audio import load
from genrescope.datasets.open import open_dataset
from genrescope.representations import mel_image

SAMPLING_RATE = 22050


def main() -> None:
    """Print every figure, and write them as JSON beside the pretty ones if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="GTZAN with whole clips")
    options.add_argument("--clips", type=int, default=20)
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    tracks = [t for t in open_dataset(given.data).tracks if t.audio and t.audio_variant == "full"]
    step = max(1, len(tracks) // given.clips)
    sounds = [load(t.audio, SAMPLING_RATE)[0] for t in tracks[::step] if t.audio][: given.clips]
    by_matplotlib(sounds[0])
    mel_image.compute(sounds[0], SAMPLING_RATE)
    seconds: tuple[list[float], list[float]] = [], []
    for sound in sounds:
        for which, draw in enumerate(
            (by_matplotlib, lambda y: mel_image.compute(y, SAMPLING_RATE))
        ):
            began = time.perf_counter()
            draw(sound)
            seconds[which].append(time.perf_counter() - began)
    theirs, ours = map(statistics.median, seconds)
    figures = {
        "mel picture of a 30 s clip: librosa and matplotlib, s": theirs,
        "mel picture of a 30 s clip: ours, s": ours,
        "mel picture: librosa and matplotlib / ours": theirs / ours,
    }
    for label, figure in figures.items():
        print(f"{label:<60} {figure:.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def by_matplotlib(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw, save, decode, crop and resize, as the pictures of the data set are used."""
    mel = librosa.feature.melspectrogram(y=sound, sr=SAMPLING_RATE, pad_mode="reflect")
    level = librosa.amplitude_to_db(mel, ref=np.max)
    figure = plt.figure(figsize=(6, 4), dpi=72)
    axes = figure.add_axes((0.125, 0.125, 0.775, 0.755))
    librosa.display.specshow(level, sr=SAMPLING_RATE, ax=axes)
    saved = io.BytesIO()
    figure.savefig(saved, format="png")
    plt.close(figure)
    saved.seek(0)
    image = Image.open(saved).convert("RGB").crop((55, 35, 370, 252))
    pixels = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR), dtype=np.float32)
    return pixels.transpose(2, 0, 1) / 127.5 - 1


if __name__ == "__main__":
    main()
