"""GTZAN is read from every layout people have, and one bad file never ends a run."""

from __future__ import annotations

import csv
import math
import os
import struct
import wave
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genrescope.datasets import gtzan
from genrescope.datasets.gtzan import GENRES, TABLE_COLUMNS
from genrescope.datasets.layout import Layout
from genrescope.datasets.open import open_dataset
from genrescope.datasets.splits import PROTOCOLS
from genrescope.errors import GenrescopeError, InputError

REAL = Path(__file__).resolve().parents[3] / "shared" / "gtzan"
needs_gtzan = pytest.mark.skipif(
    not REAL.is_dir(), reason="GTZAN itself is not beside the project (shared/gtzan)"
)


def write_clip(path: Path, *, seconds: float = 0.2, sampling_rate: int = 22050) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(np.arange(int(seconds * sampling_rate)) / 20)
    soundfile.write(path, samples, sampling_rate)
    return path


def write_image(path: Path, size: tuple[int, int] = (432, 288)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", size, (200, 10, 10, 255)).save(path)
    return path


def row(name: str, label: str | None = None, **cells: object) -> dict[str, object]:
    values = {column: number / 8 for number, column in enumerate(TABLE_COLUMNS)}
    label = name.partition(".")[0] if label is None else label
    return {"filename": name, "length": 661794, **values, "label": label, **cells}


def write_table(path: Path, *rows: dict[str, object], drop: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [c for c in ("filename", "length", *TABLE_COLUMNS, "label") if c not in drop]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def ids(dataset: gtzan.Dataset) -> list[str]:
    return [track.id for track in dataset.tracks]


def test_the_kaggle_folder_gives_each_track_its_three_sources(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "genres_original/blues/blues.00003.wav")
    image = write_image(tmp_path / "images_original/blues/blues00003.png")
    write_table(tmp_path / "features_30_sec.csv", row("blues.00003.wav"), row("rock.00099.wav"))
    (tmp_path / "features_3_sec.csv").write_text("filename,label\nblues.00003.0.wav,blues\n")

    dataset = gtzan.read(tmp_path)

    blues, rock = dataset.tracks
    assert (blues.id, blues.genre, blues.audio, blues.image) == (
        "blues.00003",
        "blues",
        clip,
        image,
    )
    assert blues.audio_variant == "full"
    assert blues.descriptors == tuple(number / 8 for number in range(57))
    assert (rock.id, rock.audio, rock.image) == ("rock.00099", None, None)
    assert dataset.name == "gtzan"
    assert dataset.problems == ()


def test_the_kaggle_folder_may_lie_one_folder_deeper(tmp_path: Path) -> None:
    write_clip(tmp_path / "Data/genres_original/jazz/jazz.00000.wav")
    assert ids(gtzan.read(tmp_path)) == ["jazz.00000"]


@pytest.mark.parametrize("top", ["genres", "", "download/genres"])
def test_the_original_archive_is_read_from_its_folder_or_from_around_it(
    tmp_path: Path, top: str
) -> None:
    write_clip(tmp_path / top / "metal/metal.00001.au")
    write_clip(tmp_path / top / "disco/disco.00002.au")
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["disco.00002", "metal.00001"]
    assert {track.audio_variant for track in dataset.tracks} == {"full"}


@pytest.mark.parametrize("archive", ["gtzan_genre", "gtzan_mini-main"])
def test_what_mirdata_has_downloaded_is_read_and_its_track_ids_find_the_tracks(
    tmp_path: Path, archive: str
) -> None:
    # Paths and ids as in mirdata's indexes 1.0 and mini.
    index = {
        f"{genre}.00000": {
            "audio": f"{archive}/genres/{genre}/{genre}.00000.wav",
            "beats": f"gtzan_tempo_beat-main/beats/gtzan_{genre}_00000.beats",
            "tempo": f"gtzan_tempo_beat-main/tempo/gtzan_{genre}_00000.bpm",
        }
        for genre in GENRES
    }
    for files in index.values():
        write_clip(tmp_path / files["audio"])
        for kind in ("beats", "tempo"):
            (tmp_path / files[kind]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / files[kind]).write_text("120\n")
    dataset = open_dataset(tmp_path)
    assert dataset.name == "gtzan"
    assert dataset.problems == ()
    tracks = {track.id: track for track in dataset.tracks}
    assert len(tracks) == len(GENRES)
    for mirdata_id, files in index.items():
        assert tracks[gtzan.track_id(mirdata_id)].audio == tmp_path / files["audio"]
        assert gtzan.track_id(Path(files["beats"]).name) == mirdata_id
        assert gtzan.track_id(Path(files["tempo"]).stem) == mirdata_id
    assert ids(open_dataset(tmp_path / archive)) == sorted(tracks)


def test_a_name_means_one_of_the_thousand_tracks_or_none() -> None:
    assert [gtzan.track_id(track) for track in gtzan.track_ids()] == list(gtzan.track_ids())
    assert gtzan.track_id("hip-hop.00042") == gtzan.track_id("hiphop00042.png") == "hiphop.00042"
    for name in ("blues.00100", "blues.0000", "soul.00000", "blues", "my blues.00001.wav", ""):
        assert gtzan.track_id(name) is None


@pytest.mark.parametrize(
    ("folder", "audio_variant"),
    [("genres_original", "full"), ("genres_16k", "full-16k"), ("excerpts_2s", "excerpt")],
)
def test_a_folder_of_clips_may_be_given_itself(
    tmp_path: Path, folder: str, audio_variant: str
) -> None:
    write_clip(tmp_path / folder / "pop/pop.00005.flac")
    (track,) = gtzan.read(tmp_path / folder).tracks
    assert track.audio_variant == audio_variant


def test_only_images_or_only_the_table_is_enough(tmp_path: Path) -> None:
    write_image(tmp_path / "a/images_original/reggae/reggae00007.png")
    write_table(tmp_path / "b/features_30_sec.csv", row("reggae.00007.wav"))
    assert ids(gtzan.read(tmp_path / "a")) == ids(gtzan.read(tmp_path / "b")) == ["reggae.00007"]


@pytest.mark.parametrize("suffix", [".wav", ".au", ".flac", ".ogg", ".mp3", ".WAV"])
def test_clips_may_be_compressed(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / f"genres/rock/rock.00000{suffix}")
    (track,) = gtzan.read(tmp_path).tracks
    assert track.audio == clip


@pytest.mark.parametrize(("suffix", "codec"), [(".m4a", "aac"), (".opus", "libopus")])
def test_clips_may_be_in_formats_that_only_ffmpeg_writes(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    clip = tmp_path / f"genres/rock/rock.00000{suffix}"
    clip.parent.mkdir(parents=True)
    with av.open(str(clip), "w") as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, stream.codec_context.frame_size or 960), np.float32), "fltp", "mono"
        )
        frame.sample_rate = 48000
        resampler = av.AudioResampler(stream.codec_context.format or "fltp", "mono", 48000)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    (track,) = gtzan.read(tmp_path).tracks
    assert track.audio == clip


