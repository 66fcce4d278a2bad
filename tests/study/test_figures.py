"""Figures are looked into as matplotlib's objects, with as many recipes as a large study has."""

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import genrescope
from genrescope.classifier.explain import Explanation
from genrescope.study import figures
from genrescope.study.results import Cell, ResultRow, TrackPrediction

SEGMENTS = "leaky-segments"
GENRES = ("blues", "jazz", "metal")
HONEST = {"filtered": True, "grouped": True, "random": False, SEGMENTS: False}
MANY = [f"recipe-{i} (of a long kind)" if i % 5 == 0 else f"recipe-{i}" for i in range(25)]


def make_cell(
    recipe: str,
    protocol: str = "filtered",
    accuracy: float = 0.5,
    *,
    tracks: int = 40,
    seeds: int = 2,
    n_train: int = 100,
    offset: int = 0,
    chance: int = 0,
    folds: int = 1,
    **more: object,
) -> Cell:
    """Tracks by lot, right with the probability asked for; those of ``offset`` and above."""
    rng = np.random.default_rng(chance)
    rows, tested = [], []
    for seed in range(seeds):
        outcomes = []
        for i in range(offset, offset + tracks):
            genre = GENRES[i % len(GENRES)]
            wrong = GENRES[(i + 1 + rng.integers(2)) % len(GENRES)]
            predicted = genre if rng.random() < accuracy else wrong
            name = f"{genre}.{i // 4:05d}#{i % 4}" if protocol == SEGMENTS else f"{genre}.{i:05d}"
            outcomes.append(
                TrackPrediction(name, genre, predicted, rng.uniform(0.34, 1), i % folds)
            )
        row = ResultRow(
            recipe=recipe,
            protocol=protocol,
            seed=seed,
            accuracy=float(np.mean([outcome.right for outcome in outcomes])),
            macro_f1=0.0,
            n_train=n_train,
            n_valid=20,
            n_test=tracks,
            seconds=1.0,
            recipe_hash="0" * 12,
            data_checksum="0" * 16,
            genres=list(GENRES),
            recall=dict.fromkeys(GENRES, 0.5),
            confusion=[[0] * len(GENRES)] * len(GENRES),
            environment={"python": "3"},
            ece=0.125,
        )
        rows.append(row)
        tested.append(outcomes)
    cell = Cell(recipe, protocol, rows, [], tested)
    filled = cell.restricted(cell.tracks()) or cell  # with what follows from the outcomes
    return replace(filled, rows=[row.model_copy(update=more) for row in filled.rows])


def study_cells() -> list[Cell]:
    """As many as a large study has: better by every step, and inflated where tracks leak."""
    inflated = {"filtered": 0.0, "grouped": 0.02, "random": 0.15, SEGMENTS: 0.35}
    return [
        make_cell(recipe, protocol, min(0.97, 0.25 + 0.015 * i + more), chance=i, seeds=1)
        for protocol, more in inflated.items()
        for i, recipe in enumerate(MANY)
        if protocol != SEGMENTS or i % 4 == 0
    ]


CELLS = study_cells()
FILTERED = [cell for cell in CELLS if cell.protocol == "filtered"]


def learning_cells(recipes: Sequence[str]) -> list[Cell]:
    return [
        make_cell(recipe, accuracy=0.3 + 0.01 * i + share / 5, chance=i, seeds=1, tracks=200,
                  n_train=round(share * (443 if i % 3 else 149)), train_share=share)
        for share in (0.1, 0.25, 0.5, 1.0)
        for i, recipe in enumerate(recipes)
    ]  # fmt: skip


