"""A command in a copy of a process does what it does in a new Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import commands


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--version",),
        ("no-such-command",),
        ("classify", "no-such-file.wav"),
        ("classify", "--sample", "--json"),
        ("list", "recipes"),
        ("train", "--data", "nowhere"),
    ],
    ids=" ".join,
)
def test_it_is_the_same_in_a_new_python(words: tuple[str, ...], tmp_path: Path) -> None:
    env = {**os.environ, "COLUMNS": "90"}
    copied = commands.run(*words, cwd=tmp_path, env=env)
    started = commands.process(*words, cwd=tmp_path, env=env)
    assert (copied.returncode, copied.stdout, copied.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


@pytest.mark.skipif(not commands.CAN_FORK, reason="starts a new Python for every command")
def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        commands.run("serve", "--port", "0", cwd=tmp_path, timeout=0.3)
    assert commands.run("--version").returncode == 0


def test_input_and_encoding_are_its_own(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = commands.run("classify", "-", input="no song é.wav\n", env=env, cwd=tmp_path, text=False)
    assert done.returncode == 1
    assert b"no song \\u00e9.wav: no such file" in done.stderr
