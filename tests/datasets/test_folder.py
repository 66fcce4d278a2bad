"""Folders of genres and CSV lists are read with all their faults, each reported with its remedy."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrescope.datasets.check import check
from genrescope.datasets.folder import read_csv, read_folder
from genrescope.datasets.gtzan import judge, survey
from genrescope.datasets.layout import Layout
from genrescope.datasets.open import open_dataset
from genrescope.datasets.track import Dataset, genre_key, spelt_alike
from genrescope.errors import InputError

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


def test_open_dataset_distinguishes_folders_and_lists(music: Path) -> None:
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
    for name in ("blues/cover.png", "blues/._1.wav", ".trash/1.wav", "__MACOSX/1.wav"):
        clip(music / name)
    (music / "blues" / "folder.wav").mkdir()
    assert read_folder(music) == before


def test_audio_that_is_not_used_is_named(music: Path, clip: Write) -> None:
    clip(music / "loose.wav")
    (music / "blues/gone.wav").symlink_to(music / "nowhere.wav")
    os.mkfifo(music / "blues/pipe.wav")
    (music / "pop/half.mp3.part").write_bytes(b"ID3\x04 and so on")
    (music / "pop/take 3").write_bytes(b"fLaC and so on")
    (music / "pop/notes.txt").write_bytes(b"ideas")
    dataset = read_folder(music)
    assert len(dataset.tracks) == 3
    assert {f.path.relative_to(music).as_posix(): f.cause for f in dataset.findings} == {
        "loose.wav": "it is not in a genre's folder",
        "blues/gone.wav": "it is a link to nothing",
        "blues/pipe.wav": "it is a pipe, not a regular file",
        "pop/half.mp3.part": "it looks like audio, but '.part' is no ending of a format that is "
        "read",
        "pop/take 3": "it looks like audio, but its name has no ending of a format that is read",
    }
    assert {problem.path for problem in dataset.problems} == {f.path for f in dataset.findings}


def test_hundreds_of_files_make_one_line_with_their_number(music: Path, clip: Write) -> None:
    for number in range(200):
        clip(music / f"{number:03}.wav")
    dataset = read_folder(music)
    assert len(dataset.findings) == 200
    (problem,) = dataset.problems
    assert problem.path == music / "000.wav"
    assert "199 more" in problem.cause
    assert "--all" in problem.remedy


def test_links_to_folders_are_named_and_not_followed(music: Path, clip: Write) -> None:
    clip(music.parent / "elsewhere" / "3.wav")
    (music / "pop" / "linked.wav").symlink_to(music.parent / "elsewhere" / "3.wav")
    (music / "pop" / "more").symlink_to(music.parent / "elsewhere")
    (music / "pop" / "self").symlink_to(music / "pop")
    dataset = read_folder(music)
    assert labels(dataset)["pop/linked.wav"] == "pop"
    assert len(dataset.tracks) == 4
    assert {f.path.relative_to(music).as_posix(): f.cause for f in dataset.findings} == {
        "pop/more": "it is a link to a folder, which is not followed",
        "pop/self": "it is a link to a folder, which is not followed",
    }


def test_a_link_to_a_genre_s_folder_is_that_genre(music: Path, clip: Write) -> None:
    clip(music.parent / "elsewhere" / "3.wav")
    (music / "jazz").symlink_to(music.parent / "elsewhere")
    assert labels(read_folder(music)).get("jazz/3.wav") == "jazz"


def test_links_to_the_folders_of_other_genres_are_left_out_and_not_those(
    music: Path, clip: Write
) -> None:
    clip(music / "pop" / "deeper" / "2.wav")
    for name, target in {
        "again": "pop",
        "all": ".",
        "around": "..",
        "deep": "pop/deeper",
    }.items():
        (music / name).symlink_to(target)
    dataset = open_dataset(music)
    assert dataset.counts == {"blues": 2, "pop": 2}
    assert {f.path.name: (f.kind, f.cause) for f in dataset.findings} == {
        "again": ("duplicate", "again is the same folder as pop"),
        "all": ("duplicate", "all is a link to a folder that holds all genres"),
        "around": ("duplicate", "around is a link to a folder that holds all genres"),
        "deep": ("duplicate", "deep is a link to a folder in pop"),
    }


def test_a_link_to_a_genre_s_folder_is_no_finding(music: Path, clip: Write) -> None:
    clip(music.parent / "elsewhere" / "3.wav")
    (music / "folk").symlink_to("../elsewhere")
    dataset = open_dataset(music)
    assert (dataset.counts, dataset.findings) == ({"blues": 2, "folk": 1, "pop": 1}, ())


def test_genres_of_gtzan_that_are_links_are_judged_by_what_they_hold(
    tmp_path: Path, clip: Write
) -> None:
    clip(tmp_path / "elsewhere" / "rock" / "rock.00001.wav")
    clip(tmp_path / "elsewhere" / "jazz" / "mine.wav")
    clip(tmp_path / "elsewhere" / "jazz" / "jazz.00001.wav")
    (tmp_path / "music").mkdir()
    for name in ("rock", "jazz"):
        (tmp_path / "music" / name).symlink_to(f"../elsewhere/{name}")
    assert judge(tmp_path / "music").is_gtzan
    assert not [f for f in survey(tmp_path / "music").findings if "link" in f.cause]
    (tmp_path / "elsewhere" / "jazz" / "jazz.00001.wav").unlink()
    assert open_dataset(tmp_path / "music").counts == {"jazz": 1, "rock": 1}


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder unreadable to this process; root may read whatever its mode says."""

    def lock(folder: Path) -> None:
        for name in ("scandir", "listdir"):
            real = getattr(os, name)

            def refuse(path: str = ".", real: Callable[[str], object] = real) -> object:
                if Path(path) == folder:
                    raise PermissionError(errno.EACCES, "Permission denied", str(path))
                return real(path)

            monkeypatch.setattr(os, name, refuse)

    return lock


