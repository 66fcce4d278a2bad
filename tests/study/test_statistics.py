"""Golden figures are from the papers or worked out by hand; the rest are properties."""

import csv
import math
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    recall_score,
)
from test_figures import GENRES, SEGMENTS, make_cell

from genrescope.study import statistics
from genrescope.study.results import (
    SUMMARY_COLUMNS,
    Cell,
    ResultRow,
    TrackPrediction,
    compare,
    read_tested,
    write_comparisons,
    write_summary,
)
from genrescope.study.statistics import (
    MAX_REJECTED,
    Bin,
    bootstrap,
    bootstrap_f1,
    doubt,
    expected_calibration_error,
    mcnemar,
    other_threshold,
    paired_bootstrap,
    reliability,
    wilson,
)

# Lists of tracks, each with one pair of outcomes a seed.
PAIRS = st.lists(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=3),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # (0.5 ± 1.96 · sqrt(0.25 / 20 + 3.8415 / 1600) / (1 + 3.8415 / 20))
        (10, 20, 0.2993, 0.7007),
    ],
)
def test_wilson_gives_the_published_intervals(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n))))
def test_wilson_contains_the_share_and_stays_in_bounds(case: tuple[float, int]) -> None:
    right, n = case
    low, high = wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert low < high
    mirrored = wilson(n - right, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("right", "n"), [(0, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_wilson_refuses_what_cannot_be(right: float, n: int) -> None:
    with pytest.raises(ValueError, match=r"at least one track|is impossible"):
        wilson(right, n)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (1, 8, 20 / 512),  # 2 · (1 + 9) / 2⁹
        (2, 5, 58 / 128),  # 2 · (1 + 7 + 21) / 2⁷
        (0, 6, 2 / 64),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_counts_only_where_one_is_right(only_a: int, only_b: int, p: float) -> None:
    a = [True] * only_a + [False] * only_b + [True] * 20 + [False] * 7
    b = [False] * only_a + [True] * only_b + [True] * 20 + [False] * 7
    assert mcnemar(a, b) == pytest.approx(p)
    assert mcnemar(b, a) == pytest.approx(p)


@given(PAIRS)
@settings(max_examples=30, deadline=None)
def test_paired_difference_is_antisymmetric_and_within_its_interval(
    tracks: list[list[tuple[bool, bool]]],
) -> None:
    a = [[x for x, _ in track] for track in tracks]
    b = [[y for _, y in track] for track in tracks]
    found, other = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert found.difference == pytest.approx(mean(chain(*a)) - mean(chain(*b)))
    assert other.difference == pytest.approx(-found.difference)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))
    assert -1 <= found.low <= found.high <= 1


@given(PAIRS)
@settings(max_examples=20, deadline=None)
def test_identical_outcomes_differ_by_nothing(tracks: list[list[tuple[bool, bool]]]) -> None:
    a = [[x for x, _ in track] for track in tracks]
    found = paired_bootstrap(a, a)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert mcnemar([track[0] for track in a], [track[0] for track in a]) == 1


def test_paired_interval_is_the_normal_one_and_counts_tracks() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(400) < 0.7, rng.random(400) < 0.6
    once = paired_bootstrap(a[:, None].tolist(), b[:, None].tolist())
    ahead = a.astype(int) - b
    reach = 1.96 * ahead.std() / np.sqrt(400)
    assert once.low == pytest.approx(ahead.mean() - reach, abs=0.01)
    assert once.high == pytest.approx(ahead.mean() + reach, abs=0.01)
    five = paired_bootstrap(
        np.repeat(a[:, None], 5, 1).tolist(), np.repeat(b[:, None], 5, 1).tolist()
    )
    assert five == once  # five seeds that agree are no more evidence


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.4
    a, b = ~hard, ~hard & (rng.random(200) > 0.05)
    found = paired_bootstrap(a[:, None].tolist(), b[:, None].tolist())
    alone = bootstrap(a, np.ones(200))
    assert found.high - found.low < (alone[1] - alone[0]) / 2
    assert found.low > 0


def test_bootstrap_is_the_same_with_and_without_kept_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right, count = [1, 0, 2, 1, 3], [1, 1, 3, 2, 3]
    kept = bootstrap(right, count)
    monkeypatch.setattr(statistics, "_MAX_CACHED", 0)
    assert bootstrap(right, count) == kept
    drawn = np.random.default_rng(0).integers(5, size=(2000, 5))
    shares = np.array(right)[drawn].sum(axis=1) / np.array(count)[drawn].sum(axis=1)
    assert kept == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))


