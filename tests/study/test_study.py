import csv
import json
import multiprocessing
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrescope.classifier import Classifier
from genrescope.datasets.demo import make
from genrescope.datasets.track import Dataset, Track
from genrescope.errors import GenrescopeError
from genrescope.io import markdown_text
from genrescope.report.write import write_report
from genrescope.representations.mel_image import MelImage
from genrescope.representations.transform import TRANSFORMS, AudioTransform
from genrescope.study.config import StudyConfig, bundled_studies, load_study
from genrescope.study.results import COLUMNS, MEASURED, Cell, ResultRow, TrackPrediction
from genrescope.study.run import (
    NO_SPLIT,
    NO_TRACKS,
    NO_WEIGHTS,
    SKIPPED,
    Options,
    run_study,
    worker_context,
)
from genrescope.training.recipe import Ensemble, load_recipe

MLP = {
    "extends": "original-mlp",
    "name": "small-mlp",
    "representation": {"name": "mel-image", "size": 32},
    "model": {"name": "cnn", "channels": [4, 8], "hidden": 8},
    "normalise": "none",
    "epochs": 3,
}
CNN = {**MLP, "name": "small-cnn", "normalise": "standardise", "double_softmax": False}


class Log:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.fits: list[str] = []
        self.before = 0
        self.epochs = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def representing(self, name: str, done: int, total: int) -> None:
        pass

    def planned(self, total: int, done: int) -> None:
        self.before = done

    def epoch(self, key: str, row: dict[str, Any]) -> None:
        self.epochs += 1

    def finished(self, key: str, row: ResultRow) -> None:
        self.fits.append(key)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("demo"), tracks_per_style=10, seconds=1.0)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def plan(*recipes: dict, **settings: Any) -> StudyConfig:
    chosen = [load_recipe(recipe) for recipe in recipes or (MLP, CNN)]
    return StudyConfig(recipes=chosen, **{"seeds": 2, **settings})


def options(store: Path, **more: Any) -> Options:
    return Options(store=store, download=False, trainer_flags={"devices": 1}, **more)


