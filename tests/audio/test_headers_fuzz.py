"""Whatever a file holds, its structure is found, or not: no exception, no hang, no part outside."""

from __future__ import annotations

import io
import itertools
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genrescope import audio
from genrescope.audio import headers
from genrescope.audio.source import View, open_source
from genrescope.errors import InputError

COUNT = 600


def clip(kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    time_s = np.arange(4800) / 8000
    soundfile.write(file, 0.4 * np.sin(2750 * time_s), 8000, format=kind, subtype=subtype)
    return file.getvalue()


SEEDS = [
    clip(kind, subtype)
    for kind, subtype in (
        ("WAV", None),
        ("WAV", "FLOAT"),
        ("RF64", None),
        ("W64", None),
        ("AIFF", None),
        ("CAF", None),
        ("AU", None),
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
        ("VOC", None),
    )
]
BLOCKS = [
    *(seed[: 2**k] for seed in SEEDS for k in (4, 6, 9)),
    b"RIFF\0\0\0\0AVI ",
    b"RIFF\xff\xff\xff\xffQLCM",
    b"ID3\4\0\0\0\0\0\7abcdefg",
    b"ID3\3\0\x10\x7f\x7f\x7f\x7f",
    b"APETAGEX\xd0\7\0\0" + struct.pack("<III", 40, 1, 0xA0000000) + bytes(8),
    b"APETAGEX\xd0\7\0\0" + struct.pack("<III", 2**32 - 1, 1, 0x80000000) + bytes(8),
    b"TAG" + bytes(125),
    b"LYRICSBEGINx000012LYRICS200",
    b"999999LYRICS200",
    b"LYRICSEND",
    b"3DI\4\0\0\x7f\x7f\x7f\x7f",
    b"\xff\xfb\x90\0" + bytes(32) + b"Xing\0\0\0\x0f",
    b"\xff\xfb\x90\0" + bytes(32) + b"Info\0\0\0\x02\xff",
    b"\x1aE\xdf\xa3\x84abcd\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff",
    b"\x1aE\xdf\xa3\0\0\0",
    b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov",
    b"\0\0\0\1ftyp" + b"\xff" * 8,
    b".SoX\x1c\0\0\0" + b"\xff" * 8,
    b"XoS.\0\0\0\x1c" + b"\xff" * 8,
    b"DSD \x1c\0\0\0\0\0\0\0" + b"\xff" * 8,
    b"0&\xb2u\x8ef\xcf\x11" + headers._ASF_FILE + bytes(90),
    b"OggS\0\2" + bytes(20) + b"\xff" + b"\xff" * 255,
    b"fact\4\0\0\0\0\0\0\0",
    b"COMM\0\0\0\x12\xff\xff\xff\xff\xff\xff\xff\xff",
    b"data\0\0\0\0",
    b"data\xff\xff\xff\xff",
    b"SSND\x80\0\0\0",
    b"ds64\x1c\0\0\0" + b"\xff" * 28,
]


@given(blocks=st.lists(st.sampled_from(BLOCKS) | st.binary(max_size=40), max_size=12))
@settings(max_examples=400, deadline=None)
def test_the_structure_of_any_bytes_is_found_or_not(blocks: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.bin"
        path.write_bytes(b"".join(blocks) or b"\0")
        with open_source(path) as source:
            whole = View(source)
            found = [recording.view for recording in headers.recordings(whole)]
            found += [headers.between_tags(whole), *headers.without_tags(whole)]
            assert headers.claimed_size(whole) >= 0
            assert 0 <= headers.behind_id3(whole) <= whole.size
            for view in found:
                assert 0 <= view.start <= view.stop <= whole.size
                assert len(view.read_at(0, view.size)) == view.size
            parts = list(headers.without_tags(whole))
            assert all(a.stop <= b.start for a, b in itertools.pairwise(parts))


def test_no_joined_and_damaged_file_crashes_hangs_or_eats_memory(tmp_path: Path) -> None:
    # In a process of its own, whose crash is a failure here and not the end of all tests.
    command = [sys.executable, __file__, str(tmp_path), str(COUNT), "1"]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    last = done.stdout.decode().splitlines()[-1:]
    assert done.returncode == 0, f"{last} in {tmp_path}\n{done.stderr.decode()[-2000:]}"
    read = int(last[0].split()[0])
    assert 0.1 < read / COUNT < 0.9


def work(folder: Path, count: int, seed: int) -> None:
    """Read so many files made of others, of parts of their heads and of noise, in 2 GB."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
    draw = np.random.default_rng(seed)
    read = 0
    for number in range(count):
        parts = []
        for _ in range(draw.integers(1, 5)):
            kind = draw.random()
            if kind < 0.5:
                parts.append(SEEDS[draw.integers(len(SEEDS))])
            elif kind < 0.85:
                parts.append(BLOCKS[draw.integers(len(BLOCKS))])
            else:
                parts.append(draw.bytes(int(draw.integers(1, 3000))))
        content = bytearray(b"".join(parts))
        for _ in range(draw.integers(0, 4)):
            at = int(draw.integers(min(len(content), 200 if draw.random() < 0.5 else len(content))))
            content[at : at + 4] = (b"\xff" * 4, bytes(4), draw.bytes(4))[draw.integers(3)]
        path = folder / f"a.{('mp3', 'wav', 'ogg', 'bin')[number % 4]}"
        path.write_bytes(content)
        print(number, flush=True)
        begun = time.process_time()
        try:
            audio.decode(path, 8000)
            audio.excerpts(path, 8000, span_s=0.1, max_spans=3)
            read += 1
        except InputError as error:
            assert error.cause
            assert error.remedy
        assert time.process_time() - begun < 5
    print(read, flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
