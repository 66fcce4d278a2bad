"""Runs of the command line that cost a tenth of a second, and can be killed, broken or held up.

One process imports everything once; each run is a fork of it. What a run meets is set by hooks:
``("die", "genrescope.tagging.apply:_copy", "before", 3)`` kills the run with SIGKILL right before
the third call of that function. On top of it lie the kills at random moments, of scan, apply and
undo, that ``test_faults.py`` makes by the dozen and ``tools/reliability.py`` by the hundred.
"""

from __future__ import annotations

import codecs
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

Hook = tuple[Any, ...]
LEAVE_A_MARK = ".genrescope-"  # how the names of temporary files begin
LIMIT_S = 60.0  # no run takes that long: it hangs
NEW = ("Techno", "Dub")


@dataclass(frozen=True)
class Done:
    """A run that has ended; ``code`` is that of the shell, negative after a signal."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def shown(self) -> str:
        """All that it said, in one line."""
        return " ".join((self.out + self.err).split())


class Running:
    """A run that goes on until it is waited for."""

    def __init__(self, runner: Runner, pid: int, files: tuple[Path, Path]) -> None:
        self.pid = pid
        self._runner, self._files = runner, files
        self._begun = time.perf_counter()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; until it is waited for, no other process can have its number."""
        os.kill(self.pid, number)

    def wait(self) -> Done:
        """Give what came of it."""
        code = self._runner.ask({"wait": self.pid})["code"]
        seconds = time.perf_counter() - self._begun
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return Done(code, out, err, seconds)


