"""Export a fitted network as a model folder that ``genrescope.classifier`` opens without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from genrescope.classifier import CARD, CONFIG, ONNX, OTHER, TRANSFORMERS, WEIGHTS, ClassifierConfig
from genrescope.classifier.folder import LOGITS
from genrescope.environment import quiet
from genrescope.errors import one_line
from genrescope.files import sha256
from genrescope.io import markdown_text
from genrescope.models.classical import Temperature
from genrescope.models.encoder import Encoder
from genrescope.models.windows import Windows
from genrescope.representations import Representation

_TRACER_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    # The exporter by torch.export takes ten times as long, two minutes for an LSTM, and its files
    # are up to seven times as large.
    ("You are using the legacy TorchScript-based ONNX export", DeprecationWarning),
    ("The feature will be removed", DeprecationWarning),
    # Python numbers in the trace are constants of the network, such as the length of windows.
    ("", TracerWarning),
    ("Constant folding - Only steps=1 can be constant folded", UserWarning),
    # The batch is dynamic, and no initial state of the LSTM is given.
    ("Exporting a model to ONNX with a batch_size other than 1, with a variable", UserWarning),
    ("Support for mismatched key_padding_mask and attn_mask is deprecated", UserWarning),  # WavLM
)


def export(
    folder: Path,
    network: nn.Module,
    representation: Representation,
    genres: Sequence[str],
    trained: dict[str, Any],
    unsure_below: float = 0.0,
    *,
    other: nn.Module | None = None,
    other_above: float | None = None,
) -> None:
    """Write ``model.onnx``, ``model.safetensors``, ``config.json`` and the model card.

    Parameters
    ----------
    folder
        Created if it does not exist.
    network
        float32 (batch, *shape) to logits (batch, genres), or to a tuple of these and the scores
        ``other`` (batch,); on the CPU, in evaluation mode.
    representation
        The network's input.
    genres
        In the order of the logits.
    trained
        Details for the model card, as JSON values; ``describe`` lists the keys.
    unsure_below, other_above
        See ``ClassifierConfig``.
    other
        From the network's arrays to the score for "none of these genres", float32 (batch,), on the
        CPU, in evaluation mode; the second output of ``model.onnx``, ``other``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros((1, *representation.shape))
    free = {0: "batch", 1: "segments"} if representation.segmented else {0: "batch"}
    outputs = {LOGITS: network} if other is None else {LOGITS: network, OTHER: other}
    with quiet(*_TRACER_WARNINGS):
        torch.onnx.export(
            _Outputs(outputs.values()).eval(),
            (example,),
            str(folder / ONNX),
            input_names=["input"],
            output_names=list(outputs),
            dynamic_axes={"input": free, **{name: {0: "batch"} for name in outputs}},
            opset_version=17,
            dynamo=False,
        )
    state = network.state_dict()
    if other is not None:
        state |= {f"other.{name}": tensor for name, tensor in other.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    describe(folder, representation, genres, trained, unsure_below, other_above)


class _Outputs(nn.Module):
    # Networks with one input.

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, arrays: Tensor) -> tuple[Tensor, ...]:
        return tuple(network(arrays) for network in self.networks)