def test_a_track_prefers_the_full_clip_then_16_khz_then_the_excerpt(tmp_path: Path) -> None:
    for number, folders in enumerate(
        (
            ("excerpts_2s", "genres_16k", "genres_original"),
            ("excerpts_2s", "genres_16k"),
            ("excerpts_2s",),
        )
    ):
        for folder in folders:
            write_clip(tmp_path / folder / f"rock/rock.{number:05d}.flac")
    dataset = gtzan.read(tmp_path)
    assert [track.audio_variant for track in dataset.tracks] == ["full", "full-16k", "excerpt"]
    assert (
        "1 with full audio, 1 with full audio at 16 kHz only, 1 with an excerpt only"
        in (dataset.notes[0])
    )


def test_a_lossless_copy_is_preferred_to_a_lossy_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/rock/rock.00000.mp3")
    clip = write_clip(tmp_path / "genres/rock/rock.00000.wav")
    assert gtzan.read(tmp_path).tracks[0].audio == clip


def test_a_clip_that_does_not_open_gives_way_to_the_next_best(tmp_path: Path) -> None:
    broken = write_clip(tmp_path / "genres_original/rock/rock.00000.wav")
    broken.write_bytes(b"")
    excerpt = write_clip(tmp_path / "excerpts_2s/rock/rock.00000.flac")
    dataset = gtzan.read(tmp_path)
    assert (dataset.tracks[0].audio, dataset.tracks[0].audio_variant) == (excerpt, "excerpt")
    assert [(problem.path, problem.cause) for problem in dataset.problems] == [
        (broken, "the file is empty (0 bytes)")
    ]


