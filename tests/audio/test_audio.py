"""Every format is read, to mono and to the rate asked for; what cannot be read says why."""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from genrescope import audio
from genrescope.audio import streams
from genrescope.errors import InputError

SAMPLING_RATE = 22050
LOSSLESS = ("wav", "flac", "au", "aiff")
Samples = NDArray[np.float32]
WriteTone = Callable[..., Path]


def sine(seconds: float, sampling_rate: int, frequency: float = 440.0) -> Samples:
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def write_with_av(
    path: Path,
    codec: str,
    samples: Samples,
    sampling_rate: int,
    options: dict[str, str] | None = None,
) -> Path:
    # samples: float32 (channels, samples)
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=sampling_rate, layout=layout)
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = sampling_rate
        to_codec = av.AudioResampler(stream.codec_context.format, layout, sampling_rate)
        for block in [*to_codec.resample(frame), None]:
            container.mux(stream.encode(block))
    return path


def write_film(
    path: Path, codec: str, seconds: float, samples: Samples | None, sampling_rate: int
) -> Path:
    # samples: float32 (channels, samples), or None for a silent film; a key frame every second
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10, width=16, height=16)
        picture.gop_size = 10
        sound = (
            container.add_stream(codec, rate=sampling_rate, layout="mono")
            if samples is not None
            else None
        )
        for _ in range(round(10 * seconds)):
            grey = np.full((24, 16), 128, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(picture.encode(None))
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = sampling_rate
            to_codec = av.AudioResampler(sound.codec_context.format, "mono", sampling_rate)
            for block in [*to_codec.resample(frame), None]:
                container.mux(sound.encode(block))
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    return path


def fault_of(path: Path) -> InputError:
    """Load what cannot be loaded; the error must name file, cause and remedy."""
    with pytest.raises(InputError) as caught:
        audio.load(path)
    assert caught.value.path == path
    name = str(path).encode("utf-8", "backslashreplace").decode()  # what is no text is written out
    assert str(caught.value) == f"{name}: {caught.value.cause}. {caught.value.remedy}."
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_give_the_very_samples(
    tmp_path: Path, tone: WriteTone, suffix: str
) -> None:
    waveform, sampling_rate = audio.load(
        tone(tmp_path / f"tone.{suffix}", seconds=2.0, sampling_rate=SAMPLING_RATE)
    )
    assert (waveform.dtype, waveform.shape, sampling_rate) == (
        np.float32,
        (2 * SAMPLING_RATE,),
        SAMPLING_RATE,
    )
    np.testing.assert_allclose(waveform, sine(2.0, SAMPLING_RATE), atol=2 / 32768)


@pytest.mark.parametrize(
    ("name", "sampling_rate", "settings"),
    [
        ("tone.ogg", SAMPLING_RATE, {}),
        ("tone.oga", SAMPLING_RATE, {"format": "OGG"}),
        ("tone.opus", 24000, {"format": "OGG", "subtype": "OPUS"}),
        ("tone.mp3", SAMPLING_RATE, {}),
    ],
)
def test_lossy_formats_keep_length_pitch_and_level(
    tmp_path: Path, tone: WriteTone, name: str, sampling_rate: int, settings: dict[str, str]
) -> None:
    path = tone(tmp_path / name, seconds=2.0, sampling_rate=sampling_rate, **settings)
    check_tone(*audio.load(path), sampling_rate)


@pytest.mark.parametrize(
    ("name", "codec", "sampling_rate"),
    [
        ("tone.m4a", "aac", SAMPLING_RATE),
        ("lossless.m4a", "alac", SAMPLING_RATE),
        ("tone.mp4", "aac", 44100),
        ("tone.aac", "aac", SAMPLING_RATE),
        ("tone.webm", "libopus", 48000),
        ("tone.mka", "libopus", 48000),
        ("book.m4b", "aac", SAMPLING_RATE),
        ("tone.wma", "wmav2", SAMPLING_RATE),
        ("tone.wv", "wavpack", SAMPLING_RATE),
        ("tone.tta", "tta", SAMPLING_RATE),
        ("tone.aifc", "pcm_s16be", SAMPLING_RATE),
        ("tone.caf", "alac", SAMPLING_RATE),
    ],
)
def test_formats_that_only_ffmpeg_reads(
    tmp_path: Path, name: str, codec: str, sampling_rate: int
) -> None:
    path = write_with_av(tmp_path / name, codec, sine(2.0, sampling_rate)[None], sampling_rate)
    assert audio.is_audio(path)
    check_tone(*audio.load(path), sampling_rate)


def check_tone(waveform: Samples, sampling_rate: int, wanted_rate: int) -> None:
    assert (waveform.dtype, sampling_rate) == (np.float32, wanted_rate)
    assert len(waveform) / sampling_rate == pytest.approx(
        2.0, abs=0.1
    )  # codecs pad by a frame or two
    middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * sampling_rate / len(middle) == pytest.approx(440, abs=1.5)


@pytest.mark.parametrize("name", ["stereo.wav", "stereo.m4a"])
def test_stereo_becomes_the_mean_of_its_channels(tmp_path: Path, name: str) -> None:
    left, right = sine(1.0, SAMPLING_RATE), sine(1.0, SAMPLING_RATE, frequency=1000.0) / 4
    if name.endswith(".wav"):
        soundfile.write(tmp_path / name, np.stack([left, right], axis=1), SAMPLING_RATE)
    else:
        write_with_av(tmp_path / name, "alac", np.stack([left, right]), SAMPLING_RATE)
    waveform, _ = audio.load(tmp_path / name)
    np.testing.assert_allclose(waveform, (left + right) / 2, atol=2 / 32768)


def test_resampling_on_load_keeps_length_pitch_and_level(tmp_path: Path, tone: WriteTone) -> None:
    check_tone(
        *audio.load(tone(tmp_path / "tone.wav", 2.0, sampling_rate=44100), sampling_rate=16000),
        16000,
    )


def test_resampling_does_not_fold_high_frequencies_down() -> None:
    high = audio.resample(sine(1.0, 44100, frequency=10000.0), 44100, 16000)
    assert np.abs(high[1000:-1000]).max() < 1e-3


def test_a_file_written_to_a_pipe_needs_no_length_in_its_header(
    tmp_path: Path, tone: WriteTone
) -> None:
    wav = tone(tmp_path / "piped.wav")
    content = bytearray(wav.read_bytes())
    content[4:8] = b"\xff" * 4
    data = content.index(b"data")
    content[data + 4 : data + 8] = b"\xff" * 4
    wav.write_bytes(content)
    flac = tone(tmp_path / "piped.flac")
    content = bytearray(flac.read_bytes())
    content[21] &= 0xF0  # STREAMINFO's total number of samples: 36 bits
    content[22:26] = bytes(4)
    flac.write_bytes(content)
    for path in (wav, flac):
        waveform, sampling_rate = audio.load(path)
        np.testing.assert_allclose(waveform, sine(2.0, sampling_rate), atol=2 / 32768)


def test_a_missing_file_and_a_folder_are_distinguished(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "none.wav").cause == "no such file"
    assert fault_of(tmp_path).cause == "it is a folder"


@pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a"])
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty.{suffix}"
    path.touch()
    assert "empty (0 bytes)" in fault_of(path).cause


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_a_file_of_no_samples(tmp_path: Path, tone: WriteTone, suffix: str) -> None:
    cause = fault_of(tone(tmp_path / f"nothing.{suffix}", seconds=0)).cause
    assert "no samples" in cause


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "m4a"])
def test_text_with_the_name_of_audio(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text.{suffix}"
    path.write_text("This is no music.\n" * 99)
    cause = fault_of(path).cause
    assert re.search(r"not audio that genrescope can read|no samples can be decoded", cause)


def test_a_picture_with_the_name_of_audio(tmp_path: Path) -> None:
    png = tmp_path / "picture.mp3"
    png.write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
            "53de0000000c49444154789c636060600000000400"
            "01f61738550000000049454e44ae426082"
        )
    )
    assert fault_of(png).cause == "not audio that genrescope can read"


