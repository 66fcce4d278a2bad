"""What the commands share: where they write to, and how they end."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from genrescope.errors import GenrescopeError, install, one_line
from genrescope.io import READABLE, to_json
from genrescope.system import is_console, is_reader_gone

# Names hold brackets and colons: nothing that is printed is markup.
OUT = Console(markup=False, emoji=False, highlight=False)
ERR = Console(markup=False, emoji=False, highlight=False, stderr=True)

_NO_READER = 128 + 13  # what shells report of a program that SIGPIPE has ended


class StoppedError(Exception):
    """Ctrl-C in a command that can be gone on with; typer has no words for that."""


class OutputError(Exception):
    """Standard output does not take what is written to it.

    No OSError, for those are of files, and typer takes some of them for its own.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


class _StandardOutput(io.FileIO):
    # Standard output's file.

    ended = False  # what is still in buffers is dropped, then

    def write(self, content: Any) -> int:
        if self.ended or not len(content):  # typer tries streams with nothing
            return len(content)
        try:
            return super().write(content)
        except OSError as error:
            raise OutputError(error) from error


class _Messages(io.FileIO):
    # Standard error's file: where it cannot be written there is nobody to be informed of it.

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(content)


def open_streams() -> None:
    """Let the standard streams take every character, and name the errors of standard output.

    One that is closed is opened, standard output so that writing to it fails: else the next file
    that is opened, a database perhaps, would get its number, and what libraries write to it.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    stdin: IO[str] | None = sys.stdin  # None, whatever its type, if it is closed
    if stdin is None:
        unread = io.BufferedReader(io.FileIO(0, "rb", closefd=False))
        sys.stdin = io.TextIOWrapper(unread, encoding="utf-8")
    if sys.stdout is sys.__stdout__:
        output = _StandardOutput(1, "wb", closefd=False)
        sys.stdout = _guarded(sys.stdout, output, by_line=output.isatty())
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, _Messages(2, "wb", closefd=False), by_line=True)


def _guarded(stream: IO[str] | None, file: io.FileIO, *, by_line: bool) -> io.TextIOWrapper:
    if isinstance(stream, io.TextIOWrapper) and is_console(file.fileno()):
        stream.reconfigure(errors=READABLE)
        return stream
    unbuffered = bool(getattr(stream, "write_through", False))
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),  # as Python does
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors=READABLE,
        line_buffering=by_line,
        write_through=unbuffered,
    )


def end_output(error: OutputError) -> int:
    """Say that standard output failed, but for a reader that left; give the exit code."""
    _StandardOutput.ended = True
    if is_reader_gone(error.cause):
        return _NO_READER
    if error.cause.errno == errno.EBADF:
        fail("standard output: it is closed. Give it somewhere to go.")
        return 1
    cause = error.cause.strerror or error.cause
    remedy = "Make room, or let it go somewhere else"
    fail(f"standard output: it cannot be written ({cause}). {remedy}.")
    return 1


def fail(text: str) -> None:
    """Name the error that ends a command."""
    ERR.print(Text.assemble(("Error:", "bold red"), " ", one_line(text)), soft_wrap=True)


def say(text: str) -> None:
    """Write a line to standard output; names in it steer no terminal."""
    sys.stdout.write(f"{one_line(text)}\n")


def say_json(value: Any, indent: int | None = 1) -> None:
    """Write a JSON value to standard output."""
    sys.stdout.write(to_json(value, indent, sys.stdout.encoding) + "\n")


def note(text: str) -> None:
    """Tell something beside the results, word for word."""
    ERR.print(one_line(text), markup=False, highlight=False, soft_wrap=True)


def note_passed_over(paths: list[str]) -> None:
    """Say what in folders looks like audio or leads to it, and was not looked into."""
    if paths:
        more = f", … and {len(paths) - 3:,} more" if len(paths) > 3 else ""
        note(
            f"Passed over {len(paths):,}, as they are links to folders or have no ending of audio: "
            f"{', '.join(map(one_line, paths[:3]))}{more}. Give them by name to analyse them."
        )


def require(package: str, extra: str) -> None:
    """Refuse to go on without a package of an extra.

    Raises
    ------
    GenrescopeError
        If it is not installed.
    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise GenrescopeError(
            f"This command needs more than the base install. Run {install(extra)}."
        )
