"""Find the tracks of a folder that sound most like others.

Tracks are compared by the cosine between what the classifier's network makes of them; nothing is
fitted on the folder, so that a similarity stays the same when tracks are added. What has been heard
is kept in an index (``genrescope.library.index``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrescope import load
from genrescope.audio.walk import walk
from genrescope.backbones.backbone import make_backbone_config, open_backbone
from genrescope.classifier import Classifier
from genrescope.classifier.batch import folder_fault
from genrescope.errors import GenrescopeError, InputError
from genrescope.library import index
from genrescope.reading import no_folder, unreadable
from genrescope.representations.embedding import Embedding
from genrescope.workers import WorkerPool, parallel_map

LAYER = "penultimate"
"""Of an embedding that has it, the only layer that is compared: `tools/similar.py` measured it."""

MANY = 100_000
"""With more tracks asked about, in a folder of more tracks, a graph is quicker than comparing."""

_LEAST = 1e-12  # length; silence of some networks is nothing but zeros
_DIGITS = 6  # so that copies are equally near, whatever order their values were summed in
_TRACKS, _ROWS = 128, 65536  # tracks asked about and tracks compared at once: some 50 MB each
_SAVE_EVERY_S = 30.0

Vectors = NDArray[np.float16] | NDArray[np.float32]
Nearest = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Rows and their cosines, nearest first."""


@dataclass(frozen=True)
class AnalysisResult:
    """What came of hearing one file: its row of the index, or the error."""

    path: Path
    row: index.IndexRow | None = None
    error: GenrescopeError | None = None


@dataclass(frozen=True)
class Neighbour:
    """A track that sounds like another.

    Attributes
    ----------
    path
        Of its file, below the folder as that was given.
    similarity
        Cosine, in [-1, 1].
    genre, confidence
        The most likely genre and its probability, in [0, 1].
    """

    path: Path
    similarity: float
    genre: str
    confidence: float


@dataclass(frozen=True)
class Similar:
    """What came of one track: the tracks nearest to it, nearest first, or the error."""

    path: Path
    genre: str = ""
    confidence: float = 0.0
    neighbours: tuple[Neighbour, ...] = ()
    error: GenrescopeError | None = None


