"""The page in a real browser: what a visitor sees, and can reach by keyboard."""

from __future__ import annotations

import base64
import csv
import http.server
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from rich.console import Console

import genrescope
from browser import missing
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
FILES = "input[type=file][aria-label=Files]"
FOLDER = "input[type=file][aria-label=Folder]"
ANSWER = ".intake.folded ~ .place > .answer:not(.pending)"  # not the start's example
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WIDTHS = (390, 768, 1280, 1920)
VIEWS = ("", "study", "programs")
ASK = """([clip, count]) => {
  const bytes = Uint8Array.from(atob(clip), (letter) => letter.charCodeAt(0));
  const form = new FormData();
  form.append("file", new Blob([bytes]), "clip.mp3");
  const ask = async () => (await fetch("/api/classify", { method: "POST", body: form })).json();
  window.answers = Promise.all(Array.from({ length: count }, ask));
}"""
DROP = """([name, clip]) => {
  const bytes = Uint8Array.from(atob(clip), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true });
    document.querySelector("h1").dispatchEvent(event);
    if (type === "dragover") window.shown = document.body.classList.contains("dropping");
  }
}"""
# What must have come before anything is painted.
BLOCKING = """performance.getEntriesByType("resource")
  .filter((entry) => entry.renderBlockingStatus === "blocking")
  .map((entry) => [entry.name.split("/").pop().split("?")[0], entry.transferSize])"""
SHIFTS = """window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts.push(entry.value);
}).observe({ type: "layout-shift", buffered: true });"""


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
    with serve("--report", report, "--library", library, "--max-minutes", 5) as server:
        yield server


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open the page; whatever it asks of another server, throws or breaks fails the test."""
    contexts, foreign, thrown = [], [], []

    def open_page(
        viewport: dict[str, int] | None = None, scheme: str = "light", view: str = ""
    ) -> Any:
        context = chromium.new_context(
            viewport=viewport or DESKTOP,
            color_scheme=scheme,
            reduced_motion="reduce",
            permissions=["microphone", "clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: foreign.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.on("console", lambda line: "Policy" in line.text and thrown.append(line.text))
        page.add_init_script(SHIFTS)
        page.goto(f"{server.address}/#/{view}")
        page.wait_for_selector("main h1")
        return page

    yield open_page
    for context in contexts:
        context.close()
    own = (server.address, "data:", f"blob:{server.address}")
    assert [url for url in foreign if not url.startswith(own)] == []
    assert thrown == []


def shoot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(300)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def answered(page: Any) -> str:
    """Wait for the answer, and give its genre."""
    page.wait_for_selector(f"{ANSWER} .bars")
    return str(page.inner_text(f"{ANSWER} .genre"))


def idle(page: Any, server: Server) -> bool:
    """Wait until no request is being processed."""
    for _ in range(100):
        if page.request.get(f"{server.address}/healthz").json()["inside"] == 0:
            return True
        time.sleep(0.1)
    return False


def beyond(page: Any) -> int:
    """Pixels of the page that stand out to the right."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


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
    page.set_input_files(FILES, song)
    expected = genrescope.load().predict(song)
    assert answered(page) == ("Other" if expected.other else expected.best.capitalize())
    answer = page.locator(ANSWER)
    assert answer.locator(".chip").first.inner_text() in {"sure", "likely", "unsure"} or (
        expected.other and answer.locator(".chip").first.inner_text() == "none of these"
    )
    # Three bars, and all of them once they are asked for.
    rows = answer.locator(".bars li")
    assert [rows.nth(i).is_visible() for i in range(4)] == [True, True, True, False]
    answer.get_by_role("button", name="All 10").click()
    labels = answer.locator(".bar-name").all_inner_texts()
    assert labels == list(expected.probabilities)
    assert f"{100 * expected.confidence:.0f} %" in rows.first.inner_text().replace("\xa0", " ")
    assert re.sub(r"\s+", " ", answer.locator(".eyebrow").inner_text()) == "a song & more.wav 0:20"
    # Two figures of the same genre, of the whole and of a moment, say which is which.
    assert "whole track" in answer.locator(".bars").inner_text().lower()
    assert "this moment" in answer.locator(".moment").inner_text()
    assert "<b>&" in answer.locator(".tracks").inner_text()
    # The picture, and the strip below it, as wide as each other.
    mel, strip = answer.locator(".mel"), answer.locator(".strip")
    assert mel.evaluate("image => image.decode().then(() => image.naturalWidth > 100)")
    left, below = mel.bounding_box(), strip.bounding_box()
    assert (left["x"], left["width"]) == pytest.approx((below["x"], below["width"]), abs=1)
    assert answer.locator(".frequencies span").all_inner_texts() == ["250 Hz", "1 kHz", "4 kHz"]
    over_time = genrescope.load().timeline(song).best
    assert str(over_time[0]) in answer.locator("figcaption").inner_text()
    assert strip.locator("path").count() == 10
    # The explanation lies over the picture, once it is asked for.
    why = answer.locator(".why")
    assert why.evaluate("drawing => getComputedStyle(drawing).opacity") == "0"
    answer.get_by_role("button", name="Why?").click()
    answer.get_by_role("button", name="Why?", pressed=True).wait_for()
    assert why.evaluate("drawing => getComputedStyle(drawing).opacity") == "1"
    assert why.locator("rect").count() == 6 * 8
    assert why.bounding_box() == pytest.approx(mel.bounding_box(), abs=1)
    assert beyond(page) <= 0
    shoot(page, name)
    assert server.left() == []


