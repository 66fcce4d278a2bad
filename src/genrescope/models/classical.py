"""Classical models, fitted by scikit-learn and converted to torch modules.

So they are exported and run like every other model. skl2onnx does not replace this: it has no
counterpart of the logits of ``knn``, ``svm`` and ``decision-tree``, and its version 1.20.0 fails on
gradient boosting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from genrescope.errors import GenrescopeError
from genrescope.models.model import Count, Positive, check_parameters
from genrescope.models.normalise import Standardise

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]
Fit = Callable[..., nn.Module]

ESTIMATORS: dict[str, Fit] = {}
"""By the names that recipes use; see ``estimator``."""

ESTIMATOR_VERSIONS = {"decision-tree": 2, "knn": 2, "svm": 2}
"""Incremented when an estimator's logits change, so that older results are not reused."""

_GIVEN = frozenset({"rows", "labels", "seed", "groups"})

TINY = 1e-30
"""Probability of a `Calibration`, so that its logarithm is finite."""

Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]


def estimator(name: str, *, scaled: bool = True, grouped: bool = False) -> Callable[[Fit], Fit]:
    """Register a function of rows, labels, a seed and parameters.

    It takes float32 (tracks, columns), standardised if ``scaled``, and int64 (tracks,); if
    ``grouped``, also ``groups``, int64 (tracks,), equal for tracks of one artist. It gives a
    module from such rows to the logits of the genres in the labels, in ascending order.
    """

    def register(fit: Fit) -> Fit:
        @wraps(fit)
        def fit_all(
            rows: Rows, labels: Labels, seed: int, groups: Labels, genres: int, **own: Any
        ) -> nn.Module:
            tensor = torch.from_numpy(rows)
            scale = Standardise(tensor) if scaled else nn.Identity()
            if grouped:
                own["groups"] = groups
            model = fit(scale(tensor).numpy(), labels, seed, **own)
            return nn.Sequential(scale, model, Spread(np.unique(labels), genres))

        ESTIMATORS[name] = fit_all
        return fit

    return register


def check_estimator(name: str, parameters: dict[str, Any]) -> None:
    """Raise GenrescopeError if a parameter is unknown or of a wrong type."""
    check_parameters(name, ESTIMATORS[name], parameters, _GIVEN)


