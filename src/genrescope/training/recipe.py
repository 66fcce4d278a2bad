"""Recipes: what to fit and how, read from YAML, validated and hashed."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from genrescope.errors import GenrescopeError, InputError
from genrescope.hub import WeightsNotAvailableError
from genrescope.representations import Representation, make_representation
from genrescope.representations.alteration import get_alterations


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(BaseModel):
    """A registered representation or model by name, with its parameters beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.__pydantic_extra__ or {})


class Optimiser(_Strict):
    """How weights are updated."""

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


class Recipe(_Strict):
    """Representation + model + optimisation settings.

    Attributes
    ----------
    alterations
        Ways to hear every training track beside as it is; the test tracks stay as they are.
    normalise
        First layer: ``none``, ``l2-rows`` (each track's row to norm 1), ``standardise``
        (each column by the training tracks' mean and standard deviation) or ``signed-log``.
    optimiser, batch_size, epochs
        For networks; classical models have none of the three, and are fitted on the training and
        validation tracks.
    calibrate
        Divide the logits by a temperature fitted on the validation tracks.
    double_softmax
        Put a softmax before the cross-entropy, which contains one already.
    patience
        Stop after so many epochs without a better validation loss, and keep the best epoch's
        weights; None trains all epochs and keeps the last.
    parallel
        Whether several fits may run side by side; False for what fills the memory.
    """

    name: str = Field(pattern=r"^[\w][\w .,()+-]*$")
    about: str = ""
    representation: Component
    alterations: tuple[str, ...] = ()
    normalise: Literal["none", "l2-rows", "standardise", "signed-log"] = "none"
    model: Component
    double_softmax: bool = False
    optimiser: Optimiser | None = None
    batch_size: int | None = Field(default=None, ge=2)
    epochs: int | None = Field(default=None, ge=1)
    calibrate: bool = False
    patience: int | None = Field(default=None, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    parallel: bool = True

    @model_validator(mode="after")
    def _known_parts(self) -> Recipe:
        try:
            get_alterations(self.alterations)
            self.make_representation()
        except WeightsNotAvailableError:
            pass  # the recipe is right; what uses it says what is missing
        except GenrescopeError as error:
            raise ValueError(str(error)) from error
        given = [part is not None for part in (self.optimiser, self.batch_size, self.epochs)]
        if any(given) != all(given):
            raise ValueError("give optimiser, batch_size and epochs for a network, or none of them")
        return self

    def make_representation(self) -> Representation:
        """Make the representation that this recipe's model sees."""
        return make_representation(self.representation.name, self.representation.parameters)

    @property
    def hash(self) -> str:
        """12 hex digits over all that decides the result: not the name, nor what is told of it."""
        told = {"name", "about", "parallel"}
        # Off, a setting leaves the hash of a recipe that does not name it as it always was.
        off = {name for name in ("calibrate", "alterations") if not getattr(self, name)}
        settings = self.model_dump(exclude=told | off)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def quick(self) -> Recipe:
        """The same with a twentieth of the epochs (two at least): to see that everything runs."""
        if self.epochs is None:
            return self
        return self.model_copy(update={"epochs": min(self.epochs, max(2, self.epochs // 20))})


def bundled_recipes() -> dict[str, Path]:
    """Names and files of the recipes in the package."""
    folder = Path(str(files("genrescope") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(reference: str | dict[str, Any], source: Path | None = None) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    reference
        A bundled recipe's name, a YAML file's path, or settings; settings (in a file or not) may
        say ``extends: <reference>`` and then give only what differs.
    source
        The file that the settings stand in, for messages and relative paths.

    Raises
    ------
    GenrescopeError
        If there is no such recipe, or its settings are wrong: names each.
    """
    settings, path = _settings(reference, source)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors()
        )
        remedy = "Mend it; `genrescope list` shows what there is"
        raise InputError(path or settings.get("name", "recipe"), faults, remedy) from error


def _settings(
    reference: str | dict[str, Any], source: Path | None, depth: int = 0
) -> tuple[dict[str, Any], Path | None]:
    if depth > 10:
        raise InputError(source or "recipe", "`extends` goes round in a circle", "Break the circle")
    if isinstance(reference, str):
        path = _find(reference, source)
        settings, source = read_yaml(path), path
    else:
        settings = dict(reference)
    if (base := settings.pop("extends", None)) is not None:
        below, _ = _settings(base, source, depth + 1)
        settings = _merge(below, settings)
    return settings, source


def _find(reference: str, source: Path | None) -> Path:
    bundled = bundled_recipes()
    if reference in bundled:
        return bundled[reference]
    path = (source.parent if source else Path()) / reference
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return path
    known = ", ".join(bundled)
    raise GenrescopeError(
        f"There is no recipe {reference!r}. Give one of these, or a YAML file: {known}."
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; InputError names the file and the line at fault."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(path, "no such file", "Check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
        cause = f"it is not readable YAML ({' '.join(str(error).split())})"
        raise InputError(path, cause, "Mend the file") from error
    if not isinstance(content, dict):
        raise InputError(path, "it is not a mapping of settings", "Write `key: value` lines")
    return content


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