def empty_wav() -> bytes:
    return (
        b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 22050,
        44100, 2, 16) + b"data" + struct.pack("<I", 0)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02" * 5000, "not audio that genrescope can read"),
        (b"<html>404</html>", "not audio that genrescope can read"),
        (empty_wav(), "no samples"),
    ],
    ids=["zero bytes", "binary noise", "a web page", "a header and no samples"],
)
def test_unusable_audio_is_a_problem_and_the_track_lives_on_its_other_sources(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    clip = tmp_path / "genres_original/jazz/jazz.00054.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(content)
    write_table(tmp_path / "features_30_sec.csv", row("jazz.00054.wav"))

    dataset = gtzan.read(tmp_path)

    (track,) = dataset.tracks
    assert track.audio is None
    assert track.descriptors is not None
    assert any("corrupt" in fault for fault in track.faults)
    (problem,) = dataset.problems
    assert problem.path == clip
    assert cause in problem.cause
    assert "Nothing to do" in problem.remedy


def test_a_track_without_any_usable_source_is_left_out(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/rock/rock.00000.wav")
    (tmp_path / "genres/rock/rock.00001.wav").write_bytes(b"")
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["rock.00000"]
    assert len(dataset.problems) == 1
    assert "good copy" in dataset.problems[0].remedy


@pytest.mark.parametrize("size", [(431, 288), (432, 289), (224, 224)])
def test_a_picture_of_another_size_is_left_out(tmp_path: Path, size: tuple[int, int]) -> None:
    write_image(tmp_path / "images_original/pop/pop00000.png")
    wrong = write_image(tmp_path / "images_original/pop/pop00001.png", size)
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["pop.00000"]
    (problem,) = dataset.problems
    assert problem.path == wrong
    assert f"{size[0]} x {size[1]} pixels instead of 432 x 288" in problem.cause


def test_a_picture_that_is_no_png_is_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "images_original/pop/pop00000.png")
    fake = tmp_path / "images_original/pop/pop00001.png"
    fake.write_bytes(b"GIF89a" + bytes(30))
    (tmp_path / "images_original/pop/pop00002.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["pop.00000"]
    assert [problem.cause for problem in dataset.problems] == ["the picture is not a PNG file"] * 2


def test_system_files_are_passed_over_in_silence(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "genres/pop/pop.00000.wav")
    for name in (".DS_Store", "._pop.00000.wav", "Thumbs.db", "notes.txt"):
        (clip.parent / name).write_bytes(b"junk")
    (tmp_path / ".DS_Store").write_bytes(b"junk")
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["pop.00000"]
    assert dataset.problems == ()


def test_an_empty_genre_folder_is_a_problem(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/pop/pop.00000.wav")
    (tmp_path / "genres/rock").mkdir()
    (problem,) = gtzan.read(tmp_path).problems
    assert problem.path == tmp_path / "genres/rock"
    assert "no clips" in problem.cause


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("pop/rock.00001.wav", "the name says rock, the folder pop"),
        ("pop/pop.00100.wav", "not one of GTZAN's"),
        ("pop/my song.wav", "not one of GTZAN's"),
        ("pop/pop.00001.0.wav", "not one of GTZAN's"),
    ],
    ids=["misfiled", "a hundred and first clip", "another name", "a segment"],
)
def test_clips_that_do_not_belong_are_named_and_left_out(
    tmp_path: Path, name: str, cause: str
) -> None:
    write_clip(tmp_path / "genres/pop/pop.00000.wav")
    stray = write_clip(tmp_path / "genres" / name)
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["pop.00000"]
    (problem,) = dataset.problems
    assert problem.path == stray
    assert cause in problem.cause


def test_the_table_is_read_by_column_name_not_by_position(tmp_path: Path) -> None:
    cells = row("pop.00000.wav")
    path = tmp_path / "features_30_sec.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, sorted(cells, reverse=True))
        writer.writeheader()
        writer.writerow(cells)
    (track,) = gtzan.read(tmp_path).tracks
    assert track.descriptors == tuple(number / 8 for number in range(57))


@pytest.mark.parametrize("drop", [("tempo",), ("label",), ("filename", "mfcc20_var")])
def test_a_table_without_a_column_is_refused(tmp_path: Path, drop: tuple[str, ...]) -> None:
    path = write_table(tmp_path / "features_30_sec.csv", row("pop.00000.wav"), drop=drop)
    write_clip(tmp_path / "genres_original/pop/pop.00000.wav")
    with pytest.raises(InputError) as caught:
        gtzan.read(tmp_path)
    assert caught.value.path == path
    assert ", ".join(drop) in caught.value.cause
    assert "features_30_sec.csv" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00binary\x80"], ids=["empty", "not text"])
def test_a_table_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "features_30_sec.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"features_30_sec\.csv: "):
        gtzan.read(tmp_path)


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (row("pop.00001.wav", tempo="fast"), "line 3 (pop.00001.wav) has no finite number in "
         "column tempo"),
        (row("pop.00001.wav", mfcc20_var="nan"), "column mfcc20_var"),
        (row("pop.00001.wav", rms_mean="inf"), "column rms_mean"),
        (row("pop.00001.wav", rms_mean=""), "column rms_mean"),
        (row("pop.00001.wav", label="rock"), "is labelled 'rock'"),
        (row("polka.00001.wav"), "not one of GTZAN's 1000 clips"),
        (row("", label="pop"), "without a file name"),
    ],
    ids=["a word", "NaN", "infinite", "blank", "label against name", "no such genre", "no name"],
)  # fmt: skip
def test_a_bad_line_of_the_table_is_a_problem_and_the_others_are_read(
    tmp_path: Path, bad: dict[str, object], cause: str
) -> None:
    write_table(tmp_path / "features_30_sec.csv", row("pop.00000.wav"), bad, row("pop.00002.wav"))
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["pop.00000", "pop.00002"]
    (problem,) = dataset.problems
    assert cause in problem.cause


