"""The colours of genres: whoever sees few colours can distinguish them, on light and dark."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

STYLE = (files("genrescope.web") / "static" / "style.css").read_text(encoding="utf-8")
PAIR = r"light-dark\((#\w{6}), (#\w{6})\)"
# G. M. Machado et al., 2009: what linear RGB looks like without one kind of cone.
EYES = {
    "all cones": np.eye(3),
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# B. Ottosson, 2020: Oklab, in which 0.02 is about the smallest difference that is seen.
CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
OKLAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


def linear(colour: str) -> NDArray[np.float64]:
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return float((high + 0.05) / (low + 0.05))


def named(name: str, theme: int) -> str:
    return str(re.search(rf"--{name}: {PAIR}", STYLE)[theme + 1])


@pytest.fixture(params=[0, 1], ids=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def genres(theme: int) -> list[str]:
    found = re.findall(rf"\.genre-\d \{{ --genre: {PAIR}", STYLE)
    assert len(found) == 10
    return [colours[theme] for colours in found]


@pytest.mark.parametrize("eyes", EYES)
def test_genres_differ_for_every_kind_of_eyes(eyes: str, theme: int) -> None:
    seen = [np.clip(np.array(EYES[eyes]) @ linear(colour), 0, 1) for colour in genres(theme)]
    places = [np.array(OKLAB) @ np.cbrt(np.array(CONES) @ colour) for colour in seen]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 0.06


def test_genres_stand_out_from_what_is_behind_them(theme: int) -> None:
    for colour in [*genres(theme), named("genre", theme)]:
        assert contrast(colour, named("card", theme)) >= 3


@pytest.mark.parametrize(
    ("text", "behind"),
    [
        ("ink", "page"),
        ("quiet", "page"),
        ("quiet", "card"),
        ("quiet", "well"),
        ("accent", "card"),
        ("accent", "accent-soft"),
        ("on-accent", "accent"),
        ("on-accent", "accent-strong"),
        ("warm", "page"),
        ("warm", "warm-soft"),
        ("on-warm", "warm"),
        ("good", "good-soft"),
        ("fair", "fair-soft"),
    ],
)
def test_text_can_be_read(text: str, behind: str, theme: int) -> None:
    assert contrast(named(text, theme), named(behind, theme)) >= 4.5
