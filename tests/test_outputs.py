"""Outputs that would replace what must stay, read-only inputs, and the words for them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import commands
import genrescope
from genrescope.audio.formats import may_be_audio
from genrescope.errors import InputError
from genrescope.io import check_folder, check_output, replaces, write_text
from genrescope.tagging.plan import Step, open_plan, write_plan
from named_model import named_model

Run = Callable[..., subprocess.CompletedProcess[str]]
POSIX = pytest.mark.skipif(os.name != "posix", reason="only POSIX has them")


@pytest.fixture
def place(tmp_path: Path, scanned: Path) -> Path:
    """Give a copy of a library of one song, and its catalogue, which knows the original."""
    return shutil.copytree(scanned, tmp_path / "place", symlinks=True)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scanned")
    (folder / "lib").mkdir()
    shutil.copy(genrescope.sample("pulse"), folder / "lib" / "song.mp3")
    done = command(folder, "scan", "lib", "--db", "z.db", "--model", named_model())
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(place: Path) -> Run:
    return lambda *words, **more: command(place, *words, **more)


def command(
    place: Path, *words: object, prefix: tuple[str, ...] = (), **more: object
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "200", "XDG_DATA_HOME": str(place / "data")}
    if not prefix and not more:
        return commands.run(*words, cwd=place, env=env)
    line = [*prefix, sys.executable, "-m", "genrescope", *map(str, words)]
    settings = {"stdin": subprocess.DEVNULL, "timeout": 120, **more}
    return subprocess.run(
        line, cwd=place, env=env, capture_output=True, text=True, check=False, **settings
    )


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode in (1, 2), done.stdout
    assert "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr


# --- What must stay ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "--format", "csv", "--out", "z.db"), "it is a database"),
        (("export", "--format", "jsonl", "--out", "link.csv"), "it is a database"),
        (("export", "--format", "csv", "--out", "z.db.lock"), "the command reads it"),
        (("export", "--format", "csv", "--out", "lib/song.mp3"), "it is audio"),
        (("export", "--format", "csv", "--out", "song.csv"), "it is audio"),
        (("tag", "plan", "lib", "--out", "z.db"), "it is a database"),
        (("tag", "plan", "lib", "--out", "lib/song.mp3"), "it is audio"),
        (("stats", "--plot", "song.png"), "it is audio"),
    ],
)
def test_no_song_and_no_database_is_replaced(
    run: Run, place: Path, words: tuple[str, ...], said: str
) -> None:
    pytest.importorskip("matplotlib")
    shutil.copy(place / "lib" / "song.mp3", place / "song.csv")
    shutil.copy(place / "lib" / "song.mp3", place / "song.png")
    (place / "link.csv").symlink_to("z.db")
    (place / "z.db.lock").touch()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    refused(run(*words, "--db", "z.db"), said)
    assert {path: path.read_bytes() for path in before} == before


def test_a_picture_does_not_replace_the_clip_that_it_shows(run: Run, place: Path) -> None:
    pytest.importorskip("matplotlib")
    clip = place / "self.png"
    for content, said in (
        ((place / "lib" / "song.mp3").read_bytes(), "it is audio"),
        (b"\0" * 99, "the command reads it"),
    ):
        clip.write_bytes(content)
        os.link(clip, place / "other.png")
        refused(run("classify", "self.png", "--plot", "other.png"), said)
        assert clip.read_bytes() == content
        (place / "other.png").unlink()


def test_what_is_checked_before_the_work_is_checked_when_it_is_written(tmp_path: Path) -> None:
    for name, content in (("a.m3u8", b"fLaC"), ("b.m3u8", b"SQLite format 3\0"), ("c.flac", b"")):
        (tmp_path / name).write_bytes(content)
        with (
            pytest.raises(InputError, match="never replaced"),
            write_text(tmp_path / name, is_audio=may_be_audio) as file,
        ):
            file.write("a list")
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "d.m3u8").write_text("an old list")
    with write_text(tmp_path / "d.m3u8", is_audio=may_be_audio) as file:
        file.write("a list")
    assert (tmp_path / "d.m3u8").read_text() == "a list"


def test_a_folder_that_is_read_is_none_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="reads what is in it"):
        check_folder(tmp_path, inputs=[tmp_path / "link"])
    check_folder(tmp_path / "new", inputs=[tmp_path])
    with pytest.raises(InputError, match="the command reads it"):
        check_output(tmp_path / "new.csv", inputs=[tmp_path / "link" / "new.csv"])


# --- A plan into a stream ------------------------------------------------------------------------


@POSIX
def test_a_plan_goes_into_standard_output_and_into_a_pipe(
    run: Run, place: Path, scanned: Path
) -> None:
    words = ("tag", "plan", scanned / "lib", "--db", "z.db", "--existing", "replace", "--out")
    done = run(*words, "/dev/stdout")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# genrescope tag plan, format 3\n")
    assert "song.mp3" in done.stdout.splitlines()[-1]
    assert "to be written" in done.stderr
    os.mkfifo(place / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((place / "pipe").read_text()), daemon=True)
    reader.start()
    assert run(*words, "pipe").returncode == 0
    reader.join(30)
    assert got[0].splitlines()[3:] == done.stdout.splitlines()[3:]
    (place / "plan.csv").write_text("edited")
    refused(run(*words, "plan.csv"), "the file exists")
    assert replaces(place / "plan.csv")
    assert not replaces(place / "new.csv")


# --- Where nothing can be written ----------------------------------------------------------------


@pytest.fixture
def unprivileged() -> tuple[str, ...]:
    """Give what to put before a command so that permissions count for it, as root's need not."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    rights = "-dac_override,-dac_read_search"
    return ("setpriv", "--bounding-set", rights, "--inh-caps", rights)


