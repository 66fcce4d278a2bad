"""The catalogue as JAMS files, read back by the jams library, which checks them by its schemata."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import genrescope
from genrescope.classifier import Prediction
from genrescope.cli.app import app
from genrescope.errors import InputError
from genrescope.io import read_back
from genrescope.library.catalogue import CatalogueTrack
from genrescope.library.export import Written, write_jams

jams = pytest.importorskip("jams")

MOODS = Prediction("calm", 0.6, True, {"calm": 0.6, "wild": 0.3, "odd": 0.1}, {})
Tone = Callable[..., Path]


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def known(path: Path, prediction: Prediction | None = MOODS) -> CatalogueTrack:
    return CatalogueTrack(path, 1, 1, None, "0123456789abcdef", prediction, None)


def read(folder: Path) -> list[Any]:
    return [jams.load(str(path), validate=True) for path in sorted(folder.iterdir())]


def observed(annotation: Any) -> dict[str, float]:
    return {one.value: one.confidence for one in annotation.data}


def test_a_library_becomes_one_valid_file_for_each_track(tmp_path: Path) -> None:
    library, db, out = tmp_path / "music", tmp_path / "music.db", tmp_path / "jams"
    for album in ("a", "b"):
        (library / album).mkdir(parents=True)
        shutil.copy(genrescope.sample("pulse"), library / album / "01.mp3")  # names repeat
    shutil.copy(genrescope.sample("lament"), library / "lament.mp3")
    (library / "letter.mp3").write_text("no music")
    assert run("scan", library, "--db", db, "--workers", 1).exit_code == 1
    for _ in range(2):  # the second time over the first
        done = run("export", library, "--format", "jams", "--out", out, "--db", db)
        assert done.exit_code == 0, done.output
        assert "tracks 3" in done.stderr
        assert len(list(out.iterdir())) == 3

    files = {file.sandbox["path"]: file for file in read(out)}
    assert set(files) == {str(library / name) for name in ("a/01.mp3", "b/01.mp3", "lament.mp3")}
    file = files[str(library / "lament.mp3")]
    meant = genrescope.load().predict(library / "lament.mp3")
    assert file.file_metadata.title == "lament.mp3"
    assert file.file_metadata.duration == pytest.approx(12, abs=8)
    genres, tags = file.annotations
    assert (genres.namespace, tags.namespace) == ("tag_gtzan", "tag_open")
    assert next(iter(observed(genres))) == meant.genre
    assert observed(genres) == pytest.approx(
        {name: meant.probabilities[name] for name in meant.likely}, abs=2e-3
    )
    assert genres.sandbox["probabilities"]["hip-hop"] == pytest.approx(
        meant.probabilities["hiphop"], abs=2e-3
    )
    assert len(tags.data) == 5
    assert list(observed(tags)) == list(meant.tags)[:5]
    for annotation in (genres, tags):
        assert annotation.annotation_metadata.annotator["model"] == genrescope.load().key
        assert genrescope.__version__ in annotation.annotation_metadata.annotation_tools
        assert {one.duration for one in annotation.data} == {file.file_metadata.duration}


def test_genres_of_ones_own_are_open_tags(tone: Tone, tmp_path: Path) -> None:
    clip = tone(tmp_path / "x.au", seconds=1.5)
    assert write_jams([known(clip)], tmp_path / "out") == Written({"tracks": 1})
    (file,) = read(tmp_path / "out")
    assert file.file_metadata.duration == pytest.approx(1.5)
    (annotation,) = file.annotations
    assert annotation.namespace == "tag_open"
    assert observed(annotation) == {"calm": 0.6, "wild": 0.3}
    assert annotation.sandbox["probabilities"] == MOODS.probabilities
    assert file.sandbox["unsure"] is True
    assert file.sandbox["other"] is False


def test_what_is_other_has_no_genre(tone: Tone, tmp_path: Path) -> None:
    other = replace(MOODS, other=True, unsure=False, tags={"slow": 0.9})
    assert write_jams([known(tone(tmp_path / "x.wav"), other)], tmp_path / "out").counts == {
        "tracks": 1
    }
    (file,) = read(tmp_path / "out")
    genres, tags = file.annotations
    assert observed(genres) == {}
    assert genres.sandbox["probabilities"] == MOODS.probabilities
    assert observed(tags) == {"slow": 0.9}
    assert (file.sandbox["other"], file.sandbox["unsure"]) == (True, False)


def test_what_has_no_answer_or_no_length_is_left_out(tone: Tone, tmp_path: Path) -> None:
    clips = [known(tone(tmp_path / "x.wav")), known(tmp_path / "y.wav", None)]
    (tmp_path / "text.wav").write_text("no music")
    clips += [known(tmp_path / "gone.mp3"), known(tmp_path / "text.wav")]
    done = write_jams(clips, tmp_path / "out")
    assert done.counts == {"tracks": 1}
    assert done.left_out == {
        "there is no genre, as the file could not be read": (1, tmp_path / "y.wav"),
        "the length cannot be read": (2, tmp_path / "gone.mp3"),
    }
    assert len(read(tmp_path / "out")) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_any_file_name_will_do(tone: Tone, tmp_path: Path) -> None:
    long = "\N{MUSICAL SYMBOL G CLEF}" * 60
    names = ["a:b?.wav", "a*b|.wav", "...wav", "line\nbreak.wav", f"{long}.wav", "b\udcff.wav"]
    music, out = tmp_path / "music", tmp_path / "out"
    tone(tmp_path / "clip.wav")
    music.mkdir()
    for name in names:
        shutil.copy(tmp_path / "clip.wav", music / name)
    done = write_jams([known(music / name) for name in names], out)
    assert done == Written({"tracks": len(names)})
    assert {read_back(file.sandbox["path"]) for file in read(out)} == {
        str(music / name) for name in names
    }
    titles = {file.file_metadata.title for file in read(out)}
    assert titles == {os.fsencode(name).decode(errors="replace") for name in names}


def test_a_folder_that_cannot_be_written_is_reported(tone: Tone, tmp_path: Path) -> None:
    clip = tone(tmp_path / "x.wav")
    with pytest.raises(InputError, match=r"x\.wav: it is not a folder.*--out"):
        write_jams([known(clip)], clip)
    refused = run("export", "--format", "jams", "--db", tmp_path / "none.db")
    assert refused.exit_code == 2
    assert "needs a folder" in refused.stderr


def test_a_file_is_written_whole_or_not_at_all(tone: Tone, tmp_path: Path) -> None:
    clip, out = known(tone(tmp_path / "x.wav")), tmp_path / "out"
    write_jams([clip], out)
    (made,) = out.iterdir()
    made.unlink()
    made.mkdir()  # so that the finished file cannot take its place
    with pytest.raises(InputError, match="it is a folder"):
        write_jams([clip], out)
    assert list(out.iterdir()) == [made]
