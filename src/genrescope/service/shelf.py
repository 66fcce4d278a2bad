"""What a server shows of a library beside its answers: the tracks' names and their sound."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from genrescope.audio.convert import Mp3Converter
from genrescope.audio.formats import looks_like_audio
from genrescope.audio.source import open_source
from genrescope.errors import InputError, NotFoundError
from genrescope.files import check_inside
from genrescope.library.similar import Library
from genrescope.service.analysis import names_of
from genrescope.service.queue import FairQueue
from genrescope.service.service import until_done
from genrescope.tagging.formats import TrackNames

_MOST = 10_000  # names that are given at once
_INSIDE = 40  # conversions that run or wait
_LEAVE_S = 5.0

_PLAYED = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "audio/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}
"""Files that browsers play as they are, by their extension; others are converted."""


class Shelf:
    """Reads names and sound when they are first asked for.

    Parameters
    ----------
    library
        A track's number is its row there.
    folder
        For a folder of converted audio.
    """

    def __init__(self, library: Library, folder: Path) -> None:
        self._library = library
        self._folder = Path(tempfile.mkdtemp(prefix="library-", dir=folder))
        self._names: list[TrackNames] = []
        self._reader: threading.Thread | None = None
        self._is_closed = False
        self._converter = Mp3Converter(self._folder)
        # Its own: a track that someone plays does not wait for analyses, nor do they for it.
        self._queue = FairQueue(1, _INSIDE)

    def close(self) -> None:
        """End what is being read or converted, and delete the folder."""
        self._is_closed = True
        self._converter.close()
        if self._reader is not None:
            self._reader.join(_LEAVE_S)  # a disk may not answer
        shutil.rmtree(self._folder, ignore_errors=True)

    async def names(self, since: int, wait_s: float) -> list[TrackNames]:
        """Return some of the names in tags that have been read, in the library's order.

        Parameters
        ----------
        since
            Tracks to pass over.
        wait_s
            To wait at most for one more, in s.
        """
        if self._reader is None:
            self._reader = threading.Thread(target=self._read_names, daemon=True)
            self._reader.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while len(self._names) <= since and self._reader.is_alive():
                    await asyncio.sleep(0.1)
        return self._names[since : since + _MOST]

    async def sound(self, number: int, client: str, *, convert: bool) -> tuple[Path, str]:
        """Return a file that a browser plays, and its media type; if cancelled, the work ends.

        Parameters
        ----------
        number
            Of the track.
        client
            Address of the client: a conversion waits for its client's turn.
        convert
            Whether to convert it to MP3 in any case.

        Raises
        ------
        NotFoundError
            If there is no such track, or its file cannot be read or leads out of the library.
        FullError
            If too many conversions wait.
        InputError
            If it cannot be converted.
        OSError
            If there is no room for the converted file.
        """
        path, kind = await to_thread.run_sync(track_file, self._library, number)
        if kind is not None and not convert:
            return path, kind
        with self._queue.place(client):
            async with self._queue.turn(client):
                work = asyncio.ensure_future(to_thread.run_sync(self._convert, number))
                return await until_done(work, self._converter.stop), _PLAYED[".mp3"]

    def _convert(self, number: int) -> Path:
        path, _ = track_file(self._library, number)  # it may have been replaced while it waited
        return self._converter.convert(path)

    def _read_names(self) -> None:
        for number in range(len(self._library)):
            if self._is_closed:
                return
            self._names.append(track_names(self._library, number))


def track_names(library: Library, number: int) -> TrackNames:
    """Read the names in a track's tags; none where ``track_file`` would not give its file."""
    try:
        path, _ = track_file(library, number)
    except NotFoundError:
        return TrackNames()
    return names_of(path)


def track_file(library: Library, number: int) -> tuple[Path, str | None]:
    """Return the file of a track, and its media type if a browser may play it.

    A pipe that has taken its place is not opened, nor what a link now leads to outside; what is
    no audio any more has no type.

    Raises
    ------
    NotFoundError
        If there is no such track, or its file cannot be read or leads out of the library.
    """
    if not 0 <= number < len(library):
        raise NotFoundError("There is no such track.")
    path = library.folder.resolve() / library.tracks[number].path
    try:
        check_inside(path, library.folder)
        with open_source(path) as source:
            is_audio = looks_like_audio(source.read_at(0, 16))
    except InputError as error:
        raise NotFoundError(f"The track cannot be read: {error.cause}.") from None
    return path, _PLAYED.get(path.suffix.lower()) if is_audio else None
