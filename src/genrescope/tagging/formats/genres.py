"""Read and write the genres of a file of any supported format; read its names."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

import mutagen
from mutagen import MutagenError
from mutagen.apev2 import APENoHeaderError, APEv2
from mutagen.asf import ASFTags
from mutagen.id3 import ID3
from mutagen.mp4 import MP4Tags

from genrescope.audio.ranges import Container, kind_of
from genrescope.audio.source import View, open_source
from genrescope.errors import InputError, one_line
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot
from genrescope.tagging.formats.tagless import TAGLESS

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
"""Raised by mutagen for corrupt files."""


@dataclass(frozen=True, slots=True)
class TrackNames:
    """What a file's tags name besides its genre; a missing name is empty."""

    title: str = ""
    artist: str = ""
    album: str = ""
    album_artist: str = ""


_FIELDS: dict[type, tuple[tuple[str, ...], ...]] = {
    ID3: (("TIT2",), ("TPE1",), ("TALB",), ("TPE2",)),
    MP4Tags: (("\xa9nam",), ("\xa9ART",), ("\xa9alb",), ("aART",)),
    ASFTags: (("Title",), ("Author",), ("WM/AlbumTitle",), ("WM/AlbumArtist",)),
    # Vorbis comments, APEv2
    object: (("title",), ("artist",), ("album",), ("albumartist", "album artist")),
}
"""By the kind of tag: the fields of each of the names."""


def read_genres(path: Path) -> tuple[str, ...]:
    """Read a file's genres, in order, each once.

    ID3v1 numbers are replaced by their names; values are split at ";", in ID3v2.3 and 2.2 also at
    "/".

    Raises
    ------
    InputError
        If the file cannot be read, is not audio, or its tags are broken.
    """
    with _faults(path):
        return tuple(dict.fromkeys(_format(path).read(path)))


def read_names(path: Path) -> TrackNames:
    """Read the names of a track, its album and their artists, as far as a file's tags hold them.

    Raises
    ------
    InputError
        If the file cannot be read or its tags are broken.
    """
    with _faults(path), open_source(path) as source:
        file = io.BufferedReader(View(source))
        tags = getattr(mutagen.File(fileobj=file, filename=str(path)), "tags", None)
        if tags is None:
            try:
                tags = APEv2(file)  # the only tag of some MP3 files
            except APENoHeaderError:
                return TrackNames()
        fields = next(fields for kind, fields in _FIELDS.items() if isinstance(tags, kind))
        return TrackNames(*(_first_text(tags, names) for names in fields))


def read_artists(path: Path) -> tuple[str, ...]:
    """Read the artist of a file's album and of the track, as far as it has them, in this order.

    Raises
    ------
    InputError
        If the file cannot be read or its tags are broken.
    """
    names = read_names(path)
    return tuple(filter(None, (names.album_artist, names.artist)))


def can_write(path: Path) -> str | None:
    """Check whether genres can be written to a file without a change to anything else.

    Returns
    -------
    obstacle
        None if they can, else why not, as a clause.

    Raises
    ------
    InputError
        If the file cannot be read, is not audio, or its tags are broken.
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
        A file for which `can_write` returns None. Give a copy: an interruption breaks the file.
    genres
        In order; an empty list removes the genre.

    Raises
    ------
    InputError
        If the file cannot be read or written, is not audio, or `can_write` has an obstacle.
    ValueError
        If a genre is blank or holds ";" or a control character.
    """
    wanted = list(dict.fromkeys(genre.strip() for genre in genres))
    if not all(map(is_genre, wanted)):
        raise ValueError(f"these are not genres: {wanted}")
    with _faults(path):
        form = _format(path)
        if cause := form.refusal(path):
            raise InputError(path, cause, "Leave its genre unchanged or convert the file")
        if form.read(path) or wanted:  # always reads: unreadable tags are never written
            form.write(path, wanted)


def other_tags(path: Path) -> Snapshot:
    """Return everything in a file besides its audio and its genre.

    Returns
    -------
    snapshot
        Equal before and after `write_genres`, unless something else changed.

    Raises
    ------
    InputError
        If the file cannot be read, is not audio, or its tags are broken.
    """
    with _faults(path):
        return _format(path).others(path)


def _first_text(tags: Any, names: Sequence[str]) -> str:
    values = [tags[name] for name in names if name in tags]
    texts = (value if isinstance(value, str) else str(next(iter(value), "")) for value in values)
    return next((text.strip() for text in texts if text.strip()), "")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *_FAULTS) as error:
        if isinstance(error, OSError) or isinstance(error.__context__, OSError):
            remedy = "Check that it exists, and its permissions"
        else:
            remedy = "Replace the file with an intact copy or remove it"
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(path, f"its tags cannot be read or written ({words})", remedy) from error


def _format(path: Path) -> Format:
    kind = kind_of(path)
    with path.open("rb") as file:
        head = file.read(4)
    if kind is Container.OTHER and head not in TAGLESS:
        remedy = "Give an audio file, or convert this one to FLAC or MP3"
        raise InputError(path, "it is not audio of a known format", remedy)
    return FORMATS[Container.OTHER if head in {b"RF64", b"BW64"} else kind]


def is_genre(text: str) -> bool:
    """Return whether a text can be written as a genre: not blank, no ";", no control character.

    Nor line separators, and signs that turn the direction of text.
    """
    is_visible = any(category(sign) not in {"Cf", "Zs"} and not sign.isspace() for sign in text)
    return is_visible and ";" not in text and one_line(text) == text
