"""A model folder may come from anybody: it works, or one line names the file that is refused."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genrescope
from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError, InputError
from genrescope.representations import make_representation

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT
GENRES = ("blues", "jazz", "rock")
MFCC = make_representation("mfcc", {"coefficients": 4, "seconds": 1.0})
WIDTH = int(np.prod(MFCC.shape))
SHIPPED = Path(genrescope.__file__).parent / "weights" / "default"

Shape = list[str | int]


def network(
    given: Shape | None = None,
    made: Shape | None = None,
    *,
    output: str = "logits",
    kind: int = FLOAT,
    domain: str = "",
    scale: float = 1.0,
    width: int = len(GENRES),
) -> Any:
    """Make a linear network of MFCCs, which may be wrong in several ways."""
    given = given or ["batch", *MFCC.shape]
    weights = np.random.default_rng(0).standard_normal((WIDTH, width)) * scale
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], [output], domain=domain),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", kind, given)],
        [helper.make_tensor_value_info(output, FLOAT, made or ["batch", width])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def write(folder: Path, model: Any = None, **settings: object) -> Path:
    """Write a model folder without hashes, as older ones are."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes((model or network()).SerializeToString())
    shown = {"genres": GENRES, "representation": MFCC.to_json(), **settings}
    (folder / "config.json").write_text(json.dumps(shown))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model")


@pytest.fixture
def sound(tone: Callable[..., Path], tmp_path: Path) -> Path:
    return tone(tmp_path / "tone.wav")


def refusal(folder: Path, name: str) -> str:
    """Open a folder that must be refused, in a line that names one of its files."""
    with pytest.raises(GenrescopeError) as caught:
        Classifier(folder)
    shown = str(caught.value)
    assert str(folder / name) in shown
    assert shown.isprintable()
    assert len(shown) < 1500
    return shown


def test_a_folder_without_hashes_is_opened(folder: Path, sound: Path) -> None:
    assert set(Classifier(folder).predict(sound).probabilities) == set(GENRES)


# The settings.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"genres": ["rock", "jazz", "rock"]}, "duplicate entry 'rock'"),
        ({"genres": ["rock", "  ", "jazz"]}, "genre's name is empty"),
        ({"genres": ["rock", "ja\nzz", "pop"]}, "line break or another control character"),
        ({"genres": ["rock", "\x1b[31mjazz", "pop"]}, "control character"),
        ({"genres": ["rock", "j" * 201, "pop"]}, "more than 200 letters"),
        ({"genres": [f"genre {i}" for i in range(1001)]}, "genres: .*1000"),
        ({"genres": "rock"}, "genres: .*array"),
        ({"genres": ["rock", 5, "jazz"]}, "genres.1: .*string"),
        ({"surprise": 1}, "surprise: "),
        ({"unsure_below": float("nan")}, "unsure_below: "),
        ({"unsure_below": "very"}, "unsure_below: "),
        ({"representation": ["mfcc"]}, "representation: "),
        ({"representation": {}}, "representation: .*name is missing"),
        ({"representation": {"name": ["mfcc"]}}, "representation: .*name is missing"),
        ({"representation": {"name": "x" * 10**5}}, "no representation"),
        ({"representation": {"name": "mfcc", "a\nb": 1}}, "unexpected keyword"),
        ({"files": {"model.onnx": "x"}}, r"files\.model\.onnx: "),
        ({"files": {"../model.onnx": "0" * 64}}, "files"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    changes: dict[str, object], words: str, folder: Path
) -> None:
    write(folder, **changes)
    with pytest.raises(InputError, match=words):
        Classifier(folder)
    refusal(folder, "config.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "recursion"),
        (b'{"genres": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
        (b'{"trained": {"a": [' + b"0," * 600_000 + b"0]}}", "more than 1,048,576"),
        (b"\xff\xfe{}", "."),
        (b"", "."),
        (b"null", "."),
    ],
)
def test_what_is_no_json_of_settings_is_refused(content: bytes, words: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=words):
        Classifier(folder)
    refusal(folder, "config.json")


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "mfcc", "seconds": 1e9},
        {"name": "mfcc", "seconds": 10**400},
        {"name": "mfcc", "seconds": 1.0, "hz": 2**40},
        {"name": "waveform", "seconds": 1e12},
        {"name": "mel-image", "size": 2**20},
        {"name": "segments", "of": "descriptors", "seconds": 1e9, "count": 1},
        {"name": "segments", "of": "descriptors", "seconds": 1.0, "count": 10**9},
        {"name": "segments", "of": {"name": "waveform", "seconds": 1000}, "count": 9999},
        {"name": "embedding", "version": 2, "windows": 10**9},
    ],
    ids=str,
)
def test_arrays_that_would_eat_memory_are_refused(settings: dict[str, Any], folder: Path) -> None:
    write(folder, representation={"version": 1, **settings})
    before = peak_bytes()
    assert "at most" in refusal(folder, "config.json")
    assert peak_bytes() - before < 2**27


