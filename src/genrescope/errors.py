"""The errors that users see: each names the file, the cause and the remedy."""

from __future__ import annotations

import unicodedata
from pathlib import Path

NO_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters, surrogates, and line and paragraph separators."""

_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# They change the direction of the text that follows, so that a name reads as another.


class GenrescopeError(Exception):
    """An error whose message is for the user."""


class InputError(GenrescopeError):
    """A file, folder or table that cannot be used as it is.

    Parameters
    ----------
    path
        The file or folder at fault.
    cause
        What is wrong with it, as a clause without a final stop.
    remedy
        What to do about it, as a sentence without a final stop.
    """

    def __init__(self, path: Path | str, cause: str, remedy: str) -> None:
        super().__init__(path, cause, remedy)  # all three, for pickling
        self.path = Path(path)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.cause}. {self.remedy}.")


class NotFoundError(GenrescopeError):
    """What was named is not there, or not any more."""


class WaveformError(GenrescopeError, ValueError):
    """An array that cannot be used as a waveform; the message says how to convert it."""


def install(extra: str) -> str:
    """Give the command that installs an extra. There is no release yet: it needs the source."""
    return f"pip install '.[{extra}]' in a copy of genrescope's source"


def number_of(count: int, noun: str) -> str:
    """Give a number with its noun, whose plural ends in s: ``1 track``, ``1,200 tracks``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def one_line(text: str) -> str:
    """Escape what would break the line or control the terminal; names of files may hold it."""
    if text.isprintable():
        return text
    return "".join(
        repr(sign)[1:-1] if sign in _TURNS or unicodedata.category(sign) in NO_TEXT else sign
        for sign in text
    )
