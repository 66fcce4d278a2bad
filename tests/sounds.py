"""Sounds that are no music, and music of none of GTZAN's ten genres, made from a seed.

Every kind draws its own parameters, so another seed gives other sounds of the same kinds. They are
float32 (samples,), mono, at ``RATE`` Hz and of ``SECONDS``.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal

from genrescope.audio import resample

RATE, SECONDS = 16_000, 12
ESPEAK = shutil.which("espeak-ng")
"""The speech synthesiser; None where it is not installed, and then there is no speech."""

Samples = NDArray[np.float64]
Maker = Callable[[np.random.Generator], Samples]

_COUNT = RATE * SECONDS
_TIME = np.arange(_COUNT) / RATE
_VOICES = ("en", "en-us", "de", "fr", "es", "it", "pt", "nl", "pl", "sv")
_TEXT = (
    "The train for the coast leaves from the second platform at a quarter past nine.",
    "Please keep the windows closed while the work on the roof goes on.",
    "Most of the members voted for the budget, and the meeting ended before noon.",
    "Rain is expected in the north, with light winds and a few dry hours towards the evening.",
    "Take the first road on the left, pass the school, and stop at the bridge.",
    "The library has bought four hundred new books, and half of them are on loan already.",
    "Mix the flour with the water, let it rest for an hour, and bake it in a hot oven.",
    "Nobody had seen the keys since Tuesday, when the caretaker locked the back door.",
)


def _tone(rng: np.random.Generator) -> Samples:
    phase = 2 * np.pi * np.exp(rng.uniform(np.log(60), np.log(6000))) * _TIME
    shapes: tuple[Callable[[Samples], Samples], ...] = (
        np.sin,
        np.sin,
        signal.square,
        signal.sawtooth,
    )
    return shapes[rng.integers(len(shapes))](phase)


def _telephone(rng: np.random.Generator) -> Samples:
    # Dial, busy and ringing tones: a pair of frequencies, on and off.
    low, high = rng.choice([(350, 440), (480, 620), (440, 480), (425, 425), (400, 450)])
    period = rng.choice([0.5, 1.0, 3.0, np.inf])
    on = (_TIME % period if np.isfinite(period) else 0 * _TIME) < period / 2
    return (np.sin(2 * np.pi * low * _TIME) + np.sin(2 * np.pi * high * _TIME)) * on


def _noise(rng: np.random.Generator) -> Samples:
    # White, pink, brown and in between, in gusts.
    spectrum = np.fft.rfft(rng.standard_normal(_COUNT))
    frequency = np.fft.rfftfreq(_COUNT, 1 / RATE)
    spectrum[1:] /= frequency[1:] ** (rng.choice([0, 0.5, 1]) + rng.uniform(-0.1, 0.1))
    spectrum[frequency < 20] = 0
    gusts = 1 + rng.uniform(0, 0.8) * np.sin(2 * np.pi * rng.uniform(0.1, 0.6) * _TIME)
    return np.fft.irfft(spectrum, _COUNT) * gusts


def _band_noise(rng: np.random.Generator) -> Samples:
    centre = np.exp(rng.uniform(np.log(150), np.log(5000)))
    band = [centre * 0.8, min(centre * 1.25, RATE / 2 - 100)]
    sections = signal.butter(4, band, "bandpass", fs=RATE, output="sos")
    return np.asarray(signal.sosfilt(sections, rng.standard_normal(_COUNT)))


def _clicks(rng: np.random.Generator) -> Samples:
    # Regular as of a clock, or random as of a Geiger counter; each a short decaying burst.
    rate = np.exp(rng.uniform(np.log(0.8), np.log(30)))
    if rng.random() < 0.5:
        times = np.arange(0, SECONDS, 1 / rate)
    else:
        times = rng.uniform(0, SECONDS, max(1, round(rate * SECONDS)))
    impulses = np.zeros(_COUNT)
    impulses[(times * RATE).astype(int)] = rng.uniform(0.5, 1, len(times))
    length = np.exp(rng.uniform(np.log(0.0003), np.log(0.004)))
    decay = np.exp(-np.arange(round(0.03 * RATE)) / RATE / length)
    return np.asarray(signal.fftconvolve(impulses, decay * rng.standard_normal(len(decay))))[
        :_COUNT
    ]


def _hum(rng: np.random.Generator) -> Samples:
    # The mains' frequency, its harmonics, and hiss.
    base, slope = rng.choice([50, 60]), rng.uniform(0.6, 2)
    parts = [
        rng.uniform(0.3, 1) * n**-slope * np.sin(2 * np.pi * (n * base * _TIME + rng.random()))
        for n in range(1, 25)
    ]
    return sum(parts) + rng.uniform(0, 0.1) * rng.standard_normal(_COUNT)


def _siren(rng: np.random.Generator) -> Samples:
    low = rng.uniform(350, 700)
    high, rate = low * rng.uniform(1.3, 2.5), np.exp(rng.uniform(np.log(0.15), np.log(4)))
    shapes: tuple[Callable[[Samples], Samples], ...] = (
        np.sin,
        signal.square,
        lambda phase: np.asarray(signal.sawtooth(phase, 0.5)),
    )
    wave = shapes[rng.integers(len(shapes))](2 * np.pi * rate * _TIME)
    pitch = low + (high - low) * (1 + wave) / 2
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.sin(phase) + rng.uniform(0, 0.5) * np.sin(2 * phase)


def _sweep(rng: np.random.Generator) -> Samples:
    ends = [rng.uniform(40, 200), rng.uniform(3000, 7500)]
    start, end = ends if rng.random() < 0.5 else ends[::-1]
    method = rng.choice(["linear", "logarithmic"])
    length = SECONDS / rng.choice([1, 2, 4, 8])
    return np.asarray(signal.chirp(_TIME % length, start, length, end, method=str(method)))


def _near_silence(rng: np.random.Generator) -> Samples:
    # A few quantisation steps of 16-bit audio: dither, and at times a little hum.
    quiet = rng.uniform(2, 6) * rng.standard_normal(_COUNT)
    quiet += rng.choice([0, 4]) * np.sin(2 * np.pi * 50 * _TIME)
    return np.round(quiet) / 2**15


def _speech(rng: np.random.Generator) -> Samples:
    assert ESPEAK is not None
    voice = f"{rng.choice(_VOICES)}+{rng.choice(['m1', 'm3', 'm7', 'f1', 'f2', 'f4'])}"
    settings = ["-v", voice, "-s", str(rng.integers(130, 200)), "-p", str(rng.integers(25, 75))]
    text = " ".join(rng.permutation(_TEXT)[:5])
    command = [ESPEAK, *settings, "--stdout", text]
    spoken = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
    room = rng.uniform(0, 0.01) * rng.standard_normal(_COUNT)
    return np.resize(resample(samples, rate, RATE), _COUNT) + room


def _pad(rng: np.random.Generator) -> Samples:
    # Ambient: a soft, slowly swelling chord of detuned saws.
    root, wave = rng.uniform(80, 160), np.zeros(_COUNT)
    for ratio in (1, rng.choice([1.2, 1.25]), 1.5, 2, 2.25):
        swell = 1 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.05, 0.2) * _TIME + rng.random()))
        for detune in (0.997, 1, 1.004):
            wave += swell * signal.sawtooth(2 * np.pi * (root * ratio * detune * _TIME))
    return np.asarray(
        signal.sosfilt(signal.butter(2, rng.uniform(500, 1500), fs=RATE, output="sos"), wave)
    )


def _techno(rng: np.random.Generator) -> Samples:
    # A kick on every beat, a hat between, and a bass in semiquavers.
    beat = 60 / rng.uniform(124, 140)
    since = _TIME % beat
    kick = np.sin(2 * np.pi * (45 * since - 12 * np.exp(-since * 30))) * np.exp(-since * 9)
    hat = rng.standard_normal(_COUNT) * np.exp(-((_TIME + beat / 2) % beat) * 60)
    step = (_TIME / (beat / 4)).astype(int) % 16
    pitches = rng.choice([0, 0, 0, 3, 7, 10, 12], 16)
    phase = 2 * np.pi * np.cumsum(55 * 2 ** (pitches[step] / 12)) / RATE
    bass = signal.sawtooth(phase) * np.exp(-(_TIME % (beat / 4)) * 12)
    return kick + 0.2 * hat + 0.4 * bass


NOT_MUSIC: dict[str, Maker] = {
    "tone": _tone,
    "telephone tones": _telephone,
    "noise": _noise,
    "noise in a band": _band_noise,
    "clicks": _clicks,
    "mains hum": _hum,
    "siren": _siren,
    "sweep": _sweep,
    "near-silence": _near_silence,
} | ({"speech": _speech} if ESPEAK else {})
"""By kind."""

OTHER_MUSIC: dict[str, Maker] = {
    "ambient pad": _pad,
    "techno": _techno,
}
"""Music of none of GTZAN's genres, by kind."""


def sounds(
    kinds: dict[str, Maker], each: int, seed: int = 0
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Make ``each`` sounds of every kind; those but near-silence have a peak of 0.5."""
    for number, (kind, make) in enumerate(kinds.items()):
        for place in range(each):
            wave = make(np.random.default_rng([seed, number, place]))
            loud = 1.0 if kind == "near-silence" else 0.5 / np.abs(wave).max()
            yield kind, (wave * loud).astype(np.float32)
