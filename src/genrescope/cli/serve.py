"""The command that serves the web page and its API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrescope.cli.console import note, note_passed_over
from genrescope.cli.library import INCLUDE_IN_SCAN, DbOption, own_file
from genrescope.cli.similar import update_library
from genrescope.cli.tag import JournalOption
from genrescope.errors import GenrescopeError

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "- `genrescope serve`, then open http://127.0.0.1:7860\n\n"
    "- `genrescope serve --library ~/Music --report report --browser`\n\n"
    "- `curl -F file=@song.mp3 http://127.0.0.1:7860/api/classify` uses the API\n\n"
    "- `GENRESCOPE_TOKEN=secret genrescope serve --host 0.0.0.0` serves a network, with a token"
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(envvar="GENRESCOPE_TOKEN", help="Token that page and API require."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, or user/name on the Hugging Face hub. [default: bundled]"),
    ] = None,
    library: Annotated[Path | None, typer.Option(help="Folder of a music library to show.")] = None,
    db: DbOption = None,
    allow_writing: Annotated[
        bool,
        typer.Option(
            "--allow-writing",
            help="Let the page write genres to the library's tags; in a network, with a token.",
        ),
    ] = False,
    journal: JournalOption = None,
    report: Annotated[Path | None, typer.Option(help="Folder of a study's report to show.")] = None,
    max_mb: Annotated[
        float, typer.Option(min=0.001, help="Maximum size of an upload in MB.")
    ] = 100.0,
    max_minutes: Annotated[
        float, typer.Option(min=0.05, help="Maximum length of audio in minutes.")
    ] = 15.0,
    timeout: Annotated[
        float, typer.Option(min=1, help="Time limit in seconds, of an upload and of its analysis.")
    ] = 60.0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of worker processes. [default: one per core, up to 4]"),
    ] = None,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Maximum number of queued requests; further ones get 503.")
    ] = 100,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = False,
) -> None:
    """Serve a web page that classifies dropped files, and a JSON API.

    Works without a network. Files are deleted after the response. By default, only this machine
    can connect.
    """
    from genrescope.tagging.journal import default_path as changes_path
    from genrescope.web import Limits, is_local
    from genrescope.web import serve as serve_page

    if allow_writing and library is None:
        raise GenrescopeError("--allow-writing needs a library: name its folder with --library.")
    shelf = None
    if library is not None:
        from genrescope import load
        from genrescope.library.catalogue import Catalogue, default_path
        from genrescope.library.similar import Library

        place, classifier = own_file(db, default_path, "--db"), load(model)
        found = update_library(place, classifier, library, workers)
        note_passed_over(list(found.passed_over), INCLUDE_IN_SCAN)
        with Catalogue(place) as catalogue:
            shelf = Library(catalogue, classifier, library)
    limits = Limits(
        megabytes=max_mb,
        minutes=max_minutes,
        upload_s=timeout,
        analysis_s=timeout,
        inside=max_queue,
        **({} if workers is None else {"at_once": workers}),
    )
    if not is_local(host) and not token:
        note(f"Note: anyone who can reach {host} can use this page; --token restricts access.")
    serve_page(
        model,
        host=host,
        port=port,
        limits=limits,
        library=shelf,
        journal=own_file(journal, changes_path, "--journal") if allow_writing else None,
        report=report,
        token=token,
        browser=browser,
        ready=lambda address: note(f"Open {address} (Ctrl-C ends it)"),
    )
