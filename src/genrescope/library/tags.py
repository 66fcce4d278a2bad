"""The genre in a file's tags: read it, write it, and show that nothing else changed.

Tags are taken apart only as far as the genre needs: every other frame, comment, item and atom is
carried over as the bytes that it is, and what cannot be carried over is refused. Each format keeps
its own way of telling several genres:

- ID3v2.4 one frame of several values; ID3v2.3 and 2.2 one value joined by "/". A tag keeps its
  version. A file without one gets ID3v2.3, for many players and Windows read no other; where only
  an ID3v1 tag stood, its fields go into the new tag too, for players that read one do not look at
  the other.
- an ID3v1 tag's genre byte follows the first genre that has a number there; none is added.
- Vorbis comments, MP4 and ASF several values, APEv2 one item of several values. In an MP3, an
  APEv2 tag follows where it tells a genre already, or where it is the only tag.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of mutagen has no annotations.

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from unicodedata import category

from mutagen import FileType, MutagenError, PaddingInfo
from mutagen._util import resize_bytes
from mutagen.aac import AAC
from mutagen.aiff import _IFFID3, AIFF, AIFFFile
from mutagen.apev2 import APENoHeaderError, APEv2, _APEv2Data
from mutagen.asf import ASF
from mutagen.asf._objects import (
    ContentDescriptionObject,
    ExtendedContentDescriptionObject,
    HeaderExtensionObject,
    MetadataLibraryObject,
    MetadataObject,
    PaddingObject,
)
from mutagen.flac import FLAC, Padding, StreamInfo, VCFLACDict
from mutagen.id3 import ID3, TCON, Frames, Frames_2_2, ID3NoHeaderError
from mutagen.monkeysaudio import MonkeysAudio
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Tags
from mutagen.mp4._atom import Atoms
from mutagen.musepack import Musepack
from mutagen.ogg import OggPage
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggtheora import OggTheora
from mutagen.oggvorbis import OggVorbis
from mutagen.optimfrog import OptimFROG
from mutagen.tak import TAK
from mutagen.trueaudio import TrueAudio
from mutagen.wave import WAVE, _WaveFile, _WaveID3
from mutagen.wavpack import WavPack

from genrescope.errors import InputError
from genrescope.library.payload import (
    Kind,
    audio_ranges,
    blocks,
    flac_blocks,
    kind_of,
    ogg_headers,
    ogg_streams,
)

Snapshot = dict[str, list[bytes]]
"""What a file holds besides audio and genre: by place and name, the values as bytes or digests."""

_GENRES: list[str] = TCON.GENRES
_NO_GENRE = 255
_FAULTS = (
    MutagenError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What a corrupt file makes mutagen raise."""


@dataclass(frozen=True)
class _Format:
    """How one kind of file holds genres: each a function of its path."""

    read: Callable[[Path], list[str]]
    refusal: Callable[[Path], str | None]
    write: Callable[[Path, list[str]], None]
    others: Callable[[Path], Snapshot]


def read_genres(path: Path) -> tuple[str, ...]:
    """Read a file's genres as words, in order, each once.

    Numbers of ID3v1's list become its names; lists in one value are split at ";", in ID3v2.3 and
    2.2 at "/" too.

    Raises
    ------
    InputError
        If the file cannot be read, is no audio, or its tags are broken.
    """
    with _faults(path):
        return tuple(dict.fromkeys(_format(path).read(path)))


def can_write(path: Path) -> str | None:
    """Tell whether genres can be written to a file without a change to anything else.

    Returns
    -------
    None if they can, else why not, as a clause.

    Raises
    ------
    InputError
        If the file cannot be read, is no audio, or its tags are broken.
    """
    with _faults(path):
        form = _format(path)
        form.read(path)
        return form.refusal(path)


def write_genres(path: Path, genres: Sequence[str]) -> None:
    """Write genres to a file's tags, in place.

    Parameters
    ----------
    path
        A file to which `can_write` has no objection. Where it is interrupted, the file is broken:
        give a copy.
    genres
        In order; none takes the genre out.

    Raises
    ------
    InputError
        If the file cannot be read or written, is no audio, or is one that `can_write` refuses.
    ValueError
        If a genre is blank or holds ";" or a control character.
    """
    wanted = list(dict.fromkeys(genre.strip() for genre in genres))
    if not all(map(_is_word, wanted)):
        raise ValueError(f"these are not genres: {wanted}")
    with _faults(path):
        form = _format(path)
        if cause := form.refusal(path):
            raise InputError(path, cause, "Leave its genre as it is or convert the file")
        if form.read(path) or wanted:  # reads in any case: what cannot be read is left alone
            form.write(path, wanted)


