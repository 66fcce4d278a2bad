"""The library's API: contents, sound, playlists; reviews of tags, and attacks on writing."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import filelock
import httpx
import numpy as np
import pytest
import soundfile
from anyio import CancelScope
from starlette.testclient import TestClient

import commands
import reviewed_library
from genrescope.audio.convert import Mp3Converter
from genrescope.errors import GenrescopeError, InputError
from genrescope.library.catalogue import Catalogue
from genrescope.service import shelf as shelves
from genrescope.service.jobs import ServerJobs
from genrescope.service.queue import FullError
from genrescope.service.service import Limits
from genrescope.tagging import apply as applying
from genrescope.tagging import review as reviewing
from genrescope.tagging.formats import read_genres
from genrescope.tagging.journal import Journal
from genrescope.tagging.plan import make_plan, open_plan
from genrescope.web.app import create_app, serve
from genrescope.web.middleware import LOCAL_NAMES

pytestmark = pytest.mark.xdist_group("web-library")
HOME = "http://127.0.0.1:7860"
OWN = {"X-Genrescope": "1"}
PLAN = {"min_confidence": 0.5, "existing": "replace", "album": "off"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return reviewed_library.make(tmp_path_factory.mktemp("library"))


@pytest.fixture
def shelf(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Give a copy that a test may change: the folder and its catalogue."""
    root = tmp_path / made[0].name
    shutil.copytree(made[0], root)
    catalogue = tmp_path / "library.db"
    reviewed_library.analyse(root, catalogue)
    return root, catalogue


@contextmanager
def asking(root: Path, catalogue: Path, **options: Any) -> Iterator[TestClient]:
    options = {"names": LOCAL_NAMES, "journal": catalogue.with_name("journal.db"), **options}
    library = reviewed_library.opened(root, catalogue)
    app = create_app(library=library, limits=Limits(at_once=1), **options)
    with TestClient(app, base_url=HOME) as client:
        yield client


@pytest.fixture
def ask(shelf: tuple[Path, Path]) -> Iterator[TestClient]:
    with asking(*shelf) as client:
        yield client


@pytest.fixture(scope="module")
def reader(made: tuple[Path, Path]) -> Iterator[TestClient]:
    """Ask about the library that nobody changes; tags cannot be written."""
    with asking(*made, journal=None) as client:
        yield client


def ended(ask: TestClient, answer: httpx.Response) -> dict[str, Any]:
    """Follow a job to its end."""
    assert answer.status_code == 202, answer.text
    state = answer.json()
    where = answer.headers["location"]
    while state["state"] in {"waiting", "running"}:
        state = ask.get(f"{where}?wait=10&since={state['version']}").json()
    return state


