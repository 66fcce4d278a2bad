"""The commands for a music library: scan, stats, export, tag. Each is a thin call downwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrescope.cli.console import (
    ERR,
    OUT,
    StoppedError,
    note,
    note_passed_over,
    require,
    say,
    say_json,
)
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.io import check_folder, check_output, picture_kind, replaces, write_picture

if TYPE_CHECKING:
    from genrescope.library.catalogue import Catalogue
    from genrescope.library.scan import Found, Outcome
    from genrescope.library.stats import Stats
    from genrescope.tagging.journal import Entry, Journal

app = typer.Typer()
tag_app = typer.Typer(
    no_args_is_help=True,
    help="Write genres into files: plan, read the plan, apply it; and undo it.",
)
app.add_typer(tag_app, name="tag")

_SHOWN = 20  # changes of a plan, on the terminal

LibraryArgument = Annotated[Path, typer.Argument(help="Folder of a music library.")]
SomeLibraryArgument = Annotated[
    Path | None, typer.Argument(help="Folder of a music library. [default: all that is known]")
]
JournalOption = Annotated[
    Path | None,
    typer.Option(help="File of what was changed. [default: in the user's data folder]"),
]
DbOption = Annotated[
    Path | None, typer.Option(help="File of the catalogue. [default: in the user's data folder]")
]


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope scan ~/Music`, then `genrescope stats`\n\n"
    "- `genrescope scan ~/Music --watch` goes on, and hears what is added\n\n"
    "- `genrescope scan /mnt/nas/music --db ~/nas.db --retry`\n\n"
    "- `genrescope scan ~/Music --model my-model --json`"
)
def scan(
    library: LibraryArgument,
    db: DbOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model folder, or user/name of the hub. [default: in the package]"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub's model. [default: newest]")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what failed, though it has not changed.")
    ] = False,
    keep_watching: Annotated[
        bool, typer.Option("--watch", help="Go on, and hear what is added or changed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files side by side. [default: one per core]")
    ] = None,
) -> None:
    """Hear every track of a library once, and keep the genres in a small catalogue.

    Nothing in the library is touched. Stop it at any moment and run it again: it goes on where it
    was. Files that have not changed, were renamed or got other tags are not heard again. Ends with
    code 1 if some files failed; those are named, the rest go on.
    """
    from genrescope import load
    from genrescope.library import catalogue as cat
    from genrescope.library import scan as scanning

    if keep_watching:
        require("watchfiles", "library")
    folder = scanning.open_library(library)
    place = _own_file(db, cat.default_path, "--db")
    classifier = load(model, revision)
    with cat.Catalogue(place, write=True) as catalogue:
        try:
            if retry:
                catalogue.retry(str(folder))
            found = _look(catalogue, folder)
            number = catalogue.model(classifier)
            total = catalogue.count_waiting(str(folder), number)
            outcomes = scanning.hear(catalogue, classifier, folder, workers)
            begun = time.monotonic()
            counts = _show(outcomes, total)
            _print_scan(found, counts, time.monotonic() - begun, as_json=as_json)
            if keep_watching:
                note(f"Watching {folder}. Stop with Ctrl-C.")
                _follow(scanning.watch(catalogue, classifier, folder, workers))
        except KeyboardInterrupt as interrupt:
            raise StoppedError from interrupt
    if counts["failed"] or found.unreadable:
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope stats`\n\n"
    "- `genrescope stats ~/Music/new --json`\n\n"
    "- `genrescope stats --plot library.png`"
)
def stats(
    library: SomeLibraryArgument = None,
    db: DbOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw genres and confidences into this file (PNG, SVG, …).")
    ] = None,
) -> None:
    """Show what a library that has been scanned is made of: genres, confidence, failures."""
    from genrescope.audio.formats import may_be_audio
    from genrescope.library.stats import draw, summarise

    if plot is not None:
        require("matplotlib", "library")
        picture_kind(plot)
        check_output(plot, "--plot", inputs=_database(db), is_audio=may_be_audio)
    with _open(db) as catalogue:
        found = summarise(catalogue, library and library.resolve())
    if not any(found.counts.values()):
        whose = library or "this catalogue"
        raise GenrescopeError(f"Nothing is known of {whose}. Run `genrescope scan` on it first.")
    if plot is not None:
        write_picture(draw(found, str(library or "library")), plot)
        note(f"Drawn: {plot}")
    if as_json:
        say_json(found.to_json())
    else:
        _print_stats(found)


class Form(StrEnum):
    """What a catalogue can be exported to."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    m3u = "m3u"
    jams = "jams"


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope export --to csv > genres.csv`\n\n"
    "- `genrescope export ~/Music --to m3u --out ~/Playlists --min-confidence 0.8`\n\n"
    "- `genrescope export --to parquet --out genres.parquet`\n\n"
    "- `genrescope export ~/Music --to jams --out annotations`"
)
def export(
    to: Annotated[
        Form, typer.Option(help="Kind of file; m3u: one for each genre, jams: one for each track.")
    ],
    library: SomeLibraryArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; folder for m3u and jams. [default: standard output]"),
    ] = None,
    db: DbOption = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out tracks less sure than this.")
    ] = 0.0,
) -> None:
    """Write what is known of a library that has been scanned for other programs."""
    from genrescope.audio.formats import may_be_audio
    from genrescope.io import write_text
    from genrescope.library.export import FORMS

    if to is Form.parquet:
        require("pyarrow", "library")
    if to is Form.jams:
        require("jams", "jams")
    to_paths = (Form.parquet, Form.m3u, Form.jams)
    if out is None and to in to_paths:
        what = "a file" if to is Form.parquet else "a folder"
        raise typer.BadParameter(f"--to {to} needs {what}: --out PATH")
    if out is not None and to in (Form.m3u, Form.jams):
        check_folder(out)
    elif out is not None:
        check_output(out, inputs=_database(db), is_audio=may_be_audio)
    with _open(db) as catalogue:
        every = catalogue.tracks(str(library.resolve()) if library else None)
        tracks = (
            known
            for known in every
            if not min_confidence
            or (known.prediction and known.prediction.confidence >= min_confidence)
        )
        if out is None:
            FORMS[to](tracks, sys.stdout)
        elif to in to_paths:
            _print_written(FORMS[to](tracks, out), out)
        else:
            with write_text(out, is_audio=may_be_audio) as file:
                written = FORMS[to](tracks, file)
            _print_written(written, out)


@tag_app.command(
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
    check_output(plan, inputs=_database(db), is_audio=may_be_audio)
    _refuse_existing(plan)
    is_stream = plan.exists()  # a pipe, a device or standard output, which then holds the table
    with _open(db) as catalogue:
        known = catalogue.counts(str(folder))
        if not known["heard"]:
            raise GenrescopeError(f"Nothing is known of {library}. Run `genrescope scan` on it.")
        first = _First(known["heard"])
        steps = make_plan(catalogue, folder, genres, policy, break_hard_links=break_hard_links)
        counts = write_plan(plan, folder, first.through(steps))
    first.show()
    _print_plan(plan, counts, known, note if is_stream else say)


@tag_app.command(
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
    from genrescope.tagging.apply import carry_out, enter
    from genrescope.tagging.plan import open_plan

    opened = open_plan(plan)
    with _journal(journal) as changes:
        entry = enter(changes, opened, preserve_mtime=preserve_mtime)
        before = entry.counts.get("done", 0)
        total = entry.counts.get("waiting", 0) + entry.counts.get("ready", 0)
        note(f"Library: {entry.library} ({total:,} files to be written)")
        counts = _change(carry_out(changes, entry), total, "writing")
    if before:
        note(f"{before:,} files of this plan were written before.")
    _print_changes(counts, f"undo it with: genrescope tag undo {plan}")


@tag_app.command(
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
    from genrescope.tagging.apply import take_back

    with _journal(journal) as changes:
        entry = _entry(changes, plan, ("done", "ready", "waiting"))
        total = entry.counts.get("done", 0) + entry.counts.get("ready", 0)
        note(f"Library: {entry.library} ({total:,} files to be undone)")
        counts = _change(take_back(changes, entry), total, "undoing")
    _print_changes(counts)


@tag_app.command(
    "resume", epilog="Examples:\n\n- `genrescope tag resume` goes on after a kill or a power cut"
)
def tag_resume(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's file or number. [default: the newest one]")
    ] = None,
    journal: JournalOption = None,
) -> None:
    """Go on with a plan whose application was interrupted."""
    from genrescope.tagging.apply import carry_out

    with _journal(journal) as changes:
        entry = _entry(changes, plan, ("ready", "waiting"))
        total = entry.counts.get("waiting", 0) + entry.counts.get("ready", 0)
        note(f"Library: {entry.library} ({total:,} files to be written)")
        counts = _change(carry_out(changes, entry), total, "writing")
    _print_changes(counts, "undo it with: genrescope tag undo")


@tag_app.command("log", epilog="Examples:\n\n- `genrescope tag log --json`")
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


def _open(db: Path | None) -> Catalogue:
    from genrescope.library.catalogue import Catalogue, default_path

    return Catalogue(_own_file(db, default_path, "--db"))


def _database(db: Path | None) -> list[Path]:
    # The catalogue, and the files that SQLite and the lock keep beside it.
    from genrescope.library.catalogue import default_path

    place = _own_file(db, default_path, "--db")
    beside = ("", "-wal", "-shm", "-journal", ".lock")
    return [place.with_name(f"{place.name}{ending}") for ending in beside if place.name]


def _journal(path: Path | None, *, write: bool = True) -> Journal:
    from genrescope.tagging.journal import Journal, default_path

    place = _own_file(path, default_path, "--journal")
    return Journal(place, write=write or not place.exists())


def _own_file(given: Path | None, default: Callable[[], Path], option: str) -> Path:
    if given is not None:
        return given
    try:
        place = default()
    except RuntimeError:
        place = Path()
    if not place.is_absolute():  # older platformdirs give a folder named ~, here
        told = "There is no home folder to keep this in, as HOME is not set. "
        raise GenrescopeError(f"{told}Set HOME or XDG_DATA_HOME, or give a file with {option}.")
    return place


def _entry(journal: Journal, plan: str | None, states: tuple[str, ...]) -> Entry:
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


def _refuse_existing(plan: Path) -> None:
    if replaces(plan):
        cause = "there is such a file already, perhaps a plan that you have edited"
        raise InputError(plan, cause, "Give another name with --out, or remove it")


class _First:
    # Shows the progress of a plan, and keeps the first changes to show them, too.

    def __init__(self, total: int) -> None:
        self._total, self._steps = total, list[Any]()

    def through(self, steps: Any) -> Any:
        from genrescope.cli.output import bar

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
    from genrescope.cli.output import bar

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


def _look(catalogue: Catalogue, folder: Path) -> Found:
    from genrescope.cli.output import print_error
    from genrescope.library.scan import look

    with ERR.status("looking for audio files") as status:
        found = look(
            catalogue,
            folder,
            progress=lambda files: status.update(f"looking for audio files: {files:,}"),
        )
    for error in found.unreadable:
        print_error(ERR, error)
    note_passed_over(list(found.passed_over))
    return found


def _show(outcomes: Any, total: int) -> dict[str, int]:
    from genrescope.cli.output import bar

    counts = {"heard": 0, "known": 0, "failed": 0}
    with bar("hearing", total, ERR) as bars, closing(outcomes):
        task = bars.add_task("", total=total)
        for outcome in outcomes:
            bars.advance(task)
            counts[_tell(outcome)] += 1
    return counts


def _follow(outcomes: Any) -> None:
    with closing(outcomes):
        for outcome in outcomes:
            if _tell(outcome) == "heard":
                note(f"{outcome.path}: {outcome.result.genre} {outcome.result.confidence:.2f}")


def _tell(outcome: Outcome) -> str:
    from genrescope.cli.output import print_error, print_warnings

    if isinstance(outcome.result, GenrescopeError):
        print_error(ERR, outcome.result)
        return "failed"
    if outcome.result is None:
        return "known"
    print_warnings(ERR, outcome.path, outcome.result)
    return "heard"


def _print_scan(found: Found, counts: dict[str, int], seconds: float, *, as_json: bool) -> None:
    changes = found.changes
    rate = sum(counts.values()) / seconds if seconds > 0 else 0.0
    if as_json:
        row = {
            "files": found.files,
            "new": changes.new,
            "changed": changes.changed,
            "gone": changes.gone,
            **counts,
            "seconds": round(seconds, 3),
            "tracks_per_s": round(rate, 2),
        }
        say_json(row, None)
        return
    done = f"{counts['heard']:,} heard"
    if counts["known"]:
        done += f", {counts['known']:,} known by their audio (renamed, copied or with other tags)"
    if counts["failed"]:
        done += f", {counts['failed']:,} failed (named above)"
    speed = f" in {seconds:.0f} s, {rate:.1f} tracks/s" if sum(counts.values()) else ""
    lies = f"{changes.new:,} new, {changes.changed:,} changed, {changes.gone:,} gone"
    say(f"{found.files:,} audio files: {lies}; {done}{speed}")


def _print_stats(found: Stats) -> None:
    from rich.table import Table

    total = sum(genre.tracks for genre in found.genres.values())
    table = Table("genre", "tracks", "share", "", "mean confidence", "unsure")
    for column in (1, 2, 4, 5):
        table.columns[column].justify = "right"
    most = max((genre.tracks for genre in found.genres.values()), default=1)
    for name, genre in found.genres.items():
        share = genre.tracks / total
        blocks = "█" * max(1, round(16 * genre.tracks / most))
        sure = f"{genre.mean_confidence:.2f}", f"{genre.unsure:,}"
        table.add_row(one_line(name), f"{genre.tracks:,}", f"{share:.1%}", blocks, *sure)
    if found.genres:
        OUT.print(table)
    say(", ".join(f"{count:,} {name}" for name, count in found.counts.items()))
    for cause, count in found.failures.items():
        say(f"  {count:,} failed: {cause}")
    if found.with_warnings:
        say(f"  {found.with_warnings:,} with a warning, such as damage (export names them)")


def _print_written(written: Any, out: Path) -> None:
    if isinstance(written, int):
        note(f"{out}: {written:,} tracks")
        return
    lists = ", ".join(f"{name} {count:,}" for name, count in written.counts.items())
    note(f"{out}: {lists or 'no tracks'}")
    for reason, (count, first) in written.left_out.items():
        note(f"  {count:,} left out: {reason} (such as {first})")
