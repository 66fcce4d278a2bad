"""The command line. Each command is a thin call into the other packages, imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from genrescope import __version__
from genrescope.cli import (
    catalogue,
    classify,
    cluster,
    data,
    export_onnx,
    learn,
    library,
    listing,
    robustness,
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
for part in (
    classify,
    library,
    similar,
    learn,
    study,
    robustness,
    train,
    export_onnx,
    listing,
    serve,
):
    app.add_typer(part.app)
app.add_typer(catalogue.app, name="library")
app.add_typer(tag.app, name="tag")
app.add_typer(data.app, name="data")
app.add_typer(cluster.app, name="cluster")

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer exports no name for it

_FORMER_OPTIONS: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {
    ("data", "get"): {"--to": ("--out",)},
    ("export",): {"--to": ("--format",)},
    ("serve",): {"--waiting": ("--max-queue",)},
    ("similar",): {"--in": ("--library",), "--index": ("--db",)},
    ("study",): {"--extents": ("--audio-variants",), "--store": ("--cache-dir",)},
    ("tag", "plan"): {
        "--if-empty": ("--existing", "skip"),
        "--keep": ("--existing", "add"),
        "--map": ("--taxonomy",),
        "--replace": ("--existing", "replace"),
    },
    ("train",): {"--store": ("--cache-dir",)},
}
# By command: what genrescope 0.1 called its options, which scripts may still use.


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
        words = _current_words(sys.argv[1:])
        _check_words(words)
        return int(app(words, prog_name="genrescope", standalone_mode=False) or 0)
    except GenrescopeError as error:
        fail(str(error))
        return 1
    except StoppedError as stopped:
        note(str(stopped) or "Stopped. Run the same command again to resume.")
        return 130
    except typer.Abort:
        note("Stopped.")
        return 130
    except _UsageError as error:
        wrong: Any = error
        # The message repeats arguments, which may be names of files.
        wrong.message = "\n".join(map(one_line, wrong.message.split("\n")))
        wrong.show()
        return int(wrong.exit_code)


def _current_words(words: list[str]) -> list[str]:
    """Replace former names of options, with a note for each."""
    if words[:1] == ["classify"] and any(word.partition("=")[0] == "--cluster" for word in words):
        command = "genrescope cluster classify INPUT --out URI --address ADDRESS"
        raise GenrescopeError(f"classify --cluster is now a command of its own: {command}.")
    former = _FORMER_OPTIONS.get((*words[:1],)) or _FORMER_OPTIONS.get((*words[:2],), {})
    end = words.index("--") if "--" in words else len(words)
    current: list[str] = []
    for word in words[:end]:
        name, sign, value = word.partition("=")
        option, *rest = former.get(name, (name,))
        current += [f"{option}{sign}{value}", *rest]
    for name in dict.fromkeys(word.partition("=")[0] for word in words[:end]):
        if name in former:
            note(f"Note: {name} is now called {' '.join(former[name])}.")
    return current + words[end:]


def _check_words(words: list[str]) -> None:
    # Usually an unset variable of a shell; as a path it would mean the current folder.
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
