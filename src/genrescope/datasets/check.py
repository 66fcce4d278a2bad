"""Check a data set: open, decode and compare all of its files.

`genrescope.datasets.open.open_dataset` reads only names and headers, because it precedes every
run. This reports what is missing, corrupt, duplicate or unused; for a copy of GTZAN also known
faults, foreign files, and the usable part of each filtered list.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

from PIL import Image

from genrescope import audio
from genrescope.datasets.findings import Finding, Kind
from genrescope.datasets.gtzan import (
    IDENTICAL,
    TABLE,
    GtzanClip,
    Survey,
    audio_remedy,
    filtered_lists,
    judge,
    known_faults,
    spare_copies,
    survey,
    track_ids,
)
from genrescope.datasets.layout import Layout
from genrescope.datasets.open import open_dataset
from genrescope.datasets.parquet import unpacked
from genrescope.datasets.registry import reader_of
from genrescope.datasets.track import genre_key, missing_genres_error
from genrescope.errors import InputError
from genrescope.files import sha256
from genrescope.table import open_table
from genrescope.workers import WorkerPool, parallel_map

Progress = Callable[[int, int], None]
"""Called with the number of files checked so far, and the total."""

SHORTEST_CLIP = 25.0
"""Minimum duration of a clip of GTZAN in s; intact ones have 29.9 to 30 s."""

CHECKSUMS = Path("metadata", "gtzan_au_sha256.csv")
"""SHA-256 of the original archive's files (columns ``file`` and ``sha256``); optional."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Number of tracks of a list with each usable source.

    Attributes
    ----------
    tracks
        Tracks on the list, whether or not the folder has them.
    rows, images
        Those with a row in the table, with a picture.
    full, full_16k, excerpts
        Those with the full clip, the full clip at 16 kHz, an excerpt; a track may have several.
    """

    tracks: int
    rows: int
    images: int
    full: int
    full_16k: int
    excerpts: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of a check.

    Attributes
    ----------
    folder
        The root of the layout, or the CSV file.
    tracks
        Ids of the tracks with any source, sorted.
    findings
        All findings, sorted by kind, track and path.
    coverage
        By filtered list: ``train``, ``valid``, ``test``; empty unless it is GTZAN.
    genres
        Usable tracks by genre; empty for GTZAN, whose tracks may lack one source.
    lacks_genre
        Whether a genre has no usable track; unknown for GTZAN.
    """

    folder: Path
    tracks: tuple[str, ...]
    findings: tuple[Finding, ...]
    coverage: Mapping[str, Coverage]
    genres: Mapping[str, int] = field(default_factory=dict)
    lacks_genre: bool = False

    @property
    def counts(self) -> dict[Kind, int]:
        """Number of findings of each kind, including kinds without any."""
        counter = Counter(finding.kind for finding in self.findings)
        return {kind: counter[kind] for kind in get_args(Kind)}


@dataclass(frozen=True, slots=True)
class _Opened:
    """Result of opening one file: a digest of its decoded content, or the fault."""

    track: str
    path: Path
    digest: str | None
    fault: Finding | None


Job = partial[_Opened]
Run = Callable[[list[Job]], list[_Opened]]


