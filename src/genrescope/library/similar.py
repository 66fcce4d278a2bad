"""Find the tracks of a folder that sound most like others.

Tracks are compared by the cosine between their embeddings, which the catalogue holds. Nothing is
fitted on the folder, so a similarity stays the same when tracks are added.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrescope.backbones.backbone import make_backbone_config, open_backbone
from genrescope.classifier import Classifier, GenreLabel
from genrescope.errors import GenrescopeError, InputError, install
from genrescope.library.catalogue import Catalogue, Summary
from genrescope.library.scan import analyse_file
from genrescope.representations.embedding import Embedding
from genrescope.workers import WorkerPool, parallel_map

LAYER = "penultimate"
"""The only layer of an embedding that is compared, if it has it: `tools/similar.py` measured it."""

MIN_GRAPH = 100_000
"""For more queries than this, among more tracks than this, a graph is faster than brute force."""

_MIN_LENGTH = 1e-12  # some networks give nothing but zeros for silence
_DIGITS = 6  # so that copies are equally near, whatever order their values were summed in
_QUERIES, _ROWS = 128, 65536  # queries and rows in one block: some 50 MB each

Vectors = NDArray[np.float16] | NDArray[np.float32]
Nearest = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Rows and their cosines, nearest first."""


@dataclass(frozen=True)
class Neighbour(GenreLabel):
    """A track that sounds like another.

    Attributes
    ----------
    path
        Of its file, below the folder as that was given.
    similarity
        Cosine, in [-1, 1].
    best, confidence
        The most probable genre and its probability, in [0, 1].
    other
        Whether it is none of the model's genres.
    row
        Its number in the ``Library``.
    """

    path: Path
    similarity: float
    best: str
    confidence: float
    other: bool = False
    row: int = 0


@dataclass(frozen=True)
class Similar(GenreLabel):
    """The tracks nearest to one track, nearest first, or the error of that track."""

    path: Path
    best: str = ""
    confidence: float = 0.0
    other: bool = False
    neighbours: tuple[Neighbour, ...] = ()
    error: GenrescopeError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    found: GenreLabel
    vector: NDArray[np.float16]


def comparable(classifier: Classifier, embeddings: Vectors) -> NDArray[np.float32]:
    """Turn embeddings into the vectors whose cosines are similarities.

    Of an embedding: its penultimate layer, or all of it if it has none, with logarithms of the
    magnitudes, as a few columns are far larger than the others. Of other representations: the
    logits less their mean.

    Parameters
    ----------
    classifier
        Whose ``analyse`` gave the embeddings.
    embeddings
        float16 or float32 (tracks, columns).

    Returns
    -------
    vectors
        float32 (tracks, width), of length 1, or 0 if all values are 0.
    """
    embedder = getattr(classifier.representation, "embedder", None)
    if isinstance(embedder, Embedding):
        columns = embeddings[:, _columns(embedder)].astype(np.float32)
        values = np.copysign(np.log1p(np.abs(columns)), columns)
    else:
        logits = embeddings.astype(np.float32)
        values = logits - logits.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(length, _MIN_LENGTH), dtype=np.float32)