class Runner:
    """Starts runs. Its ``folder`` holds the users' data folder and what the runs said."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._numbers = folder, itertools.count()
        env = {**os.environ, "XDG_DATA_HOME": str(folder / "data"), "COLUMNS": "200"}
        env |= {"PYTHONUNBUFFERED": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.ask({"ready": True})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(10)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the process that forks."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        if answer.get("hung"):
            raise AssertionError(f"a run did not end within {LIMIT_S:.0f} s")
        return answer

    def start(self, *words: object, hooks: Sequence[Hook] = (), user: int = 0) -> Running:
        """Start ``genrescope WORDS``, as another user if that is given."""
        number = next(self._numbers)
        files = self._folder / f"{number}.out", self._folder / f"{number}.err"
        for file in files:
            file.touch()  # a run may be killed before it gets to that
        request = {"words": [str(word) for word in words], "hooks": list(hooks), "user": user}
        answer = self.ask(request | {"files": [str(file) for file in files]})
        return Running(self, answer["pid"], files)

    def run(
        self,
        *words: object,
        hooks: Sequence[Hook] = (),
        user: int = 0,
        kill_after: float | None = None,
    ) -> Done:
        """Run ``genrescope WORDS`` to its end, or kill it after some seconds."""
        running = self.start(*words, hooks=hooks, user=user)
        if kill_after is not None:
            time.sleep(kill_after)
            running.signal(signal.SIGKILL)
        return running.wait()


# --- Kills at random moments ---------------------------------------------------------------------


@dataclass
class Tally:
    """What came of many kills.

    Attributes
    ----------
    kills
        Runs that were alive when they were killed.
    missed
        Runs that had ended by themselves before.
    fell
        Kills before the first file was done, between the first and the last, after the last.
    files
        As they were right after the kills: ``old``, ``new``, ``half``; or, of a scan, ``kept`` and
        ``lost`` rows.
    ended
        How often each command finished.
    wrong
        Whatever was not as it should be, in words.
    """

    kills: int = 0
    missed: int = 0
    fell: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def expect(self, what: str, *, true: bool) -> None:
        """Note what is not as it should be."""
        if not true:
            self.wrong.append(f"after kill {self.kills}: {what}")


class ScannedLibrary:
    """A library to be scanned, and what an undisturbed scan says of it."""

    def __init__(self, runner: Runner, folder: Path, clips: Sequence[Path]) -> None:
        self._runner, self._folder = runner, folder
        self.library = folder / "music"
        for number, clip in enumerate(clips):
            album = self.library / f"album {number % 3}"
            album.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, album / f"{number:02d}{clip.suffix}")
        (self.library / "album 0" / "letter.mp3").write_text("no music")
        times = []
        for number in range(3):
            done = self.scan(folder / f"whole {number}.db")
            times.append(done.seconds)
        self.seconds = sorted(times)[1]
        self.rows = rows(folder / "whole 0.db")

    def scan(self, db: Path, *, apart: bool = False, kill_after: float | None = None) -> Done:
        """Scan; files are decoded by the process that keeps the results unless ``apart``.

        Processes of their own cost a second each; some runs start them.
        """
        hooks: list[Hook] = [] if apart else [("together",)]
        return self._runner.run(
            "scan", self.library, "--db", db, "--workers", 2, hooks=hooks, kill_after=kill_after
        )

    def kill(self, count: int, seed: int) -> Tally:
        """Kill scans at random moments, some of them several times, and finish each."""
        tally, rng, begun = Tally(), random.Random(seed), time.perf_counter()
        while tally.kills < count:
            db = self._folder / "killed.db"
            for left in self._folder.glob("killed.db*"):
                left.unlink()
            again = True
            while again and tally.kills < count:
                self._kill(tally, db, rng.uniform(0, 1.1 * self.seconds))
                again = rng.random() < 0.4
            done = self.scan(db, apart=rng.random() < 0.1)
            tally.ended["scan"] += 1
            tally.expect(
                f"the next scan ended with {done.code}: {done.shown}", true=done.code in (0, 1)
            )
            tally.expect("the rows are others", true=rows(db) == self.rows)
            tally.expect("the catalogue is damaged", true=whole(db))
        tally.seconds = time.perf_counter() - begun
        return tally

    def _kill(self, tally: Tally, db: Path, moment: float) -> None:
        running = self._runner.start(
            "scan", self.library, "--db", db, "--workers", 2, hooks=[("together",)]
        )
        time.sleep(moment)
        before = rows(db)
        running.signal(signal.SIGKILL)
        if running.wait().code != -signal.SIGKILL:
            tally.missed += 1
            return
        tally.kills += 1
        after = rows(db)
        kept = sum(after.get(name) == row for name, row in before.items())
        tally.files.update(kept=kept, lost=len(before) - kept)
        share = len(after) / len(self.rows)
        tally.fell["before" if share == 0 else "after" if share == 1 else "between"] += 1
        tally.expect("rows were lost", true=kept == len(before))
        wrong = [name for name, row in after.items() if row != self.rows[name]]
        tally.expect(f"rows are wrong: {wrong}", true=not wrong)
        tally.expect("the catalogue is damaged", true=whole(db))


class Tagged:
    """A library to be tagged, with a plan, and how its files are before and after.

    Parameters
    ----------
    runner
        Of commands.
    folder
        Everything lies in it.
    clips
        Are copied; all of them must be such as can be written.
    """

    def __init__(self, runner: Runner, folder: Path, clips: Sequence[Path]) -> None:
        self.runner, self._folder = runner, folder
        self.library, self._master = folder / "music", folder / "master"
        self.plan, self.journal = folder / "plan.csv", folder / "journal.db"
        self._master.mkdir(parents=True)
        for clip in clips:
            shutil.copy2(clip, self._master)
        self.names = sorted(clip.name for clip in clips)
        self.old = _contents(self._master)
        self.reset()
        self.seconds, self.new = self._measure()
        self.reset()

    def _measure(self) -> tuple[dict[str, float], dict[str, bytes]]:
        # How long undisturbed runs take, and what the files are after one.
        times: dict[str, list[float]] = {"apply": [], "undo": []}
        for _ in range(3):
            done = self.tag("apply", self.plan)
            new = _contents(self.library)
            undone = self.tag("undo")
            assert not done.code + undone.code, done.shown + undone.shown
            times["apply"].append(done.seconds)
            times["undo"].append(undone.seconds)
        seconds = {name: sorted(found)[1] for name, found in times.items()}
        return {**seconds, "resume": seconds["apply"]}, new

    def reset(self) -> None:
        """Make everything as it was before anything was applied."""
        if self.library.is_symlink():
            self.library.unlink()
        shutil.rmtree(self.library, ignore_errors=True)
        shutil.copytree(self._master, self.library)
        for left in self._folder.glob("journal.db*"):
            left.unlink()
        write_plan(self.plan, self.library)  # anew, for it knows the files' inodes

    def tag(self, *words: object, **more: Any) -> Done:
        """Run a command of ``genrescope tag`` with the journal of this library."""
        return self.runner.run("tag", *words, "--journal", self.journal, **more)

    def start(self, *words: object, **more: Any) -> Running:
        """Start a command of ``genrescope tag``."""
        return self.runner.start("tag", *words, "--journal", self.journal, **more)

    def states(self) -> dict[str, str]:
        """Return whether each file is ``old``, ``new`` or ``half``: anything else."""
        now = _contents(self.library)
        sides = {"old": self.old, "new": self.new}
        return {
            name: next((side for side, of in sides.items() if now.get(name) == of[name]), "half")
            for name in self.names
        }

    def leftovers(self) -> list[str]:
        """Give the temporary files that lie about."""
        return [path.name for path in self.library.rglob(f"{LEAVE_A_MARK}*")]

    def complaints(self, side: str) -> Iterator[str]:
        """Return what is not as it should be when all files ought to be old, or new."""
        states = self.states()
        if any(state != side for state in states.values()):
            yield f"not all {side}: {states}"
        if self.leftovers():
            yield f"left over: {self.leftovers()}"
        if side == "old":
            for name in self.names:
                meant, now = (path / name for path in (self._master, self.library))
                if meant.stat().st_mtime_ns != now.stat().st_mtime_ns:
                    yield f"{name} has another time"
        if {path.name for path in self.library.iterdir()} - {*self.names} - {*self.leftovers()}:
            yield "there are other files"
        if not whole(self.journal):
            yield "the journal is damaged"

    def kill(self, command: str, count: int, seed: int) -> Tally:
        """Kill ``apply`` or ``undo`` at random moments, and finish each by ``resume`` or ``undo``.

        Half of the moments are any in the length of an undisturbed run, half lie between the first
        file and the last. A quarter of the finishing runs are killed, too, and begun again.
        """
        tally, rng, begun = Tally(), random.Random(seed), time.perf_counter()
        while tally.kills < count:
            self.reset()
            words: tuple[object, ...] = (command,)
            if command == "apply":
                words += (self.plan,)
            else:
                self.tag("apply", self.plan)
            self._kill(tally, words, rng)
            finish = "undo" if command == "undo" else ("resume", "undo")[tally.kills % 2]
            while rng.random() < 0.25 and tally.kills < count:
                self._kill(tally, (finish,), rng)
            self._finish(tally, finish)
        tally.seconds = time.perf_counter() - begun
        return tally

    def _kill(self, tally: Tally, words: tuple[object, ...], rng: random.Random) -> None:
        length = self.seconds[str(words[0])]
        running = self.start(*words)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 1) * length)
        else:
            self._wait_for_files(rng.randrange(1, len(self.names)), 2 * length)
            time.sleep(rng.uniform(0, 1) * length / len(self.names))
        running.signal(signal.SIGKILL)
        if running.wait().code != -signal.SIGKILL:
            tally.missed += 1
            return
        tally.kills += 1
        states = Counter(self.states().values())
        tally.files.update(states)
        tally.expect(f"half written: {self.states()}", true=not states["half"])
        tally.expect("the journal is damaged", true=whole(self.journal))
        first, last = ("old", "new") if words[0] != "undo" else ("new", "old")
        only = states[first] == len(self.names), states[last] == len(self.names)
        tally.fell["before" if only[0] else "after" if only[1] else "between"] += 1

    def _wait_for_files(self, count: int, seconds: float) -> None:
        # Until so many have been replaced, or for so long.
        def numbers() -> list[int]:
            return [(self.library / name).stat().st_ino for name in self.names]

        before, until = numbers(), time.monotonic() + seconds
        while time.monotonic() < until:
            if sum(map(int.__ne__, before, numbers())) >= count:
                return

    def _finish(self, tally: Tally, command: str) -> None:
        entered = steps(self.journal)
        before = set(self.states().values())
        done = self.tag(command)
        tally.ended[command] += 1
        nothing = "nothing is left" if not entered else ""
        if command == "resume":
            side = "new" if entered else "old"
            nothing = nothing or ("all is done" if before == {"new"} else "")
        else:
            side = "old"
            nothing = nothing or ("all is undone" if before == {"old"} else "")
        if done.code:
            right = bool(nothing) and "No plan has anything left" in done.err
            tally.expect(f"{command} ended with {done.code}: {done.shown}", true=right)
        for complaint in self.complaints(side):
            tally.expect(f"{command}: {complaint}", true=False)


def rows(db: Path) -> dict[str, tuple[Any, ...]]:
    """Read the results that are committed in a catalogue: by name, whatever is not a time."""
    query = (
        "SELECT name, size, mtime_ns, fingerprint, genre, confidence, probabilities, tracks.tags, "
        "error FROM tracks WHERE stale = 0 AND gone = 0"
    )
    return {row[0]: tuple(row[1:]) for row in _read(db, query)}


def steps(journal: Path) -> Counter[str]:
    """Count a journal's steps by state."""
    return Counter(row[0] for row in _read(journal, "SELECT state FROM steps"))


