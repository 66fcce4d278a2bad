"""A SQLite file of genrescope's: opens, checks and locks it, and reports errors as `InputError`."""

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
from genrescope.files import kind_of

_DAMAGED = "malformed"  # in SQLite's message
_MIN_FREE = 2**17  # bytes; SQLite needs more than 2**15 at once


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """The purpose and schema of a database.

    Attributes
    ----------
    name
        For messages.
    option
        The command-line option that gives another file.
    busy
        What another process does while it holds the lock, as a clause.
    application
        SQLite's application_id, which distinguishes it from other programs' databases.
    version
        Of the schema; raised when it changes.
    schema
        SQL that creates the tables.
    migrations
        SQL that turns each version into the next, from version 1 on.
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
    """An open database of genrescope's; the base of the catalogue and the journal.

    Parameters
    ----------
    path
        Of the file.
    kind
        Its purpose and schema.
    write
        Whether to create it if need be and lock it, so that one process writes at a time. Without,
        it must exist, and may be in a place that cannot be written.
    missing
        The remedy if it does not exist, as a sentence without a final stop.

    Raises
    ------
    InputError
        If it does not exist, is another kind of file, was created by a newer genrescope, cannot be
        opened or is locked.
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
            with self._access():
                if write or self._may_be_written():
                    self._connection = _connect(path)
                else:
                    self._connection = self._connect_read_only()
                self._prepare()
            self._identity = self._identify()
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
        """Commit and close it."""
        try:
            with self._access():
                self._connection.commit()
        finally:
            self._connection.close()
            self._temporary.close()
            self._file_lock.release()

    def check_place(self) -> None:
        """Check that others would find in the path what is written: SQLite does not notice.

        Raises
        ------
        InputError
            If the file has been removed, moved or replaced since it was opened.
        """
        if self._identity is None or self._identify() != self._identity:
            remedy = f"Put it back, or give another file with {self._kind.option}"
            raise InputError(self.path, "it was removed or replaced while it was in use", remedy)

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

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
            cause = f"it is {what}, not a {self._kind.name}"
            raise InputError(self.path, cause, f"Give a file with {self._kind.option}")

    def _may_be_written(self) -> bool:
        # SQLite writes files beside a database even to read it, and an old version is migrated.
        return os.access(self.path, os.W_OK) and os.access(self.path.resolve().parent, os.W_OK)

    def _connect_read_only(self) -> sqlite3.Connection:
        # In place, if it has no pending log and needs no migration; else a temporary copy.
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
            raise InputError(self.path, "a newer genrescope created it", "Update genrescope")
        else:
            for number, migration in enumerate(kind.migrations[version - 1 :], start=version + 1):
                self._connection.executescript(
                    f"BEGIN; {migration}; PRAGMA user_version = {number}; COMMIT;"
                )
        run(f"PRAGMA synchronous = {kind.synchronous}")
        run("PRAGMA fullfsync = 1")  # macOS: past the disk's own cache

    @contextmanager
    def _access(self) -> Iterator[None]:
        # One thread at a time; SQLite's errors become errors that name the file and a remedy.
        with self._mutex:
            try:
                yield
            except sqlite3.Error as error:
                raise InputError(self.path, *self._format_error(str(error))) from error
            except UnicodeDecodeError as error:  # in SQLite's message about a damaged file
                raise InputError(self.path, *self._format_error(_DAMAGED)) from error

    def _pages(
        self, query: str, values: tuple[Any, ...], first: int = 0, *, descending: bool = False
    ) -> Iterator[list[Any]]:
        # Some rows at a time, as others may write in between. The query selects the row's number
        # first, orders by it and has the last one as its first parameter. In a damaged file the
        # order may lead back to rows that were read before, endlessly.
        last = first
        while True:
            with self._access():
                page = self._connection.execute(query, (last, *values)).fetchall()
            if not page:
                return
            numbers = [last, *(row[0] for row in page)]
            with self._validated():
                if numbers != sorted(set(numbers), reverse=descending):
                    raise ValueError("rows are out of order")
            yield page
            last = numbers[-1]

    @contextmanager
    def _validated(self) -> Iterator[None]:
        # Rows with values that genrescope never writes are reported as damage.
        try:
            yield
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise InputError(self.path, *self._format_error(_DAMAGED)) from error

    def _format_error(self, message: str) -> tuple[str, str]:
        # Cause and remedy, for SQLite's message.
        option = self._kind.option
        # SQLite reports an I/O error if there is no room for the files that it keeps beside it.
        is_full = "I/O" in message and shutil.disk_usage(self.path.parent).free < _MIN_FREE
        if "full" in message or is_full:
            remedy = "Make room and run it again: what was done until now is kept"
            return "there is no room left on its disk", remedy
        if "not a database" in message:
            return f"not a genrescope {self._kind.name}", f"Give another file with {option}"
        if _DAMAGED in message:
            return "it is damaged", f"Restore it from a copy, or give another file with {option}"
        if "locked" in message:
            return "another program has locked it", f"Close that, or give another with {option}"
        remedy = f"Check that you may write to its folder, or give another file with {option}"
        return f"it cannot be used ({message})", remedy


def _connect(path: Path, how: str = "") -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}{how}" if how else path
    return sqlite3.connect(place, uri=bool(how), check_same_thread=False, timeout=30)


def stored(path: Path | str) -> str | bytes:
    """Return a path as it is stored in a column: text, or bytes if it is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


def text(value: Any) -> str:
    """Return a value that must be text; TypeError if it is not."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Parse a JSON list of texts; TypeError or ValueError if it is not one."""
    found = json.loads(value)
    if not isinstance(found, list):
        raise TypeError(f"{value!r} is not a list")
    return tuple(map(text, found))


def to_integer(mtime_ns: int) -> int:
    """Wrap a time in ns into SQLite's signed 64 bits: times after the year 2262 are negative."""
    return (mtime_ns + 2**63) % 2**64 - 2**63


def from_integer(value: int) -> int:
    """Undo `to_integer`: negative times before the year 1824 are times after 2262."""
    return value if value >= -(2**62) else value + 2**64
