"""Jobs that take a while, which their clients follow by an id that nobody can guess."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import Query, Response
from starlette.exceptions import HTTPException

from genrescope.io import to_json
from genrescope.service.queue import FairQueue
from genrescope.web.clients import log_fault
from genrescope.web.faults import fault_of

RESULT = "answer.json"
"""The file of a job's folder into which its work writes the result."""

_SWEEP_S = 30.0
_LONGEST_WAIT_S = 30
_LEAST = 16_384  # bytes that each counts as, for what is kept of it in memory
_DONE = frozenset({"done", "failed", "cancelled"})


@dataclass(eq=False)
class ServerJob:
    """A job and its result.

    Attributes
    ----------
    id
        22 random characters.
    name
        Shown to the client, such as the file's.
    client
        Address of the client.
    folder
        For files of the result; exists, and is deleted with the job.
    state
        ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
    version
        Rises with every change.
    error
        Of a failed one: ``title``, ``remedy`` and ``detail``.
    progress
        ``done`` and ``total``, if the work reports any.
    stays
        Whether it is kept as long as the server lives.
    """

    name: str
    client: str
    folder: Path
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "waiting"
    version: int = 1
    error: dict[str, str] | None = None
    progress: dict[str, int] | None = None
    stays: bool = False
    seen: float = field(default_factory=time.monotonic)
    size: int = _LEAST
    place: int | None = None
    task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in _DONE


Work = Callable[[ServerJob], Coroutine[Any, Any, None]]