def whole(db: Path) -> bool:
    """Return whether a database is undamaged; one that is not there yet is."""
    return _read(db, "PRAGMA integrity_check") in ([], [("ok",)])


def _read(db: Path, query: str) -> list[tuple[Any, ...]]:
    if not db.is_file():
        return []
    with closing(sqlite3.connect(db, timeout=10)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # it is just being made
                return []
            raise


def write_plan(path: Path, library: Path, genres: tuple[str, ...] = NEW) -> None:
    """Write a plan that gives every file of a library, that can be written, the same genres."""
    from genrescope.tagging import formats as tags
    from genrescope.tagging import plan
    from genrescope.tagging.stamp import stamp

    found = [file for file in sorted(library.rglob("*")) if file.is_file()]
    made = (
        plan.Step(
            "write",
            file.relative_to(library).as_posix(),
            tags.read_genres(file),
            genres,
            0.9,
            "no genre",
            stamp(file.lstat()),
        )
        for file in found
        if tags.can_write(file) is None
    )
    plan.write_plan(path, library, made)


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.startswith(LEAVE_A_MARK)
    }


# --- In the process that forks, and in its forks -------------------------------------------------


def _serve() -> None:
    modules = "numpy onnxruntime av soundfile soxr mutagen zstandard filelock rich.progress"
    mine = [
        *(f"library.{name}" for name in ("scan", "catalogue", "export")),
        *(f"tagging.{name}" for name in ("apply", "journal", "plan", "patch", "policy", "formats")),
    ]
    for codec in ("utf-8-sig", "utf-16", "utf16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"):
        codecs.lookup(codec)  # imported when first used, which another user may not
    for name in [*modules.split(), *(f"genrescope.{name}" for name in mine)]:
        importlib.import_module(name)
    importlib.import_module("genrescope.cli.app")
    importlib.import_module("genrescope").load()
    for line in sys.stdin:
        request = json.loads(line)
        if "words" in request:
            pid = os.fork()
            if not pid:
                _fork(request)
            answer = {"pid": pid}
        elif "wait" in request:
            answer = _wait(request["wait"])
        else:
            answer = {}
        print(json.dumps(answer), flush=True)


