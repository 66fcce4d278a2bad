"""Open a data set: a published one, a folder of genres, a CSV file, or the demo."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import platformdirs

from genrescope.datasets import demo, folder, gtzan
from genrescope.datasets.findings import Finding, list_audio, problems_of
from genrescope.datasets.layout import Layout
from genrescope.datasets.parquet import unpacked
from genrescope.datasets.registry import read_published, reader_of
from genrescope.datasets.track import Dataset, genre_key, missing_genres_error
from genrescope.errors import InputError


def open_dataset(
    path: str | os.PathLike[str],
    *,
    layout: Layout = Layout.AUTO,
    allow_missing_genres: bool = False,
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    path
        A published data set, GTZAN in any layout, a folder of genre folders, or a CSV file.
    layout
        Of the folder; for ``auto`` see ``reader_of``, then ``gtzan.judge``.
    allow_missing_genres
        Whether a genre without usable tracks is allowed, rather than an error.

    Raises
    ------
    InputError
        If it does not exist or cannot be used.
    """
    path = Path(path)
    home = path if layout is Layout.FOLDER else unpacked(path)
    dataset = folder.read_csv(path) if path.is_file() else _open_folder(home, layout)
    if dataset.missing_genres and not allow_missing_genres:
        why = _why(dataset, dataset.missing_genres[0])
        if why is not None and why.unreadable:  # it may not be missing
            raise why.error()
        first = str(why.error()).removesuffix(".") if why else ""
        raise missing_genres_error(path, dataset.missing_genres, first)
    return dataset


def _open_folder(path: Path, layout: Layout) -> Dataset:
    if (reader := reader_of(path, layout)) is not None:
        remedy = "To read it as your own genres, give --layout folder"
        known = Finding("noted", path, f"it is read as {reader.FACTS.title}", remedy)
        return _with(read_published(reader, path), [known] if layout is Layout.AUTO else [])
    verdict = gtzan.judge(path)
    noted = verdict.notes(path) if layout is Layout.AUTO else []
    if verdict.is_gtzan if layout is Layout.AUTO else layout is Layout.GTZAN:
        return _with(gtzan.read(path), noted)
    home = path if verdict.home is None and layout is Layout.FOLDER else verdict.home
    if home is None:
        cause = f"its genres' folders are not in one folder: {verdict.doubt}"
        remedy = "Give the folder that holds them, or read only GTZAN's files: --layout gtzan"
        raise InputError(path, cause, remedy)
    dataset = folder.read_folder(home)
    remedy = f"Move it into a genre's folder in {home.name}, or elsewhere"
    outside = list_audio(path)
    cause = "it is not in a genre's folder"
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
    """Return why a genre has no tracks; None if unknown."""

    def concerns(finding: Finding) -> bool:
        if finding.genre is not None:
            return genre_key(finding.genre) == genre_key(genre)
        return genre in {gtzan.genre_of(part) for part in finding.path.parts}

    # Unreadable folders come first, as they may be the only reason.
    found = sorted(
        (f for f in dataset.findings if f.kind != "noted"), key=lambda f: not f.unreadable
    )
    return next(filter(concerns, found), None)


def open_demo(progress: Callable[[int, int], object] | None = None) -> Dataset:
    """Render the demo into the user's cache unless it is there already."""
    place = Path(platformdirs.user_cache_dir("genrescope")) / "demo"
    return demo.make(place, progress=progress)