def write_cut(path: Path, share: float, seconds: float = 10.0) -> Path:
    """Write noise of a format by its ending, and keep a share of the file from its start on."""
    sampling_rate = 48000 if path.suffix == ".webm" else 44100
    noise = (
        np.random.default_rng(0)
        .uniform(-0.3, 0.3, round(seconds * sampling_rate))
        .astype(np.float32)
    )
    if path.suffix == ".m4a":  # the index comes first, so that what is left can be opened
        write_with_av(path, "aac", noise[None], sampling_rate, {"movflags": "faststart"})
    elif path.suffix in {".wv", ".tta", ".webm"}:
        codec = {".wv": "wavpack", ".tta": "tta", ".webm": "libopus"}[path.suffix]
        write_with_av(path, codec, noise[None], sampling_rate)
    else:
        soundfile.write(path, noise, sampling_rate)
    return cut(path, share)


CAN_BE_CUT = [*(f"a.{suffix}" for suffix in LOSSLESS), "a.mp3", "a.m4a", "a.webm", "a.wv", "a.tta"]


@pytest.mark.parametrize("name", CAN_BE_CUT)
def test_of_a_truncated_file_more_than_half_is_used_with_a_warning(
    tmp_path: Path, name: str
) -> None:
    clip = audio.decode(write_cut(tmp_path / name, 0.7))
    seconds = len(clip.waveform) / clip.sampling_rate
    assert 5.0 <= seconds <= 7.1
    (warning,) = clip.warnings
    assert warning.damage
    lost, whole = map(float, re.findall(r"([\d.]+) s", warning.message))
    assert warning.message.endswith("s could not be decoded: it is damaged or cut off")
    assert whole == pytest.approx(10, abs=0.1)
    assert lost == pytest.approx(10 - seconds, abs=0.15)


