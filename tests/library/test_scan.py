"""Scanning a library, and what its catalogue states: by the command line, on real files."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import soundfile
from mutagen.id3 import ID3, TCON, TIT2

import commands
import genrescope
from genrescope.classifier import Classifier
from genrescope.errors import InputError
from genrescope.library import scan
from genrescope.library.catalogue import Catalogue, WaitingFile
from hostile import hostile
from named_model import named_model

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command with a data folder of its own."""

    def command(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "COLUMNS": "200", **more}
        named = words[:1] == ("scan",) and "--model" not in words
        return commands.run(*words, *(("--model", named_model()) if named else ()), env=env)

    return command


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Give three samples in two albums, a picture and a text that says it is music."""
    folder = tmp_path / "music"
    for place, name in (("a", "lament"), ("a", "pulse"), ("b/live", "shuffle")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(genrescope.sample(name), folder / place)
    (folder / "a" / "cover.jpg").write_bytes(b"no music")
    (folder / "b" / "letter.mp3").write_text("no music either")
    return folder


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def scanned(run: Run, library: Path, *options: object, **more: str) -> dict[str, Any]:
    return counts(run("scan", library, "--json", *options, **more))


def rows(run: Run, *options: object) -> dict[str, dict[str, Any]]:
    done = run("export", "--format", "jsonl", *options)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len({row["path"] for row in found})
    return {Path(row["path"]).name: row for row in found}


def test_a_scan_analyses_everything_once_and_names_what_failed(run: Run, library: Path) -> None:
    done = run("scan", library)
    assert done.returncode == 1
    assert "letter.mp3: not audio that genrescope can read" in done.stderr
    assert "4 audio files: 4 new" in done.stdout
    assert "3 analysed, 1 failed" in done.stdout
    again = run("scan", library, "--json")
    assert again.returncode == 0
    assert (counts(again)["analysed"], counts(again)["failed"], counts(again)["new"]) == (0, 0, 0)


def test_the_catalogue_says_what_classify_says(run: Run, library: Path) -> None:
    scanned(run, library, "--model", Classifier.default().folder)
    found = rows(run)
    for name in genrescope.SAMPLES:
        meant = genrescope.load().predict(genrescope.sample(name))
        row = found[f"{name}.mp3"]
        assert row["genre"] == meant.genre
        assert row["confidence"] == pytest.approx(meant.confidence, abs=1e-5)
        assert row["unsure"] == meant.unsure
        for kind, known in (("probabilities", meant.probabilities), ("tags", meant.tags)):
            assert row[kind] == pytest.approx(known, abs=1e-3)
        assert row["error"] is None
    letter = found["letter.mp3"]
    assert letter["genre"] is None
    assert letter["error"].startswith("not audio that genrescope can read")


def test_renamed_moved_copied_and_retagged_files_are_not_analysed_again(
    run: Run, library: Path
) -> None:
    scanned(run, library)
    before = rows(run)
    (library / "a").rename(library / "z")
    (library / "z" / "pulse.mp3").rename(library / "other name.mp3")
    shutil.copy(library / "b/live/shuffle.mp3", library / "copy.mp3")
    tags = ID3()
    tags.add(TIT2(encoding=3, text="A title"))
    tags.add(TCON(encoding=3, text="Jazz"))
    tags.save(library / "b/live/shuffle.mp3")
    shown = scanned(run, library)
    assert (shown["analysed"], shown["known"], shown["failed"]) == (0, 4, 0)
    after = rows(run)
    assert set(after) == {"lament.mp3", "other name.mp3", "copy.mp3", "shuffle.mp3", "letter.mp3"}
    for name, was in (("other name", "pulse"), ("copy", "shuffle"), ("shuffle", "shuffle")):
        assert after[f"{name}.mp3"]["probabilities"] == before[f"{was}.mp3"]["probabilities"]
    assert after["shuffle.mp3"]["size"] == (library / "b/live/shuffle.mp3").stat().st_size


def test_other_audio_under_the_same_name_is_analysed_again(run: Run, library: Path) -> None:
    scanned(run, library)
    shutil.copy(genrescope.sample("pulse"), library / "a" / "lament.mp3")
    (library / "b" / "letter.mp3").write_bytes(genrescope.sample("lament").read_bytes()[:-5])
    shown = scanned(run, library)
    assert shown["changed"] == 2
    found = rows(run)
    assert found["lament.mp3"]["genre"] == found["pulse.mp3"]["genre"] == "disco"
    assert (found["letter.mp3"]["genre"], found["letter.mp3"]["error"]) == ("classical", None)


def test_what_is_gone_is_left_out_and_comes_back_without_analysis(
    run: Run, library: Path, tmp_path: Path
) -> None:
    scanned(run, library)
    (library / "a").rename(tmp_path / "drive taken out")
    shown = scanned(run, library)
    assert shown["gone"] == 2
    assert set(rows(run)) == {"shuffle.mp3", "letter.mp3"}
    (tmp_path / "drive taken out").rename(library / "a")
    shown = scanned(run, library)
    assert (shown["new"], shown["analysed"], shown["known"]) == (0, 0, 0)
    assert len(rows(run)) == 4


def test_only_the_library_asked_for_is_reported(run: Run, library: Path) -> None:
    (library / "ab").mkdir()
    shutil.copy(genrescope.sample("pulse"), library / "ab" / "near.mp3")
    scanned(run, library / "a")
    scanned(run, library / "ab")
    assert set(rows(run, library / "a")) == {"lament.mp3", "pulse.mp3"}
    assert set(rows(run, library)) == {"lament.mp3", "pulse.mp3", "near.mp3"}
    # A scan of one says nothing of the other.
    shutil.rmtree(library / "ab")
    assert scanned(run, library / "a")["gone"] == 0
    assert len(rows(run)) == 3


def test_what_failed_waits_for_a_change_or_to_be_asked_again(run: Run, library: Path) -> None:
    scanned(run, library)
    assert scanned(run, library)["failed"] == 0
    assert scanned(run, library, "--retry")["failed"] == 1
    shutil.copy(genrescope.sample("pulse"), library / "b" / "letter.mp3")
    assert scanned(run, library)["failed"] == 0
    assert rows(run)["letter.mp3"]["genre"] == "disco"


def test_another_model_analyses_everything_again(run: Run, library: Path, tmp_path: Path) -> None:
    scanned(run, library)
    model = tmp_path / "model"
    Classifier.default().save_pretrained(model)
    config = json.loads((model / "config.json").read_text())
    config["genres"] = [f"my {genre}" for genre in config["genres"]]
    (model / "config.json").write_text(json.dumps(config))
    assert scanned(run, library, "--model", model)["analysed"] == 3
    assert rows(run)["pulse.mp3"]["best"] == "my disco"
    assert scanned(run, library, "--model", model)["analysed"] == 0


def test_hidden_files_are_left_out_and_links_are_reported(run: Run, library: Path) -> None:
    shutil.copy(genrescope.sample("pulse"), library / "._pulse.mp3")
    (library / ".trash").mkdir()
    shutil.copy(genrescope.sample("pulse"), library / ".trash" / "old.mp3")
    (library / "nowhere.mp3").symlink_to(library / "not there.mp3")
    (library / "linked.mp3").symlink_to(library / "a" / "pulse.mp3")
    (library / "around").symlink_to(library)
    done = run("scan", library)
    assert "nowhere.mp3: it is a link to nothing" in done.stderr
    assert "6 audio files" in done.stdout
    assert f"{library.resolve() / 'around'}" in done.stderr
    assert "links to folders" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_reported_and_the_rest_goes_on(run: Run, library: Path) -> None:
    odd = os.fsencode(library) + b"/caf\xe9.mp3"
    Path(os.fsdecode(odd)).write_bytes(genrescope.sample("pulse").read_bytes())
    folder = Path(os.fsdecode(os.fsencode(library) + b"/\xe9t\xe9"))
    folder.mkdir()
    shutil.copy(genrescope.sample("lament"), folder)
    done = run("scan", library, PYTHONUTF8="1")
    assert done.returncode == 1
    assert "6 audio files: 6 new" in done.stdout
    assert "letter.mp3" in done.stderr
    shown = json.loads(run("stats", library, "--json").stdout)
    assert (shown["analysed"], shown["failed"]) == (5, 1)
    assert scanned(run, library)["new"] == 0
    assert run("stats", library).returncode == 0


def test_stats_add_up(run: Run, library: Path, tmp_path: Path) -> None:
    scanned(run, library)
    done = run("stats", "--json", "--plot", tmp_path / "stats.png")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["analysed"], shown["failed"], shown["waiting"], shown["gone"]) == (3, 1, 0, 0)
    found = rows(run)
    for genre, stats in shown["genres"].items():
        of_it = [row for row in found.values() if row["genre"] == genre]
        assert stats["tracks"] == len(of_it) == sum(stats["confidences"])
        mean = np.mean([row["confidence"] for row in of_it])
        assert stats["mean_confidence"] == pytest.approx(mean, abs=1e-3)
    assert shown["failures"] == {"not audio that genrescope can read": 1}
    assert (tmp_path / "stats.png").read_bytes().startswith(b"\x89PNG")
    table = run("stats")
    assert "disco" in table.stdout
    assert "3 analysed, 1 failed" in table.stdout


def test_every_form_of_export_says_the_same(run: Run, library: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    scanned(run, library)
    meant = rows(run)
    lines = list(csv.DictReader(run("export", "--format", "csv").stdout.splitlines()))
    assert {Path(line["path"]).name: line["genre"] or None for line in lines} == {
        name: row["genre"] for name, row in meant.items()
    }
    out = tmp_path / "genres.parquet"
    assert run("export", "--format", "parquet", "--out", out).returncode == 0
    table = pq.read_table(out).to_pylist()
    for row in table:
        same = meant[Path(row["path"]).name]
        assert row["genre"] == same["genre"]
        shares = row["probabilities"]
        assert (shares and dict(shares)) == pytest.approx(same["probabilities"])
        if row["genre"] is None:
            assert row["embedding"] is None
        else:
            embedding = genrescope.load().analyse(row["path"])[1]
            assert np.array_equal(row["embedding"], embedding.astype(np.float32))
    assert len(table) == len(meant)


def test_a_playlist_for_each_genre(run: Run, library: Path, tmp_path: Path) -> None:
    scanned(run, library)
    folder = tmp_path / "lists"
    assert run("export", "--format", "m3u", "--out", folder, "--include-unsure").returncode == 0
    played = {
        path.stem: [line for line in path.read_text().splitlines() if not line.startswith("#")]
        for path in folder.iterdir()
    }
    assert played["disco"] == [str(library.resolve() / "a" / "pulse.mp3")]
    assert sum(map(len, played.values())) == 3
    sure = tmp_path / "sure"
    run("export", "--format", "m3u", "--out", sure, "--min-confidence", 0.8)
    assert {path.stem for path in sure.iterdir()} == {"classical", "jazz"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("scan", "NOWHERE"), "no such folder"),
        (("scan", "FILE"), "it is a file"),
        (("stats",), "there is no catalogue"),
        (("export", "--format", "csv"), "there is no catalogue"),
        (("export", "--format", "parquet"), "needs a file"),
        (("scan", "LIBRARY", "--db", "FILE"), "not a genrescope catalogue"),
        (("scan", "LIBRARY", "--db", "OTHER"), "another program's database"),
        (("scan", "LIBRARY", "--db", "NEWER"), "a newer genrescope created it"),
        (("scan", "LIBRARY", "--db", "LIBRARY"), "Give"),
        (("stats", "LIBRARY/a", "--db", "EMPTY"), "it has not been scanned yet. Run"),
    ],
)
def test_clear_words(
    run: Run, library: Path, tmp_path: Path, words: tuple[str, ...], shown: str
) -> None:
    places = {"NOWHERE": tmp_path / "nowhere", "FILE": tmp_path / "file.db", "LIBRARY": library}
    places["FILE"].write_text("not a database at all, but a text that is rather long " * 40)
    for name, pragma in (("OTHER", "application_id = 7"), ("NEWER", "user_version = 99")):
        places[name] = tmp_path / f"{name}.db"
        if name == "NEWER":
            Catalogue(places[name], write=True).close()
        with sqlite3.connect(places[name]) as database:
            database.execute("CREATE TABLE mine (a)")
            database.execute(f"PRAGMA {pragma}")
    places["EMPTY"] = tmp_path / "empty.db"
    Catalogue(places["EMPTY"], write=True).close()
    for name, path in places.items():
        words = tuple(word.replace(name, str(path)) for word in words)
    before = places["OTHER"].read_bytes()
    done = run(*words)
    assert done.returncode in (1, 2)
    assert shown in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr
    assert places["OTHER"].read_bytes() == before


@pytest.mark.parametrize(
    "words",
    ["stats LIBRARY", "export LIBRARY --format csv", "tag plan LIBRARY", "learn LIBRARY --out OUT"],
)
def test_a_library_without_audio_is_not_taken_for_one_that_was_not_scanned(
    run: Run, tmp_path: Path, words: str
) -> None:
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    other.mkdir()
    done = run("scan", empty)
    assert done.returncode == 0
    assert done.stdout == f"No audio files were found in {empty}.\n"
    for folder, cause in (
        (empty, "the last scan found no audio files in it. Add some"),
        (other, "it has not been scanned yet. Run `genrescope scan` on it."),
    ):
        places = {"LIBRARY": str(folder), "OUT": str(tmp_path / "out")}
        done = run(*(places.get(word, word) for word in words.split()))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{folder}: {cause}" in done.stderr


def test_one_scan_at_a_time(run: Run, library: Path, tmp_path: Path) -> None:
    db = tmp_path / "library.db"
    with filelock.FileLock(f"{db}.lock"):
        done = run("scan", library, "--db", db)
    assert done.returncode == 1
    assert "another genrescope is writing to this catalogue" in done.stderr
    assert not db.exists()


def test_a_reader_is_not_kept_waiting_by_a_scan(run: Run, library: Path, tmp_path: Path) -> None:
    db = tmp_path / "library.db"
    scanned(run, library, "--db", db)
    with Catalogue(db, write=True) as writer:
        writer.see(str(library), [], writer.begin_walk())
        done = run("stats", "--db", db, "--json")
    assert counts(done)["analysed"] == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_kills_its_decoder_costs_itself(
    run: Run, library: Path, tmp_path: Path, workers: int
) -> None:
    deadly = hostile(tmp_path, die="deadly.mp3", abort="cursed.mp3")
    for name in ("deadly.mp3", "cursed.mp3"):
        (library / "a" / name).write_bytes(genrescope.sample("pulse").read_bytes()[:-20_000])
    done = run("scan", library, "--workers", workers, **deadly)
    assert done.returncode == 1
    for name in ("deadly.mp3", "cursed.mp3"):
        assert f"{name}: its decoder crashed" in done.stderr
    assert "3 analysed, 3 failed" in done.stdout
    assert "Traceback" not in done.stderr
    found = rows(run)
    assert {name for name, row in found.items() if row["genre"]} == {
        "lament.mp3",
        "pulse.mp3",
        "shuffle.mp3",
    }
    again = scanned(run, library, **deadly)
    assert (again["analysed"], again["failed"]) == (0, 0)  # it is known
    assert scanned(run, library, "--retry")["analysed"] == 2  # with a better decoder


def test_what_decoders_print_is_not_seen(run: Run, library: Path, tmp_path: Path) -> None:
    plain, db = run("scan", library), tmp_path / "other.db"
    noisy = run("scan", library, "--db", db, **hostile(tmp_path, chatter=".mp3"))
    assert "chatter" not in noisy.stderr + noisy.stdout
    assert noisy.stderr == plain.stderr


@pytest.mark.slow
def test_many_files_are_analysed_by_processes_and_a_crash_ends_none_of_the_rest(
    run: Run, library: Path, tmp_path: Path
) -> None:
    source = genrescope.sample("pulse").read_bytes()
    for number in range(60):  # of different audio
        (library / f"{number:02d}.mp3").write_bytes(source[: 80_000 + 500 * number])
    shutil.copy(genrescope.sample("lament"), library / "deadly.mp3")
    with (library / "deadly.mp3").open("r+b") as file:
        file.truncate(90_000)
    done = run("scan", library, "--workers", 2, **hostile(tmp_path, die="deadly.mp3"))
    assert done.returncode == 1, done.stderr
    assert "deadly.mp3: its decoder crashed" in done.stderr
    together = rows(run)
    # One at a time, the same comes of them.
    plain = tmp_path / "plain.db"
    (library / "deadly.mp3").unlink()
    for file in sorted(library.glob("[0-9]*.mp3"))[:20]:
        (tmp_path / "few").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "few")
    scanned(run, tmp_path / "few", "--db", plain, "--workers", 1)
    for name, row in rows(run, "--db", plain).items():
        for key in ("genre", "probabilities", "tags", "error", "fingerprint"):
            assert row[key] == together[name][key]
    assert sum(row["error"] is None for row in together.values()) >= 60


def test_damage_is_kept_with_the_answer(run: Run, library: Path, tmp_path: Path) -> None:
    db, plain = tmp_path / "library.db", (library / "a" / "lament.mp3").read_bytes()
    (library / "a" / "cut.mp3").write_bytes(plain[: round(0.7 * len(plain))])
    (library / "a" / "lost.mp3").write_bytes(plain[: round(0.3 * len(plain))])
    done = run("scan", library, "--db", db)
    assert "lost.mp3: it is damaged or cut off" in done.stderr
    assert "Warning: " in done.stderr
    assert "cut.mp3: 2.7 s of 9.0 s could not be decoded" in done.stderr
    shutil.copy(library / "a" / "cut.mp3", library / "b" / "copy.mp3")
    assert scanned(run, library, "--db", db)["known"] == 1
    with Catalogue(db) as catalogue:
        known = {one.path.name: one for one in catalogue.tracks()}
    for name in ("cut.mp3", "copy.mp3"):
        assert known[name].prediction is not None
        (warning,) = known[name].prediction.warnings
        assert "could not be decoded: it is damaged or cut off" in warning
    assert known["pulse.mp3"].prediction.warnings == ()
    assert known["lost.mp3"].prediction is None


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue(tmp_path / "library.db", write=True) as opened:
        yield opened


def test_an_unreadable_folder_is_named_and_not_taken_for_empty(
    catalogue: Catalogue, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = scan.open_library(library)
    classifier = Classifier.default()
    scan.survey(catalogue, library)
    list(scan.analyse(catalogue, classifier, library))
    listed = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = scan.survey(catalogue, library)
    assert [error.path.name for error in found.unreadable] == ["b"]
    assert found.changes.gone == 0
    assert catalogue.counts()["gone"] == 0


def test_many_threads_at_once_learn_the_names_of_tags_once(library: Path, tmp_path: Path) -> None:
    library = scan.open_library(library)
    classifier = genrescope.load()
    answer = classifier.analyse(genrescope.sample())
    for number in range(44):  # with the four that there are, three times sixteen
        (library / f"{number}.mp3").write_bytes(bytes([number]) * 100)
    together = threading.Barrier(16)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(4):
            with Catalogue(tmp_path / f"{number}.db", write=True) as catalogue:
                scan.survey(catalogue, library)
                model = catalogue.model(classifier)
                waiting = list(catalogue.waiting(str(library), model))

                def keep(
                    file: WaitingFile, catalogue: Catalogue = catalogue, model: int = model
                ) -> None:
                    together.wait(20)
                    catalogue.save(file.row, file.path.stat(), None, model, answer)

                with ThreadPoolExecutor(16) as threads:
                    assert len(list(threads.map(keep, waiting))) == 48
                known = list(catalogue.tracks())
                assert len(known) == 48
                tags = {tuple(sorted(one.prediction.tags)) for one in known}
                assert tags == {tuple(sorted(answer[0].tags))}
    finally:
        sys.setswitchinterval(before)


def test_no_fault_of_one_file_ends_a_scan(run: Run, library: Path, tmp_path: Path) -> None:
    done = run("scan", library, **hostile(tmp_path, fail="pulse.mp3"))
    assert done.returncode == 1
    assert "pulse.mp3: it cannot be analysed" in done.stderr
    assert "RuntimeError: a fault in somebody's decoder" in done.stderr
    shown = json.loads(run("stats", "--json").stdout)
    assert (shown["analysed"], shown["failed"], shown["waiting"], shown["gone"]) == (2, 2, 0, 0)


def test_a_copy_is_known_though_what_it_was_copied_from_has_changed(
    catalogue: Catalogue, library: Path
) -> None:
    library = scan.open_library(library)
    classifier = Classifier.default()
    scan.survey(catalogue, library)
    list(scan.analyse(catalogue, classifier, library))
    shuffle = library / "b/live/shuffle.mp3"
    (library / "copies").mkdir()
    shutil.copy(shuffle, library / "copies")
    tags = ID3()
    tags.add(TIT2(encoding=3, text="A title"))
    tags.save(shuffle)
    scan.survey(catalogue, library)
    # Whichever of the two comes first: here the copy.
    for folder in (library / "copies", library):
        results = list(scan.analyse(catalogue, classifier, folder))
        assert [(outcome.path.name, outcome.result) for outcome in results] == [
            ("shuffle.mp3", None)
        ]


def test_a_change_is_found_without_a_walk_through_all(catalogue: Catalogue, library: Path) -> None:
    library = scan.open_library(library)
    classifier = Classifier.default()
    scan.survey(catalogue, library)
    list(scan.analyse(catalogue, classifier, library))
    new = library / "new" / "album"
    new.mkdir(parents=True)
    shutil.copy(genrescope.sample("lament"), new / "moved here.mp3")
    (library / "a" / "pulse.mp3").unlink()
    shutil.rmtree(library / "b")
    (library / ".hidden.mp3").write_bytes(b"")
    changed = [library / "new", library / "a" / "pulse.mp3", library / "b", library / ".hidden.mp3"]
    changes = scan.survey_changes(catalogue, library, changed)
    assert (changes.new, changes.changed, changes.gone) == (1, 0, 3)
    results = list(scan.analyse(catalogue, classifier, library))
    assert [outcome.path.name for outcome in results] == ["moved here.mp3"]
    assert scan.survey(catalogue, library).changes == scan.Changes()


@pytest.mark.slow
def test_watching_analyses_what_is_added(run: Run, library: Path, tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    db = tmp_path / "library.db"
    line = [sys.executable, "-m", "genrescope", "scan", str(library), "--db", str(db), "--watch"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as watcher:
        assert watcher.stderr is not None
        try:
            lines = iter(watcher.stderr.readline, "")
            assert any(shown.startswith("Watching") for shown in lines)
            time.sleep(0.5)  # it says so just before it does
            (library / "later").mkdir()
            shutil.copy(genrescope.sample("lament"), library / "later" / "added.mp3")
            soundfile.write(library / "later" / "more.wav", np.zeros(66150), 22050)
            shown = [next(lines)]
            while not any("more.wav" in line for line in shown):
                shown.append(next(lines))
        finally:
            watcher.send_signal(signal.SIGINT)
            ended = watcher.wait(20)
    assert ended == 130
    assert {"added.mp3", "more.wav"} <= set(rows(run, "--db", db))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_ten_times_the_library_takes_hardly_more_memory(run: Run, tmp_path: Path) -> None:
    source = genrescope.sample("pulse").read_bytes()
    peaks, sizes = [], []
    for number in (1_000, 10_000):
        library = tmp_path / str(number)
        library.mkdir()
        (library / "first.mp3").write_bytes(source)
        for i in range(number // 100):
            album = library / f"an artist with a name {i // 10}" / f"album {i % 10}"
            album.mkdir(parents=True)
            for track in range(100):
                os.link(library / "first.mp3", album / f"{track:02d} a song of usual length.mp3")
        db = tmp_path / f"{number}.db"
        shown = scanned(run, library, "--db", db)
        assert shown["files"] == shown["analysed"] + shown["known"] == number + 1
        sizes.append(db.stat().st_size / number)
        # The second scan walks through all and finds nothing to do.
        line = [sys.executable, "-c", PEAK, str(library), str(db)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.split()[-1]))
    assert max(sizes) < 3000
    assert peaks[1] < peaks[0] + 10


PEAK = """
import sys
from pathlib import Path
from genrescope.cli.app import app
try:
    app(["scan", sys.argv[1], "--db", sys.argv[2], "--json"])
