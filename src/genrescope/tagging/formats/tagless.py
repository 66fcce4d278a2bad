"""Audio formats without supported tags: genres are neither read nor written."""

from __future__ import annotations

from pathlib import Path

from genrescope.audio.ranges import Container
from genrescope.errors import InputError
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot

TAGLESS = frozenset(
    [b"\x1aE\xdf\xa3", b"RIFF", b".snd", b"caff", b"RF64", b"BW64", b"DSD ", b"FRM8"]
)
"""First bytes of audio formats without supported tags: Matroska, AVI, AU, …"""


def _read(_: Path) -> list[str]:
    return []


def _refusal(_: Path) -> str:
    return "genrescope writes no tags of its format"


def _write(path: Path, genres: list[str]) -> None:
    raise InputError(path, _refusal(path), f"Convert it to a format that can hold {genres}")


def _others(_: Path) -> Snapshot:
    return {}


FORMATS[Container.OTHER] = Format(_read, _refusal, _write, _others)
