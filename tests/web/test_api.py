"""The JSON API: its answers, what it refuses and how, and that nothing is left behind."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import soundfile
from starlette.testclient import TestClient

import genrescope
from genrescope.errors import GenrescopeError
from genrescope.web import create_app
from genrescope.web.middleware import LOCAL_NAMES
from genrescope.web.upload import Uploads
from web_server import Server

pytestmark = pytest.mark.xdist_group("web-api")
CLASSIFY = "/api/classify"
MUSIC = str(genrescope.sample().parent)
ANYWHERE = "0.0.0.0"  # noqa: S104  it refuses to
EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "s3cret &?"  # noqa: S105
LIMITS = ("--max-mb", 20, "--max-minutes", 1, "--timeout", 5, "--workers", 2)


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any]) -> Iterator[Server]:
    with serve(*LIMITS) as server:
        yield server


@pytest.fixture
def ask(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    assert server.left() == []


def post(client: httpx.Client, path: Path, name: str | None = None, **query: Any) -> httpx.Response:
    with path.open("rb") as file:
        sent = {"file": (name or path.name, file)}
        return client.post(CLASSIFY, files=sent, params=query)


def test_it_answers_as_the_library_does(ask: httpx.Client) -> None:
    path = genrescope.sample("shuffle")
    expected = genrescope.load().predict(path)
    answer = post(ask, path, timeline=True, top_k=3).json()
    assert answer["file"] == "shuffle.mp3"
    assert answer["seconds"] == pytest.approx(9, abs=0.1)
    assert (answer["genre"], answer["unsure"]) == (expected.genre, expected.unsure)
    assert answer["confidence"] == pytest.approx(expected.confidence, abs=1e-5)
    likely = list(expected.probabilities.items())[:3]
    assert [score["label"] for score in answer["scores"]] == [name for name, _ in likely]
    for score, (_, share) in zip(answer["scores"], likely, strict=True):
        assert score["score"] == pytest.approx(share, abs=1e-5)
    assert [tag["label"] for tag in answer["tags"]] == list(expected.tags)[:3]
    assert answer["timeline"]["genres"][0] in expected.probabilities
    assert len(answer["timeline"]["genres"]) == 3
    assert answer["sentence"].startswith("Almost certainly jazz (0.97)")
    assert answer["similar"] is None
    assert answer["explanation"] is None


def test_it_explains_an_answer_if_asked(ask: httpx.Client) -> None:
    path = genrescope.sample("shuffle")
    expected = genrescope.explain(genrescope.load(), path)
    found = post(ask, path, explain=True).json()["explanation"]
    assert found["genre"] == expected.genre
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-4)
    assert [len(found["times_s"]), len(found["bands_hz"])] == [4, 9]
    for shown, drops in zip(found["drops"], expected.drops, strict=True):
        assert shown == pytest.approx(drops.tolist(), abs=1e-4)


def test_the_same_clip_has_the_same_answer_whatever_its_name(ask: httpx.Client) -> None:
    path = genrescope.sample("pulse")
    names = ["../../etc/cron.d/x.mp3", r"C:\Music\x.mp3", "x", "ünïcödé 音楽.mp3", "<b>x</b>.mp3"]
    names += ["a%22\u202egpj%0D.mp3"]
    answers = [post(ask, path, name).json() for name in names]
    files = [answer.pop("file") for answer in answers]
    assert files == ["x.mp3", "x.mp3", "x", "ünïcödé 音楽.mp3", "b.mp3", "agpj.mp3"]
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no music, only words\n" * 100, "letter.mp3"),
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(5000), "letter.mp3"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100), "letter.mp3"),
        (b"fLaC" + b"\xff" * 1000, "letter.mp3"),
    ],
    ids=["text", "empty", "archive", "tag of 256 MB", "broken FLAC"],
)
def test_what_is_no_audio_is_refused(
    ask: httpx.Client, tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "letter.mp3"
    path.write_bytes(content)
    answer = post(ask, path)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert "/" not in answer.json()["detail"]  # no path of the server's


def test_a_truncated_file_is_refused(
    ask: httpx.Client, tone: Callable[..., Path], tmp_path: Path
) -> None:
    path = tone(tmp_path / "cut.wav", seconds=5)
    path.write_bytes(path.read_bytes()[:50_000])
    answer = post(ask, path)
    assert (answer.status_code, "cut off" in answer.json()["detail"]) == (422, True)


def test_an_hour_of_silence_in_a_small_file_is_refused_at_once(
    ask: httpx.Client, tmp_path: Path
) -> None:
    # What a zip bomb is among archives: 3 hours in 1 MB.
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC") as file:
        for _ in range(180):
            file.write([0.0] * (60 * 8000))
    assert path.stat().st_size < 2e6
    begin = time.monotonic()
    answer = post(ask, path)
    assert (answer.status_code, "longer than 1 minute," in answer.json()["detail"]) == (413, True)
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize(
    ("kwargs", "status"),
    [
        ({"content": b"abc"}, 422),
        ({"files": {"other": ("a.mp3", b"abc")}}, 422),
        ({"data": {"file": "abc"}}, 422),
        ({"content": b"abc", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"abc", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
        ({"files": [("file", ("a", b"1")), ("file", ("b", b"2"))]}, 400),
        (
            {
                "content": b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\na\r\n--x--\r\n",
                "headers": {"content-type": "multipart/form-data; boundary=x; charset=undefined"},
            },
            400,
        ),
        ({"params": {"top_k": 0}, "files": {"file": b"a"}}, 422),
        ({"params": {"top_k": "many"}, "files": {"file": b"a"}}, 422),
    ],
)
def test_malformed_requests_are_refused(
    ask: httpx.Client, kwargs: dict[str, Any], status: int
) -> None:
    answer = ask.post(CLASSIFY, **kwargs)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


def test_a_fault_of_ours_has_the_form_of_every_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uploads, "receive", Mock(side_effect=ValueError("secret")))
    with TestClient(create_app(names=LOCAL_NAMES), base_url="http://127.0.0.1") as client:
        answer = client.post(CLASSIFY)
    assert (answer.status_code, answer.json()["detail"]) == (500, "Internal server error.")
    assert answer.json()["error"]["title"] == "The server failed"
    assert "secret" not in answer.text


def test_a_body_of_a_gigabyte_is_refused_before_it_is_sent(server: Server) -> None:
    head = (
        f"POST {CLASSIFY} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    status, seconds = talk(server, head.encode())
    assert (status, seconds < 8) == (413, True)


def test_a_body_without_a_length_is_refused_once_it_is_too_large(server: Server) -> None:
    def gigabyte() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(1000):
            yield bytes(10**6)

    before = server.memory()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    begin = time.monotonic()
    try:
        answer = httpx.post(server.address + CLASSIFY, content=gigabyte(), headers=headers)
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # the server hung up while it was still being sent to, as it may
    assert time.monotonic() - begin < 20
    assert server.memory() - before < 60e6
    assert server.left() == []


def talk(server: Server, *pieces: bytes, pause_s: float = 0) -> tuple[int, float]:
    """Send bytes as they are; give the answer's status (0: hung up) and the seconds it took."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
            found = connection.recv(4096)
        except ConnectionError:
            found = b""
    return int(found.split()[1]) if found else 0, time.monotonic() - begin


