"""Clips that are none of a model's genres: the same answer wherever one is given, and no tag."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import commands
import genrescope
from genrescope.classifier import Classifier, Prediction
from genrescope.errors import InputError
from genrescope.library.catalogue import Catalogue
from genrescope.representations import make_representation
from genrescope.serialize import sentence
from genrescope.service.analysis import AnalysisOptions, analyse
from genrescope.service.answer import write_answer
from genrescope.service.service import Limits, Service
from genrescope.tagging.policy import Existing, Policy, choose
from genrescope.taxonomy import load_taxonomy
from web_server import running

torch = pytest.importorskip("torch", reason="models are exported with genrescope[train]")
onnx = pytest.importorskip("onnx")

from genrescope.training.export import describe, export  # noqa: E402

GENRES = ("blues", "jazz", "rock")
MFCC = make_representation("mfcc", {"coefficients": 4, "seconds": 1.0})
Run = Callable[..., subprocess.CompletedProcess[str]]


class Linear(torch.nn.Module):
    """A linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.genres = torch.nn.Linear(int(np.prod(MFCC.shape)), len(GENRES))

    def forward(self, arrays: Any) -> Any:
        return self.genres(arrays.flatten(1)) / 50


class Spread(torch.nn.Module):
    """A score for what is none of the genres."""

    def forward(self, arrays: Any) -> Any:
        return arrays.flatten(1).std(dim=1)


