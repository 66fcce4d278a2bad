"""Names and reports that hold code: in no view of the page does any run, or any request leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mutagen.id3 import ID3, TALB, TCON, TIT2, TPE1

import genrescope
import reviewed_library
from web_server import Server

pytest.importorskip("playwright.sync_api", reason="needs playwright")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("web-hostile")]
IMAGE = "<img src=x onerror=window.hit=1>"
OUT = "http://elsewhere.example"
CODE = f'"><script>window.hit=1</script><svg onload=window.hit=1><img src={OUT}/i>{IMAGE}'
LINK = '<a href="javascript:window.hit=1">'
NAMES = (
    f"{IMAGE}.mp3",
    '"><svg onload=window.hit=1>.mp3',
    "' onfocus='window.hit=1' autofocus.mp3",
)
REPORT = f"""<!doctype html><meta http-equiv="refresh" content="0;url={OUT}/refresh">
<body><main><h1 onclick="window.hit=1">Study</h1>{LINK}link</a>{IMAGE}
<p title="{IMAGE}">text</p><a href="table.csv">table</a><a href="{OUT}/web">web</a></main></body>"""


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    root, report = folder / IMAGE, folder / "report"
    album = root / "<b onclick=window.hit=1>album"
    album.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        path = (root, album)[i % 2] / name
        shutil.copy(genrescope.sample(genrescope.SAMPLES[i]), path)
        tags = ID3()
        for kind, text in ((TIT2, CODE), (TPE1, LINK), (TALB, CODE), (TCON, IMAGE)):
            tags.add(kind(encoding=3, text=text))
        tags.save(path)
    (root / f"{IMAGE}broken.mp3").write_bytes(b"ID3\4\0\0" + bytes(500))
    reviewed_library.analyse(root, folder / "library.db")
    report.mkdir()
    (report / "report.html").write_text(REPORT, encoding="utf-8")
    (report / "table.csv").write_text("a,b\n", encoding="utf-8")
    files = ("--db", folder / "library.db", "--journal", folder / "journal.db")
    with serve("--library", root, *files, "--allow-writing", "--report", report) as server:
        yield server


@pytest.fixture
def page(chromium: Any, server: Server) -> Iterator[Any]:
    """Give a page whose requests to elsewhere are in ``page.left``."""
    page = chromium.new_context().new_page()
    page.left = []

    def watch(route: Any) -> None:
        page.left.append(route.request.url)
        route.fulfill(body="elsewhere")

    page.context.route(f"{OUT}/**", watch)
    page.goto(server.address)
    yield page
    page.context.close()


@pytest.mark.parametrize("view", ["", "library", "review", "study", f"answer/{IMAGE}", IMAGE])
def test_no_view_runs_what_is_in_names(page: Any, server: Server, view: str) -> None:
    page.goto(f"{server.address}/#/{view}")
    page.reload()
    if not view:
        path = genrescope.sample("pulse")
        sent = {"name": NAMES[0], "mimeType": "audio/mpeg", "buffer": path.read_bytes()}
        page.set_input_files("input[type=file][aria-label=Files]", [sent])
        page.locator(".intake.folded ~ .place > .answer:not(.pending)").wait_for()
    elif view == "library":
        page.get_by_text(CODE).first.wait_for()
        page.fill("input[type=search]", IMAGE)
    elif view == "review":
        page.select_option("#option-existing", "replace")
        page.get_by_role("button", name="Make a plan").click()
        page.get_by_text(IMAGE).first.wait_for()
    elif view == "study":
        page.get_by_role("heading", name="Study").click()
    page.wait_for_timeout(500)
    assert page.evaluate("window.hit") is None
    assert page.left == []
    assert page.url.startswith(server.address)


def test_a_report_that_is_opened_by_itself_leads_nowhere(page: Any, server: Server) -> None:
    page.goto(f"{server.address}/report/report.html")
    page.wait_for_timeout(1000)
    page.get_by_role("heading", name="Study").click()
    page.get_by_text("link").click()
    assert page.evaluate("window.hit") is None
    assert page.left == []
    assert page.url == f"{server.address}/report/report.html"
    with page.expect_download() as download:
        page.get_by_text("table").click()
    assert download.value.suggested_filename == "table.csv"
    page.get_by_text("web").click()
    page.wait_for_url(f"{OUT}/web")
