"""Similar tracks: what is found, what is heard again, and what happens to a bad index."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from genrescope.classifier import Classifier
from genrescope.datasets.open import open_dataset
from genrescope.errors import GenrescopeError, InputError
from genrescope.library import similar
from genrescope.library.similar import Graph, Library, comparable, nearest
from genrescope.representations.store import Store
from hostile import hostile

Rows = NDArray[np.float32]
INDEX = ".genrescope-similar.npz"


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


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "genrescope", "similar", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def heard(folder: Path, classifier: Classifier, **options: object) -> list[str]:
    """Update the index; the names of the files that had to be heard."""
    opened = Library(folder, classifier, **options)
    return [one.path.relative_to(folder).as_posix() for one in opened.update(workers=2)]


def found(folder: Path, classifier: Classifier, track: Path, **options: object) -> list[str]:
    opened = Library(folder, classifier)
    list(opened.update())
    (one,) = opened.similar([track], **options)
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


def test_a_track_finds_its_copy_first_and_never_itself(library: Path, tmp_path: Path) -> None:
    done = run("library/a/1.wav", "--library", "library", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Heard 7 tracks" in done.stderr
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
    assert 0 < float(rows[0]["confidence"]) <= 1
    assert "Heard" not in table.stderr  # the index was there
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
    assert good.returncode == 0
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
    assert "none of its audio files can be read" in none.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--library", "nowhere"], ["nowhere", "no such folder", "--in"]),
        (["--library", "library/root.wav"], ["root.wav", "it is a file"]),
        (["--library", "empty"], ["empty", "no audio files"]),
        (["--library", "upper", "--no-recursive"], ["upper", "--recursive"]),
        # A path through a file cannot be written, whoever tries.
        (
            ["--library", "library", "--db", "library/root.wav/x.npz"],
            ["x.npz", "--db"],
        ),
        (["--library", "library", "--db", "library/a"], ["library/a", "it is a folder", "--db"]),
        (["--library", "library", "--db", "thesis.txt"], ["thesis.txt", "left alone", "--db"]),
        (
            ["--library", "library", "--db", "thesis.txt", "--rebuild"],
            ["thesis.txt", "left alone", "--db"],
        ),
    ],
)
def test_errors_name_file_cause_and_remedy(
    options: list[str], words: list[str], library: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "upper" / "lower").mkdir(parents=True)
    shutil.copy(library / "root.wav", tmp_path / "upper" / "lower")
    (tmp_path / "thesis.txt").write_text("years of work" * 9)
    done = run("library/root.wav", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work" * 9
    assert not list(library.rglob("*.part"))


def test_no_recursive_looks_at_the_folder_alone_and_forgets_nothing(
    library: Path, tmp_path: Path, classifier: Classifier
) -> None:
    shutil.copy(library / "root.wav", library / "twin.wav")
    assert len(heard(library, classifier)) == 8
    flat = run(library / "root.wav", "--library", library, "--no-recursive", "--json", cwd=tmp_path)
    (row,) = json.loads(flat.stdout)
    assert [near["path"] for near in row["similar"]] == [str(library / "twin.wav")]
    (library / "twin.wav").unlink()
    assert heard(library, classifier, recursive=False) == []
    assert heard(library, classifier) == []


def test_it_imports_neither_torch_nor_librosa(library: Path) -> None:
    code = (
        "import sys; from genrescope.cli.app import app; "
        f"app(['similar', {str(library / 'root.wav')!r}, '--library', {str(library)!r}], "
        "standalone_mode=False); "
        "heavy = {'torch', 'librosa', 'lightning', 'sklearn', 'transformers', 'usearch'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imports {done.stderr}"


def test_ann_on_the_command_line_agrees_and_tells_what_it_needs(
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
        f"sys.argv = ['genrescope', 'similar', {str(library)!r}, '--library', "
        f"{str(library)!r}, '--ann']"
        "; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "genrescope[similar]" in done.stderr


def test_ctrl_c_keeps_what_was_heard(library: Path, tmp_path: Path) -> None:
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
        env=os.environ | hostile(tmp_path, hang="endless.wav"),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "patch" / "hangs").exists():
        assert time.monotonic() < deadline, "nothing is heard"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command again" in told
    rest = run("library/root.wav", "--library", "library", "--json", cwd=tmp_path)
    assert "Heard 3 tracks" in rest.stderr  # not the one above and those in a
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


# The index.


def test_only_what_is_new_or_changed_is_heard(
    library: Path, classifier: Classifier, music: Callable[..., Rows]
) -> None:
    assert len(heard(library, classifier)) == 7
    assert heard(library, classifier) == []
    soundfile.write(library / "a" / "new.wav", music(seed=9), 22050)
    soundfile.write(library / "b" / "2.wav", music(seed=10), 22050)
    os.utime(library / "b" / "2.wav", ns=(1, 1))  # of the same size, too
    (library / "b" / "1.wav").unlink()
    shutil.move(library / "root.wav", library / "moved.wav")
    assert heard(library, classifier) == ["moved.wav", "a/new.wav", "b/2.wav"]
    names = found(library, classifier, library / "a" / "1.wav", count=99)
    assert sorted(names) == [
        "a/2.wav",
        "a/3.wav",
        "a/new.wav",
        "b/2.wav",
        "b/copy.wav",
        "moved.wav",
    ]
    changed = found(library, classifier, library / "b" / "2.wav", count=99)
    fresh = shutil.copytree(library, library.parent / "fresh", ignore=lambda *_: [INDEX])
    assert changed == found(fresh, classifier, fresh / "b" / "2.wav", count=99)
    assert len(heard(library, classifier, rebuild=True)) == 7


def test_closing_an_update_keeps_what_was_heard(library: Path, classifier: Classifier) -> None:
    update = Library(library, classifier).update(workers=1)
    first = [next(update).path.name for _ in range(3)]
    update.close()
    assert first == ["root.wav", "1.wav", "2.wav"]
    assert heard(library, classifier) == ["a/3.wav", "b/1.wav", "b/2.wav", "b/copy.wav"]


def test_it_saves_while_it_hears(
    library: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "_SAVE_EVERY_S", 0.0)
    opened = Library(library, classifier)
    update = opened.update(workers=1)
    next(update)
    next(update)
    assert len(Library(library, classifier).missing) == 5  # as if this one were killed now


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_index_is_named_and_made_anew(
    damage: str, library: Path, tmp_path: Path, classifier: Classifier
) -> None:
    heard(library, classifier)
    place = library / INDEX
    content = bytearray(place.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0xFF
    spoilt = {"cut": content[:middle], "flipped": content, "text": b"hello", "empty": b""}
    place.write_bytes(spoilt[damage])
    done = run(library / "root.wav", "--library", library, "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert f"{place}: it is damaged. Every track is heard again." in done.stderr
    assert "Heard 7 tracks" in done.stderr
    assert heard(library, classifier) == []


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_no_flipped_byte_changes_what_is_read(
    at: int, bits: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("index")
    vectors = drawn(3, 4).astype(np.float16)
    rows = {f"{i}.wav": similar.index.Row(i, 2 * i, vectors[i], "jazz", 0.5) for i in range(3)}
    path = folder / INDEX
    similar.index.write(path, rows, "model", None)
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= bits
    path.write_bytes(content)
    try:
        again = similar.index.read(path, "model", None)
    except similar.index.StaleIndexError:
        return
    assert list(again) == list(rows)  # it was a byte that nobody needs
    for name, row in rows.items():
        assert np.array_equal(again[name].vector, row.vector)
        assert (again[name].size, again[name].mtime_ns) == (row.size, row.mtime_ns)


def test_an_index_of_another_model_is_named_and_made_anew(
    library: Path, tmp_path: Path, classifier: Classifier
) -> None:
    heard(library, classifier)
    other = tmp_path / "other"
    classifier.save_pretrained(other)
    config = json.loads((other / "config.json").read_text())
    config["genres"][0] = "delta blues"
    (other / "config.json").write_text(json.dumps(config))
    mine = Classifier(other, threads=1)
    opened = Library(library, mine, library / INDEX)
    assert "made by another model" in opened.note
    assert len(opened.missing) == 7
    # But left to itself each model has an index of its own.
    assert Library(library, mine).note == ""
    assert len(heard(library, mine)) == 7
    assert heard(library, mine) == heard(library, classifier) == []


def test_an_index_elsewhere_belongs_to_its_folder(
    library: Path, tmp_path: Path, classifier: Classifier
) -> None:
    place = tmp_path / "kept.npz"
    assert len(heard(library, classifier, index_file=place)) == 7
    assert heard(library, classifier, index_file=place) == []
    assert not (library / INDEX).exists()
    other = shutil.copytree(library, tmp_path / "other")
    with pytest.raises(InputError, match=r"it is the index of .*library.*--rebuild"):
        Library(other, classifier, place)
    assert len(heard(other, classifier, index_file=place, rebuild=True)) == 7


def test_a_folder_that_may_not_be_written_is_told_before_anything_is_heard(
    library: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    update = Library(library, classifier).update()
    with pytest.raises(InputError, match=r"Permission denied.*--db"):
        next(update)
    assert not list(library.glob(".genrescope*"))


def test_a_read_only_folder_with_its_index_can_be_asked(
    library: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard(library, classifier)
    monkeypatch.setattr(similar.index, "write", lambda *_: pytest.fail("it was written"))
    assert found(library, classifier, library / "a" / "1.wav")[0] == "b/copy.wav"


# What is found.


def test_a_link_is_the_track_that_it_leads_to(library: Path, classifier: Classifier) -> None:
    heard(library, classifier)
    link = library.parent / "link.wav"
    link.symlink_to(library / "a" / "1.wav")
    assert "a/1.wav" not in found(library, classifier, link)
    (library.parent / "way").symlink_to(library)
    assert "a/1.wav" not in found(library, classifier, library.parent / "way" / "a" / "1.wav")


def test_other_folders_leave_the_album_out(library: Path, classifier: Classifier) -> None:
    names = found(library, classifier, library / "a" / "2.wav", other_folders=True)
    assert sorted(names) == ["b/1.wav", "b/2.wav", "b/copy.wav", "root.wav"]
    in_root = found(library, classifier, library / "root.wav", other_folders=True)
    assert len(in_root) == 6  # folders in the folder are others


def test_models_without_an_embedding_compare_by_logits(classifier: Classifier) -> None:
    class Plain:
        representation = None

        def logits(self, arrays: Rows) -> Rows:
            return arrays

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
    with pytest.raises(GenrescopeError, match=r"genrescope\[similar\]"):
        Graph(drawn(3, 3))


@pytest.mark.slow
def test_real_tracks_find_their_genre_among_other_artists(
    gtzan: Path, tmp_path: Path, classifier: Classifier
) -> None:
    tracks = [track for track in open_dataset(gtzan).tracks if track.audio and track.group]
    tracks = [track for i, track in enumerate(tracks) if i % 4 == 0][:100]
    heard_ = Store(tmp_path).collect(classifier.representation, tracks, workers=1)
    assert heard_.ids == tuple(track.id for track in tracks)
    vectors = comparable(classifier, classifier.representation.unpack(heard_.packed))
    genres = np.array([track.genre for track in tracks])
    artists = np.array([track.group for track in tracks])
    own = [np.flatnonzero(artists == artist).tolist() for artist in artists]
    answers = nearest(vectors, vectors, 5, own)
    right = np.mean([genres[rows] == genres[i] for i, (rows, _) in enumerate(answers)])
    # By chance it would be 0.1; these give 0.59, all 500 tracks 0.65.
    assert right > 0.45


def test_a_folder_that_cannot_be_read_or_is_empty_is_what_is_wrong(
    library: Path, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, empty = tmp_path / "locked", tmp_path / "empty"
    locked.mkdir()
    empty.mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == locked:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    opened = Library(library, classifier)
    list(opened.update())
    monkeypatch.setattr(os, "scandir", scandir)  # root may read whatever a folder's mode says
    said = [str(one.error) for one in opened.similar([locked, empty])]
    assert (
        said[0] == f"{locked}: it cannot be read (Permission denied). Check that you may read it."
    )
    assert said[1].startswith(f"{empty}: no audio files in this folder.")
