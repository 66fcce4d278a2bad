"""The command that classifies files on a Ray cluster."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from genrescope.cli.console import ERR, StoppedError, note, require, say_json
from genrescope.cli.options import ModelOption, RevisionOption

app = typer.Typer(no_args_is_help=True, help="Classify millions of files on a Ray cluster.")


@app.callback()
def _root() -> None:
    # With a callback, a single command stays a subcommand.
    """Classify millions of files on a Ray cluster."""


@app.command(
    "classify",
    epilog="Examples:\n\n"
    "- `genrescope cluster classify s3://bucket/music --out s3://bucket/genres.parquet` runs on "
    "every node of the cluster that this machine is a node of\n\n"
    "- `genrescope cluster classify ~/Music --out genres.parquet --address local` runs on this "
    "machine",
)
def classify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Folder, s3://…, gs://…, or a list: .txt, .csv or .parquet."
        ),
    ],
    output: Annotated[
        str, typer.Option("--out", metavar="URI", help="Folder of Parquet files to write.")
    ],
    address: Annotated[
        str,
        typer.Option(help="Ray cluster: auto, HOST:PORT, or local for this machine alone."),
    ] = "auto",
    model: ModelOption = None,
    revision: RevisionOption = None,
) -> None:
    """Classify every file of a folder, bucket or list, and write Parquet files.

    A run that was stopped resumes when the command is run again. The last line of standard output
    is a JSON object.
    """
    require("ray", "cluster")
    from contextlib import redirect_stdout
    from time import monotonic

    from genrescope import load
    from genrescope.cli.progress import bar
    from genrescope.cluster.parts import prepare
    from genrescope.cluster.run import classify_parts, connected

    classifier = load(model, revision)
    try:
        with redirect_stdout(sys.stderr), connected(address):  # Ray prints to standard output
            job = prepare(source, output, classifier)
            if job.finished:
                note(f"{job.finished:,} of {job.files:,} files are finished; resuming.")
            begin, files, failed = monotonic(), 0, 0
            with bar("classifying", job.files, ERR) as progress:
                task = progress.add_task("", total=job.files, completed=job.finished)
                for part in classify_parts(job):
                    files, failed = files + part.files, failed + part.failed
                    progress.advance(task, part.files)
            seconds = monotonic() - begin
    except KeyboardInterrupt as interrupt:
        raise StoppedError from interrupt
    summary = {
        "output": output,
        "files": files,
        "failed": failed,
        "finished_before": job.finished,
        "seconds": round(seconds, 2),
        "files_per_s": round(files / seconds, 2),
    }
    say_json(summary, None)
    if failed:
        raise typer.Exit(1)
