"""The last 128 bytes of a file, however little lies before them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutagen.id3 import TCON

from genrescope.tagging.formats.id3v1 import v1, v1_genres

LAST = len(TCON.GENRES) - 1


def tag(number: int) -> bytes:
    return b"TAG" + bytes(124) + bytes([number])


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4, 500])
def test_it_is_found_behind_any_number_of_bytes(before: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"x" * before + tag(17))
    assert v1(path) == tag(17)
    assert v1_genres(path) == ["Rock"]


@pytest.mark.parametrize(
    ("number", "genres"), [(0, ["Blues"]), (LAST, [TCON.GENRES[LAST]]), (LAST + 1, []), (255, [])]
)
def test_a_number_without_a_genre_is_none(number: int, genres: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"x" * 500 + tag(number))
    assert v1_genres(path) == genres


@pytest.mark.parametrize(
    "content", [b"", b"TAG", tag(17)[:-1], b"x" * 500, b"APE" + b"TAGEX" + bytes(123)]
)
def test_what_is_no_such_tag_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    assert v1(path) == b""
