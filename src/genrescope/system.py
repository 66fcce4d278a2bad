"""Calls that differ between Linux, macOS and Windows, or that one of them lacks.

No other module of the package uses them (`tests/test_architecture.py`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


fcntl = _optional("fcntl")  # POSIX's
psutil = _optional("psutil")  # for memory, on other systems than Linux
_resource = _optional("resource")
IS_WINDOWS = os.name == "nt"

READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe may have taken the file's place
)
"""Flags of `os.open` to read bytes without waiting for a pipe's writer."""

CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
"""Flags of `os.open` to create a file that must not exist yet."""

INTO_FLAGS = os.O_WRONLY | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
"""Flags of `os.open` to write into a pipe or device as it is."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MAX_LINKS = 40  # one after another, as Linux follows them
_IN_USE_S = 1.0  # how long to wait for virus scanners and indexers, which hold new files open
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT
_WINDOWS_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)
# Their drivers invent inode numbers, which change when a file has left the cache.
_WITHOUT_INODES = {"vfat", "msdos", "exfat", "fuseblk", "fuse", "cifs", "smb3", "9p"}


class InUseError(PermissionError):
    """Windows does not replace a file that a program has open."""


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk.

    Where folders cannot be opened (Windows) or synced (some network file systems), they are left
    to the system.

    Raises
    ------
    OSError
        If the disk fails, or the file is not there.
    """
    if path.is_dir():
        with suppress(PermissionError):
            _sync_folder(path)
        return
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    except PermissionError:
        if IS_WINDOWS:
            raise
        descriptor = os.open(path, os.O_RDONLY)  # POSIX syncs these, too
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int) -> None:
    """Wait until an open file is on the disk. On Windows it must be open for writing.

    macOS flushes the disk's own cache only with F_FULLFSYNC, which some file systems lack.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError as error:
            if error.errno not in {*_NOT_SUPPORTED, errno.ENOTTY}:
                raise
        else:
            return
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Give a file the name of another, which it replaces at once.

    Raises
    ------
    InUseError
        On Windows, if a program has the target open for longer than a second.
    OSError
        If it cannot be replaced for another reason.
    """
    end = time.monotonic() + _IN_USE_S
    while True:
        try:
            source.replace(target)
        except PermissionError as error:
            if not IS_WINDOWS:
                raise
            if time.monotonic() > end:
                cause = "another program has it open"
                raise InUseError(errno.EACCES, cause, str(target)) from error
            time.sleep(0.05)
        else:
            return


def set_owner(path: Path, status: os.stat_result) -> None:
    """Give a file the owner and group of another; nothing to do where files have none.

    Raises
    ------
    PermissionError
        If this user may not do so.
    """
    now = path.stat()
    wanted = status.st_uid, status.st_gid
    if (now.st_uid, now.st_gid) != wanted and hasattr(os, "chown"):
        os.chown(path, *wanted)


def copy_mode(status: os.stat_result, path: Path) -> None:
    """Give a file the permissions of another; FAT has none, and refuses to change them."""
    if stat.S_IMODE(path.stat().st_mode) != (mode := stat.S_IMODE(status.st_mode)):
        path.chmod(mode)


def copy_metadata(source: Path, target: Path) -> None:
    """Give a file the permissions, times and extended attributes of another.

    Raises
    ------
    OSError
        If they cannot be read or set, unless it has the permissions already (FAT).
    """
    try:
        shutil.copystat(source, target)
    except OSError:
        if stat.S_IMODE(source.stat().st_mode) != stat.S_IMODE(target.stat().st_mode):
            raise


def has_inodes(device: int) -> bool:
    """Check whether a file system keeps inode numbers, and times of the inode's last change.

    FAT, exFAT and some network drivers invent the numbers, and give other ones later. Known on
    Linux alone.

    Parameters
    ----------
    device
        ``st_dev`` of a file.
    """
    kind = _mounted().get(device) or _mounted(time.monotonic_ns()).get(device, "")
    return kind not in _WITHOUT_INODES and not kind.startswith("fuse.")


