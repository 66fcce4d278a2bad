"""Make the sound samples of the package; the same libraries give the same bytes.

Run ``python tools/make_samples.py [FOLDER]``. The music is played by ``genrescope.datasets.demo``.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile

import genrescope
from genrescope.datasets.demo import SAMPLING_RATE, render

SECONDS, FADE_S = 9.0, 0.5
ARTISTS = {"lament": 0, "pulse": 2, "shuffle": 2}


def make(folder: Path) -> list[Path]:
    """Write every sample as an MP3 file; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, artist in ARTISTS.items():
        waveform = 0.8 * render(name, artist, 0, seconds=SECONDS)  # the encoder may overshoot
        end = np.linspace(1, 0, round(FADE_S * SAMPLING_RATE), dtype=np.float32)
        waveform[-len(end) :] *= end
        paths.append(folder / f"{name}.mp3")
        soundfile.write(
            paths[-1], waveform, SAMPLING_RATE, bitrate_mode="CONSTANT", compression_level=0.7
        )
    return paths


if __name__ == "__main__":
    default = Path(genrescope.__file__).parent / "samples"
    for path in make(Path(sys.argv[1]) if len(sys.argv) > 1 else default):
        print(path, path.stat().st_size)
