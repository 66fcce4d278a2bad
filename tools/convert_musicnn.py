"""Turn the weights in the musicnn wheel into ONNX files, without TensorFlow.

    python tools/convert_musicnn.py src/genrescope/weights/musicnn

fetches ``musicnn`` 0.1.0 from PyPI by pip, checks its SHA-256, reads the four TensorFlow-1
checkpoints in it, rebuilds the networks in PyTorch, leaves out their dead filters, exports them to
ONNX, checks every file against likelihoods that the original package computed
(``reference.json``), and writes the files, the tag lists and the licence. Run it again and the
bytes are the same (under the same torch and onnx, see ``constraints.txt``). Development only: it
needs torch, onnx and pip.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import torch
import typer
from musicnn_networks import NETWORKS, Musicnn, from_tensorflow, prune
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from genrescope.backbones import log_mel

WHEEL = "musicnn-0.1.0-py3-none-any.whl"
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
REFERENCE = Path(__file__).with_name("reference.json")
"""What the original package made of the reference signal; by ``musicnn_reference.py``."""
OPSET = 17
VECTORS, MAPS = ("tags", "penultimate", "pooled"), ("front", "first", "third")
"""Names of the outputs: of every network, and of the feature maps of ``Musicnn``."""
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-3}
"""How far a mean tag likelihood may lie from the original package's, by weight storage."""

Arrays = dict[str, NDArray[np.float32]]


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the ONNX files, tags and licence.")],
    wheel: Annotated[Path | None, typer.Option(help="The wheel, if it is here already.")] = None,
    reference: Annotated[Path, typer.Option(help="What to check against.")] = REFERENCE,
    storage: Annotated[str, typer.Option(help="Weights as fp32 or fp16.")] = "fp32",
) -> None:
    """Convert musicnn's four sets of weights to ONNX."""
    if storage not in TOLERANCE:
        raise typer.BadParameter(f"{storage!r} is none of {', '.join(TOLERANCE)}")
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        archive = read_wheel(wheel or download(Path(folder)))
    for name in NETWORKS:
        model = to_onnx(name, read_checkpoint(archive, name))
        if storage == "fp16":
            model = store_half(model)
        content = model.SerializeToString(deterministic=True)
        difference = check(content, name, reference, TOLERANCE[storage])
        (out / f"{name}.onnx").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        typer.echo(f"{name}: {len(content):,} bytes, off by {difference:.1e}, sha256 {digest}")
    for corpus, tags in read_tags(archive).items():
        text = json.dumps(tags, indent=1, ensure_ascii=False)
        (out / f"{corpus}_tags.json").write_text(text + "\n", encoding="utf-8")
    licence = archive["musicnn-0.1.0.dist-info/LICENSE.md"].strip()
    (out / "LICENSE-musicnn").write_bytes(licence + b"\n")


# The wheel


