"""The 57 columns agree with the public table, and with plain librosa where there is no table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from genrescope.audio import load
from genrescope.datasets.open import open_dataset
from genrescope.datasets.track import Track
from genrescope.errors import InputError
from genrescope.representations import descriptors, make_representation

SAMPLING_RATE = descriptors.SAMPLING_RATE
COLUMNS = np.array(descriptors.COLUMNS)
WAVES = np.array([name.startswith(("harmony", "perceptr")) for name in COLUMNS])

# Clips of both lengths there are (661,794 and 661,504 samples), each of another genre.
CLIPS = [
    "blues.00000",
    "classical.00003",
    "hiphop.00004",
    "jazz.00001",
    "metal.00005",
    "pop.00002",
]

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def table(gtzan: Path) -> dict[str, NDArray[np.float64]]:
    with (gtzan / "features_30_sec.csv").open(newline="") as file:
        return {
            row["filename"].removesuffix(".wav"): np.array([float(row[name]) for name in COLUMNS])
            for row in csv.DictReader(file)
        }


def check_against_table(gtzan: Path, track: str, wanted: NDArray[np.float64]) -> None:
    waveform, sampling_rate = load(
        gtzan / "genres_original" / track.partition(".")[0] / f"{track}.flac"
    )
    found = descriptors.compute(waveform, sampling_rate).astype(float)
    np.testing.assert_allclose(found[~WAVES], wanted[~WAVES], rtol=1e-4)
    # The waves' means are sums of positive and negative samples that nearly cancel: single
    # precision leaves them some 1e-9 of the full scale, whatever their own size.
    np.testing.assert_allclose(found[WAVES], wanted[WAVES], rtol=1e-4, atol=5e-9)


@pytest.mark.parametrize("track", CLIPS)
def test_real_clips_give_the_public_table(
    gtzan: Path, table: dict[str, NDArray[np.float64]], track: str
) -> None:
    check_against_table(gtzan, track, table[track])


@pytest.mark.slow
@pytest.mark.parametrize(
    "track",
    [
        "country.00002",
        "disco.00006",
        "reggae.00007",
        "rock.00009",
        "blues.00003",
        "reggae.00004",
    ],
)
def test_more_real_clips_give_the_public_table(
    gtzan: Path, table: dict[str, NDArray[np.float64]], track: str
) -> None:
    check_against_table(gtzan, track, table[track])


def by_plain_librosa(y: Samples) -> dict[str, NDArray[np.floating]]:
    """Each column's feature by its own librosa function from the waveform, none shared."""
    # As librosa did up to 0.7: padding by reflection, inverses without their last part hop.
    spectrum = librosa.stft(y, pad_mode="reflect")
    harmonic, percussive = librosa.decompose.hpss(spectrum)
    reflect = {"y": y, "sr": SAMPLING_RATE, "pad_mode": "reflect"}
    features = {
        "chroma_stft": librosa.feature.chroma_stft(**reflect),
        "rms": librosa.feature.rms(y=y, pad_mode="reflect"),
        "spectral_centroid": librosa.feature.spectral_centroid(**reflect),
        "spectral_bandwidth": librosa.feature.spectral_bandwidth(**reflect),
        "rolloff": librosa.feature.spectral_rolloff(**reflect),
        "zero_crossing_rate": librosa.feature.zero_crossing_rate(y),
        "harmony": librosa.util.fix_length(librosa.istft(harmonic), size=len(y)),
        "perceptr": librosa.util.fix_length(librosa.istft(percussive), size=len(y)),
    }
    mfccs = librosa.feature.mfcc(n_mfcc=20, **reflect)
    return {**features, **{f"mfcc{i}": row for i, row in enumerate(mfccs, start=1)}}


