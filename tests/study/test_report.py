"""The report on made-up results: what it compares, marks and cites, for any part of a study."""

import base64
import csv
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from test_figures import GENRES, SEGMENTS, learning_cells, make_cell

from genrescope.cli.output import print_report_table
from genrescope.datasets.track import Dataset, Track
from genrescope.references import cited_works
from genrescope.report.findings import STUDY_FIGURES
from genrescope.report.hard_tracks import hard_tracks
from genrescope.report.sections import NO_AUDIO, SECTIONS, accuracy_table
from genrescope.report.tables import ReportTable, TableGroup, TableRow, latex, latex_text
from genrescope.report.write import write_report
from genrescope.study.config import StudyConfig
from genrescope.study.results import Cell, Unavailable, compare
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


def with_missing(study: Study, name: str = "lacking") -> Study:
    """Add a recipe whose weights are not available."""
    lacking = load_recipe({"extends": "original-wav2vec2", "name": name})
    config = study.config.model_copy(update={"recipes": [lacking, *study.config.recipes]})
    missing = Unavailable(recipe=name, protocol=None, mark=NO_WEIGHTS, reason="No network.")
    return replace(study, config=config, unavailable=[missing])


def written(study: Study, out: Path) -> tuple[str, str]:
    write_report(study, out)
    return (out / "report.md").read_text(), (out / "report.html").read_text()


def section(text: str, title: str) -> list[list[str]]:
    """The rows of a table under a heading, without its head."""
    rest = text.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]
    rows = [line for line in rest.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows]


def opening(text: str) -> str:
    return text.split("## What was found\n")[1].split("\n## ", maxsplit=1)[0].strip()


READS = make_cell("reads", accuracy=0.4, seeds=2)  # a table or a picture of every track
HEARS = make_cell("hears", accuracy=0.7, tracks=20, seeds=2, chance=1)


def test_the_first_sentences_are_of_the_numbers(tmp_path: Path) -> None:
    cells = [
        make_cell("good", accuracy=0.9, chance=1),
        make_cell("bad", accuracy=0.2, chance=2),
        make_cell("good", "random", accuracy=0.95, chance=3),
        make_cell("bad", "random", accuracy=0.5, chance=4),
    ]
    text, page = written(make_study(cells), tmp_path)
    good, bad, good_random, bad_random = cells
    found = compare(good, bad)
    assert found is not None
    first, second, third = re.split(r"(?<=\.) (?=The )", opening(text))
    assert first == (
        "By `filtered`, where no artist is on both sides of a split, good is best with a test "
        f"accuracy of {good.mean:.3f} ± {good.sd:.3f}: {found.difference:.3f} more than bad, the "
        "next, on the 40 test tracks of both (95 % interval of the difference "
        f"+{found.low:.3f} to +{found.high:.3f})."
    )
    gaps = (good_random.mean - good.mean, bad_random.mean - bad.mean)
    assert second == (
        "The random split (`random`), in which artists leak, promises "
        f"{sum(gaps) / 2:.3f} more in the mean of 2 models, from {min(gaps):+.3f} for good to "
        f"{max(gaps):+.3f} for bad."
    )
    assert third.startswith("The original study [1] printed, by random split of GTZAN, 0.42 ± ")
    assert third.endswith("; none of these models is part of this comparison.")
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[:2] == ["What was found", "Test accuracy"]
    assert "Table 4.1. Test accuracy" in page
    assert "Table 4.1. Test accuracy" in text


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([make_cell("a")], ["a reaches a test accuracy of", "No random split was run"]),
        ([make_cell("a", "random")], ["No leakage-free protocol was run; by `random`"]),
        (
            [make_cell("a"), make_cell("b", chance=1)],
            ["so the two cannot be distinguished", "No random split was run"],
        ),
        ([make_cell("a"), make_cell("b", tracks=9, offset=50)], ["was tested on other tracks"]),
        ([make_cell("a"), make_cell("b", "random")], ["No model was run both ways"]),
        ([make_cell("a"), make_cell("a", "random", 0.9)], [" more. The original study"]),
        ([make_cell("a", accuracy=0.9), make_cell("a", "random", 0.1)], [" less. The original"]),
        ([make_cell("a", seeds=1)], ["a test accuracy of 0."]),
    ],
)
def test_the_first_sentences_fit_any_part_of_a_study(
    cells: list[Cell], says: list[str], tmp_path: Path
) -> None:
    text, _ = written(make_study(cells), tmp_path)
    for part in says:
        assert part in opening(text)