def test_a_table_that_breaks_off_in_a_line_loses_that_line_only(tmp_path: Path) -> None:
    path = write_table(tmp_path / "features_30_sec.csv", row("pop.00000.wav"), row("pop.00001.wav"))
    path.write_bytes(path.read_bytes()[:-60])
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["pop.00000"]
    assert "pop.00001.wav" in dataset.problems[0].cause


def test_of_two_lines_that_agree_one_is_used_and_of_two_that_do_not_none(tmp_path: Path) -> None:
    write_table(
        tmp_path / "features_30_sec.csv",
        row("pop.00000.wav"),
        row("pop.00000.wav"),
        row("pop.00001.wav"),
        row("pop.00001.wav", tempo=99),
        row("pop.00002.wav"),
    )
    dataset = gtzan.read(tmp_path)
    assert ids(dataset) == ["pop.00000", "pop.00002"]
    assert len(dataset.problems) == 2
    assert all("further line" in problem.cause for problem in dataset.problems)


def test_artists_come_from_the_index_spelt_alike(tmp_path: Path) -> None:
    write_table(
        tmp_path / "features_30_sec.csv", *(row(f"disco.0000{number}.wav") for number in range(6))
    )
    index = tmp_path / "metadata/GTZANindex.txt"
    index.parent.mkdir()
    index.write_text(
        "## B. L. Sturm\n"
        "disco.00000.wav ::: Earth, Wind & Fire ::: September\n"
        "disco.00001.wav ::: Earth  Wind And  FIRE :::\n"
        "disco.00002.wav ::: ::: \n"
        "disco.00003.wav ::: ::: A Title: Nobody's\n"
        "disco.00004.wav ::: Chic \n"
    )
    groups = [track.group for track in gtzan.read(tmp_path).tracks]
    assert groups == ["earth wind and fire", "earth wind and fire", None, None, "chic", None]


def test_without_the_index_no_artist_is_known(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/pop/pop.00000.wav")
    dataset = gtzan.read(tmp_path)
    assert dataset.tracks[0].group is None
    assert not any("Artists" in note for note in dataset.notes)


def test_the_filtered_lists_keep_to_the_tracks_there_are(tmp_path: Path) -> None:
    for track in ("blues.00029", "blues.00000", "blues.00012", "metal.00058"):
        write_clip(tmp_path / f"genres/{track.partition('.')[0]}/{track}.wav")
    lists = gtzan.read(tmp_path).lists["filtered"]
    assert (lists.train, lists.valid, lists.test) == (
        ("blues.00029",),
        ("blues.00000",),
        ("blues.00012",),
    )


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        gtzan.read(tmp_path / "nowhere")
    file = tmp_path / "genres.tar.gz"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="a file, not a folder"):
        gtzan.read(file)


