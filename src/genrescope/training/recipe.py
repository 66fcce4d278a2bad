"""Recipes: representation, model and optimisation settings, from YAML, validated and hashed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from genrescope.errors import GenrescopeError, InputError
from genrescope.files import is_file, read_bounded
from genrescope.hub import WeightsNotAvailableError
from genrescope.models import MODELS, check_model, plain_fault
from genrescope.models.classical import ESTIMATORS, check_estimator
from genrescope.representations import Representation, make_representation
from genrescope.representations.transform import get_transforms

_MAX_BYTES = 2**16  # of a YAML file; PyYAML takes up to half a second for that size
_MAX_VALUES = 20_000  # in it; with aliases and merge keys, a few lines can expand to billions
_MAX_DEPTH = 20  # of nesting
_MAX_NUMBER = 2**53  # above it, integers are not exact in JSON
_MAX_NAME = 100  # bytes of a recipe's name, which becomes part of file names
_MAX_TRIED = 1000  # combinations of a search
_MAX_FAULTS, _MAX_CHARS = 5, 500  # in one message, and characters of each

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _short_name(name: str) -> str:
    if len(name.encode()) > _MAX_NAME:
        raise ValueError(f"it has more than {_MAX_NAME} bytes")
    return name


Name = Annotated[str, Field(pattern=r"^[\w][\w .,()+-]*$"), AfterValidator(_short_name)]


class Component(BaseModel):
    """A registered representation or model by name, with its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.__pydantic_extra__ or {})


