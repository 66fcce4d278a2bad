"""Findings about the files of a data set, and the audio files in a folder."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from genrescope.audio.walk import walk
from genrescope.errors import InputError, one_line
from genrescope.files import check_regular

Kind = Literal["missing", "corrupt", "duplicate", "faulty", "unlisted", "unused", "noted"]
"""Kinds of findings: see `Finding`."""

_ALONE = 3  # maximum of a kind that are all listed; of more, the first


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of, or a note about, a file or a track.

    Attributes
    ----------
    kind
        ``missing`` (a source that should be there), ``corrupt`` (a file or row that cannot be
        used), ``duplicate`` (the same content twice), ``faulty`` (known to be wrong in every
        copy of GTZAN), ``unlisted`` (a file that is not one of the 1000 clips), ``unused`` (another
        audio file that is not used), ``noted`` (a decision to review; nothing was left out).
    path
        The file or folder concerned.
    cause, remedy
        As in `InputError`.
    track
        The id of the track concerned, if it is a single one.
    genre
        The genre that lacks a track because of it, as spelt in the source, if known.
    unreadable
        Whether a folder could not be read, so its contents are unknown.
    """

    kind: Kind
    path: Path
    cause: str
    remedy: str
    track: str | None = None
    genre: str | None = None
    unreadable: bool = False

    def error(self) -> InputError:
        """Return the finding as an error."""
        return InputError(self.path, self.cause, self.remedy)


@dataclass(frozen=True, slots=True)
class Listing:
    """Contents of a folder and its subfolders.

    Attributes
    ----------
    audio
        Audio files by their names, sorted.
    unused
        Files that look like audio but cannot be used, and folders that cannot be read.
    """

    audio: tuple[Path, ...]
    unused: tuple[Finding, ...]


def problems_of(findings: Iterable[Finding]) -> tuple[InputError, ...]:
    """Return findings as errors, in order, with more than three of a kind merged into one.

    Findings with the same cause and remedy count once. ``noted`` ones are left out.
    """
    alike: defaultdict[tuple[Kind, str], dict[str, Finding]] = defaultdict(dict)
    for finding in findings:
        if finding.kind != "noted":
            # The cause of a duplicate names all copies; other causes concern one file each.
            key = (
                finding.cause if finding.kind == "duplicate" else f"{finding.path} {finding.cause}"
            )
            alike[finding.kind, finding.remedy].setdefault(key, finding)
    problems: list[InputError] = []
    for same in alike.values():
        first, *others = same.values()
        if len(same) <= _ALONE:
            problems += [finding.error() for finding in (first, *others)]
        else:
            cause = f"{first.cause} (and {len(others):,} more like it)"
            remedy = f"{first.remedy}. `genrescope data check --all` names all {len(same):,}"
            problems.append(InputError(first.path, cause, remedy))
    return tuple(problems)


def lines_of(findings: Iterable[Finding], max_shown: int | None) -> list[str]:
    """Format findings of one kind as lines; those that differ only in their tracks are merged.

    Parameters
    ----------
    findings
        In order.
    max_shown
        Maximum number of lines, and of tracks in each; None for all.
    """
    alike: defaultdict[tuple[Path, str, str], list[str | None]] = defaultdict(list)
    for finding in findings:
        alike[finding.path, finding.cause, finding.remedy].append(finding.track)
    lines: list[str] = []
    left = 0
    for number, ((path, cause, remedy), tracks) in enumerate(alike.items()):
        if max_shown is not None and number >= max_shown:
            left += len(tracks)
            continue
        ids = [track for track in tracks if track is not None]
        of = ""
        if len(ids) == 1 and ids[0] not in cause and ids[0] not in str(path):
            of = f" of {ids[0]}"
        elif len(ids) > 1:
            of = f" of {len(ids):,} tracks"
        lines.append(f"  {InputError(path, cause + of, remedy)}")
        if len(ids) > 1:
            lines += textwrap.wrap(
                one_line(" ".join(ids[:max_shown])), 96, initial_indent="    ",
                subsequent_indent="    ", break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
            if max_shown is not None and len(ids) > max_shown:
                lines[-1] += f" … and {len(ids) - max_shown:,} more (--all names them)"
    if left:
        lines.append(f"  … and {left:,} more (--all shows them)")
    return lines


def list_audio(folder: Path, *, deep: bool = True) -> Listing:
    """Find the audio files in a folder and, if ``deep``, in those within it; see ``audio.walk``."""
    audio: list[Path] = []
    unused: list[Finding] = []
    for found in walk(folder, recursive=deep):
        if found.fault is not None:
            unused.append(replace(_finding(found.fault), unreadable=True))
        for path in found.links:
            cause, remedy = "it is a link to a folder, which is not followed", "Name that folder"
            unused.append(Finding("unused", Path(path), cause, remedy))
        for path in found.passed_over:
            ending = Path(path).suffix
            ending = f"{ending!r} is no ending" if ending else "its name has no ending"
            cause = f"it looks like audio, but {ending} of a format that is read"
            remedy = "Rename it after its format, convert it or move it out"
            unused.append(Finding("unused", Path(path), cause, remedy))
        for file in found.files:
            try:
                check_regular(Path(file.path))
                audio.append(Path(file.path))
            except InputError as error:
                unused.append(_finding(error))
    return Listing(tuple(sorted(audio)), tuple(sorted(unused, key=lambda f: f.path)))


def _finding(error: InputError) -> Finding:
    return Finding("unused", error.path, error.cause, error.remedy)
