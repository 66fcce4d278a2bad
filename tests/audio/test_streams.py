"""Standard streams that are of another encoding, closed, full or left by their reader."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="closes and fills as Linux does")

Shell = Callable[..., subprocess.CompletedProcess[bytes]]
NAME = "é…\N{MUSICAL NOTE}.wav"
COMMANDS = (
    'classify "$NAME"',
    'classify "$NAME" --json',
    'classify "$NAME" --csv --timeline',
    "classify --sample --jsonl",
    'similar "$NAME" --library . --db c.db',
    'similar "$NAME" --library . --db c.db --m3u',
    "scan . --db c.db",
    "stats --db c.db",
    "export --db c.db --format csv",
    "export --db c.db --format jsonl",
    "tag log --journal j.db",
    "list recipes",
    "--help",
    "--version",
    "tag plan --help",
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, tone: Callable[..., Path]) -> Shell:
    """Run a line of the shell, where genrescope is $G; one that is nothing else needs no shell."""
    place = tmp_path_factory.mktemp("streams")
    tone(place / NAME)
    env = {**os.environ, "G": f"{sys.executable} -m genrescope", "NAME": NAME, "COLUMNS": "100"}

    def run(line: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        plain = re.fullmatch(r"\$G ([^|<>&;]*?)( >/dev/full)?", line)
        if plain and "--version" not in line:
            words = [NAME if word == "$NAME" else word for word in shlex.split(plain[1])]
            with ExitStack() as stack:
                out = stack.enter_context(Path("/dev/full").open("wb")) if plain[2] else None
                return commands.run(*words, cwd=place, env={**env, **more}, text=False, stdout=out)
        words = ["bash", "-c", line]
        return subprocess.run(
            words, cwd=place, env={**env, **more}, capture_output=True, check=False, timeout=120
        )

    assert run("$G scan . --db c.db").returncode == 0
    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_is_full(shell: Shell, command: str) -> None:
    done = shell(f"$G {command} >/dev/full")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()[-1:]
    assert line.startswith("Error: standard output: it cannot be written (No space left on device)")
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[3], COMMANDS[8], "--help"])
def test_output_that_is_closed(shell: Shell, command: str) -> None:
    done = shell(f"$G {command} >&-")
    assert done.returncode == 1
    assert b"standard output: it is closed. Redirect it to a file or a pipe." in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_is_opened_never_gets_the_number_of_a_closed_stream(shell: Shell) -> None:
    shell("$G scan . --db closed.db 0<&- 1>&- 2>&-")
    assert shell("$G stats --db closed.db").returncode == 0


@pytest.mark.parametrize("command", [COMMANDS[3], COMMANDS[9], "list", "--help"])
def test_a_reader_that_leaves(shell: Shell, command: str) -> None:
    done = shell(f"$G {command} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_messages_that_cannot_be_written(shell: Shell, to: str) -> None:
    done = shell(f"$G classify none.wav $NAME 2>{to}")
    assert done.returncode == 1
    assert NAME in done.stdout.decode()


@pytest.mark.parametrize(
    "encoding",
    [
        "ascii",
        "cp1252",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("latin-1", "cp437", "utf-16")),
    ],
)
@pytest.mark.parametrize("command", [c for c in COMMANDS if "help" not in c])
def test_output_of_another_encoding(shell: Shell, command: str, encoding: str) -> None:
    done = shell(f"$G {command}", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    if "--json" in command and "jsonl" not in command:
        assert json.loads(text)[0]["path"] == NAME
    if "jsonl" in command and "export" in command:
        assert Path(json.loads(text)["path"]).name == NAME
    if command.startswith("classify") and "json" not in command:
        plain = "\\u00e9" if encoding == "ascii" else "é"
        assert plain in text


@pytest.mark.parametrize("command", ["classify -", "classify - --jsonl"])
@pytest.mark.parametrize("form", [r"\xef\xbb\xbf%s\r\n", r"%s\n\n", r"%s\0", "%s"])
def test_a_list_of_names(shell: Shell, command: str, form: str) -> None:
    done = shell(f"printf '{form}' \"$NAME\" | $G {command}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_a_list_of_names_that_are_not_utf8(shell: Shell) -> None:
    done = shell(r"printf 'caf\xe9.wav\n' | $G classify -; $G classify - <&-")
    assert b"Traceback" not in done.stderr
    assert rb"caf\udce9.wav: " in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "classify $NAME --plot none/x.png",
        "classify $NAME --plot x.xyz",
        "stats --db c.db --plot c.db/x.png",
        "stats --db c.db --plot .",
        "export --db c.db --format csv --out none/x.csv",
        "export --db c.db --format m3u --out c.db",
        "tag plan . --db c.db --out c.db/x.csv",
        "tag apply p.csv --journal c.db/j.db",
        "scan . --db c.db/c.db",
        "similar $NAME --library . --db c.db/c.db",
        "train --data . --out c.db/model",
        "study --out c.db/report",
    ],
)
def test_places_are_checked_first(shell: Shell, words: str) -> None:
    done = shell(f"$G {words}")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("Error: ")
    assert done.stdout == b""


@pytest.mark.parametrize(
    "command", ["scan .", "stats", "export --format csv", "tag log", "tag log --json"]
)
def test_no_home(shell: Shell, command: str) -> None:
    # An unknown user, as in a container: not even the system knows a home folder.
    code = (
        "import pwd\n"
        "def nobody(number): raise KeyError(number)\n"
        "pwd.getpwuid = nobody\n"
        "from genrescope.cli.app import main; main()"
    )
    done = shell(f"env -u HOME -u XDG_DATA_HOME $P -c '{code}' {command}", P=sys.executable)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("Error: There is no home folder")
