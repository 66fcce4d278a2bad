"""The site builds without a warning, loads nothing from elsewhere, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "https://github.com/genrescope/genrescope/blob/main/"
PLAIN_PAGES = [
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    )
    if path.name != "CHANGELOG.md"
]

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")


@dataclass
class Page(HTMLParser):
    """What an HTML page loads, where it links to and what may be linked to in it."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    headings: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.headings += tag == "h1"
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.loads.append(given.get("href", ""))
        elif tag in {"script", "img", "iframe", "source", "video", "audio", "embed", "object"}:
            self.loads += [given[name] for name in ("src", "data", "srcset") if given.get(name)]


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: parse(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_page_of_the_documentation_is_in_it(site: Path, pages: dict[Path, Page]) -> None:
    for source in (ROOT / "docs").rglob("*.md"):
        built = site / source.relative_to(ROOT / "docs").with_suffix(".html")
        assert pages[built].headings == 1, source


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    away = re.compile(r"(\w+:)?//")
    assert not [
        (page.name, load)
        for page, found in pages.items()
        for load in found.loads
        if away.match(load)
    ]
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text("utf-8")
        assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", text), sheet
    for page in pages:
        html = page.read_text("utf-8")
        assert not re.search(r"google|gtag|fonts\.gstatic|unpkg|jsdelivr|cdnjs", html), page
        assert 'class="mermaid"' not in html, "the theme fetches what draws these"


def test_what_it_loads_and_links_to_is_there(site: Path, pages: dict[Path, Page]) -> None:
    wrong = []
    for page, found in pages.items():
        base = site if page.name == "404.html" else page.parent
        for address in (*found.loads, *found.links):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            target = page if not path else (base / path.lstrip("/")).resolve()
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file():
                wrong.append(f"{page.name}: {address}: no such file")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                wrong.append(f"{page.name}: {address}: no such anchor")
    assert not wrong


def test_links_to_the_source_lead_to_files_of_it() -> None:
    for page in PLAIN_PAGES:
        for link in links(page):
            if link.startswith(SOURCE):
                path = link.removeprefix(SOURCE).partition("#")[0]
                assert (ROOT / path).exists(), f"{page.name}: {link}"


def test_the_public_names_are_in_the_reference(pages: dict[Path, Page]) -> None:
    (reference,) = (found for path, found in pages.items() if path.name == "reference.html")
    for name in (
        "genrescope.load",
        "genrescope.sample",
        "genrescope.classifier.Classifier.predict",
        "genrescope.classifier.Prediction.likely",
        "genrescope.classifier.Timeline",
        "genrescope.library.scan.analyse",
        "genrescope.library.similar.Library.similar",
        "genrescope.representations.representation.representation",
        "genrescope.models.model.model",
        "genrescope.datasets.splits.PROTOCOLS",
        "genrescope.training.recipe.load_recipe",
        "genrescope.errors.InputError",
    ):
        assert name in reference.anchors


def test_marks_for_the_tests_are_not_seen(pages: dict[Path, Page]) -> None:
    for path in pages:
        html = path.read_text("utf-8")
        visible = re.sub(r"<!--.*?-->", "", html, flags=re.DOTALL)
        assert "not run:" not in visible, path
        assert "--8&lt;--" not in visible, path
        assert "--8<--" not in visible, path


@pytest.mark.parametrize("page", PLAIN_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_hold_where_the_page_is_read_as_it_is(page: Path) -> None:
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in set(headings(target)), link


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    return re.findall(r"\]\(\s*<?([^)\s>]+)", text)


def headings(page: Path) -> Iterator[str]:
    """Give the anchors that GitHub makes of a page's headings."""
    seen: dict[str, int] = {}
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        count = seen[slug] = seen.get(slug, -1) + 1
        yield f"{slug}-{count}" if count else slug
