"""Artist-disjoint folds of tracks with several genres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def artist_folds(
    member: NDArray[np.bool_], artists: NDArray[np.intp], count: int = FOLDS
) -> NDArray[np.intp]:
    """Distribute artists over folds such that every genre's tracks are spread evenly.

    The iterative stratification of K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the
    Stratification of Multi-Label Data", ECML PKDD 2011, by artists instead of tracks: those with
    the largest share of a genre first, each into the fold that has least of the artist's genres.

    Parameters
    ----------
    member
        bool (tracks, genres).
    artists
        (tracks,): equal for tracks of one artist.
    count
        Number of folds.

    Returns
    -------
    folds
        (tracks,): 0 … count - 1. A genre of two artists or more is in two folds or more.
    """
    _, artist = np.unique(artists, return_inverse=True)
    shares = np.zeros((int(artist.max()) + 1, member.shape[1]))
    np.add.at(shares, artist, member)
    shares /= np.maximum(shares.sum(axis=0), 1)
    load, fold = np.zeros((count, member.shape[1])), np.zeros(len(shares), dtype=np.intp)
    for one in np.argsort(-shares.max(axis=1), kind="stable"):
        own = shares[one] > 0
        # The rarer a genre, the more an uneven spread of it weighs.
        crowd = load[:, own] @ shares[one, own]
        fold[one] = np.lexsort((load.sum(axis=1), crowd))[0]
        load[fold[one]] += shares[one]
    return fold[artist]