def test_the_timeline_plays_and_seeks_by_mouse_and_by_keyboard(
    visit: Callable[..., Any], song: Path
) -> None:
    page = visit()
    page.set_input_files(FILES, song)
    answered(page)
    stage = page.get_by_role("slider")
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    expected = genrescope.load().timeline(song)
    rows = expected.probabilities
    i = int(5 // expected.step_s)
    said = f"0:05, {expected.best[i]} {100 * rows[i].max():.0f} %"
    assert page.locator(".hover").get_attribute("data-text").replace("\xa0", " ") == said
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 20)
    assert float(stage.get_attribute("aria-valuenow")) == pytest.approx(15, abs=1)
    head = page.locator(".playhead").bounding_box()
    assert head["x"] - box["x"] == pytest.approx(0.75 * box["width"], abs=4)
    # By keyboard: 5 s back, to the start, to the end, and play.
    stage.focus()
    for key, place in (("ArrowLeft", 10), ("Home", 0), ("ArrowRight", 5), ("End", 20)):
        page.keyboard.press(key)
        assert float(stage.get_attribute("aria-valuenow")) == pytest.approx(place, abs=1)
    page.keyboard.press("Home")
    assert stage.get_attribute("aria-valuetext").startswith("0:00, ")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause a song & more.wav").wait_for()
    page.locator("[role=slider]:not([aria-valuenow='0'])").wait_for()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play a song & more.wav").wait_for()
    # A similar track has its own button, and one sound plays at a time.
    page.get_by_role("button", name="Play a song & more.wav").click()
    page.get_by_role("button", name="Play shuffle").click()
    page.get_by_role("button", name="Pause shuffle").wait_for()
    page.get_by_role("button", name="Play a song & more.wav").wait_for()


def test_a_sample_and_a_recording_are_answered(visit: Callable[..., Any]) -> None:
    page = visit()
    page.get_by_role("button", name="Slow quartet").click()
    assert answered(page) == "Classical"
    page.get_by_role("button", name="Record").click()
    page.get_by_role("timer").wait_for()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(4000)
    assert page.locator(".level i").evaluate_all(
        "bars => bars.some((bar) => parseFloat(bar.style.height) > 20)"
    )
    page.get_by_role("button", name="Stop and analyse").click()
    page.wait_for_selector(f"{ANSWER}[aria-label*=Recording]")
    assert page.locator(f"{ANSWER} .eyebrow").inner_text().startswith("Recording.webm")


def test_a_file_is_dropped_anywhere(visit: Callable[..., Any]) -> None:
    page = visit()
    clip = base64.b64encode(genrescope.sample("lament").read_bytes()).decode()
    page.evaluate(DROP, ["dropped.mp3", clip])
    assert page.evaluate("window.shown")
    assert answered(page) == "Classical"
    assert page.locator(f"{ANSWER} .eyebrow").inner_text().startswith("dropped.mp3")
    # And another one upon the answer.
    clip = base64.b64encode(genrescope.sample("shuffle").read_bytes()).decode()
    page.evaluate(DROP, ["next.mp3", clip])
    page.wait_for_selector(f"{ANSWER}[aria-label*='next.mp3']")
    assert answered(page) == "Jazz"


