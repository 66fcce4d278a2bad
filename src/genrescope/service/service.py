"""A classifier that serves many clients, in turn and within limits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from anyio import CancelScope

from genrescope.classifier import Classifier
from genrescope.classifier.explain import Explanation
from genrescope.errors import InputError
from genrescope.library.similar import Library, Neighbour
from genrescope.service.analysis import AnalysisOptions, UploadAnalysis, analyse, explain_sound
from genrescope.service.queue import FairQueue
from genrescope.workers import CrashedError, WorkerProcess

_Result = TypeVar("_Result")

_END_S = 0.5  # for work that nobody wants any more


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes
    ----------
    megabytes
        Of a request's body, in units of 10⁶ bytes.
    minutes
        Of audio in a file.
    at_once
        Files analysed in parallel, each in a process of its own (some 200 MB).
    inside
        Maximum number of requests received, queued or processed; further ones get 503.
    upload_s
        Time limit to receive a request's body, in s.
    analysis_s
        Time limit for the analysis of a file, in s.
    keep_s
        Answers of the page are kept for this long after they were last asked for, in s.
    keep_megabytes
        Of all these answers together; beyond it the oldest are deleted.
    """

    megabytes: float = 100.0
    minutes: float = 15.0
    at_once: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    inside: int = 100
    upload_s: float = 60.0
    analysis_s: float = 60.0
    keep_s: float = 1800.0
    keep_megabytes: float = 200.0

    @property
    def size(self) -> int:
        """Of a request's body, in bytes."""
        return round(self.megabytes * 1e6)


class TooSlowError(InputError):
    """The analysis of a file exceeded the time limit."""


class Service:
    """A classifier that serves many clients.

    Parameters
    ----------
    classifier
        Whose folder each process opens.
    limits
        See there.
    library
        Where to look for similar tracks.

    Attributes
    ----------
    queue
        The queue of requests.
    """

    def __init__(
        self, classifier: Classifier, limits: Limits, library: Library | None = None
    ) -> None:
        self.classifier, self.limits, self.library = classifier, limits, library
        self.queue = FairQueue(limits.at_once, limits.inside)
        self._workers = [WorkerProcess(classifier.loader) for _ in range(limits.at_once)]
        self._free = list(self._workers)  # one for each turn
        self._waits = ThreadPoolExecutor(limits.at_once)  # for the processes

    def start(self) -> None:
        """Start the processes, so that the first client need not wait for them."""
        for worker in self._workers:
            worker.begin()  # all at the same time
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.kill()
        self._waits.shutdown()
        for worker in self._workers:
            worker.close()

    async def analyse(
        self,
        path: Path,
        client: str,
        wanted: AnalysisOptions,
        *,
        name: str = "",
        began: Callable[[], None] = lambda: None,
    ) -> UploadAnalysis:
        """Analyse a file when its client's turn has come; if cancelled, the work ends at once.

        Parameters
        ----------
        path
            Of the file, which is left in place.
        client
            Address of the client.
        wanted
            What to compute; the limits set the maximum length.
        name
            By which the queue knows it.
        began
            Called when it has its turn.

        Raises
        ------
        InputError
            If it cannot be analysed: it is not audio, damaged, too long (``TooLongError``),
            takes too long (``TooSlowError``), or crashes its decoder.
        """
        limit = 60 * self.limits.minutes
        wanted = replace(wanted, vector=self.library is not None, longest_s=limit)
        return await self._turn(client, name, began, analyse, path, wanted)

    async def explain(
        self, path: Path, client: str, *, name: str = "", began: Callable[[], None] = lambda: None
    ) -> Explanation:
        """Find what an answer rests on, from its sound (``SOUND``); else as ``analyse``."""
        return await self._turn(client, name, began, explain_sound, path)

    async def _turn(
        self,
        client: str,
        name: str,
        began: Callable[[], None],
        work: Callable[..., _Result],
        path: Path,
        *wanted: object,
    ) -> _Result:
        async with self.queue.turn(client, name):
            began()
            worker = self._free.pop()
            try:
                return await self._work(worker, work, path, *wanted)
            except TimeoutError as error:
                cause = f"its analysis takes longer than {self.limits.analysis_s:g} s"
                raise TooSlowError(path.name, cause, "Send a part of it") from error
            except CrashedError as error:
                cause = "the decoder crashed"
                raise InputError(path.name, cause, "Convert it to another format") from error
            finally:
                self._free.append(worker)

    async def _work(
        self, worker: WorkerProcess, work: Callable[..., _Result], *arguments: object
    ) -> _Result:
        run = partial(asyncio.get_running_loop().run_in_executor, self._waits)
        limit = self.limits.analysis_s
        done = run(partial(worker.do, work, *arguments, timeout_s=limit))
        try:
            return await until_done(done, worker.kill)
        except asyncio.CancelledError:
            if done.exception() is not None:
                with suppress(OSError, RuntimeError):  # also as the server ends
                    await run(worker.begin)  # so that the next client does not wait for it
            raise

    def near(self, analysis: UploadAnalysis, count: int = 5) -> tuple[Neighbour, ...]:
        """Find the library's tracks that sound most like one; none without a library."""
        if self.library is None or analysis.vector is None:
            return ()
        return self.library.near(analysis.vector, count)


async def until_done(work: asyncio.Future[_Result], kill: Callable[[], None]) -> _Result:
    """Wait for work in another process; if cancelled, until that has ended, too.

    Parameters
    ----------
    work
        A thread's, which waits for the process.
    kill
        Ends the process, by which the thread's work fails.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # The turn is over when the process is free. What ends by itself in a moment costs less
        # than a new process; one that is just being started is killed the next time.
        with CancelScope(shield=True):  # one that is cancelled stops every wait
            await asyncio.wait({work}, timeout=_END_S)
            while not work.done():
                kill()
                await asyncio.wait({work}, timeout=0.1)
        work.exception()  # else asyncio reports that nobody has seen it
        raise