def export_transformers(folder: Path, network: nn.Module, genres: Sequence[str]) -> bool:
    """Write the network to ``transformers/`` for ``transformers.pipeline``, where possible.

    For a waveform of the encoder's input length (the representation's, or the recipe's window) the
    pipeline gives the same probabilities.

    Parameters
    ----------
    folder
        The model folder, created if it does not exist.
    network
        As ``fit`` returns it, on the CPU, in evaluation mode.
    genres
        In the order of the logits.

    Returns
    -------
    written
        True for a single encoder whose head exists in transformers, too.
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
    other_above: float | None = None,
) -> None:
    """Write ``config.json`` and the model card of a folder that has its other files.

    ``trained`` may hold name, recipe, about, recipe_hash, dataset, protocol, seed, accuracy,
    macro_f1, n_train, n_valid, n_test, recall and tested (by genre), leaks (a sentence), unsure
    (accuracies below and above ``unsure_below``; see ``genrescope.study.statistics.Doubt``),
    other: of held-out ``tracks`` of the genres, ``rejected_known``, the share above
    ``other_above``; and by_genre, cut, f1, left_out and precision, as of
    ``genrescope.learn.learn.card_details``.
    """
    config = ClassifierConfig(
        genres=list(genres),
        representation=representation.to_json(),
        unsure_below=unsure_below,
        other_above=other_above,
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
        f"| input | {_input(config.representation)} |",
        *_needs(config),
        f"| trained on | {dataset}, {trained.get('n_train')} tracks |",
        f"| recipe | {trained.get('recipe')}, hash {trained.get('recipe_hash')} |",
        f"| protocol | `{trained.get('protocol')}`, seed {trained.get('seed')} |",
        f"| accuracy by that protocol | {measured} |",
        "",
        *([f"**{leaks}**", ""] if leaks else []),
        *_recalls(trained.get("recall") or {}, trained.get("tested") or {}),
        *_by_genre(trained),
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
        "music unlike them will be classified less well. "
        + _other(config)
        + _unsure(config)
        + "Genres overlap, and people disagree on them: a prediction is a suggestion, not a fact "
        "about a track or its artist.",
        "",
        "## Licence",
        "",
        *_licence(config),
        "",
    ]
    return "\n".join(lines)


def _input(representation: dict[str, Any]) -> str:
    # With the names of the representations that it puts side by side.
    parts = representation.get("of")
    names = [part["name"] for part in parts] if isinstance(parts, list) else []
    return str(representation["name"]) + (f": {', '.join(names)}" if names else "")


def _metadata(config: ClassifierConfig) -> dict[str, Any]:
    # The YAML header that the Hugging Face hub reads.
    trained = config.trained
    metadata: dict[str, Any] = {
        "license": str(trained.get("license", "unknown")),
        "library_name": "genrescope",
        "pipeline_tag": "audio-classification",
        "tags": ["music", "genre", "music-genre-classification", "onnx"],
        "metrics": ["accuracy", "f1"],
    }
    said = str(trained.get("leaks") or "")
    leaks = ", may leak" if "may leak" in said else ", leaks" if said else ""
    protocol = trained.get("protocol")
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
    # Networks outside the package, which every user of the model needs.
    return [
        f"| needs | the {network['kind']} network `{network['source']}`, sha256 "
        f"`{network['sha256']}` |"
        for network in config.representation.get("backbones", ())
        if isinstance(network, dict)
    ]


def _transformers(config: ClassifierConfig) -> list[str]:
    seconds = config.trained.get("transformers_s")
    if seconds is None:
        return []
    whole = {"name": "waveform", "seconds": seconds}.items() <= config.representation.items()
    several = "" if whole else ", and genrescope averages over several such windows of a clip"
    return [
        "Without genrescope: "
        f'`transformers.pipeline("audio-classification", "THIS_FOLDER/{TRANSFORMERS}")` holds the '
        f"same network. Its input is {seconds:g} s at 16 kHz{several}: for audio of this length "
        "the probabilities are the same. The pipeline takes longer and shorter clips whole, while "
        "genrescope cuts, pads or repeats them to the length of training.",
        "",
    ]


def _other(config: ClassifierConfig) -> str:
    if config.other_above is None:
        return "It predicts one of the genres above for any sound, including speech and noise. "
    message = (
        "It answers `other`, none of the genres above, for what is less like the music that it was "
        f"trained on than its threshold allows (score above {config.other_above:.4g})"
    )
    if found := config.trained.get("other"):
        message += (
            f": of {found['tracks']} held-out tracks of these genres, it did so for "
            f"{found['rejected_known']:.1%}"
        )
    return f"{message}. Other sounds, including speech and noise, may still be given one of them. "


def _unsure(config: ClassifierConfig) -> str:
    if not config.unsure_below:
        return ""
    message = f"A prediction with less confidence than {config.unsure_below:g} is marked unsure"
    if not (found := config.trained.get("unsure")):
        return f"{message}. "
    counts = {"right_unsure": found["unsure"], "right_sure": found["count"] - found["unsure"]}
    unsure, sure = (
        f"{count}" + ("" if found[kind] is None else f" ({found[kind]:.0%} of them right)")
        for kind, count in counts.items()
    )
    return f"{message}: of {found['count']} held-out tracks, {unsure}; the others, {sure}. "


def _licence(config: ClassifierConfig) -> list[str]:
    licence = config.trained.get("license")
    terms = f"This model: {licence}." if licence else "The licence of this model is not stated."
    dataset = markdown_text(str(config.trained.get("dataset")))
    return [
        f"{terms} The music it was trained on ({dataset}) is not in it. That music and any "
        "pretrained networks have terms of their own."
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


def _by_genre(trained: dict[str, Any]) -> list[str]:
    if not (results := trained.get("by_genre")):
        return []

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    f1 = "; ".join(
        f"{name} F1 {found['value']:.3f} (95 % interval {found['low']:.3f} to {found['high']:.3f})"
        for name, found in trained["f1"].items()
    )
    lines = [
        "## Genres",
        "",
        f"On held-out artists: {f1}. A track's predicted genres are the most probable one, and "
        f"others of at least {trained['cut']:.2f}. The threshold is the lowest probability from "
        f"which on {trained['precision']:.0%} are right; recall at it is what is left then.",
        "",
        "| genre | tracks | artists | precision | recall | threshold | recall at it | mixed up |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for genre, found in results.items():
        mixed = ", ".join(f"{name} {share:.0%}" for name, share in found["mixed_up"].items())
        cells = (
            markdown_text(genre),
            str(found["tracks"]),
            str(found["artists"]),
            *map(number, (found["precision"], found["recall"], found["threshold"])),
            "–" if found["threshold"] is None else number(found["threshold_recall"]),
            markdown_text(mixed),
        )
        lines.append(f"| {' | '.join(cells)} |")
    left_out = [
        f"{one['genre']} ({one['tracks']} tracks, {one['artists']} artists: {one['reason']}"
        + (f"; learned as {one['learned_as']})" if one["learned_as"] else ")")
        for one in trained.get("left_out", ())
    ]
    if left_out:
        lines += ["", f"Not learned by themselves: {markdown_text(', '.join(left_out))}."]
    return [*lines, ""]


def _name(config: ClassifierConfig) -> str:
    return one_line(
        str(config.trained.get("name", config.trained.get("recipe", "Genre classifier")))
    )
