"""The command that serves the page and its API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrescope.cli.console import note, note_passed_over, require
from genrescope.cli.library import DbOption, own_file
from genrescope.cli.similar import update_library

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope serve`, then open http://127.0.0.1:7860\n\n"
    "- `genrescope serve --library ~/Music --report report --browser`\n\n"
    "- `curl -F file=@song.mp3 http://127.0.0.1:7860/api/classify` asks it from a program\n\n"
    "- `GENRESCOPE_TOKEN=secret genrescope serve --host 0.0.0.0` lets the network in, by token"
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(envvar="GENRESCOPE_TOKEN", help="That page and programs must know."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model folder, or user/name of the hub. [default: in the package]"),
    ] = None,
    library: Annotated[
        Path | None, typer.Option(help="Folder of music to show similar tracks of.")
    ] = None,
    db: DbOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder of a study's report, for the second tab.")
    ] = None,
    max_mb: Annotated[
        float, typer.Option(min=0.001, help="Largest upload, in units of 1,000,000 bytes.")
    ] = 100.0,
    max_minutes: Annotated[float, typer.Option(min=0.05, help="Longest audio.")] = 15.0,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for an upload, and for its analysis.")
    ] = 60.0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Files heard at once. [default: one per core, up to 4]"),
    ] = None,
    waiting: Annotated[
        int, typer.Option(min=1, help="Requests in the house; more are told to come back.")
    ] = 100,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = False,
) -> None:
    """Serve a page that tells the genre of what is dropped on it, and the same as a JSON API.

    Works without a network. Files are deleted after the answer. Listens to this machine alone
    unless told otherwise.
    """
    require("gradio", "web")
    from genrescope.web import Limits, is_local
    from genrescope.web import serve as serve_page

    shelf = None
    if library is not None:
        from genrescope import load
        from genrescope.library.catalogue import Catalogue, default_path
        from genrescope.library.similar import Library

        place, classifier = own_file(db, default_path, "--db"), load(model)
        found = update_library(place, classifier, library, workers)
        note_passed_over(list(found.passed_over))
        with Catalogue(place) as catalogue:
            shelf = Library(catalogue, classifier, library)
    limits = Limits(
        megabytes=max_mb,
        minutes=max_minutes,
        upload_s=timeout,
        analysis_s=timeout,
        inside=waiting,
        **({} if workers is None else {"at_once": workers}),
    )
    if not is_local(host) and not token:
        note(f"Note: whoever reaches {host} may use this page; --token keeps others out.")
    serve_page(
        model,
        host=host,
        port=port,
        limits=limits,
        library=shelf,
        report=report,
        token=token,
        browser=browser,
        ready=lambda address: note(f"Open {address} (Ctrl-C ends it)"),
    )