@pytest.mark.parametrize("name", CAN_BE_CUT)
def test_less_than_half_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    shown = re.fullmatch(
        r"it is damaged or cut off \(([\d.]+) s of ([\d.]+) s can be decoded\)",
        fault_of(write_cut(tmp_path / name, 0.4)).cause,
    )
    assert shown
    assert 2.5 <= float(shown[1]) <= 4.1
    assert float(shown[2]) == pytest.approx(10, abs=0.1)


def test_less_than_a_second_of_a_damaged_file_is_refused(tmp_path: Path) -> None:
    cause = fault_of(write_cut(tmp_path / "a.wav", 0.6, seconds=1.6)).cause
    assert cause == "it is damaged or cut off (1.0 s of 1.6 s can be decoded)"
    warnings = audio.decode(write_cut(tmp_path / "b.wav", 0.6, seconds=1.8)).warnings
    assert [warning.damage for warning in warnings] == [True]


def test_a_short_file_that_is_whole_is_answered(tmp_path: Path, tone: WriteTone) -> None:
    clip = audio.decode(tone(tmp_path / "a.wav", seconds=0.3))
    assert (len(clip.waveform) / clip.sampling_rate, clip.warnings) == (pytest.approx(0.3), ())


def test_an_index_that_is_cut_off_leaves_nothing_to_read(tmp_path: Path) -> None:
    path = write_with_av(tmp_path / "a.m4a", "aac", sine(9.0, SAMPLING_RATE)[None], SAMPLING_RATE)
    assert (
        fault_of(cut(path, 0.9)).cause
        == "it is damaged or cut off, and nothing of it can be decoded"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    samples = sine(1.0, SAMPLING_RATE)
    samples[100] = value
    path = tmp_path / "nan.wav"
    soundfile.write(path, samples, SAMPLING_RATE, subtype="FLOAT")
    assert "not finite numbers" in fault_of(path).cause


def test_a_file_that_may_not_be_read(
    tmp_path: Path, tone: WriteTone, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tone(tmp_path / "private.wav")

    def refuse(*_: object, **__: object) -> None:  # permission bits do not stop everybody
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert fault_of(path).cause == "it cannot be read (Permission denied)"


def test_a_forgotten_pad_byte_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    body += b"data" + struct.pack("<I", 801) + bytes([128]) * 801
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + 1) + body)
    assert len(audio.load(path)[0]) == 801


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("a.wav", True),
        ("A.MP3", True),
        ("a.opus", True),
        (".hidden.mp3", False),
        ("a.txt", False),
        ("wav", False),
        ("book.m4b", True),
        ("film.MKV", True),
        ("film.mov", True),
        ("film.avi", True),
        ("a.caf", True),
        ("a.srt", False),
    ],
)
def test_audio_is_reported_by_name(name: str, answer: bool) -> None:
    assert audio.is_audio(Path("music", name)) is answer


