"""The catalogue: what is known of every audio file of a library, in one SQLite file.

A row is a file: where it lies, its size and time, a fingerprint of its audio, and what a model made
of it. Rows are written as results come and are safe from a kill; of a file that is gone the row
stays, so that a renamed file, or a drive that was not there, need not be heard again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from genrescope.classifier import Classifier, Prediction
from genrescope.database import Database, DatabaseKind, from_integer, text, texts, to_integer
from genrescope.errors import GenrescopeError, InputError

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
    UNIQUE (folder, name)
);
CREATE INDEX tracks_by_fingerprint ON tracks (fingerprint, gone) WHERE fingerprint IS NOT NULL;
"""
# Paths are TEXT, or the bytes of those that are no UTF-8. A row is stale when its file has changed
# since. Times are as of `to_integer`; warnings are a list, as JSON.

_KIND = DatabaseKind(
    name="catalogue",
    option="--db",
    busy="is writing to this catalogue",
    application=0x67656E72,  # "genr"
    version=2,
    schema=_SCHEMA,
    synchronous="NORMAL",
    migrations=("ALTER TABLE tracks ADD COLUMN warnings TEXT",),
)

_COLUMNS = (
    "tracks.id, folders.path, tracks.name, size, mtime_ns, fingerprint, model, genre, confidence, "
    "probabilities, tracks.tags, warnings, error"
)


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A file as it lies in its folder: name, size in bytes, time of its last change in ns."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that must be heard.

    Attributes
    ----------
    row
        Its number in the catalogue.
    path
        Where it lies.
    fingerprint
        Of its audio when it was last heard by the same model; None if it was not, or failed.
    """

    row: int
    path: Path
    fingerprint: bytes | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue knows of a file.

    Attributes
    ----------
    path
        Absolute.
    size, mtime_ns
        In bytes and ns, as the file was when it was heard.
    fingerprint
        16 bytes that tell its audio from other audio; None if it could not be had.
    model
        Key of the model that heard it.
    prediction
        What came of it; probabilities and tags are kept to 3 digits.
    error
        Why nothing came of it.
    """

    path: Path
    size: int
    mtime_ns: int
    fingerprint: bytes | None
    model: str
    prediction: Prediction | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """How many files of a folder are new, changed and gone."""

    new: int = 0
    changed: int = 0
    gone: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.new + other.new, self.changed + other.changed, self.gone + other.gone)


@dataclass(frozen=True, slots=True)
class _Model:
    number: int
    key: str
    genres: tuple[str, ...]
    tags: tuple[str, ...]
    unsure_below: float


def default_path() -> Path:
    """Give the place of the user's own catalogue."""
    return platformdirs.user_data_path("genrescope") / "library.db"


