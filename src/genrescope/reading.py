"""Reading files that others have made: none is taken into memory that is larger than its kind."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from genrescope.errors import InputError


def read_bounded(path: Path, most: int, remedy: str) -> bytes:
    """Read a file whole.

    Parameters
    ----------
    path
        Of a file, or a link that leads to one. What is no file (a folder, a pipe, a device) is not
        opened.
    most
        Bytes that it may have.
    remedy
        What to do if it cannot be used; see ``InputError``.

    Returns
    -------
    content
        At most ``most`` bytes.

    Raises
    ------
    InputError
        If it is not there, is no file, is larger or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(path, "it is no file", remedy)
        if status.st_size > most:
            cause = f"it has {status.st_size:,} bytes, more than {most:,}"
            raise InputError(path, cause, remedy)
        with path.open("rb") as file:
            content = file.read(status.st_size + 1)  # one that grows, or lies, has more
    except FileNotFoundError as error:
        raise InputError(path, "no such file", remedy) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        cause = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(path, cause, remedy) from error
    if len(content) > status.st_size:
        raise InputError(path, "it is being written", "Try again when that has ended")
    return content


def is_file(path: Path) -> bool:
    """Tell whether there is a file; there is none of a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_text(name: str) -> bool:
    """Tell whether a file's name can be written out: on POSIX it may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def sha256(path: Path) -> str:
    """Hash a file, some of it at a time; 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
