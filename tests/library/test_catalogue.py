"""What a catalogue holds: libraries listed, folders forgotten, folders moved."""

from __future__ import annotations

import json
import ntpath
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

import commands
import genrescope
from genrescope.classifier import Classifier, Prediction
from genrescope.errors import GenrescopeError, InputError
from genrescope.library import scan
from genrescope.library.catalogue import Catalogue
from genrescope.library.move import find_folder, move
from genrescope.tagging.journal import Journal

Run = Callable[..., subprocess.CompletedProcess[str]]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
NOT_UTF_8 = os.fsdecode(b"caf\xe9")


@cache
def default() -> Classifier:
    return Classifier.default()


def make_music(folder: Path) -> Path:
    """Five files that nothing decodes, in three folders."""
    for name in ("a/1.mp3", "a/2.mp3", "b/live/3.flac", "b/4.mp3", "5.mp3"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 9)
    return folder.resolve()


def fill(catalogue: Catalogue, folder: Path) -> None:
    """Scan a folder, with answers that depend on the name alone: one file fails."""
    scan.survey(catalogue, folder)
    classifier = default()
    model = catalogue.model(classifier)
    shares = dict.fromkeys(classifier.genres, 0.05) | {"jazz": 0.55}
    for file in list(catalogue.waiting(str(folder), model)):
        result: Any = GenrescopeError("it is damaged. Replace it.")
        if file.path.name != "4.mp3":
            embedding = np.full(classifier.embedding_width, file.row, np.float16)
            result = Prediction("jazz", 0.55, False, shares, {"guitar": 0.5}), embedding
        mark = file.path.name.encode().ljust(16)
        catalogue.save(file.row, file.path.stat(), mark, model, result)
    catalogue.commit()


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return make_music(tmp_path / "music")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "data" / "genrescope" / "library.db"


@pytest.fixture
def catalogue(db: Path, music: Path) -> Iterator[Catalogue]:
    with Catalogue(db, write=True) as opened:
        fill(opened, music)
        yield opened


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def command(*words: object, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "COLUMNS": "200", **more}
        done = commands.run(*words, env=env)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return command


def filled(db: Path, *folders: Path) -> None:
    with Catalogue(db, write=True) as opened:
        for folder in folders:
            fill(opened, folder)


def listed(run: Run, *options: object) -> dict[str, Any]:
    shown = json.loads(run("library", "list", "--json", *options).stdout)
    return {row.pop("path"): row for row in shown["libraries"]}


def answers(db: Path) -> dict[str, tuple[Any, ...]]:
    with Catalogue(db) as opened:
        return {
            str(one.path): (one.prediction, one.error, one.fingerprint, one.mtime_ns)
            + (() if one.embedding is None else (one.embedding.tobytes(),))
            for one in opened.tracks()
        }


# --- list ----------------------------------------------------------------------------------------


def test_each_library_is_listed_with_what_is_known_of_it(
    run: Run, db: Path, music: Path, tmp_path: Path
) -> None:
    other = make_music(tmp_path / "other")
    before = datetime.now().astimezone().replace(microsecond=0)
    filled(db, music, other)
    (other / "a" / "1.mp3").unlink()
    (other / "a" / "2.mp3").write_bytes(b"longer than before, and so another file")
    with Catalogue(db, write=True) as catalogue:
        scan.survey(catalogue, other)
    shutil.rmtree(other)
    found = listed(run)
    assert list(found) == [str(music), str(other)]
    one, two = found.values()
    assert before <= datetime.fromisoformat(one.pop("scanned")) <= datetime.now().astimezone()
    assert one == {
        "exists": True,
        "files": 5,
        "analysed": 4,
        "failed": 1,
        "waiting": 0,
        "gone": 0,
        "models": [{"name": "default", "key": default().key, "files": 4}],
    }
    assert (two["exists"], two["analysed"], two["waiting"], two["gone"]) == (False, 2, 1, 1)
    first, second, last = run("library", "list").stdout.splitlines()
    counts = "4 analysed, 1 failed, 0 waiting, 0 gone"
    assert first.startswith(f"{music}: {counts}; model default; last scan 20")
    assert second.startswith(f"{other} (not there now): 2 analysed, 1 failed, 1 waiting, 1 gone;")
    assert last == f"{db}: 10 files, 0.1 MB"
    assert json.loads(run("library", "list", "--json").stdout)["bytes"] == db.stat().st_size


