"""The commands that write genres into tags: plan, apply, undo, resume, log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrescope.cli.console import (
    ERR,
    OUT,
    StoppedError,
    note,
    say,
    say_json,
)
from genrescope.cli.library import (
    DbOption,
    LibraryArgument,
    database_files,
    open_catalogue,
    own_file,
)
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.io import check_output, replaces

if TYPE_CHECKING:
    from genrescope.tagging.journal import Journal, JournalEntry

app = typer.Typer(
    no_args_is_help=True,
    help="Write genres into files: plan, read the plan, apply it; and undo it.",
)
_SHOWN = 20  # changes of a plan, on the terminal
JournalOption = Annotated[
    Path | None,
    typer.Option(help="File of what was changed. [default: in the user's data folder]"),
]


@app.command(
    "plan",
    epilog="Examples:\n\n"
    "- `genrescope scan ~/Music`, then `genrescope tag plan ~/Music`\n\n"
    "- `genrescope tag plan ~/Music --keep --map my-genres.toml --out plan.csv`\n\n"
    "- `genrescope tag plan ~/Music/new --replace --min-confidence 0.9 --max-genres 1`",
)
def tag_plan(
    library: LibraryArgument,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Write genres only if they sum to this.")
    ] = 0.7,
    if_empty: Annotated[
        bool, typer.Option("--if-empty", help="Only files without a genre. [default]")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the genres that there are, and add to them.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite the genres that there are.")
    ] = False,
    max_genres: Annotated[int, typer.Option(min=1, help="Genres for each file.")] = 2,
    taxonomy: Annotated[
        Path | None,
        typer.Option("--map", help="Your genres, other names for them and their tree (TOML)."),
    ] = None,
    break_hard_links: Annotated[
        bool,
        typer.Option("--break-hard-links", help="Tag files with several names, too, under one."),
    ] = False,
    db: DbOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write. [default: tag-plan-DATE-TIME.csv, here]")
    ] = None,
) -> None:
    """Write a plan: which genres would go into which files, and why. Changes nothing.

    The plan is a table (CSV) to be read, and edited if you like, before `genrescope tag apply`.
    """
    from datetime import datetime

    from genrescope.audio.formats import may_be_audio
    from genrescope.library.scan import open_library
    from genrescope.tagging.plan import make_plan, write_plan
    from genrescope.tagging.policy import Policy
    from genrescope.taxonomy import load_taxonomy

    if if_empty + keep + replace > 1:
        raise typer.BadParameter("choose one of --if-empty, --keep and --replace")
    folder = open_library(library)
    genres = load_taxonomy(taxonomy)
    policy = Policy(
        existing="keep" if keep else "replace" if replace else "if-empty",
        min_confidence=min_confidence,
        max_genres=max_genres,
        map_existing=taxonomy is not None,
    )
    now = datetime.now().astimezone()
    plan = out or Path(f"tag-plan-{now:%Y-%m-%d-%H%M%S}.csv")
    check_output(plan, inputs=database_files(db), is_audio=may_be_audio)
    _check_new(plan)
    is_stream = plan.exists()  # a pipe, a device or standard output, which then holds the table
    with open_catalogue(db) as catalogue:
        known = catalogue.counts(str(folder))
        if not known["analysed"]:
            raise GenrescopeError(f"Nothing is known of {library}. Run `genrescope scan` on it.")
        first = _First(known["analysed"])
        steps = make_plan(catalogue, folder, genres, policy, break_hard_links=break_hard_links)
        counts = write_plan(plan, folder, first.through(steps))
    first.show()
    _print_plan(plan, counts, known, note if is_stream else say)


@app.command(
    "apply",
    epilog="Examples:\n\n"
    "- `genrescope tag apply plan.csv`\n\n"
    "- `genrescope tag apply plan.csv --preserve-mtime`",
)
def tag_apply(
    plan: Annotated[Path, typer.Argument(help="As `genrescope tag plan` has written it.")],
    preserve_mtime: Annotated[
        bool, typer.Option("--preserve-mtime", help="Keep the time of each file's last change.")
    ] = False,
    journal: JournalOption = None,
) -> None:
    """Write the genres of a plan into the files' tags. `genrescope tag undo` takes it back.

    Only the genre is changed. Files that have changed since the plan was made are skipped and
    named. Stop it at any moment: each file is the old or the new one, and
    `genrescope tag resume` goes on.
    """
    from genrescope.tagging.apply import apply_plan, register_plan
    from genrescope.tagging.plan import open_plan

    opened = open_plan(plan)
    with _journal(journal) as changes:
        entry = register_plan(changes, opened, preserve_mtime=preserve_mtime)
        before = entry.counts.get("done", 0)
        total = entry.counts.get("waiting", 0) + entry.counts.get("ready", 0)
        note(f"Library: {entry.library} ({total:,} files to be written)")
        counts = _change(apply_plan(changes, entry), total, "writing")
    if before:
        note(f"{before:,} files of this plan were written before.")
    _print_changes(counts, f"undo it with: genrescope tag undo {plan}")


@app.command(
    "undo",
    epilog="Examples:\n\n"
    "- `genrescope tag undo` takes back the newest plan\n\n"
    "- `genrescope tag undo plan.csv`\n\n"
    "- `genrescope tag undo 3` takes back a plan by its number in `genrescope tag log`",
)
def tag_undo(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's file or number. [default: the newest one]")
    ] = None,
    journal: JournalOption = None,
) -> None:
    """Put back the tags as they were before a plan was applied, byte for byte.

    A file that another program has changed since gets its former genre back, and keeps the rest.
    """
    from genrescope.tagging.apply import undo_plan

    with _journal(journal) as changes:
        entry = _entry(changes, plan, ("done", "ready", "waiting"))
        total = entry.counts.get("done", 0) + entry.counts.get("ready", 0)
        note(f"Library: {entry.library} ({total:,} files to be undone)")
        counts = _change(undo_plan(changes, entry), total, "undoing")
    _print_changes(counts)


@app.command(
    "resume", epilog="Examples:\n\n- `genrescope tag resume` goes on after a kill or a power cut"
)
def tag_resume(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's file or number. [default: the newest one]")
    ] = None,
    journal: JournalOption = None,
) -> None:
    """Go on with a plan whose application was interrupted."""
    from genrescope.tagging.apply import apply_plan

    with _journal(journal) as changes:
        entry = _entry(changes, plan, ("ready", "waiting"))
        total = entry.counts.get("waiting", 0) + entry.counts.get("ready", 0)
        note(f"Library: {entry.library} ({total:,} files to be written)")
        counts = _change(apply_plan(changes, entry), total, "writing")
    _print_changes(counts, "undo it with: genrescope tag undo")


@app.command("log", epilog="Examples:\n\n- `genrescope tag log --json`")
def tag_log(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    journal: JournalOption = None,
) -> None:
    """List the plans that have been applied, the newest first."""
    from datetime import datetime

    with _journal(journal, write=False) as changes:
        entries = changes.plans()
    if as_json:
        rows = [
            {
                "number": entry.number,
                "plan": str(entry.file),
                "library": str(entry.library),
                "begun": datetime.fromtimestamp(entry.begun).astimezone().isoformat("T", "seconds"),
                **entry.counts,
            }
            for entry in entries
        ]
        say_json(rows)
        return
    for entry in entries:
        begun = datetime.fromtimestamp(entry.begun).astimezone()
        counts = ", ".join(f"{count:,} {state}" for state, count in entry.counts.items())
        say(f"{entry.number}  {begun:%Y-%m-%d %H:%M}  {entry.file}  {counts}")
    if not entries:
        say("No plan has been applied.")


def _journal(path: Path | None, *, write: bool = True) -> Journal:
    from genrescope.tagging.journal import Journal, default_path

    place = own_file(path, default_path, "--journal")
    return Journal(place, write=write or not place.exists())


def _entry(journal: Journal, plan: str | None, states: tuple[str, ...]) -> JournalEntry:
    from genrescope.tagging.plan import open_plan

    entries = journal.plans()
    if plan is None:
        for entry in entries:
            if any(entry.counts.get(state) for state in states):
                return entry
        raise GenrescopeError("There is no plan of which anything is left to do.")
    key = "" if plan.isdigit() else open_plan(Path(plan)).key
    for entry in entries:
        if str(entry.number) == plan or entry.key == key:
            return entry
    told = f"{plan} has not been applied, or was edited since."
    raise GenrescopeError(f"{told} `genrescope tag log` lists the plans by number.")


def _check_new(plan: Path) -> None:
    if replaces(plan):
        cause = "there is such a file already, perhaps a plan that you have edited"
        raise InputError(plan, cause, "Give another name with --out, or remove it")


class _First:
    # Shows the progress of a plan, and keeps the first changes to show them, too.

    def __init__(self, total: int) -> None:
        self._total, self._steps = total, list[Any]()

    def through(self, steps: Any) -> Any:
        from genrescope.cli.progress import bar

        with bar("planning", self._total, ERR) as bars:
            task = bars.add_task("", total=self._total)
            for step in steps:
                bars.advance(task)
                if step.action == "write" and len(self._steps) < _SHOWN:
                    self._steps.append(step)
                yield step

    def show(self) -> None:
        from rich.table import Table

        if not OUT.is_terminal or not self._steps:
            return
        table = Table("file", "old", "new", "confidence")
        for step in self._steps:
            genres = ("; ".join(names) for names in (step.old, step.new))
            cells = step.path, *genres, f"{step.confidence:.2f}"
            table.add_row(*map(one_line, cells))
        OUT.print(table)


def _print_plan(
    plan: Path, counts: dict[str, int], known: dict[str, int], say: Callable[[str], None]
) -> None:
    write = counts.pop("write")
    say(f"{plan}: {write:,} files to be written, {sum(counts.values()):,} left alone")
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        say(f"  {count:,} left alone: {reason}")
    if known["failed"] or known["waiting"]:
        told = f"{known['waiting']:,} have not been heard yet and {known['failed']:,} cannot be"
        say(f"  not in the plan: {told}")
    if write:
        say(f"Nothing has been changed. Read it, then: genrescope tag apply {plan}")


def _change(outcomes: Any, total: int, what: str) -> dict[str, int]:
    from genrescope.cli.progress import bar

    counts: dict[str, int] = {}
    try:
        with bar(what, total, ERR) as bars, closing(outcomes):
            task = bars.add_task("", total=total)
            for outcome in outcomes:
                bars.advance(task)
                counts[outcome.state] = counts.get(outcome.state, 0) + 1
                if outcome.told:
                    note(f"{outcome.state}: {outcome.path}: {outcome.told}")
    except KeyboardInterrupt as interrupt:
        told = "Stopped. Every file is either the old one or the new one. "
        raise StoppedError(f"{told}Go on with: genrescope tag resume") from interrupt
    return counts


def _print_changes(counts: dict[str, int], then: str = "") -> None:
    told = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    written = counts.get("written", 0)
    say((told or "nothing to do") + (f"; {then}" if then and written else ""))
    if counts.get("failed") or counts.get("skipped"):
        raise typer.Exit(1)
