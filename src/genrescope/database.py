"""One SQLite file of genrescope's own: opened, checked, locked, with errors in words for people."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from genrescope.errors import InputError
from genrescope.reading import kind_of

_DAMAGED = "malformed"  # SQLite's word for it
_ROOM = 2**17  # bytes; SQLite needs more than 2**15 at once


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """What a file is for.

    Attributes
    ----------
    name
        For people.
    option
        Of the command line, that gives another file.
    busy
        What another process is doing that has it locked, as a clause.
    application
        SQLite's application_id, which tells it from another program's database.
    version
        Of the schema; raised when it changes.
    schema
        SQL that makes the tables.
    migrations
        SQL that makes of each version the next one, from the first on.
    synchronous
        SQLite's: FULL where a commit must wait for the disk, NORMAL where it need not.
    """

    name: str
    option: str
    busy: str
    application: int
    version: int
    schema: str
    synchronous: str
    migrations: tuple[str, ...] = ()


class Database:
    """A database of genrescope's, open. The base of the catalogue and the journal.

    Parameters
    ----------
    path
        Of the file.
    kind
        What it must be.
    write
        Whether it is made if need be, and locked, so that one process writes at a time. Without, it
        must be there, and may lie where nothing can be written.
    missing
        What to do if it is not there, as a sentence without a final stop.

    Raises
    ------
    InputError
        If it is not there, is something else, was made by a newer genrescope, cannot be opened or
        is locked.
    """

    def __init__(self, path: Path, kind: DatabaseKind, *, write: bool, missing: str = "") -> None:
        self.path = path
        self._kind = kind
        self._mutex = threading.RLock()
        self._file_lock = filelock.FileLock(f"{path}.lock")
        self._temporary = ExitStack()
        self._check_regular(missing if not write else "")
        if write:
            self._lock()
        try:
            with self._told():
                if write or self._may_be_written():
                    self._connection = _connect(path)
                else:
                    self._connection = self._connect_read_only()
                self._prepare()
        except BaseException:
            self._temporary.close()
            self._file_lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Keep what is not yet kept, and close it."""
        try:
            with self._told():
                self._connection.commit()
        finally:
            self._connection.close()
            self._temporary.close()
            self._file_lock.release()

    def _check_regular(self, missing: str) -> None:
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            if missing:
                raise InputError(self.path, f"there is no {self._kind.name}", missing) from None
            return
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            cause = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
            remedy = f"Give another file with {self._kind.option}"
            raise InputError(self.path, cause, remedy) from error
        if (what := kind_of(mode)) is not None:
            cause = f"it is {what}, and no {self._kind.name}"
            raise InputError(self.path, cause, f"Give a file with {self._kind.option}")

    def _may_be_written(self) -> bool:
        # SQLite writes beside a database that is only read, too, and a former version is changed.
        return os.access(self.path, os.W_OK) and os.access(self.path.resolve().parent, os.W_OK)

    def _connect_read_only(self) -> sqlite3.Connection:
        # As it lies there, if nobody writes to it and it needs no change; else a copy of it.
        beside = self.path.resolve()
        log = beside.with_name(f"{beside.name}-wal")
        is_complete = not (log.exists() and log.stat().st_size)
        connection = _connect(self.path, "?mode=ro" + ("&immutable=1" if is_complete else ""))
        with suppress(sqlite3.Error), closing(connection.execute("PRAGMA user_version")) as row:
            if row.fetchone()[0] >= self._kind.version:
                return connection
        connection.close()
        try:
            folder = self._temporary.enter_context(tempfile.TemporaryDirectory())
            copy = Path(folder) / "copy.db"
            shutil.copyfile(beside, copy)
            with suppress(FileNotFoundError):
                shutil.copyfile(log, f"{copy}-wal")
        except OSError as error:
            cause = f"it cannot be read ({error.strerror or error})"
            remedy = f"Check that you may read it, or give another file with {self._kind.option}"
            raise InputError(self.path, cause, remedy) from error
        return _connect(copy)

    def _lock(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file_lock.acquire(timeout=0)
        except filelock.Timeout:
            remedy = f"Wait until it has ended, or give another file with {self._kind.option}"
            raise InputError(self.path, f"another genrescope {self._kind.busy}", remedy) from None
        except OSError as error:
            cause = f"it cannot be written ({error.strerror or error})"
            remedy = f"Give a file in a folder that you may write to with {self._kind.option}"
            raise InputError(self.path, cause, remedy) from error

    def _prepare(self) -> None:
        kind, run = self._kind, self._connection.execute
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            self._connection.executescript(
                "PRAGMA journal_mode = WAL; BEGIN;"
                f"PRAGMA application_id = {kind.application}; PRAGMA user_version = {kind.version};"
                f"{kind.schema} COMMIT;"
            )
        elif application != kind.application:
            remedy = f"Give another file with {kind.option}"
            raise InputError(self.path, "it is another program's database", remedy)
        elif version > kind.version:
            raise InputError(self.path, "a newer genrescope made it", "Update genrescope")
        else:
            for number, migration in enumerate(kind.migrations[version - 1 :], start=version + 1):
                self._connection.executescript(
                    f"BEGIN; {migration}; PRAGMA user_version = {number}; COMMIT;"
                )
        run(f"PRAGMA synchronous = {kind.synchronous}")
        run("PRAGMA fullfsync = 1")  # macOS: past the disk's own cache

    @contextmanager
    def _told(self) -> Iterator[None]:
        # One thread at a time; and whatever goes wrong is said in words for people.
        with self._mutex:
            try:
                yield
            except sqlite3.Error as error:
                raise InputError(self.path, *self._words(str(error))) from error
            except UnicodeDecodeError as error:  # of what SQLite tells of a damaged file
                raise InputError(self.path, *self._words(_DAMAGED)) from error

    @contextmanager
    def _decoded(self) -> Iterator[None]:
        # What a row holds that no genrescope has written there: some other program has.
        try:
            yield
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise InputError(self.path, *self._words(_DAMAGED)) from error

    def _words(self, told: str) -> tuple[str, str]:
        option = self._kind.option
        # What SQLite keeps beside the file it calls an I/O error where there is no room for it.
        no_room = "I/O" in told and shutil.disk_usage(self.path.parent).free < _ROOM
        if "full" in told or no_room:
            remedy = "Make room and run it again: what was done until now is kept"
            return "there is no room left on its disk", remedy
        if "not a database" in told:
            return f"it is no genrescope {self._kind.name}", f"Give another file with {option}"
        if _DAMAGED in told:
            return "it is damaged", f"Restore it from a copy, or give another file with {option}"
        if "locked" in told:
            return "another program holds it", f"Close that, or give another file with {option}"
        remedy = f"Check that you may write to its folder, or give another file with {option}"
        return f"it cannot be used ({told})", remedy


def _connect(path: Path, how: str = "") -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}{how}" if how else path
    return sqlite3.connect(place, uri=bool(how), check_same_thread=False, timeout=30)


def text(value: Any) -> str:
    """Give what a column must hold; TypeError if it is no text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Give the texts of a column that holds a list of them, as JSON; TypeError or ValueError."""
    found = json.loads(value)
    if not isinstance(found, list):
        raise TypeError(f"{value!r} is no list")
    return tuple(map(text, found))


def to_integer(mtime_ns: int) -> int:
    """Fit a time in ns into SQLite's 64 bits: from the year 2262 on they become negative."""
    return (mtime_ns + 2**63) % 2**64 - 2**63


def from_integer(value: int) -> int:
    """Give the time again: of the negative ones, those before 1824 are after 2262."""
    return value if value >= -(2**62) else value + 2**64
