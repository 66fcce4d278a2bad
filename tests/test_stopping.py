"""Ctrl-C ends a command at once, also while a decoder hangs; and a crash costs one file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import commands
import genrescope
from hostile import hostile

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals a group of processes")

WITHIN_S = 2.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a file that is decoded at once, and one whose decoder never ends."""
    (tmp_path / "music").mkdir()
    shutil.copy(genrescope.sample("pulse"), tmp_path / "music" / "a.mp3")
    shutil.copy(genrescope.sample("lament"), tmp_path / "music" / "endless.mp3")
    return tmp_path


def members(group: int) -> list[int]:
    """Give the processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize(
    "words",
    [
        ("classify", "music"),
        ("classify", "music", "--json"),
        ("classify", "music/endless.mp3"),
        ("classify", "music/endless.mp3", "--timeline"),
        ("scan", "music", "--db", "library.db"),
        ("similar", "music/a.mp3", "--library", "music", "--db", "library.db"),
    ],
    ids=" ".join,
)
def test_ctrl_c_ends_a_command_at_once(folder: Path, words: tuple[str, ...], workers: str) -> None:
    env = os.environ | hostile(folder, hang="endless.mp3")
    process = subprocess.Popen(
        [sys.executable, "-m", "genrescope", *words, "--workers", workers],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal does, it is sent to all of them
    )
    deadline = time.monotonic() + 60
    while not (folder / "patch" / "hangs").exists():
        assert time.monotonic() < deadline, "no file is decoded"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.3)
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert time.monotonic() - begun < WITHIN_S
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    # What Python keeps to clean up after processes ends when it sees that they have.
    while members(process.pid) and time.monotonic() - begun < 10:
        time.sleep(0.05)
    assert members(process.pid) == []


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="has no signal masks")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("words", [("classify", "music"), ("serve", "--port", "0")], ids=" ".join)
def test_ctrl_c_while_processes_start_ends_a_command_quietly(
    folder: Path, words: tuple[str, ...], times: int
) -> None:
    # Each process interrupts all of them as soon as it runs, before anything of the product does.
    (folder / "patch").mkdir()
    (folder / "patch" / "sitecustomize.py").write_text(
        "import os, signal, sys, time\n"
        "if '--multiprocessing-fork' in sys.argv:\n"
        f"    for _ in range({times}):\n"
        "        os.killpg(0, signal.SIGINT)\n"
        "        time.sleep(0.1)\n"
    )
    path = os.pathsep.join([str(folder / "patch"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "genrescope", *words, "--workers", "1"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
    )
    assert "Traceback" not in done.stderr
    # An interrupt inside of a text that Python executes, as dataclasses do while they are imported,
    # makes Python end by the signal at last; shells call both 130.
    assert done.returncode in {130, -signal.SIGINT}


def test_what_was_analysed_before_ctrl_c_is_kept(folder: Path) -> None:
    env = os.environ | hostile(folder, hang="endless.mp3")
    line = [sys.executable, "-m", "genrescope", "scan", "music", "--db", "library.db"]
    line += ["--workers", "1"]
    process = subprocess.Popen(
        line, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (folder / "patch" / "hangs").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    again = subprocess.run(
        [*line, "--json"], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    shown = json.loads(again.stdout)
    assert (shown["new"], shown["analysed"], shown["known"]) == (0, 1, 0)


def run(folder: Path, env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    return commands.run(*words, cwd=folder, env=os.environ | env, timeout=120)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", ["die", "abort"])
def test_a_crash_costs_classify_one_file(folder: Path, way: str, workers: int) -> None:
    shutil.copy(genrescope.sample("shuffle"), folder / "music" / "z.mp3")
    env = hostile(folder, **{way: "endless.mp3"})
    words = ("classify", "music", "--json", "--workers", workers)
    done = run(folder, env, *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    answers = json.loads(done.stdout)
    assert [Path(one["path"]).name for one in answers] == ["a.mp3", "endless.mp3", "z.mp3"]
    assert ["error" in one and one["error"] is not None for one in answers] == [False, True, False]
    assert "its decoder crashed, or there was no memory left" in answers[1]["error"]
    assert [answers[0]["best"], answers[2]["best"]] == ["disco", "jazz"]


def test_a_crash_costs_similar_one_file(folder: Path) -> None:
    shutil.copy(genrescope.sample("shuffle"), folder / "music" / "z.mp3")
    env = hostile(folder, die="endless.mp3")
    words = ("similar", "music/a.mp3", "music/endless.mp3", "--library", "music", "--json")
    words += ("--db", "library.db")
    done = run(folder, env, *words)
    assert done.returncode == 1
    assert "endless.mp3: its decoder crashed" in done.stderr
    good, bad = json.loads(done.stdout)
    assert [near["path"] for near in good["similar"]] == ["music/z.mp3"]
    assert "its decoder crashed" in bad["error"]


@pytest.mark.parametrize(
    "words",
    [
        ("classify", "music"),
        ("similar", "music", "--library", "music", "--db", "library.db"),
    ],
)
def test_what_decoders_print_is_not_seen(folder: Path, words: tuple[str, ...]) -> None:
    plain = run(folder, {}, *words)
    for left in folder.glob("library.db*"):
        left.unlink()
    noisy = run(folder, hostile(folder, chatter=".mp3"), *words)
    assert (noisy.returncode, noisy.stdout, noisy.stderr) == (0, plain.stdout, plain.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ("classify", "music"),
        ("scan", "music", "--db", "library.db"),
        ("similar", "music/a.mp3", "--library", "music", "--db", "library.db"),
    ],
    ids=" ".join,
)
def test_workers_that_cannot_start_are_no_fault_of_any_file(
    folder: Path, words: tuple[str, ...]
) -> None:
    (folder / "patch").mkdir()
    (folder / "patch" / "sitecustomize.py").write_text(
        "import os, sys\nif '--multiprocessing-fork' in sys.argv:\n    os._exit(1)\n"
    )
    path = os.pathsep.join([str(folder / "patch"), os.environ.get("PYTHONPATH", "")])
    done = run(folder, {"PYTHONPATH": path}, *words)
    assert done.returncode == 1
    assert "The process that decodes files cannot be started" in done.stderr
    assert "Traceback" not in done.stderr
    assert "mp3" not in done.stderr
