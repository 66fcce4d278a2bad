"""Classify many files: find them, keep the cores busy, let no bad file end the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from genrescope import load
from genrescope.audio.walk import walk
from genrescope.classifier import Classifier, Prediction, Timeline
from genrescope.errors import GenrescopeError, InputError
from genrescope.reading import unreadable
from genrescope.workers import WorkerPool, parallel_map


@dataclass(frozen=True)
class FileResult:
    """What came of one file: a prediction (and a timeline, if asked), or the error."""

    path: Path
    prediction: Prediction | None = None
    timeline: Timeline | None = None
    error: GenrescopeError | None = None


def find_audio(
    paths: Iterable[Path],
    *,
    recursive: bool,
    passed_over: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """Give the files themselves, and the audio files in folders.

    Parameters
    ----------
    paths
        Files, which are given whatever they are, and folders.
    recursive
        Whether to look into folders' folders, too.
    passed_over
        Called with the paths of files that look like audio and have no ending of it, and of links
        to folders, which are not followed.

    Yields
    ------
    path
        Of a file; or of a folder that cannot be read or was named and holds no audio, for which
        ``classify_files`` gives the error.
    """
    for path in paths:
        try:
            is_folder = path.is_dir()
        except (OSError, ValueError):  # whatever it is, opening it says so
            is_folder = False
        if not is_folder:
            yield path
            continue
        nothing = True
        for folder in walk(path, recursive=recursive):
            for other in (*folder.passed_over, *folder.links):
                if passed_over is not None:
                    passed_over(other)
            if folder.fault is not None:
                yield Path(folder.path)
            yield from (Path(file.path) for file in folder.files)
            nothing = nothing and folder.fault is None and not folder.files
        if nothing:
            yield path  # an error for this one, rather than silence


def classify_files(
    classifier: Classifier | WorkerPool,
    paths: Iterable[Path],
    *,
    workers: int | None = None,
    timeline: bool = False,
) -> Iterator[FileResult]:
    """Classify files side by side; answers come in the order of the paths.

    Each file is decoded in a process of its own, so that one that crashes its decoder, or never
    ends, costs itself alone.

    Parameters
    ----------
    classifier
        A classifier, whose folder the processes open; or processes that have opened one with
        ``genrescope.load``.
    paths
        May be endless.
    workers
        Processes; by default one per core.
    timeline
        Whether to add the genres over time.
    """
    if isinstance(classifier, Classifier):
        with WorkerPool(workers, load, classifier.folder) as pool:
            yield from classify_files(pool, paths, timeline=timeline)
        return
    pool = classifier

    def answer(path: Path) -> FileResult:
        try:
            if path.is_dir():
                raise folder_fault(path)
            return replace(pool.do_file(_answer, path, timeline), path=path)
        except GenrescopeError as error:
            return FileResult(path, error=error)
        except (OSError, ValueError) as error:
            return FileResult(path, error=unreadable(path, error))

    yield from parallel_map(answer, paths, pool.count, stop=pool.close)


def _answer(classifier: Classifier, path: Path, timeline: bool) -> FileResult:
    prediction = classifier.predict(path)
    return FileResult(path, prediction, classifier.timeline(path) if timeline else None)


def folder_fault(path: Path) -> InputError:
    """Give the error for a folder in the place of a file: why it gave no files."""
    found = next(walk(path, recursive=False))
    remedy = "Give files, or look deeper with --recursive"
    return found.fault or InputError(path, "no audio files in this folder", remedy)
