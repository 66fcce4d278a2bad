"""A process of its own for work that may crash, never end or take all memory.

Decoders are large C libraries, and files come from anywhere: what hears them had better not be the
process that keeps the answers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import LifoQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

_Result = TypeVar("_Result")

_READY_S = 60.0  # to start Python and open a model, on a machine that is busy
_LEAVE_S = 5.0


class CrashedError(Exception):
    """The process has ended instead of answering."""


class Apart:
    """A process that does one thing after another; started when first needed, anew after a crash.

    Parameters
    ----------
    prepare
        Makes what every piece of work needs, in the process; picklable.
    given
        Arguments of ``prepare``.
    """

    def __init__(self, prepare: Callable[..., Any], *given: Any) -> None:
        self._prepare, self._given = prepare, given
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process and wait until it is prepared; otherwise the first work does so.

        Raises
        ------
        CrashedError
            If it does not get that far.
        """
        if self._process is not None and self._process.is_alive():
            return
        self._end()
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_live, args=(theirs, self._prepare, self._given), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            self._answer(_READY_S)
        except BaseException:
            self._end()
            raise

    def do(
        self, work: Callable[..., _Result], *given: Any, timeout_s: float | None = None
    ) -> _Result:
        """Have something done.

        Parameters
        ----------
        work
            Called in the process with what ``prepare`` made, then with ``given``; picklable, as is
            what it returns or raises.
        timeout_s
            Seconds after which the process is killed; None waits.

        Raises
        ------
        CrashedError
            If the process dies of it.
        TimeoutError
            If it takes longer.
        Exception
            Whatever ``work`` raises.
        """
        self.start()
        if self._pipe is None:
            raise CrashedError
        try:
            self._pipe.send((work, given))
        except OSError as error:
            self._end()
            raise CrashedError from error
        answer: _Result = self._answer(timeout_s)
        return answer

    def close(self) -> None:
        """End the process; what it is doing is lost."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(_LEAVE_S)
        self._end()

    def _answer(self, timeout_s: float | None) -> Any:
        if self._pipe is None:
            raise CrashedError
        answer: Any = None
        late = failed = False
        try:
            late = not self._pipe.poll(timeout_s)
            if not late:
                failed, answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            self._end()
            raise CrashedError("the process has ended") from error
        except BaseException:  # Ctrl-C: the answer would be taken for that of the next work
            self._end()
            raise
        if late:
            self._end()
            raise TimeoutError
        if failed:
            raise answer
        return answer

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None


class Team:
    """Several processes; who has work takes one that is free.

    Parameters
    ----------
    count
        Processes at most. Those used last are used first, so that few are started for little work.
    prepare, given
        See ``Apart``.
    """

    def __init__(self, count: int, prepare: Callable[..., Any], *given: Any) -> None:
        self._every = [Apart(prepare, *given) for _ in range(count)]
        self._free: LifoQueue[Apart] = LifoQueue()
        for one in self._every:
            self._free.put(one)

    def start(self) -> None:
        """Start every process now; see ``Apart``."""
        for one in self._every:
            one.start()

    def do(
        self, work: Callable[..., _Result], *given: Any, timeout_s: float | None = None
    ) -> _Result:
        """Have something done, when one is free; from any thread; see ``Apart``."""
        one = self._free.get()
        try:
            return one.do(work, *given, timeout_s=timeout_s)
        finally:
            self._free.put(one)

    def close(self) -> None:
        """End all."""
        for one in self._every:
            one.close()


def _live(pipe: Connection, prepare: Callable[..., Any], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other end, which ends this one
    Thread(target=_follow, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the other end is gone
        try:
            made = prepare(*given)
        except Exception as error:  # noqa: BLE001  told at the other end
            pipe.send((True, error))
            return
        pipe.send((False, None))
        while True:
            work, things = pipe.recv()
            try:
                answer = False, work(made, *things)
            except Exception as error:  # noqa: BLE001  told at the other end
                answer = True, error
            try:
                pipe.send(answer)
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001  it cannot be pickled; nothing has been sent
                pipe.send((True, RuntimeError(f"the answer cannot travel ({error})")))


def _follow() -> None:
    # After a kill of the other end, what never ends would go on for ever.
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