@lru_cache(maxsize=1)
def _mounted(_now: int = 0) -> dict[int, str]:
    # The kind of file system by device number.
    if sys.platform != "linux" or IS_WINDOWS:
        return {}
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    kinds = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        major, minor = before.split(" ")[2].split(":", 1)
        kinds[os.makedev(int(major), int(minor))] = after.split(" ")[0]
    return kinds


def is_junction(item: os.DirEntry[str]) -> bool:
    """Check whether a folder is a junction: Windows' older link, which Python calls a folder."""
    if not IS_WINDOWS:
        return False
    return getattr(item.stat(follow_symlinks=False), "st_reparse_tag", 0) == _JUNCTION


def is_device_name(name: str) -> bool:
    """Check whether Windows takes a file's name for a device: ``CON``, ``aux.mp3``."""
    return _WINDOWS_DEVICES.match(name) is not None


def is_below(name: str) -> bool:
    """Check that a relative path, with ``/`` between its parts, leads nowhere but downwards.

    On Windows also that no drive, backslash or stream is hidden in it.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or "\0" in name or ".." in path.parts:
        return False
    if not IS_WINDOWS:
        return True
    there = PureWindowsPath(name)
    return ":" not in name and not there.root and ".." not in there.parts


def is_reader_gone(error: OSError) -> bool:
    """Check whether writing failed because the program that reads a pipe has ended."""
    return error.errno == errno.EPIPE or (IS_WINDOWS and error.errno == errno.EINVAL)


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on, if the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int | None:
    """Give the largest resident memory of this process, in bytes; None where it is unknown.

    On Linux it is that since `reset_peak_memory`, elsewhere since the start of the process.
    """
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
            return 1024 * int(found[1])
    if _resource is None:
        return None
    peak = int(_resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else 1024 * peak


def own_descriptor(path: Path) -> int | None:
    """Give the number of this process's open file that a path leads to.

    Such paths are ``/dev/stdout``, ``/dev/fd/63``, ``/proc/self/fd/63`` and links to them.
    """
    places = {Path(f"/proc/{os.getpid()}/fd"), Path("/dev/fd")}  # the second is macOS's
    for _ in range(_MAX_LINKS):
        parent = Path(os.path.realpath(path.parent))
        if parent in places and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = parent / path.readlink()
    return None


def path_for_others(path: Path) -> Path:
    """Give a path by which other processes of this user find the same file.

    ``/dev/fd/3``, ``/proc/self/fd/3``, ``/dev/stdin`` and links to them are descriptors of
    whichever process opens them. Other paths are given as they are.
    """
    if IS_WINDOWS:
        return path
    if hasattr(fcntl, "F_GETPATH"):  # macOS, which has no links in /dev/fd
        return _path_on_mac(path)
    step = os.path.abspath(path)  # noqa: PTH100  no link is followed
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(step)
        step = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118  some bytes are no text
        if step.startswith("/proc/"):
            real = Path(os.path.realpath(step))
            try:
                return real if real.samefile(path) else Path(step)
            except (OSError, ValueError):  # deleted, or replaced: by its number in this process
                return Path(step)
        try:
            step = os.path.join(os.path.dirname(step), os.readlink(step))  # noqa: PTH115, PTH118, PTH120
        except (OSError, ValueError):  # no link
            return path
    return path


def _path_on_mac(path: Path) -> Path:
    number = own_descriptor(path)
    if number is not None:
        with suppress(OSError):
            found: bytes = fcntl.fcntl(number, fcntl.F_GETPATH, bytes(1024))
            return Path(os.fsdecode(found.rstrip(b"\0")))
    return path


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start a process in here: Ctrl-C reaches neither it nor, before the end, this thread.

    A new process inherits the signals that the thread blocks, and Python would print a traceback
    before the process could ignore one. An interrupt half-way would leave it without what it is to
    run. Without signal masks, as on Windows, nothing is held.
    """
    if sys.platform == "win32" or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # noqa: PLC0415  POSIX's

    # Starting it, which the first process would cause, unblocks the signal.
    resource_tracker.ensure_running()
    interrupted: list[int] = []
    # Another thread may take the signal, of C code as well; Python then interrupts the main one.
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if is_main else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        # While the handler is the one above, so that a pending interrupt is noted, too.
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if interrupted:
            signal.raise_signal(signal.SIGINT)


