"""The command that classifies audio files."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrescope.cli.console import note, note_passed_over, require
from genrescope.cli.options import ModelOption, QualityOption, RevisionOption, WorkersOption
from genrescope.errors import GenrescopeError
from genrescope.files import is_file
from genrescope.io import check_output, picture_kind, write_picture
from genrescope.quality import Quality

if TYPE_CHECKING:
    from genrescope.classifier.batch import FileResult

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope classify song.mp3 ~/Music/album/`\n\n"
    "- `genrescope classify --recursive --jsonl ~/Music > genres.jsonl`\n\n"
    "- `find . -name '*.flac' | genrescope classify -`\n\n"
    "- `genrescope classify song.mp3 --timeline --plot song.png`\n\n"
    "- `genrescope classify song.mp3 --explain why.png` shows what the answer rests on\n\n"
    "- `genrescope classify --model report/models/original-cnn-filtered *.wav`\n\n"
    "- `genrescope classify --model user/name song.mp3` downloads it from the Hugging Face hub\n\n"
    "- `genrescope classify --quality fast --jsonl -r ~/Music` takes a third of the time\n\n"
    "- `genrescope classify --sample` classifies the bundled samples"
)
def classify(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Audio files and folders; - reads paths from standard input."),
    ] = None,
    model: ModelOption = None,
    revision: RevisionOption = None,
    use_samples: Annotated[
        bool, typer.Option("--sample", help="Classify the bundled samples, too.")
    ] = False,
    top_k: Annotated[int, typer.Option(min=1, help="Number of genres and tags per file.")] = 5,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Recurse into subfolders.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON object per line.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: path, genre, confidence, unsure, warnings.")
    ] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Add the genre for every 3 s.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Picture to write of one file: genre over time and mel spectrogram (PNG, …)."
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Picture to write of one file: the seconds and frequencies that the answer rests "
            "on (PNG, …); with --json also as data."
        ),
    ] = None,
    quality: QualityOption = Quality.STANDARD,
    workers: WorkersOption = None,
) -> None:
    """Classify audio files. Needs no network, except to download a model from the hub.

    Exit code 1 if a file failed: an error names it, and the other files are classified.
    """
    from genrescope import SAMPLES, load, sample
    from genrescope.audio.formats import may_be_audio
    from genrescope.hub import find_model
    from genrescope.workers import WorkerPool

    if as_json + as_jsonl + as_csv > 1:
        raise typer.BadParameter("choose one of --json, --jsonl and --csv")
    if not paths and not use_samples:
        raise typer.BadParameter("give audio files or folders, or --sample")
    pictures = {"--plot": plot, "--explain": explain}
    asked = {option: path for option, path in pictures.items() if path is not None}
    for option, path in asked.items():
        require("matplotlib", "study")
        picture_kind(path, option)
        check_output(path, option, is_audio=may_be_audio)
    given = [
        Path(name)
        for path in paths or ()
        for name in (_names_from_stdin() if path == "-" else [path])
    ]
    given += map(sample, SAMPLES if use_samples else ())
    if not given:
        raise GenrescopeError("The list on standard input is empty: give paths, one a line.")
    for option, path in asked.items():
        check_output(path, option, inputs=given)
    pool = WorkerPool(workers, partial(load, quality=quality), find_model(model, revision))
    pool.begin()  # the next imports take as long as a process to start
    from genrescope.classifier.batch import classify_files, find_audio
    from genrescope.cli.output import Writer

    passed_over: list[str] = []
    files = list(find_audio(given, recursive=recursive, passed_over=passed_over.append))
    for option in asked if len(files) != 1 else ():
        raise typer.BadParameter(f"{option} needs exactly one file; {len(files)} were given")
    chosen = {"json": as_json, "jsonl": as_jsonl, "csv": as_csv}
    form = next((name for name, asked in chosen.items() if asked), "table")
    failed = 0
    with pool, Writer(form, top_k, len(files), timeline=timeline) as writer:
        pool.start_one()
        for answer in classify_files(
            pool, files, timeline=timeline or plot is not None, explanation=explain is not None
        ):
            failed += answer.error is not None
            writer.write(answer)
            if asked and answer.error is None:
                _draw(answer, plot, explain)
    note_passed_over(passed_over)
    if failed:
        raise typer.Exit(1)


def _draw(answer: FileResult, plot: Path | None, explain: Path | None) -> None:
    from genrescope.study import figures

    other = answer.prediction is not None and answer.prediction.other
    if plot is not None and answer.timeline is not None:
        write_picture(figures.timeline(answer.path, answer.timeline, other=other), plot)
        note(f"Picture: {plot}")
    if explain is not None and answer.explanation is not None:
        figure = figures.explanation(answer.path, answer.explanation, other=other)
        write_picture(figure, explain, "--explain")
        note(f"Picture: {explain}")


def _names_from_stdin() -> list[str]:
    # Bytes, as names need not be text; separated by NUL, if there is one (`find -print0`), or line
    # ends. Windows writes a byte-order mark and \r\n.
    content = sys.stdin.buffer.read()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        return [os.fsdecode(name) for name in content.split(b"\0") if name]
    names = [os.fsdecode(line) for line in content.split(b"\n")]
    return [name for line in names if (name := _without_return(line))]


def _without_return(line: str) -> str:
    return line[:-1] if line.endswith("\r") and not is_file(Path(line)) else line
