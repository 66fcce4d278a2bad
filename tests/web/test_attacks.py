"""What strangers try: foreign pages, greedy clients, broken requests; what killed servers leave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import genrescope
from genrescope.service.queue import FairQueue, FullError
from genrescope.service.temporary_folder import ServerFolder
from genrescope.web.clients import client_of
from genrescope.web.middleware import RequestGuard
from web_server import Server, running

pytestmark = pytest.mark.xdist_group("web-attacks")
CLASSIFY, ANSWERS = "/api/classify", "/api/answers"
HOST = b"Host: 127.0.0.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
SIZE = 100_000  # bytes that the server takes in a request


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any]) -> Iterator[Server]:
    with serve("--max-mb", SIZE / 1e6, "--max-queue", 16, "--timeout", 8) as server:
        yield server


def client(server: Server, address: str = "127.0.0.1") -> httpx.Client:
    """Ask from one of this machine's addresses, each of which is a client of its own."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=server.address, transport=transport, timeout=30)


@pytest.fixture
def ask(server: Server) -> Iterator[httpx.Client]:
    with client(server) as found:
        yield found
    assert server.left() == []


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://localhost:PORT"},
    {"origin": "https://127.0.0.1:PORT"},
    {"origin": "http://127.0.0.1:PORT.evil.example"},
    {"origin": "http://127.0.0.1:PORT@evil.example"},
    {"origin": "http://127.0.0.1.:PORT"},
    {"origin": "http://127.0.0.1:PORT http://evil.example"},
    {"origin": "ftp://127.0.0.1:PORT"},
    {"origin": "http://["},
    {"oRiGiN": "HTTP://EVIL.EXAMPLE"},
    {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "Cross-Site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
]


def known_port(server: Server, headers: dict[str, str]) -> dict[str, str]:
    return {key: value.replace("PORT", str(server.port)) for key, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_is_refused(
    server: Server, ask: httpx.Client, headers: dict[str, str]
) -> None:
    headers = known_port(server, headers)
    files = {"file": genrescope.sample().read_bytes()[:50_000]}
    for answer in (
        ask.post(CLASSIFY, headers=headers, files=files),
        ask.post(ANSWERS, headers=headers, files=files),
        ask.post(ANSWERS, headers=headers, params={"sample": "pulse"}),
        ask.delete(f"{ANSWERS}/x", headers=headers),
        ask.get(f"{ANSWERS}/x", headers=headers),
        ask.get("/api/page", headers=headers),
        ask.get("/", headers=headers),
        ask.head("/healthz", headers=headers),
        ask.get("/api/version", headers=headers),
        ask.options(CLASSIFY, headers=headers),
    ):
        assert answer.status_code == 403, answer.request
        assert "access-control-allow-origin" not in answer.headers


def test_two_origins_are_refused(ask: httpx.Client, server: Server) -> None:
    own = server.address
    answer = ask.get("/healthz", headers=[("origin", own), ("origin", "http://evil.example")])
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:PORT"},
        {"origin": "http://localhost:PORT", "host": "LOCALHOST:PORT"},
        {"origin": "http://[::1]:PORT", "host": "[::1]:PORT"},
        {"origin": "http://localhost", "host": "localhost"},
        {"origin": "http://localhost:80", "host": "localhost"},
        {"origin": "http://127.0.0.1:PORT", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        # A server in front, which speaks TLS and asks for this one by its address.
        {"origin": "https://music.example", "x-forwarded-host": "music.example"},
        {"origin": "https://music.example:8443", "x-forwarded-host": "music.example:8443"},
    ],
    ids=str,
)
def test_the_own_page_and_programs_are_answered(
    server: Server, ask: httpx.Client, headers: dict[str, str]
) -> None:
    headers = known_port(server, headers)
    assert ask.post(CLASSIFY, headers=headers, content=b"").status_code == 422
    assert ask.get("/healthz", headers=headers).status_code == 200


