"""A study's configuration: recipes × protocols × seeds, from YAML or the command line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genrescope.datasets.splits import get_protocol
from genrescope.datasets.track import AudioVariant
from genrescope.errors import GenrescopeError, InputError
from genrescope.study.probes import describe_encoder, probe
from genrescope.training.recipe import (
    Ensemble,
    Recipe,
    describe_faults,
    load_entry,
    load_recipe,
    read_yaml,
)

_MAX_RECIPES = 200  # of a study


class StudyConfig(BaseModel):
    """The configuration of a study.

    Attributes
    ----------
    name
        Title of the report.
    about
        A sentence or two under the title.
    recipes
        In the order of the table.
    ensembles
        Of these recipes; they follow in the table.
    protocols
        In the order of the table: the leakage-free ones first.
    seeds
        Number of iterations.
    audio_variants
        Use only tracks with audio of these variants (full, full-16k, excerpt); None uses all.
    skip
        Protocols that a recipe is not run under, by the recipe's name: it takes too long there, or
        too few test tracks are left. The recipe has no learning curve, either.
    train_shares
        Fractions of the training tracks for learning curves, under the first protocol.
    quick
        Whether epochs and seeds were reduced for a test run.
    encoder_parameters, encoder_seconds
        Of the frozen encoders, by the recipe's name; see ``EncoderFacts``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "The study"
    about: str = ""
    recipes: list[Recipe] = Field(min_length=1)
    ensembles: list[Ensemble] = []
    protocols: list[str] = Field(default=["filtered", "random"], min_length=1)
    seeds: int = Field(default=5, ge=1, le=1000)
    audio_variants: tuple[AudioVariant, ...] | None = None
    skip: dict[str, tuple[str, ...]] = {}
    train_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    quick: bool = False
    encoder_parameters: dict[str, int] = {}
    encoder_seconds: dict[str, float] = {}

    @property
    def entries(self) -> list[Recipe | Ensemble]:
        """Recipes and ensembles, in the order of the table."""
        return [*self.recipes, *self.ensembles]

    def quick_version(self) -> StudyConfig:
        """The same study with at most two seeds and few epochs."""
        recipes = [recipe.quick() for recipe in self.recipes]
        return self.model_copy(
            update={"recipes": recipes, "seeds": min(2, self.seeds), "quick": True}
        )


def bundled_studies() -> dict[str, Path]:
    """Names and files of the studies in the package."""
    folder = Path(str(files("genrescope") / "recipes" / "studies"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_study(
    reference: str,
    *,
    recipes: list[str] | None = None,
    protocols: list[str] | None = None,
    seeds: int | None = None,
    audio_variants: list[str] | None = None,
    encoders: list[str] | None = None,
) -> StudyConfig:
    """Read a study; the other arguments override its settings.

    Parameters
    ----------
    reference
        A bundled study's name or a YAML file's path. Its recipes are names, paths, or settings
        with `extends`. With a list `encoders`, each of them is run on the embeddings of each.
    recipes, protocols, seeds, audio_variants
        See ``StudyConfig``.
    encoders
        As of ``describe_encoder``.

    Raises
    ------
    GenrescopeError
        If there is no such study, recipe, protocol or audio variant, or a setting is wrong.
    """
    bundled = bundled_studies()
    path = bundled.get(reference, Path(reference))
    if reference not in bundled and path.suffix not in {".yaml", ".yml"}:
        known = ", ".join(bundled)
        former = " The study report is now called original." if reference == "report" else ""
        raise GenrescopeError(
            f"There is no study {reference!r}. Give one of these, or a YAML file: {known}.{former}"
        )
    settings: dict[str, Any] = read_yaml(path)
    references = _references(path, settings, recipes, encoders)
    source = None if recipes is not None else path
    entries = [load_entry(reference, source) for reference in references]
    settings["ensembles"] = [entry for entry in entries if isinstance(entry, Ensemble)]
    settings["recipes"] = [entry for entry in entries if isinstance(entry, Recipe)]
    for ensemble in settings["ensembles"]:  # its members are run, too
        present = {recipe.name for recipe in settings["recipes"]}
        settings["recipes"] += [
            load_recipe(name, source) for name in ensemble.of if name not in present
        ]
    names = [entry.name for entry in (*settings["recipes"], *settings["ensembles"])]
    if twice := {name for name in names if names.count(name) > 1}:
        remedy = "Give each recipe a unique name"
        raise InputError(path, f"recipes with the same name: {', '.join(sorted(twice))}", remedy)
    if recipes is not None:
        settings |= {"name": "Comparison", "about": "", "skip": {}}
    if protocols is not None:
        settings["protocols"] = protocols
    if seeds is not None:
        settings["seeds"] = seeds
    if audio_variants is not None:
        if unknown := [
            audio_variant
            for audio_variant in audio_variants
            if audio_variant not in get_args(AudioVariant)
        ]:
            known = ", ".join(get_args(AudioVariant))
            raise GenrescopeError(f"There is no audio variant {unknown[0]!r}; there are: {known}.")
        settings["audio_variants"] = audio_variants
    try:
        config = StudyConfig.model_validate(settings)
    except ValidationError as error:
        raise InputError(path, describe_faults(error, "study"), "Correct the study") from error
    for name in protocols or ():
        get_protocol(name)
    _check_protocols(path, config)
    if alien := sorted(set(config.skip) - {recipe.name for recipe in config.recipes}):
        raise InputError(path, f"skip names unknown recipes: {', '.join(alien)}", "Correct it")
    return config


def _references(
    path: Path, settings: dict[str, Any], recipes: list[str] | None, encoders: list[str] | None
) -> list[Any]:
    """Take the recipes from the settings, each once for each encoder if there are any."""
    references = recipes if recipes is not None else settings.get("recipes")
    if not isinstance(references, list) or not 0 < len(references) <= _MAX_RECIPES:
        remedy = f"Add `recipes:` with 1 to {_MAX_RECIPES} of them"
        raise InputError(path, f"it lists {_count(references)} recipes", remedy)
    listed = settings.pop("encoders", None)
    if recipes is None and listed is None and encoders is not None:
        cause = "it lists no encoders to replace"
        remedy = "Use `genrescope study probes`, or name models of embeddings with --recipes"
        raise InputError(path, cause, remedy)
    given = encoders or (listed if recipes is None else None)
    if given is None:
        return references
    if not isinstance(given, list) or len(given) * len(references) > _MAX_RECIPES:
        remedy = f"Write a list, for at most {_MAX_RECIPES} recipes in all"
        raise InputError(path, "its encoders cannot be used", remedy)
    probes: list[dict[str, Any]] = []
    parameters: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for encoder in map(describe_encoder, map(str, given)):
        for recipe in references:
            probes.append(probe(recipe, encoder))
            if encoder.parameters is not None and encoder.seconds is not None:
                parameters[probes[-1]["name"]] = encoder.parameters
                seconds[probes[-1]["name"]] = round(encoder.seconds, 3)
    settings |= {"encoder_parameters": parameters, "encoder_seconds": seconds}
    return probes


def _count(references: Any) -> str:
    return f"{len(references):,}" if references and isinstance(references, list) else "no"


def _check_protocols(path: Path, config: StudyConfig) -> None:
    for name in (*config.protocols, *(p for skipped in config.skip.values() for p in skipped)):
        try:
            get_protocol(name)
        except GenrescopeError as error:
            raise InputError(path, str(error).rstrip("."), "Correct the study") from error
