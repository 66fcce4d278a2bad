"""Reviews: plans whose rows a person decides on one by one, applied in parts, and their history.

It does what ``genrescope tag`` does, by the same plans and the same journal, within one library.
Rows are named by their numbers, so that no decision can reach a file that the plan does not hold.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import ConfigDict

from genrescope.errors import GenrescopeError, InputError, NotFoundError
from genrescope.library.catalogue import Catalogue
from genrescope.library.scan import analyse, survey
from genrescope.library.similar import Library
from genrescope.tagging.apply import ApplyResult, apply_plan, register_plan, undo_plan
from genrescope.tagging.journal import Journal, JournalEntry, written_before
from genrescope.tagging.plan import Step, describe_plan, make_plan, open_plan, write_plan
from genrescope.tagging.policy import AlbumVote, Policy
from genrescope.tagging.stamp import stamp
from genrescope.taxonomy import load_taxonomy

_Item = TypeVar("_Item")
_KEPT = 20  # plans
_MAX_LEFT = 20  # files of which a result says why they were left unchanged

Progress = Callable[[int, int], None]
"""Called with the numbers of files done and in all; what it raises stops the work between two."""


class AppliedError(GenrescopeError):
    """A row has been applied, or is being applied."""


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PlanOptions(Policy):
    """The options of a plan: a policy, and what else ``make_plan`` is given."""

    album: AlbumVote = AlbumVote.AGREE
    from_tags: bool = False
    break_hard_links: bool = False


@dataclass
class Draft:
    """A plan under review.

    Attributes
    ----------
    key
        Random; names it.
    file
        Of the plan; a row's number is its place in it, from 0.
    counts
        Of ``write_plan``.
    summary
        How much it would write, and how much of that is expected to be wrong.
    note
        What the plan does not take into account; may be empty.
    bare
        Rows for which the plan has no genre.
    states
        Of rows that have been applied: ``waiting``, or as of ``ApplyResult``, and the reason.
    applied
        The rows of plans of the history, by these plans' numbers and the files.
    stamps
        Of the files of rows that were undone, by which they can be applied again.
    """

    key: str
    file: Path
    counts: dict[str, int]
    summary: str
    note: str = ""
    bare: frozenset[int] = frozenset()
    states: dict[int, tuple[str, str]] = field(default_factory=dict)
    applied: dict[tuple[int, Path], int] = field(default_factory=dict)
    stamps: dict[int, str] = field(default_factory=dict)


class Review:
    """Plans, changes and history of one library's tags. Its methods may be called by threads.

    Parameters
    ----------
    library
        Whose files may be changed, and no others.
    folder
        For plans; it exists, and the caller deletes it.
    journal
        Of the changes, as of ``genrescope tag``.
    """

    def __init__(self, library: Library, folder: Path, journal: Path) -> None:
        self._library, self._folder, self._journal = library, folder, journal
        self._root = library.folder.resolve()
        self._numbers = {Path(one.path).as_posix(): n for n, one in enumerate(library.tracks)}
        self._drafts: OrderedDict[str, Draft] = OrderedDict()

    def plan(self, wanted: PlanOptions, progress: Progress) -> Draft:
        """Plan changes, after a look at the library's files."""
        note = self._update(progress)
        key = secrets.token_urlsafe(16)
        file = self._folder / f"{key}.csv"
        root = str(self._root)
        with Catalogue(self._library.database) as catalogue:
            total = catalogue.counts(root)["analysed"]
            planned = make_plan(
                catalogue,
                self._root,
                load_taxonomy(),
                wanted,
                album=wanted.album,
                from_tags=wanted.from_tags,
                break_hard_links=wanted.break_hard_links,
                written=written_before(self._journal, self._root),
                on_read=lambda count: progress(count, total),
            )
            steps = list(planned)
            models = [model.name for model in catalogue.models(root)]
        counts = write_plan(file, self._root, steps, models=models)
        while len(self._drafts) >= _KEPT:
            self._drafts.popitem(last=False)[1].file.unlink(missing_ok=True)
        bare = frozenset(n for n, step in enumerate(steps) if not step.new)
        self._drafts[key] = Draft(key, file, counts, describe_plan(steps), note, bare)
        return self._drafts[key]

    def draft(self, key: str) -> Draft:
        """Return a plan by its key; NotFoundError if there is none."""
        if key not in self._drafts:
            raise NotFoundError("There is no such plan, or not any more.")
        return self._drafts[key]

    def rows(self, draft: Draft, *, left: bool = False) -> list[dict[str, Any]]:
        """Return the rows of a plan as JSON values.

        Parameters
        ----------
        draft
            Of ``plan``.
        left
            Whether to include those that are left alone.

        Returns
        -------
        rows
            What ``Step`` holds, but the stamp; and ``n``, the row's number; ``track``, its row in
            the library or None; ``state`` and ``why``, of ``ApplyResult``, once it was applied.
        """
        names = [one.name for one in fields(Step) if one.name != "stamp"]
        rows = []
        for n, step in enumerate(_steps(draft)):
            if left or step.action != "leave":
                state, why = draft.states.get(n, (None, None))
                rows.append(
                    {name: getattr(step, name) for name in names}
                    | {"n": n, "track": self._numbers.get(step.path), "state": state, "why": why}
                )
        return rows

    @contextmanager
    def claim(self, draft: Draft, rows: Mapping[int, tuple[str, ...] | None]) -> Iterator[None]:
        """Reserve rows while the context lasts, so that none is applied twice.

        Those that ``apply`` has not reached by its end can be claimed again.

        Parameters
        ----------
        draft, rows
            As of ``apply``.

        Raises
        ------
        NotFoundError
            If a row is not in the plan.
        AppliedError
            If one has been applied, or is claimed.
        GenrescopeError
            If there is no genre for a row.
        """
        total = sum(draft.counts.values())
        if not all(0 <= n < total for n in rows):
            raise NotFoundError("There is no such row in this plan.")
        busy = [n for n in rows if draft.states.get(n, ("", ""))[0] in {"waiting", "written"}]
        if busy:
            raise AppliedError(f"{len(busy)} of these rows have been applied already.")
        if bare := sorted(n for n in draft.bare & rows.keys() if rows[n] is None):
            raise GenrescopeError(f"The plan has no genre for row {bare[0]}. Give one.")
        draft.states.update(dict.fromkeys(rows, ("waiting", "")))
        try:
            yield
        finally:
            for n in rows:
                if draft.states[n][0] == "waiting":
                    del draft.states[n]

    def apply(
        self,
        draft: Draft,
        rows: Mapping[int, tuple[str, ...] | None],
        progress: Progress,
        *,
        preserve_mtime: bool = False,
    ) -> dict[str, Any]:
        """Write rows that were claimed into the files' tags.

        Parameters
        ----------
        draft
            Of ``plan``.
        rows
            For each row's number its genres; None for those of the plan.
        progress
            Stops it between two files; ``resume`` continues.
        preserve_mtime
            Whether files keep their modification time.

        Returns
        -------
        result
            ``history``, its number there; ``counts`` of files by state; ``left``, file and reason
            of some that were left unchanged.

        Raises
        ------
        GenrescopeError
            If the journal cannot be written.
        """
        file = self._folder / f"{secrets.token_urlsafe(16)}.csv"
        numbers: dict[str, int] = {}

        def chosen() -> Iterator[Step]:
            for n, step in enumerate(_steps(draft)):
                if n in rows:
                    numbers[step.path] = n
                    known = replace(step, stamp=draft.stamps.get(n, step.stamp))
                    yield _decided(known, rows[n])

        progress(0, len(rows))
        write_plan(file, self._root, chosen())
        try:
            with Journal(self._journal, write=True) as journal:
                entry = register_plan(journal, open_plan(file), preserve_mtime=preserve_mtime)
                for path, n in numbers.items():
                    draft.applied[entry.number, self._root / path] = n
                with closing(self._noted(apply_plan(journal, entry), entry.number)) as results:
                    return _tally(results, len(rows), progress) | {"history": entry.number}
        finally:
            file.unlink(missing_ok=True)

    def resume(self, number: int, progress: Progress, *, undo: bool = False) -> dict[str, Any]:
        """Continue a plan of the history, or undo it; returns as ``apply``."""
        with Journal(self._journal, write=True) as journal:
            entry = self._entry(journal, number)
            results = (undo_plan if undo else apply_plan)(journal, entry)
            with closing(self._noted(results, number)) as noted:
                return _tally(noted, sum(entry.counts.values()), progress) | {"history": number}

    def history(self) -> list[dict[str, Any]]:
        """Return the plans that were applied to the library's files as JSON values, newest first.

        Returns
        -------
        plans
            ``number``, ``begun`` (ISO 8601), ``folder`` below the library, ``counts`` by state.
        """
        if not self._journal.exists():
            return []
        with Journal(self._journal, write=False) as journal:
            entries = [entry for entry in journal.plans() if self._is_own(entry)]
        return [
            {
                "number": entry.number,
                "begun": datetime.fromtimestamp(entry.begun).astimezone().isoformat("T", "seconds"),
                "folder": entry.library.relative_to(self._root).as_posix(),
                "counts": entry.counts,
            }
            for entry in entries
        ]

    def changes(self, number: int) -> list[dict[str, Any]]:
        """Return the changes of a plan of the history; NotFoundError if there is none."""
        if not self._journal.exists():
            raise NotFoundError("There is no such plan.")
        with Journal(self._journal, write=False) as journal:
            entry = self._entry(journal, number)
            names = ("path", "old", "new", "state", "reason")
            return [
                {name: getattr(change, name) for name in names}
                for change in journal.changes(number, *entry.counts)
            ]

    def _update(self, progress: Progress) -> str:
        # Files that were tagged, added or removed since the scan: known audio is not analysed.
        classifier, root = self._library.classifier, str(self._root)
        try:
            catalogue = Catalogue(self._library.database, write=True)
        except InputError as error:
            return f"Changes of the files since the last scan are not known: {error.cause}."
        with catalogue:
            survey(catalogue, self._root)
            total = catalogue.count_waiting(root, catalogue.model(classifier))
            with closing(analyse(catalogue, classifier, self._root, 1)) as results:
                for _ in _followed(results, total, progress):
                    pass
        return ""

    def _noted(self, results: Iterable[ApplyResult], number: int) -> Generator[ApplyResult]:
        # In the plans whose rows they are; what cannot be undone stays written.
        for result in results:
            for draft in list(self._drafts.values()):
                n = draft.applied.get((number, result.path))
                is_written = n is not None and draft.states.get(n, ("",))[0] == "written"
                if n is not None and (result.state == "undone" or not is_written):
                    draft.states[n] = result.state, result.reason
                if n is not None and result.state == "undone":
                    with suppress(OSError):
                        draft.stamps[n] = stamp(result.path.lstat())
            yield result

    def _entry(self, journal: Journal, number: int) -> JournalEntry:
        for entry in journal.plans():
            if entry.number == number and self._is_own(entry):
                return entry
        raise NotFoundError("There is no such plan.")

    def _is_own(self, entry: JournalEntry) -> bool:
        return entry.library.is_relative_to(self._root)


def _steps(draft: Draft) -> Iterator[Step]:
    with closing(open_plan(draft.file).steps()) as steps:
        yield from steps


def _decided(step: Step, genres: tuple[str, ...] | None) -> Step:
    new = step.new if genres is None else genres
    confidence = step.confidence if new == step.new else None
    return replace(step, action="write", new=new, confidence=confidence)


def _followed(items: Iterable[_Item], total: int, progress: Progress) -> Iterator[_Item]:
    progress(0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(done, max(done, total))


def _tally(results: Iterable[ApplyResult], total: int, progress: Progress) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    left: list[dict[str, str]] = []
    for result in _followed(results, total, progress):
        counts[result.state] += 1
        if result.reason and len(left) < _MAX_LEFT:
            left.append({"file": result.path.name, "reason": result.reason})
    return {"counts": dict(counts), "left": left}