waveforms = hnp.arrays(np.float32, st.integers(0, 300), elements=st.floats(-1, 1, width=32))


@given(waveform=waveforms, samples=st.integers(0, 500))
def test_fit_length_cuts_or_pads_at_the_end(waveform: Samples, samples: int) -> None:
    fitted = audio.fit_length(waveform, samples)
    kept = min(samples, len(waveform))
    assert fitted.shape == (samples,)
    assert fitted.dtype == np.float32
    np.testing.assert_array_equal(fitted[:kept], waveform[:kept])
    assert not fitted[kept:].any()


@given(
    waveform=hnp.arrays(np.float32, st.integers(1, 3000), elements=st.floats(-1, 1, width=32)),
    sampling_rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    target=st.sampled_from([8000, 16000, 22050, 44100]),
)
def test_resampling_gives_the_length_that_the_rates_say(
    waveform: Samples, sampling_rate: int, target: int
) -> None:
    out = audio.resample(waveform, sampling_rate, target)
    assert out.dtype == np.float32
    assert abs(len(out) - len(waveform) * target / sampling_rate) <= 1
    assert np.isfinite(out).all()
    if sampling_rate == target:
        np.testing.assert_array_equal(out, waveform)


@given(sampling_rate=st.sampled_from([16000, 22050, 44100, 48000]), level=st.floats(0.01, 1))
def test_resampling_keeps_the_level_of_a_constant(sampling_rate: int, level: float) -> None:
    out = audio.resample(np.full(sampling_rate, level, dtype=np.float32), sampling_rate, 16000)
    np.testing.assert_allclose(out[4000:-4000], level, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "aac"),
        ("a.m4v", "aac"),
        ("a.mkv", "aac"),
        ("a.mov", "pcm_s16le"),
        ("a.avi", "ac3"),
    ],
)
def test_the_sound_track_of_a_film(tmp_path: Path, name: str, codec: str) -> None:
    path = write_film(tmp_path / name, codec, 2.0, sine(2.0, 44100)[None], 44100)
    assert audio.is_audio(path)
    check_tone(*audio.load(path), 44100)


def test_a_silent_film(tmp_path: Path) -> None:
    assert "no audio in it" in fault_of(write_film(tmp_path / "a.mkv", "", 1.0, None, 0)).cause


@pytest.mark.parametrize("name", ["Suite: Judy.m4a", "http:x.m4a", "100%03d?#.m4a"])
def test_a_name_is_never_taken_for_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_with_av(Path("plain.m4a"), "aac", sine(2.0, SAMPLING_RATE)[None], SAMPLING_RATE).rename(
        name
    )
    check_tone(*audio.load(Path(name)), SAMPLING_RATE)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("name", ["tone.wav", "tone.m4a"])
def test_a_name_that_is_not_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / os.fsdecode(b"\xe9tude" + os.fsencode(Path(name).suffix))
    plain = tmp_path / name
    if name == "tone.m4a":
        write_with_av(plain, "aac", sine(2.0, SAMPLING_RATE)[None], SAMPLING_RATE)
    else:
        soundfile.write(plain, sine(2.0, SAMPLING_RATE), SAMPLING_RATE)
    plain.rename(path)
    check_tone(*audio.load(path), SAMPLING_RATE)
    assert fault_of(path.with_stem("nothing" + path.stem)).cause == "no such file"


def test_a_title_that_is_not_text_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "tone.m4a"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Etude"
        stream = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            sine(2.0, SAMPLING_RATE)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = SAMPLING_RATE
        for block in [frame, None]:
            container.mux(stream.encode(block))
    content = path.read_bytes()
    assert b"Etude" in content
    path.write_bytes(content.replace(b"Etude", b"\xc9tude"))
    check_tone(*audio.load(path), SAMPLING_RATE)


def without_xing(path: Path) -> Path:
    """Take the first frame, which states the length, off an MP3 file."""
    content = path.read_bytes()
    second = content.index(content[:2], 4)
    assert b"Xing" in content[:second] or b"Info" in content[:second]
    path.write_bytes(content[second:])
    return path


