"""Layouts of data set folders; a module of its own, so that the command line starts fast."""

from enum import StrEnum


class Layout(StrEnum):
    """Detect it, GTZAN, or a folder for each of the user's genres."""

    AUTO = "auto"
    GTZAN = "gtzan"
    FOLDER = "folder"
