"""Classify transformed clips: every transform of every track, by the models that it tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genrescope import __version__
from genrescope.audio import decode, is_silent
from genrescope.classifier import ONNX, Classifier
from genrescope.datasets.track import Track
from genrescope.errors import InputError
from genrescope.files import sha256
from genrescope.representations.representation import Array, Representation
from genrescope.robustness.transforms import UNCHANGED, Transform
from genrescope.workers import WorkerPool, parallel_map

_VERSION = f"genrescope {__version__}, transforms 1"  # raise it when a transform changes
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
    """The most likely genre of a transformed clip by a model.

    Also where the model would answer that it is none of its genres: every track is one of them, and
    so figures of models with and without such answers compare.
    """

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
        File that keeps what is done: a later call asks the same model about the same version of the
        same file no more.

    Raises
    ------
    GenrescopeError
        If the worker processes cannot be started.
    """
    asked = {track.id: [m for m in models if track.id in m.tracks] for track in tracks}
    # Tracks in random order: so what is done shows how long the rest will take.
    mixed = [tracks[i] for i in np.random.default_rng(0).permutation(len(tracks))]
    jobs = [
        (track, transform)
        for track in mixed
        for transform in (UNCHANGED, *transforms)
        if asked[track.id]
    ]
    problems: dict[str, InputError] = {}
    with closing(_Kept(resume)) as kept, WorkerPool(workers, _prepare) as pool:
        digests = {model.folder: sha256(model.folder / ONNX) for model in models}

        def names(job: tuple[Track, Transform]) -> list[Name]:
            track, transform = job
            size = track.audio.stat().st_size if track.audio is not None else 0
            own = asked[track.id]
            return [(digests[m.folder], track.id, size, transform.name) for m in own]

        todo = [job for job in jobs if not kept.genres.keys() >= {*names(job)}]
        if todo:
            pool.start_one()  # a failure here is no file's fault

        def classify(job: tuple[Track, Transform]) -> dict[Name, str] | InputError:
            track, transform = job
            assert track.audio is not None  # noqa: S101  the models' tracks have audio
            folders = {
                name: model.folder
                for name, model in zip(names(job), asked[track.id], strict=True)
                if name not in kept.genres
            }
            try:
                given = list(folders.values()), transform, track.id
                genres = pool.do_file(_classify, track.audio, *given)
            except InputError as error:
                return error
            return dict(zip(folders, genres, strict=True))

        with closing(parallel_map(classify, todo, pool.count, stop=pool.close)) as found:
            for done, (job, genres) in enumerate(
                zip(todo, found, strict=True), start=1 + len(jobs) - len(todo)
            ):
                if isinstance(genres, InputError):
                    problems.setdefault(job[0].id, genres)
                else:
                    kept.add(genres)
                if progress:
                    progress(done, len(jobs))
        # A track counts with all of its versions, or not at all.
        answers = [
            Answer(model.name, model.protocol, job[0].id, job[0].genre, job[1].name, genre)
            for job in sorted(jobs, key=lambda job: job[0].id)
            if job[0].id not in problems
            for name, model in zip(names(job), asked[job[0].id], strict=True)
            if (genre := kept.genres[name])
        ]
    return Answers(tuple(models), tuple(transforms), tuple(answers), tuple(problems.values()))


Name = tuple[str, str, int, str]
"""Of an answer: digest of the model, track, size of its file in bytes, transform."""


class _Kept:
    """The genres by name, and a file of them: the version, then a line for each.

    The genre is empty where the transform does not apply.
    """

    def __init__(self, path: Path | None) -> None:
        self.genres: dict[Name, str] = {}
        self._file = None
        if path is None:
            return
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines[1:] if lines[:1] == [_VERSION] else ():
            try:
                *name, genre = json.loads(line)
            except ValueError:  # cut off by a kill
                break
            self.genres[*name,] = genre
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._file.write(f"{_VERSION}\n")
        self._write(self.genres)

    def add(self, genres: dict[Name, str]) -> None:
        """Keep the genres of a clip."""
        self.genres |= genres
        self._write(genres)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, genres: dict[Name, str]) -> None:
        if self._file is not None:
            self._file.writelines(f"{json.dumps([*name, genres[name]])}\n" for name in genres)
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
    # In a worker: the genre by each model, empty if the transform does not apply to the file.
    clip = decode(path, channel=transform.channel)
    waveform, rate = clip.waveform, clip.sampling_rate
    if is_silent(waveform) and transform == UNCHANGED:
        raise InputError(path, "it is silent", "Leave the file out")
    is_mono = transform.channel is not None and clip.channels == 1
    if is_mono or rate < transform.min_rate or len(waveform) < transform.min_s * rate:
        return [""] * len(folders)
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
