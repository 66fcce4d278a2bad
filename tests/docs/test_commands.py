"""Every command and Python block of the documentation is run as it stands, or says why not.

A block that is not run has a comment before it, which the rendered page does not show:
``<!-- not run: reason -->``. The blocks of a page are run in their order, in one folder of its
own, by a user of its own who has some music. In a ``console`` block each line after ``$`` is a
command and what follows is what it must print; there, numbers stand for any number and … for
anything. A YAML or TOML block whose first line is a comment with a file's name is that file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mutagen
import pytest
import soundfile
import typer
import yaml

import genrescope
from genrescope.audio import load
from genrescope.cli import app as cli
from genrescope.datasets.demo import SAMPLING_RATE, render
from genrescope.study.config import load_study
from genrescope.training.recipe import load_entry

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "examples").rglob("README.md")),
]
RUN = {"sh", "bash", "console", "python", "pycon"}
TIMEOUT_S = 180


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, where it begins and why it is not run."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = lines[start - 1] if start else ""
        mark = re.fullmatch(r"<!-- not run:(.*)-->", before)
        language, text = lines[start].removeprefix("```"), "\n".join(lines[start + 1 : number])
        yield Block(page, start + 1, language, text, mark[1].strip() if mark else None)
        start = None
    assert start is None, f"{page}: the block of line {start} does not end"


BLOCKS = [block for page in PAGES for block in blocks(page)]


def to_run(page: Path) -> list[Block]:
    return [
        block
        for block in BLOCKS
        if block.page == page and block.language in RUN and block.reason is None
    ]


def test_blocks_are_found_in_many_pages() -> None:
    assert len({block.page for block in BLOCKS}) >= 10
    assert sum(len(to_run(page)) for page in PAGES) >= 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_not_run_says_why(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    own = [block for block in BLOCKS if block.page == page]
    assert not [str(block) for block in own if block.reason is not None and not block.reason]
    marks = len(re.findall(r"^\s*<!-- *not run", text, re.MULTILINE))
    assert marks == sum(block.reason is not None for block in own), "a mark stands before no block"
    assert not re.search(r"^[ \t]+```", text, re.MULTILINE), "an indented block would not be found"
    for block in own:
        if block.language not in RUN:
            stating = re.search(r"^(\$|>>>|genrescope|pip|make) ", block.text, re.MULTILINE)
            assert not stating, f"{block} holds commands: say sh, console, python or pycon"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_recipes_and_studies_can_be_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    text = re.sub(r'^--8<-- "(.*)"$', lambda m: (ROOT / m[1]).read_text("utf-8"), block.text)
    file.write_text(text, encoding="utf-8")
    settings = yaml.safe_load(text)
    assert isinstance(settings, dict)
    if "recipes" in settings:
        assert load_study(str(file)).recipes
    elif "extends" in settings and "examples/" not in block.text:  # those are run
        assert load_entry(str(file)).name == settings["name"]


def test_every_command_is_on_the_page_of_commands() -> None:
    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    app = typer.main.get_command(cli.app)
    groups = {"": app} | {n: c for n, c in app.commands.items() if hasattr(c, "commands")}
    names = [
        f"{group} {name}".strip()
        for group, commands in groups.items()
        for name, command in commands.commands.items()
        if not hasattr(command, "commands")
    ]
    assert len(names) >= 14
    assert [name for name in names if f"genrescope {name}" not in text] == []


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with music, and a folder with a song and clips of three genres, for every page."""
    start = tmp_path_factory.mktemp("start")
    album, new = start / "home" / "Music" / "album", start / "home" / "Music" / "new"
    album.mkdir(parents=True)
    new.mkdir()
    for name in genrescope.SAMPLES:
        shutil.copy(genrescope.sample(name), album / f"{name}.mp3")
        tags = mutagen.File(album / f"{name}.mp3", easy=True)
        tags.update({"artist": "A", "album": "B", "title": name})
        tags.save()
    for style in ("march", "waltz"):
        soundfile.write(new / f"{style}.flac", render(style, 0, 0), SAMPLING_RATE)
    work = start / "work"
    shutil.copytree(ROOT / "examples", work / "examples")
    shutil.copy(genrescope.sample("lament"), work / "song.mp3")
    rows = ["path,genre,artist"]
    for style in ("lament", "march", "pulse"):
        (work / "my-genres" / style).mkdir(parents=True)
        for number in range(10):
            clip = Path("my-genres", style, f"{number}.flac")
            soundfile.write(
                work / clip, render(style, number % 5, number, seconds=3.0), SAMPLING_RATE
            )
            rows.append(f"{clip.as_posix()},{style},{style} artist {number % 5}")
    (work / "my-genres.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return start


@dataclass(frozen=True)
class Desk:
    """Where a page's blocks are run: a home, a folder and the programs that there are."""

    home: Path
    work: Path
    programs: Path

    def environment(self) -> dict[str, str]:
        system = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin"))
        own = {name: os.environ[name] for name in os.environ if not name.startswith("XDG_DATA")}
        return own | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), str(self.programs), system)),
            "HOME": str(self.home),
            "USERPROFILE": str(self.home),
            "BEETSDIR": str(self.home / "beets"),
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            "MPLBACKEND": "agg",
        }

    def run(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(
            command,
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        printed = done.stdout.replace(str(self.home), "/home/you")
        return done.returncode, printed.replace(str(self.work), "/home/you/lists")

    def bash(self, script: str) -> tuple[int, str]:
        return self.run("bash", "-euo", "pipefail", "-c", script)


@pytest.fixture
def desk(music: Path, tmp_path: Path) -> Desk:
    shutil.copytree(music, tmp_path, dirs_exist_ok=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    # Programs of others that commands pipe into; mpv would play what it is given.
    for name in ("mpv", *(name for name in ("jq",) if shutil.which(name) is None)):
        (programs / name).write_text("#!/bin/sh\nexec cat >/dev/null\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    return Desk(tmp_path / "home", tmp_path / "work", programs)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are for bash")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if to_run(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_what_a_page_says_works(page: Path, desk: Desk) -> None:
    if (prepare := PREPARE.get(page.relative_to(ROOT).as_posix())) is not None:
        prepare(desk)
    for block in BLOCKS:
        named = re.match(r"# ([\w-]+\.(?:yaml|toml))$", block.text, re.MULTILINE)
        if block.page == page and named and block.language in {"yaml", "toml"}:
            (desk.work / named[1]).write_text(block.text + "\n", encoding="utf-8")
    ready = to_run(page)
    for block in ready:
        if block.language == "console":
            for command, shown in commands(block.text):
                code, printed = desk.bash(command)
                wrong = bool(re.search(r"^Error: ", shown, re.MULTILINE))
                assert (code != 0) == wrong, f"{block}: $ {command}\n{printed}"
                assert matches(shown, printed), f"{block}: $ {command}\n{printed}\nnot\n{shown}"
        elif block.language != "pycon":
            bash = block.language in {"sh", "bash"}
            code, printed = (
                desk.bash(block.text) if bash else desk.run(sys.executable, "-c", block.text)
            )
            assert code == 0, f"{block}\n{printed}"
    if sessions := [block.text for block in ready if block.language == "pycon"]:
        (desk.work / "sessions.txt").write_text("\n".join([*sessions, ""]), encoding="utf-8")
        code, printed = desk.run(sys.executable, "-m", "doctest", "sessions.txt")
        assert code == 0, f"{page}\n{printed}"


def commands(text: str) -> list[tuple[str, str]]:
    """Take a console block apart: each command, and what it is said to print."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0].strip(), "a console block begins with a command"
    return [
        (line, shown.strip("\n")) for line, _, shown in (part.partition("\n") for part in parts[1:])
    ]


def matches(shown: str, printed: str) -> bool:
    """Return whether output is what a page shows, whatever its numbers and where it says …."""
    number = r"\d[\d,.:-]*"
    pieces = re.split(rf"({number}|…|\s+)", " ".join(shown.split()))
    pattern = "".join(
        ".*" if piece == "…" else number if re.fullmatch(number, piece) else re.escape(piece)
        for piece in pieces
    )
    return re.fullmatch(pattern, " ".join(printed.split()), re.DOTALL) is not None


def test_output_is_compared_but_for_its_numbers() -> None:
    assert matches("5 files: jazz 0.91", "12 files:  jazz 0.5\n")
    assert matches("a\n…\nz", "a\nanything\nat all\nz")
    assert not matches("5 files: jazz 0.91", "5 files: blues 0.91")
    assert not matches("5 files", "5 files and more")
    assert commands("$ one\nshown\n$ two\n") == [("one", "shown"), ("two", "")]


def _with_beets(desk: Desk) -> None:
    # A library of the album's tracks, as `beet import` has made it.
    pytest.importorskip("beets")
    folder = desk.home / "beets"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        f"directory: {desk.home / 'Music'}\nlibrary: {folder / 'library.db'}\n"
        "plugins: genrescope\nimport: {copy: no}\ngenrescope: {auto: no}\n",
        encoding="utf-8",
    )
    code, printed = desk.bash("beet import -qA ~/Music/album")
    assert code == 0, printed


OWNED = {"lament": "Chamber Music", "pulse": "Italo Disco", "shuffle": "Swing"}


def _with_an_owner_s_music(desk: Desk) -> None:
    # Excerpts of the samples, by four artists each; two in three have the owner's genre, one of
    # them a wrong one, and one has a placeholder.
    for name, genre in OWNED.items():
        samples, _ = load(genrescope.sample(name), SAMPLING_RATE)
        room = len(samples) - 6 * SAMPLING_RATE
        for number in range(24):
            start = room * number // 24
            artist = f"{name} artist {number % 4}".capitalize()
            place = desk.home / "Music" / artist / f"Album {number // 8 + 1}"
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"{number:02d}.flac"
            soundfile.write(path, samples[start : start + 6 * SAMPLING_RATE], SAMPLING_RATE)
            tags = mutagen.File(path)
            tags.update({"artist": artist, "album": place.name, "title": f"{genre} {number}"})
            if number % 3:
                tags["genre"] = genre
            if (name, number) in WRONG:
                tags["genre"] = WRONG[name, number]
            tags.save()


WRONG = {("shuffle", 5): "Chamber Music", ("pulse", 8): "Misc"}
"""What is wrong in the owner's tags."""

PREPARE: dict[str, Callable[[Desk], None]] = {
    "docs/beets.md": _with_beets,
    "docs/library.md": _with_an_owner_s_music,
}
"""What a page needs beside the music."""