ORIGINALS = list(STUDY_FIGURES)


@given(
    st.lists(st.sampled_from([*ORIGINALS, "svm", "knn"]), unique=True, max_size=4),
    st.lists(st.sampled_from(["filtered", "random", "kfold", SEGMENTS]), unique=True, min_size=1),
    st.sampled_from(ORIGINALS),
    st.sampled_from(["gtzan", "demo", "mine"]),
    st.booleans(),
    st.integers(1, 2),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_first_sentences_are_whole_whatever_was_run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    protocols: list[str],
    missing: str,
    data: str,
    quick: bool,
    seeds: int,
) -> None:
    # Only these; the other sections take time.
    own = {name: SECTIONS[name] for name in ("findings", "references")}
    monkeypatch.setattr("genrescope.report.write.SECTIONS", own)
    cells = [
        make_cell(name, protocol, 0.3 + 0.1 * i, seeds=seeds, tracks=12)
        for protocol in protocols
        for i, name in enumerate(names)
    ]
    study = make_study(cells) if cells else replace(make_study([READS]), cells=[])
    update = {"protocols": protocols, "quick": quick, "seeds": seeds}
    study = replace(
        study,
        config=study.config.model_copy(update=update),
        dataset=replace(study.dataset, name=data),
    )
    if missing not in names:
        study = with_missing(study, missing)
    text, _ = written(study, tmp_path_factory.mktemp("report"))
    said = opening(text)
    assert said.endswith(".")
    assert not re.search(r"None|\{|\}|  | [.,;:)]|\( |\.\.|,,|\bnan\b", said)
    assert said.count("(") == said.count(")")
    assert 1 <= len(re.findall(r"\.(?= [A-Z]|$)", said)) <= 3
    assert ("reach" in said or "is best" in said) == bool(cells)
    own = [name for name in ORIGINALS if name in names or name == missing]
    for name in own:
        assert f"{STUDY_FIGURES[name].mean:g} ± {STUDY_FIGURES[name].sd:g} for {name}" in said
    assert ("(here 0." in said) == (
        data == "gtzan" and not quick and "random" in protocols and bool({*ORIGINALS} & {*names})
    )


def test_bold_is_the_best_and_what_is_not_distinguishable_from_it(tmp_path: Path) -> None:
    best = make_cell("best", accuracy=0.9, tracks=60, chance=1)
    near = make_cell("near", accuracy=0.85, tracks=60, chance=2)
    far = make_cell("far", accuracy=0.3, tracks=60, chance=3)
    alone = make_cell("far", "random", accuracy=0.9, chance=3)
    elsewhere = make_cell("elsewhere", accuracy=0.8, tracks=9, offset=90)
    study = with_missing(make_study([far, best, near, elsewhere, alone]))
    text, page = written(study, tmp_path)
    rows = {(row[0], row[1]): row[2:] for row in section(text, "Test accuracy")}
    bold = {key[1] for key, (accuracy, *_) in rows.items() if accuracy.startswith("**")}
    assert bold == {"best", "near"}  # of random there is only one
    shown = set(re.findall(r"<td class=\"l\">(\w+)</td><td class=\"r\"><strong>0", page))
    assert shown == bold
    tables = (tmp_path / "tables" / "accuracy.tex").read_text()
    assert set(re.findall(r"(\w+) & \\textbf", tables)) == bold
    differences = [compare(cell, best) for cell in (near, far)]
    assert [found is not None and found.high >= 0 for found in differences] == [True, False]


