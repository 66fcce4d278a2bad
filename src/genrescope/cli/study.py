"""The command that compares models and writes a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genrescope.cli.console import (
    ERR,
    OUT,
    StoppedError,
    note,
    require,
    say,
)
from genrescope.cli.training_data import (
    DAMAGED,
    LAYOUT,
    MISSING_GENRES,
    names,
    open_data,
    trainer_flags,
)
from genrescope.datasets.layout import Layout
from genrescope.errors import GenrescopeError, one_line
from genrescope.io import check_folder

app = typer.Typer()
GET_GTZAN = "`genrescope data get gtzan`"


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope study` compares the study's three models on synthetic demo clips\n\n"
    "- `genrescope study --data gtzan --out report` does so on real data\n\n"
    "- `genrescope study why-so-low --data gtzan --quick`\n\n"
    "- `genrescope study --data my-genres/ --recipes original-cnn --protocols random --seeds 3`"
)
def study(
    plan: Annotated[
        str, typer.Argument(metavar="[STUDY]", help="A bundled study's name, or a YAML file.")
    ] = "original",
    data: Annotated[
        Path | None,
        typer.Option(help="GTZAN in any layout, a folder of genres, or a CSV. Without: the demo."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. [default: study-STUDY-DATA]")
    ] = None,
    recipes: Annotated[
        str | None, typer.Option(help="Recipes (names or YAML files), separated by commas.")
    ] = None,
    protocols: Annotated[
        str | None, typer.Option(help="Protocols, separated by commas; see `genrescope list`.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Iterations of every fit.")] = None,
    audio_variants: Annotated[
        str | None,
        typer.Option(help="Only tracks whose audio is: full, full-16k, excerpt (with commas)."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few epochs, two seeds: to see that everything runs.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Fits side by side. [default: one per core]")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail on a file that cannot be used; do not leave it out."),
    ] = False,
    layout: Annotated[Layout, LAYOUT] = Layout.AUTO,
    allow_damaged: Annotated[bool, DAMAGED] = False,
    allow_missing_genres: Annotated[bool, MISSING_GENRES] = False,
    download: Annotated[
        bool | None,
        typer.Option(
            "--download/--no-download",
            help="Ask the Hugging Face hub for weights. [default: only with --data]",
        ),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of representations. [default: the user's cache]")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="Lightning's: cpu, gpu, mps, auto, …")] = "auto",
    devices: Annotated[str, typer.Option(help="Lightning's: auto, a number, or a list.")] = "auto",
    strategy: Annotated[str, typer.Option(help="Lightning's: auto, ddp_spawn, …")] = "auto",
) -> None:
    """Train and compare models, and write a report.

    Writes report.html, report.md, results.csv, summary.csv, comparisons.csv, results.json, figures
    and models. Stop it and run it again: it goes on where it was.
    """
    require("lightning", "study")
    if out is not None:
        check_folder(out, inputs=_inputs(data, out))
    from genrescope.cli.progress import StudyProgress
    from genrescope.study.config import load_study

    what = load_study(
        plan,
        recipes=names(recipes),
        protocols=names(protocols),
        seeds=seeds,
        audio_variants=names(audio_variants),
    )
    if quick:
        what = what.quick_version()
    if data is None:
        note(
            "No data given: using the embedded synthetic demo set, with no network. Get the real "
            f"set with {GET_GTZAN} and give it with --data (or make study DATA=…)."
        )
    with StudyProgress(ERR) as progress:
        dataset = open_data(data, progress, layout, allow_missing_genres=allow_missing_genres)
        # Loading torch takes seconds; by now what is asked for and the data are known to be right.
        from genrescope.study.report import write_report
        from genrescope.study.run import Options, run_study

        options = Options(
            jobs=jobs,
            store=store,
            strict=strict,
            allow_damaged=allow_damaged,
            allow_missing_genres=allow_missing_genres,
            download=data is not None if download is None else download,
            trainer_flags=trainer_flags(accelerator, devices, strategy),
        )
        for problem in dataset.problems:
            progress.note(f"Note: {problem}")
        short = Path(plan).stem + ("-quick" if quick else "")
        folder = out or Path(f"study-{short}-{dataset.name}")
        check_folder(folder, inputs=_inputs(data, folder))
        try:
            done = run_study(what, dataset, folder, options, progress)
        except KeyboardInterrupt as interrupt:
            raise StoppedError from interrupt
    html = write_report(done, folder)
    _print_study(done)
    beside = "report.md, results.csv, summary.csv, comparisons.csv, results.json, figures/, models/"
    say(f"Report: {html} (also {beside})")
    if not done.cells:
        raise GenrescopeError("No model could be run; the report says why.")


def _inputs(data: Path | None, out: Path) -> list[Path]:
    # The data, and a table of them that a report's table would replace, as the folder that it is.
    if data is None:
        return []
    written = ("results.csv", "summary.csv", "comparisons.csv")
    return [data, out] if any(_is_same(data, out / name) for name in written) else [data]


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # where there is none, or of a name that no file can have
        return False


def _print_study(study: Any) -> None:
    from rich.table import Table

    from genrescope.study.report import summary

    kind = " (quick: no results)" if study.config.quick else ""
    table = Table("protocol", "model", "test accuracy", "95 % interval", "tests", "s per seed")
    table.title = one_line(f"{study.config.name}, on {study.dataset.name}{kind}")
    for line in summary(study):
        cells = (
            [line["mark"], "", "", ""]
            if line["mark"]
            else [line["accuracy"], line["interval"], line["n_test"], line["seconds"]]
        )
        protocol = f"{line['protocol']} {line['leaks']}".rstrip()
        table.add_row(*map(one_line, (protocol, line["recipe"], *cells)))
    OUT.print(table)
