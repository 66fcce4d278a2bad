"""GTZAN in all its common layouts: ten genres, 1000 clips, their pictures and table.

The data set is a standard benchmark with known faults: clips repeat, one is corrupt, one is mostly
noise. ``gtzan.toml`` lists them, with sources. `survey` examines a folder by names and headers, and
`read` converts it to tracks.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from genrescope.audio import is_audio, length
from genrescope.audio.walk import walk
from genrescope.datasets.facts import load_facts
from genrescope.datasets.findings import Finding, Listing, list_audio, problems_of
from genrescope.datasets.track import (
    AudioVariant,
    Dataset,
    SplitLists,
    Track,
    genre_letters,
    spelt_alike,
)
from genrescope.errors import InputError
from genrescope.references import cite
from genrescope.table import open_table

FACTS = load_facts("gtzan")
GENRES: tuple[str, ...] = tuple(FACTS.data["genres"])
CLIPS_PER_GENRE = 100

TABLE = "features_30_sec.csv"
SEGMENT_TABLE = "features_3_sec.csv"
INDEX = Path("metadata", "GTZANindex.txt")
TABLE_COLUMNS: tuple[str, ...] = (
    *(f"{name}_{part}" for name in FACTS.data["descriptors"] for part in ("mean", "var")),
    "tempo",
    *(f"mfcc{number}_{part}" for number in range(1, 21) for part in ("mean", "var")),
)
"""The 57 descriptors of ``features_30_sec.csv``: all but ``filename``, ``length``, ``label``."""

IMAGE_SIZE = (432, 288)
"""Width and height of the published spectrogram pictures, in pixels."""

AUDIO_SUFFIXES = (".wav", ".au", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
"""The usual formats of clips, in order of preference, before all others."""

IDENTICAL: tuple[tuple[str, str], ...] = tuple(map(tuple, FACTS.data["identical"]))
"""Pairs with the same row in the table and the same picture."""

_NAME = re.compile(
    rf"(?:gtzan_)?(?P<genre>{'|'.join(GENRES)}|hip[-_ ]hop)[._]?(?P<number>\d{{5}})"
    r"(?:\.(?:[A-Z]|3g)\w*)*",
    re.IGNORECASE | re.ASCII,
)
_PART = re.compile(
    rf"(?:gtzan_)?({'|'.join(GENRES)}|hip[-_ ]hop)[._]?000\d\d(?!\d)", re.IGNORECASE | re.ASCII
)
"""Prefix of the names of clips and of files derived from them."""
_AUDIO_VARIANTS: Mapping[str, AudioVariant] = {"genres_16k": "full-16k", "excerpts_2s": "excerpt"}
_CLIP_FOLDERS = ("genres_original", "genres", "images_original", "genres_16k", "excerpts_2s")


@dataclass(frozen=True, slots=True)
class GtzanClip:
    """An audio file of a track, not yet opened."""

    path: Path
    audio_variant: AudioVariant


@dataclass(frozen=True, slots=True)
class Survey:
    """Contents of a folder, by name and header; audio files are not opened.

    Attributes
    ----------
    root
        The root of the layout: the given folder, or one inside it.
    rows
        Descriptors by track id, 57 numbers in the order of `TABLE_COLUMNS`.
    images
        Spectrogram pictures by track id, each of the right size.
    clips
        Audio files by track id, in order of preference.
    artists
        Normalised artists by track id; without tracks of unknown artists, except `IDENTICAL` ones.
    findings
        Files and rows that were left out.
    """

    root: Path
    rows: Mapping[str, tuple[float, ...]]
    images: Mapping[str, Path]
    clips: Mapping[str, tuple[GtzanClip, ...]]
    artists: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def tracks(self) -> tuple[str, ...]:
        """Ids of the tracks with at least one source, sorted."""
        return tuple(sorted({*self.rows, *self.images, *self.clips}))


def track_ids() -> tuple[str, ...]:
    """Return the ids of GTZAN's 1000 tracks, sorted."""
    return tuple(_id(genre, number) for genre in GENRES for number in range(CLIPS_PER_GENRE))


def track_id(name: str) -> str | None:
    """Return the id of the track that a name refers to; None if it is not one of the 1000.

    Parameters
    ----------
    name
        An id (``hiphop.00042``), the name of a clip, picture or table row (``hiphop.00042.wav``,
        ``hiphop00042.png``), or of one of mirdata's annotations
        (``gtzan_hiphop_00042.beats``). The genre may be spelt ``hip-hop``.
    """
    match = _NAME.fullmatch(name)
    genre = genre_of(match["genre"]) if match else None
    if match is None or genre is None or int(match["number"]) >= CLIPS_PER_GENRE:
        return None
    return _id(genre, int(match["number"]))


