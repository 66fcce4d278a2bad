"""The command that compares models and writes a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genrescope.cli.console import ERR, OUT, StoppedError, note, require, say
from genrescope.cli.options import ROBUSTNESS_TABLES, CacheOption, StrictOption
from genrescope.cli.training_options import (
    DAMAGED,
    LAYOUT,
    MICRO_BATCH,
    MISSING_GENRES,
    names,
    open_data,
    trainer_flags,
)
from genrescope.datasets.layout import Layout
from genrescope.errors import GenrescopeError
from genrescope.io import check_folder

app = typer.Typer()
GET_GTZAN = "`genrescope data get gtzan`"
_BESIDE = (
    "report.md, results.csv, summary.csv, comparisons.csv, errors.csv, results.json, "
    "references.bib, figures/, tables/, models/"
)


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope study` compares three models on synthetic demo clips\n\n"
    "- `genrescope study --data gtzan --out report` compares them on GTZAN\n\n"
    "- `genrescope study why-so-low --data gtzan --quick --pdf` prints the report, too\n\n"
    "- `genrescope study --data my-genres/ --recipes original-cnn --protocols random --seeds 3`\n\n"
    "- `genrescope study --data gtzan --recipes wav2vec2 --micro-batch 1` if memory is scarce\n\n"
    "- `genrescope study --data gtzan --test-on fma --recipes mlp,default` tests on other data\n\n"
    "- `genrescope study probes --data gtzan --encoders MSD_musicnn,m-a-p/MERT-v1-95M,my.onnx`\n\n"
    "- `genrescope study --data gtzan --recipes cnn,mlp --robustness` also tests them on "
    "transformed audio"
)
def study(
    plan: Annotated[
        str, typer.Argument(metavar="[STUDY]", help="Name of a bundled study, or a YAML file.")
    ] = "original",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Published data set, folder of genre folders, or CSV file. [default: demo]"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. [default: study-STUDY-DATA]")
    ] = None,
    recipes: Annotated[
        str | None, typer.Option(help="Recipes (names or YAML files), comma-separated.")
    ] = None,
    protocols: Annotated[
        str | None, typer.Option(help="Protocols, comma-separated; see `genrescope list`.")
    ] = None,
    test_on: Annotated[
        Path | None,
        typer.Option(help="Other data set: train on all of --data, and test on this one."),
    ] = None,
    encoders: Annotated[
        str | None,
        typer.Option(
            help="Encoders to probe, comma-separated: bundled names, hub ids, folders, ONNX files."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds of every fit.")] = None,
    audio_variants: Annotated[
        str | None,
        typer.Option(help="Only these audio variants, comma-separated: full, full-16k, excerpt."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few epochs and two seeds, to check the setup.")
    ] = False,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Test each model on transformed audio, too (MP3, …)."),
    ] = False,
    pdf: Annotated[
        bool,
        typer.Option("--pdf", help="Also write report.pdf, by an installed Chromium or Chrome."),
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of parallel fits. [default: one per core]")
    ] = None,
    micro_batch: Annotated[int | None, MICRO_BATCH] = None,
    strict: StrictOption = False,
    layout: Annotated[Layout, LAYOUT] = Layout.AUTO,
    allow_damaged: Annotated[bool, DAMAGED] = False,
    allow_missing_genres: Annotated[bool, MISSING_GENRES] = False,
    download: Annotated[
        bool | None,
        typer.Option(
            "--download/--no-download",
            help="Download weights from the Hugging Face hub. [default: only with --data]",
        ),
    ] = None,
    cache_dir: CacheOption = None,
    accelerator: Annotated[str, typer.Option(help="Of Lightning: cpu, gpu, mps, auto, …")] = "auto",
    devices: Annotated[str, typer.Option(help="Of Lightning: auto, a number, or a list.")] = "auto",
    strategy: Annotated[str, typer.Option(help="Of Lightning: auto, ddp_spawn, …")] = "auto",
) -> None:
    """Train and compare models, and write a report.

    Writes report.html, report.md, results.csv, summary.csv, comparisons.csv, errors.csv,
    results.json, references.bib, figures, tables for LaTeX, and models. A study that was stopped
    resumes when the command is run again.
    """
    require("lightning", "study")
    if robustness:
        require("python_stretch", "study")
    if out is not None:
        check_folder(out, inputs=_inputs(data, out))
    from genrescope.cli.progress import StudyProgress
    from genrescope.environment import set_variables
    from genrescope.report.pdf import find_browser, write_pdf
    from genrescope.study.config import load_study
    from genrescope.training.recipe import set_micro_batch

    browser = find_browser() if pdf else None
    fetch = data is not None if download is None else download
    if not fetch:  # encoders that are probed are opened to read the study
        set_variables(HF_HUB_OFFLINE="1")
    what = load_study(
        plan,
        recipes=names(recipes),
        protocols=names(protocols),
        seeds=seeds,
        audio_variants=names(audio_variants),
        encoders=names(encoders),
    )
    if test_on is not None and protocols is not None:
        raise typer.BadParameter("--protocols is not for --test-on, which is a protocol itself")
    what = what.quick_version() if quick else what
    if micro_batch is not None:
        recipes_ = set_micro_batch(what.recipes, micro_batch)
        what = what.model_copy(update={"recipes": recipes_})
    if data is None:
        note(
            "No --data: using the synthetic demo set in the package. Download GTZAN with "
            f"{GET_GTZAN} and give its folder with --data."
        )
    with StudyProgress(ERR) as progress:
        dataset = open_data(data, progress, layout, allow_missing_genres=allow_missing_genres)
        if test_on is not None:
            dataset, protocol = _tested_on(test_on, dataset, progress)
            what = what.model_copy(update={"protocols": [protocol], "skip": {}})
        # Importing torch takes seconds: the options and the data have been checked before.
        from genrescope.report.write import write_report
        from genrescope.study.run import Options, run_study

        options = Options(
            jobs=jobs,
            store=cache_dir,
            strict=strict,
            allow_damaged=allow_damaged,
            allow_missing_genres=allow_missing_genres,
            download=fetch,
            robustness=robustness,
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
    if browser is not None:
        write_pdf(html, browser)
    _print_study(done)
    say(f"Report: {html} (also {'report.pdf, ' * pdf}{_BESIDE})")
    if not done.cells:
        raise GenrescopeError("No model could be run. The report says why.")


def _tested_on(path: Path, trained_on: Any, progress: Any) -> tuple[Any, str]:
    # The tracks of both data sets, and the protocol that trains on one and tests on the other.
    from genrescope.study.transfer import across
    from genrescope.taxonomy import load_taxonomy

    other = open_data(path, progress, Layout.AUTO, allow_missing_genres=True)
    dataset, protocol = across(trained_on, other, load_taxonomy())
    progress.note(dataset.notes[0])
    return dataset, protocol


def _inputs(data: Path | None, out: Path) -> list[Path]:
    # The data, and the output folder if a table of the report would replace a table of the data.
    if data is None:
        return []
    written = ("results.csv", "summary.csv", "comparisons.csv", "errors.csv", *ROBUSTNESS_TABLES)
    return [data, out] if any(_is_same(data, out / name) for name in written) else [data]


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # it does not exist, or no file can have such a name
        return False


def _print_study(study: Any) -> None:
    from genrescope.cli.output import print_report_table
    from genrescope.report.sections import accuracy_table

    kind = " (quick: no results)" if study.config.quick else ""
    title = f"{study.config.name}, on {study.dataset.name}{kind}"
    encoders = (6, 7) if study.config.encoder_parameters else ()
    print_report_table(OUT, title, accuracy_table(study), columns=(0, 1, 2, 4, *encoders))
