"""Find the audio files in folders, in the same way for all commands.

Hidden files and folders, and those of the system, are skipped. Links to files are followed; links
to folders are reported but not followed, as they may form cycles or lead outside. Unreadable
folders are reported, and the walk continues. Only regular files with unknown extensions are
opened, to report those that look like audio.
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
from genrescope.system import READ_FLAGS, is_junction

# Extensions of files that are not opened. Opening every other file takes time.
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
        Path of the file.
    name
        Its last part.
    size
        In bytes; -1 if unknown, as for a broken link.
    mtime_ns
        Modification time in ns; 0 if unknown.
    """

    path: str
    name: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class FoundFolder:
    """Contents of a folder.

    Attributes
    ----------
    path
        Of the folder.
    files
        Audio files by their names, sorted by name.
    passed_over
        Paths of files that look like audio but have no audio extension.
    links
        Paths of links to folders, which are not followed.
    fault
        Why it could not be read; then all else is empty.
    """

    path: str
    files: list[FoundFile] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    fault: InputError | None = None


def walk(top: str | os.PathLike[str], *, recursive: bool = True) -> Iterator[FoundFolder]:
    """List a folder and, optionally, its subfolders, in preorder and sorted by name.

    Parameters
    ----------
    top
        A folder, or a link to one.
    recursive
        Whether to recurse into subfolders.
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
    """Return whether a file or folder is hidden, or belongs to the system."""
    return name.startswith(".") or name in _SYSTEM


def _sort(item: os.DirEntry[str], found: FoundFolder, below: list[str]) -> None:
    if item.is_dir(follow_symlinks=False):
        (found.links if is_junction(item) else below).append(item.path)
        return
    ending = PurePath(item.name).suffix.lower()
    if ending not in EXTENSIONS and _NEVER_AUDIO.fullmatch(ending[1:]):
        return
    try:
        status = item.stat()
    except OSError:  # a broken or cyclic link, or no permission
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
