"""The archive arrives whole and unpacked, or not at all, and the message says what to do."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genrescope.datasets import download, gtzan
from genrescope.datasets.download import get_gtzan
from genrescope.errors import InputError


def member(name: str, content: bytes = b"clip", **attributes: object) -> tuple[object, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def pack(*members: tuple[object, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            assert isinstance(info, tarfile.TarInfo)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A small archive in the original's layout: two clips of noise, so it does not compress."""
    clips = []
    for name in ("genres/blues/blues.00000.au", "genres/rock/rock.00000.au"):
        file = io.BytesIO()
        samples = np.random.default_rng(7).uniform(-1, 1, 200_000)
        soundfile.write(file, samples, 22050, format="AU", subtype="PCM_16")
        clips.append(member(name, file.getvalue()))
    return pack(member("genres/", b"", type=tarfile.DIRTYPE, mode=0o755), *clips)


@dataclass
class Host:
    """A web server with one file, which can be told to misbehave."""

    content: bytes
    cuts: list[int] = field(default_factory=list)
    """Bytes after which successive answers are cut; once used up, answers are whole."""
    ranges: bool = True
    tell_length: bool = True
    length: str = ""
    """What is told instead of the length."""
    status: int = 200
    asked: list[str | None] = field(default_factory=list)
    """The Range header of each request."""
    url: str = ""


