"""The report on made-up results: what it sets beside what, and what it must not hide."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_figures import GENRES, SEGMENTS, learning_cells, make_cell

from genrescope.datasets.track import Dataset, Track
from genrescope.study.config import StudyConfig
from genrescope.study.report import NO_AUDIO, summary, write_report
from genrescope.study.results import Cell, Unavailable
from genrescope.study.run import NO_WEIGHTS, Study
from genrescope.training.loggers import CURVE_COLUMNS
from genrescope.training.recipe import Ensemble, load_recipe

TRACKS = tuple(Track(f"{GENRES[i % 3]}.{i:05d}", GENRES[i % 3]) for i in range(60))
HEARD = frozenset(track.id for track in TRACKS[:20])


def make_study(cells: list[Cell], **more: object) -> Study:
    names = list(dict.fromkeys(cell.recipe for cell in cells))
    recipes = [load_recipe({"extends": "original-mlp", "name": name}) for name in names]
    protocols = list(dict.fromkeys(cell.protocol for cell in cells))
    config = StudyConfig(recipes=recipes, protocols=protocols, seeds=2)
    study = Study(
        config=config,
        dataset=Dataset("made-up", TRACKS),
        cells=cells,
        unavailable=[],
        used={name: dict.fromkeys(GENRES, 20) for name in names},
        sources={name: {"table": 60} for name in names},
        problems=[],
        learning=[],
        audio=frozenset(track.id for track in TRACKS),
    )
    return replace(study, **more)


def written(study: Study, out: Path) -> tuple[str, str]:
    write_report(study, out)
    return (out / "report.md").read_text(), (out / "report.html").read_text()


def section(text: str, title: str) -> list[str]:
    """The lines of a table under a heading, without its head."""
    rest = text.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]
    return [line for line in rest.splitlines() if line.startswith("| ")][2:]


READS = make_cell("reads", accuracy=0.4, seeds=2)  # a table or a picture of every track
HEARS = make_cell("hears", accuracy=0.7, tracks=20, seeds=2, chance=1)


def test_recipes_with_and_without_audio_are_compared_on_the_same_tracks(tmp_path: Path) -> None:
    study = make_study([READS, HEARS], audio=HEARD)
    text, page = written(study, tmp_path)
    whole = section(text, "Test accuracy")
    lines = section(text, "On the tracks that have audio")
    assert len(lines) == len(whole) == 2
    left = READS.restricted(HEARD)
    assert left is not None
    assert f"{READS.mean:.3f} ±" in whole[0]
    assert f"{left.mean:.3f} ±" in lines[0]
    assert "100 / 20 / 20" in lines[0]
    assert lines[1] == whole[1]
    assert "among the 20 with audio" in text
    assert "On the tracks that have audio" in page
    with (tmp_path / "summary.csv").open() as file:
        found = [(line["recipe"], line["scope"], line["n_test"]) for line in csv.DictReader(file)]
    assert found == [
        ("reads", "all", "40"),
        ("hears", "all", "20"),
        ("reads", "audio", "20"),
        ("hears", "audio", "20"),
    ]


@pytest.mark.parametrize(
    ("cells", "audio"),
    [
        ([READS, HEARS], frozenset(track.id for track in TRACKS)),  # all tracks have audio
        ([READS], HEARD),  # no recipe uses audio
        ([HEARS], HEARD),  # everybody does
        ([READS, HEARS], frozenset()),  # there is no audio
    ],
)
def test_the_restricted_table_is_left_out_where_it_tells_nothing(
    cells: list[Cell], audio: frozenset[str], tmp_path: Path
) -> None:
    text, page = written(make_study(cells, audio=audio), tmp_path)
    assert "On the tracks that have audio" not in text + page
    assert "audio" not in (tmp_path / "summary.csv").read_text()


def test_a_recipe_with_no_test_track_with_audio_is_marked(tmp_path: Path) -> None:
    elsewhere = make_cell("elsewhere", tracks=20, offset=40)
    text, _ = written(make_study([READS, HEARS, elsewhere], audio=HEARD), tmp_path)
    last = section(text, "On the tracks that have audio")[-1]
    assert last.startswith(f"| `filtered` | elsewhere | {NO_AUDIO} |")


def test_leakage_free_protocols_lead_and_leaks_come_last_and_are_marked(tmp_path: Path) -> None:
    protocols = (SEGMENTS, "random", "filtered")
    cells = [make_cell(recipe, name) for name in protocols for recipe in ("a", "b")]
    study = make_study(cells)
    text, page = written(study, tmp_path)
    order = [line.split(" | ")[0] for line in section(text, "Test accuracy")]
    leaking = f"| `{SEGMENTS}` **LEAKS**"
    assert order == ["| `filtered`"] * 2 + ["| `random`"] * 2 + [leaking] * 2
    # Wherever it stands, it says so.
    for line in text.splitlines():
        if f"`{SEGMENTS}`" in line:
            assert "LEAKS" in line
    rows = [row for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL) if SEGMENTS in row]
    titles = [title for title in re.findall(r"<h3>.*?</h3>", page) if SEGMENTS in title]
    assert len(rows) == 4  # accuracies and recalls
    assert len(titles) == 3  # against the best; curves and confusions of either
    assert all('class="leaks">LEAKS<' in marked for marked in rows + titles)
    assert [line["leaks"] for line in summary(study)] == [""] * 4 + ["LEAKS"] * 2
    alts = [alt for alt in re.findall(r'alt="([^"]*)"', page) if SEGMENTS in alt]
    assert len(alts) == 2
    assert all("LEAKS" in alt for alt in alts)
    assert " segments | " in section(text, "Test accuracy")[-1]


def test_nothing_is_said_to_leak_where_nothing_does(tmp_path: Path) -> None:
    text, page = written(make_study([READS, make_cell("reads", "random")]), tmp_path)
    assert "LEAKS" not in text + page


def test_a_protocol_that_is_only_for_some_has_no_line_for_the_others(tmp_path: Path) -> None:
    cells = [make_cell("a"), make_cell("b"), make_cell("a", SEGMENTS)]
    text, _ = written(make_study(cells), tmp_path)
    assert len(section(text, "Test accuracy")) == 3


def test_missing_weights_stay_in_the_table_with_their_mark(tmp_path: Path) -> None:
    study = make_study([READS, HEARS], audio=HEARD)
    lacking = load_recipe({"extends": "original-wav2vec2", "name": "lacking"})
    config = study.config.model_copy(update={"recipes": [*study.config.recipes, lacking]})
    missing = Unavailable(recipe="lacking", protocol=None, mark=NO_WEIGHTS, reason="No network.")
    text, page = written(replace(study, config=config, unavailable=[missing]), tmp_path)
    for title in ("Test accuracy", "On the tracks that have audio"):
        assert section(text, title)[-1].startswith("| `filtered` | lacking | weights not available")
    assert page.count("weights not available") == 3


def test_every_recipe_is_compared_with_the_best(tmp_path: Path) -> None:
    cells = [
        make_cell("good", accuracy=0.9, chance=1),
        make_cell("bad", accuracy=0.2, chance=2),
        make_cell("middling", accuracy=0.6, chance=3),
        make_cell("apart", accuracy=0.5, tracks=10, offset=50),
    ]
    text, page = written(make_study(cells), tmp_path)
    compared = section(text, "Comparison with the best model")
    lines = [line.strip("| ").split(" | ") for line in compared]
    assert [line[1] for line in lines] == ["middling", "bad", "apart"]
    assert {line[2] for line in lines} == {"good"}
    good, bad, *_ = cells
    assert float(lines[1][3]) == pytest.approx(bad.mean - good.mean, abs=6e-4)
    assert lines[1][5] == "< 0.001"
    assert lines[1][6] == "40"
    assert lines[2][3].startswith("no test track in common")
    assert "best: good" in page


def test_a_recipe_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    text, page = written(make_study([READS]), tmp_path)
    assert "Comparison with the best model" not in text + page
    assert len((tmp_path / "comparisons.csv").read_text().splitlines()) == 1


def test_the_interval_tells_how_it_came_about(tmp_path: Path) -> None:
    cells = [make_cell("a"), make_cell("a", "grouped", folds=5)]
    text, _ = written(make_study(cells), tmp_path)
    assert [line.split(" | ")[4] for line in section(text, "Test accuracy")] == [
        "Wilson",
        "bootstrap",
    ]
    assert [line.split(" | ")[7] for line in section(text, "Test accuracy")] == ["60", "60"]


def test_single_segments_stand_beside_their_average(tmp_path: Path) -> None:
    cell = make_cell("a", segment_accuracy=0.25)
    text, page = written(make_study([cell, make_cell("b")]), tmp_path)
    told = f"single segments 0.250 → averaged per track {cell.mean:.3f}"
    assert text.count("single segments") == 1
    assert told in text
    assert told in page


def test_an_ensemble_stands_in_the_table_with_its_weights(tmp_path: Path) -> None:
    ensemble = make_cell("all", weights={"a": 0.75, "b": 0.25})
    cells = [make_cell("a"), make_cell("b")]
    study = make_study(cells)
    config = study.config.model_copy(update={"ensembles": [Ensemble(name="all", of=("a", "b"))]})
    used = {**study.used, "all": study.used["a"]}
    sources = {**study.sources, "all": {}}
    study = replace(study, config=config, cells=[*cells, ensemble], used=used, sources=sources)
    text, page = written(study, tmp_path)
    assert [line.split(" | ")[1] for line in section(text, "Test accuracy")] == ["a", "b", "all"]
    assert "a 0.75, b 0.25" in text
    assert "a 0.75, b 0.25" in page


def test_gap_learning_and_calibration_are_there_when_there_is_something_to_show(
    tmp_path: Path,
) -> None:
    learnt = learning_cells(["a", "b"])
    cells = [c for c in learnt if c.train_share == 1]
    cells += [make_cell(recipe, "random", accuracy=0.8) for recipe in ("a", "b")]
    study = make_study(cells, learning=[c for c in learnt if c.train_share < 1])
    text, page = written(study, tmp_path / "full")
    drawn = {path.stem for path in (tmp_path / "full" / "figures").glob("*.png")}
    assert {"gap", "learning", "calibration", "accuracy", "class-balance"} <= drawn
    head, *_ = section(text, "Learning curves")
    assert "10 % | 25 % | 50 % | 100 %" in text
    assert (
        head
        == "| a | "
        + " | ".join(f"{c.mean:.3f} ({c.n_train} tracks)" for c in learnt if c.recipe == "a")
        + " |"
    )
    assert "Leakage-free and random splits" in page

    bare = [replace(READS, rows=[row.model_copy(update={"ece": None}) for row in READS.rows])]
    text, page = written(make_study(bare), tmp_path / "bare")
    drawn = {path.stem for path in (tmp_path / "bare" / "figures").glob("*.png")}
    assert drawn == {"accuracy", "class-balance", "confusion-reads-filtered"}
    for title in ("Leakage-free and random", "Learning curves", "Calibration"):
        assert title not in text + page


def test_pictures_of_cells_are_folded_away_on_the_page_and_linked_in_the_text(
    tmp_path: Path,
) -> None:
    curves = [[dict.fromkeys(CURVE_COLUMNS, 1.0)] * 2]
    cells = [replace(make_cell(r, p), curves=curves) for p in ("filtered", "random") for r in "ab"]
    text, page = written(make_study(cells), tmp_path)
    files = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert len(files) == 4 + 2 * 4
    assert page.count("<img") == page.count("data:image/png") == len(files)
    assert not re.search(r'alt="\s*"', page)
    folded = {
        name: content.count("<img")
        for name, content in re.findall(
            r"<details><summary>(\w+)</summary>(.*?)</details>", page, re.DOTALL
        )
    }
    assert folded == {"a": 4, "b": 4}
    linked = re.findall(r"(!?)\[[^\]]+\]\(figures/([^)]+)\)", text)
    assert {name for _, name in linked} == files
    shown = {name for mark, name in linked if mark}
    assert shown == {"accuracy.png", "gap.png", "calibration.png", "class-balance.png"}


def test_names_do_not_break_the_page(tmp_path: Path) -> None:
    study = make_study([READS])
    config = study.config.model_copy(update={"about": "<b>5 < 6</b>"})
    _, page = written(replace(study, config=config), tmp_path)
    assert "&lt;b&gt;5 &lt; 6" in page


def test_an_empty_study_is_reported(tmp_path: Path) -> None:
    study = make_study([READS])
    lacking = Unavailable(recipe="reads", protocol=None, mark=NO_WEIGHTS, reason="No network.")
    text, _ = written(replace(study, cells=[], unavailable=[lacking]), tmp_path)
    assert "weights not available" in text
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 1