def _wait(pid: int) -> dict[str, Any]:
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return {"code": os.waitstatus_to_exitcode(status)}
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return {"hung": True}


def _fork(request: dict[str, Any]) -> None:
    code = 70
    try:
        targets = [os.devnull, *request["files"]]
        for number, path in enumerate(targets):
            mode = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(path, mode, 0o644), number)
        for kind, *values in request["hooks"]:
            _HOOKS[kind](*values)
        if user := request["user"]:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        sys.argv = ["genrescope", *request["words"]]
        code = _command()
    except BaseException:  # noqa: BLE001  a fork must not go on as if it were the server
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command() -> int:
    from genrescope.cli.app import main

    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _replace(target: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    # "module:name" or "module:Class.name"
    module, _, names = target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = names.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, around(getattr(owner, name)))


def _die(target: str, when: str, number: int) -> None:
    """Kill this process before or after one call of a function."""
    calls = itertools.count(1)

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **more: Any) -> Any:
            due = next(calls) == number
            if due and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*values, **more)
            if due:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    _replace(target, around)


def _fail(target: str, code: int, name: str) -> None:
    """Let a function fail as the system would, where an argument is a path with that name."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **more: Any) -> Any:
            if any(Path(value).name == name for value in values if isinstance(value, str | Path)):
                raise OSError(code, os.strerror(code))
            return real(*values, **more)

        return call

    _replace(target, around)


def _pause(target: str, number: int, flag: str) -> None:
    """Make a file before one call of a function, and wait until it is gone."""
    calls = itertools.count(1)

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **more: Any) -> Any:
            if next(calls) == number:
                Path(flag).touch()
                while Path(flag).exists():
                    time.sleep(0.005)
            return real(*values, **more)

        return call

    _replace(target, around)


class _Together:
    """Does the work of a ``WorkerPool`` in this process."""

    def __init__(self, count: int | None, prepare: Callable[..., Any], *given: Any) -> None:
        self.count = count or os.cpu_count() or 1
        self._made = prepare(*given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def start_one(self) -> None:
        return

    def do_file(self, work: Callable[..., Any], path: Path, *given: Any) -> Any:
        return work(self._made, path, *given)

    def close(self) -> None:
        return


def _together() -> None:
    """Let a scan decode files in the process that keeps what comes of them, and keep each at once.

    The whole scan takes less than the second after which it would be kept.
    """
    from genrescope.library import folders, scan

    folders._COMMIT_S = 0.0
    scan.WorkerPool = _Together  # type: ignore[misc, assignment]


def _late() -> None:
    """Let the processes that decode files take their time."""
    from genrescope.library import scan

    scan.Classifier = SimpleNamespace(analyse=_analyse_late)  # type: ignore[misc, assignment]


def _analyse_late(classifier: Any, path: Path) -> Any:
    time.sleep(5)
    return classifier.analyse(path)


_HOOKS: dict[str, Callable[..., None]] = {
    "die": _die,
    "fail": _fail,
    "late": _late,
    "pause": _pause,
    "together": _together,
}


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            raise AssertionError("it did not come to pass")
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """Give the processes that a process has started."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def alive(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            != "Z"
        )
    except OSError:
        return False


if __name__ == "__main__":
    _serve()
