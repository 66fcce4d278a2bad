"""The command that finds similar tracks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrescope.cli.console import note, note_passed_over, require
from genrescope.cli.library import DbOption, analyse_library, own_file
from genrescope.cli.options import QualityOption
from genrescope.errors import InputError, install, number_of
from genrescope.quality import Quality

if TYPE_CHECKING:
    from genrescope.classifier import Classifier
    from genrescope.library.scan import LibrarySurvey

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope similar song.mp3 --library ~/Music`\n\n"
    "- `genrescope similar song.mp3 --library ~/Music --other-folders -n 30`\n\n"
    "- `genrescope similar song.mp3 --library ~/Music --m3u | mpv --playlist=-` plays them\n\n"
    "- `genrescope similar ~/Music/album/ --library ~/Music --m3u > more-like-it.m3u8`\n\n"
    "- `genrescope similar ~/Music --library ~/Music --csv > neighbours.csv`"
)
def similar(
    tracks: Annotated[
        list[Path], typer.Argument(metavar="TRACK", help="Audio files, or folders of them.")
    ],
    library: Annotated[Path, typer.Option(help="Folder of music to find similar tracks in.")],
    db: DbOption = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="Similar tracks to show for each.")
    ] = 10,
    other_folders: Annotated[
        bool, typer.Option("--other-folders", help="Leave out the track's own folder (album).")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Recurse into subfolders.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="track, rank, path, similarity, genre, confidence.")
    ] = False,
    as_m3u: Annotated[
        bool, typer.Option("--m3u", help="A playlist of the similar tracks, each once.")
    ] = False,
    ann: Annotated[
        bool | None,
        typer.Option(
            "--ann/--exact",
            help="Search with an approximate graph, or by brute force. [default: the graph for "
            "more than 100,000 TRACKs among more than 100,000]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model folder, or user/name of the hub. [default: in the package]"),
    ] = None,
    quality: QualityOption = Quality.STANDARD,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files analysed in parallel. [default: one per core]")
    ] = None,
) -> None:
    """List the tracks of a folder that sound most like others.

    Tracks of the folder that `scan` has not analysed yet are analysed first, and kept in the same
    catalogue. You can stop that and run the command again: it resumes. Ends with code 1 if a TRACK
    or a subfolder cannot be read; other files that cannot be read are named and left out.
    """
    from genrescope import load
    from genrescope.classifier.batch import find_audio
    from genrescope.cli.output import SimilarWriter
    from genrescope.library.catalogue import Catalogue, default_path
    from genrescope.library.similar import MIN_GRAPH, Library, has_graph

    if as_json + as_csv + as_m3u > 1:
        raise typer.BadParameter("choose one of --json, --csv and --m3u")
    if ann:
        require("usearch", "similar")
    chosen = {"json": as_json, "csv": as_csv, "m3u": as_m3u}
    form = next((name for name, asked in chosen.items() if asked), "table")
    place, classifier = own_file(db, default_path, "--db"), load(model, quality=quality)
    passed_over: list[str] = []
    asked = list(find_audio(tracks, recursive=recursive, passed_over=passed_over.append))
    if not any(map(os.path.lexists, asked)):  # before the whole library is analysed
        raise InputError(asked[0], "no such file", "Check the path")
    found = update_library(place, classifier, library, workers, recursive=recursive)
    passed_over += found.passed_over
    note_passed_over(sorted({str(Path(path).absolute()) for path in passed_over}))
    with Catalogue(place) as catalogue:
        compared = Library(catalogue, classifier, library, recursive=recursive)
        if ann is None and min(len(asked), len(compared)) > MIN_GRAPH:
            ann = has_graph()
            if not ann:
                note(f"Comparing every pair of tracks. For a faster way, run {install('similar')}.")
        failed = len(found.unreadable)
        with SimilarWriter(form) as writer:
            for one in compared.similar(
                asked, count, other_folders=other_folders, approximate=bool(ann), workers=workers
            ):
                failed += one.error is not None
                writer.write(one)
                if one.error is None and not one.neighbours:
                    where = " in another folder" if other_folders else ""
                    note(f"{one.path}: {library} has no other track{where} to compare with.")
    if failed:
        raise typer.Exit(1)


def update_library(
    place: Path,
    classifier: Classifier,
    folder: Path,
    workers: int | None,
    *,
    recursive: bool = True,
) -> LibrarySurvey:
    """Analyse the tracks of a folder that a catalogue lacks, with a bar.

    If the catalogue exists but cannot be written, or another process writes to it, it is used as it
    is, with a note.

    Raises
    ------
    InputError
        If the folder or the catalogue cannot be read, or the folder holds no audio.
    StoppedError
        If it is interrupted; what is analysed is kept.
    """
    from genrescope.library.catalogue import Catalogue
    from genrescope.library.scan import LibrarySurvey, open_library

    root = open_library(folder)
    try:
        catalogue = Catalogue(place, write=True)
    except InputError as error:
        if not place.is_file():
            raise
        Catalogue(place).close()  # reports any other fault of the file
        note(f"Note: {place}: {error.cause}. New tracks of {folder} are not analysed.")
        return LibrarySurvey()
    with catalogue:
        found, counts, _ = analyse_library(
            catalogue, classifier, root, workers, recursive=recursive
        )
    if not found.files:
        if found.unreadable:
            raise found.unreadable[0]
        deeper = "" if recursive else ", or look deeper with --recursive"
        raise InputError(folder, "no audio files in this folder", f"Give another{deeper}")
    if counts["analysed"]:
        note(f"Analysed {number_of(counts['analysed'], 'track')}; kept in {place}")
    return found
