"""What media servers read of the genres that genrescope writes, as docs/media-servers.md says.

A server is a function of the values that mutagen finds in the field: how its own reader separates
them, by the source and documentation that the page names. FFmpeg itself is asked for its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import av
import mutagen
import pytest
from mutagen.apev2 import APEv2
from mutagen.asf import ASF
from mutagen.id3 import ID3
from mutagen.mp4 import MP4
from mutagen.wave import WAVE

import formats
import genrescope
from genrescope.tagging.formats import write_genres

PAGE = Path(__file__).resolve().parents[2] / "docs" / "media-servers.md"
GENRES = ("Jazz", "Hard Rock")
ROWS = {
    "MP3, AAC, WAV, AIFF with ID3v2.2 or 2.3, or without a tag": (
        *("mp3-bare", "mp3-v1", "mp3-v22", "mp3-v23-art", "mp3-v23-unsynchronised"),
        *("aac-bare", "wav-bare", "aiff-bare"),
    ),
    "MP3, AAC, WAV, AIFF with ID3v2.4": (
        *("mp3-v24-two", "mp3-v24-v1-ape", "mp3-v24-unsynchronised", "mp3-lyrics"),
        *("aac-v24", "wav-id3-info", "aiff-id3", "aifc-id3"),
    ),
    "FLAC, Ogg Vorbis, Opus": (
        *("flac-bare", "flac-no-comments", "flac-padded", "flac-tight", "flac-id3"),
        *("ogg-bare", "ogg-tagged", "ogg-flac", "ogg-speex", "opus-bare", "opus-art"),
    ),
    "M4A, MP4": ("m4a-bare", "m4a-end", "m4a-fast", "m4a-gnre", "m4a-alac", "mov-bare"),
    "WMA": ("wma-bare", "wma-tagged"),
    "WavPack, Monkey's Audio": ("wv-bare", "wv-ape"),
}
Values = list[str]


def split(values: Values, signs: str) -> Values:
    parts = [part.strip() for value in values for part in re.split(f"[{re.escape(signs)}]", value)]
    return list(dict.fromkeys(part for part in parts if part))


def kodi(values: Values) -> Values:
    return values if len(values) > 1 else values[0].split(" / ")


SERVERS: dict[str, Callable[[Values], Values]] = {
    "Navidrome": lambda values: split(values, ";/,"),
    "Jellyfin": lambda values: values,
    "Jellyfin, delimiters on": lambda values: split(values, "/|;\\"),
    "Kodi": kodi,
    "Lyrion": lambda values: values,
}


def values_of(path: Path) -> Values:
    """Give the values of a file's genre field, none of them split."""
    kind = path.suffix
    if kind in {".mp3", ".aac"}:
        return list(map(str, ID3(path, translate=False)["TCON"].text))
    if kind == ".wav":
        return list(map(str, WAVE(path).tags["TCON"].text))
    if kind in {".m4a", ".mp4", ".mov"}:
        return MP4(path)["\xa9gen"]
    if kind == ".wma":
        return list(map(str, ASF(path)["WM/Genre"]))
    if kind == ".wv":
        return list(APEv2(path)["Genre"])
    file = mutagen.File(path)
    found = file.tags["TCON"].text if kind.startswith(".aif") else file["GENRE"]
    return list(map(str, found))


def ffmpeg(path: Path) -> Values:
    with av.open(str(path)) as container:
        found = container.metadata | container.streams.audio[0].metadata
    values = [value for key, value in found.items() if key.lower() == "genre"]
    return split(values, ";")


def page_table() -> list[dict[str, str]]:
    text = PAGE.read_text("utf-8")
    lines = text.partition("<!-- read -->")[2].partition("<!-- /read -->")[0].strip().splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = formats.make_library(tmp_path_factory.mktemp("servers"), seconds=0.5)
    used = {name: made[name] for names in ROWS.values() for name in names if name in made}
    for path in used.values():
        write_genres(path, GENRES)
    return used


def test_the_page_has_a_row_for_each_kind_and_a_column_for_each_server() -> None:
    table = page_table()
    assert [row["written to"] for row in table] == list(ROWS)
    assert set(table[0]) == {"written to", "field", "FFmpeg, as in Plex", *SERVERS}


@pytest.mark.parametrize("row", page_table(), ids=lambda row: row["written to"])
def test_a_server_reads_what_the_page_says(row: dict[str, str], written: dict[str, Path]) -> None:
    names = [name for name in ROWS[row["written to"]] if name in written]
    assert names
    for name in names:
        values = values_of(written[name])
        for server, read in SERVERS.items():
            assert "; ".join(read(values)) == row[server], (name, server)
        assert "; ".join(ffmpeg(written[name])) == row["FFmpeg, as in Plex"], name


def test_one_genre_is_read_the_same_everywhere(tmp_path: Path) -> None:
    made = formats.make_library(tmp_path, seconds=0.5)
    for name in (name for names in ROWS.values() for name in names if name in made):
        write_genres(made[name], ("Hard Rock",))
        values = values_of(made[name])
        found = [read(values) for read in SERVERS.values()] + [ffmpeg(made[name])]
        assert found == [["Hard Rock"]] * len(found), name


def test_what_ffmpeg_does_not_read(tmp_path: Path) -> None:
    made = formats.make_library(tmp_path, seconds=0.5)
    for name in ("tta-id3", "mp3-ape"):
        if name in made:
            write_genres(made[name], GENRES)
            assert ffmpeg(made[name]) == []


def test_only_one_name_of_ours_has_a_separator() -> None:
    tree = Path(genrescope.__file__).parent / "taxonomies" / "tree.txt"
    lines = tree.read_text("utf-8").splitlines()
    names = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    assert len(names) > 200
    assert {name for name in names if set(name) & set(";/,|\\")} == {"Pop/Funk"}
    assert "`Pop/Funk`" in PAGE.read_text("utf-8")
