"""The published data sets, by the name that ``--layout`` takes: a line for each."""

from __future__ import annotations

from pathlib import Path

from genrescope.datasets import ballroom, fma, homburg, ismir2004, jamendo
from genrescope.datasets.layout import Layout
from genrescope.datasets.published import DatasetReader
from genrescope.datasets.track import Dataset
from genrescope.errors import InputError

READERS: dict[Layout, DatasetReader] = {
    Layout.FMA: fma,
    Layout.JAMENDO: jamendo,
    Layout.ISMIR2004: ismir2004,
    Layout.HOMBURG: homburg,
    Layout.BALLROOM: ballroom,
}
"""GTZAN is not among them: folders of a user's own genres look like it, see ``gtzan.judge``."""


def reader_of(folder: Path, layout: Layout) -> DatasetReader | None:
    """Return the reader of a folder: the named one, or by its contents for ``auto``."""
    if layout is not Layout.AUTO:
        return READERS.get(layout)
    return next((reader for reader in READERS.values() if reader.find(folder) is not None), None)


def read_published(reader: DatasetReader, folder: Path) -> Dataset:
    """Read a published data set.

    Raises
    ------
    InputError
        If it is not there, or no track of it can be used.
    """
    if (home := reader.find(folder)) is None:
        cause = f"it is not laid out as {reader.FACTS.title}"
        raise InputError(folder, cause, f"Give the folder that holds {reader.FACTS.layout}")
    return reader.read(folder, home)