def other_tags(path: Path) -> Snapshot:
    """Show everything in a file besides its audio and its genre.

    Returns
    -------
    dict of lists of bytes: equal before and after `write_genres`, unless something else changed.

    Raises
    ------
    InputError
        If the file cannot be read, is no audio, or its tags are broken.
    """
    with _faults(path):
        return _format(path).others(path)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *_FAULTS) as error:
        if isinstance(error, OSError) or isinstance(error.__context__, OSError):
            remedy = "Check that it exists and that you may read and write it"
        else:
            remedy = "Replace the file with an intact copy or remove it"
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(path, f"its tags cannot be read or written ({words})", remedy) from error


def _format(path: Path) -> _Format:
    kind = kind_of(path)
    with path.open("rb") as file:
        head = file.read(4)
    if kind is Kind.OTHER and head not in _TAGLESS:
        remedy = "Give a file of music, or convert this one to FLAC or MP3"
        raise InputError(path, "it is not audio of a format that genrescope knows", remedy)
    return _FORMATS[Kind.OTHER if head in {b"RF64", b"BW64"} else kind]


# --- Words ---------------------------------------------------------------------------------------


def _is_word(text: str) -> bool:
    return text != "" and ";" not in text and not {"Cc", "Cs"} & set(map(category, text))


def _words(values: Sequence[str], more_separators: str = "") -> list[str]:
    """Split values that are lists into words."""
    for separator in ";" + more_separators:
        values = [value.replace(separator, "\0") for value in values]
    parts = (part.strip() for value in values for part in value.split("\0"))
    return [part for part in parts if part]


def _digest(data: bytes) -> bytes:
    return data if len(data) <= 64 else blake2b(data, digest_size=32).digest()


def _digest_of(path: Path, start: int, stop: int) -> bytes:
    digest = blake2b(digest_size=32)
    for block in blocks(path, [(start, min(stop, path.stat().st_size))]):
        digest.update(block)
    return digest.digest()


def _replaced(items: list[Any], is_genre: Callable[[Any], bool], new: list[Any]) -> list[Any]:
    """Put new genres where the first old one stood, or at the end, and drop the old ones."""
    at = next((i for i, item in enumerate(items) if is_genre(item)), len(items))
    rest = [item for item in items[at:] if not is_genre(item)]
    return [*items[:at], *new, *rest]


# --- ID3 -----------------------------------------------------------------------------------------


class _Whole:
    """Stands for every kind of ID3 frame, so that mutagen leaves frames as the bytes they are."""

    @staticmethod
    def _fromData(*_: object) -> None:  # noqa: N802
        raise NotImplementedError


_WHOLE = dict.fromkeys([*Frames, *Frames_2_2], _Whole)
_PLAIN: dict[str, Any] = {"known_frames": _WHOLE, "translate": False, "load_v1": False}


def _id3(kind: Callable[..., ID3], file: BinaryIO) -> ID3 | None:
    """Load a tag with its frames as bytes."""
    file.seek(0)
    try:
        return kind(file, **_PLAIN)
    except ID3NoHeaderError:
        return None


def _frames(tags: ID3) -> list[bytes]:
    """Give frames as they would be written: sizes as the version has them, marks of their own."""
    if tags.version[1] == 2:
        return list(tags.unknown_frames)
    found = []
    for frame in tags.unknown_frames:
        name, flags, body = frame[:4], bytearray(frame[8:10]), frame[10:]
        if tags.version[1] == 4 and tags.f_unsynch:
            flags[1] |= 2  # so far the tag's header alone told
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


def _id3_genres(tags: ID3) -> list[str]:
    """Read the genres of a tag that mutagen has taken apart; unknown numbers say nothing."""
    texts = [str(text) for frame in tags.getall("TCON") for text in frame.text]
    found = []
    for word in _words(texts, "/" if tags.version[:2] in {(2, 2), (2, 3)} else ""):
        names = TCON(encoding=3, text=[word]).genres
        found += [name for name in names if name != "Unknown" or word == name]
    return found


def _id3_flags(tags: ID3) -> int:
    return int(tags._header._flags) if tags._header else 0


