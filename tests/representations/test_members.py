"""Representations of several members side by side, and which of them take part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from genrescope.errors import GenrescopeError, InputError
from genrescope.quality import Quality
from genrescope.representations import make_representation
from genrescope.representations.members import Members
from genrescope.representations.picture import STRETCH_S, stretches

Samples = NDArray[np.float32]
RATE = 22050
AUDIO, PICTURE = "embedding", {"name": "picture-concat", "of": ["block-level"]}


def members(*of: object, **settings: object) -> Members:
    made = make_representation("members", {"of": of or (AUDIO, PICTURE), **settings})
    assert isinstance(made, Members)
    return made


def test_each_has_its_values_and_a_mark(music: Callable[..., Samples]) -> None:
    both, clip = members(), music(31.0)
    row = both.compute(clip, RATE)
    assert row.shape == both.shape == (200 + 1 + 1801 + 1,)
    audio, picture = (part.compute(clip, RATE) for part in both.parts)
    np.testing.assert_array_equal(row, np.concatenate([audio, [1], picture, [1]]))
    assert both.embedding == slice(0, 200)
    assert members(PICTURE, AUDIO).embedding == slice(1802, 2002)
    assert members(PICTURE).embedding is None


def test_short_clips_are_for_those_that_take_them(
    music: Callable[..., Samples], tmp_path: Path
) -> None:
    both, clip = members(), music(2.5)
    found = both.analyse(clip, RATE)
    row = found.arrays[0]
    assert row[200] == 1
    assert not row[201:].any()
    (warning,) = found.warnings
    assert warning.message == (
        "it is shorter than 3 s, so 1 of the classifier's 2 members took no part"
    )
    assert not warning.damage
    soundfile.write(tmp_path / "short.wav", clip, RATE)
    assert both.analyse_file(tmp_path / "short.wav").warnings == (warning,)
    with pytest.raises(InputError, match=r"it is too short: 2\.5 s, and at least 3 s are"):
        members(PICTURE).of_file(tmp_path / "short.wav")


def test_over_time_the_first_one_answers(music: Callable[..., Samples], tmp_path: Path) -> None:
    both, clip = members(), music(20.0, 16000)
    soundfile.write(tmp_path / "a.wav", clip, 16000, subtype="FLOAT")
    of_file = np.concatenate([part.arrays for part in both.analyse_windows(tmp_path / "a.wav")])
    of_clip = both.over_time(clip, 16000)
    alone = both.parts[0].over_time(clip, 16000)
    assert of_clip.window_s == alone.window_s == pytest.approx(2.992)
    np.testing.assert_array_equal(of_clip.arrays[:, :200], alone.arrays)
    assert (of_clip.arrays[:, 200] == 1).all()
    assert not of_clip.arrays[:, 201:].any()
    np.testing.assert_allclose(of_file, of_clip.arrays, atol=1e-3)


def test_quality(music: Callable[..., Samples], tmp_path: Path) -> None:
    standard = members()
    fast, best = standard.at(Quality.FAST), standard.at(Quality.BEST)
    assert standard.at(Quality.STANDARD) == standard
    assert len({standard.key, fast.key, best.key}) == 3
    assert fast.shape == best.shape == standard.shape
    assert (fast.sampling_rate, standard.sampling_rate) == (16000, RATE)
    clip = music(120.0)
    soundfile.write(tmp_path / "a.flac", clip, RATE)
    row = fast.of_file(tmp_path / "a.flac")
    assert row[200] == 1
    assert not row[201:].any()
    np.testing.assert_array_equal(row[:200], fast.parts[0].of_file(tmp_path / "a.flac"))
    few = standard.of_file(tmp_path / "a.flac")
    whole = best.of_file(tmp_path / "a.flac")
    np.testing.assert_allclose(whole, best.compute(clip, RATE), rtol=0.01, atol=0.1)  # 16 bits
    assert not np.array_equal(few, whole)
    assert make_representation("members", without_name(fast.to_json())) == fast


def without_name(settings: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in settings.items() if key not in {"name", "version"}}


@pytest.mark.parametrize(
    ("of", "cause"),
    [
        ([], "list"),
        ("embedding", "list"),
        (["members"], "members cannot be nested"),
        ([{"name": "segments", "of": "segments"}], "segments cannot be nested"),
        ([{"name": "picture-concat", "of": ["picture-concat"]}], "picture-concat cannot be nested"),
        ([{"name": "block-level", "version": 1}], "version 1 of block-level, and this is 2"),
    ],
)
def test_what_cannot_be_a_member_is_named(of: object, cause: str) -> None:
    with pytest.raises(GenrescopeError, match=cause):
        make_representation("members", {"of": of})


@pytest.mark.parametrize(
    ("seconds", "count"), [(3, 1), (29, 1), (30, 1), (31.4, 1), (32, 2), (60, 2), (75, 3)]
)
def test_stretches_are_of_30_s(seconds: float, count: int) -> None:
    clip = np.arange(round(seconds * 100), dtype=np.float32)
    found = stretches(clip, 100)
    assert len(found) == count
    if abs(seconds / STRETCH_S - 1) <= 0.05:
        np.testing.assert_array_equal(found[0], clip)
    else:
        assert {len(one) for one in found} == {3000}
    assert found[0][0] == 0
    if count > 1:
        assert found[-1][-1] == clip[-1]
        assert set(np.concatenate(found).tolist()) == set(clip.tolist())
    elif seconds < 28:
        np.testing.assert_array_equal(found[0], np.resize(clip, 3000))