def test_a_link_from_elsewhere_leads_to_the_page_and_to_nothing_else(ask: httpx.Client) -> None:
    link = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    for path, status in (("/", 200), ("/?a=b", 200), ("/api/version", 403), (CLASSIFY, 403)):
        assert ask.get(path, headers=link).status_code == status
    assert ask.post("/", headers=link).status_code == 403
    assert ask.get(f"{ANSWERS}/x/audio.flac", headers=link).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": "evil:zz"},
        {"x-forwarded-host": ""},
        {"x-forwarded-proto": "javascript"},
    ],
    ids=str,
)
def test_malformed_words_of_a_server_in_front_are_refused(
    ask: httpx.Client, headers: dict[str, str]
) -> None:
    assert ask.get("/", headers=headers).status_code == 400


def test_others_can_neither_frame_nor_embed_anything(ask: httpx.Client) -> None:
    for path in ("/", "/healthz", "/nowhere", "/openapi.json"):
        headers = ask.get(path).headers
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_sites_that_are_named_may_frame_it() -> None:
    frame = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "iframe",
    }
    app = PlainTextResponse("page")
    guard = RequestGuard(app, size=100, upload_s=1, framers=("https://huggingface.co",))
    asking = TestClient(guard)
    answer = asking.get("/", headers=frame)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co")
    assert "x-frame-options" not in answer.headers
    assert asking.get("/api/version", headers=frame).status_code == 403


def guarded(token: str = "a, b;c", port: int = 80) -> TestClient:  # noqa: S107
    """Ask a server with a token, at a port."""
    guard = RequestGuard(PlainTextResponse("page"), size=100, upload_s=1, token=token)
    return TestClient(guard, base_url=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "other",
    ['x={"a":1}', "a b=c", "foo[x]=1", "x=é", "bare", "expires=1", "path=1", 'x="a;b"', "=", ""],
)
def test_cookies_of_other_programs_do_not_hide_the_token(other: str) -> None:
    asking = guarded()
    asking.get("/?token=a,%20b%3Bc")
    ((name, value),) = asking.cookies.items()
    asking.cookies.clear()
    for own, status in ((value, 200), ("wrong", 401)):
        for sent in (f"{other}; {name}={own}", f"{name}={own}; {other}"):
            assert asking.get("/", headers={"cookie": sent.encode()}).status_code == status, sent


def test_servers_at_two_ports_of_a_host_keep_their_tokens() -> None:
    one, other = guarded("one", 8001), guarded("other", 8002)
    assert one.get("/?token=one").status_code == 200
    other.cookies.update(one.cookies)  # as in a browser, whose cookies know of no ports
    assert other.get("/").status_code == 401
    assert other.get("/?token=other").status_code == 200
    one.cookies.update(other.cookies)
    assert one.get("/").status_code == 200


def test_a_person_is_asked_for_the_token_by_a_page_and_a_program_is_not() -> None:
    page = guarded().get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status_code, page.headers["www-authenticate"]) == (401, "Bearer")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert '<input id="token" name="token" type="password"' in page.text
    assert not re.search(r"style|script|src=|href=", page.text)  # which the policy would stop
    for accept in ("*/*", "application/json"):
        answer = guarded().get("/", headers={"accept": accept})
        assert (answer.status_code, answer.json()["error"]["title"]) == (401, "A token is needed")


def test_websockets_are_refused() -> None:
    asking = TestClient(RequestGuard(PlainTextResponse("page"), size=100, upload_s=1))
    with pytest.raises(WebSocketDisconnect), asking.websocket_connect("/"):
        pass


def test_a_large_answer_is_not_held_for_each_client_that_takes_it_slowly() -> None:
    whole, sent = bytes(range(256)) * 1000, []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask(content: bytes) -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        await RequestGuard(Response(content), size=100, upload_s=1)(scope, Mock(), send)

    for content in (whole, whole[: 2**16], whole[: 2**16 + 1], b""):
        sent.clear()
        asyncio.run(ask(content))
        bodies = [message["body"] for message in sent[1:]]
        assert b"".join(bodies) == content
        assert max(map(len, bodies)) <= 2**16
        assert [message.get("more_body", False) for message in sent[1:-1]] == [True] * len(sent[2:])
        assert not sent[-1].get("more_body")


