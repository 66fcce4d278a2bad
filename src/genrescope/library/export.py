"""Write what a catalogue knows for other programs: CSV, JSON lines, Parquet, playlists, JAMS."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from genrescope import __version__, audio
from genrescope.classifier import Prediction
from genrescope.errors import InputError
from genrescope.library.catalogue import Known
from genrescope.tracks import gtzan

_TAGS = 5  # that are named where a file has no room, or no use, for all of them
_NAME_BYTES = 150
_ROWS = 10_000  # of a Parquet row group
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')


def to_row(known: Known) -> dict[str, Any]:
    """Give what is known of a file as JSON values.

    Returns
    -------
    row
        ``path``, ``genre``, ``confidence``, ``unsure``, ``probabilities``, ``tags``, ``model``,
        ``size`` (bytes), ``mtime_ns``, ``fingerprint`` (hex) and ``error``; what there is not is
        None.
    """
    found = known.prediction
    return {
        "path": str(known.path),
        "genre": found and found.genre,
        "confidence": found and round(found.confidence, 6),
        "unsure": found and found.unsure,
        "probabilities": found and _rounded(found.probabilities),
        "tags": found and _rounded(found.tags),
        "model": known.model,
        "size": known.size,
        "mtime_ns": known.mtime_ns,
        "fingerprint": known.fingerprint and known.fingerprint.hex(),
        "error": known.error,
    }


def write_csv(tracks: Iterable[Known], out: IO[str]) -> int:
    """Write ``path, genre, confidence, unsure, tags, error``; give how many lines."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("path", "genre", "confidence", "unsure", "tags", "error"))
    count = 0
    for known in tracks:
        found = known.prediction
        if found is None:
            writer.writerow((known.path, "", "", "", "", known.error))
        else:
            tags = "; ".join(list(found.tags)[:_TAGS])
            shares = f"{found.confidence:.4f}", str(found.unsure).lower()
            writer.writerow((known.path, found.genre, *shares, tags, ""))
        count += 1
    return count


def write_jsonl(tracks: Iterable[Known], out: IO[str]) -> int:
    """Write a JSON object a line, as of ``to_row``; give how many."""
    count = 0
    for known in tracks:
        out.write(json.dumps(to_row(known), ensure_ascii=False) + "\n")
        count += 1
    return count


