"""The journal by itself: what is noted is there again, step by step, also when opened anew."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from genrescope.errors import InputError
from genrescope.tagging.journal import Change, Journal, JournalEntry, default_path

STATES = ("waiting", "ready", "done", "undone", "skipped", "failed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "journal.db"


@pytest.fixture
def journal(place: Path) -> Iterator[Journal]:
    with Journal(place) as opened:
        yield opened


def enter(journal: Journal, key: str = "a", *, steps: int = 3, preserve_mtime: bool = False) -> int:
    """Note a plan of so many steps."""
    return journal.register(
        key,
        Path(f"{key}.csv"),
        Path("/music") / key,
        ((f"{i}.mp3", f"stamp {i}", ("Pop", "Röck"), (f"New {i}",)) for i in range(steps)),
        preserve_mtime=preserve_mtime,
    )


def of(journal: Journal, plan: int, *states: str) -> list[Change]:
    return list(journal.changes(plan, *(states or STATES)))


def test_what_is_noted_is_there_when_it_is_opened_again(place: Path) -> None:
    before = time.time()
    with Journal(place) as journal:
        plan = enter(journal, preserve_mtime=True)
        first, *_ = of(journal, plan)
        journal.ready(first, 2**62 + 1, b"\0patch\xff")
    with Journal(place) as journal:
        (entry,) = journal.plans()
        assert before <= entry.begun <= time.time()
        assert entry == JournalEntry(
            number=plan,
            key="a",
            file=Path("a.csv"),
            library=Path("/music/a"),
            preserve_mtime=True,
            begun=entry.begun,
            counts={"ready": 1, "waiting": 2},
        )
        assert entry.preserve_mtime is True
        ready, waiting, _ = of(journal, plan)
        assert ready == Change(
            number=first.number,
            path="0.mp3",
            stamp="stamp 0",
            old=("Pop", "Röck"),
            new=("New 0",),
            state="ready",
            reason=None,
            mtime_ns=2**62 + 1,
            patch=b"\0patch\xff",
        )
        assert (waiting.state, waiting.mtime_ns, waiting.patch) == ("waiting", None, None)


def test_the_newest_plan_comes_first_and_knows_its_own_steps_alone(journal: Journal) -> None:
    old, new = enter(journal, "a", steps=2), enter(journal, "b", steps=1)
    assert new > old
    assert [(entry.number, entry.key) for entry in journal.plans()] == [(new, "b"), (old, "a")]
    assert [entry.counts for entry in journal.plans()] == [{"waiting": 1}, {"waiting": 2}]
    assert [change.path for change in of(journal, new)] == ["0.mp3"]
    assert of(journal, new + 1) == []
    journal.cancel(new)
    assert [entry.counts for entry in journal.plans()] == [{"undone": 1}, {"waiting": 2}]


def test_no_step_is_missed_or_reported_twice_however_many(journal: Journal) -> None:
    plan = enter(journal, steps=200)
    enter(journal, "b", steps=3)
    forth = of(journal, plan)
    assert [change.path for change in forth] == [f"{i}.mp3" for i in range(200)]
    back = list(journal.changes(plan, *STATES, newest_first=True))
    assert back == forth[::-1]


def test_steps_are_of_the_states_asked_for_when_they_are_come_to(journal: Journal) -> None:
    plan = enter(journal, steps=len(STATES))
    for change, state in zip(of(journal, plan), STATES, strict=True):
        journal.end(change, state, f"told {state}")
    for state in STATES:
        (change,) = of(journal, plan, state)
        assert (change.state, change.reason) == (state, f"told {state}")
    assert [change.state for change in of(journal, plan, "done", "waiting")] == ["waiting", "done"]
    assert journal.plans()[0].counts == dict.fromkeys(STATES, 1)


def test_going_through_the_steps_one_may_end_them(journal: Journal) -> None:
    plan = enter(journal, steps=150)
    done = 0
    for change in journal.changes(plan, "waiting"):
        journal.ready(change, 1, b"")
        journal.end(change, "done")
        done += 1
    assert done == 150
    assert journal.plans()[0].counts == {"done": 150}
    assert {change.reason for change in of(journal, plan)} == {None}


def test_a_plan_that_is_known_is_gone_on_with(journal: Journal) -> None:
    plan = enter(journal, steps=len(STATES))
    other = enter(journal, "b", steps=1)
    (skipped_elsewhere,) = of(journal, other)
    journal.end(skipped_elsewhere, "skipped", "it is a link")
    for change, state in zip(of(journal, plan), STATES, strict=True):
        journal.ready(change, 7, b"patch")
        journal.end(change, state, "told")
    assert enter(journal, steps=9, preserve_mtime=True) == plan
    again = of(journal, plan)
    # What came to nothing waits anew, without what was reported of it; nothing is added.
    assert [change.state for change in again] == ["waiting", "ready", "done", *["waiting"] * 3]
    assert [change.reason for change in again] == ["told"] * 3 + [None] * 3
    assert [change.patch for change in again] == [b"patch"] * 3 + [None] * 3
    newest, entry = journal.plans()
    assert (entry.number, entry.preserve_mtime) == (plan, True)
    assert (newest.preserve_mtime, newest.counts) == (False, {"skipped": 1})


def test_a_plan_is_noted_whole_or_not_at_all(place: Path) -> None:
    def steps() -> Iterator[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
        yield "0.mp3", "stamp", (), ("New",)
        raise RuntimeError("the plan breaks off")

    with Journal(place) as journal:
        with pytest.raises(RuntimeError, match="breaks off"):
            journal.register("a", Path("a.csv"), Path("/music"), steps(), preserve_mtime=False)
        assert journal.plans() == []
        assert enter(journal) == journal.plans()[0].number


def test_a_file_has_one_step_in_a_plan(journal: Journal) -> None:
    twice = [("0.mp3", "stamp", (), (new,)) for new in ("First", "Second")]
    plan = journal.register("a", Path("a.csv"), Path("/music"), twice, preserve_mtime=False)
    (change,) = of(journal, plan)
    assert change.new == ("First",)
    assert change.old == ()


def test_what_was_never_begun_is_called_off(journal: Journal) -> None:
    plan, other = enter(journal, steps=3), enter(journal, "b", steps=1)
    first, second, _ = of(journal, plan)
    journal.ready(first, 1, b"")
    journal.end(second, "failed", "no room")
    journal.cancel(plan)
    ready, failed, called_off = of(journal, plan)
    assert (ready.state, failed.state, failed.reason) == ("ready", "failed", "no room")
    assert (called_off.state, called_off.reason) == ("undone", "it was never written")
    assert [change.state for change in of(journal, other)] == ["waiting"]


def test_each_note_is_on_the_disk_at_once(journal: Journal, place: Path) -> None:
    def states() -> list[str]:
        with sqlite3.connect(place) as seen:
            return [state for (state,) in seen.execute("SELECT state FROM steps ORDER BY id")]

    plan = enter(journal, steps=2)
    assert states() == ["waiting", "waiting"]
    first, _ = of(journal, plan)
    journal.ready(first, 1, b"")
    assert states() == ["ready", "waiting"]
    journal.end(first, "done")
    assert states() == ["done", "waiting"]
    journal.cancel(plan)
    assert states() == ["done", "undone"]
    enter(journal, steps=2)
    assert states() == ["done", "waiting"]
    (level,) = journal._connection.execute("PRAGMA synchronous").fetchone()
    assert level == 2  # FULL: a commit waits for the disk


def test_one_process_at_a_time_and_nothing_but_a_journal(journal: Journal, place: Path) -> None:
    with pytest.raises(InputError, match=r"another genrescope is changing tags.*--journal\."):
        Journal(place)
    other = place.with_name("other.db")
    with sqlite3.connect(other) as foreign:
        foreign.execute("CREATE TABLE mine (x)")
    with pytest.raises(InputError, match=r"another program's database.*--journal"):
        Journal(other)
    text = place.with_name("text.db")
    text.write_text("no database, but a text that is long enough to be looked at as one" * 20)
    with pytest.raises(InputError, match=r"not a genrescope journal.*--journal"):
        Journal(text)


def test_a_journal_is_marked_as_what_it_is(place: Path) -> None:
    Journal(place).close()
    with sqlite3.connect(place) as seen:
        (application,) = seen.execute("PRAGMA application_id").fetchone()
        (version,) = seen.execute("PRAGMA user_version").fetchone()
        assert application.to_bytes(4) == b"genj"
        assert version == 1  # raise it with the schema
        seen.execute("PRAGMA user_version = 2")
    with pytest.raises(InputError, match="a newer genrescope created it"):
        Journal(place)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("path", b"a.mp3"),
        ("stamp", b"stamp"),
        ("old", "[1]"),
        ("new", "no list"),
        ("state", b"waiting"),
        ("told", b"told"),
        ("mtime_ns", "today"),
        ("patch", "text"),
    ],
)
def test_a_damaged_step_is_reported(place: Path, column: str, value: object) -> None:
    with Journal(place) as journal:
        plan = enter(journal, steps=1)
        (change,) = of(journal, plan)
        journal.ready(change, 1, b"")
    with sqlite3.connect(place) as edited:
        edited.execute(f"UPDATE steps SET {column} = ?", (value,))  # noqa: S608
    with Journal(place) as journal, pytest.raises(InputError, match=r"journal\.db: it is damaged"):
        of(journal, plan, "ready", *([value] if column == "state" else []))


def test_its_place_is_among_the_users_data() -> None:
    assert default_path() == platformdirs.user_data_path("genrescope") / "journal.db"


def test_what_was_written_is_given_by_path_below_a_folder(journal: Journal) -> None:
    plan, inner = enter(journal), enter(journal, "a/in")
    for change in of(journal, plan)[:2] + of(journal, inner)[:1]:
        journal.end(change, "done")
    assert journal.written(Path("/music/a")) == {
        "0.mp3": ("New 0",),
        "1.mp3": ("New 1",),
        "in/0.mp3": ("New 0",),
    }
    assert journal.written(Path("/music/a/in")) == {"0.mp3": ("New 0",)}
    assert journal.written(Path("/music/b")) == {}
    journal.end(of(journal, plan)[0], "undone")
    assert set(journal.written(Path("/music"))) == {"a/1.mp3", "a/in/0.mp3"}


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be removed there")
@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_nothing_is_written_into_a_journal_that_nobody_would_find(
    journal: Journal, place: Path, how: str
) -> None:
    first, second, _ = of(journal, enter(journal))
    journal.ready(first, 1, b"patch")
    if how == "removed":
        place.unlink()
    else:
        place.rename(place.with_name("elsewhere.db"))
    if how == "replaced":
        shutil.copy(place.with_name("elsewhere.db"), place)
    with pytest.raises(InputError, match="removed or replaced while it was in use"):
        journal.ready(second, 1, b"patch")
