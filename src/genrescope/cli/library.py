"""The commands for a music library: scan, stats, export."""

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
    fail,
    note,
    note_passed_over,
    print_warnings,
    require,
    say,
    say_json,
)
from genrescope.cli.options import QualityOption
from genrescope.errors import GenrescopeError, InputError, number_of, one_line
from genrescope.io import check_folder, check_output, picture_kind, write_picture
from genrescope.quality import Quality

if TYPE_CHECKING:
    from genrescope.classifier import Classifier
    from genrescope.library.catalogue import Catalogue
    from genrescope.library.export import Written
    from genrescope.library.scan import LibrarySurvey, ScanResult
    from genrescope.library.stats import Stats

app = typer.Typer()

LibraryArgument = Annotated[Path, typer.Argument(help="Folder of a music library.")]
SomeLibraryArgument = Annotated[
    Path | None, typer.Argument(help="Folder of a music library. [default: the whole catalogue]")
]
DbOption = Annotated[
    Path | None, typer.Option(help="Catalogue file. [default: in the user's data folder]")
]

INCLUDE_IN_SCAN = "To include them, scan the links' folders and give the files an audio extension"
"""What to do about paths that a walk of a whole library has skipped."""


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope scan ~/Music`, then `genrescope stats`\n\n"
    "- `genrescope scan ~/Music --watch` keeps running and analyses new files\n\n"
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
        bool, typer.Option("--retry", help="Try files again that failed, even if unchanged.")
    ] = False,
    keep_watching: Annotated[
        bool, typer.Option("--watch", help="Keep running and analyse new and changed files.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
    quality: QualityOption = Quality.STANDARD,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files analysed in parallel. [default: one per core]")
    ] = None,
) -> None:
    """Analyse every track of a library once; keep genres and embeddings in a catalogue.

    Nothing in the library is changed. Stop it at any moment and run it again: it resumes. Files
    that are unchanged, renamed or have other tags are not analysed again. Ends with code 1 if some
    files failed; those are named, and the rest is analysed.
    """
    from genrescope import load
    from genrescope.library import catalogue as cat
    from genrescope.library import scan as scanning

    if keep_watching:
        require("watchfiles", "library")
    folder = scanning.open_library(library)
    place = own_file(db, cat.default_path, "--db")
    classifier = load(model, revision, quality=quality)
    with cat.Catalogue(place, write=True) as catalogue:
        if retry:
            catalogue.retry(str(folder))
        found, counts, seconds = analyse_library(catalogue, classifier, folder, workers)
        note_passed_over(list(found.passed_over), INCLUDE_IN_SCAN)
        _print_scan(folder, found, counts, seconds, as_json=as_json)
        if keep_watching:
            note(f"Watching {folder}. Stop with Ctrl-C.")
            _follow(scanning.watch(catalogue, classifier, folder, workers))
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw genres and confidences to this file (PNG, SVG, …).")
    ] = None,
) -> None:
    """Summarise a scanned library: genres, confidences, failures."""
    from genrescope.audio.formats import may_be_audio
    from genrescope.library.stats import draw, summarise

    if plot is not None:
        require("matplotlib", "library")
        picture_kind(plot)
        check_output(plot, "--plot", inputs=database_files(db), is_audio=may_be_audio)
    with open_catalogue(db) as catalogue:
        check_scanned(catalogue, library)
        found = summarise(catalogue, library and library.resolve())
    if plot is not None:
        write_picture(draw(found, str(library or "library")), plot)
        note(f"Drawn: {plot}")
    if as_json:
        say_json(found.to_json())
    else:
        _print_stats(found)


class Form(StrEnum):
    """Formats of an export."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    m3u = "m3u"
    jams = "jams"


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope export --format csv > genres.csv`\n\n"
    "- `genrescope export ~/Music --format m3u --out ~/Playlists --min-confidence 0.8`\n\n"
    "- `genrescope export --format parquet --out genres.parquet`\n\n"
    "- `genrescope export ~/Music --format jams --out annotations`"
)
def export(
    to: Annotated[
        Form,
        typer.Option("--format", help="Format; m3u: a file per genre, jams: a file per track."),
    ],
    library: SomeLibraryArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; folder for m3u and jams. [default: standard output]"),
    ] = None,
    db: DbOption = None,
    min_confidence: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out tracks of lower confidence and `other` ones."),
    ] = 0.0,
    include_unsure: Annotated[
        bool, typer.Option("--include-unsure", help="m3u: add unsure tracks to their playlists.")
    ] = False,
    include_other: Annotated[
        bool, typer.Option("--include-other", help="m3u: write a playlist of `other` tracks.")
    ] = False,
    relative: Annotated[
        bool, typer.Option("--relative", help="m3u: write paths relative to the playlists' folder.")
    ] = False,
) -> None:
    """Write the genres of a scanned library to a file for other programs.

    Playlists leave out unsure tracks and those that are `other`; the other formats have columns for
    both. What is left out is counted.
    """
    from genrescope.audio.formats import may_be_audio
    from genrescope.io import write_text
    from genrescope.library.export import FORMS, Written, confident

    if to is Form.parquet:
        require("pyarrow", "library")
    if to is Form.jams:
        require("jams", "jams")
    to_paths = (Form.parquet, Form.m3u, Form.jams)
    if out is None and to in to_paths:
        what = "a file" if to is Form.parquet else "a folder"
        raise typer.BadParameter(f"--format {to} needs {what}: --out PATH")
    of_lists = {
        "include_unsure": include_unsure,
        "include_other": include_other,
        "relative": relative,
    }
    if to is not Form.m3u and any(of_lists.values()):
        named = next(f"--{name.replace('_', '-')}" for name, given in of_lists.items() if given)
        raise typer.BadParameter(f"{named} is for --format m3u")
    if out is not None and to in (Form.m3u, Form.jams):
        check_folder(out)
    elif out is not None:
        check_output(out, inputs=database_files(db), is_audio=may_be_audio)
    with open_catalogue(db) as catalogue:
        check_scanned(catalogue, library)
        filtered = Written()
        every = catalogue.tracks(str(library.resolve()) if library else None)
        tracks = confident(every, min_confidence, filtered)
        if out is None:
            FORMS[to](tracks, sys.stdout)
        elif to is Form.m3u:
            _print_written(FORMS[to](tracks, out, **of_lists), out)
        elif to in to_paths:
            _print_written(FORMS[to](tracks, out), out)
        else:
            with write_text(out, is_audio=may_be_audio) as file:
                written = FORMS[to](tracks, file)
            _print_written(written, out)
    _print_left_out(filtered)


