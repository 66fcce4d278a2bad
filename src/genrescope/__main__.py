"""The entry point of the command line.

Worker processes import the main module of the program again. This one is small; the command line
is not.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command line; Ctrl-C ends it with code 130, also where it comes twice."""
    try:
        from genrescope.cli.app import main as run  # noqa: PLC0415  as said above

        run()
    except (Exception, KeyboardInterrupt) as error:
        # Ctrl-C during the import of a C library is raised as an error of that library.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        _end_stopped()
    except SystemExit as end:
        if end.code == 130:
            _end_stopped()
        raise


def _end_stopped() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would kill Python while it ends
    sys.exit(130)


if __name__ == "__main__":
    main()