@pytest.mark.xdist_group("librosa")
@pytest.mark.slow
def test_a_made_clip_gives_what_plain_librosa_gives(music: Callable[..., Samples]) -> None:
    y = music(seconds=6.01)  # not a whole number of hops
    found = dict(zip(COLUMNS, descriptors.compute(y, SAMPLING_RATE).astype(float), strict=True))
    for name, feature in by_plain_librosa(y).items():
        assert found.pop(f"{name}_mean") == pytest.approx(feature.mean(), rel=1e-4, abs=1e-8), name
        assert found.pop(f"{name}_var") == pytest.approx(feature.var(), rel=1e-4), name
    onsets = librosa.onset.onset_strength(
        y=y, sr=SAMPLING_RATE, aggregate=np.median, pad_mode="reflect"
    )
    tempo, _ = librosa.beat.beat_track(onset_envelope=onsets, sr=SAMPLING_RATE)
    assert found.pop("tempo") == pytest.approx(float(np.ravel(tempo)[0]), rel=1e-6)
    assert not found


def test_the_beat_of_a_metronome_is_found() -> None:
    clicks = np.zeros(8 * SAMPLING_RATE, dtype=np.float32)
    clicks[:: SAMPLING_RATE // 2] = 1.0
    tempo = descriptors.compute(clicks, SAMPLING_RATE)[list(COLUMNS).index("tempo")]
    assert tempo == pytest.approx(120, rel=0.03)


@pytest.mark.parametrize("sound", ["silence", "constant", "click", "noise", "loud noise"])
def test_any_sound_gives_finite_numbers(sound: str) -> None:
    rng = np.random.default_rng(0)
    y = {
        "silence": np.zeros(2 * SAMPLING_RATE),
        "constant": np.full(2 * SAMPLING_RATE, 0.5),
        "click": np.eye(1, 2 * SAMPLING_RATE, SAMPLING_RATE)[0],
        "noise": rng.uniform(-1e-4, 1e-4, 2 * SAMPLING_RATE),
        "loud noise": rng.uniform(-1, 1, 2 * SAMPLING_RATE),
    }[sound].astype(np.float32)
    found = descriptors.compute(y, SAMPLING_RATE)
    assert (found.shape, found.dtype) == ((57,), np.float32)
    assert np.isfinite(found).all()
    assert (found[list(COLUMNS).index("rms_mean")] > 0) == (sound != "silence")


@pytest.mark.xdist_group("librosa")
def test_another_rate_is_resampled(music: Callable[..., Samples]) -> None:
    at_44100 = librosa.resample(music(), orig_sr=SAMPLING_RATE, target_sr=44100)
    found, wanted = (
        descriptors.compute(at_44100, 44100),
        descriptors.compute(music(), SAMPLING_RATE),
    )
    assert found[1] == pytest.approx(wanted[1], rel=0.05)
    centroid = list(COLUMNS).index("spectral_centroid_mean")
    assert found[centroid] == pytest.approx(wanted[centroid], rel=0.1)  # the filter's edge


def test_a_clip_that_is_too_short_says_so(tmp_path: Path, music: Callable[..., Samples]) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, music(seconds=2047 / SAMPLING_RATE), SAMPLING_RATE)
    with pytest.raises(InputError, match=r"short\.wav: .*too short for descriptors \(0\.093 s\)"):
        make_representation("descriptors").of_file(path)
    soundfile.write(path, music(seconds=2048 / SAMPLING_RATE), SAMPLING_RATE)
    assert np.isfinite(make_representation("descriptors").of_file(path)).all()


def test_a_published_row_wins_over_audio(tmp_path: Path) -> None:
    row = tuple(float(number) for number in range(57))
    track = Track("a", "pop", audio=tmp_path / "is-not-read.wav", descriptors=row)
    found = make_representation("descriptors").of_track(track)
    assert found.dtype == np.float32
    assert tuple(found) == row


def test_dividing_rows_by_their_norm_leaves_one_column(gtzan: Path) -> None:
    # What docs/why.md says of the study's normalisation.
    table = np.array([track.descriptors for track in open_dataset(gtzan).tracks])
    rows = table / np.linalg.norm(table, axis=1, keepdims=True)
    loudest = np.median(np.abs(rows), axis=0)
    assert descriptors.COLUMNS[int(loudest.argmax())] == "rolloff_var"
    assert loudest.max() == pytest.approx(0.968, abs=0.001)
    assert int((rows.std(axis=0) < 1e-4).sum()) == 39
