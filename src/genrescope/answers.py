"""Shows what came of files: a table on a terminal, plain lines in a pipe, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from genrescope.library.many import Answer


class Writer:
    """Writes answers one by one; errors of the table and CSV forms go to standard error.

    Parameters
    ----------
    form
        ``table``, ``json``, ``jsonl`` or ``csv``.
    top_k
        Genres and tags to show for each file.
    total
        How many files there will be; several get a progress bar on a terminal.
    out, err
        Consoles on standard output and standard error.
    """

    def __init__(self, form: str, top_k: int, total: int, out: Console, err: Console) -> None:
        self._form, self._top_k, self._out, self._err = form, top_k, out, err
        self._bar = Progress(
            TextColumn("classifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=total < 2 or not err.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)
        self._all: list[dict[str, Any]] = []
        self._table = Table("file", "genre", "", "others", "tags")

    def __enter__(self) -> Writer:
        self._bar.start()
        if self._form == "csv":
            self._csv("path", "genre", "confidence", "unsure")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._form == "json":
            sys.stdout.write(json.dumps(self._all, ensure_ascii=False, indent=1) + "\n")
        if self._table.row_count:
            self._out.print(self._table)

    def write(self, answer: Answer) -> None:
        """Write one answer, or keep it for the end where the form needs them all."""
        self._bar.advance(self._task)
        if self._form == "jsonl":
            sys.stdout.write(json.dumps(as_row(answer, self._top_k), ensure_ascii=False) + "\n")
            sys.stdout.flush()
        elif self._form == "json":
            self._all.append(as_row(answer, self._top_k))
        elif answer.error is not None:
            told = escape(str(answer.error))
            self._err.print(f"[bold red]Error:[/] {told}", highlight=False, soft_wrap=True)
        else:
            self._show(answer)

    def _show(self, answer: Answer) -> None:
        found = answer.prediction
        if found is None:
            return
        if self._form == "csv":
            self._csv(answer.path, found.genre, f"{found.confidence:.4f}", found.unsure)
            return
        genres = list(found.probabilities.items())[: self._top_k]
        others = ", ".join(f"{name} {share:.2f}" for name, share in genres[1:])
        tags = ", ".join(list(found.tags)[: self._top_k])
        sure = f"{found.confidence:.2f}" + (" unsure" if found.unsure else "")
        if self._out.is_terminal:
            self._table.add_row(escape(str(answer.path)), found.genre, sure, others, escape(tags))
        else:
            parts = (f"{found.genre} {sure}", others, tags)
            sys.stdout.write(f"{answer.path}: {' | '.join(part for part in parts if part)}\n")
        if answer.timeline is not None:
            self._err.print(*_steps(answer), sep="\n", markup=False, highlight=False)

    def _csv(self, *cells: object) -> None:
        csv.writer(sys.stdout, lineterminator="\n").writerow(cells)


def as_row(answer: Answer, top_k: int) -> dict[str, Any]:
    """Give an answer as JSON values.

    Returns
    -------
    row
        ``path`` and ``error``, or ``path``, ``genre``, ``unsure``, ``scores``, ``tags`` and, if it
        was asked for, ``timeline``: ``step_s`` and the genre of each step.
    """
    path, found = str(answer.path), answer.prediction
    if found is None:
        return {"path": path, "error": str(answer.error)}
    row: dict[str, Any] = {
        "path": path,
        "genre": found.genre,
        "unsure": found.unsure,
        "scores": _scores(found.probabilities, top_k),
        "tags": _scores(found.tags, top_k),
    }
    if (times := answer.timeline) is not None:
        genres = [times.genres[i] for i in times.probabilities.argmax(axis=1)]
        row["timeline"] = {"step_s": round(times.step_s, 3), "genres": genres}
    return row


def _scores(shares: dict[str, float], top_k: int) -> list[dict[str, Any]]:
    first = list(shares.items())[:top_k]
    return [{"label": name, "score": round(share, 6)} for name, share in first]


def _steps(answer: Answer) -> list[str]:
    times = answer.timeline
    if times is None:
        return []
    best = times.probabilities.argmax(axis=1)
    return [
        f"  {i * times.step_s:7.1f} s  {times.genres[g]} {times.probabilities[i, g]:.2f}"
        for i, g in enumerate(best)
    ]
