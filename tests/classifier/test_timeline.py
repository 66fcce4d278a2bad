"""The genre over time: analysed piece by piece, as if it were analysed as a whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from genrescope import audio
from genrescope.classifier import Classifier
from genrescope.representations import embedding, make_representation

Samples = NDArray[np.float32]
MakeMusic = Callable[..., Samples]
SAMPLING_RATE = 16000
WINDOW = 187 * 256


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize(("length", "margin"), [(1000, 0), (7000, 256), (10**7, 256)])
def test_pieces_make_the_whole(
    suffix: str, length: int, margin: int, music: MakeMusic, tmp_path: Path
) -> None:
    path = tmp_path / f"music.{suffix}"
    soundfile.write(path, music(2.0, 44100), 44100)
    whole, _ = audio.load(path, SAMPLING_RATE)
    pieces = list(audio.pieces(path, SAMPLING_RATE, length, margin))
    for i, piece in enumerate(pieces):
        wanted = whole[max(0, i * length - margin) :][: len(piece)]
        np.testing.assert_array_equal(piece, wanted)
        if i < len(pieces) - 1:
            assert len(piece) == length + margin * (1 if i == 0 else 2)
    assert sum(map(len, pieces)) - 2 * margin * (len(pieces) - 1) == len(whole)


# Around where a last window is full: its frames reach half a frame beyond it.
REST = [0, 1, 200, 256, 257, WINDOW - 512, WINDOW - 256, WINDOW - 255, WINDOW - 1]


@pytest.mark.parametrize("rest", REST)
@pytest.mark.parametrize("windows", [1, 2, 5])
def test_the_timeline_is_that_of_the_whole(
    windows: int, rest: int, music: MakeMusic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_PIECE", 2)
    sound = np.resize(music(6.0, SAMPLING_RATE), windows * WINDOW + rest)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLING_RATE, subtype="FLOAT")
    classifier = Classifier.default()
    by_piece = classifier.timeline(tmp_path / "a.wav")
    whole = classifier.timeline(sound, SAMPLING_RATE)
    assert by_piece.step_s == whole.step_s
    np.testing.assert_allclose(by_piece.probabilities, whole.probabilities, atol=1e-4)


@pytest.mark.parametrize("name", ["wav2vec2", "onnx-waveform", "onnx-log-mel"])
def test_every_kind_of_backbone_analyses_piece_by_piece(
    name: str,
    checkpoints: Callable[[str], dict[str, Any]],
    music: MakeMusic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "_PIECE", 2)
    representation = make_representation("embedding", checkpoints(name))
    sound = music(15.3, SAMPLING_RATE)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLING_RATE, subtype="FLOAT")
    found = [part.arrays for part in representation.analyse_windows(tmp_path / "a.wav")]
    assert len(found) > 1
    whole = representation.analyse(sound, SAMPLING_RATE).arrays
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=1e-3, atol=1e-3)


MEASURE = """
import sys
from pathlib import Path
from genrescope.classifier import Classifier
timeline = Classifier.default().timeline(sys.argv[1])
status = Path("/proc/self/status").read_text()
print(len(timeline.probabilities), int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("hours", [2])
def test_hours_take_little_memory(hours: int, music: MakeMusic, tmp_path: Path) -> None:
    path, minute = tmp_path / "long.flac", music(60.0, SAMPLING_RATE)
    with soundfile.SoundFile(path, "w", SAMPLING_RATE, 1) as file:
        for _ in range(60 * hours):
            file.write(minute)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    steps, peak_mb = map(float, done.stdout.split())
    assert steps == hours * 3600 * SAMPLING_RATE // WINDOW
    assert peak_mb < 600
