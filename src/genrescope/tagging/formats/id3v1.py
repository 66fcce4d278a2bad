"""The ID3v1 tag: the last 128 bytes of a file, with the genre as the last of them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from mutagen.id3 import ID3, TCON

from genrescope.tagging.formats.id3 import rendered

_GENRES: list[str] = TCON.GENRES
_NO_GENRE = 255


def v1(path: Path) -> bytes:
    """Return the whole tag; empty without one."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 131, 0))
        before, last = file.read(min(max(size - 128, 0), 3)), file.read()
    if len(last) < 128 or not last.startswith(b"TAG") or before + last[:5] == b"APETAGEX":
        return b""
    return last


def v1_genres(path: Path) -> list[str]:
    """Return the genre of the tag's number."""
    number = (v1(path) or bytes([_NO_GENRE]))[-1]
    return [_GENRES[number]] if number < len(_GENRES) else []


def write_v1(path: Path, genres: list[str]) -> None:
    """Set the number of the first genre that has one, if there is a tag."""
    if v1(path):
        numbers = {name.casefold(): number for number, name in reversed(list(enumerate(_GENRES)))}
        known = (numbers.get(genre.casefold(), _NO_GENRE) for genre in genres)
        byte = next((number for number in known if number != _NO_GENRE), _NO_GENRE)
        with path.open("rb+") as file:
            file.seek(-1, 2)
            file.write(bytes([byte]))


def v1_frames(path: Path) -> list[bytes]:
    """Return the fields of an ID3v1 tag as frames of ID3v2.3, without the genre."""
    if not (last := v1(path)):
        return []
    tags = ID3(BytesIO(bytes(16) + last))
    tags.update_to_v23()
    return rendered([frame for name, frame in tags.items() if name != "TCON"], 3)
