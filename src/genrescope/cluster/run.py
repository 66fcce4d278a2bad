"""Classify millions of files on a Ray cluster: from a folder or bucket to a folder of Parquet.

Files are listed once and cut into parts. The list is kept in the output (``_files``) with the model
(``_model``) and a manifest, so that every node finds all it needs there and nothing else has to
survive. A part is finished when its file exists, which is written whole or not at all; whoever
writes it again, after a node was lost or at once on two nodes, writes the same file. So every file
is in the output exactly once, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs
from pydantic import BaseModel, ConfigDict, ValidationError

from genrescope.audio import is_audio
from genrescope.audio.walk import walk
from genrescope.classifier import Classifier, Prediction
from genrescope.errors import GenrescopeError, InputError
from genrescope.workers import CrashedError, WorkerProcess, parallel_map

_T = TypeVar("_T")

MANIFEST = "_genrescope.json"
# Readers of Parquet folders pass over names with _ in front.
_FILES, _MODEL, _TRIED = "_files", "_model", "_tried"
_LEAST, _MOST = 16, 1000  # files of a part
_SHARE = 64  # a part is this share of all before it, so that few files, too, keep many cores busy
_PARTS_A_LIST = 100
_FETCHES = 2  # files on their way from an object store, for each that is heard
_TRIES = 2  # of a part that came to no end, before its files are heard in a process of their own
_OBJECT_STORE = 200 * 2**20  # bytes: what travels through Ray is part numbers
_PATHS = pa.schema([("path", pa.string()), ("size", pa.int64())])

_CHECK = "Check the address, your credentials and the network"


@dataclass(frozen=True)
class File:
    """A file to classify.

    Attributes
    ----------
    path
        ``/mnt/music/a.mp3``, ``s3://bucket/music/a.mp3``; nothing in it is percent-encoded.
    size
        In bytes; None if the list does not tell.
    """

    path: str
    size: int | None = None


class _Manifest(BaseModel):
    # What an output folder is; written when its files are listed.

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    model: str
    genres: list[str]
    input: str
    files: int
    parts: int


@dataclass(frozen=True)
class Job:
    """What is to be done to complete an output folder.

    Attributes
    ----------
    output
        The folder.
    key
        Of the model.
    files
        In the whole output.
    finished
        Files of the parts that need not be made again.
    missing
        Numbers of the parts that must be made.
    """

    output: str
    key: str
    files: int
    finished: int
    missing: tuple[int, ...]


@dataclass(frozen=True)
class OutputPart:
    """A part that has been made: its number, its files, and how many of them failed."""

    number: int
    files: int
    failed: int


def part_sizes() -> Iterator[int]:
    """Give how many files each part holds, without end: 16 at first, 1,000 from 64,000 files on."""
    before = 0
    while True:
        size = min(_MOST, max(_LEAST, before // _SHARE))
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


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """Find the storage that an address means, and the path there.

    Parameters
    ----------
    uri
        A local path, ``file:///…``, ``s3://bucket/key``, ``gs://bucket/key``, or any other that
        pyarrow or an installed fsspec package knows.

    Raises
    ------
    GenrescopeError
        If there is no such storage, or it cannot be reached.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return fs.LocalFileSystem(), _absolute(uri)
    if scheme == "file":
        return fs.LocalFileSystem(), rest
    try:
        return _filesystem(scheme, rest.partition("/")[0]), rest.rstrip("/")
    except (OSError, ImportError, ValueError) as error:
        raise _refusal(uri, _cause("it cannot be reached", error), _CHECK) from error


def _absolute(address: str) -> str:
    return address if "://" in address else str(Path(address).expanduser().absolute())


@cache
def _filesystem(scheme: str, bucket: str) -> fs.FileSystem:
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a kind that pyarrow does not know
        import fsspec  # noqa: PLC0415  Ray Data's own dependency, seldom needed

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))