def test_a_fault_is_one_line_and_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("line 1\nline 2\x1b[2J")

    answer = TestClient(RequestGuard(broken, size=100, upload_s=1)).get("/a%0Ab")
    assert (answer.status_code, answer.json()["detail"]) == (
        500,
        "Internal server error.",
    )
    (record,) = caplog.records
    assert "ValueError at test_attacks.py:" in record.getMessage()
    assert record.getMessage().isprintable()
    assert record.exc_info is None


def test_what_the_server_s_end_cancels_is_refused() -> None:
    sent = []

    async def endless(*_: object) -> None:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
        guard = RequestGuard(endless, size=100, upload_s=1)
        answering = asyncio.create_task(guard(scope, Mock(), send))
        await asyncio.sleep(0.1)
        answering.cancel()
        await answering

    asyncio.run(main())
    assert sent[0]["status"] == 503
    assert b"The server ends." in sent[1]["body"]


def test_head_answers_as_get_does_without_the_body(ask: httpx.Client) -> None:
    for path in ("/", "/healthz", "/api/page", "/openapi.json", "/nowhere", CLASSIFY, ANSWERS):
        head, get = ask.head(path), ask.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-type"] == get.headers["content-type"]


def post(path: str, body: bytes, length: int | None = None, kind: str | None = None) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length or len(body)}\r\n"
        f"Content-Type: {kind or 'multipart/form-data; boundary=x'}\r\n\r\n"
    )
    return head.encode() + body


def connect(server: Server, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", server.port), timeout=20, source_address=(address, 0)
    )


def chunked(body: bytes) -> bytes:
    head = (
        f"POST {CLASSIFY} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\n\r\n{len(body):x}\r\n"
    )
    return head.encode() + body + b"\r\n"


def test_a_request_of_two_lengths_is_refused_and_nothing_after_it_read(server: Server) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    both = chunked(b"x").replace(b"Transfer", b"Content-Length: 5\r\nTransfer", 1)
    with connect(server) as line:
        line.sendall(both + b"0\r\n\r\n" + hidden)
        line.settimeout(5)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n\tc\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\nGET /healthz HTTP/1.1\r\n\r\n",
    ],
    ids=["bare", "one bare", "folded", "folded by a tab", "bare end"],
)
@pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
def test_a_head_that_servers_read_in_two_ways_is_refused(
    server: Server, head: bytes, *, before: bool
) -> None:
    good = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * before
    with connect(server) as line:
        line.sendall(good + head)
        line.settimeout(5)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == before
    assert answer.count(b"HTTP/1.1 400") == 1
    assert answer.count(b"HTTP/1.1") == 1 + before


@pytest.mark.parametrize(
    "begun",
    [
        post(CLASSIFY, FILE, SIZE),
        post(ANSWERS, FILE, SIZE),
        chunked(FILE.ljust(SIZE)),
    ],
    ids=["program", "page", "without a length"],
)
def test_uploads_on_their_way_have_a_share_of_the_room(server: Server, begun: bytes) -> None:
    # With 16 places there is room for 4 files, so a single one is a client's share.
    with client(server) as greedy, client(server, "127.0.0.2") as other:
        with connect(server) as slow:
            slow.sendall(begun)
            time.sleep(0.5)
            for path in (CLASSIFY, ANSWERS):
                answer = greedy.post(path, files={"file": ("clip.mp3", b"x")})
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
            assert other.post(CLASSIFY, files={"file": ("a.mp3", b"x")}).status_code == 422
        time.sleep(0.5)
        assert greedy.post(CLASSIFY, files={"file": ("a.mp3", b"x")}).status_code == 422
    assert server.left() == []