@pytest.fixture
def read_only(place: Path) -> Iterator[Path]:
    """Give a folder that is made read-only by `lock`."""
    folder = place / "ro"
    folder.mkdir()
    yield folder
    folder.chmod(0o755)


def lock(folder: Path) -> dict[str, bytes]:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_a_log(new: Path, folder: Path) -> None:
    """Write what is in a catalogue as a kill leaves it: all of it in the log beside an old one."""
    shutil.copy(new, folder / "live.db")
    with closing(sqlite3.connect(folder / "live.db", isolation_level=None)) as live:
        live.execute("UPDATE tracks SET genre = (genre + 1) % 10")
        shutil.copy(folder / "live.db", folder / "z.db")
        shutil.copy(folder / "live.db-wal", folder / "z.db-wal")
    for path in folder.glob("live.db*"):
        path.unlink()


def of_the_first_version(new: Path, folder: Path) -> None:
    shutil.copy(new, folder / "z.db")
    with closing(sqlite3.connect(folder / "z.db")) as old:
        for column in ("embedding", "other", "warnings"):
            old.execute(f"ALTER TABLE tracks DROP COLUMN {column}")
        old.execute("DROP TABLE libraries")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    assert [path.name for path in folder.iterdir()] == ["z.db"]


@POSIX
@pytest.mark.parametrize("kind", ["plain", "old", "log", "file only"])
def test_a_catalogue_is_read_where_nothing_can_be_written(
    run: Run, place: Path, scanned: Path, read_only: Path, unprivileged: tuple[str, ...], kind: str
) -> None:
    if kind == "old":
        of_the_first_version(place / "z.db", read_only)
    elif kind == "log":
        with_a_log(place / "z.db", read_only)
    else:
        shutil.copy(place / "z.db", read_only)
    before = lock(read_only)
    if kind == "file only":
        read_only.chmod(0o755)
    db = read_only / "z.db"
    known = run("export", "--format", "csv", "--db", "z.db").stdout
    export = run("export", "--format", "csv", "--db", db, prefix=unprivileged)
    assert (export.returncode, export.stdout == known) == (0, kind != "log"), export.stderr
    stats = run("stats", "--db", db, "--json", prefix=unprivileged)
    assert '"analysed": 1' in stats.stdout, stats.stderr
    plan = ("tag", "plan", scanned / "lib", "--db", db, "--out", "/dev/stdout")
    assert "song.mp3" in run(*plan, prefix=unprivileged).stdout
    assert {path.name: path.read_bytes() for path in read_only.iterdir()} == before


@POSIX
def test_the_log_of_plans_is_read_where_nothing_can_be_written(
    run: Run, place: Path, read_only: Path, unprivileged: tuple[str, ...]
) -> None:
    assert run("tag", "log", "--journal", read_only / "j.db").returncode == 0
    lock(read_only)
    done = run("tag", "log", "--journal", read_only / "j.db", prefix=unprivileged)
    assert (done.returncode, done.stdout) == (0, "No plan has been applied.\n"), done.stderr


# --- Plans as other programs save them -----------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    steps = [
        Step("write", f"{name}.mp3", ("Pop",), ("Rock", "Jazz"), 0.5, "sure", "v1-2-3-4-1")
        for name in ("a", "b")
    ]
    write_plan(tmp_path / "plan.csv", tmp_path / "music", steps)
    return tmp_path / "plan.csv"


