"""What a tagger analyses in the published pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genrescope.audio import load
from genrescope.backbones import log_mel
from genrescope.datasets.open import open_dataset
from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation, picture
from genrescope.representations.picture_embedding import to_log_mel

SAMPLING_RATE = 22050


def test_a_tone_comes_to_stand_in_the_band_of_its_frequency() -> None:
    time = np.arange(30 * SAMPLING_RATE) / SAMPLING_RATE
    for frequency in (220.0, 1000.0, 4000.0):
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        likeness = to_log_mel(picture.grid_of_waveform(tone, SAMPLING_RATE), loudest=5.0)
        true = log_mel.compute(tone, SAMPLING_RATE)
        assert likeness.shape == (1870, 96)
        loudest = likeness.mean(axis=0).argmax(), true.mean(axis=0).argmax()
        assert abs(int(loudest[0]) - int(loudest[1])) <= 1


def test_a_beat_comes_to_stand_at_its_time() -> None:
    noise = np.random.default_rng(0).standard_normal(30 * SAMPLING_RATE).astype(np.float32) * 0.5
    noise[: 20 * SAMPLING_RATE] *= 0.01
    likeness = to_log_mel(picture.grid_of_waveform(noise, SAMPLING_RATE), loudest=5.0).mean(axis=1)
    jump = int(np.diff(likeness).argmax())
    assert jump * 0.016 == pytest.approx(20.0, abs=0.2)


def test_loudest_sets_the_level() -> None:
    grid = np.full((128, 336), 255, dtype=np.uint8)
    np.testing.assert_allclose(to_log_mel(grid, 5.0), 5.0, atol=1e-4)
    np.testing.assert_allclose(to_log_mel(grid, 3.0), np.log10(1001), atol=1e-4)


def test_layers_are_those_asked_for(music: Callable[..., np.ndarray]) -> None:
    both = make_representation("picture-embedding", {"layers": ["tags", "penultimate"]})
    tags = make_representation("picture-embedding", {"layers": ["tags"]})
    clip = music(5.0)
    np.testing.assert_array_equal(
        both.compute(clip, SAMPLING_RATE)[:50], tags.compute(clip, SAMPLING_RATE)
    )
    assert both.shape == (250,)
    networks = ["MTT_musicnn", "MSD_musicnn"]
    beside = make_representation("picture-embedding", {"backbones": networks, "layers": ["tags"]})
    np.testing.assert_array_equal(
        beside.compute(clip, SAMPLING_RATE)[50:], tags.compute(clip, SAMPLING_RATE)
    )
    with pytest.raises(GenrescopeError, match="list"):
        make_representation("picture-embedding", {"backbones": "MSD_musicnn"})
    with pytest.raises(GenrescopeError, match="colour"):
        make_representation("picture-embedding", {"layers": ["colour"]})


def test_real_pictures_sound_like_their_audio(gtzan: Path) -> None:
    # Tags of the picture go with those of the audio of the same track, not another's.
    in_picture = make_representation("picture-embedding", {"layers": ["tags"]})
    in_audio = make_representation("embedding", {"layers": ["tags"]})
    tracks = [
        t for t in open_dataset(gtzan).tracks if t.audio_variant == "full" and t.audio and t.image
    ]
    chosen = tracks[::10]
    seen = np.stack([in_picture.of_track(track) for track in chosen])
    analysed = np.stack([in_audio.of_file(track.audio) for track in chosen])
    apart = seen - seen.mean(axis=0), analysed - analysed.mean(axis=0)
    alike = np.corrcoef(*apart)[: len(chosen), len(chosen) :]
    own = alike.diagonal().mean()
    assert own > 0.5
    assert own > alike.mean() + 0.4


def test_a_picture_and_its_clip_give_the_same(gtzan: Path) -> None:
    track = next(t for t in open_dataset(gtzan).tracks if t.audio_variant == "full" and t.audio)
    analyses = make_representation("picture-embedding")
    waveform, sampling_rate = load(track.audio, SAMPLING_RATE)
    drawn, published = analyses.compute(waveform, sampling_rate), analyses.of_track(track)
    np.testing.assert_allclose(drawn, published, atol=0.05 * np.abs(published).max())
