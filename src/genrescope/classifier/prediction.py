"""Results of a classifier: genres, and genres over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OTHER = "other"
"""What is shown as the genre of a clip that is none of the model's genres."""


class GenreLabel:
    """What a clip's genre is called, by the attributes of a subclass.

    Attributes
    ----------
    best
        The most likely of the model's genres.
    confidence
        Its probability, in [0, 1].
    other
        Whether the clip is none of them.
    """

    __slots__ = ()

    best: str
    confidence: float
    other: bool

    @property
    def genre(self) -> str | None:
        """``best``, or None if the clip is none of the model's genres."""
        return None if self.other else self.best

    @property
    def label(self) -> str:
        """The genre, or the word ``other``."""
        return OTHER if self.other else self.best

    @property
    def genre_confidence(self) -> float | None:
        """``confidence``, or None if no genre is named."""
        return None if self.other else self.confidence


@dataclass(frozen=True)
class Prediction(GenreLabel):
    """Genres of one clip.

    It names a genre and is sure of it, names one and is ``unsure``, or is ``other``.

    Attributes
    ----------
    best
        The most likely of the model's genres, also of a clip that is none of them.
    confidence
        Its probability, in [0, 1]: among the model's genres, whether or not the clip is one.
    unsure
        Whether the confidence is low: less than the model's threshold. Never of an ``other``
        clip, for which no genre is named.
    probabilities
        Of every genre, most likely first; they sum to 1.
    tags
        Likelihood in [0, 1] of every tag of the backbone, most likely first; they do not sum to 1.
        Empty for backbones without tags.
    warnings
        Notes about the file, such as how much of it is damaged; mostly empty.
    other
        Whether the clip is none of the model's genres: less like the music that the model was
        trained on than its threshold allows. Models without such a score never say so.
    """

    best: str
    confidence: float
    unsure: bool
    probabilities: dict[str, float]
    tags: dict[str, float]
    warnings: tuple[str, ...] = ()
    other: bool = False

    @property
    def likely(self) -> list[str]:
        """The genres at least half as probable as the first."""
        return [name for name, p in self.probabilities.items() if p >= self.confidence / 2]

    def to_pipeline(self, top_k: int | None = None) -> list[dict[str, Any]]:
        """Return the genres in the format of Hugging Face's audio-classification pipeline."""
        ranked = list(self.probabilities.items())[:top_k]
        return [{"score": probability, "label": name} for name, probability in ranked]


@dataclass(frozen=True)
class Timeline:
    """Genres over time.

    Attributes
    ----------
    genres
        In the order of the columns.
    step_s
        Seconds from one row to the next.
    probabilities
        float32 (steps, genres); rows sum to 1, and those of silence are 0.
    """

    genres: tuple[str, ...]
    step_s: float
    probabilities: NDArray[np.float32]

    @property
    def best(self) -> list[str | None]:
        """The most likely genre of every step; None for silence."""
        return [self.genres[row.argmax()] if row.any() else None for row in self.probabilities]
