"""Writing: names as text, CSV and JSON; files that appear whole, or not at all.

A file's name on POSIX is any bytes but NUL and "/". Python holds what is not UTF-8 as lone
surrogates, which no encoding takes, and a name may steer a terminal. So a name leaves the program
by one of two doors: `errors.one_line`, for people, and `written`, for programs, which `read_back`
undoes. `to_json` and `CsvWriter` see to the second.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import json
import os
import re
import secrets
import shutil
import stat as modes
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from genrescope import system
from genrescope.errors import InputError, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What no text may hold, or what steers a terminal: control characters (but tab and ends of lines),
# lone surrogates, turns of direction. And the backslash where what follows reads as an escape.
_STEERING = "\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNWRITABLE = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f{_STEERING}]|\\\\(?=u[0-9a-f]{{4}})")
_UNWRITABLE_JSON = re.compile(f"[{_STEERING}]")  # what is below, JSON escapes by itself
_NO_LINE = re.compile("[\x00-\x08\n-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
# What spreadsheets run: a formula's first sign (in its wide, small and raised forms, too), whatever
# white space, quotes and invisible signs they pass over before it.
_BEFORE = "[\\s\"'`´‘’‚‛“”„‟«»‹›\u00ad\u200b-\u200f\u2060\ufeff]*"
_FIRST = "[=+@\\-−＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋]"
_FORMULA = re.compile(_BEFORE + _FIRST)
# Where the cells of a line are parted by another sign than a comma, one may begin within ours.
_INNER = re.compile(f"[;\t\r\n](?={_BEFORE}{_FIRST})")
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~$]|&(?=#?\w+;)")
_QUOTES = "\"'"
_LONGEST_CELL = 2**31 - 1
_NUMBERS = (int, float, Decimal, type(None))
# SQLite's databases, and the logs beside them that hold what is not yet in them.
_DATABASES = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")

IsAudio = Callable[[Path, bytes], bool]
"""Whether a file is audio, by its path and its first 16 bytes: `audio.formats.may_be_audio`."""

ESCAPE, READABLE = "genrescope.escape", "genrescope.readable"
"""Handlers of characters that an encoding lacks: as in JSON; or, for people, the nearest sign."""

_NEAREST = {"…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "±": "+-", "→": "->", "█": "#"}


def written(text: str, encoding: str = "utf-8") -> str:
    r"""Give a text as it can be written to a file, and read back with `read_back`.

    Parameters
    ----------
    text
        Any; a path's name that is not UTF-8 has lone surrogates (`os.fsdecode`).
    encoding
        Of the file.

    Returns
    -------
    text
        The same but for control characters other than tab and ends of lines, lone surrogates,
        turns of direction and what the encoding lacks: these are ``\uXXXX``, as in JSON; so is a
        backslash that stands before a ``u`` and four hex digits.
    """
    text = _UNWRITABLE.sub(_escape, text)
    return text if is_unicode(encoding) else text.encode(encoding, ESCAPE).decode(encoding)


def read_back(text: str) -> str:
    """Undo `written`."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def to_json(value: Any, indent: int | None = None, encoding: str = "utf-8") -> str:
    r"""Give JSON that can be written in an encoding, and steers no terminal.

    Names that are not UTF-8 hold escapes such as ``\udce9``; in Python,
    ``os.fsencode(json.loads(text)["path"])`` gives the file's own bytes.
    """
    plain = not is_unicode(encoding)
    return _UNWRITABLE_JSON.sub(_escape, json.dumps(value, ensure_ascii=plain, indent=indent))


def is_plain_line(text: str, encoding: str = "utf-8") -> bool:
    """Tell whether a text can be a line of a file: of a playlist, where nothing can be escaped."""
    if _NO_LINE.search(text):
        return False
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def is_unicode(encoding: str | None) -> bool:
    """Tell whether an encoding holds every character."""
    return (encoding or "").lower().replace("_", "-").startswith("utf")


