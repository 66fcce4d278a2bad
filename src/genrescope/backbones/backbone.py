"""Pretrained networks that encode music, and the registry of their kinds.

A backbone maps each window of a few seconds of a waveform to layers of activations and, if it is
a tagger, to the likelihoods of its tags. A new kind is one file: a frozen dataclass of settings
with an ``open`` method and the decorator ``@backbone``, imported in this package's
``__init__.py``.
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

_MAX = {"sampling_rate": 192_000, "window_s": 600}


@dataclass(frozen=True)
class BackboneOutput:
    """Activations of a backbone for one waveform.

    Attributes
    ----------
    layers
        By name: float32 (windows, width). ``tags`` holds the log-odds of the likelihoods.
    tags
        Likelihoods in [0, 1], float32 (windows, tags); no columns for networks without tags.
    """

    layers: Mapping[str, NDArray[np.float32]]
    tags: NDArray[np.float32]


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone.

    Attributes
    ----------
    name
        For messages.
    sampling_rate
        Of its input, in Hz.
    window_s
        Length of a window in s.
    widths
        Of its layers.
    tag_names
        In the order of ``BackboneOutput.tags``.
    licence
        Of its weights.
    encode
        Encodes a waveform, float32 (samples,) at ``sampling_rate``, at least one sample. With
        ``is_continuation``, its first ``margin`` samples repeat the end of the previous piece, and
        an incomplete last window is dropped; otherwise a waveform shorter than a window is
        repeated to the length of one.
    margin
        Samples of context that a window needs on either side.
    encode_log_mel
        Encodes log-mel patches, float32 (windows, frames, bands); None for networks that take
        waveforms.
    feature_maps
        Of log-mel patches, the feature maps that vary, by layer: float32 (windows, maps, frames),
        each divided by its standard deviation over the frames of typical music; None for networks
        of which these are not known.
    """

    name: str
    sampling_rate: int
    window_s: float
    widths: Mapping[str, int]
    tag_names: tuple[str, ...]
    licence: str
    encode: Callable[..., BackboneOutput]
    margin: int = 0
    encode_log_mel: Callable[[NDArray[np.float32]], BackboneOutput] | None = None
    feature_maps: Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]] | None = None


@dataclass(frozen=True)
class BackboneConfig(ABC):
    """Settings of a backbone, as in recipes and model folders.

    Subclasses are frozen dataclasses. Every setting affects the embeddings.
    """

    kind: ClassVar[str] = ""

    @abstractmethod
    def open(self) -> Backbone:
        """Load it; `open_backbone` caches the result.

        Raises
        ------
        GenrescopeError
            If it is missing, has another checksum or cannot be used.
        """

    def to_json(self) -> str | dict[str, Any]:
        """Return what ``make_backbone_config`` restores it from."""
        return {"kind": self.kind, **asdict(self)}

    def _check_finite(self) -> None:
        # Opening encodes one window, whose length must not exhaust the memory.
        for field in fields(self):
            value, expected = getattr(self, field.name), type(field.default)
            numeric = expected in {int, float}
            valid = isinstance(value, (int, expected) if numeric else str)
            if not valid or isinstance(value, bool) or (numeric and not 0 < value < inf):
                what = "a positive number" if numeric else "text"
                raise GenrescopeError(
                    f"Backbone {self.kind}: {field.name} must be {what}, not {value!r}."
                )
            if numeric and value > _MAX.get(field.name, inf):
                raise GenrescopeError(
                    f"Backbone {self.kind}: {field.name} must be at most {_MAX[field.name]}."
                )


BACKBONES: dict[str, type[BackboneConfig]] = {}
"""From kind to its class of settings."""

R = TypeVar("R", bound=type[BackboneConfig])


def backbone(kind: str) -> Callable[[R], R]:
    """Register a class of settings under the kind that recipes use."""

    def register(cls: R) -> R:
        cls.kind = kind
        BACKBONES[kind] = cls
        return cls

    return register


def make_backbone_config(settings: str | Mapping[str, Any] | BackboneConfig) -> BackboneConfig:
    """Create a backbone's settings from what a recipe holds.

    Parameters
    ----------
    settings
        ``KIND:SOURCE`` (the kind may be left out for musicnn's networks), or a mapping of
        ``kind``, ``source`` and the kind's own settings.

    Raises
    ------
    GenrescopeError
        If the kind or a setting is unknown or invalid, or the source does not exist.
    """
    if isinstance(settings, BackboneConfig):
        return settings
    if isinstance(settings, str):
        kind, colon, source = settings.partition(SEPARATOR)
        given: dict[str, Any] = {"source": source}
        if not colon:
            kind, given = "musicnn", {"source": settings}
    else:
        given = dict(settings)
        kind = str(given.pop("kind", ""))
    if kind not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise GenrescopeError(f"There is no kind of backbone {kind!r}; there are: {known}.")
    try:
        return BACKBONES[kind](**given)
    except TypeError as error:
        raise GenrescopeError(f"Backbone {kind}: {error}.") from error


@lru_cache(maxsize=8)
def open_backbone(settings: str | BackboneConfig) -> Backbone:
    """Load a backbone; errors as of ``make_backbone_config`` and ``BackboneConfig.open``."""
    return make_backbone_config(settings).open()


def cut(waveform: Waveform, samples: int, *, is_continuation: bool = False) -> NDArray[np.float32]:
    """Cut a waveform into consecutive windows.

    An incomplete last window is dropped. A waveform shorter than one window is repeated to the
    length of one, unless it is a continuation.

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
    """Run a network on windows in batches.

    Parameters
    ----------
    run
        Maps windows to layers by name, float32 (windows, width).
    windows
        float32 (windows, …); may be empty.
    size
        Windows in a batch.
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
    """Average likelihoods (windows, tags) over windows; tags by name, most likely first."""
    mean: NDArray[Any] = likelihoods.mean(axis=0)
    return {names[i]: float(mean[i]) for i in np.argsort(-mean, kind="stable")}
