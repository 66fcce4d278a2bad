"""The demo dataset: short synthetic clips in ten rule-made styles, drawn from a seed.

With it every command runs without downloads or licences. ``demo.toml`` has the styles: tempo,
metre, scale, progressions, and parts with their rhythm and timbre. Each style has five artists
whose tuning, timbre, tempo and production affect all of their tracks, so a random split leaks as
on real music. Neighbouring rows borrow each other's parts, so that no model is perfect. Results
on the demo show that the software works; they say nothing about real music.
"""

from __future__ import annotations

import io
import json
import os
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from genrescope.datasets.track import Dataset, SplitLists, Track
from genrescope.errors import InputError

VERSION = 1
"""Version of the generator: raised with every audible change, so that old clips are re-rendered."""
SAMPLING_RATE = 22050
"""Sampling rate of the files that ``make`` writes, in Hz."""
SIDES = ("train", "test", "valid", "train", "test")
"""The side of the ``filtered`` lists of each artist of a style."""
NOTE = "The demo clips are synthetic: figures on them say nothing about real music."

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One part: its notes, rhythm and timbre."""

    plays: str  # root; walk, arp: chord tones in turn; chord; tune; or kick, snare, hat
    rhythm: str  # one character per step, repeated: a digit's force, or a dot for a rest
    level: float = 1.0  # beside the other parts, linear
    octave: int = 0  # above middle C's
    division: int = 4  # steps per beat
    gate: float = 1.0  # how long a note is held, in steps
    attack: float = 0.005  # rise time, in seconds
    decay: float = 0.4  # time constant of the fall, in seconds
    rolloff: float = 1.6  # exponent by which harmonics fall: 1 is a saw, 3 nearly a sine
    hollow: float = 0.0  # how much of the even harmonics is missing, 0 to 1
    vibrato: float = 0.0  # depth, in semitones


@dataclass(frozen=True, slots=True)
class Style:
    """The rules of one style."""

    tempo: tuple[float, float]  # slowest and fastest, in beats per minute
    bar: int  # beats that one chord lasts
    scale: tuple[int, ...]  # semitones above the key note
    progressions: tuple[str, ...]  # chord roots as scale degrees from 0, a digit per bar
    voicing: tuple[int, ...]  # tones of a chord, as scale degrees above its root
    loudness: float  # mean level, in dB re full scale
    parts: tuple[Instrument, ...]  # the first is never left out


def _styles() -> dict[str, Style]:
    text = files("genrescope.datasets").joinpath("demo.toml").read_text("utf-8")
    styles = {}
    for name, table in tomllib.loads(text).items():
        parts = tuple(Instrument(**part) for part in table.pop("parts"))
        rules: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in table.items()
        }
        styles[name] = Style(**rules, parts=parts)
    return styles


STYLES = _styles()
"""In an order that matters: neighbours borrow each other's parts."""


