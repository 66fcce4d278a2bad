"""What the commands share: where they write to, and how they end."""

from __future__ import annotations

from rich.console import Console

from genrescope.errors import GenrescopeError

OUT = Console()
ERR = Console(stderr=True)


class StoppedError(Exception):
    """Ctrl-C in a command that can be gone on with; typer has no words for that."""


def note(text: str) -> None:
    """Tell something beside the results, word for word."""
    ERR.print(text, markup=False, highlight=False, soft_wrap=True)


def require(package: str, extra: str) -> None:
    """Refuse to go on without a package of an extra.

    Raises
    ------
    GenrescopeError
        If it is not installed.
    """
    from importlib.util import find_spec  # noqa: PLC0415  `genrescope --help` is instant

    if find_spec(package) is None:
        raise GenrescopeError(
            f"This command needs more than the base install: pip install 'genrescope[{extra}]'"
        )
