"""What is no music is of none of the genres, for the packaged model and the score alone."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import genrescope
from genrescope.audio import load
from genrescope.hub import find_model
from genrescope.models.other import OtherScore
from genrescope.representations import Representation, make_representation
from sounds import NOT_MUSIC, OTHER_MUSIC, RATE, SECONDS, sounds

LAYERS = ["penultimate", "pooled", "tags"]
MIN_REJECTED = 0.95


@pytest.fixture(scope="module")
def embedding() -> Representation:
    return make_representation("embedding", {"backbones": ["MSD_musicnn"], "layers": LAYERS})


@pytest.mark.parametrize("kind", [*NOT_MUSIC, *OTHER_MUSIC])
def test_sounds_are_made_from_their_seed(kind: str) -> None:
    makers = {kind: (NOT_MUSIC | OTHER_MUSIC)[kind]}
    (_, one), (_, another) = sounds(makers, 2, seed=5)
    (_, again), _ = sounds(makers, 2, seed=5)
    np.testing.assert_array_equal(one, again)
    assert one.dtype == np.float32
    assert one.shape == (RATE * SECONDS,)
    assert np.isfinite(one).all()
    assert not np.array_equal(one, another)


def test_a_score_of_the_samples_rejects_what_is_no_music_at_any_level(
    embedding: Representation,
) -> None:
    clips = [load(genrescope.sample(name), RATE)[0] for name in genrescope.SAMPLES]
    rows = [embedding.analyse(clip, RATE).arrays for clip in clips]
    labels = np.repeat(np.arange(len(rows)), [len(windows) for windows in rows])
    other = OtherScore(np.concatenate(rows), labels)

    def score(waveform: NDArray[np.float32]) -> float:
        row = embedding.compute(waveform, RATE)
        with torch.no_grad():
            return float(other(torch.from_numpy(row[None])))

    known = max(score(clip) for clip in clips)
    for kind, waveform in sounds(NOT_MUSIC, 1):
        assert score(waveform) > 2 * known, kind
        assert score(waveform) == pytest.approx(score(waveform * np.float32(0.25)), rel=1e-3), kind


def test_the_packaged_model_rejects_what_is_no_music() -> None:
    folder = find_model(None)
    above = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("other_above")
    if above is None:
        pytest.skip("the packaged model has no other_above: it was trained without `other: true`")
    representation = genrescope.load().representation
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    rejected: dict[str, list[bool]] = {}
    for kind, waveform in sounds(NOT_MUSIC, 10):
        row = representation.compute(waveform, RATE)[None]
        score = session.run(["other"], {session.get_inputs()[0].name: row})[0][0]
        rejected.setdefault(kind, []).append(bool(score > above))
    shares = {kind: np.mean(found) for kind, found in rejected.items()}
    assert np.mean(list(shares.values())) >= MIN_REJECTED, shares
