"""The picture's columns and the members of a classifier, as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import genrescope
from genrescope.audio import decode, resample
from genrescope.audio.waveform import Waveform
from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation, picture
from genrescope.representations.picture_embedding import to_log_mel

pytest.importorskip("onnx", reason="models are exported with genrescope[train]")

from genrescope.onnx_export import picture as operators
from genrescope.onnx_export.columns import add_columns
from genrescope.onnx_graph import OnnxGraph

RATE, LOW_RATE = picture.SAMPLING_RATE, 16_000
WHOLE = round(picture.STRETCH_S * RATE)
LENGTHS = (1100, 50_000, *(round(part * WHOLE) for part in (0.949, 0.951, 1.049, 1.051, 2.06)))
REAL = ("blues", "classical", "hiphop", "metal")
Evaluate = Callable[..., NDArray[np.float32]]
PARTS = ("picture-embedding", "picture-second-order", "block-level", "picture-concat")


def columns_of(name: str) -> Callable[[OnnxGraph, str], str]:
    """Operators from grids, whose colours stand in the place of a waveform's samples."""
    representation = make_representation(name)

    def build(graph: OnnxGraph, waveform: str) -> str:
        grid = graph.Reshape(waveform, [1, picture.BINS, picture.COLUMNS])
        return operators.add_grid_columns(representation, graph, grid)

    return build


def check_columns(evaluate: Evaluate, name: str, waveform: Waveform) -> None:
    grid = picture.grid_of_waveform(waveform, RATE)
    found = evaluate(columns_of(name), grid.ravel().astype(np.float32))
    expected = make_representation(name).of_grid(grid)
    np.testing.assert_allclose(found[0], expected, atol=1e-5 * np.abs(expected).max())


def audio(clip: Path | str) -> Waveform:
    return decode(Path(clip), RATE).waveform


@pytest.fixture(scope="module")
def swing() -> Waveform:
    return np.tile(audio(genrescope.sample("shuffle")), 8)


@pytest.mark.parametrize("samples", LENGTHS)
def test_stretches_are_those_of_the_package(
    evaluate: Evaluate, swing: Waveform, samples: int
) -> None:
    found = evaluate(operators.stretches, swing[:samples])
    np.testing.assert_array_equal(found, picture.stretches(swing[:samples], RATE))


@pytest.mark.parametrize("samples", LENGTHS)
def test_grids_are_those_of_the_package(evaluate: Evaluate, swing: Waveform, samples: int) -> None:
    found = evaluate(operators.grids, swing[:samples], dimensions=3)[0]
    expected = picture.grid_of_waveform(swing[:samples], RATE).astype(np.float32)
    # Rounding puts single points on the other side of a colour's limit.
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found != expected) < 1e-3


def test_of_silence_the_grid_is_black(evaluate: Evaluate) -> None:
    assert not evaluate(operators.grids, np.zeros(50_000, np.float32), dimensions=3).any()


def test_a_grid_becomes_the_patches_of_the_package(evaluate: Evaluate, swing: Waveform) -> None:
    grid = picture.grid_of_waveform(swing[:WHOLE], RATE)

    def build(graph: OnnxGraph, waveform: str) -> str:
        shown = graph.Reshape(waveform, [1, picture.BINS, picture.COLUMNS])
        return operators.log_mel_patches(graph, shown, 5.0)

    found = evaluate(build, grid.ravel().astype(np.float32), dimensions=3)
    np.testing.assert_allclose(found.reshape(-1, 96), to_log_mel(grid, 5.0), atol=1e-5)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("sample", genrescope.SAMPLES)
def test_columns_are_those_of_the_package(evaluate: Evaluate, name: str, sample: str) -> None:
    check_columns(evaluate, name, audio(genrescope.sample(sample)))


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("genre", REAL)
def test_columns_of_real_clips_are_those_of_the_package(
    evaluate: Evaluate, gtzan: Path, name: str, genre: str
) -> None:
    check_columns(evaluate, name, audio(gtzan / "genres_original" / genre / f"{genre}.00005.flac"))


