"""Work in a process of its own: it may crash, never end or raise, and the next goes on."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genrescope import workers
from genrescope.errors import GenrescopeError, InputError
from genrescope.workers import (
    ClosedError,
    CrashedError,
    WorkerPool,
    WorkerProcess,
    parallel_map,
)


def prepare(word: str = "made") -> dict[str, object]:
    return {"word": word, "pid": os.getpid()}


def fail_to_prepare() -> None:
    raise InputError("model", "it is damaged", "Get another")


def state(made: dict[str, object], more: str = "") -> tuple[object, str, int]:
    return made["word"], more, os.getpid()


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(_: object, seconds: float) -> None:
    time.sleep(seconds)


def die_early() -> None:
    os._exit(3)


def refuse(_: object) -> None:
    raise InputError("a.mp3", "it is no audio", "Convert it")


def give_what_cannot_travel(_: object) -> object:
    return lambda: None


def test_work_is_done_in_one_other_process_that_is_prepared_once() -> None:
    with WorkerProcess(prepare, "prepared") as process:
        first, second = process.do(state, "a"), process.do(state, "b")
    assert first[:2] == ("prepared", "a")
    assert second[1] == "b"
    assert first[2] == second[2] != os.getpid()


def test_an_error_is_raised_here_and_the_process_goes_on() -> None:
    with WorkerProcess(prepare) as process:
        before = process.do(state)
        with pytest.raises(InputError, match=r"a\.mp3: it is no audio\. Convert it\."):
            process.do(refuse)
        assert process.do(state) == before


def test_after_a_crash_another_process_does_the_next_work() -> None:
    with WorkerProcess(prepare) as process:
        before = process.do(state)
        with pytest.raises(CrashedError):
            process.do(die)
        assert process.do(state)[2] != before[2]


def test_work_that_takes_too_long_is_ended() -> None:
    with WorkerProcess(prepare) as process:
        pid = process.do(state)[2]
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            process.do(sleep, 60, timeout_s=0.2)
        assert time.monotonic() - begin < 10
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert process.do(state)[0] == "made"


def test_an_answer_that_cannot_travel_is_an_error_and_not_the_end() -> None:
    with WorkerProcess(prepare) as process:
        with pytest.raises(Exception, match="cannot be pickled"):
            process.do(give_what_cannot_travel)
        assert process.do(state)[0] == "made"


def test_what_fails_in_preparation_is_reported_at_each_start() -> None:
    with WorkerProcess(fail_to_prepare) as process:
        for _ in range(2):
            with pytest.raises(InputError, match="damaged"):
                process.start()


def test_a_team_works_side_by_side_and_survives_a_crash() -> None:
    team = WorkerPool(2, prepare)
    try:
        team.start()
        pids = {team.do(state)[2]}
        with pytest.raises(CrashedError):
            team.do(die)
        pids.add(team.do(state)[2])
        assert len(pids) == 2
    finally:
        team.close()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_a_process_ends_when_the_one_it_works_for_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_workers import *\n"
        "if __name__ == '__main__':\n"
        "    process = WorkerProcess(prepare)\n"
        "    print(process.do(state)[2], flush=True)\n"
        "    process.do(sleep, 120)\n"
    )
    line = [sys.executable, str(script)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text(encoding="utf-8").split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it outlived its parent by ten seconds")


def hang(_: object, mark: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mark.touch()
    time.sleep(600)


def abort(_: object, path: Path) -> None:
    os.write(2, b"terminate called without an active exception\n")
    os.abort()


def leave(_: object, path: Path) -> None:
    os._exit(0)


def chatter(_: object, path: Path, word: str) -> str:
    print("Python", word)
    print("Python", word, file=sys.stderr)
    os.write(1, b"a library of C\n")
    os.write(2, b"a library of C\n")
    return path.name


def refuse_file(_: object, path: Path) -> None:
    raise InputError(path, "it is no audio", "Convert it")


def size_of(_: object, path: Path) -> int:
    return path.stat().st_size


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, prepare) as opened:
        yield opened


@pytest.mark.parametrize("death", [abort, leave])
def test_a_file_that_ends_its_process_is_an_error_that_names_it(
    pool: WorkerPool, tmp_path: Path, death: Callable[..., None]
) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"12345")
    with pytest.raises(InputError, match="its decoder crashed, or there was no memory left") as it:
        pool.do_file(death, path)
    assert it.value.path == path
    assert pool.do_file(size_of, path) == 5


def test_a_file_that_never_ends_is_an_error_that_names_it(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_FILE_S", 0.5)
    path = tmp_path / "a.mp3"
    path.write_bytes(bytes(1_500_000))
    pool.start()
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"a\.mp3: it was not decoded in 2 s\. Convert it"):
        pool.do_file(hang, path)
    assert 1.9 < time.monotonic() - begun < 6  # half a second, and one for every megabyte
    assert pool.do_file(size_of, path) == 1_500_000


def test_errors_and_files_that_are_gone_are_what_work_says_of_them(
    pool: WorkerPool, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"gone\.mp3: it is no audio"):
        pool.do_file(refuse_file, tmp_path / "gone.mp3")
    with pytest.raises(FileNotFoundError):
        pool.do_file(size_of, tmp_path / "gone.mp3")
    for name in ("a\0b.mp3", "n" * 300):
        with pytest.raises((ValueError, OSError)):
            pool.do_file(size_of, tmp_path / name)


def test_what_is_printed_in_a_process_goes_nowhere(
    pool: WorkerPool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert pool.do_file(chatter, tmp_path / "a.mp3", "prints") == "a.mp3"
    with pytest.raises(InputError):
        pool.do_file(abort, tmp_path / "a.mp3")
    assert capfd.readouterr() == ("", "")


def test_a_pool_is_closed_at_once_while_work_hangs(tmp_path: Path) -> None:
    pool = WorkerPool(2, prepare)
    pids = [pool.do(state)[2]]
    marks = [tmp_path / "a.mp3", tmp_path / "b.mp3", tmp_path / "c.mp3"]
    errors: list[BaseException] = []

    def work(mark: Path) -> None:
        try:
            pool.do_file(hang, mark)
        except BaseException as error:  # noqa: BLE001  looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in marks]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while sum(mark.exists() for mark in marks) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sum(mark.exists() for mark in marks) == 2  # and one waits for its turn
    begun = time.monotonic()
    pool.close()
    for thread in threads:
        thread.join(2)
    assert time.monotonic() - begun < 2
    assert [type(error) for error in errors] == [ClosedError] * 3
    with pytest.raises(ClosedError):
        pool.do(state)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_end_of_a_parallel_map_does_not_wait_for_work_that_hangs(tmp_path: Path) -> None:
    pool = WorkerPool(2, prepare)
    marks = [tmp_path / f"{number}.mp3" for number in range(9)]
    every = parallel_map(lambda mark: pool.do_file(hang, mark), marks, 2, stop=pool.close)

    def wait_for_the_first() -> None:  # which never comes
        with pytest.raises(ClosedError):
            next(every)

    consumer = threading.Thread(target=wait_for_the_first, daemon=True)
    consumer.start()
    deadline = time.monotonic() + 30
    while sum(mark.exists() for mark in marks) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    begun = time.monotonic()
    pool.close()
    consumer.join(4)
    assert not consumer.is_alive()
    assert time.monotonic() - begun < 2
    assert sum(mark.exists() for mark in marks) == 2


def test_a_parallel_map_keeps_order_and_reads_no_more_than_it_needs() -> None:
    read = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    def slow_if_even(number: int) -> int:
        time.sleep(0.05 * (number % 2 == 0))
        return number

    in_order = parallel_map(slow_if_even, items(), 3)
    assert list(itertools.islice(in_order, 20)) == list(range(20))
    in_order.close()
    assert len(read) <= 20 + 2 * 3
    as_done = list(parallel_map(slow_if_even, range(20), 3, in_order=False))
    assert sorted(as_done) == list(range(20))
    assert as_done != sorted(as_done)


def test_an_error_of_one_ends_a_parallel_map_and_says_so() -> None:
    stopped = []
    every = parallel_map(lambda x: 1 // x, [1, 0, 1], 1, stop=lambda: stopped.append(True))
    with pytest.raises(ZeroDivisionError):
        list(every)
    assert stopped == [True]


def test_a_process_that_cannot_be_started_is_an_error_for_people() -> None:
    with (
        WorkerPool(2, die_early) as pool,
        pytest.raises(GenrescopeError, match=r"cannot be started \(the process has ended\)"),
    ):
        pool.start_one()


def test_what_cannot_be_sent_to_a_process_leaves_nothing_behind() -> None:
    with WorkerPool(1, lambda: None) as pool:
        for _ in range(2):
            with pytest.raises(Exception, match="pickle"):
                pool.do(state)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_what_is_no_regular_file_costs_no_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    with WorkerPool(1, die_early) as pool:
        for path, cause in (("pipe.mp3", "it is a pipe"), (".", "it is a folder")):
            with pytest.raises(InputError, match=cause):
                pool.do_file(size_of, tmp_path / path)