def test_a_folder_with_nothing_of_gtzan_says_which_layouts_are_understood(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("sun")
    with pytest.raises(InputError) as caught:
        gtzan.read(tmp_path)
    for layout in ("features_30_sec.csv", "images_original", "genres_original", "genres/"):
        assert layout in caught.value.remedy


def test_a_folder_with_only_the_segment_table_says_so(tmp_path: Path) -> None:
    (tmp_path / "features_3_sec.csv").write_text("filename\n")
    with pytest.raises(InputError, match=r"features_3_sec\.csv, which is not read"):
        gtzan.read(tmp_path)


def test_a_folder_without_one_usable_track_names_the_first_problem(tmp_path: Path) -> None:
    clip = tmp_path / "genres/pop/pop.00000.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"")
    with pytest.raises(InputError, match=r"no track could be read.*pop\.00000\.wav.*0 bytes"):
        gtzan.read(tmp_path)


def test_is_gtzan_tells_gtzan_from_music_sorted_by_genre(tmp_path: Path) -> None:
    write_clip(tmp_path / "own/rock/My Band - Song.mp3")
    write_clip(tmp_path / "copy/rock/rock.00000.mp3")
    write_image(tmp_path / "pictures/images_original/rock/rock00000.png")
    (tmp_path / "void").mkdir()
    assert not gtzan.judge(tmp_path / "own").is_gtzan
    assert not gtzan.judge(tmp_path / "void").is_gtzan
    assert not gtzan.judge(tmp_path / "nowhere").is_gtzan
    assert gtzan.judge(tmp_path / "copy").is_gtzan
    assert gtzan.judge(tmp_path / "pictures").is_gtzan


@pytest.mark.parametrize(
    "spelling", ["hiphop", "hip-hop", "Hip-Hop", "HipHop", "hip hop", "HIP HOP", "hip_hop"]
)
@pytest.mark.parametrize("name", ["hiphop.00000.wav", "Hip-Hop.00000.WAV", "HIPHOP.00000.wav"])
def test_genres_are_gtzans_in_any_spelling(tmp_path: Path, spelling: str, name: str) -> None:
    write_clip(tmp_path / "Genres_Original/ROCK/rock.00001.wav")
    clip = write_clip(tmp_path / "Genres_Original" / spelling / name)
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.findings) == ("gtzan", ())
    assert {track.id: track.audio for track in dataset.tracks}["hiphop.00000"] == clip


def test_a_label_in_the_table_may_be_spelt_in_any_way(tmp_path: Path) -> None:
    write_table(tmp_path / "features_30_sec.csv", row("hiphop.00000.wav", label="Hip-Hop"))
    assert ids(gtzan.read(tmp_path)) == ["hiphop.00000"]


OWN = {
    "another genre": "rock/rock.00000 rock/rock.00001 jazz/jazz.00000 lofi/1",
    "another genre, named as GTZAN": "rock/rock.00000 rock/rock.00001 happy/rock.00002",
    "one name of GTZAN": "rock/a rock/b rock/rock.00005 jazz/a jazz/b",
    "a genre of which nothing is GTZAN's": "rock/rock.00000 rock/rock.00001 rock/rock.00002 jazz/a",
    "numbers beyond 99": "rock/rock.00001 rock/rock.00100 rock/rock.00101 rock/rock.00102",
    "another genre in a layout": "genres/rock/rock.00000 genres/rock/rock.00001 genres/lofi/1",
    "another genre in Kaggle's": "genres_original/rock/rock.00000 genres_original/lofi/1",
    "one folder deeper": "x/rock/rock.00000 x/rock/rock.00001 x/lofi/1",
    "deep within a genre": "jazz/blues/blues.00001 jazz/1 lofi/2 lofi/3",
}


@pytest.mark.parametrize("files", OWN.values(), ids=OWN)
def test_a_folder_with_genres_or_files_of_ones_own_is_ones_own(tmp_path: Path, files: str) -> None:
    for number, file in enumerate(files.split()):
        write_clip(tmp_path / f"{file}.wav", seconds=0.1 + number / 100)
    dataset = open_dataset(tmp_path)
    assert len(dataset.tracks) == len(files.split())
    assert {t.genre for t in dataset.tracks} == {
        file.removeprefix("genres/").removeprefix("genres_original/").removeprefix("x/")
        .partition("/")[0]
        for file in files.split()
    }  # fmt: skip
    (remark,) = dataset.remarks
    assert "it is read as your own genres" in remark.cause
    assert "--layout gtzan" in remark.remedy
    forced = open_dataset(tmp_path, layout=Layout.GTZAN, allow_missing_genres=True)
    assert forced.name == "gtzan"
    assert len(forced.tracks) + len(forced.findings) == len(files.split())


GTZAN = {
    "one stray": "genres/rock/rock.00000 genres/rock/rock.00001 genres/rock/mine",
    "parts of clips": "rock/rock.00000 rock/rock.00000.0 rock/rock.00000.1 rock/rock.00000.2",
    "copies elsewhere": "genres_original/rock/rock.00000 backup/rock.00000 backup/rock.00001",
}


