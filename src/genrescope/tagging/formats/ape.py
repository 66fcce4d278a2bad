"""WavPack, Monkey's Audio, Musepack and the like: an APEv2 tag behind the audio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mutagen import FileType
from mutagen.monkeysaudio import MonkeysAudio
from mutagen.musepack import Musepack
from mutagen.optimfrog import OptimFROG
from mutagen.tak import TAK
from mutagen.wavpack import WavPack

from genrescope.audio.ranges import Container
from genrescope.tagging.formats import ape_tag
from genrescope.tagging.formats.common import head_of
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot
from genrescope.tagging.formats.id3v1 import v1, v1_genres, write_v1

_CLASSES: dict[bytes, Callable[..., FileType]] = {
    b"wvpk": WavPack,
    b"MAC ": MonkeysAudio,
    b"MPCK": Musepack,
    b"OFR ": OptimFROG,
    b"tBaK": TAK,
}


def _check(path: Path) -> None:
    _CLASSES.get(head_of(path), Musepack)(path)  # older Musepack files begin with a version


def _read(path: Path) -> list[str]:
    _check(path)
    return ape_tag.genres_of(path) or v1_genres(path)


def _refusal(path: Path) -> str | None:
    _check(path)
    with path.open("rb") as file:
        if file.read(3) == b"ID3":
            return "it has an ID3 tag in front, where the format allows none"
    if v1(path) and not ape_tag.items(path):
        return "its only tag is ID3v1, which an APE tag would hide"
    return ape_tag.refusal(path)


def _write(path: Path, genres: list[str]) -> None:
    ape_tag.save(path, genres)
    write_v1(path, genres)


def _others(path: Path) -> Snapshot:
    _check(path)
    return ape_tag.tail_others(path)


FORMATS[Container.APE] = Format(_read, _refusal, _write, _others)