def genre_of(name: str) -> str | None:
    """Return the one of `GENRES` that a name refers to; None if it refers to none.

    Case, white space and punctuation are ignored: ``Hip-Hop``, ``HIP HOP``.
    """
    letters = genre_letters(name)
    return letters if letters in GENRES else None


def filtered_lists() -> SplitLists:
    """Return the public artist- and fault-filtered split: 443, 197 and 290 track ids, sorted."""
    lists: dict[str, tuple[str, ...]] = {
        part: tuple(
            _id(genre, number) for genre, ranges in genres.items() for number in _numbers(ranges)
        )
        for part, genres in FACTS.data["filtered"].items()
    }
    return SplitLists(**lists)


@cache
def known_faults() -> Mapping[str, tuple[str, ...]]:
    """Return the faults of tracks in every copy of GTZAN, by id, in a few words each."""
    faults: defaultdict[str, list[str]] = defaultdict(list)
    for pair in IDENTICAL:
        for track, other in (pair, pair[::-1]):
            label = "" if _genre(track) == _genre(other) else ", which bears another label"
            faults[track].append(f"identical to {other}{label}")
    for genre, pairs in FACTS.data["same_piece"].items():
        for track, other in (pair.split("=") for pair in pairs.split()):
            faults[_id(genre, int(track))].append(f"same piece as {_id(genre, int(other))}")
    for track, fault in FACTS.data["faults"].items():
        faults[track].append(fault)
    lists = filtered_lists()
    for track in {*track_ids()} - {*lists.train, *lists.valid, *lists.test}:
        faults[track].append("left out of the filtered lists")
    return MappingProxyType({track: tuple(faults[track]) for track in sorted(faults)})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a folder is interpreted.

    Attributes
    ----------
    is_gtzan
        Whether it is GTZAN or a part of it.
    home
        The folder that holds the genres' folders, for the user's own genres; None if there are
        several.
    doubt
        Evidence against the verdict, as a clause; empty if there is none.
    """

    is_gtzan: bool
    home: Path | None
    doubt: str = ""

    def notes(self, folder: Path) -> list[Finding]:
        """Return a note about the verdict on a folder if it is in doubt."""
        if not self.doubt:
            return []
        if self.is_gtzan:
            cause, remedy = "GTZAN", "To read it as your own genres, give --layout folder"
        else:
            cause, remedy = "your own genres", "To read only what is GTZAN's, give --layout gtzan"
        return [Finding("noted", folder, f"it is read as {cause}: {self.doubt}", remedy)]


def judge(folder: Path) -> Verdict:
    """Distinguish GTZAN from the user's own genres, which may have some names in common.

    A clip fits if its name is one of GTZAN's 1000 and its folder is that of the genre in the name.
    A folder is GTZAN if it holds a part of a layout and all of these hold:

    - no folder outside GTZAN's genres and layouts holds audio with names other than GTZAN's;
    - no genre's folder holds audio of which nothing fits, as the genre would be lost;
    - no more audio files are foreign than fit. Foreign files have names other than GTZAN's, or are
      in another genre's folder. Further copies and parts of clips, such as ``blues.00000.0.wav``,
      are neither.

    Genres may be spelt as in `genre_of`.
    """
    root = _root(folder)
    if root is None:
        return Verdict(is_gtzan=False, home=folder)
    parents = [path for path in _entries(root) if path.name.casefold() in _CLIP_FOLDERS]
    flat = not parents or any(genre_of(path.name) and path.is_dir() for path in _entries(root))
    fit: Counter[str] = Counter()
    foreign: Counter[str] = Counter()
    others: set[str] = set()
    beside: set[str] = set()
    homes: set[Path] = set()
    files = _listing(folder, {folder, root, *parents}).audio
    for path in files:
        home = next((parent for parent in parents if path.is_relative_to(parent)), None)
        if home is None and flat and path.is_relative_to(root) and path.parent != root:
            home = root
        place = path.relative_to(home).parts[0] if home and path.parent != home else ""
        genre, named = genre_of(place), _named_genre(path.name)
        if place and genre is None:
            others.add(place)
        elif genre and home and path.parent.parent == home and _fits(path, genre):
            fit[genre] += 1
        elif named and genre in (None, named):
            continue  # a copy of a clip elsewhere, or a part of one
        else:
            foreign[genre or ""] += 1
            if home is None and path.parent != folder:
                beside.add(path.relative_to(folder).parts[0])
        homes.add(home or folder)
    emptied = sorted(genre for genre in foreign if genre and not fit[genre])
    fitting, rest = fit.total(), foreign.total()
    own = bool(others or emptied or beside or rest > fitting)
    several = len(homes) > 1 and (homes & {*parents} or (beside and rest <= fitting))
    home = None if several else homes.pop() if len(homes) == 1 else folder
    if others or beside:
        reason = f"{min(others or beside)!r} is not one of GTZAN's genres"
    elif emptied:
        reason = f"no file of {emptied[0]} is one of GTZAN's"
    else:
        reason = f"{rest:,} others are not"
    doubt = (
        f"{fitting:,} of {len(files):,} audio files are GTZAN's by name and folder, but {reason}"
    )
    return Verdict(is_gtzan=not own, home=home, doubt=doubt if own or rest else "")


def _listing(folder: Path, homes: Collection[Path] = ()) -> Listing:
    """List a folder's audio, including links to folders in ``homes`` or named after a genre."""
    listing = list_audio(folder)
    audio = list(listing.audio)
    unused: list[Finding] = []
    for finding in listing.unused:
        link = finding.path
        is_genre = (link.parent in homes or genre_of(link.name)) and link.is_dir()
        if is_genre and link.is_symlink() and not folder.resolve().is_relative_to(link.resolve()):
            linked = list_audio(link)
            audio += linked.audio
            unused += linked.unused
        else:
            unused.append(finding)
    return Listing(tuple(sorted(audio)), tuple(unused))


