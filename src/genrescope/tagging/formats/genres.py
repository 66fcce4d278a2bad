"""Read and write the genres of a file of any supported format; read its artists and names."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

import mutagen
from mutagen import MutagenError
from mutagen.apev2 import APENoHeaderError, APEv2
from mutagen.asf import ASFTags
from mutagen.id3 import ID3
from mutagen.mp4 import MP4Tags

from genrescope.audio.ranges import Container, kind_of
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


_FIELDS: dict[type, dict[str, tuple[str, ...]]] = {
    ID3: {"artists": ("TPE2", "TPE1"), "title": ("TIT2",), "artist": ("TPE1",), "album": ("TALB",)},
    MP4Tags: {
        "artists": ("aART", "\xa9ART"),
        "title": ("\xa9nam",),
        "artist": ("\xa9ART",),
        "album": ("\xa9alb",),
    },
    ASFTags: {
        "artists": ("WM/AlbumArtist", "Author"),
        "title": ("Title",),
        "artist": ("Author",),
        "album": ("WM/AlbumTitle",),
    },
    object: {  # Vorbis comments, APEv2
        "artists": ("albumartist", "album artist", "artist"),
        "title": ("title",),
        "artist": ("artist",),
        "album": ("album",),
    },
}
"""By the kind of tag: its fields for the artists of album and track, and for each name."""
_MAX_NAME = 300  # letters


@dataclass(frozen=True)
class TrackNames:
    """What a track's tags call it, one line each; None where they lack it."""

    title: str | None = None
    artist: str | None = None
    album: str | None = None


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


def read_artists(path: Path) -> tuple[str, ...]:
    """Read the artist of a file's album and of the track, as far as it has them, in this order.

    Raises
    ------
    InputError
        If the file cannot be read or its tags are broken.
    """
    with _faults(path):
        return tuple(_read_fields(path, "artists")["artists"])


def read_names(path: Path) -> TrackNames:
    """Read the title, artist and album of a track, 300 letters each at most.

    Raises
    ------
    InputError
        If the file cannot be read or its tags are broken.
    """
    with _faults(path):
        found = _read_fields(path, "title", "artist", "album")
    first = {name: one_line(texts[0])[:_MAX_NAME] for name, texts in found.items() if texts}
    return TrackNames(**first)


def _read_fields(path: Path, *wanted: str) -> dict[str, list[str]]:
    file = mutagen.File(path)
    tags = getattr(file, "tags", None)
    if tags is None:
        try:
            tags = APEv2(path)  # the only tag of some MP3 files
        except APENoHeaderError:
            return {name: [] for name in wanted}
    fields = next(fields for kind, fields in _FIELDS.items() if isinstance(tags, kind))
    found = {}
    for name in wanted:
        values = [tags[field] for field in fields[name] if field in tags]
        firsts = (value if isinstance(value, str) else next(iter(value), "") for value in values)
        found[name] = [text for text in (str(first).strip() for first in firsts) if text]
    return found


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
    """Return whether a text can be written as a genre: not blank, no ";", no control character."""
    return text.strip() != "" and ";" not in text and not {"Cc", "Cs"} & set(map(category, text))