class Artist:
    """Properties that all tracks of one artist share."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.tuning = rng.integers(-5, 6) + rng.uniform(-0.4, 0.4)  # key and pitch, in semitones
        self.pace = rng.uniform(0.1, 0.9)  # place in the style's range of tempo
        self.rolloff = rng.normal(0, 0.25)  # added to every part's: above 0 is darker
        self.drums = np.exp(rng.normal(0, 0.35))  # level, linear
        self.pitch = np.exp(rng.normal(0, 0.2))  # of the drums, as a factor
        self.tilt = rng.normal(0, 1.4)  # tone control, in dB per octave around 600 Hz
        self.drive = 0.1 + rng.uniform(0, 1.5) ** 2  # level into the saturation, linear
        self.noise = rng.uniform(-60, -26)  # noise floor, in dB re the music
        self.wet = rng.uniform(0, 0.7)  # level of the reverberation, linear
        self.room = rng.uniform(0.05, 0.4)  # its time constant, in seconds
        self.level = rng.normal(0, 2.5)  # in dB re the style's loudness


def render(
    style: str,
    artist: int,
    number: int,
    *,
    seconds: float = 6.0,
    sampling_rate: int = SAMPLING_RATE,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Render one clip; the same arguments give the same samples.

    Parameters
    ----------
    style
        A key of ``STYLES``.
    artist
        Which artist of the style, from 0.
    number
        Which track, from 0.
    seconds
        Length of the clip.
    sampling_rate
        In Hz.
    seed
        Of the whole demo: another seed has other artists.

    Returns
    -------
    float32 array (samples,), mono, in [-1, 1]

    Raises
    ------
    ValueError
        For an unknown style, a negative number or a length or rate that leaves no samples.
    """
    if style not in STYLES:
        raise ValueError(f"unknown demo style {style!r}: choose one of {', '.join(STYLES)}")
    if min(artist, number, seed) < 0:
        raise ValueError(f"artist {artist}, number {number} and seed {seed} must not be negative")
    samples = _samples(seconds, sampling_rate)
    index = list(STYLES).index(style)
    rng = np.random.default_rng([seed, index, artist, number])
    # A fifth number, because NumPy pads with zeros: three would be the seed of track 0.
    artist_rng = np.random.default_rng([seed, index, artist, 0, 1])
    habits = Artist(artist_rng)
    mix = _perform(index, habits, samples, sampling_rate, rng)
    mix = _produce(np.tanh(_unit(mix) * habits.drive), habits, sampling_rate, artist_rng)
    mix = _unit(mix) + rng.standard_normal(samples) * 10 ** (habits.noise / 20)
    level = STYLES[style].loudness + habits.level + rng.normal(0, 1)
    return np.tanh(mix * 10 ** (level / 20)).astype(np.float32)


