"""The command that trains a classifier for your own genres."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrescope.cli.console import ERR, note, require, say
from genrescope.cli.options import CacheOption, StrictOption
from genrescope.cli.training_options import (
    DAMAGED,
    LAYOUT,
    MICRO_BATCH,
    MISSING_GENRES,
    open_data,
    trainer_flags,
)
from genrescope.datasets.layout import Layout
from genrescope.io import check_folder

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope train --data my-genres/ --out my-model`, then "
    "`genrescope classify --model my-model song.mp3`\n\n"
    "- `genrescope train --recipe default --data gtzan --out default`\n\n"
    "- `genrescope train --encoder facebook/wav2vec2-base --data gtzan --out tuned` fine-tunes it "
    "and also writes tuned/transformers, for `transformers.pipeline`"
)
def train(
    data: Annotated[
        Path, typer.Option(help="Folder of genre folders, CSV file, or published data set.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("my-model"),
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe, by name or YAML file. [default: default; distilhubert with --encoder]"
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Checkpoint to fine-tune: ID on the Hugging Face hub, or a folder."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence in the model card, such as apache-2.0.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite a model in --out, or write beside other files."),
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. [default: one per core]")
    ] = None,
    micro_batch: Annotated[int | None, MICRO_BATCH] = None,
    strict: StrictOption = False,
    layout: Annotated[Layout, LAYOUT] = Layout.AUTO,
    allow_damaged: Annotated[bool, DAMAGED] = False,
    allow_missing_genres: Annotated[bool, MISSING_GENRES] = False,
    cache_dir: CacheOption = None,
) -> None:
    """Train a classifier for your own genres from a few dozen clips of each.

    Measures it by cross-validation first (artist-disjoint if artists are known), then fits it on
    every track.
    """
    require("lightning", "train")
    from genrescope.study.model_folder import check_place

    check_place(out, force=force)
    check_folder(out, inputs=[data])
    from genrescope.cli.progress import StudyProgress
    from genrescope.training.recipe import (
        Recipe,
        load_encoder_recipe,
        load_entry,
        members_of,
        set_micro_batch,
    )

    if encoder is None:
        what = load_entry(recipe or "default")
    else:
        what = load_encoder_recipe(encoder, recipe or "distilhubert")
        from genrescope.hub import resolve_weights
        from genrescope.models.encoder import encoder_config

        note(f"Looking for {encoder} on this machine, then on the Hugging Face hub.")
        encoder_config(resolve_weights(encoder, download=True))
    if micro_batch is not None:
        recipes = [what] if isinstance(what, Recipe) else members_of(what)
        [what] = set_micro_batch(recipes, micro_batch)
    with StudyProgress(ERR) as progress:
        dataset = open_data(data, progress, layout, allow_missing_genres=allow_missing_genres)
        from genrescope.study.run import Options
        from genrescope.study.train import train_classifier

        flags = trainer_flags("auto", "auto", "auto")
        options = Options(
            jobs=jobs,
            store=cache_dir,
            strict=strict,
            allow_damaged=allow_damaged,
            allow_missing_genres=allow_missing_genres,
            trainer_flags=flags,
        )
        trained = train_classifier(
            what, dataset, out, options, progress, licence=licence, force=force
        )
    for problem in trained.problems:
        note(f"Note: {problem}")
    row = trained.row
    leaks = f"; {trained.leaks.partition(':')[0].lower()}" if trained.leaks else ""
    measured = (
        f"accuracy {row.accuracy:.3f} (protocol {row.protocol}, {row.n_test} tracks{leaks})"
        if row
        else "too few tracks to measure it"
    )
    say(f"{trained.folder}: {len(trained.genres)} genres, {trained.used} tracks; {measured}")
    if isinstance(what, Recipe) and what.has_encoder:
        plain = trained.folder / "transformers"
        lacks = f"transformers has no head like that of {what.name}: only genrescope can open it."
        note(f"For transformers.pipeline: {plain}" if plain.is_dir() else f"Note: {lacks}")
