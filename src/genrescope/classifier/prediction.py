"""Results of a classifier: genres, and genres over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """Genres of one clip.

    Attributes
    ----------
    genre
        The most likely one.
    confidence
        Its probability, in [0, 1].
    unsure
        Whether the confidence is low: less than the model's threshold.
    probabilities
        Of every genre, most likely first; they sum to 1.
    tags
        Likelihood in [0, 1] of every tag of the backbone, most likely first; they do not sum to 1.
        Empty for backbones without tags.
    warnings
        Notes about the file, such as how much of it is damaged; mostly empty.
    """

    genre: str
    confidence: float
    unsure: bool
    probabilities: dict[str, float]
    tags: dict[str, float]
    warnings: tuple[str, ...] = ()

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
