"""A plan: which genres would be written into which files, and why. Making one changes nothing.

It is a CSV file that people read, and edit, before they apply it: an ``action`` may be changed from
``write`` to ``leave`` or back, ``new`` may say something else, lines may go.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from genrescope import __version__
from genrescope.errors import InputError
from genrescope.library.catalogue import Catalogue, Known
from genrescope.library.choice import Policy, choose
from genrescope.library.export import write_text
from genrescope.library.tags import can_write, read_genres
from genrescope.library.taxonomy import Taxonomy

COLUMNS = ("action", "path", "old", "new", "confidence", "reason", "stamp")
_MARK = "# genrescope tag plan, format 1"
_LIBRARY = "# library: "
_SEPARATOR = "; "
_NO_PLAN = "Give a file that `genrescope tag plan` has written"


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with one file.

    Attributes
    ----------
    action
        ``write`` or ``leave``.
    path
        Relative to the library, with ``/`` between its parts.
    old, new
        Genres before and after.
    confidence
        Of the new genres together, in [0, 1]; None where there is none.
    reason
        Why, in a few words.
    stamp
        Tells whether the file is still what it was; see ``stamp``.
    """

    action: Literal["write", "leave"]
    path: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    confidence: float | None
    reason: str
    stamp: str


@dataclass(frozen=True)
class Plan:
    """A plan that has been read.

    Attributes
    ----------
    file
        It was read from.
    library
        The folder that its paths lie in.
    key
        12 hex digits that tell its content from that of other plans.
    """

    file: Path
    library: Path
    key: str

    def steps(self) -> Generator[Step]:
        """Read the steps, one by one.

        Raises
        ------
        InputError
            At the first line that is not as it should be.
        """
        with closing(_open(self.file)) as text:
            reader = csv.reader(text, delimiter=_delimiter(text))
            header: list[str] | None = None
            for cells in _told(self.file, reader):
                if not any(cells) or (header is None and cells[0].startswith("#")):
                    continue
                if header is None:
                    header = _header(self.file, cells)
                    continue
                yield _step(self.file, reader.line_num, dict(zip(header, cells, strict=False)))


def stamp(stat: os.stat_result) -> str:
    """Give a word for a file's size and time that no spreadsheet takes for a number."""
    return f"v{stat.st_size:x}-{stat.st_mtime_ns:x}"


def make_plan(
    catalogue: Catalogue,
    library: Path,
    taxonomy: Taxonomy,
    policy: Policy,
    *,
    break_hard_links: bool = False,
) -> Iterator[Step]:
    """Decide for every file of a library that has been heard.

    Parameters
    ----------
    catalogue
        That knows the library.
    library
        Absolute path, without links.
    taxonomy, policy
        See ``choice.choose``.
    break_hard_links
        Whether to tag files that have other names, too; these then keep the old tags.
    """
    for known in catalogue.tracks(str(library)):
        if known.prediction is not None:
            yield _decide(known, library, taxonomy, policy, break_hard_links=break_hard_links)


