"""The page on the design knows every module, on its floor, and so does its picture."""

import re
from pathlib import Path

import pytest

from test_architecture import FLOORS

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("module", sorted(FLOORS))
def test_the_page_has_every_module_on_its_floor(module: str) -> None:
    rows = re.findall(
        r"^\| (\d+) \|([^|]*)\|", (DOCS / "design.md").read_text("utf-8"), re.MULTILINE
    )
    assert [int(floor) for floor, named in rows if f"`{module}`" in named] == [FLOORS[module]]


@pytest.mark.parametrize("module", sorted(FLOORS))
def test_the_picture_has_every_module_on_its_floor(module: str) -> None:
    picture = (DOCS / "images" / "floors.svg").read_text("utf-8")
    floors = re.split(r'class="number"[^>]*>', picture)[1:]
    found = [int(part.split("<")[0]) for part in floors if f">{module}</text>" in part]
    assert found == [FLOORS[module]]