def list_files(source: str) -> Iterator[File]:
    """List the audio files of a folder with all its folders, or those that a list names.

    Parameters
    ----------
    source
        Address of a folder, of one audio file, or of a list: ``.txt`` with one address a line,
        ``.csv`` or ``.parquet`` with a column ``path`` and perhaps ``size``.

    Yields
    ------
    file
        Of a folder, in the order of names; a local folder that cannot be listed stands for what it
        holds, so that it ends up as an error rather than in silence.

    Raises
    ------
    GenrescopeError
        If there is nothing of the kind, or it cannot be read.
    """
    filesystem, root = locate(source)
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.NotFound:
            raise _refusal(source, "no such file or folder", _CHECK)
        if info.type == fs.FileType.File:
            yield from _listed(source, filesystem, info)
        elif isinstance(filesystem, fs.LocalFileSystem):
            yield from _walk(root)
        else:
            yield from _stored(filesystem, root, source.partition("://")[0])
    except (OSError, pa.ArrowException) as error:
        raise _refusal(source, _cause("it cannot be listed", error), _CHECK) from error


def _listed(source: str, filesystem: fs.FileSystem, info: fs.FileInfo) -> Iterator[File]:
    ending = PurePosixPath(info.path).suffix.lower()
    if ending not in {".txt", ".csv", ".parquet"}:
        yield File(source if "://" in source else info.path, info.size)
    elif ending == ".txt":
        with filesystem.open_input_stream(info.path) as file:
            lines = io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8")
            yield from (File(_absolute(line.rstrip("\r\n"))) for line in lines if line.strip())
    else:
        with filesystem.open_input_file(info.path) as file:
            for batch in _batches(file, ending):
                if "path" not in batch.schema.names:
                    cause = "the list has no column path"
                    raise _refusal(source, cause, "Name the column of the addresses path")
                paths = batch.column("path").to_pylist()
                with_size = "size" in batch.schema.names
                sizes = batch.column("size").to_pylist() if with_size else [None] * len(paths)
                yield from map(File, map(_absolute, paths), sizes)


def _batches(file: pa.NativeFile, ending: str) -> Iterator[pa.RecordBatch]:
    if ending == ".csv":
        yield from pyarrow.csv.open_csv(file)
    else:
        yield from pq.ParquetFile(file).iter_batches()


def _walk(top: str) -> Iterator[File]:
    for folder in walk(top):
        if folder.fault is not None:
            yield File(_text(folder.path))
        for file in folder.files:
            yield File(_text(file.path), max(0, file.size))


def _text(path: str) -> str:
    # Old collections have names in Latin-1, and Parquet has none but UTF-8.
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _stored(filesystem: fs.FileSystem, root: str, scheme: str) -> Iterator[File]:
    # One folder of the first level at a time: few requests, and the memory of the largest.
    def infos(folder: str, *, recursive: bool) -> list[fs.FileInfo]:
        found = filesystem.get_file_info(fs.FileSelector(folder, recursive=recursive))
        return sorted(found, key=lambda info: info.path.split("/"))

    for child in infos(root, recursive=False):
        is_folder = child.type == fs.FileType.Directory
        for info in infos(child.path, recursive=True) if is_folder else [child]:
            if info.type == fs.FileType.File and is_audio(Path(info.path)):
                yield File(f"{scheme}://{info.path.removeprefix('/')}", info.size)


def prepare(source: str, output: str, classifier: Classifier) -> Job:
    """Make an output folder with the list of files and the model, or open one to go on with.

    Parameters
    ----------
    source
        See ``list_files``.
    output
        Address of the folder. It must be visible to every node.
    classifier
        Its files are copied into the output, where the nodes take them from.

    Raises
    ------
    GenrescopeError
        If there are no files, or the folder holds something else, or other files, or what another
        model has heard.
    """
    # Nodes work in folders of their own, which relative paths would start from.
    source, output = _absolute(source), _absolute(output)
    filesystem, root = locate(output)
    try:
        manifest = _read_manifest(output)
        if manifest is None:
            _check_version(output, filesystem, root)
            manifest = _start(filesystem, root, source, classifier)
        _refuse_other(output, manifest, source, classifier)
        return _job(output, filesystem, root, manifest)
    except OSError as error:
        raise _refusal(output, _cause("it cannot be written", error), _CHECK) from error


