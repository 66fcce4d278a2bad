"""Pretrained networks that hear music, and the registry of the kinds there are.

A backbone takes a waveform and gives, for every stretch of a few seconds, some layers of
activations and, if it is a tagger, the likelihood of its tags. A further kind is one file: a
frozen dataclass that says which network and how to use it, with an ``open`` method and a
``@backbone`` line, imported in this package's ``__init__.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import inf
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform
from genrescope.errors import GenrescopeError

SEPARATOR = ":"
"""Between kind and source, where a backbone is named by a single word."""

_MOST = {"sampling_rate": 192_000, "window_s": 600}


@dataclass(frozen=True)
class BackboneOutput:
    """What a backbone makes of a waveform.

    Attributes
    ----------
    layers
        By name: float32 (windows, width). ``tags`` holds the log-odds of the likelihoods.
    tags
        Likelihoods in [0, 1], float32 (windows, tags); no columns if it is no tagger.
    """

    layers: Mapping[str, NDArray[np.float32]]
    tags: NDArray[np.float32]


@dataclass(frozen=True)
class Backbone:
    """An opened backbone.

    Attributes
    ----------
    name
        For messages.
    sampling_rate
        Of the audio it takes, in Hz.
    window_s
        Length of a window in s.
    widths
        Of its layers.
    tag_names
        In the order of ``BackboneOutput.tags``.
    licence
        Of its weights.
    hear
        From a waveform, float32 (samples,) at ``sampling_rate``, at least one sample. With
        ``is_continuation``, its first ``margin`` samples repeat the end of the piece before, and a
        rest shorter than a window is left out; otherwise a waveform shorter than a window is
        repeated until it fills it.
    margin
        Samples that a window looks at on either side of itself.
    encode_log_mel
        From log-mel patches, float32 (windows, frames, bands), if that is what the network takes.
    """

    name: str
    sampling_rate: int
    window_s: float
    widths: Mapping[str, int]
    tag_names: tuple[str, ...]
    licence: str
    hear: Callable[..., BackboneOutput]
    margin: int = 0
    encode_log_mel: Callable[[NDArray[np.float32]], BackboneOutput] | None = None


@dataclass(frozen=True)
class BackboneConfig(ABC):
    """Which backbone, and how it is used: what a recipe and a model folder say of it.

    Subclasses are frozen dataclasses of settings, all of which decide what is heard.
    """

    kind: ClassVar[str] = ""

    @abstractmethod
    def open(self) -> Backbone:
        """Open it; `open_backbone` keeps what this gives.

        Raises
        ------
        GenrescopeError
            If it is not there, not what was meant, or not fit: says what is needed.
        """

    def to_json(self) -> str | dict[str, Any]:
        """What ``make_backbone_config`` makes it from again."""
        return {"kind": self.kind, **asdict(self)}

    def _check_finite(self) -> None:
        # Windows are heard once on opening: more of them than of any music would eat memory.
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default)
            numeric = wanted in {int, float}
            right = isinstance(value, (int, wanted) if numeric else str)
            if not right or isinstance(value, bool) or (numeric and not 0 < value < inf):
                what = "a positive number" if numeric else "text"
                raise GenrescopeError(
                    f"Backbone {self.kind}: {field.name} must be {what}, not {value!r}."
                )
            if numeric and value > _MOST.get(field.name, inf):
                raise GenrescopeError(
                    f"Backbone {self.kind}: {field.name} must be at most {_MOST[field.name]}."
                )


BACKBONES: dict[str, type[BackboneConfig]] = {}
"""From kind to the class of its references."""

R = TypeVar("R", bound=type[BackboneConfig])


def backbone(kind: str) -> Callable[[R], R]:
    """Register a class of references under the name that recipes use."""

    def register(cls: R) -> R:
        cls.kind = kind
        BACKBONES[kind] = cls
        return cls

    return register


def make_backbone_config(told: str | Mapping[str, Any] | BackboneConfig) -> BackboneConfig:
    """Make a reference from what a recipe says.

    Parameters
    ----------
    told
        ``KIND:SOURCE`` (the kind may be left out for musicnn's networks), or a mapping of
        ``kind``, ``source`` and the kind's own settings.

    Raises
    ------
    GenrescopeError
        If the kind or a setting is unknown or senseless, or what it refers to is not there.
    """
    if isinstance(told, BackboneConfig):
        return told
    if isinstance(told, str):
        kind, colon, source = told.partition(SEPARATOR)
        settings: dict[str, Any] = {"source": source}
        if not colon:
            kind, settings = "musicnn", {"source": told}
    else:
        settings = dict(told)
        kind = str(settings.pop("kind", ""))
    if kind not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise GenrescopeError(f"There is no kind of backbone {kind!r}; there are: {known}.")
    try:
        return BACKBONES[kind](**settings)
    except TypeError as error:
        raise GenrescopeError(f"Backbone {kind}: {error}.") from error


@lru_cache(maxsize=8)
def open_backbone(reference: str | BackboneConfig) -> Backbone:
    """Open a backbone; errors as of ``make_backbone_config`` and ``BackboneConfig.open``."""
    return make_backbone_config(reference).open()


def cut(waveform: Waveform, samples: int, *, is_continuation: bool = False) -> NDArray[np.float32]:
    """Cut a waveform into windows that follow each other.

    A last window that is not full is left out. A waveform shorter than one window is repeated
    until it fills it, unless it ``is_continuation`` what came before.

    Returns
    -------
    windows
        float32 (windows, samples).
    """
    if len(waveform) < samples and not is_continuation:
        waveform = np.resize(waveform, samples)
    count = len(waveform) // samples
    return waveform[: count * samples].reshape(count, samples)


def run_batches(
    run: Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]],
    windows: NDArray[np.float32],
    size: int,
    widths: Mapping[str, int],
) -> dict[str, NDArray[np.float32]]:
    """Run a network on windows, some at a time.

    Parameters
    ----------
    run
        From windows to layers by name, float32 (windows, width).
    windows
        float32 (windows, …); there may be none.
    size
        Of a batch.
    widths
        Of the layers.

    Returns
    -------
    layers
        By name, float32 (windows, width).
    """
    batches = [run(windows[start : start + size]) for start in range(0, len(windows), size)]
    return {
        name: np.concatenate(
            [np.empty((0, width), dtype=np.float32), *(batch[name] for batch in batches)]
        )
        for name, width in widths.items()
    }


def tag_ranking(likelihoods: NDArray[np.float32], names: tuple[str, ...]) -> dict[str, float]:
    """Average likelihoods (windows, tags) over windows: tags by name, likeliest first."""
    mean: NDArray[Any] = likelihoods.mean(axis=0)
    return {names[i]: float(mean[i]) for i in np.argsort(-mean, kind="stable")}