except SystemExit:
    pass
# getrusage also counts the process that started this one.
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024)
"""


def test_scanning_and_analysing_are_one_result(catalogue: Catalogue, library: Path) -> None:
    library = scan.open_library(library)
    scan.survey(catalogue, library)
    results = {
        outcome.path.name: outcome
        for outcome in scan.analyse(catalogue, Classifier.default(), library, workers=3)
    }
    assert isinstance(results["letter.mp3"].result, InputError)
    kept = {known.path.name: known for known in catalogue.tracks()}
    assert set(kept) == set(results)


@pytest.mark.parametrize(
    "day", ["2300-01-01", "2262-04-12", "2262-04-11", "1969-12-31", "1902-01-01"]
)
def test_files_of_any_time_are_noted_once(catalogue: Catalogue, library: Path, day: str) -> None:
    library = scan.open_library(library)
    mtime_ns = set_day(library / "a" / "pulse.mp3", day)
    assert scan.survey(catalogue, library).changes == scan.Changes(new=4)
    assert scan.survey(catalogue, library).changes == scan.Changes()
    os.utime(library / "a" / "pulse.mp3", ns=(0, mtime_ns - 10**9))
    assert scan.survey(catalogue, library).changes == scan.Changes(changed=1)


def test_a_file_of_the_far_future_is_scanned_once(run: Run, library: Path) -> None:
    mtime_ns = set_day(library / "a" / "pulse.mp3", "2300-01-01")
    assert scanned(run, library)["analysed"] == 3
    row = rows(run)["pulse.mp3"]
    assert row["genre"] == "disco"
    shown = scanned(run, library)
    assert (shown["new"], shown["changed"], shown["analysed"], shown["known"]) == (0, 0, 0, 0)
    with Catalogue(library.parent / "data" / "genrescope" / "library.db") as opened:
        (pulse,) = [known for known in opened.tracks() if known.path.name == "pulse.mp3"]
    assert pulse.mtime_ns == mtime_ns


def set_day(file: Path, day: str) -> int:
    """Set the time of a file's last change, some ns after a full second of a day."""
    seconds = round(datetime.fromisoformat(f"{day}T12:34:56+00:00").timestamp())
    try:
        os.utime(file, ns=(0, seconds * 10**9 + 123_456_789))
    except (OSError, OverflowError):
        pytest.skip("this system has no such times")
    if file.stat().st_mtime_ns // 10**9 != seconds:
        pytest.skip("this file system has no such times")
    return file.stat().st_mtime_ns


