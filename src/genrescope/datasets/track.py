"""A track, and a dataset of tracks: labels and paths, without samples."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from genrescope.datasets.findings import Finding
from genrescope.errors import NO_TEXT, InputError

AudioVariant = Literal["full", "full-16k", "excerpt"]
"""The part of a clip in its audio file: all of it, all of it at 16 kHz, or an excerpt."""

MAX_GENRES, MAX_GENRE_CHARACTERS = 1000, 200


@dataclass(frozen=True, slots=True)
class Track:
    """One track of a dataset and the paths of its published forms.

    Attributes
    ----------
    id
        Unique within its dataset, such as ``blues.00042``.
    genre
        The label.
    audio
        The audio file, if there is one.
    audio_variant
        The part of the clip that ``audio`` holds.
    image
        The published mel-spectrogram picture (PNG), if there is one.
    descriptors
        The published row of descriptors, in the order of
        ``genrescope.representations.descriptors.COLUMNS``, if there is one.
    group
        The artist, or another unit that must not be on both sides of a split; None if unknown.
    faults
        Known faults of the track, in a few words each.
    """

    id: str
    genre: str
    audio: Path | None = None
    audio_variant: AudioVariant = "full"
    image: Path | None = None
    descriptors: tuple[float, ...] | None = None
    group: str | None = None
    faults: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What must not be on both sides of a split: the group, or the track if it is unknown."""
        return self.group or f"track {self.id}"


def spelt_alike(artist: str) -> str:
    """Normalise an artist's name: case, spaces, full stops, commas and "&".

    Spellings of one artist must not end up on both sides of a split. May be empty.
    """
    plain = unicodedata.normalize("NFKC", artist).casefold().replace("&", " and ")
    return " ".join(re.sub(r"[.,]", "", plain).split())


def genre_fault(name: str) -> str | None:
    """Return why a text cannot be a genre's name, as a clause; None if it can."""
    if not name.strip():
        return "a genre's name is empty"
    if len(name) > MAX_GENRE_CHARACTERS:
        return f"the genre {name[:20]!r}… has a name of more than {MAX_GENRE_CHARACTERS} letters"
    if any("\ud800" <= sign <= "\udfff" for sign in name):
        return f"the name of the genre {name!r} is not in UTF-8"
    if any(unicodedata.category(sign) in NO_TEXT for sign in name):
        return f"the genre {name!r} has a line break or another control character in its name"
    return None


def genre_key(name: str) -> str:
    """Return a key that is equal for names of certainly one genre.

    It ignores case, Unicode forms (composed or not, full width), white space around and between
    words, and invisible characters.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(s for s in plain if unicodedata.category(s) != "Cf").split())


def genre_letters(name: str) -> str:
    """Return the letters and digits of a name without accents: equal for similar names."""
    plain = unicodedata.normalize("NFKD", genre_key(name))
    return "".join(sign for sign in plain if sign.isalnum())


@dataclass(frozen=True, slots=True)
class SplitLists:
    """A published split: the ids of its training, validation and test tracks."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Tracks that belong together, with the splits published for them.

    Attributes
    ----------
    name
        ``gtzan``, ``demo``, or the folder's name; printed with every result.
    tracks
        Sorted by id.
    lists
        Published splits by protocol name (``filtered``); empty for most datasets.
    problems
        Files that were left out, each with cause and remedy.
    notes
        Sentences that every report on this dataset must include.
    findings
        The details of ``problems``, file by file, and decisions to review (``noted``).
    missing_genres
        Genres of the source without any usable track.
    """

    name: str
    tracks: tuple[Track, ...]
    lists: Mapping[str, SplitLists] = field(default_factory=dict)
    problems: tuple[InputError, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    missing_genres: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[InputError, ...]:
        """Decisions to review; nothing was left out because of them."""
        return tuple(finding.error() for finding in self.findings if finding.kind == "noted")

    @property
    def genres(self) -> tuple[str, ...]:
        """The genres, sorted: the order of every model's outputs."""
        return tuple(sorted({track.genre for track in self.tracks}))

    @property
    def counts(self) -> dict[str, int]:
        """Tracks per genre, in the order of ``genres``."""
        counter = Counter(track.genre for track in self.tracks)
        return {genre: counter[genre] for genre in self.genres}

    @property
    def checksum(self) -> str:
        """SHA-256 (first 16 hex digits) over ids, labels, groups and published rows.

        Contents of audio files are not included; the store hashes those.
        """
        digest = hashlib.sha256()
        for track in self.tracks:
            row = ",".join(map(repr, track.descriptors or ()))
            sources = f"{track.audio is not None}|{track.audio_variant}|{track.image is not None}"
            line = f"{track.id}|{track.genre}|{track.group}|{sources}|{row}\n"
            digest.update(line.encode())
        return digest.hexdigest()[:16]

    def group_numbers(self, ids: Sequence[str]) -> tuple[int, ...]:
        """Number the groups of these tracks: equal for those of one artist, from 0."""
        unit_of = {track.id: track.unit for track in self.tracks}
        units = [unit_of[i] for i in ids]
        numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
        return tuple(numbers[unit] for unit in units)

    def with_usable(self, ids: Collection[str], *, allow_missing_genres: bool) -> Dataset:
        """Return the dataset without the genres that have no usable track.

        Parameters
        ----------
        ids
            Of the usable tracks.
        allow_missing_genres
            Whether a genre may be removed, rather than an error.

        Raises
        ------
        InputError
            If a genre would be removed and that is not allowed.
        """
        left = {track.genre for track in self.tracks if track.id in ids}
        gone = [genre for genre in self.genres if genre not in left]
        if gone and not allow_missing_genres:
            raise missing_genres_error(self.name, gone)
        return replace(
            self,
            tracks=tuple(track for track in self.tracks if track.genre in left),
            missing_genres=tuple(sorted({*self.missing_genres, *gone})),
        )


def missing_genres_error(source: Path | str, genres: Sequence[str], why: str = "") -> InputError:
    """Return the error for genres without usable tracks; ``why`` is a clause about the first."""
    names = ", ".join(map(repr, genres[:10])) + (" …" if len(genres) > 10 else "")
    first = f" ({why})" if why else ""
    cause = f"no track can be used of the genre{'s'[: len(genres) > 1]} {names}{first}"
    remedy = "Add tracks, remove what is left of the genre, or give --allow-missing-genres"
    return InputError(source, cause, remedy)
