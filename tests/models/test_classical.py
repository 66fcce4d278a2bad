import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from genrescope.errors import GenrescopeError
from genrescope.models.classical import ESTIMATORS, Temperature, fit_estimator, fit_temperature


def rows(classes: int, count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    values = rng.normal(size=(count, 6)) + 1.5 * np.eye(6)[labels]
    return (values * [1, 10, 100, 1, 1, 1e-3] + 5).astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_modules_predict_what_scikit_learn_does(name: str, classes: int) -> None:
    values, labels = rows(classes)
    module = fit_estimator(name, values, labels, classes, 0, {})
    with torch.no_grad():
        found = module(torch.from_numpy(values)).softmax(dim=1).numpy()
    theirs = {
        "logistic-regression": LogisticRegression(C=0.01, max_iter=2000),
        "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.8),
    }[name]
    scaled = StandardScaler().fit_transform(values.astype(np.float64))
    expected = theirs.fit(scaled, labels).predict_proba(scaled)
    np.testing.assert_allclose(found, expected, atol=2e-3)


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
