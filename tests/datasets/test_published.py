"""Published data sets are recognised and read as they are laid out, with their splits checked."""

from __future__ import annotations

import csv
import json
import shutil
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import commands
from genrescope.datasets.facts import load_facts
from genrescope.datasets.layout import Layout
from genrescope.datasets.open import open_dataset
from genrescope.datasets.registry import READERS, reader_of
from genrescope.datasets.splits import PROTOCOLS
from genrescope.datasets.track import Dataset
from genrescope.errors import GenrescopeError, InputError


def clip(path: Path) -> Path:
    """Write a short noise that is unlike that of every other path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(path.as_posix().encode())
    noise = 0.1 * np.random.default_rng(seed).standard_normal(4000)
    soundfile.write(path, noise.astype(np.float32), 8000)
    return path


def write_rows(path: Path, rows: Iterable[Iterable[object]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


FMA_HEADER = [
    ["", "album", "artist", "artist", "set", "set", "track", "track"],
    ["", "id", "bio", "id", "split", "subset", "genre_top", "title"],
    ["track_id", "", "", "", "", "", "", ""],
]


def fma(root: Path, *, size: str = "small", leak: bool = False) -> Path:
    """Of 60 tracks of the small size, and one of each larger one."""
    rows: list[list[object]] = []
    for number in range(60):
        part = ("training", "training", "validation", "test")[number % 4]
        artist = 7 if leak else number % 4 + 10 * (number // 12)
        genre = ("Hip-Hop", "Rock", "Folk")[number % 3]
        bio = '<p>He said "hello",\nand left.</p>'
        rows.append([number + 2, 1, bio, artist, part, "small", genre, f"T{number}"])
        clip(root / f"fma_{size}" / "000" / f"{number + 2:06d}.mp3")
    rows.append([98565, 1, "", 900, "training", "medium", "Jazz", "Short"])
    clip(root / f"fma_{size}" / "098" / "098565.mp3")
    rows.append([155320, 1, "", 901, "test", "large", "", "No top genre"])
    write_rows(root / "fma_metadata" / "tracks.csv", [*FMA_HEADER, *rows])
    return root


JAMENDO_HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]


def jamendo(root: Path) -> Path:
    rows: dict[str, list[list[str]]] = {"train": [], "validation": [], "test": []}
    for number in range(200, 260):
        part = ("train", "train", "validation", "test")[number % 4]
        path = f"{number % 100:02d}/{number}.mp3"
        tags = [f"genre---{('metal', 'punkrock', 'electronic')[number % 3]}"]
        tags += ["genre---minimal"] if number >= 250 else []
        artist = f"artist_{number % 4 + 4 * (number // 12):06d}"
        rows[part].append([f"track_{number:07d}", artist, "album_000031", path, "124.6", *tags])
        clip(root / "audio" / Path(path).with_suffix(".low.mp3"))
    every = sorted(row for part in rows.values() for row in part)
    write_rows(root / "data" / "autotagging_genre.tsv", [JAMENDO_HEADER, *every], "\t")
    for part, own in rows.items():
        path = root / "data" / "splits" / "split-0" / f"autotagging_genre-{part}.tsv"
        write_rows(path, [JAMENDO_HEADER, *own], "\t")
    return root


def ismir2004(root: Path) -> Path:
    for part in ("training", "development", "evaluation"):
        rows = []
        for number in range(24):
            genre = ("classical", "metal_punk", "world")[number % 3]
            artist, album = f"artist_{number % 6}", "album_1"
            inside = f"{genre}/{artist}/{album}/{number}-a_title.mp3"
            if part == "development":
                inside = f"{artist}_{album}_track_{number}.mp3"
            elif part == "training" and genre == "metal_punk":
                genre, inside = "punk", inside.replace("metal_punk", "punk")
            row = [genre, artist, album, "a title, live", number, inside]
            rows.append([*row, 4711] if part == "evaluation" else row)
            clip(root / "audio" / part / inside)
        write_rows(root / "metadata" / part / "tracklist.csv", rows)
    return root


def homburg(root: Path) -> Path:
    for genre in load_facts("homburg").data["genres"]:
        for number in range(8):
            clip(root / "audios" / genre / f"The_Band_{number}-A_Song-{genre}.mp3")
    (root / "MetaData").mkdir()
    (root / "MetaData" / "users.xml").write_text("<band/>")
    return root


def ballroom(root: Path) -> Path:
    names = []
    for dance in (*load_facts("ballroom").data["dances"][:3], "Rumba-American", "Rumba-Misc"):
        for album in range(5):
            names += [f"{dance}/Albums-{dance}_Night{album}-{n:02d}.wav" for n in (1, 2)]
    names += ["ChaChaCha/Media-103402.wav", "ChaChaCha/Media-103415.wav"]
    names += ["ChaChaCha/Albums-Fire-08.wav", "Jive/Albums-Fire-09.wav"]
    for name in names:
        clip(root / "BallroomData" / name)
    listed = "".join(f"./{name}\n" for name in names)
    (root / "BallroomData" / "allBallroomFiles").write_text(listed)
    return root


MAKERS: dict[Layout, Callable[[Path], Path]] = {
    Layout.FMA: fma,
    Layout.JAMENDO: jamendo,
    Layout.ISMIR2004: ismir2004,
    Layout.HOMBURG: homburg,
    Layout.BALLROOM: ballroom,
}
EVERY = pytest.mark.parametrize("layout", READERS, ids=str)


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Path]:
    return {
        layout: make(tmp_path_factory.mktemp(str(layout)) / "copy")
        for layout, make in MAKERS.items()
    }


@pytest.fixture
def copy(layout: Layout, copies: dict[Layout, Path], tmp_path: Path) -> Path:
    """One that may be changed."""
    return Path(shutil.copytree(copies[layout], tmp_path / "copy"))


@EVERY
def test_each_is_recognised_and_said_so(layout: Layout, copies: dict[Layout, Path]) -> None:
    dataset = open_dataset(copies[layout])
    assert str(dataset.remarks[0]).count(READERS[layout].FACTS.title) == 1
    assert "--layout folder" in str(dataset.remarks[0])
    named = open_dataset(copies[layout], layout=layout)
    assert (named.tracks, named.lists) == (dataset.tracks, dataset.lists)


@EVERY
def test_each_keeps_the_contract_of_datasets(layout: Layout, copies: dict[Layout, Path]) -> None:
    dataset = open_dataset(copies[layout])
    ids = [track.id for track in dataset.tracks]
    assert ids == sorted(set(ids))
    assert all(track.audio and track.audio.is_file() and track.group for track in dataset.tracks)
    assert len(dataset.genres) >= 3
    facts = READERS[layout].FACTS
    assert facts.licence in dataset.notes
    assert any(facts.citation in note for note in dataset.notes)
    for lists in dataset.lists.values():
        parts = [set(lists.train), set(lists.valid), set(lists.test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert set.union(*parts) <= set(ids)
    for split in PROTOCOLS["grouped"].splits(dataset, 0):
        group = {track.id: track.group for track in dataset.tracks}
        assert not {group[i] for i in split.train} & {group[i] for i in split.test}


@EVERY
def test_facts_are_complete(layout: Layout) -> None:
    facts = READERS[layout].FACTS
    assert facts.bibtex.strip().startswith("@")
    assert facts.bibtex.count("{") == facts.bibtex.count("}")
    assert facts.url.startswith("http")
    assert all((facts.title, facts.layout, facts.splits, facts.licence, facts.citation))


@EVERY
@pytest.mark.parametrize("others", [["jazz", "rock"], ["blues", "fma", "Jive"]], ids=" ".join)
def test_own_genres_are_not_taken_for_any(
    layout: Layout, others: list[str], tmp_path: Path
) -> None:
    for genre in others:
        clip(tmp_path / "music" / genre / "An Artist-A Song.wav")
    assert READERS[layout].find(tmp_path / "music") is None
    with pytest.raises(InputError, match="not laid out as") as caught:
        open_dataset(tmp_path / "music", layout=layout)
    assert READERS[layout].FACTS.layout in str(caught.value)


@EVERY
def test_missing_audio_is_counted_and_left_out(layout: Layout, copy: Path) -> None:
    before = open_dataset(copy)
    gone = before.tracks[0]
    assert gone.audio is not None
    gone.audio.unlink()
    after = open_dataset(copy)
    assert set(before.tracks) - set(after.tracks) == {gone}
    if layout not in {Layout.HOMBURG, Layout.BALLROOM}:  # without a list, nothing is missing
        assert [f.track for f in after.findings if f.kind == "missing"] == [gone.id]
        (problem,) = [p for p in after.problems if p.path == gone.audio]
        assert READERS[layout].FACTS.url in problem.remedy


@EVERY
def test_a_folder_without_audio_is_an_error(layout: Layout, copy: Path) -> None:
    for path in copy.rglob("*.*"):
        if path.suffix in {".mp3", ".wav"}:
            path.unlink()
    with pytest.raises(InputError):
        open_dataset(copy, layout=layout)


@EVERY
def test_check_works_on_each(layout: Layout, copies: dict[Layout, Path]) -> None:
    done = commands.run("data", "check", copies[layout], "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    dataset = open_dataset(copies[layout])
    assert printed["tracks"] == len(dataset.tracks)
    assert printed["genres"] == dataset.counts
    left_out = sum(finding.kind == "duplicate" for finding in dataset.findings)
    assert printed["counts"]["duplicate"] == left_out


def test_list_prints_each_with_licence_citation_and_splits() -> None:
    done = commands.run("list", "datasets")
    assert done.returncode == 0, done.stderr
    printed = " ".join(done.stdout.split())
    for name in ("gtzan", *map(str, READERS)):
        facts = load_facts(name)
        for text in (name, facts.title, facts.licence, facts.citation, facts.splits, facts.url):
            assert " ".join(text.split()) in printed


def published(dataset: Dataset) -> set[str]:
    return set(dataset.lists)


def test_fma_has_its_split_top_genre_and_artists(copies: dict[Layout, Path]) -> None:
    dataset = open_dataset(copies[Layout.FMA])
    assert dataset.name == "fma_small"
    first = dataset.tracks[0]
    assert (first.id, first.genre, first.group) == ("000002", "Hip-Hop", "artist 0")
    assert first.audio == copies[Layout.FMA] / "fma_small" / "000" / "000002.mp3"
    assert len(dataset.tracks) == 60  # without those of larger sizes
    assert published(dataset) == {"published"}
    assert [len(part) for part in vars_of(dataset, "published")] == [30, 15, 15]
    assert any("has no artist in two parts: checked" in note for note in dataset.notes)
    (split,) = PROTOCOLS["published"].splits(dataset, 3)
    assert split.test[0] == "000005"
    assert PROTOCOLS["published"].leakage_free


def vars_of(dataset: Dataset, name: str) -> list[tuple[str, ...]]:
    lists = dataset.lists[name]
    return [lists.train, lists.valid, lists.test]


def test_fma_takes_the_largest_size_or_the_one_that_is_named(tmp_path: Path) -> None:
    fma(tmp_path, size="small")
    fma(tmp_path, size="medium")
    medium = open_dataset(tmp_path)
    assert (medium.name, len(medium.tracks)) == ("fma_medium", 61)
    assert medium.tracks[-1].faults == ("lasts 1.6 s",)
    assert open_dataset(tmp_path / "fma_small").name == "fma_small"


def test_fma_names_tracks_without_a_top_genre(tmp_path: Path) -> None:
    fma(tmp_path, size="large")
    dataset = open_dataset(tmp_path)
    assert len(dataset.tracks) == 61
    (problem,) = dataset.problems
    assert problem.cause == "1 of 62 tracks have several top genres or none"


def test_artists_on_both_sides_are_named_and_the_protocol_says_so(tmp_path: Path) -> None:
    dataset = open_dataset(fma(tmp_path, leak=True))
    assert published(dataset) == {"leaky-published"}
    (note,) = [note for note in dataset.notes if "LEAKS" in note]
    assert "1 artist is in several parts (artist 7)" in note
    assert not PROTOCOLS["leaky-published"].leakage_free
    assert len(PROTOCOLS["leaky-published"].splits(dataset, 0)) == 1
    with pytest.raises(GenrescopeError, match="Use protocol `leaky-published`"):
        PROTOCOLS["published"].splits(dataset, 0)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("genre_top", "genre", "columns missing: track genre_top"),
        ("\n2,1,", "\nX,1,", "line 5 is not a track"),
        ('"<p>He', '"""<p>"He', "not CSV text|is not a track"),
    ],
)
def test_a_broken_table_of_fma_is_an_error(tmp_path: Path, old: str, new: str, cause: str) -> None:
    table = fma(tmp_path) / "fma_metadata" / "tracks.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=cause):
        open_dataset(tmp_path)


