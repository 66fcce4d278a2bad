"""Worker processes for work that may crash, never end or exhaust memory.

Decoders are large C libraries, and files come from anywhere: they are decoded in other processes
than the one that holds the results. The decoders' own output is discarded; a failure becomes an
error that names the file.
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
from typing import Any, Self, TypeVar

from genrescope.errors import GenrescopeError, InputError
from genrescope.files import check_regular
from genrescope.system import interrupts_held, path_for_others

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_READY_S = 60.0  # to start Python and open a model, on a busy machine
_LEAVE_S = 5.0
_FILE_S, _BYTES_A_SECOND = 120.0, 1_000_000  # per file: this, and a second per megabyte


class CrashedError(Exception):
    """The worker process ended without a result."""


class ClosedError(Exception):
    """The pool was closed before the work was done."""


class WorkerProcess:
    """A process that runs one call at a time; started when needed, and again after a crash.

    Parameters
    ----------
    prepare
        Called first in the process; its result is passed to every call. Picklable.
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Start the process without waiting for it."""
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
        """Start the process and wait until it is prepared; otherwise the first call does so.

        Raises
        ------
        CrashedError
            If it ends before.
        Exception
            As raised by ``prepare``.
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
        """Run a call in the process.

        Parameters
        ----------
        work
            Called with the result of ``prepare``, then ``given``. It, its result and its errors are
            picklable.
        timeout_s
            Seconds after which the process is killed; None for no limit.

        Raises
        ------
        CrashedError
            If the process dies.
        TimeoutError
            If it takes longer.
        Exception
            As raised by ``work``.
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
        """End the process; a running call is lost."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(_LEAVE_S)
        self._end()

    def kill(self) -> None:
        """End the process at once; may be called from any thread."""
        if (process := self._process) is not None:
            with suppress(ValueError):  # closed in the meantime
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
        except BaseException:  # Ctrl-C: the result would be taken for that of the next call
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
    """Several worker processes; a call runs in a free one.

    Parameters
    ----------
    count
        Maximum number of processes; None for one per core. The one used last is used first, so
        that few are started for little work.
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Start the process that will be used first, without waiting for it."""
        self._every[-1].begin()

    def start_one(self) -> None:
        """Start one process; raises what every call would raise otherwise.

        Raises
        ------
        GenrescopeError
            If it cannot be started.
        Exception
            As raised by ``prepare``.
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
        """Run a call in a free process; may be called from any thread; see ``WorkerProcess``."""
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
        """Run a call on a file, which may crash its decoder or never end.

        Parameters
        ----------
        work
            Called with the result of ``prepare``, a path of the file, then ``given``.
        path
            Of the file. The limit is two minutes, and a second more for every megabyte. A path of
            one of this process's descriptors, such as ``/dev/fd/3``, is replaced by another one.

        Raises
        ------
        InputError
            If it is not a regular file, its decoder crashes or exceeds the limit; or as raised by
            ``work``.
        """
        try:
            size = path.stat().st_size
        except (OSError, ValueError):
            size = 0  # work raises the error
        else:
            check_regular(path)
        passed_on = path_for_others(path)
        limit = _FILE_S + size / _BYTES_A_SECOND
        remedy = "Convert it, replace it or remove it"
        try:
            return self.do(work, passed_on, *given, timeout_s=limit)
        except InputError as error:
            if error.path == passed_on:  # the caller knows the other path
                error.path, error.args = path, (path, *error.args[1:])
            raise
        except CrashedError as error:
            cause = "its decoder crashed, or there was no memory left"
            raise InputError(path, cause, remedy) from error
        except TimeoutError as error:
            cause = f"it was not decoded in {limit:.0f} s"
            raise InputError(path, cause, remedy) from error

    def close(self) -> None:
        """End all processes at once; running calls are lost. May be called from several threads."""
        self._closed.set()
        for one in self._every:
            one.kill()
        # Every process is put back by the thread that waited for it. Two threads that collect
        # them at the same time would wait for each other.
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
    """Map a function over items in parallel threads, with a few items in memory at a time.

    Parameters
    ----------
    work
        Called with each item; must be thread-safe.
    items
        May be endless.
    workers
        Number of threads; by default one per core.
    in_order
        If False, results are yielded as they are ready, and a slow item blocks no thread.
    stop
        Called on an early end, to stop the running calls before they are waited for.
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
    """End this process when its parent has ended.

    A parent that is killed cannot end its workers, which would run for hours.
    """

    def wait_for_parent() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait_for_parent, daemon=True).start()


def _live(pipe: Connection, prepare: Callable[..., Any], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends this process
    _silence()
    end_with_parent()
    with suppress(EOFError, ConnectionError):  # the parent is gone
        try:
            prepared = prepare(*given)
        except Exception as error:  # noqa: BLE001  raised at the other end
            pipe.send((True, error))
            return
        pipe.send((False, None))
        while True:
            work, arguments = pipe.recv()
            try:
                answer = False, work(prepared, *arguments)
            except Exception as error:  # noqa: BLE001  raised at the other end
                answer = True, error
            try:
                pipe.send(answer)
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001  it cannot be pickled; nothing has been sent
                pipe.send((True, RuntimeError(f"the result cannot be pickled ({error})")))


def _silence() -> None:
    # Decoder libraries print remarks without the name of the file.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
