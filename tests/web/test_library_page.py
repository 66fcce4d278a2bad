"""The library and the review in a real browser: the map, playlists, a poster; changes of tags."""

from __future__ import annotations

import io
import re
import shutil
import time
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import reviewed_library
from browser import missing
from genrescope.tagging.formats import read_genres
from web_server import Server

pytest.importorskip("playwright.sync_api", reason="needs playwright")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("web-library-page")]
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MAP, LIST, ROWS = ".map-dots", ".shelf-list", ".row"
MARGIN = 16  # of map.js


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return reviewed_library.make(tmp_path_factory.mktemp("library"), seconds=2.0)


@pytest.fixture(scope="module")
def server(made: tuple[Path, Path], serve: Callable[..., Any]) -> Iterator[Server]:
    """Serve a library whose files the tests change and restore."""
    root, catalogue = made
    journal = catalogue.with_name("journal.db")
    options = ("--library", root, "--db", catalogue, "--journal", journal, "--allow-writing")
    with serve(*options) as found:
        yield found


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open a view; whatever it asks of another server, or throws, fails the test."""
    contexts, foreign, thrown = [], [], []

    def open_page(
        view: str, viewport: dict[str, int] | None = None, scheme: str = "light", **more: Any
    ) -> Any:
        context = chromium.new_context(
            viewport=viewport or DESKTOP, color_scheme=scheme, reduced_motion="reduce", **more
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: foreign.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.on("console", lambda line: "Policy" in line.text and thrown.append(line.text))
        page.goto(f"{server.address}/#/{view}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    own = (server.address, "data:", f"blob:{server.address}")
    assert [url for url in foreign if not url.startswith(own)] == []
    assert thrown == []


def asked(page: Any, path: str) -> Any:
    return page.evaluate("async (path) => (await fetch(path)).json()", f"/api/library{path}")


def library(page: Any) -> Any:
    page.wait_for_selector(f"{LIST} li")
    return page


def dot(page: Any, number: int) -> tuple[float, float]:
    """Where a track's dot is in the window."""
    places, box = asked(page, "/map"), page.locator(MAP).bounding_box()
    side = min(box["width"], box["height"]) - 2 * MARGIN
    x = box["x"] + box["width"] / 2 + (places["x"][number] - 0.5) * side
    y = box["y"] + box["height"] / 2 + (places["y"][number] - 0.5) * side
    return x, y


def colours_at(page: Any, x: float, y: float) -> list[int]:
    box = page.locator(MAP).bounding_box()
    at = [x - box["x"], y - box["y"]]
    return page.evaluate(
        """([x, y]) => {
          const canvas = document.querySelector(".map-dots");
          const scale = canvas.width / canvas.clientWidth;
          return [...canvas.getContext("2d").getImageData(x * scale, y * scale, 1, 1).data];
        }""",
        at,
    )


def saved(page: Any, press: Callable[[], None]) -> tuple[str, bytes]:
    with page.expect_download() as download:
        press()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def shoot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


# The library.


