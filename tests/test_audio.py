"""Every format is read, to mono and to the rate asked for; what cannot be read says why."""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from genrescope import audio
from genrescope.errors import InputError

RATE = 22050
LOSSLESS = ("wav", "flac", "au", "aiff")
Samples = NDArray[np.float32]
WriteTone = Callable[..., Path]


def sine(seconds: float, rate: int, frequency: float = 440.0) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def write_with_av(
    path: Path, codec: str, samples: Samples, rate: int, options: dict[str, str] | None = None
) -> Path:
    # samples: float32 (channels, samples)
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate
        to_codec = av.AudioResampler(stream.codec_context.format, layout, rate)
        for block in [*to_codec.resample(frame), None]:
            container.mux(stream.encode(block))
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
    assert str(caught.value) == f"{path}: {caught.value.cause}. {caught.value.remedy}."
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_give_the_very_samples(
    tmp_path: Path, tone: WriteTone, suffix: str
) -> None:
    waveform, rate = audio.load(tone(tmp_path / f"tone.{suffix}", seconds=2.0, rate=RATE))
    assert (waveform.dtype, waveform.shape, rate) == (np.float32, (2 * RATE,), RATE)
    np.testing.assert_allclose(waveform, sine(2.0, RATE), atol=2 / 32768)


@pytest.mark.parametrize(
    ("name", "rate", "settings"),
    [
        ("tone.ogg", RATE, {}),
        ("tone.oga", RATE, {"format": "OGG"}),
        ("tone.opus", 24000, {"format": "OGG", "subtype": "OPUS"}),
        ("tone.mp3", RATE, {}),
    ],
)
def test_lossy_formats_keep_length_pitch_and_level(
    tmp_path: Path, tone: WriteTone, name: str, rate: int, settings: dict[str, str]
) -> None:
    path = tone(tmp_path / name, seconds=2.0, rate=rate, **settings)
    check_tone(*audio.load(path), rate)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("tone.m4a", "aac", RATE),
        ("lossless.m4a", "alac", RATE),
        ("tone.mp4", "aac", 44100),
        ("tone.aac", "aac", RATE),
        ("tone.webm", "libopus", 48000),
        ("tone.mka", "libopus", 48000),
    ],
)
def test_formats_that_only_ffmpeg_reads(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = write_with_av(tmp_path / name, codec, sine(2.0, rate)[None], rate)
    assert audio.is_audio(path)
    check_tone(*audio.load(path), rate)


def check_tone(waveform: Samples, rate: int, wanted_rate: int) -> None:
    assert (waveform.dtype, rate) == (np.float32, wanted_rate)
    assert len(waveform) / rate == pytest.approx(2.0, abs=0.1)  # codecs pad by a frame or two
    middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * rate / len(middle) == pytest.approx(440, abs=1.5)


@pytest.mark.parametrize("name", ["stereo.wav", "stereo.m4a"])
def test_stereo_becomes_the_mean_of_its_channels(tmp_path: Path, name: str) -> None:
    left, right = sine(1.0, RATE), sine(1.0, RATE, frequency=1000.0) / 4
    if name.endswith(".wav"):
        soundfile.write(tmp_path / name, np.stack([left, right], axis=1), RATE)
    else:
        write_with_av(tmp_path / name, "alac", np.stack([left, right]), RATE)
    waveform, _ = audio.load(tmp_path / name)
    np.testing.assert_allclose(waveform, (left + right) / 2, atol=2 / 32768)


def test_resampling_on_load_keeps_length_pitch_and_level(tmp_path: Path, tone: WriteTone) -> None:
    check_tone(*audio.load(tone(tmp_path / "tone.wav", 2.0, rate=44100), rate=16000), 16000)


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
        waveform, rate = audio.load(path)
        np.testing.assert_allclose(waveform, sine(2.0, rate), atol=2 / 32768)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
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
    assert re.search(r"cannot be decoded as audio|no samples can be decoded", cause)


def test_a_picture_with_the_name_of_audio(tmp_path: Path) -> None:
    png = tmp_path / "picture.mp3"
    png.write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
            "53de0000000c49444154789c636060600000000400"
            "01f61738550000000049454e44ae426082"
        )
    )
    assert re.search(r"no audio in it|cannot be decoded", fault_of(png).cause)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("suffix", [*LOSSLESS, "m4a"])
def test_a_truncated_file_is_refused(
    tmp_path: Path, tone: WriteTone, suffix: str, share: float
) -> None:
    path = tmp_path / f"cut.{suffix}"
    if suffix == "m4a":
        write_with_av(path, "aac", sine(2.0, RATE)[None], RATE)
    else:
        tone(path)
    cause = fault_of(cut(path, share)).cause
    assert re.search(
        "truncated" if suffix in {"wav", "au", "aiff"} else r"truncated|decoded", cause
    )


def test_truncated_compressed_files_are_refused_where_half_a_second_lacks(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 4 * 48000)).astype(np.float32)
    mp3 = tmp_path / "cut.mp3"
    soundfile.write(mp3, noise[0], 48000)
    webm = write_with_av(tmp_path / "cut.webm", "libopus", noise, 48000)
    streamable = {"movflags": "faststart"}  # the index comes first, so half a file can be opened
    m4a = write_with_av(tmp_path / "cut.m4a", "aac", noise, 48000, streamable)
    for path in (mp3, webm, m4a):
        assert len(audio.load(path)[0]) == pytest.approx(4 * 48000, rel=0.03)
        cause = fault_of(cut(path, 0.5)).cause
        assert re.search(r"truncated \([12]\.\d s of 4\.\d s can be read\)|decoded", cause)


def test_what_a_truncated_wav_says(tmp_path: Path, tone: WriteTone) -> None:
    path = cut(tone(tmp_path / "cut.wav", seconds=1, rate=1000), 0.5)
    assert fault_of(path).cause == "the WAV file is truncated (1,022 bytes of 2,044)"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    samples = sine(1.0, RATE)
    samples[100] = value
    path = tmp_path / "nan.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    assert "not finite numbers" in fault_of(path).cause


def test_a_file_that_may_not_be_read(
    tmp_path: Path, tone: WriteTone, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tone(tmp_path / "private.wav")

    def refuse(*_: object, **__: object) -> None:  # permission bits do not stop everybody
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
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
    ],
)
def test_audio_is_told_by_name(name: str, answer: bool) -> None:
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
    rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    target=st.sampled_from([8000, 16000, 22050, 44100]),
)
def test_resampling_gives_the_length_that_the_rates_say(
    waveform: Samples, rate: int, target: int
) -> None:
    out = audio.resample(waveform, rate, target)
    assert out.dtype == np.float32
    assert abs(len(out) - len(waveform) * target / rate) <= 1
    assert np.isfinite(out).all()
    if rate == target:
        np.testing.assert_array_equal(out, waveform)


@given(rate=st.sampled_from([16000, 22050, 44100, 48000]), level=st.floats(0.01, 1))
def test_resampling_keeps_the_level_of_a_constant(rate: int, level: float) -> None:
    out = audio.resample(np.full(rate, level, dtype=np.float32), rate, 16000)
    np.testing.assert_allclose(out[4000:-4000], level, rtol=1e-3)
