"""Classify millions of files on a Ray cluster: from a folder or bucket to a folder of Parquet.

Files are listed once and cut into parts. The list is stored in the output (``_files``) with the
model (``_model``) and a manifest, so that the nodes need nothing else. A part is finished when its
file exists, which is written whole or not at all. A part that is computed again, after a node was
lost or on two nodes at once, has the same content. So every file is in the output exactly once, and
a run that was stopped can be resumed.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from logging import CRITICAL, ERROR
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs

from genrescope.classifier import Classifier, Prediction
from genrescope.cluster.lists import File
from genrescope.cluster.parts import Job, Output, open_model, to_row
from genrescope.cluster.storage import first_line, locate
from genrescope.environment import configure, quiet
from genrescope.errors import GenrescopeError, InputError
from genrescope.workers import WorkerPool, parallel_map

_FETCHES = 2  # downloads at a time, for each file that is classified
_MAX_TRIES = 2  # of a part, before its files are classified in another process
_OBJECT_STORE = 200 * 2**20  # bytes: only part numbers travel through Ray


@dataclass(frozen=True)
class OutputPart:
    """A finished part: its number, its files, and how many of them failed."""

    number: int
    files: int
    failed: int


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a Ray cluster for a while.

    Parameters
    ----------
    address
        ``local`` starts one on this machine, and stops it in the end; ``auto`` is the cluster that
        this machine is a node of; ``host:port`` that of a head node.

    Raises
    ------
    GenrescopeError
        If there is none, or it cannot be reached.
    """
    configure("ray")
    import ray  # noqa: PLC0415  takes half a second

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": ERROR}
    try:
        _check_reachable(address)
        if address == "local":
            ray.init("local", include_dashboard=False, object_store_memory=_OBJECT_STORE, **options)
        else:
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        cause = first_line(f"No Ray cluster answers at {address}", error)
        raise GenrescopeError(
            f"{cause}. Start one with `ray start --head`, or give --address local."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    if address.startswith("ray://"):
        raise GenrescopeError(
            "Ray Data does not work through ray://. Run this command on a node of the cluster with "
            "--address auto; `ray job submit` sends it there."
        )
    host, mark, port = address.rpartition(":")
    if mark:  # Ray itself would try for minutes
        socket.create_connection((host, int(port)), timeout=10).close()


def classify_parts(job: Job) -> Iterator[OutputPart]:
    """Compute the missing parts of an output on the connected cluster.

    Every core of the cluster, or every GPU if the model can use it, gets an actor with a model of
    its own. Ray computes a part again when its node or worker is lost. After repeated losses the
    files of the part are classified in a separate process, which finds the file that causes them.

    Yields
    ------
    part
        When it is finished, in any order.

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
            f"{job.output}: {len(reasons)} parts could not be written ({reasons[-1]}). Run the "
            "same command again."
        )


def _run(job: Job) -> Iterator[Mapping[str, Any]]:
    import ray.data  # noqa: PLC0415
    from ray.exceptions import RayError  # noqa: PLC0415

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    resources = _resources(job)
    count = len(job.missing)
    pool = ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=min(count, resources.actors),
        max_size=count,  # more nodes may join
        max_tasks_in_flight_per_actor=2,
    )
    # Created here, not by tasks: every core has an actor, so that tasks would wait for ever.
    numbers = [{"part": number} for number in job.missing]
    done = ray.data.from_items(numbers, override_num_blocks=count).map_batches(
        _PartClassifier,
        fn_constructor_args=(job.output, job.key, resources.cores),
        batch_size=1,
        compute=pool,
        num_cpus=resources.cores,
        num_gpus=resources.gpus,
    )
    try:
        with quiet(logger="ray.data", level=CRITICAL):
            yield from done.iter_rows()
    except (RayError, RuntimeError) as error:
        raise GenrescopeError(
            f"The cluster has failed: {str(error).strip().splitlines()[-1]}. Finished parts are "
            "kept: run the same command again."
        ) from error


@dataclass(frozen=True)
class _Resources:
    """Number of actors that fit on the cluster, and the cores and GPUs of each."""

    actors: int
    cores: int
    gpus: int


def _resources(job: Job) -> _Resources:
    import ray  # noqa: PLC0415

    found: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
    if cores < 1:
        raise GenrescopeError("The Ray cluster has no cores. Start workers with `ray start`.")
    if gpus:
        probe = ray.remote(num_gpus=1, num_cpus=1, max_retries=2)(_runs_on_gpu)
        if ray.get(probe.remote(job.output)):
            return _Resources(gpus, max(1, cores // gpus), 1)
    return _Resources(cores, 1, 0)


def _runs_on_gpu(output: str) -> bool:
    # Runs on a node with a GPU: actors wait for GPUs only if the model uses them.
    return open_model(output).on_gpu


class _PartClassifier:
    """Computes parts, with a model of its own; Ray creates one for every core or GPU."""

    def __init__(self, output: str, key: str, workers: int) -> None:
        self._address, self._workers = output, workers
        self._classifier = open_model(output)
        self._output = Output(output, self._classifier.genres)
        if self._classifier.key != key:
            raise GenrescopeError(
                f"{output}: this node's genrescope reads its model as another one. Install the "
                "same version on every node."
            )

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        results = [self._compute(int(number)) for number in batch["part"]]
        return {name: [row[name] for row in results] for name in results[0]}

    def _compute(self, number: int) -> dict[str, Any]:
        try:
            is_isolated = self._output.count_try(number) > _MAX_TRIES
            rows = self._classify(self._output.files(number), is_isolated=is_isolated)
            self._output.finish(number, rows)
        except OSError as error:  # of the storage
            return {"part": number, "files": 0, "failed": 0, "error": str(error)}
        failed = sum(row["error"] is not None for row in rows)
        return {"part": number, "files": len(rows), "failed": failed, "error": ""}

    def _classify(self, files: list[File], *, is_isolated: bool) -> list[Mapping[str, Any]]:
        with ExitStack() as stack:
            predict: Callable[[Path], Prediction] = self._classifier.predict
            workers = self._workers
            if is_isolated:
                pool = stack.enter_context(WorkerPool(1, open_model, self._address))
                predict, workers = partial(pool.do_file, Classifier.predict), 1
            # Removed after each part: Ray ends its workers without notice.
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="genrescope-")))
            # The next files are downloaded while one is classified.
            fetched = parallel_map(partial(_fetch, folder), files, _FETCHES * workers)
            return list(parallel_map(partial(_to_row, predict), fetched, workers))


@dataclass(frozen=True)
class _Fetched:
    """A file on the local disk; or why it is not there."""

    file: File
    local: Path | None
    copied: bool = False
    error: str = ""


def _fetch(folder: Path, file: File) -> _Fetched:
    try:
        filesystem, path = locate(file.path)
        if isinstance(filesystem, fs.LocalFileSystem):
            return _Fetched(file, Path(path))
        copy = folder / f"{secrets.token_hex(8)}{PurePosixPath(path).suffix}"
        with filesystem.open_input_stream(path) as stream, copy.open("wb") as target:
            while block := stream.read(2**20):
                target.write(block)
        return _Fetched(file, copy, copied=True)
    except Exception as error:  # noqa: BLE001  one file's failure is a row; the others continue
        return _Fetched(file, None, error=first_line("it cannot be fetched", error))


def _to_row(predict: Callable[[Path], Prediction], fetched: _Fetched) -> Mapping[str, Any]:
    if fetched.local is None:
        return to_row(fetched.file, fetched.error)
    try:
        if fetched.local.is_dir():  # lists have no other folders than those
            return to_row(fetched.file, "the folder cannot be listed. Check its permissions.")
        return to_row(fetched.file, predict(fetched.local))
    except InputError as error:
        return to_row(fetched.file, f"{error.cause}. {error.remedy}.")
    except Exception as error:  # noqa: BLE001  as above
        return to_row(fetched.file, first_line("it cannot be classified", error))
    finally:
        if fetched.copied:
            fetched.local.unlink(missing_ok=True)
