"""Work in a process of its own: it may crash, never end or raise, and the next goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genrescope.errors import InputError
from genrescope.workers import CrashedError, WorkerPool, WorkerProcess


def prepare(word: str = "made") -> dict[str, object]:
    return {"word": word, "pid": os.getpid()}


def fail_to_prepare() -> None:
    raise InputError("model", "it is damaged", "Get another")


def tell(made: dict[str, object], more: str = "") -> tuple[object, str, int]:
    return made["word"], more, os.getpid()


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(_: object, seconds: float) -> None:
    time.sleep(seconds)


def refuse(_: object) -> None:
    raise InputError("a.mp3", "it is no audio", "Convert it")


def give_what_cannot_travel(_: object) -> object:
    return lambda: None


def test_work_is_done_in_one_other_process_that_is_prepared_once() -> None:
    with WorkerProcess(prepare, "prepared") as process:
        first, second = process.do(tell, "a"), process.do(tell, "b")
    assert first[:2] == ("prepared", "a")
    assert second[1] == "b"
    assert first[2] == second[2] != os.getpid()


def test_an_error_is_raised_here_and_the_process_goes_on() -> None:
    with WorkerProcess(prepare) as process:
        before = process.do(tell)
        with pytest.raises(InputError, match=r"a\.mp3: it is no audio\. Convert it\."):
            process.do(refuse)
        assert process.do(tell) == before


def test_after_a_crash_another_process_does_the_next_work() -> None:
    with WorkerProcess(prepare) as process:
        before = process.do(tell)
        with pytest.raises(CrashedError):
            process.do(die)
        assert process.do(tell)[2] != before[2]


def test_work_that_takes_too_long_is_ended() -> None:
    with WorkerProcess(prepare) as process:
        pid = process.do(tell)[2]
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            process.do(sleep, 60, timeout_s=0.2)
        assert time.monotonic() - begin < 10
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert process.do(tell)[0] == "made"


def test_an_answer_that_cannot_travel_is_an_error_and_not_the_end() -> None:
    with WorkerProcess(prepare) as process:
        with pytest.raises(Exception, match="cannot travel"):
            process.do(give_what_cannot_travel)
        assert process.do(tell)[0] == "made"


def test_what_fails_in_preparation_is_told_at_each_start() -> None:
    with WorkerProcess(fail_to_prepare) as process:
        for _ in range(2):
            with pytest.raises(InputError, match="damaged"):
                process.start()


def test_a_team_works_side_by_side_and_survives_a_crash() -> None:
    team = WorkerPool(2, prepare)
    try:
        team.start()
        pids = {team.do(tell)[2]}
        with pytest.raises(CrashedError):
            team.do(die)
        pids.add(team.do(tell)[2])
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
        "    print(process.do(tell)[2], flush=True)\n"
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
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it outlived its parent by ten seconds")
