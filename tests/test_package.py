"""What ``import genrescope`` offers."""

from __future__ import annotations

import importlib.util
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import genrescope
from genrescope import audio
from genrescope.backbones.musicnn import NETWORKS
from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError, InputError

TOOL = Path(__file__).resolve().parents[1] / "tools" / "make_samples.py"


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, genrescope; dir(genrescope); genrescope.list_models(); "
        "sys.exit(', '.join({'numpy', 'onnxruntime', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_every_promised_name_is_there() -> None:
    assert all(getattr(genrescope, name) is not None for name in genrescope.__all__)
    assert set(genrescope.__all__) <= set(dir(genrescope))
    assert genrescope.Classifier is Classifier
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        genrescope.predict  # noqa: B018


def test_models_in_the_package_are_listed() -> None:
    assert genrescope.list_models("MSD*") == ["MSD_musicnn", "MSD_vgg"]
    assert genrescope.list_models() == [*NETWORKS, "default"]
    assert genrescope.load("default").key == genrescope.load().key
    with pytest.raises(InputError, match="MSD_vgg"):
        genrescope.load("MSD_vgg")


@pytest.mark.parametrize("name", genrescope.SAMPLES)
def test_samples_are_short_small_music(name: str) -> None:
    path = genrescope.sample(name)
    waveform, sampling_rate = audio.load(path)
    assert 8 < len(waveform) / sampling_rate <= 10
    assert path.stat().st_size <= 120_000
    assert 0.02 < np.sqrt(np.mean(waveform**2)) < 0.5
    assert np.abs(waveform).max() <= 1


def test_samples_are_of_different_characters() -> None:
    found = genrescope.load().predict([genrescope.sample(name) for name in genrescope.SAMPLES])
    assert len({prediction.genre for prediction in found}) == len(genrescope.SAMPLES)
    with pytest.raises(GenrescopeError, match="no sample 'x'; there are: lament"):
        genrescope.sample("x")


def test_the_samples_are_made_by_our_own_script(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_samples", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    made = tool.make(tmp_path / "one")
    again = tool.make(tmp_path / "two")
    assert [path.stem for path in made] == list(genrescope.SAMPLES)
    for one, two in zip(made, again, strict=True):
        assert one.read_bytes() == two.read_bytes()
        # Another release of the encoder may choose other bytes, not another sound.
        new, _ = audio.load(one)
        shipped, _ = audio.load(genrescope.sample(one.stem))
        assert np.corrcoef(new, shipped)[0, 1] > 0.99


def test_files_waveforms_and_lists_are_predicted_alike(tmp_path: Path) -> None:
    classifier = genrescope.load()
    path = genrescope.sample()
    waveform, sampling_rate = audio.load(path, 16000)
    one = classifier.predict(path)
    assert classifier.predict([path, str(path)]) == [one, one]
    assert classifier.predict([waveform], sampling_rate)[0].genre == one.genre
    assert classifier.predict([]) == []
    with pytest.raises(InputError, match="gone"):
        classifier.predict([path, tmp_path / "gone.mp3", path])


@pytest.mark.parametrize(
    "what",
    [
        genrescope.load,
        Classifier.predict,
        Classifier.timeline,
        Classifier.logits,
        Classifier.probabilities,
    ],
)
def test_docstrings_state_shapes_or_units(what: object) -> None:
    text = inspect.getdoc(what) or ""
    assert "float32" in text or "see ``predict``" in text.lower()


def test_the_models_card_is_the_one_that_is_written_today(tmp_path: Path) -> None:
    export = pytest.importorskip("genrescope.training.export", reason="needs genrescope[train]")
    model = genrescope.load()
    folder = Path(shutil.copytree(model.folder, tmp_path / "default"))
    config = model.config
    export.describe(
        folder,
        model.representation,
        config.genres,
        config.trained,
        config.unsure_below,
        config.other_above,
    )
    for name in ("README.md", "config.json"):
        assert (folder / name).read_bytes() == (model.folder / name).read_bytes()
