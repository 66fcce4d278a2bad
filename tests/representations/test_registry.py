"""The contract that every representation keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from genrescope.datasets.track import Track
from genrescope.errors import GenrescopeError, InputError
from genrescope.representations import REPRESENTATIONS, Representation, make_representation
from tiny_backbones import CHECKPOINTS

NAMES = sorted(REPRESENTATIONS)
SAMPLING_RATE = 22050

Samples = NDArray[np.float32]
MakeMusic = Callable[..., Samples]


@pytest.fixture(params=[*NAMES, *(f"embedding by {name}" for name in CHECKPOINTS)])
def representation(
    request: pytest.FixtureRequest, checkpoints: Callable[[str], dict[str, object]]
) -> Representation:
    name, _, checkpoint = request.param.partition(" by ")
    return make_representation(name, checkpoints(checkpoint) if checkpoint else None)


def test_the_known_ones_are_there() -> None:
    assert {"descriptors", "mel-from-image", "mel-image", "mfcc", "waveform"} <= set(NAMES)


@pytest.mark.parametrize("seconds", [0.5, 3.0, 31.0])
def test_shape_type_and_finite_values(
    representation: Representation, music: MakeMusic, seconds: float
) -> None:
    array = representation.compute(music(seconds), SAMPLING_RATE)
    assert array.shape == representation.shape
    assert array.dtype == np.float32
    assert np.isfinite(array).all()
    assert array.std() > 0


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_silence_and_a_constant_are_finite(representation: Representation, level: float) -> None:
    array = representation.compute(np.full(SAMPLING_RATE, level, dtype=np.float32), SAMPLING_RATE)
    assert array.shape == representation.shape
    assert np.isfinite(array).all()


def test_computing_is_pure(representation: Representation, music: MakeMusic) -> None:
    waveform = music(1.0)
    before = waveform.copy()
    first = representation.compute(waveform, SAMPLING_RATE)
    np.testing.assert_array_equal(waveform, before)
    np.testing.assert_array_equal(representation.compute(waveform, SAMPLING_RATE), first)
    other = representation.compute(music(1.0, seed=1), SAMPLING_RATE)
    assert (other != first).any()


def test_the_rate_matters(representation: Representation, music: MakeMusic) -> None:
    # The same samples at another rate are another sound, made without complaint.
    as_44100 = representation.compute(music(1.0), 44100)
    assert as_44100.shape == representation.shape
    assert (as_44100 != representation.compute(music(1.0), SAMPLING_RATE)).any()


def test_packing_one_or_many(representation: Representation, music: MakeMusic) -> None:
    arrays = [representation.compute(music(1.0, seed=seed), SAMPLING_RATE) for seed in (0, 1)]
    packed = [representation.pack(array) for array in arrays]
    together = representation.unpack(np.stack(packed))
    assert together.dtype == np.float32
    for array, one, unpacked in zip(arrays, packed, together, strict=True):
        # At most half a step of 8 bits.
        np.testing.assert_allclose(unpacked, array, atol=np.ptp(array) / 510)
        np.testing.assert_array_equal(representation.pack(unpacked), one)
        np.testing.assert_array_equal(representation.unpack(one), unpacked)


def test_files_give_what_their_samples_give(
    representation: Representation, music: MakeMusic, tmp_path: Path
) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, music(1.0), representation.sampling_rate, subtype="FLOAT")
    wanted = representation.compute(music(1.0), representation.sampling_rate)
    np.testing.assert_array_equal(representation.of_file(path), wanted)
    np.testing.assert_array_equal(representation.of_track(Track("a", "pop", audio=path)), wanted)


def test_a_file_of_no_use_is_named(representation: Representation, tmp_path: Path) -> None:
    path = tmp_path / "no.wav"
    path.write_text("no audio")
    with pytest.raises(InputError, match=r"no\.wav"):
        representation.of_file(path)


def test_which_audio_is_fit(representation: Representation) -> None:
    audio = Path("a.wav")
    assert representation.source(Track("a", "pop")) is None
    excerpt = representation.source(Track("a", "pop", audio=audio, audio_variant="excerpt"))
    # What analyses windows of 3 s makes do with an excerpt; the others look at the whole clip.
    windowed = {"embedding", "members", "second-order"}
    assert (excerpt is None) == (representation.name not in windowed)
    full = representation.source(Track("a", "pop", audio=audio))
    assert full is not None
    assert (full.kind, full.path) == ("audio", audio)
    narrow = representation.source(Track("a", "pop", audio=audio, audio_variant="full-16k"))
    assert (narrow is None) == (representation.sampling_rate > 16000)


def test_a_track_without_a_source_says_so(representation: Representation) -> None:
    with pytest.raises(
        GenrescopeError, match=f"lonely: it has no source for {representation.name}"
    ):
        representation.of_track(Track("lonely", "pop"))


def test_json_makes_the_same_again(representation: Representation) -> None:
    settings = representation.to_json()
    assert settings.pop("name") == representation.name
    assert settings.pop("version") == representation.version
    again = make_representation(representation.name, settings)
    assert again == representation
    assert again.key == representation.key


def test_the_key_changes_with_every_parameter_and_with_the_version(
    representation: Representation, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [representation.key]
    for field in fields(representation):
        if isinstance(field.default, int | float):
            other = {field.name: getattr(representation, field.name) + 1}
            keys.append(make_representation(representation.name, other).key)
    monkeypatch.setattr(type(representation), "version", representation.version + 1)
    keys.append(representation.key)
    assert len(set(keys)) == len(keys) >= 2
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)


def test_keys_distinguishes_representations() -> None:
    assert len({make_representation(name).key for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "parameters", "shape"),
    [
        ("mel-image", {"size": 32}, (3, 32, 32)),
        ("mfcc", {"coefficients": 13, "seconds": 2}, (13, 87)),
        ("waveform", {"seconds": 1.5}, (24000,)),
    ],
)
def test_parameters_change_the_shape(
    name: str, parameters: dict[str, float], shape: tuple[int, ...], music: MakeMusic
) -> None:
    representation = make_representation(name, parameters)
    assert representation.shape == shape
    assert representation.compute(music(1.0), SAMPLING_RATE).shape == shape


def test_an_unknown_name_is_reported_what_there_is() -> None:
    with pytest.raises(GenrescopeError, match=r"no representation 'mel'; .*mel-image.*waveform"):
        make_representation("mel")


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(GenrescopeError, match=r"Representation mfcc: .*'coefs'"):
        make_representation("mfcc", {"coefs": 3})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("waveform", {"seconds": -1}),
        ("waveform", {"seconds": float("nan")}),
        ("waveform", {"seconds": "30"}),
        ("mel-image", {"size": 0}),
        ("mel-image", {"size": 22.5}),
        ("mfcc", {"coefficients": 129}),
    ],
)
def test_a_value_that_makes_no_sense_is_named(name: str, parameters: dict[str, object]) -> None:
    (parameter, value), *_ = parameters.items()
    with pytest.raises(GenrescopeError, match=rf"Representation {name}: {parameter} .*{value}"):
        make_representation(name, parameters)
