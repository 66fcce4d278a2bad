"""The model card says what a model can, by which protocol, and what it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from genrescope.representations import make_representation
from genrescope.training.export import describe

TRAINED = {
    "recipe": "mine",
    "about": "A recipe of mine.",
    "recipe_hash": "0123456789ab",
    "dataset": "my-music",
    "protocol": "grouped",
    "seed": 0,
    "n_train": 80,
    "n_test": 100,
    "accuracy": 0.75,
    "macro_f1": 0.7,
    "recall": {"fado": 0.9, "polka": 0.6},
}


def card(folder: Path, unsure_below: float = 0.0, **told: Any) -> tuple[dict[str, Any], list[str]]:
    """The metadata and the sections of a card."""
    waveform = make_representation("waveform", {"seconds": 30})
    describe(folder, waveform, ("fado", "polka"), {**TRAINED, **told}, unsure_below)
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", maxsplit=2)
    return yaml.safe_load(head), body.split("\n## ")


def test_every_card_has_metadata_protocol_accuracy_limits_and_licence(tmp_path: Path) -> None:
    head, (top, use, limits, licence) = card(tmp_path)
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.75
    for words in (
        "# mine\n",
        "A recipe of mine.",
        "| genres | fado, polka |",
        "| protocol | `grouped`, seed 0 |",
        "| accuracy by that protocol | 0.750 on 100 test tracks |",
        "Weakest: polka, fado.",
    ):
        assert words in top
    assert use.startswith("Use\n")
    assert limits.startswith("Limits\n")
    assert "music unlike them" in limits
    assert licence.startswith("Licence\n")


def test_the_licence_is_told_or_said_to_be_unknown(tmp_path: Path) -> None:
    head, sections = card(tmp_path, license="cc-by-4.0")
    assert head["license"] == "cc-by-4.0"
    assert "This model: cc-by-4.0." in sections[-1]
    head, sections = card(tmp_path)
    assert head["license"] == "unknown"
    assert "has not said under which licence" in sections[-1]
    assert "my-music" in sections[-1]


def test_only_a_model_that_can_be_unsure_says_so(tmp_path: Path) -> None:
    assert "less confidence than 0.5 is marked unsure" in card(tmp_path, 0.5)[1][2]
    assert "unsure" not in card(tmp_path)[1][2]


@pytest.mark.parametrize(
    ("seconds", "words"), [(30.0, "It hears 30 s at 16 kHz at a time:"), (5.0, "It hears 5 s")]
)
def test_only_a_model_with_a_transformers_folder_speaks_of_it(
    seconds: float, words: str, tmp_path: Path
) -> None:
    assert "transformers" not in card(tmp_path)[1][1]
    use = card(tmp_path, transformers_s=seconds)[1][1]
    assert words in use
    assert ("genrescope averages over several" in use) == (seconds == 5)
