"""Classical models, fitted by scikit-learn at one go and turned into torch modules.

As modules they are exported and run like every other model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

Fit = Callable[..., nn.Module]

ESTIMATORS: dict[str, Fit] = {}
"""From name to a function of arrays (tracks, columns), labels and parameters to logits' module."""


ESTIMATOR_VERSIONS = {"decision-tree": 2, "knn": 2, "svm": 2}
"""Raised when an estimator's logits change, so that older results are not taken for its own; 1 if
it is not listed."""

Share = Annotated[float, Field(gt=0, le=1)]


def estimator(name: str) -> Callable[[Fit], Fit]:
    """Register a function under the name that recipes use."""

    def register(fit: Fit) -> Fit:
        ESTIMATORS[name] = fit
        return fit

    return register


def check_estimator(name: str, parameters: dict[str, Any]) -> None:
    """Raise GenrescopeError if a parameter of a classical model is unknown or of a wrong type."""
    given = frozenset({"arrays", "labels", "genres", "seed"})
    check_parameters(name, ESTIMATORS[name], parameters, given)


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
    c: Positive = 0.01,
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
    shrinkage: Annotated[float, Field(ge=0, le=1)] = 0.8,
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


@estimator("knn")
def knn(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    neighbours: Count = 5,
) -> nn.Module:
    """Votes of the nearest tracks by Euclidean distance, on standardised columns.

    Between genres of as many votes, and in how sure it is, the nearer tracks count more.
    """
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415

    del seed  # nothing is drawn by lot
    scale = Standardise(torch.from_numpy(arrays))
    rows = scale(torch.from_numpy(arrays)).numpy()
    model = KNeighborsClassifier(min(neighbours, len(rows))).fit(rows, labels)
    return nn.Sequential(scale, Neighbours(model), Spread(model.classes_, genres))


@estimator("naive-bayes")
def naive_bayes(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    smoothing: Annotated[float, Field(ge=0, le=1e9)] = 1e-9,
) -> nn.Module:
    """Gaussian naive Bayes on standardised columns; ``smoothing`` is scikit-learn's."""
    from sklearn.naive_bayes import GaussianNB  # noqa: PLC0415

    del seed  # nothing is drawn by lot
    scale = Standardise(torch.from_numpy(arrays))
    model = GaussianNB(var_smoothing=smoothing)
    model.fit(scale(torch.from_numpy(arrays)).numpy(), labels)
    return nn.Sequential(scale, Gaussians(model), Spread(model.classes_, genres))


@estimator("decision-tree")
def decision_tree(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    leaf: Count = 1,
) -> nn.Module:
    """A single tree; ``leaf`` is the least number of tracks in a leaf.

    A leaf of few tracks is less sure than one of many: one more track of every genre is counted
    (Laplace's correction; F. Provost and P. Domingos, "Tree Induction for Probability-Based
    Ranking", Machine Learning 52, 2003).
    """
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415

    model = DecisionTreeClassifier(min_samples_leaf=leaf, random_state=seed).fit(arrays, labels)
    return nn.Sequential(Forest([model.tree_], extra=1), Spread(model.classes_, genres))


@estimator("random-forest")
def random_forest(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    trees: Count = 300,
    leaf: Count = 1,
    share: Share | Literal["sqrt", "log2"] = "sqrt",
) -> nn.Module:
    """Many trees; ``share`` of the columns is looked at for every branch (``max_features``)."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415

    model = RandomForestClassifier(
        trees, min_samples_leaf=leaf, max_features=share, random_state=seed
    ).fit(arrays, labels)
    grown = [tree.tree_ for tree in model.estimators_]
    return nn.Sequential(Forest(grown), Spread(model.classes_, genres))


@estimator("gradient-boosting")
def gradient_boosting(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    lr: Positive = 0.1,
    rounds: Count = 100,
    leaves: Annotated[int, Field(ge=2, le=2**16)] = 31,
    leaf: Count = 20,
    share: Share = 1.0,
) -> nn.Module:
    """Histogram gradient boosting; ``share`` of the columns is looked at for every branch."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    model = HistGradientBoostingClassifier(
        learning_rate=lr,
        max_iter=rounds,
        max_leaf_nodes=leaves,
        min_samples_leaf=leaf,
        max_features=share,
        early_stopping=False,
        random_state=seed,
    ).fit(arrays, labels)
    return nn.Sequential(Boosted(model), Spread(model.classes_, genres))


@estimator("svm")
def svm(
    arrays: NDArray[np.float32],
    labels: NDArray[np.int64],
    genres: int,
    seed: int,
    c: Positive = 10.0,
    gamma: Positive = 0.01,
) -> nn.Module:
    """Support vectors with a Gaussian kernel, one genre against one, on standardised columns.

    What a pair decides counts by how far a track is from the line between the two, so that a
    prediction is as sure as its pairs are.
    """
    from sklearn.svm import SVC  # noqa: PLC0415

    scale = Standardise(torch.from_numpy(arrays))
    model = SVC(C=c, gamma=gamma, random_state=seed)
    model.fit(scale(torch.from_numpy(arrays)).numpy(), labels)
    return nn.Sequential(scale, SupportVectors(model), Spread(model.classes_, genres))


_NEVER = -1e4  # a logit that leaves nothing, and no infinity that would make a NaN
_LEAST = 1e-6  # probability, so that its logarithm stays finite
_CIRCLE = 15  # rows at least, whose distances are looked at beside the nearest's votes
_FALL = 10.0  # what the nearest row counts above the circle's last is exp of this at most
_SLOPE = 2.0  # of the sigmoid over a pair's decision, 1 being the margin