@pytest.mark.parametrize("files", GTZAN.values(), ids=GTZAN)
def test_gtzan_with_strays_is_gtzan_and_the_strays_are_named(tmp_path: Path, files: str) -> None:
    for number, file in enumerate(files.split()):
        write_clip(tmp_path / f"{file}.wav", seconds=0.1 + number / 100)
    dataset = open_dataset(tmp_path)
    assert dataset.name == "gtzan"
    named = {finding.path for finding in dataset.findings if finding.kind != "noted"}
    assert named | {track.audio for track in dataset.tracks} == {*tmp_path.rglob("*.wav")}
    assert any("--layout folder" in remark.remedy for remark in dataset.remarks) == (
        "mine" in files
    )


def test_gtzan_beside_another_genre_is_refused_unless_the_layout_is_given(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres_original/rock/rock.00000.wav")
    write_clip(tmp_path / "genres_original/jazz/jazz.00000.wav", seconds=0.3)
    write_clip(tmp_path / "lofi/mine.wav", seconds=0.4)
    with pytest.raises(InputError, match="'lofi' is not one of GTZAN's genres") as caught:
        open_dataset(tmp_path)
    assert "--layout gtzan" in caught.value.remedy
    dataset = open_dataset(tmp_path, layout=Layout.GTZAN)
    assert dataset.counts == {"jazz": 1, "rock": 1}
    assert [finding.path.name for finding in dataset.findings] == ["mine.wav"]
    assert open_dataset(tmp_path, layout=Layout.FOLDER).genres == ("genres_original", "lofi")


def test_further_copies_of_a_clip_are_named_and_no_problem(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "genres/rock/rock.00000.wav")
    other = write_clip(tmp_path / "genres/rock/rock.00000.mp3")
    dataset = open_dataset(tmp_path)
    assert dataset.tracks[0].audio == clip
    assert [(f.kind, f.path) for f in dataset.findings] == [("unused", other)]
    assert dataset.problems == ()


def test_a_genre_of_gtzan_without_a_clip_is_an_error_unless_allowed(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/rock/rock.00000.wav")
    (tmp_path / "genres/Jazz").mkdir()
    with pytest.raises(InputError, match="no track can be used of the genre 'jazz'"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, allow_missing_genres=True).missing_genres == ("jazz",)


def test_a_clip_that_is_no_regular_file_is_named_and_not_opened(tmp_path: Path) -> None:
    write_clip(tmp_path / "genres/rock/rock.00000.wav")
    os.mkfifo(tmp_path / "genres/rock/rock.00001.wav")
    os.mkfifo(tmp_path / "genres/rock/rock00001.png")
    (problem,) = open_dataset(tmp_path).problems
    assert problem.cause == "it is a pipe, not a regular file"


@pytest.mark.parametrize(
    ("encoding", "delimiter", "end"),
    [("utf-8-sig", ";", "\r\n"), ("utf-16", "\t", "\r\n"), ("utf-8", "\t", "\r")],
)
def test_the_table_may_have_been_saved_by_a_spreadsheet(
    tmp_path: Path, encoding: str, delimiter: str, end: str
) -> None:
    path = write_table(tmp_path / "features_30_sec.csv", row("pop.00000.wav"))
    with path.open(newline="") as file:
        cells = list(csv.reader(file))
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(cells)
    (track,) = gtzan.read(tmp_path).tracks
    assert track.descriptors == tuple(number / 8 for number in range(57))


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(gtzan.track_ids()), st.sampled_from([*gtzan.AUDIO_SUFFIXES, ".au.wav"]))
def test_every_track_is_known_by_its_file_name(
    tmp_path_factory: pytest.TempPathFactory, track: str, suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("one")
    genre = track.partition(".")[0]
    write_table(folder / "features_30_sec.csv", row(f"{track}{suffix}", label=genre))
    (found,) = gtzan.read(folder).tracks
    assert (found.id, found.genre) == (track, genre)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=57, max_size=57))
def test_descriptors_come_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("row")
    cells = dict(zip(TABLE_COLUMNS, values, strict=True))
    write_table(folder / "features_30_sec.csv", row("blues.00000.wav", **cells))
    (track,) = gtzan.read(folder).tracks
    assert track.descriptors == tuple(values)


