"""Files of unknown origin: reading with limits on their size; their names."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path, PurePosixPath

from genrescope.errors import InputError
from genrescope.system import is_device_name

_LONGEST = 200  # bytes of a name; file systems take 255
# Also what turns the direction of text, so that another ending is shown than there is.
_NOT_IN_NAMES = re.compile(
    r'[\x00-\x1f\x7f<>:"|?*\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]'
)
_QUOTED = re.compile("%(?:22|0A|0D)")  # as browsers write these three


def read_bounded(path: Path, max_bytes: int, remedy: str) -> bytes:
    """Read a file whole.

    Parameters
    ----------
    path
        Of a regular file, or a link to one. Folders, pipes and devices are not opened.
    max_bytes
        Size limit.
    remedy
        What to do if it cannot be used; see ``InputError``.

    Returns
    -------
    content
        At most ``max_bytes`` bytes.

    Raises
    ------
    InputError
        If it is missing, not a regular file, larger or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(path, "it is not a regular file", remedy)
        if status.st_size > max_bytes:
            cause = f"it has {status.st_size:,} bytes, more than {max_bytes:,}"
            raise InputError(path, cause, remedy)
        with path.open("rb") as file:
            content = file.read(status.st_size + 1)  # a growing file has more
    except FileNotFoundError as error:
        raise InputError(path, "no such file", remedy) from error
    except (OSError, ValueError) as error:  # ValueError: an impossible name
        cause = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(path, cause, remedy) from error
    if len(content) > status.st_size:
        raise InputError(path, "it is being written", "Try again when that has ended")
    return content


def check_regular(path: Path) -> None:
    """Check that a path is a regular file, or a link to one, without opening it.

    Raises
    ------
    InputError
        If it is missing, or a folder, pipe, socket or device.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: an impossible name
        raise unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise not_regular(path, mode)


def check_inside(path: Path, folder: Path) -> None:
    """Check that a path is a regular file that no link leads out of a folder, without opening it.

    Raises
    ------
    InputError
        As of ``check_regular``, or if it lies outside.
    """
    check_regular(path)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(path, "a link leads out of the library", "Put the file itself there")


def not_regular(path: Path, mode: int) -> InputError:
    """Build the error for a folder, pipe, socket or device instead of a file."""
    if stat.S_ISDIR(mode):
        return InputError(path, "it is a folder", "Give the path of an audio file")
    remedy = "Save its output to a file, and give that"
    return InputError(path, f"it is {kind_of(mode)}, not a regular file", remedy)


def kind_of(mode: int) -> str | None:
    """Return the kind of a file that is not regular, with its article; None for a regular one."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def no_folder(path: Path) -> str:
    """Describe why a path is not a folder, as a clause."""
    try:
        kind = kind_of(path.stat().st_mode)
    except FileNotFoundError:
        return "it is a link to nothing" if path.is_symlink() else "no such folder"
    except (OSError, ValueError) as error:  # ValueError: an impossible name
        return f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return f"it is {kind or 'a file'}, not a folder"


def unreadable(path: Path, error: OSError | ValueError) -> InputError:
    """Build the error for a file that cannot be read; ValueError is of an impossible name."""
    if isinstance(error, FileNotFoundError):
        cause = "it is a link to nothing" if path.is_symlink() else "no such file"
        return InputError(path, cause, "Check the path")
    cause = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return InputError(path, cause, "Check that you may read it")


def is_file(path: Path) -> bool:
    """Return whether a regular file exists; False for an impossible name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_text(name: str) -> bool:
    """Return whether a file's name is valid text: on POSIX it may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits; the file is read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(sent: str) -> str:
    """Give a file that was sent a name that any system can have, as near to its own as possible.

    Of a path, of either kind, it is the last part; ``clip`` and its ending where nothing is left.
    """
    name = PurePosixPath(_NOT_IN_NAMES.sub("", _QUOTED.sub("", sent)).replace("\\", "/")).name
    stem, ending = _cut(PurePosixPath(name).stem, _LONGEST), _cut(PurePosixPath(name).suffix, 12)
    return f"{stem}{ending}" if stem.strip(". ") and not is_device_name(stem) else f"clip{ending}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