class Spread(nn.Module):
    """From the logits of the genres that there were tracks of to those of all.

    Parameters
    ----------
    present
        Which genres there were tracks of.
    genres
        How many there are.
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
    """Logarithms of the share that each genre has of a ``KNeighborsClassifier``'s nearest rows.

    To the votes of the nearest, half a vote is added that is shared out among the genres of a wider
    circle, the nearer the more. It never outweighs a vote; without it a prediction would be one of
    a few, and by a single neighbour always as sure as any other.
    """

    rows: Tensor
    votes: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._count = int(model.n_neighbors)
        self._circle = min(max(3 * self._count, _CIRCLE), len(model._fit_X))
        self.register_buffer("rows", torch.from_numpy(model._fit_X))
        places = torch.from_numpy(model._y)
        self.register_buffer("votes", nn.functional.one_hot(places, len(model.classes_)).float())

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        squares = (self.rows**2).sum(dim=1) - 2 * rows @ self.rows.T + (rows**2).sum(1, True)
        found = squares.topk(self._circle, dim=1, largest=False)
        votes = self.votes[found.indices]
        apart = found.values.clamp(min=0) / found.values[:, -1:].clamp(min=_LEAST)
        near = (votes * torch.softmax(-_FALL * apart, dim=1)[..., None]).sum(dim=1)
        shares = votes[:, : self._count].mean(dim=1) + near / (2 * self._count)
        return (shares / (1 + 1 / (2 * self._count))).clamp(min=_LEAST).log()


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
        apart = (rows[:, None] - self.mean) ** 2 / self.variance
        return self.bias - 0.5 * apart.sum(dim=2)


class Trees(nn.Module):
    """Binary trees of scikit-learn's kind, walked down side by side.

    Parameters
    ----------
    trees
        Of each: the column that a node looks at, its threshold, and its left and right child
        (a leaf is its own children), each (nodes,); and the values (nodes, …) that leaves give.
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
    """Logarithms of the mean of the shares that each genre has in the trees' leaves.

    Parameters
    ----------
    grown
        scikit-learn's trees.
    extra
        Tracks of every genre that each leaf is counted to have besides its own.
    """

    def __init__(self, grown: Sequence[Any], extra: int = 0) -> None:
        super().__init__([_tree_of(tree, extra) for tree in grown])

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        return super().forward(rows).mean(dim=1).clamp(min=_LEAST).log()


class Boosted(Trees):
    """The sums of a fitted ``HistGradientBoostingClassifier``."""

    start: Tensor

    def __init__(self, model: Any) -> None:
        # scikit-learn has no other way to its trees.
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

    A genre's logit is the sum, over the pairs that it is in, of the logarithms of how likely the
    pair takes it: the product of the pairs' probabilities.
    """

    vectors: Tensor
    weights: Tensor
    bias: Tensor
    sides: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        genres = len(model.classes_)
        pairs = list(combinations(range(genres), 2))
        ends = np.concatenate([[0], np.cumsum(model.n_support_)])
        weights = np.zeros((ends[-1], len(pairs)))
        for pair, (one, other) in enumerate(pairs):
            for mine, theirs in ((one, other - 1), (other, one)):
                own = slice(ends[mine], ends[mine + 1])
                weights[own, pair] = model.dual_coef_[theirs, own]
        # scikit-learn turns the only decision of two genres about.
        bias = model.intercept_ if genres > 2 else -model.intercept_
        sides = np.zeros((2, len(pairs), genres))
        for pair, (one, other) in enumerate(pairs):
            sides[0, pair, one], sides[1, pair, other] = 1, 1
        self._gamma = float(model._gamma)
        self.register_buffer("vectors", torch.from_numpy(model.support_vectors_).float())
        self.register_buffer(
            "weights", torch.from_numpy(weights if genres > 2 else -weights).float()
        )
        self.register_buffer("bias", torch.from_numpy(bias).float())
        self.register_buffer("sides", torch.from_numpy(sides).float())

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, columns) → logits (batch, genres)."""
        squares = (rows**2).sum(dim=1, keepdim=True) + (self.vectors**2).sum(dim=1)
        apart = (squares - 2 * rows @ self.vectors.T).clamp(min=0)
        decisions = torch.exp(-self._gamma * apart) @ self.weights + self.bias
        # Each vote softened: the logarithm of how likely a pair takes the one, or the other.
        one, other = (nn.functional.logsigmoid(sign * _SLOPE * decisions) for sign in (1, -1))
        return one @ self.sides[0] + other @ self.sides[1]


Tree = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def _tree_of(tree: Any, extra: int) -> Tree:
    counts = tree.value[:, 0, :]  # or shares, as newer scikit-learn has it
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

    One track that may be of any genre is counted to the others: where all are right, nothing else
    would keep a model from being sure of everything.

    Parameters
    ----------
    logits
        float32 (tracks, genres), of tracks that the model was not fitted on; at least one.
    labels
        (tracks,).
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415

    scores, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    # A genre that the model has no tracks of is none that the other track could be of.
    known = (scores > _NEVER / 2).any(dim=0)

    def loss(log_temperature: float) -> float:
        shares = (scores / np.exp(log_temperature)).log_softmax(dim=1)
        wrong = nn.functional.nll_loss(shares, truth, reduction="sum")
        any_genre = -shares[:, known].mean(dim=1).median()  # of a track like the others
        return float(wrong + any_genre) / (len(truth) + 1)

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))