def test_the_filtered_lists_are_the_published_ones_in_size_and_do_not_overlap() -> None:
    lists = gtzan.filtered_lists()
    parts = (lists.train, lists.valid, lists.test)
    assert [len(part) for part in parts] == [443, 197, 290]
    assert all(list(part) == sorted(part) for part in parts)
    assert len({*lists.train, *lists.valid, *lists.test}) == 930
    assert "jazz.00054" in lists.train


def test_the_filtered_lists_leave_out_seventy_tracks_each_of_them_known_as_faulty() -> None:
    lists = gtzan.filtered_lists()
    left_out = {*gtzan.track_ids()} - {*lists.train, *lists.valid, *lists.test}
    assert Counter(track.partition(".")[0] for track in left_out) == {
        "pop": 16,
        "reggae": 14,
        "jazz": 13,
        "metal": 9,
        "hiphop": 8,
        "disco": 7,
        "country": 2,
        "classical": 1,
    }
    faults = gtzan.known_faults()
    assert all("left out of the filtered lists" in faults[track] for track in left_out)
    # Of one alone nothing more is known than that it is left out.
    assert [track for track in left_out if len(faults[track]) == 1] == ["country.00052"]


def test_of_each_identical_pair_the_filtered_lists_keep_one() -> None:
    lists = gtzan.filtered_lists()
    kept = {*lists.train, *lists.valid, *lists.test}
    assert len(gtzan.IDENTICAL) == 14
    for pair in gtzan.IDENTICAL:
        assert len(kept & {*pair}) == 1


def test_a_pair_across_two_labels_is_known_on_both_sides() -> None:
    faults = gtzan.known_faults()
    assert any("identical to rock.00016, which bears another" in f for f in faults["metal.00058"])
    assert any("identical to metal.00058, which bears another" in f for f in faults["rock.00016"])
    assert "blues.00000" not in faults


def test_there_are_57_columns_in_the_published_order() -> None:
    assert len(TABLE_COLUMNS) == len({*TABLE_COLUMNS}) == 57
    assert TABLE_COLUMNS[0] == "chroma_stft_mean"
    assert TABLE_COLUMNS[16] == "tempo"
    assert TABLE_COLUMNS[-1] == "mfcc20_var"


@needs_gtzan
def test_the_real_table_has_those_columns_in_that_order() -> None:
    with (REAL / "features_30_sec.csv").open() as file:
        header = file.readline().strip().split(",")
    assert header == ["filename", "length", *TABLE_COLUMNS, "label"]


@needs_gtzan
def test_the_real_folder_is_read_whole() -> None:
    dataset = gtzan.read(REAL)
    assert ids(dataset) == list(gtzan.track_ids())
    assert dataset.problems == ()
    assert dataset.counts == dict.fromkeys(GENRES, 100)
    assert all(track.descriptors is not None for track in dataset.tracks)
    assert [track.id for track in dataset.tracks if track.image is None] == ["jazz.00054"]
    first = dataset.tracks[0]
    assert first.descriptors is not None
    assert first.descriptors[0] == 0.35008811950683594
    assert all(map(math.isfinite, first.descriptors))
    assert first.group == "john lee hooker"
    filtered = dataset.lists["filtered"]
    assert [len(filtered.train), len(filtered.valid), len(filtered.test)] == [443, 197, 290]


@needs_gtzan
def test_the_real_folder_states_its_counts() -> None:
    dataset = gtzan.read(REAL)
    heard = {track.id: track.audio_variant for track in dataset.tracks if track.audio is not None}
    counts = Counter(heard.values())
    assert (
        f"1000 with a table row, 999 with an image, {counts['full']} with full audio, "
        f"{counts['full-16k']} with full audio at 16 kHz only, {counts['excerpt']} with an excerpt"
    ) in dataset.notes[0]
    assert counts["full"] == len(list((REAL / "genres_original").glob("*/*.*")))
    test = Counter(track.partition(".")[0] for track in dataset.lists["filtered"].test)
    heard_test = Counter(
        track.partition(".")[0] for track in dataset.lists["filtered"].test if track in heard
    )
    assert (heard_test["classical"], test["classical"]) == (22, 31)
    assert (heard_test["jazz"], test["jazz"]) == (0, 27)
    assert sum(heard_test.values()) == 100


@needs_gtzan
@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_the_packaged_lists_are_the_public_ones(part: str) -> None:
    lines = (REAL / f"splits/{part}_filtered.txt").read_text().split()
    public = sorted(line.split("/")[1].removesuffix(".wav") for line in lines)
    assert list(getattr(gtzan.filtered_lists(), part)) == public