class ServerJobs:
    """The jobs of a server.

    They are kept for a while after their clients have last asked for them, and only as long as all
    together fit: of the client that has most, the oldest goes first.

    Parameters
    ----------
    queue
        In which jobs wait for their turn, by their ids.
    folder
        For the jobs' files; is created.
    keep_s
        Since a client's last look, in s.
    keep_bytes
        All files of ended jobs together; each job counts as 16 KiB at least.
    """

    def __init__(self, queue: FairQueue, folder: Path, keep_s: float, keep_bytes: float) -> None:
        self._queue, self._folder = queue, folder
        self._keep_s, self._keep_bytes = keep_s, keep_bytes
        self._jobs: dict[str, ServerJob] = {}  # oldest first
        folder.mkdir()

    def begin(
        self,
        name: str,
        client: str,
        work: Work,
        *,
        held: ExitStack | None = None,
        stays: bool = False,
    ) -> ServerJob:
        """Begin a job.

        Parameters
        ----------
        name, client, stays
            See ``ServerJob``.
        work
            Does it, and leaves the result in the job's folder; it calls ``started`` when it begins.
        held
            What is given back when the work has ended, however that is; taken over once it begins.
        """
        job = ServerJob(name, client, self._folder / secrets.token_hex(16), stays=stays)
        job.folder.mkdir()
        self._jobs[job.id] = job
        job.task = asyncio.create_task(work(job))
        # Also where the task is cancelled before its first step, in which it would run no code.
        job.task.add_done_callback(partial(self._end, job, held.pop_all() if held else None))
        return job

    def started(self, job: ServerJob) -> None:
        """Note that a job waits no more."""
        self._set(job, "running")

    def progressed(self, job: ServerJob, done: int, total: int) -> None:
        """Note how far a job is."""
        job.progress = {"done": done, "total": total}
        self._set(job, job.state)

    @property
    def unfinished(self) -> int:
        """The number of jobs that wait or run."""
        return sum(not job.ended for job in self._jobs.values())

    def find(self, name: str) -> ServerJob:
        """Return a job by its id, which counts as a look at it.

        Raises
        ------
        HTTPException
            404 if there is none, or no more.
        """
        if (job := self._jobs.get(name)) is None:
            detail = "There is no such answer, or it is no longer kept."
            raise HTTPException(404, detail)
        job.seen = time.monotonic()
        return job

    async def follow(self, job: ServerJob, since: int = 0, wait_s: float = 0.0) -> dict[str, Any]:
        """Give the state of a job, as soon as it is newer than a known one.

        Parameters
        ----------
        job
            The job.
        since
            The known version.
        wait_s
            To wait at most, in s.

        Returns
        -------
        state
            ``id``, ``name``, ``state``, ``version``, ``place`` in the queue (1 is next; None if it
            does not wait), ``progress``, ``error``, and ``answer``, the result once it is done.

        Raises
        ------
        HTTPException
            404 if the result has just been deleted.
        """
        end = time.monotonic() + wait_s
        while True:
            place = self._queue.rank(job.client, job.id)
            if place != job.place:
                job.place = place
                job.version += 1
            left = end - time.monotonic()
            if job.version > since or job.ended or left <= 0:
                break
            await self._queue.changes.wait(left)
        job.seen = time.monotonic()
        names = ("id", "name", "state", "version", "place", "progress", "error")
        state = {name: getattr(job, name) for name in names}
        answer = None
        if job.state == "done":
            try:
                answer = json.loads(await anyio.Path(job.folder / RESULT).read_bytes())
            except FileNotFoundError:
                raise HTTPException(404, "The answer is no longer kept.") from None
        return {**state, "answer": answer}

    async def show(
        self,
        id: str,  # noqa: A002  the address's own word
        wait: Annotated[
            float, Query(ge=0, le=_LONGEST_WAIT_S, description="Seconds to wait for a change.")
        ] = 0,
        since: Annotated[int, Query(ge=0, description="The version that is known.")] = 0,
    ) -> Response:
        """Answer with the state of a job; a route."""
        return _response(await self.follow(self.find(id), since, wait))

    async def show_begun(self, job: ServerJob, address: str) -> Response:
        """Answer with a job that has just begun, and is found below an address."""
        response = _response(await self.follow(job))
        response.status_code, response.headers["location"] = 202, f"{address}/{job.id}"
        return response

    async def forget(self, job: ServerJob) -> None:
        """Cancel a job if it waits or runs, and delete what is kept of it.

        Raises
        ------
        HTTPException
            403 if it is one that stays.
        """
        if job.stays:
            raise HTTPException(403, "The example stays.")
        if (task := job.task) is not None:
            task.cancel()
            await asyncio.wait({task})
        self._drop(job)

    async def sweep(self) -> None:
        """Delete, from time to time and without end, what nobody has looked at for long."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._keep_s / 2))
            before = time.monotonic() - self._keep_s
            for job in [job for job in self._jobs.values() if job.seen < before]:
                if job.ended and not job.stays:
                    self._drop(job)

    async def close(self) -> None:
        """Cancel every job."""
        tasks = {job.task for job in self._jobs.values() if job.task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _end(self, job: ServerJob, held: ExitStack | None, task: asyncio.Task[None]) -> None:
        with suppress(OSError):
            if held is not None:
                held.close()
            job.size += sum(file.stat().st_size for file in job.folder.iterdir())
        job.task = None  # a failed one holds what its functions held
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            found = fault_of(error)
            job.error = found.words
            if found.status == 500:
                log_fault(error)
        self._set(job, "cancelled" if task.cancelled() else "failed" if error else "done")
        self._make_room()

    def _set(self, job: ServerJob, state: str) -> None:
        job.state = state
        job.version += 1
        self._queue.changes.notify()

    def _make_room(self) -> None:
        kept = [job for job in self._jobs.values() if job.ended and not job.stays]
        sizes: Counter[str] = Counter()
        for job in kept:
            sizes[job.client] += job.size
        while sizes.total() > self._keep_bytes:
            client = max(sizes, key=sizes.__getitem__)
            oldest = next(job for job in kept if job.client == client)
            kept.remove(oldest)
            sizes[client] -= oldest.size
            self._drop(oldest)

    def _drop(self, job: ServerJob) -> None:
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)


def _response(state: dict[str, Any]) -> Response:
    # Names of files need not be text.
    headers = {"cache-control": "no-store"}
    return Response(to_json(state), headers=headers, media_type="application/json")
