"""The command that tests a model on transformed audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genrescope.cli.console import ERR, OUT, StoppedError, note, require, say_json
from genrescope.cli.options import ROBUSTNESS_TABLES, RevisionOption, WorkersOption
from genrescope.cli.training_options import LAYOUT, names
from genrescope.datasets.layout import Layout
from genrescope.errors import InputError, one_line
from genrescope.io import check_folder, check_output, write_picture

if TYPE_CHECKING:
    from genrescope.classifier import Classifier
    from genrescope.datasets.track import Dataset
    from genrescope.robustness.measure import Answers
    from genrescope.robustness.results import RobustnessRow

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope robustness default --data my-genres/`\n\n"
    "- `genrescope robustness report/models/cnn-filtered --data gtzan --protocol filtered` uses "
    "only tracks that this model of a study was not trained on\n\n"
    "- `genrescope robustness my-model --data new.csv --transforms mp3-64,telephone --out "
    "robustness`\n\n"
    "- `genrescope study --data gtzan --recipes cnn,mlp --robustness` trains and tests several "
    "models"
)
def robustness(
    model: Annotated[
        str, typer.Argument(help="Model folder, bundled model, or user/name on the hub.")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of genre folders, CSV file, or GTZAN in any layout.")
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Use only the test tracks of this protocol (first seed and fold, as of a study's "
            "models). [default: all tracks]"
        ),
    ] = None,
    transforms: Annotated[
        str | None,
        typer.Option(help="Transforms, comma-separated; see `genrescope list`. [default: all]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for CSV and JSON files and a heat map.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    revision: RevisionOption = None,
    layout: Annotated[Layout, LAYOUT] = Layout.AUTO,
    workers: WorkersOption = None,
) -> None:
    """Test how a model's answers change under transforms that keep the genre.

    Compares each track's genre with that of the same clip as MP3, louder, equalised, filtered,
    pitched, faster, noisy, in a room, and so on: accuracy, its change and the share of changed
    answers, with 95 % intervals. With --out, a command that was stopped resumes.
    """
    require("python_stretch", "study")
    if out is not None:
        check_folder(out, inputs=[data])
        for name in ROBUSTNESS_TABLES if out.is_dir() else ():
            check_output(out / name, inputs=[data])
    from genrescope import load
    from genrescope.cli.progress import bar
    from genrescope.datasets.open import open_dataset
    from genrescope.robustness.measure import FoldModel, measure, usable_audio
    from genrescope.robustness.results import summarise, to_table
    from genrescope.robustness.transforms import find_transforms

    wanted = find_transforms(names(transforms))
    classifier = load(model, revision)
    dataset = open_dataset(data, layout=layout, allow_missing_genres=True)
    test = _test_tracks(classifier, model, data, dataset, protocol)
    usable, left_out = usable_audio(classifier.representation, dataset.tracks, test)
    if not usable:
        variants = " or ".join(sorted(classifier.representation.audio_variants))
        cause = f"none of its {len(test)} test tracks has audio that the model can use ({variants})"
        raise InputError(data, cause, "Add audio files, or give another folder with --data")
    for problem in dataset.problems:
        note(f"Note: {problem}")
    if left_out:
        note(f"Note: {left_out} of {len(test)} test tracks have no audio that the model can use.")
    tested = FoldModel(model, protocol or "", classifier.folder, usable, left_out)
    with bar("testing", len(usable) * (1 + len(wanted)), ERR) as bars:
        task = bars.add_task("", total=len(usable) * (1 + len(wanted)))
        try:
            found = measure(
                [tested],
                dataset.tracks,
                wanted,
                workers=workers,
                progress=lambda done, _: bars.update(task, completed=done),
                resume=None if out is None else out / "robustness.jsonl",
            )
        except KeyboardInterrupt as interrupt:
            raise StoppedError("Stopped." if out is None else "") from interrupt
    for problem in found.problems:
        note(f"Left out: {problem}")
    rows = summarise(found)
    if not rows:
        raise InputError(data, "none of its tracks could be classified", "See the notes above")
    if as_json:
        say_json(to_table(found, rows, dataset.name))
    else:
        _print(rows, f"{model}, on {dataset.name}" + (f", {protocol}" if protocol else ""))
    for name in {t.name for t in wanted} - {row.transform for row in rows}:
        note(f"Note: {name} applies to none of these files.")
    if out is not None:
        _write(out, found, rows, dataset.name)


def _write(out: Path, found: Answers, rows: Sequence[RobustnessRow], dataset: str) -> None:
    from genrescope.robustness.figure import heat_map
    from genrescope.robustness.results import write_robustness

    write_robustness(out, found, rows, dataset)
    figure = heat_map(rows, f"Robustness, {dataset}")
    for kind in ("png", "svg"):
        write_picture(figure, out / f"robustness.{kind}", "--out")
    note(f"Written to {out}: robustness.csv, .json, .png, .svg, robustness-answers.csv")


def _test_tracks(
    classifier: Classifier, model: str, data: Path, dataset: Dataset, protocol: str | None
) -> Collection[str]:
    # Ids, without those of genres that the model does not have.
    from genrescope.datasets.splits import get_protocol

    known = {track.id for track in dataset.tracks if track.genre in classifier.genres}
    strange = Counter(track.genre for track in dataset.tracks if track.id not in known)
    if not known:
        cause = f"{model} has none of its genres ({', '.join(dataset.genres[:5])} …)"
        raise InputError(data, cause, f"The model has: {', '.join(classifier.genres)}")
    if strange:
        listed = ", ".join(f"{genre} ({count})" for genre, count in strange.items())
        note(f"Note: left out are tracks of genres that {model} does not have: {listed}.")
    if protocol is not None:
        return known.intersection(get_protocol(protocol).splits(dataset, 0)[0].test)
    if classifier.config.trained.get("dataset") == dataset.name:
        note(
            f"Note: {model} was trained on tracks of {dataset.name}: its accuracy here is too "
            "good. For a model of a study, give --protocol."
        )
    return known


def _print(rows: Sequence[RobustnessRow], title: str) -> None:
    from rich.table import Table

    table = Table("transform", "tracks", "accuracy", "change", "95 % interval", "changed answers")
    table.title = one_line(title)
    for row in rows:
        cells = ["", "", ""]
        if row is not rows[0]:
            interval = f"{row.low:+.2f} to {row.high:+.2f}"
            cells = [f"{row.difference:+.3f}", interval, f"{row.changed:.0%}"]
        table.add_row(row.transform, str(row.tracks), f"{row.accuracy:.3f}", *cells)
    OUT.print(table)
