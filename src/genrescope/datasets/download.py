"""Download GTZAN's archive: resumable, with checksum, unpacked atomically.

The download is kept in ``genres.tar.gz.part`` and resumed next time; it is renamed once its MD5 is
right, and ``genres`` appears once everything is unpacked. So files with their final name are
complete.
"""

from __future__ import annotations

import gzip
import hashlib
import http
import http.client
import queue
import shutil
import tarfile
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from genrescope.datasets.facts import load_facts
from genrescope.errors import InputError

_FACTS = load_facts("gtzan")
ARCHIVE_NAME, ARCHIVE_PAGE = _FACTS.data["archive"], _FACTS.url
ARCHIVE_MD5, ARCHIVE_URLS = _FACTS.data["archive_md5"], tuple(_FACTS.data["archive_urls"])

Progress = Callable[[int, int | None], None]
"""Called with the bytes downloaded so far, and the size of the archive or None if unknown."""

_MAX_BYTES = 2**31  # of the archive; GTZAN's has 1.2 GB
_MAX_UNPACKED_BYTES, _MAX_MEMBERS = 2**32, 10_000  # of its contents; GTZAN's: 1.3 GB, 1,011
_BLOCK = 1 << 18
_ANSWER_SECONDS = 8.0
_SILENCE_SECONDS = 30.0
_OTHER_ARCHIVE = f"Delete it and get the archive from {ARCHIVE_PAGE}"
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


def get_gtzan(
    folder: Path,
    *,
    progress: Progress | None = None,
    urls: Sequence[str] = ARCHIVE_URLS,
    md5: str = ARCHIVE_MD5,
) -> Path:
    """Download the original archive of GTZAN and unpack it as ``genres`` in a folder.

    An archive that is already in the folder, such as one downloaded by a browser, is used instead
    of the network. An existing ``genres`` is never changed.

    Parameters
    ----------
    folder
        Target folder; created if missing. Needs about 2.6 GB of free space.
    progress
        Called as bytes arrive.
    urls
        Addresses of the archive, ``http`` or ``https``, tried in order.
    md5
        Expected MD5 of the archive, in hexadecimal digits.

    Returns
    -------
    Path
        The folder, fit for `genrescope.datasets.gtzan.read`.

    Raises
    ------
    InputError
        If no address yields the right archive (without a network, within seconds), the archive is
        not GTZAN's, or the folder cannot be written.
    """
    target, archive = folder / "genres", folder / ARCHIVE_NAME
    if target.is_dir():
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        by_hand = archive.exists()
        if by_hand:
            _check_archive(archive, md5)
        else:
            _download(archive, urls, md5, progress or _ignore)
        _unpack(archive, target)
        if not by_hand:
            archive.unlink()
    except OSError as error:
        cause = f"this folder cannot be filled ({error.strerror or error})"
        remedy = "Make room (2.6 GB), check its permissions, or choose another folder"
        raise InputError(folder, cause, remedy) from error
    return folder


def _ignore(_done: int, _total: int | None) -> None:
    """Ignore progress."""


def _download(archive: Path, urls: Sequence[str], md5: str, progress: Progress) -> None:
    """Fetch the archive from the first address that yields it, with the right MD5."""
    part = archive.with_name(f"{archive.name}.part")
    failures = []
    for url in urls:
        cause = _try_address(url, part, md5, progress)
        if cause is None:
            part.replace(archive)
            return
        failures.append(f"{url}: {cause}")
    raise InputError(
        archive,
        f"could not be downloaded ({'; '.join(failures) or 'no address given'})",
        "Run the command again once the network is back (it resumes the download), or download "
        f"{archive.name} manually from {ARCHIVE_PAGE} (Files, folder data), put it into "
        f"{archive.parent} and run the command again",
    )


def _try_address(url: str, part: Path, md5: str, progress: Progress) -> str | None:
    """Complete the partial file from one address; return why that failed, or None."""
    if not url.startswith(("https://", "http://")):
        return "not an http or https address"
    cause = _complete(url, part, progress)
    if cause is not None:
        return cause
    found = _md5(part)
    if found != md5:
        part.unlink()
        return f"the download is not the archive (MD5 {found} instead of {md5}) and was deleted"
    return None


