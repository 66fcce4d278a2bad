"""Values as the catalogue's columns hold them: paths, probabilities and embeddings.

A function that reads raises TypeError or ValueError for a value that genrescope never writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrescope.database import stored


def path_of(folder: str | bytes, name: str | bytes) -> Path:
    """Give the path of a file by the stored path of its folder and its stored name."""
    return Path(join(folder, name))


def join(folder: str | bytes, name: str | bytes) -> str:
    """Join a stored folder and a stored name."""
    path = os.path.join(os.fsdecode(folder), os.fsdecode(name))  # noqa: PTH118  faster
    if "\0" in path:
        raise ValueError(f"{path!r} cannot be a path")
    return path


def bytes_of(value: Any) -> bytes | None:
    """Return a value that must be bytes or None."""
    if not isinstance(value, bytes | None):
        raise TypeError(f"{value!r} is not bytes")
    return value


def under(
    folder: str | None, *, recursive: bool = True, column: str = "folders.path"
) -> tuple[str, tuple[Any, ...]]:
    """Give an SQL condition for a folder and those below it.

    Parameters
    ----------
    folder
        Absolute; None is every folder.
    recursive
        Whether those below it count.
    column
        With the stored paths.

    Returns
    -------
    condition, values
        The condition's text and the values of its parameters.
    """
    if folder is None:
        return "1", ()
    if not recursive:
        return f"{column} = ?", (stored(folder),)
    inside = folder if folder.endswith(os.sep) else folder + os.sep
    beyond = inside[:-1] + chr(ord(os.sep) + 1)
    condition = f"({column} = ? OR ({column} >= ? AND {column} < ?)"
    values: list[Any] = [stored(text) for text in (folder, inside, beyond)]
    # Paths that are not UTF-8 are kept as bytes, which SQLite never compares equal to text.
    condition += f" OR ({column} >= ? AND {column} < ?))"
    values += [os.fsencode(inside), os.fsencode(beyond)]
    return condition, tuple(values)


def packed(names: tuple[str, ...], probabilities: Mapping[str, float]) -> bytes:
    """Pack probabilities in the order of some names, as little-endian float16."""
    return np.array([probabilities.get(name, 0.0) for name in names], dtype="<f2").tobytes()


def unpacked(names: tuple[str, ...], content: bytes | None) -> dict[str, float]:
    """Undo ``packed``: probabilities by name, the highest first."""
    probabilities = floats(content or b"").astype(float)
    order = np.argsort(-probabilities, kind="stable")
    return {names[i]: float(probabilities[i]) for i in order}


def floats(content: Any) -> NDArray[np.float16]:
    """Read little-endian float16 values, all of them finite."""
    values = np.frombuffer(content, dtype="<f2").astype(np.float16, copy=False)
    if not np.isfinite(values).all():
        raise ValueError("some values are not finite numbers")
    return values
