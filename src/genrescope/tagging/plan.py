"""Plans: which genres would be written into which files, and why. Writing one changes no tags.

A plan is a CSV file for review and editing: an ``action`` may be changed from ``write`` to
``leave`` or back, ``new`` may be edited, lines may be removed.

Cells are escaped by `io.cell` and `io.written`, each genre by itself: any name or tag is read back
unchanged, and no spreadsheet runs it. Format 1, of genrescope 0.1, has neither, and a shorter
stamp; its plans are still read.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from genrescope import __version__
from genrescope.errors import InputError
from genrescope.files import sha256
from genrescope.io import CsvReader, CsvWriter, cell, read_back, read_cell, write_text, written
from genrescope.library.catalogue import Catalogue, CatalogueTrack
from genrescope.system import has_inodes, is_below
from genrescope.table import encoding_of
from genrescope.tagging.formats import can_write, is_genre, read_genres
from genrescope.tagging.policy import Policy, choose
from genrescope.taxonomy import Taxonomy

COLUMNS = ("action", "path", "old", "new", "confidence", "reason", "stamp")
_MARK = "# genrescope tag plan, format "
_FORMATS = {"1": 1, "2": 2}
_LIBRARY = "# library: "
_SEPARATOR = "; "
_EDGES = re.compile(r"^\s+|\s+$|;")
_SEP = ("sep=", "SEP=", "Sep=")  # by which spreadsheets declare the separator
_NO_PLAN = "Give a file written by `genrescope tag plan`"


@dataclass(frozen=True, slots=True)
class Step:
    """The planned change of one file.

    Attributes
    ----------
    action
        ``write`` or ``leave``.
    path
        Relative to the library, with ``/`` between its parts.
    old, new
        Genres before and after.
    confidence
        Of the new genres together, in [0, 1], or None.
    reason
        A short clause.
    stamp
        Identifies the state of the file; see ``stamp``.
    """

    action: Literal["write", "leave"]
    path: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    confidence: float | None
    reason: str
    stamp: str


@dataclass(frozen=True)
class TagPlan:
    """A plan that has been read.

    Attributes
    ----------
    file
        Of the plan.
    library
        Folder that its paths are relative to.
    key
        12 hex digits that identify its content.
    format
        Of the file.
    """

    file: Path
    library: Path
    key: str
    format: int = 2

    def steps(self) -> Generator[Step]:
        """Read the steps, one by one.

        Raises
        ------
        InputError
            At the first invalid line.
        """
        with closing(_open(self.file)) as text:
            reader = CsvReader(text, delimiter=_delimiter(text))
            header: list[str] | None = None
            for cells in _checked_rows(self.file, reader):
                if not any(cells) or (header is None and cells[0].startswith(("#", *_SEP))):
                    continue
                if header is None:
                    header = _header(self.file, cells)
                    continue
                named = dict(zip(header, cells, strict=False))
                yield _step(self.file, reader.line_num, named, self.format)


def stamp(stat: os.stat_result) -> str:
    """Encode the state of a file as a word that no spreadsheet takes for a number.

    It holds the size and the time of the last change; and the inode, the time of the inode's last
    change and the number of names, which reveal what keeps the first two: another file put in its
    place, other permissions, a second name. Inode and its time are 0 on file systems without them
    (FAT, exFAT).
    """
    times = f"{stat.st_size:x}-{stat.st_mtime_ns:x}"
    inode, ctime = (stat.st_ino, stat.st_ctime_ns) if has_inodes(stat.st_dev) else (0, 0)
    return f"v{times}-{inode:x}-{ctime:x}-{stat.st_nlink:x}"


def difference(stat: os.stat_result, known: str) -> str | None:
    """Describe how a file differs from its stamp.

    Parameters
    ----------
    stat
        Of the current file.
    known
        As of `stamp`; genrescope 0.1 wrote size and time only.

    Returns
    -------
    difference
        As the middle of "it … since the plan was written", or None.
    """
    now, then = stamp(stat).split("-"), known.split("-")
    if len(then) not in (2, len(now)) or now[:2] != then[:2]:
        return "has changed"
    parts = dict(
        zip(("inode", "ctime", "names"), zip(now[2:], then[2:], strict=False), strict=False)
    )
    causes = {
        "names": "has got or lost another name",
        "inode": "was replaced by another file",
        "ctime": "has got other permissions, owner or attributes, or was moved",
    }
    return next(
        (
            why
            for part, why in causes.items()
            if part in parts and "0" not in parts[part] and len({*parts[part]}) > 1
        ),
        None,
    )


def make_plan(
    catalogue: Catalogue,
    library: Path,
    taxonomy: Taxonomy,
    policy: Policy,
    *,
    break_hard_links: bool = False,
) -> Iterator[Step]:
    """Plan the change of every file of a library that has been analysed.

    Parameters
    ----------
    catalogue
        With the predictions.
    library
        Absolute path, without links.
    taxonomy, policy
        See ``policy.choose``.
    break_hard_links
        Whether to tag files with other names; these then keep the old tags.
    """
    for known in catalogue.tracks(str(library)):
        if known.prediction is not None:
            yield _decide(known, library, taxonomy, policy, break_hard_links=break_hard_links)


def write_plan(path: Path, library: Path, steps: Iterable[Step]) -> dict[str, int]:
    """Write a plan, whole or not at all.

    Returns
    -------
    counts
        Of each reason for leaving a file unchanged; under ``write``, of files to write.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    counts: dict[str, int] = {"write": 0}
    with write_text(path) as file:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(
            f"{_MARK}2\n"
            f"# written {now} by genrescope {__version__}; no tags have been changed yet\n"
            "# To leave a file alone, change write to leave or remove its line; new may be edited, "
            "several genres with ;\n"
        )
        writer = CsvWriter(file)
        writer.raw_row(_LIBRARY + _one_line(str(library)))
        writer.raw_row(*COLUMNS)
        for step in steps:
            kind = "write" if step.action == "write" else step.reason.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
            sure = "" if step.confidence is None else f"{step.confidence:.3f}"
            genres = _cell_of(step.old), _cell_of(step.new)
            reason = cell(written(step.reason))
            writer.raw_row(step.action, cell(written(step.path)), *genres, sure, reason, step.stamp)
    return counts


