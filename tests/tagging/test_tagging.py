"""Scan, plan, apply, undo: from the command line, on every kind of file, looked at from outside."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import mutagen
import pytest
from mutagen.id3 import ID3

import commands
import formats
import genrescope
from genrescope.library.catalogue import Catalogue
from genrescope.tagging.journal import Journal
from named_model import named_model

Run = Callable[..., subprocess.CompletedProcess[str]]
REPLACE = ("--existing", "replace", "--min-confidence", 0.1)
SEVEN = ("mp3", "m4a", "flac", "ogg", "opus", "wav", "aiff")
HAS_FFMPEG = shutil.which("ffmpeg") is not None and shutil.which("ffprobe") is not None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command with a data folder of its own, in a folder of its own."""

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "COLUMNS": "200"}
        return commands.run(*words, env=env, cwd=tmp_path)

    return command


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    formats.make_library(folder)
    return folder


@pytest.fixture
def library(originals: Path, tmp_path: Path) -> Path:
    """Give one file of each kind; copies keep the times of the originals."""
    shutil.copytree(originals, tmp_path / "music")
    return tmp_path / "music"


@pytest.fixture
def three(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for name in genrescope.SAMPLES:
        shutil.copy(genrescope.sample(name), folder)
    return folder


def planned(run: Run, library: Path, *options: object) -> list[dict[str, str]]:
    """Scan, plan and read the plan."""
    done = run("scan", library, "--model", named_model(sure=True))
    assert "Traceback" not in done.stderr, done.stderr
    plan = library.parent / "plan.csv"
    plan.unlink(missing_ok=True)
    done = run("tag", "plan", library, "--out", plan, *options)
    assert done.returncode == 0, done.stderr
    lines = [line for line in plan.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def content(library: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(library).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(library.rglob("*"))
        if path.is_file()
    }


def genres_by_mutagen(path: Path) -> list[str]:
    """Read as any program would that knows mutagen and nothing of genrescope."""
    tags = mutagen.File(path).tags
    if tags is None:
        return []
    for key in ("TCON", "genre", "\xa9gen", "Genre", "WM/Genre"):
        if key in tags:
            found = tags[key]
            return list(found.genres) if key == "TCON" else [str(value) for value in found]
    return []


def stream_hash(path: Path) -> str:
    """Hash the packets of the audio as FFmpeg reads them."""
    line = ["ffmpeg", "-v", "quiet", "-i", path, "-map", "0:a", "-c", "copy", "-f", "hash", "-"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def genre_by_ffprobe(path: Path) -> str:
    line = ["ffprobe", "-v", "quiet", "-of", "json", "-show_format", "-show_streams", path]
    shown = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    places = [shown["format"], *shown["streams"]]
    tags = {key.lower(): value for place in places for key, value in place.get("tags", {}).items()}
    return tags.get("genre", "")


def test_every_kind_of_file_there_and_back(run: Run, library: Path) -> None:
    before = content(library)
    audio = {name: formats.audio_digest(library / name) for name in before}
    steps = planned(
        run, library, "--existing", "replace", "--min-confidence", 0.1, "--max-genres", 3
    )
    assert content(library) == before  # a plan changes nothing
    writes = {step["path"]: step["new"].split("; ") for step in steps if step["action"] == "write"}
    assert {Path(name).suffix.lstrip(".") for name in writes} >= set(SEVEN)
    assert len(writes) > 40

    done = run("tag", "apply", "plan.csv")
    assert done.returncode == 0, done.stderr
    assert f"{len(writes)} written" in done.stdout
    after = content(library)
    assert {name for name in before if after[name] != before[name]} == set(writes)
    assert set(after) == set(before)  # nothing is left lying about
    for name, genres in writes.items():
        assert formats.audio_digest(library / name) == audio[name], name
        if Path(name).suffix.lstrip(".") in SEVEN and "ape" not in name:
            joined = "/".join(genres_by_mutagen(library / name))
            assert joined == "/".join(genres), name

    done = run("tag", "undo", "plan.csv")
    assert done.returncode == 0, done.stderr
    assert content(library) == before  # to the byte, and to the nanosecond
    assert json.loads(run("tag", "log", "--json").stdout)[0]["undone"] == len(writes)


@pytest.mark.skipif(not HAS_FFMPEG, reason="needs ffmpeg and ffprobe")
def test_ffmpeg_analyses_the_same_and_reads_the_new_genre(run: Run, library: Path) -> None:
    for path in list(library.rglob("*")):
        # FFmpeg 5 reads no APEv2 in MP3 and no ID3 in WAV beside RIFF INFO; and it takes Lyrics3,
        # with what is behind, for audio.
        unread = any(word in path.name for word in ("ape", "info", "lyrics", "speex"))
        if path.is_file() and (path.suffix.lstrip(".") not in SEVEN or unread):
            path.unlink()
    packets = {path: stream_hash(path) for path in library.rglob("*.*")}
    steps = planned(
        run, library, "--existing", "replace", "--min-confidence", 0.1, "--max-genres", 1
    )
    assert run("tag", "apply", "plan.csv").returncode == 0
    assert {Path(step["path"]).suffix for step in steps} == {f".{form}" for form in SEVEN}
    for step in steps:
        if step["action"] == "write":
            assert genre_by_ffprobe(library / step["path"]) == step["new"], step["path"]
    assert {path: stream_hash(path) for path in library.rglob("*.*")} == packets
    assert run("tag", "undo").returncode == 0
    assert {path: stream_hash(path) for path in library.rglob("*.*")} == packets


def test_nothing_is_overwritten_unasked(run: Run, library: Path) -> None:
    steps = planned(run, library, "--min-confidence", 0.1)
    for step in steps:
        assert (step["action"] == "write") == (not step["old"] and bool(step["new"])), step
    assert any(step["reason"] == "it has a genre" for step in steps)


@pytest.mark.slow
def test_keep_adds_and_never_drops(run: Run, library: Path) -> None:
    steps = planned(run, library, "--existing", "add", "--min-confidence", 0.1)
    for step in steps:
        if step["action"] == "write" and step["old"]:
            assert step["new"].startswith(step["old"])
    assert run("tag", "apply", "plan.csv").returncode == 0
    again = planned(run, library, "--existing", "add", "--min-confidence", 0.1)
    assert not [step for step in again if step["action"] == "write"]


def test_only_what_is_sure_enough_is_written(run: Run, three: Path) -> None:
    steps = {step["path"]: step for step in planned(run, three, "--min-confidence", 0.8)}
    sure = {name: step["action"] for name, step in steps.items()}
    assert sure == {"lament.mp3": "write", "pulse.mp3": "leave", "shuffle.mp3": "write"}
    assert steps["pulse.mp3"]["reason"].startswith("low confidence: Disco")
    assert steps["lament.mp3"]["new"] == "Classical"


def test_a_map_of_ones_own(run: Run, three: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'whitelist = ["Art music", "Dance"]\n'
        "[aliases]\n"
        'classical = "Art music"\n'
        "[tree]\n"
        'Dance = ["Disco"]\n'
    )
    steps = planned(run, three, "--taxonomy", tmp_path / "mine.toml", "--min-confidence", 0.3)
    new = {step["path"]: step["new"] for step in steps}
    assert new == {"lament.mp3": "Art music", "pulse.mp3": "Dance", "shuffle.mp3": ""}
    refused = run("tag", "plan", three, "--taxonomy", tmp_path / "none.toml")
    assert refused.returncode == 1
    assert "none.toml" in refused.stderr


def test_a_plan_can_be_edited(run: Run, three: Path, tmp_path: Path) -> None:
    planned(run, three, "--min-confidence", 0.3)
    plan = tmp_path / "plan.csv"
    lines = plan.read_text().splitlines()
    edited = []
    for line in lines:
        if "lament.mp3" in line:
            edited.append(line.replace("write,", "leave,"))
        elif "pulse.mp3" in line:
            edited.append(line.replace("Disco", "Italo Disco; Éléctro", 1))
        else:
            edited.append(line)
    plan.write_text("\r\n".join(edited) + "\r\n", encoding="utf-8-sig")  # as a spreadsheet does
    assert run("tag", "apply", plan).returncode == 0
    assert genres_by_mutagen(three / "lament.mp3") == []
    assert "/".join(genres_by_mutagen(three / "pulse.mp3")) == "Italo Disco/Éléctro/Pop"
    assert genres_by_mutagen(three / "shuffle.mp3") == ["Jazz"]


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("lament.mp3", "../lament.mp3", "is not in the library"),
        ("lament.mp3", "/etc/lament.mp3", "is not in the library"),
        ("write,lament", "delete,lament", "the action is 'delete'"),
        ("Classical", "", "no new genre to write into lament.mp3. Give one, or set the action"),
        ("action,", "verb,", "the column action is missing"),
        ("format 3", "format 9", "not a plan of this version of genrescope"),
        ("# library", "# folder", "library: …' is missing"),
    ],
)
def test_a_plan_that_is_wrong_changes_nothing(
    run: Run, three: Path, tmp_path: Path, old: str, new: str, shown: str
) -> None:
    planned(run, three, "--min-confidence", 0.3)
    plan = tmp_path / "plan.csv"
    plan.write_text(plan.read_text().replace(old, new, 1))
    before = content(three)
    done = run("tag", "apply", plan)
    assert done.returncode == 1
    assert shown in done.stderr
    assert content(three) == before


def test_a_plan_is_not_written_over(run: Run, three: Path, tmp_path: Path) -> None:
    planned(run, three)
    again = run("tag", "plan", three, "--out", tmp_path / "plan.csv")
    assert again.returncode == 1
    assert "the file exists" in again.stderr


def test_applied_twice_and_undone_twice(run: Run, three: Path) -> None:
    planned(run, three, "--min-confidence", 0.3)
    before = content(three)
    assert "3 written" in run("tag", "apply", "plan.csv").stdout
    after = content(three)
    again = run("tag", "apply", "plan.csv")
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert content(three) == after
    assert "3 undone" in run("tag", "undo").stdout
    assert content(three) == before
    unknown = run("tag", "undo", "99")
    assert unknown.returncode == 1
    assert "There is no plan 99. `genrescope tag log` lists" in unknown.stderr
    again = run("tag", "undo")
    assert again.returncode == 1
    assert "No plan has anything left to do" in again.stderr
    assert "3 written" in run("tag", "apply", "plan.csv").stdout  # and there once more
    assert {name: shown[0] for name, shown in content(three).items()} == {
        name: shown[0] for name, shown in after.items()
    }


def test_a_read_only_file_is_left_alone_by_the_plan(run: Run, three: Path) -> None:
    before = content(three)
    (three / "lament.mp3").chmod(0o444)
    rows = {row["path"]: row for row in planned(run, three, "--min-confidence", 0.3)}
    left = rows.pop("lament.mp3")
    assert (left["action"], left["reason"].partition(":")[0]) == ("leave", "it is read-only")
    assert {row["action"] for row in rows.values()} == {"write"}
    done = run("tag", "apply", "plan.csv")
    assert (done.returncode, "2 written" in done.stdout) == (0, True)
    assert content(three)["lament.mp3"] == before["lament.mp3"]


def test_times_of_change_can_be_kept(run: Run, three: Path) -> None:
    (three / "lament.mp3").chmod(0o640)
    planned(run, three, "--min-confidence", 0.3)
    before = content(three)
    assert run("tag", "apply", "plan.csv", "--preserve-mtime").returncode == 0
    after = content(three)
    assert [shown[1] for shown in after.values()] == [shown[1] for shown in before.values()]
    assert all(after[name][0] != before[name][0] for name in after)
    assert (three / "lament.mp3").stat().st_mode & 0o777 == 0o640
    # The catalogue goes by the time; what was written has the same audio all the same.
    again = run("scan", three, "--json", "--model", named_model(sure=True))
    assert json.loads(again.stdout)["analysed"] == 0


def test_other_changes_since_are_kept_by_undo(run: Run, three: Path) -> None:
    planned(run, three, "--min-confidence", 0.3)
    run("tag", "apply", "plan.csv")
    titled = ID3(three / "lament.mp3")
    titled["TIT2"] = mutagen.id3.TIT2(encoding=3, text="A new title")
    titled.save(v2_version=3)
    other = ID3(three / "pulse.mp3")
    other["TCON"].text = ["House"]
    other.save(v2_version=3)
    (three / "shuffle.mp3").unlink()
    done = run("tag", "undo")
    assert done.returncode == 1
    assert "lament.mp3: it has been changed since: only its genre was restored" in done.stderr
    assert "pulse.mp3: its genre has been changed by another program since" in done.stderr
    assert "shuffle.mp3: it does not exist any more" in done.stderr
    assert ID3(three / "lament.mp3")["TIT2"].text == ["A new title"]
    assert genres_by_mutagen(three / "lament.mp3") == []
    assert genres_by_mutagen(three / "pulse.mp3") == ["House"]


def test_links_are_left_alone(run: Run, three: Path, tmp_path: Path) -> None:
    shutil.move(three / "lament.mp3", tmp_path / "elsewhere.mp3")
    (three / "lament.mp3").symlink_to(tmp_path / "elsewhere.mp3")
    os.link(three / "pulse.mp3", tmp_path / "seed.mp3")
    before = content(tmp_path / "music")
    steps = {step["path"]: step for step in planned(run, three, "--min-confidence", 0.3)}
    assert "it is a link" in steps["lament.mp3"]["reason"]
    assert "it has other names" in steps["pulse.mp3"]["reason"]
    steps = planned(run, three, "--min-confidence", 0.3, "--break-hard-links")
    assert run("tag", "apply", "plan.csv").returncode == 0
    after = content(three)
    assert after["lament.mp3"] == before["lament.mp3"]
    assert genres_by_mutagen(three / "pulse.mp3") == ["Disco/Pop"]
    seed = hashlib.sha256((tmp_path / "seed.mp3").read_bytes()).hexdigest()
    assert seed == before["pulse.mp3"][0]


def test_a_plan_needs_a_scan(run: Run, three: Path) -> None:
    done = run("tag", "plan", three)
    assert done.returncode == 1
    assert "genrescope scan" in done.stderr
    run("scan", three)
    shutil.copy(genrescope.sample("lament"), three / "new.mp3")
    with (three / "pulse.mp3").open("ab") as file:
        file.write(b"\0")
    (three / "shuffle.mp3").unlink()
    done = run("tag", "plan", three, "--out", "plan.csv", "--min-confidence", 0.3)
    assert "1 left alone: it has changed since the scan" in done.stdout
    assert (
        "it has changed since the scan: run `genrescope scan`"
        in (three.parent / "plan.csv").read_text()
    )
    assert "1 left alone: it cannot be read" in done.stdout
    assert "1 file to be written" in done.stdout


def test_a_file_that_is_cut_off_can_be_read_but_not_tagged(run: Run, library: Path) -> None:
    for path in filter(Path.is_file, library.rglob("*")):
        if path.suffix == ".ogg":
            path.write_bytes(path.read_bytes()[:-100])
        else:
            path.unlink()
    steps = planned(run, library, "--min-confidence", 0, "--existing", "replace")
    assert steps
    assert {step["reason"].partition(":")[0] for step in steps} == {"its tags cannot be written"}


@pytest.mark.parametrize("words", [("plan",), ("apply", "none.csv"), ("undo",), ("resume",)])
def test_clear_words_where_there_is_nothing(run: Run, words: tuple[str, ...]) -> None:
    done = run("tag", *words)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr


def test_the_journal_can_lie_elsewhere(run: Run, three: Path, tmp_path: Path) -> None:
    planned(run, three, "--min-confidence", 0.3)
    place = tmp_path / "here" / "journal.db"
    assert run("tag", "apply", "plan.csv", "--journal", place).returncode == 0
    assert run("tag", "undo").returncode == 1
    assert "3 undone" in run("tag", "undo", "1", "--journal", place).stdout
    refused = run("tag", "log", "--journal", tmp_path / "plan.csv")
    assert refused.returncode == 1
    assert "not a genrescope journal" in refused.stderr


@pytest.mark.slow
def test_plans_of_a_large_library_are_streamed(run: Run, three: Path, tmp_path: Path) -> None:
    for i in range(500):
        shutil.copy(three / "lament.mp3", three / f"copy {i}.mp3")
    steps = planned(run, three, "--min-confidence", 0.9)
    assert sum(step["action"] == "write" for step in steps) == 502
    with Catalogue(tmp_path / "data" / "genrescope" / "library.db") as catalogue:
        assert catalogue.counts()["analysed"] == 503
    assert "502 written" in run("tag", "apply", "plan.csv").stdout
    with Journal(tmp_path / "data" / "genrescope" / "journal.db") as journal:
        (entry,) = journal.plans()
        assert entry.counts == {"done": 502}
        sizes = [len(change.patch or b"") for change in journal.changes(entry.number, "done")]
    assert max(sizes) < 500
    assert "502 undone" in run("tag", "undo").stdout
