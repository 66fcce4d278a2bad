"""Time the 57 descriptors on one core against the librosa recipe that the table was made by.

    python benchmarks/descriptors_speed.py --data /path/to/gtzan

Each clip is done by both in turn, after a first round that is not counted (for librosa to compile).
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from genrescope.audio import load
from genrescope.datasets.open import open_dataset
from genrescope.representations import descriptors
from genrescope.representations.median import moving_median

SAMPLING_RATE = descriptors.SAMPLING_RATE


def main() -> None:
    """Print every figure, and write them as JSON beside the pretty ones if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="GTZAN with whole clips")
    options.add_argument("--clips", type=int, default=20)
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    tracks = [t for t in open_dataset(given.data).tracks if t.audio and t.audio_variant == "full"]
    step = max(1, len(tracks) // given.clips)
    sounds = [load(t.audio, SAMPLING_RATE)[0] for t in tracks[::step] if t.audio][: given.clips]
    spectra = [np.abs(librosa.stft(y)) for y in sounds]
    figures: dict[str, float] = {}
    for what, data, theirs, ours in (
        ("57 descriptors", sounds, by_librosa, lambda y: descriptors.compute(y, SAMPLING_RATE)),
        ("both medians", spectra, by_scipy, by_network),
    ):
        slow, quick, apart = compared(data, theirs, ours)
        figures |= {
            f"{what} of a clip: librosa, s": slow,
            f"{what} of a clip: ours, s": quick,
            f"{what}: librosa / ours": slow / quick,
            f"{what}: largest relative difference": apart,
        }
    for label, figure in figures.items():
        print(f"{label:<50} {figure:.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def compared(
    data: list[Any], theirs: Callable[[Any], NDArray[Any]], ours: Callable[[Any], NDArray[Any]]
) -> tuple[float, float, float]:
    """Median seconds of each, and how far their answers are apart."""
    theirs(data[0])
    ours(data[0])
    seconds: tuple[list[float], list[float]] = [], []
    apart = 0.0
    for item in data:
        answers = []
        for which, function in enumerate((theirs, ours)):
            start = time.perf_counter()
            answers.append(np.asarray(function(item), dtype=np.float64))
            seconds[which].append(time.perf_counter() - start)
        wanted, found = answers
        apart = max(apart, float(np.max(np.abs(found - wanted) / np.maximum(np.abs(wanted), 1e-9))))
    return statistics.median(seconds[0]), statistics.median(seconds[1]), apart


def by_librosa(y: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the columns by librosa's functions, spectra shared as a careful script would."""
    spectrum = librosa.stft(y, pad_mode="reflect")
    size = np.abs(spectrum)
    power = size**2
    harmonic, percussive = librosa.decompose.hpss(spectrum)
    onsets = librosa.onset.onset_strength(
        y=y, sr=SAMPLING_RATE, aggregate=np.median, pad_mode="reflect"
    )
    features = [
        librosa.feature.chroma_stft(S=power, sr=SAMPLING_RATE),
        librosa.feature.rms(y=y, pad_mode="reflect"),
        librosa.feature.spectral_centroid(S=size, sr=SAMPLING_RATE),
        librosa.feature.spectral_bandwidth(S=size, sr=SAMPLING_RATE),
        librosa.feature.spectral_rolloff(S=size, sr=SAMPLING_RATE),
        librosa.feature.zero_crossing_rate(y),
        librosa.util.fix_length(librosa.istft(harmonic), size=len(y)),
        librosa.util.fix_length(librosa.istft(percussive), size=len(y)),
    ]
    tempo = librosa.beat.beat_track(onset_envelope=onsets, sr=SAMPLING_RATE)[0]
    level = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=SAMPLING_RATE))
    mfcc = librosa.feature.mfcc(S=level, n_mfcc=20)
    moments = [(np.mean(feature), np.var(feature)) for feature in (*features, *mfcc)]
    columns = np.ravel(moments)
    return np.concatenate([columns[:16], np.ravel(tempo), columns[16:]])


def by_scipy(size: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter along time and along frequency, as ``librosa.decompose.hpss`` does."""
    along = [median_filter(size, size=shape, mode="reflect") for shape in ((1, 31), (31, 1))]
    return np.stack(along)


def by_network(size: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter likewise with ours."""
    frames = np.ascontiguousarray(size.T)
    return np.stack([moving_median(frames, 31).T, moving_median(np.ascontiguousarray(size), 31)])


if __name__ == "__main__":
    main()
