"""The command that lists data sets, recipes, studies, protocols, representations and models."""

from __future__ import annotations

import ast
from typing import Annotated

import typer

from genrescope.cli.console import OUT
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
            help="datasets, recipes, studies, protocols, representations, models or transforms. "
            "[default: all]"
        ),
    ] = None,
) -> None:
    """List data sets, recipes, studies, protocols, representations, models and transforms."""
    from rich.table import Table

    from genrescope.datasets.splits import PROTOCOLS
    from genrescope.representations import REPRESENTATIONS
    from genrescope.robustness.transforms import TRANSFORMS

    parts = {
        "datasets": _datasets(),
        "recipes": _settings_about("recipes"),
        "studies": _settings_about("recipes/studies"),
        "protocols": {name: protocol.about for name, protocol in PROTOCOLS.items()},
        "representations": {
            name: _first_line(cls.__doc__) for name, cls in sorted(REPRESENTATIONS.items())
        },
        "models": models(),
        "transforms": {name: transform.about for name, transform in TRANSFORMS.items()},
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


def _datasets() -> dict[str, str]:
    from genrescope.datasets.facts import load_facts
    from genrescope.datasets.layout import Layout

    known = [layout for layout in Layout if layout not in {Layout.AUTO, Layout.FOLDER}]
    facts = {str(name): load_facts(name) for name in known}
    return {
        name: f"{fact.title}. {fact.licence}\nSplits: {fact.splits}.\nCite: {fact.citation}.\n"
        f"{fact.url}"
        for name, fact in facts.items()
    }


def models() -> dict[str, str]:
    """Name and first docstring line of every registered model and estimator, sorted by name.

    The sources are parsed, not imported: importing them needs torch, which is an extra.
    """
    from importlib.resources import files

    found: dict[str, str] = {}
    for source in (files("genrescope") / "models").iterdir():
        if not source.name.endswith(".py"):
            continue
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                continue
            for call in node.decorator_list:
                match call:
                    case ast.Call(ast.Name("model" | "estimator"), [ast.Constant(str(name))]):
                        found[name] = _first_line(ast.get_docstring(node))
    return dict(sorted(found.items()))


def _settings_about(folder: str) -> dict[str, str]:
    from importlib.resources import files

    import yaml

    sources = (files("genrescope") / folder).iterdir()
    found = {
        source.name.removesuffix(".yaml"): yaml.safe_load(source.read_text("utf-8"))["about"]
        for source in sources
        if source.name.endswith(".yaml")
    }
    return dict(sorted(found.items()))


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]
