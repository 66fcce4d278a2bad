"""Classify many files: find them, keep the cores busy, let no bad file end the run."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from genrescope.audio import is_audio
from genrescope.classifier import Classifier, Prediction, Timeline
from genrescope.errors import GenrescopeError, InputError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Answer:
    """What came of one file: a prediction (and a timeline, if asked), or the error."""

    path: Path
    prediction: Prediction | None = None
    timeline: Timeline | None = None
    error: GenrescopeError | None = None


def find_audio(paths: Iterable[Path], *, recursive: bool) -> Iterator[Path]:
    """Give the files themselves, and the audio files in folders, in the order of their names.

    Parameters
    ----------
    paths
        Files, which are given whatever they are, and folders.
    recursive
        Whether to look into folders' folders, too.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = path.rglob("*") if recursive else path.iterdir()
        found = sorted(file for file in inside if is_audio(file) and file.is_file())
        if found:
            yield from found
        else:
            yield path  # an error for this one, rather than silence


def classify_files(
    classifier: Classifier,
    paths: Iterable[Path],
    *,
    workers: int | None = None,
    timeline: bool = False,
) -> Iterator[Answer]:
    """Classify files side by side; answers come in the order of the paths.

    Parameters
    ----------
    classifier
        Opened with one thread, for the parallelism is over files.
    paths
        May be endless.
    workers
        Threads; by default one per core.
    timeline
        Whether to add the genres over time.
    """
    return side_by_side(lambda path: _answer(classifier, path, timeline=timeline), paths, workers)


def side_by_side(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int | None = None,
    *,
    in_order: bool = True,
) -> Generator[_Result]:
    """Do something with many files; results come in the order of the files.

    Decoding and inference leave Python to other threads, so threads are enough. Only a few files
    more than there are workers are in memory at a time.

    Parameters
    ----------
    work
        To be done with each file; must be fit for threads.
    items
        Files, or whatever stands for them; may be endless.
    workers
        Threads; by default one per core.
    in_order
        Without, results come as they are done, and a long file keeps no worker waiting.
    """
    count = workers or os.cpu_count() or 1
    pending: deque[Future[_Result]] = deque()

    def one_done() -> _Result:
        if not in_order and not pending[0].done():
            first = next(iter(wait(pending, return_when=FIRST_COMPLETED).done))
            pending.remove(first)
            return first.result()
        return pending.popleft().result()

    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= 2 * count:
                    yield one_done()
            while pending:
                yield one_done()
        finally:
            pool.shutdown(cancel_futures=True)


def _answer(classifier: Classifier, path: Path, *, timeline: bool) -> Answer:
    try:
        if path.is_dir():
            remedy = "Give files, or look deeper with --recursive"
            raise InputError(path, "no audio files in this folder", remedy)
        prediction = classifier.predict(path)
        return Answer(path, prediction, classifier.timeline(path) if timeline else None)
    except GenrescopeError as error:
        return Answer(path, error=error)
    except OSError as error:
        cause = f"it cannot be read ({error.strerror or error})"
        return Answer(path, error=InputError(path, cause, "Check that you may read it"))
