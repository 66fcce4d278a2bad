"""Learn a library's own genres from its catalogue's embeddings and its files' tags.

No audio is decoded. The model is linear on the embedding of the catalogue's model, and is measured
on artists that it was not fitted on.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.learn.discriminant import (
    Discriminant,
    Moments,
    ShareCalibration,
    calibrate,
    held_out_scores,
    measure_moments,
    track_shares,
)
from genrescope.learn.folds import FOLDS, artist_folds
from genrescope.learn.labels import LeftOut, choose_genres
from genrescope.learn.measure import Measurement, TagDoubt, doubts, measure
from genrescope.library.catalogue import Catalogue
from genrescope.representations.embedding import Embedding
from genrescope.study.model_folder import put_model
from genrescope.study.statistics import Doubt, doubt
from genrescope.tagging.albums import artist_key
from genrescope.tagging.formats import read_artists, read_genres
from genrescope.taxonomy import Taxonomy, track_genres

_SHRINKAGES = (0.2, 0.4, 0.6, 0.8, 0.95)
_ARTIST_WEIGHT = 0.5  # as the default recipe: each of an artist's n tracks counts n ** -0.5
_ON_CARD = 100  # genres that were left out

Rows = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class TaggedTracks:
    """The tracks of a library that have an embedding and a genre.

    Attributes
    ----------
    paths
        Of their files, below the library.
    genres
        Of each, by the taxonomy's names.
    artists
        int (tracks,): numbers from 0, equal for tracks of one artist.
    embeddings
        float16 (tracks, columns).
    analysed
        Number of tracks that have an embedding, with a genre or without.
    problems
        Files whose tags cannot be read.
    """

    paths: list[str]
    genres: list[tuple[str, ...]]
    artists: NDArray[np.intp]
    embeddings: Rows
    analysed: int
    problems: list[InputError]


@dataclass(frozen=True, eq=False)
class LearnedModel:
    """What was learned.

    Attributes
    ----------
    discriminant
        Of embeddings after ``genrescope.learn.discriminant.signed_log``; the softmax of its logits
        is the expected share of each genre in a track's tags.
    genres
        In the order of the logits.
    tracks, artists
        Numbers of those it was fitted on.
    shrinkage
        Of its covariance.
    left_out
        Genres that are not learned by themselves.
    measured
        On artists that were held out.
    unsure
        See ``genrescope.study.statistics.doubt``.
    doubts
        Tracks whose tags are contradicted, the least probable tags first.
    """

    discriminant: Discriminant
    genres: tuple[str, ...]
    tracks: int
    artists: int
    shrinkage: float
    left_out: tuple[LeftOut, ...]
    measured: Measurement
    unsure: Doubt
    doubts: list[TagDoubt]


def check_embedding(classifier: Classifier) -> Embedding:
    """Give the representation whose columns the catalogue keeps.

    Raises
    ------
    GenrescopeError
        If the catalogue keeps logits of this model, from which no other genres can be learned.
    """
    embedder = classifier.representation.embedder
    if isinstance(embedder, Embedding):
        return embedder
    raise GenrescopeError(
        f"{classifier.folder}: its representation is {classifier.representation.name}, and genres "
        "can be learned from an embedding only. Scan the library with the model in the package."
    )


def read_tracks(
    catalogue: Catalogue,
    classifier: Classifier,
    library: Path,
    taxonomy: Taxonomy,
    *,
    on_read: Callable[[int], None] | None = None,
) -> TaggedTracks:
    """Read the embeddings of a library's tracks and the tags of their files.

    Parameters
    ----------
    catalogue
        Open.
    classifier
        Whose embeddings are read.
    library
        As of ``genrescope.library.scan.open_library``.
    taxonomy
        Names and tree of the genres.
    on_read
        Called with the number of files read so far.

    Raises
    ------
    InputError
        If the catalogue has no track of the library by this model.
    """
    check_embedding(classifier)
    start = len(str(library).rstrip(os.sep)) + 1
    paths: list[str] = []
    genres: list[tuple[str, ...]] = []
    keys: dict[str, int] = {}
    artists: list[int] = []
    rows = bytearray()  # it grows in place, where a list of arrays would be copied in the end
    analysed, problems = 0, list[InputError]()
    for page, embeddings in catalogue.embeddings(str(library), classifier):
        for summary, row in zip(page, embeddings, strict=True):
            path = Path(summary.path)
            try:
                own = track_genres(read_genres(path), taxonomy)
            except InputError as error:
                problems.append(error)
                continue
            if own:
                paths.append(summary.path[start:])
                genres.append(own)
                key = artist_key(_artists(path), Path(summary.path[start:]).parent)
                artists.append(keys.setdefault(key, len(keys)))
                rows += row.tobytes()
        analysed += len(page)
        if on_read is not None:
            on_read(analysed)
    if not analysed:
        cause = "the catalogue has no track of it that this model has analysed"
        raise InputError(
            library, cause, "Run `genrescope scan` on it, with the same --model and --quality"
        )
    return TaggedTracks(
        paths,
        genres,
        np.array(artists, dtype=np.intp),
        np.frombuffer(rows, dtype=np.float16).reshape(len(paths), classifier.embedding_width),
        analysed,
        problems,
    )


def _artists(path: Path) -> tuple[str, ...]:
    try:
        return read_artists(path)
    except InputError:  # its genre could be read, and its folder stands for the artist
        return ()


def learn(
    tracks: TaggedTracks,
    taxonomy: Taxonomy,
    *,
    min_tracks: int = 20,
    min_artists: int = 3,
    precision: float = 0.9,
) -> LearnedModel:
    """Fit a model of the tracks' genres, measured by artist-disjoint cross-validation.

    Parameters
    ----------
    tracks
        As of ``read_tracks``.
    taxonomy
        Names and tree of the genres.
    min_tracks, min_artists
        Of a genre; the tracks of others count as the genre above. At least 2 artists.
    precision
        For which each genre's threshold is determined.

    Raises
    ------
    GenrescopeError
        If fewer than two genres have enough tracks.
    """
    labels = choose_genres(
        tracks.genres, tracks.artists, taxonomy, min_tracks=min_tracks, min_artists=min_artists
    )
    if len(labels.genres) < 2:
        raise GenrescopeError(
            f"{len(labels.genres)} genres of the tags have at least {min_tracks} tracks by "
            f"{min_artists} artists, of {len(tracks.paths)} tracks with a genre. Two are needed. "
            "Lower --min-tracks and --min-artists, or tag more files."
        )
    artists, member = tracks.artists, labels.member
    # Tracks of other genres are scored, too, but count nowhere: a copy of the matrix without them
    # would double the memory.
    used = np.flatnonzero(member.any(axis=1))
    sizes = np.bincount(artists[used], minlength=len(artists))
    weights = np.maximum(sizes[artists], 1).astype(np.float64) ** -_ARTIST_WEIGHT
    folds = artist_folds(member, artists)
    moments = measure_moments(tracks.embeddings, track_shares(member), weights, folds)
    shrinkage, scores, calibration = _choose_shrinkage(tracks.embeddings, member, moments, folds)
    probabilities, member = calibration.probabilities(scores)[used], member[used]
    confidence, first = probabilities.max(axis=1), probabilities.argmax(axis=1)
    right = member[np.arange(len(first)), first]
    _, units = np.unique(artists[used], return_inverse=True)
    return LearnedModel(
        calibration.apply(moments.fit(shrinkage)),
        labels.genres,
        len(used),
        int(units.max()) + 1,
        shrinkage,
        labels.left_out,
        measure(probabilities, member, units, labels.genres, precision),
        doubt(confidence, right, len(labels.genres)),
        doubts(
            probabilities,
            member,
            labels.genres,
            taxonomy,
            [tracks.paths[i] for i in used],
            [tracks.genres[i] for i in used],
        ),
    )


def _choose_shrinkage(
    rows: Rows, member: NDArray[np.bool_], moments: Moments, folds: NDArray[np.intp]
) -> tuple[float, NDArray[np.float32], ShareCalibration]:
    # The more tracks a library has, the less its covariance needs to be shrunk.
    best: tuple[float, NDArray[np.float32], ShareCalibration] | None = None
    for shrinkage in _SHRINKAGES:
        scores = held_out_scores(rows, moments, folds, shrinkage)
        found = calibrate(scores, member)
        if best is None or found.loss < best[2].loss:
            best = shrinkage, scores, found
    assert best is not None  # noqa: S101  there are several
    return best


def write_model(
    learned: LearnedModel,
    representation: Embedding,
    out: Path,
    *,
    precision: float,
    licence: str | None = None,
) -> None:
    """Write the model folder.

    Parameters
    ----------
    learned
        The model.
    representation
        Of the embeddings.
    out
        The folder; see ``genrescope.study.model_folder.check_place``.
    precision
        As of ``learn``, for the card.
    licence
        Of the model, by its SPDX name in lower case, for the card.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    import torch  # noqa: PLC0415  an extra

    from genrescope.models.normalise import SignedLog  # noqa: PLC0415  an extra
    from genrescope.training.export import export  # noqa: PLC0415  an extra

    weight = torch.from_numpy(learned.discriminant.weight).float()
    linear = torch.nn.Linear(weight.shape[1], len(weight)).requires_grad_(requires_grad=False)
    linear.weight.copy_(weight)
    linear.bias.copy_(torch.from_numpy(learned.discriminant.bias))
    details = card_details(learned, precision) | {"name": one_line(out.resolve().name)}
    if licence:
        details["license"] = licence
    with tempfile.TemporaryDirectory(prefix="genrescope-") as scratch:
        folder = Path(scratch) / "model"
        network = torch.nn.Sequential(SignedLog(), linear).eval()
        export(folder, network, representation, learned.genres, details, learned.unsure.below)
        put_model(folder, out)