def cell(text: str) -> str:
    """Mark a text that a spreadsheet would run, by an apostrophe before it.

    `read_cell` takes it off again. A cell that begins with an apostrophe of its own keeps it: it
    gets a second one if what follows would be run.
    """
    text = _INNER.sub(_escape, text)
    return f"'{text}" if _is_formula(text) else text


def read_cell(text: str) -> str:
    """Undo `cell`; what follows is for `read_back`."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def markdown_text(text: str) -> str:
    """Give a name as Markdown shows it word for word, in a table's cell, too."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


class CsvWriter:
    """Writes CSV: UTF-8, ends of lines quoted, nothing that a spreadsheet runs.

    Parameters
    ----------
    file
        Where to. On a terminal, cells are one line each and steer nothing.
    end
        Of a line.
    """

    def __init__(self, file: IO[str], end: str = "\n") -> None:
        self._file, self._end = file, end
        self._is_terminal = file.isatty()
        self._encoding = getattr(file, "encoding", None) or "utf-8"

    def row(self, *cells: object) -> None:
        """Write a line; numbers and None as they are, all else as text."""
        self.raw_row(*(c if isinstance(c, _NUMBERS) else self._text(c) for c in cells))

    def raw_row(self, *cells: object) -> None:
        """Write a line of cells that are `cell`s of `written` text already."""
        line = io.StringIO(newline="")
        csv.writer(line).writerow(cells)  # by its \r\n both ends of lines are quoted
        self._file.write(line.getvalue()[:-2] + self._end)

    def _text(self, value: object) -> str:
        if self._is_terminal:
            return cell(one_line(str(value)))
        return cell(written(str(value), self._encoding))


class CsvReader:
    """A `csv.reader` that takes cells of any length, whatever limit the process has set for others.

    Parameters
    ----------
    text
        Lines; a file opened with ``newline=""``.
    **dialect
        What `csv.reader` takes.
    """

    def __init__(self, text: Iterable[str], **dialect: Any) -> None:
        self._rows = csv.reader(text, **dialect)

    @property
    def line_num(self) -> int:
        """Lines read so far, of which a quoted cell may hold several."""
        return self._rows.line_num

    def __iter__(self) -> CsvReader:
        return self

    def __next__(self) -> list[str]:
        before = csv.field_size_limit(_LONGEST_CELL)  # one limit holds for the whole process
        try:
            return next(self._rows)
        finally:
            csv.field_size_limit(before)


def _is_formula(text: str) -> bool:
    # Of two texts that differ by an apostrophe before them, both are or none: `read_cell` needs it.
    return _FORMULA.match(text) is not None or text.lstrip(_QUOTES).startswith(("\t", "\r", "\n"))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _escape_missing(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_NEAREST.get(sign) or json.dumps(sign)[1:-1] for sign in signs), error.end


codecs.register_error(ESCAPE, _escape_missing)
codecs.register_error(READABLE, _nearest)


@dataclass(frozen=True, slots=True)
class _Place:
    # Where an output goes: a file that is replaced (or made), or what is written into as it is.
    path: Path
    status: os.stat_result | None
    into: int | Path | None = None


def check_output(
    path: Path,
    option: str = "--out",
    *,
    inputs: Iterable[Path] = (),
    is_audio: IsAudio | None = None,
) -> None:
    """Refuse a place for a file that cannot be written, before any work is done for it.

    Parameters
    ----------
    path
        Of the file that is to be written.
    option
        Of the command line, that gives another.
    inputs
        What the command reads, which it must not replace.
    is_audio
        Whether a file that is there is audio, which is never replaced.

    Raises
    ------
    InputError
        If its folder is not there or may not be written to, or if it is a folder, a socket or a
        disk, is read-only, or is a file that must not be replaced: audio, a database, an input.
    """
    place = _place(path, option, is_audio)
    if any(_is_same(place, other) for other in inputs):
        cause = "the command reads it, and would replace it"
        raise InputError(path, cause, f"Give another file with {option}")


