"""The command line. Each command is a thin call into the floors below, imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from genrescope import __version__
from genrescope.cli import (
    classify,
    cluster,
    data,
    library,
    listing,
    serve,
    similar,
    study,
    tag,
    train,
)
from genrescope.cli.console import (
    OutputError,
    StoppedError,
    end_output,
    fail,
    note,
    open_streams,
    say,
)
from genrescope.errors import GenrescopeError, one_line

app = typer.Typer(
    name="genrescope",
    help="Music genre classification you can check.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for part in (classify, library, similar, study, train, listing, serve):
    app.add_typer(part.app)
app.add_typer(tag.app, name="tag")
app.add_typer(data.app, name="data")
app.add_typer(cluster.app, name="cluster")

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
        _check_words(sys.argv[1:])
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


def _check_words(words: list[str]) -> None:
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