@pytest.mark.slow
def test_a_head_that_drips_is_not_waited_for(server: Server) -> None:
    drops = [b"GET /healthz HTTP/1.1\r\n", *(f"X-{i}: a\r\n".encode() for i in range(100))]
    status, seconds = talk(server, *drops, pause_s=0.2)
    assert (status in {0, 408}, seconds < 15) == (True, True)


def test_a_body_that_drips_is_not_waited_for_and_keeps_no_one_out(server: Server) -> None:
    head = (
        f"POST {CLASSIFY} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    ).encode()
    drops = [head, *(b"a" for _ in range(100))]
    with ThreadPoolExecutor(30) as pool:
        slow = [pool.submit(talk, server, *drops, pause_s=0.2) for _ in range(30)]
        time.sleep(1)
        begin = time.monotonic()
        with httpx.Client(base_url=server.address, timeout=30) as client:
            assert post(client, genrescope.sample()).status_code == 200
        assert time.monotonic() - begin < 8
        for status, seconds in (future.result() for future in slow):
            assert (status in {0, 408}, seconds < 12) == (True, True)
    assert server.left() == []


def test_who_goes_away_leaves_nothing_behind(server: Server) -> None:
    body = genrescope.sample().read_bytes()
    head = (
        f"POST {CLASSIFY} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body) + 500}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        'Content-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
    ).encode()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head + body)
    time.sleep(0.5)
    assert server.left() == []
    assert httpx.get(server.address + "/healthz").json()["inside"] == 0


def test_fifty_at_once_are_all_answered_in_bounded_memory(
    server: Server, tone: Callable[..., Path], tmp_path: Path, music: Callable[..., Any]
) -> None:
    paths = [genrescope.sample(name) for name in genrescope.SAMPLES]
    for i in range(3):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], music(seconds=30.0, seed=i), 22050)
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, server.memory())
            time.sleep(0.2)

    with httpx.Client(base_url=server.address, timeout=120) as client:
        expected = [post(client, path).json() for path in paths]
        with ThreadPoolExecutor(len(paths)) as pool:  # until every worker has loaded the model
            list(pool.map(lambda path: post(client, path), paths))
        before = server.memory()
        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(50) as pool:
            wanted = [i % len(paths) for i in range(50)]
            answers = list(
                pool.map(
                    lambda i: httpx.post(
                        server.address + CLASSIFY,
                        files={"file": (paths[i].name, paths[i].read_bytes())},
                        timeout=120,
                    ),
                    wanted,
                )
            )
        done.set()
        watcher.join()
    assert [answer.status_code for answer in answers] == [200] * 50
    for i, answer in zip(wanted, answers, strict=True):
        assert answer.json() == expected[i]
    assert most - before < 100e6
    assert server.left() == []