def peak_bytes() -> int:
    resource = pytest.importorskip("resource")  # which Windows has not
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_segments_within_segments_within_segments_are_refused(folder: Path) -> None:
    of: dict[str, Any] = {"name": "descriptors"}
    for _ in range(150):
        of = {"name": "segments", "of": of}
    write(folder, representation={"version": 1, **of})
    assert "segments cannot be nested" in refusal(folder, "config.json")
    of = {"name": "descriptors"}
    for _ in range(20):
        of = {"name": "picture-concat", "of": ["block-level", {"name": "segments", "of": of}]}
    write(folder, representation={"version": 1, **of})
    assert "cannot be nested" in refusal(folder, "config.json")


@pytest.mark.parametrize("shown", ["onnx:{}", {"kind": "onnx", "source": "{}"}])
def test_a_network_beside_the_folder_must_be_pinned(
    shown: str | dict[str, str], folder: Path, tmp_path: Path
) -> None:
    # Or else the folder could name any file of anyone who opens it, and another one tomorrow.
    path = tmp_path / "beside.onnx"
    path.write_bytes(b"private")
    named = json.loads(json.dumps(shown).replace("{}", str(path)))
    write(folder, representation={"name": "embedding", "version": 2, "backbones": [named]})
    assert "holds no sha256 of the network" in refusal(folder, "config.json")
    inner = {"name": "embedding", "backbones": [named]}
    write(folder, representation={"name": "segments", "version": 1, "of": inner})
    assert "holds no sha256 of the network" in refusal(folder, "config.json")
    parts = ["block-level", {"name": "picture-embedding", "backbones": [named]}]
    write(folder, representation={"name": "picture-concat", "version": 1, "of": parts})
    assert "holds no sha256 of the network" in refusal(folder, "config.json")


def test_only_musicnns_networks_have_maps(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "beside.onnx"
    path.write_bytes(b"private")
    for name in ("second-order", "picture-second-order"):
        write(folder, representation={"name": name, "version": 1, "backbone": f"onnx:{path}"})
        assert "There is no backbone" in refusal(folder, "config.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", ["config.json", "model.onnx"])
def test_a_pipe_is_refused_and_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refusal(folder, name)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at a device of Linux")
def test_a_backbone_that_is_an_endless_device_is_refused(folder: Path) -> None:
    shown = {"kind": "onnx", "source": "/dev/zero", "sha256": "0" * 64}
    write(folder, representation={"name": "embedding", "version": 2, "backbones": [shown]})
    with pytest.raises(GenrescopeError, match=r"/dev/zero: .*it is not a regular file"):
        Classifier(folder)


# Sizes.


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [("config.json", 2**40, "1,048,576"), ("model.onnx", 2**40, "2,147,483,648")],
)
def test_huge_files_are_refused_before_they_are_read(
    name: str, size: int, words: str, folder: Path
) -> None:
    with (folder / name).open("r+b") as file:
        file.truncate(size)  # sparse: it takes no room
    begun = time.thread_time()
    shown = refusal(folder, name)
    assert words in shown
    assert f"{size:,}" in shown
    assert time.thread_time() - begun < 2


# The network.