def comparable(classifier: Classifier, arrays: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make what tracks are compared by from what a classifier's representation made of them.

    Of an embedding: its penultimate layer, or all of it if it has none, with logarithms of the
    magnitudes, as a few columns are far larger than the others. Of other representations: the
    classifier's logits less their mean.

    Parameters
    ----------
    classifier
        That the arrays are for.
    arrays
        float32 (tracks, *shape).

    Returns
    -------
    vectors
        float32 (tracks, width), of length 1 or, where there is nothing, 0.
    """
    if isinstance(classifier.representation, Embedding):
        columns = arrays[:, _columns(classifier.representation)]
        values = np.sign(columns) * np.log1p(np.abs(columns))
    else:
        logits = classifier.logits(arrays)
        values = logits - logits.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(length, _LEAST), dtype=np.float32)


def analyse_track(classifier: Classifier, path: Path) -> index.IndexRow:
    """Hear a file: what it is compared by, and its genre.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    stat = path.stat()  # before it is heard: if it changes meanwhile, it will be heard again
    analysis = classifier.representation.analyse_file(path)
    mean = analysis.arrays.mean(axis=0, keepdims=True)
    shares = classifier.probabilities(mean)[0]
    best = int(shares.argmax())
    return index.IndexRow(
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        vector=comparable(classifier, mean)[0].astype(np.float16),
        genre=classifier.genres[best],
        confidence=float(shares[best]),
    )


def nearest(
    vectors: Vectors,
    asked: NDArray[np.float32],
    count: int,
    left_out: Sequence[Sequence[int]],
) -> list[Nearest]:
    """Find the rows of greatest cosine by comparing every pair.

    Parameters
    ----------
    vectors
        float16 or float32 (rows, width), of length 1.
    asked
        float32 (tracks, width), of length 1.
    count
        Rows to find for each.
    left_out
        For each, rows that are not to be found.

    Returns
    -------
    found
        For each, at most ``count`` rows, nearest first; equally near ones in their order.
    """
    found: list[Nearest] = [(np.empty(0, np.intp), np.empty(0, np.float32)) for _ in asked]
    for start in range(0, len(vectors), _ROWS):
        block = vectors[start : start + _ROWS].astype(np.float32, copy=False)
        rows = np.arange(start, start + len(block))
        for i, cosines in enumerate(np.round(asked @ block.T, _DIGITS)):
            without = np.asarray(left_out[i], dtype=np.intp) - start
            cosines[without[(without >= 0) & (without < len(block))]] = -np.inf
            before, best = found[i]
            both = np.concatenate([before, rows]), np.concatenate([best, cosines])
            found[i] = _first(*both, count)
    return found


def _first(rows: NDArray[np.intp], cosines: NDArray[np.float32], count: int) -> Nearest:
    near = cosines > -np.inf
    if len(rows) > count:  # sorting a few is quicker than sorting all
        near &= cosines >= np.partition(cosines, -count)[-count]
    rows, cosines = rows[near], cosines[near]
    order = np.lexsort((rows, -cosines))[:count]
    return rows[order], cosines[order]


class Graph:
    """Finds nearly what ``nearest`` finds, and quickly once it is built; needs usearch.

    Parameters
    ----------
    vectors
        As of ``nearest``. With 200,000 rows it takes a core about a minute to build.

    Raises
    ------
    GenrescopeError
        If usearch is not installed.
    """

    def __init__(self, vectors: Vectors) -> None:
        if not has_graph():
            raise GenrescopeError(
                "Comparing approximately needs more than the base install: "
                "pip install 'genrescope[similar]'"
            )
        from usearch.index import Index  # noqa: PLC0415  an extra

        self._vectors = vectors.astype(np.float16, copy=False)
        self._graph = Index(ndim=vectors.shape[1], metric="cos", dtype="f16")
        self._graph.add(np.arange(len(vectors)), self._vectors)

    def nearest(
        self, asked: NDArray[np.float32], count: int, left_out: Sequence[Sequence[int]]
    ) -> list[Nearest]:
        """As the function ``nearest``; now and then a row is missing that it would find."""
        if not len(asked):
            return []
        wanted = min(count + max(map(len, left_out)), len(self._vectors))
        matches: Any = self._graph.search(asked.astype(np.float16), wanted)
        each = [matches] if len(asked) == 1 else matches
        found = []
        for track, match, without in zip(asked, each, left_out, strict=True):
            rows = np.setdiff1d(match.keys.astype(np.intp), np.asarray(without, dtype=np.intp))
            cosines = np.round(self._vectors[rows].astype(np.float32) @ track, _DIGITS)
            found.append(_first(rows, cosines, count))
        return found


def has_graph() -> bool:
    """Tell whether usearch, which ``Graph`` needs, is installed."""
    return find_spec("usearch") is not None


class Library:
    """A folder of music whose tracks can be compared.

    Parameters
    ----------
    folder
        With at least one audio file.
    classifier
        That hears them; opened with one thread.
    index_file
        Where the index lies; by default in the folder itself.
    recursive
        Whether to look into folders' folders, too.
    rebuild
        Whether to hear every track again.

    Attributes
    ----------
    note
        Why an index that was there is made anew, as a sentence; mostly empty.
    missing
        Files that the index did not hold, or not as they are now: ``update`` hears them.
    unreadable
        Folders that could not be looked into.
    passed_over
        Paths of files that look like audio and have no ending of it, and of links to folders.

    Raises
    ------
    InputError
        If there is no such folder or no audio in it, or the index is another folder's, is some
        other file or cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        classifier: Classifier,
        index_file: Path | None = None,
        *,
        recursive: bool = True,
        rebuild: bool = False,
    ) -> None:
        self.folder = folder
        self.note = ""
        self.passed_over: list[str] = []
        paths, self.unreadable = _audio(folder, recursive, self.passed_over.append)
        self._names = {path.relative_to(folder).as_posix(): path for path in paths}
        self._classifier = classifier
        self._model = _model_key(classifier)
        self.index_file = index_file or folder / _index_name(classifier, self._model)
        inside = self.index_file.resolve().is_relative_to(folder.resolve())
        self._elsewhere = None if inside else str(folder.resolve())
        self._rows = {} if rebuild else self._read()
        dropped = [name for name in self._rows if not self._is_kept(name, recursive=recursive)]
        for name in dropped:
            del self._rows[name]
        self._changed = rebuild or bool(dropped)
        self._matrix: tuple[list[str], NDArray[np.float16]] | None = None
        self.missing = [path for name, path in self._names.items() if name not in self._rows]

    def __len__(self) -> int:
        """Tracks that can be compared."""
        return sum(name in self._rows for name in self._names)

    def update(self, workers: int | None = None) -> Generator[AnalysisResult]:
        """Hear the missing tracks, and keep the index.

        What has been heard is kept every half minute and at the end, also when this is closed or
        interrupted.

        Parameters
        ----------
        workers
            Files side by side; by default one per core.

        Returns
        -------
        heard
            What came of each of ``missing``, in its order. Those with an error are not compared.

        Raises
        ------
        InputError
            If the index cannot be written; before anything is heard, if that can be told.
        """
        if not self.missing and not self._changed:
            return
        self._write()  # hours of hearing should not end in an error that could be had at once
        saved, unsaved = time.monotonic(), 0
        names = {path: name for name, path in self._names.items()}
        try:
            with WorkerPool(workers, load, self._classifier.folder) as pool:
                if self.missing:
                    pool.start_one()  # if none can be started, that is no fault of any file
                work = partial(_hear, pool)
                for heard in parallel_map(work, self.missing, pool.count, stop=pool.close):
                    if heard.row is not None:
                        self._rows[names[heard.path]] = heard.row
                        self._matrix = None
                        unsaved += 1
                    if unsaved and time.monotonic() - saved > _SAVE_EVERY_S:
                        self._write()
                        saved, unsaved = time.monotonic(), 0
                    yield heard
        finally:
            if unsaved:
                self._write()

    def similar(
        self,
        tracks: Sequence[Path],
        count: int = 10,
        *,
        other_folders: bool = False,
        approximate: bool = False,
        workers: int | None = None,
    ) -> Iterator[Similar]:
        """Find the tracks of the folder that are nearest to each of some tracks.

        Parameters
        ----------
        tracks
            Audio files, in the folder or not. A track is never among its own neighbours, copies of
            it may be.
        count
            Neighbours of each.
        other_folders
            Whether to leave out what lies in the same folder as the track: the same album.
        approximate
            Whether to find them with a ``Graph``.
        workers
            Files side by side, of those that must be heard; by default one per core.

        Returns
        -------
        similar
            What came of each track, in their order.

        Raises
        ------
        GenrescopeError
            If it needs usearch, and that is not installed.
        """
        names, vectors = self._compared()
        places = _Places(self.folder, names)
        search = Graph(vectors).nearest if approximate else partial(nearest, vectors)

        with WorkerPool(workers, load, self._classifier.folder) as pool:

            def known(track: Path) -> AnalysisResult:
                itself = places.itself(track)
                return (
                    AnalysisResult(track, self._rows[names[itself[0]]])
                    if itself
                    else _hear(pool, track)
                )

            for first in range(0, len(tracks), _TRACKS):
                some = tracks[first : first + _TRACKS]
                every = list(parallel_map(known, some, pool.count, stop=pool.close))
                heard = [(one.path, one.row) for one in every if one.row is not None]
                asked = np.array([row.vector for _, row in heard], dtype=np.float32)
                left_out = [places.left_out(path, album=other_folders) for path, _ in heard]
                found = iter(search(asked.reshape(-1, vectors.shape[1]), count, left_out))
                for one in every:
                    if one.row is None:
                        yield Similar(one.path, error=one.error)
                        continue
                    near = zip(*next(found), strict=True)
                    neighbours = tuple(self._neighbour(names[i], cosine) for i, cosine in near)
                    yield Similar(one.path, one.row.genre, one.row.confidence, neighbours)

    def near(self, vector: NDArray[np.float16], count: int = 10) -> tuple[Neighbour, ...]:
        """Find the tracks nearest to one that has been heard already, by comparing every pair.

        Parameters
        ----------
        vector
            float16 (width,), as ``analyse_track`` makes it.
        count
            Neighbours.

        Raises
        ------
        InputError
            If there is nothing to compare with.
        """
        names, vectors = self._compared()
        ((rows, cosines),) = nearest(vectors, vector.astype(np.float32)[np.newaxis], count, [()])
        return tuple(self._neighbour(names[i], c) for i, c in zip(rows, cosines, strict=True))

    def _compared(self) -> tuple[list[str], NDArray[np.float16]]:
        if self._matrix is None:
            names = [name for name in self._names if name in self._rows]
            if not names:
                cause = "none of its audio files can be read, so there is nothing to compare with"
                raise InputError(self.folder, cause, "Give another folder with --library")
            self._matrix = names, np.stack([self._rows[name].vector for name in names])
        return self._matrix

    def _neighbour(self, name: str, cosine: np.float32) -> Neighbour:
        row = self._rows[name]
        return Neighbour(self._names[name], float(cosine), row.genre, row.confidence)

    def _read(self) -> dict[str, index.IndexRow]:
        try:
            return index.read(self.index_file, self._model, self._elsewhere)
        except index.StaleIndexError as error:
            self.note = f"{self.index_file}: {error}. Every track is heard again."
            return {}

    def _write(self) -> None:
        index.write(self.index_file, self._rows, self._model, self._elsewhere)

    def _is_kept(self, name: str, *, recursive: bool) -> bool:
        if name not in self._names:
            return not recursive and "/" in name  # out of sight this time, not removed
        row = self._rows[name]
        try:
            stat = self._names[name].stat()
        except OSError:
            return False  # hearing it will tell
        return (row.size, row.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def _hear(pool: WorkerPool, path: Path) -> AnalysisResult:
    try:
        if path.is_dir():
            raise folder_fault(path)
        return AnalysisResult(path, pool.do_file(analyse_track, path))
    except GenrescopeError as error:
        return AnalysisResult(path, error=error)
    except (OSError, ValueError) as error:
        return AnalysisResult(path, error=unreadable(path, error))


class _Places:
    # Where tracks that are asked about stand among the rows, by whatever path they are named.

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._roots = (folder.absolute(), folder.resolve())
        self._rows = {name: i for i, name in enumerate(names)}
        self._albums: dict[str, list[int]] = {}
        for name, i in self._rows.items():
            self._albums.setdefault(_album(name), []).append(i)

    def itself(self, track: Path) -> list[int]:
        return [self._rows[name] for name in self._within(track) if name in self._rows]

    def left_out(self, track: Path, *, album: bool) -> list[int]:
        names = self._within(track) if album else []
        others = [i for name in names for i in self._albums.get(_album(name), ())]
        return self.itself(track) + others

    def _within(self, track: Path) -> list[str]:
        # A link in the folder is the track, and so is what it leads to.
        ways = {track.absolute(), track.resolve()}
        return sorted(
            {
                way.relative_to(root).as_posix()
                for way in ways
                for root in self._roots
                if way.is_relative_to(root)
            }
        )


def _album(name: str) -> str:
    return name.rpartition("/")[0]


def _columns(embedding: Embedding) -> NDArray[np.bool_]:
    widths = [
        (layer, open_backbone(make_backbone_config(backbone)).widths[layer])
        for backbone in embedding.backbones
        for layer in embedding.layers
    ]
    only = LAYER in embedding.layers
    return np.concatenate([np.full(width, not only or layer == LAYER) for layer, width in widths])


def _audio(
    folder: Path, recursive: bool, passed_over: Callable[[str], None]
) -> tuple[list[Path], list[InputError]]:
    if not folder.is_dir():
        remedy = "Give the folder to look for similar tracks with --library"
        raise InputError(folder, no_folder(folder), remedy)
    paths: list[Path] = []
    unreadable: list[InputError] = []
    for found in walk(folder, recursive=recursive):
        if found.fault is not None:
            unreadable.append(found.fault)
        paths += (Path(file.path) for file in found.files)
        for other in (*found.passed_over, *found.links):
            passed_over(other)
    if not paths:
        if unreadable:
            raise unreadable[0]
        deeper = "" if recursive else ", or look deeper with --recursive"
        raise InputError(folder, "no audio files in this folder", f"Give another{deeper}")
    return paths, unreadable


def _index_name(classifier: Classifier, model: str) -> str:
    # Models do not write over each other's index; the package's own goes on under one name.
    default = Path(str(files("genrescope") / "weights" / "default"))
    which = "" if classifier.folder == default else f"-{model}"
    return f"{index.PREFIX}{which}.npz"


def _model_key(classifier: Classifier) -> str:
    # 16 hex digits that change with anything that vectors or genres depend on.
    return hashlib.sha256(f"{classifier.key} {LAYER}".encode()).hexdigest()[:16]
