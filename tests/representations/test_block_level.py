"""Block-level features are what their definition says, computed block by block."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import genrescope
from genrescope.audio import load
from genrescope.datasets.open import open_dataset
from genrescope.representations import block_level, make_representation, picture

SAMPLES = Path(genrescope.__file__).with_name("samples")
Bands = NDArray[np.float64]
levels = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).uniform(0, 40, size=(24, 336))
)


def blocks(bands: Bands, length: int, hop: int) -> list[Bands]:
    last = bands.shape[1] - length
    return [bands[:, start : start + length] for start in range(0, last + 1, hop)]


@settings(max_examples=10, deadline=None)
@given(bands=levels)
def test_patterns_are_percentiles_over_blocks(bands: Bands) -> None:
    def over(parts: list[Bands], percent: float) -> Bands:
        return np.percentile(parts, percent, axis=0)

    delta = np.array([[b[i + 3] - b[i] for i in range(len(b) - 3)] for b in bands])
    rises = np.where(delta > 0, delta, 0)
    centred = [(b - b.mean(axis=1)[:, None]) for b in blocks(bands, 80, 20)]
    pairs = np.triu_indices(24, 1)
    wanted = {
        block_level.spectral_pattern: over([np.sort(b) for b in blocks(bands, 10, 5)], 90),
        block_level.delta_pattern: over([np.sort(b)[:, ::2] for b in blocks(rises, 25, 5)], 90),
        block_level.variance_delta_pattern: over([b.var(axis=1) for b in blocks(delta, 25, 5)], 85),
        block_level.correlation_pattern: over([np.corrcoef(b)[pairs] for b in centred], 50),
    }
    for feature, expected in wanted.items():
        np.testing.assert_allclose(feature(bands), expected, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(bands=levels, gain=st.floats(-20, 20))
def test_a_gain_in_db_shifts_levels_and_nothing_else(bands: Bands, gain: float) -> None:
    louder = bands + gain
    for feature in (
        block_level.delta_pattern,
        block_level.variance_delta_pattern,
        block_level.fluctuation_pattern,
        block_level.correlation_pattern,
    ):
        np.testing.assert_allclose(feature(louder), feature(bands), atol=1e-6)
    shifted = block_level.spectral_pattern(louder) - block_level.spectral_pattern(bands)
    np.testing.assert_allclose(shifted, gain, atol=1e-6)
    mean, sd, low, high = block_level.band_statistics(louder) - block_level.band_statistics(bands)
    np.testing.assert_allclose([mean, low, high], gain, atol=1e-6)
    np.testing.assert_allclose(sd, 0, atol=1e-6)


@pytest.mark.parametrize("period", [4, 7, 12, 20])
def test_a_beat_shows_at_its_period(period: int) -> None:
    beat = np.zeros((128, 336))
    beat[:, ::period] = 30
    by_lag = block_level.onset_autocorrelation(beat)
    assert by_lag.shape == (3, 39)
    assert (by_lag.argmax(axis=1) + 1 == period).all()
    time = np.arange(336) / 80
    # In a block of 80 columns, so many periods.
    waves = np.stack([np.sin(2 * np.pi * rate * time) for rate in (1, 5, 13, 38)])
    strongest = block_level.fluctuation_pattern(10 * waves).argmax(axis=1)
    assert (np.diff(strongest) > 0).all()
    assert (strongest[0], strongest[-1]) == (0, 11)


GOLDEN = (
    437.713,
    [0.0, 0.0, 0.0, 21.935, 0.0, 3.033, 0.0, 3.188, 0.766, 0.204, 0.301, 14.118, -0.066],
)
"""Of the sample ``shuffle``: norm, and every 150th column."""


def test_golden_values_of_a_sample() -> None:
    representation = make_representation("block-level")
    array = representation.of_file(SAMPLES / "shuffle.mp3")
    assert array.shape == representation.shape
    norm, columns = GOLDEN
    assert np.linalg.norm(array) == pytest.approx(norm, rel=1e-4)
    np.testing.assert_allclose(array[::150], columns, atol=0.01)


def test_level_does_not_matter(music: Callable[..., NDArray[np.float32]]) -> None:
    representation, clip = make_representation("block-level"), music(30.0)
    loud, quiet = (representation.compute(clip / scale, 22050) for scale in (1, 8))
    assert np.linalg.norm(loud - quiet) < 1e-3 * np.linalg.norm(loud)


def test_real_pictures_give_what_their_clips_give(gtzan: Path) -> None:
    tracks = open_dataset(gtzan).tracks
    whole = [t for t in tracks if t.audio and t.image and t.audio_variant == "full"]
    representation = make_representation("block-level")
    for track in whole[::30]:
        assert track.audio
        assert track.image
        waveform, sampling_rate = load(track.audio, picture.SAMPLING_RATE)
        drawn = picture.grid_of_waveform(waveform, sampling_rate)
        shown = picture.grid_of_picture(picture.read(track.image))
        assert (drawn == shown).mean() >= 0.99, track.id
        published = representation.of_track(track)
        difference = representation.compute(waveform, sampling_rate) - published
        assert np.linalg.norm(difference) < 0.01 * np.linalg.norm(published), track.id
