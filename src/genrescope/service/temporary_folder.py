"""A server's folder of temporary files; removal of folders that killed servers left behind."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from genrescope.system import lock_folder, remove_unlocked

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
        _sweep(parent)
        while True:
            self._kept = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent)
            self.path = Path(self._kept.name).resolve()
            self._lock = lock_folder(self.path)
            if self.path.is_dir():  # no other server has swept it before it was locked
                break
            self.close()

    def close(self) -> None:
        """Delete the folder."""
        self._kept.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sweep(parent: Path) -> None:
    for entry in os.scandir(parent):
        if _NAME.fullmatch(entry.name):
            with suppress(OSError):  # another's, a link, a live server's, or just swept by another
                remove_unlocked(parent / entry.name)