def test_several_files_make_a_table_that_sorts_downloads_and_stays(
    visit: Callable[..., Any], server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    for name in genrescope.SAMPLES:
        shutil.copy(genrescope.sample(name), folder)
    (folder / "-=letter.mp3").write_text("no music\n" * 100)
    (folder / "cover.jpg").write_bytes(b"no music")
    page = visit()
    page.set_input_files(FOLDER, folder)
    page.get_by_role("heading", name="3 of 4 files").wait_for()
    rows = page.locator(".answers-table tbody tr")

    def column(i: int) -> list[str]:
        return [row.locator("th, td").nth(i).inner_text() for row in rows.all()]

    assert column(0) == ["-=letter.mp3", "lament.mp3", "pulse.mp3", "shuffle.mp3"]
    assert column(1)[0] == "Not audio that genrescope can read. Try MP3, WAV, FLAC or M4A."
    assert column(1)[1:] == ["classical", "other (closest: disco)", "jazz"]
    page.get_by_role("button", name="Genre").click()
    assert column(0) == ["lament.mp3", "shuffle.mp3", "pulse.mp3", "-=letter.mp3"]
    page.get_by_role("button", name="Genre").click()
    assert column(0)[0] == "-=letter.mp3"
    assert page.get_by_role("columnheader", name="Genre").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Confidence").click()
    assert column(0)[:2] == ["shuffle.mp3", "lament.mp3"]
    shoot(page, "several")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    table = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text("utf-8"))))
    assert {row["file"]: row["genre"] for row in table} == {
        "'-=letter.mp3": "",
        "lament.mp3": "classical",
        "pulse.mp3": "",
        "shuffle.mp3": "jazz",
    }
    with page.expect_download() as saved:
        page.get_by_role("button", name="JSON").click()
    assert len(json.loads(Path(saved.value.path()).read_bytes())) == 4
    # To an answer and back, and after a reload.
    page.get_by_role("link", name="lament.mp3").click()
    assert answered(page) == "Classical"
    page.get_by_role("link", name="All files").click()
    page.get_by_role("heading", name="3 of 4 files").wait_for()
    page.reload()
    page.get_by_role("heading", name="3 of 4 files").wait_for()
    assert column(0) == ["-=letter.mp3", "lament.mp3", "pulse.mp3", "shuffle.mp3"]
    assert column(1)[0].startswith("Not audio")
    assert server.left() == []


def test_reload_and_back_keep_the_answer_until_it_is_deleted(
    visit: Callable[..., Any], server: Server
) -> None:
    page = visit()
    page.get_by_role("button", name="Slow quartet").click()
    answered(page)
    address = page.url
    page.reload()
    assert answered(page) == "Classical"
    assert page.title() == "Classical: lament.mp3 · genrescope"
    page.go_back()
    page.get_by_role("heading", name="What genre is this?").wait_for()
    page.go_forward()
    assert answered(page) == "Classical"
    # Links of the answer are of its files.
    with page.expect_download() as saved:
        page.get_by_role("link", name="JSON").click()
    assert json.loads(Path(saved.value.path()).read_bytes())["best"] == "classical"
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied", exact=True).first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == (
        "lament.mp3: Almost certainly classical (96\xa0%)."
    )
    number = address.rsplit("/", 1)[1]
    assert page.request.delete(f"{server.address}/api/answers/{number}").status == 204
    page.reload()
    page.get_by_role("alert").get_by_text("no longer kept").wait_for()


def test_cancel_stops_the_work(visit: Callable[..., Any], server: Server, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(5 * 60 * 22050 - 22050)
    soundfile.write(tmp_path / "long.flac", 0.1 * noise, 22050)
    page = visit()
    page.set_input_files(FILES, tmp_path / "long.flac")
    page.get_by_role("heading", name="Analysing").wait_for()
    number = page.url.rsplit("/", 1)[1]
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="What genre is this?").wait_for()
    assert page.request.get(f"{server.address}/api/answers/{number}").status == 404
    assert idle(page, server)
    assert server.left() == []
    # While it is sent, too.
    page.route("**/api/answers", lambda _: None)  # it never ends
    page.set_input_files(FILES, tmp_path / "long.flac")
    page.get_by_role("heading", name="Uploading").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="What genre is this?").wait_for()
    page.unroute("**/api/answers")
    # And several at once.
    page.set_input_files(FILES, [tmp_path / "long.flac", genrescope.sample()] * 2)
    page.get_by_role("button", name="Cancel the rest").click()
    page.get_by_text("Cancelled").first.wait_for()
    page.get_by_role("button", name="Cancel the rest").wait_for(state="hidden")
    assert idle(page, server)
    assert server.left() == []


def test_cancel_counts_also_as_the_file_arrives(visit: Callable[..., Any], server: Server) -> None:
    page = visit()
    page.evaluate("""() => {
      const { open } = XMLHttpRequest.prototype;
      XMLHttpRequest.prototype.open = function (...words) {
        this.addEventListener("load", () => document.querySelector(".waiting button").click());
        return open.apply(this, words);
      };
    }""")
    with page.expect_response("**/api/answers") as sent:
        page.set_input_files(FILES, genrescope.sample())
    page.get_by_role("heading", name="What genre is this?").wait_for()
    number = sent.value.json()["id"]
    for _ in range(50):  # the work ends, too
        if page.request.get(f"{server.address}/api/answers/{number}").status == 404:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("the answer is still there")
    assert page.url.endswith("#/")


