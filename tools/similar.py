"""Measure in which space similar tracks are of the same genre, on real GTZAN.

    python tools/similar.py --data /path/to/gtzan

Prints two Markdown tables. Every track with audio is a query once, and the tracks of other artists
are searched. ``default`` is the function that ``genrescope similar`` compares by.

The first table's spaces use no labels; those with "std" or "PCA" are fitted on the tracks
themselves. The second compares spaces that are trained on the genres: the artists are split in
halves, a discriminant is trained on one half, and the tracks of the other are compared with each
other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedGroupKFold

import genrescope
from genrescope.backbones.backbone import make_backbone_config, open_backbone
from genrescope.datasets.open import open_dataset
from genrescope.library.similar import comparable, nearest
from genrescope.representations.embedding import Embedding
from genrescope.representations.store import Store

Rows = NDArray[Any]
COUNTS = (1, 5, 10)
DRAWS = 2000  # of the bootstrap
HALVINGS = 5
MIN_LENGTH = 1e-6
HEAD = """| space | precision at 1 | at 5 | at 10 | 95 % interval of at 10 |
| --- | --- | --- | --- | --- |"""


def main() -> None:
    """Measure every space and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="GTZAN, in any layout")
    options.add_argument("--store", type=Path, help="folder of representations")
    options.add_argument("--workers", type=int, help="processes; by default one per core")
    given = options.parse_args()
    classifier = genrescope.load()
    representation = classifier.representation
    if not isinstance(representation, Embedding):
        raise SystemExit("The default model has no embedding.")
    tracks = [track for track in open_dataset(given.data).tracks if track.audio is not None]
    stored = Store(given.store).collect(classifier.representation, tracks, workers=given.workers)
    track_of = {track.id: track for track in tracks}
    used = [track_of[name] for name in stored.ids]
    genres = np.array([track.genre for track in used])
    # Two tracks of unknown artist may be by the same one.
    artists = np.array([track.group or "unknown" for track in used])
    raw = classifier.representation.unpack(stored.packed)
    spaces = {"**default**": comparable(classifier, raw), **others(representation, raw)}
    print(f"{len(used)} tracks, {len(set(artists))} artists\n\n{HEAD}")
    for name, space in spaces.items():
        print(row(name, precisions(space, genres, artists)))
    print(f"| chance | | | {chance(genres, artists):.3f} | |")
    print(f"\nHalved by artist {HALVINGS} times\n\n{HEAD}")
    for name, shares in learned(comparable(classifier, raw), raw, genres, artists).items():
        print(row(name, shares))


def learned(
    default: Rows, raw: Rows, genres: NDArray[np.str_], artists: NDArray[np.str_]
) -> dict[str, Rows]:
    """Precisions by space, as of ``precisions``, averaged over halvings."""
    total: dict[str, Rows] = {}
    columns = standardised(raw)
    for seed in range(HALVINGS):
        halves = StratifiedGroupKFold(2, shuffle=True, random_state=seed)
        for train, test in halves.split(raw, genres, artists):
            head = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
            head.fit(columns[train], genres[train])
            logits = head.decision_function(columns[test])
            logits = unit(logits - logits.mean(axis=1, keepdims=True))
            projected = unit(head.transform(columns[test]))
            spaces = {
                "**default**": default[test],
                "logits": logits,
                "discriminants": projected,
                "default beside logits": np.hstack([default[test], logits]),
                "default beside discriminants": np.hstack([default[test], projected]),
            }
            for name, space in spaces.items():
                sums = total.setdefault(name, np.zeros((len(raw), len(COUNTS))))
                sums[test] += precisions(space, genres[test], artists[test]) / HALVINGS
    return total


def others(representation: Embedding, raw: Rows) -> dict[str, Rows]:
    """Spaces by name; float32 (tracks, width) each."""
    spaces: dict[str, Rows] = {}
    for name, layer in {**layers(representation, raw), "all three": raw}.items():
        spaces[name] = layer
        spaces[f"{name}, log"] = log(layer)
        spaces[f"{name}, std"] = standardised(layer)
        spaces[f"{name}, log, std"] = standardised(log(layer))
        spaces[f"{name}, std, 20 PCA"] = components(standardised(layer), whitened=False)
        spaces[f"{name}, std, 20 PCA whitened"] = components(standardised(layer), whitened=True)
    return spaces


def layers(representation: Embedding, raw: Rows) -> dict[str, Rows]:
    """Cut the columns into layers."""
    widths = open_backbone(make_backbone_config(representation.backbones[0])).widths
    ends = np.cumsum([widths[layer] for layer in representation.layers])
    return dict(zip(representation.layers, np.split(raw, ends[:-1], axis=1), strict=True))


def log(rows: Rows) -> Rows:
    """Take logarithms of the magnitudes, the signs as they were."""
    return np.sign(rows) * np.log1p(np.abs(rows))


def standardised(rows: Rows) -> Rows:
    """Columns of mean 0 and standard deviation 1."""
    return (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), MIN_LENGTH)


def components(rows: Rows, *, whitened: bool, count: int = 20) -> Rows:
    """Project on the first principal components."""
    left, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    return left[:, :count] * (1 if whitened else sizes[:count])


def unit(rows: Rows) -> Rows:
    """Rows of length 1."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(length, MIN_LENGTH)).astype(np.float32)


def precisions(space: Rows, genres: NDArray[np.str_], artists: NDArray[np.str_]) -> Rows:
    """Share of each track's nearest 1, 5, 10 that are of its genre; (tracks, counts)."""
    vectors = unit(space)
    own = [np.flatnonzero(artists == artist).tolist() for artist in artists]
    found = nearest(vectors, vectors, max(COUNTS), own)
    right = np.array(
        [genres[rows] == genre for (rows, _), genre in zip(found, genres, strict=True)]
    )
    return np.stack([right[:, :count].mean(axis=1) for count in COUNTS], axis=1)


def chance(genres: NDArray[np.str_], artists: NDArray[np.str_]) -> float:
    """Share of the tracks of other artists that are of the same genre, averaged over tracks."""
    other = artists[:, None] != artists
    same = (genres[:, None] == genres) & other
    return float((same.sum(axis=1) / other.sum(axis=1)).mean())


def row(name: str, shares: Rows) -> str:
    """Write a line of the table; the interval is a bootstrap over the queries."""
    drawn = np.random.default_rng(0).integers(0, len(shares), (DRAWS, len(shares)))
    low, high = np.quantile(shares[:, -1][drawn].mean(axis=1), (0.025, 0.975))
    cells = " | ".join(f"{share:.3f}" for share in shares.mean(axis=0))
    return f"| {name} | {cells} | {low:.3f} to {high:.3f} |"


if __name__ == "__main__":
    main()