def test_what_was_not_run_is_below_what_ran(tmp_path: Path) -> None:
    study = with_missing(make_study([READS, HEARS], audio=HEARD))
    text, page = written(study, tmp_path)
    for title in ("Test accuracy", "On the tracks that have audio"):
        row = section(text, title)[-1]
        assert row[:3] == ["filtered (leakage-free)", "lacking", "weights not available"]
    assert page.count("weights not available") == 3


def test_leakage_free_protocols_lead_and_every_protocol_is_marked(tmp_path: Path) -> None:
    protocols = (SEGMENTS, "random", "filtered")
    cells = [make_cell(recipe, name) for name in protocols for recipe in ("a", "b")]
    text, page = written(make_study(cells), tmp_path)
    order = [row[0] for row in section(text, "Test accuracy")]
    marked = ["filtered (leakage-free)", "random (artists leak)", f"{SEGMENTS} (**LEAKS**)"]
    assert order == [name for name in marked for _ in "ab"]
    # Wherever it is named, so is what is wrong with it.
    for line in text.splitlines():
        if SEGMENTS in line and not line.startswith("!"):
            assert "LEAKS" in line
    groups = re.findall(r'<tr class="group ([\w-]+)">.*?</tr>', page)
    assert groups == ["leakage-free", "artists-leak", "LEAKS"] * 3  # accuracy, comparison, cost
    captions = re.findall(r"<(caption|figcaption)>([^<]*)(<span[^<]*)?", page)
    own = [span for _, name, span in captions if SEGMENTS in name]
    assert len(own) == 2 * 2  # scores of genres, confusion matrices
    assert all('class="mark LEAKS">LEAKS' in span for span in own)
    alts = [alt for alt in re.findall(r'alt="([^"]*)"', page) if SEGMENTS in alt]
    assert len(alts) == 2
    assert all("LEAKS" in alt for alt in alts)
    assert section(text, "Test accuracy")[-1][-1].endswith(" segments")


def test_nothing_is_said_to_leak_where_nothing_does(tmp_path: Path) -> None:
    text, page = written(make_study([READS, make_cell("reads", "random")]), tmp_path)
    assert "LEAKS" not in text
    assert ">LEAKS<" not in page


def test_recipes_with_and_without_audio_are_compared_on_the_same_tracks(tmp_path: Path) -> None:
    study = make_study([READS, HEARS], audio=HEARD)
    text, page = written(study, tmp_path)
    whole = section(text, "Test accuracy")
    lines = section(text, "On the tracks that have audio")
    assert len(lines) == len(whole) == 2
    left = READS.restricted(HEARD)
    assert left is not None
    assert f"{READS.mean:.3f} ±" in whole[0][2]
    assert f"{left.mean:.3f} ±" in lines[0][2]
    assert lines[0][6] == "100 / 20 / 20"
    assert lines[1][3:] == whole[1][3:]
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
def test_the_restricted_table_is_left_out_where_it_says_nothing(
    cells: list[Cell], audio: frozenset[str], tmp_path: Path
) -> None:
    text, page = written(make_study(cells, audio=audio), tmp_path)
    assert "On the tracks that have audio" not in text + page
    assert "audio" not in (tmp_path / "summary.csv").read_text()


def test_a_recipe_with_no_test_track_with_audio_is_marked(tmp_path: Path) -> None:
    elsewhere = make_cell("elsewhere", tracks=20, offset=40)
    text, _ = written(make_study([READS, HEARS, elsewhere], audio=HEARD), tmp_path)
    assert section(text, "On the tracks that have audio")[-1][1:3] == ["elsewhere", NO_AUDIO]


def test_a_protocol_that_is_only_for_some_has_no_line_for_the_others(tmp_path: Path) -> None:
    cells = [make_cell("a"), make_cell("b"), make_cell("a", SEGMENTS)]
    text, _ = written(make_study(cells), tmp_path)
    assert len(section(text, "Test accuracy")) == 3


