"""A track, and a dataset of tracks: what is to be classified, never the samples themselves."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from genrescope.errors import NO_TEXT, InputError

Extent = Literal["full", "full-16k", "excerpt"]
"""How much of the clip its audio file holds: all of it, all of it below 8 kHz, or a part."""

MOST_GENRES, MOST_GENRE_LETTERS = 1000, 200


@dataclass(frozen=True, slots=True)
class Track:
    """One track of a dataset and where its published forms lie.

    Attributes
    ----------
    id
        Unique within its dataset, such as ``blues.00042``.
    genre
        The label.
    audio
        The audio file, if there is one.
    extent
        How much of the clip ``audio`` holds.
    image
        The published mel-spectrogram picture (PNG), if there is one.
    descriptors
        The published row of descriptors, in the order of
        ``genrescope.representations.descriptors.COLUMNS``, if there is one.
    group
        The artist, or whatever must not stand on both sides of a split; None when unknown.
    faults
        What is known to be wrong with the track, in a few words each.
    """

    id: str
    genre: str
    audio: Path | None = None
    extent: Extent = "full"
    image: Path | None = None
    descriptors: tuple[float, ...] | None = None
    group: str | None = None
    faults: tuple[str, ...] = ()


def spelt_alike(artist: str) -> str:
    """Give one spelling to those that differ in case, spaces, full stops, commas or "&".

    Nobody's tracks may stand on both sides of a split for having been typed twice. Empty if
    nothing is left.
    """
    plain = unicodedata.normalize("NFKC", artist).casefold().replace("&", " and ")
    return " ".join(re.sub(r"[.,]", "", plain).split())


def genre_fault(name: str) -> str | None:
    """Say why a text can be no genre's name, as a clause; None if it can."""
    if not name.strip():
        return "a genre's name is empty"
    if len(name) > MOST_GENRE_LETTERS:
        return f"the genre {name[:20]!r}… has a name of more than {MOST_GENRE_LETTERS} letters"
    if any(unicodedata.category(sign) in NO_TEXT for sign in name):
        return f"the genre {name!r} has a line break or another control character in its name"
    return None


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
        ``gtzan``, ``demo``, or the folder's name; printed with every figure.
    tracks
        Sorted by id.
    lists
        Published splits by protocol name (``filtered``); empty for most datasets.
    problems
        Files that were left out on reading, each with cause and remedy.
    notes
        Sentences that a report on this dataset must carry.
    """

    name: str
    tracks: tuple[Track, ...]
    lists: Mapping[str, SplitLists] = field(default_factory=dict)
    problems: tuple[InputError, ...] = ()
    notes: tuple[str, ...] = ()

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

        It tells two label sets apart; the contents of audio files are the store's to hash.
        """
        digest = hashlib.sha256()
        for track in self.tracks:
            row = ",".join(map(repr, track.descriptors or ()))
            sources = f"{track.audio is not None}|{track.extent}|{track.image is not None}"
            line = f"{track.id}|{track.genre}|{track.group}|{sources}|{row}\n"
            digest.update(line.encode())
        return digest.hexdigest()[:16]