DRAWN: dict[str, Callable[[], Figure]] = {
    "accuracies": lambda: figures.accuracies(CELLS, HONEST, "Test accuracy"),
    "gap": lambda: figures.gap(CELLS, HONEST, "Gap"),
    "calibration": lambda: figures.calibration(FILTERED, "Calibration"),
    "learning": lambda: figures.learning(learning_cells(MANY), "Learning"),
}


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("name", DRAWN)
def test_25_recipes_are_drawn_without_warning_or_overlap(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = DRAWN[name]()
        figure.savefig(io.BytesIO(), format="png", dpi=figure.dpi)
    for axes in figure.axes:
        low, high = sorted(axes.get_ylim())
        ticks = [tick for tick in axes.get_yticklabels() if low <= tick.get_position()[1] <= high]
        labels = [*axes.texts, *ticks, axes.title]
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        for i, box in enumerate(boxes):
            assert figure.bbox.contains(box.x0, box.y0)
            assert figure.bbox.contains(box.x1, box.y1)
            assert not [other for other in boxes[:i] if box.overlaps(other)]


def test_accuracies_has_a_panel_for_each_protocol_best_first() -> None:
    figure = figures.accuracies(CELLS, HONEST, "Test accuracy")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "filtered: leakage-free",
        "grouped: leakage-free",
        "random: artists leak",
        "leaky-segments: LEAKS",
    ]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    means = {cell.recipe: cell.mean for cell in FILTERED}
    assert names == sorted(means, key=lambda recipe: -means[recipe])
    for axes in figure.axes:
        own = [cell for cell in CELLS if axes.get_title().startswith(cell.protocol)]
        dots = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
        found = {names[int(dot.get_ydata()[0])]: dot.get_xdata()[0] for dot in dots}
        assert found == {cell.recipe: cell.mean for cell in own}


def test_one_protocol_is_one_panel_and_three_leave_none_empty() -> None:
    assert len(figures.accuracies(FILTERED, HONEST, "").axes) == 1
    three = [cell for cell in CELLS if cell.protocol != SEGMENTS]
    shown = [axes for axes in figures.accuracies(three, HONEST, "").axes if axes.get_visible()]
    assert len(shown) == 3


def test_gap_sets_random_and_filtered_on_one_line_and_writes_the_gap() -> None:
    leakage_free, random = make_cell("a", accuracy=0.5), make_cell("a", "random", accuracy=0.8)
    best = make_cell("b", accuracy=0.9)
    cells = [leakage_free, best, random]
    figure = figures.gap(cells, HONEST, "Gap")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    pairs = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
    assert [(list(p.get_xdata()), list(p.get_ydata())) for p in pairs] == [
        ([leakage_free.mean, random.mean], [1, 1])
    ]
    assert f"{random.mean - leakage_free.mean:+.2f}" in texts(axes)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["random: random split, artists leak", "filtered: leakage-free"]
    marks = {line.get_label(): line for line in axes.get_lines()}
    assert marks[legend[0]].get_markerfacecolor() == "white"
    assert marks[legend[0]].get_marker() == "D"
    assert list(marks[legend[1]].get_xdata()) == [best.mean, leakage_free.mean]


def test_gap_marks_grouped_and_says_what_leaks() -> None:
    figure = figures.gap(CELLS, HONEST, "Gap")
    (axes,) = figure.axes
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"grouped: also leakage-free", "leaky-segments: LEAKS"} <= set(legend)
    leaking = [cell for cell in CELLS if cell.protocol == SEGMENTS]
    assert texts(axes).count("LEAKS") == len(leaking)
    (cross,) = [line for line in axes.get_lines() if line.get_label() == "leaky-segments: LEAKS"]
    assert cross.get_marker() == "x"
    assert sorted(cross.get_xdata()) == sorted(cell.mean for cell in leaking)


def test_gap_takes_kfold_where_there_is_no_other_random_split() -> None:
    leakage_free = {**HONEST, "kfold": False}
    kfold, grouped = make_cell("a", "kfold", folds=10), make_cell("a", "grouped", folds=5)
    segments = make_cell("a", SEGMENTS)
    assert figures.gap_protocols([segments, grouped, kfold], leakage_free) == ("grouped", "kfold")
    assert figures.gap_protocols([segments, grouped], leakage_free) == ("grouped", "")


