"""Representations computed once and kept on disk.

An array's key is a hash of its source file's content and of the representation's name, version and
parameters. A renamed file finds its array again; a changed file gets a new one. Every array is
written whole or not at all, so that a stopped run can be resumed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from genrescope.datasets.track import Track
from genrescope.errors import GenrescopeError, InputError
from genrescope.files import sha256
from genrescope.representations.representation import Array, DamagedError, Representation
from genrescope.representations.transform import PLAIN, AudioTransform
from genrescope.workers import WorkerPool, parallel_map

Progress = Callable[[int, int], None]
"""Called with the number of arrays that are done, and their total."""


@dataclass(frozen=True)
class Collection:
    """The arrays of those tracks that could be represented.

    Attributes
    ----------
    ids
        Track ids, in the order of the tracks given.
    packed
        (versions × tracks, *shape), in the representation's packed dtype: all tracks unchanged,
        then all tracks with the first transform, and so on.
    sources
        Number of arrays by kind of source: table, picture, audio.
    problems
        Files that could not be used.
    checksum
        16 hex digits over the ids and the contents of their sources.
    """

    ids: tuple[str, ...]
    packed: Array
    sources: dict[str, int]
    problems: tuple[InputError, ...]
    checksum: str


class Store:
    """A folder of representations.

    Parameters
    ----------
    root
        The folder; by default ``store`` in the user's cache folder.
    allow_damaged
        Whether to use tracks of which a part is missing, instead of reporting them as problems.
    """

    def __init__(self, root: Path | None = None, *, allow_damaged: bool = False) -> None:
        self.allow_damaged = allow_damaged
        self.root = root or Path(platformdirs.user_cache_dir("genrescope")) / "store"

    def collect(
        self,
        representation: Representation,
        tracks: Sequence[Track],
        *,
        transforms: Sequence[AudioTransform] = (),
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Collection:
        """Load or compute the arrays of all tracks that have a suitable source.

        Parameters
        ----------
        representation
            What to compute.
        tracks
            Those for which ``representation.source`` gives None are left out.
        transforms
            Further versions of each track, beside the unchanged one.
        workers
            Processes; by default one per core.
        progress
            Called after every array that is computed.

        Raises
        ------
        InputError
            If the store's folder cannot be created.
        GenrescopeError
            If an array cannot be written, as on a full disk; or if there are transforms and a
            track's source is not audio.
        """
        versions = (PLAIN, *transforms)
        fit = [(track, source) for track in tracks if (source := representation.source(track))]
        digests: dict[str, str] = {}
        problems: list[InputError] = []
        paths: dict[tuple[str, AudioTransform], Path] = {}
        for track, source in fit:
            if transforms and source.kind != "audio":
                raise GenrescopeError(
                    f"{track.id}: only audio can be augmented, and its source is a {source.kind}. "
                    "Leave `augmentations` out of the recipe."
                )
            if source.path is None:
                digests[track.id] = _digest(repr(track.descriptors).encode())
                continue
            try:
                digests[track.id] = sha256(source.path)
            except OSError as error:
                remedy = "Check that the file exists and is readable"
                problems.append(InputError(source.path, f"it cannot be read ({error})", remedy))
                continue
            for version in versions:
                suffix = "" if version == PLAIN else repr(version)
                content = f"{digests[track.id]}{source.kind}{representation.key}{suffix}"
                name = _digest(content.encode())
                path = self._folder(representation) / name[:2] / f"{name}.npy"
                paths[track.id, version] = path
        read = [track for track, _ in fit if track.id in digests]
        missing = [
            (track, version)
            for version in versions
            for track in read
            if (track.id, version) in paths and not self._stored(paths[track.id, version]).exists()
        ]
        problems += self._make(representation, missing, paths, workers, progress)
        rows: list[list[Array]] = []
        used: list[Track] = []
        for track in read:
            found = [
                self._read(representation, track, version, paths.get((track.id, version)))
                for version in versions
            ]
            whole = [array for array in found if array is not None]
            if len(whole) == len(versions):
                rows.append(whole)
                used.append(track)
        arrays = [array for version in zip(*rows, strict=True) for array in version]
        kinds = {track.id: source.kind for track, source in fit}
        nothing = np.empty((0, *representation.shape), dtype=np.float32)
        lines = "".join(f"{track.id}:{digests[track.id]}\n" for track in used)
        return Collection(
            ids=tuple(track.id for track in used),
            packed=np.stack(arrays) if arrays else representation.pack(nothing),
            sources=dict(sorted(Counter(kinds[track.id] for track in used).items())),
            problems=tuple(problems),
            checksum=_digest(lines.encode())[:16],
        )

    def _folder(self, representation: Representation) -> Path:
        return self.root / f"{representation.name}-{representation.key}"

    def _read(
        self,
        representation: Representation,
        track: Track,
        transform: AudioTransform,
        path: Path | None,
    ) -> Array | None:
        if path is None:
            return representation.pack(representation.of_track(track))
        made = self._stored(path)
        if not made.exists():  # it failed above, and is among the problems
            return None
        try:
            return np.asarray(np.load(made, allow_pickle=False))
        except (ValueError, OSError, EOFError):
            # Damaged on disk: compute it again.
            made.unlink(missing_ok=True)
            made = make_stored(representation, path, track, transform, self.allow_damaged)
            return np.asarray(np.load(made, allow_pickle=False))

    def _stored(self, path: Path) -> Path:
        # The array of a damaged track has another name: only allow_damaged may find it.
        damaged = _damaged(path)
        return damaged if self.allow_damaged and not path.exists() else path

    def _make(
        self,
        representation: Representation,
        wanted: Sequence[tuple[Track, AudioTransform]],
        paths: dict[tuple[str, AudioTransform], Path],
        workers: int | None,
        progress: Progress | None,
    ) -> list[InputError]:
        if not wanted:
            return []
        try:
            for folder in {paths[track.id, version].parent for track, version in wanted}:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "Give another folder with --cache-dir"
            raise InputError(self.root, f"the store cannot be written ({error})", remedy) from error
        problems: dict[str, InputError] = {}  # one a file, however many of its versions fail
        # A file may crash an audio decoder, so that runs in processes. Pictures are decoded in
        # threads, by C code that releases the GIL.
        is_audio = any(
            (source := representation.source(track)) and source.kind == "audio"
            for track, _ in wanted
        )
        with WorkerPool(workers, _prepare_worker, representation) as pool:
            if is_audio:
                pool.start_one()  # a failure here is no file's fault

            def make(job: tuple[Track, AudioTransform]) -> InputError | None:
                track, version = job
                path = paths[track.id, version]
                given = track, version, self.allow_damaged
                try:
                    if is_audio and track.audio is not None:
                        pool.do_file(_make_in_worker, track.audio, path, *given)
                    else:
                        make_stored(representation, path, *given)
                except InputError as error:
                    return error
                return None

            every = parallel_map(make, wanted, pool.count, in_order=False, stop=pool.close)
            with closing(every):
                for done, fault in enumerate(every, start=1):
                    if fault is not None:
                        problems[str(fault.path)] = fault
                    if progress:
                        progress(done, len(wanted))
        return [problems[path] for path in sorted(problems)]


def make_stored(
    representation: Representation,
    path: Path,
    track: Track,
    transform: AudioTransform,
    allow_damaged: bool = False,
) -> Path:
    """Compute one track's array and write it, whole or not at all; give the file.

    Raises
    ------
    InputError
        As ``Representation.of_track``.
    GenrescopeError
        If it cannot be written.
    """
    try:
        array = representation.of_track(track, transform)
    except DamagedError:
        if not allow_damaged:
            raise
        array, path = representation.of_track(track, transform, allow_damaged=True), _damaged(path)
    partial = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("wb") as file:
            np.save(file, representation.pack(array), allow_pickle=False)
        partial.replace(path)
    except OSError as error:
        raise GenrescopeError(
            f"{path.parent}: the store cannot be written ({error}). Make room, or give another "
            "folder with --cache-dir."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _damaged(path: Path) -> Path:
    return path.with_name(f"{path.stem}-damaged{path.suffix}")


def _make_in_worker(representation: Representation, _: Path, path: Path, *given: Any) -> None:
    make_stored(representation, path, *given)


def _prepare_worker(representation: Representation) -> Representation:
    # One process per core is faster than several that each use every core.
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  comes with scikit-learn

    threadpool_limits(1)
    return representation


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
