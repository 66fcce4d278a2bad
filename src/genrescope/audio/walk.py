"""Folders of music: what lies in them, in one way for all commands.

Hidden files and folders, and those that systems make for themselves, are left out. Links to files
are followed; links to folders are not, as they may lead in circles or out, but they are named. What
cannot be looked into is named and costs itself alone. Nothing is opened but regular files of
unknown endings, to see whether they are audio that is passed over.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from genrescope.audio.formats import EXTENSIONS, looks_like_audio
from genrescope.errors import InputError
from genrescope.system import READ_FLAGS

# What lies beside music. Files of other endings are looked into, which takes a while each.
_NEVER_AUDIO = re.compile(
    r"(jpe?g|png|gif|webp|bmp|tiff?|svg|ico|pdf|txt|nfo|log|cue|m3u8?|pls|xspf|wpl|md|rst|html?|xml|"
    r"jsonl?|csv|tsv|ya?ml|toml|ini|db|db-wal|db-shm|sqlite|lock|url|lnk|docx?|odt|rtf|accurip|sfv|"
    r"md5|sha256|ffp|lrc|srt|ass|sub|idx|zip|rar|7z|gz|tar|py|sh|exe|dll|np[yz]|onnx|safetensors|"
    r"parquet|torrent|peak|pk|asd|als|rpp|reapeaks)"
)


_SYSTEM = frozenset(
    {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that is audio by its name.

    Attributes
    ----------
    path
        Where it lies.
    name
        The last part of that.
    size
        In bytes; -1 if it could not be had, as of a link that leads nowhere.
    mtime_ns
        Time of its last change in ns; 0 if it could not be had.
    """

    path: str
    name: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class FoundFolder:
    """What lies in a folder.

    Attributes
    ----------
    path
        Of the folder.
    files
        Audio by their names, sorted by them.
    passed_over
        Paths of files that begin like audio and have no ending of it.
    links
        Paths of links to folders, which are not followed.
    fault
        Why it could not be looked into; then all else is empty.
    """

    path: str
    files: list[FoundFile] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    fault: InputError | None = None


def walk(top: str | os.PathLike[str], *, recursive: bool = True) -> Iterator[FoundFolder]:
    """Look into a folder and, if asked, all below: a folder before those in it, sorted by name.

    Parameters
    ----------
    top
        A folder, or a link to one.
    recursive
        Whether to look into subfolders.
    """
    waiting = [os.fspath(top)]
    while waiting:
        found = FoundFolder(waiting.pop())
        below: list[str] = []
        try:
            with os.scandir(found.path) as inside:
                for item in sorted(inside, key=lambda item: item.name):
                    if not is_hidden(item.name):
                        _sort(item, found, below)
        except OSError as error:
            cause = f"it cannot be read ({error.strerror or error})"
            fault = InputError(Path(found.path), cause, "Check that you may read it")
            yield FoundFolder(found.path, fault=fault)
            continue
        if recursive:
            waiting += reversed(below)
        yield found


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is hidden, or one that a system makes for itself."""
    return name.startswith(".") or name in _SYSTEM


def _sort(item: os.DirEntry[str], found: FoundFolder, below: list[str]) -> None:
    if item.is_dir(follow_symlinks=False):
        below.append(item.path)
        return
    ending = PurePath(item.name).suffix.lower()
    if ending not in EXTENSIONS and _NEVER_AUDIO.fullmatch(ending[1:]):
        return
    try:
        status = item.stat()
    except OSError:  # a link that leads nowhere, in a circle, or where one may not look
        status = None
    if status is not None and stat.S_ISDIR(status.st_mode):
        found.links.append(item.path)
    elif ending in EXTENSIONS:
        size, mtime_ns = (status.st_size, status.st_mtime_ns) if status else (-1, 0)
        found.files.append(FoundFile(item.path, item.name, size, mtime_ns))
    elif status is not None and stat.S_ISREG(status.st_mode) and _begins_like_audio(item.path):
        found.passed_over.append(item.path)


def _begins_like_audio(path: str) -> bool:
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError:
        return False
    try:
        return looks_like_audio(os.read(descriptor, 16))
    except OSError:
        return False
    finally:
        os.close(descriptor)