def replaces(path: Path, option: str = "--out") -> bool:
    """Tell whether writing would replace a regular file, and not go into an open file or a pipe.

    Raises
    ------
    InputError
        As of `check_output`.
    """
    place = _place(path, option)
    return place.into is None and place.status is not None


def check_folder(path: Path, option: str = "--out", *, inputs: Iterable[Path] = ()) -> None:
    """Refuse a place for a folder that can be neither made nor written to; as `check_output`.

    Nor may it be one of the ``inputs``.
    """
    remedy = f"Give another folder with {option}"
    nearest = path
    try:
        while not nearest.exists():
            if nearest.is_symlink():
                raise InputError(path, f"{nearest} is a link that leads nowhere", remedy)
            nearest = nearest.parent
        is_folder = nearest.is_dir()
    except OSError as error:
        cause = f"it cannot be written ({error.strerror or error})"
        raise InputError(path, cause, remedy) from error
    if not is_folder:
        what = "it is" if nearest == path else f"{nearest} is"
        raise InputError(path, f"{what} not a folder", remedy)
    if not os.access(nearest, os.W_OK | os.X_OK):
        what = "it" if nearest == path else str(nearest)
        raise InputError(path, f"{what} may not be written to", remedy)
    if nearest == path and any(_is_same(_Place(path, path.stat()), other) for other in inputs):
        raise InputError(path, "the command reads what is in it, and would change it", remedy)


def picture_kind(path: Path, option: str = "--plot") -> str:
    """Give the kind of picture that a name asks for: ``png``, ``svg``, …; ``png`` without one.

    Raises
    ------
    InputError
        If matplotlib, which it needs, writes no such kind.
    """
    from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415  an extra

    kinds = FigureCanvasBase.get_supported_filetypes()
    kind = path.suffix[1:].lower() or "png"
    if kind not in kinds:
        remedy = f"Give {option} a name that ends in one of: {', '.join(sorted(kinds))}"
        raise InputError(path, f"pictures of the kind {kind!r} cannot be written", remedy)
    return kind


def write_picture(figure: Figure, path: Path, option: str = "--plot") -> None:
    """Write a figure, whole or not at all; its kind is that of ``path``. See `whole`."""
    kind = picture_kind(path, option)
    with whole(path, option) as temporary, warnings.catch_warnings():
        # A genre's name in a script that the font lacks gives boxes, which people see.
        warnings.filterwarnings("ignore", message="Glyph ")
        figure.savefig(temporary, format=kind, dpi=110)


def picture_text(text: str) -> str:
    """Give a name as matplotlib draws it word for word: "$" begins no formula."""
    return one_line(text).replace("$", r"\$")


