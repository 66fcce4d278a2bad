"""Classify transformed clips: every transform of every track, by the models that it tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from genrescope import __version__
from genrescope.audio import decode, is_silent
from genrescope.classifier import ONNX, Classifier
from genrescope.datasets.track import Track
from genrescope.errors import InputError
from genrescope.reading import sha256, unreadable
from genrescope.representations.representation import Array, Representation
from genrescope.robustness.transforms import UNCHANGED, Transform
from genrescope.workers import WorkerPool, parallel_map

_REMEDY = "Use a longer clip, or leave the file out"


@dataclass(frozen=True)
class FoldModel:
    """A model and the tracks that it is tested on.

    Attributes
    ----------
    name
        Of the recipe, or as the user gave it; the folds of a protocol share it.
    protocol
        Whose test tracks these are; empty for all tracks.
    folder
        The model folder.
    tracks
        Ids of the test tracks with audio that the model can use.
    left_out
        Number of its other test tracks.
    """

    name: str
    protocol: str
    folder: Path
    tracks: frozenset[str]
    left_out: int


@dataclass(frozen=True)
class Answer:
    """The genre that a model predicts for a transformed clip."""

    model: str
    protocol: str
    track: str
    genre: str
    transform: str
    predicted: str


@dataclass(frozen=True)
class Answers:
    """The answers of all models.

    Attributes
    ----------
    models
        By which they were given.
    transforms
        That were applied, beside ``UNCHANGED``.
    answers
        By track, transform and model. A transform that does not apply to a clip has none.
    problems
        Files of which a version could not be classified; they are left out.
    """

    models: tuple[FoldModel, ...]
    transforms: tuple[Transform, ...]
    answers: tuple[Answer, ...]
    problems: tuple[InputError, ...]


def usable_audio(
    representation: Representation, tracks: Sequence[Track], ids: Collection[str]
) -> tuple[frozenset[str], int]:
    """Return which of these tracks have audio that a representation takes; and how many do not."""
    asked = [track for track in tracks if track.id in ids]
    variants = representation.audio_variants
    fit = {t.id for t in asked if t.audio is not None and t.audio_variant in variants}
    return frozenset(fit), len(asked) - len(fit)


def measure(
    models: Sequence[FoldModel],
    tracks: Sequence[Track],
    transforms: Sequence[Transform],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    resume: Path | None = None,
) -> Answers:
    """Classify every version of every track in parallel.

    A clip is decoded as it is and transformed, then represented once for all models with the same
    representation: descriptors, pictures and embeddings are all computed from the transformed clip.

    Parameters
    ----------
    models
        Each is asked about its own tracks.
    tracks
        Among them those of the models.
    transforms
        To apply, each to the clip as it is.
    workers
        Number of processes; by default one per core.
    progress
        Called with the number of clips that are done, and their total.
    resume
        File that keeps what is done; a call with the same models, tracks and transforms resumes it.

    Raises
    ------
    GenrescopeError
        If the worker processes cannot be started.
    """
    asked = {track.id: [m for m in models if track.id in m.tracks] for track in tracks}
    jobs = [
        (track, transform)
        for track in tracks
        for transform in (UNCHANGED, *transforms)
        if asked[track.id]
    ]
    kept = _Kept(resume, _key(models, tracks, transforms))
    todo = [job for job in jobs if _name(job) not in kept.genres]
    problems: dict[str, InputError] = {}
    with closing(kept), WorkerPool(workers, _prepare) as pool:
        if todo:
            pool.start_one()  # a failure here is no file's fault

        def classify(job: tuple[Track, Transform]) -> list[str] | InputError:
            track, transform = job
            folders = [model.folder for model in asked[track.id]]
            assert track.audio is not None  # noqa: S101  the models' tracks have audio
            try:
                return pool.do_file(_classify, track.audio, folders, transform, track.id)
            except InputError as error:
                return error
            except OSError as error:
                return unreadable(track.audio, error)

        with closing(parallel_map(classify, todo, pool.count, stop=pool.close)) as found:
            for done, (job, genres) in enumerate(
                zip(todo, found, strict=True), start=1 + len(jobs) - len(todo)
            ):
                if isinstance(genres, InputError):
                    problems.setdefault(job[0].id, genres)
                else:
                    kept.add(_name(job), genres)
                if progress:
                    progress(done, len(jobs))
    # A track counts with all of its versions, or not at all.
    answers = tuple(
        Answer(model.name, model.protocol, track.id, track.genre, transform.name, genre)
        for track, transform in jobs
        if track.id not in problems
        for model, genre in zip(
            asked[track.id], kept.genres[_name((track, transform))], strict=False
        )
    )
    return Answers(tuple(models), tuple(transforms), answers, tuple(problems.values()))


def _name(job: tuple[Track, Transform]) -> tuple[str, str]:
    return job[0].id, job[1].name


def _key(
    models: Sequence[FoldModel], tracks: Sequence[Track], transforms: Sequence[Transform]
) -> str:
    of_models = [(m.name, m.protocol, sha256(m.folder / ONNX), sorted(m.tracks)) for m in models]
    used = frozenset[str]().union(*(model.tracks for model in models))
    sizes = [(t.id, t.audio.stat().st_size) for t in tracks if t.id in used and t.audio]
    of_transforms = [(transform.name, transform.about) for transform in transforms]
    content = repr((__version__, of_models, sizes, of_transforms))
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


class _Kept:
    """The genres by (track, transform), and a file of them: its key, then a line for each."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.genres: dict[tuple[str, str], list[str]] = {}
        self._file = None
        if path is None:
            return
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines[1:] if lines[:1] == [key] else ():
            try:
                track, transform, genres = json.loads(line)
            except ValueError:  # cut off by a kill
                break
            self.genres[track, transform] = genres
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._file.write(f"{key}\n")
        for name, genres in self.genres.items():
            self._write(name, genres)

    def add(self, name: tuple[str, str], genres: list[str]) -> None:
        """Keep the genres of a clip."""
        self.genres[name] = genres
        self._write(name, genres)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, name: tuple[str, str], genres: list[str]) -> None:
        if self._file is not None:
            self._file.write(json.dumps([*name, genres]) + "\n")
            self._file.flush()


def _prepare() -> dict[Path, Classifier]:
    # One process per core is faster than several that each use every core.
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  comes with scikit-learn

    threadpool_limits(1)
    return {}


def _classify(
    loaded: dict[Path, Classifier],
    path: Path,
    folders: Sequence[Path],
    transform: Transform,
    track: str,
) -> list[str]:
    # In a worker: the genre by each model; none if the transform does not apply to the file.
    clip = decode(path, channel=transform.channel)
    waveform, rate = clip.waveform, clip.sampling_rate
    if is_silent(waveform) and transform == UNCHANGED:
        raise InputError(path, "it is silent", "Leave the file out")
    is_mono = transform.channel is not None and clip.channels == 1
    if is_mono or rate < transform.min_rate or len(waveform) < transform.min_s * rate:
        return []
    arrays: dict[str, Array] = {}
    genres = []
    try:
        changed = transform.apply(waveform, rate, transform.generator(track))
        for folder in folders:
            if folder not in loaded:
                loaded[folder] = Classifier(folder, threads=1)
            model = loaded[folder]
            key = model.representation.key
            if key not in arrays:
                arrays[key] = model.representation.analyse(changed, rate).arrays
            logits = model.logits(arrays[key].mean(axis=0, keepdims=True))
            genres.append(model.genres[logits[0].argmax()])
    except ValueError as error:
        raise InputError(path, f"{transform.name}: {error}", _REMEDY) from error
    return genres