def test_some_places_are_never_the_same_clients() -> None:
    queue = FairQueue(1, 8)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(queue.place("greedy"))
        with pytest.raises(FullError):
            stack.enter_context(queue.place("greedy"))
        for name in ("modest", "other"):
            stack.enter_context(queue.place(name))
        with pytest.raises(FullError):
            stack.enter_context(queue.place("late"))
        assert queue.inside == 8
    with queue.place("greedy"):
        assert queue.inside == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("unknown", "x" * 1000, True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_client_is_as_much_as_one_machine_may_have(one: str, other: str, same: bool) -> None:
    assert (client_of({"client": (one, 1)}) == client_of({"client": [other, 2]})) is same


def test_a_client_cannot_have_all_connections(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(server, "127.0.0.3")) for _ in range(260)]
        many[-1].settimeout(5)
        assert many[-1].recv(100).startswith(b"HTTP/1.1 503")
        with client(server) as other:
            assert other.get("/healthz").status_code == 200


@pytest.mark.slow
def test_who_takes_no_answers_is_not_waited_for(server: Server) -> None:
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        count = 2000  # more than the system takes in for it
        slow.sendall((b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * count)
        time.sleep(22)
        slow.settimeout(10)
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := slow.recv(2**16):
                received += len(piece)
    whole = len(httpx.get(server.address).content)
    assert received < count * whole


def lines(server: Server, before: int, wanted: int) -> list[str]:
    """Wait for so many lines of the log; a moment more shows whether others follow."""
    for _ in range(30):
        found = server.log.read_text().splitlines()[before:]
        if len(found) >= wanted:
            break
        time.sleep(0.1)
    time.sleep(0.2)
    return server.log.read_text().splitlines()[before:]


def talk(server: Server, *pieces: bytes, half: bool = False) -> bytes:
    """Send bytes as they are; give the answer's first line, once there is one."""
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.2)
        if half:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            return connection.recv(4096).split(b"\r\n")[0]
    return b""


