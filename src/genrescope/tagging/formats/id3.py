"""ID3v2 tags, whose frames are copied as bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

from mutagen import PaddingInfo
from mutagen.id3 import ID3, TCON, Frames, Frames_2_2, ID3NoHeaderError

from genrescope.tagging.formats.common import digest, replaced, words
from genrescope.tagging.formats.form import Snapshot
from genrescope.tagging.formats.id3_cost import check_cost
from genrescope.tagging.formats.internals import (
    OpaqueFrame,
    check_before_parsing,
    id3_flags,
    id3_padding,
    undo_unsynchronisation,
)

_OPAQUE = dict.fromkeys([*Frames, *Frames_2_2], OpaqueFrame)
_PLAIN: dict[str, Any] = {"known_frames": _OPAQUE, "translate": False, "load_v1": False}

check_before_parsing(check_cost)


def load(kind: Callable[..., ID3], file: BinaryIO) -> ID3 | None:
    """Load a tag with its frames as bytes."""
    file.seek(0)
    try:
        return kind(file, **_PLAIN)
    except ID3NoHeaderError:
        return None


def frames_of(tags: ID3) -> list[bytes]:
    """Return the frames as they are written: with the version's sizes and flags of their own."""
    if tags.version[1] == 2:
        return list(tags.unknown_frames)
    found = []
    for frame in tags.unknown_frames:
        name, flags, body = frame[:4], bytearray(frame[8:10]), frame[10:]
        if tags.version[1] == 4 and tags.f_unsynch:
            flags[1] |= 2  # so far a flag of the tag's header only
        found.append(name + _size(len(body), tags.version[1]) + bytes(flags) + body)
    return found


def _is_complete(frame: bytes, version: int) -> bool:
    if version == 2:
        return frame[3:6] == (len(frame) - 6).to_bytes(3)
    plain = _size(len(frame) - 10, 3)
    return frame[4:8] in {plain, _size(len(frame) - 10, version)}


def _size(count: int, version: int) -> bytes:
    if version == 3:
        return count.to_bytes(4)
    return bytes(count >> shift & 0x7F for shift in (21, 14, 7, 0))


def _is_tcon(frame: bytes) -> bool:
    return frame.startswith((b"TCON", b"TCO\0")) or (frame[:3] == b"TCO" and frame[3:4] < b" ")


def genres_of(tags: ID3) -> list[str]:
    """Return the genres of a tag that mutagen has parsed; unknown numbers are dropped."""
    texts = [str(text) for frame in tags.getall("TCON") for text in frame.text]
    found = []
    for word in words(texts, "/" if tags.version[:2] in {(2, 2), (2, 3)} else ""):
        names = TCON(encoding=3, text=[word]).genres
        found += [name for name in names if name != "Unknown" or word == name]
    return found


def _length(tags: ID3, file: BinaryIO) -> int:
    """Count the bytes that mutagen parsed: fewer if it undid unsynchronisation."""
    size = tags.size - 10
    if not tags.f_unsynch or tags.version[1] == 4:
        return int(size)
    file.seek(-size, 1)
    try:
        return len(undo_unsynchronisation(file.read(size)))
    except ValueError:  # then mutagen did not decode it
        return int(size)


def refusal(tags: ID3 | None, file: BinaryIO) -> str | None:
    """Return why a tag cannot be rewritten with all its content, or None.

    The file must be at the position where `load` left it: the tag's end.
    """
    if tags is None:
        return None
    if tags.f_extended or id3_flags(tags) & 0x10:
        return "its ID3 tag has an extended header or a footer, which genrescope does not write"
    whole = sum(map(len, tags.unknown_frames)) + id3_padding(tags)
    if whole != _length(tags, file):
        return "its ID3 tag has parts that are not frames"
    if not all(_is_complete(frame, tags.version[1]) for frame in tags.unknown_frames):
        return "its ID3 tag ends in the middle of a frame"
    if any(_is_tcon(frame) and frame[3:4] < b" " for frame in tags.unknown_frames):
        return None if tags.version[1] == 2 else "its ID3 tag has frames of another version"
    return None


def _tcon(genres: list[str], version: int, old: bytes | None) -> list[bytes]:
    """Render the genre's frame, in the text encoding of the old one if possible."""
    if not genres:
        return []
    texts = ["(" + genre if genre.startswith("(") else genre for genre in genres]
    if version < 4:
        texts = ["/".join(texts)]
    frame = TCON(encoding=_encoding("".join(texts), version, old), text=texts)
    made = rendered([frame], 4 if version == 4 else 3)
    if version > 2:
        return made
    body = made[0][10:]
    return [b"TCO" + len(body).to_bytes(3) + body]


def _encoding(text: str, version: int, old: bytes | None) -> int:
    used = old[6 if version == 2 else 10 :][:1] if old else b"\0"
    if used in {b"\1", b"\2", b"\3"}:  # mutagen writes UTF-16 where 2.3 lacks the encoding
        return used[0]
    if text.isascii():
        return 0
    return 3 if version == 4 else 1


def rendered(frames: list[Any], version: int) -> list[bytes]:
    """Render mutagen's frames as bytes of a tag of version 2.3 or 2.4."""
    tags = ID3()
    for frame in frames:
        tags.add(frame)
    buffer = BytesIO()
    tags.save(buffer, v2_version=version, v23_sep=None)
    return frames_of(ID3(BytesIO(buffer.getvalue()), **_PLAIN))


def render(tags: ID3 | None, new: list[str], inherited: list[bytes], room: int, rest: int) -> bytes:
    """Render a whole tag.

    Parameters
    ----------
    tags
        The old one.
    new
        Genres.
    inherited
        Frames for a new tag.
    room, rest
        Bytes of the old tag, and of the file behind it; they determine the padding.
    """
    version = tags.version[1] if tags is not None else 3
    frames = inherited if tags is None else frames_of(tags)
    old = next(filter(_is_tcon, frames), None)
    body = b"".join(replaced(frames, _is_tcon, _tcon(new, version, old)))
    padding = PaddingInfo(room - 10 - len(body), rest).get_default_padding()
    experimental = id3_flags(tags) & 0x20 if tags is not None else 0
    head = b"ID3" + bytes([version, 0, experimental]) + _size(len(body) + padding, 4)
    return head + body + bytes(padding)


def others(tags: ID3 | None, inherited: list[bytes]) -> Snapshot:
    """Return all frames but the genre's, without their sizes."""
    found: Snapshot = defaultdict(list)
    for frame in inherited if tags is None else frames_of(tags):
        if not _is_tcon(frame):
            name, data = _named(frame, 3 if tags is None else tags.version[1])
            found[f"ID3 {name}"].append(digest(data))
    return dict(found)


def _named(frame: bytes, version: int) -> tuple[str, bytes]:
    if version == 2:
        return frame[:3].decode("latin-1"), frame[6:]
    return frame[:4].decode("latin-1"), frame[8:]