def test_every_recipe_is_compared_with_the_best(tmp_path: Path) -> None:
    cells = [
        make_cell("good", accuracy=0.9, chance=1),
        make_cell("bad", accuracy=0.2, chance=2),
        make_cell("middling", accuracy=0.6, chance=3),
        make_cell("apart", accuracy=0.5, tracks=10, offset=50),
    ]
    text, page = written(make_study(cells), tmp_path)
    rows = section(text, "Comparison with the best model")
    assert [row[1] for row in rows] == ["middling", "bad", "apart"]
    assert {row[0] for row in rows} == {"filtered, best: good (leakage-free)"}
    good, bad, *_ = cells
    assert float(rows[1][2].replace("−", "-")) == pytest.approx(bad.mean - good.mean, abs=6e-4)
    assert rows[1][4:] == [r"\< 0.001", "40"]
    assert rows[2][2] == "no test track in common"
    assert "best: good" in page


def test_a_recipe_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    text, page = written(make_study([READS]), tmp_path)
    assert "Comparison with the best model" not in text + page
    assert len((tmp_path / "comparisons.csv").read_text().splitlines()) == 1


def test_the_interval_says_how_it_came_about(tmp_path: Path) -> None:
    cells = [make_cell("a"), make_cell("a", "grouped", folds=5)]
    text, _ = written(make_study(cells), tmp_path)
    assert [row[4] for row in section(text, "Test accuracy")] == ["Wilson", "bootstrap"]
    assert [row[1] for row in section(text, "Tracks")] == ["60"]


def test_single_segments_are_beside_their_average(tmp_path: Path) -> None:
    cell = make_cell("a", segment_accuracy=0.25)
    text, page = written(make_study([cell, make_cell("b")]), tmp_path)
    line = f"single segments 0.250 → averaged per track {cell.mean:.3f}"
    assert text.count("single segments 0") == 1
    assert line in text
    assert line in page


def test_an_ensemble_is_in_the_table_with_its_weights(tmp_path: Path) -> None:
    ensemble = make_cell("all", weights={"a": 0.75, "b": 0.25})
    cells = [make_cell("a"), make_cell("b")]
    study = make_study(cells)
    config = study.config.model_copy(update={"ensembles": [Ensemble(name="all", of=("a", "b"))]})
    used = {**study.used, "all": study.used["a"]}
    sources = {**study.sources, "all": {}}
    study = replace(study, config=config, cells=[*cells, ensemble], used=used, sources=sources)
    text, page = written(study, tmp_path)
    assert [row[1] for row in section(text, "Test accuracy")] == ["a", "b", "all"]
    assert section(text, "Hyper-parameters")[-1][:2] == ["all", "weighted mean of a, b"]
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
    assert "10 % | 25 % | 50 % | 100 %" in text
    own = [f"{c.mean:.3f} ({c.n_train})" for c in learnt if c.recipe == "a"]
    assert section(text, "Learning curves")[0] == ["a", *own]
    assert "Leakage-free and random splits" in page

    bare = [replace(READS, rows=[row.model_copy(update={"ece": None}) for row in READS.rows])]
    text, page = written(make_study(bare), tmp_path / "bare")
    drawn = {path.stem for path in (tmp_path / "bare" / "figures").glob("*.png")}
    assert drawn == {"accuracy", "class-balance", "confusion-reads-filtered"}
    for title in ("Leakage-free and random", "Learning curves", "Calibration"):
        assert title not in text + page


