"""Files that clients send: each in a folder of its own, whatever its name and whoever sends it."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path, PurePosixPath

import anyio
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

_BLOCK = 2**20
_LONGEST = 200  # bytes of a name; file systems take 255
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')


class Uploads:
    """Files that the page was sent, each alone in its folder, until they are answered.

    Parameters
    ----------
    most
        Bytes of files that may lie here unheard.

    Attributes
    ----------
    paths
        Of those that gradio may open.
    """

    def __init__(self, most: int) -> None:
        self.paths: set[str] = set()
        self._most = most
        self._unheard: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        self._unheard = {p: size for p, size in self._unheard.items() if Path(p).exists()}
        return sum(self._unheard.values()) >= self._most

    def add(self, path: Path) -> None:
        """Take note of a file that has been received."""
        self._unheard[str(path)] = path.stat().st_size
        self.paths.add(str(path))

    def has(self, path: str) -> bool:
        """Tell whether a file was sent, and is not forgotten."""
        return path in self.paths

    def claim(self, path: str) -> bool:
        """Take a file to be heard; False if it was not sent, or has been taken."""
        return self._unheard.pop(path, None) is not None

    def forget(self, path: str) -> None:
        """Delete a file that was sent, and its folder."""
        if path in self.paths:
            self.paths.discard(path)
            self._unheard.pop(path, None)
            shutil.rmtree(Path(path).parent, ignore_errors=True)


async def receive(request: Request, field: str, folder: Path) -> Path:
    """Keep the one file of a ``multipart/form-data`` request.

    Parameters
    ----------
    request
        Whose body has not been read.
    field
        The form's field that holds the file.
    folder
        A folder with a random name is made in it.

    Returns
    -------
    path
        The file, alone in that folder, under its own name as far as that is fit. Whoever calls
        deletes the folder.

    Raises
    ------
    HTTPException
        If the request holds no such file, or several (400, 422), or there is no room for it (507).
    """
    own = folder / secrets.token_hex(16)
    try:
        own.mkdir()
        async with request.form(max_files=1, max_fields=10) as form:
            sent = _file(form, field)
            path = own / _name(sent.filename or "")
            async with await anyio.open_file(path, "xb") as file:
                while block := await sent.read(_BLOCK):
                    await file.write(block)
            return path
    except OSError as error:
        shutil.rmtree(own, ignore_errors=True)
        told = f"The file cannot be kept here ({error.strerror}); try again later."
        raise HTTPException(507, told) from error
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise


def _file(form: FormData, field: str) -> UploadFile:
    sent = form.get(field)
    if not isinstance(sent, UploadFile):
        told = f"There is no file: send it as multipart/form-data, in a field named {field}."
        raise HTTPException(422, told)
    return sent


def _name(told: str) -> str:
    # Some programs send whole paths, of either kind.
    name = PurePosixPath(_NOT_IN_NAMES.sub("", told).replace("\\", "/")).name
    stem, ending = _cut(PurePosixPath(name).stem, _LONGEST), _cut(PurePosixPath(name).suffix, 12)
    return f"{stem}{ending}" if stem.strip(". ") else f"clip{ending}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
