"""Carry out a plan, and take it back: every file is at any moment the old one or the new one.

A file is copied, the copy gets the new genres and is checked against the old file: nothing but the
genre may differ, and the old file must be what the way back leads to, byte for byte. The way back
is on the disk before the copy takes the file's place.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat as modes
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genrescope.errors import GenrescopeError, InputError
from genrescope.system import CREATE_FLAGS, InUseError, copy_metadata, replace, set_owner, sync
from genrescope.tagging import patch as patches
from genrescope.tagging.formats import can_write, other_tags, read_genres, write_genres
from genrescope.tagging.journal import Change, Journal, JournalEntry
from genrescope.tagging.plan import TagPlan, difference, stamp


@dataclass(frozen=True)
class ApplyResult:
    """What came of one file.

    Attributes
    ----------
    path
        Of the file.
    state
        ``written``, ``undone``, ``skipped`` (the file is not what the plan took it for, or may not
        be changed) or ``failed`` (something went wrong). Skipped and failed files are as they were.
    told
        Why, as a clause; mostly empty where all is well.
    """

    path: Path
    state: Literal["written", "undone", "skipped", "failed"]
    told: str = ""


class _Skip(Exception):  # noqa: N818  no error: a reason to leave a file alone
    pass


def register_plan(journal: Journal, plan: TagPlan, *, preserve_mtime: bool = False) -> JournalEntry:
    """Note in the journal all that a plan wants to write; nothing is changed yet.

    Raises
    ------
    InputError
        If a line of the plan is wrong; then nothing is noted. If the journal cannot be written.
    """
    with closing(plan.steps()) as steps:
        wanted = (
            (step.path, step.stamp, step.old, step.new) for step in steps if step.action == "write"
        )
        number = journal.enter(
            plan.key, plan.file.absolute(), plan.library, wanted, preserve_mtime=preserve_mtime
        )
    return next(entry for entry in journal.plans() if entry.number == number)


def apply_plan(journal: Journal, entry: JournalEntry) -> Iterator[ApplyResult]:
    """Do what waits of a plan, or goes on where an earlier run ended.

    Files that are no longer what the plan took them for are skipped.

    Raises
    ------
    InputError
        If the library is gone, or the journal cannot be written; what waits goes on waiting.
    """
    _check_present(entry)
    for change in journal.changes(entry.number, "ready", "waiting"):
        path = entry.library / change.path
        with _tidy(path, entry, change) as temporary:
            if change.state == "ready" and _was_written(path, change):
                journal.end(change, "done")
                yield ApplyResult(path, "written")
                continue
            yield _carry_out(journal, entry, change, path, temporary)


def undo_plan(journal: Journal, entry: JournalEntry) -> Iterator[ApplyResult]:
    """Undo a plan, the newest change first.

    A file that has not been changed since becomes what it was, byte for byte, with the time it had.
    One that has been changed since, but not its genre, gets only the former genre back.

    Raises
    ------
    InputError
        If the library is gone, or the journal cannot be written; what is not undone can still be.
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
            yield _take_back(journal, entry, change, path, temporary)


def _carry_out(
    journal: Journal, entry: JournalEntry, change: Change, path: Path, temporary: Path
) -> ApplyResult:
    # Errors of the file end this step only; those of the journal end the run.
    try:
        before = _refuse(path, entry, change)
        patch = _make(path, temporary, change.new, before)
        if entry.preserve_mtime:
            os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
        sync(temporary)
    except _Skip as reason:
        journal.end(change, "skipped", str(reason))
        return ApplyResult(path, "skipped", str(reason))
    except (GenrescopeError, OSError, ValueError) as error:
        journal.end(change, "failed", _words(error))
        return ApplyResult(path, "failed", _words(error))
    journal.ready(change, before.st_mtime_ns, patch)
    try:
        _swap(path, temporary, before)
    except _Skip as reason:
        journal.end(change, "skipped", str(reason))
        return ApplyResult(path, "skipped", str(reason))
    except OSError as error:
        if temporary.exists():  # else it is in the file's place, and the step stays ready
            journal.end(change, "failed", _words(error))
        return ApplyResult(path, "failed", _words(error))
    journal.end(change, "done")
    return ApplyResult(path, "written")


def _refuse(path: Path, entry: JournalEntry, change: Change) -> os.stat_result:
    # Why a file had better be left alone, or how it is now.
    before = _check_unchanged(path, entry)
    _check_writable(path, before)
    why = difference(before, change.stamp)
    if why is not None and not _is_former(path, change):
        raise _Skip(f"it {why} since the plan was made; make the plan again to tag it")
    if read_genres(path) != change.old:
        raise _Skip("it has changed since the plan was made; make the plan again to tag it")
    if (obstacle := can_write(path)) is not None:
        raise _Skip(obstacle)
    return before


def _is_former(path: Path, change: Change) -> bool:
    # To the byte what the plan was made for, if in another inode: an undone change left it.
    if change.patch is None or path.lstat().st_nlink > 1:
        return False
    return patches.digest(path) == patches.digests(change.patch)[0]