def test_all_pictures_are_on_the_page_and_linked_in_the_text(tmp_path: Path) -> None:
    curves = [[dict.fromkeys(CURVE_COLUMNS, 1.0)] * 2]
    cells = [replace(make_cell(r, p), curves=curves) for p in ("filtered", "random") for r in "ab"]
    text, page = written(make_study(cells), tmp_path)
    files = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert len(files) == 4 + 2 * 4
    shown = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)">', page)
    assert page.count("<img") == len(shown) == len(files)
    drawn = {path.read_bytes() for path in (tmp_path / "figures").glob("*.svg")}
    assert {base64.b64decode(data) for data, _ in shown} == drawn
    for name in files:
        with Image.open(tmp_path / "figures" / name) as image:
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    assert "<details" not in page
    linked = re.findall(r"(!?)\[[^\]]+\]\(figures/([^)]+)\)", text)
    assert {name for _, name in linked} == files
    inline = {name for mark, name in linked if mark}
    assert inline == {"accuracy.png", "gap.png", "calibration.png", "class-balance.png"}


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    study = make_study([READS, make_cell("reads", "random")])
    for name in ("one", "two"):
        write_report(study, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) > 15
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_files_of_a_former_report_are_gone(tmp_path: Path) -> None:
    write_report(make_study([READS, make_cell("old")]), tmp_path)
    assert (tmp_path / "tables" / "genres-old-filtered.tex").exists()
    write_report(make_study([READS]), tmp_path)
    assert not list(tmp_path.rglob("*old*"))


def test_scores_of_genres_are_those_of_the_confusions(tmp_path: Path) -> None:
    cells = [READS, make_cell("reads", "random", 0.8, chance=2)]
    text, page = written(make_study(cells), tmp_path)
    rows = section(text, "Precision, recall and F1 of each genre")
    assert len(rows) == 2 * len(GENRES)
    for cell, own in zip(cells, (rows[: len(GENRES)], rows[len(GENRES) :]), strict=True):
        for row, (genre, scores) in zip(own, cell.by_genre.items(), strict=True):
            assert row[:3] == [f"{cell.protocol} ({marks(cell)})", "reads", genre]
            assert [float(value) for value in row[4:]] == pytest.approx(scores, abs=0.005)
            assert int(row[3]) == sum(o.genre == genre for one in cell.tested for o in one)
    assert page.count('<table class="small">') == 2


def marks(cell: Cell) -> str:
    return {"filtered": "leakage-free", "random": "artists leak"}[cell.protocol]


def test_the_cost_is_that_of_the_rows_and_unknown_ones_are_dashes(tmp_path: Path) -> None:
    known = make_cell(
        "known",
        parameters=96458,
        train_seconds=12.34,
        predict_seconds=0.00125,
        peak_memory=500 * 2**20,
    )
    curves = [[dict.fromkeys(CURVE_COLUMNS, 1.0)] * epochs for epochs in (30, 31)]
    known = replace(known, curves=curves)
    text, _ = written(make_study([known, make_cell("unknown")]), tmp_path)
    rows = section(text, "Cost")
    assert rows[0][1:] == ["known", "96,458", "30.5", "12.3", "1.0", "1.250", "500"]
    assert rows[1][1:] == ["unknown", "–", "–", "–", "1.0", "–", "–"]


def test_settings_that_differ_from_defaults_are_listed(tmp_path: Path) -> None:
    study = make_study([READS])
    svm = load_recipe("svm")
    config = study.config.model_copy(update={"recipes": [*study.config.recipes, svm]})
    text, _ = written(replace(study, config=config), tmp_path)
    mlp, classical = section(text, "Hyper-parameters")
    assert mlp[0] == "reads"
    assert mlp[1] == "descriptors, l2-rows"
    assert mlp[2] == "mlp (widths 512 / 128, dropout 0.5)"
    for part in ("adam (lr 0.0001, weight decay 1e-05", "batch size 16", "epochs 350"):
        assert part in mlp[3]
    assert classical[1:3] == ["descriptors", "svm"]
    assert "search c 1 / 3 / 10 / 30, gamma 0.003 / 0.01 / 0.03" in classical[3]


