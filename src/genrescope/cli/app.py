"""The command line. Each command is a thin call into the floors below, imported when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genrescope import __version__
from genrescope.cli import library as cli_library
from genrescope.cli import serve as cli_web
from genrescope.cli.console import (
    ERR,
    OUT,
    OutputError,
    StoppedError,
    end_output,
    fail,
    hear_missing,
    note,
    note_passed_over,
    open_streams,
    require,
    say,
    say_json,
)
from genrescope.datasets.layout import Layout
from genrescope.errors import GenrescopeError, one_line
from genrescope.io import check_folder, check_output, picture_kind, write_picture
from genrescope.reading import is_file

app = typer.Typer(
    name="genrescope",
    help="Tells the genre of music, and proves how well it does.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(no_args_is_help=True, help="Get and check data sets.")
app.add_typer(data_app, name="data")
app.add_typer(cli_library.app)
app.add_typer(cli_web.app)

LAYOUT = typer.Option(
    help="How to read a folder: by what is in it, as GTZAN, or as your own genres."
)
DAMAGED = typer.Option(
    "--allow-damaged", help="Use tracks of which a part is missing, rather than leave them out."
)
MISSING_GENRES = typer.Option(
    "--allow-missing-genres", help="Do without genres of which no track can be used."
)
GET_GTZAN = "`genrescope data get gtzan`"


_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer has it, but not by name


def main() -> None:
    """Run the command line; errors meant for people end it with code 1 and no traceback."""
    open_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except OutputError as error:
        code = end_output(error)
    sys.exit(code)


def _run() -> int:
    try:
        _refuse_empty_words(sys.argv[1:])
        return int(app(prog_name="genrescope", standalone_mode=False) or 0)
    except GenrescopeError as error:
        fail(str(error))
        return 1
    except StoppedError as stopped:
        note(str(stopped) or "Stopped. Run the same command again to go on where it was.")
        return 130
    except typer.Abort:
        note("Stopped.")
        return 130
    except _UsageError as error:
        wrong: Any = error
        # Names of files are among the words that it repeats.
        wrong.message = "\n".join(map(one_line, wrong.message.split("\n")))
        wrong.show()
        return int(wrong.exit_code)


def _refuse_empty_words(words: list[str]) -> None:
    # Most often a variable of a shell that is not set; as a path it would be the folder one is in.
    for before, word in zip(["", *words], words, strict=False):
        name, sign, value = word.partition("=")
        if word == "" or (name.startswith("--") and sign and not value):
            option = name if word else before if before.startswith("-") else "an argument"
            raise _UsageError(f"{option} is empty")


def _version(asked: bool) -> None:
    if asked:
        say(f"genrescope {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope study` compares the study's three models on synthetic demo clips\n\n"
    "- `genrescope study --data gtzan --out report` does so on real data\n\n"
    "- `genrescope study why-so-low --data gtzan --quick`\n\n"
    "- `genrescope study --data my-genres/ --recipes report-cnn --protocols report --seeds 3`"
)
def study(
    plan: Annotated[
        str, typer.Argument(metavar="[STUDY]", help="A bundled study's name, or a YAML file.")
    ] = "report",
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
    extents: Annotated[
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
    from genrescope.study.config import load_plan

    what = load_plan(
        plan,
        recipes=_names(recipes),
        protocols=_names(protocols),
        seeds=seeds,
        extents=_names(extents),
    )
    if quick:
        what = what.made_quick()
    if data is None:
        note(
            "No data given: using the embedded synthetic demo set, with no network. Get the real "
            f"set with {GET_GTZAN} and give it with --data (or make study DATA=…)."
        )
    with StudyProgress(ERR) as progress:
        dataset = _dataset(data, progress, layout, allow_missing_genres=allow_missing_genres)
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
            trainer_flags=_trainer_flags(accelerator, devices, strategy),
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


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope classify song.mp3 ~/Music/album/`\n\n"
    "- `genrescope classify --recursive --jsonl ~/Music > genres.jsonl`\n\n"
    "- `find . -name '*.flac' | genrescope classify -`\n\n"
    "- `genrescope classify song.mp3 --timeline --plot song.png`\n\n"
    "- `genrescope classify --model report/models/report-cnn-filtered *.wav`\n\n"
    "- `genrescope classify --model user/name song.mp3` fetches it from the Hugging Face hub\n\n"
    "- `genrescope classify --sample` tries it on music that comes with the package\n\n"
    "- `genrescope classify --cluster auto --input s3://bucket/music --output "
    "s3://bucket/genres.parquet` uses every node of a Ray cluster (docs/cluster.md)"
)
def classify(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Audio files and folders; - reads paths, one a line."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model folder, or user/name of the hub. [default: in the package]"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub's model. [default: newest]")
    ] = None,
    use_samples: Annotated[
        bool, typer.Option("--sample", help="The package's own sound samples, too.")
    ] = False,
    top_k: Annotated[int, typer.Option(min=1, help="Genres and tags to show for each file.")] = 5,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into folders' folders, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object a line.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="path, genre, confidence, unsure, warnings.")
    ] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Add the genre over time, in steps of 3 s.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the genre over time of one file under its mel spectrogram (PNG)."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files side by side. [default: one per core]")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Use a Ray cluster: auto, HOST:PORT, or local for this machine."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="URI",
            help="With --cluster: a folder, s3://…, gs://…, or a .txt, .csv or .parquet list.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="URI", help="With --cluster: folder of Parquet files to write."),
    ] = None,
) -> None:
    """Tell the genre of audio files. Needs no network, but to fetch a model of the hub.

    Ends with code 0 if all went well and 1 if some files failed; those are named, the rest go on.
    """
    from genrescope import SAMPLES, load, sample
    from genrescope.audio.formats import may_be_audio
    from genrescope.hub import find_model
    from genrescope.workers import WorkerPool

    if cluster is not None:
        alone = [paths, use_samples, as_json, as_jsonl, as_csv, timeline, plot, workers]
        if any(alone) or source is None or output is None:
            raise typer.BadParameter(
                "--cluster takes --input and --output, perhaps --model, and no others"
            )
        require("ray", "cluster")
        _classify_on_cluster(cluster, source, output, load(model, revision))
        return
    if source is not None or output is not None:
        raise typer.BadParameter("--input and --output go with --cluster")
    if as_json + as_jsonl + as_csv > 1:
        raise typer.BadParameter("choose one of --json, --jsonl and --csv")
    if not paths and not use_samples:
        raise typer.BadParameter("give audio files or folders, or --sample")
    if plot is not None:
        require("matplotlib", "study")
        picture_kind(plot)
        check_output(plot, "--plot", is_audio=may_be_audio)
    given = [
        Path(name)
        for path in paths or ()
        for name in (_names_from_stdin() if path == "-" else [path])
    ]
    given += map(sample, SAMPLES if use_samples else ())
    if not given:
        raise GenrescopeError("The list on standard input is empty: give paths, one a line.")
    if plot is not None:
        check_output(plot, "--plot", inputs=given)
    pool = WorkerPool(workers, load, find_model(model, revision))
    pool.begin()  # these take as long to import as a process takes to start
    from genrescope.classifier.batch import classify_files, find_audio
    from genrescope.cli.output import Writer

    passed_over: list[str] = []
    files = list(find_audio(given, recursive=recursive, passed_over=passed_over.append))
    if plot is not None and len(files) != 1:
        raise typer.BadParameter(f"--plot draws one file, and these are {len(files)}")
    chosen = {"json": as_json, "jsonl": as_jsonl, "csv": as_csv}
    form = next((name for name, asked in chosen.items() if asked), "table")
    failed = 0
    with pool, Writer(form, top_k, len(files), OUT, ERR, timeline=timeline) as writer:
        pool.start_one()
        for answer in classify_files(pool, files, timeline=timeline or plot is not None):
            failed += answer.error is not None
            writer.write(answer)
            if plot is not None and answer.timeline is not None:
                from genrescope.study.figures import timeline as draw

                write_picture(draw(answer.path, answer.timeline), plot)
                note(f"Drawn: {plot}")
    note_passed_over(passed_over)
    if failed:
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope similar song.mp3 --in ~/Music`\n\n"
    "- `genrescope similar song.mp3 --in ~/Music --other-folders -n 30`\n\n"
    "- `genrescope similar song.mp3 --in ~/Music --m3u | mpv --playlist=-` plays them\n\n"
    "- `genrescope similar ~/Music/album/ --in ~/Music --m3u > more-like-it.m3u8`\n\n"
    "- `genrescope similar song.mp3 --in /mnt/read-only --index ~/music-index.npz`\n\n"
    "- `genrescope similar ~/Music --in ~/Music --csv > neighbours.csv`"
)
def similar(
    tracks: Annotated[
        list[Path], typer.Argument(metavar="TRACK", help="Audio files, or folders of them.")
    ],
    folder: Annotated[Path, typer.Option("--in", help="The folder to look for similar tracks in.")],
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
        typer.Option(help="File of what has been heard. [default: a hidden one in the folder]"),
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
        check_output(index, "--index", inputs=tracks, is_audio=may_be_audio)
    chosen = {"json": as_json, "csv": as_csv, "m3u": as_m3u}
    form = next((name for name, asked in chosen.items() if asked), "table")
    library = Library(folder, load(model), index, recursive=recursive, rebuild=rebuild)
    hear_missing(library, workers)
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


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope train --data my-genres/ --out my-model`, then "
    "`genrescope classify --model my-model song.mp3`\n\n"
    "- `genrescope train --recipe default --data gtzan --out default`\n\n"
    "- `genrescope train --encoder facebook/wav2vec2-base --data gtzan --out tuned` fine-tunes it, "
    "and writes tuned/transformers, too, for `transformers.pipeline`"
)
def train(
    data: Annotated[
        Path, typer.Option(help="A folder of genre folders, a CSV file, or GTZAN in any layout.")
    ],
    out: Annotated[Path, typer.Option(help="The model folder to write.")] = Path("my-model"),
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe's name or YAML file. [default: default; distilhubert with --encoder]"
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Fine-tune this checkpoint: of the Hugging Face hub, or a folder."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="For the model card, such as apache-2.0.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into --out though it holds a model, or other files."),
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: one per core]")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail on a file that cannot be used; do not leave it out."),
    ] = False,
    layout: Annotated[Layout, LAYOUT] = Layout.AUTO,
    allow_damaged: Annotated[bool, DAMAGED] = False,
    allow_missing_genres: Annotated[bool, MISSING_GENRES] = False,
    store: Annotated[
        Path | None, typer.Option(help="Folder of representations. [default: the user's cache]")
    ] = None,
) -> None:
    """Make a classifier of your own genres from a few dozen clips of each.

    Measures it by cross-validation first (artists kept apart if they are known), then fits it on
    every track.
    """
    require("lightning", "train")
    from genrescope.study.model_folder import check_place

    check_place(out, force=force)
    check_folder(out, inputs=[data])
    from genrescope.cli.progress import StudyProgress
    from genrescope.training.recipe import load_encoder_recipe, load_recipe

    if encoder is None:
        what = load_recipe(recipe or "default")
    else:
        what = load_encoder_recipe(encoder, recipe or "distilhubert")
        from genrescope.hub import resolve_weights
        from genrescope.models.encoder import encoder_config

        note(f"Looking for {encoder} (this machine first, then the Hugging Face hub).")
        encoder_config(resolve_weights(encoder, download=True))
    with StudyProgress(ERR) as progress:
        dataset = _dataset(data, progress, layout, allow_missing_genres=allow_missing_genres)
        from genrescope.study.run import Options
        from genrescope.study.train import train_classifier

        flags = _trainer_flags("auto", "auto", "auto")
        options = Options(
            jobs=jobs,
            store=store,
            strict=strict,
            allow_damaged=allow_damaged,
            allow_missing_genres=allow_missing_genres,
            trainer_flags=flags,
        )
        trained = train_classifier(
            what, dataset, out, options, progress, licence=licence, force=force
        )
    for problem in trained.problems:
        note(f"Left out or noticed: {problem}")
    row = trained.row
    leaks = f"; {trained.leaks.partition(':')[0].lower()}" if trained.leaks else ""
    measured = (
        f"accuracy {row.accuracy:.3f} (protocol {row.protocol}, {row.n_test} tracks{leaks})"
        if row
        else "too few tracks to measure it"
    )
    say(f"{trained.folder}: {len(trained.genres)} genres, {trained.used} tracks; {measured}")
    if what.model.name == "encoder":
        plain = trained.folder / "transformers"
        lacks = f"{what.name} has a head that transformers has not, so only genrescope opens it."
        note(f"For transformers.pipeline: {plain}" if plain.is_dir() else f"Note: {lacks}")


@app.command(
    "list",
    epilog="Examples:\n\n- `genrescope list` shows everything\n\n- `genrescope list recipes`",
)
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="recipes, studies, protocols, representations or models. [default: all]"
        ),
    ] = None,
) -> None:
    """Show the recipes, studies, protocols, representations and models there are."""
    require("lightning", "train")
    from rich.table import Table

    from genrescope.datasets.splits import PROTOCOLS
    from genrescope.models import MODELS
    from genrescope.models.classical import ESTIMATORS
    from genrescope.representations import REPRESENTATIONS
    from genrescope.study.config import bundled_plans, load_plan
    from genrescope.training.recipe import bundled_recipes, load_entry

    parts = {
        "recipes": {name: load_entry(name).about for name in bundled_recipes()},
        "studies": {name: load_plan(name).about for name in bundled_plans()},
        "protocols": {name: protocol.about for name, protocol in PROTOCOLS.items()},
        "representations": {n: _first_line(cls) for n, cls in sorted(REPRESENTATIONS.items())},
        "models": {n: _first_line(made) for n, made in sorted({**MODELS, **ESTIMATORS}.items())},
    }
    if kind is not None and kind not in parts:
        raise GenrescopeError(f"There is no kind {kind!r} to list; there are: {', '.join(parts)}.")
    for title, entries in parts.items():
        if kind not in {None, title}:
            continue
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        for name, about in entries.items():
            table.add_row(name, about)
        OUT.print(table, "")


@data_app.command(
    "get",
    epilog="Examples:\n\n"
    "- `genrescope data get gtzan`\n\n"
    "- `genrescope data get gtzan --to ~/music/gtzan`",
)
def get(
    name: Annotated[str, typer.Argument(help="The data set: gtzan.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder to unpack into. [default: ./NAME]")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="Address to try first; may be given several times.")
    ] = None,
) -> None:
    """Download a data set, check it and unpack it. A download that was stopped goes on."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from genrescope.datasets.download import get_gtzan
    from genrescope.datasets.gtzan import ARCHIVE_URLS

    if name != "gtzan":
        raise GenrescopeError(f"There is no data set {name!r} to get; there is: gtzan.")
    columns = (TextColumn("gtzan"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=ERR) as bars:
        bar = bars.add_task("gtzan", total=None)

        def progress(done: int, total: int | None) -> None:
            bars.update(bar, completed=done, total=total)

        folder = get_gtzan(to or Path(name), progress=progress, urls=[*(url or ()), *ARCHIVE_URLS])
    typer.echo(f"{folder} is ready. Next: genrescope data check {folder}")


@data_app.command("check", epilog="Examples:\n\n- `genrescope data check gtzan --json`")
def check(
    folder: Annotated[
        Path, typer.Argument(help="GTZAN in any layout, a folder of genre folders, or a CSV file.")
    ],
    layout: Annotated[Layout, LAYOUT] = Layout.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every finding, not the first few of a kind.")
    ] = False,
) -> None:
    """List what is missing, corrupt, duplicated, known to be faulty or not used.

    Ends with code 1 if anything is corrupt, or a genre has no track that can be used.
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
        import json

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
        typer.echo(json.dumps(content, ensure_ascii=False, indent=1))
    else:
        _print_check(report, None if everything else 5)
    if report.counts["corrupt"] or report.lacks_genre:
        raise typer.Exit(1)


def _print_check(report: Any, most: int | None) -> None:
    from rich.table import Table

    from genrescope.datasets.findings import lines_of

    typer.echo(f"{report.folder}: {len(report.tracks)} tracks")
    for kind, count in report.counts.items():
        typer.echo(f"\n{kind}: {count}")
        for line in lines_of((f for f in report.findings if f.kind == kind), most):
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


def _classify_on_cluster(address: str, source: str, output: str, classifier: Any) -> None:
    # Ends with a line of JSON, for whatever has started it.
    from contextlib import redirect_stdout
    from time import monotonic

    from genrescope.cli.output import bar
    from genrescope.cluster.run import classify_parts, connected, prepare

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


def _dataset(
    path: Path | None, progress: Any, layout: Layout, *, allow_missing_genres: bool
) -> Any:
    from genrescope.datasets.open import open_dataset, open_demo

    if path is not None:
        dataset = open_dataset(path, layout=layout, allow_missing_genres=allow_missing_genres)
        for remark in dataset.remarks:
            progress.note(f"Note: {remark}")
        if dataset.missing_genres:
            names = ", ".join(dataset.missing_genres)
            progress.note(f"Note: {path}: no track can be used of the genres {names}.")
        return dataset
    return open_demo(lambda done, total: progress.representing("demo clips", done, total))


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

    kind = " (quick: no results)" if study.plan.quick else ""
    table = Table("protocol", "model", "test accuracy", "95 % interval", "tests", "s per seed")
    table.title = one_line(f"{study.plan.name}, on {study.dataset.name}{kind}")
    for line in summary(study):
        cells = (
            [line["mark"], "", "", ""]
            if line["mark"]
            else [line["accuracy"], line["interval"], line["n_test"], line["seconds"]]
        )
        protocol = f"{line['protocol']} {line['leaks']}".rstrip()
        table.add_row(*map(one_line, (protocol, line["recipe"], *cells)))
    OUT.print(table)


def _trainer_flags(accelerator: str, devices: str, strategy: str) -> dict[str, Any]:
    if accelerator == "auto":
        import torch

        if torch.cuda.is_available():
            accelerator = "gpu"
        else:
            accelerator = "mps" if torch.backends.mps.is_available() else "cpu"
    flags: dict[str, Any] = {"accelerator": accelerator}
    if devices != "auto":
        flags["devices"] = int(devices) if devices.lstrip("-").isdigit() else devices
    elif accelerator == "cpu":
        flags["devices"] = 1
    several = flags.get("devices") not in (None, 1)
    # The other way to use several devices starts this very command again, once for each.
    flags["strategy"] = "ddp_spawn" if several and strategy == "auto" else strategy
    return flags


def _names_from_stdin() -> list[str]:
    # As bytes, for names may be any; parted by NUL, if there is one (`find -print0`), else one a
    # line. Windows begins lists with a mark and ends lines with \r\n.
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


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter("names, separated by commas, are needed")
    return names


def _first_line(documented: Any) -> str:
    return str(documented.__doc__ or "").strip().splitlines()[0]
