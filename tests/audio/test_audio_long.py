"""An hour's track takes hardly more memory and time than a song."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

pytest.importorskip("resource", reason="peak memory is read by a module of Unix")

RATES = {"wav": 22050, "flac": 22050, "mp3": 8000, "aac": 8000}  # low, as encoders are slow
MINUTES = 60
LIMIT_MB = 50  # the waveform of an hour is 115 MB at 8,000 Hz, 318 MB at 22,050

MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from genrescope import audio

def peak():
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts the process that started this one
        text = status.read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # what getrusage counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

song, hour = Path(sys.argv[1]), Path(sys.argv[2])
audio.excerpts(song, 16000, span_s=3, max_spans=20)  # so that all is imported
before = peak()
found = getattr(audio, sys.argv[3])(hour, 16000, **eval(sys.argv[4]))
if sys.argv[3] == "excerpts":
    assert abs(found.seconds - 3600) < 20, found.seconds
    assert [len(waveform) for waveform in found.waveforms] == [48000] * 20
    if hour.suffix != ".aac":  # loudness grows with time, and so tells it
        told = [np.sqrt(2 * np.mean(waveform**2)) for waveform in found.waveforms]
        meant = [(start + 1.5) / 3600 for start in found.starts]
        assert np.allclose(told, meant, atol=0.024), (told, meant)
print(peak() - before)
"""


def minute(index: int, sampling_rate: int) -> NDArray[np.float32]:
    # A tone that swells from 0 to full over the hour.
    time = index * 60 + np.arange(60 * sampling_rate) / sampling_rate
    return (time / 3600 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def write(path: Path, minutes: int) -> Path:
    """Write a tone minute by minute; bare AAC, which states no length, is one minute repeated."""
    sampling_rate = RATES[path.suffix[1:]]
    if path.suffix == ".aac":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=sampling_rate, layout="mono")
            samples = minute(30, sampling_rate)[
                None, : 60 * sampling_rate // 1024 * 1024 - 1024
            ]  # whole packets
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = sampling_rate
            container.mux([*stream.encode(frame), *stream.encode(None)])
        path.write_bytes(path.read_bytes() * minutes)
        return path
    with soundfile.SoundFile(path, "w", sampling_rate, 1) as file:
        for index in range(minutes):
            file.write(minute(index, sampling_rate))
    return path


def peak_mb(song: Path, hour: Path, function: str, settings: str) -> float:
    """Measure in a process of its own what a function adds to the peak memory, in MB."""
    command = [sys.executable, "-c", MEASURE, *map(str, (song, hour)), function, settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "aac"])
def test_excerpts_of_an_hour_take_little_memory(tmp_path: Path, suffix: str) -> None:
    song = write(tmp_path / f"song.{suffix}", minutes=2)
    hour = write(tmp_path / f"hour.{suffix}", MINUTES)
    assert peak_mb(song, hour, "excerpts", "dict(span_s=3, max_spans=20)") < LIMIT_MB
    if suffix == "flac":  # the measure itself: the whole does take more
        assert peak_mb(song, hour, "load", "{}") > 6 * LIMIT_MB
