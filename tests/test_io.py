"""Texts that are written and read back, and the places that files are written to."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrescope.errors import InputError
from genrescope.io import (
    CsvReader,
    CsvWriter,
    cell,
    check_folder,
    check_output,
    markdown_text,
    read_back,
    read_cell,
    to_json,
    whole,
    write_text,
    written,
)
from genrescope.tagging.formats import is_genre
from genrescope.tagging.plan import Step, open_plan, write_plan

SIGNS = "\\u0019abcdef;,\t\r\n\v'\"=+-@|# \x00\x1b\x9b\ud800\udce9\u202e＝＋－＠\ufeff"
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from(SIGNS)), max_size=30)
GENRES = st.lists(TEXTS.filter(bool), max_size=4, unique=True).map(tuple)
POSIX = pytest.mark.skipif(os.name != "posix", reason="only POSIX has them")


@given(TEXTS)
def test_a_cell_is_read_back_and_is_no_formula(text: str) -> None:
    made = cell(written(text))
    made.encode()
    assert read_back(read_cell(made)) == text
    assert made.lstrip(" \"'\ufeff")[:1] not in {*"=+-@＝＋－＠"} or made[0] == "'"


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_row_is_one_row_to_any_reader(cells: list[str]) -> None:
    out = io.StringIO(newline="")
    CsvWriter(out).row(*cells, 1, -0.5, None)
    ((*found, one, half, none),) = CsvReader(io.StringIO(out.getvalue(), newline=""))
    assert [read_back(read_cell(text)) for text in found] == cells
    assert (one, half, none) == ("1", "-0.5", "")


@given(TEXTS)
def test_json_is_utf8_that_gives_the_text_back(text: str) -> None:
    for encoding in ("utf-8", "cp1252", "ascii"):
        made = to_json(text, encoding=encoding)
        assert json.loads(made.encode(encoding)) == json.loads(json.dumps(text))
        assert not {*made} & {*"\x1b\x9b\n\r\u202e"}


@given(
    TEXTS.filter(lambda name: name.strip("/.") and not {"/", "\0"} & {*name}), GENRES, GENRES, TEXTS
)
def test_a_plan_that_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    old: tuple[str, ...],
    new: tuple[str, ...],
    folder: str,
) -> None:
    file = tmp_path_factory.mktemp("plan") / "p.csv"
    library = Path("/") / folder.replace("\0", "").lstrip("/")
    new = tuple(filter(is_genre, new))  # a plan with other genres to be written is refused
    said = (f"b {name}", "; ".join(old), folder, "=1")
    step = Step("write", name, old, ("Rock", *new), 0.5, f"a {name}", "v1-2-3-4-1", *said)
    leave = Step("review", name, old, (), None, f"a {name}", "v1-2-3-4-1", *said)
    write_plan(file, library, [step, leave])
    plan = open_plan(file)
    assert plan.library == library
    expected = Step(
        *(
            *(getattr(step, n) for n in ("action", "path", "old")),
            tuple(dict.fromkeys(step.new)),
            0.5,
            step.reason,
            step.stamp,
            *said,
        )
    )
    assert list(plan.steps()) == [expected, leave]


def test_a_plan_of_the_former_format_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "# genrescope tag plan, format 1\n# library: /music\n"
        "action,path,old,new,confidence,reason,stamp\n"
        "write,'=a\\u0041.mp3,,'=Rock,0.9,no genre,v1-2\n"
    )
    (step,) = open_plan(tmp_path / "p.csv").steps()
    assert (step.path, step.new, step.stamp) == ("'=a\\u0041.mp3", ("'=Rock",), "v1-2")


def test_a_plan_without_evidence_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "# genrescope tag plan, format 2\n# library: /music\n"
        "action,path,old,new,confidence,reason,stamp\n"
        "write,\\u0041.mp3,,'=Rock,0.9,no genre,v1-2-3-4-1\n"
    )
    (step,) = open_plan(tmp_path / "p.csv").steps()
    assert (step.path, step.new, step.audio, step.album) == ("A.mp3", ("=Rock",), "", "")


def test_a_plan_saved_by_a_spreadsheet_with_semicolons_is_read(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    step = Step("write", "=1;+2.mp3", ("@a", "b"), ("=c",), 0.5, "x", "v1-2-3-4-1")
    write_plan(file, Path('/my, "music;"'), [step])
    rows = list(CsvReader(io.StringIO(file.read_text(), newline="")))
    text = io.StringIO(newline="")
    width = max(map(len, rows))
    csv.writer(text, delimiter=";").writerows([*row, *[""] * (width - len(row))] for row in rows)
    file.write_text("\ufeff" + text.getvalue(), newline="")
    plan = open_plan(file)
    assert plan.library == Path('/my, "music;"')
    assert list(plan.steps()) == [step]


@pytest.mark.parametrize("name", ["a|b", "[x](y)", "<b>", "`c`", "_d_", "a*b*", "&copy;", "\\"])
def test_names_in_markdown_are_shown_word_for_word(name: str) -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(f"| h |\n| - |\n| {markdown_text(name)} |\n")
    shown = [token for token in tokens if token.type == "inline"][-1]
    assert "".join(child.content for child in shown.children) == name
    assert {child.type for child in shown.children} <= {"text", "text_special"}


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    out.write_text("old")
    out.chmod(0o640)
    with pytest.raises(ZeroDivisionError), write_text(out) as file:
        file.write(f"half {1 / 0}")
    assert out.read_text() == "old"
    with write_text(out) as file:
        file.write("new")
    assert out.read_text() == "new"
    assert [*tmp_path.iterdir()] == [out]
    if os.name == "posix":
        assert stat.S_IMODE(out.stat().st_mode) == 0o640


@POSIX
def test_a_link_leads_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for target in ("real/there.csv", "real/new.csv"):
        link = tmp_path / f"link to {Path(target).name}"
        link.symlink_to(target)
    (tmp_path / "real" / "there.csv").write_text("old")
    for link in sorted(tmp_path.glob("link*")):
        with write_text(link) as file:
            file.write("new")
        assert link.is_symlink()
        assert link.read_text() == "new"
    assert {path.name for path in (tmp_path / "real").iterdir()} == {"there.csv", "new.csv"}


@POSIX
def test_a_pipe_gets_what_is_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    with write_text(pipe) as file:
        file.write("through")
    reader.join(10)
    assert got == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_an_open_file_of_the_process_is_written_on(tmp_path: Path) -> None:
    with (tmp_path / "log").open("a") as log:
        log.write("before\n")
        log.flush()
        link = tmp_path / "link"
        link.symlink_to(f"/proc/self/fd/{log.fileno()}")
        with write_text(link) as file:
            file.write("through\n")
        log.write("after\n")
    assert (tmp_path / "log").read_text() == "before\nthrough\nafter\n"


@POSIX
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("none/o.csv", "does not exist"),
        ("file/o.csv", "Not a directory"),
        ("folder", "it is a folder"),
        ("socket", "it is a socket"),
        ("loop", "symbolic links"),
        ("n" * 256, "name too long"),
        ("\0", "null byte"),
        ("dangling", "does not exist"),
    ],
)
def test_places_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cause: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("none/o.csv")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as opened:  # whose path must be short
        opened.bind("socket")
    before = sorted(tmp_path.iterdir())
    for refuse in (check_output, lambda path: whole(path).__enter__()):
        with pytest.raises(InputError, match=f"(?i){cause}.*--out"):
            refuse(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_folders_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new" / "deep")
    check_folder(tmp_path)
    for name in ("file", "file/model", "file/deep/model"):
        with pytest.raises(InputError, match="not a folder"):
            check_folder(tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may do anything")
def test_what_may_not_be_written_is_refused(tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "mine").write_text("old")
    sealed.chmod(0o555)
    for refuse in (check_output, check_folder):
        with pytest.raises(InputError, match="may not be written to"):
            refuse(sealed / "new")
    with write_text(sealed / "mine") as file:  # the file itself may be
        file.write("new")
    assert (sealed / "mine").read_text() == "new"
