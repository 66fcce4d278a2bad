"""What an answer rests on: cells that are taken away, and how far the probability drops."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import commands
import genrescope
from genrescope.audio import decode
from genrescope.classifier import Classifier
from genrescope.classifier.explain import Explanation, Occluder
from genrescope.errors import InputError, WaveformError

Samples = NDArray[np.float32]
RATE = 16000
TIMES = np.linspace(0, 3, 7)
BANDS = np.array([0.0, 500, 1000, 2000, 4000, 8000])


@cache
def clip() -> Samples:
    return decode(genrescope.sample("shuffle"), RATE).waveform[: 3 * RATE]


@cache
def default() -> Classifier:
    return genrescope.load()


@cache
def explained(name: str = "lament") -> Explanation:
    return genrescope.explain(default(), genrescope.sample(name))


def power_db(waveform: Samples, step: int, band: int) -> float:
    """In the middle of a cell."""
    inner = (TIMES[1] - TIMES[0]) / 4
    start, stop = (round(at * RATE) for at in (TIMES[step] + inner, TIMES[step + 1] - inner))
    part = waveform[start:stop]
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
    hertz = np.fft.rfftfreq(len(part), 1 / RATE)
    inside = (hertz > BANDS[band] * 1.1) & (hertz < BANDS[band + 1] * 0.9)
    return float(10 * np.log10(power[inside].mean() + 1e-12))


def test_nothing_changes_without_cells() -> None:
    occluder = Occluder(clip(), RATE, TIMES, BANDS)
    np.testing.assert_array_equal(occluder.without(np.zeros((6, 5), dtype=bool)), clip())


@settings(max_examples=25, deadline=None)
@given(step=st.integers(0, 5), band=st.integers(0, 4))
def test_only_a_cell_is_changed(step: int, band: int) -> None:
    cells = np.zeros((6, 5), dtype=bool)
    cells[step, band] = True
    found = Occluder(clip(), RATE, TIMES, BANDS).without(cells)
    assert found.dtype == np.float32
    assert len(found) == len(clip())
    far = np.ones(len(found), dtype=bool)  # but for a frame on either side
    far[max(0, round(TIMES[step] * RATE) - 2048) : round(TIMES[step + 1] * RATE) + 2048] = False
    np.testing.assert_array_equal(found[far], clip()[far])
    for other in range(5):
        if abs(other - band) > 1:
            gap = power_db(found, step, other) - power_db(clip(), step, other)
            assert gap == pytest.approx(0, abs=1)


def test_a_cell_gets_the_mean_level_of_its_band() -> None:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(3 * RATE)).astype(np.float32)
    noise[: RATE // 2] *= 10  # a loud first step
    cells = np.zeros((6, 5), dtype=bool)
    cells[0, 2] = True
    found = Occluder(noise, RATE, TIMES, BANDS).without(cells)
    mean = 10 * np.log10((100 + 5) / 6)  # above the other steps
    assert power_db(noise, 0, 2) - power_db(noise, 3, 2) == pytest.approx(20, abs=1.5)
    assert power_db(found, 0, 2) - power_db(noise, 3, 2) == pytest.approx(mean, abs=1.5)
    assert power_db(found, 0, 4) == pytest.approx(power_db(noise, 0, 4), abs=0.5)


def test_the_explanation_of_a_clip() -> None:
    found = explained()
    path = genrescope.sample("lament")
    assert found.genre == default().predict(path).genre
    first = genrescope.load(quality="fast").predict(path)
    assert found.probability == pytest.approx(first.probabilities[found.genre], abs=1e-4)
    window_s = default().timeline(genrescope.sample("lament")).step_s
    np.testing.assert_allclose(found.times, np.arange(4) * window_s)
    assert found.bands[0] == 0
    assert found.bands[-1] == 8000
    assert (np.diff(found.bands) > 0).all()
    assert found.drops.shape == (3, 8)
    assert found.drops.dtype == np.float32
    assert np.abs(found.drops).max() <= 1
    assert np.ptp(found.drops) > 0


@pytest.mark.parametrize(("step", "band"), [(0, 1), (1, 4), (2, 6)])
def test_windows_at_once_are_as_one_by_one(step: int, band: int) -> None:
    found = explained("shuffle")
    waveform = decode(genrescope.sample("shuffle"), RATE).waveform
    cells = np.zeros(found.drops.shape, dtype=bool)
    cells[step, band] = True
    alone = Occluder(waveform, RATE, found.times, found.bands).without(cells)
    first = genrescope.load(quality="fast")
    probability = first.predict(alone, RATE).probabilities[found.genre]
    # The frames at a window's edges hold some of its neighbours.
    assert found.probability - probability == pytest.approx(found.drops[step, band], abs=0.01)


def test_a_waveform_is_explained_as_its_file_is(
    tmp_path: Path, music: Callable[..., Samples]
) -> None:
    sound = music(7.0, RATE)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    of_file = genrescope.explain(default(), tmp_path / "a.wav", bands=3)
    of_array = genrescope.explain(default(), sound, RATE, bands=3)
    np.testing.assert_allclose(of_file.drops, of_array.drops, atol=1e-5)
    assert of_file.drops.shape == (2, 3)


def test_a_clip_without_windows_has_columns_of_its_own(music: Callable[..., Samples]) -> None:
    found = genrescope.explain(default(), music(4.0, RATE), RATE, bands=2)  # less than two windows
    np.testing.assert_allclose(found.times, np.arange(5))
    assert found.drops.shape == (4, 2)
    assert np.ptp(found.drops) > 0


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_strongest_cells(share: float) -> None:
    found = explained()
    marked = found.strongest(share)
    assert marked.sum() == max(1, round(share * 24))
    assert found.drops[marked].min() >= found.drops[~marked].max(initial=-np.inf)
    equal = replace(found, drops=np.zeros_like(found.drops))
    assert equal.strongest(share).sum() == marked.sum()


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        genrescope.explain(default(), tmp_path / "no.wav")
    with pytest.raises(ValueError, match="bands = 1"):
        genrescope.explain(default(), clip(), RATE, bands=1)
    long = np.resize(clip(), 601 * RATE)
    with pytest.raises(WaveformError, match="longer than 10 minutes"):
        genrescope.explain(default(), long[::8], RATE // 8)
    soundfile.write(tmp_path / "long.flac", long[::8], RATE // 8)
    with pytest.raises(InputError, match=r"longer than 10 minutes\. Cut out"):
        genrescope.explain(default(), tmp_path / "long.flac")


def test_classify_explains_one_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    song = genrescope.sample("lament")
    done = commands.run("classify", song, "--explain", "why.png", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Picture: why.png" in done.stderr
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.size[0] > 600
    (row,) = json.loads(done.stdout)
    why, found = row["explanation"], explained()
    assert why["genre"] == row["genre"] == "classical"
    assert why["probability"] == pytest.approx(found.probability, abs=1e-5)
    np.testing.assert_allclose(why["drops"], found.drops, atol=1e-5)
    np.testing.assert_allclose(why["times_s"], found.times, atol=1e-3)
    np.testing.assert_allclose(why["bands_hz"], found.bands, atol=0.1)
    plain = commands.run("classify", song, "--json", cwd=tmp_path)
    assert "explanation" not in json.loads(plain.stdout)[0]
    both = commands.run("classify", song, "--explain", "a.svg", "--plot", "b.png", cwd=tmp_path)
    assert both.returncode == 0, both.stderr
    assert (tmp_path / "a.svg").exists()
    assert (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.mp3", "b.mp3", "--explain", "why.png"), "--explain needs exactly one file; 2 were"),
        (("a.mp3", "--explain", "why.docx"), "Give --explain a name"),
        (("a.mp3", "--explain", "a.mp3"), "--explain"),
        (("a.mp3", "--explain", "no/why.png"), "no does not exist"),
        (("text.mp3", "--explain", "why.png"), "text.mp3"),
    ],
)
def test_what_cannot_be_explained(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.mp3", "b.mp3"):
        (tmp_path / name).write_bytes(genrescope.sample("pulse").read_bytes())
    (tmp_path / "text.mp3").write_text("not audio")
    done = commands.run("classify", *words, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "why.png").exists()
