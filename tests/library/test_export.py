"""Exports of a catalogue: what playlists leave out and how they name files; tables keep all."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from genrescope.classifier import Classifier, Prediction
from genrescope.cli.app import app
from genrescope.errors import GenrescopeError
from genrescope.library import export, scan
from genrescope.library.catalogue import Catalogue, CatalogueTrack
from genrescope.library.export import write_playlists

ANSWERS = {
    "sure/1.mp3": ("jazz", 0.9, False, False),
    "sure/2.mp3": ("rock", 0.8, False, False),
    "doubtful/3.mp3": ("rock", 0.4, True, False),
    "strange/4.mp3": ("pop", 0.7, False, True),
    "strange/5.mp3": ("jazz", 0.3, False, True),
    "broken/6.mp3": None,
}


def known(path: Path | str, genre: str = "jazz", **more: bool) -> CatalogueTrack:
    found = Prediction(genre, 0.6, more.get("unsure", False), {genre: 0.6}, {}, (), **more)
    return CatalogueTrack(Path(path), 1, 1, None, "0123456789abcdef", found, None)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return (tmp_path / "music").resolve()


@pytest.fixture
def db(tmp_path: Path, music: Path) -> Path:
    for name in ANSWERS:
        (music / name).parent.mkdir(parents=True, exist_ok=True)
        (music / name).write_bytes(name.encode())
    classifier = Classifier.default()
    with Catalogue(tmp_path / "library.db", write=True) as catalogue:
        scan.survey(catalogue, music)
        model = catalogue.model(classifier)
        for file in list(catalogue.waiting(str(music), model)):
            answer = ANSWERS[file.path.relative_to(music).as_posix()]
            if answer is None:
                result = GenrescopeError("it is damaged. Replace it.")
            else:
                genre, share, unsure, other = answer
                shares = dict.fromkeys(classifier.genres, 0.01) | {genre: share}
                found = Prediction(genre, share, unsure, shares, {"guitar": 0.5}, (), other)
                result = found, np.zeros(classifier.embedding_width, np.float16)
            catalogue.save(file.row, file.path.stat(), None, model, result)
    with Catalogue(tmp_path / "library.db") as catalogue:  # unsure is derived from the confidence
        kept = {one.path.name: one.prediction for one in catalogue.tracks()}
    assert [name for name, found in kept.items() if found and found.unsure] == ["3.mp3"]
    return tmp_path / "library.db"


def run(db: Path, *words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["export", "--db", str(db), *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def lists(folder: Path) -> dict[str, list[str]]:
    return {
        path.stem: path.read_text(encoding="utf-8").splitlines()[2:]
        for path in sorted(folder.iterdir())
    }


def test_playlists_leave_out_what_is_unsure_or_other_and_say_so(
    db: Path, music: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lists"
    done = run(db, "--format", "m3u", "--out", out)
    assert lists(out) == {"jazz": [f"{music}/sure/1.mp3"], "rock": [f"{music}/sure/2.mp3"]}
    shown = " ".join(done.stderr.split())
    assert "lists: jazz 1, rock 1 " in shown
    assert f"1 left out: unsure; see --include-unsure (such as {music}/doubtful/3.mp3)" in shown
    assert "2 left out: none of the model's genres; see --include-other (such as" in shown
    assert "1 left out: there is no genre, as the file could not be read (such as" in shown


def test_they_are_added_when_asked_for(db: Path, music: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    done = run(db, "--format", "m3u", "--out", both, "--include-unsure", "--include-other")
    assert {name: len(lines) for name, lines in lists(both).items()} == {
        "jazz": 1,
        "other": 2,
        "rock": 2,
    }
    assert "unsure" not in done.stderr
    one = tmp_path / "one"
    run(db, "--format", "m3u", "--out", one, "--include-unsure")
    assert set(lists(one)) == {"jazz", "rock"}
    assert f"{music}/doubtful/3.mp3" in lists(one)["rock"]


@pytest.mark.parametrize("place", ["lists", "music/lists", "music/sure/a/b"])
def test_relative_paths_lead_to_the_files(
    db: Path, music: Path, tmp_path: Path, place: str
) -> None:
    out = tmp_path / place
    run(db, "--format", "m3u", "--out", out, "--relative")
    for name, file in (("jazz", "sure/1.mp3"), ("rock", "sure/2.mp3")):
        (line,) = lists(out)[name]
        assert not line.startswith("/")
        assert (out / line).samefile(music / file)


def test_relative_paths_begin_where_a_link_leads(db: Path, music: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    run(db, "--format", "m3u", "--out", tmp_path / "link", "--relative")
    (line,) = lists(tmp_path / "link")["jazz"]
    assert line == "../../music/sure/1.mp3"


def test_a_name_with_a_hash_is_no_comment(tmp_path: Path) -> None:
    out = tmp_path / "music"
    write_playlists([known(out.resolve() / "#1 hits" / "song.mp3")], out, relative=True)
    assert lists(out) == {"jazz": ["./#1 hits/song.mp3"]}


def test_a_file_on_another_drive_has_no_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def relpath(path: Path, base: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", relpath)
    done = write_playlists([known(tmp_path / "song.mp3")], tmp_path / "lists", relative=True)
    assert list(done.left_out) == ["on another drive than the playlists"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_relative_path_may_be_text_where_the_whole_is_not(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    tracks = [known(odd / "song.mp3"), known(odd / "two\nlines.mp3")]
    assert len(write_playlists(tracks, odd, relative=True).left_out) == 1
    assert lists(odd) == {"jazz": ["song.mp3"]}
    assert not write_playlists(tracks, tmp_path / "lists").counts


@pytest.mark.parametrize("option", ["--include-unsure", "--include-other", "--relative"])
def test_options_of_playlists_are_refused_elsewhere(db: Path, option: str) -> None:
    assert f"{option} is for --format m3u" in run(db, "--format", "csv", option, code=2).output


def test_tables_keep_every_row_with_what_it_is(db: Path, tmp_path: Path) -> None:
    meant = {
        name: (str(answer[2]).lower(), str(answer[3]).lower()) if answer else ("", "")
        for name, answer in ANSWERS.items()
    }
    done = run(db, "--format", "csv")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    found = {"/".join(Path(row["path"]).parts[-2:]): (row["unsure"], row["other"]) for row in rows}
    assert found == meant
    assert not done.stderr
    objects = map(json.loads, run(db, "--format", "jsonl").stdout.splitlines())
    states = [(one["unsure"], one["other"]) for one in objects]
    assert sorted(states, key=str) == sorted(
        ((answer[2], answer[3]) if answer else (None, None) for answer in ANSWERS.values()), key=str
    )


def test_parquet_keeps_every_row(db: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "genres.parquet"
    run(db, "--format", "parquet", "--out", out)
    rows = pq.read_table(out, columns=["unsure", "other"]).to_pylist()
    assert len(rows) == len(ANSWERS)
    assert sum(bool(row["unsure"]) for row in rows) == 1
    assert sum(bool(row["other"]) for row in rows) == 2


@pytest.mark.parametrize("form", ["csv", "jsonl", "m3u"])
def test_a_minimum_says_what_it_leaves_out(db: Path, tmp_path: Path, form: str) -> None:
    out = ("--out", tmp_path / "lists") if form == "m3u" else ()
    done = run(db, "--format", form, "--min-confidence", 0.85, *out)
    shown = " ".join(done.stderr.split())
    assert "2 left out: confidence below 0.85 (such as" in shown
    assert "2 left out: none of the model's genres (such as" in shown
    assert "1 left out: there is no genre" in shown
    if form != "m3u":
        assert len(done.stdout.splitlines()) == (2 if form == "csv" else 1)


def test_every_left_out_track_is_counted_once(db: Path) -> None:
    with Catalogue(db) as catalogue:
        for minimum in (0.0, 0.35, 0.5, 0.95, 1.0):
            done = export.Written()
            kept = list(export.confident(catalogue.tracks(), minimum, done))
            left = sum(count for count, _ in done.left_out.values())
            assert len(kept) + left == len(ANSWERS)