def test_too_many_are_told_to_come_back(serve: Callable[..., Any]) -> None:
    path = genrescope.sample()
    with serve("--workers", 1, "--max-queue", 2) as server, ThreadPoolExecutor(12) as pool:
        content = path.read_bytes()
        answers = list(
            pool.map(
                lambda _: httpx.post(
                    server.address + CLASSIFY, files={"file": ("a.mp3", content)}, timeout=60
                ),
                range(24),
            )
        )
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) > 0
        assert httpx.get(server.address + "/healthz").json()["inside"] == 0
        assert server.left() == []


@pytest.mark.slow
def test_a_token_is_asked_for_everywhere_but_for_health(serve: Callable[..., Any]) -> None:
    with serve(GENRESCOPE_TOKEN=TOKEN) as server:
        address, _, query = server.address.partition("/?")
        with httpx.Client(base_url=address, follow_redirects=False) as client:
            assert client.get("/healthz").status_code == 200
            closed = ("/", "/api/page", "/api/version", "/openapi.json", "/static/app.js")
            for path in (*closed, "/api/answers/x", "/?token=wrong"):
                answer = client.get(path)
                assert (answer.status_code, TOKEN in answer.text) == (401, False)
            assert post(client, genrescope.sample()).status_code == 401
            known = {"authorization": f"Bearer {TOKEN}"}
            assert client.get("/api/version", headers=known).status_code == 200
            # A browser is given a cookie, and the token leaves the address.
            first = client.get(f"/?{query}")
            assert (first.status_code, first.headers["location"]) == (303, "/")
            assert client.get("/").status_code == 200
            assert (
                httpx.get(f"{address}//evil.example/?{query}").headers["location"]
                == "/evil.example/"
            )


def test_a_foreign_name_is_refused_where_only_this_machine_may_ask(server: Server) -> None:
    for host, status in (("evil.example", 421), ("localhost:1", 200), ("[::1]", 200), ("[", 421)):
        answer = httpx.get(server.address + "/healthz", headers={"host": host})
        assert answer.status_code == status, host


def test_it_listens_to_this_machine_alone(server: Server) -> None:
    listening = Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
    local = [line.split()[1] for line in listening if line.split()[3] == "0A"]
    assert f"0100007F:{server.port:04X}" in local
    assert f"00000000:{server.port:04X}" not in local


def test_a_library_gives_similar_tracks(serve: Callable[..., Any], tmp_path: Path) -> None:
    library = tmp_path / "music"
    (library / "album").mkdir(parents=True)
    for name in genrescope.SAMPLES:
        shutil.copy(genrescope.sample(name), library / "album")
    odd = os.fsencode(library) + b"/caf\xe9.mp3"  # no UTF-8
    shutil.copy(genrescope.sample("lament"), odd)
    with serve("--library", library) as server, httpx.Client(base_url=server.address) as client:
        others = post(client, genrescope.sample("lament")).json()["similar"]
        assert r"caf\udce9.mp3" in [track["path"] for track in others]
        begun = client.post("/api/answers", params={"sample": "lament"}).json()
        known = {"wait": 20, "since": 2}
        state = client.get(f"/api/answers/{begun['id']}", params=known, timeout=30).json()
        shown = {track["path"]: track for track in state["answer"]["similar"]}
        assert set(shown) == {track["path"] for track in others}
        for track in shown.values():
            assert (
                client.get(track["audio"]).content
                == genrescope.sample(
                    "lament" if "caf" in track["path"] else Path(track["path"]).stem
                ).read_bytes()
            )
        answer = post(client, genrescope.sample("pulse"), similar=2).json()
    near = answer["similar"]
    assert near[0]["path"] == "album/pulse.mp3"
    assert len(near) == 2
    assert near[0]["similarity"] == pytest.approx(1, abs=1e-3)


def test_version_tells_what_answers(ask: httpx.Client) -> None:
    told = ask.get("/api/version").json()
    classifier = genrescope.load()
    assert told["genrescope"] == genrescope.__version__
    assert (told["model"], told["genres"]) == (classifier.key, list(classifier.genres))


