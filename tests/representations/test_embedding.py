"""The pretrained taggers give what the original package gave, and the same under torch."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import genrescope
from genrescope.backbones import log_mel
from genrescope.backbones.backbone import open_backbone
from genrescope.backbones.musicnn import NETWORKS, TAGGERS, merge_tags
from genrescope.errors import GenrescopeError
from genrescope.representations import make_representation

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def convert() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TOOLS))
    yield importlib.import_module("convert_musicnn")
    sys.path.remove(str(TOOLS))


@pytest.mark.parametrize("name", NETWORKS)
def test_mean_tags_are_those_of_the_original_package(name: str, convert: ModuleType) -> None:
    # reference.json was written by the unmodified package under TensorFlow 1.15.
    reference = json.loads((TOOLS / "reference.json").read_text())["models"][name]
    analysed = open_backbone(name).encode(convert.reference_signal())
    assert len(analysed.tags) == reference["patches"]
    np.testing.assert_allclose(analysed.tags.mean(axis=0), reference["mean_tags"], atol=1e-4)
    names = open_backbone(name).tag_names
    assert [names[i] for i in analysed.tags.mean(axis=0).argsort()[:-6:-1]] == reference["top"]


@pytest.mark.slow
def test_onnx_gives_what_the_whole_network_gives_in_torch(
    convert: ModuleType, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pip", "download", "musicnn==0.1.0", "--no-deps", "--quiet"]
    got = subprocess.run([*command, "--dest", str(tmp_path)], check=False, timeout=300)
    if got.returncode:
        pytest.skip("needs the musicnn wheel from PyPI")
    archive = convert.read_wheel(tmp_path / convert.WHEEL)
    patches = log_mel.patches(log_mel.compute(convert.reference_signal(), log_mel.SAMPLING_RATE))
    for name in NETWORKS:
        variables = convert.read_checkpoint(archive, name)
        network = convert.from_tensorflow(name, {k: torch.tensor(v) for k, v in variables.items()})
        with torch.no_grad():
            expected = network(torch.from_numpy(patches))
        analysed = open_backbone(name).encode(convert.reference_signal())
        np.testing.assert_allclose(analysed.tags, expected.tags.numpy(), atol=1e-4)
        np.testing.assert_allclose(
            analysed.layers["penultimate"], expected.penultimate.numpy(), atol=1e-4
        )


def music(seconds: float) -> np.ndarray:
    n = np.arange(round(16000 * seconds))
    chord = sum(np.sin(2 * np.pi * f * n / 16000) for f in (220, 277, 330))
    return (0.2 * chord * np.exp(-(n % 8000) / 4000)).astype(np.float32)


def test_compute_is_the_mean_of_the_windows() -> None:
    embedding = make_representation("embedding", {"layers": ["penultimate", "pooled"]})
    analysis = embedding.analyse(music(10), 16000)
    assert analysis.arrays.shape == (3, *embedding.shape)
    assert analysis.window_s == pytest.approx(2.992)
    np.testing.assert_array_equal(embedding.compute(music(10), 16000), analysis.arrays.mean(axis=0))
    assert list(analysis.tags.values()) == sorted(analysis.tags.values(), reverse=True)
    assert len(analysis.tags) == 50


def test_several_backbones_stand_side_by_side() -> None:
    names = ["MSD_musicnn", "MTT_vgg"]
    both = make_representation("embedding", {"backbones": names}).compute(music(4), 16000)
    single = [
        make_representation("embedding", {"backbones": [name]}).compute(music(4), 16000)
        for name in names
    ]
    np.testing.assert_array_equal(both, np.concatenate(single))


@pytest.mark.parametrize("seconds", [0.02, 0.5, 2.9])
def test_a_clip_shorter_than_a_window_is_repeated(seconds: float) -> None:
    array = make_representation("embedding").compute(music(seconds), 16000)
    assert np.isfinite(array).all()


@pytest.mark.parametrize("seconds", [0.1, 2.0, 2.9, 4.0, 5.9])
def test_all_of_a_clip_shorter_than_two_windows_is_analysed(seconds: float) -> None:
    embedding = make_representation("embedding")
    clip = music(seconds)
    changed = clip.copy()
    changed[-len(clip) // 10 :] = 0
    analysis = embedding.analyse(clip, 16000)
    assert len(analysis.arrays) == 1
    assert not np.allclose(analysis.arrays, embedding.analyse(changed, 16000).arrays)


def test_silence_is_finite() -> None:
    silence = np.zeros(48000, dtype=np.float32)
    assert np.isfinite(make_representation("embedding").compute(silence, 16000)).all()


@pytest.mark.parametrize(
    "parameters",
    [{"backbones": ["MSD_deep"]}, {"layers": ["last"]}, {"backbones": []}, {"layers": []}],
)
def test_what_there_is_not_is_named(parameters: dict) -> None:
    with pytest.raises(GenrescopeError):
        make_representation("embedding", parameters)


def synonyms() -> dict[str, list[str]]:
    folder = Path(genrescope.__file__).parent / "weights" / "musicnn"
    return json.loads((folder / "synonyms.json").read_text())


def test_synonyms_are_tags_of_the_taggers_each_with_one_name() -> None:
    known = {tag for name in TAGGERS for tag in open_backbone(name).tag_names}
    tags = [tag for names in synonyms().values() for tag in names]
    assert len(tags) == len(set(tags))
    assert {*tags, *synonyms()} <= known
    assert not {*tags} & {*synonyms()}  # a name is not renamed


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["female", "woman", "female vocalists", "techno", "beat", "fado"]),
            st.floats(0, 1),
        ),
        max_size=3,
    )
)
def test_a_merged_tag_is_as_likely_as_its_likeliest_synonym(rankings: list) -> None:
    merged = merge_tags(rankings)
    names = {tag: name for name, tags in synonyms().items() for tag in tags}
    assert not merged.keys() & names.keys()
    assert list(merged.values()) == sorted(merged.values(), reverse=True)
    expected: dict[str, list[float]] = {}
    for ranking in rankings:
        for tag, likelihood in ranking.items():
            expected.setdefault(names.get(tag, tag), []).append(likelihood)
    assert merged == {name: max(likelihoods) for name, likelihoods in expected.items()}


@pytest.mark.parametrize("backbones", [["MSD_musicnn"], ["MTT_musicnn"], ["MTT_vgg"]])
def test_more_tags_are_those_of_both_taggers_and_change_nothing_else(backbones: list[str]) -> None:
    plain = make_representation("embedding", {"backbones": backbones})
    more = make_representation("embedding", {"backbones": backbones, "more_tags": True})
    path = genrescope.sample("pulse")
    few, many = plain.analyse_file(path), more.analyse_file(path)
    assert np.array_equal(few.arrays, many.arrays)
    each = [
        make_representation("embedding", {"backbones": [name]}).analyse_file(path).tags
        for name in (*backbones, *TAGGERS)
    ]
    assert many.tags == merge_tags(each)
    assert {"techno", "House"} <= many.tags.keys()  # of one tagger each
    parts = list(more.analyse_windows(path))
    assert np.array_equal(parts[0].arrays, next(iter(plain.analyse_windows(path))).arrays)


def test_more_tags_are_a_parameter_that_older_models_lack(checkpoints: Callable) -> None:
    plain = make_representation("embedding")
    assert "more_tags" not in plain.to_json()
    more = make_representation("embedding", {"more_tags": True})
    assert more.to_json()["more_tags"] is True
    assert more.key != plain.key
    settings = {**checkpoints("onnx-waveform"), "more_tags": True}
    with pytest.raises(GenrescopeError, match="with more_tags those of musicnn's networks"):
        make_representation("embedding", settings)


def test_top_tags_of_real_clips(gtzan: Path) -> None:
    from genrescope.audio import load

    embedding = make_representation("embedding")
    for clip, tag in (("metal/metal.00000", "metal"), ("jazz/jazz.00002", "jazz")):
        waveform, sampling_rate = load(
            gtzan / "genres_original" / f"{clip}.flac", embedding.sampling_rate
        )
        assert tag in list(embedding.analyse(waveform, sampling_rate).tags)[:5]
