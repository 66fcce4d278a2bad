"""Writing: names as text, CSV and JSON; files that appear whole, or not at all.

A file's name on POSIX is any bytes but NUL and "/". Python represents what is not UTF-8 as lone
surrogates, which no encoding can write, and a name may hold control characters of a terminal. So a
name is printed as `errors.one_line` for people, and as `written` for programs, which `read_back`
inverts. `to_json` and `CsvWriter` apply the latter.
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from genrescope import system
from genrescope.environment import long_csv_cells, quiet
from genrescope.errors import InputError, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Control characters (except tab and line ends), lone surrogates and changes of direction. And the
# backslash where what follows reads as an escape.
_STEERING = "\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNWRITABLE = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f{_STEERING}]|\\\\(?=u[0-9a-f]{{4}})")
_UNWRITABLE_JSON = re.compile(f"[{_STEERING}]")  # JSON itself escapes what is below
_NO_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
# What spreadsheets run: a formula's first sign (also in its wide, small and raised forms), after
# any white space, quotes and invisible signs, which they ignore.
_BEFORE = "[\\s\"'`´‘’‚‛“”„‟«»‹›\u00ad\u200b-\u200f\u2060\ufeff]*"
_FIRST = "[=+@\\-−＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋]"
_FORMULA = re.compile(_BEFORE + _FIRST)
# Where another sign than the comma separates cells, a cell may begin inside one of these.
_INNER = re.compile(f"[;\t\r\n](?={_BEFORE}{_FIRST})")
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~$]|&(?=#?\w+;)")
_QUOTES = "\"'"
_NUMBERS = (int, float, Decimal, type(None))
# SQLite databases, and their write-ahead logs.
_DATABASES = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")

IsAudio = Callable[[Path, bytes], bool]
"""Whether a file is audio, by its path and its first 16 bytes: `audio.formats.may_be_audio`."""

ESCAPE, READABLE = "genrescope.escape", "genrescope.readable"
"""Error handlers for characters that an encoding lacks: JSON escapes, or the nearest sign."""

_NEAREST = {"…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "±": "+-", "→": "->", "█": "#"}


def written(text: str, encoding: str = "utf-8") -> str:
    r"""Return a text as it can be written to a file, and read back with `read_back`.

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
    """Invert `written`."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def to_json(value: Any, indent: int | None = None, encoding: str = "utf-8") -> str:
    r"""Return JSON that can be written in an encoding, without control characters.

    Names that are not UTF-8 hold escapes such as ``\udce9``; in Python,
    ``os.fsencode(json.loads(text)["path"])`` gives the file's own bytes.
    """
    plain = not is_unicode(encoding)
    return _UNWRITABLE_JSON.sub(_escape, json.dumps(value, ensure_ascii=plain, indent=indent))


def is_plain_line(text: str, encoding: str = "utf-8") -> bool:
    """Return whether a text can be a line of a playlist, where nothing can be escaped."""
    if _NO_LINE.search(text):
        return False
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def is_unicode(encoding: str | None) -> bool:
    """Return whether an encoding has every character."""
    return (encoding or "").lower().replace("_", "-").startswith("utf")


def cell(text: str) -> str:
    """Mark a text that a spreadsheet would run, by an apostrophe before it.

    `read_cell` removes it. A cell that begins with an apostrophe of its own gets a second one if
    what follows would be run.
    """
    text = _INNER.sub(_escape, text)
    return f"'{text}" if _is_formula(text) else text


def read_cell(text: str) -> str:
    """Invert `cell`; `read_back` inverts the rest."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def markdown_text(text: str) -> str:
    """Escape a name for Markdown, including cells of tables."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


class CsvWriter:
    """Writes CSV: line ends quoted, and nothing that a spreadsheet runs.

    Parameters
    ----------
    file
        Open for writing. On a terminal, cells are one line each, without control characters.
    end
        Line end.
    """

    def __init__(self, file: IO[str], end: str = "\n") -> None:
        self._file, self._end = file, end
        self._is_terminal = file.isatty()
        self._encoding = getattr(file, "encoding", None) or "utf-8"

    def row(self, *cells: object) -> None:
        """Write a line; numbers and None as they are, everything else as text."""
        self.raw_row(*(c if isinstance(c, _NUMBERS) else self._text(c) for c in cells))

    def raw_row(self, *cells: object) -> None:
        """Write a line of cells that are `cell`s of `written` text already."""
        line = io.StringIO(newline="")
        csv.writer(line).writerow(cells)  # its line end \r\n makes it quote both characters
        self._file.write(line.getvalue()[:-2] + self._end)

    def _text(self, value: object) -> str:
        if self._is_terminal:
            return cell(one_line(str(value)))
        return cell(written(str(value), self._encoding))


class CsvReader:
    """A `csv.reader` for cells of any length, whatever the limit of the process.

    Parameters
    ----------
    text
        Lines; a file opened with ``newline=""``.
    **dialect
        As of `csv.reader`.
    """

    def __init__(self, text: Iterable[str], **dialect: Any) -> None:
        self._rows = csv.reader(text, **dialect)

    @property
    def line_num(self) -> int:
        """Number of lines read; a quoted cell may hold several."""
        return self._rows.line_num

    def __iter__(self) -> CsvReader:
        return self

    def __next__(self) -> list[str]:
        with long_csv_cells():
            return next(self._rows)


def _is_formula(text: str) -> bool:
    # The same with and without an apostrophe in front: `read_cell` needs it.
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
    # Where an output goes: a file that is replaced or created, or an open file, pipe or device.
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
    """Check that an output file can be written, before any work is done for it.

    Parameters
    ----------
    path
        Of the output file.
    option
        Of the command line, for the message.
    inputs
        Files that the command reads, and must not replace.
    is_audio
        Whether an existing file is audio, which is never replaced.

    Raises
    ------
    InputError
        If its folder is missing or not writable, or if it is a folder, a socket, a disk or
        read-only, or a file that must not be replaced: audio, a database, an input.
    """
    place = _place(path, option, is_audio)
    if any(_is_same(place, other) for other in inputs):
        cause = "the command reads it, and would replace it"
        raise InputError(path, cause, f"Give another file with {option}")


def replaces(path: Path, option: str = "--out") -> bool:
    """Return whether writing would replace a regular file, not go into an open file or a pipe.

    Raises
    ------
    InputError
        As of `check_output`.
    """
    place = _place(path, option)
    return place.into is None and place.status is not None


def check_folder(path: Path, option: str = "--out", *, inputs: Iterable[Path] = ()) -> None:
    """Check that an output folder can be created or written to, and is none of the ``inputs``.

    Parameters and errors are those of `check_output`.
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
    """Return the format of a picture by its name: ``png``, ``svg``, …; ``png`` without extension.

    Raises
    ------
    InputError
        If matplotlib cannot write it.
    """
    from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415  an extra

    kinds = FigureCanvasBase.get_supported_filetypes()
    kind = path.suffix[1:].lower() or "png"
    if kind not in kinds:
        remedy = f"Give {option} a name that ends in one of: {', '.join(sorted(kinds))}"
        raise InputError(path, f"matplotlib writes no {kind!r} pictures", remedy)
    return kind


