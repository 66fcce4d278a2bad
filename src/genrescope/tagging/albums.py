"""Which tracks of a library are of one album, and which of one artist, by tags and folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from genrescope.tagging.formats import TrackNames

_GUEST = re.compile(r"\s[\[(]?(?:feat|ft|featuring)\b.*", re.IGNORECASE | re.DOTALL)
_NO_ARTIST = frozenset({"", "va", "various", "various artists", "unknown", "unknown artist"})
_NO_ALBUM = frozenset({"", "unknown", "unknown album"})
_DISC = re.compile(r"[\s,:(\[_-]*\b(?:cd|dis[ck])[\s._#-]*\d+\b[)\]]*\s*$", re.IGNORECASE)

Numbers = NDArray[np.intp]


def artist_name(artists: Sequence[str]) -> str:
    """Give the first artist that is one, in a form that is equal for its spellings; else "".

    Guests ("feat. …") are ignored, and so are names such as Various Artists.
    """
    plain = (_plain(_GUEST.sub("", artist)) for artist in artists)
    return next((name for name in plain if name not in _NO_ARTIST), "")


def artist_key(artists: Sequence[str], folder: PurePath) -> str:
    """Give what is equal for tracks of one artist.

    Parameters
    ----------
    artists
        The album's and the track's, as far as they are known; see ``artist_name``.
    folder
        Of the file, which counts as the artist of a track without one.
    """
    return artist_name(artists) or f"/{folder}"


def album_key(names: TrackNames, folder: PurePath) -> str | None:
    """Give what is equal for tracks of one album, or None for a track that is on none.

    Parameters
    ----------
    names
        Of its tags. An album of the same title and artist is one wherever its files lie; without
        an artist, or by various ones, it is one in its folder only.
    folder
        Of the file, below the library. Files without an album's title are on one album if they
        lie in one folder, but not in the library's own. Folders and titles such as "CD1" or
        "Disc 2" are parts of one album.
    """
    place = _without_disc(folder)
    title = _plain(_DISC.sub("", names.album) or names.album)
    if title not in _NO_ALBUM:
        artist = artist_name([names.album_artist])
        return f"{title}\0{artist}" if artist else f"{title}\0\0{place}"
    return f"\0{place}" if place.parts else None


def _without_disc(folder: PurePath) -> PurePath:
    if not folder.parts:
        return folder
    kept = _DISC.sub("", folder.name)
    return folder.with_name(kept) if kept.strip() else folder.parent


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


@dataclass(frozen=True, eq=False)
class Groups:
    """Albums and artists of tracks.

    Attributes
    ----------
    albums, artists
        int (tracks,): numbers from 0, equal for tracks of one album or one artist. A track on no
        album, or on a compilation, is alone on its own, and so is one without an artist. The
        artist of an album's tracks is the one whom most of them have.
    compilation
        bool (tracks,): whether it is on an album of which no artist has more than half.
    """

    albums: Numbers
    artists: Numbers
    compilation: NDArray[np.bool_]

    def of(self, rows: Numbers) -> Groups:
        """Give the groups of some of the tracks."""
        return Groups(
            _numbered(self.albums[rows]), _numbered(self.artists[rows]), self.compilation[rows]
        )


@dataclass(eq=False)
class GroupCollector:
    """Collects the keys of tracks, one after the other; each key is kept once."""

    _keys: dict[str, int] = field(default_factory=dict)
    _albums: list[int] = field(default_factory=list)
    _artists: list[int] = field(default_factory=list)

    def add(self, names: TrackNames, folder: PurePath) -> None:
        """Add a track; see ``album_key``. Its own artist counts before its album's."""
        album = album_key(names, folder)
        self._albums.append(-1 if album is None else self._number(f"album {album}"))
        self._artists.append(self._number(artist_name([names.artist, names.album_artist])))

    def add_alone(self) -> None:
        """Add a track of which nothing is known."""
        self._albums.append(-1)
        self._artists.append(self._number(""))

    def groups(self) -> Groups:
        """Group the tracks."""
        albums = np.array(self._albums, dtype=np.intp)
        artists = np.array(self._artists, dtype=np.intp)
        rows = np.arange(len(albums))
        albums = np.where(albums < 0, len(self._keys) + rows, albums)
        titled = _numbered(albums)
        pairs, counts = np.unique(np.stack([titled, artists]), axis=1, return_counts=True)
        by_count = np.argsort(counts, kind="stable")  # of each album the most frequent is the last
        most, main = (np.zeros(len(albums), dtype=np.intp) for _ in range(2))
        most[pairs[0, by_count]], main[pairs[0, by_count]] = counts[by_count], pairs[1, by_count]
        compilation = 2 * most[titled] <= np.bincount(titled)[titled]
        album = _numbered(np.where(compilation, len(albums) + rows, titled))
        artists = np.where(compilation, artists, main[titled])
        nobody = self._keys.get("", -1)
        artists = np.where(artists == nobody, len(self._keys) + album, artists)
        return Groups(album, _numbered(artists), compilation)

    def _number(self, key: str) -> int:
        return self._keys.setdefault(key, len(self._keys))


def _numbered(keys: Numbers) -> Numbers:
    return np.asarray(np.unique(keys, return_inverse=True)[1], dtype=np.intp)
