"""The waveform: 16 kHz, within [-1, 1], of equal length for all, kept in 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from genrescope.datasets.track import Track
from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation, waveform

Samples = NDArray[np.float32]


@pytest.mark.parametrize(("sampling_rate", "seconds"), [(16000, 0.5), (44100, 2.0), (8000, 1.0)])
def test_any_clip_becomes_one_second_at_16_khz(sampling_rate: int, seconds: float) -> None:
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    clip = np.sin(2 * np.pi * 440 * time).astype(np.float32) / 2
    found = waveform.compute(clip, sampling_rate, seconds=1.0)
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


def test_a_short_clip_is_repeated_from_start_to_end() -> None:
    clip = np.arange(1, 6, dtype=np.float32) / 10
    found = waveform.compute(clip, 16000, seconds=12 / 16000, loop=True)
    np.testing.assert_array_equal(found, np.concatenate([clip, clip, clip[:2]]))
    assert found.dtype == np.float32
    long = waveform.compute(clip, 16000, seconds=3 / 16000, loop=True)
    np.testing.assert_array_equal(long, clip[:3])
    nothing = waveform.compute(clip[:0], 16000, seconds=3 / 16000, loop=True)
    np.testing.assert_array_equal(nothing, np.zeros(3))


def test_excerpts_will_do_where_they_are_repeated() -> None:
    excerpt = Track("a", "pop", audio=Path("a.wav"), audio_variant="excerpt")
    assert make_representation("waveform", {"loop": True}).source(excerpt) is not None
    assert make_representation("waveform").source(excerpt) is None


def test_without_a_loop_the_key_is_as_it_always_was() -> None:
    plain = make_representation("waveform", {"loop": False})
    assert plain.to_json() == {"name": "waveform", "version": 1, "seconds": 30.0}
    looped = make_representation("waveform", {"loop": True})
    assert looped.to_json()["loop"] is True
    assert looped.key != plain.key


def test_a_loop_is_on_or_off() -> None:
    with pytest.raises(GenrescopeError, match="loop must be true or false, not 'no'"):
        make_representation("waveform", {"loop": "no"})
