"""The ways in which a folder may be read; alone here, since the command line starts at once."""

from enum import StrEnum


class Layout(StrEnum):
    """By what is in the folder, as GTZAN, or as the user's own genres."""

    AUTO = "auto"
    GTZAN = "gtzan"
    FOLDER = "folder"
