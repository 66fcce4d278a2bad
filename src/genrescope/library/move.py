"""Put the records of a folder under the path that it was moved to, without a scan."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genrescope.database import to_integer
from genrescope.errors import InputError
from genrescope.library.catalogue import Catalogue
from genrescope.library.scan import open_library

_SHOWN = 3  # spellings in an error


@dataclass(frozen=True)
class MoveResult:
    """The files of a folder whose records were moved, by their paths now.

    Attributes
    ----------
    new
        The folder.
    kept
        Number of files that are there with the size and time they had.
    changed
        Those with another size or time; the next scan compares their audio.
    missing
        Those that were in the old folder at the last scan and are not in the new one.
    """

    new: Path
    kept: int
    changed: tuple[Path, ...]
    missing: tuple[Path, ...]


def find_folder(catalogue: Catalogue, folder: Path) -> Path:
    """Give a folder, which need not exist any more, with the path that the catalogue has for it.

    That is the path as it was given, made absolute, or with links resolved, or another spelling
    where the file system takes it for the same: case and Unicode form may differ.

    Raises
    ------
    InputError
        If the catalogue holds no file of it.
    """
    given = Path(os.path.abspath(folder))  # noqa: PTH100  links stay
    for path in (given, Path(os.path.realpath(folder))):
        if any(catalogue.counts(str(path)).values()):
            return path
    similar = {
        Path(*path.parts[: len(given.parts)])
        for path in catalogue.folders()
        if _folded(path)[: len(given.parts)] == _folded(given)
    }
    for path in sorted(similar):
        if _is_same(path, given):
            return path
    cause = "the catalogue holds no file of this folder"
    shown = ", ".join(map(str, sorted(similar)[:_SHOWN]))
    hint = f"It holds {shown}: give that" if similar else "See `genrescope library list`"
    raise InputError(folder, cause, hint)


def _folded(path: Path) -> list[str]:
    return [unicodedata.normalize("NFC", part).casefold() for part in path.parts]


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # at least one is gone; then the system's rule for names decides
        return os.path.normcase(path) == os.path.normcase(other)


def move(
    catalogue: Catalogue, old: Path, new: Path, progress: Callable[[], None] = lambda: None
) -> MoveResult:
    """Put the records of a folder that was moved under its new path.

    Nothing is analysed, and no file is touched: sizes and times are compared.

    Parameters
    ----------
    catalogue
        Open for writing.
    old
        As ``find_folder`` gives it.
    new
        Where it is now.
    progress
        Called for each file.

    Raises
    ------
    InputError
        If ``new`` is not a folder, is the old one, contains it or lies in it, holds files that are
        recorded already, or holds none of the files; the catalogue is unchanged then.
    """
    root = open_library(new)
    if root == old or root.is_relative_to(old) or old.is_relative_to(root):
        cause = "it is the same folder" if root == old else f"{old} and it overlap"
        remedy = "Run `genrescope scan`: it recognises moved files by their audio"
        raise InputError(new, cause, remedy)
    if recorded := sum(catalogue.counts(str(root)).values()):
        cause = f"the catalogue holds {recorded:,} files of it already"
        raise InputError(new, cause, "Run `genrescope library forget` on it or on the old folder")
    kept = 0
    changed: list[tuple[int, Path]] = []
    missing: list[tuple[int, Path]] = []
    absent: list[int] = []  # and missed by the last scan, too
    for file in catalogue.files(str(old)):
        progress()
        path = root / file.path.relative_to(old)
        try:
            stat = path.stat()
        except OSError:
            if file.gone:
                absent.append(file.row)
            else:
                missing.append((file.row, path))
            continue
        if (stat.st_size, to_integer(stat.st_mtime_ns)) == (file.size, to_integer(file.mtime_ns)):
            kept += 1
        else:
            changed.append((file.row, path))
    if not kept and not changed:
        cause = f"none of the files that the catalogue holds of {old} is there"
        raise InputError(new, cause, "Give the folder with the same files and subfolders")
    catalogue.move(
        str(old),
        str(root),
        missing=[*absent, *(row for row, _ in missing)],
        changed=[row for row, _ in changed],
    )
    return MoveResult(
        root, kept, tuple(path for _, path in changed), tuple(path for _, path in missing)
    )
