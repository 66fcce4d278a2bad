"""Audio files to waveforms: decode, mix to mono, resample.

A waveform is everywhere a float32 array (samples,), mono, nominally in [-1, 1]; a rate is an int
in Hz.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from genrescope.errors import InputError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Waveform = NDArray[np.float32]

EXTENSIONS = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".au",
        ".aif",
        ".aiff",
        ".m4a",
        ".mp4",
        ".aac",
        ".wma",
        ".webm",
        ".mka",
    ]
)
"""File name endings, in lower case, that are taken for audio."""

_REPLACE = "Replace the file with an intact copy or remove it"


def is_audio(path: Path) -> bool:
    """Tell by its name whether a file is audio; hidden files never are."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def load(path: Path, rate: int | None = None) -> tuple[Waveform, int]:
    """Decode a file to mono and, if asked, resample it.

    Parameters
    ----------
    path
        Any format that libsndfile or FFmpeg reads.
    rate
        The wanted sample rate in Hz; None keeps the file's own.

    Returns
    -------
    waveform
        float32 (samples,), mono.
    rate
        In Hz.

    Raises
    ------
    InputError
        If the file is missing, is not audio, is empty, holds values that are not numbers, or is
        truncated (where the format tells how long it should be: a cut-off Ogg file does not).
    """
    if not path.is_file():
        if path.is_dir():
            raise InputError(path, "it is a folder", "Give the path of an audio file")
        raise InputError(path, "no such file", "Check the path")
    try:
        _refuse_truncated_header(path)
    except OSError as error:
        remedy = "Check that you may read it"
        raise InputError(path, f"it cannot be read ({error.strerror})", remedy) from error
    try:
        samples, found = _decode_with_soundfile(path)
    except soundfile.LibsndfileError:
        samples, found = _decode_with_av(path)
    waveform = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if len(waveform) == 0:
        raise InputError(path, "it holds no samples", _REPLACE)
    if not np.isfinite(waveform).all():
        raise InputError(path, "it holds samples that are not finite numbers", _REPLACE)
    if rate is None or rate == found:
        return np.ascontiguousarray(waveform), found
    return resample(waveform, found, rate), rate


def resample(waveform: Waveform, rate: int, target: int) -> Waveform:
    """Resample with soxr's high quality (what librosa does by default).

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    rate, target
        Present and wanted sample rate in Hz.

    Returns
    -------
    waveform
        float32 (samples,) at ``target``.
    """
    if rate == target:
        return waveform
    out: Waveform = soxr.resample(waveform, rate, target, quality="HQ").astype(np.float32)
    return out


def fit_length(waveform: Waveform, samples: int) -> Waveform:
    """Cut, or pad with silence at the end, to exactly ``samples`` samples."""
    if len(waveform) >= samples:
        return waveform[:samples]
    return np.pad(waveform, (0, samples - len(waveform)))


def _decode_with_soundfile(path: Path) -> tuple[NDArray[np.float32], int]:
    with soundfile.SoundFile(path) as file:
        promised, rate = file.frames, int(file.samplerate)
        if promised >= 2**62:  # a FLAC file written to a pipe: FFmpeg needs no length
            return _decode_with_av(path)
        samples = file.read(dtype="float32", always_2d=True)
    _refuse_truncated(path, promised / rate, len(samples) / rate)
    return samples, rate


def _decode_with_av(path: Path) -> tuple[NDArray[np.float32], int]:
    import av  # noqa: PLC0415  FFmpeg's libraries take 0.1 s to load and few files need them
    import av.error  # noqa: PLC0415

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(path, "there is no audio in it", "Give an audio file")
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            promised = _promised_seconds(container, stream)
            to_float = av.AudioResampler(format="fltp", rate=rate)
            blocks = [
                block.to_ndarray()
                for frame in container.decode(stream)
                for block in to_float.resample(frame)
            ]
    except av.error.FFmpegError as error:
        cause = f"it cannot be decoded as audio ({error.strerror})"
        raise InputError(path, cause, _REPLACE) from error
    if not blocks:
        raise InputError(path, "no samples can be decoded from it", _REPLACE)
    samples = np.concatenate(blocks, axis=1).T.astype(np.float32)
    _refuse_truncated(path, promised, len(samples) / rate)
    return samples, rate


def _promised_seconds(container: InputContainer, stream: AudioStream) -> float:
    # What a header tells; 0 if none does. Of bare streams FFmpeg guesses from the first frames.
    if container.format.name in {"aac", "mp3"}:
        return 0.0
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / 1_000_000
    return 0.0


def _refuse_truncated_header(path: Path) -> None:
    # libsndfile quietly reads what is left of a cut-off WAV, AIFF or AU file.
    size = path.stat().st_size
    if size == 0:
        raise InputError(path, "the file is empty (0 bytes)", _REPLACE)
    with path.open("rb") as file:
        head = file.read(12).ljust(12, b"\0")
    slack = 1  # a pad byte is often forgotten
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        kind, header, body = "WAV", 8, struct.unpack("<I", head[4:8])[0]
    elif head[:4] == b"FORM" and head[8:11] == b"AIF":
        kind, header, body = "AIFF", 8, struct.unpack(">I", head[4:8])[0]
    elif head[:4] == b".snd":
        kind, (header, body) = "AU", struct.unpack(">II", head[4:])
        slack = body // 100  # old programs counted loosely
    else:
        return
    streamed = body in (0, 0xFFFFFFFF)  # written to a pipe: the length was not known
    if not streamed and size < header + body - slack:
        cause = f"the {kind} file is truncated ({size:,} bytes of {header + body:,})"
        raise InputError(path, cause, _REPLACE)


def _refuse_truncated(path: Path, promised: float, found: float) -> None:
    # Seconds. A compressed header may promise a little more than the codec delivers; half a second
    # is beyond any codec's padding.
    if found < promised - 0.5:
        cause = f"it is truncated ({found:.1f} s of {promised:.1f} s can be read)"
        raise InputError(path, cause, _REPLACE)