def survey(folder: Path) -> Survey:
    """Find all table rows, pictures, clips and artists in a folder.

    Parameters
    ----------
    folder
        GTZAN in any layout, or a part of it; it may lie one folder deeper (``Data/``).

    Raises
    ------
    InputError
        If the folder does not exist or does not look like GTZAN, or its table of descriptors is
        unusable.
    """
    if not folder.is_dir():
        cause = "this is a file, not a folder" if folder.exists() else "no such folder"
        raise InputError(folder, cause, "Check the path, or download GTZAN first")
    root = _root(folder)
    if root is None:
        raise InputError(
            folder, "it does not look like GTZAN", f"Give a folder laid out as {FACTS.layout}"
        )
    table = root / TABLE
    rows, row_findings = read_table(table) if table.exists() else ({}, [])
    images, clips, file_findings = _scan_files(root)
    listing = _listing(folder)
    placed = {clip.path for found in clips.values() for clip in found}
    placed |= {finding.path for finding in file_findings}
    unused = [finding for finding in listing.unused if finding.path not in placed]
    remedy = "Move it to its genre's folder, or elsewhere"
    strays = [
        Finding("unlisted", path, "it is in a folder where GTZAN has no clips", remedy)
        for path in listing.audio
        if path not in placed
    ]
    return Survey(
        root=root,
        rows=rows,
        images=images,
        clips=clips,
        artists=_read_artists(root),
        findings=(*row_findings, *file_findings, *strays, *unused),
    )


def read(folder: Path) -> Dataset:
    """Read GTZAN, or any part of it, from a folder.

    A track's audio is the full clip, else the full clip at 16 kHz, else the excerpt. Unusable files
    are among the dataset's ``problems``, and their tracks lack that source. Tracks of unknown
    artists have the group None.

    Parameters
    ----------
    folder
        GTZAN in any layout, or a part of it; it may lie one folder deeper (``Data/``).

    Raises
    ------
    InputError
        If the folder does not exist or holds no track of GTZAN, or its table of descriptors is
        unusable.
    """
    found = survey(folder)
    audio, unusable = _choose_audio(found.clips)
    faults = known_faults()
    tracks = tuple(
        Track(
            id=track,
            genre=_genre(track),
            audio=audio[track].path if track in audio else None,
            audio_variant=audio[track].audio_variant if track in audio else "full",
            image=found.images.get(track),
            descriptors=found.rows.get(track),
            group=found.artists.get(track),
            faults=faults.get(track, ()),
        )
        for track in sorted({*audio, *found.images, *found.rows})
    )
    findings = (*found.findings, *unusable)
    if not tracks:
        raise _no_tracks(found.root, findings)
    present = {track.id for track in tracks}
    lists = filtered_lists()
    return Dataset(
        name="gtzan",
        tracks=tracks,
        lists={
            "filtered": SplitLists(
                train=_restrict(lists.train, present),
                valid=_restrict(lists.valid, present),
                test=_restrict(lists.test, present),
            )
        },
        problems=problems_of(findings),
        notes=_notes(tracks, bool(found.artists)),
        findings=(*findings, *spare_copies(found.clips, audio)),  # these are not problems
        missing_genres=tuple(sorted(_genres_here(found.root) - {track.genre for track in tracks})),
    )