def test_the_map_shows_every_track_and_plays_what_is_clicked(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    tracks = asked(page, "/tracks")
    assert page.inner_text("h1") == "Music & <b>more"
    assert page.inner_text(".found") == f"All {len(tracks['path'])} tracks"
    card = colours_at(page, *[at + 2 for at in page.locator(MAP).bounding_box().values()][:2])
    shown = {tuple(colours_at(page, *dot(page, i))) for i in range(len(tracks["path"]))}
    assert tuple(card) not in shown
    assert len(shown) >= len(set(tracks["genre"]))
    number = next(i for i, path in enumerate(tracks["path"]) if path.endswith("mp3-v24-two.mp3"))
    x, y = dot(page, number)
    page.mouse.move(x, y)
    page.wait_for_selector(".map-hint:visible")
    with page.expect_response(re.compile(r"/api/library/tracks/\d+/audio$")) as sound:
        page.mouse.click(x, y)
    assert sound.value.status in {200, 206}
    page.wait_for_selector(".deck:visible")
    shoot(page, "library-desktop")


def test_every_format_plays(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    paths = asked(page, "/tracks")["path"]
    for ending in (".mp3", ".flac", ".opus", ".m4a", ".wav", ".wma", ".wv", ".aiff"):
        number = next(i for i, path in enumerate(paths) if path.endswith(ending))
        button = page.locator(f'{LIST} [data-track="{number}"]')
        button.click()
        page.wait_for_function(
            "n => document.querySelector(`.shelf-list [data-track='${n}']`).dataset.on === 'true'",
            arg=number,
        )
        page.wait_for_function("() => Number(document.querySelector('.deck input').max) > 1")
    page.locator(".deck .play").click()
    page.wait_for_selector('.deck button[aria-label^="Play "]')
    page.click('.deck button[aria-label="Close the player"]')
    assert page.locator(".deck").is_hidden()


def test_tracks_play_on_in_the_order_of_the_list(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    total = len(asked(page, "/tracks")["path"])
    page.wait_for_function(
        "n => document.querySelectorAll('.shelf-list li').length === n", arg=total
    )
    page.fill(".shelf-search input", "mp3")
    playing = page.locator(f'{LIST} [data-track][data-on="true"]')
    order = [
        button.get_attribute("data-track") for button in page.locator(f"{LIST} [data-track]").all()
    ]
    assert 3 < len(order) < total

    def plays(i: int) -> None:
        page.wait_for_selector(f'{LIST} [data-track="{order[i]}"][data-on="true"]')
        assert playing.count() == 1

    page.evaluate(
        """() => {
          const { play } = HTMLMediaElement.prototype;
          HTMLMediaElement.prototype.play = function () {
            this.playbackRate = window.rate;
            return play.call(this);
          };
        }"""
    )
    slow, usual = "window.rate = 0.1", "window.rate = 1"  # else they would end while looked at
    page.evaluate(slow)
    page.locator(f"{LIST} [data-track]").first.click()
    plays(0)
    previous, following = (page.get_by_label(f"{words} track") for words in ("Previous", "Next"))
    assert previous.is_disabled()
    following.click()
    plays(1)
    page.evaluate(usual)
    previous.click()
    plays(0)
    page.evaluate(slow)
    plays(1)  # the first has ended
    name = page.evaluate("navigator.mediaSession.metadata.title")
    assert name == page.inner_text(".deck-title")
    page.locator(f"{LIST} [data-track]").last.click()
    plays(-1)
    assert following.is_disabled()
    page.click(".shelf-found :text('Show all')")
    assert following.is_enabled()
    page.set_viewport_size(PHONE)
    assert following.is_visible()
    shoot(page, "library-player-phone")


def test_search_and_filters(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    total = len(asked(page, "/tracks")["path"])
    page.wait_for_selector(f"{LIST} :text-is('Títle')")  # titles from the tags have come in
    page.fill('input[type="search"]', "  TITLE one")
    titles = page.locator(f"{LIST} .track-title").all_inner_texts()
    assert titles
    assert set(titles) <= {"Títle", "Title", "Old title", "Only title", "Äpe title"}
    assert page.inner_text(".found") == f"{len(titles)} of {total} tracks"
    page.fill('input[type="search"]', "there is no such track")
    assert page.inner_text(".found") == f"0 of {total} tracks"
    assert page.locator("text=Playlist").first.is_disabled()
    page.click("text=Show all")
    genre = page.locator(".genre-filter").first
    count = int(genre.locator(".share").inner_text())
    genre.click()
    assert page.inner_text(".found") == f"{count} of {total} tracks"
    names = {text.lower() for text in page.locator(f"{LIST} .track-genre").all_inner_texts()}
    assert names == {genre.locator(".genre-name").inner_text().lower()}
    page.select_option("select", "unsure")
    assert page.inner_text(".found") == f"0 of {total} tracks"
    page.click("text=Show all")
    assert genre.get_attribute("aria-pressed") == "false"
    page.click("summary:has-text('cannot be read')")
    assert "broken.mp3" in page.inner_text(".failures")


def plain(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()


def names_read(page: Any) -> dict[str, list[str]]:
    """Wait until the list has the names in the tags; give the tracks' columns, those among them."""
    tracks = asked(page, "/tracks")
    count = len(tracks["path"])
    while len((names := asked(page, "/names?wait=1"))["title"]) < count:
        pass
    page.reload()
    library(page)
    page.wait_for_selector(f"{LIST} a:text-is('Äpe title')")
    return {**tracks, **names}


def test_the_list_is_sorted_as_it_was_the_last_time(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    tracks = names_read(page)

    def column(name: str) -> list[Any]:
        shown = page.locator(f"{LIST} li [data-track]").all()
        return [tracks[name][int(one.get_attribute("data-track"))] for one in shown]

    page.locator(f"{LIST} li").nth(30).scroll_into_view_if_needed()
    order = page.get_by_label("Order")
    order.select_option("genre")
    assert column("genre") == sorted(tracks["genre"])
    assert page.evaluate(f"document.querySelector('{LIST}').scrollTop") == 0
    order.select_option("title")
    titles = [plain(one) for one in column("title") if one]
    assert titles[0] == "ape title"
    assert titles == sorted(titles)
    order.select_option("artist")
    artists = [plain(one) for one in column("artist") if one]
    assert [plain(one or "") for one in column("artist")[: len(artists)]] == sorted(artists)
    assert len(artists) < len(tracks["path"])  # the others come last
    assert page.locator(f"{LIST} h2").count() == 0
    page.reload()
    library(page)
    assert order.input_value() == "artist"
    order.select_option("folder")
    folders = [str(Path(path).parent) for path in column("path")]
    assert sorted(set(folders)) == list(dict.fromkeys(folders))
    assert page.locator(f"{LIST} h2").count() == len(set(folders)) == 3


def test_albums_have_a_heading_that_plays(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    tracks = names_read(page)
    in_album = [i for i, path in enumerate(tracks["path"]) if path.startswith("Album one/")]
    album = page.locator(".shelf-album", has_text="Album one").first
    assert f"{len(in_album)} tracks" in album.locator(".shelf-head").inner_text()
    genres = [tracks["genre"][i] for i in in_album]
    words = album.get_by_role("img").get_attribute("aria-label").removeprefix("Genres: ")
    counts = dict(one.rsplit(" ", 1) for one in words.split(", "))
    assert {name: int(count) for name, count in counts.items()} == {
        name: genres.count(name) for name in set(genres)
    }
    widths = [part.bounding_box()["width"] for part in album.locator(".mix span").all()]
    assert widths == sorted(widths, reverse=True)
    whole = album.locator(".shelf-head button")
    whole.focus()
    page.keyboard.press("Enter")
    first = album.locator("li button").first
    page.wait_for_selector(".shelf-head button[data-on=true]")
    assert first.get_attribute("data-on") == "true"
    assert whole.get_attribute("aria-label") == "Pause Album one"
    whole.click()
    page.wait_for_function("() => !document.querySelector('[data-on=true]')")
    assert first.get_attribute("data-on") == "false"
    album.locator("li button").nth(1).click()
    page.wait_for_selector(".shelf-album [data-album][data-on=true]")
    whole.click()  # what of it plays is paused, not its first track played
    page.wait_for_function("() => !document.querySelector('[data-on=true]')")


def test_a_track_without_tags_leaves_its_album_a_name(visit: Callable[..., Any]) -> None:
    page = visit("programs")
    count = len(asked(page, "/tracks")["path"])
    paths = [f"Somewhere/{number}.mp3" for number in range(count)]
    names = [*["Mine"] * (count - 1), None]
    columns = {"from": 0, "title": paths, "artist": names, "album": names}
    page.route("**/api/library/names*", lambda route: route.fulfill(json=columns))
    tracks = {**asked(page, "/tracks"), "path": paths}
    page.route("**/api/library/tracks", lambda route: route.fulfill(json=tracks))
    page.click("nav >> text=Library")
    page.wait_for_selector(f"{LIST} h2:text-is('Mine')")
    assert "Mine ·" in page.locator(".shelf-head .note").inner_text()
    assert "Mine" not in page.locator(f"{LIST} li").first.inner_text()


def test_a_track_opens_its_answer_and_back_leads_to_the_library_as_it_was(
    visit: Callable[..., Any],
) -> None:
    page = library(visit("library"))
    total = len(names_read(page)["path"])
    page.get_by_label("Order").select_option("title")
    page.fill(".shelf-search input", "a")
    found = page.inner_text(".found")
    assert found != f"All {total} tracks"
    link = page.locator(f"{LIST} li a").nth(12)
    link.focus()
    link.evaluate("link => link.scrollIntoView({ block: 'center' })")
    where = f"[window.scrollY, document.querySelector('{LIST}').scrollTop]"
    places = page.evaluate(where)
    assert max(places) > 0
    number = link.get_attribute("href").split("/")[-1]
    page.keyboard.press("Enter")
    page.wait_for_selector(".answer:not(.pending) .genre")
    assert re.search(rf"#/track/{number}/[\w-]+$", page.url)
    assert page.inner_text("nav [aria-current]") == "Listen"
    similar = page.locator(".answer .tracks .track-title a")
    near = [one.get_attribute("href") for one in similar.all()]
    assert len(near) > 2
    assert f"#/track/{number}" not in near
    shoot(page, "library-answer")
    similar.first.click()
    page.wait_for_url(f"**/{near[0]}/**")
    page.wait_for_selector(".answer:not(.pending) .genre")
    page.go_back()
    page.wait_for_url(f"**/#/track/{number}/**")
    page.go_back()
    page.wait_for_selector(LIST)
    assert page.inner_text(".found") == found
    assert page.input_value(".shelf-search input") == "a"
    assert page.evaluate(where) == places
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"#/track/{number}"
    page.locator(f"{LIST} [data-track='{number}']").click()
    page.click(".deck-title")
    page.wait_for_selector(".answer:not(.pending) .genre")
    page.click(".back")
    page.wait_for_selector(LIST)
    assert page.inner_text(".found") == found


def test_an_answer_that_is_not_kept_is_made_anew(visit: Callable[..., Any]) -> None:
    page = visit("track/3")
    page.wait_for_selector(".answer:not(.pending) .genre")
    number, key = page.url.split("/")[-2:]
    assert number == "3"
    page.evaluate("key => fetch(`/api/answers/${key}`, { method: 'DELETE' })", key)
    page.reload()
    page.wait_for_selector(".answer:not(.pending) .genre")
    assert page.url.split("/")[-2] == "3"
    assert page.url.split("/")[-1] != key


def test_a_track_that_is_not_there_has_no_answer(visit: Callable[..., Any]) -> None:
    page = visit("track/100000")
    page.wait_for_selector(".failure >> text=There is no such track")
    page.click(".back")
    library(page)


def test_the_volume_is_kept(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    page.evaluate(
        """() => {
          const { play } = HTMLMediaElement.prototype;
          HTMLMediaElement.prototype.play = function () {
            window.last = this;
            return play.call(this);
          };
        }"""
    )
    loudness = "[window.last.volume, window.last.muted]"
    page.locator(f"{LIST} li button").first.click()
    slider = page.get_by_label("Volume")
    assert page.evaluate(loudness) == [1, False]
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate(loudness) == [0.5, False]
    page.click(".volume button")
    assert page.evaluate(loudness) == [0.5, True]
    assert slider.input_value() == "0"
    page.locator(f"{LIST} li button").nth(1).click()
    assert page.evaluate(loudness) == [0.5, True]
    page.reload()
    library(page).locator(f"{LIST} li button").first.click()
    mute = page.get_by_role("button", name="Unmute")
    mute.focus()
    page.keyboard.press("Enter")
    assert slider.input_value() == "0.5"
    assert page.get_by_role("button", name="Mute", exact=True).count() == 1
    page.set_viewport_size(PHONE)  # a phone has keys for it
    assert slider.is_hidden()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_maps_buttons_cover_no_dot(visit: Callable[..., Any], viewport: dict[str, int]) -> None:
    page = library(visit("library", viewport))
    box = page.locator(MAP).bounding_box()
    tools = page.locator(".map-tools").bounding_box()
    assert tools["y"] >= box["y"] + box["height"]


def test_the_list_of_a_large_library_is_sorted(visit: Callable[..., Any]) -> None:
    page = visit("programs")  # how long it takes: benchmarks/page_speed.py
    numbers = range(100_000)
    words = ("River", "Étude", "night", "Blue", "Gold", "Träume", "ocean")
    tracks = {
        "path": [f"Artist {i // 120}/Album {i // 12}/{i % 12:02} Song {i}.mp3" for i in numbers],
        "genre": [("blues", "metal", "jazz")[i * 7 % 3] for i in numbers],
        "other": [i % 50 == 0 for i in numbers],
        "unsure": [i % 9 == 0 for i in numbers],
        "confidence": [(i * 7919 % 10_000) / 10_000 for i in numbers],
    }
    names = {
        "title": [f"{words[i * 31 % 7]} {words[i * 17 % 7]} {i}" for i in numbers],
        "artist": [f"{words[i // 120 % 7]} {i // 120}" for i in numbers],
        "album": [f"Album {i // 12}" for i in numbers],
    }
    page.route("**/api/library/tracks", lambda route: route.fulfill(json=tracks))
    page.route("**/api/library/names*", lambda route: route.fulfill(json={"from": 0, **names}))
    places = {axis: [(i * by % 9973) / 9973 for i in numbers] for axis, by in (("x", 31), ("y", 7))}
    page.route("**/api/library/map", lambda route: route.fulfill(json=places))
    page.click("nav >> text=Library")
    page.wait_for_selector(f"{LIST} :text-is('{names['title'][0]}')")
    page.wait_for_selector(MAP)
    order = page.locator("select[aria-label=Order]")
    first = page.locator(f"{LIST} li button").first
    firsts = {}
    for value in ("folder", "title", "artist", "genre", "unsure"):
        order.select_option(value)
        firsts[value] = int(first.get_attribute("data-track"))
    known = [i for i in numbers if not tracks["other"][i]]
    assert firsts["folder"] == 0
    assert firsts["title"] == min(numbers, key=lambda i: plain(names["title"][i]))
    assert firsts["artist"] == min(numbers, key=lambda i: plain(names["artist"][i]))
    assert firsts["genre"] == next(i for i in known if tracks["genre"][i] == "blues")
    assert firsts["unsure"] == min(known, key=tracks["confidence"].__getitem__)


def test_a_lasso_makes_a_playlist(visit: Callable[..., Any], made: tuple[Path, Path]) -> None:
    page = library(visit("library"))
    paths, places = asked(page, "/tracks")["path"], asked(page, "/map")
    box = page.locator(MAP).bounding_box()
    middle = sorted(places["x"])[len(paths) // 2] - 0.003
    chosen = {path for path, x in zip(paths, places["x"], strict=True) if x < middle}
    side = min(box["width"], box["height"]) - 2 * MARGIN
    right = box["x"] + box["width"] / 2 + (middle - 0.5) * side
    corners = [
        (right, box["y"] + 2),  # the map's own corners are round
        (right, box["y"] + box["height"] - 2),
        (box["x"] + 2, box["y"] + box["height"] - 2),
        (box["x"] + 2, box["y"] + 2),
    ]
    page.click("text=Lasso")
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    page.wait_for_function(
        "text => document.querySelector('.found').textContent === text",
        arg=f"{len(chosen)} of {len(paths)} tracks",
    )
    name, content = saved(page, lambda: page.click("button:text('Playlist')"))
    assert name == "From the map.m3u8"
    lines = content.decode().splitlines()
    assert lines[:2] == ["#EXTM3U", "#PLAYLIST:From the map"]
    assert set(lines[2:]) == {str(made[0].resolve() / path) for path in chosen}
    page.focus(MAP)
    page.keyboard.press("Escape")
    assert page.inner_text(".found") == f"All {len(paths)} tracks"


def test_what_a_playlist_lacks_stands_once(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    headers = {"x-genrescope-left-out": "2"}
    page.route(
        "**/api/library/playlist", lambda route: route.fulfill(body="#EXTM3U", headers=headers)
    )
    for _ in range(2):
        saved(page, lambda: page.click("button:text('Playlist')"))
        assert page.get_by_text("The playlist lacks 2 of these tracks").count() == 1
    page.unroute("**/api/library/playlist")
    page.route("**/api/library/playlist", lambda route: route.abort())
    page.click("button:text('Playlist')")
    page.get_by_role("alert").wait_for()
    assert page.get_by_text("The playlist lacks").count() == 0


def test_the_map_by_keyboard(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    page.focus(MAP)
    said = set()
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
        said.add(page.locator(".map [role=status]").inner_text())
    assert len(said) > 2
    assert all("9" in text for text in said)  # each with its confidence
    page.keyboard.press("+")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".deck:visible")


def test_posters(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    count = len(asked(page, "/tracks")["path"])
    name, content = saved(page, lambda: page.click("text=Poster SVG"))
    assert name == "Music & _b_more.svg"
    poster = ET.fromstring(content)  # noqa: S314  our own
    assert len(poster.findall(".//{*}circle")) == count
    assert "Music & <b>more" in "".join(poster.itertext())
    name, content = saved(page, lambda: page.click("text=Poster PNG"))
    assert name.endswith(".png")
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (2400, 3000)
        assert len(image.convert("RGB").getcolors(2**24)) > 3
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS / "library-poster.png").write_bytes(content)


@pytest.mark.parametrize("view", ["library", "review"])
def test_nothing_overflows_on_a_phone(visit: Callable[..., Any], view: str) -> None:
    page = visit(view, PHONE)
    if view == "library":
        library(page)
    else:
        plan(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
    shoot(page, f"{view}-phone")


def test_the_first_change_is_seen_on_a_phone(visit: Callable[..., Any]) -> None:
    page = plan(visit("review", PHONE))
    change, foot = (
        page.locator(name).first.bounding_box() for name in (".row-change", ".sheet-foot")
    )
    assert change["y"] + change["height"] <= foot["y"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["library", "review"])
def test_axe_finds_nothing_serious(visit: Callable[..., Any], view: str, scheme: str) -> None:
    if not AXE.is_file():
        missing("axe-core: npm ci in tests/web")
    page = visit(view, scheme=scheme)
    if view == "library":
        library(page)
        page.locator(f"{LIST} .play").first.click()
        page.wait_for_selector(".deck:visible")
    else:
        plan(page)
        page.locator(ROWS).first.focus()
        page.keyboard.press("e")
    shoot(page, f"{view}-{scheme}")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    assert [
        (one["id"], node["target"], node["failureSummary"])
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ] == []


# The review.


def plan(page: Any, existing: str = "replace", confidence: str = "50") -> Any:
    page.select_option("#option-existing", existing)
    page.click("text=More options")
    page.select_option("#option-album", "off")
    page.fill("#option-min_confidence", confidence)
    page.click("text=Make a plan")
    page.wait_for_selector(".sheet")
    return page


def written(page: Any) -> None:
    page.locator(".sheet-bar .primary").click()
    page.wait_for_selector(".result")


def undone(page: Any) -> None:
    page.locator(".result button:text('Undo')").click()
    page.wait_for_selector(".result:has-text('undone')")


def test_review_by_mouse(visit: Callable[..., Any], made: tuple[Path, Path]) -> None:
    root = made[0]
    before = reviewed_library.digests(root)
    page = plan(visit("review"))
    rows = page.locator(ROWS)
    count = rows.count()
    assert count > 35
    summary = f"{count} files to be written; about "
    assert page.inner_text("h2 >> nth=0").startswith(summary)
    assert reviewed_library.digests(root) == before
    assert page.locator(".sheet-bar .primary").is_disabled()
    first, second, third = (rows.nth(i) for i in range(3))
    names = [row.locator(".row-file").inner_text() for row in (first, second, third)]
    first.locator("text=Accept").click()
    assert page.inner_text(".sheet-bar .primary") == "Write 1 file"
    second.locator("text=Reject").click()
    third.locator("text=Edit").click()
    third.locator("input").fill("Gypsy Jazz; Musette")
    third.locator("text=Save").click()
    assert third.locator(".new").inner_text() == "Gypsy Jazz; Musette"
    assert page.inner_text(".sheet-bar .found") == f"2 accepted, {count - 3} to decide"
    shoot(page, "review-desktop")
    page.reload()
    page.wait_for_selector(".sheet")
    assert page.inner_text(".sheet-bar .found") == f"2 accepted, {count - 3} to decide"
    assert page.inner_text(".sheet-bar .primary") == "Write 2 files"
    new = rows.nth(0).locator(".new").inner_text()
    written(page)
    assert "2 files written" in page.inner_text(".result")
    assert rows.nth(0).locator(".row-state").inner_text() == "Written"
    genres = {path.name: read_genres(path) for path in root.rglob("*.*") if path.name in names}
    assert genres[names[0]] == tuple(new.split("; "))
    assert genres[names[2]] == ("Gypsy Jazz", "Musette")
    changed = {path for path, now in reviewed_library.digests(root).items() if now != before[path]}
    assert {Path(path).name for path in changed} == {names[0], names[2]}
    undone(page)
    assert reviewed_library.digests(root) == before
    page.wait_for_selector(f"{ROWS} .row-state:text-is('Undone')")
    assert rows.nth(0).locator("text=Accept").is_enabled()
    page.locator(".history summary").first.click()
    page.wait_for_selector(f".changes li:has-text('{names[0]}')")
    assert "undone" in page.inner_text(".history li >> nth=0")


def test_review_by_keyboard(visit: Callable[..., Any], made: tuple[Path, Path]) -> None:
    root = made[0]
    before = reviewed_library.digests(root)
    page = plan(visit("review"))
    rows = page.locator(ROWS)
    press = page.keyboard.press
    page.wait_for_selector(".row.current")
    for _ in range(12):
        press("j")
        box = page.locator(".row.current").bounding_box()
        assert box["y"] + box["height"] <= page.locator(".sheet-foot").bounding_box()["y"]
    for _ in range(11):
        press("k")
    assert "current" in rows.nth(1).get_attribute("class")
    press("k")
    press("a")  # and goes on
    press("r")
    press("p")
    page.wait_for_selector(".deck:visible")
    press("e")
    page.keyboard.type("Klezmer")
    press("Enter")
    states = [rows.nth(i).get_attribute("class").split() for i in range(3)]
    assert "yes" in states[0]
    assert "no" in states[1]
    assert "yes" in states[2]
    assert rows.nth(2).locator(".new").inner_text() == "Klezmer"
    press("e")
    page.keyboard.type("Something else")
    press("Escape")
    assert rows.nth(2).locator(".new").inner_text() == "Klezmer"
    press("r")
    press("k")
    press("a")
    assert rows.nth(2).get_attribute("class").split()[1] == "yes"
    # All with the same change as the first.
    rows.first.focus()
    like = int(re.search(r"\d+", rows.first.locator("text=like this").inner_text())[0])
    press("l")
    accepted = int(page.inner_text(".sheet-bar .found").split()[0])
    assert accepted >= like > 1
    page.locator(".sheet-bar .primary").focus()
    press("Enter")
    page.wait_for_selector(".result")
    after = reviewed_library.digests(root)
    assert sum(after[path] != before[path] for path in before) == accepted
    page.locator(".result button:text('Undo')").focus()
    press("Enter")
    page.wait_for_selector(".result:has-text('undone')")
    assert reviewed_library.digests(root) == before


def test_all_like_this_are_those_that_are_open(visit: Callable[..., Any]) -> None:
    page = plan(visit("review"))
    alike: dict[tuple[str, str], list[str]] = {}
    for row in page.locator(f"{ROWS}:has(button:text('like this'))").all():
        change = (row.locator(".old").inner_text(), row.locator(".new").inner_text())
        alike.setdefault(change, []).append(row.get_attribute("data-n"))
    names = max(alike.values(), key=len)
    count = len(names)
    assert count > 3
    first, edited, rejected, *others = (page.locator(f"{ROWS}[data-n='{n}']") for n in names)
    edited.locator("text=Edit").click()
    assert "put ; between" in edited.locator("form").inner_text()
    edited.locator("input").fill("Klezmerr")
    assert "“Klezmerr” is not in the list of genres" in edited.locator("form").inner_text()
    edited.locator("text=Save").click()
    assert edited.locator(".chip").inner_text() == "not in the list of genres"
    first.locator("text=Edit").click()
    first.locator("input").fill("Half a wo")
    rejected.locator("text=Reject").click()
    assert (
        first.locator("input").input_value() == "Half a wo"
    )  # though its button has another number
    first.locator("text=Cancel").click()
    assert first.locator("text=like this").inner_text() == f"All {count - 2} like this"
    share = first.locator(".share").inner_text()
    first.locator("text=like this").click()
    assert edited.locator(".new").inner_text() == "Klezmerr"
    assert "no" in rejected.get_attribute("class").split()
    for row in (first, *others):
        assert "yes" in row.get_attribute("class").split()
        assert row.locator(".share").inner_text().endswith("%")  # not taken for edited
    assert first.locator(".share").inner_text() == share


def test_all_are_accepted_written_and_undone_from_the_history(
    visit: Callable[..., Any], made: tuple[Path, Path]
) -> None:
    root = made[0]
    before = reviewed_library.digests(root)
    page = plan(visit("review"))
    count = page.locator(ROWS).count()
    page.locator(".album-head >> text=Reject all").first.click()
    rejected = page.locator(f"{ROWS}.no").count()
    assert rejected > 3
    page.click("text=Accept the rest")
    page.click(".sheet-head >> text=Rejected")
    assert page.locator(ROWS).count() == rejected
    page.click(".sheet-head >> button:text-is('All')")
    page.check("#keep-time")
    written(page)
    assert f"{count - rejected} files written" in page.inner_text(".result")
    after = reviewed_library.digests(root)
    assert sum(after[path][0] != before[path][0] for path in before) == count - rejected
    assert [when for _, when in after.values()] == [when for _, when in before.values()]
    page.goto(page.url.split("#")[0] + "#/review")
    page.wait_for_selector(".history li")
    page.locator(".history button:text('Undo')").first.click()
    page.wait_for_selector(".history .result:has-text('undone')")
    assert reviewed_library.digests(root) == before


def test_contradictions_are_not_accepted_with_the_rest(visit: Callable[..., Any]) -> None:
    page = plan(visit("review"), existing="skip")
    contradicted = page.locator(f"{ROWS}:has(.chip)")
    count = contradicted.count()
    assert count > 0
    assert f"{count} more to be reviewed" in page.inner_text(".sheet-head")
    assert "audio: " in contradicted.first.locator(".evidence").inner_text()
    page.click("text=Accept the rest")
    rest = page.locator(ROWS).count() - count
    assert page.inner_text(".sheet-bar .found") == f"{rest} accepted, {count} to decide"
    contradicted.first.locator("text=Accept").click()
    assert page.inner_text(".sheet-bar .found") == f"{rest + 1} accepted, {count - 1} to decide"
    shoot(page, "review-contradictions")


def test_the_history_does_not_move(visit: Callable[..., Any]) -> None:
    page = library(visit("library"))
    applied = {"number": 1, "begun": "2026-01-01", "folder": ".", "counts": {"done": 1}}
    page.route("**/api/library/history", lambda route: route.fulfill(json=[applied]))
    page.route("**/api/library/plan", lambda route: (time.sleep(0.5), route.continue_()))
    page.click("nav >> text=Review")
    page.wait_for_selector(".history li")
    moved = page.evaluate("""() => new Promise((done) => {
      const observer = new PerformanceObserver((list) => {
        const late = list.getEntries().filter((one) => !one.hadRecentInput);
        done(late.reduce((sum, one) => sum + one.value, 0));
      });
      observer.observe({ type: "layout-shift", buffered: true });
      setTimeout(() => done(0), 500);
    })""")
    assert moved < 0.02


def test_a_plan_without_changes_has_nothing_to_decide(visit: Callable[..., Any]) -> None:
    page = visit("review")

    def empty(route: Any) -> None:
        found = route.fetch().json()
        route.fulfill(json={**found, "rows": [], "counts": {"it is read-only": 1}})

    page.route("**/api/library/plans/*", empty)
    with page.expect_request(lambda one: one.method == "POST") as asked_for:
        plan(page, confidence="50")
    assert asked_for.value.post_data_json["min_confidence"] == 0.5  # of people in %
    page.get_by_text("There is nothing to write.").wait_for()
    assert page.get_by_text("1 file: it is read-only").is_visible()
    assert page.locator(".sheet button").filter(visible=True).count() == 0
    page.get_by_role("link", name="Make a new plan").click()
    page.wait_for_selector("form")


def test_errors_of_a_review_are_in_words(
    visit: Callable[..., Any], made: tuple[Path, Path]
) -> None:
    root = made[0]
    page = plan(visit("review"))
    row = page.locator(ROWS).first
    (path,) = root.rglob(row.locator(".row-file").inner_text())
    kept = path.with_name("kept")
    shutil.copy2(path, kept)
    try:
        path.write_bytes(path.read_bytes() + b"more")
        row.locator("text=Accept").click()
        written(page)
        assert page.inner_text(".result").startswith("1 file skipped.\n")
        assert "it has changed since the plan was written" in row.inner_text()
    finally:
        kept.replace(path)
    page = visit("review/no-such-plan")
    page.wait_for_selector(".problem >> text=There is no such plan")
    page.click("text=Make a new plan")
    page.wait_for_selector("form")


def test_a_browser_with_the_token_may_write(
    chromium: Any, made: tuple[Path, Path], serve: Callable[..., Any]
) -> None:
    root, catalogue = made
    before = reviewed_library.digests(root)
    journal = catalogue.with_name("other.db")
    options = ("--library", root, "--db", catalogue, "--journal", journal, "--allow-writing")
    with serve(*options, GENRESCOPE_TOKEN="secret") as server:  # noqa: S106
        context = chromium.new_context()
        page = context.new_page()
        address = server.address.split("?")[0].rstrip("/")
        assert page.goto(f"{address}/").status == 401
        page.fill("input[name=token]", "secret")
        page.click("button")
        page.wait_for_url(f"{address}/")
        page.wait_for_selector("h1 >> visible=true")
        assert page.title() != "A token is needed – genrescope"
        context.clear_cookies()
        page.goto(f"{address}/?token=secret#/review")
        assert "secret" not in page.url
        plan(page)
        page.locator(ROWS).first.locator("text=Accept").click()
        written(page)
        assert reviewed_library.digests(root) != before
        undone(page)
        assert reviewed_library.digests(root) == before
        context.close()
