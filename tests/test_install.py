"""What is built, and what an install of it without extras can do in an empty place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest

import genrescope

uv = pytest.importorskip("uv", reason="make setup brings uv, which builds and installs")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("install")]

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    *("torch", "librosa", "scipy", "sklearn", "matplotlib", "lightning", "transformers", "onnx"),
    *("gradio", "pandas"),
)
MEGABYTE = 1_000_000


def run(*command: object, **settings: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **settings
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``direct.whl``'s folder, the source archive, and the wheel made from that."""
    folder = tmp_path_factory.mktemp("dist")
    build = (uv.find_uv_bin(), "build", "--quiet")
    run(*build, "--wheel", "--out-dir", folder / "direct", ROOT)
    run(*build, "--sdist", "--out-dir", folder, ROOT)
    run(*build, "--wheel", "--out-dir", folder / "again", next(folder.glob("*.tar.gz")))
    return folder


@pytest.fixture(scope="module")
def place(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base install in ``venv``, an empty ``home`` and an empty ``work``."""
    folder = tmp_path_factory.mktemp("place")
    run(uv.find_uv_bin(), "venv", "--quiet", folder / "venv")
    run(
        *(uv.find_uv_bin(), "pip", "install", "--quiet", "--python", folder / "venv"),
        *("-c", ROOT / "constraints.txt", next((dist / "direct").glob("*.whl"))),
    )
    for name in ("home", "work"):
        (folder / name).mkdir()
    return folder


def state(place: Path, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(place / "venv" / "bin" / program), *map(str, arguments)],
        cwd=place / "work",
        env={"HOME": str(place / "home"), "PATH": os.defpath, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


def test_the_wheel_from_the_source_archive_is_the_same(dist: Path) -> None:
    direct, again = (next((dist / name).glob("*.whl")) for name in ("direct", "again"))
    assert direct.name == again.name
    assert contents(direct) == contents(again)


def test_the_wheel_holds_all_of_the_packages_and_nothing_else(dist: Path) -> None:
    wheel = next((dist / "direct").glob("*.whl"))
    held = {name for name in contents(wheel) if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }
    assert held == sources
    assert {name.split("/")[0] for name in held} == {"genrescope", "beetsplug"}
    assert 1 * MEGABYTE < wheel.stat().st_size < 7 * MEGABYTE  # 5.5 MB, of it 5 MB of weights


def test_the_source_archive_can_be_tested_and_holds_no_data(dist: Path) -> None:
    archive = next(dist.glob("*.tar.gz"))
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert {
        *("pyproject.toml", "constraints.txt", "Makefile", "README.md", "LICENSE", "SECURITY.md"),
        *("tests/conftest.py", "tests/test_install.py", "tools/legs.py", "mkdocs.yml"),
    } <= held
    tops = {name.split("/")[0] for name in held}
    assert not tops & {"shared", "build", "dist", "site", ".venv", ".ci", ".git", ".hypothesis"}
    assert not [name for name in held if "node_modules" in name or "__pycache__" in name]
    assert archive.stat().st_size < 10 * MEGABYTE


def test_nothing_heavy_is_installed(place: Path) -> None:
    code = (
        "from importlib.util import find_spec; "
        f"print([name for name in {HEAVY} if find_spec(name) is not None])"
    )
    shown = state(place, "python", "-c", code)
    assert shown.stdout.strip() == "[]", shown.stderr


def test_the_base_install_classifies_in_an_empty_place(place: Path) -> None:
    song = place / "work" / "song.mp3"
    shutil.copy(genrescope.sample("lament"), song)
    assert "Usage: genrescope" in state(place, "genrescope", "--help").stdout
    sampled = state(place, "genrescope", "classify", "--sample")
    assert sampled.returncode == 0, sampled.stderr
    assert len(sampled.stdout.splitlines()) >= len(genrescope.SAMPLES)
    assert "original-wav2vec2" in state(place, "genrescope", "list").stdout
    plain = state(place, "genrescope", "classify", "song.mp3")
    assert plain.stdout.startswith("song.mp3: classical"), plain.stderr
    (row,) = json.loads(state(place, "genrescope", "classify", "--json", "song.mp3").stdout)
    here = genrescope.load().predict(song).probabilities
    assert {s["label"]: s["score"] for s in row["scores"]} == pytest.approx(
        {s["label"]: here[s["label"]] for s in row["scores"]}, abs=1e-4
    )
    code = "import genrescope as g; print(g.load().predict('song.mp3').genre)"
    assert state(place, "python", "-c", code).stdout == "classical\n"


def test_the_base_install_serves_the_page(place: Path) -> None:
    with subprocess.Popen(
        [place / "venv" / "bin" / "genrescope", "serve", "--port", "0"],
        cwd=place / "work",
        env={"HOME": str(place / "home"), "PATH": os.defpath},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            address = server.stderr.readline().split()[1]
            assert "genrescope" in httpx.get(address).text
            config = httpx.get(f"{address}api/page", timeout=30).json()
            assert config["example"]["best"] == "jazz"
        finally:
            server.send_signal(signal.SIGINT)
    packages = place / "venv" / "lib"
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size < 400 * MEGABYTE


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["study"], "study"),
        (["robustness", "default", "--data", "clips"], "study"),
        (["classify", "song.mp3", "--explain", "why.png"], "study"),
        (["train", "--data", "music"], "train"),
        (["learn", "music"], "train"),
        (["similar", "song.mp3", "--library", "music", "--ann"], "similar"),
        (["scan", "music", "--watch"], "library"),
        (["classify", "song.mp3", "--plot", "song.png"], "study"),
        (["cluster", "classify", "music", "--out", "classified"], "cluster"),
    ],
)
def test_a_command_that_needs_an_extra_names_it(
    command: list[str], extra: str, place: Path
) -> None:
    (place / "work" / "music").mkdir(exist_ok=True)
    shutil.copy(genrescope.sample("lament"), place / "work" / "song.mp3")
    shown = state(place, "genrescope", *command)
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert f"pip install '.[{extra}]'" in shown.stderr
    assert "Traceback" not in shown.stderr