def _restamp_restored(journal: Journal, change: Change, path: Path) -> None:
    # So that the plan can be applied again. A file that cannot be read has changed, then.
    with suppress(GenrescopeError, OSError):
        if _is_former(path, change):
            journal.restamp(change, stamp(path.lstat()))


def _check_unchanged(path: Path, entry: JournalEntry) -> os.stat_result:
    try:
        before = path.lstat()
    except FileNotFoundError:
        raise _Skip("it is not there any more: it was moved or removed") from None
    if modes.S_ISLNK(before.st_mode):
        raise _Skip("it is a link")
    if not modes.S_ISREG(before.st_mode):
        raise _Skip("it is no file any more")
    if not path.parent.resolve().is_relative_to(entry.library.resolve()):
        raise _Skip("it does not lie in the library: one of its folders is a link")
    return before


def _check_writable(path: Path, before: os.stat_result) -> None:
    if not before.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise _Skip("it is read-only")


def _make(path: Path, temporary: Path, genres: tuple[str, ...], before: os.stat_result) -> bytes:
    # The new file beside the old one; and the way back, which has been gone.
    _copy(path, temporary, before)
    others = other_tags(path)
    write_genres(temporary, genres)
    if read_genres(temporary) != genres:
        raise _Skip(f"its format cannot hold {'; '.join(genres)}")
    if other_tags(temporary) != others:
        raise _Skip("its other tags would not stay as they are")
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
        raise _Skip("it belongs to another user or group, and would not any more") from None


def _swap(path: Path, temporary: Path, before: os.stat_result) -> None:
    if (why := difference(path.lstat(), stamp(before))) is not None:
        raise _Skip(f"it {why}, by another program, at this very moment")
    replace(temporary, path)
    sync(path.parent)


def _take_back(
    journal: Journal, entry: JournalEntry, change: Change, path: Path, temporary: Path
) -> ApplyResult:
    # As on the way there, only errors of the journal end the run.
    assert change.patch is not None  # noqa: S101  for the types: a step that is done has one
    assert change.mtime_ns is not None  # noqa: S101
    try:
        before = _check_unchanged(path, entry)
        told = _make_former(path, temporary, before, change, change.patch, change.mtime_ns)
    except _Skip as reason:
        return ApplyResult(path, "skipped", str(reason))
    except (GenrescopeError, OSError, ValueError) as error:
        return ApplyResult(path, "failed", _words(error))
    if temporary.exists():
        # After a kill here, which of the two the file is must be found out.
        journal.ready(change, change.mtime_ns, change.patch)
        try:
            _swap(path, temporary, before)
        except _Skip as reason:
            return ApplyResult(path, "skipped", str(reason))
        except OSError as error:
            return ApplyResult(path, "failed", _words(error))
    _restamp_restored(journal, change, path)
    journal.end(change, "undone", told or None)
    return ApplyResult(path, "undone", told)


def _make_former(
    path: Path,
    temporary: Path,
    before: os.stat_result,
    change: Change,
    patch: bytes,
    mtime_ns: int,
) -> str:
    # The former file, or this one with its former genre; none where nothing is to be done.
    old, new = patches.digests(patch)
    now = patches.digest(path)
    if now == old:
        return ""
    _check_writable(path, before)
    if now != new:
        return _put_genre_back(path, temporary, before, change)
    os.close(os.open(temporary, CREATE_FLAGS, 0o600))
    _give_to_owner(temporary, before)
    patches.rebuild(path, patch, temporary)
    copy_metadata(path, temporary)
    os.utime(temporary, ns=(before.st_atime_ns, mtime_ns))
    sync(temporary)
    return ""


def _put_genre_back(path: Path, temporary: Path, before: os.stat_result, change: Change) -> str:
    genres = read_genres(path)
    if genres == change.old:
        return "it has been changed since, and has its former genre"
    if genres != change.new:
        raise _Skip("its genre has been changed by another program since")
    _make(path, temporary, change.old, before)
    sync(temporary)
    return "it has been changed since: only its genre was put back"


def _was_written(path: Path, change: Change) -> bool:
    # Where a kill left it open. Another program may have changed the new file since.
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
        remedy = "Connect its drive or network share, then run `genrescope tag resume`"
        raise InputError(entry.library, "the library is not there", remedy)


@contextmanager
def _tidy(path: Path, entry: JournalEntry, change: Change) -> Iterator[Path]:
    # A name that only this step of this plan has: what lies there is left over from a kill.
    temporary = path.with_name(f".genrescope-{entry.key}-{change.number}{path.suffix[:10]}")
    try:
        _remove(temporary)
        yield temporary
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # of a folder that cannot be written there is nothing to remove
        temporary.unlink(missing_ok=True)


_CAUSES = {
    errno.ENOSPC: "there is no room left on its disk",
    errno.EDQUOT: "there is no room left in your quota",
    errno.EROFS: "its disk is read-only",
    errno.EACCES: "its folder may not be written to",
    errno.EPERM: "it may not be replaced",
}


def _words(error: Exception) -> str:
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
