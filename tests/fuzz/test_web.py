"""Whatever a client sends as a form, the server says in a sentence what is wrong, and goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from web_server import Server, running

TIMES = int(os.environ.get("FUZZ", "1"))
KNOWN = {200, 202, 400, 413, 422, 503}
FORM = (
    b"--edge\r\n"
    b'Content-Disposition: form-data; name="file"; filename="clip.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n"
    b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\r\n"
    b"--edge--\r\n"
)
TOKENS = (
    *(b"--edge", b"--edge--", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b'"', b";", b":", b"\0", b"\xff"),
    *(
        b'filename="',
        b"filename*=utf-8''%ff%00",
        b'filename="../../x"',
        b'filename=""',
        b"; " * 500,
    ),
    *(b'name="file"', b'name="files"', b'name=""', b"Content-Transfer-Encoding: base64\r\n"),
    *(
        b"Content-Disposition: form-data\r\n",
        b"Content-Length: -1\r\n",
        b"X: y\r\n" * 100,
        b"a" * 9000,
    ),
)
TYPES = (
    *("multipart/form-data; boundary=edge", 'multipart/form-data; boundary="edge"'),
    *("multipart/form-data; boundary=", "multipart/form-data", "multipart/mixed; boundary=edge"),
    *("multipart/form-data; boundary=edge; charset=none", "application/x-www-form-urlencoded"),
    *("application/json", "", "multipart/form-data; boundary=" + "e" * 3000),
)
ADDRESSES = ("/api/answers", "/api/classify")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


cuts = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from([b"", *TOKENS])), max_size=3
)
types = st.one_of(st.just(TYPES[0]), st.sampled_from(TYPES))


@given(st.sampled_from(ADDRESSES), types, cuts)
@settings(
    max_examples=50 * TIMES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_forms_of_every_kind_are_answered(
    server: Server, address: str, kind: str, changes: list[tuple[float, int, bytes]]
) -> None:
    body = FORM
    for where, size, token in changes:
        at = round(where * len(body))
        body = body[:at] + token + body[at + size :]
    answer = httpx.post(
        server.address + address, content=body, headers={"content-type": kind}, timeout=20
    )
    assert answer.status_code in KNOWN, answer.text
    if answer.status_code >= 400:
        assert isinstance(answer.json()["detail"], str)
        assert set(answer.json()["error"]) == {"title", "remedy", "detail"}


def test_afterwards_it_still_answers_and_nothing_was_written_elsewhere(server: Server) -> None:
    assert httpx.get(server.address + "/healthz").json()["status"] == "ok"
    assert "Traceback" not in server.log.read_text()
    outside = [path for path in Path(server.folder).iterdir() if not path.is_dir()]
    assert outside == []
