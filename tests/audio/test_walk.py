"""One walk for all commands: what it gives, leaves out, names and never opens."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import commands
import genrescope
from genrescope import system
from genrescope.audio.walk import walk
from genrescope.classifier import Classifier
from genrescope.classifier.batch import find_audio
from genrescope.cluster.lists import list_files
from genrescope.datasets.findings import list_audio
from genrescope.library import scan
from genrescope.library.catalogue import Catalogue

NOBODY = 65534
Give = Callable[[Path], tuple[set[Path], set[Path]]]


def by_scan(folder: Path) -> tuple[set[Path], set[Path]]:
    library = scan.open_library(folder)
    with Catalogue(folder.parent / "library.db", write=True) as catalogue:
        found = scan.survey(catalogue, library)
        model = catalogue.model(Classifier.default())
        files = {file.path for file in catalogue.waiting(str(library), model)}
    named = {error.path for error in found.unreadable} | set(map(Path, found.passed_over))
    return files, named


def by_classify(folder: Path) -> tuple[set[Path], set[Path]]:
    passed_over: list[str] = []
    files = set(find_audio([folder], recursive=True, passed_over=passed_over.append))
    # A folder that cannot be read is given like a file, and is an error when it is opened.
    unreadable = {path for path in files if os.path.isdir(path) or len(str(path)) > 2000}  # noqa: PTH112
    return files - unreadable, unreadable | set(map(Path, passed_over))


def by_train(folder: Path) -> tuple[set[Path], set[Path]]:
    found = list_audio(folder)
    named = {finding.path for finding in found.unused}
    return set(found.audio) | {path for path in named if path.suffix == ".mp3"}, {
        path for path in named if path.suffix != ".mp3"
    }


def by_cluster(folder: Path) -> tuple[set[Path], set[Path]]:
    files = {Path(file.path) for file in list_files(str(folder))}
    return {path for path in files if not os.path.isdir(path)}, set()  # noqa: PTH112


EVERY = [by_scan, by_classify, by_train, by_cluster]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "music"
    put(folder / "a" / "1.mp3")
    put(folder / "2.FLAC")
    return folder


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(genrescope.sample("pulse"), path)


def names(folder: Path, paths: set[Path]) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in paths}


@pytest.mark.parametrize("give", EVERY)
def test_hidden_files_and_what_systems_make_are_left_out(music: Path, give: Give) -> None:
    for name in (
        "._1.mp3",
        ".hidden.mp3",
        ".Trash-1000/files/1.mp3",
        "a/.git/1.mp3",
        "__MACOSX/1.mp3",
        "a/@eaDir/1.mp3/SYNOAUDIO.mp3",
        "lost+found/1.mp3",
        "$RECYCLE.BIN/1.mp3",
        "System Volume Information/1.mp3",
    ):
        put(music / name)
    files, named = give(music)
    assert names(music, files) == {"a/1.mp3", "2.FLAC"}
    assert named == set()


def test_a_hidden_folder_that_is_named_is_looked_into(tmp_path: Path) -> None:
    put(tmp_path / ".music" / "1.mp3")
    for give in EVERY:
        assert give(tmp_path / ".music")[0] == {tmp_path / ".music" / "1.mp3"}


@pytest.mark.parametrize("give", EVERY)
def test_links_to_files_are_followed_and_links_to_folders_named(music: Path, give: Give) -> None:
    put(music.parent / "outside" / "3.mp3")
    (music / "file.mp3").symlink_to(music.parent / "outside" / "3.mp3")
    (music / "folder").symlink_to(music.parent / "outside")
    (music / "a" / "loop").symlink_to(music)
    (music / "a" / "folder named.mp3").symlink_to(music.parent / "outside")
    files, named = give(music)
    assert names(music, files) - {"a/folder named.mp3"} == {"a/1.mp3", "2.FLAC", "file.mp3"}
    if give is not by_cluster:  # which has no place to name them in
        links = {"folder", "a/loop", "a/folder named.mp3"}
        assert names(music, named | files) >= links


@pytest.mark.parametrize("give", EVERY)
def test_the_folder_itself_may_be_a_link(music: Path, give: Give) -> None:
    link = music.parent / "link"
    link.symlink_to(music)
    files, _ = give(link)
    assert {path.resolve() for path in files} == {music / "a/1.mp3", music / "2.FLAC"}


@pytest.mark.parametrize("give", EVERY)
def test_a_link_that_cannot_be_followed_costs_itself(music: Path, give: Give) -> None:
    (music / "nowhere.mp3").symlink_to(music / "gone.mp3")
    (music / "itself.mp3").symlink_to("itself.mp3")
    (music / "one.mp3").symlink_to("other.mp3")
    (music / "other.mp3").symlink_to("one.mp3")
    (music / "long.mp3").symlink_to("n" * 300)
    (music / "through a file.mp3").symlink_to(music / "2.FLAC" / "x.mp3")
    (music / "no audio.jpg").symlink_to("gone.jpg")
    files, named = give(music)
    broken = {"nowhere.mp3", "itself.mp3", "one.mp3", "other.mp3", "long.mp3", "through a file.mp3"}
    assert names(music, files) == {"a/1.mp3", "2.FLAC", *broken}
    assert named == set()


def sockets(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def devices(path: Path) -> None:
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero
    except OSError:
        path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (os.mkfifo, "it is a pipe, not a regular file"),
        (sockets, "it is a socket, not a regular file"),
        (devices, "it is a device, not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a regular file"),
    ],
    ids=["pipe", "socket", "device", "link to a device"],
)
@pytest.mark.parametrize(
    "words",
    [
        ("classify", "-r", "music"),
        ("scan", "music", "--db", "library.db"),
        ("similar", "music/2.FLAC", "--library", "music", "--db", "library.db"),
        ("data", "check", "music", "--all"),
    ],
    ids=lambda words: words[0],
)
def test_only_regular_files_are_opened(
    music: Path, words: tuple[str, ...], make: Callable[[Path], None], shown: str
) -> None:
    make(music / "a" / "odd.mp3")
    make(music / "a" / "odd with no ending")
    done = command(*words, cwd=music.parent)
    said = " ".join((done.stdout + done.stderr).split())
    assert f"odd.mp3: {shown}" in said
    assert "no ending" not in said
    assert "Traceback" not in said
    if words[0] != "data":
        assert done.returncode == (0 if words[0] == "similar" else 1)


def command(*words: str, cwd: Path, user: int = 0) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "1000", "NO_COLOR": "1"}
    if user:
        return commands.process(*words, cwd=cwd, env=env, timeout=60, user=user)
    return commands.run(*words, cwd=cwd, env=env, timeout=60)


@pytest.mark.parametrize("give", EVERY)
def test_a_folder_named_like_audio_is_a_folder(music: Path, give: Give) -> None:
    put(music / "album.mp3" / "3.mp3")
    files, _ = give(music)
    assert names(music, files) == {"a/1.mp3", "2.FLAC", "album.mp3/3.mp3"}


@pytest.fixture(params=[("d", 1500), ("a folder of some length", 300)], ids=["many", "long"])
def deep(request: pytest.FixtureRequest, music: Path) -> Iterator[str]:
    """Make folders within folders; of long names more than a path may have; give the name."""
    name, depth = request.param
    here = os.open(music, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    put(music / name / name / "deep.mp3")
    yield name
    subprocess.run(["rm", "-rf", music / name], check=True)  # Python's own way is recursive


@pytest.mark.skipif(os.mkdir not in os.supports_dir_fd, reason="makes paths of any length")
@pytest.mark.parametrize("give", EVERY)
def test_folders_within_folders_within_folders(music: Path, deep: str, give: Give) -> None:
    files, named = give(music)
    files = {path for path in files if len(str(path)) < 2000}
    assert names(music, files) == {"a/1.mp3", "2.FLAC", f"{deep}/{deep}/deep.mp3"}
    if give is not by_cluster:
        assert len(named) == (0 if deep == "d" else 1)


def refusing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    # Permission bits do not stop everybody.
    listed = os.scandir

    def refuse(path: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize("give", EVERY)
def test_a_folder_that_cannot_be_read_is_named_and_costs_itself(
    music: Path, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(music / "locked" / "3.mp3")
    refusing(monkeypatch, music / "locked")
    files, named = give(music)
    assert names(music, files) == {"a/1.mp3", "2.FLAC"}
    if give is by_cluster:  # it stands for what it holds, so that it ends as an error
        paths = {Path(file.path) for file in list_files(str(music))}
        assert music / "locked" in paths
    else:
        assert names(music, named) == {"locked"}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not Path("/proc/self").exists(),
    reason="another user's rights can only be tried out as root",
)
def test_a_link_into_a_folder_that_may_not_be_entered_costs_itself(tmp_path: Path) -> None:
    music = tmp_path / "music"
    put(music / "1.mp3")
    put(tmp_path / "private" / "2.mp3")
    (music / "2.mp3").symlink_to(tmp_path / "private" / "2.mp3")
    (music / "private").symlink_to(tmp_path / "private" / "below")
    (tmp_path / "private").chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    pid = os.fork()
    if not pid:  # which has all that it needs in memory
        code = 1
        try:
            os.setgroups([])
            os.setuid(NOBODY)
            (found,) = walk(music)
            sizes = {file.name: file.size for file in found.files}
            code = 0 if sizes == {"1.mp3": (music / "1.mp3").stat().st_size, "2.mp3": -1} else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


HEADS = {
    "without ending": b"ID3\x04\x00\x00",
    "song.mp3.bak": b"ID3\x03\x00\x00",
    "song.mp3.part": b"\xff\xfb\x90\x64",
    "flac.file": b"fLaC\x00\x00\x00\x22",
    "wav.old": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "ogg.1": b"OggS\x00\x02",
    "m4a.x": b"\x00\x00\x00\x20ftypM4A ",
    "film.x": b"\x00\x00\x00\x20ftypisom",
}


@pytest.mark.parametrize("give", EVERY)
def test_what_looks_like_audio_and_is_passed_over_is_named(music: Path, give: Give) -> None:
    for name, head in HEADS.items():
        (music / "a" / name).write_bytes(head + bytes(100))
    for name in ("notes.txt", "cover.jpg", "list.m3u", "library.db", "README", "x.dat"):
        (music / "a" / name).write_bytes(b"something else")
    (music / "a" / "empty").touch()
    files, named = give(music)
    assert names(music, files) == {"a/1.mp3", "2.FLAC"}
    if give is not by_cluster:
        assert names(music, named) == {f"a/{name}" for name in HEADS}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("classify", "-r", "music"), 0),
        (("scan", "music", "--db", "library.db"), 0),
        (("similar", "music/2.FLAC", "--library", "music", "--db", "library.db"), 0),
    ],
    ids=["classify", "scan", "similar"],
)
def test_commands_say_what_they_passed_over(music: Path, words: tuple[str, ...], code: int) -> None:
    for number in range(5):
        put(music / "a" / f"{number} no ending")
    (music / "a" / "around").symlink_to(music)
    done = command(*words, cwd=music.parent)
    assert done.returncode == code
    assert "Skipped 6" in done.stderr
    assert str(Path("a", "0 no ending")) in done.stderr
    assert "and 3 more" in done.stderr
    assert ("Name them to include them" in done.stderr) == (words[0] != "scan")


def test_junctions_of_windows_are_reported_and_not_followed(
    music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Junction:
        """A junction that leads back to where it lies, as os.scandir of Windows gives it."""

        name, path = "around", str(music / "around")

        def is_dir(self, *, follow_symlinks: bool = True) -> bool:
            return True

        def stat(self, *, follow_symlinks: bool = True) -> SimpleNamespace:
            return SimpleNamespace(st_reparse_tag=0xA0000003)

    scandir = os.scandir

    @contextmanager
    def listed(folder: str) -> Iterator[list[Any]]:
        with scandir(folder) as inside:
            yield [*inside, Junction()] if folder == str(music) else [*inside]

    monkeypatch.setattr(system, "IS_WINDOWS", True)
    monkeypatch.setattr(os, "scandir", listed)
    top, *others = walk(music)
    assert top.links == [str(music / "around")]
    assert [folder.path for folder in others] == [str(music / "a")]


def test_json_goes_to_standard_output_alone(music: Path) -> None:
    put(music / "no ending")
    done = command("classify", "-r", "music", "--json", cwd=music.parent)
    assert len(json.loads(done.stdout)) == 2
    assert "no ending" in done.stderr


def test_the_order_is_that_of_names_and_a_folder_comes_before_those_in_it(music: Path) -> None:
    for name in ("b/z.mp3", "b/A.mp3", "b/c/1.mp3", "z.mp3", "B/1.mp3"):
        put(music / name)
    found = [Path(file.path) for folder in walk(music) for file in folder.files]
    assert [path.relative_to(music).as_posix() for path in found] == [
        "2.FLAC",
        "z.mp3",
        "B/1.mp3",
        "a/1.mp3",
        "b/A.mp3",
        "b/z.mp3",
        "b/c/1.mp3",
    ]
    assert [folder.path for folder in walk(music, recursive=False)] == [str(music)]
