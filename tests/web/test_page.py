"""The page in a real browser: what a visitor sees, hears about and can reach by keyboard."""

from __future__ import annotations

import base64
import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from rich.console import Console

import genrescope
from browser import chromium_running, missing
from genrescope.cli.progress import StudyProgress
from genrescope.datasets.demo import make
from genrescope.report.write import write_report
from genrescope.study.config import load_study
from genrescope.study.run import Options, run_study
from web_server import Server

pytest.importorskip("playwright.sync_api", reason="needs playwright")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("web-page")]
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
INPUT = "#gs-input input[type=file]"
ASK = """([clip, count]) => {
  const bytes = Uint8Array.from(atob(clip), (letter) => letter.charCodeAt(0));
  const form = new FormData();
  form.append("file", new Blob([bytes]), "clip.mp3");
  const ask = async () => (await fetch("/api/classify", { method: "POST", body: form })).json();
  window.answers = Promise.all(Array.from({ length: count }, ask));
}"""
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the report of a real study of a classical model, on a second of each demo clip."""
    folder = tmp_path_factory.mktemp("study")
    plan = load_study(
        "original",
        recipes=["knn"],
        protocols=["grouped", "random"],
        seeds=1,
        audio_variants=None,
    )
    demo = make(folder / "demo", tracks_per_style=7, seconds=1.0)
    options = Options(jobs=1, store=folder / "store", download=False)
    with StudyProgress(Console(quiet=True)) as progress:
        done = run_study(plan, demo, folder / "report", options, progress)
    return write_report(done, folder / "report").parent


@pytest.fixture(scope="module")
def server(
    serve: Callable[..., Any], report: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    library = tmp_path_factory.mktemp("library")
    for name in genrescope.SAMPLES:
        shutil.copy(genrescope.sample(name), library / f"{name} <b>&.mp3")
    with serve("--report", report, "--library", library, "--max-minutes", 1) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with chromium_running() as browser:
        yield browser


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open the page; whatever it asks of another server, or throws, fails the test."""
    contexts, foreign, thrown = [], [], []

    def open_page(viewport: dict[str, int] | None = None, scheme: str = "light") -> Any:
        context = chromium.new_context(
            viewport=viewport or DESKTOP,
            color_scheme=scheme,
            reduced_motion="reduce",
            permissions=["microphone"],
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: foreign.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.on("console", lambda told: "Policy" in told.text and thrown.append(told.text))
        page.goto(server.address)
        page.wait_for_selector(INPUT, state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    own = (server.address, "data:", f"blob:{server.address}")
    assert [url for url in foreign if not url.startswith(own)] == []
    assert thrown == []


def shoot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def answered(page: Any) -> str:
    page.wait_for_selector(".gs-answer:not(.gs-hint) .gs-sentence")
    return str(page.inner_text(".gs-sentence"))


@pytest.fixture
def song(tmp_path: Path, music: Callable[..., Any]) -> Path:
    path = tmp_path / "a song & more.wav"
    soundfile.write(path, music(seconds=20.0), 22050)
    return path


@pytest.mark.parametrize(
    ("name", "viewport", "scheme"),
    [
        ("desktop", DESKTOP, "light"),
        ("desktop-dark", DESKTOP, "dark"),
        ("phone", PHONE, "light"),
        ("phone-dark", PHONE, "dark"),
    ],
)
def test_a_clip_is_answered_with_all_there_is_to_see(
    visit: Callable[..., Any],
    server: Server,
    song: Path,
    name: str,
    viewport: dict[str, int],
    scheme: str,
) -> None:
    page = visit(viewport, scheme)
    page.set_input_files(INPUT, song)
    sentence = answered(page)
    expected = genrescope.load().predict(song)
    assert f"{expected.best} ({expected.confidence:.2f})" in sentence
    rows = page.locator(".gs-bars tr").all_inner_texts()
    assert [re.split(r"\s+", row.strip())[0] for row in rows] == list(expected.probabilities)
    assert f"{100 * expected.confidence:.0f} %" in rows[0]
    assert page.inner_text(".gs-file").startswith("a song & more.wav, 0:20")
    assert "<b>&" in page.inner_text(".gs-near")
    # The picture, and the strip below it, as wide as each other.
    mel, strip = page.locator(".gs-mel"), page.locator(".gs-strip")
    assert mel.evaluate("image => image.complete && image.naturalWidth > 100")
    left, below = mel.bounding_box(), strip.bounding_box()
    assert (left["x"], left["width"]) == pytest.approx((below["x"], below["width"]), abs=1)
    assert "Mel spectrogram" in mel.get_attribute("alt")
    over_time = genrescope.load().timeline(song).best
    assert str(over_time[0]) in strip.get_attribute("aria-label")
    # The explanation lies over the picture, once it is asked for.
    why = page.locator(".gs-why")
    assert not why.is_visible()
    page.check(".gs-show-why")
    assert why.is_visible()
    assert page.locator(".gs-why rect").count() == 6 * 8
    assert why.bounding_box() == pytest.approx(mel.bounding_box(), abs=1)
    # Nothing stands out to the right.
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    page.wait_for_timeout(300)
    shoot(page, name)
    assert server.left() == []


def test_the_playhead_goes_with_the_sound_and_a_click_seeks(
    visit: Callable[..., Any], song: Path
) -> None:
    page = visit()
    page.set_input_files(INPUT, song)
    answered(page)
    page.wait_for_function("document.querySelector('.gs-sound').readyState >= 1")
    seconds = page.evaluate("document.querySelector('.gs-sound').duration")
    assert seconds == pytest.approx(20, abs=0.3)
    assert page.locator(".gs-playhead").is_hidden()
    box = page.locator(".gs-stage").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 20)
    page.wait_for_selector(".gs-playhead", state="visible")
    assert page.evaluate("document.querySelector('.gs-sound').currentTime") == pytest.approx(
        15, abs=0.2
    )
    head = page.locator(".gs-playhead").bounding_box()
    assert head["x"] - box["x"] == pytest.approx(0.75 * box["width"], abs=4)


def test_a_sample_and_a_recording_are_answered(visit: Callable[..., Any]) -> None:
    page = visit()
    page.get_by_role("button", name="Slow quartet").click()
    assert "classical" in answered(page)
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(4000)
    page.get_by_role("button", name="Stop", exact=True).first.click()
    page.wait_for_function(
        "!document.querySelector('.gs-file').innerText.startsWith('lament')", timeout=20_000
    )
    assert ".wav" in page.inner_text(".gs-file")


def test_text_is_refused_by_its_name_and_by_what_it_holds(
    visit: Callable[..., Any], server: Server, tmp_path: Path
) -> None:
    page = visit()
    named = tmp_path / "letter.txt"
    named.write_text("no music\n" * 100)
    page.set_input_files(INPUT, named)
    page.get_by_text(re.compile("invalid file type|file type", re.IGNORECASE)).first.wait_for()
    hidden = tmp_path / "letter.mp3"
    hidden.write_text("no music\n" * 100)
    page = visit()
    page.set_input_files(INPUT, hidden)
    page.wait_for_selector(".gs-fault")
    assert "letter.mp3: " in page.inner_text(".gs-fault")
    assert page.get_by_role("alert").count() >= 1
    shoot(page, "refused")
    # And the next clip is answered.
    page.set_input_files(INPUT, genrescope.sample())
    page.wait_for_selector(".gs-answer:not(.gs-fault) .gs-bars")
    assert server.left() == []


def test_the_study_and_the_programs_have_their_tabs(
    visit: Callable[..., Any], server: Server, report: Path
) -> None:
    page = visit()
    page.get_by_role("tab", name="Study").click()
    page.get_by_role("heading", name="Test accuracy").first.wait_for()
    for name in ("knn", "grouped", "random"):
        assert page.locator(".gs-report table").first.get_by_text(name).count() >= 1
    images = page.locator(".gs-report img")
    assert images.count() == report.joinpath("report.md").read_text().count("![")
    for i in range(images.count()):
        images.nth(i).scroll_into_view_if_needed()
        page.wait_for_function(
            "i => document.querySelectorAll('.gs-report img')[i].naturalWidth > 100", arg=i
        )
        assert len(images.nth(i).get_attribute("alt")) > 10
    link = page.locator(".gs-report a", has_text="confusion matrix").first
    assert page.request.get(f"{server.address}/{link.get_attribute('href')}").ok
    shoot(page, "study")
    page.get_by_role("tab", name="For programs").click()
    page.get_by_text("/api/classify").first.wait_for()
    shoot(page, "programs")


def test_the_model_tells_how_well_it_does(visit: Callable[..., Any]) -> None:
    page = visit()
    page.get_by_role("button", name="The model").click()
    page.get_by_text("accuracy by that protocol").wait_for()
    assert "license:" not in page.inner_text("body")


def test_everything_is_reached_by_keyboard(visit: Callable[..., Any]) -> None:
    page = visit()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        told = page.evaluate(
            "(e => e.getAttribute('aria-label') || e.innerText)(document.activeElement)"
        )
        reached.add(str(told).strip())
        if any("Swinging band" in one for one in reached) and "The model" in " ".join(reached):
            break
    every = " | ".join(reached)
    for name in ("Listen", "Slow quartet", "Swinging band", "The model"):
        assert name in every
    page.get_by_role("button", name="Machine beat").focus()
    page.keyboard.press("Enter")
    assert "disco" in answered(page)
    page.get_by_role("tab", name="Listen").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Test accuracy").first.wait_for()


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_axe_finds_no_serious_fault(
    visit: Callable[..., Any], viewport: dict[str, int], scheme: str
) -> None:
    if not AXE.is_file():
        missing("axe-core (npm ci --prefix tests/web)")
    page = visit(viewport, scheme)
    page.set_input_files(INPUT, genrescope.sample("shuffle"))
    answered(page)
    page.get_by_role("button", name="The model").click()
    found = faults(page)
    for tab in ("Study", "For programs"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        found += faults(page)
    assert not found, json.dumps(found, indent=1)


def faults(page: Any) -> list[dict[str, Any]]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    told = page.evaluate("async () => (await axe.run()).violations")
    return [
        {"id": one["id"], "help": one["help"], "nodes": [node["html"] for node in one["nodes"]]}
        for one in told
        if one["impact"] in {"serious", "critical"}
    ]


def test_twenty_uploads_at_once_are_all_answered(visit: Callable[..., Any], server: Server) -> None:
    # Four visitors, who send the same file, while a script of another page asks for sixteen.
    pages = [visit() for _ in range(4)]
    asking = visit()
    clip = base64.b64encode(genrescope.sample("pulse").read_bytes()).decode()
    asking.evaluate(ASK, [clip, 16])
    for page in pages:
        page.set_input_files(INPUT, genrescope.sample("pulse"))
    for page in pages:
        assert "disco" in answered(page)
        assert page.inner_text(".gs-file").startswith("pulse.mp3")
    answers = asking.evaluate("window.answers")
    assert [answer["best"] for answer in answers] == ["disco"] * 16
    assert server.left() == []


FOREIGN = """async (target) => {
  const clip = new Blob([new Uint8Array(30000)]);
  const outcome = {};
  const send = async (name, path, field, options) => {
    const form = new FormData();
    form.append(field, clip, "foreign.wav");
    try {
      const answer = await fetch(target + path, { method: "POST", body: form, ...options });
      outcome[name] = answer.type + " " + answer.status;
    } catch (error) {
      outcome[name] = "blocked";
    }
  };
  await send("no-cors", "/api/classify", "file", { mode: "no-cors", credentials: "include" });
  await send("upload", "/gradio_api/upload", "files", { mode: "no-cors" });
  await send("cors", "/api/classify", "file", {});
  await send("join", "/gradio_api/queue/join", "data", { mode: "no-cors" });
  const load = (name, tag, path) => new Promise((done) => {
    const element = document.createElement(tag);
    element.onload = element.onloadeddata = () => done((outcome[name] = "shown"));
    element.onerror = () => done((outcome[name] = "blocked"));
    element.src = target + path;
    document.body.append(element);
  });
  await load("image", "img", "/favicon.ico");
  await load("sound", "audio", "/api/version");
  await load("script", "script", "/config");
  return outcome;
}"""
FORM = """<form method="post" enctype="multipart/form-data" action="TARGET">
<input name="file" value="x"></form><iframe src="ROOT"></iframe><a href="ROOT">link</a>"""


@pytest.fixture
def elsewhere(server: Server) -> Iterator[int]:
    """Serve a foreign page at another port; give the port."""
    form = FORM.replace("TARGET", f"{server.address}/api/classify").replace("ROOT", server.address)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(form.encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as foreign:
        thread = threading.Thread(target=foreign.serve_forever)
        thread.start()
        yield foreign.server_port
        foreign.shutdown()
        thread.join()


@pytest.mark.parametrize("site", ["localhost", "127.0.0.1"], ids=["cross-site", "same-site"])
def test_a_foreign_page_gets_nothing_in_and_nothing_out(
    chromium: Any, server: Server, elsewhere: int, site: str
) -> None:
    before = server.log.read_text()
    page = chromium.new_context().new_page()
    home = f"http://{site}:{elsewhere}/"
    page.goto(home)
    outcome = page.evaluate(FOREIGN, server.address)
    assert outcome == dict.fromkeys(outcome, "blocked")
    assert len(outcome) == 7
    assert page.frames[1].query_selector("#gs-input") is None
    with page.expect_navigation():
        page.evaluate("document.forms[0].submit()")
    assert "other sites" in page.inner_text("body")
    assert server.left() == []
    # But a link leads to the page.
    page.goto(home)
    page.get_by_role("link").click()
    page.wait_for_selector(INPUT, state="attached")
    page.context.close()
    assert server.log.read_text() == before
