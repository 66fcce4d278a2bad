"""The commands that write genres into tags: plan, apply, undo, resume, log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrescope.cli.console import ERR, OUT, StoppedError, note, say, say_json
from genrescope.cli.library import (
    DbOption,
    LibraryArgument,
    check_scanned,
    database_files,
    open_catalogue,
    own_file,
)
from genrescope.errors import GenrescopeError, InputError, number_of, one_line
from genrescope.io import check_output, replaces
from genrescope.tagging.policy import AlbumVote, Existing

if TYPE_CHECKING:
    from genrescope.tagging.journal import Journal, JournalEntry
    from genrescope.tagging.plan import Step

app = typer.Typer(
    no_args_is_help=True,
    help="Write genres into tags: plan, review, apply, undo.",
)
_SHOWN = 20  # changes of a plan, on the terminal
_WIDE = 110  # columns of a terminal that has room for the evidence
JournalOption = Annotated[
    Path | None,
    typer.Option(help="Journal of the changes. [default: in the user's data folder]"),
]
PlanArgument = Annotated[
    str | None, typer.Argument(help="File or number of a plan. [default: the newest]")
]


@app.command(
    "plan",
    epilog="Examples:\n\n"
    "- `genrescope scan ~/Music`, then `genrescope tag plan ~/Music`\n\n"
    "- `genrescope tag plan ~/Music --existing add --taxonomy my-genres.toml --out plan.csv`\n\n"
    "- `genrescope tag plan ~/Music/new --existing replace --min-confidence 0.9 --max-genres 1`",
)
def tag_plan(
    library: LibraryArgument,
    min_confidence: Annotated[
        float,
        typer.Option(min=0, max=1, help="Minimum probability of the first genre, by itself."),
    ] = 0.7,
    existing: Annotated[
        Existing, typer.Option(help="What to do with files that have a genre.")
    ] = Existing.SKIP,
    max_genres: Annotated[int, typer.Option(min=1, help="Maximum number of genres per file.")] = 2,
    min_second: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum probability of each further genre.")
    ] = 0.25,
    album: Annotated[
        AlbumVote,
        typer.Option(
            help="One genre per album where its tracks agree, always, or never. "
            "off: by the audio of each track alone."
        ),
    ] = AlbumVote.AGREE,
    taxonomy: Annotated[
        Path | None,
        typer.Option(help="Your genres, their aliases and their tree (TOML)."),
    ] = None,
    placeholders: Annotated[
        Path | None,
        typer.Option(help="More names in tags that mean no genre, one a line."),
    ] = None,
    from_tags: Annotated[
        bool,
        typer.Option(
            "--from-tags",
            help="Write electronic, folk, soul, punk, ambient … where the tagger is clear "
            "and the model has no genre. Less sure than a genre, and without a confidence.",
        ),
    ] = False,
    break_hard_links: Annotated[
        bool,
        typer.Option(
            "--break-hard-links",
            help="Also tag files with hard links; their other names keep the old tags.",
        ),
    ] = False,
    db: DbOption = None,
    journal: JournalOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write. [default: tag-plan-DATE-TIME.csv, here]")
    ] = None,
) -> None:
    """Write a plan: which genres would be written into which files, and why. Changes no tags.

    The plan is a CSV file. Review it, edit it if you like, then run `genrescope tag apply`. It goes
    by the answers of the last `genrescope scan`, whose `--model` decides on the model.
    """
    from datetime import datetime

    from genrescope.audio.formats import may_be_audio
    from genrescope.cli.progress import bar
    from genrescope.library.scan import open_library
    from genrescope.tagging.journal import default_path, written_before
    from genrescope.tagging.plan import make_plan, write_plan
    from genrescope.tagging.policy import Policy
    from genrescope.taxonomy import load_taxonomy

    folder = open_library(library)
    genres = load_taxonomy(taxonomy, placeholders=placeholders)
    policy = Policy(
        existing=existing,
        min_confidence=min_confidence,
        max_genres=max_genres,
        map_existing=taxonomy is not None,
        min_second=min_second,
    )
    now = datetime.now().astimezone()
    plan = out or Path(f"tag-plan-{now:%Y-%m-%d-%H%M%S}.csv")
    check_output(plan, inputs=database_files(db), is_audio=may_be_audio)
    _check_new(plan)
    is_stream = plan.exists()  # a pipe, a device or standard output: the table goes there
    with open_catalogue(db) as catalogue:
        known = check_scanned(catalogue, library)
        if not known["analysed"]:
            cause = "none of its files has been analysed"
            raise InputError(library, cause, "Run `genrescope scan --retry` on it")
        models = [f"{model.name} ({model.key[:12]})" for model in catalogue.models(str(folder))]
        with bar("planning", known["analysed"], ERR) as bars:
            task = bars.add_task("", total=known["analysed"])
            steps = list(
                make_plan(
                    catalogue,
                    folder,
                    genres,
                    policy,
                    break_hard_links=break_hard_links,
                    album=album,
                    from_tags=from_tags,
                    written=written_before(own_file(journal, default_path, "--journal"), folder),
                    on_read=lambda count: bars.update(task, completed=count),
                )
            )
    counts = write_plan(plan, folder, steps, models=models)
    if len(models) > 1:
        note(f"The files were analysed by {len(models)} models: {', '.join(map(one_line, models))}")
        note("Their genres may differ. Scan the library again with one --model to compare like.")
    _show_steps(steps)
    _print_plan(plan, steps, counts, known, note if is_stream else say)


@app.command(
    "apply",
    epilog="Examples:\n\n"
    "- `genrescope tag apply plan.csv`\n\n"
    "- `genrescope tag apply plan.csv --preserve-mtime`",
)
def tag_apply(
    plan: Annotated[Path, typer.Argument(help="Plan written by `genrescope tag plan`.")],
    preserve_mtime: Annotated[
        bool, typer.Option("--preserve-mtime", help="Keep the modification time of each file.")
    ] = False,
    journal: JournalOption = None,
) -> None:
    """Write the genres of a plan into the files' tags. `genrescope tag undo` reverts it.

    Only the genre is changed. Files that have changed since the plan was written are skipped and
    named. It can be stopped at any moment: each file is the old or the new one, and
    `genrescope tag resume` continues.
    """
    from genrescope.tagging.apply import register_plan
    from genrescope.tagging.plan import open_plan

    opened = open_plan(plan)
    with _journal(journal) as changes:
        entry = register_plan(changes, opened, preserve_mtime=preserve_mtime)
        before = entry.counts.get("done", 0)
        counts = _write(changes, entry)
    if before:
        note(f"Written before: {number_of(before, 'file')} of this plan.")
    _print_changes(counts, f"undo it with: genrescope tag undo {plan}")


@app.command(
    "undo",
    epilog="Examples:\n\n"
    "- `genrescope tag undo` reverts the newest plan\n\n"
    "- `genrescope tag undo plan.csv`\n\n"
    "- `genrescope tag undo 3` reverts a plan by its number in `genrescope tag log`",
)
def tag_undo(
    plan: PlanArgument = None,
    journal: JournalOption = None,
) -> None:
    """Restore the files as they were before a plan was applied, byte for byte.

    In a file that another program has changed since, only the genre is restored.
    """
    from genrescope.tagging.apply import undo_plan

    with _journal(journal) as changes:
        entry = _entry(changes, plan, ("done", "ready", "waiting"))
        total = entry.counts.get("done", 0) + entry.counts.get("ready", 0)
        note(f"Library: {entry.library} ({number_of(total, 'file')} to be undone)")
        counts = _change(undo_plan(changes, entry), total, "undoing")
    _print_changes(counts)


@app.command("resume", epilog="Examples:\n\n- `genrescope tag resume` after a kill or a power cut")
def tag_resume(
    plan: PlanArgument = None,
    journal: JournalOption = None,
) -> None:
    """Continue a plan whose application was interrupted."""
    with _journal(journal) as changes:
        entry = _entry(changes, plan, ("ready", "waiting"))
        counts = _write(changes, entry)
    _print_changes(counts, "undo it with: genrescope tag undo")


@app.command("log", epilog="Examples:\n\n- `genrescope tag log --json`")
def tag_log(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
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
        raise GenrescopeError("No plan has anything left to do. `genrescope tag log` lists them.")
    key = "" if plan.isdigit() else open_plan(Path(plan)).key
    for entry in entries:
        if str(entry.number) == plan or entry.key == key:
            return entry
    if plan.isdigit():
        raise GenrescopeError(f"There is no plan {plan}. `genrescope tag log` lists the plans.")
    cause = "it has not been applied, or was edited since"
    raise GenrescopeError(f"{plan}: {cause}. `genrescope tag log` lists the plans by number.")


def _check_new(plan: Path) -> None:
    if replaces(plan):
        cause = "the file exists, and may be a plan that you have edited"
        raise InputError(plan, cause, "Give another name with --out, or remove it")


def _show_steps(steps: list[Step]) -> None:
    """Show the first changes of a plan and the first ones to review, on a terminal."""
    from rich.table import Table

    if not OUT.is_terminal:
        return
    evidence = ("audio", "album", "artist") if OUT.width >= _WIDE else ()
    for action, title in (("review", "to be reviewed"), ("write", "to be written")):
        some = [step for step in steps if step.action == action][:_SHOWN]
        if not some:
            continue
        table = Table("file", "old", "new", "confidence", *evidence, title=title)
        for step in some:
            genres = ("; ".join(names) for names in (step.old, step.new))
            said = (getattr(step, name) for name in evidence)
            table.add_row(*map(one_line, (step.path, *genres, _confidence(step), *said)))
        OUT.print(table)


def _confidence(step: Step) -> str:
    return "" if step.confidence is None else f"{step.confidence:.2f}"


def _print_plan(
    plan: Path,
    steps: list[Step],
    counts: dict[str, int],
    known: dict[str, int],
    say: Callable[[str], None],
) -> None:
    from genrescope.tagging.plan import describe_plan

    write, review = counts.pop("write"), counts.pop("review")
    say(f"{plan}: {describe_plan(steps)}")
    if review:
        say(f"  {review:,} to be reviewed: what they sound like contradicts their tags")
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        say(f"  {count:,} left alone: {reason}")
    if known["failed"] or known["waiting"]:
        say(f"  not in the plan: {known['waiting']:,} not analysed yet, {known['failed']:,} failed")
    if write:
        say(f"No tags have been changed. Review it, then: genrescope tag apply {plan}")


def _write(journal: Journal, entry: JournalEntry) -> dict[str, int]:
    from genrescope.tagging.apply import apply_plan

    total = entry.counts.get("waiting", 0) + entry.counts.get("ready", 0)
    note(f"Library: {entry.library} ({number_of(total, 'file')} to be written)")
    return _change(apply_plan(journal, entry), total, "writing")


def _change(results: Any, total: int, what: str) -> dict[str, int]:
    from genrescope.cli.progress import bar

    counts: dict[str, int] = {}
    try:
        with bar(what, total, ERR) as bars, closing(results):
            task = bars.add_task("", total=total)
            for result in results:
                bars.advance(task)
                counts[result.state] = counts.get(result.state, 0) + 1
                if result.reason:
                    note(f"{result.state}: {result.path}: {result.reason}")
    except KeyboardInterrupt as interrupt:
        message = "Stopped. Each file is the old or the new one. Resume: genrescope tag resume"
        raise StoppedError(message) from interrupt
    return counts


def _print_changes(counts: dict[str, int], then: str = "") -> None:
    done = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    written = counts.get("written", 0)
    say((done or "nothing to do") + (f"; {then}" if then and written else ""))
    if counts.get("failed") or counts.get("skipped"):
        raise typer.Exit(1)
