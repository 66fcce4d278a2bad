"""Classify many files: find them, use every core, continue after bad files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from genrescope.audio.walk import walk
from genrescope.classifier import Classifier, Prediction, Timeline
from genrescope.classifier.explain import Explanation, explain
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.files import unreadable
from genrescope.workers import WorkerPool, parallel_map

_log = logging.getLogger("genrescope")
_log.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class FileResult:
    """Result of one file: a prediction (with what else was requested), or the error."""

    path: Path
    prediction: Prediction | None = None
    timeline: Timeline | None = None
    explanation: Explanation | None = None
    error: GenrescopeError | None = None


def find_audio(
    paths: Iterable[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    passed_over: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """Yield the files themselves, and the audio files in folders.

    Parameters
    ----------
    paths
        Files, which are yielded whatever their type, and folders.
    recursive
        Whether to recurse into subfolders.
    passed_over
        Called with each path that is skipped: files that look like audio but lack an audio file
        name extension, and links to folders. The logger ``genrescope`` reports them at level INFO.

    Yields
    ------
    path
        Of a file; or of a folder that cannot be read, or that was given and holds no audio: for
        these ``classify_files`` returns the error.
    """
    for path in map(Path, paths):
        try:
            is_folder = path.is_dir()
        except (OSError, ValueError):  # opening it reports the cause
            is_folder = False
        if not is_folder:
            yield path
            continue
        is_empty = True
        for folder in walk(path, recursive=recursive):
            for skipped in (*folder.passed_over, *folder.links):
                _log.info("skipped: %s", one_line(skipped))
                if passed_over is not None:
                    passed_over(skipped)
            if folder.fault is not None:
                yield Path(folder.path)
            yield from (Path(file.path) for file in folder.files)
            is_empty = is_empty and folder.fault is None and not folder.files
        if is_empty:
            yield path  # gives an error, which silence would hide


def classify_files(
    classifier: Classifier | WorkerPool,
    paths: Iterable[str | os.PathLike[str]],
    *,
    workers: int | None = None,
    timeline: bool = False,
    explanation: bool = False,
) -> Iterator[FileResult]:
    """Classify files in parallel; results come in the order of the paths.

    Files are decoded in worker processes, so a file that crashes or blocks its decoder affects no
    other. The logger ``genrescope`` reports damaged files and errors at level WARNING.

    Parameters
    ----------
    classifier
        A classifier, which each worker loads from its folder; or a pool of workers that have
        loaded one with ``genrescope.load``.
    paths
        Of files; see `find_audio` for folders. Read as needed: may be endless.
    workers
        Number of processes; by default one per core.
    timeline
        Whether to add the genres over time.
    explanation
        Whether to add what the answer rests on; see `explain`.
    """
    if isinstance(classifier, Classifier):
        with WorkerPool(workers, classifier.loader) as pool:
            yield from classify_files(pool, paths, timeline=timeline, explanation=explanation)
        return
    pool = classifier

    def classify(path: Path) -> FileResult:
        try:
            if path.is_dir():
                raise folder_fault(path)
            result = replace(pool.do_file(_classify, path, timeline, explanation), path=path)
        except GenrescopeError as error:
            result = FileResult(path, error=error)
        except (OSError, ValueError) as error:
            result = FileResult(path, error=unreadable(path, error))
        if result.error is not None:
            _log.warning("%s", result.error)
        for warning in result.prediction.warnings if result.prediction is not None else ():
            _log.warning("%s: %s", one_line(str(path)), warning)
        return result

    yield from parallel_map(classify, map(Path, paths), pool.count, stop=pool.close)


def _classify(classifier: Classifier, path: Path, timeline: bool, explanation: bool) -> FileResult:
    return FileResult(
        path,
        classifier.predict(path),
        classifier.timeline(path) if timeline else None,
        explain(classifier, path) if explanation else None,
    )


def folder_fault(path: Path) -> InputError:
    """Return the error for a folder given in place of a file: why it yielded no files."""
    found = next(walk(path, recursive=False))
    remedy = "Give files, or look deeper with --recursive"
    return found.fault or InputError(path, "no audio files in this folder", remedy)
