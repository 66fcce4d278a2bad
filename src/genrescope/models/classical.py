"""Classical models, fitted by scikit-learn at one go and turned into torch modules.

As modules they are exported and run like every other model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrescope.errors import GenrescopeError
from genrescope.models.normalise import Standardise

Fit = Callable[..., nn.Module]

ESTIMATORS: dict[str, Fit] = {}
"""From name to a function of arrays (tracks, columns), labels and parameters to logits' module."""


def estimator(name: str) -> Callable[[Fit], Fit]:
    """Register a function under the name that recipes use."""

    def register(fit: Fit) -> Fit:
        ESTIMATORS[name] = fit
        return fit

    return register


def fit_estimator(
    name: str,
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    parameters: dict[str, Any],
) -> nn.Module:
    """Fit a classical model.

    Parameters
    ----------
    name
        A key of ``ESTIMATORS``.
    arrays
        float32 (tracks, columns).
    labels
        (tracks,), each in 0 … genres - 1.
    genres
        Number of logits; a genre without tracks is never predicted.
    seed
        Decides what is drawn by lot, if anything is.
    parameters
        The estimator's own.

    Returns
    -------
    module
        float32 (batch, columns) to logits (batch, genres), in evaluation mode.

    Raises
    ------
    GenrescopeError
        If the arrays are not rows of columns, or a parameter is unknown or senseless.
    """
    if arrays.ndim != 2:
        raise GenrescopeError(
            f"Model {name} takes a row of columns a track, not arrays of shape {arrays.shape[1:]}."
        )
    try:
        return ESTIMATORS[name](arrays, labels, genres, seed, **parameters).eval()
    except (TypeError, ValueError) as error:
        raise GenrescopeError(f"Model {name}: {error}.") from error


@estimator("logistic-regression")
def logistic_regression(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    c: float = 0.01,
) -> nn.Module:
    """Multinomial logistic regression on standardised columns; ``c`` is scikit-learn's C."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    scale = Standardise(torch.from_numpy(arrays))
    model = LogisticRegression(C=c, max_iter=2000, random_state=seed)
    model.fit(scale(torch.from_numpy(arrays)).numpy(), labels)
    return nn.Sequential(scale, _linear(model, genres))


@estimator("lda")
def lda(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    shrinkage: float = 0.8,
) -> nn.Module:
    """Linear discriminant analysis with shrunk covariance, on standardised columns.

    All genres are taken for equally likely beforehand, however many tracks each has.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: PLC0415

    del seed  # nothing is drawn by lot
    scale = Standardise(torch.from_numpy(arrays))
    count = len(np.unique(labels))
    priors = np.full(count, 1 / count)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=priors)
    model.fit(scale(torch.from_numpy(arrays)).numpy(), labels)
    return nn.Sequential(scale, _linear(model, genres))


_NEVER = -1e4  # a logit that leaves nothing, and no infinity that would make a NaN


def _linear(model: Any, genres: int) -> nn.Linear:
    # scikit-learn tells two classes apart by one row, and knows only those it has seen.
    coefficients, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(coefficients) == 1:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    layer = nn.Linear(coefficients.shape[1], genres)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(_NEVER)
        layer.weight[model.classes_] = torch.from_numpy(coefficients).float()
        layer.bias[model.classes_] = torch.from_numpy(intercept).float()
    return layer.requires_grad_(requires_grad=False)


class Temperature(nn.Module):
    """Logits divided by a temperature, so that their softmax is calibrated.

    C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017.

    Parameters
    ----------
    temperature
        Above 1 for a model that is too sure of itself.
    """

    temperature: Tensor

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (batch, genres) → logits (batch, genres)."""
        return logits / self.temperature


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Find the temperature of least cross-entropy, between 0.05 and 20.

    Parameters
    ----------
    logits
        float32 (tracks, genres), of tracks that the model was not fitted on.
    labels
        (tracks,).
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415

    scores, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(scores / np.exp(log_temperature), truth))

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))