@pytest.mark.parametrize("inside", ["", "album"])
def test_a_genre_that_cannot_be_read_is_not_called_empty(
    music: Path, clip: Write, lock: Callable[[Path], None], inside: str
) -> None:
    clip(music / "secret" / inside / "1.wav")
    (music / "blues" / "loop").symlink_to("..")
    lock(music / "secret" / inside)
    said = "it cannot be read (Permission denied). Check that you may read it."
    with pytest.raises(InputError) as caught:
        open_dataset(music)
    assert str(caught.value) == f"{music / 'secret' / inside}: {said}"
    report = check(music, workers=1)
    about = [f for f in report.findings if "secret" in f"{f.path} {f.cause}"]
    assert [(f.kind, str(f.error())) for f in about] == [("missing", str(caught.value))]
    assert report.lacks_genre


def test_a_genre_of_gtzan_that_cannot_be_read_is_not_called_empty(
    tmp_path: Path, clip: Write, lock: Callable[[Path], None]
) -> None:
    clip(tmp_path / "gtzan" / "rock" / "rock.00001.wav")
    clip(tmp_path / "gtzan" / "jazz" / "jazz.00001.wav")
    lock(tmp_path / "gtzan" / "jazz")
    about = [f for f in survey(tmp_path / "gtzan").findings if f.path.name == "jazz"]
    assert [(f.kind, f.cause) for f in about] == [
        ("missing", "it cannot be read (Permission denied)")
    ]


def test_the_only_genres_that_cannot_be_read_are_what_is_wrong(
    music: Path, lock: Callable[[Path], None]
) -> None:
    shutil.rmtree(music / "blues")
    lock(music / "pop")
    with pytest.raises(InputError, match=r"pop: it cannot be read"):
        read_folder(music)


def test_a_genre_is_not_blamed_on_another_one(music: Path) -> None:
    (music / "blues" / "loop").symlink_to("..")
    (music / "jazz").mkdir()
    with pytest.raises(InputError, match=r"'jazz' \(.*jazz: the genre holds no audio files"):
        open_dataset(music)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