def card_details(learned: LearnedModel, precision: float) -> dict[str, Any]:
    """Give what the card states, without paths; see ``genrescope.training.export.describe``."""
    measured = learned.measured
    settings = {"shrinkage": learned.shrinkage, "artist_weight": _ARTIST_WEIGHT}
    return {
        "recipe": "learn",
        "about": (
            f"A classifier of the {len(learned.genres)} genres in the tags of a music library, "
            "learned by genrescope. The probability of a genre is its expected share in a track's "
            "tags: two genres that fit equally well have 0.5 each."
        ),
        "recipe_hash": hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:12],
        "settings": settings,
        "dataset": "the tags of a music library",
        "protocol": f"{FOLDS} artist-disjoint folds",
        "seed": 0,
        "n_train": learned.tracks,
        "n_test": learned.tracks,
        "artists": learned.artists,
        "fitted_on": "all tracks, after it was measured",
        "accuracy": measured.accuracy,
        "macro_f1": measured.macro.value,
        "f1": {"micro": asdict(measured.micro), "macro": asdict(measured.macro)},
        "cut": measured.cut,
        "precision": precision,
        "by_genre": {genre: asdict(result) for genre, result in measured.genres.items()},
        "left_out": [asdict(one) for one in learned.left_out[:_ON_CARD]],
        "unsure": asdict(learned.unsure),
    }
