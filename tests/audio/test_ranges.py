import random
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import formats
from genrescope.audio.ranges import (
    Container,
    audio_ranges,
    blocks,
    fingerprint,
    kind_of,
)
from genrescope.errors import InputError


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return formats.make_library(tmp_path_factory.mktemp("library"))


def plain(path: Path, name: str) -> Path:
    """Give the clip that a file was made from, before it had tags."""
    source = formats.SOURCES[name]
    return next((path.parent / "plain").glob(f"{source}.*"))


@pytest.mark.parametrize("name", formats.NAMES)
def test_tags_are_not_audio(library: dict[str, Path], name: str) -> None:
    path = library[name]
    ranges = audio_ranges(path)
    bounds = [bound for span in ranges for bound in span]
    assert bounds == sorted(bounds)
    assert all(start < stop for start, stop in ranges)
    assert bounds[-1] <= path.stat().st_size
    bare = plain(path, name)
    assert formats.audio_digest(path) == formats.audio_digest(bare)
    assert fingerprint(path) == fingerprint(bare)


def test_each_kind_is_reported_by_content(library: dict[str, Path], tmp_path: Path) -> None:
    kinds = {
        "mp3": Container.FRAMES,
        "aac": Container.FRAMES,
        "tta": Container.FRAMES,
        "wv": Container.APE,
    }
    kinds |= {
        "m4a": Container.MP4,
        "mp4": Container.MP4,
        "mov": Container.MP4,
        "flac": Container.FLAC,
    }
    kinds |= {
        "ogg": Container.OGG,
        "opus": Container.OGG,
        "wav": Container.WAVE,
        "aiff": Container.AIFF,
    }
    kinds |= {"aifc": Container.AIFF, "wma": Container.ASF, "mka": Container.OTHER}
    for name, path in library.items():
        copy = tmp_path / "copy.tmp"
        copy.write_bytes(path.read_bytes())
        assert kind_of(copy) is kinds[name.split("-")[0]], name


def test_the_audio_of_wav_is_its_samples(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-30000, 30000, 5001, np.int16)
    for form in ("WAV", "RF64", "WAVEX"):
        path = tmp_path / f"{form}.wav"
        soundfile.write(path, samples, 8000, format=form, subtype="PCM_16")
        assert b"".join(blocks(path, audio_ranges(path))) == samples.tobytes()
    path = tmp_path / "a.aiff"
    soundfile.write(path, samples, 8000, subtype="PCM_16")
    audio = b"".join(blocks(path, audio_ranges(path)))
    assert audio.endswith(samples.astype(">i2").tobytes())


