"""What may go wrong with a library, done on purpose: kills, full disks, other people's changes.

Whatever happens, a file is the old one or the new one, what was found out is kept, and what is
said is fit for people.
"""

from __future__ import annotations

import csv
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import faults_harness as faults
from formats import make_library
from genrescope.tagging.formats import read_genres

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks of one process")

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="another user's rights can only be tried out as root",
)
FEW = ("mp3-v24-two", "flac-tight", "m4a-end", "ogg-tagged", "wav-id3-info")
MANY = (*FEW, "mp3-v1", "opus-art", "aiff-id3", "wma-tagged", "flac-padded", "m4a-fast", "wv-ape")
ANALYSED = ("mp3-bare", "flac-bare", "ogg-bare", "opus-bare", "m4a-bare", "aac-bare")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_library(tmp_path_factory.mktemp("clips"), 1.0)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faults.Runner]:
    with faults.Runner(tmp_path_factory.mktemp("runs")) as opened:
        yield opened


@pytest.fixture(scope="module")
def measured(
    runner: faults.Runner, clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> faults.Tagged:
    return faults.Tagged(runner, tmp_path_factory.mktemp("tagged"), chosen(clips, FEW))


@pytest.fixture
def tagged(measured: faults.Tagged) -> faults.Tagged:
    """Give a library of five files with a plan, as they were made."""
    measured.reset()
    return measured


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that every user can go into, unlike the usual one."""
    folder = Path(tempfile.mkdtemp(prefix="genrescope-faults-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def chosen(clips: dict[str, Path], names: tuple[str, ...]) -> list[Path]:
    # Not every build of FFmpeg has all the encoders.
    return [clips[name] for name in names if name in clips]


def fine(done: faults.Done, code: int = 0) -> str:
    """Give what was said, after checking that it ended as it should and in words for people."""
    assert done.code == code, done.shown
    assert "Traceback" not in done.shown
    return done.shown


# --- Kills ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_scans_lose_nothing(
    runner: faults.Runner, clips: dict[str, Path], tmp_path: Path
) -> None:
    analysed = faults.ScannedLibrary(runner, tmp_path, chosen(clips, ANALYSED))
    assert len(analysed.rows) == len(chosen(clips, ANALYSED)) + 1
    tally = analysed.kill(50, seed=1)
    assert not tally.wrong
    assert tally.files["lost"] == 0
    assert tally.files["kept"] > 0
    assert tally.fell["between"] >= 5


@pytest.mark.slow
@pytest.mark.parametrize(("command", "kills"), [("apply", 50), ("undo", 20)])
def test_killed_changes_leave_every_file_old_or_new(
    command: str, kills: int, runner: faults.Runner, clips: dict[str, Path], tmp_path: Path
) -> None:
    tagged = faults.Tagged(runner, tmp_path / "tagged", chosen(clips, MANY))
    tally = tagged.kill(command, kills, seed=2)
    assert not tally.wrong
    assert tally.files["half"] == 0
    assert tally.fell["between"] >= kills // 4
    assert tally.ended["undo"] > 0


APPLY = "genrescope.tagging.apply:"
JOURNAL = "genrescope.tagging.journal:Journal."
MOMENTS = [
    (target, when)
    for target in (
        f"{APPLY}_copy",
        f"{APPLY}write_genres",
        f"{APPLY}sync",
        f"{JOURNAL}ready",
        "pathlib:Path.replace",
        f"{JOURNAL}end",
    )
    for when in ("before", "after")
]
MOMENTS += [("shutil:copyfileobj", "before"), (f"{JOURNAL}register", "before")]


@pytest.mark.slow
@pytest.mark.parametrize("finish", ["resume", "undo"])
@pytest.mark.parametrize(("target", "when"), MOMENTS)
def test_every_step_may_be_the_last(
    target: str, when: str, finish: str, tagged: faults.Tagged
) -> None:
    once = target.endswith("register")
    for number in (1,) if once else (1, 3):
        tagged.reset()
        died = tagged.tag("apply", tagged.plan, hooks=[("die", target, when, number)])
        assert died.code == -signal.SIGKILL
        assert "half" not in tagged.states().values()
        done = tagged.tag(finish)
        if once:  # nothing was noted, nothing was done
            assert "No plan has anything left to do" in fine(done, 1)
        else:
            fine(done)
        side = "new" if finish == "resume" and not once else "old"
        assert list(tagged.complaints(side)) == []


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "target",
    [
        "genrescope.tagging.patch:rebuild",
        f"{APPLY}sync",
        "pathlib:Path.replace",
        f"{JOURNAL}end",
        f"{JOURNAL}cancel",
    ],
)
def test_every_step_of_undoing_may_be_the_last(
    target: str, when: str, tagged: faults.Tagged
) -> None:
    for number in (1,) if target.endswith("cancel") else (1, 3):
        tagged.reset()
        fine(tagged.tag("apply", tagged.plan))
        died = tagged.tag("undo", hooks=[("die", target, when, number)])
        assert died.code == -signal.SIGKILL
        assert "half" not in tagged.states().values()
        fine(tagged.tag("undo"))
        assert list(tagged.complaints("old")) == []


def test_a_plan_can_be_applied_again_after_an_undo_was_killed(tagged: faults.Tagged) -> None:
    fine(tagged.tag("apply", tagged.plan))
    tagged.tag("undo", hooks=[("die", "pathlib:Path.replace", "after", 2)])
    assert list(tagged.states().values()).count("old") == 2
    fine(tagged.tag("apply", tagged.plan))
    assert list(tagged.complaints("new")) == []
    fine(tagged.tag("undo"))
    assert list(tagged.complaints("old")) == []


@pytest.mark.slow
def test_a_killed_scan_leaves_no_process_behind(
    runner: faults.Runner, clips: dict[str, Path], tmp_path: Path
) -> None:
    library, db = tmp_path / "music", tmp_path / "library.db"
    library.mkdir()
    shutil.copy(clips["mp3-bare"], library)
    scan = runner.start("scan", library, "--db", db, hooks=[("late",)])
    faults.wait_for(lambda: len(faults.children(scan.pid)) > 1)
    time.sleep(2)  # it is prepared, and sleeps over the file
    below = faults.children(scan.pid)
    scan.signal(signal.SIGKILL)
    scan.wait()
    faults.wait_for(lambda: not any(faults.alive(pid) for pid in below))
    assert list(faults.rows(db)) == []
    assert "1 analysed" in fine(runner.run("scan", library, "--db", db))


@pytest.mark.slow
def test_stopped_runs_say_how_to_go_on(
    runner: faults.Runner, clips: dict[str, Path], tagged: faults.Tagged, tmp_path: Path
) -> None:
    flag, db = tmp_path / "flag", tmp_path / "library.db"
    running = tagged.start(
        "apply", tagged.plan, hooks=[("pause", f"{APPLY}write_genres", 3, str(flag))]
    )
    faults.wait_for(flag.exists)
    running.signal(signal.SIGINT)
    assert "Each file is the old or the new one" in fine(running.wait(), 130)
    assert sorted(tagged.states().values()) == ["new"] * 2 + ["old"] * 3
    assert tagged.leftovers() == []
    flag.unlink()
    fine(tagged.tag("resume"))
    assert list(tagged.complaints("new")) == []

    tagged.reset()
    hooks = [("together",), ("pause", "genrescope.classifier:Classifier.analyse", 2, str(flag))]
    scan = runner.start("scan", tagged.library, "--db", db, "--workers", 1, hooks=hooks)
    faults.wait_for(flag.exists)
    scan.signal(signal.SIGINT)
    flag.unlink()
    assert "Run the same command again to resume." in fine(scan.wait(), 130)
    kept = faults.rows(db)
    assert 0 < len(kept) < 5
    fine(runner.run("scan", tagged.library, "--db", db, hooks=[("together",)]))
    assert len(faults.rows(db)) == 5
    assert kept.items() <= faults.rows(db).items()


# --- Two at once ---------------------------------------------------------------------------------


def test_two_at_once_do_not_disturb_each_other(
    runner: faults.Runner, tagged: faults.Tagged, tmp_path: Path
) -> None:
    flag, db = tmp_path / "flag", tmp_path / "library.db"
    first = tagged.start(
        "apply", tagged.plan, hooks=[("pause", f"{APPLY}write_genres", 2, str(flag))]
    )
    faults.wait_for(flag.exists)
    for words in (("apply", tagged.plan), ("resume",), ("undo",)):
        assert "another genrescope is changing tags" in fine(tagged.tag(*words), 1)
    flag.unlink()
    fine(first.wait())
    assert list(tagged.complaints("new")) == []

    hooks = [("together",), ("pause", "genrescope.classifier:Classifier.analyse", 2, str(flag))]
    scan = runner.start("scan", tagged.library, "--db", db, hooks=hooks)
    faults.wait_for(flag.exists)
    second = runner.run("scan", tagged.library, "--db", db)
    assert "another genrescope is writing to this catalogue" in fine(second, 1)
    flag.unlink()
    assert "5 analysed" in fine(scan.wait())


# --- No room -------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a file system in memory; what is given mounts it again with other options."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here")

    def again(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)

    try:
        yield again
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """Use up a disk's room but for some bytes."""
    ballast = place / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


@AS_ROOT
@pytest.mark.parametrize("room", [0, 40_000])
def test_a_full_disk_of_the_library(
    room: int, runner: faults.Runner, clips: dict[str, Path], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    names = ("mp3-v1", "flac-padded", "ogg-art")  # 9, 400 and 190 kB
    with small_disk(disk, "4m"):
        tagged = faults.Tagged(runner, disk / "tagged", chosen(clips, names))
        ballast = fill(disk, room + 4096)
        journal = tmp_path / "journal.db"
        done = runner.run("tag", "apply", tagged.plan, "--journal", journal)
        assert "there is no room left on its disk" in fine(done, 1)
        written = [name for name, state in tagged.states().items() if state == "new"]
        assert written == (["mp3-v1.mp3"] if room else [])
        assert set(tagged.states().values()) <= {"old", "new"}
        assert tagged.leftovers() == []
        ballast.unlink()
        fine(runner.run("tag", "apply", tagged.plan, "--journal", journal))
        assert set(tagged.states().values()) == {"new"}
        fill(disk, 4096)
        done = runner.run("tag", "undo", "--journal", journal)
        assert "no room" in fine(done, 1)
        assert set(tagged.states().values()) <= {"old", "new"}
        assert tagged.leftovers() == []
        ballast.unlink()
        fine(runner.run("tag", "undo", "--journal", journal))
        assert list(tagged.complaints("old")) == []


@AS_ROOT
@pytest.mark.parametrize("room", [0, 8_000, 90_000])
def test_a_full_disk_of_the_journal(
    room: int, runner: faults.Runner, clips: dict[str, Path], tmp_path: Path
) -> None:
    # Where there is room for the plan, it is used up by what is noted of the files.
    tagged = faults.Tagged(runner, tmp_path / "tagged", chosen(clips, MANY))
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        journal = disk / "journal.db"
        ballast = fill(disk, room)
        done = runner.run("tag", "apply", tagged.plan, "--journal", journal)
        shown = fine(done, 1)
        assert "no room left on its disk" in shown or "it cannot be written (No space left" in shown
        assert set(tagged.states().values()) == {"old"} if room < 90_000 else {"old", "new"}
        assert tagged.leftovers() == []
        ballast.unlink()
        fine(runner.run("tag", "apply", tagged.plan, "--journal", journal))
        assert list(tagged.complaints("new")) == []


@AS_ROOT
@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 20_000, 120_000])
def test_a_full_disk_of_the_catalogue(
    room: int, runner: faults.Runner, clips: dict[str, Path], tmp_path: Path
) -> None:
    analysed = faults.ScannedLibrary(runner, tmp_path, chosen(clips, ANALYSED))
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        db = disk / "library.db"
        ballast = fill(disk, room)
        shown = fine(analysed.scan(db), 1)
        assert "no room left on its disk" in shown or "it cannot be written (No space left" in shown
        ballast.unlink()
        kept = faults.rows(db)
        assert kept.items() <= analysed.rows.items()
        done = analysed.scan(db)
        assert done.code in (0, 1)
        assert faults.rows(db) == analysed.rows


