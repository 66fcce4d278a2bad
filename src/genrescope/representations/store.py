"""Representations computed once and kept on disk.

An array's key is made of the content of the file it comes from, the representation's name, version
and parameters: rename a file and its array is found again, change it and it is made anew. Every
array is written whole or not at all, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import platformdirs

from genrescope.errors import GenrescopeError, InputError
from genrescope.representations.alteration import PLAIN, Alteration
from genrescope.representations.representation import Array, Representation
from genrescope.tracks.track import Track

Progress = Callable[[int, int], None]
"""Called with how many arrays are done and how many there will be."""

_FEW = 8  # not worth starting processes for


@dataclass(frozen=True)
class Collection:
    """The arrays of those tracks that could be represented.

    Attributes
    ----------
    ids
        Track ids, in the order of the tracks given.
    packed
        (versions × tracks, *shape), in the representation's packed dtype: all tracks as they are,
        then all of them altered in the first way, and so on.
    sources
        How many arrays came from a table, from a picture and from audio.
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
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(platformdirs.user_cache_dir("genrescope")) / "store"

    def collect(
        self,
        representation: Representation,
        tracks: Sequence[Track],
        *,
        alterations: Sequence[Alteration] = (),
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Collection:
        """Make or find the arrays of all tracks that have a fit source.

        Parameters
        ----------
        representation
            What to make.
        tracks
            Those without a fit source are left out silently: ``representation.source`` tells.
        alterations
            Ways to hear each track beside as it is.
        workers
            Processes; by default one per core.
        progress
            Told how far it is.

        Returns
        -------
        collection
            The arrays; what could not be read stands in its ``problems``.

        Raises
        ------
        InputError
            If the store's folder cannot be made.
        GenrescopeError
            If an array cannot be written, as on a full disk; or if alterations are asked for and a
            track is no audio.
        """
        versions = (PLAIN, *alterations)
        fit = [(track, source) for track in tracks if (source := representation.source(track))]
        digests: dict[str, str] = {}
        problems: list[InputError] = []
        paths: dict[tuple[str, Alteration], Path] = {}
        for track, source in fit:
            if alterations and source.kind != "audio":
                raise GenrescopeError(
                    f"{track.id}: only audio can be altered, and this is from its {source.kind}; "
                    "leave `alterations` out of the recipe."
                )
            if source.path is None:
                digests[track.id] = _digest(repr(track.descriptors).encode())
                continue
            try:
                digests[track.id] = _file_digest(source.path)
            except OSError as error:
                remedy = "Check that the file is there and may be read"
                problems.append(InputError(source.path, f"it cannot be read ({error})", remedy))
                continue
            for version in versions:
                altered = "" if version == PLAIN else repr(version)
                content = f"{digests[track.id]}{source.kind}{representation.key}{altered}"
                name = _digest(content.encode())
                path = self._folder(representation) / name[:2] / f"{name}.npy"
                paths[track.id, version] = path
        read = [track for track, _ in fit if track.id in digests]
        missing = [
            (track, version)
            for version in versions
            for track in read
            if (track.id, version) in paths and not paths[track.id, version].exists()
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
        alteration: Alteration,
        path: Path | None,
    ) -> Array | None:
        if path is None:
            return representation.pack(representation.of_track(track))
        if not path.exists():  # it failed above, and stands among the problems
            return None
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (ValueError, OSError, EOFError):
            # Damaged on disk: make it again rather than fail for ever.
            path.unlink(missing_ok=True)
            make_stored(representation, track, alteration, path)
            return np.asarray(np.load(path, allow_pickle=False))

    def _make(
        self,
        representation: Representation,
        wanted: Sequence[tuple[Track, Alteration]],
        paths: dict[tuple[str, Alteration], Path],
        workers: int | None,
        progress: Progress | None,
    ) -> list[InputError]:
        if not wanted:
            return []
        try:
            for folder in {paths[track.id, version].parent for track, version in wanted}:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "Give another folder with --store"
            raise InputError(self.root, f"the store cannot be written ({error})", remedy) from error
        problems: dict[str, InputError] = {}  # one a file, however many of its versions fail
        with _executor(representation, [track for track, _ in wanted], workers) as pool:
            jobs = [
                pool.submit(make_stored, representation, track, version, paths[track.id, version])
                for track, version in wanted
            ]
            try:
                for done, job in enumerate(as_completed(jobs), start=1):
                    try:
                        job.result()
                    except InputError as error:
                        problems[str(error.path)] = error
                    if progress:
                        progress(done, len(wanted))
            except BaseException:  # failed or interrupted: what has not begun need not be done
                pool.shutdown(cancel_futures=True)
                raise
        return [problems[path] for path in sorted(problems)]


def make_stored(
    representation: Representation, track: Track, alteration: Alteration, path: Path
) -> None:
    """Make one track's array and write it, whole or not at all."""
    array = representation.pack(representation.of_track(track, alteration))
    partial = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
    except OSError as error:
        raise GenrescopeError(
            f"{path.parent}: the store cannot be written ({error}). Make room, or give another "
            "folder with --store."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _executor(
    representation: Representation, tracks: Sequence[Track], workers: int | None
) -> Iterator[Executor]:
    # Pictures are decoded by C code that lets other threads run; audio is worth processes.
    count = min(workers or os.cpu_count() or 1, len(tracks))
    source = representation.source(tracks[0])
    if count == 1 or len(tracks) <= _FEW or (source and source.kind != "audio"):
        with ThreadPoolExecutor(max_workers=count) as threads:
            yield threads
    else:
        context = get_context("spawn")
        with ProcessPoolExecutor(
            count, mp_context=context, initializer=_prepare_worker
        ) as processes:
            yield processes


def end_with_parent() -> None:
    """End this process when the one that started it is gone.

    A parent that is killed cannot end its workers, and they would stay, or go on for hours.
    """

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _prepare_worker() -> None:
    end_with_parent()
    # One process per core is faster than several that each use every core.
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  comes with scikit-learn

    threadpool_limits(1)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
