"""The library's part of the API: what is in it, a map, its sound, playlists.

A client names tracks by their numbers, never by paths; see ``genrescope.web.review`` for changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.exceptions import HTTPException

from genrescope.errors import one_line
from genrescope.io import to_json
from genrescope.library.contents import columns, contents, map_columns, playlist
from genrescope.library.similar import Library
from genrescope.service.shelf import Shelf
from genrescope.web.clients import client_of
from genrescope.web.messages import json_response, read_json

MAX_ROWS = 500_000
"""Tracks that a request may name."""

_WAIT_S = 20.0
_NAME_LENGTH = 100
_NAMES = ("title", "artist", "album")


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
    shelf = Shelf(library, folder)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await to_thread.run_sync(shelf.close)

    router = APIRouter(prefix="/api/library", include_in_schema=False, lifespan=lifespan)

    def computed(view: Callable[[], Any]) -> Callable[[], Awaitable[Response]]:
        known, lock = list[bytes](), asyncio.Lock()

        async def show() -> Response:
            async with lock:  # each once
                if not known:
                    text = await to_thread.run_sync(lambda: to_json(view()))
                    known.append(text.encode())
            return Response(known[0], media_type="application/json")

        return show

    router.add_api_route("", computed(lambda: {**contents(library), "absolute": is_local}))
    router.add_api_route("/tracks", computed(lambda: columns(library)))
    router.add_api_route("/map", computed(lambda: map_columns(library)))

    @router.get("/names")
    async def names(
        since: Annotated[int, Query(ge=0)] = 0,
        wait: Annotated[float, Query(ge=0, le=_WAIT_S)] = 0,
    ) -> Response:
        found = await shelf.names(since, wait)
        read = {name: [getattr(one, name) for one in found] for name in _NAMES}
        return json_response({"from": since, "tracks": len(library), **read})

    @router.get("/tracks/{number}/audio")
    async def sound(request: Request, number: int, convert: bool = False) -> Response:
        path, kind = await shelf.sound(number, client_of(request.scope), convert=convert)
        return FileResponse(path, media_type=kind)

    @router.post("/playlist")
    async def make_playlist(request: Request) -> Response:
        wanted = await read_json(request, TypeAdapter(PlaylistRequest))
        if wanted.absolute and not is_local:
            raise HTTPException(403, "Whole paths are given only on the server's own machine.")
        write = partial(playlist, library, wanted.name, wanted.tracks, absolute=wanted.absolute)
        text, left_out = await to_thread.run_sync(write)
        name = quote(one_line(wanted.name))
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{name}.m3u8",
            "x-genrescope-left-out": str(len(left_out)),
        }
        return Response(text, headers=headers, media_type="audio/x-mpegurl; charset=utf-8")

    return router