# --- No permission -------------------------------------------------------------------------------


@AS_ROOT
def test_a_scan_without_permission(
    runner: faults.Runner, clips: dict[str, Path], open_folder: Path
) -> None:
    library = open_folder / "music"
    for name in ("open", "locked"):
        (library / name).mkdir(parents=True)
        shutil.copy(clips["mp3-bare"], library / name / f"{name}.mp3")
    shutil.copy(clips["flac-bare"], library / "secret.flac")
    (library / "secret.flac").chmod(0o600)
    (library / "locked").chmod(0o700)
    db = open_folder / "data" / "library.db"
    db.parent.mkdir()
    # Another user may not read the Python that runs the tests, and so cannot start another one.
    other: dict[str, Any] = {"user": NOBODY, "hooks": [("together",)]}
    shown = fine(runner.run("scan", library, "--db", db, **other), 1)
    assert "it cannot be written (Permission denied)" in shown
    os.chown(db.parent, NOBODY, NOBODY)
    shown = fine(runner.run("scan", library, "--db", db, **other), 1)
    assert "secret.flac: it cannot be read (Permission denied)" in shown
    assert f"{library / 'locked'}: it cannot be read (Permission denied)" in shown
    assert "2 audio files" in shown
    assert "1 analysed" in shown
    assert "1 failed" in shown
    (library / "locked").chmod(0o755)
    (library / "secret.flac").chmod(0o644)
    shown = fine(runner.run("scan", library, "--db", db, "--retry", **other))
    assert "1 analysed, 1 known" in shown


