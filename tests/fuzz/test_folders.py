"""Folders of genres with names of every kind are read, or refused in one line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrescope.datasets.open import open_dataset
from genrescope.errors import GenrescopeError

TIMES = int(os.environ.get("FUZZ", "1"))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="names are of bytes on POSIX alone")

letters = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.text(min_size=1, max_size=20).map(lambda text: text.encode(errors="replace")),
    st.sampled_from([b"rock", b".hidden", b"..a", b" ", b"a\nb", b"\xff", b"blues", b"~x"]),
)
names = letters.filter(lambda name: not {0, 47} & {*name} and name not in (b".", b".."))
endings = st.sampled_from([b".wav", b".mp3", b".WAV", b".txt", b"", b".png"])
kinds = st.sampled_from(["file", "same", "empty", "folder", "link", "circle"])


@given(st.dictionaries(names, st.lists(st.tuples(names, endings, kinds), max_size=3), max_size=4))
@settings(max_examples=100 * TIMES, deadline=None, database=None)
def test_names_of_every_kind(tree: dict[bytes, list[tuple[bytes, bytes, str]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = os.fsencode(name)
        for genre, clips in tree.items():
            os.makedirs(os.path.join(root, genre))  # noqa: PTH103, PTH118
            for stem, ending, kind in clips:
                make(os.path.join(root, genre, stem + ending), kind)  # noqa: PTH118
        try:
            found = open_dataset(Path(name))
        except GenrescopeError as error:
            assert name in str(error)
            assert len(str(error).splitlines()) == 1
            return
        assert found.tracks
        assert len(found.checksum) == 16
        for track in found.tracks:
            (track.genre + track.id).encode()  # can be written into every kind of result
            assert track.audio is not None
            assert track.audio.is_file()
        for problem in found.problems:
            assert len(str(problem).splitlines()) == 1


def make(path: bytes, kind: str) -> None:
    if os.path.lexists(path):
        return
    if kind == "folder":
        os.mkdir(path)  # noqa: PTH102
    elif kind in ("link", "circle"):
        os.symlink(b"nowhere" if kind == "link" else os.path.basename(path), path)  # noqa: PTH119, PTH211
    else:
        with open(path, "wb") as file:  # noqa: PTH123
            file.write({"same": b"RIFF", "empty": b""}.get(kind, path))


def test_more_genres_than_a_classifier_can_have_are_refused(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"genre {number}").mkdir()
        (tmp_path / f"genre {number}" / "a.wav").write_bytes(b"%d" % number)
    with pytest.raises(GenrescopeError, match="1,001 genres, more than 1,000"):
        open_dataset(tmp_path)
