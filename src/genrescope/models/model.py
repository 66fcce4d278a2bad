"""The contract of a model, and the registry of those there are.

A model is a ``torch.nn.Module`` from a batch of one representation to logits, float32
(batch, genres). It is built from the shape of one track's array, the number of genres and the
parameters that the recipe gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from genrescope.errors import GenrescopeError

MODELS: dict[str, type[nn.Module]] = {}

M = TypeVar("M", bound=type[nn.Module])


def model(name: str) -> Callable[[M], M]:
    """Register a model class under the name that recipes use."""

    def register(cls: M) -> M:
        MODELS[name] = cls
        return cls

    return register


def make_model(
    name: str, shape: tuple[int, ...], genres: int, parameters: Mapping[str, Any]
) -> nn.Module:
    """Build a model.

    Parameters
    ----------
    name
        As registered.
    shape
        Of one track's array, without the batch.
    genres
        Number of logits.
    parameters
        The model's own.

    Raises
    ------
    GenrescopeError
        If the name or a parameter is unknown, the shape is not one that the model takes, or its
        pretrained weights cannot be read.
    """
    check_model(name, parameters)
    try:
        return MODELS[name](shape=shape, genres=genres, **parameters)
    except (OSError, ValueError, TypeError) as error:
        raise GenrescopeError(f"Model {name}: {error}.") from error


def check_model(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise GenrescopeError if the name or a parameter's name is unknown."""
    if name not in MODELS:
        raise GenrescopeError(
            f"There is no model {name!r}; there are: {', '.join(sorted(MODELS))}."
        )
    known = set(inspect.signature(MODELS[name]).parameters) - {"shape", "genres"}
    if unknown := set(parameters) - known:
        raise GenrescopeError(
            f"Model {name} has no parameter {', '.join(sorted(unknown))}; "
            f"it has: {', '.join(sorted(known))}."
        )