def _id3_refusal(tags: ID3 | None) -> str | None:
    if tags is None:
        return None
    if tags.f_extended or _id3_flags(tags) & 0x10:
        return "its ID3 tag has an extended header or a footer, which genrescope does not write"
    whole = sum(map(len, tags.unknown_frames)) + tags._padding
    if not tags.f_unsynch and whole != tags.size - 10:
        return "its ID3 tag has parts that are no frames"
    if not all(_is_complete(frame, tags.version[1]) for frame in tags.unknown_frames):
        return "its ID3 tag ends in the middle of a frame"
    if any(_is_tcon(frame) and frame[3:4] < b" " for frame in tags.unknown_frames):
        return None if tags.version[1] == 2 else "its ID3 tag has frames of another version"
    return None


def _tcon(genres: list[str], version: int, old: bytes | None) -> list[bytes]:
    """Render the genre's frame, in the text encoding of the old one where that is possible."""
    if not genres:
        return []
    texts = ["(" + genre if genre.startswith("(") else genre for genre in genres]
    if version < 4:
        texts = ["/".join(texts)]
    frame = TCON(encoding=_encoding("".join(texts), version, old), text=texts)
    rendered = _rendered([frame], 4 if version == 4 else 3)
    if version > 2:
        return rendered
    body = rendered[0][10:]
    return [b"TCO" + len(body).to_bytes(3) + body]


def _encoding(text: str, version: int, old: bytes | None) -> int:
    used = old[6 if version == 2 else 10 :][:1] if old else b"\0"
    if used in {b"\1", b"\2", b"\3"} and (version == 4 or used == b"\1"):
        return used[0]
    if text.isascii():
        return 0
    return 3 if version == 4 else 1


def _rendered(frames: list[Any], version: int) -> list[bytes]:
    tags = ID3()
    for frame in frames:
        tags.add(frame)
    buffer = BytesIO()
    tags.save(buffer, v2_version=version, v23_sep=None)
    return _frames(ID3(BytesIO(buffer.getvalue()), **_PLAIN))


def _tag(tags: ID3 | None, new: list[str], inherited: list[bytes], room: int, rest: int) -> bytes:
    """Render a whole tag.

    Parameters
    ----------
    tags
        The old one.
    new
        Genres.
    inherited
        Frames for where there was none.
    room, rest
        Bytes that the old tag takes, and bytes of the file behind it; they tell how much padding
        is sensible.
    """
    version = tags.version[1] if tags is not None else 3
    frames = inherited if tags is None else _frames(tags)
    old = next(filter(_is_tcon, frames), None)
    body = b"".join(_replaced(frames, _is_tcon, _tcon(new, version, old)))
    padding = PaddingInfo(room - 10 - len(body), rest).get_default_padding()
    experimental = _id3_flags(tags) & 0x20 if tags is not None else 0
    head = b"ID3" + bytes([version, 0, experimental]) + _size(len(body) + padding, 4)
    return head + body + bytes(padding)


def _id3_others(tags: ID3 | None, inherited: list[bytes]) -> Snapshot:
    """Show all frames but the genre's, without their sizes, which the bytes tell anyway."""
    found: Snapshot = defaultdict(list)
    for frame in inherited if tags is None else _frames(tags):
        if not _is_tcon(frame):
            name, data = _named(frame, 3 if tags is None else tags.version[1])
            found[f"ID3 {name}"].append(_digest(data))
    return dict(found)


def _named(frame: bytes, version: int) -> tuple[str, bytes]:
    if version == 2:
        return frame[:3].decode("latin-1"), frame[6:]
    return frame[:4].decode("latin-1"), frame[8:]


# --- MP3, AAC, TTA -------------------------------------------------------------------------------


def _v1(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 128, 0))
        last = file.read()
    return last if len(last) == 128 and last.startswith(b"TAG") else b""


def _write_v1(path: Path, genres: list[str]) -> None:
    if _v1(path):
        numbers = {name.casefold(): number for number, name in reversed(list(enumerate(_GENRES)))}
        known = (numbers.get(genre.casefold(), _NO_GENRE) for genre in genres)
        byte = next((number for number in known if number != _NO_GENRE), _NO_GENRE)
        with path.open("rb+") as file:
            file.seek(-1, 2)
            file.write(bytes([byte]))


