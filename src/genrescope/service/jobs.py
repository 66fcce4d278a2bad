"""Jobs that take a while, which their clients follow by an id that nobody can guess."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import anyio

from genrescope.errors import GenrescopeError, NotFoundError
from genrescope.service.queue import FairQueue, FullError

RESULT = "answer.json"
"""The file of a job's folder into which its work writes the result."""

_SWEEP_S = 30.0
_LEAST = 16_384  # bytes that each counts as, for what is kept of it in memory
_REPORT_S = 0.1  # between two reports of progress
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
        For files of the result; deleted with the job, or as soon as its work fails.
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
    begun
        When its work began, by the monotonic clock, in s.
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
    begun: float | None = None
    seen: float = field(default_factory=time.monotonic)
    size: int = _LEAST
    place: int | None = None
    task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in _DONE


class StaysError(GenrescopeError):
    """A job is kept as long as the server lives."""


class _StopWork(Exception):  # noqa: N818  not an error
    pass


Work = Callable[[ServerJob], Coroutine[Any, Any, None]]
ThreadWork = Callable[[Callable[[int, int], None]], dict[str, Any]]
"""Is given what it calls with the numbers of steps done and in all, and returns the result."""


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
    words
        Puts the error of a failed one into words, for its state.
    most
        That may wait or run.
    """

    def __init__(
        self,
        queue: FairQueue,
        folder: Path,
        keep_s: float,
        keep_bytes: float,
        words: Callable[[Exception], dict[str, str]],
        most: float = inf,
    ) -> None:
        self._queue, self._folder, self._words, self._most = queue, folder, words, most
        self._keep_s, self._keep_bytes = keep_s, keep_bytes
        self._jobs: dict[str, ServerJob] = {}  # oldest first
        self._thread = asyncio.Lock()
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

        Raises
        ------
        FullError
            If as many as there may be wait or run.
        """
        if sum(not job.ended for job in self._jobs.values()) >= self._most:
            raise FullError
        job = ServerJob(name, client, self._folder / secrets.token_hex(16), stays=stays)
        job.folder.mkdir()
        self._jobs[job.id] = job
        job.task = asyncio.create_task(work(job))
        # Also where the task is cancelled before its first step, in which it would run no code.
        job.task.add_done_callback(partial(self._end, job, held.pop_all() if held else None))
        return job

    def begin_in_thread(
        self, name: str, client: str, work: ThreadWork, held: ExitStack | None = None
    ) -> ServerJob:
        """Begin a job whose work is done in a thread, after those that began before it.

        If it is cancelled, its work ends at the next step; else as of ``begin``.
        """
        return self.begin(name, client, partial(self._work_in_thread, work), held=held)

    def started(self, job: ServerJob) -> None:
        """Note that a job waits no more."""
        job.begun = time.monotonic()
        self._set(job, "running")

    def progressed(self, job: ServerJob, done: int, total: int) -> None:
        """Note how far a job is."""
        job.progress = {"done": done, "total": total}
        self._set(job, job.state)

    def find(self, name: str) -> ServerJob:
        """Return a job by its id, which counts as a look at it.

        Raises
        ------
        NotFoundError
            If there is none, or not any more.
        """
        if (job := self._jobs.get(name)) is None:
            raise NotFoundError("This is no longer kept, or has never been here.")
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
            does not wait), ``running_s`` since its work began (None before), ``progress``,
            ``error``, and ``answer``, the result once it is done.

        Raises
        ------
        NotFoundError
            If the result has just been deleted.
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
                raise NotFoundError("This is no longer kept.") from None
        running_s = None if job.begun is None else time.monotonic() - job.begun
        return {**state, "running_s": running_s, "answer": answer}

    async def forget(self, job: ServerJob) -> None:
        """Cancel a job if it waits or runs, and delete what is kept of it.

        Raises
        ------
        StaysError
            If it is one that stays.
        """
        if job.stays:
            raise StaysError("The example stays.")
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

    async def _work_in_thread(self, work: ThreadWork, job: ServerJob) -> None:
        loop, stop = asyncio.get_running_loop(), threading.Event()
        reported = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal reported
            if stop.is_set():
                raise _StopWork
            if (now := time.monotonic()) > reported + _REPORT_S:
                reported = now
                loop.call_soon_threadsafe(self.progressed, job, done, total)

        async with self._thread:
            self.started(job)
            task = asyncio.create_task(anyio.to_thread.run_sync(work, progress))
            try:
                result = await asyncio.shield(task)
            except asyncio.CancelledError:
                stop.set()
                with suppress(Exception):
                    await task
                raise
            (job.folder / RESULT).write_text(json.dumps(result), encoding="utf-8")

    def _end(self, job: ServerJob, held: ExitStack | None, task: asyncio.Task[None]) -> None:
        with suppress(OSError):
            if held is not None:
                held.close()
        job.task = None  # a failed one holds what its functions held
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            job.error = self._words(error)
        state = "cancelled" if task.cancelled() else "failed" if error else "done"
        if state == "done":
            with suppress(OSError):
                job.size += sum(file.stat().st_size for file in job.folder.iterdir())
        else:
            shutil.rmtree(job.folder, ignore_errors=True)  # a file may be cut off
        self._set(job, state)
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