@pytest.mark.parametrize("quiet_first", [True, False])
def test_an_mp3_of_changing_bitrate_that_does_not_state_its_length(
    tmp_path: Path, quiet_first: bool
) -> None:
    # libsndfile takes the first frame's bitrate for that of all.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * 44100).astype(np.float32)
    halves = [np.zeros_like(noise), noise]
    samples = np.concatenate(halves if quiet_first else halves[::-1])
    soundfile.write(tmp_path / "a.mp3", samples, 44100, bitrate_mode="VARIABLE")
    waveform, _ = audio.load(without_xing(tmp_path / "a.mp3"))
    assert len(waveform) / 44100 == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("sampling_rate", [3, 2**31 - 1])
def test_a_rate_that_no_sound_has(tmp_path: Path, tone: WriteTone, sampling_rate: int) -> None:
    path = tone(tmp_path / "tone.wav")
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", sampling_rate)
    path.write_bytes(content)
    assert fault_of(path).cause == f"its header states a sampling rate of {sampling_rate:,} Hz"


def test_a_format_that_changes_midway(tmp_path: Path) -> None:
    # As in a recorded broadcast: what follows comes at the first rate.
    mono = write_with_av(tmp_path / "1.aac", "aac", sine(2.0, SAMPLING_RATE)[None], SAMPLING_RATE)
    stereo = write_with_av(tmp_path / "2.aac", "aac", np.stack([sine(2.0, 44100)] * 2), 44100)
    both = tmp_path / "both.aac"
    both.write_bytes(mono.read_bytes() + stereo.read_bytes())
    waveform, sampling_rate = audio.load(both)
    assert (sampling_rate, len(waveform) / sampling_rate) == (
        SAMPLING_RATE,
        pytest.approx(4.0, abs=0.2),
    )
    check_tone(waveform[: 2 * sampling_rate], sampling_rate, SAMPLING_RATE)
    check_tone(waveform[-2 * sampling_rate :], sampling_rate, SAMPLING_RATE)


def with_length(path: Path, samples: int) -> Path:
    """Make a FLAC file's header promise a length."""
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    path.write_bytes(content)
    return path


SPANS = {"span_s": 0.5, "max_spans": 6}  # of tracks of 10 s


def sweep(seconds: float = 10.0, sampling_rate: int = 44100) -> Samples:
    # Its pitch states the time; some noise states it to the sample.
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.4 * np.sin(2 * np.pi * (200 + 20 * time) * time) + 0.03 * noise).astype(np.float32)


def write_sweep(path: Path, seconds: float = 10.0, sampling_rate: int = 44100) -> Path:
    samples = sweep(seconds, sampling_rate)
    codec = {".wma": "wmav2", ".webm": "libopus", ".mka": "libopus", ".wv": "wavpack"}
    if path.suffix in {".avi", ".mkv", ".mp4"}:
        return write_film(
            path, "ac3" if path.suffix == ".avi" else "aac", seconds, samples[None], sampling_rate
        )
    if path.suffix in {".m4a", ".aac", *codec}:
        return write_with_av(path, codec.get(path.suffix, "aac"), samples[None], sampling_rate)
    settings = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, samples, sampling_rate, **settings)
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.ogg", "a.m4a", "a.aac", "a.mkv"])
@pytest.mark.parametrize("sampling_rate", [16000, 44100])
def test_a_short_track_comes_whole(tmp_path: Path, name: str, sampling_rate: int) -> None:
    path = write_sweep(tmp_path / name, seconds=2.0)
    found = audio.excerpts(path, sampling_rate, span_s=0.5, max_spans=5)
    assert (found.starts, found.whole, len(found.waveforms)) == ((0.0,), True, 1)
    np.testing.assert_array_equal(found.waveforms[0], audio.load(path, sampling_rate)[0])
    assert found.seconds == pytest.approx(2.0, abs=0.1)


def test_a_track_as_long_as_its_spans_comes_whole(tmp_path: Path, tone: WriteTone) -> None:
    path = tone(tmp_path / "tone.wav", seconds=2.0)
    assert audio.excerpts(path, SAMPLING_RATE, span_s=0.5, max_spans=4).whole
    assert not audio.excerpts(path, SAMPLING_RATE, span_s=0.4999, max_spans=4).whole