def fit_estimator(
    name: str,
    arrays: Rows,
    labels: Labels,
    genres: int,
    seed: int,
    parameters: dict[str, Any],
    groups: Labels | None = None,
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
        Of random choices, if there are any.
    parameters
        The estimator's own.
    groups
        (tracks,), equal for tracks of one artist; by default each is an artist of its own.

    Returns
    -------
    module
        float32 (batch, columns) to logits (batch, genres), in evaluation mode.

    Raises
    ------
    GenrescopeError
        If the arrays are not rows of columns, or a parameter is wrong.
    """
    if arrays.ndim != 2:
        raise GenrescopeError(
            f"Model {name} takes rows of columns, not arrays of shape {arrays.shape[1:]}."
        )
    try:
        groups = np.arange(len(labels)) if groups is None else groups
        return ESTIMATORS[name](arrays, labels, seed, groups, genres, **parameters).eval()
    except (TypeError, ValueError) as error:
        raise GenrescopeError(f"Model {name}: {error}.") from error


@estimator("logistic-regression")
def logistic_regression(rows: Rows, labels: Labels, seed: int, c: Positive = 0.01) -> nn.Module:
    """Multinomial logistic regression on standardised columns; ``c`` is scikit-learn's C."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    return _linear(LogisticRegression(C=c, max_iter=2000, random_state=seed).fit(rows, labels))


@estimator("lda", grouped=True)
def lda(
    rows: Rows,
    labels: Labels,
    seed: int,
    groups: Labels,
    shrinkage: Share = 0.8,
    group_weight: Share = 0.0,
) -> nn.Module:
    """Linear discriminant analysis with shrunk covariance, on standardised columns.

    All genres have the same prior, whatever their numbers of tracks. Each of an artist's n tracks
    counts ``n ** -group_weight``: from 0, all tracks alike, to 1, all artists alike.
    """
    del seed  # deterministic
    exact = rows.astype(np.float64)
    _, places = np.unique(labels, return_inverse=True)
    _, artist, tracks = np.unique(groups, return_inverse=True, return_counts=True)
    shares = np.eye(places.max() + 1)[places] * (1 / tracks[artist, None]) ** group_weight
    shares /= shares.sum(axis=0)
    means = shares.T @ exact
    # The genres' covariances, averaged, are ``spread.T @ spread``.
    spread = (exact - means[places]) * np.sqrt(shares.mean(axis=1))[:, None]
    ridge = shrinkage * (spread**2).sum() / rows.shape[1]
    weight = _solve(np.sqrt(1 - shrinkage) * spread, ridge, means)
    return _linear_layer(weight, -0.5 * (weight * means).sum(axis=1))


@estimator("knn")
def knn(rows: Rows, labels: Labels, seed: int, neighbours: Count = 5) -> nn.Module:
    """Votes of the nearest tracks by Euclidean distance, on standardised columns.

    Nearer tracks decide between genres with equal votes, and raise the confidence.
    """
    del seed  # deterministic
    _, places = np.unique(labels, return_inverse=True)
    count = min(neighbours, len(rows))
    return Neighbours(torch.from_numpy(rows), torch.from_numpy(places), count)


@estimator("naive-bayes")
def naive_bayes(
    rows: Rows, labels: Labels, seed: int, smoothing: Annotated[float, Field(ge=0, le=1e9)] = 1e-9
) -> nn.Module:
    """Gaussian naive Bayes on standardised columns; ``smoothing`` is scikit-learn's."""
    from sklearn.naive_bayes import GaussianNB  # noqa: PLC0415

    del seed  # deterministic
    return Gaussians(GaussianNB(var_smoothing=smoothing).fit(rows, labels))


@estimator("decision-tree", scaled=False)
def decision_tree(rows: Rows, labels: Labels, seed: int, leaf: Count = 1) -> nn.Module:
    """A single tree; ``leaf`` is the minimum number of tracks in a leaf.

    Leaves have Laplace's correction, one more track of every genre, so that small ones give less
    confidence (F. Provost and P. Domingos, "Tree Induction for Probability-Based Ranking", Machine
    Learning 52, 2003).
    """
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415

    model = DecisionTreeClassifier(min_samples_leaf=leaf, random_state=seed).fit(rows, labels)
    return Forest([model.tree_], extra=1)


@estimator("random-forest", scaled=False)
def random_forest(
    rows: Rows,
    labels: Labels,
    seed: int,
    trees: Count = 300,
    leaf: Count = 1,
    share: Fraction | Literal["sqrt", "log2"] = "sqrt",
) -> nn.Module:
    """Many trees; ``share`` of the columns is tried for every split (``max_features``)."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415

    model = RandomForestClassifier(
        trees, min_samples_leaf=leaf, max_features=share, random_state=seed
    ).fit(rows, labels)
    return Forest([tree.tree_ for tree in model.estimators_])


@estimator("gradient-boosting", scaled=False)
def gradient_boosting(
    rows: Rows,
    labels: Labels,
    seed: int,
    lr: Positive = 0.1,
    rounds: Count = 100,
    leaves: Annotated[int, Field(ge=2, le=2**16)] = 31,
    leaf: Count = 20,
    share: Fraction = 1.0,
) -> nn.Module:
    """Histogram gradient boosting; ``share`` of the columns is tried for every split."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    model = HistGradientBoostingClassifier(
        learning_rate=lr,
        max_iter=rounds,
        max_leaf_nodes=leaves,
        min_samples_leaf=leaf,
        max_features=share,
        early_stopping=False,
        random_state=seed,
    )
    return Boosted(model.fit(rows, labels))


@estimator("svm")
def svm(
    rows: Rows, labels: Labels, seed: int, c: Positive = 10.0, gamma: Positive = 0.01
) -> nn.Module:
    """Support vectors with a Gaussian kernel, one against one, on standardised columns.

    A pair's decision is weighted by the distance from its boundary, which gives confidences.
    """
    from sklearn.svm import SVC  # noqa: PLC0415

    return SupportVectors(SVC(C=c, gamma=gamma, random_state=seed).fit(rows, labels), gamma)


_NEVER = -1e4  # the logit of an absent genre; an infinity would give NaN
_MIN_PROBABILITY = 1e-6  # so that its logarithm stays finite
_CIRCLE = 15  # minimum number of rows whose distances are used beside the votes
_FALL = 10.0  # the weight of the nearest row is at most exp of this times that of the last
_SLOPE = 2.0  # of the sigmoid over a pair's decision, 1 being the margin


