"""Scan a library: find what is new, hear it with every core, and keep what came of it.

First the folders are walked and compared with the catalogue, which takes seconds; then what waits
is heard. Both go on where they were after a kill, in memory that does not grow with the library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from genrescope.audio import is_audio
from genrescope.classifier import Classifier, Prediction
from genrescope.errors import GenrescopeError, InputError
from genrescope.library.apart import Apart, CrashedError, Team
from genrescope.library.catalogue import Catalogue, Changes, Entry, Waiting
from genrescope.library.many import side_by_side
from genrescope.library.payload import fingerprint

_MANY = 50  # files that pay for the half second that processes take to start
_SETTLE_S = 2.0  # a file that is still being copied changes more often than that


@dataclass(frozen=True)
class Found:
    """What a walk through a library came upon.

    Attributes
    ----------
    files
        Audio files, in all.
    changes
        How many of them are new, changed and gone since the last walk.
    unreadable
        Folders that could not be looked into; what lies in them is left as it was.
    """

    files: int = 0
    changes: Changes = field(default_factory=Changes)
    unreadable: tuple[InputError, ...] = ()


@dataclass(frozen=True)
class Outcome:
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
        cause = "it is a file" if folder.exists() else "no such folder"
        raise InputError(folder, cause, "Give the folder of a music library")
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        cause = f"it cannot be read ({error.strerror})"
        raise InputError(folder, cause, "Check that you may read it") from error
    return folder.resolve()


def look(
    catalogue: Catalogue,
    library: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> Found:
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
    walk = catalogue.begin_walk()
    files, changes = 0, Changes()
    unreadable: list[InputError] = []
    for folder, found in _walk(library):
        if isinstance(found, InputError):
            unreadable.append(found)
            catalogue.spare(folder, walk)
            continue
        changes += catalogue.see(folder, found, walk)
        files += len(found)
        catalogue.commit(now=False)
        if progress is not None:
            progress(files)
    gone = catalogue.end_walk(str(library), walk)
    catalogue.commit()
    return Found(files, changes + Changes(gone=gone), tuple(unreadable))


def hear(
    catalogue: Catalogue, classifier: Classifier, library: Path, workers: int | None = None
) -> Iterator[Outcome]:
    """Hear every file that waits, and keep what comes of it.

    A file whose audio is known, under another name or with other tags, is not heard again. One that
    an earlier run died of is heard in a process of its own, so that it cannot end this one.

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
    are_many = catalogue.count_waiting(str(library), model) >= _MANY
    # Threads of one process get in each other's way, for decoding takes turns with Python.
    ears = Team(workers or os.cpu_count() or 1, _open, classifier.folder) if are_many else None
    predict = partial(_ask, ears) if ears else classifier.predict
    work = partial(_hear, catalogue, classifier.folder, predict, model)
    every = side_by_side(work, catalogue.waiting(str(library), model), workers, in_order=False)
    try:
        with closing(every):
            for outcome in every:
                catalogue.commit(now=False)
                yield outcome
    finally:
        catalogue.end_hearing()
        if ears:
            ears.close()


def watch(
    catalogue: Catalogue, classifier: Classifier, library: Path, workers: int | None = None
) -> Iterator[Outcome]:
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
    walk = catalogue.begin_walk()
    for folder, deeper in sorted(deep.items()):
        if not folder.is_dir():
            changes += Changes(gone=catalogue.end_walk(str(folder), walk))
            continue
        for below, found in _walk(folder, deeper=deeper):
            if not isinstance(found, InputError):
                changes += catalogue.see(below, found, walk)
    catalogue.commit()
    return changes


def _walk(top: Path, *, deeper: bool = True) -> Iterator[tuple[str, list[Entry] | InputError]]:
    # Every folder with its audio files, or with the reason why it cannot be read.
    waiting = [str(top)]
    while waiting:
        folder = waiting.pop()
        entries, below = [], []
        try:
            with os.scandir(folder) as inside:
                for item in inside:
                    if item.name.startswith("."):
                        continue
                    if item.is_dir(follow_symlinks=False):
                        below.append(item.path)
                    elif is_audio(Path(item.name)) and not item.is_dir():
                        entries.append(_entry(item))
        except OSError as error:
            cause = f"it cannot be read ({error.strerror})"
            yield folder, InputError(Path(folder), cause, "Check that you may read it")
            continue
        waiting += sorted(below, reverse=True) if deeper else []
        yield folder, sorted(entries, key=lambda entry: entry.name)


def _entry(item: os.DirEntry[str]) -> Entry:
    try:
        stat = item.stat()
    except OSError:  # a link to nowhere; hearing it will tell
        return Entry(item.name, -1, 0)
    return Entry(item.name, stat.st_size, stat.st_mtime_ns)


def _hear(
    catalogue: Catalogue,
    model_folder: Path,
    predict: Callable[[Path], Prediction],
    model: int,
    file: Waiting,
) -> Outcome:
    # Errors of the file are its result; those of the catalogue end the scan.
    try:
        stat = file.path.stat()  # before it is heard: if it changes meanwhile, it is heard again
        mark = _mark(file.path)
    except OSError as error:
        fault = _fault(file.path, error)
        catalogue.save(file.row, None, None, model, fault)
        return Outcome(file.path, fault)
    if mark is not None and mark == file.fingerprint:
        catalogue.keep(file.row, stat, mark)
        return Outcome(file.path, None)
    if mark is not None and catalogue.copy_twin(file.row, stat, mark, model):
        return Outcome(file.path, None)
    result = _result(partial(_hear_apart, model_folder) if file.suspect else predict, file.path)
    catalogue.save(file.row, stat, mark, model, result)
    return Outcome(file.path, result)


def _result(predict: Callable[[Path], Prediction], path: Path) -> Prediction | GenrescopeError:
    try:
        return predict(path)
    except GenrescopeError as error:
        return error
    except OSError as error:
        return _fault(path, error)
    except Exception as error:  # noqa: BLE001  a fault in a decoder must not end hours of work
        cause = f"it cannot be heard ({type(error).__name__}: {error})"
        return InputError(path, cause, "Convert it, replace it or remove it")


def _fault(path: Path, error: OSError) -> InputError:
    cause = f"it cannot be read ({error.strerror or error})"
    return InputError(path, cause, "Check that it is there and that you may read it")


def _mark(path: Path) -> bytes | None:
    try:
        return fingerprint(path)
    except InputError:  # a damaged container; a decoder may make something of it all the same
        return None


def _hear_apart(model_folder: Path, path: Path) -> Prediction:
    with Apart(_open, model_folder) as process:
        return _ask(process, path)


def _ask(process: Apart | Team, path: Path) -> Prediction:
    try:
        return process.do(Classifier.predict, path)
    except CrashedError:
        cause = "it kills the process that hears it (a crash of its decoder, or no memory left)"
        raise InputError(path, cause, "Convert it, replace it or remove it") from None


def _open(model_folder: Path) -> Classifier:
    return Classifier(model_folder, threads=1)
