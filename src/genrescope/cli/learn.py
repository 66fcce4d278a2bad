"""The command that learns a library's own genres."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrescope.cli.console import ERR, OUT, note, require, say, say_json
from genrescope.cli.library import (
    DbOption,
    LibraryArgument,
    check_scanned,
    database_files,
    open_catalogue,
)
from genrescope.cli.options import QualityOption
from genrescope.errors import InputError, number_of, one_line
from genrescope.io import CsvWriter, check_folder, check_output, to_json, write_text
from genrescope.quality import Quality

if TYPE_CHECKING:
    from genrescope.learn.learn import LearnedModel, TaggedTracks
    from genrescope.learn.measure import TagDoubt

app = typer.Typer()

_SHOWN = 10  # doubts, genres and files left out, on the terminal


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope scan ~/Music`, then `genrescope learn ~/Music --out my-model`, then "
    "`genrescope classify --model my-model song.mp3`\n\n"
    "- `genrescope learn ~/Music --doubts wrong-tags.csv` also writes the tracks whose tags look "
    "wrong\n\n"
    "- `genrescope learn ~/Music --taxonomy my-genres.toml --min-tracks 50 --precision 0.95`"
)
def learn(
    library: LibraryArgument,
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("my-model"),
    taxonomy: Annotated[
        Path | None, typer.Option(help="Your genres, their aliases and their tree (TOML).")
    ] = None,
    min_tracks: Annotated[
        int, typer.Option(min=2, help="Tracks of a genre; rarer ones count as the genre above.")
    ] = 20,
    min_artists: Annotated[int, typer.Option(min=2, help="Artists of a genre.")] = 3,
    precision: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Precision to find each genre's threshold for."),
    ] = 0.9,
    doubts: Annotated[
        Path | None,
        typer.Option(help="List tracks whose tags look wrong in this file (.csv or .json)."),
    ] = None,
    db: DbOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model that the library was scanned with. [default: in the package]"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub's model. [default: newest]")
    ] = None,
    quality: QualityOption = Quality.STANDARD,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence in the model card, such as apache-2.0.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite a model in --out, or write beside other files."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Learn your own genres from the tags of a scanned library.

    Reads the catalogue's embeddings and the files' genres; decodes no audio and changes no file of
    the library. Measures the model on artists that were held out, and lists the tracks whose tags
    it contradicts.
    """
    for package in ("torch", "sklearn", "onnx"):
        require(package, "train")
    from genrescope import load
    from genrescope.audio.formats import may_be_audio
    from genrescope.cli.progress import bar
    from genrescope.learn import learn as learning
    from genrescope.library.scan import open_library
    from genrescope.study.model_folder import check_place
    from genrescope.taxonomy import load_taxonomy

    folder = open_library(library)
    check_place(out, force=force)
    check_folder(out, inputs=[library])
    if doubts is not None:
        if doubts.suffix.lower() not in (".csv", ".json"):
            remedy = "Give --doubts a name that ends in .csv or .json"
            raise InputError(doubts, "its name does not say in which format to write", remedy)
        check_output(doubts, "--doubts", inputs=database_files(db), is_audio=may_be_audio)
    known, classifier = load_taxonomy(taxonomy), load(model, revision, quality=quality)
    representation = learning.check_embedding(classifier)
    begun = time.monotonic()
    with open_catalogue(db) as catalogue:
        total = check_scanned(catalogue, library)["analysed"]
        with bar("reading tags", total, ERR) as bars:
            task = bars.add_task("", total=total)
            tracks = learning.read_tracks(
                catalogue,
                classifier,
                folder,
                known,
                on_read=lambda count: bars.update(task, completed=count),
            )
    with ERR.status("learning"):
        learned = learning.learn(
            tracks, known, min_tracks=min_tracks, min_artists=min_artists, precision=precision
        )
        learning.write_model(learned, representation, out, precision=precision, licence=licence)
    seconds = time.monotonic() - begun
    if doubts is not None:
        _write_doubts(doubts, learned.doubts, may_be_audio)
    for problem in tracks.problems[:_SHOWN]:
        note(f"Note: left out: {problem}")
    if (more := len(tracks.problems) - _SHOWN) > 0:
        note(f"Note: left out: {more:,} more files whose tags cannot be read")
    if as_json:
        details = learning.card_details(learned, precision)
        found = [_doubt_json(one) for one in learned.doubts]
        say_json({"folder": str(out), "seconds": round(seconds, 1), **details, "doubts": found})
        return
    _print_genres(learned, precision)
    _print_doubts(learned.doubts, doubts)
    _print_summary(learned, tracks, out, seconds)