def _read_manifest(output: str) -> _Manifest | None:
    filesystem, root = locate(output)
    try:
        return _Manifest.model_validate_json(_read(filesystem, f"{root}/{MANIFEST}"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        cause = f"its {MANIFEST} is damaged or of another genrescope"
        raise _refusal(output, cause, "Give another folder with --output") from error


def _check_version(output: str, filesystem: fs.FileSystem, root: str) -> None:
    info = filesystem.get_file_info(root)
    found = [] if info.type == fs.FileType.NotFound else [root]
    if info.type == fs.FileType.Directory:
        inside = filesystem.get_file_info(fs.FileSelector(root))
        found = [entry.path for entry in inside if entry.base_name not in {_FILES, _MODEL}]
    if found:
        cause = "there is something else there, which is left alone"
        raise _refusal(output, cause, "Give a folder of its own with --output")


def _refuse_other(output: str, manifest: _Manifest, source: str, classifier: Classifier) -> None:
    remedy = "Give another folder with --output"
    if manifest.model != classifier.key:
        cause = f"what is there was heard by another model ({manifest.model}, not {classifier.key})"
        raise _refusal(output, cause, f"{remedy}, or that model with --model")
    if manifest.input != source:
        cause = f"what is there was heard of {manifest.input}"
        raise _refusal(output, cause, remedy)


def _start(filesystem: fs.FileSystem, root: str, source: str, classifier: Classifier) -> _Manifest:
    with TemporaryDirectory() as folder:
        classifier.save_pretrained(folder)
        for file in Path(folder).iterdir():
            _write(filesystem, f"{root}/{_MODEL}/{file.name}", file.read_bytes())
    count = parts = 0
    lists = cut(list_files(source))
    while batch := list(islice(lists, _PARTS_A_LIST)):
        _write(filesystem, _list_path(root, parts), _list_bytes(batch))
        parts += len(batch)
        count += sum(map(len, batch))
    if not count:
        raise _refusal(source, "there are no audio files in it", "Give another with --input")
    manifest = _Manifest(
        model=classifier.key,
        genres=list(classifier.genres),
        input=source,
        files=count,
        parts=parts,
    )
    _write(filesystem, f"{root}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())
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


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Use a Ray cluster for a while.

    Parameters
    ----------
    address
        ``local`` for one on this machine alone, which is started and stopped; ``auto`` for the one
        that this machine is a node of; or ``host:port`` of its head.

    Raises
    ------
    GenrescopeError
        If there is none, or it is out of reach.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray  # noqa: PLC0415  takes half a second

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        _check_reachable(address)
        if address == "local":
            ray.init("local", include_dashboard=False, object_store_memory=_OBJECT_STORE, **quiet)
        else:
            ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        told = _cause(f"No Ray cluster answers at {address}", error)
        raise GenrescopeError(
            f"{told}. Start one with `ray start --head`, or give --cluster local."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    if address.startswith("ray://"):
        raise GenrescopeError(
            "Ray Data cannot be used through ray://. Run this command on a node of the cluster "
            "with --cluster auto; `ray job submit` takes it there."
        )
    host, mark, port = address.rpartition(":")
    if mark:  # Ray would knock for minutes
        socket.create_connection((host, int(port)), timeout=10).close()


def classify_parts(job: Job) -> Iterator[OutputPart]:
    """Make the missing parts of an output on the cluster that is connected.

    Every core of the cluster, or every GPU if the model can use one there, gets an actor with a
    model of its own. Ray makes a part again when its node or worker is lost; where that happens
    again and again, its files are heard in a process of their own, to find the one that does it.

    Yields
    ------
    part
        As they are done, in any order.

    Raises
    ------
    GenrescopeError
        If the cluster fails, or parts are missing in the end.
    """
    reasons = []
    for row in _run(job) if job.missing else ():
        if row["error"]:
            reasons.append(row["error"])
        else:
            yield OutputPart(int(row["part"]), int(row["files"]), int(row["failed"]))
    if reasons:
        raise GenrescopeError(
            f"{len(reasons)} parts of {job.output} could not be made ({reasons[-1]}). Run the same "
            "command again."
        )


def _run(job: Job) -> Iterator[Mapping[str, Any]]:
    import ray.data  # noqa: PLC0415
    from ray.exceptions import RayError  # noqa: PLC0415

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    need = _needs(job)
    count = len(job.missing)
    pool = ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=min(count, need.actors),
        max_size=count,  # more nodes may join
        max_tasks_in_flight_per_actor=2,
    )
    # Made here, not by tasks: those would wait for a core, and every core has an actor.
    numbers = [{"part": number} for number in job.missing]
    done = ray.data.from_items(numbers, override_num_blocks=count).map_batches(
        _Hearer,
        fn_constructor_args=(job.output, job.key, need.cores),
        batch_size=1,
        compute=pool,
        num_cpus=need.cores,
        num_gpus=need.gpus,
    )
    try:
        yield from done.iter_rows()
    except (RayError, RuntimeError) as error:
        raise GenrescopeError(
            f"The cluster has failed: {str(error).strip().splitlines()[-1]}. What is finished is "
            "kept: run the same command again."
        ) from error


@dataclass(frozen=True)
class _Needs:
    """Actors that the cluster has room for, and what each of them takes."""

    actors: int
    cores: int
    gpus: int


def _needs(job: Job) -> _Needs:
    import ray  # noqa: PLC0415

    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if cores < 1:
        raise GenrescopeError("The Ray cluster has no cores: start workers with `ray start`.")
    if gpus:
        probe = ray.remote(num_gpus=1, num_cpus=1, max_retries=2)(_runs_on_gpu)
        if ray.get(probe.remote(job.output)):
            return _Needs(gpus, max(1, cores // gpus), 1)
    return _Needs(cores, 1, 0)


def _runs_on_gpu(output: str) -> bool:
    # Asked on a node with one: a GPU that the model makes no use of had better not be waited for.
    return _open_model(output).on_gpu


def _open_model(output: str) -> Classifier:
    filesystem, root = locate(output)
    with TemporaryDirectory(prefix="genrescope-") as folder:
        try:
            found = filesystem.get_file_info(fs.FileSelector(f"{root}/{_MODEL}"))
        except FileNotFoundError as error:
            raise GenrescopeError(
                f"{output} is not visible to every node. Give one in a bucket or a shared folder."
            ) from error
        for info in found:
            (Path(folder) / info.base_name).write_bytes(_read(filesystem, info.path))
        classifier = Classifier(Path(folder), threads=1)
        _ = classifier.key  # kept by it; looks at the folder
    return classifier


class _Hearer:
    """Makes parts, with a model of its own; Ray makes one for every core or GPU."""

    def __init__(self, output: str, key: str, workers: int) -> None:
        self._output = output
        self._filesystem, self._root = locate(output)
        self._workers = workers
        self._classifier = _open_model(output)
        self._schema = _schema(self._classifier.genres)
        if self._classifier.key != key:
            raise GenrescopeError(
                f"This node's genrescope makes another model of {output}/{_MODEL}. Install the "
                "same version on every node."
            )

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        made = [self._make(int(number)) for number in batch["part"]]
        return {name: [row[name] for row in made] for name in made[0]}

    def _make(self, number: int) -> dict[str, Any]:
        tried = f"{self._root}/{_TRIED}/{number}"
        try:
            is_careful = self._count_try(tried) > _TRIES
            rows = self._hear(self._read_list(number), is_careful=is_careful)
            table = pa.Table.from_pylist(rows, schema=self._schema)
            _write(self._filesystem, f"{self._root}/{_part_name(number)}", _parquet([table]))
            with suppress(FileNotFoundError):  # a worker taken for lost may have been here, too
                self._filesystem.delete_file(tried)
        except OSError as error:  # of the storage
            return {"part": number, "files": 0, "failed": 0, "error": str(error)}
        failed = sum(row["error"] is not None for row in rows)
        return {"part": number, "files": len(rows), "failed": failed, "error": ""}

    def _count_try(self, path: str) -> int:
        # Kept in the output, as a file that crashes its worker leaves no other memory of it.
        try:
            count = int(_read(self._filesystem, path)) + 1
        except FileNotFoundError:
            count = 1
        _write(self._filesystem, path, str(count).encode())
        return count

    def _read_list(self, number: int) -> list[File]:
        with self._filesystem.open_input_file(_list_path(self._root, number)) as file:
            group = pq.ParquetFile(file).read_row_group(number % _PARTS_A_LIST)
        return [File(**row) for row in group.to_pylist()]

    def _hear(self, files: list[File], *, is_careful: bool) -> list[dict[str, Any]]:
        with ExitStack() as stack:
            predict: Callable[[Path], Prediction] = self._classifier.predict
            workers = self._workers
            if is_careful:
                process = stack.enter_context(WorkerProcess(_open_model, self._output))
                predict, workers = partial(_ask, process), 1
            # Emptied after each part: Ray ends its workers without leave.
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="genrescope-")))
            # The next ones are on their way while one is heard.
            fetched = parallel_map(lambda file: _fetch(file, folder), files, _FETCHES * workers)
            return list(parallel_map(lambda one: _heard(one, predict), fetched, workers))


@dataclass(frozen=True)
class _Fetched:
    """A file where it can be heard; or why it cannot."""

    file: File
    local: Path | None
    copied: bool = False
    error: str = ""


def _fetch(file: File, folder: Path) -> _Fetched:
    try:
        filesystem, path = locate(file.path)
        if isinstance(filesystem, fs.LocalFileSystem):
            return _Fetched(file, Path(path))
        copy = folder / f"{secrets.token_hex(8)}{PurePosixPath(path).suffix}"
        with filesystem.open_input_stream(path) as stream, copy.open("wb") as target:
            while block := stream.read(2**20):
                target.write(block)
        return _Fetched(file, copy, copied=True)
    except Exception as error:  # noqa: BLE001  whatever it is, the other files go on
        return _Fetched(file, None, error=_cause("it cannot be fetched", error))


def _heard(fetched: _Fetched, predict: Callable[[Path], Prediction]) -> dict[str, Any]:
    if fetched.local is None:
        return _row(fetched.file, fetched.error)
    try:
        if fetched.local.is_dir():  # only those that could not be listed are on a list
            return _row(fetched.file, "the folder cannot be listed. Check that you may read it.")
        return _row(fetched.file, predict(fetched.local))
    except InputError as error:
        return _row(fetched.file, f"{error.cause}. {error.remedy}.")
    except Exception as error:  # noqa: BLE001  whatever it is, the other files go on
        return _row(fetched.file, _cause("it cannot be heard", error))
    finally:
        if fetched.copied:
            fetched.local.unlink(missing_ok=True)


def _ask(process: WorkerProcess, path: Path) -> Prediction:
    try:
        return process.do(Classifier.predict, path)
    except CrashedError as error:
        cause = "the process that heard it has crashed"
        raise InputError(path, cause, "Replace the file or remove it") from error


def _schema(genres: Iterable[str]) -> pa.Schema:
    likely = pa.struct([(genre, pa.float32()) for genre in genres])
    return pa.schema(
        [
            *_PATHS,
            ("genre", pa.string()),
            ("confidence", pa.float32()),
            ("unsure", pa.bool_()),
            ("probabilities", likely),
            ("tags", pa.map_(pa.string(), pa.float32())),
            ("warnings", pa.list_(pa.string())),
            ("error", pa.string()),
        ]
    )


def _row(file: File, found: Prediction | str) -> dict[str, Any]:
    row: dict[str, Any] = {"path": file.path, "size": file.size}
    if isinstance(found, str):
        return {**row, "error": found}
    return {
        **row,
        "genre": found.genre,
        "confidence": found.confidence,
        "unsure": found.unsure,
        "probabilities": found.probabilities,
        "tags": list(found.tags.items()),
        "warnings": list(found.warnings),
        "error": None,
    }


def _part_name(number: int) -> str:
    return f"part-{number:07d}.parquet"


def _list_path(root: str, number: int) -> str:
    return f"{root}/{_FILES}/{number // _PARTS_A_LIST:05d}.parquet"


def _list_bytes(parts: list[list[File]]) -> bytes:
    # A row group for each part, so that a node reads no more than its own.
    columns = [([file.path for file in part], [file.size for file in part]) for part in parts]
    return _parquet([pa.table(list(pair), schema=_PATHS) for pair in columns])


def _parquet(groups: list[pa.Table]) -> bytes:
    content = io.BytesIO()
    with pq.ParquetWriter(content, groups[0].schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group)
    return content.getvalue()


def _read(filesystem: fs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_stream(path) as file:
        return bytes(file.read())


def _write(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    # Whole or not at all: an object appears when it is complete, a local file when it is renamed.
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


def _refusal(address: str, cause: str, remedy: str) -> GenrescopeError:
    # As an InputError would say it of a path, which an address is not.
    return GenrescopeError(f"{address}: {cause}. {remedy}.")


def _cause(what: str, error: BaseException) -> str:
    # Storage tells its errors in many lines.
    told = str(error).strip()
    return f"{what} ({told.splitlines()[0].rstrip('.') if told else type(error).__name__})"
