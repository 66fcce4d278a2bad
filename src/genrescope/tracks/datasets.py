"""Open whatever data set somebody names: GTZAN, a folder of genres, a CSV file, or the demo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs

from genrescope.tracks import demo, folder, gtzan
from genrescope.tracks.track import Dataset

Reader = Callable[[Path], Dataset]


def open_dataset(path: Path) -> Dataset:
    """Read a data set from where it lies.

    Parameters
    ----------
    path
        A copy of GTZAN in any layout, a folder of genre folders, or a CSV file.

    Raises
    ------
    InputError
        If there is nothing of the kind, or it cannot be used.
    """
    if path.is_file():
        return folder.read_csv(path)
    return gtzan.read(path) if gtzan.is_gtzan(path) else folder.read_folder(path)


def open_demo(progress: Callable[[int, int], object] | None = None) -> Dataset:
    """Render the demo into the user's cache, or find it there."""
    place = Path(platformdirs.user_cache_dir("genrescope")) / "demo"
    return demo.make(place, progress=progress)