def unicode_text(text: str) -> str:
    rows = [line if line.startswith("#") else line.replace(",", "\t") for line in text.split("\n")]
    return "\r\n".join(rows)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("first", ["", "sep=,\n", '"sep=,"\n', "SEP=,\r\n", "sep=,,,,,,\n"])
def test_a_plan_is_read_as_spreadsheets_save_it(plan: Path, encoding: str, first: str) -> None:
    text, steps = plan.read_text(encoding="utf-8"), list(open_plan(plan).steps())
    plan.write_bytes((first + text).encode(encoding))
    opened = open_plan(plan)
    assert opened.library == plan.parent / "music"
    assert list(opened.steps()) == steps
    plan.write_bytes(unicode_text(text).encode(encoding))
    assert list(open_plan(plan).steps()) == steps


def test_a_plan_without_its_first_lines_is_refused_with_the_reason(plan: Path) -> None:
    lines = plan.read_text(encoding="utf-8").splitlines(keepends=True)
    for kept in (lines[5:], lines[1:], ["sep=,\n", *lines[5:]]):
        plan.write_text("".join(kept), encoding="utf-8")
        with pytest.raises(InputError, match=r"its first lines, .* are missing"):
            open_plan(plan)
    plan.write_text("a shopping list\n", encoding="utf-8")
    with pytest.raises(InputError, match="it is not a plan"):
        open_plan(plan)


@pytest.mark.parametrize("genre", ['"Rock\nPop"', "Rock\x07", "Rock\\u000aPop", "Rock\\u003bPop"])
def test_a_genre_that_cannot_be_written_is_refused_before_any_file_is(
    plan: Path, genre: str
) -> None:
    head, _, last = plan.read_text(encoding="utf-8").rpartition("Rock; Jazz")
    plan.write_text(head + genre + last, encoding="utf-8")
    line = 9 if "\n" in genre else 8  # in which the row ends
    with pytest.raises(InputError, match=rf"line {line}: 'Rock.*' is not a genre"):
        list(open_plan(plan).steps())


# --- Words ---------------------------------------------------------------------------------------


def test_a_list_that_is_empty_is_no_success(run: Run) -> None:
    refused(run("classify", "-"), "list on standard input is empty")
    refused(run("classify", "-", "--csv", stdin=None, input="\n\n"), "standard input is empty")


@POSIX
def test_a_stream_that_is_closed_is_called_closed(run: Run) -> None:
    shell = ("sh", "-c", 'exec "$@" >&-', "sh")
    refused(
        run("stats", "--db", "z.db", prefix=shell), "standard output: it is closed. Redirect it"
    )
    words = ("export", "--db", "z.db", "--format", "csv", "--out", "/dev/stdout")
    refused(run(*words, prefix=shell), "/dev/stdout: it is closed. Give another path with --out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "--format", "csv", "--db", "z.db", "--out", ""), "--out is empty"),
        (("export", "--format", "m3u", "--db", "z.db", "--out="), "--out is empty"),
        (("classify", ""), "an argument is empty"),
        (("stats", "--db", ""), "--db is empty"),
        (("stats", "--db", "lib"), "lib: it is a folder, not a catalogue"),
        (("scan", "lib", "--db", "lib"), "lib: it is a folder, not a catalogue"),
        (("scan", "pipe"), "pipe: it is a pipe, not a folder"),
        (("stats", "--db", "pipe"), "pipe: it is a pipe, not a catalogue"),
        (("similar", "lib", "--library", "pipe"), "pipe: it is a pipe, not a folder"),
        (("scan", "dead.mp3"), "dead.mp3: it is a link to nothing"),
        (("scan", "dead", "--db", "new.db"), "dead/dead.mp3: it is a link to nothing. Check"),
        (("classify", "dead"), "dead/dead.mp3: it is a link to nothing. Check"),
        (("similar", "dead", "--library", "dead"), "dead/dead.mp3: it is a link to nothing. Check"),
    ],
)
@POSIX
def test_what_is_in_the_place_is_named(
    run: Run, place: Path, words: tuple[str, ...], said: str
) -> None:
    os.mkfifo(place / "pipe")
    (place / "dead").mkdir()
    for link in ("dead.mp3", "dead/dead.mp3"):
        (place / link).symlink_to("nowhere")
    refused(run(*words), said)


def test_both_tables_write_what_is_unsure_in_one_way(run: Run, place: Path) -> None:
    words = ("classify", place / "lib", "--csv", "--model", named_model())
    (line,) = run(*words).stdout.splitlines()[1:]
    (other,) = run("export", "--format", "csv", "--db", "z.db").stdout.splitlines()[1:]
    assert line.split(",")[3] == other.split(",")[3] == "true"