def planned(ask: TestClient, **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """Make a plan; give its key and its rows."""
    state = ended(ask, ask.post("/api/library/plan", json={**PLAN, **options}, headers=OWN))
    assert state["state"] == "done", state
    key = state["answer"]["plan"]
    return key, ask.get(f"/api/library/plans/{key}").json()["rows"]


def applied(ask: TestClient, key: str, rows: list[dict[str, Any]], **options: Any) -> Any:
    body = {"rows": rows, **options}
    return ended(ask, ask.post(f"/api/library/plans/{key}/apply", json=body, headers=OWN))


# What is in it.


def test_contents(reader: TestClient) -> None:
    found = reader.get("/api/library").json()
    assert found["name"] == "Music & <b>more"
    assert found["tracks"] == found["analysed"] == sum(g["tracks"] for g in found["genres"])
    assert {one["genre"] for one in found["genres"]} <= set(reviewed_library.SURE)
    broken = {one["path"]: one["cause"] for one in found["failures"]}
    assert "broken.mp3" in broken
    assert len(broken) == found["failed"]
    page = reader.get("/api/page").json()["library"]
    assert page == {"name": found["name"], "tracks": found["tracks"], "writing": False}


def test_columns_map_and_names_are_of_the_same_tracks(
    reader: TestClient, made: tuple[Path, Path]
) -> None:
    tracks = reader.get("/api/library/tracks").json()
    count = len(tracks["path"])
    assert all(len(column) == count for column in tracks.values())
    assert all((made[0] / path).is_file() for path in tracks["path"])
    places = reader.get("/api/library/map").json()
    for axis in (places["x"], places["y"]):
        assert len(axis) == count
        assert min(axis) >= 0
        assert max(axis) <= 1
    names: list[str] = []
    while len(names) < count:
        part = reader.get(f"/api/library/names?since={len(names)}&wait=10").json()
        assert part["from"] == len(names)
        assert part["tracks"] == count
        names += part["title"]
    by_path = {Path(path).name: name for path, name in zip(tracks["path"], names, strict=True)}
    assert by_path["mp3-v1.mp3"] == "Only title"
    assert by_path["mp3-bare.mp3"] == ""
    assert reader.get(f"/api/library/names?since={count}&wait=10").json()["title"] == []


def test_names_come_in_parts(reader: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(reader.get("/api/library/tracks").json()["path"])
    whole: list[str] = []
    while len(whole) < count:
        whole += reader.get(f"/api/library/names?since={len(whole)}&wait=10").json()["album"]
    monkeypatch.setattr(shelves, "_MOST", 7)
    parts = [reader.get(f"/api/library/names?since={i}").json()["album"] for i in (0, 7, 14)]
    assert [*parts[0], *parts[1], *parts[2]] == whole[:21]


def number_of(ask: TestClient, name: str) -> int:
    paths = ask.get("/api/library/tracks").json()["path"]
    return next(i for i, path in enumerate(paths) if Path(path).name == name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mp3-v23-art.mp3", "audio/mpeg"),
        ("flac-tight.flac", "audio/flac"),
        ("opus-art.opus", "audio/ogg"),
        ("m4a-end.m4a", "audio/mp4"),
        ("wav-bare.wav", "audio/wav"),
    ],
)
def test_what_browsers_play_is_sent_as_it_is(
    reader: TestClient, made: tuple[Path, Path], name: str, kind: str
) -> None:
    (path,) = made[0].rglob(name)
    address = f"/api/library/tracks/{number_of(reader, name)}/audio"
    whole = reader.get(address)
    assert whole.headers["content-type"] == kind
    assert whole.content == path.read_bytes()
    part = reader.get(address, headers={"range": "bytes=100-299"})
    assert part.status_code == 206
    assert part.content == path.read_bytes()[100:300]


@pytest.mark.parametrize("name", ["wma-tagged.wma", "wv-ape.wv", "tta-id3.tta", "aiff-id3.aiff"])
def test_other_formats_are_converted(reader: TestClient, name: str) -> None:
    address = f"/api/library/tracks/{number_of(reader, name)}/audio"
    answer = reader.get(address)
    assert answer.headers["content-type"] == "audio/mpeg"
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    assert len(samples) / rate == pytest.approx(1.0, abs=0.15)
    part = reader.get(address, headers={"range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, answer.content[:10])


def test_a_browser_may_ask_for_a_conversion(reader: TestClient) -> None:
    address = f"/api/library/tracks/{number_of(reader, 'm4a-alac.m4a')}/audio"
    assert reader.get(address).headers["content-type"] == "audio/mp4"
    answer = reader.get(f"{address}?convert=true")
    assert answer.headers["content-type"] == "audio/mpeg"
    assert soundfile.read(io.BytesIO(answer.content))[0].any()


@pytest.mark.parametrize("number", ["-1", "9999", "99999999999999999999", "0x1", "..", "%2e%2e"])
def test_there_are_no_other_tracks(reader: TestClient, number: str) -> None:
    answer = reader.get(f"/api/library/tracks/{number}/audio")
    assert answer.status_code in {404, 422}


def test_a_playlist(reader: TestClient, made: tuple[Path, Path]) -> None:
    paths = reader.get("/api/library/tracks").json()["path"]
    body = {"tracks": [3, 0, 3], "name": "Late\nnight /é"}
    answer = reader.post("/api/library/playlist", json=body, headers=OWN)
    lines = answer.text.splitlines()
    assert lines == ["#EXTM3U", "#PLAYLIST:Late\\nnight /é", f"./{paths[3]}", f"./{paths[0]}"]
    assert "\n" not in answer.headers["content-disposition"]
    body["absolute"] = True
    answer = reader.post("/api/library/playlist", json=body, headers=OWN)
    assert answer.text.splitlines()[2:] == [str(made[0] / paths[i]) for i in (3, 0)]


def test_only_this_machine_sees_whole_paths(made: tuple[Path, Path]) -> None:
    with asking(*made, journal=None, names=None, token="secret") as ask:  # noqa: S106
        headers = {**OWN, "authorization": "Bearer secret"}
        body = {"tracks": [0], "absolute": True}
        assert ask.post("/api/library/playlist", json=body, headers=headers).status_code == 403
        assert not ask.get("/api/library", headers=headers).json()["absolute"]


def test_a_track_has_an_answer_which_is_not_similar_to_itself(
    ask: TestClient, shelf: tuple[Path, Path]
) -> None:
    names = ask.get("/api/library/tracks").json()["path"]
    number = next(i for i, name in enumerate(names) if name.endswith(".flac"))
    begun = ask.post(f"/api/answers?track={number}")
    assert begun.status_code == 202
    state = {"state": "waiting"}
    while state["state"] in {"waiting", "running"}:
        state = ask.get(f"{begun.headers['location']}?wait=20").json()
    answer = state["answer"]
    assert answer["file"] == Path(names[number]).name
    assert len(answer["similar"]) == 5
    for near in answer["similar"]:
        assert near["track"] != number
        assert near["path"] == names[near["track"]]
        assert near["audio"] == f"/api/library/tracks/{near['track']}/audio"
    assert ask.post("/api/answers?track=-1").status_code == 404
    assert ask.post("/api/answers?track=0&sample=pulse").status_code == 422
    assert ask.post(f"/api/answers?track={len(names)}").status_code == 404
    (shelf[0] / names[number]).unlink()
    (shelf[0] / names[number]).symlink_to("/etc/passwd")
    assert ask.post(f"/api/answers?track={number}").status_code == 404


# Review: plan, decide, apply, undo.


def test_every_format_is_written_and_restored_byte_for_byte(
    ask: TestClient, shelf: tuple[Path, Path]
) -> None:
    root, _ = shelf
    before = reviewed_library.digests(root)
    key, rows = planned(ask)
    assert len(rows) > 35
    assert {Path(row["path"]).suffix for row in rows} >= {
        *(".mp3", ".flac", ".ogg", ".opus", ".m4a", ".wma", ".wv", ".wav", ".aiff", ".tta", ".aac")
    }
    assert reviewed_library.digests(root) == before, "a plan changes nothing"
    state = applied(ask, key, [{"n": row["n"]} for row in rows])
    assert state["answer"]["counts"] == {"written": len(rows)}
    planned_genres = {row["path"]: tuple(row["new"]) for row in rows}
    for path, genres in planned_genres.items():
        assert read_genres(root / path) == genres
    after = reviewed_library.digests(root)
    assert {path for path in before if before[path] != after[path]} == set(planned_genres)
    assert after.keys() == before.keys(), "nothing is left behind"
    (entry,) = ask.get("/api/library/history").json()
    assert entry["counts"] == {"done": len(rows)}
    number = state["answer"]["history"]
    assert entry["number"] == number
    changes = ask.get(f"/api/library/history/{number}").json()
    assert {one["path"]: tuple(one["new"]) for one in changes} == planned_genres
    state = ended(ask, ask.post(f"/api/library/history/{number}/undo", json={}, headers=OWN))
    assert state["answer"]["counts"] == {"undone": len(rows)}
    assert reviewed_library.digests(root) == before
    # The plan's rows can be written again.
    states = [row["state"] for row in ask.get(f"/api/library/plans/{key}").json()["rows"]]
    assert states == ["undone"] * len(rows)
    again = applied(ask, key, [{"n": row["n"]} for row in rows])
    assert again["answer"]["counts"] == {"written": len(rows)}
    number = again["answer"]["history"]
    ended(ask, ask.post(f"/api/library/history/{number}/undo", json={}, headers=OWN))
    assert reviewed_library.digests(root) == before


def test_only_what_is_accepted_is_written_and_edits_count(
    ask: TestClient, shelf: tuple[Path, Path]
) -> None:
    root, _ = shelf
    before = reviewed_library.digests(root)
    key, rows = planned(ask)
    first, second, third = rows[:3]
    decisions = [
        {"n": first["n"], "new": ["Gypsy Jazz", " Musette ", "Musette"]},
        {"n": second["n"], "action": "leave"},
        {"n": third["n"]},
    ]
    state = applied(ask, key, decisions, preserve_mtime=True)
    assert state["answer"]["counts"] == {"written": 2}
    assert read_genres(root / first["path"]) == ("Gypsy Jazz", "Musette")
    assert read_genres(root / third["path"]) == tuple(third["new"])
    after = reviewed_library.digests(root)
    changed = {path for path in before if before[path][0] != after[path][0]}
    assert changed == {first["path"], third["path"]}
    assert [after[path][1] for path in changed] == [before[path][1] for path in changed]
    states = {row["n"]: row["state"] for row in ask.get(f"/api/library/plans/{key}").json()["rows"]}
    assert states[first["n"]] == states[third["n"]] == "written"
    assert states[second["n"]] is None
    # The rest is still there to be decided.
    assert applied(ask, key, [{"n": second["n"]}])["answer"]["counts"] == {"written": 1}


def test_a_new_plan_knows_what_was_written(ask: TestClient) -> None:
    key, rows = planned(ask)
    applied(ask, key, [{"n": row["n"]} for row in rows])
    _, again = planned(ask)
    assert again == []


def test_what_was_written_is_no_evidence(ask: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    key, rows = planned(ask)
    applied(ask, key, [{"n": row["n"]} for row in rows])
    given = []

    def spy(*arguments: Any, written: dict[str, tuple[str, ...]], **options: Any) -> Any:
        given.append(written)
        return make_plan(*arguments, written=written, **options)

    monkeypatch.setattr(reviewing, "make_plan", spy)
    planned(ask)
    assert given == [{row["path"]: tuple(row["new"]) for row in rows}]


def test_rows_that_are_left_alone_are_shown_when_asked_for(ask: TestClient) -> None:
    key, rows = planned(ask, existing="skip")
    every = ask.get(f"/api/library/plans/{key}?left=true").json()
    assert len(every["rows"]) == sum(every["counts"].values()) > len(rows)
    assert [row["n"] for row in every["rows"]] == list(range(len(every["rows"])))
    left = next(row for row in every["rows"] if row["reason"] == "it has a genre")
    state = applied(ask, key, [{"n": left["n"], "new": ["Dub"]}])
    assert state["answer"]["counts"] == {"written": 1}
    without = next(row for row in every["rows"] if row["n"] != left["n"] and not row["new"])
    plan = f"/api/library/plans/{key}/apply"
    refused = ask.post(plan, json={"rows": [{"n": without["n"]}]}, headers=OWN)
    assert refused.status_code == 422
    assert "no genre" in refused.json()["error"]["title"]
    assert len(ask.get("/api/library/history").json()) == 1


def test_contradictions_wait_for_a_person(ask: TestClient, shelf: tuple[Path, Path]) -> None:
    key, rows = planned(ask, existing="skip")
    waiting = [row for row in rows if row["action"] == "review"]
    plan = ask.get(f"/api/library/plans/{key}").json()
    assert plan["counts"]["review"] == len(waiting) > 0
    assert "expected to be wrong" in plan["summary"]
    row = waiting[0]
    assert row["reason"].startswith("review: ")
    assert row["new"]
    assert row["audio"]
    assert row["file"]
    assert read_genres(shelf[0] / row["path"]) == tuple(row["old"])
    assert applied(ask, key, [{"n": row["n"]}])["answer"]["counts"] == {"written": 1}
    assert read_genres(shelf[0] / row["path"]) == tuple(row["new"])


def test_the_plan_is_that_of_the_command_line(ask: TestClient, shelf: tuple[Path, Path]) -> None:
    key, rows = planned(ask)
    file = shelf[0].parent / "plan.csv"
    file.write_bytes(ask.get(f"/api/library/plans/{key}/plan.csv").content)
    plan = open_plan(file)
    assert plan.library == shelf[0].resolve()
    written = [step for step in plan.steps() if step.action == "write"]
    assert [step.path for step in written] == [row["path"] for row in rows]


def test_a_job_can_be_stopped_and_resumed(
    ask: TestClient, shelf: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = shelf
    before = reviewed_library.digests(root)
    key, rows = planned(ask)
    reached, go_on = threading.Event(), threading.Event()
    apply_plan = reviewing.apply_plan

    def slow(*given: Any) -> Iterator[Any]:
        for count, result in enumerate(apply_plan(*given)):
            yield result
            if count == 2:
                reached.set()
                assert go_on.wait(30)

    monkeypatch.setattr(reviewing, "apply_plan", slow)
    body = {"rows": [{"n": row["n"]} for row in rows]}
    job = ask.post(f"/api/library/plans/{key}/apply", json=body, headers=OWN)
    assert reached.wait(30)
    stopping = threading.Thread(
        target=ask.delete, args=(job.headers["location"],), kwargs={"headers": OWN}
    )
    stopping.start()
    while ask.get(f"{job.headers['location']}?wait=0").json()["state"] != "running":
        pass
    go_on.set()
    stopping.join()
    assert ask.get(job.headers["location"]).status_code == 404
    monkeypatch.undo()
    (entry,) = ask.get("/api/library/history").json()
    assert entry["counts"]["done"] < len(rows)
    assert sum(entry["counts"].values()) == len(rows)
    changed = {path for path, now in reviewed_library.digests(root).items() if now != before[path]}
    assert len(changed) == entry["counts"]["done"]
    where = f"/api/library/history/{entry['number']}"
    state = ended(ask, ask.post(f"{where}/resume", json={}, headers=OWN))
    assert state["answer"]["counts"] == {"written": len(rows) - entry["counts"]["done"]}
    ended(ask, ask.post(f"{where}/undo", json={}, headers=OWN))
    assert reviewed_library.digests(root) == before


def test_the_journal_is_the_command_lines(ask: TestClient, shelf: tuple[Path, Path]) -> None:
    root, catalogue = shelf
    before = reviewed_library.digests(root)
    key, rows = planned(ask)
    applied(ask, key, [{"n": row["n"]} for row in rows])
    journal = catalogue.with_name("journal.db")
    done = commands.run("tag", "undo", "--journal", journal)
    assert done.returncode == 0, done.stderr
    assert reviewed_library.digests(root) == before
    assert ask.get("/api/library/history").json()[0]["counts"] == {"undone": len(rows)}


def test_locked_files_are_reported(ask: TestClient, shelf: tuple[Path, Path]) -> None:
    _, catalogue = shelf
    key, rows = planned(ask)
    with filelock.FileLock(f"{catalogue.with_name('journal.db')}.lock"):
        state = applied(ask, key, [{"n": rows[0]["n"]}])
    assert state["state"] == "failed"
    assert "another genrescope is changing tags" in state["error"]["title"].lower().replace(
        "  ", " "
    )
    assert applied(ask, key, [{"n": rows[0]["n"]}])["answer"]["counts"] == {"written": 1}
    with Catalogue(catalogue, write=True):
        made = ended(ask, ask.post("/api/library/plan", json=PLAN, headers=OWN))
    plan = ask.get(f"/api/library/plans/{made['answer']['plan']}").json()
    assert "since the last scan are not known" in plan["note"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text")
def test_names_that_are_not_text(made: tuple[Path, Path], tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    (source,) = made[0].rglob("mp3-v24-two.mp3")
    names = [b"caf\xe9.mp3", b"a\nb.mp3", b"=1+1.mp3", "ü\u202e.mp3".encode()]
    for name in names:
        shutil.copy(source, root / os.fsdecode(name))
    catalogue = tmp_path / "library.db"
    reviewed_library.analyse(root, catalogue)
    before = reviewed_library.digests(root)
    with asking(root, catalogue) as ask:
        paths = ask.get("/api/library/tracks").json()["path"]
        assert {os.fsencode(path) for path in paths} == set(names)
        for number in range(len(names)):
            assert ask.get(f"/api/library/tracks/{number}/audio").status_code == 200
        held = [f"./{path}" for path in paths if path in {"=1+1.mp3", "ü\u202e.mp3"}]
        answer = ask.post("/api/library/playlist", json={"tracks": [0, 1, 2, 3]}, headers=OWN)
        assert answer.text.splitlines()[2:-1] == held
        assert answer.text.endswith("\n# left out: 2 tracks with a name that cannot be here\n")
        assert answer.headers["x-genrescope-left-out"] == "2"
        body = {"tracks": [paths.index("a\nb.mp3")]}
        answer = ask.post("/api/library/playlist", json=body, headers=OWN)
        assert answer.status_code == 422
        assert answer.json()["error"]["title"] == "A playlist cannot hold this name"
        key, rows = planned(ask, album="off")
        assert {os.fsencode(row["path"]) for row in rows} == set(names)
        assert {row["track"] for row in rows} == {0, 1, 2, 3}
        state = applied(ask, key, [{"n": row["n"]} for row in rows])
        assert state["answer"]["counts"] == {"written": 4}
        number = state["answer"]["history"]
        assert len(ask.get(f"/api/library/history/{number}").json()) == 4
        ended(ask, ask.post(f"/api/library/history/{number}/undo", json={}, headers=OWN))
    assert reviewed_library.digests(root) == before


# Attacks on writing.

WRITES = [
    ("POST", "/api/library/plan", PLAN),
    ("POST", "/api/library/plans/KEY/apply", {"rows": [{"n": 0}]}),
    ("POST", "/api/library/history/1/undo", {}),
    ("POST", "/api/library/history/1/resume", {}),
    ("POST", "/api/library/playlist", {"tracks": [0]}),
    ("DELETE", "/api/library/jobs/JOB", None),
]


@pytest.fixture(scope="module")
def writer(
    made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, str, str, Path]]:
    """Give a server with a plan, whose files no attack may change."""
    folder = tmp_path_factory.mktemp("attacked")
    root = folder / made[0].name
    shutil.copytree(made[0], root)
    reviewed_library.analyse(root, folder / "library.db")
    with asking(root, folder / "library.db") as ask:
        answer = ask.post("/api/library/plan", json=PLAN, headers=OWN)
        key = ended(ask, answer)["answer"]["plan"]
        before = reviewed_library.digests(root)
        yield ask, key, answer.json()["id"], root
        assert reviewed_library.digests(root) == before


def sent(
    writer: tuple[TestClient, str, str, Path],
    method: str,
    path: str,
    body: Any,
    headers: dict[str, str],
) -> httpx.Response:
    ask, key, job, _ = writer
    path = path.replace("KEY", key).replace("JOB", job)
    content = None if body is None else json.dumps(body)
    given = {} if body is None else {"content-type": "application/json"}
    return ask.request(method, path, content=content, headers={**given, **headers})


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example", **OWN},
        {"origin": "null", **OWN},
        {"origin": "http://127.0.0.1:1", **OWN},
        {"origin": "https://127.0.0.1:7860", **OWN},
        {"sec-fetch-site": "cross-site", **OWN},
        {"sec-fetch-site": "same-site", **OWN},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", **OWN},
        {},
        {"x-genrescope": "0"},
        {"x-genrescope": "true"},
        {"origin": HOME, "sec-fetch-site": "same-origin"},
    ],
    ids=str,
)
def test_requests_of_other_pages_are_refused(
    writer: Any, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    assert sent(writer, method, path, body, headers).status_code == 403


@pytest.mark.parametrize(("method", "path", "body"), WRITES[:-1])
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
def test_forms_are_refused(writer: Any, method: str, path: str, body: Any, kind: str) -> None:
    headers = {**OWN, "content-type": kind}
    assert sent(writer, method, path, body, headers).status_code == 415


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_browser_gets_no_consent_for_another_page(
    writer: Any, method: str, path: str, body: Any
) -> None:
    headers = {
        "origin": "http://evil.example",
        "access-control-request-method": method,
        "access-control-request-headers": "x-genrescope, content-type",
    }
    answer = sent(writer, "OPTIONS", path, None, headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_another_host_name_is_refused(writer: Any, method: str, path: str, body: Any) -> None:
    headers = {**OWN, "host": "evil.example:7860"}
    assert sent(writer, method, path, body, headers).status_code == 421


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_reading_changes_nothing(writer: Any, method: str, path: str, body: Any) -> None:
    for other in ("GET", "HEAD", "PUT", "PATCH"):
        if (other, path) not in {("GET", WRITES[0][1]), ("HEAD", WRITES[0][1])}:
            code = sent(writer, other, path, None, OWN).status_code
            assert code in ({200, 404, 405} if "JOB" in path else {404, 405})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"rows": [{"n": 10**9}]}, 404),
        ({"rows": [{"n": -1}]}, 404),
        ({"rows": [{"n": 0}, {"n": 0}]}, 422),
        ({"rows": [{"n": "0"}]}, 422),
        ({"rows": [{"n": True}]}, 422),
        ({"rows": [{"n": 0.5}]}, 422),
        ({"rows": [{"n": None}]}, 422),
        ({"rows": []}, 422),
        ({"rows": [{"n": 0, "action": "leave"}]}, 422),
        ({"rows": [{"n": 0, "action": "delete"}]}, 422),
        ({"rows": [{"n": 0, "path": "../../etc/passwd"}]}, 422),
        ({"rows": [{"path": "/etc/passwd"}]}, 422),
        ({"rows": [{"n": 0}], "library": "/"}, 422),
        ({"rows": [{"n": 0}], "journal": "x.db"}, 422),
        ({"rows": [{"n": 0, "new": []}]}, 422),
        ({"rows": [{"n": 0, "new": [""]}]}, 422),
        ({"rows": [{"n": 0, "new": ["a;b"]}]}, 422),
        ({"rows": [{"n": 0, "new": ["a\nwrite,../../x"]}]}, 422),
        ({"rows": [{"n": 0, "new": ["a\0b"]}]}, 422),
        ({"rows": [{"n": 0, "new": ["\ud800"]}]}, 422),
        ({"rows": [{"n": 0, "new": ["x" * 201]}]}, 422),
        ({"rows": [{"n": 0, "new": ["x"] * 21}]}, 422),
        ({"rows": [{"n": 0, "new": "Rock"}]}, 422),
        ({"rows": [{"n": 0, "new": [{"a": 1}]}]}, 422),
        ([], 422),
        ("rows", 422),
        (None, 422),
    ],
    ids=str,
)
def test_odd_rows_are_refused(writer: Any, body: Any, code: int) -> None:
    path = "/api/library/plans/KEY/apply"
    ask, key, _, _ = writer
    content = json.dumps(body)
    headers = {**OWN, "content-type": "application/json"}
    answer = ask.post(path.replace("KEY", key), content=content, headers=headers)
    assert answer.status_code == code, answer.text


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff", b"{" * 100_000, b"[" * 100_000, b'{"rows": ' + b"1" * 10_000),
        b'{"' + b"k" * 100_000 + b'": 1}',
    ],
)
def test_broken_bodies_are_refused(writer: Any, content: bytes) -> None:
    ask, key, _, _ = writer
    headers = {**OWN, "content-type": "application/json"}
    for path in (f"/api/library/plans/{key}/apply", "/api/library/plan", "/api/library/playlist"):
        answer = ask.post(path, content=content, headers=headers)
        assert (answer.status_code, len(answer.text) < 5000) == (422, True)


def test_large_bodies_are_refused(writer: Any) -> None:
    ask, key, _, _ = writer
    headers = {**OWN, "content-type": "application/json"}

    def stream() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(100_000)

    for path in (f"/api/library/plans/{key}/apply", "/api/library/plan", "/api/library/playlist"):
        assert ask.post(path, content=bytes(5_000_000), headers=headers).status_code == 413
        assert ask.post(path, content=stream(), headers=headers).status_code == 413


@pytest.mark.parametrize(
    "key",
    ["", "x", "%2e%2e", "..%2f..%2fjournal.db", "/etc/passwd", "%00", "a" * 5000, "plan.csv"],
)
def test_foreign_plans_are_not_found(writer: Any, key: str) -> None:
    ask = writer[0]
    headers = {**OWN, "content-type": "application/json"}
    for path in (f"/api/library/plans/{key}", f"/api/library/plans/{key}/plan.csv"):
        assert ask.get(path).status_code in {404, 405}
    answer = ask.post(
        f"/api/library/plans/{key}/apply", content='{"rows": [{"n": 0}]}', headers=headers
    )
    assert answer.status_code in {404, 405}


@pytest.mark.parametrize("number", ["0", "-1", "999", "9" * 30, "x", "1;2"])
@pytest.mark.parametrize("what", ["undo", "resume", "delete"])
def test_foreign_history_is_not_found(writer: Any, number: str, what: str) -> None:
    answer = writer[0].post(f"/api/library/history/{number}/{what}", json={}, headers=OWN)
    assert answer.status_code in {404, 422}


@pytest.mark.parametrize(
    "options",
    [
        {"library": "/"},
        {"out": "plan.csv"},
        {"taxonomy": "/etc/passwd"},
        {"min_confidence": -1},
        {"min_confidence": float("nan")},
        {"min_confidence": 2},
        {"max_genres": 0},
        {"max_genres": "many"},
        {"existing": "all"},
    ],
    ids=str,
)
def test_odd_options_are_refused(writer: Any, options: dict[str, Any]) -> None:
    headers = {**OWN, "content-type": "application/json"}
    answer = writer[0].post("/api/library/plan", content=json.dumps(options), headers=headers)
    assert answer.status_code == 422


def test_rows_are_applied_once(ask: TestClient, shelf: tuple[Path, Path]) -> None:
    key, rows = planned(ask)
    body = {"rows": [{"n": row["n"]} for row in rows]}
    where = f"/api/library/plans/{key}/apply"
    first = ask.post(where, json=body, headers=OWN)
    second = ask.post(where, json=body, headers=OWN)
    assert second.status_code == 409
    assert ended(ask, first)["answer"]["counts"] == {"written": len(rows)}
    assert ask.post(where, json=body, headers=OWN).status_code == 409
    assert len(ask.get("/api/library/history").json()) == 1


def test_plans_of_other_libraries_are_left_alone(
    shelf: tuple[Path, Path], made: tuple[Path, Path], tmp_path: Path
) -> None:
    root, catalogue = shelf
    other = tmp_path / f"{root.name}2"  # begins as the other's name does
    shutil.copytree(made[0], other)
    reviewed_library.analyse(other, tmp_path / "other.db")
    journal = tmp_path / "journal.db"
    with asking(other, tmp_path / "other.db", journal=journal) as ask:
        key, rows = planned(ask)
        number = applied(ask, key, [{"n": row["n"]} for row in rows])["answer"]["history"]
    written = reviewed_library.digests(other)
    with asking(root, catalogue, journal=journal) as ask:
        assert ask.get("/api/library/history").json() == []
        assert ask.get(f"/api/library/history/{number}").status_code == 404
        for what in ("undo", "resume"):
            answer = ask.post(f"/api/library/history/{number}/{what}", json={}, headers=OWN)
            assert answer.status_code == 404
        body = {"rows": [{"n": 0}]}
        answer = ask.post(f"/api/library/plans/{key}/apply", json=body, headers=OWN)
        assert answer.status_code == 404
    assert reviewed_library.digests(other) == written


def tampered(name: str, root: Path, path: Path) -> None:
    """Do what another program could do to a file between plan and apply."""
    outside = root.parent / "outside"
    outside.mkdir()
    if name == "edited":
        path.write_bytes(path.read_bytes() + b"more")
    elif name == "same size and time":
        times = path.stat()
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif name == "a link to another file":
        shutil.move(path, outside / "target")
        path.symlink_to(outside / "target")
    elif name == "its folder is a link":
        shutil.move(path.parent, outside / "album")
        path.parent.symlink_to(outside / "album", target_is_directory=True)
    elif name == "a second name":
        os.link(path, outside / "name")
    elif name == "gone":
        path.unlink()
    else:
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    "name",
    [
        "edited",
        "same size and time",
        "a link to another file",
        "its folder is a link",
        "a second name",
        "gone",
        pytest.param(
            "a pipe",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes"),
        ),
    ],
)
def test_files_that_were_changed_since_are_left_alone(
    ask: TestClient, shelf: tuple[Path, Path], name: str
) -> None:
    root, _ = shelf
    key, rows = planned(ask)
    row = next(
        row for row in rows if row["path"] == "Album one/mp3-v24-two.mp3" or "/" in row["path"]
    )
    tampered(name, root, root / row["path"])
    before = reviewed_library.digests(root.parent / "outside")
    state = applied(ask, key, [{"n": row["n"]}])
    assert state["answer"]["counts"] == {"skipped": 1}
    assert state["answer"]["left"][0]["reason"]
    assert reviewed_library.digests(root.parent / "outside") == before
    found = ask.get(f"/api/library/plans/{key}").json()["rows"]
    assert next(one for one in found if one["n"] == row["n"])["state"] == "skipped"


@pytest.mark.parametrize("secret", ["text", "link"])
def test_what_is_not_audio_any_more_is_not_sent(
    ask: TestClient, shelf: tuple[Path, Path], secret: str
) -> None:
    root, _ = shelf
    number = number_of(ask, "mp3-v1.mp3")
    (path,) = root.rglob("mp3-v1.mp3")
    outside = root.parent / "secret.txt"
    outside.write_text("root:x:0:0", encoding="utf-8")
    path.unlink()
    if secret == "link":  # noqa: S105
        path.symlink_to(outside)
    else:
        shutil.copy(outside, path)
    answer = ask.get(f"/api/library/tracks/{number}/audio")
    assert answer.status_code == (404 if secret == "link" else 422)  # noqa: S105
    assert b"root" not in answer.content
    assert str(root) not in answer.text
    path.unlink()
    assert ask.get(f"/api/library/tracks/{number}/audio").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"), [one for one in WRITES if "playlist" not in one[1]]
)
def test_nothing_is_written_unless_allowed(
    reader: TestClient, method: str, path: str, body: Any
) -> None:
    answer = sent((reader, "x", "x", Path()), method, path, body, OWN)
    assert answer.status_code in {404, 405}
    assert reader.get("/api/library/history").status_code == 404


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "example.org"])
def test_no_network_may_write_without_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(GenrescopeError, match="token"):
        serve(host=host, port=0, journal=tmp_path / "journal.db")


