"""Plans: which genres would be written into which files, and why. Writing one changes no tags.

A plan is a CSV file for review and editing: an ``action`` may be changed between ``write`` and
``leave``, ``new`` may be edited, lines may be removed. ``review`` leaves a file unchanged, too:
what its audio is sure of contradicts its tag, or its album's. These rows come first.

Cells are escaped by `io.cell` and `io.written`, each genre by itself: any name or tag is read back
unchanged, and no spreadsheet runs it. Format 1, of genrescope 0.1, has neither, and a shorter
stamp; format 2 has no evidence. Their plans are still read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Literal, get_args

from genrescope import __version__
from genrescope.errors import InputError, number_of
from genrescope.files import sha256
from genrescope.io import CsvReader, CsvWriter, cell, read_back, read_cell, write_text, written
from genrescope.library.catalogue import Catalogue
from genrescope.system import is_below
from genrescope.table import encoding_of
from genrescope.tagging.formats import can_write, is_genre
from genrescope.tagging.policy import AlbumVote, Policy, choose
from genrescope.tagging.records import LibraryRecords, read_records
from genrescope.taxonomy import Taxonomy

_EVIDENCE = ("audio", "file", "album", "artist")
COLUMNS = ("action", "path", "old", "new", "confidence", "reason", *_EVIDENCE, "stamp")
Action = Literal["write", "leave", "review"]
_ACTIONS: tuple[Action, ...] = get_args(Action)
_MARK = "# genrescope tag plan, format "
_FORMATS = {"1": 1, "2": 2, "3": 3}
_HEAD = 10  # lines before the first row, at most
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
        ``write``, ``leave`` or ``review``, which leaves it, too.
    path
        Relative to the library, with ``/`` between its parts.
    old, new
        Genres before and after.
    confidence
        Of the first new genre, in [0, 1]; None if there is none, or it is by tags alone.
    reason
        A short clause.
    stamp
        Identifies the state of the file; see ``genrescope.tagging.stamp``.
    audio, file, album, artist
        For people: what the audio, the file's own genres, the rest of its album and the artist's
        other tracks say; see ``genrescope.tagging.records.LibraryRecords``.
    """

    action: Action
    path: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    confidence: float | None
    reason: str
    stamp: str
    audio: str = ""
    file: str = ""
    album: str = ""
    artist: str = ""


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
    format: int = 3

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


