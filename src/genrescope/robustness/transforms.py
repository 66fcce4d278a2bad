"""Transforms of audio that keep its genre, to test models with; each with fixed parameters.

B. L. Sturm, "A Simple Method to Determine if a Music Information Retrieval System is a 'Horse'",
IEEE Transactions on Multimedia 16, 2014: a system that recognises genre gives the same answer
where only something irrelevant to genre has changed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator

from genrescope.audio import Waveform, fit_length, resample
from genrescope.errors import GenrescopeError
from genrescope.representations.transform import AudioTransform

Apply = Callable[[Waveform, int, Generator], Waveform]
"""From float32 (samples,), its rate in Hz and a generator to float32 (samples,) at that rate."""

_MP3_RATES = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000})  # that take 128 kbit/s
_REVERB_S = 1.0  # until its tail has lost 60 dB
_FADE_S = 3.0


@dataclass(frozen=True)
class Transform:
    """A transform with its parameters.

    Attributes
    ----------
    name
        As on the command line and in results.
    about
        A clause for tables and help.
    apply
        Makes the transformed clip. Samples may exceed [-1, 1].
    min_s
        Shorter clips are not transformed, in s.
    min_rate
        Clips of a lower sampling rate are not transformed, as nothing would change, in Hz.
    channel
        The channel to decode, of clips with several; None for their mix.
    """

    name: str
    about: str
    apply: Apply
    min_s: float = 0.0
    min_rate: int = 0
    channel: int | None = None

    def generator(self, track: str) -> Generator:
        """Return the random choices for a track: the same on every machine and in every order."""
        digest = hashlib.sha256(f"{self.name}\n{track}".encode("utf-8", "surrogateescape"))
        return np.random.default_rng(list(digest.digest()))


def _mp3(waveform: Waveform, sampling_rate: int, _: Generator, *, kbit_s: int) -> Waveform:
    import av  # noqa: PLC0415
    import soundfile  # noqa: PLC0415

    coded_rate = sampling_rate if sampling_rate in _MP3_RATES else 44_100
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=coded_rate, layout="mono")
        stream.bit_rate = kbit_s * 1000
        samples = resample(waveform, sampling_rate, coded_rate)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = coded_rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return fit_length(resample(decoded, coded_rate, sampling_rate), len(waveform))


def _colour(
    waveform: Waveform, sampling_rate: int, _: Generator, *, gain_db: float = 0, tilt_db: float = 0
) -> Waveform:
    return AudioTransform(gain_db=gain_db, tilt_db=tilt_db).colour(waveform, sampling_rate)


def _stretch(
    waveform: Waveform, sampling_rate: int, _: Generator, *, semitones: float = 0, tempo: float = 1
) -> Waveform:
    from python_stretch import Signalsmith  # noqa: PLC0415

    stretch = Signalsmith.Stretch()
    stretch.preset(1, sampling_rate)
    stretch.setTransposeSemitones(semitones)
    stretch.timeFactor = tempo
    return np.array(stretch.process(waveform[np.newaxis]), dtype=np.float32).reshape(-1)


def _filter(
    waveform: Waveform, sampling_rate: int, _: Generator, *, low: float = 0, high: float
) -> Waveform:
    # Butterworth, forwards and backwards: 48 dB an octave, without delay.
    from scipy.signal import butter, sosfiltfilt  # noqa: PLC0415

    band = {"N": 4, "Wn": [low, high], "btype": "bandpass"} if low else {"N": 4, "Wn": high}
    sections = butter(**band, fs=sampling_rate, output="sos")
    return np.asarray(sosfiltfilt(sections, waveform), dtype=np.float32)


def _noise(waveform: Waveform, _: int, rng: Generator, *, snr_db: float) -> Waveform:
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64))) * 10 ** (-snr_db / 20)
    return waveform + np.float32(level) * rng.standard_normal(len(waveform), dtype=np.float32)


def _reverb(waveform: Waveform, sampling_rate: int, rng: Generator) -> Waveform:
    # J.-D. Polack's model of a room: noise that decays exponentially, here as loud as the direct
    # sound. The clip keeps its level.
    from scipy.signal import fftconvolve  # noqa: PLC0415

    seconds = np.arange(round(_REVERB_S * sampling_rate)) / sampling_rate
    tail = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / _REVERB_S)
    tail /= np.sqrt(2 * np.sum(tail**2))
    tail[0] += np.sqrt(0.5)
    return np.asarray(fftconvolve(waveform, tail)[: len(waveform)], dtype=np.float32)


def _shift(waveform: Waveform, sampling_rate: int, _: Generator, *, seconds: float) -> Waveform:
    return waveform[round(seconds * sampling_rate) :]


def _fade(waveform: Waveform, sampling_rate: int, _: Generator) -> Waveform:
    edge = np.arange(len(waveform)) / (_FADE_S * sampling_rate)
    gain = np.minimum(1, np.minimum(edge, edge[::-1]))
    return waveform * gain.astype(np.float32)


def _same(waveform: Waveform, _: int, __: Generator) -> Waveform:
    return waveform


_LIST = (
    *(
        Transform(f"mp3-{rate}", f"MP3 at {rate} kbit/s, mono", partial(_mp3, kbit_s=rate))
        for rate in (128, 64)
    ),
    Transform("gain+6", "6 dB louder", partial(_colour, gain_db=6)),
    Transform("gain-6", "6 dB softer", partial(_colour, gain_db=-6)),
    Transform("bright", "equaliser, +6 dB from low to high", partial(_colour, tilt_db=6)),
    Transform("dark", "equaliser, -6 dB from low to high", partial(_colour, tilt_db=-6)),
    Transform("low-pass", "nothing above 8 kHz", partial(_filter, high=8000), min_rate=16_001),
    Transform(
        "telephone", "300 to 3400 Hz only", partial(_filter, low=300, high=3400), min_rate=6801
    ),
    *(
        Transform(
            f"pitch{by:+d}",
            f"{abs(by)} semitone{'s'[: abs(by) > 1]} {'higher' if by > 0 else 'lower'}",
            partial(_stretch, semitones=by),
        )
        for by in (-2, -1, 1, 2)
    ),
    *(
        Transform(
            f"tempo{by:+d}",
            f"{abs(by)} % {'faster' if by > 0 else 'slower'}, same pitch",
            partial(_stretch, tempo=1 + by / 100),
        )
        for by in (-10, -5, 5, 10)
    ),
    *(
        Transform(f"noise-{snr}", f"white noise, {snr} dB SNR", partial(_noise, snr_db=snr))
        for snr in (30, 20)
    ),
    Transform("reverb", "a room with 1 s of reverberation", _reverb),
    *(
        Transform(
            f"start+{by}", f"without the first {by} s", partial(_shift, seconds=by), min_s=by + 1
        )
        for by in (1, 5)
    ),
    Transform("fade", "3 s fade-in and fade-out", _fade, min_s=2 * _FADE_S),
    Transform("left-only", "the first channel of a stereo file alone", _same, channel=0),
)

TRANSFORMS: dict[str, Transform] = {transform.name: transform for transform in _LIST}
"""By name, in the order of tables."""

UNCHANGED = Transform("unchanged", "the clip as it is", _same)
"""What the others are compared with."""


def find_transforms(names: Sequence[str] | None) -> tuple[Transform, ...]:
    """Look transforms up; None gives all. GenrescopeError lists the known ones."""
    wanted = list(TRANSFORMS) if names is None else list(dict.fromkeys(names))
    if unknown := [name for name in wanted if name not in TRANSFORMS]:
        known = ", ".join(TRANSFORMS)
        raise GenrescopeError(f"There is no transform {unknown[0]!r}; there are: {known}.")
    return tuple(TRANSFORMS[name] for name in wanted)
