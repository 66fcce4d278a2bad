"""Damaged files either give sound or say what is wrong; nothing crashes, hangs or eats memory."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from genrescope import audio
from genrescope.errors import InputError

SAMPLING_RATE = 8000
LIMIT_S = 5.0
WORKER_EXAMPLES = 1000
SPAN_S, MOST = 0.1, 3


def sound(seconds: float = 0.8, sampling_rate: int = SAMPLING_RATE) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    time_s = np.arange(round(seconds * sampling_rate)) / sampling_rate
    return (0.4 * np.sin(2750 * time_s) + 0.05 * rng.standard_normal(len(time_s))).astype("f")


def by_soundfile(kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(), SAMPLING_RATE, format=kind, subtype=subtype)
    return file.getvalue()


def by_av(
    kind: str, codec: str, sampling_rate: int = SAMPLING_RATE, *, film: bool = False
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        picture = container.add_stream("mpeg4", rate=10) if film else None
        stream = container.add_stream(codec, rate=sampling_rate, layout="mono")
        stream.bit_rate = 32_000
        frame = av.AudioFrame.from_ndarray(
            sound(sampling_rate=sampling_rate)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = sampling_rate
        to_codec = av.AudioResampler(stream.codec_context.format, "mono", sampling_rate)
        if picture:
            picture.width = picture.height = 16
            for _ in range(8):
                grey = np.full((24, 16), 128, np.uint8)
                image = av.VideoFrame.from_ndarray(grey, format="yuv420p")
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
        for block in [*to_codec.resample(frame), None]:
            container.mux(stream.encode(block))
    return file.getvalue()


SEEDS: dict[str, Callable[[], bytes]] = {
    "pcm.wav": lambda: by_soundfile("WAV"),
    "float.wav": lambda: by_soundfile("WAV", "FLOAT"),
    "adpcm.wav": lambda: by_soundfile("WAV", "IMA_ADPCM"),
    "a.flac": lambda: by_soundfile("FLAC"),
    "a.ogg": lambda: by_soundfile("OGG", "VORBIS"),
    "a.opus": lambda: by_soundfile("OGG", "OPUS"),
    "a.mp3": lambda: by_soundfile("MP3"),
    "a.au": lambda: by_soundfile("AU"),
    "a.aiff": lambda: by_soundfile("AIFF"),
    "a.caf": lambda: by_soundfile("CAF"),
    "a.m4a": lambda: by_av("mp4", "aac"),
    "lossless.m4a": lambda: by_av("mp4", "alac"),
    "a.aac": lambda: by_av("adts", "aac"),
    "a.wma": lambda: by_av("asf", "wmav2", 16000),
    "a.wv": lambda: by_av("wv", "wavpack"),
    "a.tta": lambda: by_av("tta", "tta"),
    "a.webm": lambda: by_av("webm", "libopus", 48000),
    "a.mka": lambda: by_av("matroska", "pcm_s16le"),
    "film.mp4": lambda: by_av("mp4", "aac", film=True),
    "film.mov": lambda: by_av("mov", "pcm_s16le", film=True),
    "film.mkv": lambda: by_av("matroska", "aac", film=True),
    "film.avi": lambda: by_av("avi", "mp2", 16000, film=True),
}


@pytest.fixture(scope="module")
def seeds() -> dict[str, bytes]:
    return {name: make() for name, make in SEEDS.items()}


def damage(content: bytes, way: str, where: float, value: int) -> bytes:
    """Change a file at a share ``where`` of its length, in one of the `WAYS`."""
    data = bytearray(content)
    at = round(where * (len(data) - 1))
    size = 1 + value % 7
    if way == "flip":
        data[at] ^= 1 << value % 8
    elif way == "truncate":
        del data[at:]
    elif way == "insert":
        data[at:at] = np.random.default_rng(value).bytes(4 * size)
    elif way == "zero":
        data[at : at + 16 * size] = bytes(len(data[at : at + 16 * size]))
    else:  # a field of the header: extreme numbers, or any
        at = round(where * min(120, len(data) - size))
        fields = (b"\xff" * size, bytes(size), np.random.default_rng(value).bytes(size))
        data[at : at + size] = fields[value % 3]
    return bytes(data)


WAYS = ("flip", "truncate", "insert", "zero", "header")


def check(path: Path) -> int:
    """Read a file in both ways; return in how many there was sound."""
    begun = time.monotonic()
    faults = []
    for attempt in (check_load, check_excerpts):
        try:
            attempt(path)
        except InputError as error:
            faults.append(error)
    assert all(fault.path == path and fault.cause and fault.remedy for fault in faults)
    assert time.monotonic() - begun < LIMIT_S
    return 2 - len(faults)


def check_waveform(waveform: NDArray[np.float32]) -> None:
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert len(waveform) > 0
    assert np.isfinite(waveform).all()


def check_load(path: Path) -> None:
    waveform, sampling_rate = audio.load(path, SAMPLING_RATE)
    assert sampling_rate == SAMPLING_RATE
    check_waveform(waveform)


def check_excerpts(path: Path) -> None:
    found = audio.excerpts(path, SAMPLING_RATE, span_s=SPAN_S, max_spans=MOST)
    assert len(found.starts) == len(found.waveforms) == (1 if found.whole else MOST)
    assert found.seconds > 0
    for waveform in found.waveforms:
        check_waveform(waveform)
        assert found.whole or len(waveform) == round(SPAN_S * SAMPLING_RATE)


@pytest.mark.parametrize("name", SEEDS)
def test_the_undamaged_files_are_read_and_can_be_damaged_in_every_way(
    tmp_path: Path, seeds: dict[str, bytes], name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(seeds[name])
    assert check(path) == 2
    for way in WAYS:
        assert damage(seeds[name], way, 0.0, 5) != seeds[name]


damages = st.lists(
    st.tuples(st.sampled_from(WAYS), st.floats(0, 1), st.integers(0, 2**16)), min_size=1, max_size=4
)


@given(name=st.sampled_from(sorted(SEEDS)), changes=damages)
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damaged_files_give_sound_or_an_input_error(
    tmp_path: Path, seeds: dict[str, bytes], name: str, changes: list[tuple[str, float, int]]
) -> None:
    content = seeds[name]
    for change in changes:
        content = damage(content, *change) or b"\0"
    path = tmp_path / name
    path.write_bytes(content)
    check(path)


def test_no_damage_crashes_hangs_or_eats_memory(tmp_path: Path) -> None:
    # In a process of its own, whose crash is a failure here and not the end of all tests.
    command = [sys.executable, __file__, str(tmp_path), str(WORKER_EXAMPLES), "1"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    last = done.stdout.decode().splitlines()[-1:]
    assert done.returncode == 0, f"{last} in {tmp_path}\n{done.stderr.decode()[-2000:]}"
    damaged, read, _ = last[0].split()
    assert int(damaged) == WORKER_EXAMPLES
    assert 0.1 < int(read) / (2 * WORKER_EXAMPLES) < 0.9  # damage that matters, and not always


def work(folder: Path, count: int, seed: int) -> None:
    """Damage ``count`` files and read them in at most 2 GB of memory."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
    seeds = {name: make() for name, make in SEEDS.items()}
    rng = np.random.default_rng(seed)
    read = 0
    for index in range(count):
        name = sorted(seeds)[index % len(seeds)]
        content = seeds[name]
        for _ in range(rng.integers(1, 5)):
            way, value = WAYS[rng.integers(len(WAYS))], int(rng.integers(2**16))
            content = damage(content, way, rng.random(), value) or b"\0"
        path = folder / name  # what is there after a crash caused it
        path.write_bytes(content)
        print(name, flush=True)
        read += check(path)
    print(count, read, "read", flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