def _perform(
    index: int, habits: Artist, samples: int, sampling_rate: int, rng: np.random.Generator
) -> Array:
    """Render a style's parts, some left out or borrowed from a neighbour: float64 (samples,)."""
    rules = list(STYLES.values())
    style = rules[index]
    slow, fast = style.tempo
    beat = 60 / (slow + (fast - slow) * np.clip(habits.pace + rng.normal(0, 0.15), 0, 1))
    key = 60 + habits.tuning + rng.choice((0, 0, 2, 5, -5))
    chords = rng.choice(style.progressions)
    start = rng.integers(len(chords)) * style.bar + 1e-6
    parts = [part for i, part in enumerate(style.parts) if i == 0 or rng.random() > 0.15]
    if rng.random() < 0.3:
        lender = rules[rng.choice([i for i in (index - 1, index + 1) if 0 <= i < len(rules)])]
        parts.append(lender.parts[rng.integers(len(lender.parts))])

    mix = np.zeros(samples)
    for part in parts:
        level = part.level * np.exp(rng.normal(0, 0.25))
        rolloff = max(0.6, part.rolloff + habits.rolloff + rng.normal(0, 0.12))
        degree = int(rng.integers(7))
        for turn, (at, force) in enumerate(_strikes(part, beat, samples / sampling_rate, rng)):
            degree = int(np.clip(degree + rng.integers(-2, 3), -2, 9))
            if part.plays in ("kick", "snare", "hat"):
                sounds = [habits.drums * _drum(part.plays, habits.pitch, sampling_rate, rng)]
            else:
                root = int(chords[int(at / beat + start) // style.bar % len(chords)])
                degrees = {
                    "root": [root],
                    "tune": [degree],
                    "chord": [root + step for step in style.voicing],
                }.get(part.plays, [root + (*style.voicing, 7)[turn % (len(style.voicing) + 1)]])
                octaves, steps = np.divmod(np.array(degrees), len(style.scale))
                pitches = key + 12 * (part.octave + octaves) + np.take(style.scale, steps)
                held = part.gate * beat / part.division
                sounds = [_note(pitch, held, sampling_rate, part, rolloff) for pitch in pitches]
            rest = mix[round(at * sampling_rate) :]
            for sound in sounds:
                rest[: len(sound)] += level * force / len(sounds) ** 0.5 * sound[: len(rest)]
    return mix


def _strikes(
    part: Instrument, beat: float, seconds: float, rng: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """Yield onset times in s, slightly late as by humans, and velocities, 0 to 1."""
    for step in count():
        if (at := step * beat / part.division) >= seconds:
            return
        force = part.rhythm[step % len(part.rhythm)]
        if force != "." and rng.random() > 0.06:
            yield at + abs(rng.normal(0, 0.006)), int(force) / 9 * rng.uniform(0.8, 1.0)


def _note(pitch: float, held: float, sampling_rate: int, part: Instrument, rolloff: float) -> Array:
    """Render a MIDI pitch for ``held`` seconds: float64 (samples,).

    Wavetable synthesis: one cycle is summed from the harmonics below 0.45 of the rate and read at
    the note's frequency, which is far cheaper than a sine per harmonic.
    """
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    harmonics = np.arange(1, min(40, int(0.45 * sampling_rate / frequency)) + 1)
    spectrum = np.zeros(513, dtype=np.complex128)
    spectrum[harmonics] = -512j * harmonics**-rolloff * (1 - part.hollow * (harmonics % 2 == 0))
    cycle = np.fft.irfft(spectrum)
    time = np.arange(round(held * sampling_rate)) / sampling_rate
    phase = frequency * (time + part.vibrato / 18 / 33 * np.sin(33 * time))
    envelope = np.minimum(time / part.attack, 1) * np.exp(-time / part.decay)
    envelope *= np.minimum((held - time) / 0.02, 1)
    return np.asarray(cycle[(phase * 1024).astype(np.int64) & 1023] * envelope)


def _drum(plays: str, pitch: float, sampling_rate: int, rng: np.random.Generator) -> Array:
    """Render a falling sine, noise with a tone, or bright noise: float64 (samples,)."""
    time = np.arange(round(sampling_rate * (0.12 if plays == "hat" else 0.3))) / sampling_rate
    noise = rng.standard_normal(len(time))
    if plays == "kick":
        phase = 2 * np.pi * pitch * (48 * time + 4 * (1 - np.exp(-time / 0.03)))
        sound = 2 * np.sin(phase) * np.exp(-time / 0.1)
    elif plays == "snare":
        tone = np.sin(2 * np.pi * 190 * pitch * time) * np.exp(-time / 0.05)
        sound = noise * 0.6 * np.exp(-time * pitch / 0.07) + tone
    else:
        sound = np.diff(noise, prepend=0) * 0.4 * np.exp(-time * pitch / 0.02)
    return np.asarray(sound)


def _produce(mix: Array, habits: Artist, sampling_rate: int, rng: np.random.Generator) -> Array:
    """Apply the artist's reverberation and tone control to the mix (samples,)."""
    time = np.arange(int(4 * habits.room * sampling_rate) + 1) / sampling_rate
    room = habits.wet * _unit(rng.standard_normal(len(time)) * np.exp(-time / habits.room))
    room /= len(time) ** 0.5
    room[0] += 1
    size = -(-(len(mix) + len(room)) // 4096) * 4096  # a round number, for a quick transform
    tone = (np.maximum(np.fft.rfftfreq(size, 1 / sampling_rate), 30) / 600) ** (habits.tilt / 6.02)
    return np.fft.irfft(np.fft.rfft(mix, size) * np.fft.rfft(room, size) * tone)[: len(mix)]


def _unit(wave: Array) -> Array:
    """Scale a wave to a mean power of 1; silence stays silence."""
    return np.asarray(wave / (np.sqrt(np.mean(wave**2)) + 1e-9))


def _samples(seconds: float, sampling_rate: int) -> int:
    """Return the length of a clip in samples, or raise ValueError if there would be none."""
    if not (np.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds must be a positive number, not {seconds}")
    if sampling_rate < 1:
        raise ValueError(f"rate must be a positive number of Hz, not {sampling_rate}")
    if (samples := round(seconds * sampling_rate)) < 1:
        raise ValueError(f"{seconds} s at {sampling_rate} Hz is less than one sample")
    return samples


def make(
    folder: Path,
    *,
    tracks_per_style: int = 20,
    seconds: float = 6.0,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Dataset:
    """Render the demo into ``<folder>/<style>/<style>.00000.flac`` and on, 16 bit, 22050 Hz.

    Existing clips are kept if they are complete and have the same settings (in ``demo.json``), so a
    stopped run resumes. The number of tracks does not affect a clip; surplus ones are kept.

    Parameters
    ----------
    folder
        Created if missing.
    tracks_per_style
        At least 3, so that each style is on each side of the ``filtered`` lists.
    seconds
        Length of each clip.
    seed
        Of the whole demo.
    progress
        Called in this thread with the tracks done and their total, after each track.

    Returns
    -------
    The dataset ``demo``: ``group`` is the artist, ``lists["filtered"]`` is artist-disjoint.

    Raises
    ------
    ValueError
        For fewer than 3 tracks, a length that leaves no samples, or a negative seed.
    InputError
        If the folder cannot be written.
    """
    if tracks_per_style < 3 or seed < 0:
        raise ValueError(
            f"tracks_per_style must be at least 3, not {tracks_per_style}, "
            f"and seed must not be negative, not {seed}"
        )
    samples = _samples(seconds, SAMPLING_RATE)
    folder = Path(folder)
    _prepare(folder, {"version": VERSION, "seconds": seconds, "rate": SAMPLING_RATE, "seed": seed})
    tracks = []
    sides: dict[str, list[str]] = {side: [] for side in SIDES}

    def ensure(path: Path, style: str, artist: int, number: int) -> None:
        if not _whole(path, samples):
            wave = render(style, artist, number, seconds=seconds, seed=seed)
            pcm, file = np.round(wave * 32767).astype(np.int16), io.BytesIO()
            soundfile.write(file, pcm, SAMPLING_RATE, "PCM_16", format="FLAC")
            _replace(path, file.getvalue())

    # Threads: NumPy and the encoder release the GIL, and callers need no main guard.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        futures = []
        for style in sorted(STYLES):
            for number in range(tracks_per_style):
                name, artist = f"{style}.{number:05d}", number % len(SIDES)
                path = folder / style / f"{name}.flac"
                tracks.append(Track(name, style, path, group=f"{style}-artist-{artist}"))
                sides[SIDES[artist]].append(name)
                futures.append(pool.submit(ensure, path, style, artist, number))
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done, len(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    lists = SplitLists(*(tuple(sides[side]) for side in ("train", "valid", "test")))
    return Dataset("demo", tuple(tracks), {"filtered": lists}, notes=(NOTE,))


def _prepare(folder: Path, settings: dict[str, float]) -> None:
    """Create the folders; delete clips of other settings before storing the new ones."""
    note = folder / "demo.json"
    with _writing(folder):
        for style in STYLES:
            (folder / style).mkdir(parents=True, exist_ok=True)
        try:
            if json.loads(note.read_text(encoding="utf-8")) == settings:
                return
        except (FileNotFoundError, ValueError):
            pass  # missing or incomplete: the settings of existing clips are unknown
        for style in STYLES:
            for stale in (folder / style).glob(f"{style}.{'[0-9]' * 5}.flac"):
                stale.unlink(missing_ok=True)
    _replace(note, (json.dumps(settings, indent=2) + "\n").encode())


def _whole(path: Path, samples: int) -> bool:
    """Return whether a clip can be decoded to its end, beyond its header."""
    try:
        wave, sampling_rate = soundfile.read(path, dtype="int16")
    except (OSError, soundfile.SoundFileError):
        return False
    return bool(sampling_rate == SAMPLING_RATE and wave.shape == (samples,))


def _replace(path: Path, content: bytes) -> None:
    """Write a file atomically, even if others write it, too."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with _writing(path):
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Convert errors of writing to InputErrors."""
    try:
        yield
    except OSError as error:
        cause = f"the demo cannot be written there ({error.strerror or error})"
        raise InputError(path, cause, "Choose a folder that you may write to") from error
