"""MP3, AAC and True Audio: ID3v2 in front, APEv2 and ID3v1 behind."""

from __future__ import annotations

from pathlib import Path

from mutagen.aac import AAC
from mutagen.id3 import ID3, ID3NoHeaderError
from mutagen.mp3 import MP3
from mutagen.trueaudio import TrueAudio

from genrescope.audio.ranges import Container, audio_ranges
from genrescope.tagging.formats import ape_tag, id3
from genrescope.tagging.formats.common import digest_of, head_of
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot
from genrescope.tagging.formats.id3v1 import v1_frames, v1_genres, write_v1
from genrescope.tagging.formats.internals import resize_bytes

_MAIN = {b"title", b"artist", b"album"}
"""An APE tag with these would be hidden by an ID3v2 tag built from an ID3v1 tag."""


def _check(path: Path) -> None:
    head = head_of(path)
    if head == b"TTA1":
        TrueAudio(path, translate=False)
    elif head[:1] == b"\xff" and head[1:2] >= b"\xf0" and not head[1] & 0x06:
        AAC(path)
    else:
        MP3(path, translate=False)


def _read(path: Path) -> list[str]:
    _check(path)
    try:
        genres = id3.genres_of(ID3(path, translate=False, load_v1=False))
    except ID3NoHeaderError:
        genres = []
    return genres or ape_tag.genres_of(path) or v1_genres(path)


def _refusal(path: Path) -> str | None:
    _check(path)
    with path.open("rb") as file:
        return id3.refusal(id3.load(ID3, file), file) or ape_tag.refusal(path)


def _write(path: Path, genres: list[str]) -> None:
    ape = ape_tag.items(path)
    inherited = v1_frames(path)
    with path.open("rb+") as file:
        tags = id3.load(ID3, file)
        is_main = any(item.key.lower() in _MAIN for item in ape)
        only_ape = tags is None and (is_main or (bool(ape) and not inherited))
        if tags is not None or (genres and not only_ape):
            room = 0 if tags is None else tags.size
            data = id3.render(tags, genres, inherited, room, file.seek(0, 2) - room)
            resize_bytes(file, room, len(data), 0)
            file.seek(0)
            file.write(data)
    if only_ape or any(item.is_genre for item in ape):
        ape_tag.save(path, genres)
    write_v1(path, genres)


def _others(path: Path) -> Snapshot:
    _check(path)
    with path.open("rb") as file:
        tags = id3.load(ID3, file)
    found = id3.others(tags, v1_frames(path)) | ape_tag.tail_others(path)
    room = 0 if tags is None else tags.size
    if more := digest_of(path, (room, audio_ranges(path)[0][0])):
        found["more ID3 tags"] = [more]
    return found


FORMATS[Container.FRAMES] = Format(_read, _refusal, _write, _others)