@AS_ROOT
def test_changes_without_permission(
    runner: faults.Runner, clips: dict[str, Path], open_folder: Path
) -> None:
    library, journal = open_folder / "music", open_folder / "journal" / "journal.db"
    journal.parent.mkdir()
    os.chown(journal.parent, NOBODY, NOBODY)
    places = {name: library / name / "clip.mp3" for name in ("fine", "read-only", "closed")}
    places |= {"secret": library / "secret.mp3", "foreign": library / "shared" / "clip.mp3"}
    for path in places.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips["mp3-v24-two"], path)
        os.chown(path, NOBODY, NOBODY)
        os.chown(path.parent, NOBODY, NOBODY)
    places["read-only"].chmod(0o444)
    places["closed"].parent.chmod(0o555)
    places["secret"].chmod(0o200)
    os.chown(places["foreign"], 0, 0)
    places["foreign"].chmod(0o666)
    faults.write_plan(open_folder / "plan.csv", library)
    before = {name: path.read_bytes() for name, path in places.items()}
    words = "tag", "apply", open_folder / "plan.csv", "--journal", journal
    shown = fine(runner.run(*words, user=NOBODY), 1)
    for name, cause in (
        ("read-only", "skipped: {}: it is read-only: make it writable, and apply"),
        ("closed", "failed: {}: its folder is not writable"),
        ("secret", "failed: {}: it cannot be read (Permission denied)"),
        ("foreign", "skipped: {}: it belongs to another user or group"),
    ):
        assert cause.format(places[name]) in shown
        assert places[name].read_bytes() == before[name]
    assert read_genres(places["fine"]) == faults.NEW
    assert list(library.rglob(f"{faults.LEAVE_A_MARK}*")) == []
    places["fine"].parent.chmod(0o555)
    shown = fine(runner.run("tag", "undo", "--journal", journal, user=NOBODY), 1)
    assert f"failed: {places['fine']}: its folder is not writable" in shown
    places["fine"].parent.chmod(0o755)
    fine(runner.run("tag", "undo", "--journal", journal, user=NOBODY))
    assert places["fine"].read_bytes() == before["fine"]


