from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError
from genrescope.models.classical import (
    ESTIMATORS,
    Temperature,
    fit_estimator,
    fit_temperature,
    lda,
)
from genrescope.representations import make_representation
from genrescope.training.export import export


def rows(classes: int, count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    values = rng.normal(size=(count, 6)) + 1.5 * np.eye(6)[labels]
    return (values * [1, 10, 100, 1, 1, 1e-3] + 5).astype(np.float32), labels.astype(np.int64)


def new_rows(count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(count, 6)) + 1.5 * np.eye(6)[rng.integers(0, 6, count)]
    return (values * [1, 10, 100, 1, 1, 1e-3] + 5).astype(np.float32)


THEIRS = {
    "logistic-regression": (LogisticRegression(C=0.01, max_iter=2000), 2e-3),
    "lda": (LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.8), 2e-3),
    "naive-bayes": (GaussianNB(), 1e-4),
    "random-forest": (RandomForestClassifier(300, random_state=0), 1e-5),
    "gradient-boosting": (
        HistGradientBoostingClassifier(early_stopping=False, random_state=0),
        1e-5,
    ),
}
TREES = ("random-forest", "gradient-boosting")


def test_boosted_trees_are_where_the_converter_reads_them() -> None:
    """Their names are private: where this fails, scikit-learn has moved them."""
    model = HistGradientBoostingClassifier(max_iter=2, early_stopping=False).fit(*rows(3))
    (tree, *others), *_ = model._predictors
    assert len(others) == 2
    names = {"is_leaf", "feature_idx", "num_threshold", "left", "right", "value"}
    assert names <= set(tree.nodes.dtype.names)
    assert np.size(model._baseline_prediction) == 3


def test_every_estimator_is_held_against_scikit_learn() -> None:
    assert set(THEIRS) | {"svm", "knn", "decision-tree"} == set(ESTIMATORS)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", sorted(THEIRS))
def test_modules_predict_what_scikit_learn_does(name: str, classes: int) -> None:
    values, labels = rows(classes)
    module = fit_estimator(name, values, labels, classes, 0, {})
    model, tolerance = THEIRS[name]
    scaler = StandardScaler().fit(values.astype(np.float64))
    scaled = (lambda x: x) if name in TREES else scaler.transform
    model.fit(scaled(values), labels)
    for seen in (values, new_rows()):
        with torch.no_grad():
            found = module(torch.from_numpy(seen)).softmax(dim=1).numpy()
        np.testing.assert_allclose(found, model.predict_proba(scaled(seen)), atol=tolerance)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_support_vectors_decide_as_scikit_learn_does(classes: int) -> None:
    values, labels = rows(classes)
    module = fit_estimator("svm", values, labels, classes, 0, {"c": 3, "gamma": 0.1})
    scaler = StandardScaler().fit(values.astype(np.float64))
    kind = SVC(C=3, gamma=0.1, decision_function_shape="ovo")
    model = kind.fit(scaler.transform(values), labels)
    with torch.no_grad():
        found = module(torch.from_numpy(new_rows())).numpy()
    decisions = model.decision_function(scaler.transform(new_rows()))
    decisions = -decisions[:, None] if classes == 2 else decisions
    expected = np.zeros_like(found)
    for pair, (one, other) in enumerate(combinations(range(classes), 2)):
        expected[:, one] -= np.log1p(np.exp(-2 * decisions[:, pair]))
        expected[:, other] -= np.log1p(np.exp(2 * decisions[:, pair]))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    theirs = model.predict(scaler.transform(new_rows()))
    assert (found.argmax(axis=1) == theirs).mean() > 0.9  # which counts votes without their weight


@pytest.mark.parametrize("leaf", [1, 4])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_tree_is_as_scikit_learns_with_a_track_more_of_every_genre(
    classes: int, leaf: int
) -> None:
    values, labels = rows(classes)
    module = fit_estimator("decision-tree", values, labels, classes, 0, {"leaf": leaf})
    model = DecisionTreeClassifier(min_samples_leaf=leaf, random_state=0).fit(values, labels)
    sizes = model.tree_.n_node_samples[model.apply(new_rows())][:, None]
    shares = model.predict_proba(new_rows())
    with torch.no_grad():
        found = module(torch.from_numpy(new_rows())).softmax(dim=1).numpy()
    expected = (shares * sizes + 1) / (sizes + classes)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), shares.argmax(axis=1))