def open_catalogue(db: Path | None) -> Catalogue:
    """Open the catalogue to read it."""
    from genrescope.library.catalogue import Catalogue, default_path

    return Catalogue(own_file(db, default_path, "--db"))


def check_scanned(catalogue: Catalogue, library: Path | None) -> dict[str, int]:
    """Count the files of a library, or of the whole catalogue, as ``Catalogue.counts`` does.

    Raises
    ------
    GenrescopeError
        If there are none: the library has not been scanned, or holds no audio files.
    """
    folder = None if library is None else library.resolve()
    counts = catalogue.counts(None if folder is None else str(folder))
    if any(counts.values()):
        return counts
    if library is None or folder is None:
        raise GenrescopeError("There is nothing in the catalogue. Run `genrescope scan` first.")
    if any(folder.is_relative_to(known.path) for known in catalogue.libraries()):
        cause = "the last scan found no audio files in it"
        raise InputError(library, cause, "Add some and run `genrescope scan` on it again")
    raise InputError(library, "it has not been scanned yet", "Run `genrescope scan` on it")


def database_files(db: Path | None) -> list[Path]:
    """Give the catalogue's file, its lock and the files that SQLite keeps beside it."""
    from genrescope.library.catalogue import default_path

    place = own_file(db, default_path, "--db")
    beside = ("", "-wal", "-shm", "-journal", ".lock")
    return [place.with_name(f"{place.name}{ending}") for ending in beside if place.name]


def own_file(given: Path | None, default: Callable[[], Path], option: str) -> Path:
    """Give the file that was named, or the default in the user's data folder.

    Raises
    ------
    GenrescopeError
        If there is no home folder.
    """
    if given is not None:
        return given
    try:
        place = default()
    except RuntimeError:
        place = Path()
    if not place.is_absolute():  # older platformdirs give a folder named ~, here
        raise GenrescopeError(
            "There is no home folder to keep this in, as HOME is not set. "
            f"Set HOME or XDG_DATA_HOME, or give a file with {option}."
        )
    return place


