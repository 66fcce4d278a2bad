"""Make Python behave as on Windows, in every process that has this folder on PYTHONPATH.

What POSIX alone has is gone: modules, functions and flags of `os`, signals. Files that are open can
be neither replaced nor deleted, names that Windows cannot hold are refused, folders cannot be
opened, and a file is synced only if it is open for writing. Text without an encoding is an error in
our modules, as Windows' own encoding is not UTF-8.

Not imitated: paths' syntax (drives, backslashes), names without case, the console, processes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import sys
import warnings
from importlib.abc import MetaPathFinder
from pathlib import Path

import platformdirs.unix  # noqa: F401  it asks sys.platform, and wants getuid

HIDDEN = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
FUNCTIONS = """
chown chroot confstr ctermid fchdir fchmod fchown fdatasync fork forkpty getegid geteuid getgid
getgroups getloadavg getpgid getpgrp getpriority getresgid getresuid getsid getuid killpg lchown
link lockf makedev mkfifo mknod nice openpty posix_fadvise pread preadv pwrite pwritev readv
sched_getaffinity sched_yield sendfile setegid seteuid setgid setpgid setsid setuid statvfs
fstatvfs sync ttyname wait writev O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC
""".split()
SIGNALS = "SIGINT SIGTERM SIGABRT SIGFPE SIGILL SIGSEGV SIG_DFL SIG_IGN".split()
NOT_IN_NAMES = re.compile(r'[<>:"|?*\x00-\x1f]|[ .]$')
DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\.|$)", re.IGNORECASE)
CREATES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SYSTEM = ("/proc/", "/dev/", "/sys/")

_control, _real_fsync, _real_kill = fcntl.fcntl, os.fsync, os.kill


class Hidden(MetaPathFinder):
    """Finds none of the modules that Windows lacks."""

    def find_spec(self, name: str, *_: object) -> None:
        if name in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def fsync(file: object) -> None:
    number = file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]
    if _control(number, 3) & os.O_ACCMODE == os.O_RDONLY:  # F_GETFL
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _real_fsync(number)


def family() -> list[int]:
    """Give this process, the one that started it and those that it started."""
    found = [os.getpid(), os.getppid()]
    for entry in os.listdir("/proc"):
        try:
            status = Path("/proc", entry, "stat").read_bytes() if entry.isdecimal() else b""
        except OSError:
            continue
        if status and int(status.rpartition(b")")[2].split()[1]) == os.getpid():
            found.append(int(entry))
    return found


def is_open(path: str) -> bool:
    real = os.path.realpath(path)
    for process in family():
        try:
            numbers = os.listdir(f"/proc/{process}/fd")
        except OSError:
            continue
        for number in numbers:
            try:
                if os.readlink(f"/proc/{process}/fd/{number}") == real:
                    return True
            except OSError:
                continue
    return False


def watch(event: str, given: tuple[object, ...]) -> None:
    """Refuse what Windows refuses, wherever it is asked for, in C code, too."""
    if event == "open":
        path, _, flags = given
        if not isinstance(path, str | bytes) or os.fsdecode(path).startswith(SYSTEM):
            return
        name = os.fsdecode(path)
        if Path(name).is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        if isinstance(flags, int) and flags & CREATES:
            check_name(name)
    elif event == "os.mkdir":
        check_name(os.fsdecode(given[0]))  # type: ignore[arg-type]
    elif event in {"os.rename", "os.remove"}:
        paths = [os.fsdecode(path) for path in given[:2] if isinstance(path, str | bytes)]
        for path in paths:
            if Path(path).is_file() and is_open(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if event == "os.rename" and paths:
            check_name(paths[-1])


def check_name(path: str) -> None:
    name = os.path.basename(path.rstrip("/"))
    if NOT_IN_NAMES.search(name) or DEVICES.match(name):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)


def pretend() -> None:
    for name in HIDDEN:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Hidden())
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    for name in [name for name in dir(signal) if name.startswith("SIG") and name not in SIGNALS]:
        if name != "Signals":
            delattr(signal, name)
    for name in ("pthread_sigmask", "pthread_kill", "sigwait", "setitimer", "alarm"):
        delattr(signal, name)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    os.fsync = fsync
    warnings.filterwarnings("ignore", "only soft file lock is available")
    warnings.filterwarnings("error", category=EncodingWarning, module=r"genrescope(\.|$)")

    # What multiprocessing does there by TerminateProcess.
    from multiprocessing import popen_fork

    def kill(self: popen_fork.Popen) -> None:
        if self.returncode is None:
            _real_kill(self.pid, 9)

    popen_fork.Popen.kill = kill  # type: ignore[method-assign]
    sys.addaudithook(watch)
    import genrescope.system

    genrescope.system.IS_WINDOWS = True


pretend()
