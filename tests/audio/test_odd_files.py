"""Good files that are unusual, and files made to cost much: what is decoded, and what it takes."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from mutagen.apev2 import BINARY, APEv2, APEValue
from mutagen.id3 import APIC, ID3, TIT2
from numpy.typing import NDArray

import formats
from genrescope import audio

SAMPLING_RATE = 16000
SECONDS = 3.0
PICTURE = np.random.default_rng(2).bytes(2_000_000)


def sound(sampling_rate: int, seconds: float = SECONDS, channels: int = 1) -> NDArray[np.float32]:
    time_s = np.arange(round(seconds * sampling_rate)) / sampling_rate
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(time_s))
    one = 0.4 * np.sin(2 * np.pi * 440 * time_s) * (1 + np.sin(9 * time_s)) / 2 + noise
    return np.repeat(one[:, None], channels, axis=1).astype(np.float32)


def by_soundfile(kind: str, sampling_rate: int = 44100, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(sampling_rate), sampling_rate, format=kind, subtype=subtype)
    return file.getvalue()


def by_av(
    kind: str, codec: str, sampling_rate: int = 44100, layout: str = "mono", **options: str
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=sampling_rate, layout=layout)
        channels = stream.codec_context.layout.nb_channels
        samples = np.ascontiguousarray(sound(sampling_rate, channels=channels).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate = sampling_rate
        for block in av.AudioResampler(stream.codec_context.format, layout, sampling_rate).resample(
            frame
        ):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return file.getvalue()


JOINED: dict[str, Callable[[int], bytes]] = {
    "mp3": lambda sampling_rate: by_soundfile("MP3", sampling_rate),
    "bare.mp3": lambda sampling_rate: by_av(
        "mp3", "libmp3lame", sampling_rate, write_xing="0", id3v2_version="0"
    ),
    "ogg": lambda sampling_rate: by_soundfile("OGG", sampling_rate, "VORBIS"),
    "opus": lambda sampling_rate: by_soundfile(
        "OGG", {44100: 48000, 22050: 24000}[sampling_rate], "OPUS"
    ),
    "flac": lambda sampling_rate: by_soundfile("FLAC", sampling_rate),
    "wav": lambda sampling_rate: by_soundfile("WAV", sampling_rate),
    "aiff": lambda sampling_rate: by_soundfile("AIFF", sampling_rate),
    "au": lambda sampling_rate: by_soundfile("AU", sampling_rate),
    "caf": lambda sampling_rate: by_soundfile("CAF", sampling_rate),
    "w64": lambda sampling_rate: by_soundfile("W64", sampling_rate),
    "wv": lambda sampling_rate: by_av("wv", "wavpack", sampling_rate),
    "tta": lambda sampling_rate: by_av("tta", "tta", sampling_rate),
    "m4a": lambda sampling_rate: by_av("mp4", "aac", sampling_rate),
    "aac": lambda sampling_rate: by_av("adts", "aac", sampling_rate),
    "mka": lambda sampling_rate: by_av("matroska", "pcm_s16le", sampling_rate),
}


def lengths(path: Path) -> list[float]:
    """Give the seconds that all ways of reading find, and check that there is no warning."""
    decoded = audio.decode(path, SAMPLING_RATE)
    found = audio.excerpts(path, SAMPLING_RATE, span_s=0.5, max_spans=4)
    assert decoded.warnings == found.warnings == ()
    in_pieces = sum(map(len, audio.pieces(path, SAMPLING_RATE, SAMPLING_RATE)))
    return [len(decoded.waveform) / SAMPLING_RATE, found.seconds, in_pieces / SAMPLING_RATE]


@pytest.mark.parametrize("rates", [(44100, 22050), (22050, 44100), (44100, 22050, 44100)])
@pytest.mark.parametrize("name", JOINED)
def test_joined_files_of_other_rates_give_all_their_parts(
    tmp_path: Path, name: str, rates: tuple[int, ...]
) -> None:
    path = tmp_path / f"joined.{name}"
    path.write_bytes(b"".join(JOINED[name](sampling_rate) for sampling_rate in rates))
    assert lengths(path) == pytest.approx([SECONDS * len(rates)] * 3, abs=0.3)


@pytest.mark.parametrize("order", [1, -1])
def test_ogg_of_one_codec_behind_another(tmp_path: Path, order: int) -> None:
    parts = [by_soundfile("OGG", 48000, "VORBIS"), by_soundfile("OGG", 48000, "OPUS")]
    path = tmp_path / "a.ogg"
    path.write_bytes(b"".join(parts[::order]))
    assert lengths(path) == pytest.approx([2 * SECONDS] * 3, abs=0.1)


def id3(content: bytes, path: Path) -> bytes:
    path.write_bytes(content)
    tags = ID3()
    tags.add(TIT2(encoding=3, text="Title"))
    tags.add(APIC(encoding=0, mime="image/jpeg", type=3, desc="", data=PICTURE))
    tags.save(path)
    return path.read_bytes()


def ape(content: bytes, path: Path) -> bytes:
    path.write_bytes(content)
    tags = APEv2()
    tags["Cover Art (Front)"] = APEValue(b"cover.jpg\0" + PICTURE, BINARY)
    tags.save(path)
    return path.read_bytes()


TAGGED: dict[str, Callable[[bytes, Path], bytes]] = {
    "id3 in front": id3,
    "id3 behind": lambda content, path: content + id3(b"", path),
    "id3 in the middle": lambda content, path: content + id3(content, path),
    "id3 twice": lambda content, path: 2 * id3(content, path),
    "ape behind": ape,
    "ape twice": lambda content, path: 2 * ape(content, path),
    "ape and id3v1 behind": lambda content, path: ape(content, path) + formats.id3v1("x", 3),
    "lyrics": lambda content, _: (
        content + b"LYRICSBEGIN" + b"la " * 1500 + b"LYRICSEND" + formats.id3v1("x", 3)
    ),
    "lyrics of version 2": lambda content, _: (
        content + b"LYRICSBEGINLYR19995" + b"a" * 19995 + b"020014LYRICS200" + formats.id3v1("x", 3)
    ),
    "zeros behind id3": lambda content, path: id3(b"", path) + bytes(5000) + content,
}


@pytest.mark.parametrize("tags", TAGGED)
@pytest.mark.parametrize("name", ["mp3", "bare.mp3", "aac", "wv", "tta"])
def test_large_tags_are_neither_sound_nor_damage(tmp_path: Path, name: str, tags: str) -> None:
    path = tmp_path / f"tagged.{name}"
    content = JOINED[name](44100)
    path.write_bytes(TAGGED[tags](content, tmp_path / "made"))
    parts = path.read_bytes().count(content[500:2500])
    assert lengths(path) == pytest.approx([SECONDS * parts] * 3, abs=0.3)


def test_a_library_of_good_tagged_files_gives_no_warning(tmp_path: Path) -> None:
    made = formats.make_library(tmp_path / "library")
    assert len(made) > 35
    for name, path in made.items():
        if name != "ogg-speex":  # noise with the heads of Speex
            assert lengths(path) == pytest.approx([3.0] * 3, abs=0.5), name


@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "aac"), ("adts", "aac"), ("matroska", "libopus"), ("wv", "wavpack")]
)
def test_eight_channels(tmp_path: Path, kind: str, codec: str) -> None:
    path = tmp_path / f"surround.{kind}"
    path.write_bytes(by_av(kind, codec, 48000, "7.1"))
    # In a process of its own, which crashed.
    ask = "import sys; from genrescope import audio; print(len(audio.load(sys.argv[1], 16000)[0]))"
    command = [sys.executable, "-c", f"from pathlib import Path; sys = __import__('sys'); {ask}"]
    command[-1] = command[-1].replace("sys.argv[1]", "Path(sys.argv[1])")
    done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == pytest.approx(SECONDS * SAMPLING_RATE, abs=2000)


def test_w64_of_floats_in_the_long_form_is_read_as_floats(tmp_path: Path) -> None:
    guid = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    samples = sound(22050).tobytes()
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 22050, 88200, 4, 32, 22, 32, 4)
    form += bytes.fromhex("0300000000001000800000aa00389b71")
    chunks = b"fmt " + guid + struct.pack("<Q", 24 + len(form)) + form
    chunks += b"data" + guid + struct.pack("<Q", 24 + len(samples)) + samples
    head = bytes.fromhex("726966662e91cf11a5d628db04c10000") + struct.pack("<Q", 40 + len(chunks))
    path = tmp_path / "a.w64"
    path.write_bytes(head + b"wave" + guid + chunks)
    waveform, sampling_rate = audio.load(path)
    assert sampling_rate == 22050
    assert np.array_equal(waveform, sound(22050)[:, 0])


ANTIPHASE = {
    # The right channel, made of the left one and of noise; and whether both cancel out.
    "inverted": (lambda left, _: -left, True),
    "nearly": (lambda left, _: -0.98 * left, True),
    "with noise": (lambda left, noise: 0.1 * noise - left, True),
    "half of the time": (
        lambda left, _: np.where(np.arange(len(left)) % 80000 < 40000, left, -left),
        True,
    ),
    "silent": (lambda left, _: 0 * left, False),
    "the same": (lambda left, _: left, False),
    "unrelated": (lambda _, noise: 2 * noise, False),
    "wide": (lambda left, noise: 0.3 * left + noise, False),
}


@pytest.mark.parametrize("name", ANTIPHASE)
@pytest.mark.parametrize("kind", ["WAV", "MP3", "OGG"])
def test_of_channels_that_cancel_out_one_is_used(tmp_path: Path, kind: str, name: str) -> None:
    make, cancelled = ANTIPHASE[name]
    left = sound(44100)[:, 0]
    noise = 0.1 * np.random.default_rng(4).standard_normal(len(left))
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, np.stack([left, make(left, noise)], axis=1), 44100, format=kind)
    clip = audio.decode(path, SAMPLING_RATE)
    assert [("cancel" in warning.message) for warning in clip.warnings] == [True] * cancelled
    if cancelled:
        assert np.std(clip.waveform) == pytest.approx(np.std(left), rel=0.15)


def test_the_centre_alone_of_surround_is_not_antiphase(tmp_path: Path) -> None:
    samples = np.zeros((44100 * 3, 6), np.float32)
    samples[:, 2] = sound(44100)[:, 0]
    path = tmp_path / "centre.wav"
    soundfile.write(path, samples, 44100)
    assert audio.decode(path).warnings == ()


@pytest.mark.parametrize("kind", ["mp4", "mov", "matroska"])
def test_of_several_tracks_the_one_marked_default_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"two.{kind}"
    with av.open(str(path), "w", format=kind) as container:
        streams = [container.add_stream("aac", rate=44100, layout="mono") for _ in range(2)]
        streams[0].disposition = av.stream.Disposition(0)
        streams[1].disposition = av.stream.Disposition.default
        for stream, pitch in zip(streams, (300, 900), strict=True):
            wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(1024 * 129) / 44100)
            frame = av.AudioFrame.from_ndarray(wave[None].astype("f"), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux([*stream.encode(frame), *stream.encode(None)])
    for waveform in (
        audio.load(path, SAMPLING_RATE)[0],
        audio.excerpts(path, SAMPLING_RATE, span_s=0.5, max_spans=2).waveforms[1],
    ):
        pitch = np.argmax(np.abs(np.fft.rfft(waveform))) * SAMPLING_RATE / len(waveform)
        assert pitch == pytest.approx(900, abs=5)


CHILD = """
import sys, time, resource
from pathlib import Path
from genrescope import audio
from genrescope.errors import InputError
begun = time.monotonic()
for way in (
    lambda path: audio.decode(path, 16000).waveform,
    lambda path: audio.excerpts(path, 16000, span_s=3, max_spans=20),
    lambda path: sum(map(len, audio.pieces(path, 16000, 16000))),
    audio.length,
):
    try:
        way(Path(sys.argv[1]))
    except InputError as error:
        print(error.cause)