def _v1_frames(path: Path) -> list[bytes]:
    """Give the fields of an ID3v1 tag as frames of ID3v2.3, without the genre."""
    if not (last := _v1(path)):
        return []
    tags = ID3(BytesIO(bytes(16) + last))
    tags.update_to_v23()
    return _rendered([frame for name, frame in tags.items() if name != "TCON"], 3)


def _head(path: Path) -> bytes:
    """Give the first bytes of the audio."""
    start, stop = next(iter(audio_ranges(path)), (0, 0))
    return b"".join(blocks(path, [(start, min(start + 4, stop))]))


def _check_frames(path: Path) -> None:
    head = _head(path)
    if head == b"TTA1":
        TrueAudio(path, translate=False)
    elif head[:1] == b"\xff" and head[1:2] >= b"\xf0" and not head[1] & 0x06:
        AAC(path)
    else:
        MP3(path, translate=False)


def _frames_read(path: Path) -> list[str]:
    _check_frames(path)
    try:
        genres = _id3_genres(ID3(path, translate=False))
    except ID3NoHeaderError:
        genres = []
    return genres or _ape_texts(path)


def _frames_refusal(path: Path) -> str | None:
    _check_frames(path)
    with path.open("rb") as file:
        return _id3_refusal(_id3(ID3, file)) or _ape_refusal(path)


def _frames_write(path: Path, genres: list[str]) -> None:
    ape = _ape_items(path)
    inherited = _v1_frames(path)
    with path.open("rb+") as file:
        tags = _id3(ID3, file)
        only_ape = tags is None and not inherited and bool(ape)
        if tags is not None or (genres and not only_ape):
            room = 0 if tags is None else tags.size
            data = _tag(tags, genres, inherited, room, file.seek(0, 2) - room)
            resize_bytes(file, room, len(data), 0)
            file.seek(0)
            file.write(data)
    if only_ape or any(item.is_genre for item in ape):
        _ape_save(path, genres)
    _write_v1(path, genres)


def _frames_others(path: Path) -> Snapshot:
    _check_frames(path)
    with path.open("rb") as file:
        tags = _id3(ID3, file)
    return _id3_others(tags, _v1_frames(path)) | _tail_others(path)


def _tail_others(path: Path) -> Snapshot:
    """Show what stands behind the audio: APEv2 and ID3v1."""
    found: Snapshot = defaultdict(list)
    for item in _ape_items(path):
        if not item.is_genre:
            found[f"APE {item.key.decode('latin-1')}"].append(item.flags + _digest(item.value))
    if last := _v1(path):
        found["ID3v1"] = [last[:127]]
    return dict(found)


# --- APEv2 ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    flags: bytes
    key: bytes
    value: bytes

    @property
    def is_genre(self) -> bool:
        return self.key.lower() == b"genre"

    def __bytes__(self) -> bytes:
        return struct.pack("<I", len(self.value)) + self.flags + self.key + b"\0" + self.value


_APE_FORMATS: dict[bytes, Callable[..., FileType]] = {
    b"wvpk": WavPack,
    b"MAC ": MonkeysAudio,
    b"MPCK": Musepack,
    b"OFR ": OptimFROG,
    b"tBaK": TAK,
}


def _check_ape(path: Path) -> None:
    _APE_FORMATS.get(_head(path), Musepack)(path)  # Musepack's older form has a number in it


def _ape_data(path: Path) -> _APEv2Data:
    with path.open("rb") as file:
        return _APEv2Data(file)


def _ape_items(path: Path) -> list[_Item]:
    data, at = _ape_data(path), 0
    found: list[_Item] = []
    tag = data.tag or b""
    while at < len(tag) and len(found) < (data.items or 0):
        (size,) = struct.unpack_from("<I", tag, at)
        end = tag.index(b"\0", at + 8)
        if end + 1 + size > len(tag):
            raise ValueError("an item of the APE tag is longer than the tag")
        value = tag[end + 1 : end + 1 + size]
        found.append(_Item(tag[at + 4 : at + 8], tag[at + 8 : end], value))
        at = end + 1 + size
    return found


def _ape_texts(path: Path) -> list[str]:
    try:
        tags = APEv2(path)
    except APENoHeaderError:
        return []
    return _words(list(tags["Genre"])) if "Genre" in tags else []


def _ape_refusal(path: Path) -> str | None:
    data = _ape_data(path)
    if data.metadata is None:
        return None
    if data.is_at_start or data.version != struct.pack("<I", 2000):
        return "its APE tag is of an old form, which genrescope does not write"
    whole = sum(len(bytes(item)) for item in _ape_items(path))
    return None if whole == len(data.tag or b"") else "its APE tag has parts that are no items"