def _complete(url: str, part: Path, progress: Progress) -> str | None:
    """Fetch the missing bytes, retrying while each attempt makes progress; return why it failed."""
    while True:
        before = _size(part)
        try:
            total = _fetch(url, part, progress)
        except _NETWORK_ERRORS as error:
            cause = _in_words(error)
        else:
            if total is None or _size(part) >= total:
                return None
            cause = f"the connection was cut after {_size(part):,} of {total:,} bytes"
        if _size(part) <= before:
            return cause


def _fetch(url: str, part: Path, progress: Progress) -> int | None:
    """Append to the partial file until the server stops; return the whole archive's size."""
    done = _size(part)
    request = urllib.request.Request(url)  # noqa: S310  the scheme was checked above
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        response = _open(request)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{done}":
            return done  # nothing is missing
        part.unlink()  # not the beginning of this archive
        return _fetch(url, part, progress)
    with response:
        resumes = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if not (resumes and response.status == http.HTTPStatus.PARTIAL_CONTENT):
            done = 0
        total = None if response.length is None else done + response.length
        _check_size(total or 0)
        with part.open("ab" if done else "wb") as file:
            progress(done, total)
            for block in _blocks(response):
                done += len(block)
                _check_size(done)
                file.write(block)
                progress(done, total)
    return total


def _check_size(size: int) -> None:
    if size > _MAX_BYTES:
        raise http.client.HTTPException(
            f"the server sends more than {_MAX_BYTES:,} bytes, so it is not the archive"
        )


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Send a request, with a timeout for all steps."""
    # urlopen's own timeout does not cover the DNS lookup, which without a network can take a
    # minute; a daemon thread may remain with it.
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=_SILENCE_SECONDS))  # noqa: S310
        except Exception as error:  # noqa: BLE001  raised by the caller
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_ANSWER_SECONDS)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the received bytes; network failures are ConnectionErrors, never bare OSErrors."""
    while True:
        try:
            block = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(_in_words(error)) from error
        if not block:
            return
        yield block


def _in_words(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def _check_archive(archive: Path, md5: str) -> None:
    found = _md5(archive)
    if found != md5:
        cause = f"this is not GTZAN's original archive (MD5 {found} instead of {md5})"
        raise InputError(archive, cause, "Delete it and run the command again")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the archive's folder ``genres`` beside its target, then rename it."""
    unpacked = target.with_name(f"{target.name}.part")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            size = 0
            for count, member in enumerate(tar, 1):
                size += member.size
                if size > _MAX_UNPACKED_BYTES or count > _MAX_MEMBERS:
                    limits = f"{_MAX_UNPACKED_BYTES:,} bytes or {_MAX_MEMBERS:,} files"
                    cause = f"more than {limits} are in it, so nothing was unpacked"
                    raise InputError(archive, cause, _OTHER_ARCHIVE)
                _unpack_member(tar, member, unpacked, archive)
        if not (unpacked / "genres").is_dir():
            raise InputError(archive, "there is no folder genres in it", _OTHER_ARCHIVE)
        (unpacked / "genres").rename(target)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        cause = f"the archive cannot be unpacked ({error})"
        raise InputError(archive, cause, _OTHER_ARCHIVE) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path
) -> None:
    """Write one member of the archive; refuse the archive if the member is unsafe."""
    for path in (PurePosixPath(member.name), PureWindowsPath(member.name)):
        if path.anchor or ".." in path.parts:
            cause = f"its member {member.name!r} would be written outside the folder"
            raise InputError(archive, f"{cause}, so nothing was unpacked", _OTHER_ARCHIVE)
    destination = folder / member.name
    if member.isdir():
        destination.mkdir(parents=True, exist_ok=True)
        return
    # Only contents are written, without owners, modes and links: like tarfile's data filter, which
    # Python 3.11.0 to 3.11.3 lack.
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        cause = f"its member {member.name!r} is neither file nor folder"
        raise InputError(archive, f"{cause}, so nothing was unpacked", _OTHER_ARCHIVE)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with content, destination.open("wb") as file:
        shutil.copyfileobj(content, file)