def write_parquet(tracks: Iterable[Known], path: Path) -> int:
    """Write a Parquet file, whole or not at all; give how many rows. Needs pyarrow.

    Probabilities and tags are maps from names to numbers; the rest is as of ``to_row``.
    """
    import pyarrow as pa  # noqa: PLC0415  an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    shares = pa.map_(pa.string(), pa.float32())
    schema = pa.schema(
        {
            "path": pa.string(),
            "genre": pa.dictionary(pa.int32(), pa.string()),
            "confidence": pa.float32(),
            "unsure": pa.bool_(),
            "probabilities": shares,
            "tags": shares,
            "model": pa.string(),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
            "fingerprint": pa.string(),
            "error": pa.string(),
        }
    )
    count = 0
    with _whole(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for rows in _batches(map(_parquet_row, tracks)):
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(rows)
    return count


def write_playlists(tracks: Iterable[Known], folder: Path) -> dict[str, int]:
    """Write a playlist (M3U8) for each genre; give how many tracks each has.

    Parameters
    ----------
    tracks
        Those without a prediction are left out.
    folder
        Made if need be. Playlists are named after genres and replace those of that name.
    """
    counts: dict[str, int] = {}
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_files:
        lists: dict[str, IO[str]] = {}
        for known in tracks:
            if known.prediction is None or _has_newline(known.path):
                continue
            genre = known.prediction.genre
            if genre not in lists:
                name = _NOT_IN_NAMES.sub("_", genre).strip(". ") or "_"
                lists[genre] = open_files.enter_context(write_text(folder / f"{name}.m3u8"))
                lists[genre].write(f"#EXTM3U\n#PLAYLIST:{genre}\n")
            lists[genre].write(f"{known.path}\n")
            counts[genre] = counts.get(genre, 0) + 1
    return dict(sorted(counts.items()))


def write_jams(tracks: Iterable[Known], folder: Path) -> dict[str, int]:
    """Write a JAMS file for each track; give how many, and how many were left out. Needs jams.

    Genres are observations of ``tag_gtzan``, if the model knows only GTZAN's ten, else of
    ``tag_open``: those at least half as probable as the first, with their probability as
    confidence. The five likeliest tags of the backbone are another annotation, of ``tag_open``.
    All probabilities stand in the annotations' sandboxes.

    Parameters
    ----------
    tracks
        Those without a prediction are left out, and those whose length cannot be read (JAMS asks
        for it): of files that are gone, say.
    folder
        Made if need be. Files are named after the track's file and, as names repeat, 8 hex digits
        of its path; they replace those of the same track.

    References
    ----------
    E. J. Humphrey et al., "JAMS: A JSON Annotated Music Specification for Reproducible MIR
    Research", ISMIR 2014.
    """
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    counts = {"tracks": 0}
    for known in tracks:
        if known.prediction is None:
            continue
        seconds = _seconds(known.path)
        if seconds is None:
            reason = "left out, as their length cannot be read:"
            counts[reason] = counts.get(reason, 0) + 1
            continue
        with write_text(folder / _jams_name(known.path)) as file:
            _to_jams(known, known.prediction, seconds).save(file)
        counts["tracks"] += 1
    return counts


def _to_jams(known: Known, found: Prediction, seconds: float) -> Any:
    import jams  # noqa: PLC0415  an extra

    is_gtzan = set(found.probabilities) <= set(gtzan.GENRES)
    names = {"hiphop": "hip-hop"} if is_gtzan else {}
    genres = {names.get(name, name): share for name, share in found.probabilities.items()}
    observed = {names.get(name, name): found.probabilities[name] for name in found.likely}
    parts = [("tag_gtzan" if is_gtzan else "tag_open", observed, genres)]
    if found.tags:
        parts.append(("tag_open", dict(list(found.tags.items())[:_TAGS]), found.tags))
    metadata = jams.AnnotationMetadata(
        version=__version__,
        annotator={"name": "genrescope", "model": known.model},
        annotation_tools=f"genrescope {__version__}",
        data_source="program",
    )
    whole = jams.JAMS(
        file_metadata=jams.FileMetadata(title=_told_name(known.path.name), duration=seconds),
        sandbox={"path": _told_name(str(known.path)), "unsure": found.unsure},
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
        whole.annotations.append(annotation)
    return whole


def _jams_name(path: Path) -> str:
    stem = _NOT_IN_NAMES.sub("_", _told_name(path.stem)).strip(". ") or "_"
    short = stem.encode()[:_NAME_BYTES].decode(errors="ignore")
    return f"{short}.{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}.jams"


def _seconds(path: Path) -> float | None:
    try:
        seconds = audio.length(path)
    except InputError:
        return None
    return seconds if seconds > 0 else None


def _told_name(name: str) -> str:
    # Names that are no UTF-8 cannot be written as text.
    return os.fsencode(name).decode(errors="replace")


@contextmanager
def write_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with _whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name[:100]}-{secrets.token_hex(4)}")
    try:
        with _told(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = f"it cannot be written ({error.strerror or error})"
        raise InputError(path, cause, "Give another place with --out, or make room") from error


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _parquet_row(known: Known) -> dict[str, Any]:
    row = to_row(known)
    row["path"] = _told_name(row["path"])
    for shares in ("probabilities", "tags"):
        row[shares] = row[shares] and list(row[shares].items())
    return row


def _has_newline(path: Path) -> bool:
    return any(sign in str(path) for sign in "\r\n")


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


FORMS: dict[str, Callable[..., Any]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "m3u": write_playlists,
    "jams": write_jams,
}
"""How each form is written: the first two into an open file, the others to a path."""
