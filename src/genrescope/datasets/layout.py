"""Layouts of data set folders; a module of its own, so that the command line starts fast."""

from enum import StrEnum


class Layout(StrEnum):
    """Detect it, a published data set, or a folder for each of the user's genres."""

    AUTO = "auto"
    GTZAN = "gtzan"
    FMA = "fma"
    JAMENDO = "jamendo"
    ISMIR2004 = "ismir2004"
    HOMBURG = "homburg"
    BALLROOM = "ballroom"
    FOLDER = "folder"