def test_the_model_is_named_with_its_quality(run: Run, db: Path, music: Path) -> None:
    with Catalogue(db, write=True) as catalogue:
        fill(catalogue, music)
        fast = Classifier.default(quality="fast")
        model = catalogue.model(fast)
        (file,) = [one for one in catalogue.files(str(music)) if one.path.name == "5.mp3"]
        shares = dict.fromkeys(fast.genres, 0.1)
        embedding = np.zeros(fast.embedding_width, np.float16)
        found = Prediction("rock", 0.1, True, shares, {}), embedding
        catalogue.save(file.row, file.path.stat(), None, model, found)
    shown = {one["name"]: one["files"] for one in listed(run)[str(music)]["models"]}
    assert shown == {"default": 3, "default (fast)": 1}
    assert "model default (3 files), default (fast) (1 file);" in run("library", "list").stdout


def test_a_part_of_a_library_is_no_library_and_a_whole_takes_in_its_parts(
    db: Path, music: Path, tmp_path: Path
) -> None:
    with Catalogue(db, write=True) as catalogue:
        fill(catalogue, music / "a")
        assert [one.path for one in catalogue.libraries()] == [music / "a"]
        fill(catalogue, music)
        assert [one.path for one in catalogue.libraries()] == [music]
        fill(catalogue, music / "b")
        scan.survey_changes(catalogue, music / "b", [music / "b" / "live"])
        assert [one.path for one in catalogue.libraries()] == [music]
        assert catalogue.libraries()[0].counts == catalogue.counts()
        beside = tmp_path / "music (old)"  # sorts between the folder and what is in it
        make_music(beside)
        fill(catalogue, beside)
        assert [one.path for one in catalogue.libraries()] == [music, beside]


def test_libraries_of_an_older_catalogue_are_found(db: Path, music: Path, tmp_path: Path) -> None:
    other = make_music(tmp_path / "other")
    filled(db, music, other)
    with closing(sqlite3.connect(db)) as old:
        old.execute("DROP TABLE libraries")
        old.execute("PRAGMA user_version = 4")
        old.commit()
    with Catalogue(db) as catalogue:
        found = catalogue.libraries()
        assert [(one.path, one.scanned) for one in found] == [(music, None), (other, None)]
        assert [sum(one.counts.values()) for one in found] == [5, 5]
    with Catalogue(db, write=True) as catalogue:
        scan.survey(catalogue, other)
        assert [one.scanned is None for one in catalogue.libraries()] == [True, False]


def test_nothing_scanned_and_no_catalogue(run: Run, db: Path) -> None:
    done = run("library", "list", code=1)
    assert "there is no catalogue" in done.stderr
    for words in (("forget", "/nowhere", "--yes"), ("move", "/nowhere", "/")):
        assert "there is no catalogue" in run("library", *words, code=1).stderr
    assert not db.exists()
    Catalogue(db, write=True).close()
    assert run("library", "list").stdout == f"{db}: 0 files, 0.0 MB\n"


@ON_LINUX
def test_a_library_whose_name_is_no_text(run: Run, db: Path, tmp_path: Path) -> None:
    folder = make_music(tmp_path / NOT_UTF_8)
    filled(db, folder)
    assert list(listed(run)) == [str(folder)]
    assert "caf\\udce9" in run("library", "list").stdout
    with Catalogue(db, write=True) as catalogue:
        fill(catalogue, folder / "a")
        assert [one.path for one in catalogue.libraries()] == [folder]