@pytest.fixture(scope="session")
def finished(demo: Dataset, store: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("report")
    wav2vec2 = {"extends": "original-wav2vec2", "model": {"weights": "nobody/has-this"}}
    study = run_study(plan(MLP, CNN, wav2vec2), demo, out, options(store), Log())
    write_report(study, out)
    return study, out


def figures_of(out: Path) -> list[tuple]:
    with (out / "results.csv").open() as file:
        return [
            tuple(value for name, value in row.items() if name not in MEASURED)
            for row in csv.DictReader(file)
        ]


def test_results_have_a_row_for_each_recipe_protocol_and_seed(finished) -> None:
    _, out = finished
    with (out / "results.csv").open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    keys = {(row["recipe"], row["protocol"], row["seed"]) for row in rows}
    assert len(rows) == len(keys) == 2 * 2 * 2
    assert {row["protocol"] for row in rows} == {"filtered", "random"}
    content = json.loads((out / "results.json").read_text())
    assert [row["accuracy"] for row in content["rows"]] == [float(r["accuracy"]) for r in rows]
    for row in content["rows"]:
        matrix = np.array(row["confusion"])
        assert matrix.sum() == row["n_test"]
        assert np.trace(matrix) / matrix.sum() == pytest.approx(row["accuracy"])
        assert {"python", "torch", "genrescope"} <= set(row["environment"])
        for genre, recall in row["recall"].items():
            i = row["genres"].index(genre)
            assert recall == pytest.approx(matrix[i, i] / matrix[i].sum())


def test_the_cost_of_each_fit_is_measured(finished) -> None:
    study, out = finished
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        # Two blocks of 3 × 3 convolutions with batch norms, and two dense layers.
        convolutions = 3 * 4 * 9 + 4 + 8 + 4 * 8 * 9 + 8 + 16
        assert int(row["parameters"]) == convolutions + 8 * 8 * 8 * 8 + 8 + 8 * 10 + 10
        assert 0 < float(row["train_seconds"]) < float(row["seconds"])
        assert 0 < float(row["predict_seconds"]) < 1
        assert 2**26 < int(row["peak_memory"]) < 2**33
    assert {cell.epochs for cell in study.cells} == {3}
    with (out / "summary.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["epochs"] for line in lines} == {"3.0"}
    assert {line["parameters"] for line in lines} == {rows[0]["parameters"]}


def test_predictions_add_up_to_the_printed_accuracy(finished) -> None:
    study, out = finished
    for cell in study.cells:
        for row, tested in zip(cell.rows, cell.tested, strict=True):
            assert np.mean([track.right for track in tested]) == pytest.approx(row.accuracy)
    shares = list(out.glob("runs/*/*/*/predictions.csv"))
    assert len(shares) == 8
    with shares[0].open() as file:
        for line in csv.DictReader(file):
            assert sum(float(line[g]) for g in study.dataset.genres) == pytest.approx(1, abs=1e-4)


def test_filtered_leads_and_missing_weights_are_marked(finished) -> None:
    study, out = finished
    assert [entry.mark for entry in study.unavailable] == [NO_WEIGHTS]
    text = (out / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("| filtered", "| random"))]
    assert lines[0].startswith("| filtered (leakage-free) | small-mlp")
    assert "| filtered (leakage-free) | original-wav2vec2 | weights not available |" in text
    assert "Demo data." in text
    assert "not comparable" not in text or "0.27" in text


def test_the_page_needs_nothing_beside_itself(finished) -> None:
    _, out = finished
    page = (out / "report.html").read_text()
    assert not re.search(r'src="(?!data:)|href="(?!#|https://)|<link|@import|url\(', page)
    assert page.count("<img") == page.count('alt="') == len(list((out / "figures").glob("*.png")))
    assert "weights not available" in page


def test_every_picture_of_the_text_is_there(finished) -> None:
    _, out = finished
    named = re.findall(r"\]\(([^)]+\.png)\)", (out / "report.md").read_text())
    assert len(named) == 4 + 2 * 4
    for name in named:
        with Image.open(out / name) as image:
            assert image.width > 300


def test_kept_models_classify_files_as_the_study_did(finished) -> None:
    study, out = finished
    cell = next(c for c in study.cells if c.protocol == "filtered" and c.recipe == "small-cnn")
    classifier = Classifier.from_pretrained(out / "models" / "small-cnn-filtered")
    audio = {track.id: track.audio for track in study.dataset.tracks}
    for tested in cell.tested[0][:5]:
        assert classifier.predict(audio[tested.id]).genre == tested.predicted
    card = (out / "models" / "small-cnn-filtered" / "README.md").read_text()
    assert f"{cell.rows[0].accuracy:.3f} on {cell.n_test} test tracks" in card
    # By the validation tracks, not by those that it was tested on.
    assert (
        f"{classifier.config.unsure_below:g} is marked unsure: of {cell.n_valid} held-out tracks"
        in card
    )
    assert "`filtered`" in card


def test_running_again_fits_nothing_and_changes_nothing(finished, demo, store) -> None:
    _, out = finished
    before = figures_of(out)
    log = Log()
    run_study(plan(), demo, out, options(store), log)
    assert log.before == 8
    assert not log.fits
    assert figures_of(out) == before


def test_folders_of_earlier_versions_are_resumed_without_what_they_lack(
    finished, demo: Dataset, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "old"
    shutil.copytree(finished[1], out)
    for path in out.glob("runs/*/*/*/result.json"):
        row = json.loads(path.read_text())
        for later in ("parameters", "train_seconds", "predict_seconds", "peak_memory"):
            del row[later]
        path.write_text(json.dumps(row))
    for path in out.glob("runs/*/*/*/*/fold.npz"):
        with np.load(path, allow_pickle=False) as kept:
            folds = {name: kept[name] for name in kept if name != "cost"}
        np.savez(path, **folds)
    log = Log()
    both = Ensemble(name="both", of=("small-mlp", "small-cnn"))
    study = run_study(plan(ensembles=[both]), demo, out, options(store), log)
    assert not log.fits
    assert {cell.recipe for cell in study.cells} == {"small-mlp", "small-cnn", "both"}
    assert {cell.peak_memory for cell in study.cells} == {None}
    write_report(study, out)
    text = (out / "report.md").read_text().split("## Cost\n")[1]
    assert re.search(r"\| small-mlp \| – \| 3 \| – \| [\d.]+ \| – \| – \|", text)


class _Stop(Log):
    """Pull the plug after so many fits."""

    def finished(self, key: str, row: ResultRow) -> None:
        super().finished(key, row)
        if len(self.fits) == 1:
            raise KeyboardInterrupt


def test_a_study_that_was_stopped_ends_with_the_same_figures(
    finished, demo: Dataset, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_study(plan(), demo, tmp_path, options(store, jobs=1), _Stop())
    log = Log()
    run_study(plan(), demo, tmp_path, options(store), log)
    assert log.before >= 1
    assert figures_of(tmp_path) == figures_of(finished[1])


def test_what_a_first_fold_has_come_to_is_gone_on_with(
    demo: Dataset, store: Path, tmp_path: Path
) -> None:
    one = plan({**MLP, "epochs": 1}, protocols=["random"], seeds=1)
    run_study(one, demo, tmp_path, options(store, jobs=1), Log())
    (folder,) = tmp_path.glob("runs/*/*/*/fold-0")
    shutil.rmtree(tmp_path / "models")
    (folder.parent / "result.json").unlink()
    (folder / "fold.npz").unlink()  # it was stopped before its end
    (folder / "begun").touch()
    run_study(one, demo, tmp_path, options(store, jobs=1), Log())
    assert (folder / "begun").exists()
    shutil.rmtree(tmp_path / "models")
    (folder.parent / "result.json").unlink()
    run_study(one, demo, tmp_path, options(store, jobs=1), Log())
    assert not (folder / "begun").exists()  # it was done, but for the model that is gone
    assert len(list(tmp_path.glob("models/*/model.onnx"))) == 1


class Killer(Log):
    """Kills the processes that fit, as a system without memory does."""

    def epoch(self, key: str, row: dict[str, Any]) -> None:
        for process in multiprocessing.active_children():
            process.kill()


def test_a_killed_process_names_memory_and_what_it_held(
    demo: Dataset, store: Path, tmp_path: Path
) -> None:
    one = plan({**MLP, "epochs": 500}, protocols=["random"], seeds=1)
    with pytest.raises(GenrescopeError, match=r"out \(it held \d\.\d GB\)\. Run .*--jobs 1"):
        run_study(one, demo, tmp_path, options(store, jobs=1), Killer())


def test_fits_keep_their_memory_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    worker_context()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=0"
    monkeypatch.delenv("GLIBC_TUNABLES")
    worker_context()
    assert "glibc.malloc.hugetlb=1" in os.environ["GLIBC_TUNABLES"]


def test_other_labels_are_not_mixed_with_what_was_done(
    demo: Dataset, store: Path, tmp_path: Path
) -> None:
    one = plan(MLP, protocols=["random"], seeds=1)
    first = run_study(one, demo, tmp_path, options(store), Log())
    swap = {"drone": "waltz", "waltz": "drone"}
    tracks = tuple(
        Track(t.id, swap.get(t.genre, t.genre), t.audio, group=t.group) for t in demo.tracks
    )
    second = run_study(one, Dataset("demo", tracks), tmp_path, options(store), Log())
    checksums = {study.cells[0].rows[0].data_checksum for study in (first, second)}
    assert len(checksums) == 2


@pytest.mark.parametrize("change", ["version", "augmentation"])
def test_changed_input_is_fitted_again(
    demo: Dataset, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    recipe = {**MLP, "epochs": 1, "augmentations": ["loud"] if change == "augmentation" else []}
    one = plan(recipe, protocols=["random"], seeds=1)
    first = run_study(one, demo, tmp_path, options(store, jobs=1), Log())
    if change == "version":
        monkeypatch.setattr(MelImage, "version", MelImage.version + 1)
    else:
        monkeypatch.setitem(TRANSFORMS, "loud", AudioTransform(gain_db=3))
    second = run_study(one, demo, tmp_path, options(store, jobs=1), Log())
    checksums = {study.cells[0].rows[0].data_checksum for study in (first, second)}
    assert len(checksums) == 2


def test_folds_test_every_track_once(demo: Dataset, store: Path, tmp_path: Path) -> None:
    grouped = plan(MLP, protocols=["grouped"], seeds=1)
    study = run_study(grouped, demo, tmp_path, options(store), Log())
    assert sorted(t.id for t in study.cells[0].tested[0]) == [t.id for t in demo.tracks]
    assert study.cells[0].n_test == len(demo.tracks)


def test_one_bad_clip_is_left_out_and_named(demo: Dataset, store: Path, tmp_path: Path) -> None:
    shutil.copytree(demo.tracks[0].audio.parents[1], tmp_path / "demo")
    broken = make(tmp_path / "demo", tracks_per_style=10, seconds=1.0)
    bad = broken.tracks[3]
    bad.audio.write_bytes(bad.audio.read_bytes()[:2000])
    study = run_study(
        plan(MLP, protocols=["filtered"], seeds=1), broken, tmp_path / "out", options(store), Log()
    )
    assert [problem.path for problem in study.problems] == [bad.audio]
    write_report(study, tmp_path / "out")
    assert markdown_text(str(bad.audio)) in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(GenrescopeError, match=bad.audio.name):
        run_study(plan(MLP), broken, tmp_path / "strict", options(store, strict=True), Log())


def test_a_protocol_that_cannot_be_had_is_said_and_the_rest_runs(
    demo: Dataset, store: Path, tmp_path: Path
) -> None:
    tracks = tuple(Track(t.id, t.genre, t.audio) for t in demo.tracks)
    nameless = Dataset("mine", tracks)
    study = run_study(plan(MLP, seeds=1), nameless, tmp_path, options(store), Log())
    assert [(u.protocol, u.mark) for u in study.unavailable] == [("filtered", NO_SPLIT)]
    assert [cell.protocol for cell in study.cells] == ["random"]
    write_report(study, tmp_path)
    assert "protocol not possible" in (tmp_path / "report.md").read_text()


def test_a_recipe_without_tracks_is_said(demo: Dataset, store: Path, tmp_path: Path) -> None:
    tracks = tuple(
        Track(t.id, t.genre, t.audio, audio_variant="excerpt", group=t.group) for t in demo.tracks
    )
    study = run_study(
        plan(MLP, protocols=["random"]), Dataset("x", tracks), tmp_path, options(store), Log()
    )
    assert [(u.recipe, u.mark) for u in study.unavailable] == [("small-mlp", NO_TRACKS)]
    assert not study.cells
    write_report(study, tmp_path)


def test_only_audio_of_the_wanted_extent_is_used(
    demo: Dataset, store: Path, tmp_path: Path
) -> None:
    whole = [track for i, track in enumerate(demo.tracks) if i % 5]
    tracks = tuple(
        replace(t, audio_variant="full" if t in whole else "excerpt") for t in demo.tracks
    )
    dataset = replace(demo, tracks=tracks, lists={})
    wanted = plan(MLP, protocols=["random"], seeds=1, audio_variants=["full"])
    study = run_study(wanted, dataset, tmp_path, options(store), Log())
    assert sum(study.used["small-mlp"].values()) == len(whole)
    assert any(str(len(whole)) in note and "full" in note for note in study.dataset.notes)
    with pytest.raises(GenrescopeError, match="full-16k"):
        run_study(
            plan(MLP, audio_variants=["full-16k"]),
            dataset,
            tmp_path / "none",
            options(store),
            Log(),
        )


def cell_of(outcomes: list[list[bool]]) -> Cell:
    tested = [
        [TrackPrediction(str(i), "a", "a" if right else "b") for i, right in enumerate(seed)]
        for seed in outcomes
    ]
    return Cell("r", "p", [], [], tested)


def test_interval_counts_tracks_not_seeds() -> None:
    rng = np.random.default_rng(0)
    once = list(rng.random(100) < 0.6)
    one, five = cell_of([once]).interval(), cell_of([once] * 5).interval()
    assert one == five  # the same tracks tested five times are no more evidence
    assert one[0] < np.mean(once) < one[1]
    # By the normal approximation, ± 1.96 · sqrt(0.6 · 0.4 / 100).
    assert one[1] - one[0] == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 100), rel=0.15)
    assert cell_of([[True] * 10]).interval() == (1.0, 1.0)


@pytest.mark.parametrize("name", sorted(bundled_studies()))
def test_every_bundled_study_is_valid(name: str) -> None:
    loaded = load_study(name)
    assert loaded.protocols[0] == "filtered"
    assert loaded.quick_version().quick


def test_faults_of_a_study_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(GenrescopeError, match="why-so-low"):
        load_study("no-such-study")
    with pytest.raises(GenrescopeError, match="'whole'; there are: full"):
        load_study("original", audio_variants=["full", "whole"])
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\n")
    with pytest.raises(GenrescopeError, match=r"mine.yaml.*recipes"):
        load_study(str(file))
    file.write_text("recipes: [original-mlp, original-mlp]\n")
    with pytest.raises(GenrescopeError, match="original-mlp"):
        load_study(str(file))
    file.write_text("recipes: [original-mlp]\nprotocols: [shuffled]\n")
    with pytest.raises(GenrescopeError, match="'shuffled'"):
        load_study(str(file))
    file.write_text("recipes: [original-mlp]\nseed: 3\n")
    with pytest.raises(GenrescopeError, match="seed"):
        load_study(str(file))


def test_what_takes_too_long_is_left_out_and_said_to_be(
    demo: Dataset, store: Path, tmp_path: Path
) -> None:
    chosen = plan(protocols=["random", "filtered"], seeds=1, skip={"small-mlp": ["random"]})
    done = run_study(chosen.quick_version(), demo, tmp_path, options(store), Log())
    ran = {(cell.recipe, cell.protocol) for cell in done.cells}
    assert ran == {("small-cnn", "random"), ("small-cnn", "filtered"), ("small-mlp", "filtered")}
    (entry,) = done.unavailable
    assert (entry.recipe, entry.protocol, entry.mark) == ("small-mlp", "random", SKIPPED)
    write_report(done, tmp_path)
    assert "| small-mlp | left out |" in (tmp_path / "report.md").read_text()


def test_more_seeds_or_protocols_leave_what_is_done_as_it_is(
    demo: Dataset, store: Path, tmp_path: Path
) -> None:
    small = plan(MLP, protocols=["random"], seeds=1).quick_version()
    run_study(small, demo, tmp_path, options(store), Log())
    log = Log()
    larger = small.model_copy(update={"protocols": ["filtered", "random"], "seeds": 2})
    run_study(larger, demo, tmp_path, options(store), log)
    assert log.before == 1
    assert sorted(log.fits) == [
        "small-mlp · filtered · seed 0",
        "small-mlp · filtered · seed 1",
        "small-mlp · random · seed 1",
    ]


def test_learning_curves_are_not_of_segments(demo: Dataset, store: Path, tmp_path: Path) -> None:
    chosen = plan(MLP, protocols=["leaky-segments", "random"], seeds=1, train_shares=[0.5])
    done = run_study(chosen.quick_version(), demo, tmp_path, options(store), Log())
    assert [(cell.recipe, cell.protocol) for cell in done.cells] == [("small-mlp", "random")]
    assert done.learning == []
