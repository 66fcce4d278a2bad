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


def check_regular(path: Path) -> None:
    """Refuse what is not a regular file, or a link to one, without opening it.

    Raises
    ------
    InputError
        If it is not there, or is a folder, pipe, socket or device.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise not_regular(path, mode)


def not_regular(path: Path, mode: int) -> InputError:
    """Give the error for a folder, pipe, socket or device in the place of a file."""
    if stat.S_ISDIR(mode):
        return InputError(path, "it is a folder", "Give the path of an audio file")
    remedy = "Save what comes out of it to a file, and give that"
    return InputError(path, f"it is {kind_of(mode)}, not a regular file", remedy)


def kind_of(mode: int) -> str | None:
    """Name what is not a regular file, with its article; None for a regular file."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def no_folder(path: Path) -> str:
    """Say what is in the place of a folder, as a clause."""
    try:
        kind = kind_of(path.stat().st_mode)
    except FileNotFoundError:
        return "it is a link to nothing" if path.is_symlink() else "no such folder"
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return f"it is {kind or 'a file'}, not a folder"


def unreadable(path: Path, error: OSError | ValueError) -> InputError:
    """Say why a file cannot be read; ValueError is of a name that no file can have."""
    if isinstance(error, FileNotFoundError):
        cause = "it is a link to nothing" if path.is_symlink() else "no such file"
        return InputError(path, cause, "Check the path")
    cause = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return InputError(path, cause, "Check that you may read it")


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
