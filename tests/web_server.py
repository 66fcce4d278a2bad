"""A server of the page in a process of its own, whose folder of temporary files is watched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Server:
    address: str
    folder: Path
    process: subprocess.Popen[str]
    log: Path

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1].split("/")[0])

    def left(self) -> list[Path]:
        """Uploads and other temporary files, once it has had time to tidy up; answers are kept."""
        for _ in range(50):
            files = [path for path in self.folder.rglob("*") if path.is_file()]
            found = [path for path in files if "answers" not in path.parts]
            if not found:
                break
            time.sleep(0.1)
        return found

    def memory(self) -> int:
        """Resident bytes of the server and its processes."""
        own = self.process.pid
        pids = [own, *children(own)]
        return sum(_resident(pid) for pid in pids)


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def _resident(pid: int) -> int:
    # The share of memory that is this process's: pages that several have count once in all.
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0
    return 1024 * int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])


@contextmanager
def running(folder: Path, *options: object, **env: str) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    temporary, log = folder / "temporary", folder / "log"
    temporary.mkdir(exist_ok=True)
    line = [sys.executable, "-m", "genrescope", "serve", "--port", "0", *map(str, options)]
    with (
        log.open("w") as err,
        subprocess.Popen(
            line, stderr=err, text=True, env={**os.environ, "TMPDIR": str(temporary), **env}
        ) as process,
    ):
        try:
            yield Server(_address(process, log), temporary, process, log)
        finally:
            # As Ctrl-C does, after which Python ends as usual: SIGTERM would leave no time to write
            # down which lines it has run.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _address(process: subprocess.Popen[str], log: Path) -> str:
    for _ in range(600):
        if found := re.search(r"Open (\S+)", log.read_text(encoding="utf-8")):
            return found[1].rstrip("/")
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text(encoding='utf-8')}")