class Catalogue(Database):
    """An open catalogue. Its methods may be called by several threads.

    Parameters
    ----------
    path
        Of the file.
    write
        Whether it is made if need be, and locked, so that one process writes at a time. Without, it
        must be there.

    Raises
    ------
    InputError
        If it is not there, is something else, was made by a newer genrescope, cannot be opened or
        is locked.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        remedy = "Make it with `genrescope scan LIBRARY`, or say where it is with --db"
        super().__init__(path, _KIND, write=write, missing=remedy)
        self._models: dict[int, _Model] = {}
        self._committed = time.monotonic()

    def commit(self, *, now: bool = True) -> None:
        """Keep what has been written; with ``now`` false, at most once a second."""
        if now or time.monotonic() - self._committed > _COMMIT_S:
            with self._told():
                self._connection.commit()
            self._committed = time.monotonic()

    def model(self, classifier: Classifier) -> int:
        """Give the number of a model, under which its results are kept."""
        with self._told():
            self._connection.execute(
                "INSERT OR IGNORE INTO models (key, name, genres, unsure_below) "
                "VALUES (?, ?, ?, ?)",
                (
                    classifier.key,
                    classifier.folder.name,
                    json.dumps(classifier.genres, ensure_ascii=False),
                    classifier.config.unsure_below,
                ),
            )
            found = self._connection.execute(
                "SELECT id FROM models WHERE key = ?", (classifier.key,)
            )
            return int(found.fetchone()[0])

    # The walk: what lies in the folders.

    def begin_walk(self) -> int:
        """Give a number for a walk through a library."""
        with self._told():
            newest = self._connection.execute(
                "SELECT coalesce(max(walk), 0) FROM folders"
            ).fetchone()
        with self._decoded():
            return int(newest[0]) + 1

    def see(self, folder: str, entries: Iterable[CatalogueEntry], walk: int) -> Changes:
        """Note what lies in one folder; files that are new or changed then wait to be heard.

        Parameters
        ----------
        folder
            Absolute path.
        entries
            Its audio files, all of them.
        walk
            Number of the walk.
        """
        with self._told():
            number = self._folder(folder, walk)
            known = {
                name: (size, mtime_ns, gone)
                for name, size, mtime_ns, gone in self._connection.execute(
                    "SELECT name, size, mtime_ns, gone FROM tracks WHERE folder = ?", (number,)
                )
            }
            new, changed = [], []
            back = []
            for entry in entries:
                name = _stored(entry.name)
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
        """Note that a folder could not be looked into: what lies in it is not taken for gone."""
        with self._told():
            where, values = _under(folder)
            self._connection.execute(f"UPDATE folders SET walk = ? WHERE {where}", (walk, *values))

    def end_walk(self, library: str, walk: int) -> int:
        """Take for gone what lay in folders that the walk did not come to; give how many."""
        with self._told():
            where, values = _under(library)
            done = self._connection.execute(
                "UPDATE tracks SET gone = 1 WHERE gone = 0 AND folder IN "
                f"(SELECT id FROM folders WHERE {where} AND walk != ?)",
                (*values, walk),
            )
            return done.rowcount

    # The hearing.

    def retry(self, library: str) -> None:
        """Let what failed wait again."""
        with self._told():
            where, values = _under(library)
            self._connection.execute(
                "UPDATE tracks SET stale = 1 WHERE error IS NOT NULL AND folder IN "
                f"(SELECT id FROM folders WHERE {where})",
                values,
            )

    def count_waiting(self, library: str, model: int) -> int:
        """Count the files that a model has not heard as they are now."""
        where, values = _under(library)
        with self._told():
            found = self._connection.execute(
                "SELECT count(*) FROM tracks JOIN folders ON folders.id = tracks.folder "
                f"WHERE {where} AND {_WAITS}",
                (*values, model),
            )
            return int(found.fetchone()[0])

    def waiting(self, library: str, model: int) -> Iterator[Waiting]:
        """Give the files that wait for a model, in the order they were found."""
        where, values = _under(library)
        last = 0
        while True:
            with self._told():
                page = self._connection.execute(
                    "SELECT tracks.id, folders.path, name, "
                    "CASE WHEN model = ? AND error IS NULL THEN fingerprint END "
                    "FROM tracks JOIN folders ON folders.id = tracks.folder "
                    f"WHERE tracks.id > ? AND {where} AND {_WAITS} "
                    f"ORDER BY tracks.id LIMIT {_PAGE}",
                    (model, last, *values, model),
                ).fetchall()
            if not page:
                return
            with self._decoded():
                found = [
                    Waiting(row, _path(folder, name), _bytes(fingerprint))
                    for row, folder, name, fingerprint in page
                ]
            yield from found
            last = page[-1][0]

    def keep(self, row: int, stat: os.stat_result, fingerprint: bytes | None) -> None:
        """Note that a file's audio is what it was: its tags have changed, or only its time."""
        with self._told():
            self._connection.execute(
                "UPDATE tracks SET size = ?, mtime_ns = ?, fingerprint = ?, stale = 0 WHERE id = ?",
                (stat.st_size, to_integer(stat.st_mtime_ns), fingerprint, row),
            )

    def copy_twin(self, row: int, stat: os.stat_result, fingerprint: bytes, model: int) -> bool:
        """Give a file the result of another with the same audio, if there is one.

        If that other file is gone, this is the same one under a new name, and the old row goes.
        """
        with self._told():
            # One that is gone comes first. A sort would read thousands of copies each time. It may
            # be stale: its result still is that of the audio its fingerprint tells.
            select = (
                "SELECT id, gone FROM tracks WHERE fingerprint = ? AND gone = ? AND model = ? "
                "AND error IS NULL AND id != ? LIMIT 1"
            )
            twin = None
            for gone in (1, 0):
                twin = (
                    twin
                    or self._connection.execute(select, (fingerprint, gone, model, row)).fetchone()
                )
            if twin is None:
                return False
            self._connection.execute(
                "UPDATE tracks SET (model, genre, confidence, probabilities, tags, warnings) = "
                "(SELECT model, genre, confidence, probabilities, tags, warnings FROM tracks "
                "WHERE id = ?), error = NULL WHERE id = ?",
                (twin[0], row),
            )
            self.keep(row, stat, fingerprint)
            if twin[1]:
                self._connection.execute("DELETE FROM tracks WHERE id = ?", (twin[0],))
            return True

    def save(
        self,
        row: int,
        stat: os.stat_result | None,
        fingerprint: bytes | None,
        model: int,
        result: Prediction | GenrescopeError,
    ) -> None:
        """Write what a model made of a file.

        Parameters
        ----------
        row
            Of a ``Waiting``.
        stat
            Of the file, taken before it was heard; None if it could not be had.
        fingerprint
            Of its audio, if it could be had.
        model
            Number of the model.
        result
            A prediction, or what went wrong.
        """
        answer: tuple[Any, ...]
        if isinstance(result, Prediction):
            known = self._model(model)
            shares = _packed(known.genres, result.probabilities)
            tags = _packed(self._tag_names(known, result.tags), result.tags)
            best = known.genres.index(result.genre)
            warnings = json.dumps(result.warnings, ensure_ascii=False) if result.warnings else None
            answer = (best, result.confidence, shares, tags, warnings, None)
        else:
            cause = f"{result.cause}. {result.remedy}." if isinstance(result, InputError) else ""
            answer = (None, None, None, None, None, cause or str(result))
        with self._told():
            self._connection.execute(
                "UPDATE tracks SET model = ?, fingerprint = ?, genre = ?, confidence = ?, "
                "probabilities = ?, tags = ?, warnings = ?, error = ?, stale = 0 WHERE id = ?",
                (model, fingerprint, *answer, row),
            )
            if stat is not None:
                self._connection.execute(
                    "UPDATE tracks SET size = ?, mtime_ns = ? WHERE id = ?",
                    (stat.st_size, to_integer(stat.st_mtime_ns), row),
                )

    # What is known.

    def tracks(self, library: str | None = None) -> Iterator[Known]:
        """Give what is known of every file that has been heard and is there, as they were found.

        Parameters
        ----------
        library
            Absolute path of a folder; None for every library.
        """
        where, values = _under(library) if library is not None else ("1", ())
        last = 0
        while True:
            with self._told():
                page = self._connection.execute(
                    f"SELECT {_COLUMNS} FROM tracks JOIN folders ON folders.id = tracks.folder "
                    f"WHERE tracks.id > ? AND {where} AND gone = 0 AND stale = 0 "
                    f"ORDER BY tracks.id LIMIT {_PAGE}",
                    (last, *values),
                ).fetchall()
            if not page:
                return
            with self._decoded():
                known = [self._known(row) for row in page]
            yield from known
            last = page[-1][0]

    def counts(self, library: str | None = None) -> dict[str, int]:
        """Count files: ``heard``, ``failed``, ``waiting`` and ``gone``."""
        where, values = _under(library) if library is not None else ("1", ())
        with self._told():
            row = self._connection.execute(
                "SELECT total(gone = 0 AND stale = 0 AND error IS NULL), "
                "total(gone = 0 AND stale = 0 AND error IS NOT NULL), "
                "total(gone = 0 AND stale = 1), total(gone = 1) "
                f"FROM tracks JOIN folders ON folders.id = tracks.folder WHERE {where}",
                values,
            ).fetchone()
        return {
            name: int(count)
            for name, count in zip(("heard", "failed", "waiting", "gone"), row, strict=True)
        }

    def _known(self, row: tuple[Any, ...]) -> Known:
        _, folder, name, size, mtime_ns, fingerprint, model, genre, sure, *packed, said, error = row
        known = self._model(model)
        prediction = None
        if genre is not None:
            if not 0 <= sure <= 1:
                raise ValueError(f"{sure} is no probability")
            shares, tags = map(_unpacked, (known.genres, known.tags), packed)
            unsure = sure < known.unsure_below
            warnings = texts(said) if said is not None else ()
            prediction = Prediction(known.genres[genre], sure, unsure, shares, tags, warnings)
        if not (isinstance(size, int) and isinstance(mtime_ns, int)):
            raise TypeError(f"{size!r} and {mtime_ns!r} are no size and time")
        told = None if error is None else text(error)
        path, mtime_ns = _path(folder, name), from_integer(mtime_ns)
        return Known(path, size, mtime_ns, _bytes(fingerprint), known.key, prediction, told)

    def _model(self, number: int) -> _Model:
        if number not in self._models:
            with self._told():
                key, genres, tags, unsure_below = (
                    self._connection.execute(
                        "SELECT key, genres, tags, unsure_below FROM models WHERE id = ?", (number,)
                    ).fetchone()
                    or (None,) * 4
                )
            names = texts(genres), texts(tags or "[]")
            self._models[number] = _Model(number, text(key), *names, float(unsure_below or 0))
        return self._models[number]

    def _tag_names(self, model: _Model, tags: Mapping[str, float]) -> tuple[str, ...]:
        # The names are learned from the first result; several threads may come with one at once.
        with self._told():
            known = self._model(model.number)
            if tags and not known.tags:
                names = json.dumps(sorted(tags), ensure_ascii=False)
                update = "UPDATE models SET tags = ? WHERE id = ?"
                self._connection.execute(update, (names, model.number))
                del self._models[model.number]
            return self._model(model.number).tags

    def _folder(self, folder: str, walk: int) -> int:
        found = self._connection.execute(
            "INSERT INTO folders (path, walk) VALUES (?, ?) "
            "ON CONFLICT (path) DO UPDATE SET walk = excluded.walk RETURNING id",
            (_stored(folder), walk),
        )
        return int(found.fetchone()[0])