def states(page: Any, jobs: dict[str, list[dict[str, Any]]]) -> None:
    """Answer for the server: each job has these states, and stays in the last."""

    def answer(route: Any) -> None:
        name = re.search(r"/answers/(\w+)", route.request.url)[1]
        if left := jobs[name]:
            route.fulfill(json={"id": name, "name": f"{name}.mp3", "version": 1, **left.pop(0)})

    page.route("**/api/answers/*", answer)


def test_an_analysis_shows_how_long_it_takes(visit: Callable[..., Any]) -> None:
    page = visit(PHONE)
    running = {"state": "running", "place": None, "running_s": 0}
    jobs = {"long": [{"state": "waiting", "place": 3}, running]}
    states(page, jobs)
    page.clock.install()
    page.goto(f"{page.url.split('#')[0]}#/answer/long")
    page.get_by_role("heading", name="Analysing").wait_for()
    waiting = page.locator(".pending")
    assert "A song takes a few seconds" in waiting.inner_text()
    page.evaluate("window.shifts.length = 0")
    page.clock.run_for(4_500)
    assert page.get_by_role("timer").inner_text() == "4\xa0s"
    assert "A song takes a few seconds" in waiting.inner_text()
    page.clock.run_for(62_000)
    assert page.get_by_role("timer").inner_text() == "66\xa0s"
    assert "Long tracks take longer" in waiting.inner_text()
    assert "few seconds" not in waiting.inner_text()
    # Nothing moves, and nothing is read out every second.
    assert page.evaluate("window.shifts") == []
    assert waiting.locator("[aria-live], [role=status], [role=alert]").count() == 0
    assert page.locator("#status").inner_text() == ""
    jobs["long"].append({**running, "running_s": 70})
    page.reload()
    page.get_by_role("timer").get_by_text("70").wait_for()  # not from its beginning again


def test_one_of_several_files_is_next(visit: Callable[..., Any]) -> None:
    page = visit()
    running, waiting = {"state": "running", "place": None}, {"state": "waiting"}
    states(page, {"one": [running], "two": [{**waiting, "place": 1}], "three": [], "four": []})
    page.goto(f"{page.url.split('#')[0]}#/answers/one,two,three,four")
    page.get_by_text("this one is next").wait_for()
    cells = page.locator(".answers-table tbody td").all_inner_texts()
    assert cells == ["Analysing", "In the queue: this one is next", *2 * ["In the queue"]]
    states(page, {"one": [{**waiting, "place": 3}]})
    page.goto(f"{page.url.split('#')[0]}#/answer/one")
    page.get_by_text("2 before this one").wait_for()


def test_what_cannot_be_answered_says_why_and_what_to_do(
    visit: Callable[..., Any], server: Server, tmp_path: Path
) -> None:
    letter = tmp_path / "letter.mp3"
    letter.write_text("no music\n" * 100)
    page = visit()
    page.set_input_files(FILES, letter)
    fault = page.locator(".failure")
    fault.wait_for()
    assert fault.get_attribute("role") == "alert"
    for words in ("letter.mp3", "Not audio that genrescope can read", "MP3, WAV, FLAC or M4A"):
        assert words in fault.inner_text()
    shoot(page, "refused")
    # A server that is full is asked again, and then the next clip is answered.
    full = [{"status": 503, "headers": {"retry-after": "1"}, "body": "{}"}]
    page.route(
        "**/api/answers",
        lambda route: route.fulfill(**full.pop()) if full else route.continue_(),
    )
    page.set_input_files(FILES, genrescope.sample("shuffle"))
    page.get_by_text("next try in 1 s").wait_for()
    assert answered(page) == "Jazz"
    # A folder without music.
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no music")
    page.set_input_files(FOLDER, empty)
    page.get_by_role("alert").get_by_text("There is no audio file in it").wait_for()
    # A server that is gone.
    page.unroute("**/api/answers")
    page.route("**/api/answers", lambda route: route.abort())
    page.set_input_files(FILES, genrescope.sample("shuffle"))
    page.get_by_role("alert").get_by_text("The server does not answer").wait_for()
    assert server.left() == []


def test_errors_are_in_the_words_of_the_server_or_fit_any_request(
    visit: Callable[..., Any],
) -> None:
    page = visit()
    words = {"title": "The request is too large", "remedy": "Choose fewer rows.", "detail": ""}
    replies: list[dict[str, Any]] = []
    page.route("**/openapi.json", lambda route: route.fulfill(**replies[-1]))
    for status, body, title, remedy in (
        (413, json.dumps({"error": words}), words["title"], words["remedy"]),
        (413, "<h1>of a proxy</h1>", "This is too large for the server", "Send less at a time."),
        (404, "<h1>of a proxy</h1>", "This is not here", "It may have been deleted."),
    ):
        replies.append({"status": status, "body": body})
        page.goto(f"{page.url.split('#')[0]}#/programs")
        page.get_by_role("alert").get_by_text(f"{title}. {remedy}").wait_for()
        page.get_by_role("link", name="Listen").click()