@AS_ROOT
def test_a_read_only_disk(runner: faults.Runner, clips: dict[str, Path], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "8m") as again:
        tagged = faults.Tagged(runner, disk / "tagged", chosen(clips, FEW))
        again("ro")
        journal, db = tmp_path / "journal.db", tmp_path / "library.db"
        shown = fine(runner.run("tag", "apply", tagged.plan, "--journal", journal), 1)
        assert "5 skipped" in shown
        assert "it is read-only" in shown
        assert list(tagged.complaints("old")) == []
        assert "Read-only file system" in fine(tagged.tag("apply", tagged.plan), 1)
        fine(runner.run("scan", tagged.library, "--db", db))
        again("rw")
        fine(runner.run("tag", "apply", tagged.plan, "--journal", journal))
        assert set(tagged.states().values()) == {"new"}


@AS_ROOT
def test_an_immutable_file(tagged: faults.Tagged) -> None:
    name = tagged.names[0]
    path = tagged.library / name
    try:
        subprocess.run(["chattr", "+i", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("files cannot be made immutable here")
    try:
        shown = fine(tagged.tag("apply", tagged.plan), 1)
        assert f"{path}: it" in shown
        assert "4 written" in shown
        assert tagged.leftovers() == []
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert tagged.states() == dict.fromkeys(tagged.names, "new") | {path.name: "old"}


# --- Changed by someone else ---------------------------------------------------------------------


def replaced(path: Path, outside: Path) -> None:
    path.with_name("other").write_bytes(path.read_bytes() + b"more")
    path.with_name("other").replace(path)


def edited_unseen(path: Path, outside: Path) -> None:
    """Change another tag at the same size and time."""
    stat, data = path.stat(), path.read_bytes()
    at = data.index("Títle".encode())
    path.write_bytes(data[:at] + b"X" + data[at + 1 :])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def removed(path: Path, outside: Path) -> None:
    path.unlink()


def linked(path: Path, outside: Path) -> None:
    """Move the file out of the library, with a link in its place."""
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


def a_folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside.txt").write_text("mine")


def a_pipe(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[Callable[[Path, Path], None], str] = {
    replaced: "it has changed since the plan was written",
    removed: "it does not exist any more",
    linked: "it is a link",
    a_folder: "it is not a regular file any more",
    a_pipe: "it is not a regular file any more",
}


def seen(path: Path) -> object:
    """Return what lies somewhere, without following links or waiting for a pipe."""
    if path.is_symlink():
        return path.readlink(), path.read_bytes()
    if path.is_dir():
        return sorted(path.iterdir())
    return path.read_bytes() if path.is_file() else path.exists()


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_changed_between_plan_and_apply(
    change: Callable[[Path, Path], None], tagged: faults.Tagged, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tagged.library / tagged.names[1]
    change(path, outside)
    before = seen(path)
    shown = fine(tagged.tag("apply", tagged.plan), 1)
    assert f"skipped: {path}: {CHANGES[change]}" in shown
    assert "4 written" in shown
    assert seen(path) == before
    assert tagged.leftovers() == []
    fine(tagged.tag("undo"))
    assert seen(path) == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_changed_between_apply_and_undo(
    change: Callable[[Path, Path], None], tagged: faults.Tagged, tmp_path: Path
) -> None:
    fine(tagged.tag("apply", tagged.plan))
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tagged.library / "flac-tight.flac"
    change(path, outside)
    before = seen(path)
    done = tagged.tag("undo")
    if change is replaced:
        assert "only its genre was restored" in fine(done)
        assert path.read_bytes().endswith(b"more")
        assert read_genres(path) == ("Funk", "Soul")
        return
    shown = fine(done, 1)
    assert f"skipped: {path}: {CHANGES[change]}" in shown
    assert "4 undone" in shown
    assert seen(path) == before
    assert tagged.leftovers() == []


def test_an_edit_that_shows_in_neither_size_nor_time_is_kept(
    tagged: faults.Tagged, tmp_path: Path
) -> None:
    path = tagged.library / "flac-tight.flac"
    edited_unseen(path, tmp_path)
    edited = path.read_bytes()
    shown = fine(tagged.tag("apply", tagged.plan), 1)
    assert "since the plan was written; write a new plan" in shown
    assert path.read_bytes() == edited
    faults.write_plan(tagged.plan, tagged.library)
    fine(tagged.tag("apply", tagged.plan))
    assert read_genres(path) == faults.NEW
    fine(tagged.tag("undo"))
    assert path.read_bytes() == edited
    fine(tagged.tag("apply", tagged.plan))
    title = "Xítle".encode()
    assert title in edited
    path.write_bytes(path.read_bytes().replace(title, "Yítle".encode()))
    assert "only its genre was restored" in fine(tagged.tag("undo"))
    assert read_genres(path) == ("Funk", "Soul")
    assert "Yítle".encode() in path.read_bytes()


def second_name(path: Path) -> None:
    os.link(path, path.parent.parent / "second name")


def other_rights(path: Path) -> None:
    path.chmod(0o600)


def other_file(path: Path) -> None:
    copy = path.parent.parent / "copy"
    shutil.copy2(path, copy)
    copy.replace(path)


UNSEEN = {  # by size, time and content
    second_name: "has got or lost another name",
    other_rights: "has got other permissions, owner or attributes, or was moved",
    other_file: "was replaced by another file",
}


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("change", UNSEEN, ids=lambda change: change.__name__)
def test_a_file_that_is_not_the_planned_one_is_left_alone(
    change: Callable[[Path], None], when: str, tagged: faults.Tagged, tmp_path: Path
) -> None:
    path, flag = tagged.library / tagged.names[1], tmp_path / "flag"
    before = path.read_bytes()
    if when == "before":
        change(path)
        shown = fine(tagged.tag("apply", tagged.plan), 1)
        assert f"skipped: {path}: it {UNSEEN[change]} since the plan was written; write a" in shown
    else:
        hooks = [("pause", f"{APPLY}_swap", 2, str(flag))]
        running = tagged.start("apply", tagged.plan, hooks=hooks)
        faults.wait_for(flag.exists)
        change(path)
        flag.unlink()
        shown = fine(running.wait(), 1)
        assert f"skipped: {path}: it {UNSEEN[change]}, by another program" in shown
    assert "4 written" in shown
    assert path.read_bytes() == before
    assert tagged.leftovers() == []
    (tagged.library.parent / "second name").unlink(missing_ok=True)
    faults.write_plan(tagged.plan, tagged.library, ("Ska",))  # the remedy
    assert "5 written" in fine(tagged.tag("apply", tagged.plan))


def test_a_plan_of_the_former_format_is_applied(tagged: faults.Tagged) -> None:
    text = tagged.plan.read_text()
    text = text.replace("plan, format 2", "plan, format 1")
    tagged.plan.write_text(re.sub(r",(v\w+-\w+)-\w+-\w+-\w+$", r",\1", text, flags=re.MULTILINE))
    assert "5 written" in fine(tagged.tag("apply", tagged.plan))
    fine(tagged.tag("undo"))
    assert "5 written" in fine(tagged.tag("apply", tagged.plan))


def test_a_folder_that_became_a_link_leads_nowhere(
    runner: faults.Runner, clips: dict[str, Path], tmp_path: Path
) -> None:
    library, plan, journal = tmp_path / "music", tmp_path / "plan.csv", tmp_path / "journal.db"
    (library / "album").mkdir(parents=True)
    for place in ("album/clip.mp3", "clip.mp3"):
        shutil.copy(clips["mp3-v24-two"], library / place)
    before = clips["mp3-v24-two"].read_bytes()
    faults.write_plan(plan, library)
    outside = tmp_path / "outside"
    for command in (("apply", plan), ("undo",)):
        (library / "album").rename(outside)
        (library / "album").symlink_to(outside)
        held = (outside / "clip.mp3").read_bytes()
        shown = fine(runner.run("tag", *command, "--journal", journal), 1)
        assert f"skipped: {library / 'album' / 'clip.mp3'}: it is not in the library" in shown
        assert (outside / "clip.mp3").read_bytes() == held
        (library / "album").unlink()
        outside.rename(library / "album")
        if command[0] == "apply":
            fine(runner.run("tag", "apply", plan, "--journal", journal))
    fine(runner.run("tag", "undo", "--journal", journal))
    assert (library / "album" / "clip.mp3").read_bytes() == before


def test_a_library_that_is_reached_by_a_link_is_still_one(
    tagged: faults.Tagged, tmp_path: Path
) -> None:
    tagged.library.rename(tmp_path / "new disk")
    tagged.library.symlink_to(tmp_path / "new disk")
    fine(tagged.tag("apply", tagged.plan))
    assert set(tagged.states().values()) == {"new"}
    fine(tagged.tag("undo"))
    assert set(tagged.states().values()) == {"old"}


# --- Plans as people edit them -------------------------------------------------------------------

ROW = "write,{},,Jazz,0.9,mine,{}"


def lines(plan: Path) -> list[str]:
    return plan.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("../outside.mp3", "the path is not in the library"),
        ("album/../../outside.mp3", "the path is not in the library"),
        ("{outside}", "the path is not in the library"),
        ("", "the path is not in the library"),
        ("a\0b.mp3", "the path is not in the library"),
    ],
)
def test_no_plan_leads_out_of_the_library(
    name: str, cause: str, tagged: faults.Tagged, clips: dict[str, Path]
) -> None:
    outside = tagged.library.parent / "outside.mp3"
    shutil.copy2(clips["mp3-v24-two"], outside)
    before = outside.read_bytes()
    stat = outside.stat()
    stamp = f"v{stat.st_size:x}-{stat.st_mtime_ns:x}"
    with tagged.plan.open("a", encoding="utf-8") as file:
        file.write(ROW.format(name.format(outside=outside), stamp) + "\n")
    shown = fine(tagged.tag("apply", tagged.plan), 1)
    assert cause in shown
    assert f"line {len(lines(tagged.plan))}" in shown
    assert outside.read_bytes() == before
    assert list(tagged.complaints("old")) == []


@pytest.mark.parametrize(
    ("edit", "cause"),
    [
        (lambda text: text.replace("write,", "delete,", 1), "the action is 'delete'"),
        (lambda text: text.replace("Techno; Dub", " ; ", 1), "there is no new genre to write"),
        (lambda text: text.replace("action,", "deed,"), "the column action is missing"),
        (lambda text: text.replace("# library:", "# nothing:"), "'# library: …' is missing"),
        (lambda text: text[text.index("action") :], "its first lines, from"),
        (lambda text: text.replace(",", "|"), "it is not a plan of this version of genrescope"),
        (lambda text: text + 'write,"open quotes,,Jazz\n', "no new genre"),
        (lambda _: "\0\1\2\xff", "it is not a plan"),
    ],
)
def test_damaged_plans_are_refused_whole(
    edit: Callable[[str], str], cause: str, tagged: faults.Tagged
) -> None:
    text = edit(tagged.plan.read_text(encoding="utf-8"))
    tagged.plan.write_text(text, encoding="utf-8")
    assert cause in fine(tagged.tag("apply", tagged.plan), 1)
    assert list(tagged.complaints("old")) == []
    assert faults.steps(tagged.journal).total() == 0


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00binary\x80" * 99, b"", random.Random(0).randbytes(5000)],
    ids=["binary", "empty", "random"],
)
def test_other_files_are_no_plans(content: bytes, tagged: faults.Tagged) -> None:
    tagged.plan.write_bytes(content)
    assert "it is not a plan" in fine(tagged.tag("apply", tagged.plan), 1)
    assert "it is not a plan" in fine(tagged.tag("undo", tagged.plan), 1)
    assert list(tagged.complaints("old")) == []


def test_edited_plans_do_what_they_say(tagged: faults.Tagged) -> None:
    text = lines(tagged.plan)
    text[-1] = text[-1].replace("write", " LEAVE ", 1)
    text[-2] = text[-2].replace("Techno; Dub", "Drum & Bass;Jungle ; Jungle")
    del text[-3]
    tagged.plan.write_text("\n".join(text) + "\n", encoding="utf-8")
    fine(tagged.tag("apply", tagged.plan))
    states = [tagged.states()[name] for name in tagged.names]
    assert states == ["new", "new", "old", "half", "old"]
    assert read_genres(tagged.library / tagged.names[-2]) == ("Drum & Bass", "Jungle")
    fine(tagged.tag("undo"))
    assert list(tagged.complaints("old")) == []


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["unix", "windows"])
def test_plans_from_spreadsheets_are_read(ending: str, tagged: faults.Tagged) -> None:
    with tagged.plan.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with tagged.plan.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator=ending, quoting=csv.QUOTE_ALL)
        writer.writerows([*row, *[""] * (9 - len(row))] for row in [*rows, [""]])
    fine(tagged.tag("apply", tagged.plan))
    assert list(tagged.complaints("new")) == []


