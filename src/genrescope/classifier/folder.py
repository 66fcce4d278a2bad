"""The folder of a trained model: what it holds, and the checks before anything of it is used.

The folder holds ``config.json`` (genres, representation, how the model came about),
``model.onnx`` (one input, float32 (batch, *shape); one output ``logits`` (batch, genres)),
``model.safetensors`` and ``README.md``, the model card. A fine-tuned encoder's folder may hold
``transformers/``, the same network for those who use it through ``transformers``.

A folder may come from anybody: what is read of it is ``config.json`` and ``model.onnx``, links are
followed (the hub's cache is made of them), and both are checked before anything is heard.
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
from genrescope.hub import MODEL_FILES, WeightsNotAvailableError
from genrescope.inference import MAX_MODEL_BYTES, open_session
from genrescope.reading import read_bounded
from genrescope.representations import Representation, make_representation

CONFIG, ONNX, WEIGHTS, CARD = "config.json", "model.onnx", "model.safetensors", "README.md"
TRANSFORMERS = "transformers"
SHARED_FILES = (  # what is handed on but, being the same network again, not fetched
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
            raise ValueError(f"{genre!r} stands there twice")
    return genres


def _named(told: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(told.get("name"), str):
        raise ValueError("its name is missing")  # noqa: TRY004  which pydantic would not catch
    return told


class ClassifierConfig(BaseModel):
    """What ``config.json`` holds.

    Attributes
    ----------
    format
        Of the folder; raised when it changes.
    genres
        In the order of the logits.
    representation
        Name, version and parameters.
    unsure_below
        A most likely genre with less probability than this is called unsure.
    files
        SHA-256 of the folder's files by name, in hex digits; older folders tell none.
    trained
        Recipe, data set, protocol, seed, accuracy: whatever tells how the model came about.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    genres: Annotated[
        list[str], Field(min_length=2, max_length=MAX_GENRES), AfterValidator(_distinct_genres)
    ]
    representation: Annotated[dict[str, Any], AfterValidator(_named)]
    unsure_below: float = Field(default=0.0, ge=0, le=1)
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
            "Give a folder that `genrescope train` or `genrescope study` has written, or a model "
            "of the Hugging Face hub (user/name)"
        )
        raise InputError(path, "no such file, so this is no model folder", remedy)
    content = read_bounded(path, _MAX_CONFIG_BYTES, REMEDY)
    try:
        return ClassifierConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        cause = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        raise InputError(path, _in_short(cause), REMEDY) from error


def make_folder_representation(folder: Path, config: ClassifierConfig) -> Representation:
    """Make the representation that a model's ``config.json`` names.

    Raises
    ------
    GenrescopeError
        If it needs external weights that cannot be had, or another version of genrescope.
    """
    settings = dict(config.representation)
    name, version = settings.pop("name"), settings.pop("version", None)
    if (backbone := _unpinned(settings)) is not None:
        cause = f"it tells no sha256 of the network {backbone!r} that it hears through"
        raise InputError(folder / CONFIG, _in_short(cause), "Train it again with this genrescope")
    try:
        representation = make_representation(name, settings)
    except (InputError, WeightsNotAvailableError) as error:  # a backbone that is not part of it
        told = f"This classifier ({folder}) hears through a network that it does not hold. "
        raise GenrescopeError(told + _in_short(str(error))) from error
    except GenrescopeError as error:
        cause = _in_short(str(error).rstrip("."))
        raise InputError(folder / CONFIG, cause, "Update genrescope") from error
    if version != representation.version:
        cause = f"it needs version {version} of {name}, and this is {representation.version}"
        remedy = "Train it again or use another genrescope"
        raise InputError(folder / CONFIG, _in_short(cause), remedy)
    return representation


def _unpinned(settings: Any) -> Any:
    # A backbone that is no part of the package, and could be another tomorrow; None if none is.
    if not isinstance(settings, dict):
        return None
    given = settings.get("backbones", ())
    for told in given if isinstance(given, list) else ():
        pinned = bool(told.get("sha256")) if isinstance(told, dict) else SEPARATOR not in str(told)
        if not pinned and not (isinstance(told, dict) and told.get("kind") == "musicnn"):
            return told
    return _unpinned(settings.get("of"))


def open_model(
    path: Path, config: ClassifierConfig, representation: Representation, threads: int | None
) -> onnxruntime.InferenceSession:
    """Open ``model.onnx``, and check that it takes the representation and gives the genres' logits.

    Raises
    ------
    InputError
        If it is not the file that ``config.json`` describes, or does not fit it.
    """
    content = read_bounded(path, MAX_MODEL_BYTES, REMEDY)
    if (told := config.files.get(ONNX)) is not None:
        check_sha256(path, hashlib.sha256(content).hexdigest(), told)
    try:
        session = open_session(content, threads)
    except ValueError as error:
        raise InputError(path, str(error), REMEDY) from error
    if (cause := _misfit(session, representation, len(config.genres))) is not None:
        raise InputError(path, _in_short(cause), REMEDY)
    return session


def check_sha256(path: Path, found: str, expected: str) -> None:
    """Refuse a file that is not the one that ``config.json`` describes.

    Raises
    ------
    InputError
        If the digests differ.
    """
    if found != expected:
        cause = f"it is not the file that {CONFIG} tells of: its sha256 is {found}, not {expected}"
        raise InputError(path, cause, REMEDY)


def _misfit(
    session: onnxruntime.InferenceSession, representation: Representation, genres: int
) -> str | None:
    # Why the network is none for these arrays and genres, as far as it tells; dimensions that it
    # leaves open are no numbers.
    inputs = session.get_inputs()
    if [given.type for given in inputs] != ["tensor(float)"]:
        return "it must have one input, of float32"
    wanted = [None, *representation.shape]
    free = 2 if representation.segmented else 1
    shape = inputs[0].shape
    if len(shape) != len(wanted) or isinstance(shape[0], int):
        return f"its input is {shape}, not (batch, {', '.join(map(str, representation.shape))})"
    for found, size in zip(shape[free:], wanted[free:], strict=True):
        if isinstance(found, int) and found != size:
            return f"its input is {shape}, and its representation {representation.shape}"
    logits = [made for made in session.get_outputs() if made.name == "logits"]
    if not logits or logits[0].type != "tensor(float)":
        return "it must have an output logits, of float32"
    told = logits[0].shape
    if told and (len(told) != 2 or (isinstance(told[1], int) and told[1] != genres)):
        return f"its logits are {told}, not (batch, {genres}), of as many genres as {CONFIG} names"
    return None


def _in_short(text: str) -> str:
    # Of what a stranger's file holds, no more than a line.
    shown = one_line(text)
    return shown if len(shown) <= _MAX_MESSAGE else f"{shown[:_MAX_MESSAGE]} …"
