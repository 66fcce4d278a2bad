"""Scan a library: find new files, analyse them on every core, and keep the results.

First the folders are walked and compared with the catalogue, which takes seconds; then the files
that wait are analysed. Both resume after a kill, and their memory does not grow with the library.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrescope.audio.ranges import fingerprint
from genrescope.audio.walk import FoundFile, walk
from genrescope.classifier import Classifier, Prediction
from genrescope.classifier.batch import folder_fault
from genrescope.errors import GenrescopeError, InputError
from genrescope.files import no_folder, unreadable
from genrescope.library.catalogue import Catalogue, CatalogueEntry, Changes, WaitingFile
from genrescope.workers import ClosedError, WorkerPool, parallel_map

_SETTLE_S = 2.0  # a file that is still being copied changes more often than that


@dataclass(frozen=True)
class LibrarySurvey:
    """The result of a walk through a library.

    Attributes
    ----------
    files
        Number of audio files.
    changes
        How many files are new, changed and gone since the last walk.
    unreadable
        Folders that could not be read; the records of their files are kept.
    passed_over
        Paths of files that look like audio but have another extension, and of links to folders.
    """

    files: int = 0
    changes: Changes = field(default_factory=Changes)
    unreadable: tuple[InputError, ...] = ()
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScanResult:
    """The result of one file that waited.

    Attributes
    ----------
    path
        Of the file.
    result
        A prediction; an error; or None if the audio was known and needed no analysis.
    """

    path: Path
    result: Prediction | GenrescopeError | None


def open_library(folder: Path) -> Path:
    """Give the absolute path of a library's folder, with links resolved.

    Raises
    ------
    InputError
        If it is not a folder or cannot be read.
    """
    if not folder.is_dir():
        raise InputError(folder, no_folder(folder), "Give the folder of a music library")
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise unreadable(folder, error) from error
    return folder.resolve()


def survey(
    catalogue: Catalogue,
    library: Path,
    *,
    recursive: bool = True,
    progress: Callable[[int], None] | None = None,
) -> LibrarySurvey:
    """Walk a library and register new, changed and removed files in the catalogue.

    Hidden files and folders are left out, and links to folders are not followed.

    Parameters
    ----------
    catalogue
        Open for writing.
    library
        As ``open_library`` gives it.
    recursive
        Whether to walk subfolders.
    progress
        Called with the number of files found so far.
    """
    number = catalogue.begin_walk()
    files, changes = 0, Changes()
    unreadable: list[InputError] = []
    passed_over: list[str] = []
    for folder in walk(library, recursive=recursive):
        if folder.fault is not None:
            unreadable.append(folder.fault)
            catalogue.spare(folder.path, number)
            continue
        changes += catalogue.see(folder.path, map(_entry, folder.files), number)
        files += len(folder.files)
        passed_over += (*folder.passed_over, *folder.links)
        catalogue.commit(now=False)
        if progress is not None:
            progress(files)
    if recursive:
        changes += Changes(gone=catalogue.end_walk(str(library), number))
        catalogue.register(str(library))
    catalogue.commit()
    return LibrarySurvey(files, changes, tuple(unreadable), tuple(passed_over))


def analyse(
    catalogue: Catalogue,
    classifier: Classifier,
    library: Path,
    workers: int | None = None,
    *,
    recursive: bool = True,
) -> Generator[ScanResult]:
    """Classify and embed every file that waits, and keep the results.

    A file whose audio is known, under another name or with other tags, is not analysed again. Files
    are decoded in worker processes, so that a crash of a decoder does not end this process.

    Parameters
    ----------
    catalogue
        Open for writing, after ``survey``.
    classifier
        Opened with one thread.
    library
        As ``open_library`` gives it, or a folder in it.
    workers
        Files analysed in parallel; by default one per core.
    recursive
        Whether to include subfolders.

    Yields
    ------
    result
        As it arrives. Results are on disk a second later, or when this ends or is closed.
    """
    model = catalogue.model(classifier)
    with WorkerPool(workers, classifier.loader) as pool:
        if catalogue.count_waiting(str(library), model, recursive=recursive):
            pool.start_one()  # if no process can be started, that is no fault of any file
        every = parallel_map(
            partial(_update, catalogue, pool, model),
            catalogue.waiting(str(library), model, recursive=recursive),
            pool.count,
            in_order=False,
            stop=pool.close,
        )
        try:
            with closing(every):
                for result in every:
                    catalogue.commit(now=False)
                    yield result
        finally:
            catalogue.commit()


def watch(
    catalogue: Catalogue, classifier: Classifier, library: Path, workers: int | None = None
) -> Generator[ScanResult]:
    """Follow the changes of a library, without end; parameters as of ``analyse``.

    Needs watchfiles. A folder is walked once nothing in it has changed for two seconds.

    Raises
    ------
    InputError
        If the system cannot watch so many folders, or the library goes away.
    """
    import watchfiles  # noqa: PLC0415  an extra

    changed: set[Path] = set()
    quiet_ms = round(1000 * _SETTLE_S)
    try:
        for batch in watchfiles.watch(
            library,
            watch_filter=None,
            step=200,
            debounce=quiet_ms,
            rust_timeout=quiet_ms,
            yield_on_timeout=True,
            raise_interrupt=True,
        ):
            changed |= {Path(path) for _, path in batch}
            if batch or not changed:
                continue
            survey_changes(catalogue, library, changed)
            changed.clear()
            yield from analyse(catalogue, classifier, library, workers)
    except OSError as error:
        cause = f"it cannot be watched ({error.strerror or error})"
        remedy = "Let the system watch more folders (on Linux fs.inotify.max_user_watches), or scan"
        raise InputError(library, cause, f"{remedy} from time to time") from error


def survey_changes(catalogue: Catalogue, library: Path, changed: Iterable[Path]) -> Changes:
    """Register new, changed and removed files near given paths, without a walk through all.

    Parameters
    ----------
    catalogue
        Open for writing.
    library
        As ``open_library`` gives it.
    changed
        Files and folders in it that were added, changed or removed.
    """
    folders: dict[Path, bool] = {}  # and whether to walk their subfolders
    for path in changed:
        if not any(part.startswith(".") for part in path.relative_to(library).parts):
            if path != library:
                folders.setdefault(path.parent, False)
            if not path.is_file():
                folders[path] = True  # it may have been moved here with its content, or away
    changes = Changes()
    number = catalogue.begin_walk()
    for folder, recursive in sorted(folders.items()):
        if not folder.is_dir():
            changes += Changes(gone=catalogue.end_walk(str(folder), number))
            continue
        for found in walk(folder, recursive=recursive):
            if found.fault is None:
                changes += catalogue.see(found.path, map(_entry, found.files), number)
    catalogue.register(str(library))
    catalogue.commit()
    return changes


def analyse_file(
    pool: WorkerPool, path: Path
) -> tuple[Prediction, NDArray[np.float16]] | GenrescopeError:
    """Classify and embed a file in a worker process; any fault of the file is returned.

    Parameters
    ----------
    pool
        Whose processes have opened the model with ``genrescope.load``.
    path
        Of the file.

    Raises
    ------
    ClosedError
        If the pool is closed meanwhile.
    """
    try:
        return folder_fault(path) if path.is_dir() else pool.do_file(Classifier.analyse, path)
    except GenrescopeError as error:
        return error
    except (OSError, ValueError) as error:
        return unreadable(path, error)
    except ClosedError:
        raise
    except Exception as error:  # noqa: BLE001  a fault in a decoder must not end hours of work
        cause = f"it cannot be analysed ({type(error).__name__}: {error})"
        return InputError(path, cause, "Convert it, replace it or remove it")


def _entry(file: FoundFile) -> CatalogueEntry:
    return CatalogueEntry(file.name, file.size, file.mtime_ns)


def _update(catalogue: Catalogue, pool: WorkerPool, model: int, file: WaitingFile) -> ScanResult:
    # Errors of the file are its result; those of the catalogue end the scan.
    try:
        stat = file.path.stat()  # first: a change during the analysis is seen by the next scan
        mark = _mark(file.path)
    except OSError as error:
        fault = unreadable(file.path, error)
        catalogue.save(file.row, None, None, model, fault)
        return ScanResult(file.path, fault)
    if mark is not None and mark == file.fingerprint:
        catalogue.keep(file.row, stat, mark)
        return ScanResult(file.path, None)
    if mark is not None and catalogue.copy_twin(file.row, stat, mark, model):
        return ScanResult(file.path, None)
    result = analyse_file(pool, file.path)
    catalogue.save(file.row, stat, mark, model, result)
    return ScanResult(file.path, result if isinstance(result, GenrescopeError) else result[0])


def _mark(path: Path) -> bytes | None:
    try:
        return fingerprint(path)
    except InputError:  # a damaged container, which a decoder may still be able to read
        return None
