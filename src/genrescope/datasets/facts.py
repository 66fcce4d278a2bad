"""What is published about a data set, as data: a TOML file beside the module that reads it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Facts:
    """Facts about a published data set.

    Attributes
    ----------
    title
        As its authors call it.
    layout
        The files that a copy consists of, in a few words.
    splits
        Its published splits, in a few words.
    licence
        Of audio and labels, in a sentence.
    citation
        Authors, title, place and year.
    bibtex
        The same for a reference manager.
    url
        Of its home.
    data
        Whatever else its reader needs, such as known faults.
    """

    title: str
    layout: str
    splits: str
    licence: str
    citation: str
    bibtex: str
    url: str
    data: Mapping[str, Any] = field(default_factory=dict)


@cache
def load_facts(name: str) -> Facts:
    """Read ``<name>.toml`` of this package."""
    source = files("genrescope.datasets").joinpath(f"{name}.toml")
    return Facts(**tomllib.loads(source.read_text("utf-8")))
