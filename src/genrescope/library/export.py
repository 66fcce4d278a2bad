"""Export a catalogue to other programs: CSV, JSON lines, Parquet, playlists, JAMS."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import numpy as np

from genrescope import __version__, audio
from genrescope.audio.formats import may_be_audio
from genrescope.classifier import OTHER, Prediction
from genrescope.database import to_integer
from genrescope.datasets import gtzan
from genrescope.errors import InputError, one_line
from genrescope.io import (
    CsvWriter,
    check_folder,
    is_plain_line,
    to_json,
    whole,
    write_text,
    written,
)
from genrescope.library.catalogue import CatalogueTrack
from genrescope.system import is_device_name

_TAGS = 5  # the most probable, in formats that do not hold all of them
_NAME_BYTES = 150
_ROWS = 4096  # of a Parquet row group
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff<>:"/\\|?*]+')


_NO_GENRE = "there is no genre, as the file could not be read"
_OTHER = "none of the model's genres"
_UNSURE = "unsure"
_ELSEWHERE = "on another drive than the playlists"
_NO_LINE = "control characters, or bytes that are not text, are in the path"


@dataclass
class Written:
    """The result of an export to a folder.

    Attributes
    ----------
    counts
        Number of tracks by playlist (its genre, or ``other``); otherwise of ``tracks``.
    left_out
        For each reason, how many tracks were left out, and the first one.
    """

    counts: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, tuple[int, Path]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path) -> None:
        """Count a track that is left out."""
        count, first = self.left_out.get(reason, (0, path))
        self.left_out[reason] = (count + 1, first)


def confident(
    tracks: Iterable[CatalogueTrack], minimum: float, done: Written
) -> Iterator[CatalogueTrack]:
    """Give the tracks whose genre is at least so probable; count the others as left out.

    Parameters
    ----------
    tracks
        Of the catalogue.
    minimum
        In [0, 1]; 0 keeps all, those too that have no genre.
    done
        Where the others are counted.
    """
    for known in tracks:
        found = known.prediction
        if not minimum or (found and (found.genre_confidence or 0.0) >= minimum):
            yield known
        elif found is None:
            done.leave_out(_NO_GENRE, known.path)
        else:
            low = f"confidence below {minimum:g}"
            done.leave_out(_OTHER if found.other else low, known.path)


def to_row(known: CatalogueTrack) -> dict[str, Any]:
    """Give the record of a file as JSON values.

    Returns
    -------
    row
        ``path``, ``genre`` (None if it is none of the model's), ``other`` (whether it is none),
        ``best`` (the most likely of the model's), ``confidence`` (of ``best``), ``unsure``,
        ``probabilities``, ``tags``, ``model``, ``size`` (bytes), ``mtime_ns``, ``fingerprint``
        (hex), ``warnings`` (notes about the file) and ``error``; missing values are None.
    """
    found = known.prediction
    return {
        "path": str(known.path),
        "genre": found and found.genre,
        "other": found and found.other,
        "best": found and found.best,
        "confidence": found and round(found.confidence, 6),
        "unsure": found and found.unsure,
        "probabilities": found and _rounded(found.probabilities),
        "tags": found and _rounded(found.tags),
        "model": known.model,
        "size": known.size,
        "mtime_ns": known.mtime_ns,
        "fingerprint": known.fingerprint and known.fingerprint.hex(),
        "warnings": found and list(found.warnings),
        "error": known.error,
    }


def write_csv(tracks: Iterable[CatalogueTrack], out: IO[str]) -> int:
    """Write ``path, genre, confidence, unsure, other, tags, warnings, error``; count the rows.

    The genre is the word ``other`` for a file that is none of the model's; the confidence is then
    empty.
    """
    writer = CsvWriter(out)
    writer.row("path", "genre", "confidence", "unsure", "other", "tags", "warnings", "error")
    count = 0
    for known in tracks:
        found = known.prediction
        if found is None:
            writer.row(known.path, *[None] * 6, known.error)
        else:
            tags = "; ".join(list(found.tags)[:_TAGS])
            share = found.genre_confidence
            sure = None if share is None else round(Decimal(share), 4)
            kind = str(found.unsure).lower(), str(found.other).lower()
            warnings = "; ".join(found.warnings) or None
            writer.row(known.path, found.label, sure, *kind, tags, warnings, None)
        count += 1
    return count


def write_jsonl(tracks: Iterable[CatalogueTrack], out: IO[str]) -> int:
    """Write one JSON object per line, as of ``to_row``; return their number."""
    count = 0
    for known in tracks:
        out.write(to_json(to_row(known), None, getattr(out, "encoding", "utf-8")) + "\n")
        count += 1
    return count


def write_parquet(tracks: Iterable[CatalogueTrack], path: Path) -> int:
    """Write a Parquet file, whole or not at all; return the row count. Needs pyarrow.

    Probabilities and tags are maps from names to numbers; ``embedding`` is a list of float32, of
    ``Classifier.analyse``; the rest is as of ``to_row``.
    """
    import pyarrow as pa  # noqa: PLC0415  an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    probabilities = pa.map_(pa.string(), pa.float32())
    schema = pa.schema(
        {
            "path": pa.string(),
            "genre": pa.dictionary(pa.int32(), pa.string()),
            "other": pa.bool_(),
            "best": pa.dictionary(pa.int32(), pa.string()),
            "confidence": pa.float32(),
            "unsure": pa.bool_(),
            "probabilities": probabilities,
            "tags": probabilities,
            "model": pa.string(),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
            "fingerprint": pa.string(),
            "warnings": pa.list_(pa.string()),
            "error": pa.string(),
            "embedding": pa.list_(pa.float32()),
        }
    )
    count = 0
    with (
        whole(path, is_audio=may_be_audio) as temporary,
        pq.ParquetWriter(temporary, schema) as writer,
    ):
        for rows in _batches(map(_parquet_row, tracks)):
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(rows)
    return count


def write_playlists(
    tracks: Iterable[CatalogueTrack],
    folder: Path,
    *,
    include_unsure: bool = False,
    include_other: bool = False,
    relative: bool = False,
) -> Written:
    """Write a playlist (M3U8) for each genre.

    Parameters
    ----------
    tracks
        Those without a prediction are left out, and those whose path is not one line of text.
    folder
        Created if need be. Playlists are named after genres and replace files of the same name.
        Genres whose names would give the same file name, on any system, get different ones.
    include_unsure
        Whether unsure tracks are in the playlist of their most probable genre.
    include_other
        Whether tracks that are none of the model's genres are in a playlist ``other``.
    relative
        Whether paths are relative to the folder, with ``/`` between their parts.

    Returns
    -------
    written
        Number of tracks by genre, and what is left out.
    """
    done = Written()
    _make(folder)
    base = folder.resolve() if relative else None
    with ExitStack() as open_files:
        lists: dict[str, IO[str]] = {}
        taken: set[str] = set()
        for known in tracks:
            found = known.prediction
            line = _line(known.path, base)
            if found is None:
                done.leave_out(_NO_GENRE, known.path)
            elif found.other and not include_other:
                done.leave_out(f"{_OTHER}; see --include-other", known.path)
            elif found.unsure and not include_unsure:
                done.leave_out(f"{_UNSURE}; see --include-unsure", known.path)
            elif line is None:
                done.leave_out(_ELSEWHERE, known.path)
            elif not is_plain_line(line):
                done.leave_out(_NO_LINE, known.path)
            else:
                genre = OTHER if found.other else found.best
                if genre not in lists:
                    name = _playlist_name(genre, taken)
                    playlist = write_text(folder / f"{name}.m3u8", is_audio=may_be_audio)
                    lists[genre] = open_files.enter_context(playlist)
                    lists[genre].write(f"#EXTM3U\n#PLAYLIST:{one_line(genre)}\n")
                lists[genre].write(f"{line}\n")
                done.counts[genre] = done.counts.get(genre, 0) + 1
    done.counts = dict(sorted(done.counts.items()))
    return done


def _line(path: Path, base: Path | None) -> str | None:
    # A track's line in a playlist; None if no relative path leads to it.
    if base is None:
        return str(path)
    try:
        line = Path(os.path.relpath(path, base)).as_posix()
    except ValueError:  # Windows: on another drive
        return None
    return f"./{line}" if line.startswith("#") else line  # else it would be a comment


def _playlist_name(genre: str, taken: set[str]) -> str:
    # Names are compared without case and Unicode form, as some file systems do. A name that was
    # changed, or is taken, gets digits of the genre's hash, which are the same in every export.
    name = _short(_NOT_IN_NAMES.sub("_", genre).strip(". ")) or "_"
    if name != genre or is_device_name(name) or _folded(name) in taken:
        digits = hashlib.sha256(genre.encode(errors="surrogatepass")).hexdigest()[:8]
        name = f"_{name} ({digits})" if is_device_name(name) else f"{name} ({digits})"
    taken.add(_folded(name))
    return name


def _short(name: str) -> str:
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def write_jams(tracks: Iterable[CatalogueTrack], folder: Path) -> Written:
    """Write a JAMS file for each track. Needs jams.

    Genres are observations of ``tag_gtzan``, if the model has only GTZAN's ten, else of
    ``tag_open``: those at least half as probable as the first, with their probability as
    confidence; none if the track is none of the model's genres. The five most probable tags of the
    backbone are another annotation, of ``tag_open``. The annotations' sandboxes hold all
    probabilities.

    Parameters
    ----------
    tracks
        Those without a prediction are left out, and those whose length, which JAMS requires, cannot
        be read.
    folder
        Created if need be. Files are named after the track's file and, as names repeat, 8 hex
        digits of its path's hash; they replace those of the same track.

    References
    ----------
    E. J. Humphrey et al., "JAMS: A JSON Annotated Music Specification for Reproducible MIR
    Research", ISMIR 2014.
    """
    done = Written({"tracks": 0})
    _make(folder)
    for known in tracks:
        if known.prediction is None:
            done.leave_out(_NO_GENRE, known.path)
            continue
        seconds = _seconds(known.path)
        if seconds is None:
            done.leave_out("the length cannot be read", known.path)
            continue
        with write_text(folder / _jams_name(known.path), is_audio=may_be_audio) as file:
            _to_jams(known, known.prediction, seconds).save(file)
        done.counts["tracks"] += 1
    return done


def _to_jams(known: CatalogueTrack, found: Prediction, seconds: float) -> Any:
    import jams  # noqa: PLC0415  an extra

    is_gtzan = set(found.probabilities) <= set(gtzan.GENRES)
    names = {"hiphop": "hip-hop"} if is_gtzan else {}
    genres = {names.get(name, name): share for name, share in found.probabilities.items()}
    likely = [] if found.other else found.likely
    observed = {names.get(name, name): found.probabilities[name] for name in likely}
    parts = [("tag_gtzan" if is_gtzan else "tag_open", observed, genres)]
    if found.tags:
        parts.append(("tag_open", dict(list(found.tags.items())[:_TAGS]), found.tags))
    metadata = jams.AnnotationMetadata(
        version=__version__,
        annotator={"name": "genrescope", "model": known.model},
        annotation_tools=f"genrescope {__version__}",
        data_source="program",
    )
    document = jams.JAMS(
        file_metadata=jams.FileMetadata(title=_format_name(known.path.name), duration=seconds),
        sandbox={"path": written(str(known.path)), "unsure": found.unsure, "other": found.other},
    )
    for namespace, some, every in parts:
        annotation = jams.Annotation(
            namespace,
            annotation_metadata=metadata,
            sandbox={"probabilities": _rounded(every)},
            duration=seconds,
        )
        for name, share in some.items():
            annotation.append(time=0.0, duration=seconds, value=name, confidence=round(share, 4))
        document.annotations.append(annotation)
    return document


def _jams_name(path: Path) -> str:
    short = _short(_NOT_IN_NAMES.sub("_", _format_name(path.stem)).strip(". ") or "_")
    short = f"_{short}" if is_device_name(short) else short
    return f"{short}.{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}.jams"


def _seconds(path: Path) -> float | None:
    try:
        seconds = audio.length(path)
    except InputError:
        return None
    return seconds if seconds > 0 else None


def _format_name(name: str) -> str:
    # Names that are not UTF-8 cannot be written as text.
    return os.fsencode(name).decode(errors="replace")


def _make(folder: Path) -> None:
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = f"it cannot be written ({error.strerror or error})"
        raise InputError(folder, cause, "Give another place with --out, or make room") from error


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _parquet_row(known: CatalogueTrack) -> dict[str, Any]:
    row = to_row(known)
    row["mtime_ns"] = to_integer(known.mtime_ns)  # of 64 bits; see there
    row["path"] = written(row["path"])
    row["error"] = row["error"] and written(row["error"])
    row["embedding"] = None if known.embedding is None else known.embedding.astype(np.float32)
    for column in ("probabilities", "tags"):
        row[column] = row[column] and list(row[column].items())
    return row


def _rounded(probabilities: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in probabilities.items()}


FORMS: dict[str, Callable[..., Any]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "m3u": write_playlists,
    "jams": write_jams,
}
"""The writer of each format: the first two write to an open file, the others to a path."""
