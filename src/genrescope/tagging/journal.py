"""The journal: which files' genres are changed, and how to undo each change. One SQLite file.

An entry is on the disk before its file is touched. A change goes from ``waiting`` to ``ready`` (the
new file is beside the old one, the undo patch is in the journal), to ``done`` (the new file has
replaced the old one) and perhaps to ``undone``; or it ends as ``skipped`` or ``failed``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from genrescope.database import (
    Database,
    DatabaseKind,
    from_integer,
    stored,
    text,
    texts,
    to_integer,
)
from genrescope.errors import one_line
from genrescope.library.columns import under

_PAGE = 64

_SCHEMA = """
CREATE TABLE plans (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    file TEXT NOT NULL,
    library TEXT NOT NULL,
    preserve_mtime INTEGER NOT NULL,
    begun REAL NOT NULL
);
CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    plan INTEGER NOT NULL REFERENCES plans,
    path TEXT NOT NULL,
    stamp TEXT NOT NULL,
    old TEXT NOT NULL,
    new TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    told TEXT,
    mtime_ns INTEGER,
    patch BLOB,
    UNIQUE (plan, path)
);
CREATE INDEX steps_by_state ON steps (plan, state);
"""

_KIND = DatabaseKind(
    name="journal",
    option="--journal",
    busy="is changing tags, and has this journal open",
    application=0x67656E6A,  # "genj"
    version=1,
    schema=_SCHEMA,
    synchronous="FULL",
)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A plan that has been applied, at least in part.

    Attributes
    ----------
    number
        In the journal; increases with time.
    key
        See ``plan.TagPlan``.
    file
        Of the plan.
    library
        Folder of the library.
    preserve_mtime
        Whether files keep their modification time.
    begun
        When it was first applied, in s since 1970.
    counts
        Number of changes by state.
    """

    number: int
    key: str
    file: Path
    library: Path
    preserve_mtime: bool
    begun: float
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one file.

    Attributes
    ----------
    number
        In the journal.
    path
        Relative to the library.
    stamp
        As of ``plan.stamp``, of the file when the plan was written.
    old, new
        Genres before and after.
    state
        ``waiting``, ``ready``, ``done``, ``undone``, ``skipped`` or ``failed``.
    reason
        Why it was skipped or failed.
    mtime_ns
        Modification time of the old file; None until the change is ready.
    patch
        Restores the old file from the new one; see ``patch.rebuild``.
    """

    number: int
    path: str
    stamp: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    state: str
    reason: str | None
    mtime_ns: int | None
    patch: bytes | None


def _path(value: Any) -> Path:
    path = Path(os.fsdecode(value) if isinstance(value, bytes) else text(value))
    if isinstance(value, bytes) and stored(path) != value:
        raise TypeError(f"{value!r} is not a stored path")
    return path


def default_path() -> Path:
    """Return the path of the user's journal."""
    return platformdirs.user_data_path("genrescope") / "journal.db"


def written_before(journal: Path, library: Path) -> dict[str, tuple[str, ...]]:
    """Return the genres that plans have written, as of `Journal.written`; none without a journal.

    Parameters
    ----------
    journal
        Its file.
    library
        Absolute path.
    """
    if not journal.exists():
        return {}
    with Journal(journal, write=False) as changes:
        return changes.written(library)


