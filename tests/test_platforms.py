"""A library is tagged and put back as on Windows and on FAT, exFAT and NTFS, on this machine.

Windows itself is imitated (`another_system/sitecustomize.py` says what of it); the file systems are
real, as far as this machine can mount them.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import formats
from genrescope import system
from genrescope.errors import InputError
from genrescope.io import write_text
from genrescope.tagging.stamp import difference, stamp
from named_model import named_model

TESTS = Path(__file__).parent
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="imitated on Linux alone")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = formats.make_library(tmp_path_factory.mktemp("clips"), seconds=2.0)
    by_ending = {path.suffix: path for name, path in made.items() if "speex" not in name}
    return list(by_ending.values())


def genrescope(data: Path, *paths: Path) -> Run:
    """Give a function that runs a command, with folders before all others on Python's path."""
    path = os.pathsep.join(map(str, (*paths, *filter(None, [os.environ.get("PYTHONPATH")]))))
    env = os.environ | {"PYTHONPATH": path, "XDG_DATA_HOME": str(data), "LOCALAPPDATA": str(data)}

    def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-X", "warn_default_encoding", "-m", "genrescope", *map(str, words)],
            capture_output=True,
            encoding="utf-8",
            env=env,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tag_and_undo(run: Run, library: Path, scratch: Path, between: Callable[[], None]) -> None:
    before, times = contents(library), {p: p.stat().st_mtime for p in library.rglob("*")}
    run("scan", library, "--model", named_model(sure=True))
    plan = scratch / "plan.csv"
    run("tag", "plan", library, "--replace", "--min-confidence", 0, "--out", plan)
    with plan.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(line for line in file if not line.startswith("#"))
        wanted = {row[1] for row in rows if row[0] == "write"}
    assert len(wanted) >= 10
    between()
    assert f"{len(wanted)} written" in run("tag", "apply", plan).stdout
    tagged = contents(library)
    assert tagged.keys() == before.keys()
    assert {name for name in before if tagged[name] != before[name]} == wanted
    between()
    assert f"{len(wanted)} undone" in run("tag", "undo").stdout
    assert contents(library) == before
    coarse = 2.0  # seconds: FAT's
    assert all(abs(p.stat().st_mtime - times[p]) <= coarse for p in times if p.is_file())


# --- Windows, imitated ---------------------------------------------------------------------------


@pytest.fixture
def windows(tmp_path: Path) -> Run:
    return genrescope(tmp_path / "data", TESTS / "another_system", TESTS.parent / "src")


@ON_LINUX
def test_a_library_is_tagged_and_put_back_as_on_windows(
    windows: Run, clips: list[Path], tmp_path: Path
) -> None:
    library = tmp_path / "music"
    library.mkdir()
    for clip in clips:
        shutil.copy2(clip, library / f"Björk – {clip.name}")
    tag_and_undo(windows, library, tmp_path, lambda: None)
    listed = json.loads(windows("classify", library, "--json").stdout)
    assert len(listed) == len(clips)
    windows("export", "--format", "m3u", "--out", tmp_path / "lists")
    assert list((tmp_path / "lists").glob("*.m3u8"))
    moved = library.rename(tmp_path / "moved")
    assert "changed" not in windows("library", "move", library, moved).stdout
    (row,) = json.loads(windows("library", "list", "--json").stdout)["libraries"]
    assert (Path(row["path"]), row["files"]) == (moved, len(clips))
    forgotten = windows("library", "forget", moved, "--yes").stdout
    assert f"{len(clips)} files forgotten" in forgotten


@ON_LINUX
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import fcntl", "ModuleNotFoundError"),
        ("import os; os.fork()", "AttributeError"),
        ("import signal; signal.SIGKILL", "AttributeError"),
        ("import os; os.fsync(os.open('there', os.O_RDONLY))", "OSError: [Errno 9]"),
        ("import os; os.open('.', os.O_RDONLY)", "PermissionError"),
        ("open('aux.mp3', 'w')", "OSError: [Errno 22]"),
        ("open('dots.', 'w')", "OSError: [Errno 22]"),
        ("import os; f = open('there'); os.replace('other', 'there')", "PermissionError"),
        ("import os; f = open('there'); os.remove('there')", "PermissionError"),
    ],
)
def test_the_imitation_refuses_what_windows_does(code: str, error: str, tmp_path: Path) -> None:
    for name in ("there", "other"):
        (tmp_path / name).touch()
    path = os.pathsep.join((str(TESTS / "another_system"), str(TESTS.parent / "src")))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert error in done.stderr.splitlines()[-1]


def test_a_file_that_is_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        calls.append(target)
        raise PermissionError(errno.EACCES, "Access is denied", str(target))

    calls: list[Path] = []
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(system, "IS_WINDOWS", True)
    monkeypatch.setattr(system, "_IN_USE_S", 0.2)
    out = tmp_path / "out.txt"
    with pytest.raises(InputError, match="another program has it open"), write_text(out) as file:
        file.write("text")
    assert len(calls) > 2, "it waits for virus scanners"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["..\\a.mp3", "x/..\\..\\a.mp3", "C:a.mp3", "C:\\a.mp3", "\\a.mp3", "a.mp3:stream"]
)
def test_no_path_of_windows_leads_out_of_a_library(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert system.is_below(name)  # on POSIX these are names
    monkeypatch.setattr(system, "IS_WINDOWS", True)
    assert not system.is_below(name)
    assert system.is_below("folder/a.mp3")


@pytest.mark.parametrize("name", ["CON", "aux.mp3", "nul .txt", "Com1", "LPT³.wav"])
def test_names_of_devices_are_known(name: str) -> None:
    assert system.is_device_name(name)
    assert not system.is_device_name(f"_{name}")
    assert not system.is_device_name("console.mp3")


# --- macOS, imitated -----------------------------------------------------------------------------


def test_macs_flush_the_disks_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    asked: list[int] = []
    fails = False

    def control(_: int, command: int) -> None:
        asked.append(command)
        if fails:
            raise OSError(errno.ENOTSUP, "not on this file system")

    monkeypatch.setattr(system, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=control))
    synced: list[int] = []
    monkeypatch.setattr(system.os, "fsync", synced.append)
    system.sync(path)
    assert (asked, synced) == ([51], [])
    fails = True
    system.sync(path)
    assert asked == [51, 51]
    assert len(synced) == 1


