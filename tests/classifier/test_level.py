"""Answers that do not depend on the level of the recording, nor on which channel it is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import genrescope
from genrescope.audio import decode, level_gain
from genrescope.classifier import Classifier

Samples = NDArray[np.float32]
RATE = 22050
SAMPLES = [genrescope.sample(name) for name in genrescope.SAMPLES]


@pytest.fixture(scope="module", params=["standard", "fast"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return genrescope.load(quality=request.param)


def likelihoods(classifier: Classifier, found: genrescope.Prediction) -> Samples:
    return np.array([found.probabilities[genre] for genre in classifier.genres], np.float32)


def scaled(path: Path, decibels: float) -> Samples:
    return decode(path, RATE).waveform * np.float32(10 ** (decibels / 20))


@pytest.mark.parametrize("decibels", [6, -10, -20, -30, -40, -50])
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_waveforms_of_any_level(classifier: Classifier, sample: Path, decibels: float) -> None:
    plain, other = (
        likelihoods(classifier, classifier.predict(scaled(sample, level), RATE))
        for level in (0, decibels)
    )
    np.testing.assert_allclose(other, plain, atol=1e-3)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_files_of_16_bits(classifier: Classifier, sample: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", scaled(sample, -30), RATE, subtype="PCM_16")
    plain, other = (
        likelihoods(classifier, classifier.predict(path))
        for path in (sample, tmp_path / "quiet.wav")
    )
    np.testing.assert_allclose(other, plain, atol=0.02)


@pytest.mark.parametrize("decibels", [6, -40])
def test_timelines_of_any_level(classifier: Classifier, decibels: float, tmp_path: Path) -> None:
    clip = np.concatenate([scaled(path, 0) for path in SAMPLES])
    clip[len(clip) // 2 :] *= np.float32(0.1)  # as loud and soft parts of one track
    found = []
    for level in (0, decibels):
        path = tmp_path / f"{level}.wav"
        factor = np.float32(10 ** (level / 20))
        soundfile.write(path, clip * factor, RATE, subtype="FLOAT")
        rows = classifier.timeline(path), classifier.timeline(clip * factor, RATE)
        found.append([one.probabilities for one in rows])
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
    # The level of a file is that of the windows that an answer for the whole of it is from.
    np.testing.assert_allclose(found[0][0], found[0][1], atol=0.03)


@pytest.mark.parametrize("channels", [(1, -1), (1, 0), (0.02, 1), (0, 0, 1, 0, 0, 0)])
def test_one_channel_is_as_mono(
    classifier: Classifier, channels: tuple[float, ...], tmp_path: Path
) -> None:
    clip = scaled(SAMPLES[2], 0)
    shares = np.array(channels, np.float32)
    soundfile.write(tmp_path / "a.wav", clip[:, None] * shares, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", clip, RATE, subtype="FLOAT")
    mono, other = (
        likelihoods(classifier, classifier.predict(tmp_path / name))
        for name in ("mono.wav", "a.wav")
    )
    np.testing.assert_allclose(other, mono, atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(decibels=st.floats(-80, 40), seed=st.integers(0, 99), pause=st.floats(0, 0.9))
def test_gain_brings_any_level_to_the_same(
    decibels: float, seed: int, pause: float, music: Callable[..., Samples]
) -> None:
    clip = music(2.0, 16000, seed=seed)
    with_pause = clip.copy()
    with_pause[: round(pause * len(clip)) // 1600 * 1600] = 0
    scale = np.float32(10 ** (decibels / 20))
    gain = level_gain(with_pause, 16000)
    assert level_gain(with_pause * scale, 16000) == pytest.approx(gain / scale, rel=1e-3)
    rest = with_pause[round(pause * len(clip)) // 1600 * 1600 :]
    assert level_gain(rest, 16000) == pytest.approx(gain, rel=1e-3)


def test_silence_keeps_its_level() -> None:
    assert level_gain(np.zeros(1000, np.float32), 16000) == 1
    assert level_gain(np.zeros(0, np.float32), 16000) == 1
