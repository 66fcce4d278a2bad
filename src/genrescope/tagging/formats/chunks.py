"""WAV and AIFF: an ID3v2 tag in a chunk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mutagen.aiff import AIFF, AIFFFile
from mutagen.id3 import ID3, ID3NoHeaderError
from mutagen.wave import WAVE

from genrescope.audio.ranges import Container, kind_of
from genrescope.tagging.formats import id3
from genrescope.tagging.formats.common import digest_of, words
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot
from genrescope.tagging.formats.internals import AiffId3, WaveFile, WaveId3


def _opened(path: Path, file: BinaryIO) -> tuple[Any, str, Callable[..., ID3]]:
    """Parse the chunks of WAV or AIFF: the file, the name of its ID3 chunk, its tag's class."""
    file.seek(0)
    if kind_of(path) is Container.AIFF:
        return AIFFFile(file), "ID3", AiffId3
    return WaveFile(file), "id3", WaveId3


def _info_genres(chunks: Any) -> list[str]:
    """Read the genre from the INFO chunks of a WAV file."""
    lists = (chunk for chunk in chunks.root.subchunks() if chunk.id == "LIST")
    infos = (chunk for outer in lists if outer.name == "INFO" for chunk in outer.subchunks())
    return words([chunk.read().decode(errors="replace") for chunk in infos if chunk.id == "IGNR"])


def _read(path: Path) -> list[str]:
    _check(path)
    with path.open("rb") as file:
        chunks, _, kind = _opened(path, file)
        file.seek(0)
        try:
            tags = kind(file, translate=False, load_v1=False)
        except ID3NoHeaderError:
            return _info_genres(chunks)
        return id3.genres_of(tags) or _info_genres(chunks)


def _check(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) not in {b"RF64", b"BW64"}:
            (AIFF if kind_of(path) is Container.AIFF else WAVE)(
                path, translate=False, load_v1=False
            )


def _refusal(path: Path) -> str | None:
    _check(path)
    with path.open("rb") as file:
        chunks, _, kind = _opened(path, file)
        if _info_genres(chunks):
            return "its genre is in a RIFF INFO chunk, which genrescope does not write"
        inside = chunks.root.subchunks()
        size = file.seek(0, 2)
        if chunks.root.size != size or 12 + sum(chunk.size for chunk in inside) != size:
            return "the sizes of its chunks do not add up to the file"
        if sum(chunk.id.lower() == "id3" for chunk in inside) > 1:
            return "it has several ID3 chunks"
        return id3.refusal(id3.load(kind, file), file)


def _write(path: Path, genres: list[str]) -> None:
    with path.open("rb+") as file:
        chunks, name, kind = _opened(path, file)
        tags = id3.load(kind, file)
        if name not in chunks:
            chunks.insert_chunk(name)
        chunk = chunks[name]
        rest = file.seek(0, 2) - chunk.data_offset
        data = id3.render(tags, genres, [], chunk.data_size, rest)
        chunk.resize(len(data))
        chunk.write(data)


def _others(path: Path) -> Snapshot:
    _check(path)
    found: Snapshot = defaultdict(list)
    with path.open("rb") as file:
        chunks, name, kind = _opened(path, file)
        tags = id3.others(id3.load(kind, file), [])
        for chunk in chunks.root.subchunks():
            if chunk.id not in {name, "data", "SSND"}:
                start = chunk.data_offset
                value = digest_of(path, (start, start + chunk.data_size))
                found[f"chunk {chunk.id}"].append(value)
    return dict(found) | tags


FORMATS[Container.WAVE] = FORMATS[Container.AIFF] = Format(_read, _refusal, _write, _others)
