"""Progress of a study: bars on a terminal, otherwise a line for each fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from genrescope.study.results import ResultRow


class StudyProgress:
    """Bars for all fits, each running fit, and the representations being computed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._fits: dict[str, TaskID] = {}
        self._representing: dict[str, TaskID] = {}
        self._all: TaskID | None = None

    def __enter__(self) -> StudyProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Print a note."""
        self._console.print(text, markup=False, highlight=False)

    def representing(self, name: str, done: int, total: int) -> None:
        """Update the bar of a representation."""
        if name not in self._representing:
            self._representing[name] = self._bars.add_task(name, total=total, state="")
        self._bars.update(self._representing[name], completed=done)
        if done == total:
            self._line(f"{name}: {total} arrays computed")

    def planned(self, total: int, done: int) -> None:
        """Show the bar over all fits."""
        if done:
            self.note(f"{done} of {total} fits are done and kept.")
        self._all = self._bars.add_task("all fits", total=total, completed=done, state="")

    def epoch(self, key: str, row: dict[str, Any]) -> None:
        """Move a fit's bar by an epoch, or show what happens before the first."""
        if "micro_batch" in row and key not in self._fits:
            self.note(f"{key}: {row['micro_batch']}")
        if key not in self._fits:
            self._fits[key] = self._bars.add_task(key, total=row["steps"], state="")
        state = ""
        if "encoded" in row:
            state = f"{row['encoded']} of {row['clips']} clips encoded"
        elif "valid_accuracy" in row:
            state = f"validation accuracy {row['valid_accuracy']:.3f}"
        self._bars.update(self._fits[key], completed=row["step"], state=state)

    def finished(self, key: str, row: ResultRow) -> None:
        """Replace a fit's bar by its result."""
        if key in self._fits:
            self._bars.remove_task(self._fits.pop(key))
        if self._all is not None:
            self._bars.advance(self._all)
        self.note(f"{key}: test accuracy {row.accuracy:.3f} ({row.seconds:.0f} s)")

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            self.note(text)


def bar(what: str, total: int, console: Console) -> Progress:
    """Build a progress bar with speed and remaining time, shown for several files on a terminal."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=total < 2 or not console.is_terminal,
    )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")