# --- forget --------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_is_forgotten_and_its_files_stay(run: Run, db: Path, music: Path) -> None:
    filled(db, music)
    before, files = answers(db), contents(music)
    done = run("library", "forget", music / "b", "--yes")
    assert f"{music / 'b'}: 2 files in the catalogue (1 analysed, 1 failed)" in done.stderr
    assert "No audio file is touched" in done.stderr
    assert f"It is a part of {music}, whose next scan adds it again" in done.stderr
    assert "2 files forgotten" in done.stdout
    assert contents(music) == files
    kept = {path: answer for path, answer in before.items() if "/b/" not in path}
    assert answers(db) == kept
    with Catalogue(db, write=True) as catalogue:
        assert scan.survey(catalogue, music).changes == scan.Changes(new=2)


def test_a_whole_library_is_forgotten_though_it_is_gone_and_another_stays(
    run: Run, db: Path, music: Path, tmp_path: Path
) -> None:
    other = make_music(tmp_path / "music2")  # begins with the name of the first
    filled(db, music, other)
    shutil.rmtree(music)
    assert "5 files forgotten" in run("library", "forget", music, "-y").stdout
    assert list(listed(run)) == [str(other)]
    assert len(answers(db)) == 5
    again = run("library", "forget", music, "-y", code=1)
    assert (
        "the catalogue holds no file of this folder. See `genrescope library list`" in again.stderr
    )


