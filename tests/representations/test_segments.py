"""Segments of a clip, each represented for itself."""

from collections.abc import Callable

import numpy as np
import pytest

from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation

SAMPLING_RATE = 22050
MFCC = {"name": "mfcc", "coefficients": 5, "seconds": 1.0}


def segments(**settings: object) -> object:
    return make_representation("segments", {"of": MFCC, "seconds": 1.0, "count": 4, **settings})


def test_each_segment_is_what_it_would_be_alone(music: Callable[..., np.ndarray]) -> None:
    clip = music(7.0)
    whole = segments().compute(clip, SAMPLING_RATE)
    alone = make_representation("mfcc", {"coefficients": 5, "seconds": 1.0})
    assert whole.shape == segments().shape == (4, *alone.shape)
    for number, start in enumerate((0, 2 * SAMPLING_RATE, 4 * SAMPLING_RATE, 6 * SAMPLING_RATE)):
        expected = alone.compute(clip[start : start + SAMPLING_RATE], SAMPLING_RATE)
        np.testing.assert_array_equal(whole[number], expected)


def test_they_overlap_in_a_clip_too_short_for_all(music: Callable[..., np.ndarray]) -> None:
    clip = music(1.6)
    whole = segments().compute(clip, SAMPLING_RATE)
    alone = make_representation("mfcc", {"coefficients": 5, "seconds": 1.0})
    np.testing.assert_array_equal(whole[0], alone.compute(clip[:SAMPLING_RATE], SAMPLING_RATE))
    np.testing.assert_array_equal(whole[3], alone.compute(clip[-SAMPLING_RATE:], SAMPLING_RATE))
    assert (whole[0] != whole[1]).any()


def test_a_clip_shorter_than_one_is_repeated(music: Callable[..., np.ndarray]) -> None:
    clip = music(0.5)
    whole = segments().compute(clip, SAMPLING_RATE)
    for row in whole:
        np.testing.assert_array_equal(row, whole[0])
    np.testing.assert_array_equal(whole, segments().compute(np.tile(clip, 2), SAMPLING_RATE))


def test_the_inner_representation_is_part_of_the_key() -> None:
    keys = {
        segments().key,
        segments(count=5).key,
        segments(seconds=2.0).key,
        segments(of={**MFCC, "coefficients": 6}).key,
    }
    assert len(keys) == 4


def test_a_name_alone_will_do_and_a_wrong_one_is_reported() -> None:
    assert make_representation("segments", {"of": "descriptors"}).shape == (10, 57)
    with pytest.raises(GenrescopeError, match="colours"):
        make_representation("segments", {"of": "colours"})


def test_silence_in_one_segment_spoils_no_other(music: Callable[..., np.ndarray]) -> None:
    clip = music(4.0)
    clip[:SAMPLING_RATE] = 0
    whole = segments().compute(clip, SAMPLING_RATE)
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(whole[2], segments().compute(music(4.0), SAMPLING_RATE)[2])