def test_a_genre_whose_name_is_not_utf_8_is_called_that(music: Path, clip: Write) -> None:
    clip(music / os.fsdecode(b"caf\xe9") / "1.wav")
    with pytest.raises(InputError, match="is not in UTF-8"):
        read_folder(music)


@pytest.mark.parametrize(
    ("cells", "noted"),
    [
        (("rock;indie", "pop"), "'rock;indie'"),
        (("rock|indie", "a;b"), "'a;b' (and 1 more like it)"),
        (("rock/pop", "Rock", "pop"), "'rock/pop'"),
        (("R&B/Soul", "pop", "soul"), None),
    ],
)
def test_several_genres_in_a_cell_are_one_and_it_is_said(
    tmp_path: Path, clip: Write, cells: tuple[str, ...], noted: str | None
) -> None:
    rows = [f"{clip(tmp_path / f'{i}.wav').name},{cell}" for i, cell in enumerate(cells)]
    dataset = open_dataset(write_csv(tmp_path, "path,genre", *rows))
    assert set(dataset.genres) == set(cells)
    said = [f.cause for f in dataset.findings if "several genres" in f.cause]
    assert said == ([f"several genres in a cell are taken as one, {noted}"] if noted else [])


SPELLINGS = ["Rock", "ROCK", " rock ", "ｒｏｃｋ", "ro\u200bck"]


@pytest.mark.parametrize("other", SPELLINGS)
def test_spellings_of_one_genre_are_one_and_it_is_said(
    tmp_path: Path, clip: Write, other: str
) -> None:
    folder = tmp_path / "music"
    for name in ("rock/1.wav", "rock/2.wav", f"{other}/3.wav", "pop/4.wav"):
        clip(folder / name)
    table = write_csv(folder, "path,genre", "rock/1.wav,rock", "rock/2.wav,rock",
                      f'{other}/3.wav,"{other}"', "pop/4.wav,pop")  # fmt: skip
    for dataset in (read_folder(folder), read_csv(table)):
        assert dataset.counts == {"pop": 1, "rock": 3}
        if other.strip() != "rock" or dataset.name == "music":
            (remark,) = dataset.remarks
            assert "are one genre, 'rock'" in remark.cause
            assert str(remark) in dataset.notes
    assert read_folder(folder).problems == ()


def test_two_unicode_forms_of_one_genre_are_one_and_it_is_said(tmp_path: Path, clip: Write) -> None:
    for number, genre in enumerate(("caf\u00e9", "cafe\u0301", "pop")):
        clip(tmp_path / "music" / genre / f"{number}.wav")
    dataset = read_folder(tmp_path / "music")
    assert dataset.counts == {"caf\u00e9": 2, "pop": 1}
    (remark,) = dataset.remarks
    assert r"'cafe\u0301', 'caf\xe9' are one genre" in remark.cause


def test_genres_that_differ_in_signs_are_two_and_it_is_said(tmp_path: Path, clip: Write) -> None:
    for number, genre in enumerate(("Hip-Hop", "hip hop", "pop")):
        clip(tmp_path / "music" / genre / f"{number}.wav")
    dataset = read_folder(tmp_path / "music")
    assert dataset.counts == {"Hip-Hop": 1, "hip hop": 1, "pop": 1}
    (remark,) = dataset.remarks
    assert "'Hip-Hop' and 'hip hop' stay separate" in remark.cause


@pytest.mark.parametrize("lost", ["empty", "another's", "text"])
def test_a_genre_without_a_track_is_an_error_unless_allowed(
    music: Path, clip: Write, lost: str
) -> None:
    (music / "jazz").mkdir()
    if lost == "text":
        (music / "jazz" / "todo.txt").write_text("find some")
    if lost == "another's":
        clip(music / "blues" / "3.wav")
        shutil.copy(clip(music / "jazz" / "1.wav"), music / "blues" / "4.wav")
    with pytest.raises(InputError, match="no track can be used of the genre 'jazz'") as caught:
        open_dataset(music)
    assert "--allow-missing-genres" in caught.value.remedy
    dataset = open_dataset(music, allow_missing_genres=True)
    assert (dataset.genres, dataset.missing_genres) == (("blues", "pop"), ("jazz",))