def test_the_space_is_given_back(run: Run, db: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(400):
        (many / f"{number}.mp3").write_bytes(b"x")
    small = make_music(tmp_path / "small")
    filled(db, many.resolve(), small)
    large = db.stat().st_size
    done = run("library", "forget", many, "--yes")
    assert db.stat().st_size < large / 4
    assert f"400 files forgotten, {(large - db.stat().st_size) / 1e6:.1f} MB freed" in done.stdout
    assert not db.with_name("library.db-wal").exists()
    assert len(answers(db)) == 5


def test_it_is_forgotten_though_there_is_no_room_to_make_the_file_smaller(
    db: Path, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(db, music)
    from typer.testing import CliRunner

    from genrescope.cli.app import app

    def full(self: Catalogue) -> None:
        raise InputError(db, "there is no room left on its disk", "Make room")

    monkeypatch.setattr(Catalogue, "compact", full)
    done = CliRunner().invoke(app, ["library", "forget", str(music), "--yes", "--db", str(db)])
    assert done.exit_code == 0, done.output
    assert "5 files forgotten" in done.output
    assert not answers(db)


def test_it_asks_first(run: Run, db: Path, music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(db, music)
    done = run("library", "forget", music, code=1)  # standard input is no terminal
    assert "Give --yes" in done.stderr
    assert len(answers(db)) == 5
    import pty

    for answer, code, left in ((b"n\n", 130, 5), (b"\n", 130, 5), (b"y\n", 0, 0)):
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        line = [sys.executable, "-m", "genrescope", "library", "forget", music, "--db", db]
        asked = subprocess.run(line, stdin=theirs, capture_output=True, text=True, check=False)
        os.close(ours)
        os.close(theirs)
        assert asked.returncode == code, asked.stderr
        assert "Forget them? [y/N]" in asked.stderr
        assert len(answers(db)) == left


@pytest.mark.parametrize("words", [("forget", "--yes"), ("move", "/")])
def test_not_during_a_scan(run: Run, db: Path, music: Path, words: tuple[str, ...]) -> None:
    filled(db, music)
    before = answers(db)
    with filelock.FileLock(f"{db}.lock"):
        done = run("library", words[0], music, *words[1:], code=1)
        assert "another genrescope is writing to this catalogue. Wait until" in done.stderr
        assert list(listed(run)) == [str(music)]  # reading is not kept from it
    assert answers(db) == before


def test_a_reader_goes_on_while_something_is_forgotten(db: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(600):
        (many / f"{number:03d}.mp3").write_bytes(b"x")
    filled(db, many.resolve())
    with Catalogue(db) as reader:
        tracks = reader.tracks()
        first = [next(tracks).path.name for _ in range(10)]
        with Catalogue(db, write=True) as writer:
            assert writer.forget(str(many.resolve())) == 600
            writer.compact()
        rest = [track.path.name for track in tracks]
    assert first == [f"{number:03d}.mp3" for number in range(10)]
    assert len(rest) < 600


@ON_LINUX
def test_folders_whose_names_are_no_text_are_forgotten(run: Run, db: Path, tmp_path: Path) -> None:
    music = make_music(tmp_path / "music")
    odd = make_music(music / NOT_UTF_8)
    filled(db, music)
    assert "5 files forgotten" in run("library", "forget", odd, "--yes").stdout
    assert len(answers(db)) == 5
    make_music(music / "a" / NOT_UTF_8)
    filled(db, music)
    assert "7 files forgotten" in run("library", "forget", music / "a", "--yes").stdout


def test_tags_can_be_put_back_after_forgetting_and_after_moving(
    run: Run, db: Path, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for name in ("lament", "shuffle"):
        shutil.copy(genrescope.sample(name), music)
    before = {path.name: path.read_bytes() for path in music.iterdir()}
    run("scan", music, "--quality", "fast")
    plan = tmp_path / "plan.csv"
    run("tag", "plan", music, "--existing", "replace", "--out", plan, "--min-confidence", 0)
    assert "2 written" in run("tag", "apply", plan).stdout
    assert {path.name: path.read_bytes() for path in music.iterdir()} != before
    music.rename(tmp_path / "moved")
    assert "the library is missing" in run("tag", "undo", code=1).stderr
    done = run("library", "move", music, tmp_path / "moved", code=1)  # tagged since the scan
    assert "0 files as they were, 2 changed since the scan" in done.stdout
    assert "plans of `genrescope tag log` that can be undone there: 1" in done.stdout
    run("library", "forget", tmp_path / "moved", "--yes")
    assert "2 undone" in run("tag", "undo").stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "moved").iterdir()} == before


# --- move ----------------------------------------------------------------------------------------


def test_everything_known_follows_a_folder(run: Run, db: Path, music: Path, tmp_path: Path) -> None:
    beside = make_music(tmp_path / "music (old)")
    filled(db, music, beside)
    before, scanned = answers(db), listed(run)[str(music)]["scanned"]
    target = tmp_path / "data" / "new place"
    music.rename(target)
    done = run("library", "move", music, target)
    assert done.stdout == f"{music} is now {target}: 5 files as they were\n"
    after = answers(db)
    meant = {path.replace(f"{music}/", f"{target}/"): answer for path, answer in before.items()}
    assert after == meant
    found = listed(run)
    assert set(found) == {str(target), str(beside)}
    assert found[str(target)]["scanned"] == scanned
    with Catalogue(db, write=True) as catalogue:
        assert scan.survey(catalogue, target.resolve()).changes == scan.Changes()
        assert catalogue.count_waiting(str(target), catalogue.model(default())) == 0


def test_a_scan_that_missed_the_files_meanwhile_does_not_matter(
    catalogue: Catalogue, music: Path, tmp_path: Path
) -> None:
    fill(catalogue, tmp_path.resolve())  # the library is the folder above
    (music / "a").rename(tmp_path / "elsewhere")
    shutil.rmtree(music / "b")
    catalogue.end_walk(str(music / "a"), catalogue.begin_walk())
    assert catalogue.counts(str(music / "a"))["gone"] == 2
    moved = move(catalogue, music / "a", tmp_path / "elsewhere")
    assert (moved.kept, moved.changed, moved.missing) == (2, (), ())
    assert catalogue.counts(str(tmp_path / "elsewhere"))["analysed"] == 2
    assert not any(catalogue.counts(str(music / "a")).values())


def test_what_is_missing_or_changed_is_named_and_left_to_the_next_scan(
    run: Run, db: Path, music: Path, tmp_path: Path
) -> None:
    filled(db, music)
    target = tmp_path / "target"
    music.rename(target)
    (target / "a" / "1.mp3").unlink()
    (target / "b" / "live" / "3.flac").write_bytes(b"another size")
    os.utime(target / "5.mp3", ns=(0, 10**18))
    done = run("library", "move", music, target, code=1)
    assert "2 files as they were, 2 changed since the scan, 1 missing" in done.stdout
    assert f"missing: {target / 'a' / '1.mp3'}\n" in done.stderr
    for name in ("b/live/3.flac", "5.mp3"):
        assert f"changed: {target / name}\n" in done.stderr
    shown = listed(run)[str(target)]
    assert (shown["analysed"], shown["failed"], shown["waiting"], shown["gone"]) == (1, 1, 2, 1)
    with Catalogue(db, write=True) as catalogue:
        changes = scan.survey(catalogue, target).changes
        assert (changes.new, changes.gone) == (0, 0)
        waiting = catalogue.waiting(str(target), catalogue.model(default()))
        assert {file.path.name for file in waiting} == {"3.flac", "5.mp3"}


def test_a_copy_without_times_is_only_compared(
    catalogue: Catalogue, music: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    shutil.copytree(music, target, copy_function=shutil.copyfile)
    shutil.rmtree(music)
    moved = move(catalogue, music, target)
    assert (moved.kept, len(moved.changed), moved.missing) == (0, 5, ())
    # The fingerprints are still there, by which the next scan knows the audio.
    waiting = list(catalogue.waiting(str(target), catalogue.model(default())))
    assert sum(file.fingerprint is not None for file in waiting) == 4


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("music", "nowhere", "no such folder"),
        ("music", "a file", "it is a file"),
        ("music", "music", "it is the same folder. Run `genrescope scan`"),
        ("music", "link", "it is the same folder. Run `genrescope scan`"),
        ("music", "music/b", "it overlap"),
        ("music/b", "music", "it overlap"),
        ("music", "other", "the catalogue holds 5 files of it already"),
        ("music", "above", "the catalogue holds 5 files of it already"),
        ("music", "empty", "none of the files that the catalogue holds"),
        ("unknown", "empty", "the catalogue holds no file of this folder"),
    ],
)
def test_a_move_that_cannot_be_is_refused(
    run: Run, db: Path, music: Path, tmp_path: Path, old: str, new: str, cause: str
) -> None:
    other = make_music(tmp_path / "above" / "other")
    (tmp_path / "other").symlink_to(other)
    (tmp_path / "link").symlink_to(music)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").touch()
    filled(db, music, other)
    before = answers(db)
    done = run("library", "move", tmp_path / old, tmp_path / new, code=1)
    assert cause in done.stderr
    assert answers(db) == before
    assert set(listed(run)) == {str(music), str(other)}


def test_a_place_that_a_walk_found_empty_is_no_obstacle(
    catalogue: Catalogue, music: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    (target / "a").mkdir(parents=True)
    scan.survey(catalogue, target.resolve())
    shutil.rmtree(target)
    music.rename(target)
    assert move(catalogue, music, target).kept == 5
    assert [one.path for one in catalogue.libraries()] == [target.resolve()]


def test_all_is_moved_or_nothing(db: Path, music: Path, tmp_path: Path) -> None:
    filled(db, music)
    before = answers(db)

    def missing() -> Iterator[int]:
        yield 1
        raise RuntimeError("killed in the middle")

    with Catalogue(db, write=True) as catalogue, pytest.raises(RuntimeError):
        catalogue.move(str(music), str(tmp_path / "target"), missing=missing(), changed=())
    assert answers(db) == before


@ON_LINUX
@pytest.mark.parametrize("names", [("a", NOT_UTF_8), (NOT_UTF_8, "b"), (NOT_UTF_8, NOT_UTF_8 * 2)])
def test_names_that_are_no_text_are_moved(
    run: Run, db: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    old, new = (tmp_path / name for name in names)
    make_music(old)
    make_music(old / os.fsdecode(b"\xff") / "deeper")
    filled(db, old)
    before = answers(db)
    old.rename(new)
    assert "10 files as they were" in run("library", "move", old, new).stdout
    assert answers(db) == {
        f"{new}{path.removeprefix(str(old))}": answer for path, answer in before.items()
    }
    assert [Path(path) for path in listed(run)] == [new]
    with Catalogue(db, write=True) as catalogue:
        assert scan.survey(catalogue, new).changes == scan.Changes()


def test_nothing_is_moved_while_tags_are_being_changed(
    run: Run, db: Path, music: Path, tmp_path: Path
) -> None:
    filled(db, music)
    before = answers(db)
    journal = tmp_path / "data" / "genrescope" / "journal.db"
    Journal(journal).close()
    music.rename(tmp_path / "moved")
    with filelock.FileLock(f"{journal}.lock"):
        done = run("library", "move", music, tmp_path / "moved", code=1)
    assert "another genrescope is changing tags, and has this journal open" in done.stderr
    assert answers(db) == before


def test_plans_of_the_folder_are_followed_and_others_are_not(tmp_path: Path) -> None:
    old, new = Path("/m/old"), Path("/n") / NOT_UTF_8
    with Journal(tmp_path / "journal.db") as journal:
        for number, library in enumerate((old, old / "sub", Path("/m"), Path("/m/older"))):
            journal.register(str(number), Path("p"), library, [], preserve_mtime=False)
        assert journal.move(old, new) == 2
        found = [entry.library for entry in journal.plans()]
    assert found == [Path("/m/older"), Path("/m"), new / "sub", new]


# --- Spellings of a folder -----------------------------------------------------------------------


def test_a_folder_is_found_by_any_path_to_it(
    catalogue: Catalogue, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(music)
    monkeypatch.chdir(tmp_path)
    for given in (music, Path("music"), Path("link"), Path("music/../link"), Path("music/a/..")):
        assert find_folder(catalogue, given) == music
    assert find_folder(catalogue, Path("link/a")) == music / "a"


def test_a_link_in_the_old_place_does_not_hide_it(
    run: Run, db: Path, music: Path, tmp_path: Path
) -> None:
    filled(db, music)
    target = tmp_path / "target"
    music.rename(target)
    music.symlink_to(target)
    assert "5 files as they were" in run("library", "move", music, target).stdout
    assert list(listed(run)) == [str(target)]


@pytest.mark.parametrize("given", ["MUSIC", "Music/A", "mu\u0308sic", "M\xdcSIC/a"])
def test_case_and_form_are_the_file_system_s_business(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    name = "m\xfcsic" if "\u0308" in given or "\xdc" in given else "music"
    music = make_music(tmp_path / name)
    filled(db, music)
    meant = music / "a" if given.lower().endswith("/a") else music
    with Catalogue(db) as catalogue:
        # Here they differ.
        with pytest.raises(InputError, match=f"It holds {meant}: give that"):
            find_folder(catalogue, tmp_path / given)
        # A system that ignores both says that they are the same folder.
        monkeypatch.setattr(Path, "samefile", lambda *_: True)
        assert find_folder(catalogue, tmp_path / given) == meant


def test_a_folder_that_is_gone_is_found_by_the_system_s_rule_for_names(
    catalogue: Catalogue, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(music)
    with pytest.raises(InputError, match="It holds"):
        find_folder(catalogue, tmp_path / "Music")
    monkeypatch.setattr(os.path, "normcase", ntpath.normcase)  # Windows
    assert find_folder(catalogue, tmp_path / "Music") == music
