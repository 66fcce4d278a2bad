"""APEv2 tags, whose items are copied as bytes."""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutagen.apev2 import APENoHeaderError, APEv2

from genrescope.audio.ranges import audio_ranges
from genrescope.tagging.formats.common import digest, digest_of, replaced, words
from genrescope.tagging.formats.form import Snapshot
from genrescope.tagging.formats.id3v1 import v1
from genrescope.tagging.formats.internals import ApeData, resize_bytes


@dataclass(frozen=True)
class Item:
    """An item of a tag, as bytes."""

    flags: bytes
    key: bytes
    value: bytes

    @property
    def is_genre(self) -> bool:
        """Whether it holds genres."""
        return self.key.lower() == b"genre"

    def __bytes__(self) -> bytes:
        return struct.pack("<I", len(self.value)) + self.flags + self.key + b"\0" + self.value


def _data(path: Path) -> ApeData:
    with path.open("rb") as file:
        return ApeData(file)


def items(path: Path) -> list[Item]:
    """Parse the items of a file's tag; empty without a tag."""
    data, at = _data(path), 0
    found: list[Item] = []
    tag = data.tag or b""
    while at < len(tag) and len(found) < (data.items or 0):
        (size,) = struct.unpack_from("<I", tag, at)
        end = tag.index(b"\0", at + 8)
        if end + 1 + size > len(tag):
            raise ValueError("an item of the APE tag is longer than the tag")
        value = tag[end + 1 : end + 1 + size]
        found.append(Item(tag[at + 4 : at + 8], tag[at + 8 : end], value))
        at = end + 1 + size
    return found


def genres_of(path: Path) -> list[str]:
    """Read the genres in a file's tag."""
    try:
        tags = APEv2(path)
    except APENoHeaderError:
        return []
    return words(list(tags["Genre"])) if "Genre" in tags else []


def refusal(path: Path) -> str | None:
    """Return why a file's tag cannot be rewritten with all its content, or None."""
    data = _data(path)
    if data.metadata is None:
        return None
    if data.is_at_start or data.version != struct.pack("<I", 2000):
        return "its APE tag has an old version, which genrescope does not write"
    whole = sum(len(bytes(item)) for item in items(path))
    return None if whole == len(data.tag or b"") else "its APE tag has parts that are not items"


def save(path: Path, genres: list[str]) -> None:
    """Replace the genres in a tag, or append a tag to the file."""
    old_items = items(path)
    old = next((item for item in old_items if item.is_genre), Item(bytes(4), b"Genre", b""))
    value = "\0".join(genres).encode()
    new = [Item(bytes(4), old.key, value)] if genres else []
    data = _rendered(replaced(old_items, lambda item: item.is_genre, new))
    found: Any = _data(path)
    with path.open("rb+") as file:
        if found.metadata is None:
            start = stop = file.seek(0, 2)
        else:
            start, stop = found.start, found.end
        resize_bytes(file, stop - start, len(data), start)
        file.seek(start)
        file.write(data)


def _rendered(found: list[Item]) -> bytes:
    if not found:
        return b""
    body = b"".join(map(bytes, found))
    ends = [
        b"APETAGEX" + struct.pack("<4I8x", 2000, len(body) + 32, len(found), flags)
        for flags in (0xA0000000, 0x80000000)  # there is a header; this is it
    ]
    return ends[0] + body + ends[1]


def tail_others(path: Path) -> Snapshot:
    """Return what follows the audio: APEv2, ID3v1, and the rest as one."""
    found: Snapshot = defaultdict(list)
    for item in items(path):
        if not item.is_genre:
            found[f"APE {item.key.decode('latin-1')}"].append(item.flags + digest(item.value))
    last = v1(path)
    if last:
        found["ID3v1"] = [last[:127]]
    begin = audio_ranges(path)[-1][1]
    data: Any = _data(path)
    end = path.stat().st_size - len(last)
    tag = (end, end) if data.metadata is None else (data.start, data.end)
    if rest := digest_of(path, (begin, tag[0]), (tag[1], end)):
        found["behind the audio"] = [rest]
    return dict(found)
