"""Each transform does to the sound what its name says, and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from genrescope.audio import decode
from genrescope.errors import GenrescopeError
from genrescope.robustness.transforms import TRANSFORMS, UNCHANGED, find_transforms

pytest.importorskip("python_stretch", reason="transforms come with genrescope[study]")

Samples = NDArray[np.float32]
RATE = 22050


def apply(name: str, waveform: Samples, rate: int = RATE, track: str = "a") -> Samples:
    transform = TRANSFORMS[name]
    return transform.apply(waveform, rate, transform.generator(track))


def tone(hertz: float, seconds: float = 4.0, rate: int = RATE) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (0.25 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def level_db(waveform: Samples) -> float:
    """Of the middle: the edges of filters and the ends of a stretched clip are left out."""
    quarter = len(waveform) // 4
    return float(10 * np.log10(np.mean(np.square(waveform[quarter:-quarter], dtype=np.float64))))


def pitch(waveform: Samples, rate: int = RATE) -> float:
    quarter = len(waveform) // 4
    part = waveform[quarter:-quarter] * np.hanning(len(waveform[quarter:-quarter]))
    spectrum = np.abs(np.fft.rfft(part, 2**19))
    return float(spectrum.argmax() * rate / 2**19)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 96000])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_makes_finite_mono_audio(
    name: str, rate: int, music: Callable[..., Samples]
) -> None:
    waveform = music(1.5, rate)
    before = waveform.copy()
    if rate < TRANSFORMS[name].min_rate:
        pytest.skip("it applies to clips with higher frequencies")
    first, second = apply(name, waveform, rate), apply(name, waveform, rate)
    assert first.dtype == np.float32
    assert first.ndim == 1
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(waveform, before)
    if not name.startswith(("tempo", "start")):
        assert len(first) == len(waveform)


@pytest.mark.parametrize(("name", "change"), [("gain+6", 6.0), ("gain-6", -6.0)])
def test_gain(name: str, change: float, music: Callable[..., Samples]) -> None:
    waveform = music()
    assert level_db(apply(name, waveform)) - level_db(waveform) == pytest.approx(change, abs=1e-3)


@pytest.mark.parametrize(("name", "tilt"), [("bright", 6.0), ("dark", -6.0)])
def test_tilts_are_of_six_decibels(name: str, tilt: float) -> None:
    low, high = (level_db(apply(name, tone(hz))) - level_db(tone(hz)) for hz in (20, 11000))
    assert high - low == pytest.approx(tilt, abs=0.1)


@pytest.mark.parametrize("semitones", [-2, -1, 1, 2])
def test_pitch_moves_and_tempo_stays(semitones: int) -> None:
    moved = apply(f"pitch{semitones:+d}", tone(440))
    assert pitch(moved) == pytest.approx(440 * 2 ** (semitones / 12), rel=4e-3)  # 7 cents
    assert len(moved) == len(tone(440))


@pytest.mark.parametrize("percent", [-10, -5, 5, 10])
def test_tempo_moves_and_pitch_stays(percent: int) -> None:
    waveform = tone(440)
    clicks = waveform * (np.arange(len(waveform)) > RATE)  # it begins after a second
    moved = apply(f"tempo{percent:+d}", clicks)
    assert pitch(moved) == pytest.approx(440, rel=2e-3)
    factor = 1 + percent / 100
    assert len(moved) == pytest.approx(len(waveform) / factor, abs=2)
    onset = np.flatnonzero(np.abs(moved) > 0.1)[0] / RATE
    assert onset == pytest.approx(1 / factor, abs=0.05)


@pytest.mark.parametrize(
    ("name", "kept", "lost"),
    [("telephone", (500, 1000, 2500), (100, 8000)), ("low-pass", (100, 1000, 6000), (10000,))],
)
def test_filters(name: str, kept: tuple[float, ...], lost: tuple[float, ...]) -> None:
    for hertz in kept:
        assert level_db(apply(name, tone(hertz))) - level_db(tone(hertz)) > -1
    for hertz in lost:
        assert level_db(apply(name, tone(hertz))) - level_db(tone(hertz)) < -20


@pytest.mark.parametrize("snr", [30, 20])
def test_noise_has_its_level(snr: int, music: Callable[..., Samples]) -> None:
    waveform = music(10.0)
    noise = apply(f"noise-{snr}", waveform) - waveform
    ratio = 10 * np.log10(np.mean(waveform.astype(float) ** 2) / np.mean(noise.astype(float) ** 2))
    assert ratio == pytest.approx(snr, abs=0.1)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.01  # white


def test_reverb_decays_by_sixty_decibels_a_second() -> None:
    click = np.zeros(2 * RATE, dtype=np.float32)
    click[0] = 1
    room = apply("reverb", click)
    assert np.sum(room**2) == pytest.approx(1, rel=0.05)  # it keeps its level
    assert room[0] ** 2 == pytest.approx(0.5, rel=0.2)  # half is the direct sound
    early, late = (np.mean(room[at : at + RATE // 10] ** 2) for at in (1, RATE // 2 + 1))
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=1.5)
    assert not room[RATE + 1 :].any() or np.abs(room[RATE + 1 :]).max() < 1e-6


@pytest.mark.parametrize("seconds", [1, 5])
def test_the_start_is_cut_off(seconds: int, music: Callable[..., Samples]) -> None:
    waveform = music(7.0)
    np.testing.assert_array_equal(apply(f"start+{seconds}", waveform), waveform[seconds * RATE :])


def test_fades() -> None:
    faded = apply("fade", np.ones(10 * RATE, dtype=np.float32))
    assert faded[0] == faded[-1] == 0
    assert faded[round(1.5 * RATE)] == pytest.approx(0.5, abs=1e-3)
    assert (faded[3 * RATE : -3 * RATE - 1] == 1).all()


@pytest.mark.parametrize("rate", [11025, 22050, 44100])
@pytest.mark.parametrize(("name", "least"), [("mp3-128", 0.98), ("mp3-64", 0.94)])
def test_mp3_is_aligned_and_not_the_same(
    name: str, least: float, rate: int, music: Callable[..., Samples]
) -> None:
    waveform = music(3.0, rate)
    coded = apply(name, waveform, rate)
    alike = np.corrcoef(waveform, coded)[0, 1]
    assert least < alike < 1
    assert np.corrcoef(waveform[1:], coded[:-1])[0, 1] < alike


def test_less_is_lost_at_a_higher_bit_rate(music: Callable[..., Samples]) -> None:
    waveform = music(3.0, 44100)
    lost = [
        1 - np.corrcoef(waveform, apply(name, waveform, 44100))[0, 1]
        for name in ("mp3-128", "mp3-64")
    ]
    assert lost[0] < lost[1]


@pytest.mark.parametrize("name", ["noise-30", "noise-20", "reverb"])
@settings(max_examples=20, deadline=None)
@given(first=st.text(), second=st.text())
def test_random_choices_depend_on_the_track_alone(name: str, first: str, second: str) -> None:
    draws = [TRANSFORMS[name].generator(track).random() for track in (first, second)]
    assert (draws[0] == draws[1]) == (first == second)
    assert TRANSFORMS[name].generator(first).random() == draws[0]


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_one_channel_of_a_stereo_file(
    suffix: str, tmp_path: Path, music: Callable[..., Samples]
) -> None:
    left, right = 0.5 * music(1.0, seed=1), 0.5 * music(1.0, seed=2)
    path = tmp_path / f"stereo.{suffix}"
    soundfile.write(path, np.stack([left, right], 1), RATE)
    only, mixed = decode(path, channel=TRANSFORMS["left-only"].channel), decode(path)
    assert only.channels == mixed.channels == 2
    np.testing.assert_allclose(only.waveform, left, atol=1e-4)
    np.testing.assert_allclose(mixed.waveform, (left + right) / 2, atol=1e-4)
    soundfile.write(path, left, RATE)
    assert decode(path, channel=0).channels == 1


def test_unknown_transforms_are_named() -> None:
    assert [t.name for t in find_transforms(["fade", "mp3-64", "fade"])] == ["fade", "mp3-64"]
    assert len(find_transforms(None)) == len(TRANSFORMS)
    assert UNCHANGED.name not in TRANSFORMS
    with pytest.raises(GenrescopeError, match="no transform 'mp3'; there are: mp3-128, mp3-64"):
        find_transforms(["mp3"])
