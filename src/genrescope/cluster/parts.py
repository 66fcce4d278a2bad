"""The output folder: the list of files, the model, a manifest, and the parts that are finished."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from pydantic import BaseModel, ConfigDict, ValidationError

from genrescope.classifier import Classifier, Prediction
from genrescope.cluster.lists import File, cut, list_files, part_sizes
from genrescope.cluster.storage import absolute, first_line, locate, read, storage_error, write
from genrescope.errors import GenrescopeError

MANIFEST = "_genrescope.json"
# Readers of Parquet folders ignore names with a leading underscore.
_FILES, _MODEL, _TRIED = "_files", "_model", "_tried"
_PARTS_PER_LIST = 100
_FILE_COLUMNS = pa.schema([("path", pa.string()), ("size", pa.int64())])
_OTHER_FOLDER = "Give another folder with --out"


class _Manifest(BaseModel):
    # Describes an output folder; written after its files have been listed.

    model_config = ConfigDict(extra="forbid")

    format: Literal[2] = 2  # 1 had no columns other and best
    model: str
    genres: list[str]
    input: str
    files: int
    parts: int


@dataclass(frozen=True)
class Job:
    """The parts that an output folder lacks.

    Attributes
    ----------
    output
        Address of the folder.
    key
        Of the model.
    files
        Number of files in the whole output.
    finished
        Number of files in the finished parts.
    missing
        Numbers of the parts to compute.
    """

    output: str
    key: str
    files: int
    finished: int
    missing: tuple[int, ...]


def prepare(source: str, output: str, classifier: Classifier) -> Job:
    """Create an output folder with the list of files and the model, or open one to resume it.

    Parameters
    ----------
    source
        See ``list_files``.
    output
        Address of the folder. Every node must be able to reach it.
    classifier
        Its files are copied into the output, from where the nodes read them.

    Raises
    ------
    GenrescopeError
        If there are no files, or the folder holds anything else: other data, the output for other
        files, or that of another model.
    """
    source, output = absolute(source), absolute(output)
    filesystem, root = locate(output)
    try:
        manifest = _read_manifest(output, filesystem, root)
        if manifest is None:
            _check_unused(output, filesystem, root)
            manifest = _create(filesystem, root, source, classifier)
        _check_same_run(output, manifest, source, classifier)
        return _job(output, filesystem, root, manifest)
    except OSError as error:
        raise storage_error(output, first_line("it cannot be written", error)) from error


def open_model(output: str) -> Classifier:
    """Open the model of an output folder, with one thread.

    Raises
    ------
    GenrescopeError
        If this node cannot reach the folder.
    """
    filesystem, root = locate(output)
    with TemporaryDirectory(prefix="genrescope-") as folder:
        try:
            found = filesystem.get_file_info(fs.FileSelector(f"{root}/{_MODEL}"))
        except FileNotFoundError as error:
            raise GenrescopeError(
                f"{output}: not every node can reach it. Give an address in a bucket or a shared "
                "folder with --out."
            ) from error
        for info in found:
            (Path(folder) / info.base_name).write_bytes(read(filesystem, info.path))
        classifier = Classifier(Path(folder), threads=1)
        _ = classifier.key  # computed from the folder, and cached
    return classifier


class Output:
    """An output folder as the workers use it.

    Parameters
    ----------
    address
        Of the folder.
    genres
        Of the model, in its order.
    """

    def __init__(self, address: str, genres: Iterable[str]) -> None:
        self._filesystem, self._root = locate(address)
        self._schema = pa.schema(
            [
                *_FILE_COLUMNS,
                ("genre", pa.string()),
                ("other", pa.bool_()),
                ("best", pa.string()),
                ("confidence", pa.float32()),
                ("unsure", pa.bool_()),
                ("probabilities", pa.struct([(genre, pa.float32()) for genre in genres])),
                ("tags", pa.map_(pa.string(), pa.float32())),
                ("warnings", pa.list_(pa.string())),
                ("error", pa.string()),
            ]
        )

    def files(self, number: int) -> list[File]:
        """Read the files of a part."""
        with self._filesystem.open_input_file(_list_path(self._root, number)) as file:
            group = pq.ParquetFile(file).read_row_group(number % _PARTS_PER_LIST)
        return [File(**row) for row in group.to_pylist()]

    def count_try(self, number: int) -> int:
        """Count this attempt at a part; it is stored, as a crash leaves nothing in memory."""
        path = f"{self._root}/{_TRIED}/{number}"
        try:
            count = int(read(self._filesystem, path)) + 1
        except FileNotFoundError:
            count = 1
        write(self._filesystem, path, str(count).encode())
        return count

    def finish(self, number: int, rows: list[Mapping[str, Any]]) -> None:
        """Write a part, whole or not at all."""
        table = pa.Table.from_pylist(rows, schema=self._schema)
        write(self._filesystem, f"{self._root}/{_part_name(number)}", _parquet([table]))
        with suppress(FileNotFoundError):  # a worker that was taken for lost has finished it, too
            self._filesystem.delete_file(f"{self._root}/{_TRIED}/{number}")


def to_row(file: File, result: Prediction | str) -> dict[str, Any]:
    """Return the row of a file: its prediction, or the text of its error."""
    row: dict[str, Any] = {"path": file.path, "size": file.size}
    if isinstance(result, str):
        return {**row, "error": result}
    return {
        **row,
        "genre": result.genre,
        "other": result.other,
        "best": result.best,
        "confidence": result.confidence,
        "unsure": result.unsure,
        "probabilities": result.probabilities,
        "tags": list(result.tags.items()),
        "warnings": list(result.warnings),
        "error": None,
    }


def _read_manifest(output: str, filesystem: fs.FileSystem, root: str) -> _Manifest | None:
    try:
        return _Manifest.model_validate_json(read(filesystem, f"{root}/{MANIFEST}"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        cause = f"its {MANIFEST} is damaged or of another version of genrescope"
        raise storage_error(output, cause, _OTHER_FOLDER) from error


def _check_unused(output: str, filesystem: fs.FileSystem, root: str) -> None:
    info = filesystem.get_file_info(root)
    found = [] if info.type == fs.FileType.NotFound else [root]
    if info.type == fs.FileType.Directory:
        inside = filesystem.get_file_info(fs.FileSelector(root))
        found = [entry.path for entry in inside if entry.base_name not in {_FILES, _MODEL}]
    if found:
        raise storage_error(output, "it holds something else", "Give a new folder with --out")


def _check_same_run(output: str, manifest: _Manifest, source: str, classifier: Classifier) -> None:
    if manifest.model != classifier.key:
        cause = f"it holds results of another model ({manifest.model}, not {classifier.key})"
        raise storage_error(output, cause, f"{_OTHER_FOLDER}, or that model with --model")
    if manifest.input != source:
        raise storage_error(output, f"it holds results for {manifest.input}", _OTHER_FOLDER)


def _create(filesystem: fs.FileSystem, root: str, source: str, classifier: Classifier) -> _Manifest:
    with TemporaryDirectory() as folder:
        classifier.save_pretrained(folder)
        for file in Path(folder).iterdir():
            write(filesystem, f"{root}/{_MODEL}/{file.name}", file.read_bytes())
    count = parts = 0
    lists = cut(list_files(source))
    while batch := list(islice(lists, _PARTS_PER_LIST)):
        # A row group for each part, so that a node reads no more than its own.
        columns = [([file.path for file in part], [file.size for file in part]) for part in batch]
        groups = [pa.table(list(pair), schema=_FILE_COLUMNS) for pair in columns]
        write(filesystem, _list_path(root, parts), _parquet(groups))
        parts += len(batch)
        count += sum(map(len, batch))
    if not count:
        raise storage_error(source, "it holds no audio files", "Give another INPUT")
    manifest = _Manifest(
        model=classifier.key,
        genres=list(classifier.genres),
        input=source,
        files=count,
        parts=parts,
    )
    write(filesystem, f"{root}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())
    return manifest


def _job(output: str, filesystem: fs.FileSystem, root: str, manifest: _Manifest) -> Job:
    names = {info.base_name for info in filesystem.get_file_info(fs.FileSelector(root))}
    finished = 0
    missing = []
    left = manifest.files
    for number, size in zip(range(manifest.parts), part_sizes(), strict=False):
        if _part_name(number) in names:
            finished += min(size, left)
        else:
            missing.append(number)
        left -= size
    return Job(output, manifest.model, manifest.files, finished, tuple(missing))


def _part_name(number: int) -> str:
    return f"part-{number:07d}.parquet"


def _list_path(root: str, number: int) -> str:
    return f"{root}/{_FILES}/{number // _PARTS_PER_LIST:05d}.parquet"


def _parquet(groups: list[pa.Table]) -> bytes:
    content = io.BytesIO()
    with pq.ParquetWriter(content, groups[0].schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group)
    return content.getvalue()