def download(folder: Path) -> Path:
    """Fetch the wheel from the package index into a folder and return its path."""
    command = [sys.executable, "-m", "pip", "download", "musicnn==0.1.0", "--no-deps"]
    command += ["--only-binary=:all:", "--quiet", "--dest", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603  (our own arguments)
    return folder / WHEEL


def read_wheel(path: Path) -> dict[str, bytes]:
    """Check the wheel's SHA-256 and return its files by name.

    Raises
    ------
    ValueError
        If the wheel is not the one this script was written for.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{path} has SHA-256 {digest}, expected {SHA256}; fetch it again")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read_tags(archive: dict[str, bytes]) -> dict[str, list[str]]:
    """Read the tag lists of both corpora out of the wheel's configuration, without running it."""
    tree = ast.parse(archive["musicnn/configuration.py"])
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return {corpus: lists[f"{corpus}_LABELS"] for corpus in ("MSD", "MTT")}


# TensorFlow's checkpoint format: an index (a LevelDB table of protocol buffers) and a heap of bytes


def read_checkpoint(archive: dict[str, bytes], name: str) -> Arrays:
    """Read the float32 variables of a checkpoint, the optimiser's aside, by name."""
    heap = archive[f"musicnn/{name}/.data-00000-of-00001"]
    entries = read_index(archive[f"musicnn/{name}/.index"])
    return {
        key: np.frombuffer(heap[offset : offset + size], dtype="<f4").reshape(shape)
        for key, (shape, offset, size) in entries.items()
        if "Adam" not in key and "_power" not in key
    }


def read_index(table: bytes) -> dict[str, tuple[list[int], int, int]]:
    """Read shape, offset and size (in bytes) of every float32 tensor from a checkpoint's index.

    Raises
    ------
    ValueError
        If the file is not such an index, or is compressed.
    """
    if table[-8:] != struct.pack("<Q", 0xDB4775248B80FB57):
        raise ValueError("not a TensorFlow checkpoint index: its last eight bytes are wrong")
    _, position = _block_handle(table, len(table) - 48)  # of the list of metadata, not needed
    (start, size), _ = _block_handle(table, position)
    tensors = {}
    for _, handle in _block(table, start, size):
        (block_start, block_size), _ = _block_handle(handle, 0)
        for key, entry in _block(table, block_start, block_size):
            fields = dict(_fields(entry))
            if key and fields.get(1) == 1:  # field 1 is the data type, 1 is float32
                tensors[key.decode()] = (_shape(fields), _int(fields, 4), _int(fields, 5))
    return tensors


def _block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the entries of a table's block; each key shares a prefix with the one before."""
    if table[start + size] != 0:
        raise ValueError("the checkpoint index is compressed, which this reader does not undo")
    restarts = int.from_bytes(table[start + size - 4 : start + size], "little")
    position, end = start, start + size - 4 * (restarts + 1)
    key = b""
    while position < end:
        shared, position = _varint(table, position)
        added, position = _varint(table, position)
        length, position = _varint(table, position)
        key = key[:shared] + table[position : position + added]
        position += added + length
        yield key, table[position - length : position]


def _block_handle(buffer: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Read where a block lies, (start, size), and the position after that."""
    start, position = _varint(buffer, position)
    size, position = _varint(buffer, position)
    return (start, size), position


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Iterate over a protocol buffer's fields: (number, value)."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        size, position = (
            _varint(message, position) if wire == 2 else (4 if wire == 5 else 8, position)
        )
        yield number, message[position : position + size]
        position += size


def _shape(fields: dict[int, int | bytes]) -> list[int]:
    """Read a tensor's shape (field 2: dimensions in field 2, each with its size in field 1)."""
    shape = fields.get(2, b"")
    if not isinstance(shape, bytes):
        raise TypeError("a tensor's shape is not a message")
    dimensions = (value for _, value in _fields(shape) if isinstance(value, bytes))
    return [_int(dict(_fields(dimension)), 1) for dimension in dimensions]


def _int(fields: dict[int, int | bytes], number: int) -> int:
    """Return an integer field; protocol buffers leave out zeros."""
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise TypeError(f"field {number} is not an integer")
    return value


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    """Read an integer of seven bits a byte, and the position after it."""
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


# ONNX


def to_onnx(name: str, variables: Arrays) -> onnx.ModelProto:
    """Rebuild a network, prune it and export it, with weights in float32.

    Returns
    -------
    A model with input ``log_mel`` (patches, 187, 96) and outputs ``tags``, ``penultimate`` and
    ``pooled``, of ``Musicnn`` also ``front``, ``first`` and ``third``: see ``MusicnnOutput``.
    """
    tensors = {key: torch.from_numpy(array.copy()) for key, array in variables.items()}
    network = prune(from_tensorflow(name, tensors))
    outputs = [*VECTORS, *(MAPS if isinstance(network, Musicnn) else ())]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no onnxscript
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            network,
            (torch.zeros(2, log_mel.PATCH, log_mel.BANDS),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["log_mel"],
            output_names=outputs,
            dynamic_axes={key: {0: "patches"} for key in ("log_mel", *outputs)},
        )
        model = onnx.load(path)
    model.producer_name, model.producer_version = "genrescope", ""
    helper.set_model_props(
        model, {"name": name, "source": WHEEL, "sha256": SHA256, "license": "ISC"}
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store a model's kernels in half precision, widened to float32 when it is loaded.

    Biases and the parameters of normalisation stay in float32: they are few, and a small variance
    would not survive. All arithmetic remains in float32.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    del half.graph.node[:]
    for tensor in half.graph.initializer:
        if len(tensor.dims) >= 2:
            name, array = tensor.name, numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
            cast = helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
            half.graph.node.append(cast)
    half.graph.node.extend(model.graph.node)
    onnx.checker.check_model(half, full_check=True)
    return half


# The check


def check(content: bytes, name: str, reference: Path, tolerance: float) -> float:
    """Compare a model's mean tag likelihoods on the reference signal with the original package's.

    Returns
    -------
    The largest difference of any tag.

    Raises
    ------
    ValueError
        If it is above the tolerance.
    """
    expected = json.loads(reference.read_text(encoding="utf-8"))["models"][name]["mean_tags"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    batch = log_mel.patches(log_mel.compute(reference_signal(), log_mel.SAMPLING_RATE))
    (tags,) = session.run(["tags"], {"log_mel": batch})
    difference = float(np.abs(np.asarray(tags).mean(axis=0) - expected).max())
    if difference > tolerance:
        raise ValueError(f"{name}: off by {difference:.1e} from the original, over {tolerance:.0e}")
    return difference


def reference_signal() -> NDArray[np.float32]:
    """Make the 10 s at 16 kHz that ``reference.json`` speaks of.

    Major chords of 24 decaying partials, a new one every half second, a kick drum with each and a
    hi-hat every quarter second.

    Returns
    -------
    float32 array (160000,), mono, in [-0.45, 0.51].
    """
    n = np.arange(160_000, dtype=np.int64)
    since_chord, since_hat = (n % 8000) / 16_000, (n % 4000) / 16_000
    root = np.array([220.0, 174.6, 261.6, 196.0])[(n // 8000) % 4]
    chord = sum(
        np.sin(2 * np.pi * root * interval * harmonic * (n / 16_000)) / harmonic
        for interval in (1.0, 1.25, 1.5)
        for harmonic in range(1, 9)
    )
    kick = np.sin(2 * np.pi * 60 * since_chord) * np.exp(-12 * since_chord)
    hat = (2 * ((n**3) % 16_001) / 16_001 - 1) * np.exp(-60 * since_hat)
    signal = 0.04 * chord * np.exp(-3 * since_chord) + 0.3 * kick + 0.05 * hat
    return np.asarray(signal, dtype=np.float32)


if __name__ == "__main__":
    typer.run(main)
