"""Names that any file may have on POSIX, in every form that they are written in, from outside."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mutagen
import pytest

import commands
from genrescope.io import read_back, read_cell
from named_model import named_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")

NAMED = ("--model", named_model(sure=True))
Run = Callable[..., subprocess.CompletedProcess[bytes]]
NAMES = (
    b"caf\xe9.flac",
    b"a\nb.flac",
    b"x\x1b[41mred\x1b[0m.flac",
    b"\x9b31m.flac",
    b"\xc2\x9b31m.flac",
    b"cr\rname.flac",
    b"=1+2.flac",
    b"'quoted.flac",
    b"'=quoted.flac",
    b"[bold]b[.flac",
    b"[red].flac",
    b":smile:.flac",
    b"-dash.flac",
    b" spaces .flac",
    b"tab\t.flac",
    b'quo"te, comma;.flac',
    b"back\\u001bslash.flac",
    "emoji\N{MUSICAL NOTE}\N{RIGHT-TO-LEFT OVERRIDE}.flac".encode(),
    b"n" * 250 + b".flac",
)
PLAYABLE = 12  # of these: without what no line of text holds
STEERING = {chr(sign) for sign in (*range(9), 11, 12, *range(14, 32), *range(127, 160))}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nasty")


@pytest.fixture(scope="module")
def env(place: Path) -> dict[str, str]:
    own = {"XDG_DATA_HOME": str(place / "data"), "COLUMNS": "200", "TERM": "xterm"}
    return {**os.environ, **own, "PYTHONIOENCODING": "utf-8:strict"}


@pytest.fixture(scope="module")
def run(place: Path, env: dict[str, str]) -> Run:
    """Run a command in the folder where everything is; what it says must steer no terminal."""

    def command(*words: object) -> subprocess.CompletedProcess[bytes]:
        done = commands.run(*words, cwd=place, env=env, text=False)
        said = (done.stdout + done.stderr).decode()  # valid UTF-8
        assert "Traceback" not in said
        assert not {*said} & STEERING
        return done

    return command


@pytest.fixture(scope="module")
def library(run: Run, place: Path, tone: Callable[..., Path]) -> Path:
    """A scanned folder, itself of such a name, of a track under every name and a damaged one."""
    folder = place / os.fsdecode(b"mu,sic \"\x1b[1m' ")
    folder.mkdir()
    assert run("scan", tone(place / "clip" / "clip.flac").parent, *NAMED).returncode == 0
    clip = (place / "clip" / "clip.flac").read_bytes()
    for name in NAMES:
        (folder / os.fsdecode(name)).write_bytes(clip)
    (folder / os.fsdecode(b"dam\xe9\x1b[5mged.mp3")).write_text("no music")
    assert run("scan", folder, *NAMED).returncode == 1  # for the damaged one, which is named
    return folder


def utf8(library: Path) -> set[str]:
    """Give the paths that a decoder may insist on."""
    return {path for path in paths(library) if os.fsencode(path).decode(errors="ignore") == path}


def paths(library: Path) -> set[str]:
    return {str(library / os.fsdecode(name)) for name in NAMES}


@pytest.mark.parametrize(
    "words", ["classify LIBRARY --json", "classify LIBRARY --jsonl", "export --format jsonl"]
)
def test_json_holds_names_to_the_byte(run: Run, library: Path, words: str) -> None:
    text = run(*(library if word == "LIBRARY" else word for word in words.split())).stdout.decode()
    rows = json.loads(text) if "--json " in f"{words} " else map(json.loads, text.splitlines())
    found = {os.fsencode(row["path"]) for row in rows}
    assert found >= {os.fsencode(path) for path in paths(library)}


@pytest.mark.parametrize("words", ["classify LIBRARY --csv", "export --format csv"])
def test_csv_holds_names_to_the_byte(run: Run, library: Path, words: str) -> None:
    text = run(*(library if word == "LIBRARY" else word for word in words.split())).stdout.decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    found = {read_back(read_cell(row[0])) for row in rows[1:]}
    assert found >= (paths(library) if "export" in words else utf8(library))


def test_a_timeline_goes_where_the_answers_go(run: Run, library: Path) -> None:
    done = run("classify", library, "--timeline")
    assert done.stdout.decode().count("    0.0 s  ") >= len(utf8(library))
    assert b" s  " not in done.stderr
    text = run("classify", library, "--timeline", "--csv").stdout.decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {row["start_s"] for row in rows} == {"0.0"}
    assert len(rows) >= len(utf8(library))


def test_tables_for_other_programs(run: Run, library: Path, place: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    run("export", "--format", "parquet", "--out", "o.parquet")
    rows = pq.read_table(place / "o.parquet").to_pylist()
    assert {read_back(row["path"]) for row in rows if row["genre"]} >= paths(library)


def test_playlists_say_what_they_left_out(run: Run, library: Path, place: Path) -> None:
    plain = place / "plain"
    plain.mkdir()
    for name in NAMES:
        (plain / os.fsdecode(name)).write_bytes((library / "=1+2.flac").read_bytes())
    run("scan", plain, *NAMED)
    done = run("export", plain, "--format", "m3u", "--out", "lists")
    (playlist,) = (place / "lists").iterdir()
    lines = [line for line in playlist.read_text().split("\n") if line and line[0] != "#"]
    assert len(lines) == PLAYABLE
    assert all(Path(line).is_file() for line in lines)
    shown = done.stderr.decode()
    assert f"{len(NAMES) - PLAYABLE} left out: control characters" in shown
    assert f"such as {plain}" in shown

    near = run("similar", "clip/clip.flac", "--library", plain, "-n", 99, "--m3u")
    played = near.stdout.decode().splitlines()[1:]
    assert sorted(played) == sorted(lines)
    assert (
        " tracks were left out: a playlist cannot hold control characters" in near.stderr.decode()
    )
    assert run("similar", "clip/clip.flac", "--library", plain, "-n", 99, "--csv").returncode == 0
    assert run("similar", "clip/clip.flac", "--library", plain, "-n", 99).returncode == 0


@pytest.mark.parametrize("words", ["stats", "stats --json", "stats --plot o.png", "tag log"])
def test_other_commands(run: Run, library: Path, words: str) -> None:
    assert run(*words.split()).returncode == 0


def test_plan_apply_and_undo(run: Run, library: Path, place: Path) -> None:
    before = {path: path.read_bytes() for path in library.iterdir()}
    assert run("tag", "plan", library, "--min-confidence", 0, "--out", "p.csv").returncode == 0
    cells = list(csv.reader((place / "p.csv").open(encoding="utf-8", newline="")))
    assert not [cell for row in cells for cell in row if cell[:1] in tuple("=+-@\t\r")]
    done = run("tag", "apply", "p.csv")
    assert f"{len(NAMES)} written" in done.stdout.decode()
    assert done.stderr.decode().startswith("Library: ")  # before it writes
    for path in paths(library):
        assert mutagen.File(path).tags["genre"]
    assert json.loads(run("tag", "log", "--json").stdout)[0]["library"] == str(library)
    assert run("tag", "undo", "p.csv").returncode == 0
    assert {path: path.read_bytes() for path in library.iterdir()} == before
    assert run("tag", "apply", "p.csv").returncode == 0  # and again
    assert run("tag", "undo").returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        "classify LIBRARY --timeline",
        "classify LIBRARY --csv",
        "classify LIBRARY --jsonl",
        "export --format csv",
        "export --format csv --out /dev/stdout",
        "stats",
        "tag plan LIBRARY --min-confidence 0 --out q.csv",
    ],
)
def test_nothing_steers_a_terminal(
    library: Path, place: Path, env: dict[str, str], words: str
) -> None:
    ours, theirs = pty.openpty()
    line = [library if word == "LIBRARY" else word for word in words.split()]
    with subprocess.Popen(
        [sys.executable, "-m", "genrescope", *map(str, line)],
        cwd=place,
        env=env,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 2**16):
                seen += chunk
        except OSError:  # its other end is closed
            os.close(ours)
    assert b"Traceback" not in seen, seen.decode(errors="replace")
    for steering in (b"\x1b[41m", b"\x1b[1m'", b"\x1b[5m", "\x9b".encode(), "\u202e".encode()):
        assert steering not in seen, seen.decode(errors="replace")
    assert b"\x9b" not in seen.replace("\u2502".encode(), b"")
    (place / "q.csv").unlink(missing_ok=True)
