"""All that a plan goes by: the model's answers, the files' own tags, and what they say together.

One pass over the catalogue and the files' tags; then numbers of every track are in memory, some
hundreds of bytes each, and the evidence is weighed for all tracks of a model at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from genrescope.classifier.prediction import OTHER
from genrescope.errors import InputError, number_of
from genrescope.library.catalogue import Catalogue, CatalogueTrack
from genrescope.tagging.albums import GroupCollector, Groups
from genrescope.tagging.evidence import Evidence, weigh
from genrescope.tagging.formats import TrackNames, read_genres, read_names
from genrescope.tagging.policy import AlbumVote
from genrescope.tagging.stamp import stamp
from genrescope.tagging.tag_genres import TagGenre, genre_by_tags
from genrescope.taxonomy import Taxonomy, track_genres


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that has been analysed, and its tags.

    Attributes
    ----------
    path
        Relative to the library, with ``/`` between its parts.
    old
        Its genres.
    obstacle
        Why it cannot be tagged, as a clause; None if nothing is known that hinders.
    stamp
        See ``genrescope.tagging.stamp``; empty if it cannot be read.
    other
        Whether it is none of the model's genres.
    said
        The genres in its tags that are evidence: without placeholders, and none if a plan has
        written them, which would be the model's own answer coming back.
    by_tags
        The genre that the tagger names instead, if asked for.
    """

    path: str
    old: tuple[str, ...]
    obstacle: str | None
    stamp: str
    other: bool
    said: tuple[str, ...] = ()
    by_tags: TagGenre | None = None


class LibraryRecords:
    """The files of a library, in the catalogue's order, and the evidence about them.

    Parameters
    ----------
    files
        Of one model or several.
    models
        What each model says, and of which of the files.
    groups
        Albums and artists of the files.
    taxonomy
        Names and tree of the genres.
    vote
        See ``genrescope.tagging.evidence.weigh``.
    """

    def __init__(
        self,
        files: list[FileRecord],
        models: Iterable[_ModelRows],
        groups: Groups,
        taxonomy: Taxonomy,
        vote: AlbumVote,
    ) -> None:
        self.files = files
        self._taxonomy, self._groups, self._vote = taxonomy, groups, vote
        self._answers: dict[int, tuple[_ModelRows, int, Evidence]] = {}
        for answers in models:
            evidence = answers.weigh(files, groups, taxonomy, vote)
            for row, number in enumerate(answers.numbers):
                self._answers[number] = answers, row, evidence
        self._album_tags: dict[int, Counter[str]] = {}
        self._tagged: Counter[int] = Counter()
        for file, album in zip(files, groups.albums.tolist(), strict=True):
            if names := {taxonomy.spelling(name) for name in file.said}:
                self._album_tags.setdefault(album, Counter()).update(names)
                self._tagged[album] += 1

    def __len__(self) -> int:
        """Files."""
        return len(self.files)

    def probabilities(self, number: int) -> dict[str, float]:
        """Give what all evidence says about a file's genre, the most likely first."""
        answers, row, evidence = self._answers[number]
        order = np.argsort(-evidence.posterior[row], kind="stable")
        return {answers.genres[k]: float(evidence.posterior[row, k]) for k in order}

    def unsure_below(self, number: int) -> float:
        """Give the threshold of the model that analysed a file."""
        return self._answers[number][0].unsure_below

    def around(self, number: int) -> tuple[str, ...]:
        """Give the genres that most of the tagged files of a file's album have."""
        if self._vote == AlbumVote.OFF:
            return ()
        album = int(self._groups.albums[number])
        counts = self._album_tags.get(album, Counter())
        return tuple(name for name, count in counts.items() if 2 * count > self._tagged[album])

    def columns(self, number: int) -> tuple[str, str, str, str]:
        """Say for people what the audio, the file, its album and its artist say.

        A genre and its probability each, but for the file's own genres, all in the taxonomy's
        spelling. The album is the rest of it, "mixed" if its tracks do not agree, and behind it
        are the genres of its tags.
        """
        answers, row, evidence = self._answers[number]
        file = self.files[number]
        audio = OTHER if file.other else self._said(answers, answers.shares[row])
        album = artist = ""
        if self._vote != AlbumVote.OFF:
            if self._groups.compilation[number]:
                album = "compilation"
            elif count := int(evidence.album_tracks[row]):
                mixed = "" if evidence.agree[row] else "mixed: "
                said = self._said(answers, evidence.album[row])
                album = f"{mixed}{said} ({number_of(count, 'track')})"
            if around := self.around(number):
                album += f"{', ' if album else ''}tagged {', '.join(around)}"
            if count := int(evidence.artist_tracks[row]):
                artist = (
                    f"{self._said(answers, evidence.artist[row])} ({number_of(count, 'track')})"
                )
        return audio, ", ".join(track_genres(file.old, self._taxonomy)), album, artist

    def _said(self, answers: _ModelRows, shares: NDArray[np.floating]) -> str:
        best = int(shares.argmax())
        return f"{self._taxonomy.spelling(answers.genres[best])} {shares[best]:.2f}"


