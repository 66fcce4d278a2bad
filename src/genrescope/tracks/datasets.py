"""Open whatever data set somebody names: GTZAN, a folder of genres, a CSV file, or the demo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import platformdirs

from genrescope.errors import InputError
from genrescope.tracks import demo, folder, gtzan
from genrescope.tracks.findings import Finding, list_audio, problems_of
from genrescope.tracks.layout import Layout
from genrescope.tracks.track import Dataset, missing_genres_error

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
        raise missing_genres_error(path, dataset.missing_genres, _why(dataset))
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


def _why(dataset: Dataset) -> str:
    """Say what became of the files, from the first problem; empty if there is none."""
    return str(dataset.problems[0]).removesuffix(".") if dataset.problems else ""


def open_demo(progress: Callable[[int, int], object] | None = None) -> Dataset:
    """Render the demo into the user's cache, or find it there."""
    place = Path(platformdirs.user_cache_dir("genrescope")) / "demo"
    return demo.make(place, progress=progress)