def test_f1_of_several_genres_by_hand() -> None:
    # Two artists: of the first genre 3 of 4 tags are found and 1 prediction is wrong; of the second
    # 1 of 1 and none; the third is neither in the tags nor predicted.
    counts = [[[2, 2, 3], [1, 1, 1], [0, 0, 0]], [[1, 2, 1], [0, 0, 0], [0, 0, 0]]]
    micro, macro = bootstrap_f1(counts)
    assert micro.value == pytest.approx(2 * 4 / (5 + 5))
    assert macro.value == pytest.approx((2 * 3 / (4 + 4) + 1) / 2)
    # Each artist alone, or both: the lowest and the highest of the three.
    assert (micro.low, micro.high) == pytest.approx((2 / 3, 6 / 7))
    assert (macro.low, macro.high) == pytest.approx((2 / 3, 9 / 10))


def test_a_genre_that_is_never_found_counts_in_the_macro_f1() -> None:
    micro, macro = bootstrap_f1([[[9, 9, 10], [0, 1, 0]]] * 3)
    assert micro.value == pytest.approx(0.9)
    assert macro.value == macro.low == macro.high == pytest.approx(18 / 19 / 2)


def test_reliability_by_hand() -> None:
    confidence = [0.1, 0.3, 0.9, 0.7, 1.0, 0.5]
    right = [False, True, True, False, True, True]
    # Halves: 0.1 and 0.3, one of two right; 0.5 (on the border, above), 0.7, 0.9 and 1.0, three.
    low, high = reliability(confidence, right, bins=2)
    assert low == Bin(2, pytest.approx(0.2), 0.5)
    assert high == Bin(4, pytest.approx(0.775), 0.75)
    error = expected_calibration_error(confidence, right, bins=2)
    assert error == pytest.approx((2 * 0.3 + 4 * 0.025) / 6)


def test_reliability_leaves_empty_bins_out() -> None:
    found = reliability([0.05, 0.95, 0.96], [False, True, True], bins=10)
    assert [one.count for one in found] == [1, 2]
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap([], []),
        lambda: bootstrap([1], [1, 1]),
        lambda: bootstrap([1], [0]),
        lambda: bootstrap([2], [1]),
        lambda: paired_bootstrap([], []),
        lambda: paired_bootstrap([[True]], [[True], [True]]),
        lambda: paired_bootstrap([[True]], [[True, False]]),
        lambda: paired_bootstrap([[]], [[]]),
        lambda: mcnemar([], []),
        lambda: mcnemar([True], [True, False]),
        lambda: reliability([], []),
        lambda: reliability([0.5], [True, False]),
        lambda: reliability([1.5], [True]),
        lambda: reliability([math.nan], [True]),
    ],
)
def test_what_does_not_pair_up_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"tracks|track needs|predictions|probability"):
        call()


def test_interval_is_wilsons_on_one_split_and_resampled_elsewhere() -> None:
    fixed = make_cell("r", seeds=3, tracks=50)
    right = sum(outcome.right for tested in fixed.tested for outcome in tested)
    assert fixed.interval_method == "Wilson"
    assert fixed.interval() == wilson(right / 3, 50)
    redrawn = Cell(
        "r", "random", fixed.rows[:2], [], [fixed.tested[0], make_cell("r", offset=30).tested[0]]
    )
    unknown = Cell(
        "r", "p", [], [], [[TrackPrediction("1", "a", "a"), TrackPrediction("2", "a", "b")]]
    )
    for cell in (
        redrawn,
        unknown,
        make_cell("r", "grouped", folds=5),
        make_cell("r", SEGMENTS, seeds=1),
    ):
        assert cell.interval_method == "bootstrap"
    alone = Cell("r", "random", fixed.rows[:1], [], fixed.tested[:1])
    assert alone.interval_method == "Wilson"