# --- Drives and networks -------------------------------------------------------------------------


def test_a_library_that_is_not_there(
    runner: faults.Runner, tagged: faults.Tagged, tmp_path: Path
) -> None:
    away = tmp_path / "taken out"
    tagged.library.rename(away)
    assert "the library is missing. Connect its drive" in fine(tagged.tag("apply", tagged.plan), 1)
    assert not tagged.library.exists()
    away.rename(tagged.library)
    fine(tagged.tag("resume"))
    assert list(tagged.complaints("new")) == []
    tagged.library.rename(away)
    assert "the library is missing" in fine(tagged.tag("undo"), 1)
    assert "no such folder" in fine(runner.run("scan", tagged.library), 1)
    away.rename(tagged.library)
    fine(tagged.tag("undo"))
    assert list(tagged.complaints("old")) == []


def test_a_drive_that_is_taken_out_in_the_middle(tagged: faults.Tagged, tmp_path: Path) -> None:
    flag, away = tmp_path / "flag", tmp_path / "taken out"
    hooks = [("pause", f"{APPLY}write_genres", 3, str(flag))]
    running = tagged.start("apply", tagged.plan, hooks=hooks)
    faults.wait_for(flag.exists)
    tagged.library.rename(away)
    flag.unlink()
    fine(running.wait(), 1)
    assert not tagged.library.exists()
    away.rename(tagged.library)
    assert sorted(tagged.states().values()) == ["new"] * 2 + ["old"] * 3
    fine(tagged.tag("apply", tagged.plan))
    assert list(tagged.complaints("new")) == []
    fine(tagged.tag("undo"))
    assert list(tagged.complaints("old")) == []


