"""Answers of the page: followed, cancelled and forgotten; and what the page begins with."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from mutagen.id3 import ID3, TALB, TIT2, TPE1
from PIL import Image
from starlette.exceptions import HTTPException

import genrescope
from genrescope.errors import GenrescopeError, InputError, NotFoundError
from genrescope.service.jobs import ServerJob, ServerJobs
from genrescope.service.queue import FairQueue
from genrescope.service.schema import JobState
from genrescope.web.faults import fault_of, job_words
from web_server import Server, children

pytestmark = pytest.mark.xdist_group("web-answers")
ANSWERS = "/api/answers"
RUNS = {"waiting", "running"}
WORDS = {"title", "remedy", "detail"}


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any]) -> Iterator[Server]:
    with serve("--workers", 2, "--max-minutes", 10, "--max-mb", 30) as server:
        httpx.get(f"{server.address}/api/page", timeout=30)  # once the example is there
        yield server


@pytest.fixture
def ask(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    assert server.left() == []


def send(client: httpx.Client, path: Path, name: str | None = None) -> str:
    with path.open("rb") as file:
        response = client.post(ANSWERS, files={"file": (name or path.name, file)})
    assert response.status_code == 202, response.text
    state = response.json()
    assert response.headers["location"] == f"{ANSWERS}/{state['id']}"
    assert re.fullmatch(r"[\w-]{22}", state["id"])
    assert (state["state"], state["answer"], state["error"]) == ("waiting", None, None)
    return response.headers["location"]


def follow(client: httpx.Client, place: str) -> dict[str, Any]:
    state = {"state": "waiting", "version": 0}
    while state["state"] in RUNS:
        known = {"wait": 20, "since": state["version"]}
        state = client.get(place, params=known).json()
        assert state == JobState(**state).model_dump()  # as /openapi.json describes it
    return state


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    """Give a sample with tags."""
    path = tmp_path / "a song.mp3"
    path.write_bytes(genrescope.sample("lament").read_bytes())
    tags = ID3()
    for frame in (TIT2, TPE1, TALB):
        tags.add(frame(encoding=3, text=f"{frame.__name__} Ä <b>"))
    tags.save(path)
    return path


def test_an_answer_holds_all_that_the_page_shows(ask: httpx.Client, tagged: Path) -> None:
    place = send(ask, tagged)
    state = follow(ask, place)
    assert (state["state"], state["name"], state["place"]) == ("done", "a song.mp3", None)
    answer = state["answer"]
    expected = genrescope.load().predict(tagged)
    with tagged.open("rb") as file:
        options = {"timeline": True, "explain": True, "top_k": 12}
        classified = ask.post("/api/classify", files={"file": file}, params=options).json()
    for name in classified.keys() - {"timeline", "similar", "file", "explanation"}:
        assert answer[name] == classified[name], name
    assert answer["similar"] == []
    assert {score["label"] for score in answer["scores"]} == set(expected.probabilities)
    names = [answer[name] for name in ("title", "artist", "album")]
    assert names == [f"{name} Ä <b>" for name in ("TIT2", "TPE1", "TALB")]
    assert answer["confidence_level"] == "sure"
    assert answer["confidence_text"] == "9 in 10 sure and likely answers are right"
    steps = answer["timeline"]
    best = [steps["genres"][int(np.argmax(row))] for row in steps["probabilities"]]
    assert best == classified["timeline"]["genres"]
    assert all(abs(sum(row) - 1) < 0.01 for row in steps["probabilities"])
    links = answer["links"]
    picture = Image.open(io.BytesIO(ask.get(links["spectrogram"]).content))
    edges = answer["spectrogram"]["bands_hz"]
    assert picture.height == len(edges) - 1
    assert edges == sorted(edges)
    sound, rate = soundfile.read(io.BytesIO(ask.get(links["audio"]).content))
    assert len(sound) / rate == pytest.approx(answer["seconds"], abs=0.1)
    assert ask.get(links["json"]).json() == answer
    begun = ask.post(links.pop("explanation"))
    assert begun.status_code == 202
    number = begun.headers["location"].rpartition("/")[2]
    assert ask.post(f"/api/explanations/{number}").status_code == 409  # it has no sound
    assert ask.post("/api/explanations/x").status_code == 404
    why, meant = follow(ask, begun.headers["location"])["answer"], classified["explanation"]
    assert why.keys() == meant.keys()
    assert (why["genre"], why["bands_hz"]) == (meant["genre"], meant["bands_hz"])
    assert np.allclose(why["drops"], meant["drops"], atol=0.01)  # of 16 bits, at 16 kHz
    header, row = csv.reader(ask.get(links["csv"]).text.splitlines())
    assert dict(zip(header, row, strict=True))["genre"] == answer["genre"]
    part = ask.get(links["audio"], headers={"range": "bytes=100-299"})
    assert (part.status_code, len(part.content)) == (206, 200)
    assert ask.get(links["audio"]).content[100:300] == part.content
    assert ask.get(links["audio"], headers={"range": "bytes=99999999-"}).status_code == 416
    assert ask.delete(place).status_code == 204
    for gone in (place, *links.values()):
        response = ask.get(gone)
        assert response.status_code == 404
        assert set(response.json()["error"]) == WORDS


def test_names_in_tags_are_short_lines(ask: httpx.Client, tagged: Path) -> None:
    tags = ID3(tagged)
    tags["TIT2"].text = ["one\ntwo\x1b[2J\u202e"]
    tags["TPE1"].text = ["x" * 100_000]
    del tags["TALB"]
    tags.save()
    answer = follow(ask, send(ask, tagged))["answer"]
    assert answer["title"] == r"one\ntwo\x1b[2J\u202e"
    assert (answer["artist"], answer["album"]) == ("x" * 300, None)


def test_silence_has_no_genre_in_the_timeline(ask: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "half.wav"
    sound, rate = soundfile.read(genrescope.sample("pulse"))
    soundfile.write(path, np.concatenate([sound[: 6 * rate], np.zeros(9 * rate)]), rate)
    steps = follow(ask, send(ask, path))["answer"]["timeline"]["probabilities"]
    assert steps[-1] is None
    assert steps[0] is not None


def test_a_sample_needs_no_file(ask: httpx.Client) -> None:
    begun = ask.post(ANSWERS, params={"sample": "pulse"})
    assert begun.status_code == 202
    answer = follow(ask, begun.headers["location"])["answer"]
    assert (answer["file"], answer["best"]) == ("pulse.mp3", "disco")


def test_what_is_no_audio_fails_in_words(ask: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "letter.mp3"
    path.write_bytes(b"no music, only words\n" * 100)
    state = follow(ask, send(ask, path))
    assert (state["state"], state["answer"]) == ("failed", None)
    assert state["error"] == {
        "title": "Not audio that genrescope can read",
        "remedy": "Try MP3, WAV, FLAC or M4A.",
        "detail": "letter.mp3: not audio that genrescope can read. Try MP3, WAV, FLAC or M4A.",
    }


@pytest.mark.parametrize(
    ("error", "status", "title", "remedy"),
    [
        (InputError("a", "it is silent", "Use another"), 422, "The file is silent", "Use another."),
        (InputError("a", "its codec is odd", "Try"), 422, "The file's codec is odd", "Try."),
        (GenrescopeError("No."), 422, "No.", ""),
        (OSError(28, "No space"), 507, "The server has no disk space left", "Try again later."),
        (HTTPException(415, "Not JSON."), 415, "The request is malformed", None),
        (HTTPException(599, "What?"), 599, "The server failed", None),
        (ValueError("secret"), 500, "The server failed", None),
    ],
)
def test_errors_have_words_for_people(
    error: Exception, status: int, title: str, remedy: str | None
) -> None:
    found = fault_of(error)
    assert (found.status, found.title) == (status, title)
    assert remedy is None or found.remedy == remedy
    assert "secret" not in str(found)


@pytest.fixture
def long(tmp_path: Path, music: Callable[..., Any]) -> Path:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(music(seconds=60.0), 9), 22050)
    return path


def workers(server: Server) -> set[int]:
    return set(children(server.process.pid))


def test_cancelling_stops_the_work_and_others_go_on(
    server: Server, ask: httpx.Client, long: Path
) -> None:
    before = workers(server)
    place = send(ask, long)
    running = ask.get(place, params={"wait": 20, "since": 1}).json()
    assert running["state"] == "running"
    later = ask.get(place).json()["running_s"]
    assert 0 <= running["running_s"] < later
    assert ask.delete(place).status_code == 204
    assert server.left() == []  # the upload is deleted with its answer
    assert len(before - workers(server)) == 1
    assert ask.get(place).status_code == 404
    for _ in range(2):  # by both of the processes, one of which is new
        assert follow(ask, send(ask, genrescope.sample()))["state"] == "done"
    assert ask.get("/healthz").json()["inside"] == 0
    assert len(workers(server)) == len(before)


def test_who_waits_is_given_a_place_and_may_leave(
    server: Server, ask: httpx.Client, long: Path
) -> None:
    running = [send(ask, long) for _ in range(2)]
    waiting = [send(ask, genrescope.sample("pulse"), f"{number}.mp3") for number in range(3)]
    states = [ask.get(place).json() for place in waiting]
    places = [(state["state"], state["place"], state["running_s"]) for state in states]
    assert places == [("waiting", number, None) for number in (1, 2, 3)]
    with ThreadPoolExecutor() as pool:
        known = {"wait": 20, "since": states[2]["version"]}
        later = pool.submit(ask.get, waiting[2], params=known)
        time.sleep(0.3)
        assert not later.done()
        assert ask.delete(waiting[0]).status_code == 204
        assert later.result().json()["place"] == 2
    assert ask.delete(running[0]).status_code == 204
    for place in waiting[1:]:
        assert follow(ask, place)["state"] == "done"
    assert ask.delete(running[1]).status_code == 204


def test_an_answer_may_be_deleted_while_its_explanation_waits(
    ask: httpx.Client, long: Path
) -> None:
    place = send(ask, genrescope.sample())
    assert follow(ask, place)["state"] == "done"
    running = [send(ask, long) for _ in range(2)]
    waiting = ask.post(place.replace(ANSWERS, "/api/explanations")).headers["location"]
    for other in (place, *running):
        assert ask.delete(other).status_code == 204
    state = follow(ask, waiting)
    assert (state["state"], state["error"]["title"]) == ("failed", "The answer has been deleted")


def test_an_end_that_is_known_is_not_waited_for(ask: httpx.Client) -> None:
    place = send(ask, genrescope.sample())
    version = follow(ask, place)["version"]
    begin = time.monotonic()
    state = ask.get(place, params={"wait": 30, "since": version + 5}).json()
    assert (state["state"], time.monotonic() - begin < 10) == ("done", True)


def poll(server: Server, place: str, address: str = "127.0.0.1") -> socket.socket:
    """Begin to wait for the end of an answer."""
    line = socket.create_connection(
        ("127.0.0.1", server.port), timeout=30, source_address=(address, 0)
    )
    head = f"GET {place}?wait=30&since=99999 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    line.sendall(head.encode())
    return line


def test_waits_that_are_broken_off_keep_nobody_out(
    server: Server, ask: httpx.Client, long: Path
) -> None:
    *running, place = (send(ask, long) for _ in range(3))
    for number in range(2, 7):  # more in all than the server has connections
        with ExitStack() as stack:
            for _ in range(120):
                stack.enter_context(poll(server, place, f"127.0.0.{number}"))
        ask.get("/healthz")
    assert ask.get("/healthz").status_code == 200
    assert ask.get(place).json()["state"] == "waiting"
    for begun in (place, *running):
        assert ask.delete(begun).status_code == 204


@pytest.mark.slow
def test_who_waits_is_refused_when_the_server_ends(serve: Callable[..., Any], long: Path) -> None:
    with serve("--max-minutes", 10) as server:
        with httpx.Client(base_url=server.address, timeout=60) as client:
            place = send(client, long)
        with poll(server, place) as line:
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            answer = b"".join(iter(lambda: line.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n")
        assert server.process.wait(20) in {0, 130}
        assert "Traceback" not in server.log.read_text()
        assert list(server.folder.iterdir()) == []


def test_the_upload_is_deleted_as_soon_as_it_is_analysed(server: Server, ask: httpx.Client) -> None:
    place = send(ask, genrescope.sample(), "mine.mp3")
    assert follow(ask, place)["state"] == "done"
    assert server.left() == []
    assert not list(server.folder.rglob("mine.mp3"))


def test_the_page_begins_with_an_example_that_stays(ask: httpx.Client) -> None:
    config = ask.get("/api/page").json()
    assert config["version"] == genrescope.__version__
    assert config["limits"] == {
        "megabytes": 30,
        "minutes": 10,
        "keep_minutes": 30,
        "files": 20,
    }
    assert [sample["name"] for sample in config["samples"]] == list(genrescope.SAMPLES)
    assert config["genres"] == list(genrescope.load().genres)
    assert (config["library"], config["report"]) == (None, None)
    assert config["card"]["license"] == "apache-2.0"
    assert config["example"]["best"] == "jazz"
    link = config["example"]["links"]["audio"]
    assert ask.get(link).status_code == 200
    assert ask.delete(link.rpartition("/")[0]).status_code == 403
    assert ask.get(link).status_code == 200


@pytest.mark.parametrize(
    "ranges",
    [
        ",".join(["0-"] * 100),
        ",".join(f"{i}-{i}" for i in range(4000)),
        ",".join(f"-{i + 1}" for i in range(99)),
        "0-" + "9" * 4000,
        "5-1",
        "-",
        "",
        "\u00b2-",
        "0-1,3-4",
    ],
    ids=[
        "overlapping",
        "many",
        "from the end",
        "large",
        "backwards",
        "none",
        "empty",
        "no digit",
        "two",
    ],
)
def test_ranges_cost_no_more_than_the_file(ask: httpx.Client, ranges: str) -> None:
    link = ask.get("/api/page").json()["example"]["links"]["audio"]
    whole = len(ask.get(link).content)
    begin = time.monotonic()
    part = ask.get(link, headers={b"range": f"bytes={ranges}".encode()})
    assert part.status_code == 200
    assert len(part.content) == whole
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("ranges", "first", "last"), [("0-99", 0, 100), ("5-", 5, None), ("-7", -7, None)]
)
def test_a_range_is_a_part(ask: httpx.Client, ranges: str, first: int, last: int | None) -> None:
    link = ask.get("/api/page").json()["example"]["links"]["audio"]
    part = ask.get(link, headers={"range": f"bytes={ranges}"})
    assert part.status_code == 206
    assert part.content == ask.get(link).content[first:last]
    assert ask.get(link, headers={"range": "bytes=99999999-"}).status_code == 416


def test_static_files_are_sent_once_and_compressed(ask: httpx.Client) -> None:
    page = ask.get("/", headers={"accept-encoding": "identity"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == ask.get("/static/index.html").text
    names = set(re.findall(r'"/(static/[^"]+)"', page.text))
    assert names
    for name in names:
        response = ask.get(f"/{name}", headers={"accept-encoding": "identity"})
        assert response.status_code == 200, name
        assert response.headers["cache-control"] == "no-cache"
        known = {"if-none-match": response.headers["etag"]}
        assert ask.get(f"/{name}", headers=known).status_code == 304
        if name.endswith(".js") and len(response.content) > 500:
            assert "javascript" in response.headers["content-type"]
            with ask.stream("GET", f"/{name}", headers={"accept-encoding": "gzip"}) as raw:
                assert raw.headers["content-encoding"] == "gzip"
                assert gzip.decompress(b"".join(raw.iter_raw())) == response.content


def test_of_a_report_the_files_known_at_start_are_shown(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("report.html", "figures/a.svg", "model.onnx", "hidden.py", "data/x.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link.html").symlink_to("/etc/passwd")
    (tmp_path / "long.html").write_text("long" * 1000)
    with serve("--report", tmp_path) as server, httpx.Client(base_url=server.address) as client:
        (tmp_path / "later.html").write_text("later")
        config = client.get("/api/page", timeout=30).json()
        assert config["report"] == "/report/report.html"
        shown = client.get("/report/report.html")
        assert shown.text == "report.html"
        (policy,) = shown.headers.get_list("content-security-policy")
        assert policy.startswith("default-src 'none'; style-src")
        assert client.get("/report/figures/a.svg").status_code == 200
        long = client.get("/report/long.html")
        assert (long.headers["content-encoding"], long.text) == ("gzip", "long" * 1000)
        for name in ("model.onnx", "hidden.py", "data/x.npz", "link.html", "later.html", ""):
            assert client.get(f"/report/{name}").status_code == 404, name
        # Nor what has become a link since.
        (tmp_path / "long.html").unlink()
        (tmp_path / "long.html").symlink_to("/etc/passwd")
        (tmp_path / "figures").rename(tmp_path / "moved")
        (tmp_path / "figures").symlink_to(tmp_path / "moved")
        for name in ("long.html", "figures/a.svg"):
            assert client.get(f"/report/{name}").status_code == 404, name


async def write(size: int, job: ServerJob) -> None:
    (job.folder / "file").write_bytes(bytes(size))


async def sleep(_: ServerJob) -> None:
    await asyncio.sleep(60)


async def fail(_: ServerJob) -> None:
    raise InputError("a.mp3", "it is silent", "Leave it out")


def test_of_who_has_most_the_oldest_goes_first(tmp_path: Path) -> None:
    async def main() -> list[str]:
        jobs = ServerJobs(FairQueue(1, 9), tmp_path / "jobs", 60, 1_000_000, job_words)
        begun = []
        for name, size in (("modest", 100_000), *((f"greedy {i}", 300_000) for i in range(5))):
            job = jobs.begin(name, name.split()[0], partial(write, size))
            await asyncio.wait({job.task})
            begun.append(job)
        kept = []
        for job in begun:
            try:
                kept.append(jobs.find(job.id).name)
            except NotFoundError:
                assert not job.folder.exists()
        return kept

    assert asyncio.run(main()) == ["modest", "greedy 3", "greedy 4"]


def test_what_nobody_looks_at_is_deleted_and_what_runs_is_not(tmp_path: Path) -> None:
    async def main() -> list[str]:
        jobs = ServerJobs(FairQueue(1, 9), tmp_path / "jobs", 0.4, 1e9, job_words)
        sweeping = asyncio.create_task(jobs.sweep())
        begun = [
            jobs.begin("looked at", "", partial(write, 1)),
            jobs.begin("left", "", partial(write, 1)),
            jobs.begin("stays", "", partial(write, 1), stays=True),
            jobs.begin("runs", "", sleep),
        ]
        for _ in range(12):
            await asyncio.sleep(0.1)
            jobs.find(begun[0].id)
        sweeping.cancel()
        kept = [job.name for job in begun if job.folder.exists()]
        await jobs.close()
        return kept

    assert asyncio.run(main()) == ["looked at", "stays", "runs"]


def test_what_a_job_holds_is_given_back_however_it_ends(tmp_path: Path) -> None:
    async def main() -> list[str]:
        jobs = ServerJobs(FairQueue(1, 9), tmp_path / "jobs", 60, 1e9, job_words)
        given_back, states = [], []
        for work in (partial(write, 1), fail, sleep):
            held = ExitStack()
            held.callback(given_back.append, work)
            job = jobs.begin("a", "", work, held=held)
            if work is sleep:
                await jobs.forget(job)  # before its first step
            else:
                await asyncio.wait({job.task})
            assert given_back[-1] is work
            states.append(job.state)
        return states

    assert asyncio.run(main()) == ["done", "failed", "cancelled"]


async def write_and(last: Any, job: ServerJob) -> None:
    (job.folder / "audio.flac").write_bytes(b"fLaC")
    await last(job)


def test_of_work_that_does_not_end_well_no_file_is_kept(tmp_path: Path) -> None:
    async def main() -> list[tuple[str, int]]:
        jobs = ServerJobs(FairQueue(1, 9), tmp_path / "jobs", 60, 1e9, job_words)
        begun = [jobs.begin("a", "", partial(write_and, last)) for last in (fail, sleep)]
        await asyncio.sleep(0.1)
        await jobs.close()
        return [(job.state, job.size) for job in begun]

    ends = asyncio.run(main())
    assert [state for state, _ in ends] == ["failed", "cancelled"]
    assert len({size for _, size in ends}) == 1
    assert not list(tmp_path.rglob("audio.flac"))


@pytest.mark.slow
def test_fifty_people_and_many_answers_take_no_more_memory(serve: Callable[..., Any]) -> None:
    # A thousand take a quarter of an hour: GENRESCOPE_TEST_ANSWERS=20, answers a person.
    most_each = int(os.environ.get("GENRESCOPE_TEST_ANSWERS", "4"))
    samples = [genrescope.sample(name).read_bytes() for name in genrescope.SAMPLES]

    def person(number: int, answers: int) -> None:
        with httpx.Client(base_url=server.address, timeout=300) as client:
            for i in range(answers):
                file = {"file": (f"{number}-{i}.mp3", samples[(number + i) % len(samples)])}
                response = client.post(ANSWERS, files=file)
                while response.status_code == 503:  # one address has but a part of the queue
                    time.sleep(float(response.headers["retry-after"]) / 10)
                    response = client.post(ANSWERS, files=file)
                place = response.headers["location"]
                state = follow(client, place)
                assert state["state"] == "done"
                assert client.get(state["answer"]["links"]["spectrogram"]).status_code == 200
                if i % 2:  # the others are left behind
                    assert client.delete(place).status_code == 204

    def crowd(answers: int) -> None:
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(partial(person, answers=answers), range(50)))

    with serve("--workers", 2) as server:
        crowd(2)
        before, most, done = server.memory(), 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(1):
                most = max(most, server.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        crowd(most_each)
        done.set()
        watcher.join()
        after = server.memory()
        assert server.left() == []
        kept = [file for file in server.folder.rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in kept) < 210e6
        assert httpx.get(server.address + "/healthz").json()["inside"] == 0
    assert max(most, after) < 1.1 * before
