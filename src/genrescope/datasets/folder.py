"""Users' own datasets: a folder of genres, or a CSV file that lists tracks."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

from genrescope.audio.walk import is_hidden
from genrescope.datasets.findings import Finding, list_audio, problems_of
from genrescope.datasets.track import (
    MAX_GENRES,
    Dataset,
    Track,
    genre_fault,
    genre_key,
    genre_letters,
    spelt_alike,
)
from genrescope.errors import InputError
from genrescope.files import is_file, is_text, sha256, unreadable
from genrescope.system import path_for_others
from genrescope.table import Table, fold_name, open_table

_REMEDY = "Save it as UTF-8 CSV with the columns path, genre and, if known, artist"
_MAX_PATH = 4096  # characters; longer paths do not exist
_MAX_NAMES = 3  # of copies of a file, in one line

COLUMNS: dict[str, str] = tomllib.loads(
    files("genrescope.datasets").joinpath("columns.toml").read_text("utf-8")
)
"""Usual names of each column, the canonical one first; see ``fold_name``."""

_USUAL = {
    meaning: frozenset(fold_name(name) for name in names.split())
    for meaning, names in COLUMNS.items()
}


def read_folder(folder: Path) -> Dataset:
    """Read ``<folder>/<genre>/<clip>``; clips may be in subfolders of the genre's folder.

    Returns
    -------
    dataset
        Named after the folder. Its findings include empty genre folders, duplicate files and
        unused audio files; a file in two genres is left out of both. Folders with the same
        ``genre_key`` are one genre. A genre's folder may be a link.

    Raises
    ------
    InputError
        If the folder, its genres or usable clips are missing.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "Check the path")
    genres, findings = _genre_folders(folder)
    tracks: list[Track] = []
    for genre in genres:
        found = list_audio(genre)
        findings += [
            # Without audio, an unreadable folder makes the genre missing.
            replace(
                f, genre=genre.name, kind=f.kind if found.audio or not f.unreadable else "missing"
            )
            for f in found.unused
        ]
        if not found.audio and not any(f.unreadable for f in found.unused):
            cause, remedy = "the genre holds no audio files", "Put audio files into it"
            if not found.unused:
                remedy += " or remove the folder"
            findings.append(Finding("missing", genre, cause, remedy, genre=genre.name))
        tracks += [
            Track(id=clip.relative_to(folder).as_posix(), genre=genre.name, audio=clip)
            for clip in found.audio
        ]
    if not tracks:
        if (unreadable := next((f for f in findings if f.unreadable), None)) is not None:
            raise unreadable.error()
        remedy = "Lay clips out as <folder>/<genre>/<clip>, or give a CSV file or GTZAN"
        raise InputError(folder, "no genre folders with audio files in it", remedy)
    loose = list_audio(folder, deep=False)
    findings += [
        Finding("unused", path, "it is not in a genre's folder", "Move it into one or elsewhere")
        for path in loose.audio
    ]
    named = {*genres, *(finding.path for finding in findings)}
    findings += [finding for finding in loose.unused if finding.path not in named]
    return _dataset(folder, tracks, findings, [genre.name for genre in genres])


def _genre_folders(folder: Path) -> tuple[list[Path], list[Finding]]:
    """Find the genres' folders, sorted; links to folders are followed here but not below.

    A link that overlaps with another genre's folder is left out.
    """
    try:
        inside = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise unreadable(folder, error) from error
    genres: list[Path] = []
    findings: list[Finding] = []
    for path in sorted(inside, key=lambda path: path.is_symlink()):
        try:
            if not path.is_dir():
                continue
            cause = _overlap(path, folder, genres) if path.is_symlink() else None
        except OSError as error:  # a link without permission
            findings.append(Finding("unused", path, *unreadable(path, error).args[1:]))
            continue
        if cause is None:
            genres.append(path)
        else:
            remedy = "Remove or change the link; until then it is left out"
            findings.append(Finding("duplicate", path, cause, remedy))
    return sorted(genres), findings