def test_segments_are_resampled_by_track() -> None:
    # Four equal segments of each track are one track's worth of evidence.
    by_track = [[TrackPrediction(f"t{i // 4}#{i % 4}", "a", "ab"[i // 4 % 2]) for i in range(160)]]
    whole = [[TrackPrediction(f"t{i}", "a", "ab"[i % 2]) for i in range(40)]]
    assert Cell("r", SEGMENTS, [], [], by_track).interval() == pytest.approx(
        Cell("r", "p", [], [], whole).interval()
    )


@given(st.integers(0, 2**16), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_a_restricted_cell_is_measured_anew(seed: int, kept: int) -> None:
    cell = make_cell("r", seeds=2, tracks=60, chance=seed, segment_accuracy=0.4)
    ids = set(np.random.default_rng(seed).choice(sorted(cell.tracks()), kept, replace=False))
    found = cell.restricted(ids)
    assert found is not None
    assert found.tracks() == ids
    for row, tested in zip(found.rows, cell.tested, strict=True):
        left = [outcome for outcome in tested if outcome.id in ids]
        true, predicted = [o.genre for o in left], [o.predicted for o in left]
        present = sorted(set(true))
        assert row.n_test == kept
        assert row.accuracy == pytest.approx(accuracy_score(true, predicted))
        f1 = f1_score(true, predicted, labels=present, average="macro", zero_division=0)
        assert row.macro_f1 == pytest.approx(f1)
        assert row.confusion == confusion_matrix(true, predicted, labels=GENRES).tolist()
        recall = recall_score(true, predicted, labels=present, average=None)
        assert row.recall == pytest.approx(
            dict.fromkeys(GENRES) | dict(zip(present, recall, strict=True))
        )
        report = classification_report(
            true, predicted, labels=GENRES, output_dict=True, zero_division=np.nan
        )
        for genre, scores in row.by_genre.items():
            wanted = report[genre]
            assert scores.precision == pytest.approx(
                None if genre not in predicted else wanted["precision"]
            )
            if genre in true:
                assert (scores.recall, scores.f1) == pytest.approx(
                    (wanted["recall"], f1_score(true, predicted, labels=[genre], average=None)[0])
                )
            else:
                assert (scores.recall, scores.f1) == (None, None)
        confidence = [outcome.confidence for outcome in left]
        assert row.ece == expected_calibration_error(confidence, [o.right for o in left])
        assert row.segment_accuracy is None
    assert cell.rows[0].segment_accuracy == 0.4


def test_restricting_leaves_out_seeds_without_tracks() -> None:
    first, second = make_cell("r", seeds=1, tracks=10), make_cell("r", seeds=2, offset=10)
    cell = Cell(
        "r", "random", [first.rows[0], second.rows[1]], [], [*first.tested, second.tested[1]]
    )
    found = cell.restricted({outcome.id for outcome in second.tested[1]})
    assert found is not None
    assert [row.seed for row in found.rows] == [1]
    assert cell.restricted({"nobody's"}) is None


def test_restricting_without_confidences_tells_no_calibration() -> None:
    cell = make_cell("r", seeds=1)
    bare = [[TrackPrediction(o.id, o.genre, o.predicted) for o in cell.tested[0]]]
    found = Cell("r", "filtered", cell.rows, [], bare).restricted(cell.tracks())
    assert found is not None
    assert found.ece is None
    assert found.mean == cell.mean


def test_comparing_takes_the_tracks_that_both_tested_in_the_same_seed() -> None:
    genre = GENRES[0]

    def cell(recipe: str, seeds: dict[int, dict[str, bool]]) -> Cell:
        base = make_cell(recipe, seeds=1).rows[0]
        rows = [base.model_copy(update={"seed": seed}) for seed in seeds]
        tested = [
            [TrackPrediction(i, genre, genre if right else GENRES[1]) for i, right in seed.items()]
            for seed in seeds.values()
        ]
        return Cell(recipe, "random", rows, [], tested)

    a = cell("a", {0: {"x": True, "y": True, "z": False}, 1: {"w": False, "x": True}})
    b = cell("b", {1: {"x": False, "q": True}, 0: {"y": False, "x": True, "u": True}})
    found = compare(a, b)
    assert found is not None
    # Pairs: x and y of seed 0, x of seed 1; a is right in all three, b in one.
    assert (found.recipe_a, found.recipe_b, found.protocol) == ("a", "b", "random")
    assert found.n_tracks == 2
    assert found.difference == pytest.approx(2 / 3)
    assert found.low <= found.difference <= found.high
    assert found.mcnemar_p == 1  # one track of seed 0 in which they differ: 2 · (1 / 2)
    swapped = compare(b, a)
    assert swapped is not None
    assert swapped.difference == pytest.approx(-2 / 3)
    assert compare(a, cell("c", {2: {"x": True}})) is None
    with pytest.raises(ValueError, match="filtered"):
        compare(a, make_cell("d", "filtered"))


def test_comparing_segments_counts_tracks_and_gives_no_p() -> None:
    found = compare(make_cell("a", SEGMENTS), make_cell("b", SEGMENTS, chance=1))
    assert found is not None
    assert found.n_tracks == len(make_cell("a", SEGMENTS).tracks()) < 40
    assert found.mcnemar_p is None


def test_every_pair_within_a_protocol_is_written(tmp_path: Path) -> None:
    cells = [
        make_cell(recipe, protocol, chance=i)
        for i, recipe in enumerate("abc")
        for protocol in ("filtered", "random")
    ]
    cells.append(make_cell("far", "random", offset=900))  # no track in common with any
    write_comparisons(tmp_path / "comparisons.csv", cells)
    with (tmp_path / "comparisons.csv").open() as file:
        lines = list(csv.DictReader(file))
    pairs = [(line["protocol"], line["recipe_a"], line["recipe_b"]) for line in lines]
    assert sorted(pairs) == sorted(
        (protocol, *pair) for protocol in ("filtered", "random") for pair in ("ab", "ac", "bc")
    )
    for line in lines:
        a, b = (
            next(c for c in cells if (c.recipe, c.protocol) == (line[key], line["protocol"]))
            for key in ("recipe_a", "recipe_b")
        )
        assert float(line["difference"]) == pytest.approx(a.mean - b.mean, abs=1e-6)
        assert float(line["low"]) <= float(line["difference"]) <= float(line["high"])
        assert 0 < float(line["mcnemar_p"]) <= 1


def test_the_summary_has_a_line_for_each_cell_and_scope(tmp_path: Path) -> None:
    cell = make_cell("a", seeds=3, n_train=70)
    half = cell.restricted(sorted(cell.tracks())[:10])
    assert half is not None
    write_summary(tmp_path / "summary.csv", {"all": [cell], "audio": [half]}, {"a": 99})
    with (tmp_path / "summary.csv").open() as file:
        reader = csv.DictReader(file)
        lines = list(reader)
    scores = tuple(f"{s}_{genre}" for s in ("precision", "recall", "f1") for genre in GENRES)
    assert tuple(reader.fieldnames or ()) == SUMMARY_COLUMNS + scores
    assert [line["scope"] for line in lines] == ["all", "audio"]
    first, second = lines
    assert float(first["accuracy_mean"]) == pytest.approx(cell.mean, abs=1e-6)
    assert float(first["accuracy_sd"]) == pytest.approx(cell.sd, abs=1e-6)
    assert (float(first["low"]), float(first["high"])) == pytest.approx(cell.interval(), abs=1e-6)
    assert (first["interval_method"], first["seeds"]) == ("Wilson", "3")
    assert (first["n_train"], first["n_test"], second["n_test"]) == ("70", "40", "10")
    assert first["tracks_used"] == "99"
    for score, value in cell.by_genre["jazz"]._asdict().items():
        assert float(first[f"{score}_jazz"]) == pytest.approx(value, abs=1e-6)
    assert second["recall_jazz"] == ""  # the first ten tracks by name are all blues


def test_predictions_are_read_with_confidence_and_fold(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("id,fold,genre,predicted,a,b\nx,2,a,b,0.250000,0.750000\n")
    (outcome,) = read_tested(path)
    assert (outcome.confidence, outcome.fold, outcome.right) == (0.75, 2, False)


def test_results_of_older_versions_are_read() -> None:
    told = make_cell("a", seeds=1).rows[0].model_dump()
    costs = ("parameters", "train_seconds", "predict_seconds", "peak_memory")
    for later in ("train_share", "segment_accuracy", "weights", "ece", *costs):
        del told[later]
    row = ResultRow.model_validate(told)
    assert (row.train_share, row.segment_accuracy, row.weights, row.ece) == (1.0, None, None, None)
    cell = Cell("a", "filtered", [row, make_cell("a", seeds=1).rows[0]], [], [])
    assert cell.ece is None  # one seed of two tells nothing of the mean
    assert cell.weights == {}
    known = row.model_copy(update={"train_seconds": 2.0, "peak_memory": 2**30})
    cell = Cell("a", "filtered", [row, known], [], [])
    assert (cell.parameters, cell.train_seconds, cell.epochs) == (None, None, None)
    assert cell.peak_memory == 2**30


def test_an_ensembles_weights_are_averaged_over_seeds() -> None:
    rows = [make_cell("e", seeds=1, weights={"a": w, "b": 1 - w}).rows[0] for w in (0.2, 0.4)]
    assert Cell("e", "filtered", rows, [], []).weights == pytest.approx({"a": 0.3, "b": 0.7})


def outcomes(count: int, genres: int, sharpen: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether each is right: as often as it says, to the power ``sharpen``."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(1 / genres, 1, count)
    return confidence, rng.uniform(size=count) < confidence**sharpen


@pytest.mark.parametrize(("sharpen", "below"), [(1.0, 0.8), (2.0, 0.896), (0.5, 0.628)])
def test_of_what_is_not_called_unsure_nine_in_ten_are_right(sharpen: float, below: float) -> None:
    # Of confidences from c to 1, the mean of c ** sharpen is 0.9.
    confidence, right = outcomes(20_000, 10, sharpen)
    found = doubt(confidence, right, 10)
    assert found.below == pytest.approx(below, abs=0.04)
    assert found.count == 20_000
    assert found.unsure == int((confidence < found.below).sum())
    assert found.right_unsure == pytest.approx(right[confidence < found.below].mean())
    assert found.right_sure == pytest.approx(right[confidence >= found.below].mean())
    assert found.right_sure == pytest.approx(0.9, abs=0.005)
    assert found.right_unsure < 0.9


@pytest.mark.parametrize("genres", [2, 3, 10, 500])
def test_a_few_held_back_tracks_do_not_decide_alone(genres: int) -> None:
    for right in (True, False):
        few = doubt([0.9, 0.95], [right, right], genres)
        assert 0 < few.below <= 1
        assert (few.unsure == 0) == right
    nothing = doubt([], [], genres)
    assert nothing.below == pytest.approx(0.8, abs=0.06)
    assert (nothing.count, nothing.right_unsure, nothing.right_sure) == (0, None, None)


def test_equal_confidences_are_on_one_side() -> None:
    found = doubt([0.9] * 100 + [0.5] * 100, [1] * 95 + [0] * 5 + [1] * 30 + [0] * 70, 10)
    assert 0.5 < found.below <= 0.9
    assert found.unsure == 100


def test_a_model_that_is_mostly_wrong_is_mostly_unsure() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 0.9, 400)
    found = doubt(confidence, rng.uniform(size=400) < 0.2, 10)
    assert found.unsure == 400


@pytest.mark.parametrize(("wrong", "aim"), [(0.0, 0.9), (0.15, 0.8), (0.25, 0.7)])
def test_wrong_labels_do_not_make_every_prediction_unsure(wrong: float, aim: float) -> None:
    rng = np.random.default_rng(1)
    confidence, right = outcomes(5000, 10, 0.5)
    found = doubt(confidence * (1 - wrong), right & (rng.uniform(size=5000) >= wrong), 10)
    assert found.right_sure == pytest.approx(aim, abs=0.02)
    assert found.unsure < 4500


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=200))
def test_at_most_a_twentieth_is_above_the_threshold_and_no_lower_score_would_do(
    scores: list[int],
) -> None:
    values = np.array(scores, dtype=np.float32) / 8
    above = other_threshold(values)
    assert above in values
    assert (values > above).mean() <= MAX_REJECTED
    assert (values >= above).mean() > MAX_REJECTED
