"""`genrescope robustness` and `study --robustness` on clips of three styles."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import commands
import genrescope
from genrescope.datasets.demo import SAMPLING_RATE, render
from genrescope.robustness.transforms import TRANSFORMS

pytest.importorskip("python_stretch", reason="transforms come with genrescope[study]")
STYLES = ("classical", "disco", "jazz")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 1.5 s, five artists a genre with two clips each; jazz is in stereo."""
    folder = tmp_path_factory.mktemp("data")
    rows = ["path,genre,artist"]
    for genre, style in zip(STYLES, ("lament", "pulse", "shuffle"), strict=True):
        (folder / genre).mkdir()
        for number in range(10):
            clip = render(style, number % 5, number, seconds=1.5)
            if genre == "jazz":
                clip = np.stack([clip, 0.2 * np.roll(clip, 100)], axis=1)
            soundfile.write(folder / genre / f"{number}.flac", clip, SAMPLING_RATE)
            rows.append(f"{genre}/{number}.flac,{genre},{genre} {number % 5}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder


def run(*words: object, cwd: Path) -> commands.Done:
    return commands.run("robustness", *words, cwd=cwd)


def test_a_model_is_tested(data: Path, tmp_path: Path) -> None:
    chosen = "telephone,left-only,fade"
    given = ("default", "--data", data / "list.csv", "--transforms", chosen, "--workers", 2)
    done = run(*given, "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    rows = {row["transform"]: row for row in content["rows"]}
    assert list(rows) == ["unchanged", "telephone", "left-only"]
    assert {name: row["tracks"] for name, row in rows.items()} == {
        "unchanged": 30,
        "telephone": 30,
        "left-only": 10,  # those in stereo
    }
    assert "fade applies to none of these files" in done.stderr  # they are too short
    classifier = genrescope.load()
    clips = [data / genre / f"{number}.flac" for genre in STYLES for number in range(10)]
    predicted = [classifier.predict(clip).best for clip in clips]
    right = sum(genre == clip.parent.name for genre, clip in zip(predicted, clips, strict=True))
    assert rows["unchanged"]["accuracy"] == pytest.approx(right / 30)
    with (tmp_path / "out" / "robustness-answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    unchanged = [a["predicted"] for a in answers if a["transform"] == "unchanged"]
    assert sorted(unchanged) == sorted(predicted)
    for name in ("robustness.csv", "robustness.png", "robustness.svg"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert json.loads((tmp_path / "out" / "robustness.json").read_text()) == content


def test_a_stopped_run_resumes(data: Path, tmp_path: Path) -> None:
    given = ("default", "--data", data / "list.csv", "--transforms", "gain-6", "--out", "out")
    first = run(*given, "--json", cwd=tmp_path)
    kept = tmp_path / "out" / "robustness.jsonl"
    whole = kept.read_text()
    key, *lines = whole.splitlines()
    assert len(lines) == 60
    # As if it had been killed while it wrote; one answer is exchanged to show that it is used.
    *name, _ = json.loads(lines[0])
    lines[0] = json.dumps([*name, "metal"])
    kept.write_text("\n".join([key, *lines[:40], lines[40][:9]]))
    again = run(*given, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    with (tmp_path / "out" / "robustness-answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(answers) == 60
    assert [a["id"] for a in answers if a["predicted"] == "metal"] == [name[1]]
    # Another transform is added to what is kept; results of another version are not used.
    wider = run(*given[:4], "gain-6,gain+6", "--out", "out", "--json", cwd=tmp_path)
    rows = json.loads(wider.stdout)["rows"]
    assert [row["tracks"] for row in rows] == [30, 30, 30]
    assert "metal" in kept.read_text()
    kept.write_text(kept.read_text().replace(key, "genrescope 0"))
    anew = run(*given, "--json", cwd=tmp_path)
    assert json.loads(anew.stdout)["rows"] == json.loads(first.stdout)["rows"]
    assert "metal" not in kept.read_text()


def test_a_table_and_what_was_left_out(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for number, genre in enumerate(("disco", "polka")):
        (folder / genre).mkdir(parents=True)
        shutil.copy(data / "disco" / f"{number}.flac", folder / genre)
    soundfile.write(folder / "disco" / "silent.wav", np.zeros(8000), 8000)
    done = run("default", "--data", folder, "--transforms", "bright", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "unchanged" in done.stdout
    assert "polka (1)" in done.stderr
    assert "silent.wav: it is silent" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("default", "--data", "nowhere"), "nowhere: no such folder"),
        (("default", "--data", "{data}/list.csv", "--transforms", "mp3"), "no transform 'mp3'"),
        (("nothing", "--data", "{data}/list.csv"), "nothing"),
        (("default", "--data", "{data}/list.csv", "--protocol", "x"), "no protocol 'x'"),
        (("default", "--data", "{data}", "--out", "{data}"), "the command reads what is in it"),
        (("default", "--data", "other.csv"), "default has none of its genres (a, b …)"),
        (("default", "--data", "robustness.csv", "--out", "."), "the command reads it"),
    ],
)
def test_errors(words: tuple[str, ...], said: str, data: Path, tmp_path: Path) -> None:
    for name in ("other.csv", "robustness.csv"):
        lines = [f"{data}/disco/{i}.flac,{'ab'[i % 2]}" for i in range(4)]
        (tmp_path / name).write_text("\n".join(["path,genre", *lines]))
    done = run(*(word.format(data=data) for word in words), cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_study_tests_each_fold_by_its_own_model(data: Path, tmp_path: Path) -> None:
    given = ("study", "--data", data / "list.csv", "--recipes", "knn,musicnn-head")
    given = (*given, "--protocols", "grouped,leaky-segments", "--seeds", 1, "--out", "out")
    plain = commands.run(*given, cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert not (tmp_path / "out" / "robustness.csv").exists()
    assert "Robustness" not in (tmp_path / "out" / "report.md").read_text()
    done = commands.run(*given, "--robustness", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    with (out / "robustness-answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    tested = {
        (a["model"], a["id"], a["predicted"]) for a in answers if a["transform"] == "unchanged"
    }
    for recipe in ("knn", "musicnn-head"):
        (predictions,) = out.glob(f"runs/{recipe}-*/grouped/seed-0/predictions.csv")
        with predictions.open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == 30
        own = {(recipe, line["id"], line["predicted"]) for line in lines}
        assert own == {answer for answer in tested if answer[0] == recipe}
    counts = {name: sum(a["transform"] == name for a in answers) for name in TRANSFORMS}
    assert counts["pitch+1"] == counts["mp3-64"] == 60
    assert counts["left-only"] == 20
    assert counts["start+5"] == counts["fade"] == 0
    for text in ((out / name).read_text() for name in ("report.md", "report.html")):
        assert "Robustness" in text
        assert "300 to 3400 Hz only" in text
        assert "left out: knn 0, musicnn-head 0" in text
    assert (out / "figures" / "robustness-grouped.png").exists()
    assert (out / "figures" / "robustness-grouped.svg").exists()
    again = commands.run(*given, "--robustness", cwd=tmp_path)
    assert again.returncode == 0
    assert "transformed clips" not in again.stderr  # nothing is done twice