@needs_gtzan
def test_exactly_the_pairs_known_as_identical_have_the_same_row() -> None:
    by_row: dict[object, list[str]] = {}
    for track in gtzan.read(REAL).tracks:
        by_row.setdefault(track.descriptors, []).append(track.id)
    assert {tuple(same) for same in by_row.values() if len(same) > 1} == set(gtzan.IDENTICAL)


@needs_gtzan
def test_tracks_known_as_the_same_piece_have_the_same_artist() -> None:
    groups = {track.id: track.group for track in gtzan.read(REAL).tracks}
    pairs = [
        (track, fault.rpartition(" ")[2])
        for track, faults in gtzan.known_faults().items()
        for fault in faults
        if fault.startswith("same piece as ")
    ]
    assert len(pairs) == 54
    assert all(groups[track] == groups[other] is not None for track, other in pairs)


def test_opening_a_clip_looks_at_its_header_only(tmp_path: Path) -> None:
    path = tmp_path / "genres/pop/pop.00000.wav"
    path.parent.mkdir(parents=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(bytes(2 * 22050))
    assert gtzan.audio_fault(path) is None
    assert gtzan.audio_fault(tmp_path / "gone.wav") == "no such file"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of table rows: of every identical pair, and of ten tracks of each genre."""
    folder = tmp_path_factory.mktemp("pairs")
    tracks = {*(track for pair in gtzan.IDENTICAL for track in pair)}
    tracks |= {f"{genre}.{number:05d}" for genre in GENRES for number in range(10)}
    write_table(folder / "features_30_sec.csv", *(row(f"{track}.wav") for track in sorted(tracks)))
    (folder / "metadata").mkdir()
    return folder


@settings(max_examples=15, deadline=None)
@given(
    artists=st.dictionaries(
        st.sampled_from(
            [
                *(track for pair in gtzan.IDENTICAL for track in pair),
                "blues.00000",
                "rock.00001",
                "jazz.00002",
            ]
        ),
        st.sampled_from(["Dio", "Queen", "Iron Maiden", "The Ten", "Someone"]),
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_identical_tracks_stand_on_one_side_whatever_the_index_lacks(
    pairs: Path, artists: dict[str, str], seed: int
) -> None:
    lines = [f"{track}.wav ::: {artist} ::: a song\n" for track, artist in artists.items()]
    (pairs / gtzan.INDEX).write_text("".join(lines))
    dataset = gtzan.read(pairs)
    for protocol in ("filtered", "grouped"):
        try:
            splits = PROTOCOLS[protocol].splits(dataset, seed)
        except GenrescopeError as error:
            assert "artist" in str(error)
            assert not artists or len(dataset.genres) < 10 or "too few" in str(error)
            continue
        for split in splits:
            side = {
                id_: part for part in ("train", "valid", "test") for id_ in getattr(split, part)
            }
            for one, other in gtzan.IDENTICAL:
                assert protocol == "filtered" or side[one] == side[other]
                assert len({side.get(one), side.get(other)} - {None}) == 1


def test_without_an_index_no_track_has_an_artist(pairs: Path) -> None:
    (pairs / gtzan.INDEX).unlink(missing_ok=True)
    dataset = gtzan.read(pairs)
    assert {track.group for track in dataset.tracks} == {None}
    with pytest.raises(GenrescopeError, match=r"GTZANindex\.txt"):
        PROTOCOLS["grouped"].splits(dataset, 0)


@needs_gtzan
def test_no_pair_of_the_real_tracks_is_parted_by_an_honest_protocol() -> None:
    dataset = gtzan.read(REAL)
    groups = {track.id: track.group for track in dataset.tracks}
    assert all(groups[one] == groups[other] is not None for one, other in gtzan.IDENTICAL)
    for seed in range(3):
        for split in PROTOCOLS["grouped"].splits(dataset, seed):
            side = {
                id_: part for part in ("train", "valid", "test") for id_ in getattr(split, part)
            }
            assert all(side[one] == side[other] for one, other in gtzan.IDENTICAL)
            assert "jazz.00054" in side  # its row and artist are good, whatever its audio is


@needs_gtzan
def test_the_real_corrupt_clip_has_a_row_and_neither_audio_nor_picture() -> None:
    (track,) = (track for track in gtzan.read(REAL).tracks if track.id == "jazz.00054")
    assert track.audio is None
    assert track.image is None
    assert track.descriptors is not None
    assert "audio corrupt in the common copy, and no picture published" in track.faults