status = Path("/proc/self/status").read_text()
print(time.monotonic() - begun, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


def cost(path: Path) -> tuple[float, float, str]:
    """Read a file in all ways, in a process of its own; give seconds, peak MB and what was said."""
    command = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *said, last = done.stdout.splitlines()
    seconds, megabytes = map(float, last.split())
    return seconds, megabytes, "\n".join(said)


only_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory from /proc")
TINY_WAV = (
    struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 38, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 2
    )
    + b"\1\1"
)
OGG_MARK = struct.pack("<5sBqIIIBB", b"OggS\0", 0, 0, 1, 0, 0, 1, 1) + b"x"
COSTLY: dict[str, Callable[[], bytes]] = {
    "tiny recordings.wav": lambda: TINY_WAV * 200_000,
    "recordings.flac": lambda: by_soundfile("FLAC")[:3000] * 3000,
    "signatures.flac": lambda: b"fLaC\0\0\0\x22" * 1_000_000,
    "pages.ogg": lambda: OGG_MARK * 200_000,
    "marks.ogg": lambda: b"OggS\0" * 1_000_000,
    "tags.mp3": lambda: b"ID3\4\0\0\0\0\0\0" * 500_000,
    "tags between.mp3": lambda: (b"\xff\xfb\x90\0" + b"ID3\4\0\0\0\0\0\0") * 300_000,
    "xing.mp3": lambda: b"\xff\xfb\x90\0" + b"Xing\0\0\0\1" * 300_000,
    "ape.mp3": lambda: b"\xff\xfb\x90\0" + (b"APETAGEX\xd0\x07\0\0\x20" + bytes(19)) * 300_000,
    "lyrics.mp3": lambda: b"\xff\xfb\x90\0" + b"LYRICSBEGINLYRICSEND" * 200_000,
    "chunks.wav": lambda: b"RIFF\xff\xff\0\0WAVE" + b"junk\0\0\0\0" * 1_000_000,
    "chunks behind.wav": lambda: by_soundfile("WAV") + b"junk\0\0\0\0" * 1_000_000,
    "boxes.m4a": lambda: b"\0\0\0\x08ftyp\0\0\0\x08moov" * 500_000,
    "joined.m4a": lambda: by_av("mp4", "aac", 8000)[:] * 300,
    "joined.wv": lambda: by_av("wv", "wavpack", 8000) * 300,
    "heads.mka": lambda: b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\x80" * 500_000,
    "blocks.voc": lambda: b"Creative Voice File\x1a\x1a\0" + bytes(4) + b"\1\0\0\0" * 1_000_000,
}


@only_linux
@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_files_made_to_cost_much_cost_little(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(COSTLY[name]())
    seconds, megabytes, _ = cost(path)
    assert seconds < 60  # four ways; on a machine that is busy
    assert megabytes < 600


@only_linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampling_rate", "channels", "seconds"),
    [(1_000_000, 1, 100), (200_000, 8, 50), (8000, 600, 20)],
)
def test_high_rates_and_many_channels_take_little_memory(
    tmp_path: Path, sampling_rate: int, channels: int, seconds: int
) -> None:
    path = tmp_path / "odd.wav"
    second = sound(sampling_rate, 1.0, channels)
    with soundfile.SoundFile(path, "w", sampling_rate, channels, subtype="PCM_16") as file:
        for _ in range(seconds):
            file.write(second)
    _, megabytes, said = cost(path)
    assert said == ""
    assert megabytes < 260  # docs/performance.md: of a long file
