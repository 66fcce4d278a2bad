"""Similar tracks: what is found, and which tracks are analysed for it."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import filelock
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import commands
import genrescope
from genrescope.classifier import Classifier
from genrescope.datasets.open import open_dataset
from genrescope.errors import GenrescopeError, InputError
from genrescope.library import scan, similar
from genrescope.library.catalogue import Catalogue
from genrescope.library.similar import Graph, Library, comparable, nearest
from genrescope.representations.store import Store
from hostile import hostile

Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.default()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, music: Callable[..., Rows]) -> Path:
    """Two albums of clips; a/1 and b/copy are the same."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("a/1", "a/2", "a/3", "b/1", "b/2", "root")):
        path = folder / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, music(seed=seed), 22050)
    shutil.copy(folder / "a" / "1.wav", folder / "b" / "copy.wav")
    return folder


@pytest.fixture
def library(clips: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clips, tmp_path / "library")


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue(tmp_path / "library.db", write=True) as opened:
        yield opened


def command(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a catalogue of the folder's own."""
    own = {"COLUMNS": "200", "NO_COLOR": "1", "XDG_DATA_HOME": str(cwd / "data")}
    return commands.run(*words, cwd=cwd, env={**os.environ, **own, **env}, timeout=120)


def run(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return command("similar", *arguments, cwd=cwd, **env)


def analysed(
    catalogue: Catalogue, classifier: Classifier, folder: Path, *, recursive: bool = True
) -> list[str]:
    """Update the catalogue; give the names of the files that were analysed."""
    scan.survey(catalogue, folder, recursive=recursive)
    done = scan.analyse(catalogue, classifier, folder, 1, recursive=recursive)  # copies are one
    return sorted(one.path.relative_to(folder).as_posix() for one in done if one.result is not None)


def found(
    catalogue: Catalogue, classifier: Classifier, folder: Path, track: Path, **options: object
) -> list[str]:
    analysed(catalogue, classifier, folder)
    (one,) = Library(catalogue, classifier, folder).similar([track], **options)
    assert one.error is None
    return [near.path.relative_to(folder).as_posix() for near in one.neighbours]


def unit(rows: Rows) -> Rows:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype("f4")


def drawn(count: int, width: int, seed: int = 0) -> Rows:
    return unit(np.random.default_rng(seed).standard_normal((count, width)))


def recall(approximate: list[similar.Nearest], exact: list[similar.Nearest]) -> float:
    shares = [np.isin(e[0], a[0]).mean() for a, e in zip(approximate, exact, strict=True)]
    return float(np.mean(shares))


# The command line.


def test_a_library_scanned_at_a_quality_is_searched_at_it(library: Path, tmp_path: Path) -> None:
    outside = shutil.copy(library / "a" / "2.wav", tmp_path / "outside.wav")
    quality = ("--quality", "fast")
    assert command("scan", "library", *quality, cwd=tmp_path).returncode == 0
    done = run(outside, "--library", "library", "--json", *quality, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Analysed" not in done.stderr
    near = json.loads(done.stdout)[0]["similar"][0]
    assert near["path"] == "library/a/2.wav"
    assert near["similarity"] == pytest.approx(1, abs=2e-3)  # at another quality it is not


def test_a_track_finds_its_copy_first_and_never_itself(library: Path, tmp_path: Path) -> None:
    # One worker: with two, a copy may be read before its original is known.
    alone = ("--workers", 1)
    done = run("library/a/1.wav", "--library", "library", "--json", *alone, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Analysed 6 tracks; kept in {tmp_path}/data" in done.stderr
    (row,) = json.loads(done.stdout)
    assert row["track"] == "library/a/1.wav"
    paths = [near["path"] for near in row["similar"]]
    assert paths[0] == "library/b/copy.wav"
    assert row["similar"][0]["similarity"] == pytest.approx(1, abs=2e-3)
    assert row["similar"][0]["genre"] == row["genre"]
    assert len(paths) == len(set(paths)) == 6
    assert "library/a/1.wav" not in paths
    shares = [near["similarity"] for near in row["similar"]]
    assert shares == sorted(shares, reverse=True)
    assert shares[1] < 0.999


def test_a_track_from_elsewhere_finds_the_same(clips: Path, library: Path, tmp_path: Path) -> None:
    outside = shutil.copy(clips / "a" / "1.wav", tmp_path / "song.wav")
    done = run(outside, "--library", library, "-n", 2, "--json", cwd=tmp_path)
    paths = [near["path"] for near in json.loads(done.stdout)[0]["similar"]]
    assert paths == [str(library / "a" / "1.wav"), str(library / "b" / "copy.wav")]


def test_a_track_alone_has_nothing_to_be_compared_with(library: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    track = shutil.copy(library / "root.wav", one)
    done = run(track, "--library", one, cwd=tmp_path)
    assert done.returncode == 0
    assert "Analysed 1 track; kept" in done.stderr
    assert f"{track}: {one} has no other track to compare with." in done.stderr
    elsewhere = run(track, "--library", one, "--other-folders", cwd=tmp_path)
    assert "has no other track in another folder to compare with." in elsewhere.stderr


def test_every_form(library: Path, tmp_path: Path) -> None:
    plain = run(library / "a" / "1.wav", library / "root.wav", "--library", library, cwd=tmp_path)
    lines = plain.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines if not line.startswith(" ")] == [
        str(library / "a" / "1.wav"),
        str(library / "root.wav"),
    ]
    assert lines[1].endswith(str(library / "b" / "copy.wav"))
    table = run(library / "a", "--library", library, "-n", 2, "--csv", cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    assert rows[0]["path"] == str(library / "b" / "copy.wav")
    assert rows[0]["genre"] == "other"
    assert rows[0]["confidence"] == ""
    assert "Analysed" not in table.stderr
    playlist = run("library/a", "--library", "library", "--other-folders", "--m3u", cwd=tmp_path)
    first, *songs = playlist.stdout.splitlines()
    assert first == "#EXTM3U"
    assert len(songs) == len(set(songs)) == 4  # each once, though three tracks were asked about
    assert all(Path(song).is_absolute() and Path(song).is_file() for song in songs)
    assert not [song for song in songs if "/a/" in song]
    assert run("x.wav", "--library", library, "--csv", "--m3u", cwd=tmp_path).returncode == 2


def test_a_bad_file_of_the_library_is_named_and_a_bad_track_fails(
    library: Path, tmp_path: Path
) -> None:
    (library / "text.mp3").write_text("no music")
    good = run("root.wav", "--library", ".", "--json", cwd=library)
    assert good.returncode == 0, good.stderr
    assert "text.mp3" in good.stderr
    assert len(json.loads(good.stdout)[0]["similar"]) == 6
    bad = run("text.mp3", "gone.wav", "root.wav", "--library", ".", "--json", cwd=library)
    assert bad.returncode == 1
    rows = json.loads(bad.stdout)
    assert ["error" in row for row in rows] == [True, True, False]
    assert "no such file" in rows[1]["error"].lower()
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(library / "text.mp3", only)
    none = run(library / "root.wav", "--library", only, cwd=tmp_path)
    assert none.returncode == 1
    assert "none of its audio files has been analysed" in none.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--library", "nowhere"], ["nowhere", "no such folder", "Give the folder"]),
        (["--library", "library/root.wav"], ["root.wav", "it is a file"]),
        (["--library", "empty"], ["empty", "no audio files"]),
        (["--library", "upper", "--no-recursive"], ["upper", "--recursive"]),
        # A path through a file cannot be written by anyone.
        (["--library", "library", "--db", "library/root.wav/x.db"], ["x.db", "--db"]),
        (["--library", "library", "--db", "library/a"], ["library/a", "it is a folder", "--db"]),
        (["--library", "library", "--db", "thesis.txt"], ["thesis.txt", "not a genrescope"]),
    ],
)
def test_errors_name_file_cause_and_remedy(
    options: list[str], words: list[str], library: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "upper" / "lower").mkdir(parents=True)
    shutil.copy(library / "root.wav", tmp_path / "upper" / "lower")
    (tmp_path / "thesis.txt").write_text("years of work" * 99)
    done = run("library/root.wav", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work" * 99


def test_no_recursive_compares_the_folder_alone_and_forgets_nothing(
    library: Path, tmp_path: Path, catalogue: Catalogue, classifier: Classifier
) -> None:
    shutil.copy(library / "root.wav", library / "twin.wav")
    words = ("library/root.wav", "--library", "library", "--no-recursive", "--workers", 1)
    flat = run(*words, "--json", cwd=tmp_path)
    (row,) = json.loads(flat.stdout)
    assert "Analysed 1 track;" in flat.stderr  # its twin has the same audio
    assert [near["path"] for near in row["similar"]] == ["library/twin.wav"]
    analysed(catalogue, classifier, library)
    (library / "twin.wav").unlink()
    assert analysed(catalogue, classifier, library, recursive=False) == []
    assert catalogue.counts()["gone"] == 1
    assert analysed(catalogue, classifier, library) == []


def test_it_imports_neither_torch_nor_librosa(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    code = (
        "import sys; from genrescope.cli.app import app; "
        f"app(['similar', {str(library / 'root.wav')!r}, '--library', {str(library)!r}], "
        "standalone_mode=False); "
        "heavy = {'torch', 'librosa', 'lightning', 'sklearn', 'transformers', 'usearch'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imports {done.stderr}"


def test_ann_on_the_command_line_agrees_and_states_what_it_needs(
    library: Path, tmp_path: Path
) -> None:
    exact = run(library, "--library", library, "--json", "--exact", cwd=tmp_path)
    graph = run(library, "--library", library, "--json", "--ann", cwd=tmp_path)
    assert graph.returncode == 0, graph.stderr
    for near, nearest_ in zip(json.loads(graph.stdout), json.loads(exact.stdout), strict=True):
        shares = {one["path"]: one["similarity"] for one in near["similar"]}
        expected = {one["path"]: one["similarity"] for one in nearest_["similar"]}
        assert len(shares) == 6
        assert shares == pytest.approx(expected, abs=1e-5)
    # As if the extra were not installed.
    code = (
        "import importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'usearch' else find(name, *a); "
        "import sys; from genrescope.cli.app import main; "
        f"sys.argv = ['genrescope', 'similar', {str(library)!r}, '--library', {str(library)!r}]; "
        "sys.argv += ['--ann']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install '.[similar]'" in done.stderr


def test_ctrl_c_keeps_what_was_analysed(library: Path, tmp_path: Path) -> None:
    (library / "b" / "1.wav").rename(library / "b" / "1 endless.wav")
    line = [
        sys.executable,
        "-m",
        "genrescope",
        "similar",
        "library/root.wav",
        "--library",
        "library",
    ]
    process = subprocess.Popen(
        [*line, "--workers", "1"],
        cwd=tmp_path,
        env={
            **os.environ,
            **hostile(tmp_path, hang="endless.wav"),
            "XDG_DATA_HOME": str(tmp_path / "data"),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "patch" / "hangs").exists():
        assert time.monotonic() < deadline, "nothing is analysed"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command again" in shown
    rest = run("library/root.wav", "--library", "library", "--json", cwd=tmp_path)
    assert "Analysed 2 tracks" in rest.stderr  # of b, but for the copy of a/1
    assert len(json.loads(rest.stdout)[0]["similar"]) == 6


def test_a_damaged_file_of_the_library_is_compared(library: Path, tmp_path: Path) -> None:
    content = (library / "a" / "1.wav").read_bytes()
    (library / "a" / "1.wav").write_bytes(content[: round(0.8 * len(content))])
    done = run("library/b/copy.wav", "--library", "library", "-n", 1, "--json", cwd=tmp_path)
    assert done.returncode == 0
    (near,) = json.loads(done.stdout)[0]["similar"]
    assert near["path"] == "library/a/1.wav"
    (library / "a" / "1.wav").write_bytes(content[: round(0.3 * len(content))])
    done = run("library/b/copy.wav", "--library", "library", "-n", 1, "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert "1.wav: it is damaged or cut off" in done.stderr


# One store: what is analysed.


def test_after_a_scan_nothing_is_analysed(library: Path, tmp_path: Path) -> None:
    scanned = command("scan", "library", "--json", "--workers", 1, cwd=tmp_path)
    assert json.loads(scanned.stdout)["analysed"] == 6  # a/1 and b/copy have the same audio
    files = sorted(library.rglob("*"))
    # Every decoder would fail now.
    broken = hostile(tmp_path, fail=".wav")
    done = run("library", "--library", "library", "--json", cwd=tmp_path, **broken)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [len(row["similar"]) for row in json.loads(done.stdout)] == [6] * 7
    assert sorted(library.rglob("*")) == files  # nothing is written into the library


def test_after_tags_have_changed_nothing_is_analysed(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for name in ("lament", "shuffle", "shuffle again"):  # pulse is none of the genres
        shutil.copy(genrescope.sample(name.split()[0]), library / f"{name}.mp3")
    with (library / "shuffle again.mp3").open("ab") as file:
        file.write(genrescope.sample("lament").read_bytes())
    assert "Analysed 3" in run("library", "--library", "library", cwd=tmp_path).stderr
    plan = ("tag", "plan", "library", "--min-confidence", 0, "--out", "plan.csv")
    assert command(*plan, cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in library.iterdir()}
    assert command("tag", "apply", "plan.csv", cwd=tmp_path).returncode == 0
    assert all(path.read_bytes() != content for path, content in before.items())
    broken = hostile(tmp_path, fail=".mp3")
    done = run("library", "--library", "library", "--json", cwd=tmp_path, **broken)
    assert (done.returncode, done.stderr) == (0, "")
    assert [len(row["similar"]) for row in json.loads(done.stdout)] == [2] * 3
    again = command("scan", "library", "--json", cwd=tmp_path, **broken)
    assert json.loads(again.stdout)["analysed"] == 0


def test_tracks_of_another_library_are_not_decoded_and_others_are(
    library: Path, tmp_path: Path
) -> None:
    other, loose = tmp_path / "other", tmp_path / "loose.wav"
    other.mkdir()
    shutil.move(library / "root.wav", other / "song.wav")
    shutil.copy(library / "a" / "2.wav", loose)
    for folder in (library, other):
        assert command("scan", folder, cwd=tmp_path).returncode == 0
    plain = run("other/song.wav", "--library", "library", "--json", cwd=tmp_path)
    broken = hostile(tmp_path, fail=".wav")
    words = ("other/song.wav", "loose.wav", "--library", "library", "--json")
    done = run(*words, cwd=tmp_path, **broken)
    assert done.returncode == 1
    song, failed = json.loads(done.stdout)
    assert [song] == json.loads(plain.stdout)
    assert "a fault in somebody's decoder" in failed["error"]
    os.utime(other / "song.wav", ns=(1, 1))  # it may have changed
    (song,) = json.loads(
        run("other/song.wav", "--library", "library", "--json", cwd=tmp_path, **broken).stdout
    )
    assert "a fault in somebody's decoder" in song["error"]


def test_an_old_catalogue_is_migrated_and_its_tracks_analysed_once(
    library: Path, tmp_path: Path
) -> None:
    db = tmp_path / "old.db"
    command("scan", "library", "--db", db, cwd=tmp_path)
    with closing(sqlite3.connect(db)) as old:
        old.execute("ALTER TABLE tracks DROP COLUMN embedding")
        old.execute("ALTER TABLE tracks DROP COLUMN other")
        old.execute("DROP TABLE libraries")
        old.execute("PRAGMA user_version = 2")
        old.commit()
    before = command("export", "--to", "csv", "--db", db, cwd=tmp_path)
    assert len(before.stdout.splitlines()) == 8
    words = ("library/root.wav", "--library", "library", "--db", db, "--json")
    first = run(*words, "--workers", 1, cwd=tmp_path)
    note = "Note: 7 tracks of an older catalogue to be analysed again, for embeddings."
    assert note in first.stderr
    assert "Analysed 6 tracks" in first.stderr
    again = run(*words, cwd=tmp_path)
    assert (again.stderr, again.stdout) == ("", first.stdout)


@pytest.mark.parametrize("reason", ["locked", "read-only"])
def test_a_catalogue_that_cannot_be_written_is_used_as_it_is(
    library: Path, tmp_path: Path, reason: str
) -> None:
    db = tmp_path / "library.db"
    command("scan", "library", "--db", db, cwd=tmp_path)
    (library / "root.wav").rename(library / "new.wav")
    words = ("library/a/1.wav", "--library", "library", "--db", db, "--json")
    lock = filelock.FileLock(f"{db}.lock")
    if reason == "locked":
        cause = "another genrescope is writing to this catalogue"
        lock.acquire()
    else:
        cause = "it cannot be written (Is a directory)"
        (tmp_path / "library.db.lock").unlink(missing_ok=True)
        (tmp_path / "library.db.lock").mkdir()
    try:
        done = run(*words, cwd=tmp_path)
        nothing = run(*words[:-2], tmp_path / "none" / "x.db", cwd=tmp_path)
    finally:
        lock.release()
    assert done.returncode == 0
    assert f"Note: {db}: {cause}. New tracks of library are not analysed." in done.stderr
    (row,) = json.loads(done.stdout)
    assert row["similar"][0]["path"] == "library/b/copy.wav"
    assert len(row["similar"]) == 6
    assert nothing.returncode == 0  # another one can be created


def test_only_what_is_new_or_changed_is_analysed(
    library: Path, tmp_path: Path, classifier: Classifier, music: Callable[..., Rows]
) -> None:
    with Catalogue(tmp_path / "library.db", write=True) as catalogue:
        assert len(analysed(catalogue, classifier, library)) == 6
        assert analysed(catalogue, classifier, library) == []
        soundfile.write(library / "a" / "new.wav", music(seed=9), 22050)
        soundfile.write(library / "b" / "2.wav", music(seed=10), 22050)
        os.utime(library / "b" / "2.wav", ns=(1, 1))  # of the same size, too
        (library / "b" / "1.wav").unlink()
        shutil.move(library / "root.wav", library / "moved.wav")
        assert analysed(catalogue, classifier, library) == ["a/new.wav", "b/2.wav"]
        names = found(catalogue, classifier, library, library / "a" / "1.wav", count=99)
        assert sorted(names) == [
            "a/2.wav",
            "a/3.wav",
            "a/new.wav",
            "b/2.wav",
            "b/copy.wav",
            "moved.wav",
        ]
        changed = found(catalogue, classifier, library, library / "b" / "2.wav", count=99)
    fresh = shutil.copytree(library, tmp_path / "fresh")
    with Catalogue(tmp_path / "fresh.db", write=True) as catalogue:
        assert changed == found(catalogue, classifier, fresh, fresh / "b" / "2.wav", count=99)


def test_tracks_of_another_model_are_not_compared(
    library: Path, tmp_path: Path, catalogue: Catalogue, classifier: Classifier
) -> None:
    analysed(catalogue, classifier, library)
    other = tmp_path / "other"
    classifier.save_pretrained(other)
    config = json.loads((other / "config.json").read_text())
    config["genres"][0] = "delta blues"
    (other / "config.json").write_text(json.dumps(config))
    mine = Classifier(other, threads=1)
    with pytest.raises(InputError, match="none of its audio files has been analysed"):
        Library(catalogue, mine, library)
    assert len(analysed(catalogue, mine, library)) == 6
    assert len(Library(catalogue, mine, library)) == 7


def test_embeddings_are_kept_with_the_predictions(
    library: Path, catalogue: Catalogue, classifier: Classifier
) -> None:
    analysed(catalogue, classifier, library)
    known = {one.path.name: one for one in catalogue.tracks()}
    prediction, embedding = classifier.analyse(library / "a" / "2.wav")
    assert known["2.wav"].embedding is not None
    assert np.array_equal(
        known["copy.wav"].embedding, classifier.analyse(library / "a" / "1.wav")[1]
    )
    assert embedding.dtype == np.float16
    assert embedding.shape == (classifier.embedding_width,)
    assert prediction == classifier.predict(library / "a" / "2.wav")


# What is found.


def test_a_link_is_the_track_that_it_leads_to(
    library: Path, catalogue: Catalogue, classifier: Classifier
) -> None:
    link = library.parent / "link.wav"
    link.symlink_to(library / "a" / "1.wav")
    assert "a/1.wav" not in found(catalogue, classifier, library, link)
    (library.parent / "way").symlink_to(library)
    assert "a/1.wav" not in found(
        catalogue, classifier, library, library.parent / "way" / "a" / "1.wav"
    )


def test_other_folders_leave_the_album_out(
    library: Path, catalogue: Catalogue, classifier: Classifier
) -> None:
    names = found(catalogue, classifier, library, library / "a" / "2.wav", other_folders=True)
    assert sorted(names) == ["b/1.wav", "b/2.wav", "b/copy.wav", "root.wav"]
    in_root = found(catalogue, classifier, library, library / "root.wav", other_folders=True)
    assert len(in_root) == 6  # folders in the folder are others


def test_models_without_an_embedding_compare_by_logits(classifier: Classifier) -> None:
    class Plain:
        representation = None

    rows = comparable(Plain(), np.array([[3, 1, 2], [13, 11, 12], [5, 5, 5]], dtype="f4"))
    assert rows[0] == pytest.approx([2**-0.5, -(2**-0.5), 0])
    assert rows[1] == pytest.approx(rows[0])  # all ten more: the same probabilities
    assert rows[2].tolist() == [0, 0, 0]


def test_embeddings_compare_by_the_penultimate_layer(classifier: Classifier) -> None:
    arrays = np.random.default_rng(0).standard_normal((2, 772)).astype("f4")
    rows = comparable(classifier, arrays)
    assert rows.shape == (2, 200)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1])
    one, other = float(arrays[0, 0]), float(arrays[0, 1])
    ratio = np.copysign(np.log1p(abs(one)), one) / np.copysign(np.log1p(abs(other)), other)
    assert rows[0, 0] / rows[0, 1] == pytest.approx(ratio, rel=1e-4)
    arrays[:, 200:] = 0  # the layers behind it
    assert np.array_equal(comparable(classifier, arrays), rows)
    arrays[0, 0] += 1
    assert not np.array_equal(comparable(classifier, arrays), rows)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 8),
    asked=st.integers(1, 5),
    count=st.integers(1, 12),
    block=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
    half=st.booleans(),
)
def test_the_order_is_that_of_brute_force(
    rows: int, width: int, asked: int, count: int, block: int, seed: int, half: bool
) -> None:
    rng = np.random.default_rng(seed)
    # Few values, so that many rows are equally near.
    vectors = unit(rng.integers(-2, 3, (rows, width)).astype("f4"))
    vectors = vectors.astype(np.float16) if half else vectors
    tracks = unit(rng.integers(-2, 3, (asked, width)).astype("f4"))
    left_out = [rng.integers(0, rows, rng.integers(0, 3)).tolist() for _ in range(asked)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar, "_ROWS", block)
        answers = nearest(vectors, tracks, count, left_out)
    for track, without, (got, cosines) in zip(tracks, left_out, answers, strict=True):
        every = [
            (-round(float(np.dot(v.astype(float), track.astype(float))), 6), i)
            for i, v in enumerate(vectors)
            if i not in without
        ]
        expected = sorted(every)[:count]
        assert len(got) == len(set(got.tolist())) == len(expected)
        assert not set(got.tolist()) & set(without)
        assert -cosines == pytest.approx([value for value, _ in expected], abs=3e-6)
        # Row by row, but for those that the last digit of float32 puts the other way round.
        real = {i: -value for value, i in every}
        assert [real[i] for i in got.tolist()] == pytest.approx(cosines.tolist(), abs=3e-6)


def test_equally_near_rows_come_in_their_order() -> None:
    vectors = np.repeat(drawn(1, 200), 50, axis=0)
    ((rows, cosines),) = nearest(vectors, vectors[:1], 10, [[0, 3]])
    assert rows.tolist() == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert cosines == pytest.approx(np.ones(10), abs=1e-5)


def test_the_graph_finds_nearly_what_comparing_finds() -> None:
    vectors = drawn(5000, 200)  # without structure: the hardest there is
    asked, left_out = vectors[:100], [[i] for i in range(100)]
    exact = nearest(vectors, asked, 10, left_out)
    graph = Graph(vectors).nearest(asked, 10, left_out)
    assert recall(graph, exact) > 0.9
    assert not [i for i, (rows, _) in enumerate(graph) if i in rows]
    # As embeddings are: 200 columns that say what two dozen could.
    close = unit(drawn(5000, 24) @ drawn(24, 200, seed=1) + 0.05 * drawn(5000, 200, seed=2))
    exact = nearest(close, close[:100], 10, left_out)
    graph = Graph(close).nearest(close[:100], 10, left_out)
    assert recall(graph, exact) > 0.97
    assert all((np.diff(cosines) <= 0).all() for _, cosines in graph)


def test_the_graph_of_few_rows_finds_all_and_one_track_is_fine() -> None:
    vectors = drawn(5, 8)
    ((rows, _),) = Graph(vectors).nearest(vectors[2:3], 10, [[2, 4]])
    assert sorted(rows.tolist()) == [0, 1, 3]
    assert Graph(vectors).nearest(vectors[:0], 10, []) == []


def test_without_usearch_a_graph_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "has_graph", lambda: False)
    with pytest.raises(GenrescopeError, match=r"pip install '\.\[similar\]'"):
        Graph(drawn(3, 3))


@pytest.mark.slow
def test_real_tracks_find_their_genre_among_other_artists(
    gtzan: Path, tmp_path: Path, classifier: Classifier
) -> None:
    tracks = [track for track in open_dataset(gtzan).tracks if track.audio and track.group]
    tracks = [track for i, track in enumerate(tracks) if i % 4 == 0][:100]
    embedder = classifier.representation.embedder
    stored = Store(tmp_path).collect(embedder, tracks, workers=1)
    assert stored.ids == tuple(track.id for track in tracks)
    vectors = comparable(classifier, embedder.unpack(stored.packed))
    genres = np.array([track.genre for track in tracks])
    artists = np.array([track.group for track in tracks])
    own = [np.flatnonzero(artists == artist).tolist() for artist in artists]
    answers = nearest(vectors, vectors, 5, own)
    right = np.mean([genres[rows] == genres[i] for i, (rows, _) in enumerate(answers)])
    # By chance it would be 0.1; these give 0.59, all 500 tracks 0.65.
    assert right > 0.45


def test_a_folder_that_cannot_be_read_or_is_empty_is_what_is_wrong(
    library: Path,
    catalogue: Catalogue,
    classifier: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    locked, empty = tmp_path / "locked", tmp_path / "empty"
    locked.mkdir()
    empty.mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == locked:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    analysed(catalogue, classifier, library)
    opened = Library(catalogue, classifier, library)
    monkeypatch.setattr(os, "scandir", scandir)  # root may read whatever a folder's mode says
    said = [str(one.error) for one in opened.similar([locked, empty])]
    assert (
        said[0] == f"{locked}: it cannot be read (Permission denied). Check that you may read it."
    )
    assert said[1].startswith(f"{empty}: no audio files in this folder.")


def test_a_missing_track_is_an_error_before_the_library_is_analysed(
    library: Path, tmp_path: Path
) -> None:
    db = tmp_path / "library.db"
    done = run("nope.mp3", "--library", library, "--db", db, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "Error: nope.mp3: no such file. Check the path.\n"
    assert not db.exists()