def test_learning_has_a_line_for_each_recipe_by_size() -> None:
    figure = figures.learning(learning_cells(["a", "b", "c"]), "Learning")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["b"].get_xdata()) == [44, 111, 222, 443]
    assert list(lines["a"].get_xdata()) == [15, 37, 74, 149]
    own = [cell.mean for cell in learning_cells(["a", "b", "c"]) if cell.recipe == "b"]
    assert list(lines["b"].get_ydata()) == own
    assert sorted(texts(axes)) == ["a", "b", "c"]
    for text in axes.texts:
        assert text.get_color() == lines[text.get_text()].get_color()
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert "50" in ticks
    assert "200" in ticks


def test_learning_colours_the_best_and_greys_the_others() -> None:
    cells = learning_cells(MANY)
    (axes,) = figures.learning(cells, "Learning").axes
    ends = {cell.recipe: cell.mean for cell in cells if cell.train_share == 1}
    best = sorted(ends, key=lambda recipe: -ends[recipe])
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert set(colours) == set(MANY)
    assert len({colours[recipe] for recipe in best[:7]}) == 7
    assert {colours[recipe] for recipe in best[7:]} == {"#999999"}


def test_calibration_names_the_error_and_draws_the_bins() -> None:
    confidence = [0.65, 0.65, 0.65, 0.65, 0.95, 0.95]
    right = [True, False, True, False, True, True]
    cell = make_cell("sure", seeds=1)
    outcomes = [
        TrackPrediction(str(i), "jazz", "jazz" if hit else "blues", share, 0)
        for i, (share, hit) in enumerate(zip(confidence, right, strict=True))
    ]
    rows = [cell.rows[0].model_copy(update={"ece": 0.117})]
    figure = figures.calibration([Cell("sure", "filtered", rows, [], [outcomes])], "Calibration")
    (axes,) = figure.axes
    assert axes.get_title() == "sure\nECE 0.12"
    diagonal, bins = axes.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert list(bins.get_xdata()) == pytest.approx([0.65, 0.95])
    assert list(bins.get_ydata()) == [0.5, 1]
    areas = axes.collections[0].get_sizes()
    assert areas[0] > areas[1]


def test_calibration_has_a_panel_for_each_recipe() -> None:
    shown = [axes for axes in figures.calibration(FILTERED[:7], "").axes if axes.get_visible()]
    names = [" ".join(axes.get_title().split("\n")[:-1]) for axes in shown]
    assert names == [cell.recipe for cell in FILTERED[:7]]
    bare = [[TrackPrediction("x", "jazz", "jazz", math.nan)]]
    with pytest.raises(ValueError, match="probability"):
        figures.calibration([Cell("r", "filtered", FILTERED[0].rows, [], bare)], "")


def test_an_explanation_has_axes_in_seconds_and_hertz() -> None:
    path = genrescope.sample("lament")
    drops = np.array([[0.25, -0.125], [0, 0.125], [0, 0]], dtype=np.float32)
    why = Explanation("jazz", 0.5, np.array([0, 3.0, 6, 9]), np.array([0, 1500.0, 8000]), drops)
    axes, bar = figures.explanation(path, why).axes
    assert axes.get_title() == "lament.mp3: jazz 0.50"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time / s", "frequency / Hz")
    assert bar.get_ylabel() == "drop of the probability without it"
    assert axes.get_xlim() == pytest.approx((0, 9), abs=0.2)
    ticks = dict(
        zip((t.get_text() for t in axes.get_yticklabels()), axes.get_yticks(), strict=True)
    )
    assert ticks["8000"] == axes.get_ylim()[1]
    assert 0 < ticks["250"] < ticks["500"] < ticks["1000"] < ticks["4000"]
    _, over = axes.images
    np.testing.assert_array_equal(over.get_array(), drops.T)
    assert over.get_clim() == (-0.25, 0.25)
    assert over.get_alpha().max() < 1  # the spectrogram shows
    assert over.get_alpha()[0, 1] == 0
    flat = replace(why, drops=np.zeros_like(drops))
    figures.explanation(path, flat).canvas.draw()