def open_plan(path: Path) -> TagPlan:
    """Open a plan and check its header.

    Raises
    ------
    InputError
        If it cannot be read or is not a plan.
    """
    with closing(_open(path)) as text:
        try:
            rows = CsvReader(text, delimiter=_delimiter(text))
            head = [line for cells in islice(rows, 7) if (line := _line_of(cells))]
        except (ValueError, csv.Error) as error:  # ValueError: not UTF-8
            raise InputError(path, "it is not a plan", _NO_PLAN) from error
    head = head[1:] if head and head[0].startswith(_SEP) else head
    mark = head[0].strip() if head else ""
    if not mark.startswith(_MARK.partition(",")[0]) and any(map(_is_of_a_plan, head)):
        cause = f"its first lines, from '{_MARK}…' on, are missing"
        remedy = "Restore the lines that begin with #, or write a new plan"
        raise InputError(path, cause, remedy)
    known = _FORMATS.get(mark.removeprefix(_MARK)) if mark.startswith(_MARK) else None
    if known is None:
        raise InputError(path, "it is not a plan of this version of genrescope", _NO_PLAN)
    library = next((line[len(_LIBRARY) :] for line in head if line.startswith(_LIBRARY)), "")
    library = read_back(library) if known > 1 else library.strip()
    if not library:
        cause = "the line '# library: …' is missing at its beginning"
        raise InputError(path, cause, "Write a new plan")
    return TagPlan(path, Path(library), sha256(path)[:12], known)


def _is_of_a_plan(line: str) -> bool:
    return line.startswith(_LIBRARY) or {"action", "path", "new", "stamp"} <= {*line.split(",")}


def _decide(
    known: CatalogueTrack,
    library: Path,
    taxonomy: Taxonomy,
    policy: Policy,
    *,
    break_hard_links: bool,
) -> Step:
    name = known.path.relative_to(library).as_posix()
    old: tuple[str, ...] = ()

    def leave(reason: str, mark: str = "", confidence: float | None = None) -> Step:
        return Step("leave", name, old, (), confidence, reason, mark)

    try:
        stat = known.path.lstat()
        obstacle = _obstacle(known, stat, break_hard_links=break_hard_links)
        if obstacle is None:
            old = read_genres(known.path)
            obstacle = can_write(known.path)
    except InputError as error:
        obstacle = f"its tags cannot be read: {error.cause}"
    except OSError as error:
        return leave(f"it cannot be read: {error.strerror}")
    mark = stamp(stat)
    if obstacle is not None:
        return leave(obstacle, mark)
    assert known.prediction is not None  # noqa: S101  for mypy: the caller checks it
    found = known.prediction
    choice = choose(old, found.probabilities, taxonomy, policy, other=found.other)
    if choice.genres is None:
        return leave(choice.reason, mark, choice.confidence)
    if not all(map(is_genre, choice.genres)):
        return leave("an existing genre holds a control character, such as a line break", mark)
    return Step("write", name, old, choice.genres, choice.confidence, choice.reason, mark)


