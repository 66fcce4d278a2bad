"""The interface of a tag format, and the registry of formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genrescope.audio.ranges import Container

Snapshot = dict[str, list[bytes]]
"""Everything in a file besides audio and genre: values as bytes or digests, by their names."""


@dataclass(frozen=True)
class Format:
    """How one kind of file stores genres: functions of its path.

    Their errors on a broken or unreadable file become an InputError.
    """

    read: Callable[[Path], list[str]]
    refusal: Callable[[Path], str | None]
    write: Callable[[Path, list[str]], None]
    others: Callable[[Path], Snapshot]


FORMATS: dict[Container, Format] = {}
"""Filled by the modules of the formats."""
