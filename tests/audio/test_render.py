"""Pictures and FLAC of a clip: what is where, and that it sounds as before."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from genrescope.audio.render import flac, picture, picture_edges

RATE = 16_000


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * hertz * times).astype(np.float32) / 2


@pytest.mark.parametrize("hertz", [200, 440, 1000, 3000, 7000])
def test_a_tone_is_drawn_in_the_row_of_its_frequency(hertz: float) -> None:
    drawn = Image.open(io.BytesIO(picture(tone(hertz), RATE)))
    rows = np.asarray(drawn.convert("L"), dtype=float).mean(axis=1)[::-1]  # from the bottom
    edges = picture_edges(RATE)
    assert len(edges) == len(rows) + 1
    assert (edges[0], edges[-1]) == (0, RATE / 2)
    expected = int(np.searchsorted(edges, hertz)) - 1
    assert abs(int(rows.argmax()) - expected) <= 1


def test_a_long_clip_is_as_wide_as_a_screen_and_a_short_one_has_no_picture() -> None:
    assert Image.open(io.BytesIO(picture(tone(440, 60), RATE))).width <= 1201
    assert picture(tone(440, 0.03), RATE) == b""


def test_the_sound_is_that_of_the_clip() -> None:
    clip = tone(440)
    sound, rate = soundfile.read(io.BytesIO(flac(clip, RATE)), dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(sound, clip, atol=2**-15)


def test_the_sound_of_what_is_too_loud_is_clipped() -> None:
    sound, _ = soundfile.read(io.BytesIO(flac(4 * tone(440), RATE)), dtype="float32")
    assert np.abs(sound).max() == pytest.approx(1, abs=2**-14)