def test_a_wav_of_unknown_length_goes_to_the_end(library: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(library["wav-bare"].read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff" * 4
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    assert audio_ranges(path) == audio_ranges(library["wav-bare"])


def test_chunks_of_odd_length_have_a_byte_behind_them(
    library: dict[str, Path], tmp_path: Path
) -> None:
    data = library["wav-bare"].read_bytes()
    at = data.index(b"data")
    path = tmp_path / "a.wav"
    path.write_bytes(data[:at] + b"note" + struct.pack("<I", 3) + b"abc\0" + data[at:])
    assert formats.audio_digest(path) == formats.audio_digest(library["wav-bare"])


def test_sizes_of_mp4_in_all_forms(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    front = struct.pack(">I4s8x", 16, b"ftyp")
    long = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"first"
    open_ended = struct.pack(">I4s", 0, b"mdat") + b"second"
    path.write_bytes(front + long + open_ended)
    assert b"|".join(blocks(path, audio_ranges(path))) == b"first|second"


def test_old_lyrics_and_appended_id3_are_tags(library: dict[str, Path], tmp_path: Path) -> None:
    bare = library["mp3-bare"].read_bytes()
    appended = b"TIT2" + struct.pack(">IH", 2, 0) + b"\0x"
    head, foot = (word + b"\4\0\x10\0\0\0" + bytes([len(appended)]) for word in (b"ID3", b"3DI"))
    path = tmp_path / "a.mp3"
    for tail in (b"LYRICSBEGINla laLYRICSEND" + formats.id3v1("x", 1), head + appended + foot):
        path.write_bytes(bare + tail)
        assert formats.audio_digest(path) == formats.audio_digest(library["mp3-bare"])


def test_a_wrong_mark_on_a_page_makes_no_audio_of_its_comments(
    library: dict[str, Path], tmp_path: Path
) -> None:
    data = bytearray(library["ogg-tagged"].read_bytes())
    second = data.index(b"OggS", 4)
    data[5] ^= 2  # the first page begins no stream
    data[second + 5] |= 2  # the second does
    path = tmp_path / "a.ogg"
    path.write_bytes(data)
    assert audio_ranges(path) == audio_ranges(library["ogg-tagged"])


def test_fingerprints_distinguishes_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    rng = np.random.default_rng(1)
    short, long = (rng.integers(-9000, 9000, n, np.int16) for n in (2000, 2_000_000))

    def print_of(samples: np.ndarray) -> bytes:
        soundfile.write(path, samples, 8000)
        return fingerprint(path)

    changed = short.copy()
    changed[1000] += 1
    assert print_of(short) != print_of(changed)
    assert print_of(long) != print_of(long[:-2])
    for at in (0, -1):
        changed = long.copy()
        changed[at] += 1
        assert print_of(long) != print_of(changed)


def test_large_files_are_quick_and_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    count = 10**9
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", count + 36, b"WAVE", b"fmt ", 16, 1, 2, 44100, 176400, 4, 16
    )
    with path.open("wb") as file:
        file.write(head + struct.pack("<4sI", b"data", count))
        file.truncate(44 + count)  # sparse
    begun = time.thread_time()
    fingerprint(path)
    assert time.thread_time() - begun < 0.5
    tracemalloc.start()
    for _ in zip(blocks(path, audio_ranges(path)), range(20), strict=False):
        pass
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_file_cut_anywhere_is_an_error_or_audio(
    library: dict[str, Path], tmp_path: Path, name: str
) -> None:
    data = library[name].read_bytes()
    path = tmp_path / "cut.tmp"
    begun = time.thread_time()
    for end in [*range(0, 200, 3), *range(200, len(data), max(len(data) // 40, 1))]:
        path.write_bytes(data[:end])
        try:
            ranges = audio_ranges(path)
        except InputError as error:
            assert error.path == path
        else:
            assert all(0 <= start < stop <= end for start, stop in ranges)
    assert time.thread_time() - begun < 5


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(formats.NAMES), st.randoms(use_true_random=False))
def test_corrupt_bytes_are_an_error_or_audio(
    library: dict[str, Path], tmp_path: Path, name: str, rng: random.Random
) -> None:
    data = bytearray(library[name].read_bytes())
    for _ in range(rng.choice([1, 4, 40])):
        data[rng.randrange(min(len(data), rng.choice([64, 1000, len(data)])))] = rng.randrange(256)
    path = tmp_path / "corrupt.tmp"
    path.write_bytes(data)
    try:
        ranges = audio_ranges(path)
        fingerprint(path)
    except InputError:
        return
    assert all(0 <= start < stop <= len(data) for start, stop in ranges)


def test_what_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    for path, cause in ((tmp_path / "gone.mp3", "no such file"), (tmp_path, "it is a folder")):
        with pytest.raises(InputError, match=cause):
            audio_ranges(path)
    lying = tmp_path / "lying.mp3"
    lying.write_bytes(b"ID3\3\0\0\x7f\x7f\x7f\x7f" + bytes(100))
    with pytest.raises(InputError, match="longer than the file"):
        audio_ranges(lying)
    lying.write_bytes(
        b"\xff\xfb" + bytes(90) + b"APETAGEX" + struct.pack("<5I4x", 2000, 999, 1, 0, 0)
    )
    with pytest.raises(InputError, match="longer than the file"):
        audio_ranges(lying)


def test_mpeg_audio_behind_junk_is_reported_by_its_frames(
    library: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    data = library["mp3-v1"].read_bytes()
    half = bytes(random.Random(1).randbytes(200))
    for junk in (bytes(1), bytes(60_000), b"\0" + half, b"\xff\xff" * 50, data[700:]):
        path.write_bytes(junk[: 60_000 if junk[0] != data[700] else 500] + data)
        assert kind_of(path) is Container.FRAMES
        [(start, stop)] = audio_ranges(path)
        assert (start, stop) == (0, path.stat().st_size - 128)


def test_frames_of_every_sort_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for codec, rates in {"libmp3lame": (8000, 12000, 22050, 48000), "mp2": (16000, 44100)}.items():
        for sampling_rate in rates:
            formats.encode(path, codec, 1.0, sampling_rate, form="mp3" if codec != "mp2" else "mp2")
            data = path.read_bytes()
            data = data[data.index(b"\xff") :]
            path.write_bytes(bytes(100) + data)
            assert kind_of(path) is Container.FRAMES, (codec, sampling_rate)


def test_other_formats_that_hold_mpeg_audio_are_not_taken_for_it(
    library: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.mp3"
    data = library["mp3-bare"].read_bytes()
    for front, back in (
        (b"caff\0\1\0\0" + bytes(60), b""),
        (b"EA3\2\0\x60" + bytes(90), b""),
        (bytes(300), b"the index of an archive"),
        (bytes(300), bytes(512)),
        (bytes(70_000), b""),
    ):
        path.write_bytes(front + data + back)
        assert kind_of(path) is Container.OTHER
    path.write_bytes(bytes(300) + data[:2000])
    assert kind_of(path) is Container.OTHER


def test_much_that_looks_like_frames_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    frames = (b"\xff\xfb\x10\xc4" + bytes(100)) * 7 + b"\0" * 200
    path.write_bytes(b"\0\0" + frames * 5000)
    begun = time.thread_time()
    assert kind_of(path) is Container.OTHER
    assert time.thread_time() - begun < 0.5