class Spread(nn.Module):
    """From the logits of the genres with training tracks to those of all.

    Parameters
    ----------
    present
        int (genres with tracks,): their labels.
    genres
        Number of all genres.
    """

    present: Tensor

    def __init__(self, present: NDArray[np.int64], genres: int) -> None:
        super().__init__()
        place = torch.full((genres,), len(present))
        place[torch.from_numpy(np.asarray(present))] = torch.arange(len(present))
        self.register_buffer("present", place)

    def forward(self, logits: Tensor) -> Tensor:
        """float32 (batch, present genres) → (batch, genres)."""
        padded = nn.functional.pad(logits, (0, 1), value=_NEVER)
        return padded[:, self.present]


class Neighbours(nn.Module):
    """Logarithms of each genre's share of the nearest rows' votes.

    Half a vote is added, distributed over the genres of a wider circle by distance. It never
    outweighs a vote; without it there would be few distinct confidences, with one neighbour one.

    Parameters
    ----------
    rows
        float32 (tracks, columns).
    places
        int64 (tracks,): indices of the logits.
    count
        Neighbours that vote.
    """

    rows: Tensor
    votes: Tensor

    def __init__(self, rows: Tensor, places: Tensor, count: int) -> None:
        super().__init__()
        self._count = count
        self._circle = min(max(3 * count, _CIRCLE), len(rows))
        self.register_buffer("rows", rows)
        self.register_buffer("votes", nn.functional.one_hot(places).float())

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        squares = (self.rows**2).sum(dim=1) - 2 * rows @ self.rows.T + (rows**2).sum(1, True)
        found = squares.topk(self._circle, dim=1, largest=False)
        votes = self.votes[found.indices]
        distances = found.values.clamp(min=0) / found.values[:, -1:].clamp(min=1e-6)
        near = (votes * torch.softmax(-_FALL * distances, dim=1)[..., None]).sum(dim=1)
        shares = votes[:, : self._count].mean(dim=1) + near / (2 * self._count)
        return (shares / (1 + 1 / (2 * self._count))).clamp(min=_MIN_PROBABILITY).log()


class Gaussians(nn.Module):
    """The log-likelihoods of a fitted ``GaussianNB``, with its priors."""

    mean: Tensor
    variance: Tensor
    bias: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(model.theta_).float())
        self.register_buffer("variance", torch.from_numpy(model.var_).float())
        bias = np.log(model.class_prior_) - 0.5 * np.log(2 * np.pi * model.var_).sum(axis=1)
        self.register_buffer("bias", torch.from_numpy(bias).float())

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        distances = (rows[:, None] - self.mean) ** 2 / self.variance
        return self.bias - 0.5 * distances.sum(dim=2)


class Trees(nn.Module):
    """Binary trees of scikit-learn's kind, evaluated in parallel.

    Parameters
    ----------
    trees
        Of each: its nodes' columns, thresholds, left and right children (a leaf is its own child),
        each (nodes,); and the values (nodes, …) of the leaves.
    """

    column: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    root: Tensor

    def __init__(self, trees: Sequence[Tree]) -> None:
        super().__init__()
        sizes = np.array([len(column) for column, *_ in trees])
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        columns, thresholds, lefts, rights, values = zip(*trees, strict=True)
        moved = [
            np.concatenate([child + root for child, root in zip(children, roots, strict=True)])
            for children in (lefts, rights)
        ]
        self._depth = max(_depth(left, right) for _, _, left, right, _ in trees)
        whole = (np.concatenate(columns), np.concatenate(thresholds), *moved)
        for name, array in zip(("column", "threshold", "left", "right"), whole, strict=True):
            self.register_buffer(name, torch.from_numpy(array))
        self.register_buffer("value", torch.from_numpy(np.concatenate(values)).float())
        self.register_buffer("root", torch.from_numpy(roots))

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → the leaves' values (batch, trees, …)."""
        exact = rows.double()  # as the thresholds are
        node = self.root.expand(rows.shape[0], -1)
        for _ in range(self._depth):
            goes_left = exact.gather(1, self.column[node]) <= self.threshold[node]
            node = torch.where(goes_left, self.left[node], self.right[node])
        return self.value[node]


class Forest(Trees):
    """Logarithms of the mean of the trees' leaf probabilities.

    Parameters
    ----------
    grown
        scikit-learn's trees.
    extra
        Tracks of every genre added to each leaf.
    """

    def __init__(self, grown: Sequence[Any], extra: int = 0) -> None:
        super().__init__([_tree_of(tree, extra) for tree in grown])

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        return super().forward(rows).mean(dim=1).clamp(min=_MIN_PROBABILITY).log()