@pytest.mark.parametrize(
    ("cause", "pieces"),
    [
        ("disconnected", [post(CLASSIFY, FILE, 90_000)]),
        ("disconnected", [post(ANSWERS, FILE, 90_000)]),
        (
            "disconnected",
            [post(CLASSIFY, FILE, 90_000).replace(b"HTTP/1.1", b"HTTP/1.0")],
        ),
        ("boundary", [post(CLASSIFY, b"garbage")]),
        ("Invalid HTTP", [bytes(range(256))]),
        (
            "Invalid HTTP",
            [b"GET / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n\r\n", b"no length\r\n"],
        ),
        (
            "upgrade",
            [b"GET /healthz HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n" + HOST + b"\r\n"],
        ),
    ],
)
def test_what_is_broken_off_or_unknown_is_one_line(
    server: Server, cause: str, pieces: list[bytes]
) -> None:
    before = len(server.log.read_text().splitlines())
    talk(server, *pieces, half=cause == "disconnected")
    found = lines(server, before, 1)
    assert len(found) == 1, found
    assert cause in found[0]
    assert found[0].isprintable()
    assert server.left() == []


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (404, b"GET /static/" + b"a" * 300 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET /static/%00 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"OPTIONS /api/classify HTTP/1.1\r\n" + HOST + b"\r\n"),
        (421, b"GET /healthz HTTP/1.0\r\n\r\n"),
        (421, b"GET /healthz HTTP/1.1\r\nHost: evil@127.0.0.1\r\n\r\n"),
        (421, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1.\r\n\r\n"),
        (404, b"GET /api/answers/" + b"a" * 300 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET /api/answers/%00 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET /api/answers/%1b%0aa%ed%a0%80 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (422, b"GET /api/answers/../page HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET /api/answers/x?wait=30&since=9 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET /api/answers/x/audio.flac HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"DELETE /api/answers/x HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"DELETE /api/answers HTTP/1.1\r\n" + HOST + b"\r\n"),
        (405, b"GET /api/answers HTTP/1.1\r\n" + HOST + b"\r\n"),
        (422, b"GET /api/answers/x?wait=31 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (422, b"GET /api/answers/x?wait=nan HTTP/1.1\r\n" + HOST + b"\r\n"),
        (422, b"GET /api/answers/x?since=-1 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (422, b"GET /api/answers/x?since=" + b"9" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (422, b"GET /api/answers/x/answer.py HTTP/1.1\r\n" + HOST + b"\r\n"),
        (404, b"GET /api/answers/x/..%2fanswer.json HTTP/1.1\r\n" + HOST + b"\r\n"),
        (422, post("/api/answers?sample=", b"")),
        (422, post("/api/answers?sample=..%2f..%2fsecret", b"")),
        (422, post("/api/answers?sample=pulse.mp3", b"")),
        (422, post(ANSWERS, b"")),
        (422, post(ANSWERS, b'{"path": "/etc/passwd"}', kind="application/json")),
        (422, post(ANSWERS, b"file=/etc/passwd", kind="application/x-www-form-urlencoded")),
    ],
)
def test_what_makes_no_sense_is_refused_without_a_line(
    server: Server, status: int, request_: bytes
) -> None:
    before = len(server.log.read_text().splitlines())
    assert talk(server, request_).split()[1] == str(status).encode()
    assert lines(server, before, 0) == []


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_behind(folder: Path, name: str, mode: int = 0o700) -> Path:
    made = folder / name
    (made / "upload").mkdir(parents=True)
    (made / "upload" / "a.mp3").write_bytes(b"x")
    (made / "file").write_bytes(b"x")
    (made / "link").symlink_to(folder)
    made.chmod(mode)
    return made


def test_only_folders_of_dead_servers_are_swept(temporary: Path) -> None:
    dead = left_behind(temporary, "genrescope-serve-00000000")
    live = ServerFolder()
    assert not dead.exists()
    dead = left_behind(temporary, "genrescope-serve-00000000")
    kept = [
        left_behind(temporary, "genrescope-serve-0000000.", 0o700),  # no name that we give
        left_behind(temporary, "genrescope-serve-11111111", 0o777),  # open to others
        left_behind(temporary, "music"),
        left_behind(temporary, "genrescope-web-22222222"),
        live.path,
    ]
    if os.geteuid() == 0:
        kept.append(left_behind(temporary, "genrescope-serve-33333333"))
        os.chown(kept[-1], 12345, 12345)
    link = temporary / "genrescope-serve-44444444"
    link.symlink_to(temporary / "music")
    (temporary / "genrescope-serve-55555555").write_bytes(b"x")
    other = ServerFolder()
    assert not dead.exists()
    assert all(folder.is_dir() for folder in kept)
    assert (temporary / "music" / "upload" / "a.mp3").exists()
    assert link.is_symlink()
    assert (temporary / "genrescope-serve-55555555").exists()
    for folder in (live, other):
        folder.close()
        assert not folder.path.exists()


@pytest.mark.slow
def test_what_a_killed_server_was_sent_is_swept_at_the_next_start(tmp_path: Path) -> None:
    with running(tmp_path / "killed") as server:
        with client(server) as asking:
            begun = asking.post(ANSWERS, params={"sample": "pulse"}).json()
            following = {"wait": 20, "since": 2}
            assert asking.get(f"{ANSWERS}/{begun['id']}", params=following).json()["answer"]

        def kept() -> list[Path]:
            return list(server.folder.glob("*/answers/*/answer.json"))

        before = kept()
        assert before
        shared = {"TMPDIR": str(server.folder)}
        with running(tmp_path / "beside", **shared):
            assert set(before) <= set(kept())
        assert kept() == before
        server.process.kill()
        server.process.wait()
        assert kept() == before
        with running(tmp_path / "next", **shared) as following:
            assert not set(before) & set(kept())
            with client(following) as asking:
                assert asking.get("/healthz").status_code == 200
        assert list(server.folder.iterdir()) == []