def lock_folder(folder: Path) -> int | None:
    """Lock a folder as long as this process lives, or its descriptor is open.

    Returns
    -------
    descriptor
        To be closed; None if there is no such folder, or folders cannot be locked (Windows).
    """
    if sys.platform == "win32" or fcntl is None:
        return None
    try:
        descriptor = _open_folder(folder)
    except FileNotFoundError:
        return None
    # Some network file systems have no such locks. Then `remove_unlocked` gets none, either.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def remove_unlocked(folder: Path) -> None:
    """Delete a folder of this user's, closed to others, unless a process has locked it.

    Where folders cannot be locked (Windows), nothing is deleted.

    Raises
    ------
    OSError
        If it is a link, is locked, or cannot be deleted.
    """
    if sys.platform == "win32" or fcntl is None:
        return
    descriptor = _open_folder(folder)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # By the descriptor: the name may meanwhile be another's.
        for entry in os.scandir(descriptor):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.name, dir_fd=descriptor)
            else:
                os.unlink(entry.name, dir_fd=descriptor)
        folder.rmdir()
    finally:
        os.close(descriptor)


def _open_folder(folder: Path) -> int:
    flags = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.open(folder, os.O_RDONLY | flags)


def free_memory() -> int | None:
    """Give the bytes that programs can still use here without swapping.

    On Linux also within the limits of this process's control groups, as containers set them. None
    if they are unknown: on other systems without psutil.
    """
    if not sys.platform.startswith("linux"):
        return None if psutil is None else int(psutil.virtual_memory().available)
    found = _status_bytes(Path("/proc/meminfo"), "MemAvailable")
    limits = [_left_in_group(folder, *names) for folder, names in _memory_groups()]
    known = [bytes_ for bytes_ in (found, *limits) if bytes_ is not None]
    return min(known, default=None)


def used_memory(process: int) -> int:
    """Give the largest number of bytes that a running process has held in memory; 0 if unknown."""
    if sys.platform.startswith("linux"):
        return _status_bytes(Path(f"/proc/{process}/status"), "VmHWM") or 0
    with suppress(Exception):  # of psutil's own types
        return int(psutil.Process(process).memory_info().rss)
    return 0


def return_freed_memory() -> None:
    """Return large blocks of this process to the system as soon as they are freed.

    For GNU's C library, which otherwise keeps them, in pieces that later ones do not fit into.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in ((_M_MMAP_THRESHOLD, 2**22), (_M_TRIM_THRESHOLD, 2**27)):
            mallopt(option, size)


def _status_bytes(path: Path, name: str) -> int | None:
    # A line such as "VmHWM:   1024 kB".
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    line = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return None if line is None else 1024 * int(line[1])


def _memory_groups() -> Iterator[tuple[Path, tuple[str, str]]]:
    # Folders of the control groups that this process is in, with the files of limit and use.
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    root = Path("/sys/fs/cgroup")
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if not kinds:
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            yield folder, names
            if folder == base:
                break


def _left_in_group(folder: Path, limit: str, use: str) -> int | None:
    try:
        most, used = (int((folder / name).read_text(encoding="ascii")) for name in (limit, use))
        stat_ = (folder / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None
    cached = re.search(r"^(?:total_)?inactive_file (\d+)", stat_, re.MULTILINE)
    return most - used + (int(cached[1]) if cached else 0)  # the system drops what it has cached


def is_console(descriptor: int) -> bool:
    """Check whether a standard stream is a window of Windows, which takes text and no bytes."""
    return sys.platform == "win32" and os.isatty(descriptor)
