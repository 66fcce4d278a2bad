"""The waveform: 16 kHz, within [-1, 1], of equal length for all, kept in 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from genrescope.representations import make_representation, waveform

Samples = NDArray[np.float32]


@pytest.mark.parametrize(("rate", "seconds"), [(16000, 0.5), (44100, 2.0), (8000, 1.0)])
def test_any_clip_becomes_one_second_at_16_khz(rate: int, seconds: float) -> None:
    time = np.arange(round(seconds * rate)) / rate
    clip = np.sin(2 * np.pi * 440 * time).astype(np.float32) / 2
    found = waveform.compute(clip, rate, seconds=1.0)
    assert (found.shape, found.dtype) == ((16000,), np.float32)
    kept = min(16000, round(seconds * 16000))
    wanted = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) / 2
    np.testing.assert_allclose(found[500 : kept - 500], wanted[500 : kept - 500], atol=2e-3)
    assert not found[kept:].any()


def test_only_a_peak_beyond_one_is_scaled_down() -> None:
    clip = np.array([0.5, -3.0, 1.5], dtype=np.float32)
    found = waveform.compute(clip, 16000, seconds=4 / 16000)
    np.testing.assert_allclose(found, [0.5 / 3, -1, 0.5, 0], rtol=1e-6)
    quiet = np.array([0.1, -0.2], dtype=np.float32)
    np.testing.assert_array_equal(waveform.compute(quiet, 16000, seconds=2 / 16000), quiet)


def test_the_peak_is_that_of_the_whole_clip_not_of_the_part_kept() -> None:
    clip = np.array([0.5, 0.5, 2.0], dtype=np.float32)
    found = waveform.compute(clip, 16000, seconds=2 / 16000)
    np.testing.assert_allclose(found, [0.25, 0.25])


def test_silence_and_nothing_stay_silent() -> None:
    for samples in (0, 100):
        found = waveform.compute(np.zeros(samples, dtype=np.float32), 16000, seconds=0.01)
        np.testing.assert_array_equal(found, np.zeros(160))


@given(clip=hnp.arrays(np.float32, 160, elements=st.floats(-4, 4, width=32)))
def test_16_bits_lose_no_more_than_half_a_step(clip: Samples) -> None:
    representation = make_representation("waveform", {"seconds": 0.01})
    found = representation.compute(clip, 16000)
    assert np.abs(found).max() <= 1
    packed = representation.pack(found)
    assert packed.dtype == np.int16
    np.testing.assert_allclose(representation.unpack(packed), found, atol=0.51 / 32767)
    np.testing.assert_array_equal(representation.pack(representation.unpack(packed)), packed)
