"""Time the page in Chromium: its start on a slow line, and its library with 100,000 tracks.

The start is held against a page of one sentence on the same line, the library against one with a
tenth as many tracks; both in one run, in turns, of which the medians are shown.

    python benchmarks/page_speed.py
    python benchmarks/page_speed.py --times 9 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LINE = {"bits": 1.6e6, "latency_ms": 150}  # of a second; there and back
BARE = "<!doctype html><title>Bare</title><link rel=icon href=data:><p>A page of one sentence."
ANSWERED = ".answer .bars"  # the example's answer, with which the page is ready
COUNTS = (10_000, 100_000)
TEXTS = ("r", "river", "river gold", "song 99", "no such track", "")
WORDS = ("River", "Étude", "night", "Blue", "Gold", "Träume", "ocean")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
# Each search and order of the list, the first of all not counted: it is compiled on the way.
ASK = """(texts) => {
  const [search, , order] = document.querySelectorAll(".shelf-search .field");
  function took(control, value) {
    control.value = value;
    const begun = performance.now();
    control.dispatchEvent(new Event(control === order ? "change" : "input"));
    return performance.now() - begun;
  }
  took(search, "warm");
  return {
    search: Math.max(...texts.map((text) => took(search, text))),
    sort: Math.max(...[...order.options].map(({ value }) => took(order, value))),
  };
}"""


def main() -> None:
    """Print every figure, and write them as JSON beside the pretty ones if asked to."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=5)
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    taken: dict[str, list[float]] = defaultdict(list)
    with serving() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        for _ in range(given.times):
            for name, seconds in start(browser, address).items():
                taken[name].append(seconds)
            for count in COUNTS:
                for name, ms in library(browser, address, count).items():
                    taken[f"{count} tracks: {name}, ms"].append(ms)
        browser.close()
    figures = {name: statistics.median(values) for name, values in taken.items()}
    figures["first paint: ours / bare"] = figures["first paint, s"] / figures["bare page, s"]
    for name, value in figures.items():
        print(f"{name:40s} {value:10.3f}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


@contextmanager
def serving() -> Iterator[str]:
    """Serve the page at a free port; its address."""
    line = [sys.executable, "-m", "genrescope", "serve", "--port", "0"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = ""
            while not (found := re.search(r"Open (http\S+)", said)):
                new = process.stderr.readline() if process.stderr else ""
                if not new:
                    sys.exit(f"the server did not start: {said}")
                said += new
            yield found[1].rstrip("/")
        finally:
            process.terminate()


def start(browser: Any, address: str) -> dict[str, float]:
    """Open both pages on a slow line, nothing of them known: s to the first paint, bytes."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "index.html").write_text(BARE, encoding="utf-8")
        with bare_server(folder) as bare:
            page, _ = opened(browser, bare)
            page.wait_for_selector("p")
            figures["bare page, s"] = painted(page)
            page.context.close()
    page, sizes = opened(browser, address)
    page.wait_for_selector(ANSWERED)
    figures["ready, s"] = page.evaluate("performance.now()") / 1000
    figures["first paint, s"] = painted(page)
    page.wait_for_load_state("networkidle")
    figures["before the first answer, kB"] = sum(sizes) / 1000
    page.context.close()
    return figures


@contextmanager
def bare_server(folder: str) -> Iterator[str]:
    """Serve a folder as it is; its address."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def opened(browser: Any, address: str) -> tuple[Any, list[float]]:
    """Open a page on the slow line; with the bytes of what comes over it."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    line = page.context.new_cdp_session(page)
    sizes: list[float] = []
    line.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    line.send("Network.enable")
    speed = LINE["bits"] / 8
    conditions = {"downloadThroughput": speed, "uploadThroughput": speed}
    conditions |= {"offline": False, "latency": LINE["latency_ms"]}
    line.send("Network.emulateNetworkConditions", conditions)
    page.goto(address, wait_until="commit")
    return page, sizes


def painted(page: Any) -> float:
    """When something was first seen, s after the page was asked for."""
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    entry = "performance.getEntriesByName('first-contentful-paint')[0]"
    return float(page.evaluate(f"{entry}.startTime")) / 1000


def library(browser: Any, address: str, count: int) -> dict[str, float]:
    """Search and sort a library of `count` tracks; the slowest of each, ms."""
    numbers = range(count)
    tracks = {
        "path": [f"Artist {i // 120}/Album {i // 12}/{i % 12:02} Song {i}.mp3" for i in numbers],
        "genre": [("blues", "metal", "jazz")[i * 7 % 3] for i in numbers],
        "other": [i % 50 == 0 for i in numbers],
        "unsure": [i % 9 == 0 for i in numbers],
        "confidence": [(i * 7919 % 10_000) / 10_000 for i in numbers],
    }
    names: dict[str, Any] = {
        "from": 0,
        "title": [f"{WORDS[i * 31 % 7]} {WORDS[i * 17 % 7]} {i}" for i in numbers],
        "artist": [f"{WORDS[i // 120 % 7]} {i // 120}" for i in numbers],
        "album": [f"Album {i // 12}" for i in numbers],
    }
    contents = {"name": "Music", "tracks": count, "failed": 0, "failures": [], "genres": []}
    places = {axis: [i * by % 9973 / 9973 for i in numbers] for axis, by in (("x", 31), ("y", 7))}
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    answers = {"": contents, "/tracks": tracks, "/names*": names, "/map": places}
    for path, answer in answers.items():
        page.route(f"**/api/library{path}", giving(answer))
    page.route("**/api/page", with_library)
    page.goto(f"{address}/#/library")
    page.wait_for_selector(f".shelf-list :text-is('{names['title'][0]}')")
    page.wait_for_selector(".map-dots")
    figures = page.evaluate(ASK, TEXTS)
    page.context.close()
    return dict(figures)


def giving(answer: dict[str, Any]) -> Callable[[Any], None]:
    """Answer a request with this."""
    return lambda route: route.fulfill(json=answer)


def with_library(route: Any) -> None:
    """Say that the server has a library, which it has not."""
    config = route.fetch().json()
    route.fulfill(json={**config, "library": {"name": "Music", "writing": False}})


if __name__ == "__main__":
    main()
