"""An index: what has been heard of a folder's tracks, in one file, so that none is heard twice.

The file is a NumPy archive without pickled objects, whose checksums tell when it is damaged. It is
written whole or not at all.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrescope.database import from_integer, to_integer
from genrescope.errors import InputError
from genrescope.io import whole

PREFIX = ".genrescope-similar"
"""What the names of indexes that lie in their own folder begin with; they are hidden files."""

_FORMAT = 1
_HEADER = "genrescope_similar"  # the archive's first member: tells an index from a stranger's file
_ELSEWHERE = "Give a file in a folder that you may write to with --db FILE"
_COLUMNS = {  # kind and number of dimensions
    "sizes": (np.dtype(np.int64), 1),
    "mtimes": (np.dtype(np.int64), 1),
    "vectors": (np.dtype(np.float16), 2),
    "genres": (np.dtype(np.int64), 1),
    "confidences": (np.dtype(np.float32), 1),
}
_MARK = slice(30, 30 + len(_HEADER))  # where a ZIP archive's first name stands


@dataclass(frozen=True, slots=True, eq=False)
class IndexRow:
    """One track as it was heard.

    Attributes
    ----------
    size
        Of its file, in bytes.
    mtime_ns
        When the file was changed, in ns; with another size or time it is heard again.
    vector
        float16 (width,), of length 1: what tracks are compared by.
    genre
        The most likely one.
    confidence
        Its probability, in [0, 1].
    """

    size: int
    mtime_ns: int
    vector: NDArray[np.float16]
    genre: str
    confidence: float


class StaleIndexError(Exception):
    """An index that is no good: the text says why, as a clause without a final stop."""


def read(path: Path, model: str, folder: str | None) -> dict[str, IndexRow]:
    """Read an index.

    Parameters
    ----------
    path
        Of the file; if there is none, nothing has been heard.
    model
        Key of the model that must have heard the tracks.
    folder
        Whose index it must be, if it lies elsewhere; None if it lies inside.

    Returns
    -------
    rows
        By path relative to the folder, with ``/`` between its parts.

    Raises
    ------
    StaleIndexError
        If it is damaged, of another genrescope or by another model: it must be made anew.
    InputError
        If the file is something else, is another folder's index or cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(path, f"it cannot be read ({error.strerror})", _ELSEWHERE) from error
    _check_version(path, content)
    try:
        header, rows = _unpack(content)
    except Exception as error:
        raise StaleIndexError("it is damaged") from error
    if header["folder"] != folder:
        whose = header["folder"] or "the folder that it lay in"
        remedy = "Give another file with --db, or write over it with --rebuild"
        raise InputError(path, f"it is the index of {whose}", remedy)
    if (header["format"], header["model"]) != (_FORMAT, model):
        raise StaleIndexError("it was made by another model or another genrescope")
    return rows


def write(path: Path, rows: dict[str, IndexRow], model: str, folder: str | None) -> None:
    """Write an index, whole or not at all; parameters as of ``read``.

    Raises
    ------
    InputError
        If it cannot be written there, or the file is something else.
    """
    genres = sorted({row.genre for row in rows.values()})
    header = {"format": _FORMAT, "model": model, "folder": folder, "genres": genres}
    number = {genre: i for i, genre in enumerate(genres)}
    vectors = [row.vector for row in rows.values()]
    parts: dict[str, Any] = {
        _HEADER: _bytes(header),
        "paths": _bytes(list(rows)),
        "sizes": np.array([row.size for row in rows.values()], dtype=np.int64),
        "mtimes": np.array([to_integer(row.mtime_ns) for row in rows.values()], dtype=np.int64),
        "vectors": np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float16),
        "genres": np.array([number[row.genre] for row in rows.values()], dtype=np.int64),
        "confidences": np.array([row.confidence for row in rows.values()], dtype=np.float32),
    }
    try:
        if path.exists():
            with path.open("rb") as file:
                _check_version(path, file.read(_MARK.stop))
        with whole(path, "--db") as partial, partial.open("wb") as file:
            np.savez(file, **parts)
    except OSError as error:
        cause = f"the index cannot be written ({error.strerror or error})"
        raise InputError(path, cause, _ELSEWHERE) from error


def _check_version(path: Path, content: bytes) -> None:
    # By its name a file may be known for an index though nothing of it can be read.
    known = content[:4] == b"PK\x03\x04" and content[_MARK] == _HEADER.encode()
    if not known and not path.name.startswith(PREFIX):
        cause = "it is no index of genrescope's, so it is left alone"
        raise InputError(path, cause, "Delete it, or give another file with --db")


def _bytes(content: Any) -> NDArray[np.uint8]:
    # JSON, as an array of strings would take each to be as long as the longest.
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


def _unpack(content: bytes) -> tuple[dict[str, Any], dict[str, IndexRow]]:
    # Members are read to their end, or else their checksums would not be looked at. None is
    # compressed, so together they are no larger than the file.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("a member is compressed")
        parts = {
            Path(name).stem: np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }
    header = json.loads(parts[_HEADER].tobytes())
    names = json.loads(parts["paths"].tobytes())
    columns = [parts[name] for name in _COLUMNS]
    if {name: (parts[name].dtype, parts[name].ndim) for name in _COLUMNS} != _COLUMNS:
        raise ValueError("a column is of another kind")
    if not all(isinstance(name, str) for name in (*names, *header["genres"])):
        raise ValueError("a name is no text")
    if not (
        np.isfinite(parts["vectors"]).all() and (np.abs(parts["confidences"] - 0.5) <= 0.5).all()
    ):
        raise ValueError("a number is none that is ever written")
    rows = {
        name: IndexRow(
            int(size), from_integer(int(mtime)), vector, header["genres"][genre], float(confidence)
        )
        for name, size, mtime, vector, genre, confidence in zip(names, *columns, strict=True)
    }
    return {name: header[name] for name in ("format", "model", "folder")}, rows