def test_macs_find_the_file_of_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def control(number: int, command: int, _: bytes) -> bytes:
        assert (number, command) == (7, 50)
        return b"/Users/you/song.mp3".ljust(1024, b"\0")

    monkeypatch.setattr(system, "fcntl", SimpleNamespace(F_GETPATH=50, fcntl=control))
    monkeypatch.setattr(system.os.path, "realpath", os.path.abspath)  # /dev/fd is a folder there
    assert system.own_descriptor(Path("/dev/fd/7")) == 7
    assert system.path_for_others(Path("/dev/fd/7")) == Path("/Users/you/song.mp3")
    assert system.path_for_others(Path("/Users/you/a.mp3")) == Path("/Users/you/a.mp3")


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be opened")
def test_a_folder_that_cannot_be_synced_is_left_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(code: int) -> Callable[[int], None]:
        def fsync(_: int) -> None:
            raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(system.os, "fsync", refuse(errno.EINVAL))
    system.sync(tmp_path)
    monkeypatch.setattr(system.os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        system.sync(tmp_path)


# --- Other file systems --------------------------------------------------------------------------


def _by_loop(kind: str, make: list[str]) -> Callable[[Path, Path], list[list[str]]]:
    return lambda image, at: [[*make, image], ["mount", "-o", "loop", "-t", kind, image, at]]


MOUNTS: dict[str, Callable[[Path, Path], list[list[str]]]] = {
    "vfat": _by_loop("vfat", ["mkfs.vfat"]),
    "exfat": _by_loop("exfat", ["mkfs.exfat"]),
    "exfat by FUSE": lambda image, at: [
        ["mkfs.exfat", image],
        ["mount.exfat-fuse", _loop(image), at],
    ],
    "NTFS by FUSE": lambda image, at: [["mkfs.ntfs", "-F", "-q", image], ["ntfs-3g", image, at]],
}
_LOOPS: list[str] = []


def _loop(image: Path) -> str:
    device = _reported("losetup", "-f", "--show", image).strip()
    _LOOPS.append(device)
    return device


def _reported(*command: object) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        list(map(str, command)), capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    if done.returncode:
        pytest.skip(f"{command[0]}: {(done.stderr or done.stdout).strip()[:100]}")
    return done.stdout


class Disk:
    """A file system in a file, that can be unplugged and plugged in again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.image, self.at = folder / "disk.img", folder / "disk"
        self.at.mkdir()
        with self.image.open("wb") as file:
            file.truncate(48 * 2**20)
        commands = MOUNTS[kind](self.image, self.at)
        for command in commands:
            _reported(*command)
        self._mount = commands[-1]
        self._wait(mounted=True)

    def plug_again(self) -> None:
        self.unplug()
        _reported(*self._mount)
        self._wait(mounted=True)

    def unplug(self) -> None:
        if self.at.is_mount():
            subprocess.run(["umount", self.at], check=True, timeout=60)
            self._wait(mounted=False)

    def _wait(self, *, mounted: bool) -> None:
        end = time.monotonic() + 10
        while self.at.is_mount() is not mounted:
            if time.monotonic() > end:
                pytest.skip("it cannot be mounted here")
            time.sleep(0.05)
        time.sleep(0.5)  # drivers write what they hold after they have ended


@pytest.fixture(params=sorted(MOUNTS))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root mounts")
    made = Disk(request.param, tmp_path)
    yield made
    made.unplug()
    while _LOOPS:
        subprocess.run(["losetup", "-d", _LOOPS.pop()], check=False)


@pytest.mark.slow
def test_a_library_on_such_a_disk_is_tagged_and_put_back(
    disk: Disk, clips: list[Path], tmp_path: Path
) -> None:
    library = disk.at / "music"
    library.mkdir()
    for clip in clips:
        shutil.copyfile(clip, library / clip.name.upper())
    disk.plug_again()  # times are as coarse as the disk holds them
    run = genrescope(tmp_path / "data", TESTS.parent / "src")
    tag_and_undo(run, library, tmp_path, disk.plug_again)


def test_inode_numbers_that_a_driver_invents_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"old")
    before = path.stat()
    other = tmp_path / "other"
    other.write_bytes(b"old")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert difference(path.stat(), stamp(before)) == "was replaced by another file"
    kinds = {before.st_dev: "vfat"}
    monkeypatch.setattr(system, "_mounted", lambda _=0: kinds)
    known = stamp(before)
    assert re.search("-0-0-1$", known)
    assert difference(path.stat(), known) is None
    monkeypatch.setattr(system, "_mounted", lambda _=0: {})
    assert difference(path.stat(), known) is None, "a plan of a disk that is plugged in elsewhere"
    path.chmod(path.stat().st_mode | stat.S_IXOTH)
    path.write_bytes(b"new!")
    assert difference(path.stat(), known) == "has changed"
