"""The commands that download data sets and pretrained weights, and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genrescope.cli.console import ERR, OUT, note, say, say_json
from genrescope.cli.training_options import LAYOUT
from genrescope.datasets.layout import Layout
from genrescope.errors import GenrescopeError
from genrescope.io import check_folder

app = typer.Typer(
    no_args_is_help=True, help="Download data sets and pretrained weights, check data sets."
)


@app.command(
    "get",
    epilog="Examples:\n\n"
    "- `genrescope data get gtzan`\n\n"
    "- `genrescope data get gtzan --out ~/music/gtzan`\n\n"
    "- `genrescope data get wav2vec2-base`, for the recipes `original-wav2vec2` and `wav2vec2`",
)
def get(
    name: Annotated[
        str,
        typer.Argument(
            help="Data set (gtzan) or weights (wav2vec2-base, distilhubert, hubert, wavlm, mert)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to unpack or copy into. [default: ./NAME; weights stay in the hub's cache]"
        ),
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="URL to try first; may be repeated. Not for weights.")
    ] = None,
) -> None:
    """Download a data set or pretrained weights and check them; a stopped download resumes.

    Data sets are unpacked. Weights are of a fixed revision; then recipes that need them work
    offline.
    """
    from genrescope.hub import CHECKPOINTS

    if name in CHECKPOINTS:
        _get_weights(name, out, url)
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from genrescope.datasets.download import ARCHIVE_URLS, get_gtzan

    if name != "gtzan":
        known = ", ".join(["gtzan", *CHECKPOINTS])
        raise GenrescopeError(f"There is no {name!r} to get; there are: {known}.")
    columns = (TextColumn("gtzan"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=ERR) as bars:
        bar = bars.add_task("gtzan", total=None)

        def progress(done: int, total: int | None) -> None:
            bars.update(bar, completed=done, total=total)

        folder = get_gtzan(out or Path(name), progress=progress, urls=[*(url or ()), *ARCHIVE_URLS])
    say(f"{folder} is ready. Next: genrescope data check {folder}")


def _get_weights(name: str, out: Path | None, url: list[str] | None) -> None:
    from genrescope.hub import CHECKPOINTS, get_checkpoint

    if url:
        raise GenrescopeError("--url is for data sets: weights come from the Hugging Face hub.")
    if out is not None:
        check_folder(out)
    known = CHECKPOINTS[name]
    note(f"{known.repo_id} at {known.revision}; licence: {known.licence}")
    say(f"{get_checkpoint(name, out)} is ready. Next: {known.usage}")


@app.command("check", epilog="Examples:\n\n- `genrescope data check gtzan --json`")
def check(
    folder: Annotated[
        Path,
        typer.Argument(help="Published data set, folder of genre folders, or CSV file."),
    ],
    layout: Annotated[Layout, LAYOUT] = Layout.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Print every finding, not only five of each kind."),
    ] = False,
) -> None:
    """Report files that are missing, corrupt, duplicated, known to be faulty or unused.

    Exit code 1 if a file is corrupt or a genre has no usable track.
    """
    from dataclasses import asdict

    from rich.progress import Progress

    from genrescope.datasets.check import check as check_folder

    with Progress(console=ERR, transient=True, disable=not ERR.is_terminal) as bars:
        bar = bars.add_task("opening files", total=None)
        report = check_folder(
            folder,
            layout=layout,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    if as_json:
        content = {
            "folder": str(report.folder),
            "tracks": len(report.tracks),
            "counts": report.counts,
            "genres": report.genres,
            "filtered_lists": {name: asdict(c) for name, c in report.coverage.items()},
            "findings": [
                {**asdict(finding), "path": str(finding.path)} for finding in report.findings
            ],
        }
        say_json(content)
    else:
        _print_check(report, None if everything else 5)
    if report.counts["corrupt"] or report.lacks_genre:
        raise typer.Exit(1)


def _print_check(report: Any, limit: int | None) -> None:
    from rich.table import Table

    from genrescope.datasets.findings import lines_of

    typer.echo(f"{report.folder}: {len(report.tracks)} tracks")
    for kind, count in report.counts.items():
        typer.echo(f"\n{kind}: {count}")
        for line in lines_of((f for f in report.findings if f.kind == kind), limit):
            typer.echo(line)
    if not report.coverage:
        from rich.text import Text

        table = Table("genre", "usable tracks")
        for genre, count in report.genres.items():
            table.add_row(Text(genre), str(count))
        OUT.print("", table)
        return
    table = Table("filtered list", "tracks", "table", "picture", "full", "16 kHz", "excerpt")
    for name, c in report.coverage.items():
        cells = (c.tracks, c.rows, c.images, c.full, c.full_16k, c.excerpts)
        table.add_row(name, *map(str, cells))
    OUT.print("", table)
