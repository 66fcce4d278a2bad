"""The files to classify: listed from a folder, a bucket or a list, and cut into parts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pyarrow import fs

from genrescope.audio import is_audio
from genrescope.audio.walk import walk
from genrescope.cluster.storage import absolute, first_line, locate, storage_error

_T = TypeVar("_T")

_MIN_FILES, _MAX_FILES = 16, 1000  # of a part
_FRACTION = 64  # a part has 1/64 of the files before it: small lists, too, keep many cores busy


@dataclass(frozen=True)
class File:
    """A file to classify.

    Attributes
    ----------
    path
        ``/mnt/music/a.mp3``, ``s3://bucket/music/a.mp3``; nothing in it is percent-encoded.
    size
        In bytes; None if the list does not have it.
    """

    path: str
    size: int | None = None


def part_sizes() -> Iterator[int]:
    """Yield the number of files of each part, without end: 16 at first, 1,000 from 64,000 on."""
    before = 0
    while True:
        size = min(_MAX_FILES, max(_MIN_FILES, before // _FRACTION))
        yield size
        before += size


def cut(files: Iterable[_T]) -> Iterator[list[_T]]:
    """Cut files into parts of ``part_sizes``; the last one may be smaller."""
    left = iter(files)
    for size in part_sizes():
        part = list(islice(left, size))
        if not part:
            return
        yield part


def list_files(source: str) -> Iterator[File]:
    """List the audio files of a folder, recursively, or those that a list names.

    Parameters
    ----------
    source
        Address of a folder, of one audio file, or of a list: ``.txt`` with one address a line,
        ``.csv`` or ``.parquet`` with a column ``path`` and optionally ``size``.

    Yields
    ------
    file
        Of a folder, sorted by name. A local folder that cannot be listed is yielded itself, so that
        it becomes an error in the output.

    Raises
    ------
    GenrescopeError
        If the source does not exist or cannot be read.
    """
    filesystem, root = locate(source)
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.NotFound:
            raise storage_error(source, "no such file or folder")
        if info.type == fs.FileType.File:
            yield from _listed(source, filesystem, info)
        elif isinstance(filesystem, fs.LocalFileSystem):
            yield from _walk(root)
        else:
            yield from _stored(filesystem, root, source.partition("://")[0])
    except (OSError, pa.ArrowException) as error:
        raise storage_error(source, first_line("it cannot be listed", error)) from error


def _listed(source: str, filesystem: fs.FileSystem, info: fs.FileInfo) -> Iterator[File]:
    ending = PurePosixPath(info.path).suffix.lower()
    if ending not in {".txt", ".csv", ".parquet"}:
        yield File(source if "://" in source else info.path, info.size)
    elif ending == ".txt":
        with filesystem.open_input_stream(info.path) as file:
            lines = io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8")
            yield from (File(absolute(line.rstrip("\r\n"))) for line in lines if line.strip())
    else:
        with filesystem.open_input_file(info.path) as file:
            for batch in _batches(file, ending):
                if "path" not in batch.schema.names:
                    cause = "the list has no column path"
                    raise storage_error(source, cause, "Name the column of the addresses path")
                paths = batch.column("path").to_pylist()
                with_size = "size" in batch.schema.names
                sizes = batch.column("size").to_pylist() if with_size else [None] * len(paths)
                yield from map(File, map(absolute, paths), sizes)


def _batches(file: pa.NativeFile, ending: str) -> Iterator[pa.RecordBatch]:
    if ending == ".csv":
        yield from pyarrow.csv.open_csv(file)
    else:
        yield from pq.ParquetFile(file).iter_batches()


def _walk(top: str) -> Iterator[File]:
    for folder in walk(top):
        if folder.fault is not None:
            yield File(_utf8(folder.path))
        for file in folder.files:
            yield File(_utf8(file.path), max(0, file.size))


def _utf8(path: str) -> str:
    # Old collections have names in Latin-1; Parquet stores UTF-8 only.
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _stored(filesystem: fs.FileSystem, root: str, scheme: str) -> Iterator[File]:
    # One first-level folder at a time: few requests, and no more memory than for the largest.
    def infos(folder: str, *, recursive: bool) -> list[fs.FileInfo]:
        found = filesystem.get_file_info(fs.FileSelector(folder, recursive=recursive))
        return sorted(found, key=lambda info: info.path.split("/"))

    for child in infos(root, recursive=False):
        is_folder = child.type == fs.FileType.Directory
        for info in infos(child.path, recursive=True) if is_folder else [child]:
            if info.type == fs.FileType.File and is_audio(Path(info.path)):
                yield File(f"{scheme}://{info.path.removeprefix('/')}", info.size)