def write_picture(figure: Figure, path: Path, option: str = "--plot") -> None:
    """Write a figure, whole or not at all; its kind is that of ``path``. See `whole`."""
    kind = picture_kind(path, option)
    # Characters that the font lacks are boxes in the picture: no warning is needed.
    with whole(path, option) as temporary, quiet("Glyph "):
        figure.savefig(temporary, format=kind, dpi=110)


def picture_text(text: str) -> str:
    """Escape a name for matplotlib, where "$" begins a formula."""
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
    """Yield the path of a temporary file, which then replaces ``path``.

    A regular file is replaced atomically and keeps its permissions; of a link, its target is
    replaced. The content is copied into a pipe, a device or an open file (``/dev/stdout``).

    Parameters
    ----------
    path
        Of the file to be written.
    option
        Of the command line, for the message.
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
        with suppress(OSError):  # it may not have been created
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
    except OSError:  # perhaps writable but not readable
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(16)


def _is_same(place: _Place, other: Path) -> bool:
    # By inode, as a file may have several names; by name if it does not exist yet.
    try:
        if place.status is None:
            return os.path.realpath(other) == str(place.path)
        return os.path.samestat(place.status, other.stat())
    except (OSError, ValueError):  # opening it raises the error
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
            raise InputError(path, cause, f"Create it, or give another file with {option}")
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
        remedy = f"Give another path with {option}"
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            raise InputError(path, "it is closed", remedy) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy += ", or make room"
        cause = f"it cannot be written ({getattr(error, 'strerror', None) or error})"
        raise InputError(path, cause, remedy) from error
