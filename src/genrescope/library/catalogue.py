"""The catalogue: the analysis of every audio file of a library, in one SQLite file.

A row is a file: its path, size and time, a fingerprint of its audio, and a model's prediction and
embedding. Rows are written as results come and survive a kill. The row of a file that is gone is
kept, so that a renamed file, or one on a drive that was not connected, is not analysed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from genrescope.classifier import Classifier, GenreLabel, Prediction
from genrescope.database import from_integer, stored, text, texts, to_integer
from genrescope.errors import GenrescopeError, InputError
from genrescope.library.columns import bytes_of, floats, join, packed, path_of, under, unpacked
from genrescope.library.folders import (
    FROM,
    IS_CURRENT,
    CatalogueEntry,
    Changes,
    Folders,
    KnownFile,
    ScannedLibrary,
)

__all__ = [
    "Catalogue",
    "CatalogueEntry",
    "CatalogueModel",
    "CatalogueTrack",
    "Changes",
    "KnownFile",
    "ScannedLibrary",
    "Summary",
    "WaitingFile",
    "default_path",
]

_KNOWN = (
    "folders.path, tracks.name, size, mtime_ns, fingerprint, model, genre, confidence, "
    "probabilities, tracks.tags, warnings, error, embedding, other"
)
_EMBEDDED = "folders.path, tracks.name, model, genre, confidence, other, embedding"
_IS_EMBEDDED = (
    f"{IS_CURRENT} AND embedding IS NOT NULL AND model = (SELECT id FROM models WHERE key = ?)"
)
_RESULT = "model, genre, confidence, probabilities, tags, warnings, error, embedding, other"
# A row of an old catalogue, without an embedding, is analysed again.
_LACKS_EMBEDDING = "error IS NULL AND embedding IS NULL"
_WAITS = f"gone = 0 AND (stale = 1 OR model IS NOT ? OR ({_LACKS_EMBEDDING}))"


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that waits to be analysed.

    Attributes
    ----------
    row
        Its number in the catalogue.
    path
        Absolute.
    fingerprint
        Of its audio at the last analysis by the same model; None if there was none or it failed.
    """

    row: int
    path: Path
    fingerprint: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class CatalogueTrack:
    """The catalogue's record of a file.

    Attributes
    ----------
    path
        Absolute.
    size, mtime_ns
        In bytes and ns, at the time of the analysis.
    fingerprint
        16 bytes that identify its audio; None if it could not be computed.
    model
        Key of the model that analysed it.
    prediction
        Probabilities and tags are rounded to float16.
    error
        Why there is no prediction.
    embedding
        float16 (columns,), of ``Classifier.analyse``; None if there is none.
    """

    path: Path
    size: int
    mtime_ns: int
    fingerprint: bytes | None
    model: str
    prediction: Prediction | None
    error: str | None
    embedding: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class Summary(GenreLabel):
    """The absolute path of a track, its most probable genre and that genre's probability.

    ``other`` says whether it is none of the model's genres.
    """

    path: str
    best: str
    confidence: float
    other: bool = False


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model whose results the catalogue has: its key, name and threshold, and of how many files.

    ``unsure_below`` is as of ``genrescope.classifier.folder.ClassifierConfig``.
    """

    key: str
    name: str
    unsure_below: float
    files: int


@dataclass(frozen=True, slots=True)
class _Model:
    number: int
    key: str
    genres: tuple[str, ...]
    tags: tuple[str, ...]
    unsure_below: float


def default_path() -> Path:
    """Give the path of the user's default catalogue."""
    return platformdirs.user_data_path("genrescope") / "library.db"