def test_nothing_in_it_comes_from_elsewhere(ask: httpx.Client) -> None:
    page = ask.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert ask.get("/docs").headers["location"] == "/#/programs"
    described = ask.get("/openapi.json").json()
    files = {"/api/explanations/{id}", "/api/answers/{id}/{file}"}
    answers = {"/api/answers", "/api/answers/{id}", *files}
    assert set(described["paths"]) == {"/api/classify", "/api/version", "/healthz", *answers}
    begun = described["paths"]["/api/answers"]["post"]["responses"]
    assert begun["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/JobState")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%2e%2e/app.py",
        "/static/index.html/..",
        "/static/",
        "/report/..%2f..%2fpyproject.toml",
        "/report/report.html",
        "/file=/etc/passwd",
        "/etc/passwd",
        "/gradio_api/upload",
        "/gradio_api/queue/join",
        "/config",
    ],
)
def test_files_of_the_server_cannot_be_read(server: Server, path: str) -> None:
    # As it is written: a client would resolve the dots itself.
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    assert talk(server, request)[0] == 404


def test_names_of_any_script_and_length_are_kept(ask: httpx.Client) -> None:
    for letter in "x日ж🎵":
        answer = post(ask, genrescope.sample("pulse"), f"{letter * 250}.mp3").json()
        assert answer["file"].startswith(letter * 50)
        assert answer["file"].endswith(".mp3")


@pytest.mark.parametrize("token", ["é", " x", "x\n", ""])
def test_a_token_that_no_request_can_hold_is_refused(token: str) -> None:
    with pytest.raises(GenrescopeError, match="token must be of ASCII"):
        create_app(token=token)


@pytest.mark.slow
def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    line = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        server.address + "/openapi.json",
        "--max-examples=25",
        "--seed=1",
        "--checks=all",
        "--exclude-checks=positive_data_acceptance",  # no schema tells what audio is
        "--no-color",
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.left() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "nowhere"], "report.html"),
        (["--library", "nowhere"], "no such folder"),
        (["--model", "nowhere"], "config.json"),
        (["--port", "1", "--host", "203.0.113.7"], "cannot listen"),
        (["--allow-writing"], "--library"),
        (["--allow-writing", "--library", MUSIC, "--host", ANYWHERE], "GENRESCOPE_TOKEN"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(options: list[str], message: str) -> None:
    line = [sys.executable, "-m", "genrescope", "serve", *options]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_ends_it_and_tidies_up(serve: Callable[..., Any]) -> None:
    with serve() as server:
        with httpx.Client(base_url=server.address) as client:
            assert post(client, genrescope.sample()).status_code == 200
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(15) in {0, 130}
        assert list(server.folder.iterdir()) == []
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_the_space_serves_the_page(tmp_path: Path) -> None:
    # As it stands, but at a free port.
    code = (
        "import runpy, genrescope.web as web\n"
        "real = web.serve\n"
        "def serve(*args, **options):\n"
        "    options |= {'port': 0, 'ready': lambda address: print(address, flush=True)}\n"
        "    real(*args, **options)\n"
        "web.serve = serve\n"
        "runpy.run_path(PATH, run_name='__main__')\n"
    )
    path = EXAMPLES / "space" / "app.py"
    line = [sys.executable, "-c", code.replace("PATH", repr(str(path)))]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with httpx.Client(base_url=address, timeout=30) as client:
                assert post(client, genrescope.sample("pulse")).json()["best"] == "disco"
                page = client.get("/")
                assert "genrescope" in page.text
                assert page.headers["content-security-policy"].endswith(" https://huggingface.co")
        finally:
            process.terminate()


def test_the_example_with_gradio_gives_every_genre(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # gradio itself is not among the dependencies: what it is given is looked at.
    given: dict[str, Any] = {}

    class Interface:
        def __init__(self, function: Any, *components: Any, **options: Any) -> None:
            given.update(options, function=function)

        def launch(self) -> None:
            given["launched"] = True

    gradio = SimpleNamespace(Interface=Interface, Audio=dict, Label=dict, Error=RuntimeError)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    runpy.run_path(str(EXAMPLES / "gradio" / "app.py"), run_name="__main__")
    assert given["launched"]
    for path in given["examples"]:
        assert given["function"](path) == genrescope.load().predict(path).probabilities
    text = tmp_path / "text.mp3"
    text.write_text("no music")
    with pytest.raises(RuntimeError, match=r"^not audio that genrescope can read\. Try MP3"):
        given["function"](str(text))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_reported_and_leaves_nothing(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        with (
            serve(TMPDIR=str(small)) as server,
            httpx.Client(base_url=server.address, timeout=60) as client,
        ):
            big = tmp_path / "big.wav"
            big.write_bytes(bytes(6_000_000))
            answer = post(client, big)
            assert (answer.status_code, "try again later" in answer.json()["detail"]) == (507, True)
            assert post(client, genrescope.sample()).status_code == 200
            assert server.left() == []
    finally:
        subprocess.run(["umount", str(small)], check=False)
