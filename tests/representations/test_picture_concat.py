"""Representations of the picture side by side."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation, picture

PARTS = ["block-level", {"name": "picture-embedding", "layers": ["tags"]}]


def test_columns_follow_one_another(music: Callable[..., NDArray[np.float32]]) -> None:
    both = make_representation("picture-concat", {"of": PARTS})
    parts = [
        make_representation("block-level"),
        make_representation("picture-embedding", {"layers": ["tags"]}),
    ]
    clip = music(30.0)
    found = both.compute(clip, 22050)
    np.testing.assert_array_equal(found, np.concatenate([p.compute(clip, 22050) for p in parts]))
    assert both.shape == (1801 + 50,)
    pixels = picture.draw(clip, 22050)
    np.testing.assert_array_equal(both.of_picture(pixels), found)


def test_its_key_is_that_of_its_parts() -> None:
    both = make_representation("picture-concat", {"of": PARTS})
    settings = both.to_json()
    assert [part["name"] for part in settings["of"]] == ["block-level", "picture-embedding"]
    assert all("version" in part for part in settings["of"])
    turned = make_representation("picture-concat", {"of": PARTS[::-1]})
    fewer = make_representation("picture-concat", {"of": PARTS[:1]})
    assert len({both.key, turned.key, fewer.key}) == 3


@pytest.mark.parametrize(
    ("of", "cause"),
    [
        ([], "list"),
        ("block-level", "list"),
        ({"name": "block-level"}, "list"),
        (["embedding"], "embedding does not give columns of the picture"),
        (["mel-from-image"], "mel-from-image does not give columns"),
        (["colour"], "no representation 'colour'"),
        ([{"layers": ["tags"]}], "no representation ''"),
        ([{"name": "picture-embedding", "layers": ["colour"]}], "colour"),
        (["picture-concat"], "picture-concat cannot be nested"),
        (["segments"], "segments cannot be nested"),
        ([{"name": "block-level", "version": 0}], "version 0 of block-level, and this is 2"),
        ([3], "Representation picture-concat"),
    ],
)
def test_what_cannot_stand_there_is_named(of: object, cause: str) -> None:
    with pytest.raises(GenrescopeError, match=cause):
        make_representation("picture-concat", {"of": of})
