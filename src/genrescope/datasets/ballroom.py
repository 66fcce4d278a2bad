"""The Ballroom data set: a folder for each dance, without the recordings that it repeats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from genrescope.datasets.facts import load_facts
from genrescope.datasets.findings import Finding, list_audio
from genrescope.datasets.published import PublishedRow, assemble, folders
from genrescope.datasets.track import Dataset, Track

FACTS = load_facts("ballroom")

_NAME = re.compile(r"(Albums-.+-|Media-\d+)\d\d")
"""Of a file without its ending: the album, and two digits of the track's number."""


def find(folder: Path) -> Path | None:
    """Return the folder of the dances' folders, by files named as the data set's."""
    return next((home for home in folders(folder) if any(_clips(home, check=True))), None)


def read(folder: Path, home: Path) -> Dataset:
    """Read it, with albums in place of artists, which the data set does not name."""
    del folder  # all is in its home
    clips = {path.stem: (dance, path) for dance, path in _clips(home)}
    findings: list[Finding] = []
    for first, second in FACTS.data["repeated"]:
        if first in clips and second in clips:
            same = clips[first][0] == clips[second][0]
            for name in (second,) if same else (first, second):
                cause = f"{first} and {second} are one recording"
                cause += "" if same else " under two dances"
                remedy = "Nothing to do: it is left out"
                findings.append(Finding("duplicate", clips[name][1], cause, remedy, name))
    for finding in findings:
        clips.pop(finding.path.stem, None)
    rows = [
        PublishedRow(Track(name, dance, path, group=re.sub(r"-?\d\d$", "", name)))
        for name, (dance, path) in clips.items()
    ]
    return assemble("ballroom", FACTS, home, rows, findings, whole_folder=True)


def _clips(home: Path, *, check: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield dance and path of each clip; with ``check``, one folder's files are enough."""
    try:
        inside = sorted(path for path in home.iterdir() if path.is_dir())
    except OSError:
        return
    for place in inside:
        dance = place.name.partition("-")[0]
        if dance in FACTS.data["dances"]:
            for path in list_audio(place, deep=False).audio:
                if _NAME.fullmatch(path.stem):
                    yield dance, path
                    if check:
                        return
