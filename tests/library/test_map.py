"""The map: tracks that sound alike lie close together, however many there are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from genrescope.library import map as library_map
from genrescope.library.map import place


def clusters(count: int, kinds: int = 8, width: int = 30) -> tuple[NDArray[np.float16], NDArray]:
    rng = np.random.default_rng(count)
    kind = rng.integers(0, kinds, count)
    rows = 4 * rng.normal(size=(kinds, width))[kind] + 3 * rng.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16), kind


def same_kind_nearby(places: NDArray, kind: NDArray) -> float:
    distances = ((places[:, None] - places) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    near = distances.argsort(axis=1)[:, :5]
    return float((kind[near] == kind[:, None]).mean())


@pytest.mark.parametrize("landmarks", [150, 2000])
def test_tracks_that_sound_alike_are_close(landmarks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_map, "LANDMARKS", landmarks)
    vectors, kind = clusters(400)
    plane = np.linalg.svd(vectors - vectors.mean(axis=0).astype(np.float32))[0][:, :2]
    assert same_kind_nearby(place(vectors), kind) > same_kind_nearby(plane, kind) + 0.2


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 50])
def test_every_library_has_a_map(count: int) -> None:
    vectors, _ = clusters(count)
    places = place(vectors)
    assert places.shape == (count, 2)
    assert places.dtype == np.float32
    assert np.isfinite(places).all()
    assert ((places >= 0) & (places <= 1)).all()
    assert np.array_equal(places, place(vectors))


def test_copies_and_silence_have_places() -> None:
    vectors, _ = clusters(30)
    vectors[10:20] = vectors[10]
    vectors[20:25] = 0  # silence
    places = place(vectors)
    assert np.isfinite(places).all()
    assert np.ptp(places[10:20], axis=0).max() < np.ptp(places, axis=0).max() / 4