@pytest.mark.parametrize(
    ("name", "sampling_rate", "target"),
    [
        ("a.wav", 44100, 16000),
        ("a.wav", 44101, 22050),
        ("a.wav", 8000, 22050),
        ("a.wav", 192000, 16000),
        ("a.flac", 44100, 22050),
        ("a.flac", 48000, 44100),
        ("a.flac", 16000, 16000),
        ("a.mp3", 44100, 16000),
        ("a.mp3", 22050, 22050),
        ("a.ogg", 44100, 16000),
        ("a.opus", 48000, 16000),
        ("a.wv", 44100, 16000),
    ],
)
def test_spans_equal_the_same_stretches_of_the_whole(
    tmp_path: Path, name: str, sampling_rate: int, target: int
) -> None:
    path = write_sweep(tmp_path / name, sampling_rate=sampling_rate)
    whole, _ = audio.load(path, target)
    found = audio.excerpts(path, target, **SPANS)
    assert found.seconds == pytest.approx(10)
    assert not found.whole
    assert found.starts == pytest.approx([(i + 0.5) * 10 / 6 - 0.25 for i in range(6)])
    for start, waveform in zip(found.starts, found.waveforms, strict=True):
        at = round(start * target)
        assert (waveform.dtype, waveform.shape) == (np.float32, (target // 2,))
        np.testing.assert_allclose(waveform, whole[at : at + target // 2], atol=1e-3)


def lag(waveform: Samples, whole: Samples, at: int, reach: int) -> tuple[int, float]:
    """Return where near ``at`` a waveform lies in the whole, and how well it matches (to 1)."""
    near = whole[at - reach : at + len(waveform) + reach]
    windows = np.lib.stride_tricks.sliding_window_view(near, len(waveform))
    match = windows @ waveform / np.sqrt((windows**2).sum(axis=1) * (waveform**2).sum())
    return int(match.argmax()) - reach, float(match.max())


@pytest.mark.parametrize(
    ("name", "sampling_rate", "tolerance_s"),
    [
        ("a.m4a", 44100, 0.001),
        ("a.aac", 44100, 0.001),
        ("a.webm", 48000, 0.01),
        ("a.mka", 48000, 0.01),
        ("a.wma", 44100, 0.12),  # the decoder gives two frames less than the time stamps say
        ("a.mp4", 44100, 0.001),
        ("a.mkv", 44100, 0.005),
        ("a.avi", 44100, 0.01),
    ],
)
def test_spans_that_ffmpeg_seeks_lie_where_they_say(
    tmp_path: Path, name: str, sampling_rate: int, tolerance_s: float
) -> None:
    path = write_sweep(tmp_path / name, sampling_rate=sampling_rate)
    whole, _ = audio.load(path, 8000)
    found = audio.excerpts(path, 8000, **SPANS)
    assert found.seconds == pytest.approx(10, abs=0.1)
    assert len(found.waveforms) == 6
    for start, waveform in zip(found.starts, found.waveforms, strict=True):
        assert waveform.shape == (4000,)
        late, match = lag(waveform, whole, round(start * 8000), reach=1200)
        assert abs(late) <= tolerance_s * 8000
        assert match > 0.95


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.m4a", "a.wma", "a.mkv"])
def test_long_tracks_are_sought_not_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_sweep(tmp_path / name)

    def refuse(_: object) -> None:
        pytest.fail("decodes the whole track")

    monkeypatch.setattr(streams.SoundfileStream, "blocks", refuse)
    monkeypatch.setattr(streams.PyavStream, "blocks", refuse)
    assert len(audio.excerpts(path, 16000, **SPANS).waveforms) == 6


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("name", ["a.flac", "a.m4a"])
def test_what_cannot_be_sought_is_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: bool
) -> None:
    path = write_sweep(tmp_path / name)
    whole, _ = audio.load(path, 16000)

    def stretch(_: object, __: int, count: int) -> Samples:
        if not found:
            raise streams.CannotSeekError
        return np.zeros(1, np.float32)  # found, but cut short

    monkeypatch.setattr(streams.SoundfileStream, "stretch", stretch)
    monkeypatch.setattr(streams.PyavStream, "stretch", stretch)
    spans = audio.excerpts(path, 16000, **SPANS)
    assert spans.seconds == pytest.approx(len(whole) / 16000, abs=1e-4)
    for start, waveform in zip(spans.starts, spans.waveforms, strict=True):
        at = round(start * 16000)
        np.testing.assert_allclose(waveform, whole[at : at + 8000], atol=1e-3)


def test_spans_of_an_mp3_and_a_flac_that_do_not_state_their_length(tmp_path: Path) -> None:
    mp3 = without_xing(write_sweep(tmp_path / "a.mp3"))
    flac = with_length(write_sweep(tmp_path / "a.flac"), 0)
    for path in (mp3, flac):
        whole, _ = audio.load(path, 8000)
        found = audio.excerpts(path, 8000, **SPANS)
        assert found.seconds == pytest.approx(10, abs=0.1)
        for start, waveform in zip(found.starts, found.waveforms, strict=True):
            late, match = lag(waveform, whole, round(start * 8000), reach=400)
            assert abs(late) <= 8
            assert match > 0.95


def test_spans_of_a_film_longer_than_its_sound(tmp_path: Path) -> None:
    # Matroska states how long the film is, not its sound.
    path = write_film(tmp_path / "a.mkv", "aac", 30.0, sweep()[None], 44100)
    found = audio.excerpts(path, 8000, **SPANS)
    assert found.seconds == pytest.approx(10, abs=0.1)
    assert max(found.starts) < 10
    assert all(np.abs(waveform[-800:]).max() > 0.1 for waveform in found.waveforms)


@pytest.mark.parametrize(
    ("channels", "subtype", "tolerance"),
    [
        (2, "PCM_U8", 0.005),
        (2, "IMA_ADPCM", 0.02),
        (6, "PCM_U8", 0.005),
        (6, "PCM_24", 1e-6),
        (6, "DOUBLE", 1e-6),
    ],
)
def test_spans_of_many_channels_are_their_mean(
    tmp_path: Path, channels: int, subtype: str, tolerance: float
) -> None:
    gains = np.linspace(1, 0.2, channels, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", sweep()[:, None] * gains, 44100, subtype=subtype)
    found = audio.excerpts(tmp_path / "a.wav", 44100, **SPANS)
    at = round(found.starts[3] * 44100)
    expected = sweep()[at : at + 22050] * gains.mean()
    off = found.waveforms[3] - expected
    assert np.sqrt(np.mean(off**2)) < tolerance


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a"])
def test_of_a_long_truncated_track_spans_say_what_decode_says(tmp_path: Path, name: str) -> None:
    path = write_cut(tmp_path / name, 0.7)
    whole, _ = audio.load(path, 16000)
    found = audio.excerpts(path, 16000, **SPANS)
    assert found.warnings == audio.decode(path).warnings != ()
    assert not found.whole
    assert found.seconds == pytest.approx(len(whole) / 16000, abs=1e-3)
    assert max(found.starts) < found.seconds - 0.4
    cut(path, 0.5)
    with pytest.raises(InputError) as caught:
        audio.excerpts(path, 16000, **SPANS)
    assert caught.value.cause == fault_of(path).cause


def test_a_track_cut_after_its_last_span_has_a_warning(tmp_path: Path) -> None:
    # 10 shares of 1 s, spans of 10 ms: nothing after 9.505 s is needed.
    path = cut(write_sweep(tmp_path / "a.mp3"), 0.92)
    found = audio.excerpts(path, 16000, span_s=0.01, max_spans=9)
    (warning,) = found.warnings
    assert warning.damage
    assert re.match(r"0\.\d+ s of 10\.0 s could not be decoded", warning.message)


@pytest.mark.parametrize("samples", [2**36 - 1, 2**33])
def test_a_flac_file_that_promises_hours(tmp_path: Path, samples: int) -> None:
    path = with_length(write_sweep(tmp_path / "a.flac"), samples)
    assert "(10.0 s of" in fault_of(path).cause
    with pytest.raises(InputError, match=re.escape("(10.0 s of")):
        audio.excerpts(path, 16000, **SPANS)


def test_a_flac_file_that_promises_too_much(tmp_path: Path) -> None:
    path = with_length(write_sweep(tmp_path / "a.flac"), 11 * 44100)
    for found in (audio.decode(path), audio.excerpts(path, 16000, **SPANS)):
        (warning,) = found.warnings
        assert warning.damage
        assert warning.message.startswith("1.0 s of 11.0 s could not be decoded")


@pytest.mark.parametrize("kind", ["W64", "RF64", "CAF"])
def test_headers_that_promise_terabytes_give_what_there_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, sweep(), 44100, format=kind)
    content = bytearray(path.read_bytes())
    at = {"W64": b"data", "RF64": b"ds64", "CAF": b"data"}[kind]
    size = content.index(at) + {"W64": 16, "RF64": 16, "CAF": 4}[kind]
    content[size : size + 8] = struct.pack(">Q" if kind == "CAF" else "<Q", 2**41)
    path.write_bytes(content)
    assert len(audio.load(path)[0]) == 441000
    assert audio.excerpts(path, 16000, **SPANS).seconds == 10


def test_a_span_of_samples_that_are_no_numbers(tmp_path: Path) -> None:
    samples = sweep()
    samples[44100 * 5 // 6] = np.nan  # the middle of the first of six shares
    soundfile.write(tmp_path / "nan.wav", samples, 44100, subtype="FLOAT")
    with pytest.raises(InputError, match="not finite numbers"):
        audio.excerpts(tmp_path / "nan.wav", 16000, **SPANS)


def test_excerpts_of_nothing(tmp_path: Path, tone: WriteTone) -> None:
    with pytest.raises(InputError, match="no such file"):
        audio.excerpts(tmp_path / "none.wav", SAMPLING_RATE, **SPANS)
    for settings in ({"span_s": 0.0, "max_spans": 3}, {"span_s": 1.0, "max_spans": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            audio.excerpts(tone(tmp_path / "tone.wav"), SAMPLING_RATE, **settings)


def test_more_channels_than_a_frame_has_pointers(tmp_path: Path) -> None:
    layout, gains = "hexadecagonal", np.linspace(0, 1, 16, dtype=np.float32)
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=SAMPLING_RATE, layout=layout)
        packed = (sine(1.0, SAMPLING_RATE)[:, None] * gains).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = SAMPLING_RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    waveform, _ = audio.load(path)
    np.testing.assert_allclose(waveform, sine(1.0, SAMPLING_RATE) * gains.mean(), atol=1e-6)


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = write_with_av(tmp_path / "a.m4a", "alac", sine(1.0, SAMPLING_RATE)[None], SAMPLING_RATE)
    path.write_bytes(path.read_bytes().replace(b"alac", b"what"))
    assert "its audio codec is not supported" in fault_of(path).cause


def test_seeking_in_mp3_leaves_the_terminal_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path / "a.mp3", sampling_rate=SAMPLING_RATE)
    assert len(audio.excerpts(path, 16000, **SPANS).waveforms) == 6
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.mp3", "a.aac"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_hole_in_a_stream_without_a_length_is_said(
    tmp_path: Path, name: str, whole: bool
) -> None:
    # A tenth of the bytes are zeros, which the decoder takes in with a packet, or skips unsaid.
    path = write_sweep(tmp_path / name)
    content = bytearray((without_xing(path) if name == "a.mp3" else path).read_bytes())
    first, size = len(content) // 3, len(content) // 10
    content[first : first + size] = bytes(size)
    path.write_bytes(content)
    found = audio.decode(path) if whole else audio.excerpts(path, 8000, **SPANS)
    (warning,) = found.warnings
    assert warning.damage
    seconds, of = map(float, re.findall(r"([\d.]+) s", warning.message))
    assert seconds == pytest.approx(1, abs=0.15)
    assert of == pytest.approx(10, abs=0.3)


def test_long_losses_are_in_plain_numbers(tmp_path: Path, tone: WriteTone) -> None:
    path = cut(tone(tmp_path / "a.wav", seconds=300, sampling_rate=1000), 0.6)
    (warning,) = audio.decode(path).warnings
    assert warning.message.startswith("120.0 s of 300.0 s could not be decoded")


def test_blocks_of_a_low_rate_become_no_longer() -> None:
    whole = np.random.default_rng(0).normal(size=300_000).astype(np.float32)
    plain = soxr.ResampleStream(1000, 48_000, 1, dtype="float32", quality="HQ")
    expected = plain.resample_chunk(whole, last=True)
    blocks = list(streams.at_rate(iter([whole]), 1000, 48_000))
    assert max(map(len, blocks)) < 2**22 + 48_000
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