class Optimiser(_Strict):
    """The optimiser's settings.

    Attributes
    ----------
    layer_decay
        Factor of the learning rate per layer below the head; for models that define their layers'
        depths.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)


class Schedule(_Strict):
    """The learning-rate schedule: a linear warm-up, then ``name``.

    Attributes
    ----------
    warmup
        Fraction of all steps.
    """

    name: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = Field(default=0.0, ge=0, lt=1)


class WindowSettings(_Strict):
    """Windows of a track's array along its last axis, time.

    Attributes
    ----------
    length
        Columns. In training, one window per track, from a random position; for a frozen encoder,
        a random one of the test windows.
    count
        Evenly spread windows in testing, whose probabilities are averaged.
    """

    length: int = Field(ge=1)
    count: int = Field(default=5, ge=1)


class Augment(_Strict):
    """Augmentation of training arrays (…, bands, columns), random in every step.

    Attributes
    ----------
    mixup
        Both parameters of the Beta distribution of the weights of mixed pairs; 0 for none (H.
        Zhang et al., ICLR 2018).
    time_masks, time_mask, frequency_masks, frequency_mask
        Number of masked ranges of columns or bands, and their maximum width (D. S. Park et al.,
        "SpecAugment", Interspeech 2019).
    """

    mixup: float = Field(default=0.0, ge=0)
    time_masks: int = Field(default=0, ge=0)
    time_mask: int = Field(default=0, ge=0)
    frequency_masks: int = Field(default=0, ge=0)
    frequency_mask: int = Field(default=0, ge=0)


class Recipe(_Strict):
    """Representation + model + optimisation settings.

    Attributes
    ----------
    augmentations
        Transforms of the audio: each gives one more version of every training and validation
        track. Test tracks are not transformed.
    normalise
        First layer: ``none``, ``l2-rows`` (each track's row to norm 1), ``standardise``
        (each column by the training tracks' mean and standard deviation) or ``signed-log``.
    optimiser, batch_size, epochs
        For networks only. Classical models are fitted on the training and validation tracks.
    search
        For classical models: values of parameters, tried in all combinations; the best accuracy
        on the validation tracks wins.
    other
        For classical models on columns: give a score for "none of these genres", too; see
        ``OtherScore``.
    windows, augment, label_smoothing, schedule
        For networks; see their classes.
    accumulate
        Batches per optimiser step.
    validate_every
        Epochs between validations.
    members
        Networks with different seeds, whose probabilities are averaged.
    refit
        Fit a network again on the training and validation tracks.
    calibrate
        Divide the logits by a temperature fitted on the validation tracks.
    double_softmax
        Put a softmax before the cross-entropy, which contains one already.
    patience
        Stop after this number of epochs without a better validation loss, and keep the best
        epoch's weights; None trains all epochs and keeps the last.
    precision
        In Lightning's spelling; on a CPU without bfloat16, mixed precision becomes full.
    parallel
        Whether several fits may run in parallel; False if one fills the memory.
    micro_batch
        For encoders: how many clips of a batch are encoded at once. ``auto`` depends on the memory
        that is free. The gradients are those of the whole batch; see ``Encoder``.
    """

    name: Name
    about: str = ""
    representation: Component
    augmentations: tuple[str, ...] = ()
    normalise: Literal["none", "l2-rows", "standardise", "signed-log"] = "none"
    model: Component
    search: dict[str, tuple[Any, ...]] = {}
    other: bool = False
    windows: WindowSettings | None = None
    augment: Augment | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    double_softmax: bool = False
    optimiser: Optimiser | None = None
    schedule: Schedule | None = None
    batch_size: int | None = Field(default=None, ge=2)
    accumulate: int = Field(default=1, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    validate_every: int = Field(default=1, ge=1)
    members: int = Field(default=1, ge=1, le=1000)
    refit: bool = False
    calibrate: bool = False
    patience: int | None = Field(default=None, ge=1)
    precision: Precision = "32-true"
    parallel: bool = True
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "alterations" in settings:
            raise ValueError("`alterations` is now named `augmentations`")
        return settings

    @model_validator(mode="after")
    def _known_parts(self) -> Recipe:
        try:
            get_transforms(self.augmentations)
            shape = self.make_representation().shape
            if self.other and len(shape) != 1:
                raise ValueError(f"other: only for columns, not for arrays of shape {shape}")
        except WeightsNotAvailableError:
            pass  # the recipe is valid; its use reports what is missing
        except GenrescopeError as error:
            raise ValueError(str(error)) from error
        given = [part is not None for part in (self.optimiser, self.batch_size, self.epochs)]
        if any(given) != all(given):
            raise ValueError("give optimiser, batch_size and epochs for a network, or none of them")
        alien = _FOR_CLASSICAL if all(given) else _FOR_NETWORKS
        if found := sorted(alien & self.model_fields_set):
            kind = "network" if all(given) else "classical model"
            raise ValueError(f"{', '.join(found)}: not for a {kind}")
        if "micro_batch" in self.model_fields_set and not self.has_encoder:
            raise ValueError(f"micro_batch: not for {self.model.name}, only for encoders")
        if self.refit and self.patience is not None:
            raise ValueError("refit needs a fixed number of epochs: leave patience out")
        if self.patience is not None and self.validate_every > 1:
            raise ValueError(
                "patience needs validation after every epoch: leave validate_every out"
            )
        try:
            self._check_model()
        except GenrescopeError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return self

    def _check_model(self) -> None:
        name, parameters = self.model.name, self.model.parameters
        if name not in MODELS and name not in ESTIMATORS:
            known = ", ".join(sorted({*MODELS, *ESTIMATORS}))
            raise GenrescopeError(f"There is no model {name!r}; there are: {known}.")
        if self.optimiser is not None and name not in MODELS:
            raise GenrescopeError(
                f"Model {name} is not a network: leave optimiser, batch_size and epochs out."
            )
        if self.optimiser is None and name not in ESTIMATORS:
            raise GenrescopeError(
                f"Model {name} is a network and needs optimiser, batch_size and epochs (classical "
                f"models are: {', '.join(sorted(ESTIMATORS))})."
            )
        if self.optimiser is not None:
            check_model(name, parameters)
            return
        check_estimator(name, parameters)
        faults = [
            f"search.{parameter}: {fault}"
            for parameter, values in self.search.items()
            if (fault := _fault_of_values(name, parameter, values)) is not None
        ]
        if faults:
            raise GenrescopeError("; ".join(faults))
        if (tried := math.prod(map(len, self.search.values()))) > _MAX_TRIED:
            raise GenrescopeError(f"search: {tried:,} combinations are more than {_MAX_TRIED:,}.")

    def make_representation(self) -> Representation:
        """Make the representation, the input of this recipe's model."""
        return make_representation(self.representation.name, self.representation.parameters)

    @property
    def has_encoder(self) -> bool:
        """Whether the model is a pretrained encoder."""
        return self.model.name == "encoder"

    @property
    def hash(self) -> str:
        """12 hex digits over all settings that affect the result."""
        without = {"name", "about", "parallel", "micro_batch"}
        # Later settings at their defaults are left out, so that older hashes stay valid.
        fields = type(self).model_fields
        off = {name for name in _LATER if getattr(self, name) == fields[name].default}
        settings = self.model_dump(exclude=without | off)
        if self.augmentations:  # under their former name, so that older results keep their hash
            settings["alterations"] = settings.pop("augmentations")
        if self.optimiser is not None and self.optimiser.layer_decay == 1:
            del settings["optimiser"]["layer_decay"]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def quick(self) -> Recipe:
        """The same with a twentieth of the epochs (at least two), for a test run."""
        if self.epochs is None:
            return self
        return self.model_copy(update={"epochs": min(self.epochs, max(2, self.epochs // 20))})


def _fault_of_values(name: str, parameter: str, values: tuple[Any, ...]) -> str | None:
    if not values:
        return "it has no values"
    for value in values:
        try:
            check_estimator(name, {parameter: value})
        except GenrescopeError as error:
            return str(error).rstrip(".")
    return None


_FOR_NETWORKS = {
    "windows", "augment", "label_smoothing", "double_softmax", "schedule", "accumulate",
    "validate_every", "members", "refit", "patience",
}  # fmt: skip
_FOR_CLASSICAL = {"search", "other"}
_LATER = (
    (_FOR_NETWORKS - {"double_softmax", "patience"})
    | _FOR_CLASSICAL
    | {"calibrate", "augmentations"}
)


class Ensemble(_Strict):
    """Recipes whose probabilities are combined; each is also fitted and tested alone.

    It is tested on the tracks that all of its recipes can use.

    Attributes
    ----------
    of
        Names of the recipes.
    pool
        ``average``: the mean of the probabilities. ``weighted``: the weighted
        geometric mean, with weights of 0 or more fitted on the validation tracks.
    """

    name: Name
    about: str = ""
    of: tuple[str, ...] = Field(min_length=2, max_length=100)
    pool: Literal["average", "weighted"] = "weighted"


def bundled_recipes() -> dict[str, Path]:
    """Names and files of the recipes in the package."""
    folder = Path(str(files("genrescope") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(reference: str | dict[str, Any], source: Path | None = None) -> Recipe:
    """Read a recipe; see ``load_entry``. An ensemble is an error."""
    entry = load_entry(reference, source)
    if isinstance(entry, Ensemble):
        raise GenrescopeError(
            f"{entry.name} is an ensemble, which only a study can run. Give one of its recipes: "
            f"{', '.join(entry.of)}."
        )
    return entry


def members_of(ensemble: Ensemble) -> list[Recipe]:
    """Read the recipes that an ensemble combines."""
    return [load_recipe(name) for name in ensemble.of]


def load_encoder_recipe(weights: str, reference: str = "distilhubert") -> Recipe:
    """Read a recipe that fine-tunes an encoder, with another checkpoint.

    Parameters
    ----------
    weights
        A checkpoint's folder, or its hub id.
    reference
        The recipe with the other settings: a bundled one's name or a YAML file.

    Raises
    ------
    GenrescopeError
        If there is no such recipe, or it does not fine-tune an encoder.
    """
    base = load_recipe(reference)
    if not base.has_encoder:
        raise GenrescopeError(
            f"Recipe {base.name} fine-tunes no encoder, and cannot use {weights}. Give "
            "distilhubert, wav2vec2 or another recipe with `model: {name: encoder}`."
        )
    short = re.sub(r"[^\w.-]+", "-", Path(weights).expanduser().resolve().name, flags=re.ASCII)
    short = short[: _MAX_NAME - len(f"{base.name} ()".encode())]
    shown = short if Path(weights).expanduser().is_dir() else weights
    return load_recipe(
        {
            "extends": reference,
            "name": f"{base.name} ({short})",
            "about": f"{shown} fine-tuned with the settings of {base.name}.",
            "model": {"weights": weights},
        }
    )


def set_micro_batch(recipes: Sequence[Recipe], size: int) -> list[Recipe]:
    """Set the ``micro_batch`` of recipes with an encoder; GenrescopeError if none has one."""
    if not any(recipe.has_encoder for recipe in recipes):
        names = ", ".join(recipe.name for recipe in recipes)
        raise GenrescopeError(
            f"--micro-batch is for recipes with an encoder, and there is none here: {names}. Leave "
            "it out."
        )
    return [
        recipe.model_copy(update={"micro_batch": size}) if recipe.has_encoder else recipe
        for recipe in recipes
    ]


def load_entry(reference: str | dict[str, Any], source: Path | None = None) -> Recipe | Ensemble:
    """Read a recipe, or an ensemble if there is a list ``of``.

    Parameters
    ----------
    reference
        A bundled recipe's name, a YAML file's path, or settings. Settings may have
        ``extends: <reference>`` and then only what differs.
    source
        The file with the settings, for messages and relative paths.

    Raises
    ------
    GenrescopeError
        If there is no such recipe, or its settings are wrong.
    """
    settings, path = _settings(reference, source)
    kind = Ensemble if "of" in settings else Recipe
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        name = settings.get("name")
        cause = describe_faults(error, "recipe")
        if path is not None and isinstance(name, str) and isinstance(reference, dict):
            cause = f"recipe {name[:_MAX_NAME]!r}: {cause}"  # one of several in a study's file
        remedy = "Correct it; `genrescope list` shows what there is"
        raise InputError(path or str(name or "recipe"), cause, remedy) from error


def describe_faults(error: ValidationError, whole: str) -> str:
    """Format the first few wrong settings; ``whole`` names the settings as a whole."""
    found = [
        f"{'.'.join(map(str, fault['loc']))[:_MAX_NAME] or whole}: "
        f"{plain_fault(fault)[:_MAX_CHARS]}"
        for fault in error.errors()
    ]
    more = len(found) - _MAX_FAULTS
    return "; ".join(found[:_MAX_FAULTS]) + (f"; and {more} more" if more > 0 else "")


def _settings(
    reference: Any, source: Path | None, depth: int = 0
) -> tuple[dict[str, Any], Path | None]:
    if depth > 10:
        raise InputError(source or "recipe", "`extends` is circular", "Remove one `extends`")
    if isinstance(reference, str):
        path = _find(reference, source)
        settings, source = read_yaml(path), path
    elif isinstance(reference, dict):
        settings = dict(reference)
    else:
        remedy = "Give the name of a recipe, a YAML file or settings"
        raise InputError(source or "recipe", f"{reference!r} is not a recipe", remedy)
    if (base := settings.pop("extends", None)) is not None:
        below, _ = _settings(base, source, depth + 1)
        settings = _merge(below, settings)
    return settings, source


def _find(reference: str, source: Path | None) -> Path:
    bundled = bundled_recipes()
    if reference in bundled:
        return bundled[reference]
    path = (source.parent if source else Path()) / reference
    if path.suffix in {".yaml", ".yml"} and is_file(path):
        return path
    known = ", ".join(bundled)
    today = reference.replace("report-", "original-")  # what genrescope 0.1 called them
    if today != reference and today in bundled:
        known += f"; {reference} is now called {today}"
    if source is not None:
        cause = f"there is no recipe {reference!r}"
        raise InputError(source, cause, f"Give one of these, or a YAML file: {known}")
    raise GenrescopeError(
        f"There is no recipe {reference!r}. Give one of these, or a YAML file: {known}."
    )


class _YamlError(Exception):
    # The cause and remedy of a fault in a YAML file.
    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause, self.remedy = cause, remedy


class _Loader(yaml.SafeLoader):
    # Counts values while nodes are composed, before objects are built. An alias, also in a merge
    # key, counts as much as its target.
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth, self._values = 0, 0
        self._sizes: dict[int, int] = {}  # of whole nodes, by identity

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise _YamlError("an alias (*) is within its own target", _PLAIN)
            self._count(self._sizes[id(node)])
            return node
        before, self._depth = self._values, self._depth + 1
        self._count(1)
        if self._depth > _MAX_DEPTH:
            raise _YamlError(f"it is nested more than {_MAX_DEPTH} deep", "Nest it less")
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._sizes[id(node)] = self._values - before
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    cause = f"the key {key.value[:_MAX_NAME]!r} is given twice (line {line})"
                    raise _YamlError(cause, "Keep one of the two")
                seen.add(key.value)
        return node

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > _MAX_VALUES:
            raise _YamlError(f"it has more than {_MAX_VALUES:,} values", _PLAIN)


_PLAIN = "Write it without aliases (&, *) and merge keys (<<)"

_KEPT = {"bool", "null", "merge"}

# Numbers as in YAML 1.2 and JSON: 1e-3 is a number, 1:30 is text, and 010 is ten.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form, _first in (
    ("int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})\Z"), list(_first)
    )
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of bounded size, depth and number of values.

    Raises
    ------
    InputError
        If it is not such a mapping, a key is given twice, or it is too large; with the line, where
        possible.
    """
    content = read_bounded(path, _MAX_BYTES, "Check the path")
    try:
        settings = _parse(content)
    except _YamlError as error:
        raise InputError(path, error.cause, error.remedy) from error
    except Exception as error:  # of any type, from values that look like numbers
        message = " ".join(str(error).split())[:_MAX_CHARS]
        raise InputError(
            path, f"it is not readable YAML ({message})", "Correct the file"
        ) from error
    return deepcopy(settings)


@lru_cache(maxsize=64)
def _parse(content: bytes) -> dict[str, Any]:
    # By content: a study may refer to one file many times.
    settings = yaml.load(content.decode("utf-8"), _Loader)  # noqa: S506  a SafeLoader
    if not isinstance(settings, dict):
        raise _YamlError("it is not a mapping of settings", "Write `key: value` lines")
    _check_values(settings)
    return settings


def _check_values(content: Any) -> None:
    # Reject dates, sets and the like, and huge numbers.
    rest = [(content, 1)]
    while rest:
        (value, depth), strange = rest.pop(), []
        if depth > _MAX_DEPTH:  # by aliases of aliases
            raise _YamlError(f"it is nested more than {_MAX_DEPTH} deep", _PLAIN)
        if isinstance(value, dict):
            strange = [key for key in value if not isinstance(key, str)]
            rest += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            rest += [(part, depth + 1) for part in value]
        elif isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER:
            raise _YamlError(f"it has a number beyond ±{_MAX_NUMBER:,}", "Give a smaller one")
        elif not isinstance(value, str | int | float | None):
            strange = [value]
        if strange:
            cause = f"{str(strange[0])[:100]!r} is not text"
            raise _YamlError(cause, 'Put it in quotes ("…")')


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            # Another model or representation does not inherit the parameters of this one.
            renamed = value.get("name", old.get("name")) != old.get("name")
            merged[key] = value if renamed else _merge(old, value)
        else:
            merged[key] = value
    return merged