def test_tracks_that_every_model_misclassifies_are_named_with_their_faults(tmp_path: Path) -> None:
    cells = [
        make_cell(recipe, protocol, accuracy=0.35, chance=i, tracks=60)
        for i, recipe in enumerate("ab")
        for protocol in ("filtered", "random")
    ]
    cells.append(make_cell("a", SEGMENTS, accuracy=1.0))  # says nothing of tracks
    study = make_study(cells)
    outcomes = [o for c in cells if c.protocol != SEGMENTS for one in c.tested for o in one]
    right = {outcome.id for outcome in outcomes if outcome.right}
    wrong = sorted({outcome.id for outcome in outcomes} - right)
    assert len(wrong) > 3
    faulty = tuple(
        replace(track, faults=("same | piece as jazz.00001",)) if track.id == wrong[2] else track
        for track in TRACKS
    )
    study = replace(study, dataset=replace(study.dataset, tracks=faulty))
    hard, count = hard_tracks(study)
    assert [track.id for track in hard] == sorted(wrong, key=lambda i: int(i.split(".")[1]))
    assert count == 60
    text, page = written(study, tmp_path)
    rows = section(text, "Tracks that every model misclassifies")
    assert len(rows) == len(wrong)
    assert rows[0][0] == wrong[2]  # those with faults first
    most = [max(int(part.split()[1]) for part in row[2].split(", ")) for row in rows[1:]]
    assert most == sorted(most, reverse=True)
    assert "same \\| piece as jazz.00001" in "|".join(rows[0])
    predicted = Counter(o.predicted for o in outcomes if o.id == rows[1][0])
    assert rows[1][1:3] == [
        rows[1][0].split(".")[0], ", ".join(f"{g} {n}" for g, n in predicted.most_common())
    ]  # fmt: skip
    assert f"Of the 60 tracks that all 2 models were tested on, {len(wrong)} are" in text
    assert "1 of them has known faults" in text
    assert "Tracks that every model misclassifies" in page
    with (tmp_path / "errors.csv").open() as file:
        assert {line["track"] for line in csv.DictReader(file)} == set(wrong)


def test_tracks_that_do_not_fit_into_the_table_are_in_the_file(tmp_path: Path) -> None:
    cell = make_cell("a", accuracy=0.0, tracks=60)
    text, _ = written(make_study([cell]), tmp_path)
    rows = section(text, "Tracks that a always misclassifies")
    assert len(rows) == 40
    assert "The 20 that are not in the table are in `errors.csv`." in text
    assert len((tmp_path / "errors.csv").read_text().splitlines()) == 61
    text, _ = written(make_study([make_cell("a", accuracy=1.0)]), tmp_path)
    assert "none are misclassified by it" in text


def test_everything_that_is_cited_is_listed_with_its_entry(tmp_path: Path) -> None:
    protocols = ("filtered", "random")
    cells = [make_cell(name, p, chance=i) for i, name in enumerate(ORIGINALS) for p in protocols]
    study = make_study(cells)
    study = replace(study, dataset=replace(study.dataset, name="gtzan"))
    text, page = written(study, tmp_path)
    body, listed = text.split("## References\n")
    numbers = re.findall(r"^(\d+)\. (.*)$", listed, re.MULTILINE)
    assert [int(number) for number, _ in numbers] == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 15
    cited = [int(n) for n in re.findall(r"\[(\d+)\](?!\()", body)]
    assert set(cited) == {int(number) for number, _ in numbers}
    first = list(dict.fromkeys(cited))
    assert first == sorted(first)
    entries = re.findall(r"^@\w+\{(\w+),$", (tmp_path / "references.bib").read_text(), re.MULTILINE)
    assert [re.sub(r"\\", "", line).split(". <")[0].rstrip(".") for _, line in numbers] == [
        cited_works()[key].text for key in entries
    ]
    targets = set(re.findall(r'href="#(\w+)"', page))
    assert targets == set(re.findall(r'<li id="(\w+)">', page)) == set(entries)
    # The study, its data and the analyses of the data.
    assert {"zhang2024", "tzanetakis2002", "sturm2012", "sturm2013", "kereliuk2015"} <= set(entries)
    assert '<a href="https://doi.org/10.1109/TSA.2002.800560">' in page