def test_the_command_refuses_a_network_without_a_token(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    root, catalogue = made
    journal = tmp_path / "journal.db"
    options = ("--library", root, "--db", catalogue, "--journal", journal, "--allow-writing")
    done = commands.run("serve", *options, "--host", "192.0.2.1", "--port", "0")
    assert done.returncode == 1
    assert "with a token" in done.stderr
    assert not journal.exists()
    done = commands.run("serve", "--allow-writing")
    assert done.returncode == 1
    assert "--library" in done.stderr


@pytest.mark.parametrize(
    "options", [{}, {"names": LOCAL_NAMES, "framers": ("https://example.org",)}]
)
def test_no_application_lets_others_write(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(GenrescopeError, match="token"):
        create_app(journal=tmp_path / "journal.db", **options)


def test_writing_needs_the_token(shelf: tuple[Path, Path]) -> None:
    root, catalogue = shelf
    with asking(root, catalogue, token="secret", names=None) as ask:  # noqa: S106
        for headers in (OWN, {**OWN, "authorization": "Bearer wrong"}):
            assert ask.post("/api/library/plan", json=PLAN, headers=headers).status_code == 401
        headers = {**OWN, "authorization": "Bearer secret"}
        assert ask.post("/api/library/plan", json=PLAN, headers=headers).status_code == 202


def test_without_a_library_there_is_nothing(tmp_path: Path) -> None:
    with TestClient(create_app(names=LOCAL_NAMES), base_url=HOME) as ask:
        for path in ("", "/tracks", "/map", "/names", "/tracks/0/audio", "/plan", "/history"):
            assert ask.get(f"/api/library{path}").status_code == 404
        assert ask.get("/api/page").json()["library"] is None


# Faults that an attack on the page once found.


def test_a_job_of_one_kind_is_none_of_the_other(ask: TestClient) -> None:
    page = ask.get("/api/page").json()
    example = page["example"]["links"]["json"].split("/")[3]
    assert ask.delete(f"/api/library/jobs/{example}", headers=OWN).status_code == 404
    assert ask.get(f"/api/library/jobs/{example}").status_code == 404
    assert ask.delete(f"/api/answers/{example}").status_code == 403
    plan = ask.post("/api/library/plan", json=PLAN, headers=OWN)
    change = plan.headers["location"].split("/")[-1]
    assert ask.delete(f"/api/answers/{change}").status_code == 404
    ended(ask, plan)
    assert ask.get("/api/page").json()["example"] == page["example"]


def test_more_rows_than_any_library_has_are_refused(reader: TestClient) -> None:
    body = json.dumps({"tracks": [1] * 500_001}).encode()
    headers = {**OWN, "content-type": "application/json"}
    answer = reader.post("/api/library/playlist", content=body, headers=headers)
    assert answer.status_code == 422
    assert "500000" in answer.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as files are of POSIX")
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_took_a_track_s_place_is_not_played(
    ask: TestClient, shelf: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    names = ask.get("/api/library/tracks").json()["path"]
    number = next(i for i, name in enumerate(names) if name.endswith(".wav"))
    place = f"/api/library/tracks/{number}/audio"
    track = shelf[0] / names[number]
    assert ask.get(f"{place}?convert=1").status_code == 200
    outside = tmp_path / "outside.wav"
    shutil.move(track, outside)
    os.mkfifo(track) if kind == "pipe" else track.symlink_to(outside)
    assert ask.get(place).status_code == 404
    assert ask.get(f"{place}?convert=1").status_code == 404


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as files are of POSIX")
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_took_a_track_s_place_is_not_named(
    ask: TestClient, shelf: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    names = ask.get("/api/library/tracks").json()["path"]
    outside = tmp_path / "outside.mp3"
    shutil.copy(next(shelf[0].rglob("mp3-v1.mp3")), outside)  # which has a title
    for name in names[1:]:
        track = shelf[0] / name
        track.unlink()
        os.mkfifo(track) if kind == "pipe" else track.symlink_to(outside)
    titles: list[str] = []
    while len(titles) < len(names):
        part = ask.get(f"/api/library/names?since={len(titles)}&wait=10").json()["title"]
        assert part, "the reading of names has stopped"
        titles += part
    assert not any(titles[1:])
    state = ended(ask, ask.post("/api/answers?track=0"))
    assert state["state"] == "done"
    assert {near["title"] for near in state["answer"]["similar"]} == {None}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_what_took_a_track_s_place_while_it_waited_is_not_analysed(
    ask: TestClient, shelf: tuple[Path, Path], tmp_path: Path, music: Callable[..., Any]
) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(music(seconds=60.0), 9), 22050)
    ask.get("/api/page")  # once the example is there
    running = ask.post("/api/answers", files={"file": ("long.wav", long.read_bytes())})
    waiting = ask.post("/api/answers?track=0")
    assert ask.get(waiting.headers["location"]).json()["place"] == 1
    track = shelf[0] / ask.get("/api/library/tracks").json()["path"][0]
    shutil.move(track, tmp_path / "outside")
    track.symlink_to(tmp_path / "outside")
    assert ask.delete(running.headers["location"]).status_code == 204
    state = ended(ask, waiting)
    assert state["state"] == "failed"
    assert state["error"]["title"] == "A link leads out of the library"
    assert str(tmp_path) not in str(state["error"])


def test_conversions_have_turns_by_client_and_end_with_it(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    converted: list[str] = []
    stopped = threading.Event()

    def convert(_: Mp3Converter, path: Path) -> Path:
        converted.append(path.name)
        if len(converted) == 1:
            assert stopped.wait(30)
            raise InputError(path, "it cannot be decoded", "Convert it")
        return path

    monkeypatch.setattr(Mp3Converter, "convert", convert)
    monkeypatch.setattr(Mp3Converter, "stop", lambda _: stopped.set())
    monkeypatch.setattr(shelves, "_INSIDE", 4)  # of which a client has 3 at most

    async def get(client: str, number: int, leave: CancelScope) -> int:
        sent: list[Any] = []

        received = [{"type": "http.request"}]

        async def receive() -> Any:
            if not received:
                await asyncio.Event().wait()
            return received.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "http_version": "1.1",
            "path": f"/api/library/tracks/{number}/audio",
            "query_string": b"convert=true",
            "headers": [(b"host", b"127.0.0.1:7860")],
            "client": (client, 1),
        }
        with leave:  # as PatientProtocol does when a client has gone
            await ask.app(scope, receive, send)
        return int(sent[0]["status"]) if sent else 0

    async def main() -> tuple[int, int]:
        leaves = [CancelScope() for _ in range(4)]
        async with asyncio.timeout(60):
            first = asyncio.create_task(get("192.0.2.1", 0, leaves[0]))
            while not converted:
                await asyncio.sleep(0.01)
            more = [
                asyncio.create_task(get("192.0.2.1", number, leaves[number]))
                for number in (1, 2, 3)
            ]
            other = asyncio.create_task(get("192.0.2.9", 4, CancelScope()))
            done, _ = await asyncio.wait(more, return_when=asyncio.FIRST_COMPLETED)
            for leave in leaves:
                leave.cancel()
            await asyncio.wait({first, *more})
            return done.pop().result(), await other

    with asking(*made, journal=None) as ask:
        paths = ask.get("/api/library/tracks").json()["path"]
        assert ask.portal is not None
        assert ask.portal.call(main) == (503, 200)
    assert converted == [Path(paths[number]).name for number in (0, 4)]
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_rows_are_free_again_where_too_many_changes_wait(
    ask: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, rows = planned(ask)
    body = {"rows": [{"n": rows[0]["n"]}]}
    with monkeypatch.context() as full:
        full.setattr(ServerJobs, "begin", Mock(side_effect=FullError))
        answer = ask.post(f"/api/library/plans/{key}/apply", json=body, headers=OWN)
        assert answer.status_code == 503
    assert applied(ask, key, body["rows"])["answer"]["counts"] == {"written": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be removed there")
def test_a_journal_that_is_removed_ends_the_changes(
    ask: TestClient, shelf: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, catalogue = shelf
    before = reviewed_library.digests(root)
    key, rows = planned(ask)
    journal, write = catalogue.with_name("journal.db"), applying.write_genres

    def removing(path: Path, genres: Any) -> None:
        if genres == ("Only here",):
            journal.unlink()
        write(path, genres)

    monkeypatch.setattr(applying, "write_genres", removing)
    rows[3]["new"] = ["Only here"]
    chosen = [{"n": row["n"], "new": row["new"]} for row in rows[:6]]
    state = applied(ask, key, chosen)
    assert state["state"] == "failed"
    assert "removed or replaced while it was in use" in state["error"]["title"]
    after = reviewed_library.digests(root)
    changed = {path for path in before if after.get(path) != before[path]}
    assert changed == {row["path"] for row in rows[:3]}
    assert after.keys() == before.keys()


def test_a_plan_in_two_journals_shares_no_temporary_file(
    ask: TestClient, shelf: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, _ = planned(ask)
    file = tmp_path / "plan.csv"
    file.write_bytes(ask.get(f"/api/library/plans/{key}/plan.csv").content)
    used: list[set[Path]] = []
    for name in ("one.db", "other.db"):
        used.append(set())
        keep = used[-1]
        monkeypatch.setattr(applying, "_swap", lambda _, made, __, keep=keep: keep.add(made))
        with Journal(tmp_path / name) as journal:
            entry = applying.register_plan(journal, open_plan(file))
            assert {one.state for one in applying.apply_plan(journal, entry)} == {"written"}
    assert len(used[0]) == len(used[1]) > 0
    assert not used[0] & used[1]
