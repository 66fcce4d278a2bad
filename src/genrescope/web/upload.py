"""Uploaded files: the room that they take, and their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import anyio
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from genrescope.system import is_device_name
from genrescope.web.clients import client_of
from genrescope.web.queue import FullError

_BLOCK = 2**20
_LONGEST = 200  # bytes of a name; file systems take 255
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')


class Reservation:
    """Room that an upload takes, from its first byte until its file is deleted.

    Attributes
    ----------
    client
        Whose it is.
    size
        In bytes: as large as the request says it is, or has become.
    """

    def __init__(self, uploads: Uploads, client: str, size: int) -> None:
        self._uploads, self._received = uploads, 0
        self.client, self.size = client, size

    def grow(self, size: int) -> None:
        """Take note of bytes that have come in.

        Raises
        ------
        FullError
            If there is no room for them.
        """
        self._received += size
        self.size = max(self.size, self._received)
        self._uploads.check(self)


class Uploads:
    """The room for files that clients have sent and that have not been analysed.

    No client can take all of it: it is refused more while it has its share.

    Parameters
    ----------
    most
        Bytes that may be there; while it is less, another file is taken.
    share
        Bytes that may be one client's; likewise.
    """

    def __init__(self, most: int, share: int) -> None:
        self._most, self._share = most, share
        self._holds: list[Reservation] = []

    @contextmanager
    def hold(self, request: Request) -> Iterator[Reservation]:
        """Take room for what a request brings, until it is deleted.

        Raises
        ------
        FullError
            If there is none.
        """
        size = int(request.headers.get("content-length", "0"))
        hold = Reservation(self, client_of(request.scope), size)
        self.check(hold)
        self._holds.append(hold)
        try:
            yield hold
        finally:
            self._holds.remove(hold)

    def check(self, hold: Reservation) -> None:
        """Make sure that there is room beside the others'.

        Raises
        ------
        FullError
            If there is none.
        """
        others = [other for other in self._holds if other is not hold]
        own = sum(other.size for other in others if other.client == hold.client)
        if own >= self._share or sum(other.size for other in others) >= self._most:
            raise FullError


async def receive(request: Request, folder: Path, hold: Reservation) -> Path:
    """Keep the one file of a ``multipart/form-data`` request, in its field ``file``.

    Parameters
    ----------
    request
        Whose body has not been read.
    folder
        Of its own.
    hold
        The room that it takes.

    Returns
    -------
    path
        The file, under its own name as far as that is fit.

    Raises
    ------
    HTTPException
        If the request holds no such file, or several (400, 422).
    OSError
        If the disk has no room for it.
    FullError
        If the client, or all together, have as much here as may be.
    """

    async def counted() -> Message:
        message = await request.receive()
        hold.grow(len(message.get("body", b"")))
        return message

    async with Request(request.scope, counted).form(max_files=1, max_fields=10) as form:
        sent = _file(form)
        path = folder / _name(sent.filename or "")
        async with await anyio.open_file(path, "xb") as file:
            while block := await sent.read(_BLOCK):
                await file.write(block)
        return path


def _file(form: FormData) -> UploadFile:
    sent = form.get("file")
    if not isinstance(sent, UploadFile):
        detail = "There is no file: send it as multipart/form-data, in a field named file."
        raise HTTPException(422, detail)
    return sent


def _name(sent: str) -> str:
    # Some programs send whole paths, of either kind.
    name = PurePosixPath(_NOT_IN_NAMES.sub("", sent).replace("\\", "/")).name
    stem, ending = _cut(PurePosixPath(name).stem, _LONGEST), _cut(PurePosixPath(name).suffix, 12)
    return f"{stem}{ending}" if stem.strip(". ") and not is_device_name(stem) else f"clip{ending}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
