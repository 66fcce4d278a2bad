"""Output streams, messages and exit codes of the commands."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from genrescope.errors import GenrescopeError, install, number_of, one_line
from genrescope.io import READABLE, to_json
from genrescope.system import is_console, is_reader_gone

if TYPE_CHECKING:
    from genrescope.classifier import Prediction

# Names of files may hold brackets and colons: no text is markup.
OUT = Console(markup=False, emoji=False, highlight=False)
ERR = Console(markup=False, emoji=False, highlight=False, stderr=True)

_NO_READER = 128 + 13  # the exit code that shells report after SIGPIPE


class StoppedError(Exception):
    """Ctrl-C in a command that can be resumed."""


class OutputError(Exception):
    """Standard output cannot be written.

    Not an OSError: those are of files, and typer handles some of them itself.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


class _StandardOutput(io.FileIO):
    ended = False  # then what is still in buffers is dropped

    def write(self, content: Any) -> int:
        if self.ended or not len(content):  # typer tests streams by writing nothing
            return len(content)
        try:
            return super().write(content)
        except OSError as error:
            raise OutputError(error) from error


class _Messages(io.FileIO):
    # Standard error: where it cannot be written, the error has no place to go.

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(content)


def open_streams() -> None:
    """Let the standard streams encode every character, and detect errors of standard output.

    A closed stream is opened; a closed standard output such that writing to it fails. Otherwise the
    next file that is opened, such as a database, would get its number and the output of libraries.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    stdin: IO[str] | None = sys.stdin  # None if it is closed
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
    """Print why standard output failed, unless its reader closed it; return the exit code."""
    _StandardOutput.ended = True
    if is_reader_gone(error.cause):
        return _NO_READER
    if error.cause.errno == errno.EBADF:
        fail("standard output: it is closed. Redirect it to a file or a pipe.")
        return 1
    cause = error.cause.strerror or error.cause
    remedy = "Make room, or redirect it elsewhere"
    fail(f"standard output: it cannot be written ({cause}). {remedy}.")
    return 1


def fail(text: str) -> None:
    """Print the error that ends a command, or that of one file."""
    ERR.print(Text.assemble(("Error:", "bold red"), " ", one_line(text)), soft_wrap=True)


def print_warnings(path: Path, prediction: Prediction) -> None:
    """Print the warnings of a file that has a prediction."""
    for warning in prediction.warnings:
        line = Text.assemble(("Warning:", "bold yellow"), " ", one_line(f"{path}: {warning}."))
        ERR.print(line, soft_wrap=True)


def say(text: str) -> None:
    """Write a line to standard output, without control characters."""
    sys.stdout.write(f"{one_line(text)}\n")


def say_json(value: Any, indent: int | None = 1) -> None:
    """Write a JSON value to standard output."""
    sys.stdout.write(to_json(value, indent, sys.stdout.encoding) + "\n")


def note(text: str) -> None:
    """Write a line to standard error, without control characters."""
    ERR.print(one_line(text), markup=False, highlight=False, soft_wrap=True)


def note_passed_over(paths: list[str], remedy: str = "Name them to include them") -> None:
    """Report files and links in folders that were skipped, though they may be audio."""
    if paths:
        more = f", … and {len(paths) - 3:,} more" if len(paths) > 3 else ""
        note(
            f"Skipped {number_of(len(paths), 'path')} (links to folders, and files without an "
            f"audio extension): {', '.join(map(one_line, paths[:3]))}{more}. {remedy}."
        )


def require(package: str, extra: str) -> None:
    """Check that a package of an extra is installed.

    Raises
    ------
    GenrescopeError
        If it is not; the message names the extra.
    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise GenrescopeError(
            f"This command needs more than the base install. Run {install(extra)}."
        )
