"""The report in a browser: on a screen, on a telephone and printed on A4, nothing is cut."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_figures import make_cell
from test_report import HEARD, make_study, with_missing

from browser import CHROMIUM, chromium_running, missing
from genrescope.errors import InputError
from genrescope.report.pdf import find_browser, write_pdf
from genrescope.report.write import write_report
from genrescope.training.loggers import CURVE_COLUMNS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("report-layout")]
PRINTED_PX = round((210 - 2 * 16) / 25.4 * 96)  # A4 without its margins

WIDER = """() => {
  const found = [];
  const right = document.documentElement.clientWidth;
  for (const box of document.querySelectorAll("table, img, p, h1, h2, li, .grid")) {
    const frame = box.closest(".scroll, figure");
    const scrolls = frame && getComputedStyle(frame).overflowX === "auto";
    const shown = (scrolls ? frame : box).getBoundingClientRect();
    if (shown.right > right + 1 || shown.left < -1) found.push(box.outerHTML.slice(0, 200));
  }
  return found;
}"""
SCROLLING = """() => [...document.querySelectorAll(".scroll")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => box.getAttribute("aria-label"))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a report with every kind of section, and names as long as they may be."""
    curves = [[dict.fromkeys(CURVE_COLUMNS, 0.5)] * 3]
    names = [
        "original-mlp",
        "original-cnn",
        "svm",
        "x" * 60,
        "a recipe (of " + "many words " * 4 + ")",
    ]
    cells = [
        make_cell(name, protocol, 0.3 + 0.1 * i, chance=i, tracks=60 if i else 20, parameters=10**8,
                  train_seconds=12345.6, predict_seconds=12.3, peak_memory=2**33)
        for protocol in ("filtered", "grouped", "random", "leaky-segments")
        for i, name in enumerate(names)
    ]  # fmt: skip
    cells = [replace(cell, curves=curves) for cell in cells]
    study = with_missing(make_study(cells, audio=HEARD), "original-wav2vec2")
    tracks = tuple(replace(t, faults=(f"identical to {t.id}",) * 3) for t in study.dataset.tracks)
    study = replace(study, dataset=replace(study.dataset, name="gtzan", tracks=tracks))
    return write_report(study, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with chromium_running() as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 390])
def test_no_table_is_wider_than_the_page(
    chromium: Any, report: Path, width: int, scheme: str
) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(report.as_uri())
    assert page.locator("table").count() > 20
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER) == []
    scrolling = page.evaluate(SCROLLING)
    if width == 1100:
        assert scrolling == []
    else:  # each by itself, and none that only has figures is squeezed
        assert any("Table 4.1." in label for label in scrolling)
    page.close()


def test_the_printed_report_is_whole(chromium: Any, report: Path) -> None:
    page = chromium.new_page(viewport={"width": PRINTED_PX, "height": 1000})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    assert page.evaluate(WIDER) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PRINTED_PX
    hidden = "[...document.querySelectorAll('main *')].filter(e => !e.checkVisibility()).length"
    assert page.evaluate(hidden) == 0
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[(.*?)\]", pdf)}
    assert {(round(w), round(h)) for _, _, w, h in sizes} == {(595, 842)}  # points of A4
    assert len(re.findall(rb"/Type /Page\b", pdf)) > 5
    page.close()


def test_the_pdf_is_printed_with_page_numbers(report: Path) -> None:
    if CHROMIUM is None:
        missing("Chromium")
    pdf = write_pdf(report, find_browser())
    assert pdf == report.with_suffix(".pdf")
    assert len(re.findall(rb"/Type /Page\b", pdf.read_bytes())) > 5
    assert [path.name for path in report.parent.glob(".*")] == []


def test_a_browser_that_fails_leaves_no_pdf(report: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_bytes(report.read_bytes())
    with pytest.raises(InputError, match=r"could not print it\. Print report.html"):
        write_pdf(page, sys.executable)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_figures_of_accuracy_are_not_broken_into_lines(chromium: Any, report: Path) -> None:
    for width in (1100, 390, PRINTED_PX):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.emulate_media(media="print" if width == PRINTED_PX else "screen")
        page.goto(report.as_uri())
        heights = page.evaluate(
            "[...document.querySelectorAll('td.r')].map((cell) => {"
            " const range = document.createRange(); range.selectNodeContents(cell);"
            " return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size; })"
        )
        assert len(heights) > 100
        assert set(heights) == {1}
        page.close()
