"""A server's folder of temporary files, and what servers that were killed have left behind."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX = "genrescope-serve-"
_NAME = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")


class ServerFolder:
    """A folder for a server's temporary files, locked as long as the server lives.

    The lock is on the folder itself, so it ends with the process, however that ends, and no file
    of it lies among the uploads. A new one first deletes those of servers that were killed. Where
    the system cannot lock folders, nothing is deleted but the own folder.

    Attributes
    ----------
    path
        The folder, without links.
    """

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        if fcntl is not None:
            _sweep(parent)
        while True:
            self._kept = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent)
            self.path = Path(self._kept.name).resolve()
            self._lock = _lock(self.path)
            if self.path.is_dir():  # no other server has swept it before it was locked
                break
            self.close()

    def close(self) -> None:
        """Delete the folder."""
        self._kept.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(folder: Path) -> int | None:
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    # Some network file systems have no such locks. Then no other server gets one, either.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _sweep(parent: Path) -> None:
    for entry in os.scandir(parent):
        if _NAME.fullmatch(entry.name):
            with suppress(OSError):  # another's, a link, a live server's, or just swept by another
                _sweep_one(parent / entry.name)


def _sweep_one(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # By the descriptor: the name may meanwhile be another's.
        for entry in os.scandir(descriptor):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.name, dir_fd=descriptor)
            else:
                os.unlink(entry.name, dir_fd=descriptor)
        folder.rmdir()
    finally:
        os.close(descriptor)
