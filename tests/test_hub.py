"""Models are fetched from a hub and pushed to it: here, to a small one of our own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

import genrescope
from genrescope.errors import GenrescopeError
from genrescope.hub import CHECKPOINTS

SHIPPED = Path(genrescope.__file__).parent / "weights" / "default"
COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """What ``huggingface_hub`` asks for, of repositories held in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.claims: dict[str, int] = {}  # sizes that are shown, where they are not the true ones
        self.asked: list[str] = []
        self.commit: str | None = COMMIT  # that it says a repository is at
        self.cut: set[str] = set()  # files of which the first answer stops half-way

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(f"{self.command} {path}")
        kind, *rest = path.split("/")
        if kind == "cdn":
            repository, name = "/".join(rest[:2]), rest[2]
            self._send(self.server.repositories[repository][name])
        elif kind == "api" and "tree" in rest:
            files = self.server.repositories["/".join(rest[1:3])]
            self._json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": "b" * 40}
                    for name, content in files.items()
                ]
            )
        elif kind == "api" and rest[0] == "models":
            self._info("/".join(rest[1:3]), rest[4] if len(rest) > 4 else "main")
        elif "resolve" in rest:
            self._file("/".join([kind, rest[0]]), rest[-1])
        else:
            self._missing("RepoNotFound")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(f"POST {path}")
        if self.headers.get("Authorization") != "Bearer may-write":
            self._send(b'{"error": "no"}', 401)
        elif path == "api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self.server.repositories.setdefault(name, {})
            self._json({"url": f"{self.server.url}/{name}", "id": name})
        elif path == "api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif "/commit/" in path:
            repository = "/".join(path.split("/")[2:4])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.repositories[repository][entry["value"]["path"]] = content
            url = f"{self.server.url}/{repository}/commit/{COMMIT}"
            self._json({"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self._missing("EntryNotFound")

    def _info(self, repository: str, revision: str) -> None:
        files = self.server.repositories.get(repository)
        if files is None:
            self._missing("RepoNotFound")
        elif revision not in {"main", "v1", COMMIT}:
            self._missing("RevisionNotFound")
        else:
            siblings = [
                {"rfilename": name, "size": self.server.claims.get(name, len(content))}
                for name, content in files.items()
            ]
            shown = {"id": repository, "sha": self.server.commit, "siblings": siblings, "tags": []}
            self._json(shown)

    def _file(self, repository: str, name: str) -> None:
        content = self.server.repositories[repository].get(name)
        if content is None:
            self._missing("EntryNotFound")
            return
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"X-Repo-Commit": COMMIT, "ETag": etag}
        if name == "model.onnx":  # large files lie elsewhere
            headers |= {
                # By another name: redirects within the hub itself are renamed repositories.
                "Location": f"http://localhost:{self.server.server_port}/cdn/{repository}/{name}",
                "X-Linked-Etag": etag,
                "X-Linked-Size": str(len(content)),
            }
            self._send(b"", 302, headers)
        else:
            self._part(name, content, headers)

    def _part(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        # The rest from where a download stopped; or half, and the connection ends.
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.asked.append(f"{name} from {start}")
        if name in self.server.cut:
            self.server.cut.remove(name)
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def _json(self, content: object) -> None:
        self._send(json.dumps(content).encode(), 200, {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._send(b"{}", 404, {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, body: bytes, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    server.repositories["someone/genres"] = {
        path.name: path.read_bytes() for path in SHIPPED.iterdir() if path.is_file()
    } | {"evil.py": b"raise SystemExit"}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def run(
    command: list[str], endpoint: str, home: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    settings = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **environment,
    }
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=settings,
    )


def classify(model: str, *options: str) -> list[str]:
    sound = str(genrescope.sample())
    return ["-m", "genrescope", "classify", "--csv", "--model", model, *options, sound]


def test_a_model_of_the_hub_classifies_and_is_kept(hub: Hub, tmp_path: Path) -> None:
    own = genrescope.load().predict(genrescope.sample())
    shown = run(classify("someone/genres", "--revision", "v1"), hub.url, tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"{own.genre},{own.confidence:.4f}" in shown.stdout
    assert not any("evil.py" in line for line in hub.asked)
    assert not list(tmp_path.rglob("evil.py"))
    # Without the hub, what was fetched will do.
    again = run(classify("someone/genres", "--revision", COMMIT), "http://127.0.0.1:9", tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == shown.stdout


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("someone/nothing", [], "no model someone/nothing on the Hugging Face hub"),
        ("someone/genres", ["--revision", "v9"], "no model someone/genres at v9"),
        ("someone/genres", [], "more than the limit of"),
    ],
)
def test_what_the_hub_has_not_is_told(
    model: str, options: list[str], words: str, hub: Hub, tmp_path: Path
) -> None:
    hub.claims["model.onnx"] = 2**40
    shown = run(classify(model, *options), hub.url, tmp_path)
    assert shown.returncode == 1
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr


def test_all_that_is_fetched_is_of_the_commit_that_the_hub_names(hub: Hub, tmp_path: Path) -> None:
    shown = run(classify("someone/genres", "--revision", "v1"), hub.url, tmp_path)
    assert shown.returncode == 0, shown.stderr
    (named,) = {line.split("/")[-1] for line in hub.asked if "/revision/" in line} - {COMMIT}
    assert named == "v1"
    fetched = [line for line in hub.asked if "/resolve/" in line]
    assert fetched
    assert all(f"/resolve/{COMMIT}/" in line for line in fetched)


@pytest.mark.parametrize(
    ("revision", "commit", "words"),
    [
        ("v1", None, "the hub names no commit"),
        ("v1", "main", "the hub names no commit"),
        (COMMIT, "c" * 40, "the hub answers with another commit"),
    ],
)
def test_a_hub_that_names_no_commit_or_another_is_not_fetched_from(
    revision: str, commit: str | None, words: str, hub: Hub, tmp_path: Path
) -> None:
    hub.commit = commit
    shown = run(classify("someone/genres", "--revision", revision), hub.url, tmp_path)
    assert shown.returncode == 1
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not [line for line in hub.asked if "/resolve/" in line]


CHECKPOINT = """
import sys
from genrescope.hub import GenrescopeError, resolve_weights
try:
    print(resolve_weights("someone/encoder", download=True, revision=sys.argv[1] or None))
except GenrescopeError as error:
    print("refused:", error)
"""


def test_a_checkpoint_is_of_one_commit_and_its_pickle_stays_where_safetensors_are(
    hub: Hub, tmp_path: Path
) -> None:
    names = ("config.json", "model.safetensors", "pytorch_model.bin", "evil.py")
    hub.repositories["someone/encoder"] = dict.fromkeys(names, b"{}")
    shown = run(["-c", CHECKPOINT, "v1"], hub.url, tmp_path)
    folder = Path(shown.stdout.strip())
    assert folder.name == COMMIT, shown.stdout + shown.stderr
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    fetched = [line for line in hub.asked if "/resolve/" in line]
    assert fetched
    assert all(f"/resolve/{COMMIT}/" in line for line in fetched)


def test_a_checkpoint_that_is_too_large_is_not_fetched(hub: Hub, tmp_path: Path) -> None:
    names = ("config.json", "model.safetensors")
    hub.repositories["someone/encoder"] = dict.fromkeys(names, b"{}")
    hub.claims["model.safetensors"] = 2**40
    shown = run(["-c", CHECKPOINT, ""], hub.url, tmp_path)
    assert shown.stdout.startswith("refused: someone/encoder cannot be fetched from the hub")
    assert "holds 1,099,511,627,778 bytes" in shown.stdout
    assert not [line for line in hub.asked if "/resolve/" in line]


GET = """
import sys
from dataclasses import replace
from genrescope import hub
pin = {"revision": "a" * 40, "sha256": sys.argv.pop(1)}
hub.CHECKPOINTS["hubert"] = replace(hub.CHECKPOINTS["hubert"], **pin)
from genrescope.__main__ import main
main()
"""
WEIGHTS = {
    "config.json": b"{}",
    "pytorch_model.bin": bytes(range(256)) * 2**17,
}  # in blocks of 10 MB
CHECKSUM = hashlib.sha256(WEIGHTS["pytorch_model.bin"]).hexdigest()


def test_weights_are_fetched_by_name_resumed_checked_and_found_offline(
    hub: Hub, tmp_path: Path
) -> None:
    hub.repositories["facebook/hubert-base-ls960"] = {**WEIGHTS, "evil.py": b"raise SystemExit"}
    hub.cut = {"pytorch_model.bin"}
    shown = run(["-c", GET, CHECKSUM, "data", "get", "hubert"], hub.url, tmp_path / "home")
    assert shown.returncode == 0, shown.stderr
    assert "licence: Apache-2.0" in shown.stderr
    starts = [line.split()[-1] for line in hub.asked if line.startswith("pytorch_model.bin from")]
    assert starts[0] == "0"
    assert 0 < int(starts[-1]) <= len(WEIGHTS["pytorch_model.bin"]) // 2
    folder = Path(shown.stdout.split(" is ready")[0])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == WEIGHTS
    # Without the hub, what was fetched will do, also to be carried elsewhere.
    get = ["data", "get", "hubert", "--out", str(tmp_path / "out")]
    again = run(["-c", GET, CHECKSUM, *get], "http://127.0.0.1:9", tmp_path / "home")
    assert again.returncode == 0, again.stderr
    out = tmp_path / "out"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == WEIGHTS
    assert not any(path.is_symlink() for path in out.iterdir())


def test_weights_that_are_not_what_they_were_are_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["facebook/hubert-base-ls960"] = dict(WEIGHTS)
    shown = run(["-c", GET, "0" * 64, "data", "get", "hubert"], hub.url, tmp_path)
    assert shown.returncode == 1
    assert "is not that of this revision by its SHA-256" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not list(tmp_path.rglob("pytorch_model.bin"))
    shown = run(["-c", GET, CHECKSUM, "data", "get", "hubert"], hub.url, tmp_path)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["hubert", "--url", "http://127.0.0.1:9/x"], "--url is for data sets"),
        (["hubert", "--out", "file"], "it is not a folder"),
        (
            ["nothing"],
            "There is no 'nothing' to get; there are: gtzan, wav2vec2-base, distilhubert",
        ),
        (["hubert"], "facebook/hubert-base-ls960 cannot be fetched from the hub"),
    ],
)
def test_what_cannot_be_fetched_is_an_error(
    words: list[str], cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    shown = run(["-m", "genrescope", "data", "get", *words], "http://127.0.0.1:9", tmp_path)
    assert shown.returncode == 1
    assert cause in shown.stderr
    assert "Traceback" not in shown.stderr


def test_pinned_weights_are_of_whole_commits_and_checksums() -> None:
    for name, known in CHECKPOINTS.items():
        assert re.fullmatch("[0-9a-f]{40}", known.revision), name
        assert re.fullmatch("[0-9a-f]{64}", known.sha256), name


def test_a_hub_that_cannot_be_reached_is_told_soon(tmp_path: Path) -> None:
    begun = time.monotonic()
    shown = run(classify("someone/genres"), "http://127.0.0.1:9", tmp_path)
    assert shown.returncode == 1
    assert "cannot be fetched from the Hugging Face hub" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert time.monotonic() - begun < 30


PUSH = """
import sys, genrescope
try:
    print(genrescope.load().push_to_hub(sys.argv[1], private=True, token=sys.argv[2]))
except genrescope.GenrescopeError as error:
    print("refused:", error)
"""


def test_a_pushed_model_comes_back_the_same(hub: Hub, tmp_path: Path) -> None:
    shown = run(["-c", PUSH, "me/mine", "may-write"], hub.url, tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert COMMIT in shown.stdout
    shipped = {path.name: path.read_bytes() for path in SHIPPED.iterdir() if path.is_file()}
    assert hub.repositories["me/mine"] == shipped
    back = run(classify("me/mine"), hub.url, tmp_path)
    assert back.returncode == 0, back.stderr


def test_a_transformers_model_is_pushed_too_but_not_fetched(hub: Hub, tmp_path: Path) -> None:
    folder, names = tmp_path / "mine", ("config.json", "model.safetensors")
    genrescope.load().save_pretrained(folder)
    (folder / "transformers").mkdir()
    for name in names:
        (folder / "transformers" / name).write_bytes(b"{}")
    (folder / "notes.txt").write_text("nobody else's business")
    shown = run(
        ["-c", PUSH.replace("load()", f"load({str(folder)!r})"), "me/mine", "may-write"],
        hub.url,
        tmp_path,
    )
    assert shown.returncode == 0, shown.stderr
    pushed = {path.name for path in SHIPPED.iterdir() if path.is_file()}
    assert set(hub.repositories["me/mine"]) == pushed | {f"transformers/{name}" for name in names}
    assert run(classify("me/mine"), hub.url, tmp_path).returncode == 0
    assert not [asked for asked in hub.asked if "/transformers/" in asked]


def test_without_leave_nothing_is_pushed_and_the_token_is_not_told(
    hub: Hub, tmp_path: Path
) -> None:
    shown = run(["-c", PUSH, "me/mine", "may-not"], hub.url, tmp_path)
    assert shown.stdout.startswith("refused: me/mine cannot be written on the Hugging Face hub")
    assert "may-not" not in shown.stdout + shown.stderr
    assert "me/mine" not in hub.repositories


def test_without_huggingface_hub_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['huggingface_hub'] = None\nimport genrescope\n"
    shown = run(["-c", code + "genrescope.load('a/b')"], "http://127.0.0.1:9", tmp_path)
    assert "pip install '.[hub]'" in shown.stderr.splitlines()[-1]


def test_a_folder_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    genrescope.load().save_pretrained("my/model")
    assert genrescope.load("my/model").genres == genrescope.load().genres
    with pytest.raises(GenrescopeError, match="not a model folder"):
        genrescope.load("gone")
    with pytest.raises(GenrescopeError, match="cannot be fetched from the Hugging Face hub"):
        genrescope.load("my/other")


def test_the_card_says_what_the_hub_asks() -> None:
    from genrescope.classifier import ClassifierConfig
    from genrescope.training.export import _card

    config = ClassifierConfig.model_validate_json((SHIPPED / "config.json").read_bytes())
    _, head, text = _card(config).split("---\n", maxsplit=2)
    shown = yaml.safe_load(head)
    assert shown["library_name"] == "genrescope"
    assert shown["pipeline_tag"] == "audio-classification"
    assert shown["license"]
    (result,) = shown["model-index"][0]["results"]
    assert result["metrics"][0] == {
        "type": "accuracy",
        "name": "accuracy (protocol grouped, may leak)",  # 81 artists are not known
        "value": round(config.trained["accuracy"], 4),
    }
    assert text.startswith("# default")
