"""Prints results: a table on a terminal, plain lines in a pipe, JSON, CSV, or a playlist."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genrescope.classifier import Prediction
from genrescope.classifier.batch import FileResult
from genrescope.cli.progress import bar
from genrescope.errors import GenrescopeError, one_line
from genrescope.io import CsvWriter, is_plain_line, to_json
from genrescope.library.similar import Similar
from genrescope.serialize import result_row, similar_row

if TYPE_CHECKING:
    from genrescope.report.tables import ReportTable

_COLUMNS = ("genre", "confidence", "unsure", "warnings")  # of CSV, after the path


class Writer:
    """Writes results one by one; errors of the table and CSV forms go to standard error.

    Parameters
    ----------
    form
        ``table``, ``json``, ``jsonl`` or ``csv``.
    top_k
        Number of genres and tags per file.
    total
        Number of files; several get a progress bar on a terminal.
    out, err
        Consoles on standard output and standard error.
    timeline
        Whether the steps of timelines are written: as lines after the result, in CSV as the rows.
    """

    def __init__(
        self,
        form: str,
        top_k: int,
        total: int,
        out: Console,
        err: Console,
        *,
        timeline: bool = False,
    ) -> None:
        self._form, self._top_k, self._out, self._err = form, top_k, out, err
        self._timeline = timeline
        self._bar = bar("classifying", total, err)
        self._task = self._bar.add_task("", total=total)
        self._all: list[dict[str, Any]] = []
        self._table = Table("file", "genre", "", "others", "tags")

    def __enter__(self) -> Writer:
        self._bar.start()
        if self._form == "csv":
            self._csv = CsvWriter(sys.stdout)
            columns = ("start_s", "genre", "confidence") if self._timeline else _COLUMNS
            self._csv.row("path", *columns)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._form == "json":
            _line(to_json(self._all, 1, sys.stdout.encoding))
        if self._table.row_count:
            self._out.print(self._table)

    def write(self, answer: FileResult) -> None:
        """Write one result, or keep it until the end for JSON."""
        self._bar.advance(self._task)
        if self._form == "jsonl":
            _line(to_json(result_row(answer, self._top_k), None, sys.stdout.encoding))
            sys.stdout.flush()
        elif self._form == "json":
            self._all.append(result_row(answer, self._top_k))
        elif answer.error is not None:
            print_error(self._err, answer.error)
        else:
            self._show(answer)
            sys.stdout.flush()  # a reader gets each line at once, and write errors show early

    def _show(self, answer: FileResult) -> None:
        found = answer.prediction
        if found is None:
            return
        steps = _steps(answer) if self._timeline else []
        if self._form == "csv":
            for start_s, genre, share in steps:
                self._csv.row(answer.path, _fixed(start_s, 1), genre, _fixed(share))
            if not self._timeline:
                shares = _fixed(found.confidence), str(found.unsure).lower()
                self._csv.row(answer.path, found.genre, *shares, "; ".join(found.warnings))
            return
        genres = list(found.probabilities.items())[: self._top_k]
        others = ", ".join(f"{name} {share:.2f}" for name, share in genres[1:])
        tags = ", ".join(list(found.tags)[: self._top_k])
        sure = f"{found.confidence:.2f}" + (" unsure" if found.unsure else "")
        sure += " !" if found.warnings else ""
        print_warnings(self._err, answer.path, found)
        lines: list[str] = []
        if self._out.is_terminal:
            self._table.add_row(*map(_text, (answer.path, found.genre, sure, others, tags)))
            if steps:
                self._bar.stop()  # lines of the two streams would run into each other
                lines = [f"{answer.path}:"]
        else:
            parts = (f"{found.genre} {sure}", others, tags)
            lines = [f"{answer.path}: {' | '.join(part for part in parts if part)}"]
        lines += [f"  {start_s:7.1f} s  {genre} {share:.2f}" for start_s, genre, share in steps]
        # One write: a reader that closes the pipe after the first line loses nothing it asked for.
        sys.stdout.write("".join(f"{one_line(line)}\n" for line in lines))


class SimilarWriter:
    """Writes similar tracks; errors go to standard error, in JSON to the array.

    Parameters
    ----------
    form
        ``table``, ``json``, ``csv`` or ``m3u``.
    out, err
        Consoles on standard output and standard error.
    """

    def __init__(self, form: str, out: Console, err: Console) -> None:
        self._form, self._out, self._err = form, out, err
        self._all: list[dict[str, Any]] = []
        self._played: set[Path] = set()
        self._unplayed: list[Path] = []

    def __enter__(self) -> SimilarWriter:
        if self._form == "csv":
            self._csv = CsvWriter(sys.stdout)
            self._csv.row("track", "rank", "path", "similarity", "genre", "confidence")
        elif self._form == "m3u":
            _line("#EXTM3U")
        return self

    def __exit__(self, *_: object) -> None:
        if self._form == "json":
            _line(to_json(self._all, 1, sys.stdout.encoding))
        if self._unplayed:
            print_note(self._err, left_out(self._unplayed))

    def write(self, similar: Similar) -> None:
        """Write the neighbours of one track, or keep them until the end for JSON."""
        if self._form == "json":
            self._all.append(similar_row(similar))
        elif similar.error is not None:
            print_error(self._err, similar.error)
        elif self._form == "csv":
            for rank, near in enumerate(similar.neighbours, start=1):
                shares = _fixed(near.similarity), near.genre, _fixed(near.confidence)
                self._csv.row(similar.path, rank, near.path, *shares)
        elif self._form == "m3u":
            for near in similar.neighbours:
                self._play(near.path.absolute())
        else:
            self._show(similar)

    def _play(self, path: Path) -> None:
        # Each path once, even if it is similar to several tracks.
        if path in self._played:
            return
        self._played.add(path)
        if is_plain_line(str(path), sys.stdout.encoding):
            _line(str(path))
        else:
            self._unplayed.append(path)

    def _show(self, similar: Similar) -> None:
        title = f"{similar.path}: {similar.genre} {similar.confidence:.2f}"
        if not self._out.is_terminal:
            _line(one_line(title))
            for near in similar.neighbours:
                shares = f"{near.similarity:.3f}  {near.genre} {near.confidence:.2f}"
                _line(one_line(f"  {shares}  {near.path}"))
            return
        table = Table("similarity", "genre", "", "file", title=_text(title), title_justify="left")
        for near in similar.neighbours:
            genre = near.genre, f"{near.confidence:.2f}"
            table.add_row(*map(_text, (f"{near.similarity:.3f}", *genre, near.path)))
        self._out.print(table)


def print_report_table(
    console: Console, title: str, shown: ReportTable, columns: Sequence[int]
) -> None:
    """Print a table of a report; only text of the first column may be broken into lines.

    Parameters
    ----------
    console
        Too narrow a one cuts no line.
    title
        Above the table.
    shown
        With rows in groups.
    columns
        Places of those that are printed; the first one is text.
    """
    table = Table(box=SIMPLE_HEAD, title=_text(title), title_justify="left", pad_edge=False)
    rows = [row for group in shown.groups for row in group.rows if len(row.cells) > columns[-1]]
    for place in columns:
        is_first = place == columns[0]
        width = max([len(shown.columns[place]), *(len(row.cells[place]) for row in rows)])
        table.add_column(
            shown.columns[place],
            justify="left" if shown.align[place] == "l" else "right",
            overflow="fold",
            min_width=min(width, 8) if is_first else width,
        )
    for group in shown.groups:
        table.add_row(Text(one_line(f"{group.title}: {group.mark}"), "italic"))
        for row in group.rows:
            cells = row.cells if len(row.cells) <= columns[-1] else [row.cells[i] for i in columns]
            styles = ["bold" if place == row.bold else "" for place in columns]
            texts = zip(map(one_line, cells), styles, strict=False)
            table.add_row(*(Text(text, style) for text, style in texts))
        table.add_section()
    console.print(table, crop=False, soft_wrap=False)


def print_error(console: Console, error: GenrescopeError) -> None:
    """Print the error of one file; the command continues."""
    line = Text.assemble(("Error:", "bold red"), " ", one_line(str(error)))
    console.print(line, soft_wrap=True)


def print_warnings(console: Console, path: Path, prediction: Prediction) -> None:
    """Print the warnings of a file that has a prediction."""
    for warning in prediction.warnings:
        line = Text.assemble(("Warning:", "bold yellow"), " ", one_line(f"{path}: {warning}."))
        console.print(line, soft_wrap=True)


def print_note(console: Console, text: str) -> None:
    """Print a note."""
    console.print(_text(text), soft_wrap=True)


def left_out(paths: list[Path]) -> str:
    """Describe the files that a playlist lacks because their names cannot be lines of text."""
    count = "1 track was" if len(paths) == 1 else f"{len(paths):,} tracks were"
    cause = "a playlist cannot hold control characters or undecodable bytes in names"
    return f"{count} left out: {cause} (such as {paths[0]})"


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _text(shown: object) -> Text:
    # For tables: names are not markup.
    return Text(one_line(str(shown)))


def _fixed(number: float, digits: int = 4) -> Decimal:
    # Rounded to the digits of CSV.
    return round(Decimal(float(number)), digits)


def _steps(answer: FileResult) -> list[tuple[float, str, float]]:
    # Start in s, genre and its probability. Of a clip analysed whole, the step is infinite.
    times = answer.timeline
    if times is None:
        return []
    return [
        (i * times.step_s if i else 0.0, genre or "silence", float(times.probabilities[i].max()))
        for i, genre in enumerate(times.best)
    ]