def test_a_microphone_that_may_not_be_used_is_explained(visit: Callable[..., Any]) -> None:
    page = visit()
    refuse = """(name) => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", name));
    }"""
    for name, words in (
        ("NotAllowedError", "Allow it in the browser"),
        ("NotFoundError", "No microphone was found"),
    ):
        page.evaluate(refuse, name)
        page.get_by_role("button", name="Record").click()
        page.get_by_role("alert").get_by_text(words).wait_for()


def test_of_too_many_files_the_first_are_sent(visit: Callable[..., Any], tmp_path: Path) -> None:
    letters = [tmp_path / f"{i:02}.mp3" for i in range(21)]
    for letter in letters:
        letter.write_text("no music")
    page = visit()
    page.set_input_files(FILES, letters)
    page.get_by_text("The first 20 files were sent").wait_for()
    rows = page.locator(".answers-table tbody tr")
    assert rows.count() == 20
    rows.filter(has_text="19.mp3").get_by_text("Not audio").wait_for()


def test_a_long_track_has_a_smooth_strip_and_marks_that_fit(visit: Callable[..., Any]) -> None:
    page = visit()
    found = page.evaluate("""async () => {
      const { player } = await import("/static/player.js");
      const steps = Array.from({ length: 300 }, (_, i) => (i % 2 ? [1, 0] : [0, 1]));
      steps.fill(null, 0, 20);
      const element = player({
        seconds: 900,
        timeline: { step_s: 3, genres: ["jazz", "rock"], probabilities: steps },
        spectrogram: { bands_hz: [0, 1000, 8000] },
        explanation: null,
        links: { audio: "", spectrogram: null },
      }, "long");
      document.querySelector(".place").replaceChildren(element);
      const stage = element.querySelector("[role=slider]");
      const said = [stage.getAttribute("aria-valuetext")];
      for (let i = 0; i < 10; i++) {
        stage.dispatchEvent(new KeyboardEvent("keydown", { key: "PageUp" }));
      }
      said.push(stage.getAttribute("aria-valuetext"));
      const ticks = [...element.querySelectorAll(".ticks span")].map((one) => one.textContent);
      return { said, ticks, summary: element.querySelector("figcaption").textContent };
    }""")
    # Every other step is of another genre; together they are about half and half.
    assert found["said"][0] == "0:00, silence"
    share = re.fullmatch(r"5:00, (jazz|rock) (\d+)\s%", found["said"][1])[2]
    assert int(share) == pytest.approx(50, abs=11)
    assert found["ticks"] == [f"{minutes}:00" for minutes in range(0, 16, 2)]
    assert found["summary"].startswith("Genre over time: silence from 0:00 to 1:00; ")


def test_more_genres_than_the_palette_have_colours_of_their_own(visit: Callable[..., Any]) -> None:
    page = visit()
    colours = page.evaluate("""async () => {
      const { colour, setGenres } = await import("/static/genres.js");
      const names = Array.from({ length: 25 }, (_, i) => `genre ${i}`);
      setGenres(names);
      return [...names, "another"].map(colour);
    }""")
    assert len(set(colours)) == 26