def test_a_genre_of_a_list_without_a_file_is_an_error_unless_allowed(music: Path) -> None:
    table = write_csv(music, "path,genre", "blues/1.wav,blues", "none.wav,jazz")
    with pytest.raises(InputError, match=r"genre 'jazz' \(.*none\.wav: no such file \(line 3"):
        open_dataset(table)
    assert open_dataset(table, allow_missing_genres=True).missing_genres == ("jazz",)


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
        "the same audio is listed several times: blues/1.wav, blues/z.wav"
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
        f"{table}: line 8 lacks a path or a genre. Fill it in.",
        f"{music / 'pop/none.wav'}: no such file (line 6 of list.csv). "
        "Correct the path; paths are relative to the CSV file's folder.",
        f"{music / 'blues'}: it is not a regular file (line 7 of list.csv). "
        "Correct the path; paths are relative to the CSV file's folder.",
    ]


def test_a_file_listed_twice_is_kept_once(music: Path) -> None:
    dataset = read_csv(
        write_csv(music, "path,genre", "pop/1.flac,pop", f"{music}/pop/1.flac,pop", "blues/1.wav,b")
    )
    assert labels(dataset) == {"pop/1.flac": "pop", "blues/1.wav": "b"}
    (problem,) = dataset.problems
    assert "the same audio is listed several times: pop/1.flac" in problem.cause


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
        (b"path,mood\na.wav,pop\n", "column 'genre' is missing; its header: 'path', 'mood'"),
        (b"Titel;genre\na.wav;pop\n", "column 'path' is missing; its header: 'Titel', 'genre'"),
        (b"", "columns 'path' and 'genre' are missing; its header: empty"),
        (b"\n\n", "columns 'path' and 'genre' are missing; its header: empty"),
        (b"file,filename,genre\n", "several columns may be the path: 'file', 'filename'"),
        (b"path,label,class\n", "several columns may be the genre: 'label', 'class'"),
        (b"path,genre,Genre\n", "several columns may be the genre: 'genre', 'Genre'"),
        (b"path,genre,band,performer\n", "several columns may be the artist"),
        ("path,genre\né.wav,pop\n".encode("latin-1"), "line 2 is not UTF-8 .*Windows-1252"),
        (b"path,genre\na\0.wav,pop\n", "line 2 holds a zero byte"),
        ("path,genre\na.wav,pop\n".encode("utf-16")[:-1], "it is not UTF-16"),
        (b'path,genre\na.wav,pop\n"b.wav,pop\n', "the row that begins in line 3 is malformed"),
        (b'path,genre\n"Weird Al" - a.wav,pop\n', "the row that begins in line 2 is malformed"),
        (b"path,genre\n" + b"x" * 200_000 + b",pop\n", "line 2 has a path of 200,000 characters"),
        (b"PK\x03\x04 and so on", "not CSV text but a spreadsheet"),
        (b"list.csv,pop\nb.wav,rock\n", "its first line is a row, not a header"),
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


def test_a_list_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match="1,073,741,824 bytes, more than"):
        read_csv(path)