_WAITS = "gone = 0 AND (stale = 1 OR model IS NOT ?)"


def _stored(text: str) -> str | bytes:
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _path(folder: str | bytes, name: str | bytes) -> Path:
    path = Path(os.fsdecode(folder), os.fsdecode(name))
    if "\0" in str(path):
        raise ValueError(f"{path} is no file's name")
    return path


def _bytes(value: Any) -> bytes | None:
    if not isinstance(value, bytes | None):
        raise TypeError(f"{value!r} are no bytes")
    return value


def _under(folder: str) -> tuple[str, tuple[Any, ...]]:
    # A condition on folders.path: this one or any below.
    inside = folder if folder.endswith(os.sep) else folder + os.sep
    beyond = inside[:-1] + chr(ord(os.sep) + 1)
    condition = "(folders.path = ? OR (folders.path >= ? AND folders.path < ?)"
    values: list[Any] = [_stored(text) for text in (folder, inside, beyond)]
    # Those that are no UTF-8 are kept as bytes, which SQLite never takes for equal to text.
    condition += " OR (folders.path >= ? AND folders.path < ?))"
    values += [os.fsencode(inside), os.fsencode(beyond)]
    return condition, tuple(values)


def _packed(names: tuple[str, ...], shares: Mapping[str, float]) -> bytes:
    return np.array([shares.get(name, 0.0) for name in names], dtype="<f2").tobytes()


def _unpacked(names: tuple[str, ...], packed: bytes | None) -> dict[str, float]:
    shares = np.frombuffer(packed or b"", dtype="<f2").astype(float)
    if not np.isfinite(shares).all():
        raise ValueError("its shares are not all finite numbers")
    order = np.argsort(-shares, kind="stable")
    return {names[i]: float(shares[i]) for i in order}
