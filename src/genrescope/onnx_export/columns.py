"""From audio to a representation's columns: what each representation adds to a graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from genrescope.errors import GenrescopeError
from genrescope.onnx_graph import OnnxGraph
from genrescope.representations import Representation


@dataclass(frozen=True)
class Columns:
    """What a representation's operators give.

    Attributes
    ----------
    values
        Name of the value: float32 (1, columns).
    tags
        Name of the likelihoods, float32 (1, tags); empty without tags.
    tag_names
        In their order.
    notices
        Licence texts of the networks in the graph.
    """

    values: str
    tags: str = ""
    tag_names: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@singledispatch
def add_columns(representation: Representation, graph: OnnxGraph) -> Columns:
    """Add a representation's operators to a graph, with the input that they need.

    Raises
    ------
    GenrescopeError
        If there are none for it.
    """
    del graph
    raise no_operators(representation)


def no_operators(representation: Representation) -> GenrescopeError:
    """Build the error for a representation that cannot be in a graph."""
    return GenrescopeError(
        f"Models on the representation {representation.name} cannot be exported with the audio's "
        "analysis inside. Their model.onnx takes the representation itself."
    )
