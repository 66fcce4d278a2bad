"""The contract of a format of tags, and the registry of those there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genrescope.audio.ranges import Container

Snapshot = dict[str, list[bytes]]
"""What a file holds besides audio and genre: by place and name, the values as bytes or digests."""


@dataclass(frozen=True)
class Format:
    """How one kind of file holds genres: each a function of its path.

    Whatever they raise on a file that is broken or cannot be read becomes an InputError.
    """

    read: Callable[[Path], list[str]]
    refusal: Callable[[Path], str | None]
    write: Callable[[Path, list[str]], None]
    others: Callable[[Path], Snapshot]


FORMATS: dict[Container, Format] = {}
"""Each format's module puts itself in."""
