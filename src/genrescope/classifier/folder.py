"""The folder of a trained model: its format, and the checks on loading.

The folder holds ``config.json`` (genres, representation, training settings), ``model.onnx`` (one
input, float32 (batch, *shape); one output ``logits`` (batch, genres)), ``model.safetensors`` and
``README.md``, the model card. A fine-tuned encoder's folder may hold ``transformers/``, the same
network for use with ``transformers``.

Folders are not trusted: only ``config.json`` and ``model.onnx`` are read, and both are checked
first. Links are followed, as the hub's cache consists of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import onnxruntime
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from genrescope.backbones.backbone import SEPARATOR
from genrescope.datasets.track import MAX_GENRES, genre_fault
from genrescope.errors import GenrescopeError, InputError, one_line
from genrescope.files import read_bounded
from genrescope.hub import MODEL_FILES, WeightsNotAvailableError
from genrescope.inference import MAX_MODEL_BYTES, open_session
from genrescope.representations import Representation, make_representation

CONFIG, ONNX, WEIGHTS, CARD = "config.json", "model.onnx", "model.safetensors", "README.md"
TRANSFORMERS = "transformers"
SHARED_FILES = (  # saved and pushed; those in transformers/ are not fetched, being copies
    *MODEL_FILES,
    *(f"{TRANSFORMERS}/{name}" for name in (CONFIG, WEIGHTS, "preprocessor_config.json")),
)
REMEDY = "Get an intact copy of the model"
_MAX_CONFIG_BYTES = 2**20
_MAX_MESSAGE = 500  # letters


def _distinct_genres(genres: list[str]) -> list[str]:
    for genre in genres:
        if (fault := genre_fault(genre)) is not None:
            raise ValueError(fault)
        if genres.count(genre) > 1:
            raise ValueError(f"duplicate entry {genre!r}")
    return genres


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(settings.get("name"), str):
        raise ValueError("its name is missing")  # noqa: TRY004  pydantic catches no TypeError
    return settings


class ClassifierConfig(BaseModel):
    """Contents of ``config.json``.

    Attributes
    ----------
    format
        Version of the folder's format.
    genres
        In the order of the logits.
    representation
        Name, version and parameters.
    unsure_below
        A prediction whose confidence is less than this is marked unsure.
    other_above
        A track whose output ``other`` is more than this is of none of the genres; None if that is
        not decided.
    files
        SHA-256 of the folder's files by name, in hex digits; empty in older folders.
    trained
        How the model was trained: recipe, data set, protocol, seed, accuracy, …
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    genres: Annotated[
        list[str], Field(min_length=2, max_length=MAX_GENRES), AfterValidator(_distinct_genres)
    ]
    representation: Annotated[dict[str, Any], AfterValidator(_named)]
    unsure_below: float = Field(default=0.0, ge=0, le=1)
    other_above: float | None = None
    files: dict[
        Annotated[str, Field(pattern=r"^model\.(onnx|safetensors)$")],
        Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
    ] = Field(default_factory=dict)
    trained: dict[str, Any] = Field(default_factory=dict)


def read_config(path: Path) -> ClassifierConfig:
    """Read ``config.json``.

    Raises
    ------
    InputError
        If it is missing, too large or invalid.
    """
    if not path.is_file():
        remedy = (
            "Give a folder written by `genrescope train` or `genrescope study`, or a model on the "
            "Hugging Face hub (user/name)"
        )
        raise InputError(path, "no such file, so this is not a model folder", remedy)
    content = read_bounded(path, _MAX_CONFIG_BYTES, REMEDY)
    try:
        return ClassifierConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        cause = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        raise InputError(path, _shortened(cause), REMEDY) from error