def _overlap(link: Path, folder: Path, genres: Iterable[Path]) -> str | None:
    """Return how a link overlaps with the genres' folders, as a clause; None if it does not."""
    target = link.resolve()
    if folder.resolve().is_relative_to(target):
        return f"{link.name} is a link to a folder that holds all genres"
    for genre in genres:
        home = genre.resolve()
        if link.samefile(genre):
            return f"{link.name} is the same folder as {genre.name}"
        if target.is_relative_to(home):
            return f"{link.name} is a link to a folder in {genre.name}"
        if home.is_relative_to(target):
            return f"{link.name} is a link to a folder that holds {genre.name}"
    return None


def read_csv(path: Path) -> Dataset:
    """Read a CSV file with columns path, genre and optionally artist.

    Encodings and separators are those of ``open_table``. `COLUMNS` lists the accepted column
    names, in any case; of several for one meaning the canonical one is read. Paths may be relative
    to the CSV file's folder, absolute, ``file://`` addresses, or begin with ``~``; if the file does
    not exist, backslashes are read as slashes, and other Unicode forms are tried. Artists are
    compared as ``spelt_alike``.

    Returns
    -------
    dataset
        Named after the file. Its findings include unusable rows and duplicate files; a file in two
        genres is left out of both.

    Raises
    ------
    InputError
        If the file is missing, not CSV, lacks a column, has several for one meaning, or holds no
        usable row.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "Check the path")
    table = open_table(path, remedy=_REMEDY, known=lambda name: bool(_meaning(name)))
    places = _columns(table)
    tracks: list[Track] = []
    genres: list[str] = []
    findings = _unread_columns(table, places)
    for line, cells in table.rows():
        row = {meaning: cells[at] if at < len(cells) else "" for meaning, at in places.items()}
        genre = row["genre"].strip()
        finding: Finding | None = None
        if any(cell.strip() for cell in cells[len(table.header) :]):
            cause = f"line {line} has {len(cells)} cells, and the header {len(table.header)}"
            remedy = "Put cells that hold the separator between quotation marks"
            finding = Finding("corrupt", path, cause, remedy)
        elif not row["path"].strip() or not genre:
            cause = f"line {line} lacks a path or a genre"
            finding = Finding("corrupt", path, cause, "Fill it in")
        elif len(row["path"]) > _MAX_PATH:
            cause = f"line {line} has a path of {len(row['path']):,} characters"
            finding = Finding("corrupt", path, cause, "Close the quotation marks before it")
        else:
            found = _find(path.parent, row["path"])
            if isinstance(found, Track):
                artist = spelt_alike(row.get("artist", "")) or None
                tracks.append(replace(found, genre=genre, group=artist))
            else:
                cause, remedy = found
                clip = path.parent / row["path"].strip()
                finding = Finding("missing", clip, f"{cause} (line {line} of {path.name})", remedy)
        if finding is not None:
            findings.append(replace(finding, genre=genre or None))
        genres += [genre] * bool(genre)
    if not tracks:
        first = next((f.error() for f in findings if f.kind != "noted"), None)
        why = f" (first problem: {str(first).removesuffix('.')})" if first else ""
        raise InputError(path, f"no usable row in it{why}", "List at least one track per genre")
    return _dataset(path, tracks, [*findings, *_several_in_one(path, genres)], genres)


def _several_in_one(path: Path, genres: list[str]) -> Iterator[Finding]:
    """Note names that list several genres: with separators, or with parts that are genres."""
    known = {genre_key(genre) for genre in genres}
    lists = []
    for genre in sorted({*genres}):
        parts = [genre_key(part) for part in re.split(r"[;|,/+\\]", genre) if part.strip()]
        if len(parts) > 1 and (re.search(r"[;|]", genre) or known.issuperset(parts)):
            lists.append(genre)
    if lists:
        more = f" (and {len(lists) - 1:,} more like it)" if lists[1:] else ""
        cause = f"several genres in a cell are taken as one, {_named(lists[0])}{more}"
        yield Finding("noted", path, cause, "Give each track one genre if they are several")


def _meaning(name: str) -> str | None:
    return next((m for m, names in _USUAL.items() if fold_name(name) in names), None)


def _columns(table: Table) -> dict[str, int]:
    """Find the column of each meaning; artist is optional."""
    places: dict[str, int] = {}
    for meaning in COLUMNS:
        usual = [at for at, name in enumerate(table.header) if _meaning(name) == meaning]
        exact = [at for at in usual if fold_name(table.header[at]) == meaning]
        chosen = exact or usual
        if len(chosen) > 1:
            names = ", ".join(_named(table.header[at]) for at in chosen)
            remedy = f"Name the one to read {meaning}, and the others differently"
            raise InputError(table.path, f"several columns may be the {meaning}: {names}", remedy)
        if chosen:
            places[meaning] = chosen[0]
    missing = [meaning for meaning in ("path", "genre") if meaning not in places]
    if len(missing) == 2 and any(
        is_file(table.path.parent / name) for name in table.header if name
    ):
        cause = f"its first line is a row, not a header ({_header(table)})"
        raise InputError(table.path, cause, "Insert a header line: path,genre")
    if missing:
        several = "s" if missing[1:] else ""
        names = " and ".join(map(repr, missing))
        cause = f"column{several} {names} {'are' if several else 'is'} missing; "
        cause += f"its header: {_header(table)}"
        remedy = "Name the columns path, genre and, if known, artist"
        raise InputError(table.path, cause, remedy)
    return places


def _unread_columns(table: Table, places: dict[str, int]) -> list[Finding]:
    """Note columns that the user may have intended to be read."""
    unread = [name for at, name in enumerate(table.header) if name and at not in places.values()]
    findings: list[Finding] = []
    passed_over = [name for name in unread if _meaning(name)]
    if passed_over:
        read = ", ".join(_named(table.header[at]) for at in places.values())
        cause = f"of its columns {read} are read, not {', '.join(map(_named, passed_over[:5]))}"
        remedy = "Name those to read path, genre and artist"
        findings.append(Finding("noted", table.path, cause, remedy))
    if "artist" not in places and unread:
        cause = f"no column says the artist; its header: {_header(table)}"
        remedy = "If one does, name it artist, for artist-disjoint splits"
        findings.append(Finding("noted", table.path, cause, remedy))
    return findings


def _header(table: Table) -> str:
    names = ", ".join(map(_named, table.header[:8])) or "empty"
    return f"{names} …" if len(table.header) > 8 else names


def _named(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}…")


def _find(folder: Path, cell: str) -> Track | tuple[str, str]:
    """Return the track of a path in a table, without genre, or cause and remedy."""
    for name in _readings(cell):
        if is_file(folder / name):
            return Track(id=name, genre="", audio=path_for_others(folder / name))
    name = cell.strip()
    scheme = name.partition("://")[0]
    if "://" in name and scheme.isalpha() and scheme.lower() != "file":
        return "this is an address, not a file", "Download the file and give its path"
    try:
        there = (folder / name).exists()
    except (OSError, ValueError):
        there = False
    remedy = "Correct the path; paths are relative to the CSV file's folder"
    return ("it is not a regular file" if there else "no such file"), remedy


def _readings(cell: str) -> Iterator[str]:
    """Yield the possible paths of a cell, the most literal first."""
    name = cell.strip()
    yield from dict.fromkeys((name, cell))
    if address := re.fullmatch(r"file:(?://(?:localhost)?)?(/.*)", name, re.IGNORECASE):
        yield unquote(address[1])
        return
    if name.startswith("~"):
        try:
            yield str(Path(name).expanduser())
        except RuntimeError:  # no such user
            return
    slashed = name.replace("\\", "/")
    for form in ("NFC", "NFD"):
        for spelling in dict.fromkeys((name, slashed)):
            yield unicodedata.normalize(form, spelling)
    yield slashed


def _dataset(
    source: Path, tracks: list[Track], findings: list[Finding], genres: Iterable[str]
) -> Dataset:
    names = _one_name_each(source, [track.genre for track in tracks], genres, findings)
    tracks = [replace(track, genre=names[track.genre]) for track in tracks]
    kept: list[Track] = []
    readable = [track for track in tracks if is_text(track.id)]
    for track in tracks:
        if not is_text(track.id):
            cause, remedy = "its name is not in UTF-8", "Rename it; until then it is left out"
            where = track.audio or source
            findings.append(Finding("unused", where, cause, remedy, genre=track.genre))
    for same in _by_content(readable):
        labels = sorted({track.genre for track in same})
        ids = ", ".join(track.id for track in same[:_MAX_NAMES])
        ids += f" and {len(same) - _MAX_NAMES} more" if len(same) > _MAX_NAMES else ""
        if len(labels) > 1:
            cause = f"the genres {' and '.join(labels[:_MAX_NAMES])} share this file ({ids})"
            remedy, unused = "Keep it in one genre; it is left out of all", same
        else:
            cause, remedy, unused = (
                f"the same audio is listed several times: {ids}",
                "Keep one",
                same[1:],
            )
            kept.append(same[0])
        findings += [
            Finding("duplicate", t.audio or source, cause, remedy, t.id, t.genre) for t in unused
        ]
    problems = problems_of(findings)
    if not kept:
        cause = f"no usable track in it (first problem: {str(problems[0]).removesuffix('.')})"
        raise InputError(source, cause, "Give every clip one genre")
    left = {track.genre for track in kept}
    dataset = Dataset(
        name=source.resolve().stem if source.is_file() else source.resolve().name,
        tracks=tuple(sorted(kept, key=lambda track: track.id)),
        problems=problems,
        findings=tuple(findings),
        missing_genres=tuple(sorted({*names.values()} - left)),
    )
    return replace(dataset, notes=tuple(map(str, dataset.remarks)))


def _one_name_each(
    source: Path, labels: list[str], genres: Iterable[str], findings: list[Finding]
) -> dict[str, str]:
    """Map every spelling to its genre: the most frequent one of equal spellings.

    Raises
    ------
    InputError
        If a name is invalid, or there are too many.
    """
    spellings = sorted({*labels, *genres})
    for spelling in spellings:
        if (fault := genre_fault(spelling)) is not None:
            raise InputError(source, fault, "Give it another name")
    times = Counter(labels)
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for spelling in spellings:
        alike[genre_key(spelling)].append(spelling)
    names: dict[str, str] = {}
    for same in alike.values():
        best = max(same, key=lambda spelling: times[spelling])
        name = " ".join(unicodedata.normalize("NFC", best).split())
        names |= dict.fromkeys(same, name)
        if len(same) > 1:
            looks = Counter(unicodedata.normalize("NFC", spelling) for spelling in same)
            written = ", ".join(
                ascii(s) if looks[unicodedata.normalize("NFC", s)] > 1 else repr(s) for s in same
            )
            cause = f"{written} are one genre, {name!r}"
            remedy = "Give them different names if they are different genres"
            findings.append(Finding("noted", source, cause, remedy))
    chosen = sorted({*names.values()})
    if len(chosen) > MAX_GENRES:
        cause = f"it has {len(chosen):,} genres, more than {MAX_GENRES:,}"
        raise InputError(source, cause, "Merge some of them")
    similar: defaultdict[str, list[str]] = defaultdict(list)
    for name in chosen:
        similar[genre_letters(name)].append(name)
    for letters, several in similar.items():
        if letters and len(several) > 1:
            cause = f"the genres {' and '.join(map(repr, several))} stay separate"
            remedy = "Give them one name if they are one genre"
            findings.append(Finding("noted", source, cause, remedy))
    return names


def _by_content(tracks: list[Track]) -> list[list[Track]]:
    # Only files of equal size are read.
    by_size: defaultdict[int, list[Track]] = defaultdict(list)
    groups: list[list[Track]] = []
    for track in tracks:
        try:
            by_size[track.audio.stat().st_size if track.audio else -1].append(track)
        except OSError:  # deleted meanwhile; decoding reports it
            groups.append([track])
    for same_size in by_size.values():
        by_digest: defaultdict[str, list[Track]] = defaultdict(list)
        for track in same_size:
            digest = _digest(track.audio) if track.audio and len(same_size) > 1 else ""
            by_digest[digest].append(track)
        groups += by_digest.values()
    return groups


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:  # treated as unique; decoding reports the cause
        return str(path)