SCHEMA_1 = """
CREATE TABLE models (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, genres TEXT NOT NULL,
    tags TEXT, unsure_below REAL NOT NULL
);
CREATE TABLE folders (id INTEGER PRIMARY KEY, path NOT NULL UNIQUE, walk INTEGER NOT NULL);
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY, folder INTEGER NOT NULL REFERENCES folders, name NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 1, begun INTEGER NOT NULL DEFAULT 0, fingerprint BLOB,
    model INTEGER REFERENCES models, genre INTEGER, confidence REAL, probabilities BLOB, tags BLOB,
    error TEXT, UNIQUE (folder, name)
);
CREATE INDEX tracks_by_fingerprint ON tracks (fingerprint, gone) WHERE fingerprint IS NOT NULL;
"""


def make_first_version(db: Path, new: Path) -> None:
    """Make a catalogue as genrescope 0.1's first schema had it, of one of today's."""
    with closing(sqlite3.connect(db)) as old:
        old.executescript("PRAGMA journal_mode = WAL;" + SCHEMA_1)
        old.execute("ATTACH ? AS new", (str(new),))
        (application,) = old.execute("PRAGMA new.application_id").fetchone()
        old.execute(f"PRAGMA main.application_id = {application}")
        old.execute("PRAGMA main.user_version = 1")
        old.execute("INSERT INTO main.models SELECT * FROM new.models")
        old.execute("INSERT INTO main.folders SELECT * FROM new.folders")
        old.execute(
            "INSERT INTO main.tracks SELECT id, folder, name, size, mtime_ns, gone, stale, 0, "
            "fingerprint, model, genre, confidence, probabilities, tags, error FROM new.tracks"
        )
        old.commit()


