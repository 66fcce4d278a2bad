"""Pictures drawn from audio are those of the Kaggle copy, and give their mel spectrogram back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from genrescope.audio import load
from genrescope.datasets.track import Track
from genrescope.errors import InputError
from genrescope.representations import make_representation, mel_image, picture
from genrescope.representations.mel_from_image import MelFromImage

SAMPLING_RATE = picture.SAMPLING_RATE
MEL = MelFromImage()
INNER = (slice(36, 252), slice(55, 389))  # inside the frame line
COLOUR_STEP = 2 * 3 / 255  # neighbours in magma differ by at most 3/255; [-1, 1] is 2 wide

# The four named last are among those whose picture differs in a pixel or two.
CLIPS = [
    "blues.00000",
    "classical.00003",
    "hiphop.00004",
    "jazz.00001",
    "metal.00005",
    "pop.00002",
    "reggae.00007",
    "blues.00008",
    "country.00002",
    "disco.00001",
    "hiphop.00006",
]

Samples = NDArray[np.float32]


def real_pair(gtzan: Path, track: str) -> tuple[Samples, int, Path]:
    genre, number = track.split(".")
    waveform, sampling_rate = load(gtzan / "genres_original" / genre / f"{track}.flac")
    return waveform, sampling_rate, gtzan / "images_original" / genre / f"{genre}{number}.png"


@pytest.mark.parametrize("track", CLIPS)
def test_a_real_clip_gives_its_published_picture(gtzan: Path, track: str) -> None:
    waveform, sampling_rate, png = real_pair(gtzan, track)
    drawn, published = picture.draw(waveform, sampling_rate), picture.read(png)
    off = np.abs(drawn.astype(int) - published).max(axis=2)
    assert (off[INNER] <= 1).mean() >= 0.9999
    assert off[INNER].max() <= 3  # where rounding falls the other way, it is the next colour
    assert np.abs(off[35:253, 54:390]).max() <= 3  # the frame line
    assert (drawn[:35] == 255).all()
    assert (drawn[:, :54] == 255).all()

    grid = picture.grid_of_waveform(waveform, sampling_rate).astype(int)
    steps = np.abs(grid - picture.grid_of_picture(published))
    assert steps.max() <= 1
    assert (steps == 0).mean() >= 0.9999

    image, wanted = mel_image.of_picture(drawn), mel_image.of_picture(published)
    assert np.abs(image - wanted).max() <= COLOUR_STEP
    assert np.abs(image - wanted).mean() <= 1e-5


def test_the_two_sources_of_a_track_give_the_same_array(gtzan: Path) -> None:
    waveform, sampling_rate, png = real_pair(gtzan, "classical.00003")
    track = Track("classical.00003", "classical", image=png)
    for name, tolerance in [("mel-image", 2 / 255), ("mel-from-image", 40 / 255)]:
        representation = make_representation(name)
        np.testing.assert_allclose(
            representation.of_track(track),
            representation.compute(waveform, sampling_rate),
            atol=tolerance,
        )


def test_the_colour_table_is_magma() -> None:
    wanted = np.rint(mpl.colormaps["magma"](np.arange(256))[:, :3] * 255)
    np.testing.assert_array_equal(picture.magma(), wanted)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    seconds=st.floats(0.05, 35),
    kind=st.sampled_from(["noise", "tone", "fade", "clicks"]),
    sampling_rate=st.sampled_from([SAMPLING_RATE, 16000]),
)
def test_a_drawn_picture_gives_back_the_grid_it_was_drawn_from(
    seed: int, seconds: float, kind: str, sampling_rate: int
) -> None:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    waveform = {
        "noise": rng.standard_normal(len(time)) / 9,
        "tone": np.sin(2 * np.pi * rng.uniform(50, 7000) * time),
        "fade": rng.standard_normal(len(time)) * np.exp(-time * 3),
        "clicks": (rng.random(len(time)) < 1e-4).astype(float),
    }[kind].astype(np.float32)
    pixels = picture.draw(waveform, sampling_rate)
    assert (pixels.shape, pixels.dtype) == ((288, 432, 3), np.uint8)
    grid = picture.grid_of_waveform(waveform, sampling_rate)
    np.testing.assert_array_equal(picture.grid_of_picture(pixels), grid)
    np.testing.assert_array_equal(MEL.of_picture(pixels), MEL.compute(waveform, sampling_rate))


def test_a_picture_that_was_saved_again_with_loss_is_still_read(
    tmp_path: Path, music: Callable[..., Samples]
) -> None:
    pixels = picture.draw(music(seconds=30.0), SAMPLING_RATE)
    noisy = pixels.astype(int) + np.random.default_rng(0).integers(-1, 2, pixels.shape)
    grid = picture.grid_of_picture(np.clip(noisy, 0, 255).astype(np.uint8)).astype(int)
    assert np.abs(grid - picture.grid_of_picture(pixels)).mean() < 0.5
    assert np.abs(grid - picture.grid_of_picture(pixels)).max() <= 3


def test_the_picture_of_a_tone_is_a_line_at_its_pitch() -> None:
    time = np.arange(5 * SAMPLING_RATE) / SAMPLING_RATE
    mel = MEL.compute(np.sin(2 * np.pi * 1000 * time).astype(np.float32), SAMPLING_RATE)
    assert (mel.shape, mel.dtype) == ((128, 336), np.float32)
    loudest = mel[:, 20:-20].argmax(axis=0)
    # 1 kHz is mel 15 of the 58.1 (Slaney) that 11,025 Hz makes, over 129 half-overlapping bands.
    mels = 15 + np.log(11.025) / np.log(6.4) * 27
    assert set(loudest.tolist()) <= {round(15 / mels * 129) - 1 + shift for shift in (-1, 0, 1)}
    assert mel.max() == 0
    assert mel.min() >= -40


def test_silence_is_all_dark(music: Callable[..., Samples]) -> None:
    silence = np.zeros(SAMPLING_RATE, dtype=np.float32)
    assert not picture.levels(silence, SAMPLING_RATE).any()
    assert (MEL.compute(silence, SAMPLING_RATE) == -40).all()
    assert (picture.draw(silence, SAMPLING_RATE)[INNER] == picture.magma()[0]).all()
    assert np.isfinite(mel_image.compute(silence, SAMPLING_RATE)).all()


def test_level_does_not_matter(music: Callable[..., Samples]) -> None:
    loud = picture.levels(music(), SAMPLING_RATE).astype(int)
    quiet = picture.levels(music() / 8, SAMPLING_RATE).astype(int)  # exact in binary
    assert np.abs(loud - quiet).max() <= 1


@pytest.mark.parametrize("compute", [picture.draw, mel_image.compute, MEL.compute])
def test_too_short_a_clip_says_so(compute: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="too short"):
        compute(np.zeros(1024, dtype=np.float32), SAMPLING_RATE)


def test_the_studys_crop_is_315_by_217_pixels_of_the_plot() -> None:
    # Only the cropped part may matter; all of it must, however little.
    page = np.zeros((288, 432, 3), dtype=np.uint8)
    plain = mel_image.of_picture(page)
    assert (plain == -1).all()
    rows, columns = slice(35, 252), slice(55, 370)
    outside = np.full_like(page, 255)
    outside[rows, columns] = 0
    np.testing.assert_array_equal(mel_image.of_picture(outside), plain)
    assert page[rows, columns].shape[:2] == (217, 315)
    for y, x in [(35, 55), (35, 369), (251, 55), (251, 369)]:
        one = page.copy()
        one[y, x] = 255
        assert (mel_image.of_picture(one) != plain).any(), (y, x)


def test_the_image_is_resized_and_scaled(music: Callable[..., Samples]) -> None:
    pixels = picture.draw(music(), SAMPLING_RATE)
    image = mel_image.of_picture(pixels, size=64)
    assert (image.shape, image.dtype) == ((3, 64, 64), np.float32)
    assert image.min() >= -1
    assert image.max() <= 1
    np.testing.assert_allclose(
        image.mean(axis=(1, 2)),
        pixels[35:252, 55:370].mean(axis=(0, 1)) / 127.5 - 1,
        atol=0.01,
    )


@pytest.mark.parametrize("name", ["mel-image", "mel-from-image"])
def test_packing_loses_nothing(name: str) -> None:
    representation = make_representation(name)
    every = np.arange(256, dtype=np.uint8)
    unpacked = representation.unpack(every)
    assert unpacked.dtype == np.float32
    np.testing.assert_array_equal(representation.pack(unpacked), every)


def write_bad(path: Path, fault: str) -> Path:
    if fault == "size":
        Image.new("RGBA", (100, 50)).save(path)
    elif fault == "text":
        path.write_text("no picture", encoding="utf-8")
    elif fault == "empty":
        path.touch()
    elif fault == "cut off":
        noise = np.random.default_rng(0).integers(0, 256, (288, 432, 4), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:5000])
    return path


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("size", "100 × 50 pixels, not 432 × 288"),
        ("text", "cannot be read as a picture"),
        ("empty", "cannot be read as a picture"),
        ("cut off", "cannot be read as a picture"),
        ("missing", "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_says_why(tmp_path: Path, fault: str, cause: str) -> None:
    path = write_bad(tmp_path / "bad.png", fault)
    with pytest.raises(InputError, match=cause) as caught:
        make_representation("mel-image").of_track(Track("a", "pop", image=path))
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_published_picture_wins_over_audio(tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    pixels = picture.magma()[rng.integers(0, 256, (288, 432))]
    Image.fromarray(pixels).convert("RGBA").save(png)
    track = Track("a", "pop", audio=tmp_path / "is-not-read.wav", image=png)
    found = make_representation("mel-image").of_track(track)
    np.testing.assert_array_equal(found, mel_image.of_picture(pixels))
