"""Several representations of the picture side by side, for a model of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.representations import picture
from genrescope.representations.representation import (
    Representation,
    make_nested,
    representation,
)


@representation("picture-concat")
@dataclass(frozen=True)
class PictureConcat(picture.GridColumns):
    """Several representations of the picture, their columns concatenated.

    Attributes
    ----------
    of
        Names of representations that are made from the picture and give columns, or mappings of
        name and parameters.
    """

    of: Sequence[str | Mapping[str, Any] | Representation] = (
        "picture-second-order",  # before the embedding: one run of the network then does for both
        "picture-embedding",
        "block-level",
    )

    nests: ClassVar[int] = 1
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.of, str | Mapping) or not self.of:
            raise TypeError("of must be a list of representations")
        parts = tuple(map(make_nested, self.of))
        for part in parts:
            if not isinstance(part, picture.GridColumns) or len(part.shape) != 1:
                raise ValueError(f"{part.name} does not give columns of the picture")
        object.__setattr__(self, "of", parts)

    @property
    def parts(self) -> list[picture.GridColumns]:
        """The representations that are concatenated."""
        return [part for part in self.of if isinstance(part, picture.GridColumns)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        return (sum(part.shape[0] for part in self.parts),)

    def to_json(self) -> dict[str, Any]:
        """As of every representation; its parts with their own names and versions."""
        own = {"name": self.name, "version": self.version}
        return {**own, "of": [part.to_json() for part in self.parts]}

    def of_grid(self, grid: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Concatenate what the parts make of a grid; float32 (columns,)."""
        return np.concatenate([part.of_grid(grid) for part in self.parts])