@contextmanager
def write_text(
    path: Path, option: str = "--out", *, is_audio: IsAudio | None = None
) -> Iterator[IO[str]]:
    """Open a UTF-8 text file that appears whole or not at all. See `whole`."""
    with (
        whole(path, option, is_audio=is_audio) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        yield file


@contextmanager
def whole(path: Path, option: str = "--out", *, is_audio: IsAudio | None = None) -> Iterator[Path]:
    """Give the path of a temporary file; once it is complete, its content is at ``path``.

    A regular file is replaced at once and keeps its permissions, a link leads to the file that is
    replaced, and a pipe, a device or one of this process's open files (``/dev/stdout``) gets the
    content written into it.

    Parameters
    ----------
    path
        Of the file to be written.
    option
        Of the command line, that gives another.
    is_audio
        As of `check_output`.

    Raises
    ------
    InputError
        If it cannot be written; see `check_output`.
    """
    place = _place(path, option, is_audio)
    folder = Path(tempfile.gettempdir()) if place.into is not None else place.path.parent
    temporary = folder / f".genrescope-{secrets.token_hex(8)}{place.path.suffix[:12]}"
    try:
        with _as_input_error(path, option):
            mode = 0o666 if place.into is None else 0o600
            os.close(os.open(temporary, system.CREATE_FLAGS, mode))
            yield temporary
            if place.into is None:
                _replace(temporary, place)
            else:
                _pour(temporary, place.into)
    finally:
        with suppress(OSError):  # where it could not be made, there is nothing to remove
            temporary.unlink(missing_ok=True)


def _place(path: Path, option: str, is_audio: IsAudio | None = None) -> _Place:
    place = _find_place(path, option)
    if place.status is not None and modes.S_ISREG(place.status.st_mode):
        head = _head(path)
        is_database = head.startswith(_DATABASES)
        if is_database or (is_audio and any(is_audio(name, head) for name in (path, place.path))):
            what = "a database" if is_database else "audio"
            cause = f"it is {what}, which is never replaced"
            raise InputError(path, cause, f"Give another file with {option}")
    return place


def _head(path: Path) -> bytes:
    try:
        descriptor = os.open(path, system.READ_FLAGS)
    except OSError:  # it may be written to, but not read
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(16)


def _is_same(place: _Place, other: Path) -> bool:
    # By the file itself, as it may have several names; by the name, where there is none yet.
    try:
        if place.status is None:
            return os.path.realpath(other) == str(place.path)
        return os.path.samestat(place.status, other.stat())
    except (OSError, ValueError):  # what cannot be looked at is refused where it is opened
        return False


def _find_place(path: Path, option: str) -> _Place:
    remedy = f"Give another file with {option}"
    with _as_input_error(path, option):
        if (number := system.own_descriptor(path)) is not None:
            return _Place(path, os.fstat(number), number)
        try:
            status = path.stat()
        except FileNotFoundError:
            status = None
        if status is not None and not modes.S_ISREG(status.st_mode):
            kinds = {modes.S_IFDIR: "a folder", modes.S_IFSOCK: "a socket", modes.S_IFBLK: "a disk"}
            if (kind := kinds.get(modes.S_IFMT(status.st_mode))) is not None:
                raise InputError(path, f"it is {kind}", remedy)
        if status is not None and not os.access(path, os.W_OK):
            raise InputError(path, "it may not be written to", remedy)
        target = Path(os.path.realpath(path))
        if status is not None and not modes.S_ISREG(status.st_mode):
            return _Place(path, status, path)
        parent = target.parent
        if not parent.exists():
            cause = f"the folder {parent} does not exist"
            raise InputError(path, cause, f"Make it, or give another file with {option}")
        if not parent.is_dir():
            raise InputError(path, f"{parent} is not a folder", remedy)
        if not os.access(parent, os.W_OK | os.X_OK):
            if status is None:
                raise InputError(path, f"the folder {parent} may not be written to", remedy)
            return _Place(path, status, path)  # only into the file itself
        return _Place(target, status)


def _replace(temporary: Path, place: _Place) -> None:
    system.sync(temporary)
    if place.status is not None:
        with suppress(OSError):  # users who may not give files away own them from now on
            system.set_owner(temporary, place.status)
        system.copy_mode(place.status, temporary)
    system.replace(temporary, place.path)


def _pour(temporary: Path, into: int | Path) -> None:
    if isinstance(into, int):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        number = os.dup(into)
    else:
        number = os.open(into, system.INTO_FLAGS)
    with temporary.open("rb") as source, os.fdopen(number, "wb") as target:
        shutil.copyfileobj(source, target)


@contextmanager
def _as_input_error(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "null byte" not in str(error):
            raise
        remedy = f"Give another place with {option}"
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            raise InputError(path, "it is closed", remedy) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy += ", or make room"
        cause = f"it cannot be written ({getattr(error, 'strerror', None) or error})"
        raise InputError(path, cause, remedy) from error
