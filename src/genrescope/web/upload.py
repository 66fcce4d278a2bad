"""Uploaded files: the room that they take, and their names."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from genrescope.files import safe_name
from genrescope.service.queue import Room
from genrescope.web.clients import client_of

_BLOCK = 2**20


class Uploads:
    """The files that clients have sent and that have not been analysed.

    Parameters
    ----------
    folder
        For the files.
    room
        That they may take.
    """

    def __init__(self, folder: Path, room: Room) -> None:
        self._folder, self._room = folder, room
        folder.mkdir()

    async def receive(self, request: Request, held: ExitStack) -> Path:
        """Keep the one file of a ``multipart/form-data`` request, in its field ``file``.

        Parameters
        ----------
        request
            Whose body has not been read.
        held
            Deletes the file when it is closed.

        Returns
        -------
        path
            The file, alone in a folder, under its own name as far as that is fit.

        Raises
        ------
        HTTPException
            If the request holds no such file, or several (400, 422).
        FullError
            If the client, or all together, have as much here as may be.
        OSError
            If the disk has no room for it.
        """
        size = int(request.headers.get("content-length", "0"))
        grow = held.enter_context(self._room.reserve(client_of(request.scope), size))

        async def counted() -> Message:
            message = await request.receive()
            grow(len(message.get("body", b"")))
            return message

        try:
            form = await Request(request.scope, counted).form(max_files=1, max_fields=10)
        except (FormParserError, UnicodeError) as error:  # newer versions of starlette do the first
            raise HTTPException(400, f"This is no form with a file: {error}") from error
        try:
            sent = _file(form)
            folder = held.enter_context(TemporaryDirectory(dir=self._folder))
            path = Path(folder) / safe_name(sent.filename or "")
            async with await anyio.open_file(path, "xb") as file:
                while block := await sent.read(_BLOCK):
                    await file.write(block)
            return path
        finally:
            await form.close()


def _file(form: FormData) -> UploadFile:
    sent = form.get("file")
    if not isinstance(sent, UploadFile):
        detail = "There is no file: send it as multipart/form-data, in a field named file."
        raise HTTPException(422, detail)
    return sent
