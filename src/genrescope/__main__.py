"""``python -m genrescope``: the command line."""

from genrescope.cli import main

if __name__ == "__main__":
    main()