@pytest.mark.parametrize("first", ["stats", "scan"])
def test_a_catalogue_of_the_first_version_goes_on(
    run: Run, library: Path, tmp_path: Path, first: str
) -> None:
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    scanned(run, library, "--db", new)
    make_first_version(old, new)
    if first == "stats":
        shown = json.loads(run("stats", "--db", old, "--json").stdout)
        assert (shown["analysed"], shown["failed"], shown["waiting"]) == (3, 1, 0)
    shown = scanned(run, library, "--db", old)
    # Once more, for the embeddings.
    assert (shown["new"], shown["changed"], shown["analysed"], shown["failed"]) == (0, 0, 3, 0)
    assert scanned(run, library, "--db", old)["analysed"] == 0
    assert rows(run, "--db", old) == rows(run, "--db", new)
    content = genrescope.sample("pulse").read_bytes()
    (library / "cut.mp3").write_bytes(content[: round(0.7 * len(content))])
    assert scanned(run, library, "--db", old)["analysed"] == 1
    with Catalogue(old) as catalogue:
        (cut,) = [one for one in catalogue.tracks() if one.path.name == "cut.mp3"]
    assert cut.prediction is not None
    assert len(cut.prediction.warnings) == 1
    with closing(sqlite3.connect(old)) as opened:
        assert opened.execute("PRAGMA user_version").fetchone() == (5,)
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
