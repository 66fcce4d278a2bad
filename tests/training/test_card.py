"""The model card says what a model can, by which protocol, and what it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from genrescope.io import markdown_text
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


def card(
    folder: Path, unsure_below: float = 0.0, other_above: float | None = None, **shown: Any
) -> tuple[dict[str, Any], list[str]]:
    """The metadata and the sections of a card."""
    waveform = make_representation("waveform", {"seconds": 30})
    details = {**TRAINED, **shown}
    describe(folder, waveform, ("fado", "polka"), details, unsure_below, other_above)
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
        "Weakest: polka 0.60, fado 0.90.",
    ):
        assert words in top
    assert use.startswith("Use\n")
    assert limits.startswith("Limits\n")
    assert "music unlike them" in limits
    assert licence.startswith("Licence\n")


def test_the_licence_is_stated_or_unknown(tmp_path: Path) -> None:
    head, sections = card(tmp_path, license="cc-by-4.0")
    assert head["license"] == "cc-by-4.0"
    assert "This model: cc-by-4.0." in sections[-1]
    head, sections = card(tmp_path)
    assert head["license"] == "unknown"
    assert "The licence of this model is not stated." in sections[-1]
    assert "my-music" in sections[-1]


def test_only_a_model_that_can_be_unsure_says_so(tmp_path: Path) -> None:
    assert "less confidence than 0.5 is marked unsure" in card(tmp_path, 0.5)[1][2]
    assert "unsure" not in card(tmp_path)[1][2]


@pytest.mark.parametrize(
    ("seconds", "words"), [(30.0, "Its input is 30 s at 16 kHz:"), (5.0, "Its input is 5 s")]
)
def test_only_a_model_with_a_transformers_folder_mentions_it(
    seconds: float, words: str, tmp_path: Path
) -> None:
    assert "transformers" not in card(tmp_path)[1][1]
    use = card(tmp_path, transformers_s=seconds)[1][1]
    assert words in use
    assert ("genrescope averages over several" in use) == (seconds == 5)


def test_a_card_has_the_models_own_name_and_counts_its_weakest_genres(tmp_path: Path) -> None:
    head, (top, *_) = card(tmp_path, name="my|model", tested={"fado": 30, "polka": 20})
    assert head["model-index"][0]["name"] == "my|model"
    assert "# my\\|model\n" in top
    assert "| recipe | mine, hash 0123456789ab |" in top
    assert "Weakest: polka 0.60 (of 20 tracks), fado 0.90 (of 30 tracks)." in top
    assert "None was missed." in card(tmp_path, recall={"fado": 1.0, "polka": 1.0})[1][0]


def test_names_cannot_break_the_cards_table(tmp_path: Path) -> None:
    dataset = "a|b\n| accuracy | 1.0 |"
    top = card(tmp_path, dataset=dataset, name="x\n# y")[1][0]
    assert f"| trained on | {markdown_text(dataset)}, 80 tracks |" in top
    assert r"| trained on | a\|b" in top
    assert r"# x\\n# y" in top


def test_a_figure_that_leaks_is_marked_wherever_it_is(tmp_path: Path) -> None:
    sentence = "The figure leaks: artists cannot be kept apart."
    head, (top, *_) = card(tmp_path, leaks=sentence)
    assert "0.750 on 100 test tracks; the figure leaks |" in top
    assert f"**{sentence}**" in top
    metrics = head["model-index"][0]["results"][0]["metrics"]
    assert [m["name"] for m in metrics] == [
        "accuracy (protocol grouped, leaks)",
        "macro f1 (protocol grouped, leaks)",
    ]
    assert "leak" not in card(tmp_path)[1][0]


def test_a_card_says_what_the_unsure_mark_is_worth(tmp_path: Path) -> None:
    found = {"count": 50, "unsure": 10, "right_unsure": 0.3, "right_sure": 0.9, "below": 0.4}
    limits = card(tmp_path, 0.4, unsure=found)[1][2]
    assert "of 50 held-out tracks, 10 (30% of them right); the others, 40 (90% of" in limits
    never = {**found, "unsure": 0, "right_unsure": None}
    assert "held-out tracks, 0; the others, 50 (90% of" in card(tmp_path, 0.4, unsure=never)[1][2]


def test_a_card_says_what_other_means_and_how_often_known_music_is_it(tmp_path: Path) -> None:
    always = "It predicts one of the genres above for any sound"
    assert always in card(tmp_path)[1][2]
    limits = card(tmp_path, 0.0, 2.5)[1][2]
    assert always not in limits
    assert "It answers `other`, none of the genres above," in limits
    assert "(score above 2.5). Other sounds, including speech" in limits
    found = {"rejected_known": 0.046, "tracks": 500}
    limits = card(tmp_path, 0.0, 2.5, other=found)[1][2]
    assert "2.5): of 500 held-out tracks of these genres, it did so for 4.6%. Other" in limits
    assert json.loads((tmp_path / "config.json").read_text())["other_above"] == 2.5


def test_the_genres_of_a_library_are_in_a_table(tmp_path: Path) -> None:
    by_genre = {
        "fado": {
            "tracks": 60,
            "artists": 9,
            "precision": 0.75,
            "recall": 0.5,
            "threshold": 0.625,
            "threshold_recall": 0.25,
            "mixed_up": {"pol|ka": 0.4},
        },
        "polka": {
            "tracks": 40,
            "artists": 4,
            "precision": None,
            "recall": 0.0,
            "threshold": None,
            "threshold_recall": 0.0,
            "mixed_up": {},
        },
    }
    f1 = {"micro": {"value": 0.6, "low": 0.5, "high": 0.7}}
    left = {"genre": "zouk", "tracks": 3, "artists": 2, "reason": "few", "learned_as": None}
    _, parts = card(
        tmp_path, by_genre=by_genre, f1=f1, cut=0.3, precision=0.9, left_out=[left], recall={}
    )
    (table,) = [part for part in parts if part.startswith("Genres\n")]
    assert "| fado | 60 | 9 | 0.75 | 0.50 | 0.62 | 0.25 | pol\\|ka 40% |" in table
    assert "| polka | 40 | 4 | – | 0.00 | – | – |  |" in table
    assert "micro F1 0.600 (95 % interval 0.500 to 0.700)" in table
    assert "at least 0.30" in table
    assert "zouk (3 tracks, 2 artists: few)" in table