class Catalogue(Folders):
    """An open catalogue. Its methods may be called by several threads.

    Parameters
    ----------
    path
        Of the file.
    write
        Whether to create it if need be and lock it, so that one process writes at a time. Without,
        it must exist.

    Raises
    ------
    InputError
        If it does not exist, is another kind of file, was created by a newer genrescope, cannot be
        opened or is locked.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        remedy = "Make it with `genrescope scan LIBRARY`, or say where it is with --db"
        super().__init__(path, write=write, missing=remedy)
        self._models: dict[int, _Model] = {}

    def model(self, classifier: Classifier) -> int:
        """Register a model if need be; give its number in the catalogue."""
        with self._access():
            self._connection.execute(
                "INSERT OR IGNORE INTO models (key, name, genres, unsure_below) "
                "VALUES (?, ?, ?, ?)",
                (
                    classifier.key,
                    classifier.title,
                    json.dumps(classifier.genres, ensure_ascii=False),
                    classifier.config.unsure_below,
                ),
            )
            found = self._connection.execute(
                "SELECT id FROM models WHERE key = ?", (classifier.key,)
            )
            return int(found.fetchone()[0])

    # The analysis.

    def retry(self, library: str) -> None:
        """Let files that failed wait for analysis again."""
        with self._access():
            where, values = under(library)
            self._connection.execute(
                "UPDATE tracks SET stale = 1 WHERE error IS NOT NULL AND folder IN "
                f"(SELECT id FROM folders WHERE {where})",
                values,
            )

    def count_waiting(self, library: str, model: int, *, recursive: bool = True) -> int:
        """Count the files that wait for a model."""
        return self._count(_WAITS, (model,), library, recursive=recursive)

    def count_old(self, library: str, model: int) -> int:
        """Count the files that a model has analysed without keeping the embedding."""
        current = f"{IS_CURRENT} AND model = ? AND {_LACKS_EMBEDDING}"
        return self._count(current, (model,), library)

    def waiting(self, library: str, model: int, *, recursive: bool = True) -> Iterator[WaitingFile]:
        """Give the files that wait for a model, in the order they were found."""
        columns = "folders.path, name, model, error, fingerprint, embedding IS NULL"
        inside, values = under(library, recursive=recursive)
        for page in self._rows(columns, f"{inside} AND {_WAITS}", (*values, model)):
            with self._validated():
                found = [
                    WaitingFile(
                        row,
                        path_of(folder, name),
                        bytes_of(mark) if known == model and error is None and not bare else None,
                    )
                    for row, folder, name, known, error, mark, bare in page
                ]
            yield from found

    def keep(self, row: int, stat: os.stat_result, fingerprint: bytes | None) -> None:
        """Register that a file's audio is unchanged: only its tags or its time have changed."""
        with self._access():
            self._connection.execute(
                "UPDATE tracks SET size = ?, mtime_ns = ?, fingerprint = ?, stale = 0 WHERE id = ?",
                (stat.st_size, to_integer(stat.st_mtime_ns), fingerprint, row),
            )

    def copy_twin(self, row: int, stat: os.stat_result, fingerprint: bytes, model: int) -> bool:
        """Copy the result of another file with the same audio, if there is one.

        If that other file is gone, this is the same one under a new name: the old row is deleted.
        """
        with self._access():
            # One that is gone comes first; a sort would read thousands of copies each time. It may
            # be stale: its result is still that of the audio with its fingerprint.
            select = (
                "SELECT id, gone FROM tracks WHERE fingerprint = ? AND gone = ? AND model = ? "
                "AND error IS NULL AND embedding IS NOT NULL AND id != ? LIMIT 1"
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
                f"UPDATE tracks SET ({_RESULT}) = (SELECT {_RESULT} FROM tracks WHERE id = ?) "
                "WHERE id = ?",
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
        result: tuple[Prediction, NDArray[np.float16]] | GenrescopeError,
    ) -> None:
        """Write the result of an analysis.

        Parameters
        ----------
        row
            Of a ``WaitingFile``.
        stat
            Of the file, taken before the analysis; None if it could not be read.
        fingerprint
            Of its audio; None if it could not be computed.
        model
            Number of the model.
        result
            Of ``Classifier.analyse``, or its error.
        """
        columns: tuple[Any, ...]
        if isinstance(result, GenrescopeError):
            cause = f"{result.cause}. {result.remedy}." if isinstance(result, InputError) else ""
            columns = (model, None, None, None, None, None, cause or str(result), None, False)
        else:
            found, embedding = result
            known = self._model(model)
            columns = (
                model,
                known.genres.index(found.best),
                found.confidence,
                packed(known.genres, found.probabilities),
                packed(self._tag_names(known, found.tags), found.tags),
                json.dumps(found.warnings, ensure_ascii=False) if found.warnings else None,
                None,
                embedding.astype("<f2").tobytes(),
                found.other,
            )
        with self._access():
            self._connection.execute(
                f"UPDATE tracks SET ({_RESULT}) = (?, ?, ?, ?, ?, ?, ?, ?, ?), "
                "fingerprint = ?, stale = 0 WHERE id = ?",
                (*columns, fingerprint, row),
            )
            if stat is not None:
                self._connection.execute(
                    "UPDATE tracks SET size = ?, mtime_ns = ? WHERE id = ?",
                    (stat.st_size, to_integer(stat.st_mtime_ns), row),
                )

    # The results.

    def tracks(self, library: str | None = None) -> Iterator[CatalogueTrack]:
        """Give the record of every analysed file that is there, in the order they were found.

        Parameters
        ----------
        library
            Absolute path of a folder; None for every library.
        """
        where, values = under(library)
        for page in self._rows(_KNOWN, f"{where} AND {IS_CURRENT}", values):
            with self._validated():
                known = [self._known(row) for row in page]
            yield from known

    def embeddings(
        self, library: str, classifier: Classifier, *, recursive: bool = True
    ) -> Iterator[tuple[list[Summary], NDArray[np.float16]]]:
        """Give the tracks of a folder that a model has analysed, some at a time.

        Yields
        ------
        tracks
            Their paths, most probable genres and confidences.
        embeddings
            float16 (tracks, embedding_width), of ``Classifier.analyse``.
        """
        where, values = under(library, recursive=recursive)
        where, values = f"{where} AND {_IS_EMBEDDED}", (*values, classifier.key)
        for page in self._rows(_EMBEDDED, where, values):
            with self._validated():
                found = self._embedded([row[1:] for row in page], classifier.embedding_width)
            yield found

    def find(
        self, path: Path, classifier: Classifier
    ) -> tuple[Summary, NDArray[np.float16]] | None:
        """Look up a file that a model has analysed, if it has not changed since.

        Parameters
        ----------
        path
            Absolute.
        classifier
            The model.

        Returns
        -------
        found
            Summary and embedding, or None.
        """
        try:
            stat = path.stat()
        except (OSError, ValueError):  # its analysis reports why
            return None
        size, mtime_ns = stat.st_size, to_integer(stat.st_mtime_ns)
        place = stored(str(path.parent)), stored(path.name)
        with self._access():
            rows = self._connection.execute(
                f"SELECT {_EMBEDDED} {FROM} WHERE folders.path = ? AND tracks.name = ? "
                f"AND size = ? AND mtime_ns = ? AND {_IS_EMBEDDED}",
                (*place, size, mtime_ns, classifier.key),
            ).fetchall()
        if not rows:
            return None
        with self._validated():
            (summary,), (embedding,) = self._embedded(rows, classifier.embedding_width)
        return summary, embedding

    def models(self, library: str | None = None) -> list[CatalogueModel]:
        """Give the models that analysed a folder's files, those of most files first."""
        where, values = under(library)
        with self._access():
            rows = self._connection.execute(
                "SELECT models.key, models.name, unsure_below, count(*) "
                f"{FROM} JOIN models ON models.id = tracks.model "
                f"WHERE {where} AND {IS_CURRENT} AND error IS NULL "
                "GROUP BY models.id ORDER BY count(*) DESC, models.id",
                values,
            ).fetchall()
        with self._validated():
            return [
                CatalogueModel(text(key), text(name), float(unsure_below), int(files))
                for key, name, unsure_below, files in rows
            ]

    def _known(self, row: tuple[Any, ...]) -> CatalogueTrack:
        _, folder, name, size, mtime_ns, mark, model, genre, sure = row[:9]
        *shares, said, error, vector, other = row[9:]
        known = self._model(model)
        prediction = None
        if genre is not None:
            best, confidence, is_other = _first(known, genre, sure, other)
            probabilities, tags = map(unpacked, (known.genres, known.tags), shares)
            unsure = not is_other and confidence < known.unsure_below
            warnings = texts(said) if said is not None else ()
            prediction = Prediction(
                best, confidence, unsure, probabilities, tags, warnings, is_other
            )
        if not (isinstance(size, int) and isinstance(mtime_ns, int)):
            raise TypeError(f"{size!r} and {mtime_ns!r} are not a size and a time")
        return CatalogueTrack(
            path_of(folder, name),
            size,
            from_integer(mtime_ns),
            bytes_of(mark),
            known.key,
            prediction,
            None if error is None else text(error),
            None if vector is None else floats(vector),
        )

    def _embedded(
        self, rows: Sequence[tuple[Any, ...]], width: int
    ) -> tuple[list[Summary], NDArray[np.float16]]:
        vectors = [bytes_of(row[-1]) or b"" for row in rows]
        if any(len(one) != 2 * width for one in vectors):
            raise ValueError(f"an embedding has another width than {width}")
        summaries = [
            Summary(join(folder, name), *_first(self._model(model), genre, sure, other))
            for folder, name, model, genre, sure, other, _ in rows
        ]
        return summaries, floats(b"".join(vectors)).reshape(len(rows), width)

    def _model(self, number: int) -> _Model:
        if number not in self._models:
            with self._access():
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
        with self._access():
            known = self._model(model.number)
            if tags and not known.tags:
                names = json.dumps(sorted(tags), ensure_ascii=False)
                update = "UPDATE models SET tags = ? WHERE id = ?"
                self._connection.execute(update, (names, model.number))
                del self._models[model.number]
            return self._model(model.number).tags


def _first(model: _Model, genre: Any, confidence: Any, other: Any) -> tuple[str, float, bool]:
    if not 0 <= confidence <= 1:
        raise ValueError(f"{confidence} is not a probability")
    if other not in {0, 1}:
        raise ValueError(f"{other!r} is neither 0 nor 1")
    return model.genres[genre], float(confidence), bool(other)