def test_a_track_that_is_listed_twice_is_used_once_and_named(tmp_path: Path) -> None:
    table = fma(tmp_path) / "fma_metadata" / "tracks.csv"
    row = next(line for line in table.read_text().splitlines() if line.startswith("and left.</p>"))
    table.write_text(f"{table.read_text()}2,1,<p>{row[9:]}\n")
    dataset = open_dataset(tmp_path)
    assert len(dataset.tracks) == 60
    assert [f.cause for f in dataset.findings if f.kind == "duplicate"] == [
        "000002 is listed twice"
    ]


def test_fma_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    table = fma(tmp_path) / "fma_metadata" / "tracks.csv"
    table.write_bytes(table.read_bytes().replace(b"hello", b"h\xe9llo"))
    with pytest.raises(InputError, match="UTF-8"):
        open_dataset(tmp_path)


def test_jamendo_has_tracks_of_one_genre_and_names_the_others(copies: dict[Layout, Path]) -> None:
    dataset = open_dataset(copies[Layout.JAMENDO])
    assert dataset.genres == ("electronic", "metal", "punkrock")
    first = dataset.tracks[0]
    assert (first.id, first.group) == ("track_0000200", "artist_000064")
    assert first.audio == copies[Layout.JAMENDO] / "audio" / "00" / "200.low.mp3"
    assert len(dataset.tracks) == 50
    (problem,) = dataset.problems
    assert problem.cause == "10 of 60 tracks have several genres or none"
    assert published(dataset) == {"published"}


