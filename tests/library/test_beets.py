"""The beets plugin, in real beets, on a real library."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mutagen
import pytest
import soundfile

import genrescope
from named_model import named_model

pytest.importorskip("beets")

# The third sample makes the classifier unsure.
SURE = {"lament": ["Classical"], "shuffle": ["Jazz"]}

SOURCE = """
from beets.autotag.hooks import TrackInfo
from beets.metadata_plugins import MetadataSourcePlugin


class KnowallPlugin(MetadataSourcePlugin):
    def item_candidates(self, item, artist, title):
        return [TrackInfo(title=title, artist=artist, track_id="1", data_source="knowall")]

    def candidates(self, *args):
        return []

    def album_for_id(self, *args):
        return None

    def track_for_id(self, *args):
        return None
"""


class Beets:
    """A library of three tracks: an MP3 and a FLAC without genre, and an MP3 with one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.music = home / "music"
        self.music.mkdir()
        shutil.copy(genrescope.sample("lament"), self.music / "lament.mp3")
        shutil.copy(genrescope.sample("lament"), self.music / "polka.mp3")
        samples, sampling_rate = soundfile.read(genrescope.sample("shuffle"))
        soundfile.write(self.music / "shuffle.flac", samples, sampling_rate)
        for number, (path, more) in enumerate(
            (("lament.mp3", {}), ("shuffle.flac", {}), ("polka.mp3", {"genre": "Polka"})), 1
        ):
            tags = {"title": path.split(".")[0], "artist": "A", "album": "B", **more}
            file = mutagen.File(self.music / path, easy=True)
            if file.tags is None:
                file.add_tags()
            file.update({**tags, "tracknumber": str(number)})
            file.save()
        self.configure(auto="no")

    def configure(self, top: str = "", **settings: object) -> None:
        lines = "".join(f"  {name}: {value}\n" for name, value in settings.items())
        (self.home / "config.yaml").write_text(
            f"directory: {self.home / 'library'}\nlibrary: {self.home / 'library.db'}\n"
            f"plugins: genrescope\nui: {{color: no}}\n{top}\n"
            + (f"genrescope:\n{lines}" if lines else ""),
            encoding="utf-8",
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "beets", *arguments],
            env={**os.environ, "BEETSDIR": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def add(self, *arguments: str, code: int = 0) -> str:
        return self.run("import", "-A", "-q", "--nocopy", *arguments, str(self.music), code=code)

    def genres(self, table: str = "items", name: str = "title") -> dict[str, list[str]]:
        """What the library says of each track; asked of its database, which is quicker."""
        with closing(sqlite3.connect(self.home / "library.db")) as database:
            rows = database.execute(f"SELECT {name}, genres FROM {table}").fetchall()  # noqa: S608
        return {title: genres.split("\\␀") if genres else [] for title, genres in rows}

    def tags(self) -> dict[str, list[str]]:
        """What each file says."""
        return {
            path.stem: list(mutagen.File(path, easy=True).get("genre", []))
            for path in sorted(self.music.iterdir())
        }


@pytest.fixture
def beets(tmp_path: Path) -> Beets:
    return Beets(tmp_path)


@pytest.fixture
def added(beets: Beets) -> Beets:
    beets.add()
    assert beets.genres() == {"lament": [], "shuffle": [], "polka": ["Polka"]}
    return beets


def test_tracks_without_a_genre_get_one_in_the_library_and_in_their_files(added: Beets) -> None:
    said = added.run("genrescope")
    assert added.genres() == {**SURE, "polka": ["Polka"]}
    assert added.tags() == {"lament": ["Classical"], "shuffle": ["Jazz"], "polka": ["Polka"]}
    assert "+ Classical" in said
    assert "polka" not in said
    before = {path: path.read_bytes() for path in added.music.iterdir()}
    assert added.run("genrescope") == ""
    assert before == {path: path.read_bytes() for path in added.music.iterdir()}


def test_pretend_shows_everything_and_changes_nothing(added: Beets) -> None:
    before = {path: path.read_bytes() for path in added.music.iterdir()}
    said = added.run("genrescope", "--pretend", "--force")
    assert "+ Classical" in said
    assert "- Polka" in said
    assert added.genres() == {"lament": [], "shuffle": [], "polka": ["Polka"]}
    assert before == {path: path.read_bytes() for path in added.music.iterdir()}


@pytest.mark.parametrize(
    ("top", "option", "written"),
    [("", "-W", False), ("import: {write: no}", "", False), ("import: {write: no}", "-w", True)],
)
def test_files_are_written_as_the_settings_say(
    top: str, option: str, written: bool, added: Beets
) -> None:
    added.configure(top, auto="no")
    added.run("genrescope", *filter(None, [option]), "title:lament")
    assert added.genres() == {"lament": ["Classical"], "shuffle": [], "polka": ["Polka"]}
    assert added.tags()["lament"] == (["Classical"] if written else [])


@pytest.mark.parametrize(
    ("options", "settings", "genres"),
    [
        (["-f"], {}, ["Classical"]),
        (["--keep-existing"], {}, ["Polka", "Classical"]),
        (["-f", "-k"], {}, ["Polka", "Classical"]),
        ([], {"force": "yes"}, ["Classical"]),
        ([], {"keep_existing": "yes"}, ["Polka", "Classical"]),
        (["--no-force", "-K"], {"force": "yes", "keep_existing": "yes"}, ["Polka"]),
        (["-k"], {"max_genres": 1}, ["Polka"]),
        (["-k"], {"map": "mine.toml"}, ["Dances", "Old"]),
        (["-f"], {"min_confidence": 1}, ["Polka"]),
    ],
)
def test_existing_genres_are_treated_as_asked(
    options: list[str], settings: dict[str, object], genres: list[str], added: Beets
) -> None:
    (added.home / "mine.toml").write_text("[aliases]\npolka = 'Dances'\nclassical = 'Old'\n")
    added.configure(auto="no", **settings)
    added.run("genrescope", *options, "title:polka")
    assert added.genres() == {"lament": [], "shuffle": [], "polka": genres}
    assert added.tags() == {"lament": [], "shuffle": [], "polka": genres}


def test_an_import_as_is_fills_the_library(beets: Beets) -> None:
    beets.configure()
    beets.add()
    assert beets.genres() == {**SURE, "polka": ["Polka"]}
    assert beets.tags() == {"lament": [], "shuffle": [], "polka": ["Polka"]}
    beets.run("write")
    assert beets.tags()["shuffle"] == ["Jazz"]


def test_an_import_that_writes_tags_writes_genres(beets: Beets) -> None:
    (beets.home / "plugins").mkdir()
    (beets.home / "plugins" / "knowall.py").write_text(SOURCE)
    beets.configure(f"pluginpath: {beets.home / 'plugins'}")
    config = beets.home / "config.yaml"
    config.write_text(config.read_text().replace("plugins: genr", "plugins: knowall genr"))
    beets.run("import", "-q", "-s", "--copy", str(beets.music))
    assert beets.genres() == {**SURE, "polka": ["Polka"]}
    copies = (beets.home / "library").rglob("*.mp3")
    tags = sorted(mutagen.File(path, easy=True)["genre"] for path in copies)
    assert tags == [["Classical"], ["Polka"]]
    assert beets.tags()["lament"] == []


def test_pretend_in_the_settings_holds_for_imports(beets: Beets) -> None:
    beets.configure(pretend="yes")
    assert "+ Jazz" in beets.add()
    assert beets.genres() == {"lament": [], "shuffle": [], "polka": ["Polka"]}


def test_an_album_gets_what_its_tracks_agree_upon(added: Beets) -> None:
    added.configure(auto="no", max_genres=3)
    added.run("genrescope", "title:lament")
    assert added.genres("albums", "album") == {"B": []}  # one and a Polka, of three
    said = added.run("genrescope")
    agreed = added.genres("albums", "album")["B"]
    assert sorted(agreed) == ["Classical", "Jazz", "Polka"]
    assert "+ Polka" in said
    assert added.genres() == {**SURE, "polka": ["Polka"]}


def test_an_unsure_track_is_left_alone_and_named(beets: Beets) -> None:
    title = mutagen.File(beets.music / "lament.mp3", easy=True)["title"]
    shutil.copy(genrescope.sample("pulse"), beets.music / "lament.mp3")
    file = mutagen.File(beets.music / "lament.mp3", easy=True)
    if file.tags is None:
        file.add_tags()
    file["title"] = title
    file.save()
    beets.configure(auto="no", model=named_model())
    beets.add()
    assert "lament: low confidence: Disco 0." in beets.run("genrescope")
    assert beets.genres()["lament"] == []


def test_what_is_other_gets_no_genre_by_any_setting(beets: Beets, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="models are exported with genrescope[train]")
    from torch import nn

    from genrescope.representations import make_representation
    from genrescope.training.export import export

    class Other(nn.Module):
        def forward(self, arrays: Any) -> Any:
            return arrays.flatten(1).square().sum(dim=1)

    mfcc = make_representation("mfcc", {"coefficients": 4, "seconds": 1.0})
    genres = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(mfcc.shape), 2))
    given = {"other": Other(), "other_above": -1.0}
    export(tmp_path / "model", genres.eval(), mfcc, ("jazz", "rock"), {}, **given)
    beets.configure(auto="no", model=tmp_path / "model", min_confidence=0.0)
    beets.add()
    before = {path: path.read_bytes() for path in beets.music.iterdir()}
    for options in ((), ("-k",), ("-f",)):
        shown = beets.run("genrescope", *options)
        assert "lament: none of the model's genres: closest is " in shown
    assert beets.genres() == {"lament": [], "shuffle": [], "polka": ["Polka"]}
    assert before == {path: path.read_bytes() for path in beets.music.iterdir()}


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_bytes(b"no music" * 99), lambda path: path.unlink()]
)
def test_one_bad_file_does_not_end_the_run(spoil: Callable[[Path], None], added: Beets) -> None:
    bad = added.music / "lament.mp3"
    spoil(bad)
    said = added.run("genrescope")
    assert f"genrescope: {bad}: " in said
    assert added.genres() == {"lament": [], "shuffle": ["Jazz"], "polka": ["Polka"]}


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("model", "/no/such/model", "this is not a model folder"),
        ("map", "gone.toml", "gone.toml: no such file"),
        ("map", "bad.toml", "bad.toml: tree.Rock: 'Rock' is under 'Rock'"),
        ("min_confidence", "70", "between 0 and 1, not 70"),
        ("max_genres", "many", "genrescope.max_genres"),
    ],
)
def test_bad_settings_end_command_and_import_before_anything_is_done(
    setting: str, value: str, shown: str, beets: Beets
) -> None:
    (beets.home / "bad.toml").write_text("tree = {Rock = ['Rock']}\n")
    beets.configure(**{setting: value})
    assert shown in beets.run("genrescope", code=1)
    assert shown in beets.add(code=1)
    assert beets.run("list") == ""
