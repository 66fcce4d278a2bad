"""Vorbis comments: FLAC and Ogg."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mutagen import FileType
from mutagen.flac import FLAC, Padding, StreamInfo, VCFLACDict
from mutagen.ogg import OggPage
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggtheora import OggTheora
from mutagen.oggvorbis import OggVorbis

from genrescope.audio.ranges import Container, blocks, flac_blocks, ogg_headers, ogg_streams
from genrescope.tagging.formats.common import digest, digest_of, replaced, words
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot

_NO_REST = {b"", b"\1"}  # Vorbis ends the comments with a set bit


class _PlainFLAC(FLAC):
    """Copies all blocks but the comments as bytes."""

    METADATA_BLOCKS = [StreamInfo, Padding, None, None, VCFLACDict, None, None]  # noqa: RUF012


def _comments(block: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Parse a comment block: vendor, comments, and what follows before the padding."""
    (size,) = struct.unpack_from("<I", block, 0)
    vendor, at = block[4 : 4 + size], 4 + size
    (count,) = struct.unpack_from("<I", block, at)
    at += 4
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from("<I", block, at)
        found.append(block[at + 4 : at + 4 + size])
        at += 4 + size
    if at > len(block):
        raise ValueError("the comments are cut off")
    return vendor, found, block[at:].rstrip(b"\0")


def _is_genre(comment: bytes) -> bool:
    return comment[:6].upper() == b"GENRE="


def _comment_refusal(block: bytes) -> str | None:
    """Return what mutagen would not copy byte for byte, or None."""
    vendor, comments, rest = _comments(block)
    if rest not in _NO_REST:
        return "unknown data follows its comments"
    try:
        texts = [vendor.decode(), *(comment.decode() for comment in comments)]
    except UnicodeDecodeError:
        return "it has comments that are not in UTF-8"
    keys = [text.partition("=") for text in texts[1:]]
    if not all(sep and key and all(" " <= c <= "}" for c in key) for key, sep, _ in keys):
        return "it has comments without a name"
    return None


def _comment_others(block: bytes) -> Snapshot:
    vendor, comments, rest = _comments(block)
    kept = [digest(comment) for comment in comments if not _is_genre(comment)]
    found = {"vendor": [vendor], "comments": kept}
    if rest not in _NO_REST:
        found["after the comments"] = [digest(rest)]
    return found


def _set_comments(comments: Any, genres: list[str]) -> None:
    """Replace the genres in mutagen's list of comments; the order of the others stays."""

    def is_genre(item: tuple[str, str]) -> bool:
        return item[0].upper() == "GENRE"

    key = next((item[0] for item in comments if is_genre(item)), "GENRE")
    comments[:] = replaced(list(comments), is_genre, [(key, genre) for genre in genres])


def _comment_genres(comments: Any) -> list[str]:
    return words([value for key, value in comments or () if key.upper() == "GENRE"])


def _flac_comments(path: Path) -> bytes:
    found = [(start, stop) for code, start, stop in flac_blocks(path) if code == 4]
    return b"".join(blocks(path, found[:1])) or bytes(8)  # an empty block if there is none


def _flac_read(path: Path) -> list[str]:
    return _comment_genres(_PlainFLAC(path).tags)


def _flac_refusal(path: Path) -> str | None:
    _PlainFLAC(path)
    return _comment_refusal(_flac_comments(path))


def _flac_write(path: Path, genres: list[str]) -> None:
    file = _PlainFLAC(path)
    is_new = file.tags is None
    if is_new:
        file.add_tags()
    comments: Any = file.tags
    if is_new:
        comments.vendor = ""  # mutagen did not encode the file
    _set_comments(comments, genres)
    file.save()


def _flac_others(path: Path) -> Snapshot:
    _PlainFLAC(path)
    found: Snapshot = defaultdict(list)
    for code, start, stop in flac_blocks(path):
        if code not in {1, 4}:  # padding, comments
            found[f"FLAC {code}"].append(digest_of(path, (start, stop)))
    return dict(found) | _comment_others(_flac_comments(path))


_OGG_FORMATS: dict[bytes, tuple[Callable[..., FileType], int]] = {
    b"\x01vorbis": (OggVorbis, 7),
    b"OpusHead": (OggOpus, 8),
    b"Speex   ": (OggSpeex, 0),
    b"\x7fFLAC": (OggFLAC, 4),
    b"\x80theora": (OggTheora, 7),
}
"""By the first bytes of the first packet: the class, and the offset of the comments."""


def _ogg_headers(path: Path) -> list[bytes]:
    """Return the header packets of a file's first stream."""
    pages: list[OggPage] = []
    packets: list[bytes] = []
    with path.open("rb") as file:
        while not packets or len(packets) < ogg_headers(packets[0]) or not pages[-1].complete:
            page = OggPage(file)
            if not pages or page.serial == pages[0].serial:
                pages.append(page)
                packets = OggPage.to_packets(pages)
                if len(packets) > max(ogg_headers(packets[0]), 1):
                    break
    return packets[: ogg_headers(packets[0])]


def _ogg_format(packets: list[bytes]) -> tuple[Callable[..., FileType], int]:
    for begin, form in _OGG_FORMATS.items():
        if len(packets) > 1 and packets[0].startswith(begin):
            return form
    raise ValueError("its codec is unknown, or it has no comments")


def _ogg_comments(packets: list[bytes]) -> bytes:
    return packets[1][_ogg_format(packets)[1] :]


def _ogg_read(path: Path) -> list[str]:
    return _comment_genres(_ogg_format(_ogg_headers(path))[0](path).tags)


def _ogg_refusal(path: Path) -> str | None:
    packets = _ogg_headers(path)
    _ogg_format(packets)[0](path)
    if len(ogg_streams(path)) > 1:
        return "it holds several streams, whose tags genrescope does not write"
    return _comment_refusal(_ogg_comments(packets))


def _ogg_write(path: Path, genres: list[str]) -> None:
    file = _ogg_format(_ogg_headers(path))[0](path)
    _set_comments(file.tags, genres)
    file.save()


def _ogg_others(path: Path) -> Snapshot:
    packets = _ogg_headers(path)
    _ogg_format(packets)[0](path)
    found = {"Ogg headers": [digest(packet) for packet in (packets[0], *packets[2:])]}
    return found | _comment_others(_ogg_comments(packets))


FORMATS[Container.FLAC] = Format(_flac_read, _flac_refusal, _flac_write, _flac_others)
FORMATS[Container.OGG] = Format(_ogg_read, _ogg_refusal, _ogg_write, _ogg_others)