def test_a_split_of_jamendo_that_is_missing_is_an_error(tmp_path: Path) -> None:
    root = jamendo(tmp_path)
    (root / "data/splits/split-0/autotagging_genre-test.tsv").unlink()
    with pytest.raises(InputError, match=r"genre-test\.tsv: no such file"):
        open_dataset(root)


def test_ismir2004_has_six_classes_and_a_split_that_leaks(copies: dict[Layout, Path]) -> None:
    dataset = open_dataset(copies[Layout.ISMIR2004])
    assert dataset.genres == ("classical", "metal_punk", "world")
    assert published(dataset) == {"leaky-published"}
    (note,) = [note for note in dataset.notes if "LEAKS" in note]
    assert "6 artists are in several parts (artist 0, artist 1, artist 2, …)" in note
    assert "the artists of 24 tracks are not known" in note  # those of development
    assert [len(part) for part in vars_of(dataset, "leaky-published")] == [24, 24, 24]


def test_homburg_has_artists_from_file_names(copies: dict[Layout, Path]) -> None:
    dataset = open_dataset(copies[Layout.HOMBURG])
    assert len(dataset.genres) == 9
    assert {track.group for track in dataset.tracks} == {f"the band {n}" for n in range(8)}
    assert not dataset.lists
    with pytest.raises(GenrescopeError, match="no published split"):
        PROTOCOLS["published"].splits(dataset, 0)


