"""The figures of robustness from answers that were made up, their files and their heat map."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genrescope.errors import InputError
from genrescope.report.robustness import robustness_groups
from genrescope.robustness.figure import heat_map
from genrescope.robustness.measure import Answer, Answers, FoldModel
from genrescope.robustness.results import RobustnessRow, summarise, to_table, write_robustness
from genrescope.robustness.transforms import UNCHANGED, find_transforms
from genrescope.study.statistics import mcnemar, paired_bootstrap, wilson

GENRES = {"1": "blues", "2": "blues", "3": "jazz", "4": "jazz"}


def made(
    given: Mapping[str, Mapping[str, Mapping[str, str]]], protocol: str = "filtered"
) -> Answers:
    """By model, transform and track."""
    answers = [
        Answer(model, protocol, track, GENRES[track], transform, genre)
        for model, by_transform in given.items()
        for transform, by_track in by_transform.items()
        for track, genre in by_track.items()
    ]
    models = [
        FoldModel(model, protocol, Path(model), frozenset(tracks), left_out)
        for model in given
        for tracks, left_out in (("12", 3), ("34", 4))  # two folds
    ]
    problem = InputError("x.wav", "it is silent", "Leave it out")
    return Answers(
        tuple(models), find_transforms(["telephone", "fade"]), tuple(answers), (problem,)
    )


KNOWN = {"1": "blues", "2": "blues", "3": "jazz", "4": "blues"}  # three right
FOUND = made(
    {
        "one": {
            UNCHANGED.name: KNOWN,
            # One that was right becomes wrong; one that was wrong becomes right.
            "telephone": {"1": "jazz", "2": "blues", "3": "jazz", "4": "jazz"},
            "fade": {"1": "rock", "3": "rock"},  # two of them are too short
        },
        "two": {UNCHANGED.name: KNOWN, "telephone": KNOWN},
    }
)


def row(model: str, transform: str) -> RobustnessRow:
    (found,) = [r for r in summarise(FOUND) if (r.model, r.transform) == (model, transform)]
    return found


def test_there_is_a_row_for_each_transform_that_applies() -> None:
    assert [(r.model, r.transform, r.tracks) for r in summarise(FOUND)] == [
        ("one", "unchanged", 4),
        ("one", "telephone", 4),
        ("one", "fade", 2),
        ("two", "unchanged", 4),
        ("two", "telephone", 4),
    ]


def test_changed_answers_count_whether_they_are_right_or_wrong() -> None:
    found = row("one", "telephone")
    assert (found.accuracy, found.unchanged_accuracy, found.difference) == (0.75, 0.75, 0)
    assert found.changed == 0.5
    assert (found.changed_low, found.changed_high) == wilson(2, 4)
    assert (found.accuracy_low, found.accuracy_high) == wilson(3, 4)
    assert row("one", "unchanged").changed == row("two", "telephone").changed == 0


def test_clips_are_compared_with_themselves() -> None:
    found = row("one", "fade")
    assert (found.accuracy, found.unchanged_accuracy) == (0, 1)  # of the two alone
    assert found.difference == found.low == found.high == -1
    pairs = [False, True, True, True], [True, True, True, False]
    expected = paired_bootstrap([[a] for a in pairs[0]], [[b] for b in pairs[1]])
    assert (row("one", "telephone").low, row("one", "telephone").high) == (
        expected.low,
        expected.high,
    )
    assert row("one", "telephone").mcnemar_p == mcnemar(*pairs)


def test_files(tmp_path: Path) -> None:
    rows = summarise(FOUND)
    write_robustness(tmp_path, FOUND, rows, "made-up")
    with (tmp_path / "robustness.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["transform"] for line in lines] == [r.transform for r in rows]
    assert float(lines[1]["changed"]) == 0.5
    with (tmp_path / "robustness-answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(answers) == len(FOUND.answers)
    assert answers[0] == {
        "model": "one",
        "protocol": "filtered",
        "id": "1",
        "genre": "blues",
        "transform": "unchanged",
        "predicted": "blues",
    }
    content = json.loads((tmp_path / "robustness.json").read_text())
    assert content == json.loads(json.dumps(to_table(FOUND, rows, "made-up")))
    assert content["without_usable_audio"] == [
        {"model": "one", "protocol": "filtered", "tracks": 7},
        {"model": "two", "protocol": "filtered", "tracks": 7},
    ]
    assert content["problems"] == ["x.wav: it is silent. Leave it out."]
    assert set(content["transforms"]) == {"unchanged", "telephone", "fade"}


def test_the_heat_map_has_a_cell_for_each_model_and_transform() -> None:
    figure = heat_map(summarise(FOUND), "Robustness of $a$")
    changed, gaps, *bars = figure.axes
    assert len(bars) == 2
    assert changed.get_title() == "share of changed answers"
    assert gaps.get_title() == "change of accuracy"
    texts = {t.get_position(): t.get_text() for t in changed.texts}
    assert texts == {(0, 0): "0.50", (1, 0): "0.00", (0, 1): "1.00"}  # no fade of model two
    assert {t.get_position(): t.get_text() for t in gaps.texts}[0, 1] == "-1.00"
    values = changed.images[0].get_array()
    assert np.ma.is_masked(values[1, 1]) or np.isnan(values[1, 1])
    low, high = gaps.images[0].get_clim()
    assert low == -high == -1
    assert [t.get_text() for t in changed.get_yticklabels()] == [
        "300 to 3400 Hz only",
        "3 s fade-in and fade-out",
    ]
    assert [t.get_text() for t in changed.get_xticklabels()] == ["one\n4 tracks", "two\n4 tracks"]


def test_text_in_cells_can_be_read() -> None:
    dark, light = (heat_map(summarise(FOUND), "").axes[0].texts[i] for i in (2, 1))
    assert (dark.get_text(), dark.get_color()) == ("1.00", "white")
    assert (light.get_text(), light.get_color()) == ("0.00", "black")


def test_the_section_has_all_that_was_left_out() -> None:
    saved = []
    (group,) = robustness_groups(FOUND, "made-up", lambda *given: saved.append(given))
    assert group["left_out"] == ["one 7", "two 7"]
    assert group["problems"] == ["x.wav: it is silent. Leave it out."]
    one, two = group["table"].groups
    assert (one.title, two.title) == ("one", "two")
    assert one.rows[0].cells[0] == UNCHANGED.about
    assert one.rows[2].cells[3:] == ("-1.000", "-1.000 to -1.000", "100%")
    assert len(two.rows) == len(one.rows) - 1
    assert saved[0][1] == "robustness-filtered"
