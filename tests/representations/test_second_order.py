"""Second-order pooling: covariances of feature maps, as logarithms."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import expm

import genrescope
from genrescope.audio import load
from genrescope.backbones import log_mel
from genrescope.backbones.backbone import open_backbone
from genrescope.datasets.open import open_dataset
from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation, picture
from genrescope.representations.picture_embedding import to_log_mel
from genrescope.representations.second_order import pool

SAMPLES = Path(genrescope.__file__).with_name("samples")
NETWORK = "MSD_musicnn"
Maps = NDArray[np.float32]


def random_maps(count: int, windows: int = 3, frames: int = 50, seed: int = 0) -> Maps:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, count)) @ rng.normal(size=(windows, count, frames))
    return mixed.astype(np.float32)


def sample_patches(name: str = "shuffle") -> NDArray[np.float32]:
    waveform, _ = load(SAMPLES / f"{name}.mp3", log_mel.SAMPLING_RATE)
    return log_mel.to_patches(waveform)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 8), seed=st.integers(0, 2**32 - 1))
def test_columns_are_the_logarithm_of_the_covariance(count: int, seed: int) -> None:
    maps = random_maps(count, seed=seed)
    columns = pool({"front": maps})
    rows, others = np.triu_indices(count)
    assert columns.shape == rows.shape
    logarithm = np.zeros((count, count))
    logarithm[rows, others] = logarithm[others, rows] = np.where(
        rows == others, columns, columns / np.sqrt(2)
    )
    frames = np.concatenate(list(maps), axis=1).astype(np.float64)
    covariance = np.cov(frames)
    ridged = covariance + 0.01 * np.trace(covariance) / count * np.eye(count)
    np.testing.assert_allclose(expm(logarithm), ridged, atol=1e-4 * np.trace(covariance))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), gain=st.floats(0.1, 10))
def test_frames_have_no_order_and_a_gain_only_shifts(seed: int, gain: float) -> None:
    maps = random_maps(4, seed=seed)
    columns = pool({"front": maps})
    order = np.random.default_rng(seed).permutation(maps.shape[2])
    np.testing.assert_allclose(pool({"front": maps[::-1][:, :, order]}), columns, atol=1e-3)
    shift = pool({"front": maps * np.float32(gain)}) - columns
    diagonal = np.cumsum([0, 4, 3, 2])
    np.testing.assert_allclose(shift[diagonal], 2 * np.log(gain), atol=1e-3)
    np.testing.assert_allclose(np.delete(shift, diagonal), 0, atol=1e-3)


def test_layers_follow_one_another() -> None:
    first, second = random_maps(3), random_maps(5, seed=1)
    both = pool({"first": first, "second": second})
    np.testing.assert_array_equal(both, np.concatenate([pool({"": first}), pool({"": second})]))


def test_maps_are_those_that_the_network_pools() -> None:
    backbone, patches = open_backbone(NETWORK), sample_patches()
    assert backbone.feature_maps is not None
    assert backbone.encode_log_mel is not None
    maps = backbone.feature_maps(patches)
    assert {name: layer.shape[1:] for name, layer in maps.items()} == {
        "front": (60, 187),
        "first": (20, 187),
        "third": (64, 187),
    }
    # ``pooled``: maximum and mean of 69 maps of the front end and 64 of each of three layers.
    pooled = backbone.encode_log_mel(patches).layers["pooled"].reshape(len(patches), -1, 2)
    for layer, of_network in zip(
        maps.values(), (pooled[:, :69], pooled[:, 69:133], pooled[:, 197:]), strict=True
    ):
        summaries = np.stack([layer.max(axis=2), layer.mean(axis=2)], axis=2)
        # Each map is one of the network's, divided by a constant.
        ratios = of_network[:, None] / summaries[:, :, None]
        spread = np.ptp(ratios, axis=(0, 3)) / np.abs(ratios).mean(axis=(0, 3))
        assert (spread.min(axis=1) < 1e-3).all()


def test_maps_of_real_music_vary_about_by_one(gtzan: Path) -> None:
    backbone = open_backbone(NETWORK)
    assert backbone.feature_maps is not None
    images = [track.image for track in open_dataset(gtzan).tracks if track.image][::100]
    variances = []
    for image in images:
        grid = picture.grid_of_picture(picture.read(image))
        patches = log_mel.patches(to_log_mel(grid, 5.0))
        maps = backbone.feature_maps(patches).values()
        variances.append(np.concatenate([layer.var(axis=(0, 2)) for layer in maps]))
    deviations = np.sqrt(np.mean(variances, axis=0))
    assert 0.8 < np.median(deviations) < 1.25


GOLDEN = {
    "second-order": (
        26.762,
        [1.751, -0.028, 0.197, 1.781, 0.02, -0.089, -0.125, 0.487, 0.041, -0.118, 0.727],
    ),
    "picture-second-order": (
        20.567,
        [-0.624, -0.063, 0.08, -2.509, 0.086, -0.247, -0.074, 0.075, -0.118, -0.095, -0.482],
    ),
}
"""Of the sample ``shuffle``: norm, and every 400th column."""


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values_of_a_sample(name: str) -> None:
    representation = make_representation(name)
    array = representation.of_file(SAMPLES / "shuffle.mp3")
    assert array.shape == representation.shape == (1830 + 210 + 2080,)
    norm, columns = GOLDEN[name]
    assert np.linalg.norm(array) == pytest.approx(norm, rel=1e-3)
    np.testing.assert_allclose(array[::400], columns, atol=0.01)


def test_a_clip_played_twice_is_much_the_same(music: Callable[..., NDArray[np.float32]]) -> None:
    once = music(6 * log_mel.PATCH_SECONDS, log_mel.SAMPLING_RATE)
    second_order = make_representation("second-order")
    found = [second_order.compute(np.tile(once, n), log_mel.SAMPLING_RATE) for n in (1, 2)]
    other = second_order.compute(music(18.0, seed=1), log_mel.SAMPLING_RATE)
    distance = np.linalg.norm(found[0] - found[1])
    assert distance < 0.1 * np.linalg.norm(found[0] - other)


def test_a_long_file_is_sampled(music: Callable[..., NDArray[np.float32]], tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, music(60.0, 16000), 16000)
    few = make_representation("second-order", {"windows": 2}).of_file(path)
    assert (few != make_representation("second-order").of_file(path)).any()


def test_a_pictures_level_does_not_matter(music: Callable[..., NDArray[np.float32]]) -> None:
    representation = make_representation("picture-second-order")
    clip = music(30.0)
    loud, quiet = (representation.compute(clip / scale, 22050) for scale in (1, 8))
    np.testing.assert_allclose(quiet, loud, atol=0.05)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("backbone", ["MSD_vgg", "MTT_musicnn", "MSD_deep"])
def test_networks_without_maps_are_refused(name: str, backbone: str) -> None:
    with pytest.raises(GenrescopeError, match=backbone):
        make_representation(name, {"backbone": backbone})


def test_a_real_picture_gives_what_its_clip_gives(gtzan: Path) -> None:
    track = next(t for t in open_dataset(gtzan).tracks if t.audio_variant == "full" and t.audio)
    representation = make_representation("picture-second-order")
    assert track.audio is not None
    waveform, sampling_rate = load(track.audio, picture.SAMPLING_RATE)
    drawn, published = (
        representation.compute(waveform, sampling_rate),
        representation.of_track(track),
    )
    assert np.linalg.norm(drawn - published) < 0.02 * np.linalg.norm(published)