def test_a_file_that_is_too_large_is_not_sent(visit: Callable[..., Any], tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(100_000_001)
    page = visit()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.set_input_files(FILES, large)
    page.get_by_role("alert").get_by_text("This server takes up to 100 MB").wait_for()
    assert "POST" not in sent


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_study_is_shown_in_the_pages_own_look(
    visit: Callable[..., Any],
    server: Server,
    report: Path,
    viewport: dict[str, int],
    scheme: str,
) -> None:
    page = visit(viewport, scheme)
    page.get_by_role("link", name="Study").click()
    page.get_by_role("heading", name="Test accuracy").first.wait_for()
    for name in ("knn", "grouped", "random"):
        assert page.locator(".report table").first.get_by_text(name).count() >= 1
    images = page.locator(".report img")
    assert images.count() == (report / "report.html").read_text("utf-8").count("<img")
    for i in range(images.count()):
        assert images.nth(i).evaluate("image => image.decode().then(() => image.naturalWidth)") > 99
        assert len(images.nth(i).get_attribute("alt")) > 10
    # Tables scroll, the page does not.
    assert page.locator(".report table").count() == page.locator(".report .scroll table").count()
    assert beyond(page) <= 0
    # A protocol's name says what it is; a citation leads to its work, on the same page.
    for term in (
        page.locator(f"{part}.term", has_text="grouped").first for part in ("code", "th ")
    ):
        assert "no artist on both sides" in term.get_attribute("aria-label")
        term.focus()
        assert "no artist on both sides" in page.locator(".tip").inner_text()
        page.keyboard.press("Escape")
        assert page.locator(".tip").is_hidden()
    cite = page.locator(".report .cite").first
    cite.scroll_into_view_if_needed()
    before = page.evaluate("window.scrollY")
    cite.click()
    assert page.url.endswith("#/study")
    assert page.evaluate("window.scrollY") != before
    assert page.evaluate("document.activeElement.id").startswith("report-")
    page.go_back()
    page.wait_for_function("y => window.scrollY === y", arg=before)
    assert page.url.endswith("#/study")
    shoot(page, f"study-{viewport['width']}")


def test_a_study_is_printed_whole(visit: Callable[..., Any]) -> None:
    page = visit({"width": 718, "height": 1000}, view="study")  # A4 less margins of 1 cm
    page.locator(".report table").first.wait_for()
    page.emulate_media(media="print")
    assert page.locator(".top").is_hidden()
    assert page.locator(".bottom").is_hidden()
    rights = page.locator(".report :is(th, td, img)").evaluate_all(
        "all => all.map((one) => [one.getBoundingClientRect().right, one.outerHTML.slice(0, 99)])"
    )
    assert [what for right, what in rights if right > 718] == []


def edges(page: Any, place: Any) -> tuple[float, float]:
    """Brightness of the left and the right rim of an element, whatever is written there."""
    box = place.evaluate("""(one) => {
      one.scrollIntoView({ block: "start" });
      const { x, y, width, height } = one.getBoundingClientRect();
      return { x, y, width, height: Math.min(height, 400) };
    }""")
    with Image.open(io.BytesIO(page.screenshot(clip=box))) as image:
        left, right = np.median(np.asarray(image.convert("L"))[:, [3, -4]], axis=0)
        return float(left), float(right)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_scrolls_shows_so_and_is_reached_by_keyboard(
    visit: Callable[..., Any], scheme: str
) -> None:
    page = visit(PHONE, scheme)
    for link, part in (("Study", ".report table"), ("For programs", ".operation")):
        page.get_by_role("link", name=link).click()
        page.wait_for_selector(part)
        page.wait_for_selector("main [aria-busy]", state="detached")
        page.locator("summary").evaluate_all("all => all.forEach((one) => one.click())")
        page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
        scrolling = page.locator("main :is(.scroll, pre, figure)").filter(visible=True)
        found = 0
        for place in scrolling.all():
            if place.evaluate("one => one.scrollWidth <= one.clientWidth + 12"):
                continue  # what covers the shadow is as wide
            found += 1
            assert place.get_attribute("tabindex") == "0"
            assert place.get_attribute("role") == "region"
            assert place.get_attribute("aria-label")
            behind = edges(page, place)[0]
            assert edges(page, place)[1] < behind - 5
            place.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(200)
            assert place.evaluate("one => one.scrollLeft") > 0
            place.evaluate("one => { one.scrollLeft = 9999; one.blur(); }")
            page.wait_for_timeout(100)
            left, right = edges(page, place)
            assert left < behind - 5
            assert right == pytest.approx(behind, abs=2)
        assert found > 2


def test_figures_do_not_glare_in_the_dark(visit: Callable[..., Any]) -> None:
    brightest = {}
    for scheme in ("light", "dark"):
        page = visit(scheme=scheme, view="study")
        page.wait_for_selector("main [aria-busy]", state="detached")
        with Image.open(io.BytesIO(page.locator(".paper").first.screenshot())) as image:
            middle = image.convert("L").crop((20, 20, image.width - 20, image.height - 20))
            darkest, brightest[scheme] = middle.getextrema()
            assert darkest < 20  # its text
    assert brightest["light"] == 255
    assert 190 < brightest["dark"] < 220


def test_a_report_brings_no_code_and_no_address_of_its_own(chromium: Any, server: Server) -> None:
    hostile = """<body><main><h1 onclick="window.hit = 1">Study</h1>
      <script>window.hit = 1</script><img src="x" onerror="window.hit = 1" alt="one">
      <img src="https://example.org/x.png" alt="two"><iframe srcdoc="x"></iframe>
      <a href="javascript:window.hit = 1">one</a><a href="/api/page">two</a>
      <a href="figures/accuracy.svg">three</a><form action="/"><p>x</p></form>
      <svg><a xlink:href="javascript:window.hit = 1"><text>x</text></a></svg></main></body>"""
    page = chromium.new_context(viewport=DESKTOP).new_page()
    page.goto(server.address)
    page.route("**/report/report.html", lambda route: route.fulfill(body=hostile))
    page.get_by_role("link", name="Study").click()
    page.get_by_role("heading", name="Study").wait_for()
    found = page.locator(".report *").evaluate_all("all => all.map((one) => one.localName)")
    assert set(found) == {"h1", "span", "img", "a"}
    addresses = page.locator(".report a").evaluate_all("all => all.map((a) => a.href)")
    assert addresses == ["", "", f"{server.address}/report/figures/accuracy.svg"]
    page.get_by_role("heading", name="Study").click()
    assert page.evaluate("window.hit") is None
    page.context.close()


def test_programs_get_examples_that_run_and_the_whole_interface(
    visit: Callable[..., Any], server: Server
) -> None:
    page = visit(view="programs")
    page.get_by_role("button", name="Copy").first.click()
    assert page.evaluate("navigator.clipboard.readText()") == (
        f"curl -F file=@song.mp3 '{server.address}/api/classify?timeline=true'"
    )
    assert page.locator("pre", has_text=f"{server.address}/api/classify").count() == 3
    described = page.request.get(f"{server.address}/openapi.json").json()["paths"]
    operations = page.locator(".operation")
    operations.first.wait_for()
    assert operations.count() == sum(len(item) for item in described.values())
    classify = operations.filter(has_text="/api/classify")
    classify.locator("summary").click()
    for words in ("top_k", "integer, 10 if not given", "confidence", "413"):
        classify.get_by_text(words).first.wait_for()
    shoot(page, "programs")


def test_the_examples_say_what_the_server_refuses(
    visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit(view="programs")
    (tmp_path / "song.mp3").write_text("no music")
    codes = [one.inner_text() for one in page.locator("pre").all()[1:]]
    (tmp_path / "a.mjs").write_text(codes[1])
    for command in ([sys.executable, "-c", codes[0]], ["node", "a.mjs"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "song.mp3: not audio that genrescope can read. Try MP3" in done.stderr


def test_a_view_that_cannot_be_fetched_says_so(visit: Callable[..., Any]) -> None:
    page = visit()
    page.route("**/static/study.js", lambda route: route.abort())
    page.get_by_role("link", name="Study").click()
    page.get_by_role("heading", name="The server does not answer").wait_for()
    page.get_by_role("link", name="Listen").click()
    page.get_by_role("heading", name="What genre is this?").wait_for()


def test_views_that_have_nothing_to_show_have_no_link(visit: Callable[..., Any]) -> None:
    page = visit()
    links = page.get_by_role("navigation").get_by_role("link")
    assert links.all_inner_texts() == ["Listen", "Library", "Study", "For programs"]
    known = page.request.get(page.url.split("#")[0] + "api/page").json()
    less = {**known, "library": None, "report": None, "example": None}
    page.route("**/api/page", lambda route: route.fulfill(json=less))
    page.reload()
    links.last.wait_for()
    assert links.all_inner_texts() == ["Listen", "For programs"]
    assert page.locator(".answer").count() == 0
    for view in ("library", "review/1", "study", "no-such-view"):
        page.goto(f"{page.url.split('#')[0]}#/{view}")
        page.get_by_role("heading", name="There is no such page").wait_for()
        assert page.locator("nav [aria-current]").count() == 0
    links.first.click()
    page.get_by_role("heading", name="What genre is this?").wait_for()


def test_the_footer_says_how_long_answers_are_kept(visit: Callable[..., Any]) -> None:
    page = visit()
    assert "are deleted 30 minutes after" in page.inner_text("footer.bottom")
    known = page.request.get(page.url.split("#")[0] + "api/page").json()
    known["limits"]["keep_minutes"] = 5
    page.route("**/api/page", lambda route: route.fulfill(json=known))
    page.reload()
    page.get_by_text("are deleted 5 minutes after").wait_for()


def test_light_and_dark_are_chosen_and_kept(visit: Callable[..., Any]) -> None:
    page = visit(scheme="light")
    behind = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(behind)
    for name in ("as the system", "light"):
        page.get_by_role("button", name=f"Colours: {name}").click()
    page.get_by_role("button", name="Colours: dark").wait_for()
    dark = page.evaluate(behind)
    assert dark != light
    page.reload()
    page.get_by_role("button", name="Colours: dark").wait_for()
    assert page.evaluate(behind) == dark
    # In another site's frame, a browser may keep nothing for it.
    page.add_init_script("""Object.defineProperty(window, "localStorage", {
      get() { throw new DOMException("", "SecurityError"); },
    })""")
    page.reload()
    page.get_by_role("button", name="Colours: as the system").click()
    page.get_by_role("heading", name="What genre is this?").wait_for()
    assert page.evaluate(behind) == light


def test_everything_is_reached_by_keyboard(visit: Callable[..., Any]) -> None:
    page = visit()
    page.locator(".answer .play").first.wait_for()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        said = page.evaluate(
            "(e => e.getAttribute('aria-label') || e.innerText)(document.activeElement)"
        )
        reached.append(str(said).strip())
    for name in (
        "Skip to content",
        "Listen",
        "For programs",
        "Colours: as the system",
        "Choose files",
        "Choose a folder",
        "Record",
        "Machine beat",
        "All 10",
        "Play shuffle.mp3",
        "Why?",
        "Position in shuffle.mp3",
        "Copy",
        "About the model",
    ):
        assert name in reached
    page.get_by_role("button", name="Machine beat").focus()
    page.keyboard.press("Enter")
    assert answered(page) == "Other"
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Study").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Test accuracy").first.wait_for()
    page.get_by_role("link", name="Skip to content").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.url.endswith("#/study")


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_axe_finds_no_serious_fault(
    visit: Callable[..., Any], viewport: dict[str, int], scheme: str, tmp_path: Path
) -> None:
    if not AXE.is_file():
        missing("axe-core (npm ci --prefix tests/web)")
    page = visit(viewport, scheme)
    page.locator("summary", has_text="About the model").click()
    found = faults(page)
    page.set_input_files(FILES, genrescope.sample("shuffle"))
    answered(page)
    page.get_by_role("button", name="Why?").click()
    page.get_by_role("button", name="Why?", pressed=True).wait_for()
    found += faults(page)
    (tmp_path / "letter.mp3").write_text("no music\n" * 100)
    page.set_input_files(FILES, [genrescope.sample("shuffle"), tmp_path / "letter.mp3"])
    page.get_by_role("heading", name="1 of 2 files").wait_for()
    found += faults(page)
    for link in ("Study", "For programs"):
        page.get_by_role("link", name=link).click()
        page.wait_for_selector("main [aria-busy]", state="detached")
        found += faults(page)
    assert not found, json.dumps(found, indent=1)


def faults(page: Any) -> list[dict[str, Any]]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        {"id": one["id"], "help": one["help"], "nodes": [node["html"] for node in one["nodes"]]}
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_moves_and_nothing_stands_out(
    visit: Callable[..., Any], song: Path, width: int
) -> None:
    page = visit({"width": width, "height": 900})
    page.wait_for_selector(".answer .bars")
    shoot(page, f"start-{width}")
    assert beyond(page) <= 0
    page.set_input_files(FILES, song)
    answered(page)
    page.wait_for_timeout(500)
    assert beyond(page) <= 0
    assert sum(page.evaluate("window.shifts")) < 0.02
    for view in VIEWS:
        page.goto(f"{page.url.split('#')[0]}#/{view}")
        page.wait_for_selector("main h1")
        page.wait_for_selector("main [aria-busy]", state="detached")
        assert beyond(page) <= 0


def test_little_is_sent_before_the_page_is_there(chromium: Any, server: Server) -> None:
    # How soon that is on a slow line: benchmarks/page_speed.py.
    page = chromium.new_context(viewport=DESKTOP).new_page()
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    sizes: list[float] = []
    line.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(server.address)
    page.wait_for_selector(".answer .bars")
    page.wait_for_load_state("networkidle")
    assert 50_000 < sum(sizes) < 300_000
    blocking = page.evaluate(BLOCKING)
    assert {name for name, _ in blocking} == {"style.css"}
    document = page.evaluate("performance.getEntriesByType('navigation')[0].transferSize")
    assert document + sum(size for _, size in blocking) < 30_000
    page.context.close()


def test_twenty_uploads_at_once_are_all_answered(visit: Callable[..., Any], server: Server) -> None:
    # Four visitors, who send the same file, while a script of another page asks for sixteen.
    pages = [visit() for _ in range(4)]
    asking = visit()
    clip = base64.b64encode(genrescope.sample("lament").read_bytes()).decode()
    asking.evaluate(ASK, [clip, 16])
    for page in pages:
        page.set_input_files(FILES, genrescope.sample("lament"))
    for page in pages:
        assert answered(page) == "Classical"
        assert page.inner_text(f"{ANSWER} .name") == "lament.mp3"
    answers = asking.evaluate("window.answers")
    assert [answer["best"] for answer in answers] == ["classical"] * 16
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
  await send("answer", "/api/answers", "file", { mode: "no-cors" });
  await send("cors", "/api/classify", "file", {});
  await send("sample", "/api/answers?sample=lament", "file", { mode: "no-cors" });
  const load = (name, tag, path) => new Promise((done) => {
    const element = document.createElement(tag);
    element.onload = element.onloadeddata = () => done((outcome[name] = "shown"));
    element.onerror = () => done((outcome[name] = "blocked"));
    element.src = target + path;
    document.body.append(element);
  });
  await load("image", "img", "/static/icon.svg");
  await load("sound", "audio", "/api/version");
  await load("script", "script", "/static/app.js");
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
    assert page.frames[1].query_selector("main") is None
    with page.expect_navigation():
        page.evaluate("document.forms[0].submit()")
    assert "other sites" in page.inner_text("body")
    assert server.left() == []
    # But a link leads to the page.
    page.goto(home)
    page.get_by_role("link").click()
    page.wait_for_selector(FILES, state="attached")
    page.context.close()
    assert server.log.read_text() == before
