"""Spectra, mel bands, decibels and MFCCs agree with librosa, which is not needed at run time."""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from genrescope.audio.spectral import mel_spectrogram, to_db
from genrescope.representations import mfcc

pytestmark = pytest.mark.xdist_group("librosa")

Samples = NDArray[np.float32]
MakeMusic = Callable[..., Samples]


def near(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("sampling_rate", "n_fft", "hop", "bands"),
    [(22050, 2048, 512, 128), (16000, 512, 256, 96), (44100, 4096, 1024, 40), (22050, 256, 128, 3)],
)
def test_mel_spectrogram(
    music: MakeMusic, sampling_rate: int, n_fft: int, hop: int, bands: int
) -> None:
    y = music(seconds=1.3, sampling_rate=sampling_rate)
    mel = mel_spectrogram(y, sampling_rate, n_fft, hop, bands)
    assert mel.shape == (1 + len(y) // hop, bands)
    wanted = librosa.feature.melspectrogram(
        y=y, sr=sampling_rate, n_fft=n_fft, hop_length=hop, n_mels=bands, pad_mode="reflect"
    )
    near(mel.T, wanted)


def test_each_mel_filter_is_librosas() -> None:
    # A click in the middle of a frame has a flat spectrum of 1, so a band is its filter's sum.
    click = np.zeros(4096, dtype=np.float32)
    click[2048] = 1.0
    mel = mel_spectrogram(click, 22050, 2048, 512, 128)[4]
    near(mel, librosa.filters.mel(sr=22050, n_fft=2048, n_mels=128).sum(axis=1))


@pytest.mark.parametrize("samples", [0, 1, 1024])
def test_too_short_a_clip_says_how_much_is_needed(samples: int) -> None:
    with pytest.raises(ValueError, match=rf"too short \({samples} samples; more than 1024 are"):
        mel_spectrogram(np.zeros(samples, dtype=np.float32), 22050, 2048, 512, 128)


def test_the_shortest_clip_that_can_be_padded() -> None:
    ones = np.ones(1025, dtype=np.float32)
    assert mel_spectrogram(ones, 22050, 2048, 512, 128).shape == (3, 128)


@given(
    power=hnp.arrays(
        np.float32, (5, 4), elements=st.floats(0, 1000, width=32, allow_subnormal=False)
    )
)
def test_decibels_are_librosas(power: NDArray[np.float32]) -> None:
    by_power = to_db(power, factor=10)
    np.testing.assert_allclose(by_power, librosa.power_to_db(power, ref=np.max), atol=1e-3)
    by_amplitude = to_db(power, factor=20)
    np.testing.assert_allclose(by_amplitude, librosa.amplitude_to_db(power, ref=np.max), atol=1e-3)
    for level in (by_power, by_amplitude):
        assert level.dtype == np.float32
        assert level.max() == pytest.approx(0, abs=1e-4)
        assert level.min() >= -80


def test_mfcc(music: MakeMusic) -> None:
    y = music(seconds=3.0)
    found = mfcc.compute(y, 22050, coefficients=20, seconds=3.0)
    wanted = librosa.feature.mfcc(y=y, sr=22050, n_mfcc=20, pad_mode="reflect")
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=2e-3)  # of values up to some hundreds


@pytest.mark.parametrize("level", [1.0, 0.01])
def test_mfccs_keep_the_clips_level(music: MakeMusic, level: float) -> None:
    loud, quiet = mfcc.compute(music(), 22050), mfcc.compute(music() * np.float32(level), 22050)
    # 128 bands, orthonormal: the first coefficient is the mean level in dB times √128.
    busy = slice(0, 100)
    difference = (quiet[0, busy] - loud[0, busy]) / np.sqrt(128)
    np.testing.assert_allclose(difference, 20 * np.log10(level), atol=0.05)


def test_mfccs_of_silence_are_librosas() -> None:
    silence = np.zeros(22050, dtype=np.float32)
    found = mfcc.compute(silence, 22050, seconds=1.0)
    wanted = librosa.feature.mfcc(y=silence, sr=22050, n_mfcc=20, pad_mode="reflect")
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_mfccs_have_equal_length_for_all(music: MakeMusic) -> None:
    assert mfcc.compute(music(seconds=1.0), 22050, seconds=2.0).shape == (20, 87)
    assert mfcc.compute(music(seconds=4.0), 22050, seconds=2.0).shape == (20, 87)
