"""What a representation is, and the registry of those there are.

A representation is a named, parameterised, pure function from audio to an array.
``genrescope.representations.store`` caches the arrays.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from math import inf, prod
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import AudioWarning, Waveform, decode, is_silent
from genrescope.datasets.track import AudioVariant, Track
from genrescope.errors import GenrescopeError, InputError
from genrescope.quality import Quality
from genrescope.representations.transform import PLAIN, AudioTransform

Array = NDArray[Any]

MAX_VALUES = 2**27
"""Maximum size of one track's array: half a gigabyte."""

_MAX = {"seconds": 1800, "hz": 96_000, "windows": 10_000, "count": 10_000}


class DamagedError(InputError):
    """A damaged file, of which a part can be decoded; usable with ``allow_damaged``."""


@dataclass(frozen=True)
class Source:
    """The published or recorded form of a track that a representation is made from.

    Attributes
    ----------
    kind
        ``table``, ``image`` or ``audio``.
    path
        The file; None for a row of a table.
    """

    kind: str
    path: Path | None


@dataclass(frozen=True)
class Analysis:
    """Arrays of a clip's windows.

    Attributes
    ----------
    arrays
        float32 (windows, *shape), of consecutive windows. ``Representation.compute`` returns
        their mean.
    window_s
        Length of a window in s; inf when the clip is taken as one.
    tags
        Likelihoods in [0, 1] by tag, most likely first; empty for most representations.
    warnings
        Notes about the decoded file.
    silent
        Whether each window is silent; empty if that was not checked.
    """

    arrays: NDArray[np.float32]
    window_s: float
    tags: Mapping[str, float]
    warnings: tuple[AudioWarning, ...] = ()
    silent: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Representation(ABC):
    """A representation with its parameters; subclasses are frozen dataclasses of them.

    Class attributes: ``name`` (set by the registry), ``version`` (raised whenever the values
    change, so that stored arrays are recomputed), ``sampling_rate`` (of the audio, in Hz),
    ``audio_variants`` (usable audio of a track), ``shortest_s`` (minimum length of a clip for a
    `Members`, in s), ``nests`` (levels of representations that are its parameter) and
    ``added_later`` (default values of parameters that older models and stored arrays lack).
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    sampling_rate: ClassVar[int] = 22050
    audio_variants: ClassVar[frozenset[AudioVariant]] = frozenset({"full"})
    segmented: ClassVar[bool] = False
    shortest_s: ClassVar[float] = 0.0
    nests: ClassVar[int] = 0
    added_later: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if kind in {int, float} and not (isinstance(value, (int, kind)) and 0 < value < inf):
                whole = "whole " if kind is int else ""
                raise ValueError(f"{field.name} must be a positive {whole}number, not {value!r}")
            if field.name in _MAX and value > _MAX[field.name]:
                raise ValueError(f"{field.name} must be at most {_MAX[field.name]}")
            if kind is bool:
                if value not in (True, False):
                    raise ValueError(f"{field.name} must be true or false, not {value!r}")
                object.__setattr__(self, field.name, bool(value))

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one track's array."""

    @property
    def embedding(self) -> slice | None:
        """The columns of one track's array that are an embedding of it; None if there are none."""
        return None

    @property
    def embedder(self) -> Representation:
        """The representation whose columns those of ``embedding`` are."""
        return self

    @abstractmethod
    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """Compute the array of one clip.

        Parameters
        ----------
        waveform
            float32 (samples,), mono, in [-1, 1].
        sampling_rate
            In Hz; resampled if it is not the representation's own.

        Returns
        -------
        array
            float32, of shape ``self.shape``.
        """

    def analyse(self, waveform: Waveform, sampling_rate: int) -> Analysis:
        """Compute the arrays of a clip's windows; by default one window. See ``compute``."""
        return Analysis(self.compute(waveform, sampling_rate)[np.newaxis], inf, {})

    def over_time(self, waveform: Waveform, sampling_rate: int) -> Analysis:
        """Compute the arrays of every window of a clip, for a timeline. See ``compute``."""
        return self.analyse(waveform, sampling_rate)

    def at(self, quality: Quality) -> Self:
        """Return the one that gives the same columns from less or more of a track.

        Of one that is made from the whole clip, it is the same.
        """
        del quality
        return self

    def source(self, track: Track) -> Source | None:
        """Return what this track's array is computed from; None if it has nothing suitable.

        A published form takes precedence over the audio.
        """
        if track.audio is None or track.audio_variant not in self.audio_variants:
            return None
        return Source("audio", track.audio)

    def of_track(
        self, track: Track, transform: AudioTransform = PLAIN, *, allow_damaged: bool = False
    ) -> NDArray[np.float32]:
        """Compute the array of one track from its source; ``transform`` applies to audio only.

        Raises
        ------
        InputError
            If the source cannot be read, is silent or gives values that are not finite; a
            `DamagedError` if some of it is missing, unless that is allowed.
        """
        source = self.source(track)
        if source is None or source.path is None:
            raise GenrescopeError(f"{track.id}: it has no source for {self.name}")
        return self.of_file(source.path, transform, allow_damaged=allow_damaged)

    def of_file(
        self, path: Path, transform: AudioTransform = PLAIN, *, allow_damaged: bool = False
    ) -> NDArray[np.float32]:
        """Compute the array of one audio file; float32 of shape ``self.shape``.

        Raises
        ------
        InputError
            If the file cannot be read, is silent or gives values that are not finite; a
            `DamagedError` if some of it is missing, unless that is allowed.
        """
        analysis = self.analyse_file(path, transform)
        damage = [warning for warning in analysis.warnings if warning.damage]
        if damage and not allow_damaged:
            remedy = "Replace the file with an intact copy, or use --allow-damaged"
            raise DamagedError(path, damage[0].message, remedy)
        return np.asarray(analysis.arrays.mean(axis=0))

    def analyse_file(self, path: Path, transform: AudioTransform = PLAIN) -> Analysis:
        """Compute the arrays of an audio file's windows; errors as of ``of_file``.

        A long track may be sampled: ``analyse_windows`` returns every window.
        """
        with self._faults_of(path):
            waveform, warnings = self._decode(path, transform.recorded_rate(self.sampling_rate))
            if is_silent(waveform):
                raise InputError(path, "it is silent", "Leave the file out")
            analysis = self.analyse(
                transform.colour(waveform, self.sampling_rate), self.sampling_rate
            )
            return replace(self._checked(path, analysis), warnings=warnings + analysis.warnings)

    def analyse_windows(self, path: Path) -> Iterator[Analysis]:
        """Compute the arrays of every window of an audio file, some windows at a time.

        Memory does not grow with the track for representations with windows. Errors as of
        ``of_file``.
        """
        with self._faults_of(path):
            for analysis in self._analyse_windows(path):
                yield self._checked(path, analysis)

    def _decode(self, path: Path, sampling_rate: int) -> tuple[Waveform, tuple[AudioWarning, ...]]:
        clip = decode(path, sampling_rate)
        return clip.waveform, clip.warnings

    def _analyse_windows(self, path: Path) -> Iterator[Analysis]:
        # Most representations need the whole clip at once.
        waveform, _ = self._decode(path, self.sampling_rate)
        yield replace(self.analyse(waveform, self.sampling_rate), silent=(is_silent(waveform),))

    def _checked(self, path: Path, analysis: Analysis) -> Analysis:
        if not np.isfinite(analysis.arrays).all():
            cause = f"its {self.name} are not all finite numbers"
            raise InputError(path, cause, "Leave the file out; it may be damaged")
        return analysis

    @contextmanager
    def _faults_of(self, path: Path) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            remedy = "Use a longer clip, or leave the file out"
            raise InputError(path, str(error), remedy) from error

    def pack(self, array: NDArray[np.float32]) -> Array:
        """Return the compact form that is stored; ``unpack`` inverts it."""
        return array

    def unpack(self, packed: Array) -> NDArray[np.float32]:
        """Restore the float32 form; works on one array or on a stack of them."""
        return np.asarray(packed, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return name, version and parameters: all that the array depends on but the audio."""
        later = self.added_later
        values = {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}
        return {"name": self.name, "version": self.version, **values}

    @property
    def key(self) -> str:
        """16 hex digits that change with name, version or any parameter."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


REPRESENTATIONS: dict[str, type[Representation]] = {}

R = TypeVar("R", bound=type[Representation])


def representation(name: str) -> Callable[[R], R]:
    """Register a representation class under the name that recipes use."""

    def register(cls: R) -> R:
        cls.name = name
        REPRESENTATIONS[name] = cls
        return cls

    return register


def make_representation(name: str, parameters: Mapping[str, Any] | None = None) -> Representation:
    """Create a representation by name.

    Raises
    ------
    GenrescopeError
        If the name or a parameter is unknown, or a parameter's value is invalid.
    """
    if name not in REPRESENTATIONS:
        known = ", ".join(sorted(REPRESENTATIONS))
        raise GenrescopeError(f"There is no representation {name!r}; there are: {known}.")
    try:
        created = REPRESENTATIONS[name](**(parameters or {}))
    except (TypeError, ValueError) as error:
        raise GenrescopeError(f"Representation {name}: {error}.") from error
    if (values := prod(created.shape)) > MAX_VALUES:
        raise GenrescopeError(
            f"Representation {name}: an array would have {values:,} values; at most "
            f"{MAX_VALUES:,} are allowed."
        )
    return created


def make_nested(
    settings: str | Mapping[str, Any] | Representation, *, deeper: bool = False
) -> Representation:
    """Create a representation that is a parameter, ``of``, of another.

    Parameters
    ----------
    settings
        Its name, or a mapping of name and parameters, with or without the version.
    deeper
        Whether it may have others as a parameter itself, which then may not.

    Raises
    ------
    ValueError
        If it needs another version, or is nested too deeply.
    GenrescopeError
        As of ``make_representation``.
    """
    if isinstance(settings, Representation):
        return settings
    given = {"name": settings} if isinstance(settings, str) else dict(settings)
    name, version = given.pop("name", ""), given.pop("version", None)
    nests = getattr(REPRESENTATIONS.get(name), "nests", 0)
    if nests > deeper:
        raise ValueError(f"{name} cannot be nested")
    made = make_representation(name, given)
    if version not in {None, made.version}:
        raise ValueError(f"it needs version {version} of {name}, and this is {made.version}")
    return made
