"""CSV files of users: any common encoding, separator and line end."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from genrescope.errors import InputError
from genrescope.files import read_bounded
from genrescope.io import CsvReader

MAX_TABLE_BYTES = 64 * 2**20
"""Size limit of a table: some 500,000 rows of a path, a genre and an artist."""

_DELIMITERS = (",", ";", "\t", "|")
_MARKS = (  # UTF-32 first, as its mark begins with that of UTF-16
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_OTHERS = {
    b"PK\x03\x04": "a spreadsheet or another ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of old Excel",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose header has been read.

    Attributes
    ----------
    path
        The file.
    header
        Names of the columns, without white space around them.
    delimiter
        Separator of the cells.
    text
        The rows, with the header.
    start
        Number of the first line of the text, from 1.
    remedy
        See ``InputError``.
    """

    path: Path
    header: tuple[str, ...]
    delimiter: str
    text: str
    start: int
    remedy: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of a row's last line and its cells; empty rows are left out.

        Raises
        ------
        InputError
            At a quotation mark that is not closed, or a cell of more than 131,072 characters.
        """
        rows = _parse(self.path, self.text, self.delimiter, self.start, self.remedy)
        next(rows, None)  # the header
        yield from rows


def open_table(
    path: Path,
    *,
    remedy: str,
    known: Callable[[str], bool] = lambda _: False,
    max_bytes: int = MAX_TABLE_BYTES,
) -> Table:
    """Read a table: detect its encoding and separator, and parse its header.

    The encoding is that of the byte-order mark, UTF-16 without one if every other byte of the
    beginning is zero, or else UTF-8. Other encodings cannot be detected and are errors. The
    separator is the comma, semicolon, tab or bar that gives the header the largest number of known
    columns, then of columns. Excel's first line ``sep=;`` takes precedence.

    Parameters
    ----------
    path
        The file. Lines may end in LF, CRLF or CR.
    remedy
        See ``InputError``.
    known
        Whether a cell of the header names a known column.
    max_bytes
        Size limit.

    Raises
    ------
    InputError
        If it is missing, larger, not text in such an encoding, or its header is not closed.
    """
    text = decode(path, read_bounded(path, max_bytes, remedy), remedy)
    blank = re.match(r"(?:[ \t]*(?:\r\n|\r|\n))*", text)
    start, text = (1 + _line_ends(blank[0]), text[blank.end() :]) if blank else (1, text)
    if given := re.match(r'"?sep=([,;|\t])"?[,;]*(?:\r\n|\r|\n)', text, re.IGNORECASE):
        delimiter, start, text = given[1], start + 1, text[given.end() :]
    else:
        delimiter = _delimiter(text, known)
    header = next(_parse(path, text, delimiter, start, remedy), (0, []))[1]
    names = tuple(cell.strip() for cell in header)
    return Table(path, names, delimiter, text, start, remedy)


def decode(path: Path, content: bytes, remedy: str) -> str:
    """Decode the content of a table; see ``open_table``.

    Raises
    ------
    InputError
        If it is not text in an encoding that can be detected.
    """
    for magic, kind in _OTHERS.items():
        if content.startswith(magic):
            raise InputError(path, f"it is not CSV text but {kind}", remedy)
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n|\r|\n", content[: error.start]))
        if encoding.startswith("utf-8"):
            byte = content[error.start]
            cause = f"line {line} is not UTF-8 (byte 0x{byte:02X}), perhaps Windows-1252 or Latin-1"
        else:
            cause = f"it is not {encoding.upper()}, as its beginning says"
        raise InputError(path, f"it is not CSV text: {cause}", remedy) from error
    if "\0" in text:
        line = 1 + _line_ends(text[: text.index("\0")])
        cause = f"it is not CSV text: line {line} holds a zero byte"
        raise InputError(path, cause, remedy)
    return text


def encoding_of(content: bytes) -> str:
    """Detect the encoding of a table by its first bytes; see ``open_table``."""
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    return marked or _unmarked(content[:8])


def fold_name(name: str) -> str:
    """Normalise a column's name: without case, accents, spaces and signs.

    ``File name``, ``file_name`` and ``FILENAME`` become one. Empty if nothing is left.
    """
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(sign for sign in unicodedata.normalize("NFKD", plain) if sign.isalnum())


def _unmarked(beginning: bytes) -> str:
    even, odd = beginning[::2], beginning[1::2]
    if len(beginning) >= 4 and not even.strip(b"\0") and b"\0" not in odd:
        return "utf-16-be"
    if len(beginning) >= 4 and not odd.strip(b"\0") and b"\0" not in even:
        return "utf-16-le"
    return "utf-8"


def _line_ends(text: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", text))


def _delimiter(text: str, known: Callable[[str], bool]) -> str:
    line = re.match(r"[^\r\n]*", text)
    header = line[0] if line else ""

    def columns(delimiter: str) -> tuple[int, int]:
        cells = next(CsvReader([header], delimiter=delimiter, skipinitialspace=True), [])
        return sum(known(cell.strip()) for cell in cells), len(cells)

    return max(_DELIMITERS, key=columns)  # the first of equals


def _parse(
    path: Path, text: str, delimiter: str, start: int, remedy: str
) -> Iterator[tuple[int, list[str]]]:
    # Some tables have a space before quotation marks; in others, spaces are part of the cell.
    loose = re.search(rf'(?:^|{re.escape(delimiter)}) +"', text, re.MULTILINE) is not None
    reader = CsvReader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=loose, strict=True
    )
    begun = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield reader.line_num + start - 1, cells
            begun = reader.line_num + 1
    except csv.Error as error:
        line = begun + start - 1
        cause = f"it is not CSV text: the row that begins in line {line} is malformed ({error})"
        end = "" if remedy.endswith((".", "!")) else "."
        advice = f"{remedy}{end} A quotation mark within a quoted cell is written twice"
        raise InputError(path, cause, advice) from error