def read_table(path: Path) -> tuple[dict[str, tuple[float, ...]], list[Finding]]:
    """Read the table of descriptors.

    Parameters
    ----------
    path
        ``features_30_sec.csv``.

    Returns
    -------
    rows
        57 finite numbers by track id, in the order of `TABLE_COLUMNS`.
    findings
        Lines that were left out: not of GTZAN, with a label that contradicts the file name, with
        invalid numbers, or several contradictory ones for one track.

    Raises
    ------
    InputError
        If the file cannot be read as a table, or lacks columns.
    """
    rows: dict[str, tuple[float, ...]] = {}
    findings: list[Finding] = []
    disputed: set[str] = set()
    for line, cells in _table_lines(path):
        where = f"line {line} ({cells['filename'] or 'without a file name'})"
        track = track_id(cells["filename"] or "")
        values = _finite(cells[column] for column in TABLE_COLUMNS)
        if track is None:
            cause, remedy = "is not one of GTZAN's 1000 clips", "Correct or delete the line"
            findings.append(Finding("unlisted", path, f"{where} {cause}", remedy))
        elif genre_of(cells["label"] or "") != _genre(track):
            cause, remedy = f"is labelled {cells['label']!r}", "Correct the label or the file name"
            findings.append(Finding("corrupt", path, f"{where} {cause}", remedy, track))
        elif values is None:
            bad = next(column for column in TABLE_COLUMNS if _finite([cells[column]]) is None)
            cause, remedy = f"has no finite number in column {bad}", "Fix or delete the line"
            findings.append(Finding("corrupt", path, f"{where} {cause}", remedy, track))
        elif track in rows:
            disputed |= {track} if rows[track] != values else set()
            cause = "is a further line of the same clip"
            remedy = "Delete all but one; contradictory lines are not used"
            findings.append(Finding("duplicate", path, f"{where} {cause}", remedy, track))
        else:
            rows[track] = values
    return {track: row for track, row in rows.items() if track not in disputed}, findings


def audio_fault(path: Path) -> str | None:
    """Return why an audio file cannot be opened, by its header only; None if it can.

    Parameters
    ----------
    path
        An audio file in any format that libsndfile or FFmpeg reads.
    """
    try:
        return None if length(path) > 0 else "the file holds no samples"
    except InputError as error:
        return error.cause


def _fits(path: Path, genre: str) -> bool:
    track = track_id(path.name)
    return track is not None and _genre(track) == genre


def _named_genre(name: str) -> str | None:
    match = _PART.match(name)
    return genre_of(match[1]) if match else None


def _id(genre: str, number: int) -> str:
    return f"{genre}.{number:05d}"


def _genre(track: str) -> str:
    return track.partition(".")[0]


def _numbers(ranges: str) -> Iterator[int]:
    """Yield the numbers of ranges such as ``"0-2 5"``."""
    for part in ranges.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _restrict(ids: Iterable[str], present: set[str]) -> tuple[str, ...]:
    return tuple(track for track in ids if track in present)


def _entries(folder: Path) -> list[Path]:
    """List a folder, sorted and without hidden entries; nothing if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:  # not a folder, no permission, or a cyclic link
        return []


def _root(folder: Path) -> Path | None:
    """Find the root of a layout: the given folder, or one directly inside it."""
    return next((place for place in (folder, *_entries(folder)) if _begins_here(place)), None)


def _begins_here(folder: Path) -> bool:
    names = {path.name.casefold() for path in _entries(folder)}
    # Folders named after genres are no evidence, as users have them too; GTZAN's file names are.
    return (
        bool(names & {TABLE, SEGMENT_TABLE, *_CLIP_FOLDERS} - {"genres"})
        or any(_holds_clips(path) for path in _clip_folders(folder) if path != folder)
        or _holds_clips(folder)
    )


def _clip_folders(root: Path) -> list[Path]:
    """List the folders that may hold genres' folders: those of the layouts, then the root."""
    named = [path for path in _entries(root) if path.name.casefold() in _CLIP_FOLDERS]
    return [*sorted(named, key=lambda path: _CLIP_FOLDERS.index(path.name.casefold())), root]