class Journal(Database):
    """An open journal, locked: one process changes tags at a time.

    Parameters
    ----------
    path
        Of the file, which is created if ``write``.
    write
        Whether plans will be applied or undone. If not, the file must exist, and may be read-only.

    Raises
    ------
    InputError
        If it is locked, another kind of file, of a newer genrescope, or cannot be written.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        super().__init__(path, _KIND, write=write, missing="Give a file with --journal")

    def register(
        self,
        key: str,
        file: Path,
        library: Path,
        changes: Iterable[tuple[str, str, tuple[str, ...], tuple[str, ...]]],
        *,
        preserve_mtime: bool,
    ) -> int:
        """Record a plan with all its changes, or none of them; resumes a known plan.

        Parameters
        ----------
        key, file, library
            See ``JournalEntry``.
        changes
            Path, stamp, old and new genres of each file to write.
        preserve_mtime
            See ``JournalEntry``.

        Returns
        -------
        number
            Of the plan.
        """
        with self._access(), self._connection:
            known = self._connection.execute(
                "SELECT id FROM plans WHERE key = ?", (key,)
            ).fetchone()
            if known is not None:
                number = int(known[0])
                # Undone, skipped and failed changes are tried again.
                self._connection.execute(
                    "UPDATE steps SET state = 'waiting', told = NULL, patch = NULL "
                    "WHERE plan = ? AND state IN ('undone', 'skipped', 'failed')",
                    (number,),
                )
                self._connection.execute(
                    "UPDATE plans SET preserve_mtime = ? WHERE id = ?", (preserve_mtime, number)
                )
                return number
            cursor = self._connection.execute(
                "INSERT INTO plans (key, file, library, preserve_mtime, begun) "
                "VALUES (?, ?, ?, ?, ?)",
                (key, stored(file), stored(library), preserve_mtime, time.time()),
            )
            number = int(cursor.lastrowid or 0)
            self._connection.executemany(
                "INSERT OR IGNORE INTO steps (plan, path, stamp, old, new) VALUES (?, ?, ?, ?, ?)",
                (
                    (number, stored(path), stamp, json.dumps(old), json.dumps(new))
                    for path, stamp, old, new in changes
                ),
            )
            return number

    def plans(self) -> list[JournalEntry]:
        """Return every plan, the newest first."""
        with self._access():
            rows = self._connection.execute(
                "SELECT id, key, file, library, preserve_mtime, begun FROM plans ORDER BY id DESC"
            ).fetchall()
        with self._validated():
            return [
                JournalEntry(
                    n, text(key), _path(file), _path(library), bool(keep), begun, self._counts(n)
                )
                for n, key, file, library, keep, begun in rows
            ]

    def changes(self, plan: int, *states: str, newest_first: bool = False) -> Iterator[Change]:
        """Yield the changes of a plan that are in one of some states when their page is read."""
        after, order = ("<", "DESC") if newest_first else (">", "ASC")
        marks = ", ".join("?" * len(states))
        query = (
            "SELECT id, path, stamp, old, new, state, told, mtime_ns, patch "
            f"FROM steps WHERE id {after} ? AND plan = ? AND state IN ({marks}) "
            f"ORDER BY id {order} LIMIT {_PAGE}"
        )
        first = 2**62 if newest_first else 0
        for page in self._pages(query, (plan, *states), first, descending=newest_first):
            with self._validated():
                changes = [_change(row) for row in page]
            yield from changes

    def written(self, library: Path) -> dict[str, tuple[str, ...]]:
        """Return the genres that plans have written into files below a folder, by relative path."""
        with self._access():
            rows = self._connection.execute(
                "SELECT plans.library, steps.path, new FROM steps JOIN plans ON plans.id = plan "
                "WHERE state = 'done' ORDER BY steps.id"
            ).fetchall()
        found: dict[str, tuple[str, ...]] = {}
        with self._validated():
            for folder, path, new in rows:
                whole = _path(folder) / _path(path)
                if whole.is_relative_to(library):
                    found[whole.relative_to(library).as_posix()] = texts(new)
        return found

    def ready(self, change: Change, mtime_ns: int, patch: bytes) -> None:
        """Record the undo patch of a file that is about to be replaced.

        Raises
        ------
        InputError
            If it cannot be recorded, or the journal is not in its place any more.
        """
        self.check_place()
        with self._access(), self._connection:
            self._connection.execute(
                "UPDATE steps SET state = 'ready', mtime_ns = ?, patch = ? WHERE id = ?",
                (to_integer(mtime_ns), patch, change.number),
            )

    def end(self, change: Change, state: str, reason: str | None = None) -> None:
        """Record the final state of a change."""
        with self._access(), self._connection:
            self._connection.execute(
                "UPDATE steps SET state = ?, told = ? WHERE id = ?",
                (state, reason and one_line(reason), change.number),
            )

    def restamp(self, change: Change, stamp: str) -> None:
        """Record the stamp of the file that an undone change has restored."""
        with self._access(), self._connection:
            self._connection.execute(
                "UPDATE steps SET stamp = ? WHERE id = ?", (stamp, change.number)
            )

    def cancel(self, plan: int) -> None:
        """Cancel the waiting changes of a plan."""
        with self._access(), self._connection:
            self._connection.execute(
                "UPDATE steps SET state = 'undone', told = 'it was never written' "
                "WHERE plan = ? AND state = 'waiting'",
                (plan,),
            )

    def move(self, old: Path, new: Path) -> int:
        """Put the plans of a library that was moved under its new path; give how many.

        Those of libraries in it are included; those of libraries that contain it are not.
        """
        where, values = under(str(old), column="library")
        with self._access(), self._connection:
            rows = self._connection.execute(
                f"SELECT id, library FROM plans WHERE {where}", values
            ).fetchall()
            with self._validated():
                moved = [(stored(new / _path(path).relative_to(old)), n) for n, path in rows]
            self._connection.executemany("UPDATE plans SET library = ? WHERE id = ?", moved)
        return len(moved)

    def _counts(self, plan: int) -> dict[str, int]:
        with self._access():
            found = self._connection.execute(
                "SELECT state, count(*) FROM steps WHERE plan = ? GROUP BY state ORDER BY state",
                (plan,),
            ).fetchall()
        return {text(state): count for state, count in found}


def _change(row: Sequence[Any]) -> Change:
    number, path, stamp, old, new, state, reason, mtime_ns, patch = row
    if not (isinstance(mtime_ns, int | None) and isinstance(patch, bytes | None)):
        raise TypeError
    return Change(
        number,
        str(_path(path)),
        text(stamp),
        texts(old),
        texts(new),
        text(state),
        None if reason is None else text(reason),
        None if mtime_ns is None else from_integer(mtime_ns),
        patch,
    )
