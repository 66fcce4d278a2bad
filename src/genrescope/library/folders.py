"""The folders and files of a catalogue: what a walk saw, which libraries there are, forgetting.

Paths are absolute, with links resolved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrescope.database import Database, DatabaseKind, from_integer, stored, to_integer
from genrescope.library.columns import path_of, under

_PAGE = 256  # rows read at once
_COMMIT_S = 1.0

_SCHEMA = """
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    genres TEXT NOT NULL,
    tags TEXT,
    unsure_below REAL NOT NULL
);
CREATE TABLE folders (
    id INTEGER PRIMARY KEY,
    path NOT NULL UNIQUE,
    walk INTEGER NOT NULL
);
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL REFERENCES folders,
    name NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    gone INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 1,
    fingerprint BLOB,
    model INTEGER REFERENCES models,
    genre INTEGER,
    confidence REAL,
    probabilities BLOB,
    tags BLOB,
    error TEXT,
    warnings TEXT,
    embedding BLOB,
    other INTEGER NOT NULL DEFAULT 0,
    UNIQUE (folder, name)
);
CREATE INDEX tracks_by_fingerprint ON tracks (fingerprint, gone) WHERE fingerprint IS NOT NULL;
"""
_LIBRARIES = "CREATE TABLE libraries (path NOT NULL PRIMARY KEY, scanned REAL NOT NULL)"
# Paths are TEXT, or the bytes of those that are not UTF-8. A row is stale if its file has changed
# since. Times are as of `to_integer`; warnings are a JSON list; probabilities, tags and embeddings
# are little-endian float16. ``genre`` is the most likely one, also where ``other`` says that the
# file is none of the model's. Rows of version 2 and before have no embedding. No library is inside
# another; those that were last scanned with version 4 and before have no row.

KIND = DatabaseKind(
    name="catalogue",
    option="--db",
    busy="is writing to this catalogue",
    application=0x67656E72,  # "genr"
    version=5,
    schema=f"{_SCHEMA}{_LIBRARIES};",
    synchronous="NORMAL",
    migrations=(
        "ALTER TABLE tracks ADD COLUMN warnings TEXT",
        "ALTER TABLE tracks ADD COLUMN embedding BLOB",
        "ALTER TABLE tracks ADD COLUMN other INTEGER NOT NULL DEFAULT 0",
        _LIBRARIES,
    ),
)

FROM = "FROM tracks JOIN folders ON folders.id = tracks.folder"
"""The rows of files with those of their folders."""
IS_CURRENT = "gone = 0 AND stale = 0"
"""The condition for a file that is there, and is as it was analysed."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A file as it lies in its folder: name, size in bytes, time of its last change in ns."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Changes:
    """How many files of a folder are new, changed and gone."""

    new: int = 0
    changed: int = 0
    gone: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.new + other.new, self.changed + other.changed, self.gone + other.gone)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file in the catalogue, whether it has been analysed or not.

    Attributes
    ----------
    row
        Its number in the catalogue.
    path
        Absolute.
    size, mtime_ns
        In bytes and ns, at the last scan.
    gone
        Whether the last scan did not find it.
    """

    row: int
    path: Path
    size: int
    mtime_ns: int
    gone: bool


@dataclass(frozen=True, slots=True)
class ScannedLibrary:
    """A folder that has been scanned.

    Attributes
    ----------
    path
        Absolute.
    scanned
        When it was last compared with the disk, in s since 1970; None if that is not known, as an
        older genrescope did it.
    counts
        Of files, as of ``Folders.counts``.
    """

    path: Path
    scanned: float | None
    counts: dict[str, int]


class Folders(Database):
    """An open catalogue: its folders and files, without what the analysis found.

    Parameters
    ----------
    path
        Of the file.
    write, missing
        As of ``Database``.
    """

    def __init__(self, path: Path, *, write: bool, missing: str) -> None:
        super().__init__(path, KIND, write=write, missing=missing)
        self._committed = time.monotonic()

    def commit(self, *, now: bool = True) -> None:
        """Commit what has been written; with ``now`` false, at most once a second."""
        if now or time.monotonic() - self._committed > _COMMIT_S:
            with self._access():
                self._connection.commit()
            self._committed = time.monotonic()

    # The walk through the folders.

    def begin_walk(self) -> int:
        """Give a number for a walk through a library."""
        with self._access():
            newest = self._connection.execute(
                "SELECT coalesce(max(walk), 0) FROM folders"
            ).fetchone()
        with self._validated():
            return int(newest[0]) + 1

    def see(self, folder: str, entries: Iterable[CatalogueEntry], walk: int) -> Changes:
        """Register one folder's files; those that are new or changed then wait for analysis.

        Parameters
        ----------
        folder
            Absolute path.
        entries
            All of its audio files.
        walk
            Number of the walk.
        """
        with self._access():
            number = self._visit(folder, walk)
            known = {
                name: (size, mtime_ns, gone)
                for name, size, mtime_ns, gone in self._connection.execute(
                    "SELECT name, size, mtime_ns, gone FROM tracks WHERE folder = ?", (number,)
                )
            }
            new, changed = [], []
            back = []
            for entry in entries:
                name = stored(entry.name)
                before = known.pop(name, None)
                if before is None:
                    new.append((number, name, entry.size, to_integer(entry.mtime_ns)))
                elif before[:2] != (entry.size, to_integer(entry.mtime_ns)):
                    changed.append((entry.size, to_integer(entry.mtime_ns), number, name))
                elif before[2]:
                    back.append((number, name))
            lost = [(number, name) for name, (_, _, gone) in known.items() if not gone]
            run = self._connection.executemany
            run("INSERT INTO tracks (folder, name, size, mtime_ns) VALUES (?, ?, ?, ?)", new)
            run(
                "UPDATE tracks SET size = ?, mtime_ns = ?, stale = 1, gone = 0 "
                "WHERE folder = ? AND name = ?",
                changed,
            )
            run("UPDATE tracks SET gone = 0 WHERE folder = ? AND name = ?", back)
            run("UPDATE tracks SET gone = 1 WHERE folder = ? AND name = ?", lost)
            return Changes(len(new), len(changed), len(lost))

    def spare(self, folder: str, walk: int) -> None:
        """Mark an unreadable folder as visited: its files are not taken for gone."""
        with self._access():
            where, values = under(folder)
            self._connection.execute(f"UPDATE folders SET walk = ? WHERE {where}", (walk, *values))

    def end_walk(self, library: str, walk: int) -> int:
        """Mark files as gone that lie in folders which the walk did not visit; give how many."""
        with self._access():
            where, values = under(library)
            done = self._connection.execute(
                "UPDATE tracks SET gone = 1 WHERE gone = 0 AND folder IN "
                f"(SELECT id FROM folders WHERE {where} AND walk != ?)",
                (*values, walk),
            )
            return done.rowcount

    def register(self, library: str) -> None:
        """Record that a library has been compared with the disk now.

        A part of a registered library is not registered by itself.
        """
        inside, values = under(library, column="path")
        outer = [stored(folder) for folder in Path(library).parents]
        marks = ", ".join("?" * len(outer))
        with self._access():
            run = self._connection.execute
            if run(f"SELECT 1 FROM libraries WHERE path IN ({marks})", outer).fetchone() is None:
                run(f"DELETE FROM libraries WHERE {inside}", values)
                run("INSERT INTO libraries VALUES (?, ?)", (stored(library), time.time()))

    # What there is.

    def libraries(self) -> list[ScannedLibrary]:
        """Give the folders that have been scanned, by path; none is inside another."""
        with self._access():
            rows = self._connection.execute("SELECT path, scanned FROM libraries").fetchall()
        with self._validated():
            roots: dict[Path, float | None] = {_folder(path): _time(at) for path, at in rows}
        roots |= dict.fromkeys(self._unregistered(roots.keys()))
        found: list[ScannedLibrary] = []
        for path in sorted(roots):
            if not (found and path.is_relative_to(found[-1].path)):
                found.append(ScannedLibrary(path, roots[path], self.counts(str(path))))
        return found

    def _unregistered(self, roots: Set[Path]) -> list[Path]:
        # All that one walk visited is of one library.
        walks: dict[int, list[str]] = {}
        with self._access():
            rows = self._connection.execute(
                "SELECT path, walk FROM folders WHERE id IN (SELECT folder FROM tracks)"
            ).fetchall()
        with self._validated():
            for folder, walk in rows:
                path = _folder(folder)
                if roots.isdisjoint((path, *path.parents)):
                    walks.setdefault(walk, []).append(str(path))
            return [Path(os.path.commonpath(paths)) for paths in walks.values()]

    def folders(self) -> list[Path]:
        """Give every folder that a walk has visited."""
        with self._access():
            rows = self._connection.execute("SELECT path FROM folders").fetchall()
        with self._validated():
            return [_folder(path) for (path,) in rows]

    def files(self, folder: str) -> Iterator[KnownFile]:
        """Give every file in a folder and below it, those included that are gone."""
        where, values = under(folder)
        for page in self._rows("folders.path, tracks.name, size, mtime_ns, gone", where, values):
            with self._validated():
                known = [
                    KnownFile(row, path_of(parent, name), size, from_integer(mtime_ns), bool(gone))
                    for row, parent, name, size, mtime_ns, gone in page
                ]
            yield from known

    def counts(self, library: str | None = None) -> dict[str, int]:
        """Count files: ``analysed``, ``failed``, ``waiting`` and ``gone``."""
        conditions = {
            "analysed": f"{IS_CURRENT} AND error IS NULL",
            "failed": f"{IS_CURRENT} AND error IS NOT NULL",
            "waiting": "gone = 0 AND stale = 1",
            "gone": "gone = 1",
        }
        totals = ", ".join(f"total({condition})" for condition in conditions.values())
        where, values = under(library)
        with self._access():
            row = self._connection.execute(
                f"SELECT {totals} {FROM} WHERE {where}", values
            ).fetchone()
        return {name: int(count) for name, count in zip(conditions, row, strict=True)}

    def _count(
        self, condition: str, values: tuple[Any, ...], library: str, *, recursive: bool = True
    ) -> int:
        where, inside = under(library, recursive=recursive)
        with self._access():
            found = self._connection.execute(
                f"SELECT count(*) {FROM} WHERE {where} AND {condition}", (*inside, *values)
            )
            return int(found.fetchone()[0])

    def _rows(
        self, columns: str, where: str, values: tuple[Any, ...]
    ) -> Iterator[list[tuple[Any, ...]]]:
        query = (
            f"SELECT tracks.id, {columns} {FROM} WHERE tracks.id > ? AND {where} "
            f"ORDER BY tracks.id LIMIT {_PAGE}"
        )
        return self._pages(query, values)

    # Changes that no walk makes.

    def forget(self, folder: str) -> int:
        """Delete the records of a folder and those below it; give the number of files."""
        where, values = under(folder, column="path")
        with self._access(), self._connection:
            run = self._connection.execute
            inside = f"(SELECT id FROM folders WHERE {where})"
            count = run(f"DELETE FROM tracks WHERE folder IN {inside}", values).rowcount
            for table in ("folders", "libraries"):
                run(f"DELETE FROM {table} WHERE {where}", values)
        return count

    def compact(self) -> None:
        """Return the space of deleted records to the disk."""
        self.commit()
        with self._access():
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def move(self, old: str, new: str, *, missing: Iterable[int], changed: Iterable[int]) -> None:
        """Put a folder's records under another path, all of them or none.

        Parameters
        ----------
        old, new
            Neither is inside the other. No file is recorded in ``new``.
        missing
            Rows of files that are not in ``new``: they are gone.
        changed
            Rows of files that have another size or time there: they wait for the next scan.
        """
        was, before = under(old, column="path")
        now, after = under(new, column="path")
        with self._access(), self._connection:
            run, many = self._connection.execute, self._connection.executemany
            for table in ("folders", "libraries"):
                run(f"DELETE FROM {table} WHERE {now}", after)  # of a walk that found no audio
                paths = run(f"SELECT path FROM {table} WHERE {was}", before).fetchall()
                with self._validated():
                    moved = [
                        (stored(Path(new, _folder(path).relative_to(old))), path)
                        for (path,) in paths
                    ]
                many(f"UPDATE {table} SET path = ? WHERE path = ?", moved)
            inside = f"(SELECT id FROM folders WHERE {now})"
            run(f"UPDATE tracks SET gone = 0 WHERE folder IN {inside}", after)
            many("UPDATE tracks SET gone = 1 WHERE id = ?", ((row,) for row in missing))
            many("UPDATE tracks SET stale = 1 WHERE id = ?", ((row,) for row in changed))

    def _visit(self, folder: str, walk: int) -> int:
        found = self._connection.execute(
            "INSERT INTO folders (path, walk) VALUES (?, ?) "
            "ON CONFLICT (path) DO UPDATE SET walk = excluded.walk RETURNING id",
            (stored(folder), walk),
        )
        return int(found.fetchone()[0])


def _folder(path: Any) -> Path:
    return Path(os.fsdecode(path))


def _time(seconds: Any) -> float:
    if not 0 <= seconds < 2**33:  # until the year 2242
        raise ValueError(f"{seconds!r} is not a time of a scan")
    return float(seconds)