def _ape_save(path: Path, genres: list[str]) -> None:
    items = _ape_items(path)
    old = next((item for item in items if item.is_genre), _Item(bytes(4), b"Genre", b""))
    value = "\0".join(genres).encode()
    new = [_Item(bytes(4), old.key, value)] if genres else []
    data = _ape_tag(_replaced(items, lambda item: item.is_genre, new))
    found: Any = _ape_data(path)
    with path.open("rb+") as file:
        if found.metadata is None:
            start = stop = audio_ranges(path)[-1][1]
        else:
            start, stop = found.start, found.end
        resize_bytes(file, stop - start, len(data), start)
        file.seek(start)
        file.write(data)


def _ape_tag(items: list[_Item]) -> bytes:
    if not items:
        return b""
    body = b"".join(map(bytes, items))
    ends = [
        b"APETAGEX" + struct.pack("<4I8x", 2000, len(body) + 32, len(items), flags)
        for flags in (0xA0000000, 0x80000000)  # there is a header; this is it
    ]
    return ends[0] + body + ends[1]


def _ape_read(path: Path) -> list[str]:
    _check_ape(path)
    last = _v1(path)
    number = last[127] if last else _NO_GENRE
    return _ape_texts(path) or ([_GENRES[number]] if number < len(_GENRES) else [])


def _ape_format_refusal(path: Path) -> str | None:
    _check_ape(path)
    with path.open("rb") as file:
        if file.read(3) == b"ID3":
            return "it has an ID3 tag in front, where none belongs"
    if _v1(path) and not _ape_items(path):
        return "its only tag is ID3v1, which an APE tag would hide"
    return _ape_refusal(path)


def _ape_write(path: Path, genres: list[str]) -> None:
    _ape_save(path, genres)
    _write_v1(path, genres)


def _ape_others(path: Path) -> Snapshot:
    _check_ape(path)
    return _tail_others(path)


# --- Vorbis comments: FLAC and Ogg ---------------------------------------------------------------


_NO_REST = {b"", b"\1"}  # Vorbis has a bit that ends the comments


class _PlainFLAC(FLAC):
    """Carries over all blocks but the comments as the bytes that they are."""

    METADATA_BLOCKS = [StreamInfo, Padding, None, None, VCFLACDict, None, None]  # noqa: RUF012


