"""Scan a library: find what is new, hear it with every core, and keep what came of it.

First the folders are walked and compared with the catalogue, which takes seconds; then what waits
is heard. Both go on where they were after a kill, in memory that does not grow with the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from genrescope import load
from genrescope.audio.ranges import fingerprint
from genrescope.audio.walk import FoundFile, walk
from genrescope.classifier import Classifier, Prediction
from genrescope.errors import GenrescopeError, InputError
from genrescope.library.catalogue import Catalogue, CatalogueEntry, Changes, Waiting
from genrescope.reading import no_folder, unreadable
from genrescope.workers import ClosedError, WorkerPool, parallel_map

_SETTLE_S = 2.0  # a file that is still being copied changes more often than that


@dataclass(frozen=True)
class LibrarySurvey:
    """What a walk through a library came upon.

    Attributes
    ----------
    files
        Audio files, in all.
    changes
        How many of them are new, changed and gone since the last walk.
    unreadable
        Folders that could not be looked into; what lies in them is left as it was.
    passed_over
        Paths of files that look like audio and have no ending of it, and of links to folders.
    """

    files: int = 0
    changes: Changes = field(default_factory=Changes)
    unreadable: tuple[InputError, ...] = ()
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScanResult:
    """What came of one file that waited.

    Attributes
    ----------
    path
        Of the file.
    result
        A prediction; an error; or None where the audio was known and had not to be heard.
    """

    path: Path
    result: Prediction | GenrescopeError | None


def open_library(folder: Path) -> Path:
    """Give the one path of a library's folder, without links.

    Raises
    ------
    InputError
        If it is no folder or cannot be read.
    """
    if not folder.is_dir():
        raise InputError(folder, no_folder(folder), "Give the folder of a music library")
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise unreadable(folder, error) from error
    return folder.resolve()


def look(
    catalogue: Catalogue,
    library: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> LibrarySurvey:
    """Walk a library and note in the catalogue what is new, changed or gone.

    Hidden files and folders are left out, and links to folders are not followed.

    Parameters
    ----------
    catalogue
        Open for writing.
    library
        As ``open_library`` gives it.
    progress
        Told the number of files found so far.
    """
    number = catalogue.begin_walk()
    files, changes = 0, Changes()
    unreadable: list[InputError] = []
    passed_over: list[str] = []
    for folder in walk(library):
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
    gone = catalogue.end_walk(str(library), number)
    catalogue.commit()
    return LibrarySurvey(files, changes + Changes(gone=gone), tuple(unreadable), tuple(passed_over))


def hear(
    catalogue: Catalogue, classifier: Classifier, library: Path, workers: int | None = None
) -> Iterator[ScanResult]:
    """Hear every file that waits, and keep what comes of it.

    A file whose audio is known, under another name or with other tags, is not heard again. Each is
    decoded in a process of its own, so that it cannot end this one.

    Parameters
    ----------
    catalogue
        Open for writing; ``look`` tells it what waits.
    classifier
        Opened with one thread.
    library
        As ``open_library`` gives it, or a folder in it.
    workers
        Files side by side; by default one per core.

    Returns
    -------
    outcomes
        As they come. Results are on the disk a second later, or when this ends or is closed.
    """
    model = catalogue.model(classifier)
    with WorkerPool(workers, load, classifier.folder) as pool:
        if catalogue.count_waiting(str(library), model):
            pool.start_one()  # if none can be started, that is no fault of any file
        every = parallel_map(
            partial(_hear, catalogue, pool, model),
            catalogue.waiting(str(library), model),
            pool.count,
            in_order=False,
            stop=pool.close,
        )
        try:
            with closing(every):
                for outcome in every:
                    catalogue.commit(now=False)
                    yield outcome
        finally:
            catalogue.commit()


def watch(
    catalogue: Catalogue, classifier: Classifier, library: Path, workers: int | None = None
) -> Iterator[ScanResult]:
    """Keep up with a library that changes, without end; parameters as of ``hear``.

    Needs watchfiles. A folder is looked into when nothing in it has changed for two seconds.

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
            look_again(catalogue, library, changed)
            changed.clear()
            yield from hear(catalogue, classifier, library, workers)
    except OSError as error:
        cause = f"it cannot be watched ({error.strerror or error})"
        remedy = "Let the system watch more folders (on Linux fs.inotify.max_user_watches), or scan"
        raise InputError(library, cause, f"{remedy} from time to time") from error


def look_again(catalogue: Catalogue, library: Path, changed: Iterable[Path]) -> Changes:
    """Note what is new, changed or gone where something has changed, without a walk through all.

    Parameters
    ----------
    catalogue
        Open for writing.
    library
        As ``open_library`` gives it.
    changed
        Files and folders in it that have come, changed or gone.
    """
    deep: dict[Path, bool] = {}
    for path in changed:
        if not any(part.startswith(".") for part in path.relative_to(library).parts):
            if path != library:
                deep.setdefault(path.parent, False)
            if not path.is_file():
                deep[path] = True  # it may have been moved here with all that is in it, or away
    changes = Changes()
    number = catalogue.begin_walk()
    for folder, deeper in sorted(deep.items()):
        if not folder.is_dir():
            changes += Changes(gone=catalogue.end_walk(str(folder), number))
            continue
        for found in walk(folder, recursive=deeper):
            if found.fault is None:
                changes += catalogue.see(found.path, map(_entry, found.files), number)
    catalogue.commit()
    return changes


def _entry(file: FoundFile) -> CatalogueEntry:
    return CatalogueEntry(file.name, file.size, file.mtime_ns)


def _hear(catalogue: Catalogue, pool: WorkerPool, model: int, file: Waiting) -> ScanResult:
    # Errors of the file are its result; those of the catalogue end the scan.
    try:
        stat = file.path.stat()  # before it is heard: if it changes meanwhile, it is heard again
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
    result = _result(pool, file.path)
    catalogue.save(file.row, stat, mark, model, result)
    return ScanResult(file.path, result)


def _result(pool: WorkerPool, path: Path) -> Prediction | GenrescopeError:
    try:
        return pool.do_file(Classifier.predict, path)
    except GenrescopeError as error:
        return error
    except OSError as error:
        return unreadable(path, error)
    except ClosedError:
        raise
    except Exception as error:  # noqa: BLE001  a fault in a decoder must not end hours of work
        cause = f"it cannot be analysed ({type(error).__name__}: {error})"
        return InputError(path, cause, "Convert it, replace it or remove it")


def _mark(path: Path) -> bytes | None:
    try:
        return fingerprint(path)
    except InputError:  # a damaged container; a decoder may make something of it all the same
        return None