def with_weights_elsewhere(location: str, *, constant: bool = False, overlong: bool = False) -> Any:
    """Make a network whose weights are to be read from another file."""
    model = network()
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    if constant:
        node = helper.make_node("Constant", [], ["weights"], value=tensor)
        model.graph.node.insert(0, node)
        del model.graph.initializer[:]
    return model


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("location", ["beside.bin", "../beside.bin", "{}/beside.bin"])
def test_weights_in_another_file_are_refused(
    location: str, constant: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ONNX Runtime would look for it in the folder that the process runs in.
    inside = folder / "inside"
    inside.mkdir()
    for place in (folder, inside):
        (place / "beside.bin").write_bytes(bytes(4 * WIDTH * len(GENRES)))
    monkeypatch.chdir(inside)
    write(folder, with_weights_elsewhere(location.format(folder), constant=constant))
    assert "it keeps weights in another file" in refusal(folder, "model.onnx")


def test_weights_in_another_file_are_refused_however_that_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "beside.bin").write_bytes(bytes(4 * WIDTH * len(GENRES)))
    plain = write(folder, with_weights_elsewhere("beside.bin")) / "model.onnx"
    whole = plain.read_bytes()
    assert whole.count(b"\x08location") == 1
    # The same network, with a length of more digits than it needs: two bytes more, in the entry,
    # the tensor and the graph that hold it.
    (model,) = [onnx.load_from_string(whole)]
    (entry,) = model.graph.initializer[0].external_data
    inner = b"\x0a\x88\x80\x00location" + b"\x12\x0abeside.bin"
    tensor = onnx.TensorProto()
    tensor.CopyFrom(model.graph.initializer[0])
    del tensor.external_data[:]
    wrapped = tensor.SerializeToString() + b"\x6a" + bytes([len(inner)]) + inner
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + b"\x2a" + length(wrapped) + wrapped
    model.ClearField("graph")
    plain.write_bytes(model.SerializeToString() + b"\x3a" + length(graph) + graph)
    (again,) = onnx.load(plain, load_external_data=False).graph.initializer[0].external_data
    assert (again.key, again.value) == (entry.key, entry.value)
    assert "it keeps weights in another file" in refusal(folder, "model.onnx")


def length(content: bytes) -> bytes:
    size, digits = len(content), b""
    while size > 127:
        digits += bytes([size % 128 + 128])
        size //= 128
    return digits + bytes([size])


def test_words_that_only_look_like_another_file_do_no_harm(folder: Path) -> None:
    model = network()
    model.doc_string = "its allocation, and the locations of its location"
    model.graph.node[0].name = "/encoder/location_embedding"
    write(folder, model)
    Classifier(folder)


def test_onnx_runtimes_own_format_is_refused(folder: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(folder / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession((folder / "model.onnx").read_bytes(), options)
    (folder / "model.ort").replace(folder / "model.onnx")
    assert "ONNX Runtime cannot read it" in refusal(folder, "model.onnx")


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "custom": (lambda: network(domain="their.own"), "custom operations, which are never loaded"),
    "float64": (lambda: network(kind=TensorProto.DOUBLE), "float32|cannot read it"),
    "rank": (lambda: network(["batch", WIDTH]), r"its input is \['batch', 176\], not \(batch, 4"),
    "shape": (lambda: network(["batch", 8, 22]), "its representation"),
    "one by one": (lambda: network([1, *MFCC.shape], [1, 3]), r"not \(batch, 4, 44\)"),
    "name": (lambda: network(output="scores"), "an output logits"),
    "genres": (lambda: network(width=4), "for the genres in config.json"),
}


@pytest.mark.parametrize("way", WRONG)
def test_a_network_that_does_not_fit_is_refused_when_it_is_opened(way: str, folder: Path) -> None:
    make, words = WRONG[way]
    write(folder, make())
    with pytest.raises(InputError, match=words):
        Classifier(folder)
    refusal(folder, "model.onnx")


def two_inputs() -> Any:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("more", FLOAT, ["batch"]))
    return model


def test_a_network_of_two_inputs_is_refused(folder: Path) -> None:
    write(folder, two_inputs())
    assert "one input, of float32" in refusal(folder, "model.onnx")


def two_logits_in_the_end() -> Any:
    """Make a network that does not state how many logits it gives, and gives too few."""
    model = network(made=["batch", "some"])
    model.graph.node[1].output[0] = "all"
    model.graph.node.append(helper.make_node("Compress", ["all", "kept"], ["logits"], axis=1))
    kept = numpy_helper.from_array(np.array([True, True, False]), "kept")
    model.graph.initializer.append(kept)
    return model


LATER: dict[str, tuple[Callable[[], Any], str]] = {
    "infinite": (lambda: network(scale=1e37), "its logits are not all finite numbers"),
    "width": (two_logits_in_the_end, r"its logits are of shape \(1, 2\), not \(1, 3\)"),
}


@pytest.mark.parametrize("way", LATER)
def test_what_shows_only_when_it_analyses_names_the_clip(
    way: str, folder: Path, sound: Path
) -> None:
    make, words = LATER[way]
    classifier = Classifier(write(folder, make()))
    for attempt in (classifier.predict, classifier.timeline):
        with pytest.raises(InputError, match=rf"the classifier's model\.onnx fails on it: {words}"):
            attempt(sound)
    with pytest.raises(InputError, match=rf"model\.onnx: {words}"):
        classifier.predict(np.ones(22050, np.float32), 22050)


