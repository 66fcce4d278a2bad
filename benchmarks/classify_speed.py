"""Time the default classifier on one core, each step against a stated baseline, in one run.

    python benchmarks/classify_speed.py --data /path/to/gtzan
    python benchmarks/classify_speed.py --data /path/to/gtzan --wheel WHEEL --tensorflow PYTHON

The clips are whole ones of `--data` (30 s); the long tracks are made of them, as MP3 or FLAC. With
musicnn's wheel, the networks as published are timed in PyTorch; with a Python that has TensorFlow,
there, too.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch

from genrescope.audio import load
from genrescope.backbones import log_mel
from genrescope.backbones.backbone import open_backbone
from genrescope.backbones.musicnn import NETWORKS
from genrescope.classifier import Classifier
from genrescope.datasets.open import open_dataset


def main() -> None:
    """Print every figure, and write them as JSON beside the pretty ones if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="GTZAN with whole clips")
    options.add_argument("--clips", type=int, default=20)
    options.add_argument("--wheel", type=Path, help="musicnn's, for PyTorch and TensorFlow")
    options.add_argument("--tensorflow", type=Path, help="a Python that has TensorFlow")
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    torch.set_num_threads(1)
    tracks = [t for t in open_dataset(given.data).tracks if t.audio and t.audio_variant == "full"]
    step = max(1, len(tracks) // given.clips)
    clips = [t.audio for t in tracks[::step] if t.audio][: given.clips]
    figures: dict[str, float] = {}
    figures |= whole_clips(clips)
    with tempfile.TemporaryDirectory() as folder:
        figures |= long_tracks(clips, Path(folder))
        figures |= memory(clips, Path(folder))
        figures |= front_end(clips)
        figures |= networks(clips, Path(folder), given.wheel, given.tensorflow)
    for name, value in figures.items():
        print(f"{name:64s} {value:10.4g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def best(job: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of a few runs, after one to warm up."""
    job()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        job()
        taken.append(time.perf_counter() - began)
    return min(taken)


def whole_clips(clips: Sequence[Path]) -> dict[str, float]:
    """Everything from file to genre, against decoding and resampling alone."""
    classifier = Classifier.default()
    decode = best(lambda: [load(path) for path in clips]) / len(clips)
    listen = best(lambda: [load(path, log_mel.SAMPLING_RATE) for path in clips]) / len(clips)
    predict = best(lambda: [classifier.predict(path) for path in clips]) / len(clips)
    return {
        "30 s clip: decode alone, s": decode,
        "30 s clip: decode and resample to 16 kHz, s": listen,
        "30 s clip: predict, s": predict,
        "30 s clip: predict / decode alone": predict / decode,
        "30 s clip: times real time": 30 / predict,
    }


def long_tracks(clips: Sequence[Path], folder: Path) -> dict[str, float]:
    """Four minutes of MP3, by windows across the track."""
    classifier = Classifier.default()
    made = [join(clips[i : i + 8], folder / f"{i}.mp3") for i in range(0, len(clips) - 7, 4)]
    decode = best(lambda: [load(path) for path in made], 2) / len(made)
    predict = best(lambda: [classifier.predict(path) for path in made], 2) / len(made)
    return {
        "4 min MP3: decode alone, s": decode,
        "4 min MP3: predict, s": predict,
        "4 min MP3: predict / decode alone": predict / decode,
        "4 min MP3: times real time": 240 / predict,
    }


def join(clips: Sequence[Path], path: Path, times: int = 1) -> Path:
    """Make one long track of clips; in blocks, since encoders dislike long arrays."""
    with soundfile.SoundFile(path, "w", 22050, 1) as file:
        for _ in range(times):
            for clip in clips:
                samples, _ = load(clip, 22050)
                for start in range(0, len(samples), 22050):
                    file.write(samples[start : start + 22050])
    return path


PEAK = """
import re, sys
from pathlib import Path
from genrescope.classifier import Classifier
classifier = Classifier.default()
getattr(classifier, sys.argv[1])(Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def memory(clips: Sequence[Path], folder: Path) -> dict[str, float]:
    """Peak of a process of its own, for tracks of 30 s to three hours."""
    figures = {}
    for label, times in (("30 s", 0), ("10 min", 1), ("3 h", 18)):
        path = join(clips[:20], folder / "long.flac", times) if times else clips[0]
        for what in ("predict", "timeline"):
            peak = subprocess.run(
                [sys.executable, "-c", PEAK, what, str(path)], check=True, capture_output=True
            )
            figures[f"peak memory, {what}, {label} track, MB"] = int(peak.stdout) / 1024
    return figures


def front_end(clips: Sequence[Path]) -> dict[str, float]:
    """The log-mel spectrogram, against librosa's and against its FFTs alone."""
    sounds = [load(path, log_mel.SAMPLING_RATE)[0] for path in clips]

    def theirs() -> None:
        for sound in sounds:
            mel = librosa.feature.melspectrogram(
                y=sound, sr=16000, n_fft=512, hop_length=256, n_mels=96
            )
            np.log10(10000 * mel + 1)

    def transforms() -> None:
        for sound in sounds:
            np.fft.rfft(np.lib.stride_tricks.sliding_window_view(sound, 512)[::256])

    ours = best(lambda: [log_mel.compute(sound, log_mel.SAMPLING_RATE) for sound in sounds]) / len(
        sounds
    )
    other, fft = best(theirs) / len(sounds), best(transforms) / len(sounds)
    return {
        "log-mel of a 30 s clip, s": ours,
        "log-mel by librosa, s": other,
        "log-mel: librosa / ours": other / ours,
        "log-mel: ours / its FFTs alone": ours / fft,
    }


def networks(
    clips: Sequence[Path], folder: Path, wheel: Path | None, tensorflow: Path | None
) -> dict[str, float]:
    """Each shipped network on a 30 s clip's patches, against what was published."""
    patches = log_mel.patches(log_mel.compute(*load(clips[0], log_mel.SAMPLING_RATE)))
    sound = load(clips[0], log_mel.SAMPLING_RATE)[0]
    figures = {}
    for name in NETWORKS:
        backbone = open_backbone(name)
        figures[f"{name}: ours (log-mel and network), s"] = best(partial(backbone.encode, sound))
    if wheel is None:
        print("Without --wheel, the networks as published are not timed.", file=sys.stderr)
        return figures
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
    import convert_musicnn as convert
    from musicnn_networks import from_tensorflow

    archive = convert.read_wheel(wheel)
    for name in NETWORKS:
        variables = convert.read_checkpoint(archive, name)
        tensors = {k: torch.tensor(v) for k, v in variables.items()}
        network = from_tensorflow(name, tensors).eval()
        batch = torch.from_numpy(patches)
        with torch.no_grad():
            seconds = best(partial(network, batch))
        figures[f"{name}: network as published, PyTorch, s"] = seconds
    if tensorflow is not None:
        np.save(folder / "patches.npy", patches)
        script = Path(__file__).with_name("tensorflow_musicnn.py")
        command = [tensorflow, script, wheel, folder / "patches.npy", *NETWORKS]
        answer = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        for name, took in json.loads(answer.stdout.splitlines()[-1])["seconds"].items():
            figures[f"{name}: network as published, TensorFlow, s"] = took
    for name in NETWORKS:
        ours = figures[f"{name}: ours (log-mel and network), s"]
        for other in ("PyTorch", "TensorFlow"):
            if (theirs := figures.get(f"{name}: network as published, {other}, s")) is not None:
                figures[f"{name}: {other} / ours"] = theirs / ours
    return figures


if __name__ == "__main__":
    main()
