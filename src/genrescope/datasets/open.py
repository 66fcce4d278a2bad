"""Open whatever data set somebody names: GTZAN, a folder of genres, a CSV file, or the demo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import platformdirs

from genrescope.datasets import demo, folder, gtzan
from genrescope.datasets.findings import Finding, list_audio, problems_of
from genrescope.datasets.layout import Layout
from genrescope.datasets.track import Dataset, genre_key, missing_genres_error
from genrescope.errors import InputError

Reader = Callable[[Path], Dataset]


def open_dataset(
    path: Path, *, layout: Layout = Layout.AUTO, allow_missing_genres: bool = False
) -> Dataset:
    """Read a data set from where it lies.

    Parameters
    ----------
    path
        A copy of GTZAN in any layout, a folder of genre folders, or a CSV file.
    layout
        What a folder is; see ``gtzan.judge`` for ``auto``.
    allow_missing_genres
        Whether a genre may be without any track that can be used; if not, it is an error.

    Raises
    ------
    InputError
        If there is nothing of the kind, or it cannot be used.
    """
    dataset = folder.read_csv(path) if path.is_file() else _open_folder(path, layout)
    if dataset.missing_genres and not allow_missing_genres:
        why = _why(dataset, dataset.missing_genres[0])
        if why is not None and why.unreadable:  # nothing is known to be missing
            raise why.error()
        first = str(why.error()).removesuffix(".") if why else ""
        raise missing_genres_error(path, dataset.missing_genres, first)
    return dataset


def _open_folder(path: Path, layout: Layout) -> Dataset:
    verdict = gtzan.judge(path)
    noted = verdict.notes(path) if layout is Layout.AUTO else []
    if verdict.is_gtzan if layout is Layout.AUTO else layout is Layout.GTZAN:
        return _with(gtzan.read(path), noted)
    home = path if verdict.home is None and layout is Layout.FOLDER else verdict.home
    if home is None:
        cause = f"its genres' folders do not lie side by side: {verdict.doubt}"
        remedy = (
            "Give the one folder in which they do, or read only what is GTZAN's: --layout gtzan"
        )
        raise InputError(path, cause, remedy)
    dataset = folder.read_folder(home)
    remedy = f"Move it into a genre's folder in {home.name}, or out of here"
    outside = list_audio(path)
    cause = "it lies in no genre's folder"
    strays = [
        finding
        for finding in (
            *(Finding("unused", file, cause, remedy) for file in outside.audio),
            *outside.unused,
        )
        if home != path and not finding.path.is_relative_to(home)
    ]
    return _with(dataset, [*noted, *strays])


def _with(dataset: Dataset, findings: Sequence[Finding]) -> Dataset:
    remarks = [str(finding.error()) for finding in findings if finding.kind == "noted"]
    return replace(
        dataset,
        findings=(*findings, *dataset.findings),
        problems=(*problems_of(findings), *dataset.problems),
        notes=(*dataset.notes, *remarks),
    )


def _why(dataset: Dataset, genre: str) -> Finding | None:
    """Find what became of a genre's tracks; None if that is not known."""

    def concerns(finding: Finding) -> bool:
        if finding.genre is not None:
            return genre_key(finding.genre) == genre_key(genre)
        return genre in {gtzan.genre_of(part) for part in finding.path.parts}

    # What could not be looked into comes first, as it may be all that is the matter.
    found = sorted(
        (f for f in dataset.findings if f.kind != "noted"), key=lambda f: not f.unreadable
    )
    return next(filter(concerns, found), None)


def open_demo(progress: Callable[[int, int], object] | None = None) -> Dataset:
    """Render the demo into the user's cache, or find it there."""
    place = Path(platformdirs.user_cache_dir("genrescope")) / "demo"
    return demo.make(place, progress=progress)