def read_records(
    catalogue: Catalogue,
    library: Path,
    taxonomy: Taxonomy,
    vote: AlbumVote,
    *,
    break_hard_links: bool = False,
    from_tags: bool = False,
    written: Mapping[str, tuple[str, ...]] | None = None,
    on_read: Callable[[int], None] | None = None,
) -> LibraryRecords:
    """Read what is known of every file of a library that has been analysed.

    Parameters
    ----------
    catalogue
        With the predictions.
    library
        Absolute path, without links.
    taxonomy
        Names and tree of the genres.
    vote
        See ``genrescope.tagging.evidence.weigh``.
    break_hard_links
        Whether files with other names can be tagged.
    from_tags
        Whether the tagger's genres are asked for where the model has none.
    written
        As of ``Journal.written``.
    on_read
        Called with the number of files read so far.
    """
    is_placeholder = cache(taxonomy.is_placeholder)
    thresholds = {model.key: model.unsure_below for model in catalogue.models(str(library))}
    files: list[FileRecord] = []
    models: dict[str, _ModelRows] = {}
    collector = GroupCollector()
    for known in catalogue.tracks(str(library)):
        if known.prediction is None:
            continue
        if known.model not in models:
            genres = tuple(known.prediction.probabilities)
            models[known.model] = _ModelRows(genres, thresholds[known.model])
        models[known.model].add(len(files), known.prediction.probabilities)
        file, names = _read(known, library, break_hard_links=break_hard_links)
        if file.old and (written or {}).get(file.path) != file.old:
            said = tuple(one for one in file.old if one.strip() and not is_placeholder(one))
            file = replace(file, said=said)
        if from_tags and known.prediction.other:
            file = replace(file, by_tags=genre_by_tags(known.prediction.tags))
        files.append(file)
        if names is None:
            collector.add_alone()
        else:
            collector.add(names, PurePosixPath(file.path).parent)
        if on_read is not None:
            on_read(len(files))
    for answers in models.values():
        answers.end()
    return LibraryRecords(files, models.values(), collector.groups(), taxonomy, vote)


@dataclass(eq=False)
class _ModelRows:
    # Probabilities by one model: a row for each of its files, of which the numbers are kept.
    genres: tuple[str, ...]
    unsure_below: float
    numbers: list[int] = field(default_factory=list)
    shares: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    _packed: bytearray = field(default_factory=bytearray)

    def add(self, number: int, probabilities: dict[str, float]) -> None:
        self.numbers.append(number)
        row = np.array([probabilities[genre] for genre in self.genres], dtype=np.float32)
        self._packed += row.tobytes()

    def end(self) -> None:
        self.shares = np.frombuffer(self._packed, np.float32).reshape(-1, len(self.genres))

    def weigh(
        self, files: list[FileRecord], groups: Groups, taxonomy: Taxonomy, vote: AlbumVote
    ) -> Evidence:
        column_of: dict[str, int | None] = {}
        tags = np.zeros(self.shares.shape)
        for row, number in enumerate(self.numbers):
            for name in files[number].said:
                if name not in column_of:
                    near = taxonomy.nearest(name, self.genres)
                    column_of[name] = None if near is None else self.genres.index(near)
                if (column := column_of[name]) is not None:
                    tags[row, column] += 1
        tags /= np.maximum(tags.sum(axis=1, keepdims=True), 1)
        other = np.array([files[number].other for number in self.numbers], dtype=bool)
        own = np.array(self.numbers, dtype=np.intp)
        return weigh(self.shares, other, tags, groups.of(own), vote)


def _read(
    known: CatalogueTrack, library: Path, *, break_hard_links: bool
) -> tuple[FileRecord, TrackNames | None]:
    """Read a file's tags; its names are None if it is not the file that was analysed."""
    path = known.path.relative_to(library).as_posix()
    other = known.prediction is not None and known.prediction.other
    try:
        stat = known.path.lstat()
    except OSError as error:
        cause = f"it cannot be read: {error.strerror}"
        return FileRecord(path, (), cause, "", other), None
    mark = stamp(stat)
    obstacle = None
    if known.path.is_symlink():
        obstacle = "it is a link; its target may be tagged under its own name"
    elif (stat.st_size, stat.st_mtime_ns) != (known.size, known.mtime_ns):
        obstacle = (
            "it has changed since the scan: run `genrescope scan` and write a new plan to tag it"
        )
    if obstacle is not None:
        return FileRecord(path, (), obstacle, mark, other), None
    if stat.st_nlink > 1 and not break_hard_links:
        obstacle = "it has other names, which would keep the old tags: see --break-hard-links"
    elif not stat.st_mode & 0o222:
        obstacle = "it is read-only: make it writable and write a new plan to tag it"
    try:
        old = read_genres(known.path)
    except InputError as error:
        obstacle = obstacle or f"its tags cannot be read: {error.cause}"
        return FileRecord(path, (), obstacle, mark, other), TrackNames()
    try:
        names = read_names(known.path)
    except InputError:  # its genre could be read, and its folder stands for its album
        names = TrackNames()
    return FileRecord(path, old, obstacle, mark, other), names
