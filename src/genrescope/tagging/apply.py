"""Apply a plan, and undo it: every file is at any moment the old one or the new one.

A file is copied, and the copy gets the new genres. It is compared with the old file: nothing but
the genre may differ, and the undo patch must restore the old file byte for byte. The patch is on
the disk before the copy replaces the file.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat as modes
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genrescope.errors import GenrescopeError, InputError
from genrescope.system import CREATE_FLAGS, InUseError, copy_metadata, replace, set_owner, sync
from genrescope.tagging import patch as patches
from genrescope.tagging.formats import can_write, other_tags, read_genres, write_genres
from genrescope.tagging.journal import Change, Journal, JournalEntry
from genrescope.tagging.plan import TagPlan
from genrescope.tagging.stamp import difference, stamp


@dataclass(frozen=True)
class ApplyResult:
    """The result of one file.

    Attributes
    ----------
    path
        Of the file.
    state
        ``written``, ``undone``, ``skipped`` (the file has changed since the plan, or may not be
        changed) or ``failed`` (an error occurred). Skipped and failed files are unchanged.
    reason
        Why, as a clause; usually empty for written and undone files.
    """

    path: Path
    state: Literal["written", "undone", "skipped", "failed"]
    reason: str = ""


class _Skip(Exception):  # noqa: N818  not an error: a reason to leave a file unchanged
    pass


def register_plan(journal: Journal, plan: TagPlan, *, preserve_mtime: bool = False) -> JournalEntry:
    """Record a plan's changes in the journal; no file is changed yet.

    Raises
    ------
    InputError
        If a line of the plan is wrong; then nothing is recorded. If the journal cannot be written.
    """
    with closing(plan.steps()) as steps:
        changes = (
            (step.path, step.stamp, step.old, step.new) for step in steps if step.action == "write"
        )
        number = journal.register(
            plan.key, plan.file.absolute(), plan.library, changes, preserve_mtime=preserve_mtime
        )
    return next(entry for entry in journal.plans() if entry.number == number)


def apply_plan(journal: Journal, entry: JournalEntry) -> Generator[ApplyResult]:
    """Write the waiting changes of a plan; resumes an earlier run.

    Files that have changed since the plan was written are skipped.

    Raises
    ------
    InputError
        If the library is missing, or the journal cannot be written; the rest stays waiting.
    """
    _check_present(entry)
    for change in journal.changes(entry.number, "ready", "waiting"):
        path = entry.library / change.path
        with _tidy(path, entry, change) as temporary:
            if change.state == "ready" and _was_written(path, change):
                journal.end(change, "done")
                yield ApplyResult(path, "written")
                continue
            yield _apply_change(journal, entry, change, path, temporary)


def undo_plan(journal: Journal, entry: JournalEntry) -> Generator[ApplyResult]:
    """Undo a plan, the newest change first.

    A file that has not been changed since is restored byte for byte, with its modification time.
    In one that has been changed since, but not its genre, only the genre is restored.

    Raises
    ------
    InputError
        If the library is missing, or the journal cannot be written; the rest can still be undone.
    """
    _check_present(entry)
    for change in journal.changes(entry.number, "ready", "waiting"):
        path = entry.library / change.path
        with _tidy(path, entry, change):
            if change.state == "ready":
                was_written = _was_written(path, change)
                if not was_written:
                    _restamp_restored(journal, change, path)
                journal.end(change, "done" if was_written else "waiting")
    journal.cancel(entry.number)
    for change in journal.changes(entry.number, "done", newest_first=True):
        path = entry.library / change.path
        with _tidy(path, entry, change) as temporary:
            yield _undo_change(journal, entry, change, path, temporary)


def _apply_change(
    journal: Journal, entry: JournalEntry, change: Change, path: Path, temporary: Path
) -> ApplyResult:
    # Errors of the file end this step only; those of the journal end the run.
    try:
        before = _check_change(path, entry, change)
        patch = _make(path, temporary, change.new, before)
        if entry.preserve_mtime:
            os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
        sync(temporary)
    except _Skip as skip:
        journal.end(change, "skipped", str(skip))
        return ApplyResult(path, "skipped", str(skip))
    except (GenrescopeError, OSError, ValueError) as error:
        journal.end(change, "failed", _clause(error))
        return ApplyResult(path, "failed", _clause(error))
    journal.ready(change, before.st_mtime_ns, patch)
    try:
        _swap(path, temporary, before)
    except _Skip as skip:
        journal.end(change, "skipped", str(skip))
        return ApplyResult(path, "skipped", str(skip))
    except OSError as error:
        if temporary.exists():  # else it is in the file's place, and the step stays ready
            journal.end(change, "failed", _clause(error))
        return ApplyResult(path, "failed", _clause(error))
    journal.end(change, "done")
    return ApplyResult(path, "written")


def _check_change(path: Path, entry: JournalEntry, change: Change) -> os.stat_result:
    # The current status of a file that may be changed.
    before = _check_unchanged(path, entry)
    _check_writable(path, before)
    why = difference(before, change.stamp)
    if why is not None and not _is_former(path, change):
        raise _Skip(f"it {why} since the plan was written; write a new plan to tag it")
    if read_genres(path) != change.old:
        raise _Skip("it has changed since the plan was written; write a new plan to tag it")
    if (obstacle := can_write(path)) is not None:
        raise _Skip(obstacle)
    return before


def _is_former(path: Path, change: Change) -> bool:
    # Byte for byte the planned file, though in another inode: undoing a change restored it.
    if change.patch is None or path.lstat().st_nlink > 1:
        return False
    return patches.digest(path) == patches.digests(change.patch)[0]


def _restamp_restored(journal: Journal, change: Change, path: Path) -> None:
    # So that the plan can be applied again. An unreadable file counts as changed.
    with suppress(GenrescopeError, OSError):
        if _is_former(path, change):
            journal.restamp(change, stamp(path.lstat()))


def _check_unchanged(path: Path, entry: JournalEntry) -> os.stat_result:
    try:
        before = path.lstat()
    except FileNotFoundError:
        raise _Skip(
            "it does not exist any more: it was moved or removed; "
            "scan the library and write a new plan"
        ) from None
    if modes.S_ISLNK(before.st_mode):
        raise _Skip("it is a link")
    if not modes.S_ISREG(before.st_mode):
        raise _Skip("it is not a regular file any more")
    if not path.parent.resolve().is_relative_to(entry.library.resolve()):
        raise _Skip("it is not in the library: one of its folders is a link")
    return before


def _check_writable(path: Path, before: os.stat_result) -> None:
    if not before.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise _Skip("it is read-only: make it writable, and apply or undo the plan again")


def _make(path: Path, temporary: Path, genres: tuple[str, ...], before: os.stat_result) -> bytes:
    # Writes the new file beside the old one; returns the undo patch, which has been checked.
    _copy(path, temporary, before)
    others = other_tags(path)
    write_genres(temporary, genres)
    if read_genres(temporary) != genres:
        raise _Skip(f"its format cannot hold {'; '.join(genres)}")
    if other_tags(temporary) != others:
        raise _Skip("its other tags would change")
    copy_metadata(path, temporary)
    os.utime(temporary)
    patch = patches.make_patch(path, temporary)
    patches.check(temporary, patch)
    return patch


def _copy(path: Path, temporary: Path, before: os.stat_result) -> None:
    descriptor = os.open(temporary, CREATE_FLAGS, 0o600)
    with os.fdopen(descriptor, "wb") as target, path.open("rb") as source:
        shutil.copyfileobj(source, target, 2**20)
    _give_to_owner(temporary, before)


def _give_to_owner(temporary: Path, before: os.stat_result) -> None:
    try:
        set_owner(temporary, before)
    except PermissionError:
        raise _Skip("it belongs to another user or group, which would change") from None


def _swap(path: Path, temporary: Path, before: os.stat_result) -> None:
    if (why := difference(path.lstat(), stamp(before))) is not None:
        raise _Skip(f"it {why}, by another program, at this moment")
    replace(temporary, path)
    sync(path.parent)


def _undo_change(
    journal: Journal, entry: JournalEntry, change: Change, path: Path, temporary: Path
) -> ApplyResult:
    # As in `_apply_change`, only errors of the journal end the run.
    assert change.patch is not None  # noqa: S101  for mypy: a finished change has one
    assert change.mtime_ns is not None  # noqa: S101
    try:
        before = _check_unchanged(path, entry)
        reason = _restore(path, temporary, before, change, change.patch, change.mtime_ns)
    except _Skip as skip:
        return ApplyResult(path, "skipped", str(skip))
    except (GenrescopeError, OSError, ValueError) as error:
        return ApplyResult(path, "failed", _clause(error))
    if temporary.exists():
        # After a kill here, `_was_written` finds out which of the two the file is.
        journal.ready(change, change.mtime_ns, change.patch)
        try:
            _swap(path, temporary, before)
        except _Skip as skip:
            return ApplyResult(path, "skipped", str(skip))
        except OSError as error:
            return ApplyResult(path, "failed", _clause(error))
    _restamp_restored(journal, change, path)
    journal.end(change, "undone", reason or None)
    return ApplyResult(path, "undone", reason)


def _restore(
    path: Path,
    temporary: Path,
    before: os.stat_result,
    change: Change,
    patch: bytes,
    mtime_ns: int,
) -> str:
    # Writes the former file, or this one with its former genre; no file if nothing has to change.
    old, new = patches.digests(patch)
    now = patches.digest(path)
    if now == old:
        return ""
    _check_writable(path, before)
    if now != new:
        return _restore_genre(path, temporary, before, change)
    os.close(os.open(temporary, CREATE_FLAGS, 0o600))
    _give_to_owner(temporary, before)
    patches.rebuild(path, patch, temporary)
    copy_metadata(path, temporary)
    os.utime(temporary, ns=(before.st_atime_ns, mtime_ns))
    sync(temporary)
    return ""


def _restore_genre(path: Path, temporary: Path, before: os.stat_result, change: Change) -> str:
    genres = read_genres(path)
    if genres == change.old:
        return "it has been changed since, and has its former genre already"
    if genres != change.new:
        raise _Skip("its genre has been changed by another program since")
    _make(path, temporary, change.old, before)
    sync(temporary)
    return "it has been changed since: only its genre was restored"


def _was_written(path: Path, change: Change) -> bool:
    # For changes that a kill interrupted. Another program may have changed the new file since.
    if change.patch is None:
        return False
    try:
        if not modes.S_ISREG(path.lstat().st_mode):
            return False
        old, new = patches.digests(change.patch)
        now = patches.digest(path)
        return now == new or (now != old and read_genres(path) == change.new != change.old)
    except (InputError, OSError):
        return False


def _check_present(entry: JournalEntry) -> None:
    if not entry.library.is_dir():
        remedy = (
            "Connect its drive or network share, or run `genrescope library move` if it was moved; "
            "then run `genrescope tag resume`"
        )
        raise InputError(entry.library, "the library is missing", remedy)


@contextmanager
def _tidy(path: Path, entry: JournalEntry, change: Change) -> Iterator[Path]:
    # The name is unique to this change of this entry: an existing file is left from a kill. A copy
    # of the plan in another journal has other names, as both may be applied at the same time.
    own = f"{entry.key}-{round(1e6 * entry.begun):x}-{change.number}"
    temporary = path.with_name(f".genrescope-{own}{path.suffix[:10]}")
    try:
        _remove(temporary)
        yield temporary
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # in a read-only folder there is nothing to remove
        temporary.unlink(missing_ok=True)


_CAUSES = {
    errno.ENOSPC: "there is no room left on its disk",
    errno.EDQUOT: "there is no room left in your quota",
    errno.EROFS: "its disk is read-only",
    errno.EACCES: "its folder is not writable",
    errno.EPERM: "it may not be replaced",
}


def _clause(error: Exception) -> str:
    within = error.__cause__
    if isinstance(within, OSError) and within.errno in (errno.ENOSPC, errno.EDQUOT):
        return _CAUSES[within.errno]
    if isinstance(error, InputError):
        return error.cause
    if isinstance(error, InUseError):
        return "another program has it open"
    if isinstance(error, OSError):
        return _CAUSES.get(error.errno or 0, f"it cannot be written ({error.strerror or error})")
    return str(error)