def _obstacle(known: CatalogueTrack, stat: os.stat_result, *, break_hard_links: bool) -> str | None:
    if known.path.is_symlink():
        return "it is a link; its target may be tagged under its own name"
    if (stat.st_size, stat.st_mtime_ns) != (known.size, known.mtime_ns):
        return "it has changed since the scan"
    if stat.st_nlink > 1 and not break_hard_links:
        return "it has other names, which would keep the old tags: see --break-hard-links"
    if not stat.st_mode & 0o222:
        return "it is read-only: make it writable and write a new plan to tag it"
    return None


def _open(path: Path) -> IO[str]:
    # Spreadsheets save "Unicode text" as UTF-16.
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(8))
        return path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")
    except OSError as error:
        cause = f"it cannot be read ({error.strerror})"
        raise InputError(path, cause, _NO_PLAN) from error


def _delimiter(text: IO[str]) -> str:
    # By the header: spreadsheets use another separator where the comma is the decimal sign.
    lines = list(islice(text, 99))
    text.seek(0)
    if lines and (given := re.match(r'"?sep=([,;\t])', lines[0], re.IGNORECASE)):
        return given[1]
    header = next((line for line in lines if not line.startswith(("#", '"#'))), "")
    return max(",;\t", key=header.count)


def _checked_rows(path: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from rows
    except (ValueError, csv.Error) as error:
        raise InputError(path, f"it cannot be read as CSV ({error})", _NO_PLAN) from error


def _header(path: Path, cells: list[str]) -> list[str]:
    missing = [name for name in ("action", "path", "new", "stamp") if name not in cells]
    if missing:
        cause = f"the column {missing[0]} is missing"
        raise InputError(path, cause, "Write a new plan, or restore the column")
    return cells


def _step(path: Path, line: int, cells: dict[str, str], version: int) -> Step:
    def wrong(cause: str) -> InputError:
        return InputError(path, f"line {line}: {cause}", "Fix the line or remove it")

    action = cells.get("action", "").strip().lower()
    if action not in ("write", "leave"):
        raise wrong(f"the action is {action!r}; there are write and leave")

    def text(column: str) -> str:
        found = cells.get(column, "")
        return read_back(read_cell(found)) if version > 1 else found

    name = text("path")
    if not is_below(name):
        raise wrong("the path is not in the library")
    new = _genres(cells.get("new", ""), version)
    if action == "write" and not new:
        raise wrong("there is no new genre to write")
    if action == "write" and (strange := next((name for name in new if not is_genre(name)), None)):
        raise wrong(f"{strange!r} is not a genre: it holds ; or a control character")
    sure = cells.get("confidence", "").replace(",", ".")
    try:
        confidence = float(sure) if sure else None
    except ValueError:
        confidence = None  # informative only
    return Step(
        "write" if action == "write" else "leave",
        str(PurePosixPath(name)),
        _genres(cells.get("old", ""), version),
        new,
        confidence,
        text("reason"),
        cells.get("stamp", ""),
    )


def _genres(text: str, version: int) -> tuple[str, ...]:
    names = (name.strip() for name in text.split(";"))
    if version > 1:
        names = (read_back(read_cell(name)) for name in names)
    return tuple(dict.fromkeys(name for name in names if name))


def _cell_of(genres: Iterable[str]) -> str:
    # ";" and white space at the ends would be lost when the cell is split.
    return _SEPARATOR.join(cell(_EDGES.sub(_escape, written(genre))) for genre in genres)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\u{ord(sign):04x}" for sign in match[0])


def _one_line(text: str) -> str:
    return re.sub(r"[\t\r\n]", _escape, written(text))


def _line_of(cells: list[str]) -> str:
    # Spreadsheets split a line without quotes at its commas, and append empty cells.
    if not any(cells[1:]):
        return cells[0] if cells else ""
    return ",".join(cells).rstrip(",")
