"""ID3 tags that would take hours or gigabytes are refused at once; large ordinary ones are read."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import pytest

import genrescope
from genrescope.errors import InputError
from genrescope.tagging.formats import read_genres, read_names

MILLION = 10**6


def size(count: int) -> bytes:
    return bytes(count >> shift & 0x7F for shift in (21, 14, 7, 0))


def frame(name: bytes, body: bytes, flags: int = 0) -> bytes:
    return name + size(len(body)) + flags.to_bytes(2) + body


def deflated(count: int) -> bytes:
    deflate = zlib.compressobj(9)
    return b"".join([*(deflate.compress(bytes(MILLION)) for _ in range(count)), deflate.flush()])


def tagged(folder: Path, frames: bytes, flags: int = 0) -> Path:
    path = folder / "song.mp3"
    head = b"ID3\4\0" + bytes([flags]) + size(len(frames))
    path.write_bytes(head + frames + genrescope.sample("pulse").read_bytes())
    return path


@pytest.mark.parametrize(
    ("flags", "frames"),
    [
        (0, frame(b"TIT2", b"\3" + bytes(MILLION))),
        (0, frame(b"ETCO", b"\2" + b"\5\0\0\0\1" * MILLION)),
        (0, frame(b"TIT2", b"\3") * MILLION),
        (0, (b"none" + bytes(6)) * MILLION),
        (0, frame(b"TXXX", size(1) + deflated(20), 0x0009)),
        (0, frame(b"TXXX", deflated(20), 0x0008)),
        (0x80, frame(b"APIC", size(1) + deflated(20).replace(b"\xff", b"\xff\0"), 0x000B)),
        (0, frame(b"CHAP", b"a\0" + bytes(16) + frame(b"TIT2", b"\3") * MILLION)),
    ],
    ids=["texts", "events", "frames", "empty", "inflated", "no length", "unsynchronised", "inner"],
)
def test_what_takes_too_long_is_refused(tmp_path: Path, flags: int, frames: bytes) -> None:
    path = tagged(tmp_path, frames, flags)
    begin = time.thread_time()
    for read in (read_names, read_genres):
        with pytest.raises(InputError, match="too long, or too much memory"):
            read(path)
    assert time.thread_time() - begin < 10


def test_what_is_only_large_is_read(tmp_path: Path) -> None:
    frames = [
        frame(b"TXXX", b"\3key\0" + b"x" * MILLION),
        frame(b"TIT2", b"\1\xff\xfe" + "Song".encode("utf-16-le")),
        frame(b"TPE1", size(6) + zlib.compress(b"\3Band\0"), 0x0009),
        frame(b"TCON", b"\3" + b"Rock\0" * 100),
        frame(b"APIC", b"\0image/png\0\3\0" + bytes(20 * MILLION)),
        *[frame(b"TXXX", b"\3a%d\0b" % i) for i in range(300)],
    ]
    path = tagged(tmp_path, b"".join(frames))
    names = read_names(path)
    assert (names.title, names.artist) == ("Song", "Band")
    assert read_genres(path) == ("Rock",)
