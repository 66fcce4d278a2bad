"""Conversion of audio to MP3, which every player knows."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import soundfile

from genrescope.audio.decode import pieces
from genrescope.errors import InputError
from genrescope.workers import CrashedError, WorkerProcess

_RATE = 44_100  # Hz
_KEPT = 16  # files
_CONVERT_S = 120.0


class Mp3Converter:
    """Converts one file at a time, in a process of its own, and keeps the results used last.

    Parameters
    ----------
    folder
        For the results; it exists, and the caller deletes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = WorkerProcess(_prepare)
        self._results: OrderedDict[tuple[Path, int, int, int], Path] = OrderedDict()
        self._count = 0

    def convert(self, path: Path) -> Path:
        """Convert a file to MP3, mono and 44.1 kHz; not for several threads at once.

        Raises
        ------
        InputError
            If it is missing, cannot be decoded, or takes more than two minutes. Names the file, not
            its folder.
        OSError
            If there is no room for the result.
        """
        try:
            stat = path.stat()
        except OSError as error:
            cause = f"it cannot be read ({error.strerror})"
            raise InputError(path.name, cause, "Put it back") from error
        key = path, stat.st_size, stat.st_mtime_ns, stat.st_ino
        if key not in self._results:
            self._count += 1
            result = self._folder / f"{self._count}.mp3"
            try:
                self._process.do(_convert, path, result, timeout_s=_CONVERT_S)
            except BaseException as error:
                result.unlink(missing_ok=True)
                if isinstance(error, InputError):
                    raise InputError(path.name, error.cause, error.remedy) from error
                if isinstance(error, CrashedError | TimeoutError):
                    cause, remedy = "it cannot be decoded", "Convert or replace it"
                    raise InputError(path.name, cause, remedy) from error
                raise
            self._results[key] = result
            if len(self._results) > _KEPT:
                self._results.popitem(last=False)[1].unlink(missing_ok=True)
        self._results.move_to_end(key)
        return self._results[key]

    def stop(self) -> None:
        """End a conversion, which fails; may be called from any thread."""
        self._process.kill()

    def close(self) -> None:
        """End the process."""
        self._process.close()


def _prepare() -> None:
    """Prepare nothing: decoding needs no model."""


def _convert(_: None, path: Path, result: Path) -> None:
    try:
        with soundfile.SoundFile(result, "w", _RATE, 1, format="MP3") as file:
            for piece in pieces(path, _RATE, 30 * _RATE):
                file.write(np.clip(piece, -1, 1))
    except soundfile.LibsndfileError as error:  # of the result: ``pieces`` raises none
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
