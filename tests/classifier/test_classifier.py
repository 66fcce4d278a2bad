import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError, InputError
from genrescope.representations import make_representation
from genrescope.training.export import export

REPRESENTATION = make_representation("mfcc", {"coefficients": 4, "seconds": 1.0})
GENRES = ("blues", "jazz", "rock")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    flat = int(np.prod(REPRESENTATION.shape))
    network = nn.Sequential(nn.Flatten(), nn.Linear(flat, len(GENRES))).eval()
    trained = {"recipe": "linear", "protocol": "filtered", "accuracy": 0.5, "n_test": 8}
    export(tmp_path / "model", network, REPRESENTATION, GENRES, trained)
    return tmp_path / "model"


def waveform(seconds: float = 1.0) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(round(22050 * seconds))
    return (0.1 * samples).astype(np.float32)


def test_probabilities_are_ranked_and_add_up(folder: Path) -> None:
    prediction = Classifier(folder).predict(waveform(), 22050)
    probabilities = list(prediction.probabilities.values())
    assert set(prediction.probabilities) == set(GENRES)
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)
    assert prediction.confidence == probabilities[0] == prediction.probabilities[prediction.genre]


def test_batches_of_any_size_give_the_same_as_one_by_one(folder: Path) -> None:
    classifier = Classifier(folder)
    arrays = np.random.default_rng(1).standard_normal((70, *REPRESENTATION.shape))
    arrays = arrays.astype(np.float32)
    single = np.concatenate([classifier.logits(array[None]) for array in arrays])
    np.testing.assert_allclose(classifier.logits(arrays), single, atol=1e-4)
    assert classifier.logits(arrays[:0]).shape == (0, len(GENRES))


def test_huge_logits_stay_finite(folder: Path) -> None:
    arrays = np.full((1, *REPRESENTATION.shape), 1e6, dtype=np.float32)
    probabilities = Classifier(folder).probabilities(arrays)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)


def test_saved_copy_is_the_same(folder: Path, tmp_path: Path) -> None:
    Classifier(folder).save_pretrained(tmp_path / "copy")
    shutil.rmtree(folder)
    copy = Classifier.from_pretrained(str(tmp_path / "copy"))
    assert copy.genres == GENRES
    assert copy.predict(waveform(), 22050).probabilities
    assert "0.500 on 8 test tracks" in (tmp_path / "copy" / "README.md").read_text()


def test_a_waveform_needs_its_rate(folder: Path) -> None:
    with pytest.raises(ValueError, match="rate"):
        Classifier(folder).predict(waveform())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["samples first", "channels first"])
def test_channels_are_mixed_in_either_order(folder: Path, order: str, dtype: type) -> None:
    mono = waveform(2.0)
    stereo = np.stack([mono + 0.1, mono - 0.1], axis=1 if order == "samples first" else 0)
    classifier = Classifier(folder)
    found = classifier.predict(stereo.astype(dtype), 22050).probabilities
    plain = classifier.predict(mono, sampling_rate=22050).probabilities
    assert found == pytest.approx(plain, abs=1e-4)
    rows = classifier.timeline(stereo.astype(dtype), 22050).probabilities
    np.testing.assert_allclose(rows, [[found[genre] for genre in GENRES]], atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (
            np.ones(22050, np.int16),
            r"not of int16; scale it first \(full-scale audio: samples / 32768\.0\)$",
        ),
        (np.ones(22050, np.uint8), r"not of uint8; scale it first .*: samples / 128\.0 - 1\)$"),
        (np.ones(22050, np.complex64), "not of complex64$"),
        (np.ones((2, 2, 22050)), r"not \(2, 2, 22050\)"),
        (np.zeros(22050), "silent"),
        (np.full(22050, np.nan), "finite"),
        (np.empty(0), "too short: it has no samples"),
    ],
)
def test_other_arrays_are_refused(folder: Path, samples: np.ndarray, words: str) -> None:
    classifier = Classifier(folder)
    with pytest.raises(ValueError, match=words) as error:
        classifier.predict(samples, 22050)
    assert isinstance(error.value, GenrescopeError)
    found = classifier.predict([waveform(), samples], 22050, on_error="return")
    assert [type(one).__name__ for one in found] == ["Prediction", "WaveformError"]


def test_it_says_what_it_is_and_survives_pickling(folder: Path) -> None:
    classifier = Classifier(str(folder), threads=1)
    text = repr(classifier)
    assert text == f"<Classifier: 3 genres, mfcc, accuracy 0.500 (filtered), {str(folder)!r}>"
    assert "members, accuracy 0.812 (grouped)" in repr(Classifier.default())
    copy = pickle.loads(pickle.dumps(classifier))  # noqa: S301  our own
    assert (repr(copy), copy.threads) == (text, 1)
    assert copy(waveform(), 22050) == classifier(waveform(), 22050)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_damaged_folders_are_refused_in_plain_words(folder: Path) -> None:
    for name in ("config.json", "model.onnx"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=name):
            Classifier(folder)
        (folder / name).unlink()
        with pytest.raises(InputError, match="no such file"):
            Classifier(folder)
        (folder / name).write_bytes(whole)
    Classifier(folder)
    for changes, words in (
        ({"format": 2}, "format"),
        ({"genres": ["one"]}, "genres"),
        ({"surprise": 1}, "surprise"),
        ({"representation": {"name": "melody", "version": 1}}, "melody"),
        ({"representation": {**REPRESENTATION.to_json(), "version": 99}}, "version 99"),
    ):
        before = (folder / "config.json").read_text()
        edit(folder, **changes)
        with pytest.raises(InputError, match=words):
            Classifier(folder)
        (folder / "config.json").write_text(before)


def test_weights_outside_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(10_000_000))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../secret.bin"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"model\.onnx"):
        Classifier(folder)
