"""MFCCs of short clips and at other rates; their values are held against librosa elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from genrescope.datasets.track import Track
from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation, mfcc

MakeMusic = Callable[..., NDArray[np.float32]]


def test_a_short_clip_is_repeated(music: MakeMusic) -> None:
    clip = music(2.0, 16000)[: 62 * 512]  # a whole number of frames, so that rounds are alike
    found = mfcc.compute(clip, 16000, 13, 8.0, hz=16000, loop=True)
    assert found.shape == (13, 251)
    once = mfcc.compute(clip, 16000, 13, len(clip) / 16000, hz=16000)
    for start in (0, 62, 124):  # but for the frames at the seams
        np.testing.assert_allclose(found[:, start + 3 : start + 59], once[:, 3:59], atol=1e-2)
    padded = mfcc.compute(clip, 16000, 13, 8.0, hz=16000)
    assert np.ptp(padded[:, 70:], axis=1).max() < 1e-3  # silence


def test_a_long_clip_is_cut_whether_looped_or_not(music: MakeMusic) -> None:
    clip = music(3.0)
    looped = mfcc.compute(clip, 22050, seconds=1.0, loop=True)
    np.testing.assert_array_equal(looped, mfcc.compute(clip, 22050, seconds=1.0))


@pytest.mark.xdist_group("librosa")
def test_at_another_rate_they_are_librosas_at_that_rate(music: MakeMusic) -> None:
    clip = music(2.0, 16000)
    wanted = librosa.feature.mfcc(y=clip, sr=16000, n_mfcc=20, pad_mode="reflect")
    found = mfcc.compute(clip, 16000, seconds=2.0, hz=16000)
    np.testing.assert_allclose(found, wanted, atol=0.02)


@pytest.mark.parametrize(
    ("parameters", "sampling_rate", "audio_variants"),
    [
        ({}, 22050, {"full"}),
        ({"hz": 16000}, 16000, {"full", "full-16k"}),
        # Clips without the highest bands would be reported by that from the others.
        ({"loop": True}, 22050, {"full", "excerpt"}),
        ({"hz": 16000, "loop": True}, 16000, {"full", "full-16k", "excerpt"}),
    ],
)
def test_which_audio_is_fit(
    parameters: dict[str, object], sampling_rate: int, audio_variants: set[str]
) -> None:
    found = make_representation("mfcc", parameters)
    assert found.sampling_rate == sampling_rate
    for audio_variant in ("full", "full-16k", "excerpt"):
        track = Track("a", "pop", audio=Path("a.wav"), audio_variant=audio_variant)
        assert (found.source(track) is not None) == (audio_variant in audio_variants)
    assert make_representation("mfcc").source(track) is None  # the others' are not widened


def test_what_is_not_named_leaves_the_key_as_it_was() -> None:
    assert make_representation("mfcc").to_json() == {
        "name": "mfcc",
        "version": 1,
        "coefficients": 20,
        "seconds": 30.0,
    }
    named = make_representation("mfcc", {"loop": True, "hz": 16000}).to_json()
    assert (named["loop"], named["hz"]) == (True, 16000)
    plain = make_representation("mfcc", {"loop": False, "hz": 22050})
    assert plain.key == make_representation("mfcc").key


@pytest.mark.parametrize("parameters", [{"loop": "no"}, {"hz": 0}, {"hz": 16000.5}])
def test_senseless_values_are_named(parameters: dict[str, object]) -> None:
    (name,) = parameters
    with pytest.raises(GenrescopeError, match=f"Representation mfcc: {name} must be"):
        make_representation("mfcc", parameters)
