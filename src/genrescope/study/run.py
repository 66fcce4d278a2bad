"""Run a study: represent the tracks, then fit and test every recipe × protocol × seed.

Finished work is kept under ``<out>/runs``; running the same study again resumes it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

from genrescope.classifier import CONFIG
from genrescope.classifier.folder import make_folder_representation, read_config
from genrescope.datasets.splits import SEGMENTS, Split, get_protocol, segment_id, share_of
from genrescope.datasets.track import Dataset
from genrescope.environment import configure
from genrescope.errors import GenrescopeError, InputError
from genrescope.hub import WeightsNotAvailableError, resolve_weights
from genrescope.models.classical import ESTIMATOR_VERSIONS
from genrescope.representations.store import Collection, Store
from genrescope.representations.transform import AudioTransform, get_transforms
from genrescope.robustness.measure import Answers, FoldModel, measure, usable_audio
from genrescope.robustness.results import summarise, write_robustness
from genrescope.robustness.transforms import find_transforms
from genrescope.study.cell import (
    FOLD,
    PREDICTIONS,
    RESULT,
    CellTask,
    read_other,
    run_cell,
    slug,
    usable,
)
from genrescope.study.config import StudyConfig
from genrescope.study.ensemble import ensemble_task, run_ensemble
from genrescope.study.results import (
    Cell,
    ResultRow,
    Unavailable,
    read_tested,
    write_csv,
    write_json,
)
from genrescope.system import used_memory
from genrescope.training.fit import micro_batch_here
from genrescope.training.loggers import read_curves
from genrescope.training.recipe import Component, Ensemble, Recipe
from genrescope.workers import end_with_parent

NO_WEIGHTS = "weights not available"
NO_TRACKS = "no usable tracks"
NO_SPLIT = "protocol not possible"
NO_MEMBERS = "not possible"
SKIPPED = "left out"
SKIP_REASON = (
    "The study's file skips it here, where it takes long or has too few test tracks. Run it with "
    "--recipes and --protocols"
)


class Listener(Protocol):
    """Receives a study's progress; ``genrescope.cli.progress`` has one with bars."""

    def note(self, text: str) -> None:
        """Show a message."""

    def representing(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` arrays of a representation are computed."""

    def planned(self, total: int, done: int) -> None:
        """``done`` of ``total`` fits were done before."""

    def epoch(self, key: str, row: dict[str, Any]) -> None:
        """A fit is at ``row["step"]`` of ``row["steps"]`` epochs, or encodes its clips."""

    def finished(self, key: str, row: ResultRow) -> None:
        """A fit is done and tested."""


@dataclass(frozen=True)
class Options:
    """How to run a study. Only the trainer's flags can change its figures.

    Attributes
    ----------
    jobs
        Fits in parallel; None for one per core on a CPU and one elsewhere.
    store
        Folder of representations; None for the user's cache.
    strict
        Fail on the first file that cannot be used, instead of leaving it out.
    allow_damaged
        Use tracks of which a part is missing, instead of leaving them out.
    allow_missing_genres
        Continue without genres that have no usable track.
    download
        Whether weights may be downloaded from the Hugging Face hub.
    robustness
        Whether to measure how the answers change under transforms of the audio; see
        ``genrescope.robustness``.
    trainer_flags
        For ``lightning.Trainer``: accelerator, devices, strategy, num_nodes.
    """

    jobs: int | None = None
    store: Path | None = None
    strict: bool = False
    allow_damaged: bool = False
    allow_missing_genres: bool = False
    download: bool = True
    robustness: bool = False
    trainer_flags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The results of a study.

    Attributes
    ----------
    cells
        In the order of protocols, then recipes.
    learning
        Cells fitted on a fraction of the training tracks, smallest first.
    audio
        Ids of the tracks that have audio.
    robustness
        Answers for transformed audio of the first seed's models; None if they were not asked for.
    used
        Per recipe: usable tracks by genre.
    sources
        Per recipe: number of arrays by kind of source (table, picture, audio).
    problems
        Files that were left out.
    """

    config: StudyConfig
    dataset: Dataset
    cells: list[Cell]
    unavailable: list[Unavailable]
    used: dict[str, dict[str, int]]
    sources: dict[str, dict[str, int]]
    problems: list[InputError]
    learning: list[Cell] = field(default_factory=list)
    audio: frozenset[str] = frozenset()
    robustness: Answers | None = None

    def of(self, protocol: str) -> list[Cell]:
        """Give the cells of a protocol."""
        return [cell for cell in self.cells if cell.protocol == protocol]

    def mark_of(self, recipe: str, protocol: str) -> str:
        """Give the reason, in a few words, why a recipe was not run; empty if it was."""
        marks = (
            entry.mark
            for entry in self.unavailable
            if entry.recipe in (recipe, "") and entry.protocol in (protocol, None)
        )
        return next(marks, "")


def run_study(
    config: StudyConfig, dataset: Dataset, out: Path, options: Options, listener: Listener
) -> Study:
    """Run what is not done of a study, and write ``results.csv`` and ``results.json``.

    Parameters
    ----------
    config
        What to compare.
    dataset
        The tracks.
    out
        The report's folder; need not exist.
    options
        See ``Options``.
    listener
        Receives progress.

    Returns
    -------
    study
        All results, including those of earlier runs.

    Raises
    ------
    GenrescopeError
        If nothing can be run; with ``strict``, if anything cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"it cannot be written ({error})", "Give another --out") from error
    dataset = _of_variants(dataset, config)
    _check_strict(options.strict, list(dataset.problems))
    unavailable: list[Unavailable] = []
    ready = _with_weights(config, options, unavailable, listener)
    collections, problems = _represent(ready, dataset, options, listener)
    splits = _splits(config, dataset, unavailable)
    with tempfile.TemporaryDirectory(prefix="genrescope-") as scratch:
        tasks = _tasks(
            config, dataset, out, options, ready, collections, splits, Path(scratch), unavailable
        )
        if options.strict and unavailable:
            first = unavailable[0]
            raise GenrescopeError(f"{first.recipe or first.protocol}: {first.reason}")
        todo = [task for task in tasks if _done_row(task) is None]
        listener.planned(len(tasks), len(tasks) - len(todo))
        _check_memory(todo)
        _run(todo, options, listener)
        together = _run_ensembles(config, tasks, unavailable)
    robustness = (
        _robustness([*tasks, *together], dataset, out, options, listener)
        if options.robustness
        else None
    )
    used = {recipe: _used(dataset, c.ids) for recipe, c in collections.items()}
    sources = {recipe: c.sources for recipe, c in collections.items()}
    for task in together:
        used[task.recipe.name], sources[task.recipe.name] = _used(dataset, task.ids), {}
    shares = (*sorted(config.train_shares), 1.0)
    cells = {share: _gather(config, [*tasks, *together], share) for share in shares}
    study = Study(
        config=config,
        dataset=dataset,
        cells=cells.pop(1.0),
        unavailable=unavailable,
        used=used,
        sources=sources,
        problems=[*dataset.problems, *problems],
        learning=[cell for found in cells.values() for cell in found],
        audio=frozenset(track.id for track in dataset.tracks if track.audio),
        robustness=robustness,
    )
    _write(study, out)
    return study


def _of_variants(dataset: Dataset, config: StudyConfig) -> Dataset:
    if config.audio_variants is None:
        return dataset
    variants = " or ".join(config.audio_variants)
    tracks = tuple(
        t for t in dataset.tracks if t.audio and t.audio_variant in config.audio_variants
    )
    if not tracks:
        raise GenrescopeError(f"No track has audio of variant {variants}.")
    note = f"Only the {len(tracks)} tracks with audio of variant {variants} are used."
    return replace(dataset, tracks=tracks, notes=(*dataset.notes, note))


def _check_strict(strict: bool, problems: list[InputError]) -> None:
    if strict and problems:
        more = f" ({len(problems) - 1} more such files)" if len(problems) > 1 else ""
        raise GenrescopeError(f"{problems[0]}{more}")


def _with_weights(
    config: StudyConfig, options: Options, unavailable: list[Unavailable], listener: Listener
) -> list[Recipe]:
    ready: list[Recipe] = []
    for recipe in config.recipes:
        weights = recipe.model.parameters.get("weights")
        if weights is not None and options.download:
            listener.note(f"Looking for {weights} (this machine first, then the Hugging Face hub).")
        try:
            recipe.make_representation()  # may need a pretrained network
            if weights is None:
                ready.append(recipe)
                continue
            folder = resolve_weights(weights, download=options.download)
        except WeightsNotAvailableError as error:
            unavailable.append(_lack(recipe, None, NO_WEIGHTS, str(error)))
            listener.note(f"{recipe.name}: {NO_WEIGHTS}. {error}")
            continue
        settings = {**recipe.model.parameters, "weights": str(folder)}
        model = Component.model_validate({"name": recipe.model.name, **settings})
        ready.append(recipe.model_copy(update={"model": model}))
    return ready


def _represent(
    recipes: list[Recipe], dataset: Dataset, options: Options, listener: Listener
) -> tuple[dict[str, Collection], list[InputError]]:
    store = Store(options.store, allow_damaged=options.allow_damaged)
    by_key: dict[tuple[str, tuple[AudioTransform, ...]], Collection] = {}
    for recipe in recipes:
        representation = recipe.make_representation()
        if (key := _input_key(recipe)) in by_key:
            continue

        def progress(done: int, total: int, name: str = representation.name) -> None:
            listener.representing(name, done, total)

        collection = store.collect(
            representation,
            dataset.tracks,
            transforms=get_transforms(recipe.augmentations),
            workers=options.jobs,
            progress=progress,
        )
        _check_strict(options.strict, list(collection.problems))
        # Genres without a suitable source for this recipe are not an error.
        fit = tuple(t for t in dataset.tracks if representation.source(t) is not None)
        with_usable = replace(dataset, tracks=fit).with_usable
        with_usable(collection.ids, allow_missing_genres=options.allow_missing_genres)
        by_key[key] = collection
    problems = {str(p): p for collection in by_key.values() for p in collection.problems}
    found = {recipe.name: by_key[_input_key(recipe)] for recipe in recipes}
    return found, list(problems.values())


def _input_key(recipe: Recipe) -> tuple[str, tuple[AudioTransform, ...]]:
    return recipe.make_representation().key, get_transforms(recipe.augmentations)


Splits = dict[tuple[str, int, float], tuple[Split, ...]]
"""By protocol, seed and fraction of the training tracks."""


def _splits(config: StudyConfig, dataset: Dataset, unavailable: list[Unavailable]) -> Splits:
    splits: Splits = {}
    genre_of = {track.id: track.genre for track in dataset.tracks}
    for name in config.protocols:
        # Segments leak, so that a learning curve means nothing there.
        first = name == config.protocols[0] and not get_protocol(name).of_segments
        shares = config.train_shares if first else ()
        try:
            for seed in range(config.seeds):
                whole = tuple(get_protocol(name).splits(dataset, seed))
                splits[name, seed, 1.0] = whole
                for share in shares:
                    some = tuple(share_of(split, genre_of, share, seed) for split in whole)
                    splits[name, seed, share] = some
        except GenrescopeError as error:
            unavailable.append(
                Unavailable(recipe="", protocol=name, mark=NO_SPLIT, reason=str(error))
            )
    if not splits:
        raise GenrescopeError(unavailable[-1].reason)
    return splits


def _tasks(
    config: StudyConfig,
    dataset: Dataset,
    out: Path,
    options: Options,
    recipes: list[Recipe],
    collections: dict[str, Collection],
    splits: Splits,
    scratch: Path,
    unavailable: list[Unavailable],
) -> list[CellTask]:
    genre_of = {track.id: track.genre for track in dataset.tracks}
    originals = {recipe.name: recipe for recipe in config.recipes}
    for name, protocols in config.skip.items():
        skipped = [protocol for protocol in protocols if protocol in config.protocols]
        unavailable += [_lack(originals[name], p, SKIPPED, SKIP_REASON) for p in skipped]
    tasks: list[CellTask] = []
    files: dict[int, Path] = {}
    for recipe in recipes:
        collection = collections[recipe.name]
        representation = recipe.make_representation()
        if id(collection) not in files:  # recipes with the same input share a file
            files[id(collection)] = scratch / f"{len(files)}.npy"
            np.save(files[id(collection)], collection.packed, allow_pickle=False)
        for (protocol, seed, share), parts in splits.items():
            if recipe.name in config.skip and (share < 1 or protocol in config.skip[recipe.name]):
                continue
            ids = collection.ids
            labels = tuple(dataset.genres.index(genre_of[i]) for i in ids)
            groups = dataset.group_numbers(ids)
            if single := get_protocol(protocol).of_segments:
                if not representation.segmented:
                    continue  # its input is whole tracks
                if recipe.augmentations or representation.shape[0] != SEGMENTS:
                    cause = f"{protocol} takes {SEGMENTS} segments per track, not augmented"
                    if seed == 0:
                        unavailable.append(_lack(recipe, protocol, NO_SPLIT, cause))
                    continue
                ids = tuple(segment_id(i, n) for i in ids for n in range(SEGMENTS))
                labels, groups = (
                    tuple(number for number in numbers for _ in range(SEGMENTS))
                    for numbers in (labels, groups)
                )
            if (reason := usable(parts, ids, labels)) is not None:
                if not any(u.recipe == recipe.name and u.protocol == protocol for u in unavailable):
                    unavailable.append(_lack(recipe, protocol, NO_TRACKS, reason))
                continue
            original = originals[recipe.name]
            percent = "" if share == 1 else f"-{share * 100:g}-percent"
            folder = out / "runs" / f"{slug(recipe.name)}-{original.hash}"
            folder = folder / f"{slug(protocol)}{percent}"
            # The recipe's hash contains the representation's name, but not its version.
            data = f"{dataset.checksum}{collection.checksum}{parts!r}{_input_key(recipe)}"
            data += str(ESTIMATOR_VERSIONS.get(recipe.model.name, ""))
            kept = seed == 0 and share == 1 and not single
            tasks.append(
                CellTask(
                    key=f"{recipe.name} · {protocol}{percent} · seed {seed}",
                    recipe=recipe,
                    protocol=protocol,
                    seed=seed,
                    splits=parts,
                    packed=files[id(collection)],
                    ids=ids,
                    labels=labels,
                    groups=groups,
                    genres=dataset.genres,
                    dataset=dataset.name,
                    recipe_hash=original.hash,
                    data_checksum=hashlib.sha256(data.encode()).hexdigest()[:16],
                    folder=folder / f"seed-{seed}",
                    model_folder=(
                        out / "models" / f"{slug(recipe.name)}-{slug(protocol)}" if kept else None
                    ),
                    threads=1 if recipe.parallel else os.cpu_count() or 1,
                    train_share=share,
                    single_segments=single,
                    keep_models=options.robustness and kept,
                    trainer_flags={"accelerator": "cpu", **options.trainer_flags},
                )
            )
    return tasks


def _lack(recipe: Recipe | Ensemble, protocol: str | None, mark: str, reason: str) -> Unavailable:
    return Unavailable(recipe=recipe.name, protocol=protocol, mark=mark, reason=reason)


def _run_ensembles(
    config: StudyConfig, tasks: list[CellTask], unavailable: list[Unavailable]
) -> list[CellTask]:
    # Fast enough to repeat each time from the members' saved folds.
    of = {(t.recipe.name, t.protocol, t.seed, t.train_share): t for t in tasks}
    made: list[CellTask] = []
    for ensemble in config.ensembles:
        for protocol, seed, share in dict.fromkeys(key[1:] for key in of):
            members = [of.get((name, protocol, seed, share)) for name in ensemble.of]
            if get_protocol(protocol).of_segments:
                continue
            present = [member for member in members if member is not None]
            reason: str | None
            if len(present) < len(members):
                missing = [n for n, m in zip(ensemble.of, members, strict=True) if m is None]
                reason = f"{', '.join(missing)} could not be run"
            else:
                task = ensemble_task(ensemble, present)
                if (reason := run_ensemble(ensemble, task, present)) is None:
                    made.append(task)
            known = {(u.recipe, u.protocol) for u in unavailable}
            if reason is not None and (ensemble.name, protocol) not in known:
                unavailable.append(_lack(ensemble, protocol, NO_MEMBERS, reason))
    return made


def _robustness(
    tasks: list[CellTask], dataset: Dataset, out: Path, options: Options, listener: Listener
) -> Answers:
    # Each fold's model on that fold's test tracks. Seeds other than the first have no models left.
    models: list[FoldModel] = []
    for task in tasks:
        usable = set(task.ids)
        for number, folder in task.kept_models.items() if task.keep_models else ():
            test = usable.intersection(task.splits[number].test)
            representation = make_folder_representation(folder, read_config(folder / CONFIG))
            audio = usable_audio(representation, dataset.tracks, test)
            models.append(FoldModel(task.recipe.name, task.protocol, folder, *audio))
    return measure(
        models,
        dataset.tracks,
        find_transforms(None),
        workers=options.jobs,
        progress=lambda done, total: listener.representing("transformed clips", done, total),
        resume=out / "runs" / "robustness.jsonl",
    )


def _done_row(task: CellTask) -> ResultRow | None:
    path = task.folder / RESULT
    try:
        row = ResultRow.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    kept = all(folder.is_dir() for folder in task.kept_models.values())
    return row if _belongs(row, task) and kept else None


def _belongs(row: ResultRow, task: CellTask) -> bool:
    return (row.recipe_hash, row.data_checksum) == (task.recipe_hash, task.data_checksum)


def _check_memory(tasks: list[CellTask]) -> None:
    # Before fits that take hours, not when the turn of an encoder comes.
    for task in {task.recipe.name: task for task in tasks if task.recipe.has_encoder}.values():
        shape = task.recipe.make_representation().shape
        micro_batch_here(task.recipe, shape, task.trainer_flags)


def _run(tasks: list[CellTask], options: Options, listener: Listener) -> None:
    alone = [task for task in tasks if not task.recipe.parallel]
    for batch, jobs in (([t for t in tasks if t not in alone], options.jobs), (alone, 1)):
        if batch:
            on_cpu = batch[0].trainer_flags["accelerator"] == "cpu"
            parallel = jobs or (os.cpu_count() or 1 if on_cpu else 1)
            _run_batch(batch, min(parallel, len(batch)), listener)


def _run_batch(tasks: list[CellTask], jobs: int, listener: Listener) -> None:
    context = worker_context()
    events = context.SimpleQueue()
    with _workers(jobs, context, events) as pool:
        pending: dict[Future[ResultRow], CellTask] = {}
        largest = 0  # bytes that a process has held
        for task in tasks:
            _clear_stale(task)
            pending[pool.submit(_in_worker, task)] = task
        while pending:
            done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            _drain(events, listener)
            largest = max(largest, *map(used_memory, list(pool._processes or ())), 0)
            for future in done:
                task = pending.pop(future)
                try:
                    listener.finished(task.key, future.result())
                except BrokenProcessPool as error:
                    held = f" (it held {largest / 1e9:.1f} GB)" if largest else ""
                    fewer = "--micro-batch 1" if task.recipe.has_encoder else "--jobs 1"
                    raise GenrescopeError(
                        f"{task.key}: the process was killed, most likely because memory ran "
                        f"out{held}. Run the same command with {fewer}; finished fits are kept."
                    ) from error


def worker_context() -> BaseContext:
    """Return how the processes that fit are started."""
    configure("malloc")
    # torch and Lightning take ten seconds to import: once, in a process that does nothing else,
    # and not in each of those that it is copied to.
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["genrescope.study.cell"])
    return context


@contextmanager
def _workers(jobs: int, context: BaseContext, events: Any) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(jobs, context, _prepare_worker, (events,))
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        # Fits take minutes: end them now; their checkpoints are on disk.
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()  # Lightning would finish its step first, which may take minutes
        raise


_events: list[Any] = []  # in a process that fits: the queue for its epochs


def _prepare_worker(events: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts
    end_with_parent()
    _events.append(events)


def _in_worker(task: CellTask) -> ResultRow:
    return run_cell(task, lambda key, row: _events[0].put((key, row)))


def _drain(events: Any, listener: Listener) -> None:
    while not events.empty():
        listener.epoch(*events.get())


def _clear_stale(task: CellTask) -> None:
    # A fit on other data must not be resumed.
    mark = task.folder / "data_checksum"
    if task.folder.exists() and (
        not mark.exists() or mark.read_text(encoding="utf-8") != task.data_checksum
    ):
        shutil.rmtree(task.folder)
    task.folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(task.data_checksum, encoding="utf-8")
    for number, model in task.kept_models.items():
        fold = task.folder / f"fold-{number}"
        if not model.is_dir() and (fold / FOLD).exists():
            shutil.rmtree(fold)  # the model was deleted, or not kept: fit it again


def _gather(config: StudyConfig, tasks: list[CellTask], share: float) -> list[Cell]:
    cells: list[Cell] = []
    for protocol in config.protocols:
        for recipe in config.entries:
            wanted = (recipe.name, protocol, share)
            own = [t for t in tasks if (t.recipe.name, t.protocol, t.train_share) == wanted]
            if not own:
                continue
            rows = [row for task in own if (row := _done_row(task)) is not None]
            # The same settings may have been run under another name.
            rows = [row.model_copy(update={"recipe": recipe.name}) for row in rows]
            curves = [
                read_curves(path)
                for task in own
                for path in sorted(task.folder.glob("*/curves.csv"))
            ]
            tested = [read_tested(task.folder / PREDICTIONS) for task in own]
            scored = own if isinstance(recipe, Recipe) and recipe.other else []
            other = [np.concatenate(read_other(task)) for task in scored]
            cells.append(Cell(recipe.name, protocol, rows, curves, tested, other))
    return cells


def _used(dataset: Dataset, ids: tuple[str, ...]) -> dict[str, int]:
    genre_of = {track.id: track.genre for track in dataset.tracks}
    counter = Counter(genre_of[i] for i in ids)
    return {genre: counter[genre] for genre in dataset.genres}


def _write(study: Study, out: Path) -> None:
    if (answers := study.robustness) is not None:
        write_robustness(out, answers, summarise(answers), study.dataset.name)
    rows = [row for c in (*study.cells, *study.learning) for row in c.rows]
    write_csv(out / "results.csv", rows)
    write_json(
        out / "results.json",
        {
            "study": study.config.model_dump(mode="json"),
            "dataset": {
                "name": study.dataset.name,
                "checksum": study.dataset.checksum,
                "tracks": study.dataset.counts,
                "notes": list(study.dataset.notes),
            },
            "rows": [row.model_dump(mode="json") for row in rows],
            "summary": [
                {
                    "recipe": c.recipe,
                    "protocol": c.protocol,
                    "accuracy_mean": c.mean,
                    "accuracy_sd": c.sd,
                    "train_share": c.train_share,
                    "interval_95": c.interval(),
                    "interval_method": c.interval_method,
                    "macro_f1_mean": c.macro_f1,
                    "ece": c.ece,
                    "weights": c.weights,
                    "n_test": c.n_test,
                }
                for c in (*study.cells, *study.learning)
            ],
            "unavailable": [entry.model_dump() for entry in study.unavailable],
            "used": study.used,
            "sources": study.sources,
            "left_out": [str(problem) for problem in study.problems],
        },
    )