@pytest.mark.parametrize("neighbours", [1, 4, 5, 90])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_neighbours_vote_as_scikit_learns_do_and_are_more_or_less_sure(
    classes: int, neighbours: int
) -> None:
    values, labels = rows(classes)
    module = fit_estimator("knn", values, labels, classes, 0, {"neighbours": neighbours})
    scaler = StandardScaler().fit(values.astype(np.float64))
    model = KNeighborsClassifier(neighbours).fit(scaler.transform(values), labels)
    votes = model.predict_proba(scaler.transform(new_rows()))
    with torch.no_grad():
        found = module(torch.from_numpy(new_rows())).softmax(dim=1).numpy()
    assert len(np.unique(found.max(axis=1).round(5))) > 30  # of 60 clips
    # More votes are more, whatever the distances; of as many, the nearer ones win.
    for ours, theirs in zip(found, votes, strict=True):
        np.testing.assert_array_equal(theirs[ours.argsort()], np.sort(theirs))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_export_gives_the_same_without_torch(name: str, tmp_path: Path) -> None:
    values, labels = rows(3)
    values = np.tile(values, (1, 10))[:, :57]
    module = fit_estimator(name, values, labels, 3, 0, {})
    export(tmp_path, module, make_representation("descriptors"), ["a", "b", "c"], trained={})
    with torch.no_grad():
        expected = module(torch.from_numpy(values)).numpy()
    found = Classifier(tmp_path, threads=1).logits(values)
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_genre_without_tracks_is_never_predicted(name: str) -> None:
    values, labels = rows(3)
    labels[labels == 1] = 3
    module = fit_estimator(name, values, labels, 4, 0, {})
    with torch.no_grad():
        shares = module(torch.from_numpy(values)).softmax(dim=1)
    assert torch.isfinite(shares).all()
    assert float(shares[:, 1].max()) < 1e-6


def test_faults_are_named() -> None:
    values, labels = rows(3)
    with pytest.raises(GenrescopeError, match="lda"):
        fit_estimator("lda", values, labels, 3, 0, {"colour": 1})
    with pytest.raises(GenrescopeError, match="shape"):
        fit_estimator("lda", values.reshape(90, 2, 3), labels, 3, 0, {})


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(4000, 5)).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in shares.astype(float)])
    # Logits three times too large are what an overconfident model gives.
    found = fit_temperature(3 * logits, labels)
    assert found == pytest.approx(3, rel=0.08)
    calibrated = Temperature(found)(torch.from_numpy(3 * logits))
    np.testing.assert_allclose(calibrated.numpy(), 3 * logits / found, rtol=1e-5)


@pytest.mark.parametrize(("count", "least", "most"), [(3, 0.6, 0.9), (30, 0.9, 0.99)])
def test_few_tracks_that_are_all_right_make_no_model_sure_of_everything(
    count: int, least: float, most: float
) -> None:
    labels = np.arange(count) % 3
    logits = (20 * np.eye(3)[labels]).astype(np.float32)
    shares = torch.from_numpy(logits / fit_temperature(logits, labels)).softmax(dim=1)
    assert least < float(shares.max(dim=1).values.mean()) < most


def test_a_genre_without_tracks_leaves_the_temperature_alone() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 3, 40)
    with_another = np.concatenate([logits, np.full((40, 1), -1e4, dtype=np.float32)], axis=1)
    assert fit_temperature(with_another, labels) == pytest.approx(fit_temperature(logits, labels))


def wide_rows(classes: int, count: int, columns: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    labels = np.arange(count) % classes
    values = rng.normal(size=(count, columns)) @ rng.normal(size=(columns, columns))
    values[:, :classes] += 9 * np.eye(classes)[labels]
    return values.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    ("shrinkage", "count"),  # of rows of 80 columns; fewer than those are singular without it
    [(0.0, 400), *product((0.05, 0.7, 1.0), (24, 60, 400))],
)
def test_lda_is_scikit_learns_with_few_or_many_columns(
    classes: int, shrinkage: float, count: int
) -> None:
    values, labels = wide_rows(classes, count)
    settings = {"shrinkage": shrinkage, "group_weight": 0.5}  # of artists of one track each
    module = fit_estimator("lda", values, labels, classes, 0, settings)
    scaler = StandardScaler().fit(values.astype(np.float64))
    model = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=shrinkage, priors=np.full(classes, 1 / classes)
    ).fit(scaler.transform(values), labels)
    seen = wide_rows(classes, count + 7)[0]
    with torch.no_grad():
        found = module(torch.from_numpy(seen)).double().log_softmax(dim=1).numpy()
    expected = model.predict_log_proba(scaler.transform(seen))
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=2e-3)


def test_an_artists_tracks_share_a_weight() -> None:
    values, labels = wide_rows(3, 30)
    groups = np.arange(30)
    copies = np.repeat(np.arange(30), [7 if i == 4 else 1 for i in range(30)])

    def logits(rows: np.ndarray, weight: float) -> np.ndarray:
        layer = lda(values[rows], labels[rows], 0, groups[rows], 0.5, weight)
        with torch.no_grad():
            return layer(torch.from_numpy(values)).numpy()

    # At 1 seven copies of a track are as one; at 0 they are seven tracks.
    np.testing.assert_allclose(logits(copies, 1), logits(groups, 1), rtol=1e-4, atol=1e-3)
    assert np.abs(logits(copies, 0) - logits(groups, 0)).max() > 0.1
    # In between, as the root of their number.
    between = np.abs(logits(copies, 0.5) - logits(groups, 0.5)).max()
    assert 1e-2 < between < np.abs(logits(copies, 0) - logits(groups, 0)).max()


def test_genres_count_alike_whatever_their_artists() -> None:
    # One artist made all of genre 0: as the weights are of each genre, nothing changes.
    values, labels = wide_rows(3, 30)
    groups = np.where(labels == 0, 0, np.arange(30) + 1)
    weighted = fit_estimator("lda", values, labels, 3, 0, {"group_weight": 1.0}, groups)
    plain = fit_estimator("lda", values, labels, 3, 0, {})
    with torch.no_grad():
        found, expected = (m(torch.from_numpy(values)).numpy() for m in (weighted, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