class Boosted(Trees):
    """The sums of a fitted ``HistGradientBoostingClassifier``."""

    start: Tensor

    def __init__(self, model: Any) -> None:
        # scikit-learn has no public interface to these trees: see its upper bound in
        # pyproject.toml, which tests/models/test_classical.py allows to raise.
        rounds = model._predictors
        super().__init__([_tree_of_nodes(tree.nodes) for each in rounds for tree in each])
        self._each = len(rounds[0])
        self.register_buffer("start", torch.from_numpy(np.ravel(model._baseline_prediction)))

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        leaves = super().forward(rows)
        sums = leaves.reshape(leaves.shape[0], -1, self._each).double().sum(dim=1) + self.start
        if self._each == 1:  # of two genres, the odds of the second
            sums = torch.cat([torch.zeros_like(sums), sums], dim=1)
        return sums.float()


class SupportVectors(nn.Module):
    """The decisions of a fitted ``SVC``, from one against one to one for each genre.

    A genre's logit is the sum of the logarithms of its pairs' probabilities.
    """

    vectors: Tensor
    weights: Tensor
    bias: Tensor
    sides: Tensor

    def __init__(self, model: Any, gamma: float) -> None:
        super().__init__()
        genres = len(model.classes_)
        pairs = list(combinations(range(genres), 2))
        ends = np.concatenate([[0], np.cumsum(model.n_support_)])
        weights = np.zeros((ends[-1], len(pairs)))
        for pair, (one, other) in enumerate(pairs):
            for mine, theirs in ((one, other - 1), (other, one)):
                own = slice(ends[mine], ends[mine + 1])
                weights[own, pair] = model.dual_coef_[theirs, own]
        # scikit-learn negates the only decision of two genres.
        bias = model.intercept_ if genres > 2 else -model.intercept_
        sides = np.zeros((2, len(pairs), genres))
        for pair, (one, other) in enumerate(pairs):
            sides[0, pair, one], sides[1, pair, other] = 1, 1
        self._gamma = gamma
        self.register_buffer("vectors", torch.from_numpy(model.support_vectors_).float())
        self.register_buffer(
            "weights", torch.from_numpy(weights if genres > 2 else -weights).float()
        )
        self.register_buffer("bias", torch.from_numpy(bias).float())
        self.register_buffer("sides", torch.from_numpy(sides).float())

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        squares = (rows**2).sum(dim=1, keepdim=True) + (self.vectors**2).sum(dim=1)
        distances = (squares - 2 * rows @ self.vectors.T).clamp(min=0)
        decisions = torch.exp(-self._gamma * distances) @ self.weights + self.bias
        # The logarithms of a pair's two probabilities.
        one, other = (nn.functional.logsigmoid(sign * _SLOPE * decisions) for sign in (1, -1))
        return one @ self.sides[0] + other @ self.sides[1]


Tree = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def _tree_of(tree: Any, extra: int) -> Tree:
    counts = tree.value[:, 0, :]  # fractions in newer versions of scikit-learn
    shares = counts / counts.sum(axis=1, keepdims=True)
    sizes = tree.weighted_n_node_samples[:, None]
    shares = (shares * sizes + extra) / (sizes + extra * shares.shape[1])
    leaf, itself = tree.children_left < 0, np.arange(tree.node_count)
    return (
        np.where(leaf, 0, tree.feature).astype(np.int64),
        np.where(leaf, 0.0, tree.threshold),
        np.where(leaf, itself, tree.children_left),
        np.where(leaf, itself, tree.children_right),
        shares,
    )


def _tree_of_nodes(nodes: NDArray[Any]) -> Tree:
    leaf, itself = nodes["is_leaf"].astype(bool), np.arange(len(nodes))
    return (
        np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
        np.where(leaf, 0.0, nodes["num_threshold"]),
        np.where(leaf, itself, nodes["left"].astype(np.int64)),
        np.where(leaf, itself, nodes["right"].astype(np.int64)),
        nodes["value"],
    )


def _depth(left: NDArray[Any], right: NDArray[Any]) -> int:
    level, depth = np.array([0]), 0
    while len(level := level[left[level] != level]):
        level, depth = np.concatenate([left[level], right[level]]), depth + 1
    return depth