def test_a_network_that_cannot_run_is_reported(folder: Path) -> None:
    classifier = Classifier(folder)
    with pytest.raises(InputError, match=r"model\.onnx: it cannot run on arrays of shape \(1, 9\)"):
        classifier.logits(np.zeros((1, 9), np.float32))


def test_a_waveform_that_is_not_finite_is_not_blamed_on_the_model(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"not .*finite"):
        Classifier(folder).predict(np.full(22050, np.nan, np.float32), 22050)


# Hashes.


def pinned(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"weights")
    names = ("model.onnx", "model.safetensors")
    shown = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "files": shown}))
    return folder


def test_another_network_than_the_settings_state_of_is_refused(folder: Path) -> None:
    Classifier(pinned(folder))
    (folder / "model.onnx").write_bytes(network(scale=2).SerializeToString())
    assert "its sha256 is" in refusal(folder, "model.onnx")


def test_other_weights_than_the_settings_state_of_are_not_handed_on(
    folder: Path, tmp_path: Path
) -> None:
    classifier = Classifier(pinned(folder))
    classifier.save_pretrained(tmp_path / "copy")
    assert Classifier(tmp_path / "copy").config.files == classifier.config.files
    (folder / "model.safetensors").write_bytes(b"others")
    with pytest.raises(InputError, match=r"model\.safetensors: it does not match config"):
        classifier.save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_classifier_in_the_package_and_what_is_exported_state_their_hashes(
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("torch")
    from genrescope.training.export import export

    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(WIDTH, len(GENRES)))
    export(tmp_path / "new", layers.eval(), MFCC, GENRES, {})
    for folder in (SHIPPED, tmp_path / "new"):
        files = json.loads((folder / "config.json").read_text())["files"]
        assert set(files) == {"model.onnx", "model.safetensors"}
        for name, shown in files.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == shown
        Classifier(folder)


# Links.


@pytest.mark.skipif(os.name != "posix", reason="links need leave elsewhere")
def test_links_are_followed_as_the_hubs_cache_is_made_of_them(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "snapshots" / "abc"
    linked.mkdir(parents=True)
    for path in pinned(folder).iterdir():
        (linked / path.name).symlink_to(path)
    classifier = Classifier(linked)
    classifier.save_pretrained(tmp_path / "copy")
    assert not any(path.is_symlink() for path in (tmp_path / "copy").iterdir())
    assert Classifier(tmp_path / "copy").key == classifier.key


@pytest.mark.skipif(os.name != "posix", reason="links need leave elsewhere")
def test_a_link_in_a_circle_is_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("model.onnx")
    refusal(folder, "model.onnx")


# Pickles.


class Evil:
    """When it is unpickled, a file appears."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Path]:
    """Make a wav2vec2 checkpoint of nothing but a pickle that runs code; give its folder."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_backbones import save_checkpoint

    checkpoint = save_checkpoint("wav2vec2", tmp_path / "checkpoint")
    (checkpoint / "model.safetensors").unlink()
    torch.save({"weights": Evil(tmp_path / "ran")}, checkpoint / "pytorch_model.bin")
    yield checkpoint
    assert not (tmp_path / "ran").exists()


def test_the_pickle_would_run_code(evil: Path, tmp_path: Path) -> None:
    import torch

    torch.load(evil / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()


def test_code_in_a_pickled_encoder_is_not_run(evil: Path) -> None:
    from genrescope.models import make_model

    with pytest.raises(GenrescopeError, match="encoder"):
        make_model("encoder", (16000,), 3, {"weights": str(evil)})


def test_code_in_a_pickled_backbone_is_not_run(evil: Path) -> None:
    shown = {"kind": "transformers", "source": str(evil), "window_s": 1.0, "sha256": "0" * 64}
    with pytest.raises(GenrescopeError, match="other formats may run code and are not read"):
        make_representation("embedding", {"backbones": [shown], "layers": ["last"]})


def test_a_pickled_encoder_without_code_is_read(evil: Path) -> None:
    import torch
    import transformers

    from genrescope.models import make_model

    torch.manual_seed(1)
    whole = transformers.Wav2Vec2Model(transformers.AutoConfig.from_pretrained(evil))
    torch.save(whole.state_dict(), evil / "pytorch_model.bin")
    made = make_model("encoder", (16000,), 3, {"weights": str(evil)}).encoder
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, made.state_dict()[name])