def analyse_library(
    catalogue: Catalogue,
    classifier: Classifier,
    folder: Path,
    workers: int | None,
    *,
    recursive: bool = True,
) -> tuple[LibrarySurvey, dict[str, int], float]:
    """Survey a folder and analyse what waits, with a bar; name what cannot be read.

    Returns
    -------
    found
        Of the walk.
    counts
        Files ``analysed``, ``known`` by their audio and ``failed``.
    seconds
        That the analysis took.

    Raises
    ------
    StoppedError
        If it is interrupted; what is analysed is kept.
    """
    from genrescope.cli.progress import bar
    from genrescope.library import scan as scanning

    try:
        with ERR.status("looking for audio files") as status:
            found = scanning.survey(
                catalogue,
                folder,
                recursive=recursive,
                progress=lambda files: status.update(f"looking for audio files: {files:,}"),
            )
        for error in found.unreadable:
            fail(str(error))
        model = catalogue.model(classifier)
        if old := catalogue.count_old(str(folder), model):
            tracks = number_of(old, "track")
            note(f"Note: {tracks} of an older catalogue to be analysed again, for embeddings.")
        total = catalogue.count_waiting(str(folder), model, recursive=recursive)
        results = scanning.analyse(catalogue, classifier, folder, workers, recursive=recursive)
        begun = time.monotonic()
        counts = {"analysed": 0, "known": 0, "failed": 0}
        with bar("analysing", total, ERR) as bars, closing(results):
            task = bars.add_task("", total=total)
            for result in results:
                bars.advance(task)
                counts[_print_result(result)] += 1
    except KeyboardInterrupt as interrupt:
        raise StoppedError from interrupt
    return found, counts, time.monotonic() - begun


def _follow(results: Any) -> None:
    from genrescope.cli.output import labelled

    try:
        with closing(results):
            for one in results:
                if _print_result(one) == "analysed":
                    note(f"{one.path}: {labelled(one.result)}")
    except KeyboardInterrupt as interrupt:
        raise StoppedError from interrupt


def _print_result(one: ScanResult) -> str:
    if isinstance(one.result, GenrescopeError):
        fail(str(one.result))
        return "failed"
    if one.result is None:
        return "known"
    print_warnings(one.path, one.result)
    return "analysed"


def _print_scan(
    folder: Path, found: LibrarySurvey, counts: dict[str, int], seconds: float, *, as_json: bool
) -> None:
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
    if not found.files:
        gone = f"; {changes.gone:,} gone since the last scan" if changes.gone else ""
        say(f"No audio files were found in {folder}{gone}.")
        return
    done = f"{counts['analysed']:,} analysed"
    if counts["known"]:
        done += f", {counts['known']:,} known by their audio (renamed, copied or with other tags)"
    if counts["failed"]:
        done += f", {counts['failed']:,} failed (named above)"
    speed = f" in {seconds:.0f} s, {rate:.1f} tracks/s" if sum(counts.values()) else ""
    walked = f"{changes.new:,} new, {changes.changed:,} changed, {changes.gone:,} gone"
    say(f"{number_of(found.files, 'audio file')}: {walked}; {done}{speed}")


def _print_stats(found: Stats) -> None:
    from rich.table import Table

    from genrescope.classifier import OTHER

    total = found.other + sum(genre.tracks for genre in found.genres.values())
    table = Table("genre", "tracks", "share", "", "mean confidence", "unsure")
    for column in (1, 2, 4, 5):
        table.columns[column].justify = "right"
    largest = max([found.other, *(genre.tracks for genre in found.genres.values())])

    def add(name: str, tracks: int, *sure: str) -> None:
        blocks = "█" * max(1, round(16 * tracks / largest))
        table.add_row(one_line(name), f"{tracks:,}", f"{tracks / total:.1%}", blocks, *sure)

    for name, genre in found.genres.items():
        add(name, genre.tracks, f"{genre.mean_confidence:.2f}", f"{genre.unsure:,}")
    if found.other:
        add(OTHER, found.other)
    if table.row_count:
        OUT.print(table)
    say(", ".join(f"{count:,} {name}" for name, count in found.counts.items()))
    for cause, count in found.failures.items():
        say(f"  {count:,} failed: {cause}")
    if found.with_warnings:
        say(f"  {found.with_warnings:,} with a warning, such as damage (export names them)")


def _print_written(written: int | Written, out: Path) -> None:
    if isinstance(written, int):
        note(f"{out}: {number_of(written, 'track')}")
        return
    lists = ", ".join(f"{name} {count:,}" for name, count in written.counts.items())
    note(f"{out}: {lists or 'no tracks'}")
    _print_left_out(written)


def _print_left_out(written: Written) -> None:
    for reason, (count, first) in written.left_out.items():
        note(f"  {count:,} left out: {reason} (such as {first})")
