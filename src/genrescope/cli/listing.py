"""The command that lists recipes, studies, protocols, representations and models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from genrescope.cli.console import (
    OUT,
    require,
)
from genrescope.errors import GenrescopeError

app = typer.Typer()


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
    from genrescope.study.config import bundled_studies, load_study
    from genrescope.training.recipe import bundled_recipes, load_entry

    parts = {
        "recipes": {name: load_entry(name).about for name in bundled_recipes()},
        "studies": {name: load_study(name).about for name in bundled_studies()},
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


def _first_line(documented: Any) -> str:
    return str(documented.__doc__ or "").strip().splitlines()[0]
