"""Help texts and messages use the field's terms: no words of the list below."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import genrescope
from genrescope.cli.app import app

SOURCES = sorted(
    path
    for package in ("genrescope", "beetsplug")
    for path in (Path(genrescope.__file__).parents[1] / package).rglob("*.py")
)
BANNED = re.compile(
    r"\b(?:"
    r"hear|hears|heard|hearing|tell|tells|telling|told|apart|whoever|house|honest|mend|mends|"
    r"had better|stands? there|goes on|gone on|going on|go on|by lot|side by side|"
    r"to be known of|it is no file|no file any more|folders' folders"
    r")\b",
    re.IGNORECASE,
)
KEYS = {"heard", "told"}
"""Names of columns and keys in files that earlier versions have written."""
SQL = ("ALTER ", "CREATE ", "DELETE ", "INSERT ", "SELECT ", "UPDATE ")


def commands(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *names, name)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """String constants and parts of f-strings, but docstrings: help shows those of commands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.strip()
            if id(node) not in docstrings and text not in KEYS and not text.startswith(SQL):
                yield node.lineno, text


COMMANDS = list(commands(typer.main.get_command(app)))


def test_every_command_is_checked() -> None:
    assert {(), ("classify",), ("tag", "plan"), ("cluster", "classify"), ("serve",)} <= {*COMMANDS}


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_uses_none_of_the_words(names: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert BANNED.findall(" ".join(done.output.split())) == []


def test_the_list_uses_none_of_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    from genrescope.cli.listing import list_

    list_()
    shown = capsys.readouterr().out
    assert "original-cnn" in shown
    assert BANNED.findall(" ".join(shown.split())) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(path.parts[-2:]))
def test_messages_use_none_of_the_words(path: Path) -> None:
    assert [(line, text) for line, text in texts(path) if BANNED.search(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "it is no file",
        "Whoever asks",
        "Requests in the house",
        "told as rock",
        "It goes on",
        "HEARD",
    ],
)
def test_the_words_are_found(text: str) -> None:
    assert BANNED.search(text)


def test_similar_words_are_not_found() -> None:
    assert not BANNED.search("apartment, warehouse, heart, amend, teller, shear, no files")