@contextmanager
def serving(content: bytes) -> Iterator[Host]:
    state = Host(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            start = start if state.ranges else 0
            total = len(state.content)
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if state.tell_length:
                self.send_header("Content-Length", state.length or str(total - start))
            self.end_headers()
            cut = state.cuts.pop(0) if state.cuts else total
            self.wfile.write(state.content[start : start + cut])

        def log_message(self, *_arguments: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/genres.tar.gz"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def host(archive: bytes) -> Iterator[Host]:
    with serving(archive) as state:
        yield state


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_what_is_downloaded_can_be_read(tmp_path: Path, host: Host) -> None:
    folder = get_gtzan(tmp_path / "new", urls=[host.url], md5=md5_of(host.content))
    assert [track.id for track in gtzan.read(folder).tracks] == ["blues.00000", "rock.00000"]
    assert [path.name for path in folder.iterdir()] == ["genres"]


def test_progress_ends_at_the_whole(tmp_path: Path, host: Host) -> None:
    calls: list[tuple[int, int | None]] = []
    get_gtzan(
        tmp_path,
        progress=lambda done, total: calls.append((done, total)),
        urls=[host.url],
        md5=md5_of(host.content),
    )
    size = len(host.content)
    assert calls[0] == (0, size)
    assert calls[-1] == (size, size)
    assert calls == sorted(calls)
    assert len(calls) > 2


def test_a_cut_connection_is_resumed_where_it_broke(tmp_path: Path, host: Host) -> None:
    host.cuts = [100_000, 50_000]
    get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    assert host.asked == [None, "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / "genres/rock/rock.00000.au").is_file()


def test_a_later_run_goes_on_from_the_partial_file(tmp_path: Path, host: Host) -> None:
    host.cuts = [100_000, 0]
    with pytest.raises(InputError, match="cut after 100,000 of"):
        get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    assert (tmp_path / "genres.tar.gz.part").read_bytes() == host.content[:100_000]
    assert not (tmp_path / "genres").exists()

    get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    assert host.asked[-1] == "bytes=100000-"
    assert (tmp_path / "genres").is_dir()


@pytest.mark.parametrize("tell_length", [True, False])
def test_a_server_that_ignores_ranges_makes_it_start_over(
    tmp_path: Path, host: Host, tell_length: bool
) -> None:
    (tmp_path / "genres.tar.gz.part").write_bytes(host.content[:1000])
    host.ranges, host.tell_length = False, tell_length
    get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    assert host.asked == ["bytes=1000-"]
    assert (tmp_path / "genres").is_dir()


def test_a_length_that_is_no_number_is_passed_over(tmp_path: Path, host: Host) -> None:
    host.length = "many"
    get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    assert (tmp_path / "genres").is_dir()


def test_a_partial_file_that_is_whole_is_not_fetched_again(tmp_path: Path, host: Host) -> None:
    (tmp_path / "genres.tar.gz.part").write_bytes(host.content)
    get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    assert host.asked == [f"bytes={len(host.content)}-"]
    assert (tmp_path / "genres").is_dir()


def test_a_partial_file_longer_than_the_archive_is_thrown_away(tmp_path: Path, host: Host) -> None:
    (tmp_path / "genres.tar.gz.part").write_bytes(host.content + b"more")
    get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    assert host.asked == [f"bytes={len(host.content) + 4}-", None]
    assert (tmp_path / "genres").is_dir()


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(min_value=1, max_value=400), max_size=6))
def test_wherever_the_line_is_cut_the_clips_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    clip = np.random.default_rng(1).bytes(1500)
    folder = tmp_path_factory.mktemp("cut")
    with serving(pack(member("genres/pop/pop.00000.au", clip))) as host:
        host.cuts = cuts
        get_gtzan(folder, urls=[host.url], md5=md5_of(host.content))
    assert (folder / "genres/pop/pop.00000.au").read_bytes() == clip


def test_another_archive_than_the_original_is_deleted_and_nothing_is_unpacked(
    tmp_path: Path, host: Host
) -> None:
    with pytest.raises(InputError) as caught:
        get_gtzan(tmp_path, urls=[host.url])
    assert md5_of(host.content) in caught.value.cause
    assert download.ARCHIVE_MD5 in caught.value.cause
    assert list(tmp_path.iterdir()) == []


def test_the_next_address_is_tried_when_one_fails(tmp_path: Path, host: Host) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/genres.tar.gz"
    get_gtzan(tmp_path, urls=[dead, host.url], md5=md5_of(host.content))
    assert (tmp_path / "genres").is_dir()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_by_the_server_is_told(tmp_path: Path, host: Host, status: int) -> None:
    host.status = status
    with pytest.raises(InputError, match=f"the server answers {status}"):
        get_gtzan(tmp_path, urls=[host.url])
    assert len(host.asked) == 1


def test_without_a_network_it_fails_within_seconds_and_says_what_to_do(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        get_gtzan(tmp_path, urls=[f"http://127.0.0.1:{closed_port()}/genres.tar.gz"])
    assert time.monotonic() - start < 20
    assert "onnection refused" in caught.value.cause
    assert download.ARCHIVE_PAGE in caught.value.remedy
    assert str(tmp_path) in caught.value.remedy
    assert not (tmp_path / "genres").exists()


def test_a_host_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(InputError, match="no answer in time"):
            get_gtzan(tmp_path, urls=[f"http://127.0.0.1:{silent.getsockname()[1]}/x"])
        assert time.monotonic() - start < 20


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/genres.tar.gz", "x"])
def test_only_web_addresses_are_taken(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="not an http or https address"):
        get_gtzan(tmp_path, urls=[url])


def test_an_archive_fetched_by_hand_is_unpacked_without_network_and_kept(
    tmp_path: Path, archive: bytes
) -> None:
    (tmp_path / "genres.tar.gz").write_bytes(archive)
    get_gtzan(tmp_path, urls=[], md5=md5_of(archive))
    assert (tmp_path / "genres/blues/blues.00000.au").is_file()
    assert (tmp_path / "genres.tar.gz").read_bytes() == archive


def test_another_archive_put_there_by_hand_is_refused_and_not_deleted(
    tmp_path: Path, archive: bytes
) -> None:
    by_hand = tmp_path / "genres.tar.gz"
    by_hand.write_bytes(archive)
    with pytest.raises(InputError, match="not GTZAN's original archive"):
        get_gtzan(tmp_path, urls=[])
    assert by_hand.read_bytes() == archive


def test_what_is_there_already_is_not_touched(tmp_path: Path, host: Host) -> None:
    (tmp_path / "genres").mkdir()
    (tmp_path / "genres/mine.txt").write_text("mine")
    assert get_gtzan(tmp_path, urls=[host.url]) == tmp_path
    assert host.asked == []
    assert (tmp_path / "genres/mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped.txt"),
        member("genres/../../escaped.txt"),
        member("..\\escaped.txt"),
        member("C:\\escaped.txt"),
        member("genres/link", b"", type=tarfile.SYMTYPE, linkname="../../escaped.txt"),
        member("genres/hard", b"", type=tarfile.LNKTYPE, linkname="genres/ok.au"),
        member("genres/device", b"", type=tarfile.CHRTYPE),
        member("genres/pipe", b"", type=tarfile.FIFOTYPE),
    ],
    ids=[
        "up",
        "in and up",
        "up, Windows",
        "drive",
        "symlink",
        "link",
        "device",
        "pipe",
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, hostile: tuple[object, bytes]
) -> None:
    sent = pack(member("genres/ok.au"), hostile)
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    (folder / "genres.tar.gz").write_bytes(sent)
    with pytest.raises(InputError, match="nothing was unpacked"):
        get_gtzan(folder, urls=[], md5=md5_of(sent))
    assert [path.name for path in folder.iterdir()] == ["genres.tar.gz"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["genres.tar.gz"]


def test_an_archive_with_an_absolute_path_is_refused(tmp_path: Path) -> None:
    sent = pack(member("genres/ok.au"), member(str(tmp_path / "escaped.txt")))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "genres.tar.gz").write_bytes(sent)
    with pytest.raises(InputError, match="nothing was unpacked"):
        get_gtzan(folder, urls=[], md5=md5_of(sent))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["genres.tar.gz"]


@pytest.mark.parametrize(("bound", "most"), [("_MAX_UNPACKED_BYTES", 9999), ("_MAX_MEMBERS", 1)])
def test_an_archive_of_far_more_than_gtzan_is_refused_and_leaves_nothing(
    tmp_path: Path, bound: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pack(member("genres/ok.au"), member("genres/zeros.au", bytes(10_000)))
    monkeypatch.setattr(download, bound, most)
    (tmp_path / "genres.tar.gz").write_bytes(sent)
    with pytest.raises(InputError, match="are in it, so nothing was unpacked"):
        get_gtzan(tmp_path, urls=[], md5=md5_of(sent))
    assert [path.name for path in tmp_path.iterdir()] == ["genres.tar.gz"]


@pytest.mark.parametrize("tell_length", [True, False])
def test_a_server_that_sends_without_end_is_left(
    tmp_path: Path, host: Host, tell_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MAX_BYTES", 300_000)
    host.tell_length = tell_length
    with pytest.raises(InputError, match="sends more than 300,000 bytes"):
        get_gtzan(tmp_path, urls=[host.url], md5=md5_of(host.content))
    part = tmp_path / "genres.tar.gz.part"
    assert (part.stat().st_size if part.exists() else 0) <= 300_000


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        (b"<html>not found</html>", "cannot be unpacked"),
        (pack(member("genres/pop/pop.00000.au", bytes(99_999)))[:-30], "cannot be unpacked"),
        (pack(member("songs/pop.00000.au")), "no folder genres"),
    ],
    ids=["a web page", "cut off", "another layout"],
)
def test_what_is_not_the_archive_is_refused_and_leaves_no_folder(
    tmp_path: Path, sent: bytes, cause: str
) -> None:
    (tmp_path / "genres.tar.gz").write_bytes(sent)
    with pytest.raises(InputError, match=cause):
        get_gtzan(tmp_path, urls=[], md5=md5_of(sent))
    assert [path.name for path in tmp_path.iterdir()] == ["genres.tar.gz"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be filled"):
        get_gtzan(tmp_path / "file" / "folder", urls=[])


def test_the_remains_of_an_interrupted_unpacking_do_no_harm(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "genres.part/genres/blues").mkdir(parents=True)
    (tmp_path / "genres.part/genres/blues/half.au").write_bytes(b"half")
    (tmp_path / "genres.tar.gz").write_bytes(archive)
    get_gtzan(tmp_path, urls=[], md5=md5_of(archive))
    assert not (tmp_path / "genres/blues/half.au").exists()
    assert not (tmp_path / "genres.part").exists()
