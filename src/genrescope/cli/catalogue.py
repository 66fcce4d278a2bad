"""The commands that manage a catalogue: list its libraries, forget a folder, move one."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrescope.cli.console import ERR, note, say, say_json
from genrescope.cli.library import DbOption, database_files, open_catalogue, own_file
from genrescope.cli.tag import JournalOption
from genrescope.errors import GenrescopeError, InputError, number_of

if TYPE_CHECKING:
    from genrescope.library.catalogue import Catalogue, CatalogueModel, ScannedLibrary
    from genrescope.library.move import MoveResult

app = typer.Typer(
    no_args_is_help=True,
    help="What the catalogue holds: list it, forget a folder, follow a folder that was moved.",
)
_SHOWN = 10  # files that are named


@app.command(
    "list",
    epilog="Examples:\n\n- `genrescope library list`\n\n"
    "- `genrescope library list --db ~/nas.db --json`",
)
def library_list(
    db: DbOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the scanned libraries: their files, the models that analysed them, the last scan."""
    with open_catalogue(db) as catalogue:
        libraries, place = catalogue.libraries(), catalogue.path
        models = [catalogue.models(str(library.path)) for library in libraries]
    size = _size(db)
    if as_json:
        rows = list(map(_to_json, libraries, models))
        say_json({"catalogue": str(place), "bytes": size, "libraries": rows})
        return
    for library, known in zip(libraries, models, strict=True):
        _print_library(library, known)
    files = sum(sum(library.counts.values()) for library in libraries)
    say(f"{place}: {number_of(files, 'file')}, {size / 1e6:.1f} MB")


@app.command(
    "forget",
    epilog="Examples:\n\n- `genrescope library forget ~/Music/old`\n\n"
    "- `genrescope library forget /mnt/lost-drive --yes`",
)
def library_forget(
    folder: Annotated[
        Path, typer.Argument(help="Folder to forget, which need not exist any more.")
    ],
    db: DbOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a folder and those below it from the catalogue.

    What is lost is the analysis: genres, tags, embeddings and errors. No audio file is touched,
    and `genrescope tag undo` works as before. The next scan of the folder analyses it anew.
    """
    from genrescope.library.move import find_folder

    before = _size(db)
    with _open_to_change(db) as catalogue:
        known = find_folder(catalogue, folder)
        counts = catalogue.counts(str(known))
        files = sum(counts.values())
        parts = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        note(f"{known}: {number_of(files, 'file')} in the catalogue ({parts})")
        note("Their genres, tags and embeddings will be lost. No audio file is touched.")
        for library in catalogue.libraries():
            if known != library.path and known.is_relative_to(library.path):
                note(f"It is a part of {library.path}, whose next scan adds it again.")
        if not yes:
            if not sys.stdin.isatty():
                raise GenrescopeError("This asks before it forgets. Give --yes to do it unasked.")
            typer.confirm("Forget them?", abort=True, err=True)
        catalogue.forget(str(known))
        try:
            catalogue.compact()
        except InputError as error:  # as there is no room for a copy of the catalogue
            note(
                f"Note: {catalogue.path} is as large as before ({error.cause}); scans use its room."
            )
    freed = max(before - _size(db), 0)
    say(f"{known}: {number_of(files, 'file')} forgotten, {freed / 1e6:.1f} MB freed")


@app.command(
    "move",
    epilog="Examples:\n\n- `mv ~/Music /data/Music`, then "
    "`genrescope library move ~/Music /data/Music`",
)
def library_move(
    old: Annotated[Path, typer.Argument(help="Where the folder was at the last scan.")],
    new: Annotated[Path, typer.Argument(help="Where it is now.")],
    db: DbOption = None,
    journal: JournalOption = None,
) -> None:
    """Follow a folder that you have moved or renamed; moves no file itself.

    Predictions and embeddings are kept, and `genrescope tag undo` finds the files. Files that are
    missing from the new folder, or have another size or time there, are named; then it ends with
    code 1, and the next scan does what is left to do.
    """
    from genrescope.cli.progress import bar
    from genrescope.library import move as moving
    from genrescope.tagging.journal import Journal, default_path

    record = own_file(journal, default_path, "--journal")
    plans = 0
    with ExitStack() as stack:
        catalogue = stack.enter_context(_open_to_change(db))
        changes = stack.enter_context(Journal(record)) if record.exists() else None
        known = moving.find_folder(catalogue, old)
        total = sum(catalogue.counts(str(known)).values())
        with bar("comparing", total, ERR) as bars:
            task = bars.add_task("", total=total)
            moved = moving.move(catalogue, known, new, lambda: bars.advance(task))
        if changes is not None:
            plans = changes.move(known, moved.new)
    _print_move(known, moved, plans)
    if moved.missing or moved.changed:
        raise typer.Exit(1)


def _open_to_change(db: Path | None) -> Catalogue:
    from genrescope.library.catalogue import Catalogue, default_path

    open_catalogue(db).close()  # it must exist, and opening it for writing would create it
    return Catalogue(own_file(db, default_path, "--db"), write=True)


def _size(db: Path | None) -> int:
    # Bytes of the database and its log; a reader may have merged the log meanwhile.
    return sum(path.stat().st_size for path in database_files(db) if path.exists())


def _scanned(library: ScannedLibrary) -> datetime | None:
    at = library.scanned
    return None if at is None else datetime.fromtimestamp(at).astimezone()


def _to_json(library: ScannedLibrary, models: list[CatalogueModel]) -> dict[str, Any]:
    at = _scanned(library)
    return {
        "path": str(library.path),
        "exists": library.path.is_dir(),
        "files": sum(library.counts.values()),
        **library.counts,
        "models": [{"name": one.name, "key": one.key, "files": one.files} for one in models],
        "scanned": at and at.isoformat("T", "seconds"),
    }


def _print_library(library: ScannedLibrary, models: list[CatalogueModel]) -> None:
    there = "" if library.path.is_dir() else " (not there now)"
    counts = ", ".join(f"{count:,} {name}" for name, count in library.counts.items())
    several = len(models) > 1
    names = ", ".join(
        f"{m.name} ({number_of(m.files, 'file')})" if several else m.name for m in models
    )
    at = _scanned(library)
    when = f"{at:%Y-%m-%d %H:%M}" if at else "unknown"
    say(f"{library.path}{there}: {counts}; model {names or 'none'}; last scan {when}")


def _print_move(old: Path, moved: MoveResult, plans: int) -> None:
    for paths, state in ((moved.missing, "missing"), (moved.changed, "changed")):
        for path in paths[:_SHOWN]:
            note(f"{state}: {path}")
        if (more := len(paths) - _SHOWN) > 0:
            note(f"{state}: {more:,} more")
    counts = [f"{number_of(moved.kept, 'file')} as they were"]
    counts += [f"{len(moved.changed):,} changed since the scan"] if moved.changed else []
    counts += [f"{len(moved.missing):,} missing"] if moved.missing else []
    say(f"{old} is now {moved.new}: {', '.join(counts)}")
    if plans:
        say(f"plans of `genrescope tag log` that can be undone there: {plans:,}")
    if moved.missing or moved.changed:
        note(f"Run `genrescope scan` on {moved.new} to compare the rest.")
