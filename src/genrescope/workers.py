"""Processes of their own for work that may crash, never end or take all memory.

Decoders are large C libraries, and files come from anywhere: what decodes them is not the process
that keeps the answers. What a decoder prints goes nowhere; what went wrong with a file is an error
that names it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import LifoQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from genrescope.errors import GenrescopeError, InputError
from genrescope.reading import check_regular
from genrescope.system import interrupts_held, path_for_others

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_READY_S = 60.0  # to start Python and open a model, on a machine that is busy
_LEAVE_S = 5.0
_FILE_S, _BYTES_A_SECOND = 120.0, 1_000_000  # for a file; of hours of music, so much more


class CrashedError(Exception):
    """The process has ended instead of answering."""


class ClosedError(Exception):
    """The pool was closed before the work was done."""


class WorkerProcess:
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
        self._is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Start the process, and do not wait for it."""
        if self._process is not None and self._process.is_alive():
            return
        self._end()
        context = get_context("spawn")
        ours: Any
        ours, theirs = context.Pipe()  # of a type of its own on Windows
        process = context.Process(
            target=_live, args=(theirs, self._prepare, self._given), daemon=True
        )
        try:
            with interrupts_held():
                process.start()
                self._pipe, self._process = ours, process
        except BaseException:
            if self._process is None:
                ours.close()
            raise
        finally:
            theirs.close()

    def start(self) -> None:
        """Start the process and wait until it is prepared; otherwise the first work does so.

        Raises
        ------
        CrashedError
            If it does not get that far.
        Exception
            Whatever ``prepare`` raises.
        """
        self.begin()
        if self._is_ready:
            return
        try:
            self._answer(_READY_S)
        except BaseException:
            self._end()
            raise
        self._is_ready = True

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

    def kill(self) -> None:
        """End the process at once, from another thread than the one that waits for it."""
        if (process := self._process) is not None:
            with suppress(ValueError):  # it has just been closed
                process.kill()

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
        self._is_ready = False
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None


class WorkerPool:
    """Several processes; who has work takes one that is free.

    Parameters
    ----------
    count
        Processes at most; None for one a core. Those used last are used first, so that few are
        started for little work.
    prepare, given
        See ``WorkerProcess``.
    """

    def __init__(self, count: int | None, prepare: Callable[..., Any], *given: Any) -> None:
        self.count = count or os.cpu_count() or 1
        self._every = [WorkerProcess(prepare, *given) for _ in range(self.count)]
        self._free: LifoQueue[WorkerProcess] = LifoQueue()
        self._closed = threading.Event()
        self._closing = threading.Lock()
        for one in self._every:
            self._free.put(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Start the process that will be used first, and do not wait for it."""
        self._every[-1].begin()

    def start_one(self) -> None:
        """Start one process; raises what would else be raised by every piece of work.

        Raises
        ------
        GenrescopeError
            If it cannot be started.
        Exception
            Whatever ``prepare`` raises.
        """
        try:
            self._every[-1].start()
        except (CrashedError, OSError) as error:
            cause = str(error) or f"it was not ready in {_READY_S:.0f} s"
            raise GenrescopeError(
                f"The process that decodes files cannot be started ({cause}). Close other "
                "programs, as there may be no memory left, and run it again."
            ) from error

    def start(self) -> None:
        """Start every process now; see ``WorkerProcess``."""
        for one in self._every:
            one.start()

    def do(
        self, work: Callable[..., _Result], *given: Any, timeout_s: float | None = None
    ) -> _Result:
        """Have something done, when one is free; from any thread; see ``WorkerProcess``."""
        one = self._free.get()
        try:
            if self._closed.is_set():
                raise ClosedError
            return one.do(work, *given, timeout_s=timeout_s)
        except CrashedError:
            if self._closed.is_set():
                raise ClosedError from None
            raise
        finally:
            self._free.put(one)

    def do_file(self, work: Callable[..., _Result], path: Path, *given: Any) -> _Result:
        """Have something done with a file, which may crash whatever reads it, or never end.

        Parameters
        ----------
        work
            Called with what ``prepare`` made, a path of the file, then ``given``.
        path
            Of the file. It has two minutes, and a second more for every megabyte. What is one of
            this process's descriptors, such as ``/dev/fd/3``, is passed on as another path.

        Raises
        ------
        InputError
            If it is there and not a regular file, or the process dies of it or takes too long; or
            as ``work`` does.
        """
        try:
            size = path.stat().st_size
        except (OSError, ValueError):
            size = 0  # work says what is wrong with it
        else:
            check_regular(path)
        passed_on = path_for_others(path)
        limit = _FILE_S + size / _BYTES_A_SECOND
        remedy = "Convert it, replace it or remove it"
        try:
            return self.do(work, passed_on, *given, timeout_s=limit)
        except InputError as error:
            if error.path == passed_on:  # whoever gave the file knows it by its other path
                error.path, error.args = path, (path, *error.args[1:])
            raise
        except CrashedError as error:
            cause = "its decoder crashed, or there was no memory left"
            raise InputError(path, cause, remedy) from error
        except TimeoutError as error:
            cause = f"it was not decoded in {limit:.0f} s"
            raise InputError(path, cause, remedy) from error

    def close(self) -> None:
        """End all, at once: what they are doing is lost. From any thread, also from several."""
        self._closed.set()
        for one in self._every:
            one.kill()
        # Each is given back by whoever waited for it, and has seen that it is dead. Of two
        # that collect them at a time, each would wait for what the other has.
        with self._closing:
            for _ in self._every:
                self._free.get().close()
            for one in self._every:
                self._free.put(one)


def parallel_map(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int | None = None,
    *,
    in_order: bool = True,
    stop: Callable[[], None] | None = None,
) -> Generator[_Result]:
    """Do something with many things side by side, in threads; a few are in memory at a time.

    Parameters
    ----------
    work
        To be done with each; must be fit for threads.
    items
        May be endless.
    workers
        Threads; by default one per core.
    in_order
        Without, results come as they are done, and a long one keeps no worker waiting.
    stop
        Called before the end is waited for, if that comes early: what ends the work in hand.
    """
    count = workers or os.cpu_count() or 1
    pending: deque[Future[_Result]] = deque()

    def one_done() -> _Result:
        if not in_order and not pending[0].done():
            first = next(iter(wait(pending, return_when=FIRST_COMPLETED).done))
            pending.remove(first)
            return first.result()
        return pending.popleft().result()

    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= 2 * count:
                    yield one_done()
            while pending:
                yield one_done()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if stop is not None:
                stop()
            raise


def end_with_parent() -> None:
    """End this process when the one that started it is gone.

    A parent that is killed cannot end its workers, and they would stay, or go on for hours.
    """

    def wait_for_parent() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait_for_parent, daemon=True).start()


def _live(pipe: Connection, prepare: Callable[..., Any], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other end, which ends this one
    _silence()
    end_with_parent()
    with suppress(EOFError, ConnectionError):  # the other end is gone
        try:
            made = prepare(*given)
        except Exception as error:  # noqa: BLE001  raised at the other end
            pipe.send((True, error))
            return
        pipe.send((False, None))
        while True:
            work, things = pipe.recv()
            try:
                answer = False, work(made, *things)
            except Exception as error:  # noqa: BLE001  raised at the other end
                answer = True, error
            try:
                pipe.send(answer)
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001  it cannot be pickled; nothing has been sent
                pipe.send((True, RuntimeError(f"the answer cannot travel ({error})")))


def _silence() -> None:
    # Libraries of decoders print whatever they think of a file, without its name.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
