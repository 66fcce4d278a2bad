"""Each transform does what its name says, and leaves the file unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrescope.audio import load
from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation
from genrescope.representations.transform import (
    PLAIN,
    TRANSFORMS,
    AudioTransform,
    get_transforms,
)

SAMPLING_RATE = 16000


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples))))


def pitch(samples: np.ndarray) -> float:
    window = np.hanning(len(samples))
    return float(np.abs(np.fft.rfft(samples * window)).argmax() * SAMPLING_RATE / len(samples))


def test_speed_shifts_pitch_and_length(tone: Callable[..., Path], tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", seconds=4, frequency=500)
    for speed in (0.89, 1.12):
        analysed, _ = load(path, AudioTransform(speed=speed).recorded_rate(SAMPLING_RATE))
        assert len(analysed) / SAMPLING_RATE == pytest.approx(4 / speed, abs=1e-3)
        assert pitch(analysed) == pytest.approx(500 * speed, abs=1)


@pytest.mark.parametrize("gain", [-6.0, 6.0])
def test_gain_is_in_decibels(gain: float) -> None:
    noise = np.random.default_rng(0).standard_normal(SAMPLING_RATE).astype(np.float32)
    altered = AudioTransform(gain_db=gain).colour(noise, SAMPLING_RATE)
    assert altered.dtype == np.float32
    assert level_db(altered) - level_db(noise) == pytest.approx(gain, abs=1e-3)


def test_tilt_favours_the_high_end() -> None:
    time = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    change = [
        level_db(AudioTransform(tilt_db=6).colour(wave, SAMPLING_RATE)) - level_db(wave)
        for wave in (np.sin(2 * np.pi * f * time).astype(np.float32) for f in (20, 1700, 7900))
    ]
    assert change == sorted(change)
    assert change[0] == pytest.approx(-3, abs=0.2)
    assert change[-1] == pytest.approx(3, abs=0.2)


def test_plain_is_bit_for_bit_the_same() -> None:
    noise = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert PLAIN.colour(noise, SAMPLING_RATE) is noise
    assert PLAIN.recorded_rate(SAMPLING_RATE) == SAMPLING_RATE


# An embedding is of a track brought to one level.
@pytest.mark.parametrize(
    ("name", "how"),
    [
        (name, how)
        for name in ("embedding", "mfcc", "waveform")
        for how in sorted(TRANSFORMS)
        if name != "embedding" or how not in {"loud", "soft"}
    ],
)
def test_every_transform_changes_the_representation(
    name: str, how: str, music: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    representation = make_representation(name)
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.3 * music(4.0), 22050)
    plain = representation.of_file(path)
    altered = representation.of_file(path, TRANSFORMS[how])
    assert altered.shape == plain.shape
    assert np.isfinite(altered).all()
    assert not np.allclose(altered, plain)


def test_an_unknown_one_is_reported_with_those_there_are() -> None:
    with pytest.raises(GenrescopeError, match=r"'loudest'.*fast, slow"):
        get_transforms(["loud", "loudest"])