def test_columns_of_silence_are_those_of_the_package(evaluate: Evaluate) -> None:
    for name in PARTS:
        check_columns(evaluate, name, np.zeros(WHOLE, np.float32))


# --- Whole models --------------------------------------------------------------------------------


def check_same(classifier: Classifier, folder: Path, waveform: Waveform) -> None:
    sampling_rates = genrescope.export_onnx(classifier, folder / "genres.onnx")
    session = onnxruntime.InferenceSession(folder / "genres.onnx")
    inputs = {name: resample(waveform, RATE, rate) for name, rate in sampling_rates.items()}
    names = ["probabilities", "embedding"]
    found = session.run(names, {name: samples[None] for name, samples in inputs.items()})
    predicted, embedding = classifier.analyse(waveform, RATE)
    if classifier.config.other_above is not None:
        [score] = session.run(["other"], {name: one[None] for name, one in inputs.items()})[0]
        above = float(session.get_modelmeta().custom_metadata_map["other_above"])
        assert (score > above) == predicted.other
    expected = [predicted.probabilities[genre] for genre in classifier.genres]
    np.testing.assert_allclose(found[0], [expected], atol=1e-4)
    np.testing.assert_allclose(found[1], [embedding], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["second-order", "picture-concat"])
def test_models_without_an_embedding_give_what_predict_gives(
    name: str, swing: Waveform, save_model: Callable[..., Classifier], tmp_path: Path
) -> None:
    check_same(save_model(tmp_path / "model", name), tmp_path, swing[:200_000])


@pytest.mark.parametrize("seconds", [1.0, 2.99, 3.0, 20.0, 70.0])
def test_members_give_what_predict_gives(
    seconds: float, swing: Waveform, save_model: Callable[..., Classifier], tmp_path: Path
) -> None:
    classifier = save_model(tmp_path / "model", "members")
    check_same(classifier, tmp_path, swing[: round(seconds * RATE)])


@pytest.mark.parametrize("genre", REAL)
def test_the_default_gives_what_predict_gives_for_real_clips(
    gtzan: Path, tmp_path: Path, genre: str
) -> None:
    waveform = audio(gtzan / "genres_original" / genre / f"{genre}.00005.flac")
    check_same(genrescope.load(), tmp_path, waveform)


def test_the_default_has_two_inputs_and_tags(tmp_path: Path) -> None:
    sampling_rates = genrescope.export_onnx(genrescope.load(), tmp_path / "genres.onnx")
    assert sampling_rates == {"waveform": LOW_RATE, "waveform_22050": RATE}
    session = onnxruntime.InferenceSession(tmp_path / "genres.onnx")
    names = [own.name for own in session.get_outputs()]
    assert names == ["probabilities", "embedding", "tags", "other"]


def test_the_default_knows_music_of_no_genre(tmp_path: Path) -> None:
    classifier = genrescope.load()
    answers = set()
    for name in genrescope.SAMPLES:
        waveform = audio(genrescope.sample(name))
        check_same(classifier, tmp_path, waveform)
        answers.add(classifier.predict(waveform, RATE).other)
    assert answers == {True, False}


def test_fast_needs_no_picture(swing: Waveform, tmp_path: Path) -> None:
    fast = genrescope.load(quality="fast")
    assert genrescope.export_onnx(fast, tmp_path / "genres.onnx") == {"waveform": LOW_RATE}
    check_same(fast, tmp_path, swing[:400_000])


@pytest.mark.parametrize("gain", [1e-3, 30.0])
def test_the_level_does_not_matter(
    gain: float, swing: Waveform, save_model: Callable[..., Classifier], tmp_path: Path
) -> None:
    classifier = save_model(tmp_path / "model", "picture-concat")
    check_same(classifier, tmp_path, swing[:400_000] * np.float32(gain))


def test_a_representation_of_the_picture_without_operators_is_refused() -> None:
    class Other(picture.GridColumns):
        name = "other"
        shape = (1,)

        def of_grid(self, grid: NDArray[np.uint8]) -> NDArray[np.float32]:
            return grid[:1, 0].astype(np.float32)

    with pytest.raises(GenrescopeError, match="the representation other cannot be exported"):
        add_columns(Other(), OnnxGraph())
