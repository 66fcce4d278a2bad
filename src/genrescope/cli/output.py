"""Prints results: a table on a terminal, plain lines in a pipe, JSON, CSV, or a playlist."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genrescope.classifier import GenreLabel
from genrescope.classifier.batch import FileResult
from genrescope.cli.console import ERR, OUT, fail, note, print_warnings
from genrescope.cli.progress import bar
from genrescope.errors import one_line
from genrescope.io import CsvWriter, is_plain_line, to_json
from genrescope.library.similar import Similar
from genrescope.serialize import CSV_COLUMNS, csv_cells, fixed, result_row, similar_row

if TYPE_CHECKING:
    from genrescope.report.tables import ReportTable


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
    timeline
        Whether the steps of timelines are written: as lines after the result, in CSV as the rows.
    """

    def __init__(self, form: str, top_k: int, total: int, *, timeline: bool = False) -> None:
        self._form, self._top_k, self._timeline = form, top_k, timeline
        self._bar = bar("classifying", total, ERR)
        self._task = self._bar.add_task("", total=total)
        self._all: list[dict[str, Any]] = []
        self._table = Table("file", "genre", "", "others", "tags")

    def __enter__(self) -> Writer:
        self._bar.start()
        if self._form == "csv":
            self._csv = CsvWriter(sys.stdout)
            steps = ("path", "start_s", "genre", "confidence")
            self._csv.row(*(steps if self._timeline else CSV_COLUMNS))
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._form == "json":
            _line(to_json(self._all, 1, sys.stdout.encoding))
        if self._table.row_count:
            OUT.print(self._table)

    def write(self, answer: FileResult) -> None:
        """Write one result, or keep it until the end for JSON."""
        self._bar.advance(self._task)
        if self._form == "jsonl":
            _line(to_json(result_row(answer, self._top_k), None, sys.stdout.encoding))
            sys.stdout.flush()
        elif self._form == "json":
            self._all.append(result_row(answer, self._top_k))
        elif answer.error is not None:
            fail(str(answer.error))
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
                self._csv.row(answer.path, fixed(start_s, 1), genre, fixed(share))
            if not self._timeline:
                self._csv.row(*csv_cells(answer.path, found))
            return
        genres = list(found.probabilities.items())[: self._top_k]
        others = ", ".join(
            f"{name} {share:.2f}" for name, share in genres[0 if found.other else 1 :]
        )
        tags = ", ".join(list(found.tags)[: self._top_k])
        notes = "unsure" if found.unsure else "", "!" if found.warnings else ""
        sure = " ".join(filter(None, (_share(found), *notes)))
        print_warnings(answer.path, found)
        lines: list[str] = []
        if OUT.is_terminal:
            self._table.add_row(*map(_text, (answer.path, found.label, sure, others, tags)))
            if steps:
                self._bar.stop()  # lines of the two streams would run into each other
                lines = [f"{answer.path}:"]
        else:
            parts = (f"{found.label} {sure}".rstrip(), others, tags)
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
    """

    def __init__(self, form: str) -> None:
        self._form = form
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
            note(left_out(self._unplayed))

    def write(self, similar: Similar) -> None:
        """Write the neighbours of one track, or keep them until the end for JSON."""
        if self._form == "json":
            self._all.append(similar_row(similar))
        elif similar.error is not None:
            fail(str(similar.error))
        elif self._form == "csv":
            for rank, near in enumerate(similar.neighbours, start=1):
                shares = fixed(near.similarity), near.label, fixed(near.genre_confidence)
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
        title = f"{similar.path}: {labelled(similar)}"
        if not OUT.is_terminal:
            _line(one_line(title))
            for near in similar.neighbours:
                shares = f"{near.similarity:.3f}  {labelled(near)}"
                _line(one_line(f"  {shares}  {near.path}"))
            return
        table = Table("similarity", "genre", "", "file", title=_text(title), title_justify="left")
        for near in similar.neighbours:
            cells = f"{near.similarity:.3f}", near.label, _share(near), near.path
            table.add_row(*map(_text, cells))
        OUT.print(table)


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


def left_out(paths: list[Path]) -> str:
    """Describe the files that a playlist lacks because their names cannot be lines of text."""
    count = "1 track was" if len(paths) == 1 else f"{len(paths):,} tracks were"
    cause = "a playlist cannot hold control characters or undecodable bytes in names"
    return f"{count} left out: {cause} (such as {paths[0]})"


def labelled(found: GenreLabel) -> str:
    """Write a genre with its probability, "rock 0.86", or the word ``other``."""
    return f"{found.label} {_share(found)}".rstrip()


def _share(found: GenreLabel) -> str:
    share = found.genre_confidence
    return "" if share is None else f"{share:.2f}"


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _text(shown: object) -> Text:
    # For tables: names are not markup.
    return Text(one_line(str(shown)))


def _steps(answer: FileResult) -> list[tuple[float, str, float]]:
    # Start in s, genre and its probability. Of a clip analysed whole, the step is infinite.
    times = answer.timeline
    if times is None:
        return []
    return [
        (i * times.step_s if i else 0.0, genre or "silence", float(times.probabilities[i].max()))
        for i, genre in enumerate(times.best)
    ]