def _print_genres(learned: LearnedModel, precision: float) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    at = f"{precision:.0%}"
    table = Table(
        *("genre", "tracks", "artists", "precision", "recall"),
        *(f"{at} from", "mixed up with"),
        box=SIMPLE_HEAD,  # it fits 80 columns
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for column in table.columns[1:6]:
        column.justify = "right"
    for genre, one in learned.measured.genres.items():
        mixed = [f"{name} {share:.0%}" for name, share in one.mixed_up.items()]
        table.add_row(
            one_line(genre),
            f"{one.tracks:,}",
            f"{one.artists:,}",
            "–" if one.precision is None else f"{one.precision:.2f}",
            f"{one.recall:.2f}",
            "–" if one.threshold is None else f"{one.threshold:.2f}",
            one_line("".join(mixed[:1])),  # the card has more
        )
    OUT.print(table)
    for left in learned.left_out[:_SHOWN]:
        instead = f"learned as {left.learned_as}" if left.learned_as else "left out"
        counts = f"{number_of(left.tracks, 'track')}, {number_of(left.artists, 'artist')}"
        say(f"{left.genre}: {instead}, {left.reason} ({counts})")
    if (more := len(learned.left_out) - _SHOWN) > 0:
        say(f"… and {more:,} more genres that are too rare")


def _print_doubts(found: list[TagDoubt], file: Path | None) -> None:
    if not found:
        return
    where = f"all in {file}" if file is not None else "all with --doubts FILE.csv"
    have = "has" if len(found) == 1 else "have"
    say(f"{number_of(len(found), 'track')} {have} tags that the model contradicts ({where}):")
    for one in found[:_SHOWN]:
        tags = ", ".join(one.tags)
        say(f"  {one.path}: tagged {tags}, answer {one.answer}: {one.probability:.2f}")


def _print_summary(learned: LearnedModel, tracks: TaggedTracks, out: Path, seconds: float) -> None:
    measured = learned.measured
    micro, macro = (
        f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
        for one in (measured.micro, measured.macro)
    )
    say(
        f"{out}: {len(learned.genres)} genres, {learned.tracks:,} tracks by {learned.artists:,} "
        f"artists, of {tracks.analysed:,} in the catalogue; {seconds:.0f} s"
    )
    unlabelled = tracks.analysed - len(tracks.paths) - len(tracks.problems)
    causes = {
        "without a genre other than placeholders": unlabelled,
        "with too rare genres only": len(tracks.paths) - learned.tracks,
        "whose tags cannot be read": len(tracks.problems),
    }
    if not_used := [f"{count:,} {cause}" for cause, count in causes.items() if count]:
        say(f"Not learned from: {', '.join(not_used)}")
    say(f"On held-out artists: micro F1 {micro}, macro F1 {macro}")


def _write_doubts(path: Path, found: list[TagDoubt], is_audio: Any) -> None:
    with write_text(path, "--doubts", is_audio=is_audio) as file:
        if path.suffix.lower() == ".json":
            file.write(to_json([_doubt_json(one) for one in found], 1) + "\n")
            return
        writer = CsvWriter(file)
        writer.row("path", "tags", "answer", "probability", "tags_probability")
        for one in found:
            shares = (round(one.probability, 4), round(one.tags_probability, 4))
            writer.row(one.path, "; ".join(one.tags), one.answer, *shares)


def _doubt_json(one: TagDoubt) -> dict[str, Any]:
    return {
        "path": one.path,
        "tags": list(one.tags),
        "answer": one.answer,
        "probability": round(one.probability, 4),
        "tags_probability": round(one.tags_probability, 4),
    }
