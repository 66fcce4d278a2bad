"""The interface of a model, and the registry of models.

A model is a ``torch.nn.Module`` from a batch of one representation to logits, float32
(batch, genres). It is built from the shape of one track's array, the number of genres and the
recipe's parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from torch import nn

from genrescope.errors import GenrescopeError

MODELS: dict[str, type[nn.Module]] = {}

Count = Annotated[int, Field(ge=1, le=2**16)]
"""Of units, layers, trees, neighbours, …"""

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]

Dropout = Annotated[float, Field(ge=0, lt=1)]
"""A probability."""

_MAX_CHARS = 100  # of a wrong value in a message

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
        If the name or a parameter is unknown, the model does not take the shape, or its pretrained
        weights cannot be read.
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
    check_parameters(name, MODELS[name], parameters, frozenset({"shape", "genres"}))


def check_parameters(
    name: str, factory: Callable[..., Any], parameters: Mapping[str, Any], given: frozenset[str]
) -> None:
    """Check a model's parameters against the signature that builds it.

    Parameters
    ----------
    name
        Of the model, for messages.
    factory
        The class or function that builds the model.
    parameters
        By name.
    given
        Names in the signature that are not parameters of the model.

    Raises
    ------
    GenrescopeError
        If one is unknown, missing, or not of the annotated type.
    """
    signature = inspect.signature(factory).parameters
    known = {key: value for key, value in signature.items() if key not in given}
    if unknown := set(parameters) - set(known):
        raise GenrescopeError(
            f"Model {name} has no parameter {', '.join(sorted(unknown))}; "
            f"it has: {', '.join(sorted(known))}."
        )
    needed = {key for key, value in known.items() if value.default is value.empty}
    if missing := needed - set(parameters):
        raise GenrescopeError(f"Model {name} needs {', '.join(map(repr, sorted(missing)))}.")
    function = factory.__init__ if inspect.isclass(factory) else factory
    hints = get_type_hints(function, include_extras=True)
    for key, value in parameters.items():
        try:
            kind = TypeAdapter(hints.get(key, Any), config=ConfigDict(strict=True))
            kind.validate_python(value)
        except PydanticUserError:
            continue  # a type of a user's model that pydantic does not support
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, (key, *fault["loc"])))
            message = plain_fault(fault)
            if message.startswith("Input"):
                message = f"is {fault['input']!r}"[:_MAX_CHARS] + f": {message}"
            raise GenrescopeError(f"Model {name}: {place} {message}.") from error


def plain_fault(fault: Mapping[str, Any]) -> str:
    """Format a fault that pydantic found in the terms of YAML, which has no tuples."""
    if fault["type"] == "literal_error":
        known = fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"must be one of {known}, not {fault['input']!r}"[:_MAX_CHARS]
    message = str(fault["msg"]).removeprefix("Value error, ")
    return message.replace("valid tuple", "list").replace("an instance of Sequence", "a list")
