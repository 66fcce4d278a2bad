"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrescope.quality import Quality

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="Model folder, or user/name on the Hugging Face hub. [default: bundled]"
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option("--revision", help="Branch, tag or commit on the hub. [default: newest]"),
]
QualityOption = Annotated[
    Quality,
    typer.Option(
        "--quality",
        help="How much of each track is analysed: fast (24 s of audio alone), standard (90 s) or "
        "best (5 min).",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Number of worker processes. [default: one per core]"),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir", help="Folder of computed representations. [default: in the user's cache]"
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option("--strict", help="Fail on a file that cannot be used, instead of leaving it out."),
]

ROBUSTNESS_TABLES = ("robustness.csv", "robustness-answers.csv")
"""In the folder of a report; a table of the data must not have their place."""
