"""A model as one ONNX file gives what the classifier gives, for audio of any length."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import commands
import genrescope
from genrescope.audio import decode, level_gain
from genrescope.audio.spectral import mel_spectrogram
from genrescope.audio.waveform import Waveform
from genrescope.backbones import log_mel
from genrescope.classifier import ONNX, Classifier
from genrescope.errors import GenrescopeError, InputError

onnx = pytest.importorskip("onnx", reason="models are exported with genrescope[train]")

from genrescope.onnx_export import spectral  # noqa: E402

RATE = log_mel.SAMPLING_RATE
SaveModel = Callable[..., Classifier]
Evaluate = Callable[..., NDArray[np.float32]]
PATCH = log_mel.PATCH * log_mel.HOP  # samples
LENGTHS = (257, 300, 5000, PATCH - 257, PATCH, 70_000, 2 * PATCH - 257, 2 * PATCH, 5 * PATCH + 99)


@pytest.fixture(scope="module")
def exported(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "genres.onnx"
    genrescope.export_onnx(classifier, path)
    return path


def run(path: Path, waveform: Waveform) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"waveform": waveform[None]}), strict=True))


def check_same(classifier: Classifier, path: Path, waveform: Waveform) -> None:
    found = run(path, waveform)
    prediction = classifier.predict(waveform, RATE)
    expected = [prediction.probabilities[genre] for genre in classifier.genres]
    np.testing.assert_allclose(found["probabilities"], [expected], atol=1e-4)
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    tags = [prediction.tags[tag] for tag in json.loads(metadata["tags"])]
    np.testing.assert_allclose(found["tags"], [tags], atol=1e-4)
    columns = classifier.representation.compute(waveform, RATE)
    # Of 16 ms, the networks amplify the rounding of the spectra.
    np.testing.assert_allclose(found["embedding"], [columns], atol=1e-3 * np.abs(columns).max())


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_clip_of_any_length_gives_what_predict_gives(
    classifier: Classifier, exported: Path, samples: int
) -> None:
    whole = np.tile(decode(genrescope.sample("shuffle"), RATE).waveform, 3)
    check_same(classifier, exported, whole[20_000 : 20_000 + samples])


@pytest.mark.parametrize("gain", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("sample", genrescope.SAMPLES)
def test_samples_at_any_level_give_what_predict_gives(
    classifier: Classifier, exported: Path, sample: str, gain: float
) -> None:
    waveform = decode(genrescope.sample(sample), RATE).waveform
    check_same(classifier, exported, waveform * np.float32(gain))


@pytest.mark.parametrize("genre", ["blues", "classical", "hiphop", "jazz", "metal"])
def test_real_clips_give_what_predict_gives(
    classifier: Classifier, exported: Path, gtzan: Path, genre: str
) -> None:
    clip = gtzan / "genres_original" / genre / f"{genre}.00005.flac"
    check_same(classifier, exported, decode(clip, RATE).waveform)


def test_several_networks_give_what_predict_gives(tmp_path: Path, save_model: SaveModel) -> None:
    classifier = save_model(
        tmp_path / "model", backbones=["MTT_vgg", "MSD_musicnn"], layers=["tags", "pooled"]
    )
    genrescope.export_onnx(classifier, tmp_path / "genres.onnx")
    waveform = decode(genrescope.sample("pulse"), RATE).waveform
    check_same(classifier, tmp_path / "genres.onnx", waveform)


def test_silence_gives_finite_numbers(exported: Path) -> None:
    found = run(exported, np.zeros(50_000, np.float32))
    assert all(np.isfinite(values).all() for values in found.values())
    assert found["probabilities"].sum() == pytest.approx(1)


def test_the_file_says_what_it_is(classifier: Classifier, exported: Path) -> None:
    metadata = onnxruntime.InferenceSession(exported).get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["genres"])) == classifier.genres
    assert json.loads(metadata["tags"])[:2] == ["rock", "pop"]
    assert json.loads(metadata["sampling_rates"]) == {"waveform": RATE}
    assert metadata["license"] == "cc0-1.0"
    assert "Permission to use, copy, modify" in metadata["notices"]
    assert metadata["genrescope_version"] == genrescope.__version__
    assert json.loads(metadata["representation"]) == classifier.config.representation
    assert json.loads(metadata["trained"])["recipe"] == "linear"


# --- Parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 1599, 1600, 3199, 50_001])
def test_the_level_does_not_count_pauses(
    evaluate: Evaluate, music: Callable[..., Waveform], samples: int
) -> None:
    waveform = music(4.0, RATE)[100:][:samples]  # from where it is loud
    waveform[samples // 2 :] *= 1e-3
    found = evaluate(lambda graph, value: spectral.levelled(graph, value, RATE), waveform)
    expected = waveform * np.float32(level_gain(waveform, RATE))
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


@pytest.mark.parametrize("setting", [(16000, 512, 256, 96), (22050, 2048, 512, 128)])
def test_mel_bands_are_those_of_the_package(
    evaluate: Evaluate, music: Callable[..., Waveform], setting: tuple[int, int, int, int]
) -> None:
    waveform = music(2.0, setting[0])
    found = evaluate(
        lambda graph, value: spectral.mel_spectrogram(graph, value, *setting), waveform, 3
    )
    np.testing.assert_allclose(found[0], mel_spectrogram(waveform, *setting), rtol=1e-5)


@pytest.mark.parametrize("samples", LENGTHS)
def test_patches_are_those_of_the_package(
    evaluate: Evaluate, music: Callable[..., Waveform], samples: int
) -> None:
    waveform = music(16.0, RATE)[:samples]
    found = evaluate(spectral.log_mel_patches, waveform, dimensions=3)
    np.testing.assert_allclose(found, log_mel.to_patches(waveform), atol=1e-5)


# --- What is refused -----------------------------------------------------------------------------


def test_a_representation_without_operators_is_refused(
    tmp_path: Path, save_model: SaveModel
) -> None:
    classifier = save_model(tmp_path / "model", "mfcc", coefficients=4, seconds=1.0)
    with pytest.raises(GenrescopeError, match="the representation mfcc cannot be exported"):
        genrescope.export_onnx(classifier, tmp_path / "genres.onnx")
    assert not (tmp_path / "genres.onnx").exists()


def test_a_backbone_without_operators_is_refused(
    tmp_path: Path, save_model: SaveModel, checkpoints: Callable[[str], dict[str, object]]
) -> None:
    classifier = save_model(tmp_path / "model", **checkpoints("onnx-log-mel"))
    with pytest.raises(GenrescopeError, match="a backbone of the kind onnx cannot be exported"):
        genrescope.export_onnx(classifier, tmp_path / "genres.onnx")


def test_a_head_of_other_operators_is_refused(tmp_path: Path, save_model: SaveModel) -> None:
    save_model(tmp_path / "model")
    path = tmp_path / "model" / ONNX
    network = onnx.load(path)
    network.opset_import[0].version = 18
    onnx.save(network, path)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "files": {}}))
    with pytest.raises(InputError, match=r"are those of ai\.onnx 18, not ai\.onnx 17") as caught:
        genrescope.export_onnx(Classifier(tmp_path / "model"), tmp_path / "genres.onnx")
    assert caught.value.path == path


@pytest.mark.parametrize("name", ["model/model.onnx", "song.onnx"])
def test_models_and_audio_are_not_replaced(
    tmp_path: Path, save_model: SaveModel, name: str
) -> None:
    classifier = save_model(tmp_path / "model")
    (tmp_path / "song.onnx").write_bytes(genrescope.sample().read_bytes())
    before = (tmp_path / name).read_bytes()
    with pytest.raises(InputError, match=r"would replace it|it is audio"):
        genrescope.export_onnx(classifier, tmp_path / name)
    assert (tmp_path / name).read_bytes() == before


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util; sys.modules['onnx'] = None\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'onnx' else find(name)\n"
        "import genrescope\n"
        "try: genrescope.export_onnx(None, 'genres.onnx')\n"
        "except genrescope.GenrescopeError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ".[train]" in done.stdout


# --- The command ---------------------------------------------------------------------------------


def test_the_command_replaces_a_file_only_with_force(
    tmp_path: Path, classifier: Classifier
) -> None:
    words = ("export-onnx", "genres.onnx", "--model", classifier.folder)
    done = commands.run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "genres.onnx: 3 genres, from waveform at 16,000 Hz\n"
    content = (tmp_path / "genres.onnx").read_bytes()
    (tmp_path / "genres.onnx").write_bytes(b"something else")
    done = commands.run(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "genres.onnx: the file exists. Give another name, or replace it with --force." in (
        done.stderr
    )
    assert (tmp_path / "genres.onnx").read_bytes() == b"something else"
    done = commands.run(*words, "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "genres.onnx").read_bytes()) == len(content)
    assert [path.name for path in tmp_path.iterdir()] == ["genres.onnx"]