def _genre_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in _entries(folder):
        if (genre := genre_of(path.name)) is not None and path.is_dir():
            yield genre, path


def _genres_here(root: Path) -> set[str]:
    return {genre for folder in _clip_folders(root) for genre, _ in _genre_folders(folder)}


def _clips_in(folder: Path) -> list[Path]:
    """List the possible clips and pictures in a genre's folder, by their extensions."""
    paths = _entries(folder)
    return [p for p in paths if (is_audio(p) or p.suffix.lower() == ".png") and p.is_file()]


def _holds_clips(folder: Path) -> bool:
    return any(
        track_id(path.name) is not None
        for _, genre in _genre_folders(folder)
        for path in _clips_in(genre)
    )


def _scan_files(
    root: Path,
) -> tuple[dict[str, Path], dict[str, tuple[GtzanClip, ...]], list[Finding]]:
    """Find pictures and clips by name, in all folders of a layout."""
    images: dict[str, Path] = {}
    clips: defaultdict[str, list[GtzanClip]] = defaultdict(list)
    findings: list[Finding] = []
    for folder in _clip_folders(root):
        audio_variant = _AUDIO_VARIANTS.get(folder.name.casefold(), "full")
        for track, path in _scan_genres(folder, findings):
            if path.suffix.lower() != ".png":
                clips[track].append(GtzanClip(path, audio_variant))
            elif (cause := _image_fault(path)) is not None:
                remedy = "Replace it by the published picture; the track is used without it"
                findings.append(Finding("corrupt", path, cause, remedy, track))
            else:
                images.setdefault(track, path)
    ranks: tuple[AudioVariant, ...] = ("full", "full-16k", "excerpt")
    best_first = {
        track: tuple(
            sorted(
                found, key=lambda clip: (ranks.index(clip.audio_variant), _preference(clip.path))
            )
        )
        for track, found in clips.items()
    }
    return images, best_first, findings


def _scan_genres(folder: Path, findings: list[Finding]) -> Iterator[tuple[str, Path]]:
    """Yield track id and path of each clip and picture; foreign ones are added to the findings.

    Other files (system files, notes) are ignored.
    """
    for genre, place in _genre_folders(folder):
        paths = _clips_in(place)
        if not paths:
            cause, remedy = "the genre's folder holds no clips", "Fill or delete the folder"
            if (fault := next(walk(place, recursive=False)).fault) is not None:
                cause, remedy = fault.cause, fault.remedy
            unreadable = fault is not None
            findings.append(Finding("missing", place, cause, remedy, unreadable=unreadable))
        for path in paths:
            track = track_id(path.name)
            if track is None:
                cause = f"the name is not one of GTZAN's ({genre}.00000 to {genre}.00099)"
                findings.append(Finding("unlisted", path, cause, "Rename or remove the file"))
            elif _genre(track) != genre:
                cause = f"the name says {_genre(track)}, the folder {genre}"
                findings.append(
                    Finding("unlisted", path, cause, "Move the file to its genre's folder", track)
                )
            else:
                yield track, path


def _preference(path: Path) -> int:
    suffix = path.suffix.lower()
    known = AUDIO_SUFFIXES
    return known.index(suffix) if suffix in known else len(known)


def spare_copies(
    clips: Mapping[str, tuple[GtzanClip, ...]], used: Mapping[str, GtzanClip]
) -> Iterator[Finding]:
    """Report the copies of clips beside those in ``used``, by track id."""
    for track, clip in used.items():
        for other in clips[track][clips[track].index(clip) + 1 :]:
            cause = f"{clip.path.name} in {clip.path.parent.parent.name} is used instead"
            remedy = "Nothing to do: the best copy of a clip is used"
            yield Finding("unused", other.path, cause, remedy, track)


def _image_fault(path: Path) -> str | None:
    """Return why a picture is not GTZAN's, by its first 24 bytes; None if it may be."""
    try:
        with path.open("rb") as file:
            header = file.read(24)
    except OSError as error:
        return f"the picture cannot be read ({error.strerror})"
    if len(header) < 24 or not header.startswith(b"\x89PNG\r\n\x1a\n"):
        return "the picture is not a PNG file"
    size = struct.unpack(">II", header[16:])
    if size != IMAGE_SIZE:
        return "the picture has {} x {} pixels instead of {} x {}".format(*size, *IMAGE_SIZE)
    return None


