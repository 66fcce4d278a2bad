"""Helpers of several formats: lists in one value, digests, the position of the genre."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from genrescope.audio.ranges import audio_ranges, blocks


def words(values: Sequence[str], more_separators: str = "") -> list[str]:
    """Split values that are lists."""
    for separator in ";" + more_separators:
        values = [value.replace(separator, "\0") for value in values]
    parts = (part.strip() for value in values for part in value.split("\0"))
    return [part for part in parts if part]


def digest(data: bytes) -> bytes:
    """Return a short value unchanged, or the digest of a long one, for a snapshot."""
    return data if len(data) <= 64 else blake2b(data, digest_size=32).digest()


def digest_of(path: Path, *ranges: tuple[int, int]) -> bytes:
    """Digest ranges of a file together, limited to its size; empty for no bytes."""
    size = path.stat().st_size
    inside = [(start, min(stop, size)) for start, stop in ranges if start < min(stop, size)]
    whole = blake2b(digest_size=32)
    for block in blocks(path, inside):
        whole.update(block)
    return whole.digest() if inside else b""


def replaced(items: list[Any], is_genre: Callable[[Any], bool], new: list[Any]) -> list[Any]:
    """Replace the old genres by new ones, at the position of the first, or append them."""
    at = next((i for i, item in enumerate(items) if is_genre(item)), len(items))
    rest = [item for item in items[at:] if not is_genre(item)]
    return [*items[:at], *new, *rest]


def head_of(path: Path) -> bytes:
    """Return the first four bytes of the audio."""
    start, stop = next(iter(audio_ranges(path)), (0, 0))
    return b"".join(blocks(path, [(start, min(start + 4, stop))]))
