"""Folders of genres and CSV lists are read with all their faults, each told with its remedy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from genrescope.errors import InputError
from genrescope.tracks.datasets import open_dataset
from genrescope.tracks.folder import read_csv, read_folder
from genrescope.tracks.track import Dataset

Write = Callable[[Path], Path]


@pytest.fixture
def clip() -> Write:
    """Write a file that is unlike every other; reading a list does not decode audio."""
    count = iter(range(1000))

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF" + next(count).to_bytes(4))
        return path

    return write


@pytest.fixture
def music(tmp_path: Path, clip: Write) -> Path:
    for name in ("blues/1.wav", "blues/2.MP3", "pop/1.flac"):
        clip(tmp_path / "music" / name)
    return tmp_path / "music"


def labels(dataset: Dataset) -> dict[str, str]:
    return {track.id: track.genre for track in dataset.tracks}


def test_a_folder_of_genres(music: Path) -> None:
    dataset = read_folder(music)
    assert dataset.name == "music"
    assert labels(dataset) == {"blues/1.wav": "blues", "blues/2.MP3": "blues", "pop/1.flac": "pop"}
    assert [track.audio for track in dataset.tracks] == [music / t.id for t in dataset.tracks]
    assert {track.group for track in dataset.tracks} == {None}
    assert (dataset.problems, dataset.counts) == ((), {"blues": 2, "pop": 1})


def test_open_dataset_tells_folders_and_lists_apart(music: Path) -> None:
    assert open_dataset(music) == read_folder(music)
    table = write_csv(music, "path,genre", "blues/1.wav,blues")
    assert open_dataset(table) == read_csv(table)


def test_the_folder_here_is_named(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(music)
    assert read_folder(Path()).name == "music"


def test_clips_may_lie_deeper_and_bear_any_name(music: Path, clip: Write) -> None:
    clip(music / "blues" / "Album" / "CD 1" / "1.wav")
    clip(music / "日本" / "étude № 1 (live).ogg")
    found = labels(read_folder(music))
    assert found["blues/Album/CD 1/1.wav"] == "blues"
    assert found["日本/étude № 1 (live).ogg"] == "日本"


def test_what_is_no_clip_is_passed_over(music: Path, clip: Write) -> None:
    before = read_folder(music)
    for name in ("blues/cover.png", "blues/._1.wav", ".trash/1.wav", "loose.wav"):
        clip(music / name)
    (music / "blues" / "gone.wav").symlink_to(music / "nowhere.wav")
    (music / "blues" / "folder.wav").mkdir()
    assert read_folder(music) == before


def test_an_empty_genre_is_a_problem(music: Path) -> None:
    (music / "jazz").mkdir()
    dataset = read_folder(music)
    (problem,) = dataset.problems
    assert (problem.path, problem.cause) == (music / "jazz", "the genre holds no audio files")
    assert dataset.genres == ("blues", "pop")


@pytest.mark.parametrize("link", [shutil.copy, os.link, os.symlink], ids=["copy", "hard", "soft"])
def test_a_file_in_two_genres_is_left_out_of_both(
    music: Path, link: Callable[[Path, Path], object]
) -> None:
    link(music / "blues" / "1.wav", music / "pop" / "other.wav")
    dataset = read_folder(music)
    assert set(labels(dataset)) == {"blues/2.MP3", "pop/1.flac"}
    (problem,) = dataset.problems
    assert "blues and pop share this file (blues/1.wav, pop/other.wav)" in problem.cause
    assert problem.remedy


@pytest.mark.parametrize("link", [shutil.copy, os.link, os.symlink], ids=["copy", "hard", "soft"])
def test_a_file_twice_in_one_genre_is_kept_once(
    music: Path, link: Callable[[Path, Path], object]
) -> None:
    link(music / "blues" / "1.wav", music / "blues" / "z.wav")
    dataset = read_folder(music)
    assert set(labels(dataset)) == {"blues/1.wav", "blues/2.MP3", "pop/1.flac"}
    assert [problem.cause for problem in dataset.problems] == [
        "the same audio is there as blues/1.wav, blues/z.wav"
    ]


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda _: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no genre folders with audio files in it"),
        (lambda folder: (folder / "blues").mkdir(parents=True), "no genre folders"),
        (lambda folder: folder.write_text("x"), "no such folder"),
    ],
    ids=["missing", "empty", "empty genres", "file"],
)
def test_a_folder_of_no_use(tmp_path: Path, make: Callable[[Path], None], cause: str) -> None:
    folder = tmp_path / "music"
    make(folder)
    with pytest.raises(InputError, match=cause) as caught:
        read_folder(folder)
    assert caught.value.path == folder
    assert caught.value.remedy


def test_a_folder_whose_every_clip_is_shared_is_of_no_use(tmp_path: Path, clip: Write) -> None:
    shutil.copytree(clip(tmp_path / "music" / "a" / "1.wav").parent, tmp_path / "music" / "b")
    with pytest.raises(InputError, match="genres a and b share"):
        read_folder(tmp_path / "music")


def write_csv(folder: Path, *lines: str, encoding: str = "utf-8", name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return path


def test_a_csv_list_with_relative_and_absolute_paths(music: Path) -> None:
    absolute = music / "pop" / "1.flac"
    dataset = read_csv(
        write_csv(
            music,
            "path,genre,artist",
            "blues/1.wav,Blues,B. B. King",
            f"{absolute},Pop,",
            "blues/2.MP3,Blues",
        )
    )
    assert dataset.name == "list"
    found = {track.audio: (track.genre, track.group) for track in dataset.tracks}
    assert found == {
        music / "blues/1.wav": ("Blues", "b b king"),
        absolute: ("Pop", None),
        music / "blues/2.MP3": ("Blues", None),
    }
    assert dataset.problems == ()


def test_an_artist_may_be_typed_in_several_ways(music: Path) -> None:
    spellings = ('"Earth, Wind & Fire"', "earth wind  and FIRE.", "Ｅarth Wind & Fire")
    clips = ("blues/1.wav", "blues/2.MP3", "pop/1.flac")
    rows = [f"{clip},{clip[:3]},{name}" for clip, name in zip(clips, spellings, strict=True)]
    found = read_csv(write_csv(music, "path,genre,artist", *rows)).tracks
    assert [track.group for track in found] == ["earth wind and fire"] * 3
    unknown = read_csv(write_csv(music, "path,genre,artist", "blues/1.wav,blues,."))
    assert [track.group for track in unknown.tracks] == [None]


def test_paths_are_relative_to_the_list_not_to_where_one_is(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(music, "path,genre", "blues/1.wav,blues")
    monkeypatch.chdir(tmp_path)
    (track,) = read_csv(Path("music/list.csv")).tracks
    assert track.audio is not None
    assert track.audio.is_file()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_spreadsheets_write_marks_capitals_spaces_and_other_columns(
    music: Path, clip: Write, encoding: str
) -> None:
    clip(music / "Ænima, №1.wav")
    table = write_csv(
        music,
        "Genre , Path,year",
        'metal,"Ænima, №1.wav",1996',
        "",
        " pop , pop/1.flac ,2000",
        encoding=encoding,
    )
    assert labels(read_csv(table)) == {"Ænima, №1.wav": "metal", "pop/1.flac": "pop"}


def test_rows_of_no_use_are_problems_with_their_line(music: Path) -> None:
    table = write_csv(
        music,
        "path,genre",
        "blues/1.wav,blues",
        "",
        "blues/2.MP3,",
        ",pop",
        "pop/none.wav,pop",
        "blues,blues",
        "pop/1.flac",
    )
    dataset = read_csv(table)
    assert labels(dataset) == {"blues/1.wav": "blues"}
    assert [str(problem) for problem in dataset.problems] == [
        f"{table}: line 4 lacks a path or a genre. Fill it in.",
        f"{table}: line 5 lacks a path or a genre. Fill it in.",
        f"{music / 'pop/none.wav'}: no such file. "
        "Mend line 6 of list.csv; paths are relative to that file.",
        f"{music / 'blues'}: no such file. "
        "Mend line 7 of list.csv; paths are relative to that file.",
        f"{table}: line 8 lacks a path or a genre. Fill it in.",
    ]


def test_a_file_listed_twice_is_kept_once(music: Path) -> None:
    dataset = read_csv(
        write_csv(music, "path,genre", "pop/1.flac,pop", f"{music}/pop/1.flac,pop", "blues/1.wav,b")
    )
    assert labels(dataset) == {"pop/1.flac": "pop", "blues/1.wav": "b"}
    (problem,) = dataset.problems
    assert "the same audio is there as pop/1.flac" in problem.cause


def test_a_file_listed_under_two_genres_is_left_out(music: Path) -> None:
    dataset = read_csv(
        write_csv(music, "path,genre", "pop/1.flac,pop", "pop/1.flac,rock", "blues/1.wav,blues")
    )
    assert labels(dataset) == {"blues/1.wav": "blues"}
    (problem,) = dataset.problems
    assert "the genres pop and rock share this file" in problem.cause


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"path,label\na.wav,pop\n", "column 'genre' is missing"),
        (b"file,genre\na.wav,pop\n", "column 'path' is missing"),
        (b"path;genre\na.wav;pop\n", "column 'path' is missing"),
        (b"", "column 'path' is missing"),
        ("path,genre\né.wav,pop\n".encode("latin-1"), "it is not CSV text"),
        ("path,genre\na.wav,pop\n".encode("utf-16"), "it is not CSV text"),
        (bytes(range(256)), "it is not CSV text"),
        (b"path,genre\n", "no usable row in it"),
        (b"path,genre\nnone.wav,pop\n", r"no usable row in it \(first problem: .*none\.wav"),
    ],
)
def test_a_list_of_no_use(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=cause) as caught:
        read_csv(path)
    assert caught.value.path == path
    assert caught.value.remedy


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_csv(tmp_path / "list.csv")


def test_the_checksum_tells_label_sets_apart(music: Path) -> None:
    def checksum(*rows: str) -> str:
        return read_csv(write_csv(music, "path,genre,artist", *rows)).checksum

    first = checksum("blues/1.wav,a,X", "blues/2.MP3,b,Y")
    assert checksum("blues/2.MP3,b,Y", "blues/1.wav,a,X") == first
    assert checksum("blues/1.wav,b,X", "blues/2.MP3,b,Y") != first
    assert checksum("blues/1.wav,a,Z", "blues/2.MP3,b,Y") != first
    assert checksum("blues/1.wav,a,X", "pop/1.flac,b,Y") != first
