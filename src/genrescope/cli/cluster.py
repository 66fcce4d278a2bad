"""The command that classifies millions of files on a Ray cluster."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from genrescope.cli.console import (
    ERR,
    StoppedError,
    note,
    require,
    say_json,
)

app = typer.Typer(no_args_is_help=True, help="Use a Ray cluster.")


@app.callback()
def _root() -> None:
    """Use a Ray cluster."""  # with a callback, one command stays a subcommand


@app.command(
    "classify",
    epilog="Examples:\n\n"
    "- `genrescope cluster classify s3://bucket/music --out s3://bucket/genres.parquet` uses every "
    "node of the cluster that this machine is part of\n\n"
    "- `genrescope cluster classify ~/Music --out genres.parquet --address local` runs on this "
    "machine",
)
def classify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A folder, s3://…, gs://…, or a .txt, .csv or .parquet list."
        ),
    ],
    output: Annotated[
        str, typer.Option("--out", metavar="URI", help="Folder of Parquet files to write.")
    ],
    address: Annotated[
        str, typer.Option(help="auto, HOST:PORT, or local for this machine alone.")
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option(help="A model folder, or user/name of the hub. [default: in the package]"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub's model. [default: newest]")
    ] = None,
) -> None:
    """Classify every file of a folder, bucket or list, and write Parquet files.

    Stop it and run it again: it resumes. The last line of standard output is a JSON object.
    """
    require("ray", "cluster")
    from contextlib import redirect_stdout
    from time import monotonic

    from genrescope import load
    from genrescope.cli.progress import bar
    from genrescope.cluster.run import classify_parts, connected, prepare

    classifier = load(model, revision)
    try:
        with redirect_stdout(sys.stderr), connected(address):  # where Ray prints what goes wrong
            job = prepare(source, output, classifier)
            if job.finished:
                note(f"{job.finished:,} of {job.files:,} files are finished; going on.")
            begin, files, failed = monotonic(), 0, 0
            with bar("classifying", job.files, ERR) as progress:
                task = progress.add_task("", total=job.files, completed=job.finished)
                for part in classify_parts(job):
                    files, failed = files + part.files, failed + part.failed
                    progress.advance(task, part.files)
            seconds = monotonic() - begin
    except KeyboardInterrupt as interrupt:
        raise StoppedError from interrupt
    told = {
        "output": output,
        "files": files,
        "failed": failed,
        "finished_before": job.finished,
        "seconds": round(seconds, 2),
        "files_per_s": round(files / seconds, 2),
    }
    say_json(told, None)
    if failed:
        raise typer.Exit(1)