def test_ballroom_leaves_out_repeated_recordings(copies: dict[Layout, Path]) -> None:
    dataset = open_dataset(copies[Layout.BALLROOM])
    assert dataset.genres == ("ChaChaCha", "Jive", "Quickstep", "Rumba")
    names = {track.id for track in dataset.tracks}
    assert "Media-103402" in names
    assert not names & {"Media-103415", "Albums-Fire-08", "Albums-Fire-09"}
    assert len([f for f in dataset.findings if f.kind == "duplicate"]) == 3
    albums = {track.id: track.group for track in dataset.tracks}
    assert albums["Albums-Jive_Night0-01"] == albums["Albums-Jive_Night0-02"]
    assert albums["Media-103402"] == "Media-1034"


@pytest.mark.parametrize("layout", [Layout.HOMBURG, Layout.BALLROOM], ids=str)
def test_other_audio_in_the_folder_is_named(layout: Layout, copy: Path) -> None:
    home = READERS[layout].find(copy)
    assert home is not None
    strays = [clip(home / "polka" / "A-B.wav"), clip(home / "Jive" / "mine.wav")]
    found = open_dataset(copy)
    assert [f.path for f in found.findings if f.kind == "unlisted"] == sorted(strays)


def test_mirdata_s_layout_of_ballroom_is_read(tmp_path: Path) -> None:
    for name in ("Waltz/Media-105901", "Waltz/Media-105902", "Tango/Albums-Night-01"):
        clip(tmp_path / "B_1.0" / "audio" / f"{name}.wav")
    assert open_dataset(tmp_path).counts == {"Tango": 1, "Waltz": 2}
    assert reader_of(tmp_path, Layout.AUTO) is READERS[Layout.BALLROOM]


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
@pytest.mark.parametrize("layout", [Layout.FMA, Layout.JAMENDO, Layout.ISMIR2004], ids=str)
def test_any_damage_to_a_table_is_an_error_or_a_sound_data_set(
    layout: Layout, copy: Path, data: st.DataObject
) -> None:
    table = sorted(path for path in copy.rglob("*.[ct]sv"))[data.draw(st.integers(0, 1)) - 1]
    whole = table.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    until = at + data.draw(st.integers(0, 30))
    piece = data.draw(
        st.sampled_from([b"", b"\t", b",", b'"', b"\n", b"/", b"\xff", b"\x07", whole])
    )
    try:
        table.write_bytes(whole[:at] + piece + whole[until:])
        dataset = open_dataset(copy, layout=layout, allow_missing_genres=True)
        ids = [track.id for track in dataset.tracks]
        assert ids == sorted(set(ids))
        for lists in dataset.lists.values():
            assert {*lists.train, *lists.valid, *lists.test} <= set(ids)
    except GenrescopeError as error:
        assert str(error).endswith(".")
    finally:
        table.write_bytes(whole)


def test_every_layout_is_registered() -> None:
    assert {*READERS} == {*Layout} - {Layout.AUTO, Layout.GTZAN, Layout.FOLDER}
    assert {*MAKERS} == {*READERS}
