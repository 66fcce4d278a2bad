"""Uploaded files: the room that they take, and their names."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import anyio
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from genrescope.service.queue import FullError
from genrescope.system import is_device_name
from genrescope.web.clients import client_of

_BLOCK = 2**20
_LONGEST = 200  # bytes of a name; file systems take 255
# Also what turns the direction of text, so that another ending is shown than there is.
_NOT_IN_NAMES = re.compile(
    r'[\x00-\x1f\x7f<>:"|?*\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]'
)
_QUOTED = re.compile("%(?:22|0A|0D)")  # as browsers write these three


@dataclass(eq=False)
class _Reservation:
    # Room that an upload takes, from its first byte until its file is deleted.
    client: str
    size: int  # in bytes: as large as the request says it is, or has become
    received: int = 0


class Uploads:
    """The files that clients have sent and that have not been analysed.

    No client can take all the room for them: it is refused more while it has its share.

    Parameters
    ----------
    folder
        For the files.
    most
        Bytes that may be there; while it is less, another file is taken.
    share
        Bytes that may be one client's; likewise.
    """

    def __init__(self, folder: Path, most: int, share: int) -> None:
        self._folder, self._most, self._share = folder, most, share
        self._known: list[_Reservation] = []
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
        mine = _Reservation(client_of(request.scope), size)
        self._grow(mine, 0)
        self._known.append(mine)
        held.callback(self._known.remove, mine)

        async def counted() -> Message:
            message = await request.receive()
            self._grow(mine, len(message.get("body", b"")))
            return message

        try:
            form = await Request(request.scope, counted).form(max_files=1, max_fields=10)
        except FormParserError as error:  # newer versions of starlette do so themselves
            raise HTTPException(400, str(error)) from error
        try:
            sent = _file(form)
            folder = held.enter_context(TemporaryDirectory(dir=self._folder))
            path = Path(folder) / _name(sent.filename or "")
            async with await anyio.open_file(path, "xb") as file:
                while block := await sent.read(_BLOCK):
                    await file.write(block)
            return path
        finally:
            await form.close()

    def _grow(self, mine: _Reservation, size: int) -> None:
        mine.received += size
        mine.size = max(mine.size, mine.received)
        others = [other for other in self._known if other is not mine]
        own = sum(other.size for other in others if other.client == mine.client)
        if own >= self._share or sum(other.size for other in others) >= self._most:
            raise FullError


def _file(form: FormData) -> UploadFile:
    sent = form.get("file")
    if not isinstance(sent, UploadFile):
        detail = "There is no file: send it as multipart/form-data, in a field named file."
        raise HTTPException(422, detail)
    return sent


def _name(sent: str) -> str:
    # Some programs send whole paths, of either kind.
    name = PurePosixPath(_NOT_IN_NAMES.sub("", _QUOTED.sub("", sent)).replace("\\", "/")).name
    stem, ending = _cut(PurePosixPath(name).stem, _LONGEST), _cut(PurePosixPath(name).suffix, 12)
    return f"{stem}{ending}" if stem.strip(". ") and not is_device_name(stem) else f"clip{ending}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