def _solve(
    spread: NDArray[np.float64], ridge: float, rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    # Rows times the inverse of ``spread.T @ spread`` + ridge · I, symmetric and possibly singular.
    from scipy.linalg import lstsq, solve  # noqa: PLC0415

    if ridge and len(spread) < spread.shape[1]:  # Woodbury's identity: a smaller system
        small = spread @ spread.T + ridge * np.eye(len(spread))
        found = solve(small, spread @ rows.T, assume_a="pos")
        return np.asarray((rows - found.T @ spread) / ridge)
    matrix = spread.T @ spread + ridge * np.eye(spread.shape[1])
    found = solve(matrix, rows.T, assume_a="pos") if ridge else lstsq(matrix, rows.T)[0]
    return np.asarray(found.T)


def _linear(model: Any) -> nn.Linear:
    coefficients, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(coefficients) == 1:  # scikit-learn has one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    return _linear_layer(coefficients, intercept)


def _linear_layer(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], len(weight)).requires_grad_(requires_grad=False)
    layer.weight.copy_(torch.from_numpy(weight))
    layer.bias.copy_(torch.from_numpy(bias))
    return layer


class Temperature(nn.Module):
    """Divide logits by a temperature, so that their softmax is calibrated.

    C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017.

    Parameters
    ----------
    temperature
        Above 1 for an overconfident model.
    """

    temperature: Tensor

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (batch, genres) → logits (batch, genres)."""
        return logits / self.temperature


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Find the temperature with the lowest cross-entropy, between 0.05 and 20.

    One more track, of any genre with the same probability, is added: otherwise the best
    temperature of a model without errors would be 0.

    Parameters
    ----------
    logits
        float32 (tracks, genres), of at least one track that the model was not fitted on.
    labels
        (tracks,).
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415

    scores, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    # The added track is of no genre without training tracks.
    known = (scores > _NEVER / 2).any(dim=0)

    def loss(log_temperature: float) -> float:
        logs = (scores / np.exp(log_temperature)).log_softmax(dim=1)
        wrong = nn.functional.nll_loss(logs, truth, reduction="sum")
        any_genre = -logs[:, known].mean(dim=1).median()  # the loss of the added track
        return float(wrong + any_genre) / (len(truth) + 1)

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


class Calibration(nn.Module):
    """Logits of calibrated probabilities: a temperature, and a share for every genre alike.

    The share is that of tracks whose label nothing predicts, such as wrong labels: with a
    temperature alone, a few sure errors would make all other answers less sure than they should be.

    Parameters
    ----------
    temperature
        As of `Temperature`.
    floor
        Share in [0, 1) that is spread evenly over the genres.
    """

    temperature: Tensor
    floor: Tensor

    def __init__(self, temperature: float, floor: float) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("floor", torch.tensor(float(floor)))

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (batch, genres) → logits (batch, genres)."""
        shares = (logits / self.temperature).softmax(dim=1)
        return ((1 - self.floor) * shares + self.floor / logits.shape[1]).clamp(min=TINY).log()


def fit_calibration(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Calibration:
    """Find the temperature and floor with the lowest cross-entropy.

    As in ``fit_temperature`` a track is added; and one more whose label nothing predicts, and one
    whose label is predicted, so that the floor of few tracks is not 0.

    Parameters
    ----------
    logits
        float32 (tracks, genres), of at least one track that the model was not fitted on.
    labels
        (tracks,).
    """
    from scipy.optimize import minimize  # noqa: PLC0415
    from scipy.special import expit, log_softmax  # noqa: PLC0415

    scores = logits.astype(np.float64)
    rows, genres = np.arange(len(labels)), scores.shape[1]
    known = (scores > _NEVER / 2).any(axis=0)

    def loss(given: NDArray[np.float64]) -> float:
        floor = expit(given[1])
        shares = np.exp(log_softmax(scores / np.exp(given[0]), axis=1))
        logs = np.log(np.maximum((1 - floor) * shares + floor / genres, TINY))
        any_genre = -np.median(logs[:, known].mean(axis=1))
        prior = -np.log(floor / genres) - np.log1p(-floor)
        return float(-logs[rows, labels].sum() + any_genre + prior) / (len(labels) + 3)

    bounds = [(np.log(0.05), np.log(20)), (-12, 0)]
    found = minimize(loss, [0.0, -3.0], method="Nelder-Mead", bounds=bounds)
    return Calibration(float(np.exp(found.x[0])), float(expit(found.x[1])))
