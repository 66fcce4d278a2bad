"""The published data sets, by the name that ``--layout`` takes: a line for each."""

from __future__ import annotations

from pathlib import Path

from genrescope.datasets import ballroom, fma, homburg, ismir2004, jamendo
from genrescope.datasets.layout import Layout
from genrescope.datasets.published import DatasetReader

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
