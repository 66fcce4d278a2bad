"""Datasets of your own: a folder of genres, or a CSV file that lists tracks."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

from genrescope.audio import is_audio
from genrescope.errors import InputError
from genrescope.reading import is_file, is_text
from genrescope.tracks.track import MOST_GENRES, Dataset, Track, genre_fault, spelt_alike

_CSV_COLUMNS = "path, genre and, if known, artist"


def read_folder(folder: Path) -> Dataset:
    """Read ``<folder>/<genre>/<clip>``; clips may lie deeper, then the first level is the genre.

    Returns
    -------
    dataset
        Named after the folder. Empty genre folders, and files that stand in several places, are
        among its problems; a file that two genres share is left out of both.

    Raises
    ------
    InputError
        If there is no such folder, no genre in it, or no clip of one genre alone.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "Check the path")
    genres = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    tracks: list[Track] = []
    problems: list[InputError] = []
    for genre in genres:
        clips = sorted(path for path in genre.rglob("*") if path.is_file() and is_audio(path))
        if not clips:
            remedy = "Put audio files into it or remove the folder"
            problems.append(InputError(genre, "the genre holds no audio files", remedy))
        tracks += [
            Track(id=clip.relative_to(folder).as_posix(), genre=genre.name, audio=clip)
            for clip in clips
        ]
    if not tracks:
        remedy = "Lay clips out as <folder>/<genre>/<clip>, or give a CSV file"
        raise InputError(folder, "no genre folders with audio files in it", remedy)
    return _dataset(folder, tracks, problems)


def read_csv(path: Path) -> Dataset:
    """Read a CSV file with columns path, genre and optionally artist.

    Paths may be relative to the CSV file's folder; artists are compared as ``spelt_alike``.

    Returns
    -------
    dataset
        Named after the file. Rows that cannot be used stand among its problems; so do files that
        are listed twice, and those of two genres are left out of both.

    Raises
    ------
    InputError
        If the file is missing, is no CSV text, lacks a column or holds no usable row.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "Check the path")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        remedy = f"Save it as UTF-8 CSV with the columns {_CSV_COLUMNS}"
        raise InputError(path, f"it is not CSV text ({error})", remedy) from error
    for column in ("path", "genre"):
        if column not in columns:
            remedy = f"Give it the columns {_CSV_COLUMNS}"
            raise InputError(path, f"column {column!r} is missing", remedy)
    tracks: list[Track] = []
    problems: list[InputError] = []
    for line, row in rows:
        name, genre = (row["path"] or "").strip(), (row["genre"] or "").strip()
        clip = path.parent / name
        if not name or not genre:
            problems.append(InputError(path, f"line {line} lacks a path or a genre", "Fill it in"))
        elif not is_file(clip):
            remedy = f"Mend line {line} of {path.name}; paths are relative to that file"
            problems.append(InputError(clip, "no such file", remedy))
        else:
            artist = spelt_alike(row.get("artist") or "") or None
            tracks.append(Track(id=name, genre=genre, audio=clip, group=artist))
    if not tracks:
        first = f" (first problem: {problems[0]})" if problems else ""
        raise InputError(path, f"no usable row in it{first}", "List at least one track per genre")
    return _dataset(path, tracks, problems)


def _dataset(source: Path, tracks: list[Track], problems: list[InputError]) -> Dataset:
    genres = sorted({track.genre for track in tracks})
    if len(genres) > MOST_GENRES:
        cause = f"it has {len(genres):,} genres, more than {MOST_GENRES:,}"
        raise InputError(source, cause, "Put some of them together")
    for genre in genres:
        if (fault := genre_fault(genre)) is not None:
            raise InputError(source, fault, "Give it another name")
    kept: list[Track] = []
    readable = [track for track in tracks if is_text(track.id)]
    for track in tracks:
        if not is_text(track.id):
            cause, remedy = "its name is not in UTF-8", "Rename it; until then it is left out"
            problems.append(InputError(track.audio or source, cause, remedy))
    for same in _by_content(readable):
        genres = sorted({track.genre for track in same})
        names = ", ".join(track.id for track in same)
        path = same[0].audio or source
        if len(genres) > 1:
            cause = f"the genres {' and '.join(genres)} share this file ({names})"
            problems.append(InputError(path, cause, "Keep it in one genre; it is left out of all"))
            continue
        if len(same) > 1:
            problems.append(InputError(path, f"the same audio is there as {names}", "Keep one"))
        kept.append(same[0])
    if not kept:
        cause = f"no usable track in it (first problem: {problems[0]})"
        raise InputError(source, cause, "Give every clip one genre")
    return Dataset(
        name=source.resolve().stem if source.is_file() else source.resolve().name,
        tracks=tuple(sorted(kept, key=lambda track: track.id)),
        problems=tuple(problems),
    )


def _by_content(tracks: list[Track]) -> list[list[Track]]:
    # Only files of equal size can be equal, so few are read.
    by_size: defaultdict[int, list[Track]] = defaultdict(list)
    for track in tracks:
        by_size[track.audio.stat().st_size if track.audio else -1].append(track)
    groups: list[list[Track]] = []
    for same_size in by_size.values():
        by_digest: defaultdict[str, list[Track]] = defaultdict(list)
        for track in same_size:
            digest = _digest(track.audio) if track.audio and len(same_size) > 1 else ""
            by_digest[digest].append(track)
        groups += by_digest.values()
    return groups


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
