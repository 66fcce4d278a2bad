"""What is in a library, as values for its page: counts, failures, every track, playlists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genrescope.errors import InputError, NotFoundError, number_of, one_line
from genrescope.io import is_plain_line
from genrescope.library.catalogue import Catalogue
from genrescope.library.map import place
from genrescope.library.similar import Library


def contents(library: Library) -> dict[str, Any]:
    """Summarise a library as JSON values.

    Returns
    -------
    contents
        ``name``; ``tracks``, those that can be compared; ``analysed``, ``failed``, ``waiting`` and
        ``gone``, numbers of files; ``genres``, a list of ``genre`` and ``tracks``; ``other``, the
        number of tracks of none; ``failures``, a list of ``path`` and ``cause``.
    """
    root = library.folder.resolve()
    genres = Counter(track.best for track in library.tracks if not track.other)
    with Catalogue(library.database) as catalogue:
        counts = catalogue.counts(str(root))
        failures = [
            {"path": known.path.relative_to(root).as_posix(), "cause": known.error}
            for known in catalogue.tracks(str(root))
            if known.error is not None
        ]
    return {
        "name": root.name or str(root),
        "tracks": len(library),
        **counts,
        "genres": [{"genre": name, "tracks": count} for name, count in genres.most_common()],
        "other": len(library) - genres.total(),
        "failures": failures,
    }


def columns(library: Library) -> dict[str, list[Any]]:
    """Return a library's tracks as columns of JSON values: path, genre and how sure it is."""
    tracks, unsure_below = library.tracks, library.classifier.config.unsure_below
    return {
        "path": [Path(track.path).as_posix() for track in tracks],
        "genre": [track.genre for track in tracks],
        "best": [track.best for track in tracks],
        "other": [track.other for track in tracks],
        "unsure": [not track.other and track.confidence < unsure_below for track in tracks],
        "confidence": [round(track.confidence, 4) for track in tracks],
    }


def map_columns(library: Library) -> dict[str, list[float]]:
    """Return the tracks' places on a map, ``x`` and ``y``, from 0 to 1."""
    places = np.round(place(library.vectors).astype(float), 4)
    return {"x": places[:, 0].tolist(), "y": places[:, 1].tolist()}


def playlist(
    library: Library, name: str, rows: Sequence[int], *, absolute: bool
) -> tuple[str, list[Path]]:
    """Write a playlist (M3U8) of some tracks, each once.

    Parameters
    ----------
    library
        Of the tracks.
    name
        Of the playlist.
    rows
        Of the tracks in it.
    absolute
        Whether to write whole paths; else they are relative to the library's folder.

    Returns
    -------
    text, left_out
        The playlist, and the paths that it cannot hold, as they are not one line of text; it says
        how many.

    Raises
    ------
    NotFoundError
        If a row is not the library's.
    InputError
        If it can hold none of the paths.
    """
    if not all(0 <= row < len(library) for row in rows):
        raise NotFoundError("There is no such track.")
    root = library.folder.resolve()
    lines = ["#EXTM3U", f"#PLAYLIST:{one_line(name)}"]
    left_out = []
    for path in (Path(library.tracks[row].path) for row in dict.fromkeys(rows)):
        # "./", as a line that begins with # is a comment.
        line = str(root / path) if absolute else f"./{path.as_posix()}"
        if is_plain_line(line):
            lines.append(line)
        else:
            left_out.append(path)
    if len(lines) == 2:
        raise InputError(left_out[0], "a playlist cannot hold this name", "Rename it")
    if left_out:
        lines.append(
            f"# left out: {number_of(len(left_out), 'track')} with a name that cannot be here"
        )
    return "\n".join([*lines, ""]), left_out