def write_plan(path: Path, library: Path, steps: Iterable[Step]) -> dict[str, int]:
    """Write a plan, whole or not at all.

    Returns
    -------
    counts
        Of each reason for leaving a file alone; under ``write``, of files to be written.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    counts: dict[str, int] = {"write": 0}
    with write_text(path) as file:
        made = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(
            f"{_MARK}\n# made {made} by genrescope {__version__}; nothing has been changed yet\n"
            "# To leave a file alone, change write to leave or remove its line; new may be edited, "
            f"several genres with ;\n{_LIBRARY}{_quoted(str(library))}\n"
        )
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for step in steps:
            kind = "write" if step.action == "write" else step.reason.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
            sure = "" if step.confidence is None else f"{step.confidence:.3f}"
            old, new = map(_SEPARATOR.join, (step.old, step.new))
            writer.writerow((step.action, step.path, old, new, sure, step.reason, step.stamp))
    return counts


def open_plan(path: Path) -> Plan:
    """Open a plan and check its beginning.

    Raises
    ------
    InputError
        If it cannot be read or is no plan.
    """
    with closing(_open(path)) as text:
        try:
            rows = csv.reader(text, delimiter=_delimiter(text))
            # Spreadsheets break such lines into cells at their commas, and add empty ones.
            head = [",".join(cells).strip().rstrip(",") for cells in islice(rows, 6)]
        except (ValueError, csv.Error) as error:  # ValueError: not UTF-8
            raise InputError(path, "it is no plan", _NO_PLAN) from error
    if head[:1] != [_MARK]:
        raise InputError(path, "it is no plan of this genrescope", _NO_PLAN)
    library = next((line[len(_LIBRARY) :] for line in head if line.startswith(_LIBRARY)), "")
    if not library:
        cause = "the line '# library: …' is missing at its beginning"
        raise InputError(path, cause, "Make the plan again")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Plan(path, Path(library), digest[:12])


def _decide(
    known: Known, library: Path, taxonomy: Taxonomy, policy: Policy, *, break_hard_links: bool
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
    assert known.prediction is not None  # noqa: S101  for the types: the caller saw to it
    choice = choose(old, known.prediction.probabilities, taxonomy, policy)
    if choice.genres is None:
        return leave(choice.reason, mark, choice.confidence)
    return Step("write", name, old, choice.genres, choice.confidence, choice.reason, mark)


def _obstacle(known: Known, stat: os.stat_result, *, break_hard_links: bool) -> str | None:
    if known.path.is_symlink():
        return "it is a link: the file that it leads to may be tagged where it lies"
    if (stat.st_size, stat.st_mtime_ns) != (known.size, known.mtime_ns):
        return "it has changed since the scan"
    if stat.st_nlink > 1 and not break_hard_links:
        return "it has other names, which would keep the old tags: see --break-hard-links"
    if any(sign in str(known.path) for sign in "\r\n"):
        return "there is a line break in its name"
    return None


def _open(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        cause = f"it cannot be read ({error.strerror})"
        raise InputError(path, cause, _NO_PLAN) from error


def _delimiter(text: IO[str]) -> str:
    # Of the line of column names; where a comma is for decimals, spreadsheets take something else.
    header = next((line for line in islice(text, 99) if not line.startswith(("#", '"#'))), "")
    text.seek(0)
    return max(",;\t", key=header.count)


def _told(path: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from rows
    except (ValueError, csv.Error) as error:
        raise InputError(path, f"it cannot be read as CSV ({error})", _NO_PLAN) from error


def _header(path: Path, cells: list[str]) -> list[str]:
    missing = [name for name in ("action", "path", "new", "stamp") if name not in cells]
    if missing:
        cause = f"the column {missing[0]} is missing"
        raise InputError(path, cause, "Make the plan again, or put the column back")
    return cells


def _step(path: Path, line: int, cells: dict[str, str]) -> Step:
    def wrong(cause: str) -> InputError:
        return InputError(path, f"line {line}: {cause}", "Mend the line or remove it")

    action = cells.get("action", "").strip().lower()
    if action not in ("write", "leave"):
        raise wrong(f"the action is {action!r}; there are write and leave")
    name = PurePosixPath(cells.get("path", ""))
    if not name.parts or name.is_absolute() or {"..", "\0"} & {*name.parts, *str(name)}:
        raise wrong("the path does not lie in the library")
    new = _genres(cells.get("new", ""))
    if action == "write" and not new:
        raise wrong("there is no new genre to write")
    sure = cells.get("confidence", "").replace(",", ".")
    try:
        confidence = float(sure) if sure else None
    except ValueError:
        confidence = None  # for people only
    told = cells.get("reason", ""), cells.get("stamp", "")
    return Step(
        "write" if action == "write" else "leave",
        str(name),
        _genres(cells.get("old", "")),
        new,
        confidence,
        *told,
    )


def _genres(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in cell.split(";") if name.strip()))


def _quoted(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