def _comments(block: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Take a comment block apart: vendor, comments, whatever follows before the padding."""
    (size,) = struct.unpack_from("<I", block, 0)
    vendor, at = block[4 : 4 + size], 4 + size
    (count,) = struct.unpack_from("<I", block, at)
    at += 4
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from("<I", block, at)
        found.append(block[at + 4 : at + 4 + size])
        at += 4 + size
    if at > len(block):
        raise ValueError("the comments are cut off")
    return vendor, found, block[at:].rstrip(b"\0")


def _is_genre(comment: bytes) -> bool:
    return comment[:6].upper() == b"GENRE="


def _comment_refusal(block: bytes) -> str | None:
    """Refuse what mutagen does not carry over to the byte."""
    vendor, comments, rest = _comments(block)
    if rest not in _NO_REST:
        return "something unknown follows its comments"
    try:
        texts = [vendor.decode(), *(comment.decode() for comment in comments)]
    except UnicodeDecodeError:
        return "it has comments that are not in UTF-8"
    keys = [text.partition("=") for text in texts[1:]]
    if not all(sep and key and all(" " <= c <= "}" for c in key) for key, sep, _ in keys):
        return "it has comments without a name"
    return None


def _comment_others(block: bytes) -> Snapshot:
    vendor, comments, rest = _comments(block)
    kept = [_digest(comment) for comment in comments if not _is_genre(comment)]
    found = {"vendor": [vendor], "comments": kept}
    if rest not in _NO_REST:
        found["after the comments"] = [_digest(rest)]
    return found


def _set_comments(comments: Any, genres: list[str]) -> None:
    """Change the genre in mutagen's list of comments, and the order of no other."""

    def is_genre(item: tuple[str, str]) -> bool:
        return item[0].upper() == "GENRE"

    key = next((item[0] for item in comments if is_genre(item)), "GENRE")
    comments[:] = _replaced(list(comments), is_genre, [(key, genre) for genre in genres])


def _comment_genres(comments: Any) -> list[str]:
    return _words([value for key, value in comments or () if key.upper() == "GENRE"])


def _flac_comments(path: Path) -> bytes:
    found = [(start, stop) for code, start, stop in flac_blocks(path) if code == 4]
    return b"".join(blocks(path, found[:1])) or bytes(8)  # as if there were none


def _flac_read(path: Path) -> list[str]:
    return _comment_genres(_PlainFLAC(path).tags)


def _flac_refusal(path: Path) -> str | None:
    _PlainFLAC(path)
    return _comment_refusal(_flac_comments(path))


def _flac_write(path: Path, genres: list[str]) -> None:
    file = _PlainFLAC(path)
    is_new = file.tags is None
    if is_new:
        file.add_tags()
    comments: Any = file.tags
    if is_new:
        comments.vendor = ""  # for mutagen did not encode it
    _set_comments(comments, genres)
    file.save()


def _flac_others(path: Path) -> Snapshot:
    _PlainFLAC(path)
    found: Snapshot = defaultdict(list)
    for code, start, stop in flac_blocks(path):
        if code not in {1, 4}:  # padding, comments
            found[f"FLAC {code}"].append(_digest_of(path, start, stop))
    return dict(found) | _comment_others(_flac_comments(path))


_OGG_FORMATS: dict[bytes, tuple[Callable[..., FileType], int]] = {
    b"\x01vorbis": (OggVorbis, 7),
    b"OpusHead": (OggOpus, 8),
    b"Speex   ": (OggSpeex, 0),
    b"\x7fFLAC": (OggFLAC, 4),
    b"\x80theora": (OggTheora, 7),
}
"""By the first packet's beginning: the class, and how much stands before the comments."""


def _ogg_headers(path: Path) -> list[bytes]:
    """Give the header packets of a file's first stream."""
    pages: list[OggPage] = []
    packets: list[bytes] = []
    with path.open("rb") as file:
        while not packets or len(packets) < ogg_headers(packets[0]) or not pages[-1].complete:
            page = OggPage(file)
            if not pages or page.serial == pages[0].serial:
                pages.append(page)
                packets = OggPage.to_packets(pages)
                if len(packets) > max(ogg_headers(packets[0]), 1):
                    break
    return packets[: ogg_headers(packets[0])]


def _ogg_format(packets: list[bytes]) -> tuple[Callable[..., FileType], int]:
    for begin, form in _OGG_FORMATS.items():
        if len(packets) > 1 and packets[0].startswith(begin):
            return form
    raise ValueError("it is of a codec that genrescope does not know, or without comments")


def _ogg_comments(packets: list[bytes]) -> bytes:
    return packets[1][_ogg_format(packets)[1] :]


def _ogg_read(path: Path) -> list[str]:
    return _comment_genres(_ogg_format(_ogg_headers(path))[0](path).tags)


def _ogg_refusal(path: Path) -> str | None:
    packets = _ogg_headers(path)
    _ogg_format(packets)[0](path)
    if len(ogg_streams(path)) > 1:
        return "it holds several streams, whose tags genrescope does not write"
    return _comment_refusal(_ogg_comments(packets))


def _ogg_write(path: Path, genres: list[str]) -> None:
    file = _ogg_format(_ogg_headers(path))[0](path)
    _set_comments(file.tags, genres)
    file.save()


def _ogg_others(path: Path) -> Snapshot:
    packets = _ogg_headers(path)
    _ogg_format(packets)[0](path)
    found = {"Ogg headers": [_digest(packet) for packet in (packets[0], *packets[2:])]}
    return found | _comment_others(_ogg_comments(packets))


# --- WAV and AIFF --------------------------------------------------------------------------------


def _chunk_file(path: Path, file: BinaryIO) -> tuple[Any, str, Callable[..., ID3]]:
    """Open the chunks of WAV or AIFF: the file, the name of its ID3 chunk, the kind of its tag."""
    file.seek(0)
    if kind_of(path) is Kind.AIFF:
        return AIFFFile(file), "ID3", _IFFID3
    return _WaveFile(file), "id3", _WaveID3


def _info_genres(chunks: Any) -> list[str]:
    """Read the genre from the INFO chunks of a WAV file."""
    lists = (chunk for chunk in chunks.root.subchunks() if chunk.id == "LIST")
    infos = (chunk for outer in lists if outer.name == "INFO" for chunk in outer.subchunks())
    return _words([chunk.read().decode(errors="replace") for chunk in infos if chunk.id == "IGNR"])


def _chunks_read(path: Path) -> list[str]:
    _check_chunks(path)
    with path.open("rb") as file:
        chunks, _, kind = _chunk_file(path, file)
        file.seek(0)
        try:
            tags = kind(file, translate=False, load_v1=False)
        except ID3NoHeaderError:
            return _info_genres(chunks)
        return _id3_genres(tags) or _info_genres(chunks)


def _check_chunks(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) not in {b"RF64", b"BW64"}:
            (AIFF if kind_of(path) is Kind.AIFF else WAVE)(path, translate=False, load_v1=False)


def _chunks_refusal(path: Path) -> str | None:
    _check_chunks(path)
    with path.open("rb") as file:
        chunks, _, kind = _chunk_file(path, file)
        if _info_genres(chunks):
            return "its genre stands in a RIFF INFO chunk, which genrescope does not write"
        inside = chunks.root.subchunks()
        size = file.seek(0, 2)
        if chunks.root.size != size or 12 + sum(chunk.size for chunk in inside) != size:
            return "the sizes of its chunks do not add up to the file"
        if sum(chunk.id.lower() == "id3" for chunk in inside) > 1:
            return "it has several ID3 chunks"
        return _id3_refusal(_id3(kind, file))


def _chunks_write(path: Path, genres: list[str]) -> None:
    with path.open("rb+") as file:
        chunks, name, kind = _chunk_file(path, file)
        tags = _id3(kind, file)
        if name not in chunks:
            chunks.insert_chunk(name)
        chunk = chunks[name]
        rest = file.seek(0, 2) - chunk.data_offset
        data = _tag(tags, genres, [], chunk.data_size, rest)
        chunk.resize(len(data))
        chunk.write(data)


def _chunks_others(path: Path) -> Snapshot:
    _check_chunks(path)
    found: Snapshot = defaultdict(list)
    with path.open("rb") as file:
        chunks, name, kind = _chunk_file(path, file)
        tags = _id3_others(_id3(kind, file), [])
        for chunk in chunks.root.subchunks():
            if chunk.id not in {name, "data", "SSND"}:
                start = chunk.data_offset
                value = _digest_of(path, start, start + chunk.data_size)
                found[f"chunk {chunk.id}"].append(value)
    return dict(found) | tags


# --- MP4 -----------------------------------------------------------------------------------------


class _PlainMP4Tags(MP4Tags):
    """Carries over all atoms but the genre's as the bytes that they are."""

    def load(self, atoms: Any, fileobj: BinaryIO) -> None:
        super().load(atoms, fileobj)
        genres = self.get("\xa9gen")
        self.clear()
        self._failed_atoms.clear()
        for atom in atoms.path(b"moov", b"udta", b"meta", b"ilst")[-1].children:
            if atom.name not in {b"\xa9gen", b"gnre"}:
                name = atom.name.decode("latin-1")
                self._failed_atoms.setdefault(name, []).append(atom.read(fileobj)[1])
        if genres:
            self["\xa9gen"] = genres


class _PlainMP4(MP4):
    MP4Tags = _PlainMP4Tags


def _mp4_read(path: Path) -> list[str]:
    tags = MP4(path).tags
    return _words(tags.get("\xa9gen", [])) if tags else []


def _mp4_refusal(path: Path) -> str | None:
    _PlainMP4(path)
    with path.open("rb") as file:
        atoms = Atoms(file)
        if not _fit(atoms.atoms, file.seek(0, 2)):
            return "a box in it is longer than the one around it"
    names = [atom.name for atom in atoms.atoms]
    if b"moof" in names:
        return "it is a fragmented MP4 file, whose tags genrescope does not write"
    if any(atom.name in {b"saio", b"iloc"} for _, atom in _leaves(atoms.atoms, "")):
        return "it tells in more than one place where its audio lies, as encrypted files do"
    if names.count(b"moov") != 1:
        return "it has several indexes"
    if b"moov.udta.meta" in atoms and b"moov.udta.meta.ilst" not in atoms:
        return "its tags are of a kind that genrescope does not write"
    return None


def _mp4_write(path: Path, genres: list[str]) -> None:
    file: Any = _PlainMP4(path)
    if file.tags is None:
        file.add_tags()
    file.tags["\xa9gen"] = genres
    if not genres:
        del file.tags["\xa9gen"]
    file.save()


def _mp4_others(path: Path) -> Snapshot:
    """Show all atoms but the audio, the padding, the genre and the tables of where audio lies."""
    _PlainMP4(path)
    found: Snapshot = defaultdict(list)
    with path.open("rb") as file:
        for place, atom in _leaves(Atoms(file).atoms, ""):
            if place in _MP4_MADE or atom.name in {b"mdat", b"free", b"stco", b"co64"}:
                continue
            found[place].append(_digest_of(path, atom.offset + 8, atom.offset + atom.length))
    return dict(found)


_MP4_MADE = {  # what comes into being with the first tag, and the genre
    "moov/udta/meta/hdlr",
    "moov/udta/meta/ilst/\xa9gen",
    "moov/udta/meta/ilst/gnre",
}


def _fit(atoms: list[Any], stop: int) -> bool:
    ends = [(atom, atom.offset + atom.length) for atom in atoms]
    return all(end <= stop and _fit(atom.children or [], end) for atom, end in ends)


def _leaves(atoms: list[Any], place: str) -> Iterator[tuple[str, Any]]:
    for atom in atoms:
        here = place + atom.name.decode("latin-1")
        if atom.children is None:
            yield here, atom
        else:
            yield from _leaves(atom.children, here + "/")


# --- ASF -----------------------------------------------------------------------------------------

_ASF_GENRE = "WM/Genre"
_ASF_TAGS = {  # objects that hold nothing but tags and padding, or other objects
    ContentDescriptionObject.GUID,
    ExtendedContentDescriptionObject.GUID,
    HeaderExtensionObject.GUID,
    MetadataLibraryObject.GUID,
    MetadataObject.GUID,
    PaddingObject.GUID,
}


def _asf_read(path: Path) -> list[str]:
    tags = ASF(path).tags or ()
    return _words([str(value) for name, value in tags if name == _ASF_GENRE])


def _asf_refusal(path: Path) -> str | None:
    ASF(path)
    return None


def _asf_write(path: Path, genres: list[str]) -> None:
    file: Any = ASF(path)
    file.tags[_ASF_GENRE] = genres
    file.save()


def _asf_others(path: Path) -> Snapshot:
    file: Any = ASF(path)
    found: Snapshot = defaultdict(list)
    for name, value in file.tags:
        if name != _ASF_GENRE:
            marks = f"{value.TYPE} {value.language or 0} {value.stream or 0}"
            found[f"{name} {marks}"].append(_digest(value._render()))
    extension = [inner for outer in file._header.objects for inner in outer.objects]
    for part in (*file._header.objects, *extension):
        if part.GUID not in _ASF_TAGS:
            found[f"ASF {part.GUID.hex()}"].append(_digest(part.data))
    return dict(found)


# --- Others --------------------------------------------------------------------------------------


_TAGLESS = frozenset(
    [b"\x1aE\xdf\xa3", b"RIFF", b".snd", b"caff", b"RF64", b"BW64", b"DSD ", b"FRM8"]
)
"""How files begin that may be audio without tags that genrescope knows: Matroska, AVI, AU, …"""


def _no_genres(_: Path) -> list[str]:
    return []


def _no_tags(_: Path) -> str:
    return "its format has no tags that genrescope writes"


def _write_nothing(path: Path, genres: list[str]) -> None:
    raise InputError(path, _no_tags(path), f"Convert it to a format that can hold {genres}")


def _no_others(_: Path) -> Snapshot:
    return {}


_FORMATS = {
    Kind.FRAMES: _Format(_frames_read, _frames_refusal, _frames_write, _frames_others),
    Kind.APE: _Format(_ape_read, _ape_format_refusal, _ape_write, _ape_others),
    Kind.FLAC: _Format(_flac_read, _flac_refusal, _flac_write, _flac_others),
    Kind.OGG: _Format(_ogg_read, _ogg_refusal, _ogg_write, _ogg_others),
    Kind.WAVE: _Format(_chunks_read, _chunks_refusal, _chunks_write, _chunks_others),
    Kind.AIFF: _Format(_chunks_read, _chunks_refusal, _chunks_write, _chunks_others),
    Kind.MP4: _Format(_mp4_read, _mp4_refusal, _mp4_write, _mp4_others),
    Kind.ASF: _Format(_asf_read, _asf_refusal, _asf_write, _asf_others),
    Kind.OTHER: _Format(_no_genres, _no_tags, _write_nothing, _no_others),
}
