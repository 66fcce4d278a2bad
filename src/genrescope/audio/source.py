"""Open regular files, read at any offset without a file position.

Decoders get an open file, never a path: they cannot open other files, and cannot mistake a name
for an address or fail on its encoding.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from genrescope.errors import InputError
from genrescope.files import check_regular, not_regular, unreadable
from genrescope.system import READ_FLAGS

REPLACE = "Replace the file with an intact copy or remove it"

_BLOCK = 2**20


class OpenedFile:
    """An open regular file.

    Attributes
    ----------
    path
        For messages.
    size
        In bytes.
    descriptor
        File descriptor of the operating system.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path, self.descriptor, self.size = path, descriptor, size
        self._lock = threading.Lock()

    def read_at(self, offset: int, count: int) -> bytes:
        """Read up to ``count`` bytes from ``offset`` on."""
        if hasattr(os, "pread"):
            return bytes(os.pread(self.descriptor, count, offset))
        with self._lock:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.read(self.descriptor, count)


@contextmanager
def open_source(path: Path) -> Iterator[OpenedFile]:
    """Open a file for decoding.

    Raises
    ------
    InputError
        If it is missing, not a regular file (folders, pipes, sockets and devices are not opened),
        empty or not readable.
    """
    check_regular(path)
    try:
        descriptor = os.open(path, READ_FLAGS)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise not_regular(path, status.st_mode)
        if status.st_size == 0:
            raise InputError(path, "the file is empty (0 bytes)", REPLACE)
        try:
            yield OpenedFile(path, descriptor, status.st_size)
        except OSError as error:
            raise unreadable(path, error) from error
    finally:
        with suppress(OSError):
            os.close(descriptor)


class View(io.RawIOBase):
    """A range of bytes of a source, as a file with a position of its own.

    Parameters
    ----------
    source
        The file.
    start, stop
        The range; by default all bytes.
    patches
        Bytes that replace those of the file, by offset in the view: they correct wrong sizes in a
        header without changing the file.
    """

    def __init__(
        self,
        source: OpenedFile,
        start: int = 0,
        stop: int | None = None,
        patches: dict[int, bytes] | None = None,
    ) -> None:
        self.source, self.start = source, start
        self.stop = source.size if stop is None else min(stop, source.size)
        self.patches = patches or {}
        self._at = 0

    @property
    def size(self) -> int:
        """In bytes."""
        return max(0, self.stop - self.start)

    @property
    def name(self) -> str:
        """``audio`` with the file's extension, which FFmpeg uses to recognise some formats."""
        ending = self.source.path.suffix.lower()
        return f"audio{ending if ending[1:].isalnum() and ending.isascii() else ''}"

    def of(self, start: int, stop: int | None = None) -> View:
        """Return a part of this view, without patches."""
        last = self.stop if stop is None else min(self.stop, self.start + stop)
        return View(self.source, self.start + start, last)

    def read_at(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes from ``offset`` on; fewer only at the end."""
        count = max(0, min(count, self.size - offset))
        pieces = []
        at = self.start + offset
        while count > 0 and (piece := self.source.read_at(at, count)):
            pieces.append(piece)
            at, count = at + len(piece), count - len(piece)
        content = b"".join(pieces)
        for where, patch in self.patches.items():
            first, last = max(where, offset), min(where + len(patch), offset + len(content))
            if first < last:
                middle = patch[first - where : last - where]
                content = content[: first - offset] + middle + content[last - offset :]
        return content

    def find(self, pattern: bytes, start: int, stop: int | None = None) -> int:
        """Return the first offset of a pattern at or after ``start``; -1 if there is none."""
        last = self.size if stop is None else min(stop, self.size)
        while start < last:
            block = self.read_at(start, min(_BLOCK, last - start))
            if (at := block.find(pattern)) >= 0:
                return start + at
            if len(block) < _BLOCK:
                return -1
            start += len(block) - len(pattern) + 1
        return -1

    def search(self, pattern: re.Pattern[bytes], length: int) -> Iterator[tuple[int, bytes]]:
        """Find all matches of at most ``length`` bytes.

        Yields
        ------
        place, content
            Its offset, and the ``length`` bytes from there on.
        """
        for start in range(0, self.size, _BLOCK):
            block = self.read_at(start, _BLOCK + length)
            for found in pattern.finditer(block):
                if (at := found.start()) < _BLOCK:
                    yield start + at, block[at : at + length].ljust(length, b"\0")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the view."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, as for every file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        # No error for negative offsets: in libsndfile's callback it would print a traceback.
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as fit."""
        content = self.read_at(self._at, len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
