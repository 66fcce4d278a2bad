"""Where the command line begins.

Processes that decode import the module that the program began with once more: so it is this one,
which costs nothing, and not the whole command line.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from genrescope.cli.app import main as run  # noqa: PLC0415  see above

        run()
    except Exception as error:
        # Ctrl-C while a library written in C is imported comes out as an error of that library.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        sys.exit(130)


if __name__ == "__main__":
    main()
