import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen.flac import FLAC, Picture
from mutagen.ogg import OggPage

import formats
from genrescope.errors import GenrescopeError, InputError
from genrescope.tagging.formats import write_genres
from genrescope.tagging.patch import check, digest, digests, make_patch, rebuild


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return formats.make_library(tmp_path_factory.mktemp("library"), seconds=1.0)


def tagged(path: Path, folder: Path, genres: list[str]) -> Path:
    """Copy a file and write genres to the copy."""
    copy = folder / "new.tmp"
    shutil.copy(path, copy)
    write_genres(copy, genres)
    return copy


@pytest.mark.parametrize("name", ["mp3-v23-art", "flac-tight", "flac-padded", "m4a-fast"])
def test_pictures_cost_nothing(library: dict[str, Path], tmp_path: Path, name: str) -> None:
    for genres in ([], ["Rock"], [f"A long genre number {i}" for i in range(40)]):
        patch = make_patch(library[name], tagged(library[name], tmp_path, genres))
        assert len(patch) < 1000


def test_very_large_pictures_cost_nothing(library: dict[str, Path], tmp_path: Path) -> None:
    old = tmp_path / "old.flac"
    shutil.copy(library["flac-bare"], old)
    file = FLAC(old)
    for seed in range(2):
        picture = Picture()
        picture.data = np.random.default_rng(seed).bytes(8_000_000)
        file.add_picture(picture)
    file.save()
    new = tagged(old, tmp_path, ["Rock"])
    patch = make_patch(old, new)
    assert len(patch) < 5000
    check(new, patch)


def test_ogg_pages_that_move_cost_little(library: dict[str, Path], tmp_path: Path) -> None:
    old = tmp_path / "long.ogg"
    _lengthen(library["ogg-tagged"], old, pages=3000)
    new = tagged(old, tmp_path, ["x" * 100 + str(i) for i in range(100)])
    patch = make_patch(old, new)
    assert old.stat().st_size > 10_000_000
    assert len(patch) < 40_000
    rebuild(new, patch, tmp_path / "out.ogg")
    assert (tmp_path / "out.ogg").read_bytes() == old.read_bytes()


def _lengthen(source: Path, path: Path, pages: int) -> None:
    noise = np.random.default_rng(0)
    with source.open("rb") as file:
        heads = [OggPage(file) for _ in range(3)]
    with path.open("wb") as file:
        for head in heads:
            file.write(head.write())
        for number in range(pages):
            page = OggPage()
            page.serial, page.sequence = heads[0].serial, heads[-1].sequence + 1 + number
            page.packets = [noise.bytes(int(n)) for n in noise.integers(60, 260, 25)]
            page.position, page.last = number * 1000, number == pages - 1
            file.write(page.write())


def test_the_patch_works_both_ways(library: dict[str, Path], tmp_path: Path) -> None:
    old = library["mp3-v24-v1-ape"]
    new = tagged(old, tmp_path, ["Rock"])
    back = tmp_path / "back"
    rebuild(new, make_patch(old, new), back)
    assert back.read_bytes() == old.read_bytes()
    rebuild(back, make_patch(new, back), tmp_path / "forth")
    assert (tmp_path / "forth").read_bytes() == new.read_bytes()


def test_other_audio_is_refused(library: dict[str, Path], tmp_path: Path) -> None:
    other = formats.encode(tmp_path / "other.mp3", "libmp3lame", 1.5)
    with pytest.raises(ValueError, match="the same audio"):
        make_patch(library["mp3-bare"], other)


def test_a_file_that_changed_since_is_left_alone(library: dict[str, Path], tmp_path: Path) -> None:
    old = library["flac-padded"]
    new = tagged(old, tmp_path, ["Rock"])
    patch = make_patch(old, new)
    write_genres(new, ["Pop"])
    out = tmp_path / "out"
    with pytest.raises(InputError, match="it has changed since its genre was written"):
        rebuild(new, patch, out)
    assert not out.exists()


def test_a_folder_that_is_gone_is_an_input_error(library: dict[str, Path], tmp_path: Path) -> None:
    new = tagged(library["mp3-bare"], tmp_path, ["Rock"])
    patch = make_patch(library["mp3-bare"], new)
    with pytest.raises(InputError, match="cannot be written"):
        rebuild(new, patch, tmp_path / "gone" / "out")


def test_a_patch_of_another_version_is_refused(library: dict[str, Path], tmp_path: Path) -> None:
    new = tagged(library["mp3-bare"], tmp_path, ["Rock"])
    patch = make_patch(library["mp3-bare"], new)
    for wrong in (bytes([patch[0] + 1]) + patch[1:], b"", patch[:50]):
        for use in (
            digests,
            partial(check, new),
            lambda patch: rebuild(new, patch, tmp_path / "out"),
        ):
            with pytest.raises(GenrescopeError, match="version"):
                use(wrong)


def test_a_patch_knows_its_two_files(library: dict[str, Path], tmp_path: Path) -> None:
    old = library["m4a-end"]
    new = tagged(old, tmp_path, ["Rock"])
    patch = make_patch(old, new)
    assert digests(patch) == (digest(old), digest(new))
    check(new, patch)
    with pytest.raises(InputError, match="damaged"):
        check(new, patch[:1] + bytes(32) + patch[33:])
    with pytest.raises(InputError, match="it has changed since its genre was written"):
        check(old, patch)
    with pytest.raises(InputError, match="cannot be read"):
        digest(tmp_path / "gone.mp3")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 10_000), st.integers(1, 255))
def test_damage_to_a_patch_is_noticed(
    library: dict[str, Path], tmp_path: Path, at: int, change: int
) -> None:
    new = tagged(library["mp3-v23-art"], tmp_path, ["Rock"])
    patch = bytearray(make_patch(library["mp3-v23-art"], new))
    patch[1 + at % (len(patch) - 1)] ^= change
    out = tmp_path / "out"
    out.unlink(missing_ok=True)
    try:
        rebuild(new, bytes(patch), out)
    except InputError:
        assert not out.exists()
        with pytest.raises(InputError):
            check(new, bytes(patch))
    else:
        assert out.read_bytes() == library["mp3-v23-art"].read_bytes()