def nearest(
    vectors: Vectors,
    asked: NDArray[np.float32],
    count: int,
    left_out: Sequence[Sequence[int]],
) -> list[Nearest]:
    """Find the rows of greatest cosine, by brute force.

    Parameters
    ----------
    vectors
        float16 or float32 (rows, width), of length 1.
    asked
        float32 (queries, width), of length 1.
    count
        Rows to find for each query.
    left_out
        For each, rows to leave out.

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
    if len(rows) > count:  # sorting a few is faster than sorting all
        near &= cosines >= np.partition(cosines, -count)[-count]
    rows, cosines = rows[near], cosines[near]
    order = np.lexsort((rows, -cosines))[:count]
    return rows[order], cosines[order]


class Graph:
    """An approximate ``nearest``, fast once it is built; needs usearch.

    Parameters
    ----------
    vectors
        As of ``nearest``. With 200,000 rows one core builds it in about a minute.

    Raises
    ------
    GenrescopeError
        If usearch is not installed.
    """

    def __init__(self, vectors: Vectors) -> None:
        if not has_graph():
            raise GenrescopeError(
                "Comparing approximately needs more than the base install. "
                f"Run {install('similar')}."
            )
        from usearch.index import Index  # noqa: PLC0415  an extra

        self._vectors = vectors.astype(np.float16, copy=False)
        self._graph = Index(ndim=vectors.shape[1], metric="cos", dtype="f16")
        self._graph.add(np.arange(len(vectors)), self._vectors)

    def nearest(
        self, asked: NDArray[np.float32], count: int, left_out: Sequence[Sequence[int]]
    ) -> list[Nearest]:
        """As the function ``nearest``, but it may miss some rows."""
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
    """Return whether usearch, which ``Graph`` needs, is installed."""
    return find_spec("usearch") is not None


class Library:
    """The analysed tracks of a folder of music, in memory, to compare others with.

    Parameters
    ----------
    catalogue
        Open; holds the embeddings. Only ``similar`` uses it later.
    classifier
        Whose embeddings are compared; opened with one thread.
    folder
        The folder of music.
    recursive
        Whether to include subfolders.

    Attributes
    ----------
    tracks
        Of each row: the path is relative to the folder, in whose order they are.
    vectors
        float16 (tracks, width), of ``comparable``.
    database
        The catalogue's file.

    Raises
    ------
    InputError
        If the catalogue holds no track of the folder, or is damaged.
    """

    def __init__(
        self, catalogue: Catalogue, classifier: Classifier, folder: Path, *, recursive: bool = True
    ) -> None:
        self.folder, self.database = folder, catalogue.path
        self.classifier = classifier
        self._catalogue = catalogue
        root = str(folder.resolve())
        start = len(root.rstrip(os.sep)) + 1
        tracks: list[Summary] = []  # by their paths below the folder
        vectors: list[NDArray[np.float16]] = []
        for page, embeddings in catalogue.embeddings(root, classifier, recursive=recursive):
            tracks += [replace(track, path=track.path[start:]) for track in page]
            vectors.append(self._vectors_of(embeddings))
        if not tracks:
            cause = "none of its audio files has been analysed, so there is nothing to compare with"
            raise InputError(folder, cause, "Give another folder with --library")
        order = sorted(range(len(tracks)), key=lambda i: tracks[i].path)
        self.tracks = [tracks[i] for i in order]
        self.vectors = np.concatenate(vectors)[order]

    def __len__(self) -> int:
        """Tracks that can be compared."""
        return len(self.tracks)

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
            Audio files, in the folder or not. Those that the catalogue does not hold are analysed.
            A track is never among its own neighbours; copies of it may be.
        count
            Neighbours of each.
        other_folders
            Whether to leave out tracks in the same folder as the track: the same album.
        approximate
            Whether to search with a ``Graph``.
        workers
            Files analysed in parallel; by default one per core.

        Yields
        ------
        similar
            The result of each track, in their order.

        Raises
        ------
        GenrescopeError
            If it needs usearch, and that is not installed.
        """
        places = _Places(self.folder, [track.path for track in self.tracks])
        vectors = self.vectors
        search = Graph(vectors).nearest if approximate else partial(nearest, vectors)
        with WorkerPool(workers, self.classifier.loader) as pool:
            query = partial(self._query, places, pool)
            for first in range(0, len(tracks), _QUERIES):
                some = tracks[first : first + _QUERIES]
                every = list(parallel_map(query, some, pool.count, stop=pool.close))
                asked = [
                    (path, one)
                    for path, one in zip(some, every, strict=True)
                    if isinstance(one, _Query)
                ]
                matrix = np.array([one.vector for _, one in asked], dtype=np.float32)
                left_out = [places.left_out(path, album=other_folders) for path, _ in asked]
                found = iter(search(matrix.reshape(-1, vectors.shape[1]), count, left_out))
                for path, one in zip(some, every, strict=True):
                    if isinstance(one, GenrescopeError):
                        yield Similar(path, error=one)
                    else:
                        neighbours = self._neighbours(next(found))
                        shown = one.found.best, one.found.confidence, one.found.other
                        yield Similar(path, *shown, neighbours)

    def near(self, embedding: NDArray[np.float16], count: int = 10) -> tuple[Neighbour, ...]:
        """Find the tracks nearest to an embedding of ``Classifier.analyse``, by brute force."""
        asked = self._vectors_of(embedding[np.newaxis]).astype(np.float32)
        (found,) = nearest(self.vectors, asked, count, [()])
        return self._neighbours(found)

    def _query(self, places: _Places, pool: WorkerPool, track: Path) -> _Query | GenrescopeError:
        for row in places.rows_of(track):
            return _Query(self.tracks[row], self.vectors[row])
        for path in places.spellings(track):
            if (known := self._catalogue.find(path, self.classifier)) is not None:
                return self._made_query(*known)
        result = analyse_file(pool, track)
        return result if isinstance(result, GenrescopeError) else self._made_query(*result)

    def _made_query(self, found: GenreLabel, embedding: NDArray[np.float16]) -> _Query:
        return _Query(found, self._vectors_of(embedding[np.newaxis])[0])

    def _vectors_of(self, embeddings: NDArray[np.float16]) -> NDArray[np.float16]:
        return comparable(self.classifier, embeddings).astype(np.float16)

    def _neighbours(self, found: Nearest) -> tuple[Neighbour, ...]:
        return tuple(
            Neighbour(
                self.folder / near.path,
                float(cosine),
                near.best,
                near.confidence,
                near.other,
                int(row),
            )
            for row, cosine in zip(*found, strict=True)
            for near in [self.tracks[row]]
        )


class _Places:
    # The rows of tracks, by whatever path they are named.

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._roots = (folder.absolute(), folder.resolve())
        self._rows = {name: i for i, name in enumerate(names)}
        self._albums: dict[str, list[int]] = {}
        for name, i in self._rows.items():
            self._albums.setdefault(os.path.dirname(name), []).append(i)  # noqa: PTH120  fast

    def rows_of(self, track: Path) -> list[int]:
        return [self._rows[name] for name in self._names_of(track) if name in self._rows]

    def left_out(self, track: Path, *, album: bool) -> list[int]:
        names = self._names_of(track) if album else []
        others = [i for name in names for i in self._albums.get(os.path.dirname(name), ())]  # noqa: PTH120
        return self.rows_of(track) + others

    def spellings(self, track: Path) -> set[Path]:
        # A link in a library is a track of it, and so is the file that it leads to.
        return {track.absolute(), track.parent.resolve() / track.name, track.resolve()}

    def _names_of(self, track: Path) -> list[str]:
        return sorted(
            {
                str(path.relative_to(root))
                for path in self.spellings(track)
                for root in self._roots
                if path.is_relative_to(root)
            }
        )


@cache
def _columns(embedding: Embedding) -> NDArray[np.bool_]:
    widths = [
        (layer, open_backbone(make_backbone_config(backbone)).widths[layer])
        for backbone in embedding.backbones
        for layer in embedding.layers
    ]
    only = LAYER in embedding.layers
    return np.concatenate([np.full(width, not only or layer == LAYER) for layer, width in widths])
