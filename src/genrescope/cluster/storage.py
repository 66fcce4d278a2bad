"""Local disks, buckets and other storage, by address."""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from genrescope.errors import GenrescopeError

CHECK_ACCESS = "Check the address, your credentials and the network"


def locate(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path in it.

    Parameters
    ----------
    address
        A local path, ``file:///…``, ``s3://bucket/key``, ``gs://bucket/key``, or any other that
        pyarrow or an installed fsspec package supports.

    Raises
    ------
    GenrescopeError
        If the storage is unknown or cannot be reached.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return fs.LocalFileSystem(), absolute(address)
    if scheme == "file":
        return fs.LocalFileSystem(), rest
    try:
        return _filesystem(scheme, rest.partition("/")[0]), rest.rstrip("/")
    except (OSError, ImportError, ValueError) as error:
        raise storage_error(address, first_line("it cannot be reached", error)) from error


def absolute(address: str) -> str:
    """Make a local path absolute: nodes have other working directories."""
    return address if "://" in address else str(Path(address).expanduser().absolute())


@cache
def _filesystem(scheme: str, bucket: str) -> fs.FileSystem:
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # pyarrow does not support it
        import fsspec  # noqa: PLC0415  a dependency of Ray Data, seldom needed

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))


def read(filesystem: fs.FileSystem, path: str) -> bytes:
    """Read a file whole."""
    with filesystem.open_input_stream(path) as file:
        return bytes(file.read())


def write(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a file whole or not at all.

    An object appears when it is complete; a local file is renamed when it is complete.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        with filesystem.open_output_stream(path) as file:
            file.write(content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def storage_error(address: str, cause: str, remedy: str = CHECK_ACCESS) -> GenrescopeError:
    """Build the error for an address; an ``InputError`` is for paths."""
    return GenrescopeError(f"{address}: {cause}. {remedy}.")


def first_line(what: str, error: BaseException) -> str:
    """Add the first line of an error to a clause; storage errors have many lines."""
    text = str(error).strip()
    return f"{what} ({text.splitlines()[0].rstrip('.') if text else type(error).__name__})"