HEADERS = [
    "path,genre,artist", "PATH,Genre, ARTIST", '"path","genre","artist"', "file,label,performer",
    "File Name,Class,Band", "file_name,genre_top,Artist(s)", "filepath,category,artist_name",
    "audio,style,Singer", "Datei,Musikrichtung,Künstler", "Dateiname,Genre,Interpret",
    "fichier,genre,artiste", "Archivo,Género,Artista", "chemin,catégorie,interprète",
    "caminho,gênero,artista", "файл,жанр,исполнитель", "ファイル,ジャンル,アーティスト",
    "track,genre,group", "\ufeffpath,genre,artist",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_headers_in_usual_words(music: Path, header: str) -> None:
    dataset = read_csv(write_csv(music, header, "blues/1.wav,blues,BB", "pop/1.flac,pop,Abba"))
    assert labels(dataset) == {"blues/1.wav": "blues", "pop/1.flac": "pop"}
    assert [track.group for track in dataset.tracks] == ["bb", "abba"]
    assert (dataset.problems, dataset.remarks) == ((), ())


def test_the_canonical_of_two_headers_is_read_and_it_is_said(music: Path) -> None:
    table = write_csv(music, "label,genre,path,artist", "x,blues,blues/1.wav,BB")
    dataset = read_csv(table)
    assert labels(dataset) == {"blues/1.wav": "blues"}
    (remark,) = dataset.remarks
    assert "are read, not 'label'" in remark.cause


def test_a_column_that_may_be_the_artist_is_not_passed_over_in_silence(music: Path) -> None:
    (remark,) = read_csv(write_csv(music, "path,genre,who", "blues/1.wav,blues,BB")).remarks
    assert "no column says the artist; its header: 'path', 'genre', 'who'" in remark.cause


def test_rows_with_too_many_cells_are_named(music: Path, clip: Write) -> None:
    clip(music / "Earth, Wind.wav")
    table = write_csv(
        music, "path,genre", "Earth, Wind.wav,pop", "blues/1.wav,blues,,", '"Earth, Wind.wav",pop'
    )
    dataset = read_csv(table)
    assert labels(dataset) == {"blues/1.wav": "blues", "Earth, Wind.wav": "pop"}
    (problem,) = dataset.problems
    assert problem.cause == "line 2 has 3 cells, and the header 2"


def test_paths_as_people_have_them(
    music: Path, clip: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(music))
    clip(music / "pop" / "a b.wav")
    clip(music / "pop" / "cafe\u0301.wav")
    clip(music / "pop" / "back\\slash.wav")
    clip(music / "pop" / " spaced.wav")
    cells = [
        "blues\\1.wav", "~/blues/2.MP3", f"file://{music}/pop/a%20b.wav", "pop/caf\u00e9.wav",
        "pop\\back\\slash.wav", "pop/back\\slash.wav", " pop/1.flac ", "pop/ spaced.wav",
    ]  # fmt: skip
    dataset = read_csv(write_csv(music, "path,genre", *(f"{cell},pop" for cell in cells)))
    assert {track.audio for track in dataset.tracks} == {
        path for path in music.rglob("*") if path.is_file() and path.suffix != ".csv"
    }
    (problem,) = dataset.problems
    assert problem.path.name == "pop\\back\\slash.wav"


@pytest.mark.parametrize(
    ("cell", "cause"),
    [
        ("https://example.org/a.wav", "this is an address, not a file"),
        ("file://other/share/a.wav", "no such file"),
        ("file://[/a.wav", "no such file"),
        ("~nobody-of-that-name/a.wav", "no such file"),
        ("C:\\Music\\a.wav", "no such file"),
        ("x" * 5000, "a path of 5,000 characters"),
        ("y" * 300, "no such file"),
    ],
)
def test_paths_that_lead_to_no_file_are_named(music: Path, cell: str, cause: str) -> None:
    dataset = read_csv(write_csv(music, "path,genre", "blues/1.wav,blues", f"{cell},blues"))
    (problem,) = dataset.problems
    assert cause in problem.cause


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "BE", "utf-32"]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a.wav", "d/b, c.wav", 'e "f".wav', "g;h|i.wav", "j\tk.wav", "ü.wav"]),
            st.text("rR ock-&é日,;|\"'=", min_size=1).filter(lambda text: text.strip()),
            st.text('aB ,;|"é\n', max_size=9),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[0],
    ),
    encoding=st.sampled_from(ENCODINGS),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    first=st.sampled_from(["", "sep", "blank"]),
)
def test_every_dialect_of_a_list_gives_the_same_rows(
    rows: list[tuple[str, str, str]],
    encoding: str,
    delimiter: str,
    end: str,
    quoting: Literal[0, 1],
    first: str,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        for number, (path, _, _) in enumerate(rows):
            Path(name, path).parent.mkdir(exist_ok=True)
            Path(name, path).write_bytes(b"RIFF%d" % number)
        text = io.StringIO(newline="")
        text.write({"": "", "sep": f"sep={delimiter}{end}", "blank": end * 2}[first])
        if end == "\r":  # Python's own writer leaves LF unquoted then
            quoting = csv.QUOTE_ALL
        writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerow(("path", "genre", "artist"))
        writer.writerows(rows)
        mark, encoding = ("\ufeff", "utf-16-be") if encoding == "BE" else ("", encoding)
        table = Path(name, "list.csv")
        table.write_bytes((mark + text.getvalue()).encode(encoding))
        dataset = read_csv(table)
        wanted = {path: (genre_key(genre), spelt_alike(who) or None) for path, genre, who in rows}
        assert dataset.problems == ()
        assert {t.id: (genre_key(t.genre), t.group) for t in dataset.tracks} == wanted
        assert len({genre_key(genre) for _, genre, _ in rows}) == len(dataset.genres)


names = st.sampled_from(["rock", "Rock", "rock ", "jazz", "Jazz!", "hip-hop", "HipHop", "lofi"])
files = st.sampled_from([
    "rock.00001.wav", "rock.00002.mp3", "Rock.00001.flac", "jazz.00003.wav", "hiphop.00004.au",
    "hip-hop.00004.wav", "rock.00001.0.wav", "rock.00100.wav", "mine.wav", "song.m4a", "x.mp3.part",
    "sub/rock.00009.wav", "sub/mine.ogg", "notes.txt", "cover.png",
])  # fmt: skip
tops = st.sampled_from(["", "genres", "genres_original", "genres_16k", "Data/genres", "extra"])


@settings(max_examples=60, deadline=None)
@given(
    tree=st.dictionaries(st.tuples(tops, names, files), st.integers(0, 6), min_size=1, max_size=12),
    loose=st.lists(st.sampled_from(["a.wav", "rock.00005.wav"]), unique=True),
    layout=st.sampled_from(Layout),
)
def test_every_audio_file_is_used_or_named(
    tree: dict[tuple[str, str, str], int], loose: list[str], layout: Layout
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "music")
        audio = {root / file: b"%d" % number for number, file in enumerate(loose)}
        audio |= {root.joinpath(*parts): b"%d" % content for parts, content in tree.items()}
        for path, content in audio.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wav(int(content)))
        there = {path for path in audio if path.suffix not in (".txt", ".png")}
        try:
            dataset = open_dataset(root, layout=layout, allow_missing_genres=True)
        except InputError as error:
            assert error.remedy
            return
        used = {track.audio for track in dataset.tracks}
        named = {finding.path for finding in dataset.findings if finding.kind != "noted"}
        assert not used & named
        assert there == (used | named) & there
        assert len({genre_key(genre) for genre in dataset.genres}) == len(dataset.genres)


def wav(content: int) -> bytes:
    data = content.to_bytes(2, "little")
    head = struct.pack("<I4s4sIHHIIHH4sI", 38, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16,
                       b"data", len(data))  # fmt: skip
    return b"RIFF" + head + data


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_csv(tmp_path / "list.csv")


def test_the_checksum_distinguishes_label_sets(music: Path) -> None:
    def checksum(*rows: str) -> str:
        return read_csv(write_csv(music, "path,genre,artist", *rows)).checksum

    first = checksum("blues/1.wav,a,X", "blues/2.MP3,b,Y")
    assert checksum("blues/2.MP3,b,Y", "blues/1.wav,a,X") == first
    assert checksum("blues/1.wav,b,X", "blues/2.MP3,b,Y") != first
    assert checksum("blues/1.wav,a,Z", "blues/2.MP3,b,Y") != first
    assert checksum("blues/1.wav,a,X", "pop/1.flac,b,Y") != first