def check(
    path: Path,
    *,
    layout: Layout = Layout.AUTO,
    progress: Progress | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Open and compare everything in a data set.

    Parameters
    ----------
    path
        A published data set, complete or not, a folder of genre folders, or a CSV file.
    layout
        See ``open_dataset``.
    progress
        Called after each file.
    workers
        Processes that decode; by default one per core.

    Raises
    ------
    InputError
        If it does not exist, or GTZAN's table of descriptors or the CSV file is unusable.
    """
    run = partial(_run, progress=progress, workers=workers)
    path = path if layout is Layout.FOLDER else unpacked(path)
    if path.is_file() or reader_of(path, layout) is not None:
        return _check_own(path, layout, run)
    verdict = judge(path) if layout is Layout.AUTO else None
    if verdict.is_gtzan if verdict else layout is Layout.GTZAN:
        return _check_gtzan(path, verdict.notes(path) if verdict else [], run)
    return _check_own(path, layout, run)


def _check_own(path: Path, layout: Layout, run: Run) -> CheckReport:
    dataset = open_dataset(path, layout=layout, allow_missing_genres=True)
    remedy = "Replace it by an intact copy or remove it; until then it is left out"
    opened = run(
        [
            partial(_open_clip, track.id, GtzanClip(track.audio, "excerpt"), {}, remedy)
            for track in dataset.tracks
            if track.audio is not None
        ]
    )
    usable = {item.track for item in opened if item.digest is not None}
    left = dataset.with_usable(usable, allow_missing_genres=True)
    counts = Counter(track.genre for track in left.tracks if track.id in usable)
    unknown = {genre_key(f.genre) for f in dataset.findings if f.unreadable and f.genre}
    gone = [
        missing_genres_error(path, [genre])
        for genre in left.missing_genres
        if genre_key(genre) not in unknown
    ]
    findings = (
        *dataset.findings,
        *(
            Finding("faulty", track.audio or path, fault, "It is so in every copy", track.id)
            for track in dataset.tracks
            for fault in track.faults
        ),
        *(item.fault for item in opened if item.fault is not None),
        *(Finding("missing", path, error.cause, error.remedy) for error in gone),
        *_duplicates({}, path, opened),
    )
    return CheckReport(
        folder=path,
        tracks=tuple(track.id for track in dataset.tracks),
        findings=tuple(sorted(findings, key=_rank)),
        coverage={},
        genres=dict(sorted(counts.items())),
        lacks_genre=bool(left.missing_genres),
    )


def _check_gtzan(folder: Path, noted: list[Finding], run: Run) -> CheckReport:
    found = survey(folder)
    checksums, checksum_findings = _read_checksums(found.root / CHECKSUMS)
    opened = run(
        [
            *(
                partial(_open_clip, track, clip, checksums, audio_remedy(track))
                for track, clips in found.clips.items()
                for clip in clips
            ),
            *(partial(_open_image, track, path) for track, path in found.images.items()),
        ]
    )
    usable = {item.path for item in opened if item.digest is not None}
    chosen = {
        track: next(clip for clip in clips if clip.path in usable)
        for track, clips in found.clips.items()
        if any(clip.path in usable for clip in clips)
    }
    findings = (
        *noted,
        *found.findings,
        *checksum_findings,
        *(item.fault for item in opened if item.fault is not None),
        *_missing(found),
        *_duplicates(found.rows, found.root / TABLE, opened),
        *_faulty(found),
        # Another copy that cannot be used is corrupt.
        *(spare for spare in spare_copies(found.clips, chosen) if spare.path in usable),
    )
    return CheckReport(
        folder=found.root,
        tracks=found.tracks,
        findings=tuple(sorted(findings, key=_rank)),
        coverage=_coverage(found, usable),
    )


def _run(
    jobs: list[Job], *, progress: Progress | None = None, workers: int | None = None
) -> list[_Opened]:
    opened: list[_Opened] = []
    with WorkerPool(workers, dict) as pool:  # a decoder may crash
        every = parallel_map(partial(_job, pool), jobs, pool.count, stop=pool.close)
        with closing(every):
            for outcome in every:
                opened.append(outcome)
                if progress is not None:
                    progress(len(opened), len(jobs))
    return opened


def _job(pool: WorkerPool, job: Job) -> _Opened:
    if job.func is not _open_clip:
        return job()
    track, clip, _, remedy = job.args
    try:
        return pool.do_file(_call, clip.path, job)
    except InputError as error:
        fault = Finding("corrupt", clip.path, error.cause, remedy, track)
        return _Opened(track, clip.path, None, fault)


def _rank(finding: Finding) -> tuple[int, str, str]:
    return get_args(Kind).index(finding.kind), finding.track or "", str(finding.path)


def _call(_: object, __: Path, job: Job) -> _Opened:
    return job()


def _open_clip(track: str, clip: GtzanClip, checksums: Mapping[str, str], remedy: str) -> _Opened:
    """Decode a clip and check it."""
    path = clip.path
    try:
        decoded = audio.decode(path)
        expected = checksums.get(path.name)
        altered = expected is not None and sha256(path) != expected
    except InputError as error:
        return _Opened(track, path, None, Finding("corrupt", path, error.cause, remedy, track))
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        cause = f"the file cannot be decoded ({error})"
        return _Opened(track, path, None, Finding("corrupt", path, cause, remedy, track))
    damage = [warning.message for warning in decoded.warnings if warning.damage]
    if damage:
        return _Opened(track, path, None, Finding("corrupt", path, damage[0], remedy, track))
    waveform, sampling_rate = decoded.waveform, decoded.sampling_rate
    seconds = len(waveform) / sampling_rate
    if clip.audio_variant != "excerpt" and seconds < SHORTEST_CLIP:
        cause = f"the clip lasts {seconds:.1f} s instead of 30 s"
        return _Opened(track, path, None, Finding("corrupt", path, cause, remedy, track))
    digest = f"{sampling_rate} Hz {hashlib.sha256(waveform.tobytes()).hexdigest()}"
    fault = None
    if altered:
        cause = "the file differs from the original archive's (SHA-256)"
        fault = Finding("corrupt", path, cause, remedy, track)
    return _Opened(track, path, digest, fault)


def _open_image(track: str, path: Path) -> _Opened:
    """Decode a picture and check it."""
    try:
        with Image.open(path) as image:
            digest = hashlib.sha256(image.convert("RGBA").tobytes()).hexdigest()
    except (OSError, SyntaxError, ValueError) as error:  # Pillow has no error class of its own
        cause = f"the picture cannot be decoded ({error})"
        remedy = "Replace it by the published picture"
        return _Opened(track, path, None, Finding("corrupt", path, cause, remedy, track))
    return _Opened(track, path, digest, None)


def _read_checksums(path: Path) -> tuple[dict[str, str], list[Finding]]:
    """Read the SHA-256 digests by file name; empty without the file."""
    if not path.is_file():
        return {}, []
    remedy = "Replace or remove it"
    try:
        table = open_table(path, remedy=remedy, known={"file", "sha256"}.__contains__)
        name, digest = table.header.index("file"), table.header.index("sha256")
        sums = {row[name]: row[digest].lower() for _, row in table.rows()}
    except (InputError, ValueError, IndexError):
        cause = "the list of checksums cannot be read (columns file and sha256)"
        return {}, [Finding("corrupt", path, cause, remedy)]
    return sums, []


def _missing(found: Survey) -> Iterator[Finding]:
    """Report missing sources; a source that is missing for all tracks gives one finding."""
    table, images = found.root / TABLE, found.root / "images_original"
    spoilt = {(finding.track, finding.path.suffix.lower()) for finding in found.findings}
    for have, path, what, suffix in (
        (found.rows, table, "row in the table", ".csv"),
        (found.images, images, "picture", ".png"),
        (found.clips, found.root, "audio", ""),
    ):
        if not have:
            remedy = "Needed only by recipes that use it; the other sources work without"
            yield Finding("missing", path, f"no track has any {what}", remedy)
            continue
        for track in track_ids():
            if track not in have and (track, suffix) not in spoilt:
                yield Finding("missing", path, f"no {what}", _missing_remedy(track, what), track)


def _missing_remedy(track: str, what: str) -> str:
    if track == "jazz.00054" and what == "picture":
        return "Nothing to do: none was ever published for this track"
    return "Add it from a complete copy of GTZAN, or do without this track"


def _duplicates(
    rows: Mapping[str, Hashable], table: Path, opened: Iterable[_Opened]
) -> Iterator[Finding]:
    """Report tracks with the same row, samples or picture, one finding for each set."""
    same: defaultdict[tuple[str, Hashable], dict[str, Path]] = defaultdict(dict)
    for track, row in rows.items():
        same["row in the table", row].setdefault(track, table)
    for item in opened:
        if item.digest is not None:
            what = "picture" if item.path.suffix.lower() == ".png" else "samples"
            same[what, item.digest].setdefault(item.track, item.path)
    evidence: defaultdict[tuple[str, ...], list[tuple[str, Path]]] = defaultdict(list)
    for (what, _), places in same.items():
        if len(places) > 1:
            first, *others = sorted(places)
            evidence[first, *others].append((what, places[first]))
    for (first, *others), reasons in evidence.items():
        what = " and ".join(what for what, _ in reasons)
        cause = f"{first} has the same {what} as {', '.join(others)}"
        yield Finding("duplicate", reasons[0][1], cause, _same_remedy((first, *others)), first)


def _same_remedy(tracks: tuple[str, ...]) -> str:
    if tracks in IDENTICAL:
        return "It is so in every copy of GTZAN; the filtered lists keep one of the two"
    return "One of the files is not what its name says: replace it by the right one"


def _faulty(found: Survey) -> Iterator[Finding]:
    """Report the tracks that are known to be faulty."""
    faults = known_faults()
    lists = filtered_lists()
    listed = {*lists.train, *lists.valid, *lists.test}
    for track in found.tracks:
        if track in faults:
            cause = f"{track}: {', '.join(faults[track])}"
            if track == "jazz.00054":
                remedy = "Nothing to do: what cannot be used of this track is left out"
            elif track in listed:
                remedy = "It is so in every copy of GTZAN; of the two the filtered lists keep this"
            else:
                remedy = "It is so in every copy of GTZAN; evaluate on the filtered lists"
            yield Finding("faulty", _place(found, track), cause, remedy, track)


def _place(found: Survey, track: str) -> Path:
    """Return the path of a track: its best clip, else its picture, else the table."""
    if track in found.clips:
        return found.clips[track][0].path
    return found.images.get(track, found.root / TABLE)


def _coverage(found: Survey, usable: Collection[Path]) -> dict[str, Coverage]:
    """Count the tracks with each usable source, for each filtered list."""
    audio_variants = {
        track: {clip.audio_variant for clip in clips if clip.path in usable}
        for track, clips in found.clips.items()
    }
    lists = filtered_lists()
    return {
        name: Coverage(
            tracks=len(tracks),
            rows=sum(track in found.rows for track in tracks),
            images=sum(found.images.get(track) in usable for track in tracks),
            full=sum("full" in audio_variants.get(track, ()) for track in tracks),
            full_16k=sum("full-16k" in audio_variants.get(track, ()) for track in tracks),
            excerpts=sum("excerpt" in audio_variants.get(track, ()) for track in tracks),
        )
        for name, tracks in (("train", lists.train), ("valid", lists.valid), ("test", lists.test))
    }
