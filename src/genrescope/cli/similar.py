"""The command that finds similar tracks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrescope.cli.console import StoppedError, note

if TYPE_CHECKING:
    from genrescope.library.similar import Library

from genrescope.cli.console import ERR, OUT, note_passed_over, require
from genrescope.io import check_output

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope similar song.mp3 --library ~/Music`\n\n"
    "- `genrescope similar song.mp3 --library ~/Music --other-folders -n 30`\n\n"
    "- `genrescope similar song.mp3 --library ~/Music --m3u | mpv --playlist=-` plays them\n\n"
    "- `genrescope similar ~/Music/album/ --library ~/Music --m3u > more-like-it.m3u8`\n\n"
    "- `genrescope similar song.mp3 --library /mnt/read-only --db ~/music-index.npz`\n\n"
    "- `genrescope similar ~/Music --library ~/Music --csv > neighbours.csv`"
)
def similar(
    tracks: Annotated[
        list[Path], typer.Argument(metavar="TRACK", help="Audio files, or folders of them.")
    ],
    folder: Annotated[
        Path, typer.Option("--library", help="The folder to look for similar tracks in.")
    ],
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="Similar tracks to show for each.")
    ] = 10,
    other_folders: Annotated[
        bool, typer.Option("--other-folders", help="None from the track's own folder (album).")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Look into folders' folders, too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="track, rank, path, similarity, genre, confidence.")
    ] = False,
    as_m3u: Annotated[
        bool, typer.Option("--m3u", help="A playlist of the similar tracks, each once.")
    ] = False,
    index: Annotated[
        Path | None,
        typer.Option("--db", help="File of the index. [default: a hidden one in the folder]"),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Hear every track again, not only new ones.")
    ] = False,
    ann: Annotated[
        bool | None,
        typer.Option(
            "--ann/--exact",
            help="By an approximate graph, or by every pair. [default: the graph for more than "
            "100,000 TRACKs among more than 100,000]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model folder, or user/name of the hub. [default: in the package]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files side by side. [default: one per core]")
    ] = None,
) -> None:
    """List the tracks of a folder that sound most like others.

    The first time it hears the whole folder, which can be stopped and gone on with; then only what
    is new. Ends with code 1 if a TRACK or a subfolder could not be read; files of the folder that
    cannot be read are named and left out.
    """
    from genrescope import load
    from genrescope.audio.formats import may_be_audio
    from genrescope.classifier.batch import find_audio
    from genrescope.cli.output import SimilarWriter
    from genrescope.library.similar import MANY, Library, has_graph

    if as_json + as_csv + as_m3u > 1:
        raise typer.BadParameter("choose one of --json, --csv and --m3u")
    if ann:
        require("usearch", "similar")
    if index is not None:
        check_output(index, "--db", inputs=tracks, is_audio=may_be_audio)
    chosen = {"json": as_json, "csv": as_csv, "m3u": as_m3u}
    form = next((name for name, asked in chosen.items() if asked), "table")
    library = Library(folder, load(model), index, recursive=recursive, rebuild=rebuild)
    analyse_missing(library, workers)
    passed_over = list(library.passed_over)
    asked = list(find_audio(tracks, recursive=recursive, passed_over=passed_over.append))
    note_passed_over(sorted(set(passed_over)))
    if ann is None and min(len(asked), len(library)) > MANY:
        ann = has_graph()
        if not ann:
            note("Comparing every pair of tracks; pip install 'genrescope[similar]' is quicker.")
    failed = len(library.unreadable)
    found = library.similar(
        asked, count, other_folders=other_folders, approximate=bool(ann), workers=workers
    )
    with SimilarWriter(form, OUT, ERR) as writer:
        for one in found:
            failed += one.error is not None
            writer.write(one)
    if failed:
        raise typer.Exit(1)


def analyse_missing(library: Library, workers: int | None) -> None:
    """Hear what a library's index lacks, with a bar; name what cannot be heard, and go on.

    Raises
    ------
    StoppedError
        If it is interrupted; what has been heard is kept.
    """
    from genrescope.cli.output import print_error
    from genrescope.cli.progress import bar

    if library.note:
        note(f"Note: {library.note}")
    for fault in library.unreadable:
        print_error(ERR, fault)
    before = len(library)
    total = len(library.missing)
    with bar("hearing", total, ERR) as bars, closing(library.update(workers)) as every:
        task = bars.add_task("", total=total)
        try:
            for heard in every:
                bars.advance(task)
                if heard.error is not None:
                    print_error(ERR, heard.error)
        except KeyboardInterrupt as interrupt:
            raise StoppedError from interrupt
    if len(library) > before:
        note(f"Heard {len(library) - before} tracks; kept in {library.index_file}")
