"""What the commands share: where they write to, and how they end."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from rich.console import Console

from genrescope.errors import GenrescopeError, one_line

if TYPE_CHECKING:
    from genrescope.library.similar import Library

OUT = Console()
ERR = Console(stderr=True)


class StoppedError(Exception):
    """Ctrl-C in a command that can be gone on with; typer has no words for that."""


def note(text: str) -> None:
    """Tell something beside the results, word for word."""
    ERR.print(text, markup=False, highlight=False, soft_wrap=True)


def note_passed_over(paths: list[str]) -> None:
    """Say what in folders looks like audio or leads to it, and was not looked into."""
    if paths:
        more = f", … and {len(paths) - 3:,} more" if len(paths) > 3 else ""
        note(
            f"Passed over {len(paths):,}, as they are links to folders or have no ending of audio: "
            f"{', '.join(map(one_line, paths[:3]))}{more}. Give them by name to analyse them."
        )


def read_list() -> list[str]:
    """Read paths from standard input: one a line, or between zero bytes (``find -print0``)."""
    content = sys.stdin.buffer.read()
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "")):
        if content.startswith(mark):
            content = (
                content.decode(encoding, "replace").encode() if encoding else content[len(mark) :]
            )
    if b"\0" in content:
        return [os.fsdecode(name) for name in content.split(b"\0")]
    return [os.fsdecode(line.removesuffix(b"\r")) for line in content.split(b"\n")]


def require(package: str, extra: str) -> None:
    """Refuse to go on without a package of an extra.

    Raises
    ------
    GenrescopeError
        If it is not installed.
    """
    from importlib.util import find_spec  # noqa: PLC0415  `genrescope --help` is instant

    if find_spec(package) is None:
        raise GenrescopeError(
            f"This command needs more than the base install: pip install 'genrescope[{extra}]'"
        )


def hear_missing(library: Library, workers: int | None) -> None:
    """Hear what a library's index lacks, with a bar; name what cannot be heard, and go on.

    Raises
    ------
    StoppedError
        If it is interrupted; what has been heard is kept.
    """
    from genrescope.answers import bar, print_error  # noqa: PLC0415  `genrescope --help` is instant

    if library.note:
        note(f"Note: {library.note}")
    before = len(library)
    total = len(library.missing)
    with bar("hearing", total, ERR) as bars, closing(library.update(workers)) as every:
        task = bars.add_task("", total=total)
        try:
            for heard in every:
                bars.advance(task)
                if heard.error is not None:
                    print_error(ERR, heard.error)
        except KeyboardInterrupt as interrupt:
            raise StoppedError from interrupt
    if len(library) > before:
        note(f"Heard {len(library) - before} tracks; kept in {library.index_file}")