def _choose_audio(
    clips: Mapping[str, tuple[GtzanClip, ...]],
) -> tuple[dict[str, GtzanClip], list[Finding]]:
    """Choose each track's best clip that opens; better ones that do not become findings."""

    def choose(track: str) -> tuple[GtzanClip | None, list[Finding]]:
        unusable: list[Finding] = []
        for clip in clips[track]:
            cause = audio_fault(clip.path)
            if cause is None:
                return clip, unusable
            unusable.append(Finding("corrupt", clip.path, cause, audio_remedy(track), track))
        return None, unusable

    with ThreadPoolExecutor(max_workers=4) as pool:
        choices = dict(zip(clips, pool.map(choose, clips), strict=True))
    chosen = {track: clip for track, (clip, _) in choices.items() if clip is not None}
    return chosen, [finding for _, unusable in choices.values() for finding in unusable]


def audio_remedy(track: str) -> str:
    """Return the remedy for an unusable clip of a track."""
    if track == "jazz.00054":
        return "Nothing to do: this clip is corrupt in the common copy, so it is left out"
    return "Replace the clip from a good copy of GTZAN; until then this file is left out"


def _table_lines(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield line number and cells of each row, after checking the header."""
    remedy = f"Replace it by GTZAN's own {TABLE}, or take it out of the folder"
    wanted = ("filename", *TABLE_COLUMNS, "label")
    table = open_table(path, remedy=remedy, known=wanted.__contains__)
    missing = [column for column in wanted if column not in table.header]
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        raise InputError(path, f"the {columns} {', '.join(missing)} missing", remedy)
    for line, cells in table.rows():
        yield line, dict.fromkeys(wanted) | dict(zip(table.header, cells, strict=False))


def _finite(cells: Iterable[str | None]) -> tuple[float, ...] | None:
    """Return the cells as numbers; None unless all are finite."""
    try:
        values = tuple(float(cell or "") for cell in cells)
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def _read_artists(root: Path) -> dict[str, str]:
    """Read the artist of each track from Sturm's index, if it is there.

    Its lines are ``file ::: artist ::: title``; artist and title may be blank. Collaborations are
    separate groups. `IDENTICAL` tracks always share a group.
    """
    index = next((path for path in (root / INDEX, root / INDEX.name) if path.is_file()), None)
    artists: dict[str, str] = {}
    if index is None:
        return artists
    for line in index.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":::")
        track = track_id(name.strip())
        artist = spelt_alike(rest.partition(":::")[0])
        if track is not None and artist:
            artists[track] = artist
    if artists:  # even if the index lacks one of them
        for pair in IDENTICAL:
            known = next((artists[track] for track in pair if track in artists), f"of {pair[0]}")
            artists.update(dict.fromkeys(pair, known))
    return artists


def _no_tracks(root: Path, findings: tuple[Finding, ...]) -> InputError:
    """Return the error for a folder that looks like GTZAN but yields no track."""
    if findings:
        first = findings[0].error()
        cause = f"no track could be read; the first of {len(findings)} problems: {first}"
        return InputError(root, cause.removesuffix("."), "Get a good copy of GTZAN")
    if (root / SEGMENT_TABLE).exists():
        cause = f"there is {SEGMENT_TABLE}, which is not read, and nothing else of GTZAN's"
        return InputError(root, cause, "Add the clips: segments are computed from them")
    return InputError(
        root, "no track of GTZAN in here", f"Give a folder laid out as {FACTS.layout}"
    )


def _notes(tracks: tuple[Track, ...], has_index: bool) -> tuple[str, ...]:
    """Return the notes that a report on these tracks must include."""
    count = Counter(track.audio_variant for track in tracks if track.audio is not None)
    rows = sum(track.descriptors is not None for track in tracks)
    images = sum(track.image is not None for track in tracks)
    faulty = sum(bool(track.faults) for track in tracks)
    notes = [
        f"GTZAN, {len(tracks)} tracks: {rows} with a table row, {images} with an image, "
        f"{count['full']} with full audio, {count['full-16k']} with full audio at 16 kHz only, "
        f"{count['excerpt']} with an excerpt only.",
        f"{faulty} of these tracks are known to be faulty.",
        f"Data: {cite('tzanetakis2002')}.",
        f"Filtered lists: {cite('kereliuk2015')}.",
    ]
    if has_index:
        known = sum(track.group is not None for track in tracks)
        notes.append(f"Artists are known of {known} tracks, from {cite('sturm2012')}.")
    return tuple(notes)