def make_folder_representation(folder: Path, config: ClassifierConfig) -> Representation:
    """Create the representation that a model's ``config.json`` names.

    Raises
    ------
    GenrescopeError
        If it needs another version of genrescope; a `WeightsNotAvailableError` if it requires
        external weights that are missing.
    """
    settings = dict(config.representation)
    name, version = settings.pop("name"), settings.pop("version", None)
    if (backbone := _unpinned(settings)) is not None:
        cause = f"it holds no sha256 of the network {backbone!r}"
        remedy = "Train it again with this version of genrescope"
        raise InputError(folder / CONFIG, _shortened(cause), remedy)
    try:
        representation = make_representation(name, settings)
    except (InputError, WeightsNotAvailableError) as error:  # of a backbone outside the package
        message = f"This classifier ({folder}) requires external weights. {_shortened(str(error))}"
        raise WeightsNotAvailableError(message) from error
    except GenrescopeError as error:
        cause = _shortened(str(error).rstrip("."))
        raise InputError(folder / CONFIG, cause, "Update genrescope") from error
    if version != representation.version:
        cause = f"it needs version {version} of {name}, and this is {representation.version}"
        remedy = "Train it again or use another version of genrescope"
        raise InputError(folder / CONFIG, _shortened(cause), remedy)
    return representation


def _unpinned(settings: Any) -> Any:
    # A backbone outside the package whose weights are not pinned by a checksum; None if all are.
    if isinstance(settings, list):
        return next(filter(None, map(_unpinned, settings)), None)
    if not isinstance(settings, dict):
        return None
    given = settings.get("backbones", ())
    for one in given if isinstance(given, list) else ():
        pinned = bool(one.get("sha256")) if isinstance(one, dict) else SEPARATOR not in str(one)
        if not pinned and not (isinstance(one, dict) and one.get("kind") == "musicnn"):
            return one
    return _unpinned(settings.get("of"))


def open_model(
    path: Path, config: ClassifierConfig, representation: Representation, threads: int | None
) -> onnxruntime.InferenceSession:
    """Load ``model.onnx`` and check its input (the representation) and output (the genres' logits).

    Raises
    ------
    InputError
        If it does not match ``config.json``.
    """
    content = read_bounded(path, MAX_MODEL_BYTES, REMEDY)
    if (expected := config.files.get(ONNX)) is not None:
        check_sha256(path, hashlib.sha256(content).hexdigest(), expected)
    try:
        session = open_session(content, threads)
    except ValueError as error:
        raise InputError(path, str(error), REMEDY) from error
    if (cause := _misfit(session, representation, len(config.genres))) is not None:
        raise InputError(path, _shortened(cause), REMEDY)
    return session


def check_sha256(path: Path, found: str, expected: str) -> None:
    """Check a file's digest against the one in ``config.json``.

    Raises
    ------
    InputError
        If they differ.
    """
    if found != expected:
        cause = f"it does not match {CONFIG}: its sha256 is {found}, not {expected}"
        raise InputError(path, cause, REMEDY)


def _misfit(
    session: onnxruntime.InferenceSession, representation: Representation, genres: int
) -> str | None:
    # Why the network does not fit these arrays and genres; dynamic dimensions are not numbers.
    inputs = session.get_inputs()
    if [value.type for value in inputs] != ["tensor(float)"]:
        return "it must have one input, of float32"
    expected = [None, *representation.shape]
    free = 2 if representation.segmented else 1
    shape = inputs[0].shape
    if len(shape) != len(expected) or isinstance(shape[0], int):
        return f"its input is {shape}, not (batch, {', '.join(map(str, representation.shape))})"
    for found, size in zip(shape[free:], expected[free:], strict=True):
        if isinstance(found, int) and found != size:
            return f"its input is {shape}, and its representation {representation.shape}"
    logits = [value for value in session.get_outputs() if value.name == "logits"]
    if not logits or logits[0].type != "tensor(float)":
        return "it must have an output logits, of float32"
    shape = logits[0].shape
    if shape and (len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != genres)):
        return f"its logits are {shape}, not (batch, {genres}), for the genres in {CONFIG}"
    return None


def _shortened(text: str) -> str:
    # Untrusted text: one line of limited length.
    shown = one_line(text)
    return shown if len(shown) <= _MAX_MESSAGE else f"{shown[:_MAX_MESSAGE]} …"
