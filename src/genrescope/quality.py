"""Levels of effort; a module of its own, so that the command line starts fast."""

from enum import StrEnum


class Quality(StrEnum):
    """How much of a track is analysed."""

    FAST = "fast"
    STANDARD = "standard"
    BEST = "best"
