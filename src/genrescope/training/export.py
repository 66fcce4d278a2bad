"""Write a fitted network as a model folder that ``genrescope.classifier`` opens without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from genrescope.classifier import CARD, CONFIG, ONNX, TRANSFORMERS, WEIGHTS, ClassifierConfig
from genrescope.environment import quiet
from genrescope.errors import one_line
from genrescope.io import markdown_text
from genrescope.models.classical import Temperature
from genrescope.models.encoder import Encoder
from genrescope.models.windows import Windows
from genrescope.reading import sha256
from genrescope.representations import Representation


def export(
    folder: Path,
    network: nn.Module,
    representation: Representation,
    genres: Sequence[str],
    trained: dict[str, Any],
    unsure_below: float = 0.0,
) -> None:
    """Write ``model.onnx``, ``model.safetensors``, ``config.json`` and the model card.

    Parameters
    ----------
    folder
        Made if need be.
    network
        float32 (batch, *shape) to logits (batch, genres), on the CPU, in evaluation mode.
    representation
        What the network sees.
    genres
        In the order of the logits.
    trained
        How the model came about, as JSON values; ``describe`` tells the keys that the card uses.
    unsure_below
        See ``ClassifierConfig``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros((1, *representation.shape))
    free = {0: "batch", 1: "segments"} if representation.segmented else {0: "batch"}
    with quiet(
        ""
    ):  # the exporter that traces is deprecated, but the newer one needs a package more
        torch.onnx.export(
            network,
            (example,),
            str(folder / ONNX),
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": free, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    describe(folder, representation, genres, trained, unsure_below)


def export_transformers(folder: Path, network: nn.Module, genres: Sequence[str]) -> bool:
    """Write ``transformers/``, the network as ``transformers.pipeline`` opens it, if that can be.

    For a waveform as long as the encoder hears at a time (the representation's length, or the
    recipe's window) it gives the probabilities that the network gives.

    Parameters
    ----------
    folder
        The model folder, made if need be.
    network
        As ``fit`` gives it, on the CPU, in evaluation mode.
    genres
        In the order of the logits.

    Returns
    -------
    written
        Whether it was: only a single encoder with a head that transformers has, too, can be.
    """
    temperature = 1.0
    while not isinstance(network, Encoder):
        if isinstance(network, Windows):
            network = network.network
            continue
        parts = list(network) if isinstance(network, nn.Sequential) else []
        for part in parts:
            temperature *= float(part.temperature) if isinstance(part, Temperature) else 1.0
        whole = [part for part in parts if not isinstance(part, nn.Identity | Temperature)]
        if len(whole) != 1:
            return False
        network = whole[0]
    return network.save_transformers(folder / TRANSFORMERS, genres, temperature)


def describe(
    folder: Path,
    representation: Representation,
    genres: Sequence[str],
    trained: dict[str, Any],
    unsure_below: float = 0.0,
) -> None:
    """Write ``config.json`` and the model card, of a folder whose other files are there.

    ``trained`` may hold name, recipe, about, recipe_hash, dataset, protocol, seed, accuracy,
    macro_f1, n_train, n_valid, n_test, recall and tested (by genre), leaks (a sentence) and unsure
    (what ``unsure_below`` is worth; see ``genrescope.study.statistics.Doubt``).
    """
    config = ClassifierConfig(
        genres=list(genres),
        representation=representation.to_json(),
        unsure_below=unsure_below,
        files={name: sha256(folder / name) for name in (ONNX, WEIGHTS) if (folder / name).exists()},
        trained=trained,
    )
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(_card(config), encoding="utf-8")


def _card(config: ClassifierConfig) -> str:
    trained = config.trained
    accuracy = trained.get("accuracy")
    leaks = trained.get("leaks")  # a sentence: "The figure leaks: …", or "may leak"
    dataset = markdown_text(str(trained.get("dataset")))
    short = f"; {leaks.partition(':')[0].lower()}" if leaks else ""
    measured = (
        f"{accuracy:.3f} on {trained.get('n_test')} test tracks{short}"
        if isinstance(accuracy, float)
        else "not measured"
    )
    lines = [
        "---",
        yaml.safe_dump(_metadata(config), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# {markdown_text(_name(config))}",
        "",
        str(trained.get("about", "")),
        "",
        "| | |",
        "| --- | --- |",
        f"| genres | {markdown_text(', '.join(config.genres))} |",
        f"| sees | {config.representation['name']} |",
        *_needs(config),
        f"| trained on | {dataset}, {trained.get('n_train')} tracks |",
        f"| recipe | {trained.get('recipe')}, hash {trained.get('recipe_hash')} |",
        f"| protocol | `{trained.get('protocol')}`, seed {trained.get('seed')} |",
        f"| accuracy by that protocol | {measured} |",
        "",
        *([f"**{leaks}**", ""] if leaks else []),
        *_recalls(trained.get("recall") or {}, trained.get("tested") or {}),
        "## Use",
        "",
        "`genrescope classify --model THIS_FOLDER song.wav`, or in Python "
        '`genrescope.load("THIS_FOLDER").predict("song.wav")`. Instead of a folder, the '
        "`user/name` of the Hugging Face hub will do.",
        "",
        *_transformers(config),
        "## Limits",
        "",
        "The accuracy holds for tracks like those it was tested on, split as the protocol says; "
        "music unlike them will be told apart less well. It knows no genres but those above, and "
        "gives one of them for any sound, speech and noise too. "
        + _unsure(config)
        + "Genres overlap, and people disagree on them: take an answer as a suggestion, not as a "
        "fact about a track or its artist.",
        "",
        "## Licence",
        "",
        *_licence(config),
        "",
    ]
    return "\n".join(lines)


def _metadata(config: ClassifierConfig) -> dict[str, Any]:
    # The head of the card, as the Hugging Face hub reads it.
    trained = config.trained
    metadata: dict[str, Any] = {
        "license": str(trained.get("license", "unknown")),
        "library_name": "genrescope",
        "pipeline_tag": "audio-classification",
        "tags": ["music", "genre", "music-genre-classification", "onnx"],
        "metrics": ["accuracy", "f1"],
    }
    protocol, leaks = trained.get("protocol"), ", leaks" if trained.get("leaks") else ""
    named = {"accuracy": "accuracy", "macro_f1": "f1"}
    metrics = [
        {
            "type": kind,
            "name": f"{name.replace('_', ' ')} (protocol {protocol}{leaks})",
            "value": round(trained[name], 4),
        }
        for name, kind in named.items()
        if isinstance(trained.get(name), float)
    ]
    if metrics:
        result = {
            "task": {"type": "audio-classification", "name": "Music genre classification"},
            "dataset": {"name": str(trained.get("dataset")), "type": str(trained.get("dataset"))},
            "metrics": metrics,
        }
        metadata["model-index"] = [{"name": _name(config), "results": [result]}]
    return metadata


def _needs(config: ClassifierConfig) -> list[str]:
    # Networks that are no part of the package: whoever uses the model must have them.
    return [
        f"| needs | the {told['kind']} network `{told['source']}`, sha256 `{told['sha256']}` |"
        for told in config.representation.get("backbones", ())
        if isinstance(told, dict)
    ]


def _transformers(config: ClassifierConfig) -> list[str]:
    seconds = config.trained.get("transformers_s")
    if seconds is None:
        return []
    whole = {"name": "waveform", "seconds": seconds}.items() <= config.representation.items()
    several = "" if whole else ", and genrescope averages over several such stretches of a clip"
    return [
        "Without genrescope: "
        f'`transformers.pipeline("audio-classification", "THIS_FOLDER/{TRANSFORMERS}")` holds the '
        f"same network. It hears {seconds:g} s at 16 kHz at a time{several}: for so much sound "
        "the probabilities are the same. The pipeline hears longer clips whole and shorter ones as "
        "they are, while genrescope cuts, pads or repeats them to the length it was trained on.",
        "",
    ]


def _unsure(config: ClassifierConfig) -> str:
    if not config.unsure_below:
        return ""
    message = f"An answer with less confidence than {config.unsure_below:g} is marked unsure"
    if not (found := config.trained.get("unsure")):
        return f"{message}. "
    counts = {"right_unsure": found["unsure"], "right_sure": found["count"] - found["unsure"]}
    unsure, sure = (
        f"{count}" + ("" if found[kind] is None else f" ({found[kind]:.0%} of them right)")
        for kind, count in counts.items()
    )
    return f"{message}: of {found['count']} tracks that were held back, {unsure}; not so {sure}. "


def _licence(config: ClassifierConfig) -> list[str]:
    licence = config.trained.get("license")
    told = (
        f"This model: {licence}."
        if licence
        else "Whoever made this model has not said under which licence it may be used."
    )
    dataset = markdown_text(str(config.trained.get("dataset")))
    return [
        f"{told} The music it was trained on ({dataset}) is not in it, and "
        "has terms of its own, as have pretrained networks that it was made from."
    ]


def _recalls(recall: dict[str, float | None], tested: dict[str, int]) -> list[str]:
    known = {genre: share for genre, share in recall.items() if share is not None}
    if not known:
        return []

    def rated(genre: str) -> str:
        return f"{markdown_text(genre)} {known[genre]:.2f}"

    def counted(genre: str) -> str:
        return rated(genre) + (f" (of {tested[genre]} tracks)" if genre in tested else "")

    weak = sorted((genre for genre in known if known[genre] < 1), key=lambda genre: known[genre])
    weakest = f"Weakest: {', '.join(map(counted, weak[:3]))}" if weak else "None was missed"
    return [f"Recall by the same protocol: {', '.join(map(rated, known))}. {weakest}.", ""]


def _name(config: ClassifierConfig) -> str:
    return one_line(
        str(config.trained.get("name", config.trained.get("recipe", "Genre classifier")))
    )
