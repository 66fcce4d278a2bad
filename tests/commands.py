"""Commands of genrescope in copies of a process that has imported what they need.

Most commands take less time than their imports: half a second of numpy and onnxruntime, five of
torch and Lightning. Here one process imports them once, and every command is a fork of it, with
streams, a folder, an environment and an exit status of its own. What is set when Python starts is
the exception: but for PYTHONIOENCODING, variables of Python count only in the processes that the
command starts; those of libraries that were imported already do not count. ``process`` starts a
new Python.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

BASE = (
    *("numpy", "av", "onnxruntime", "mutagen", "soundfile", "typer", "typer.main"),
    *("rich.console", "rich.progress", "rich.table", "rich.text"),
    *("genrescope.classifier.batch", "genrescope.library.scan", "genrescope.library.export"),
    *("genrescope.library.stats", "genrescope.library.similar", "genrescope.tagging.apply"),
    *("genrescope.tagging.plan", "genrescope.tagging.policy"),
)
"""Not the command line: its consoles read their width from the environment when it is imported."""
TRAINING = (
    *(*BASE, "sklearn", "torch", "lightning"),
    *("genrescope.study.run", "genrescope.report.write"),
)
NEEDS = dict.fromkeys(("study", "train"), TRAINING)
"""What is imported for a command, by its first word, where that is not ``BASE``."""
CAN_FORK = hasattr(os, "pidfd_open")
Done = subprocess.CompletedProcess[Any]


def run(
    *words: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes = b"",  # noqa: A002  as subprocess.run has it
    stdout: IO[bytes] | None = None,
    timeout: float = 300,
    text: bool = True,
) -> Done:
    """Run a command as ``subprocess.run`` does, in a copy of that process.

    Both streams are captured, unless ``stdout`` is a file.

    Raises
    ------
    subprocess.TimeoutExpired
        If it takes longer than ``timeout`` seconds; it is killed then.
    """
    line = [str(word) for word in words]
    given = input.encode() if isinstance(input, str) else input
    if not CAN_FORK:
        done = subprocess.run(
            [sys.executable, "-m", "genrescope", *line],
            cwd=cwd,
            env=env,
            input=given,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            check=False,
        )
    else:
        request = {
            "words": line,
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        server = _server(NEEDS.get(line[0] if line else "", BASE))
        with ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            files[0].write(given)
            files[0].seek(0)
            used = [files[0], stdout or files[1], files[2]]
            code = server.run(request, [file.fileno() for file in used], timeout)
            printed = [_all(file) for file in files[1:]]
        done = subprocess.CompletedProcess(line, code, *printed)
    if text:
        done.stdout, done.stderr = (done.stdout or b"").decode(), done.stderr.decode()
    return done


def process(*words: object, text: bool = True, **settings: Any) -> Done:
    """Run a command in a new Python, both streams captured."""
    line = [sys.executable, "-m", "genrescope", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=text, check=False, **settings)


def _all(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


class _Server:
    """The process that is copied."""

    def __init__(self, needs: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *needs],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def run(self, request: dict[str, Any], files: Sequence[int], timeout: float) -> int:
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile("w+b") as asked:
            with theirs:
                asked.write(json.dumps(request).encode())
                asked.seek(0)
                socket.send_fds(self._socket, [b"?"], [theirs.fileno(), asked.fileno(), *files])
            with ours.makefile("r") as answers:
                pid = int(answers.readline())
                ours.settimeout(timeout)
                try:
                    return int(answers.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(request["words"], timeout) from None

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def _server(needs: Sequence[str]) -> _Server:
    return _Server(needs)


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; return it in the fork, and None at the end in the process itself."""
    running: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            if number != control.fileno():
                pid, client = running.pop(number)
                poll.unregister(number)
                os.close(number)
                _, status = os.waitpid(pid, 0)
                with client, suppress(BrokenPipeError):  # it waits no longer
                    client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                continue
            sign, files, _, _ = socket.recv_fds(control, 1, 5)
            if not sign:
                return None
            if (pid := os.fork()) == 0:
                control.close()
                for descriptor, (_, other) in running.items():
                    os.close(descriptor)
                    other.close()
                return _settle(files)
            client = socket.socket(fileno=files[0])
            for descriptor in files[1:]:
                os.close(descriptor)
            descriptor = os.pidfd_open(pid)
            running[descriptor] = pid, client
            poll.register(descriptor, select.POLLIN)
            client.sendall(b"%d\n" % pid)


def _settle(files: Sequence[int]) -> dict[str, Any]:
    os.close(files[0])
    with os.fdopen(files[1], "rb") as asked:
        request = json.load(asked)
    for number, descriptor in enumerate(files[2:]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    encoding, _, errors = request["env"].get("PYTHONIOENCODING", "").partition(":")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding or None, errors=errors or None)
    os.chdir(request["cwd"])
    return request


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    # Ctrl-C at the tests is theirs to see.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in sys.argv[2:]:
        with suppress(ImportError):  # the command will say what is missing
            import_module(name)
    gc.freeze()  # so that no copy goes through what was imported
    request = _serve(control)
    if request is None:
        return
    sys.argv[1:] = request["words"]
    code: Any = 0
    try:
        runpy.run_module("genrescope", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001  as Python does at the end of a program
        traceback.print_exc()
        code = 1
    # Python would then take all apart that was imported, which takes longer than most commands.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
