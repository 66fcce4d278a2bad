"""The entry point of the command line.

Worker processes import the main module of the program again. This one is small; the command line
is not.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from genrescope.cli.app import main as run  # noqa: PLC0415  as said above

        run()
    except Exception as error:
        # Ctrl-C during the import of a C library is raised as an error of that library.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        sys.exit(130)


if __name__ == "__main__":
    main()