def make_plan(
    catalogue: Catalogue,
    library: Path,
    taxonomy: Taxonomy,
    policy: Policy,
    *,
    break_hard_links: bool = False,
    album: AlbumVote = AlbumVote.AGREE,
    from_tags: bool = False,
    written: Mapping[str, tuple[str, ...]] | None = None,
    on_read: Callable[[int], None] | None = None,
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
    album
        When the tracks of an album get one genre; see ``evidence.weigh``.
    from_tags
        Whether a file that is none of the model's genres gets one that the tagger names; see
        ``tag_genres``. Such a step has no confidence.
    written
        Genres of files by former plans, as of ``Journal.written``: they are no evidence.
    on_read
        Called with the number of files read so far, all of which are before the first step.

    Yields
    ------
    steps
        Those to be reviewed first.
    """
    records = read_records(
        catalogue,
        library,
        taxonomy,
        album,
        break_hard_links=break_hard_links,
        from_tags=from_tags,
        written=written,
        on_read=on_read,
    )
    steps = [_decide(records, number, library, taxonomy, policy) for number in range(len(records))]
    yield from (step for step in steps if step.action == "review")
    yield from (step for step in steps if step.action != "review")


def describe_plan(steps: Iterable[Step]) -> str:
    """Say how many files are to be written, and how many of them are expected to be wrong."""
    confidences = [step.confidence for step in steps if step.action == "write"]
    known = [confidence for confidence in confidences if confidence is not None]
    said = f"{number_of(len(confidences), 'file')} to be written"
    if len(known) < len(confidences):
        by_tags = len(confidences) - len(known)
        said += f", {by_tags:,} of them by tags alone, without a confidence"
    if not known:
        return said
    wrong = round(sum(1 - confidence for confidence in known))
    if wrong < 1:
        return f"{said}; fewer than one of them is expected to be wrong"
    return f"{said}; about {wrong:,} of them {'is' if wrong == 1 else 'are'} expected to be wrong"


def write_plan(
    path: Path, library: Path, steps: Iterable[Step], *, models: Sequence[str] = ()
) -> dict[str, int]:
    """Write a plan, whole or not at all.

    Parameters
    ----------
    path
        Of its file.
    library
        That the paths of the steps are relative to.
    steps
        As of ``make_plan``.
    models
        Names of those that made the predictions, for its head.

    Returns
    -------
    counts
        Of each reason for leaving a file unchanged; under ``write`` and ``review``, of files to
        write and to review.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    counts: dict[str, int] = {"write": 0, "review": 0}
    steps = list(steps)
    with write_text(path) as file:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(
            f"{_MARK}3\n"
            f"# written {now} by genrescope {__version__}; no tags have been changed yet\n"
            f"# {describe_plan(steps)}\n"
            "# To leave a file alone, change write to leave or remove its line; to write one that "
            "is to be reviewed, change review to write; new may be edited, several genres with ;\n"
        )
        writer = CsvWriter(file)
        if models:
            writer.raw_row(_one_line(f"# genres by: {'; '.join(models)}"))
        writer.raw_row(_LIBRARY + _one_line(str(library)))
        writer.raw_row(*COLUMNS)
        for step in steps:
            kind = step.reason.partition(":")[0] if step.action == "leave" else step.action
            counts[kind] = counts.get(kind, 0) + 1
            sure = "" if step.confidence is None else f"{step.confidence:.3f}"
            genres = _cell_of(step.old), _cell_of(step.new)
            said = [cell(written(getattr(step, name))) for name in ("reason", *_EVIDENCE)]
            writer.raw_row(step.action, cell(written(step.path)), *genres, sure, *said, step.stamp)
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
            head = [line for cells in islice(rows, _HEAD) if (line := _line_of(cells))]
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
    records: LibraryRecords, number: int, library: Path, taxonomy: Taxonomy, policy: Policy
) -> Step:
    file = records.files[number]

    def step(
        action: Action, reason: str, new: tuple[str, ...] = (), confidence: float | None = None
    ) -> Step:
        said = records.columns(number)
        return Step(action, file.path, file.old, new, confidence, reason, file.stamp, *said)

    if file.obstacle is not None:
        return step("leave", file.obstacle)
    choice = choose(
        file.old,
        records.probabilities(number),
        taxonomy,
        policy,
        other=file.other,
        unsure_below=records.unsure_below(number),
        around=records.around(number),
    )
    confidence: float | None = choice.confidence
    if choice.genres is None and file.by_tags is not None:
        genre = {file.by_tags.genre: 1.0}
        around = records.around(number)
        by_tags = choose(file.old, genre, taxonomy, policy, around=around)
        if by_tags.genres is not None:
            choice, confidence = replace(by_tags, reason=file.by_tags.reason), None
    if choice.genres is None:
        action: Action = "review" if choice.proposed else "leave"
        return step(action, choice.reason, choice.proposed, confidence)
    if not all(map(is_genre, choice.genres)):
        return step("leave", "an existing genre holds a control character, such as a line break")
    try:
        obstacle = can_write(library / file.path)
    except InputError as error:
        obstacle = f"its tags cannot be written: {error.cause}"
    if obstacle is not None:
        return step("leave", obstacle)
    return step("write", choice.reason, choice.genres, confidence)


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
    if action not in _ACTIONS:
        raise wrong(f"the action is {action!r}; there are write, leave and review")

    def text(column: str) -> str:
        found = cells.get(column, "")
        return read_back(read_cell(found)) if version > 1 else found

    name = text("path")
    if not is_below(name):
        raise wrong("the path is not in the library")
    new = _genres(cells.get("new", ""), version)
    if action == "write" and not new:
        raise InputError(
            path,
            f"line {line}: there is no new genre to write into {name}",
            "Give one, or set the action to leave",
        )
    if action == "write" and (strange := next((name for name in new if not is_genre(name)), None)):
        raise wrong(f"{strange!r} is not a genre: it holds ; or a control character")
    sure = cells.get("confidence", "").replace(",", ".")
    try:
        confidence = float(sure) if sure else None
    except ValueError:
        confidence = None  # informative only
    return Step(
        action,
        str(PurePosixPath(name)),
        _genres(cells.get("old", ""), version),
        new,
        confidence,
        text("reason"),
        cells.get("stamp", ""),
        *map(text, _EVIDENCE),
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