@pytest.fixture(scope="session")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a score and no threshold."""
    folder = tmp_path_factory.mktemp("models") / "unlimited"
    export(folder, Linear().eval(), MFCC, GENRES, {}, other=Spread())
    return folder


@pytest.fixture(scope="session")
def scores(unlimited: Path) -> dict[str, float]:
    """The score of every sample, the largest first."""
    model = Classifier(unlimited)
    found = {}
    for name in genrescope.SAMPLES:
        _, score = model.outputs(MFCC.of_file(genrescope.sample(name))[np.newaxis])
        assert score is not None
        found[name] = float(score[0])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


@pytest.fixture(scope="session")
def model(unlimited: Path, scores: dict[str, float], tmp_path_factory: Any) -> Path:
    """A model by which the first sample of ``scores`` is other, and no answer is sure."""
    folder = tmp_path_factory.mktemp("models") / "limited"
    shutil.copytree(unlimited, folder)
    first, second, _ = scores.values()
    describe(folder, MFCC, GENRES, {}, 1.0, (first + second) / 2)
    return folder


@pytest.fixture(scope="session")
def strange(scores: dict[str, float]) -> str:
    """Name of the sample that is other."""
    return next(iter(scores))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command with a data folder of its own, in a folder of its own."""

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "COLUMNS": "200"}
        done = commands.run(*words, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    return command


@pytest.fixture
def library(tmp_path: Path, strange: str) -> Path:
    """The samples, and a copy of the one that is other."""
    folder = tmp_path / "music"
    folder.mkdir()
    for name in genrescope.SAMPLES:
        shutil.copy(genrescope.sample(name), folder)
    shutil.copy(genrescope.sample(strange), folder / "copy.mp3")
    return folder


# The answer.


def test_a_score_above_the_threshold_is_no_genre(model: Path, strange: str) -> None:
    classifier = genrescope.load(model)
    for name in genrescope.SAMPLES:
        found = classifier.predict(genrescope.sample(name))
        assert found.other == (name == strange)
        assert found.best == next(iter(found.probabilities))
        assert found.confidence == found.probabilities[found.best]
        assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert found.unsure == (name != strange)
        if found.other:
            assert (found.genre, found.label, found.genre_confidence) == (None, "other", None)
        else:
            assert found.genre == found.label == found.best
            assert found.genre_confidence == found.confidence


def test_nothing_else_depends_on_the_score(unlimited: Path, model: Path, strange: str) -> None:
    path = genrescope.sample(strange)
    without, limited = Classifier(unlimited), Classifier(model)
    expected = replace(without.predict(path), other=True)
    assert limited.predict(path) == expected
    assert np.array_equal(
        limited.timeline(path).probabilities, without.timeline(path).probabilities
    )
    assert genrescope.explain(limited, path).genre == expected.best
    arrays = np.zeros((0, *MFCC.shape), dtype=np.float32)
    logits, score = limited.outputs(arrays)
    assert logits.shape == (0, len(GENRES))
    assert score is not None
    assert score.shape == (0,)


def test_without_threshold_or_score_there_is_always_a_genre(
    unlimited: Path, tmp_path: Path, strange: str
) -> None:
    assert not Classifier(unlimited).predict(genrescope.sample(strange)).other
    bare = tmp_path / "bare"
    export(bare, Linear().eval(), MFCC, GENRES, {})
    describe(bare, MFCC, GENRES, {}, 0.0, -1e9)
    classifier = Classifier(bare)
    assert classifier.outputs(np.zeros((1, *MFCC.shape), dtype=np.float32))[1] is None
    assert not classifier.predict(genrescope.sample(strange)).other


@settings(max_examples=20, deadline=None)
@given(step=st.floats(-3, 3))
def test_the_answer_is_by_the_threshold_alone(step: float, model: Path) -> None:
    classifier = Classifier(model)
    path = genrescope.sample()
    _, scores = classifier.outputs(MFCC.of_file(path)[np.newaxis])
    assert scores is not None
    for above, other in ((float(scores[0]), False), (float(scores[0]) + step, step < 0)):
        classifier.config.other_above = above
        found = classifier.predict(path)
        assert found.other == other or abs(step) < 1e-4
        assert not (found.other and found.unsure)


def test_the_key_changes_with_the_threshold(unlimited: Path, model: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(model, changed)
    describe(changed, MFCC, GENRES, {}, 1.0, 1e9)
    assert len({Classifier(folder).key for folder in (unlimited, model, changed)}) == 3
    describe(changed, MFCC, GENRES, {}, 0.0)  # as models before there was a score
    assert Classifier(changed).key == Classifier(unlimited).key


def with_output(folder: Path, out: Path, node: Any, kind: int, shape: list[Any]) -> Path:
    """Copy a model and make its score by another node of the array."""
    shutil.copytree(folder, out)
    path = out / "model.onnx"
    network = onnx.load(str(path))
    for old in [one for one in network.graph.output if one.name == "other"]:
        network.graph.output.remove(old)
    for old in [one for one in network.graph.node if "other" in one.output]:
        network.graph.node.remove(old)
    network.graph.node.append(node)
    network.graph.output.append(onnx.helper.make_tensor_value_info("other", kind, shape))
    path.write_bytes(network.SerializeToString())
    describe(out, MFCC, GENRES, {}, 0.0, 0.0)
    return out


@pytest.mark.parametrize(
    ("operator", "settings", "kind", "shape", "cause"),
    [
        ("Shape", {}, "INT64", [3], "its output other must be of float32"),
        ("Flatten", {}, "FLOAT", ["batch", "columns"], r"its output other is .*, not \(batch,\)"),
    ],
)
def test_a_score_of_another_form_is_refused(
    operator: str, settings: Any, kind: str, shape: Any, cause: str, unlimited: Path, tmp_path: Path
) -> None:
    node = onnx.helper.make_node(operator, ["input"], ["other"], **settings)
    kind_number = getattr(onnx.TensorProto, kind)
    with pytest.raises(InputError, match=cause) as caught:
        Classifier(with_output(unlimited, tmp_path / "model", node, kind_number, shape))
    assert caught.value.path == tmp_path / "model" / "model.onnx"


@pytest.mark.parametrize(
    ("operator", "axes", "cause"),
    [
        ("ReduceLogSum", [1, 2], "its output other is not all finite numbers"),  # of a sum below 0
        ("ReduceSum", None, r"its output other is of shape \(\), not \(1,\)"),
    ],
)
def test_a_score_that_is_no_number_is_refused(
    operator: str, axes: Any, cause: str, unlimited: Path, tmp_path: Path
) -> None:
    settings = {"keepdims": 0} | ({"axes": axes} if axes else {})
    node = onnx.helper.make_node(operator, ["input"], ["other"], **settings)
    shape = ["batch"] if axes else []
    folder = with_output(unlimited, tmp_path / "model", node, onnx.TensorProto.FLOAT, shape)
    classifier = Classifier(folder)
    arrays = np.full((1, *MFCC.shape), -1, dtype=np.float32)
    for ask in (classifier.outputs, classifier.logits):
        with pytest.raises(InputError, match=cause):
            ask(arrays)


@pytest.mark.parametrize("above", ["NaN", "Infinity", '"high"'])
def test_a_threshold_is_a_finite_number(above: str, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    text = json.dumps({**config, "other_above": "HERE"}).replace('"HERE"', above)
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match="other_above: "):
        Classifier(folder)


def test_the_sentence_names_the_closest_genre() -> None:
    shares = {"rock": 0.41, "jazz": 0.4, "blues": 0.19}
    found = Prediction("rock", 0.41, False, shares, {}, other=True)
    assert sentence(found) == "None of the model's 3 genres; closest is rock (0.41)."


# The command line.


def test_classify_says_other_in_every_form(run: Run, model: Path, strange: str) -> None:
    words = ("classify", "--sample", "--model", model, "--workers", 1)
    expected = {
        genrescope.sample(name): genrescope.load(model).predict(genrescope.sample(name))
        for name in genrescope.SAMPLES
    }
    path = genrescope.sample(strange)
    found = expected[path]
    (line,) = [line for line in run(*words).stdout.splitlines() if f"{strange}.mp3" in line]
    assert line.startswith(f"{path}: other | {found.best} {found.confidence:.2f}, ")
    assert "unsure" not in line
    for rows in (
        json.loads(run(*words, "--json").stdout),
        [json.loads(line) for line in run(*words, "--jsonl").stdout.splitlines()],
    ):
        for row in rows:
            meant = expected[Path(row["path"])]
            named = meant.genre, meant.other, meant.best, meant.unsure
            assert (row["genre"], row["other"], row["best"], row["unsure"]) == named
            assert row["scores"][0]["label"] == meant.best
    for row in csv.DictReader(run(*words, "--csv").stdout.splitlines()):
        meant = expected[Path(row["path"])]
        assert row["genre"] == meant.label
        assert (row["confidence"] == "") == meant.other
        assert row["unsure"] == str(meant.unsure).lower()


def test_pictures_and_steps_of_an_other_file(
    run: Run, model: Path, strange: str, tmp_path: Path
) -> None:
    figures = pytest.importorskip("genrescope.study.figures", reason="needs genrescope[study]")
    path, why, plot = genrescope.sample(strange), tmp_path / "why.png", tmp_path / "plot.png"
    pictures = ("--explain", why, "--plot", plot)
    (row,) = json.loads(
        run("classify", path, "--model", model, "--json", "--timeline", *pictures).stdout
    )
    assert row["genre"] is None
    assert row["explanation"]["genre"] == row["best"]
    assert set(row["timeline"]["genres"]) <= set(GENRES)
    assert why.read_bytes()[:4] == plot.read_bytes()[:4] == b"\x89PNG"
    classifier = genrescope.load(model)
    found = genrescope.explain(classifier, path)
    title = figures.explanation(path, found, other=True).axes[0].get_title()
    assert title.startswith(f"{path.name}: other; closest is {found.genre} ")
    times = classifier.timeline(path)
    assert figures.timeline(path, times, other=True).axes[0].get_title() == f"{path.name}: other"
    assert figures.timeline(path, times).axes[0].get_title() == path.name


# The library.


def exported(run: Run, *options: object) -> dict[str, dict[str, Any]]:
    lines = run("export", "--format", "jsonl", *options).stdout.splitlines()
    return {Path(row["path"]).name: row for row in map(json.loads, lines)}


def test_the_catalogue_keeps_the_answer(
    run: Run, library: Path, model: Path, strange: str, tmp_path: Path
) -> None:
    run("scan", library, "--model", model, "--workers", 1)
    rows = exported(run)
    others = {"copy.mp3", f"{strange}.mp3"}  # the copy is not analysed, but known by its audio
    assert {name for name, row in rows.items() if row["other"]} == others
    for name, row in rows.items():
        meant = genrescope.load(model).predict(library / name)
        assert (row["genre"], row["best"], row["unsure"]) == (meant.genre, meant.best, meant.unsure)
        assert row["confidence"] == pytest.approx(meant.confidence, abs=1e-5)
    lines = csv.DictReader(run("export", "--format", "csv").stdout.splitlines())
    for line in lines:
        name = Path(line["path"]).name
        assert line["genre"] == ("other" if name in others else rows[name]["genre"])
        assert (line["confidence"] == "") == (name in others)
    stats = json.loads(run("stats", "--json", "--plot", tmp_path / "stats.png").stdout)
    assert stats["other"] == 2
    assert sum(genre["tracks"] for genre in stats["genres"].values()) == 2
    assert sum(genre["unsure"] for genre in stats["genres"].values()) == 2
    (line,) = [line for line in run("stats").stdout.splitlines() if "other" in line]
    assert " 50.0% " in line
    confident = exported(run, "--min-confidence", 1e-3)
    assert set(confident) == set(rows) - others


def test_parquet_has_what_json_has(run: Run, library: Path, model: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    run("scan", library, "--model", model, "--workers", 1)
    out = tmp_path / "genres.parquet"
    run("export", "--format", "parquet", "--out", out)
    for row in pq.read_table(out).to_pylist():
        meant = exported(run)[Path(row["path"]).name]
        for column in ("genre", "other", "best", "unsure"):
            assert row[column] == meant[column]


def test_no_playlist_holds_what_is_other(
    run: Run, library: Path, model: Path, tmp_path: Path
) -> None:
    run("scan", library, "--model", model, "--workers", 1)
    out = tmp_path / "lists"
    done = run("export", "--format", "m3u", "--out", out, "--include-unsure")
    assert "2 left out: none of the model's genres; see --include-other (such as " in done.stderr
    rows = exported(run)
    assert list(out.iterdir())
    for playlist in (tmp_path / "lists").iterdir():
        played = [line for line in playlist.read_text().splitlines() if line[0] != "#"]
        assert played
        assert {rows[Path(path).name]["genre"] for path in played} == {playlist.stem}


def test_similar_tracks_are_named_other(run: Run, library: Path, model: Path, strange: str) -> None:
    words = ("similar", library / f"{strange}.mp3", "--library", library, "--model", model)
    (row,) = json.loads(run(*words, "--json").stdout)
    assert (row["genre"], row["other"]) == (None, True)
    assert row["best"] in GENRES
    near = {Path(one["path"]).name: one for one in row["similar"]}
    assert {name for name, one in near.items() if one["other"]} == {"copy.mp3"}
    assert near["copy.mp3"]["genre"] is None
    lines = run(*words).stdout.splitlines()
    assert lines[0].endswith(f"{strange}.mp3: other")
    assert lines[1].startswith("  1.000  other  ")
    cells = list(csv.DictReader(run(*words, "--csv").stdout.splitlines()))
    assert (cells[0]["genre"], cells[0]["confidence"]) == ("other", "")


def test_a_catalogue_without_the_column_is_used_as_it_is(
    run: Run, library: Path, unlimited: Path, tmp_path: Path
) -> None:
    db = tmp_path / "old.db"
    run("scan", library, "--model", unlimited, "--db", db, "--workers", 1)
    before = exported(run, "--db", db)
    with closing(sqlite3.connect(db)) as old:
        old.execute("ALTER TABLE tracks DROP COLUMN other")
        old.execute("DROP TABLE libraries")
        old.execute("PRAGMA user_version = 3")
        old.commit()
    assert exported(run, "--db", db) == before
    done = run("scan", library, "--model", unlimited, "--db", db, "--json", "--workers", 1)
    assert json.loads(done.stdout)["analysed"] == 0


def test_a_value_that_is_neither_yes_nor_no_is_damage(
    run: Run, library: Path, model: Path, tmp_path: Path
) -> None:
    db = tmp_path / "music.db"
    run("scan", library, "--model", model, "--db", db, "--workers", 1)
    with closing(sqlite3.connect(db)) as opened:
        opened.execute("UPDATE tracks SET other = 'perhaps'")
        opened.commit()
    with Catalogue(db) as catalogue, pytest.raises(InputError, match="damaged"):
        list(catalogue.tracks())


# Tags.


@settings(max_examples=200, deadline=None)
@given(
    old=st.lists(st.sampled_from(["Jazz", "Rock", "Polka", ""]), max_size=3),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=4),
    policy=st.builds(
        Policy,
        existing=st.sampled_from(Existing),
        min_confidence=st.floats(0, 1),
        max_genres=st.integers(1, 4),
        map_existing=st.booleans(),
    ),
)
def test_no_policy_chooses_a_genre_for_what_is_other(
    old: list[str], shares: list[float], policy: Policy
) -> None:
    named = dict(zip(("blues", "jazz", "rock", "pop"), shares, strict=False))
    choice = choose(old, named, load_taxonomy(), policy, other=True)
    assert choice.genres is None
    has_genre = any(genre.strip() for genre in old)
    if has_genre and policy.existing == Existing.SKIP:
        assert choice.reason == "it has a genre"
    else:
        assert choice.reason.startswith("none of the model's genres: closest is ")


def test_no_plan_writes_to_what_is_other(
    run: Run, library: Path, model: Path, strange: str, tmp_path: Path
) -> None:
    sure = tmp_path / "sure"  # as an unsure answer would not be written either
    shutil.copytree(model, sure)
    describe(sure, MFCC, GENRES, {}, 0.0, Classifier(model).config.other_above)
    model = sure
    others = [library / "copy.mp3", library / f"{strange}.mp3"]
    before = [hashlib.sha256(path.read_bytes()).digest() for path in others]
    run("scan", library, "--model", model, "--workers", 1)
    written = set()
    for number, (existing, most) in enumerate(product(Existing, (1, 3))):
        plan = tmp_path / f"plan{number}.csv"
        choices = ("--existing", existing, "--min-confidence", 0, "--max-genres", most)
        done = run("tag", "plan", library, "--out", plan, *choices)
        assert "2 left alone: none of the model's genres" in done.stdout
        lines = [line for line in plan.read_text().splitlines() if not line.startswith("#")]
        for row in csv.DictReader(lines):
            if library / row["path"] in others:
                assert (row["action"], row["new"]) == ("leave", "")
                assert row["reason"].startswith("none of the model's genres: closest is ")
            elif row["action"] == "write":
                written.add(row["path"])
        run("tag", "apply", plan)
        assert before == [hashlib.sha256(path.read_bytes()).digest() for path in others]
        run("scan", library, "--model", model, "--workers", 1)
    assert len(written) == 2


# The page and the cluster.


def test_the_server_says_what_classify_says(
    model: Path, library: Path, strange: str, tmp_path: Path
) -> None:
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}
    options = ("--model", model, "--library", library, "--workers", 1)
    with (
        running(tmp_path / "server", *options, **data) as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        described = client.get("/openapi.json").json()["components"]["schemas"]
        answers = {}
        for name in genrescope.SAMPLES:
            sent = {"file": genrescope.sample(name).read_bytes()}
            answers[name] = client.post("/api/classify", files=sent).json()
    for name, answer in answers.items():
        meant = genrescope.load(model).predict(genrescope.sample(name))
        assert (answer["genre"], answer["other"], answer["best"]) == (
            meant.genre,
            meant.other,
            meant.best,
        )
        assert answer["scores"][0]["label"] == meant.best
        assert answer["unsure"] == meant.unsure
        assert answer["sentence"] == sentence(meant)
        for near in answer["similar"]:
            assert near["other"] == (Path(near["path"]).stem in {strange, "copy"})
            assert (near["genre"] is None) == near["other"]
    for schema in ("ClassifyResponse", "SimilarTrack"):
        kinds = [one["type"] for one in described[schema]["properties"]["genre"]["anyOf"]]
        assert kinds == ["string", "null"]
        assert {"genre", "other", "best"} <= set(described[schema]["required"])


def test_the_page_says_other(model: Path, strange: str, tmp_path: Path) -> None:
    service = Service(genrescope.load(model), Limits())
    wanted = AnalysisOptions(timeline=True, show=tmp_path)
    for name in genrescope.SAMPLES:
        analysis = analyse(service.classifier, genrescope.sample(name), wanted)
        write_answer(service, analysis, f"{name}.mp3", "id", tmp_path)
        answer = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
        assert answer["other"] == (name == strange)
        assert (answer["confidence_level"] == "none") == (name == strange)
        assert ("closest is" in answer["sentence"]) == (name == strange)
        assert (answer["genre"] is None) == (name == strange)
        _, row = csv.reader((tmp_path / "answer.csv").read_text(encoding="utf-8").splitlines())
        assert (row[1] == "other") == (name == strange)


def test_a_part_of_a_cluster_run_holds_the_answer(
    model: Path, library: Path, strange: str, tmp_path: Path
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    parts = pytest.importorskip("genrescope.cluster.parts", reason="needs genrescope[cluster]")
    classifier = genrescope.load(model)
    job = parts.prepare(str(library), str(tmp_path / "out"), classifier)
    output = parts.Output(job.output, classifier.genres)
    for number in job.missing:
        rows = [parts.to_row(file, classifier.predict(file.path)) for file in output.files(number)]
        output.finish(number, rows)
    found = {Path(row["path"]).stem: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert {name for name, row in found.items() if row["other"]} == {"copy", strange}
    for row in found.values():
        assert row["best"] in GENRES
        assert row["genre"] == (None if row["other"] else row["best"])
