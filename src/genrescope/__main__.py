"""Where the command line begins.

Processes that decode import the module that the program began with once more: so it is this one,
which costs nothing, and not the whole command line.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from genrescope.cli import main as run  # noqa: PLC0415  see above

    run()


if __name__ == "__main__":
    main()
