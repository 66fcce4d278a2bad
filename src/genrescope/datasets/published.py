"""What the readers of published data sets have in common.

A reader lists the rows of its data set's own tables or folders. Here rows become tracks: those
without a file are reported, and the published split is checked for artists on both sides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from genrescope.datasets.facts import Facts
from genrescope.datasets.findings import Finding, list_audio, problems_of
from genrescope.datasets.track import Dataset, SplitLists, Track, genre_fault
from genrescope.errors import InputError
from genrescope.files import is_file, is_text

PUBLISHED, LEAKY = "published", "leaky-published"
"""Names of a published split in ``Dataset.lists``: artist-disjoint as checked, and any other."""

Part = Literal["train", "valid", "test"]

_SHOWN = 3  # artists in a message


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A track as a data set lists it.

    Attributes
    ----------
    track
        With the path where its audio should be.
    part
        Of the published split; None if it is in none.
    artist_known
        Whether the track's group is its artist, so that parts can be compared.
    """

    track: Track
    part: Part | None = None
    artist_known: bool = True


class DatasetReader(Protocol):
    """A module that reads a published data set."""

    FACTS: Facts

    def find(self, folder: Path) -> Path | None:
        """Return the root of the data set in a folder; None if it is not there."""

    def read(self, folder: Path, home: Path) -> Dataset:
        """Read it, as found at ``home``; InputError if a table of it, or all audio, is unusable."""


def folders(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Yield a folder and the folders within, the upper ones first; hidden ones are left out."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [inside for path in level for inside in _inside(path)]


def _inside(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        return [path for path in paths if path.is_dir()]
    except OSError:  # not a folder, or no permission
        return []


def several_genres(table: Path, count: int, total: int, what: str = "genres") -> list[Finding]:
    """Report the tracks of a table that are left out because they do not have one genre."""
    cause = f"{count:,} of {total:,} tracks have several {what} or none"
    remedy = "Nothing to do: only tracks of one genre are used"
    return [Finding("unused", table, cause, remedy)] if count else []


def assemble(
    name: str,
    facts: Facts,
    source: Path,
    rows: Iterable[PublishedRow],
    findings: Sequence[Finding] = (),
    *,
    whole_folder: bool = False,
) -> Dataset:
    """Make a dataset of the rows whose files exist.

    Parameters
    ----------
    name
        Of the dataset, printed with every result.
    facts
        About it.
    source
        The file or folder that lists it, for messages.
    rows
        All that belong to it.
    findings
        What the reader has left out.
    whole_folder
        Whether all audio in ``source`` should be of the data set: what is not is reported.

    Returns
    -------
    dataset
        With the published split, if any, as ``published`` if all its artists are known and none is
        in two parts, else as ``leaky-published``.

    Raises
    ------
    InputError
        If no row's file exists.
    """
    remedy = f"Get the audio from {facts.url}; until then the track is left out"
    found: list[Finding] = list(findings)
    usable: list[PublishedRow] = []
    listed = list(rows)
    ids: set[str] = set()
    for row in listed:
        path = row.track.audio or source
        if (fault := genre_fault(row.track.genre)) is not None:
            raise InputError(source, fault, f"Get it again from {facts.url}")
        if row.track.id in ids:
            cause = f"{row.track.id} is listed twice"
            found.append(Finding("duplicate", source, cause, "The first is used", row.track.id))
        elif not is_text(row.track.id):
            again = "Rename it; until then it is left out"
            found.append(Finding("unused", path, "its name is not in UTF-8", again))
        elif not is_file(path):
            genre = row.track.genre
            found.append(Finding("missing", path, "no such file", remedy, row.track.id, genre))
        else:
            usable.append(row)
        ids.add(row.track.id)
    if whole_folder:
        listing = list_audio(source)
        placed = {row.track.audio for row in listed} | {finding.path for finding in found}
        cause, remedy = "its folder or name is not the data set's", "Move it elsewhere"
        strays = [path for path in listing.audio if path not in placed]
        found += [Finding("unlisted", path, cause, remedy) for path in strays]
        found += [finding for finding in listing.unused if finding.path not in placed]
    if not usable:
        cause = f"none of the {len(listed):,} files that it lists is there"
        raise InputError(source, cause, f"Give the folder that holds {facts.layout}")
    tracks = tuple(sorted((row.track for row in usable), key=lambda track: track.id))
    lists, verdict = _lists(usable)
    counts = f"{facts.title}, {len(tracks):,} of {len(listed):,} tracks."
    return Dataset(
        name=name,
        tracks=tracks,
        lists=lists,
        problems=problems_of(found),
        notes=(counts, *([verdict] if verdict else []), f"Data: {facts.citation}.", facts.licence),
        findings=(*found, *_noted(source, verdict)),
        missing_genres=tuple(
            sorted({row.track.genre for row in listed} - {track.genre for track in tracks})
        ),
    )


def _noted(source: Path, verdict: str) -> Iterator[Finding]:
    if verdict:
        remedy = "Use it by --protocols published"
        if "LEAKS" in verdict:
            remedy = "Use grouped for artist-disjoint splits, leaky-published only to compare"
        cause = verdict[0].lower() + verdict[1:].removesuffix(".")
        yield Finding("noted", source, cause, remedy)


def _lists(rows: Sequence[PublishedRow]) -> tuple[dict[str, SplitLists], str]:
    parts: dict[Part, list[str]] = {"train": [], "valid": [], "test": []}
    homes: defaultdict[str, set[str]] = defaultdict(set)
    unknown = 0
    for row in rows:
        if row.part is None:
            continue
        parts[row.part].append(row.track.id)
        if row.track.group is None or not row.artist_known:
            unknown += 1
        else:
            homes[row.track.group].add(row.part)
    if not any(parts.values()):
        return {}, ""
    lists = SplitLists(**{part: tuple(sorted(ids)) for part, ids in parts.items()})
    sizes = " / ".join(f"{len(ids):,}" for ids in parts.values())
    both = sorted(artist for artist, found in homes.items() if len(found) > 1)
    if not both and not unknown:
        verdict = f"The published split ({sizes} tracks) has no artist in two parts: checked."
        return {PUBLISHED: lists}, verdict
    reasons = []
    if both:
        some = ", ".join(both[:_SHOWN]) + (", …" if both[_SHOWN:] else "")
        are = "s are" if both[1:] else " is"
        reasons.append(f"{len(both):,} artist{are} in several parts ({some})")
    if unknown:
        reasons.append(f"the artists of {unknown:,} tracks are not known")
    verdict = f"The published split ({sizes} tracks) LEAKS: {' and '.join(reasons)}."
    return {LEAKY: lists}, verdict