@pytest.mark.parametrize(
    ("target", "code", "shown"),
    [
        (f"{APPLY}_copy", errno.EIO, "it cannot be written (Input/output error)"),
        (f"{APPLY}read_genres", errno.EIO, "it cannot be written (Input/output error)"),
        (f"{APPLY}_swap", errno.EIO, "it cannot be written (Input/output error)"),
        (f"{APPLY}_swap", errno.ESTALE, "it cannot be written (Stale file handle)"),
        (f"{APPLY}_copy", errno.EDQUOT, "there is no room left in your quota"),
    ],
)
def test_an_error_of_the_disk_ends_one_file_only(
    target: str, code: int, shown: str, tagged: faults.Tagged
) -> None:
    path = tagged.library / tagged.names[2]
    done = tagged.tag("apply", tagged.plan, hooks=[("fail", target, code, path.name)])
    assert f"failed: {path}: {shown}" in fine(done, 1)
    assert [tagged.states()[name] for name in tagged.names] == ["new", "new", "old", "new", "new"]
    assert tagged.leftovers() == []
    fine(tagged.tag("apply", tagged.plan))
    assert list(tagged.complaints("new")) == []


def test_a_folder_that_cannot_be_synced_hides_no_change(tagged: faults.Tagged) -> None:
    hooks = [("fail", f"{APPLY}sync", errno.EIO, tagged.library.name)]
    assert "5 failed" in fine(tagged.tag("apply", tagged.plan, hooks=hooks), 1)
    assert set(tagged.states().values()) == {"new"}  # and it is known
    fine(tagged.tag("undo"))
    assert list(tagged.complaints("old")) == []


def test_a_disk_error_in_a_scan_ends_one_file_only(
    runner: faults.Runner, tagged: faults.Tagged, tmp_path: Path
) -> None:
    db, name = tmp_path / "library.db", tagged.names[2]
    hooks = [("fail", "genrescope.library.scan:_mark", errno.EIO, name)]
    shown = fine(runner.run("scan", tagged.library, "--db", db, hooks=hooks), 1)
    assert f"{name}: it cannot be read (Input/output error)" in shown
    assert "4 analysed, 1 failed" in shown
    assert "1 analysed" in fine(runner.run("scan", tagged.library, "--db", db, "--retry"))
    assert len(faults.rows(db)) == 5
