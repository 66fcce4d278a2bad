"""The library's part of the API: what is in it, a map, its sound, playlists.

A client names tracks by their numbers, never by paths; see ``genrescope.web.review`` for changes.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from genrescope.audio.convert import Mp3Converter
from genrescope.audio.formats import looks_like_audio
from genrescope.errors import InputError, one_line
from genrescope.files import check_regular
from genrescope.io import to_json
from genrescope.library.contents import columns, contents, playlist
from genrescope.library.map import place
from genrescope.library.similar import Library
from genrescope.tagging.formats import TrackNames, read_names

_Value = TypeVar("_Value")

_BODY = 2**22  # bytes of a request
MAX_ROWS = 500_000
"""Tracks that a request may name."""

_WAIT_S = 20.0
_NAME_LENGTH = 100
_NAMES = ("title", "artist", "album")
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


class PlaylistRequest(BaseModel):
    """The tracks of a playlist, by their numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tracks: list[int] = Field(min_length=1, max_length=MAX_ROWS)
    name: str = Field(default="Playlist", min_length=1, max_length=_NAME_LENGTH)
    absolute: bool = Field(default=False, description="Whole paths, on this machine only.")


def library_routes(library: Library, folder: Path, *, is_local: bool = False) -> APIRouter:
    """Make the routes below ``/api/library``.

    Parameters
    ----------
    library
        The analysed tracks. A track's number is its row there.
    folder
        For converted audio; the server deletes it when it ends.
    is_local
        Whether only this machine can connect: only then may a playlist hold absolute paths.
    """
    shelf = _Shelf(library, folder)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await to_thread.run_sync(shelf.close)

    router = APIRouter(prefix="/api/library", include_in_schema=False, lifespan=lifespan)

    views: dict[str, Callable[[], Any]] = {
        "": lambda: {**contents(library), "absolute": is_local},
        "/tracks": lambda: columns(library),
        "/map": lambda: _places(library),
    }
    for path, view in views.items():
        router.add_api_route(path, shelf.computed(view))

    @router.get("/names")
    async def names(
        since: Annotated[int, Query(ge=0)] = 0,
        wait: Annotated[float, Query(ge=0, le=_WAIT_S)] = 0,
    ) -> Response:
        found = await shelf.names(since, wait)
        read = {name: [getattr(one, name) for one in found] for name in _NAMES}
        return json_response({"from": since, "tracks": len(library), **read})

    @router.get("/tracks/{number}/audio")
    async def sound(number: int, convert: bool = False) -> Response:
        if not 0 <= number < len(library):
            raise HTTPException(404, "There is no such track.")
        return await shelf.sound(number, convert=convert)

    @router.post("/playlist")
    async def make_playlist(request: Request) -> Response:
        wanted = await read_json(request, TypeAdapter(PlaylistRequest))
        if not all(0 <= number < len(library) for number in wanted.tracks):
            raise HTTPException(404, "There is no such track.")
        if wanted.absolute and not is_local:
            raise HTTPException(403, "Whole paths are given only on the server's own machine.")
        write = partial(playlist, library, wanted.name, wanted.tracks, absolute=wanted.absolute)
        text = await to_thread.run_sync(write)
        name = quote(one_line(wanted.name))
        return Response(
            text,
            media_type="audio/x-mpegurl; charset=utf-8",
            headers={"content-disposition": f"attachment; filename*=UTF-8''{name}.m3u8"},
        )

    return router


def check_header(request: Request) -> None:
    """Refuse a request that changes something and was not sent by a page of this server.

    A program sets the header. For a page of another site a browser asks the server's consent to
    this header first, and never gets it.

    Raises
    ------
    HTTPException
        If it comes without.
    """
    if request.headers.get("x-genrescope") != "1":
        raise HTTPException(403, "The header X-Genrescope: 1 is missing.")


async def read_json(request: Request, kind: TypeAdapter[_Value]) -> _Value:
    """Read the body of a request that changes something; see ``check_header``.

    Raises
    ------
    HTTPException
        If it is not declared as JSON, is too large, or its content is not as of ``kind``.
    """
    check_header(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Content-Type must be application/json.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY:
            raise HTTPException(413, f"More than {_BODY:,} bytes.")
    try:
        return await to_thread.run_sync(kind.validate_json, body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:5]
        )
        raise HTTPException(422, f"{text}.") from None


class _Shelf:
    # What is shown of a library. All is computed when it is asked for, once.

    def __init__(self, library: Library, folder: Path) -> None:
        self._library = library
        self._root = library.folder.resolve()
        self._folder = Path(tempfile.mkdtemp(prefix="library-", dir=folder))
        self._names: list[TrackNames] = []
        self._reader: threading.Thread | None = None
        self._is_closed = False
        self._converter = Mp3Converter(self._folder)
        self._computes, self._converts = asyncio.Lock(), asyncio.Lock()  # one at a time

    def close(self) -> None:
        self._is_closed = True
        self._converter.close()
        if self._reader is not None:
            self._reader.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def computed(self, view: Callable[[], Any]) -> Callable[[], Awaitable[Response]]:
        known: list[bytes] = []

        async def show() -> Response:
            async with self._computes:
                if not known:
                    text = await to_thread.run_sync(lambda: to_json(view(), None))
                    known.append(text.encode())
            return Response(known[0], media_type="application/json")

        return show

    async def names(self, since: int, wait_s: float) -> list[TrackNames]:
        if self._reader is None:
            self._reader = threading.Thread(target=self._read_names, daemon=True)
            self._reader.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while len(self._names) <= since and self._reader.is_alive():
                    await asyncio.sleep(0.1)
        return self._names[since:]

    async def sound(self, number: int, *, convert: bool) -> Response:
        path = self._root / self._library.tracks[number].path
        kind = await to_thread.run_sync(_played_kind, self._root, path)
        if kind is not None and not convert:
            return FileResponse(path, media_type=kind)
        async with self._converts:
            found = await to_thread.run_sync(self._converter.convert, path)
        return FileResponse(found, media_type="audio/mpeg")

    def _read_names(self) -> None:
        for track in self._library.tracks:
            if self._is_closed:
                return
            try:
                self._names.append(read_names(self._root / track.path))
            except InputError:  # the page shows its path
                self._names.append(TrackNames())


def _places(library: Library) -> dict[str, Any]:
    places = np.round(place(library.vectors).astype(float), 4)
    return {"x": places[:, 0].tolist(), "y": places[:, 1].tolist()}


def _played_kind(root: Path, path: Path) -> str | None:
    # None if a browser may not play it: also where another file than audio has taken its place.
    # A pipe that has taken its place is not opened, nor what a link now leads to outside.
    try:
        check_regular(path)
        if not path.resolve().is_relative_to(root):
            raise HTTPException(404, "It is a link that leads out of the library.")
        with path.open("rb") as file:
            is_audio = looks_like_audio(file.read(16))
    except InputError as error:
        raise HTTPException(404, f"The track cannot be read: {error.cause}.") from None
    except OSError as error:
        raise HTTPException(404, f"The track cannot be read ({error.strerror}).") from None
    return _PLAYED.get(path.suffix.lower()) if is_audio else None


def json_response(value: Any) -> Response:
    """Answer with JSON; names of files that are no text are escaped."""
    return Response(to_json(value, None), media_type="application/json")