HOSTILE = '\\ & % $ # _ { } ~ ^ < > | " ± × – − … ‘ ’ é ü 音 \x07 [x] *'


@given(st.text(max_size=60) | st.just(HOSTILE))
def test_latex_has_no_sign_that_is_read_as_a_command(text: str) -> None:
    found = latex_text(text)
    known = (
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|"
        r"ldots)\{\}|\\[{}&%$#_]|\$(\\pm|\\times|-)\$|--|~"
    )
    rest = re.sub(known, "", found)
    assert not re.search(r"[\\{}&%$#_^~<>|\"\x00-\x1f]", rest)
    assert all(ord(sign) < 0x17F for sign in found)


def test_tables_are_given_for_latex(tmp_path: Path) -> None:
    study = with_missing(make_study([READS, make_cell("under_score (co, 1)", chance=1)]))
    write_report(study, tmp_path)
    for path in (tmp_path / "tables").glob("*.tex"):
        body = path.read_text()
        columns = re.search(
            r"\\begin\{tabularx?\}(?:\{\\linewidth\})?\{(.*)\}$", body, re.MULTILINE
        )
        assert columns
        letters = re.sub(r">\{[^}]*\}", "", columns[1])
        for line in re.findall(r"^    (.*) \\\\$", body, re.MULTILINE):
            spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
            assert len(re.split(r"(?<!\\)&", line)) + spans == len(letters)
        for one, other in (("begin", "end"), ("toprule", "bottomrule")):
            assert body.count(f"\\{one}") == body.count(f"\\{other}")
    names = {path.stem for path in (tmp_path / "tables").glob("*.tex")}
    assert {"accuracy", "comparison", "cost", "settings", "errors", "tracks"} <= names
    accuracy = (tmp_path / "tables" / "accuracy.tex").read_text()
    assert "lacking & \\multicolumn{5}{l}{weights not available} \\\\" in accuracy
    assert "under\\_score (co, 1) & " in accuracy
    assert "$\\pm$" in accuracy
    assert "\\emph{filtered, leakage-free}" in accuracy


def test_a_row_that_begins_with_a_bracket_is_no_argument() -> None:
    table = ReportTable("t", "c", ("a", "b"), "lr", [TableGroup([TableRow(("[1] x", "2"), 1)])])
    assert "    {}[1] x & \\textbf{2} \\\\" in latex(table)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_terminals_table_breaks_no_figure(width: int) -> None:
    cells = [
        make_cell(name, protocol, 0.8, chance=i, tracks=60)
        for protocol in ("filtered", "random")
        for i, name in enumerate(
            ["original-wav2vec2", "a recipe of a very long name (indeed)", "b"]
        )
    ]
    study = with_missing(make_study(cells))
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        print_report_table(console, "Title", accuracy_table(study), columns=(0, 1, 2, 4))
    shown = capture.get()
    for cell in cells:
        low, high = cell.interval()
        row = rf"{cell.mean:.3f} ± {cell.sd:.3f} +{low:.3f} to {high:.3f} +{cell.macro_f1:.3f}"
        assert re.search(row, shown)
    if width >= 80:
        assert "filtered: leakage-free" in shown
        assert shown.count("weights not available") == 2
        assert "original-wav2vec2 " in shown
        assert all(len(line) <= width for line in shown.splitlines())


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
    assert opening(text).startswith("No model could be run; the reasons are under “Not run”.")
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 1


def test_the_text_has_no_empty_lines_within_a_table(tmp_path: Path) -> None:
    text, _ = written(make_study([READS, make_cell("reads", "random")]), tmp_path)
    lines = text.splitlines()
    for (before, line), after in zip(pairwise(lines), lines[2:], strict=False):
        if not line:
            assert not (before.startswith("|") and after.startswith("|"))
