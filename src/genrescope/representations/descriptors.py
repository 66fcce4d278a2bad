"""The 57 columns of GTZAN's public descriptor table, from audio.

Each column is the mean or variance over time of a feature of the whole clip, as computed by
librosa up to 0.7: spectra padded by reflection, and inverse transforms without the last
incomplete hop. librosa itself is not needed: one STFT serves all features, in a fraction of the
time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, resample
from genrescope.audio.spectral import cosines, hann, log_power, mel_filters, spectra
from genrescope.datasets.gtzan import TABLE_COLUMNS
from genrescope.datasets.track import Track
from genrescope.representations.median import moving_median
from genrescope.representations.representation import Representation, Source, representation
from genrescope.representations.transform import PLAIN, AudioTransform

SAMPLING_RATE = 22050
_N_FFT, _HOP, _BANDS, _MFCCS = 2048, 512, 128, 20
_BINS = 1 + _N_FFT // 2
_HZ = np.arange(_BINS) * (SAMPLING_RATE / _N_FFT)  # of the bins
_OVERLAP = _N_FFT // _HOP  # frames that a sample is in
_BLOCK = 128  # frames inverted at once
_TINY = np.finfo(np.float32).tiny

COLUMNS = TABLE_COLUMNS
"""The 57 column names, in the table's order (``perceptr`` is the percussive wave)."""


def compute(waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
    """Compute the 57 descriptors of one clip.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    sampling_rate
        In Hz; resampled to 22,050.

    Returns
    -------
    descriptors
        float32 (57,), in the order of ``COLUMNS``; tempo in BPM, spectral features in Hz.

    Raises
    ------
    ValueError
        If the clip is shorter than 2,048 samples at 22,050 Hz.
    """
    y = resample(waveform, sampling_rate, SAMPLING_RATE)
    if len(y) < _N_FFT:
        raise ValueError(f"the clip is too short for descriptors ({len(y) / SAMPLING_RATE:.3f} s)")
    frames = 1 + len(y) // _HOP
    spectrum = np.empty((frames, _BINS), np.complex64)
    magnitude = np.empty((frames, _BINS), np.float32)
    centroid, bandwidth, rolloff = (np.empty(frames) for _ in range(3))
    mel = np.empty((frames, _BANDS), np.float32)
    for some, exact in spectra(y, _N_FFT, _HOP):
        spectrum[some] = block = exact.astype(np.complex64)
        magnitude[some] = sizes = np.abs(block)
        mel[some] = np.square(sizes) @ mel_filters(SAMPLING_RATE, _N_FFT, _BANDS)
        centroid[some], bandwidth[some] = _centroid_and_bandwidth(sizes)
        rolloff[some] = _rolloff(sizes)
    level = log_power(mel)
    harmonic, percussive = _waves(y, spectrum, magnitude)
    columns = [
        _chroma(magnitude),
        _rms(y),
        centroid,
        bandwidth,
        rolloff,
        _zero_crossings(y),
        harmonic,
        percussive,
        *(level @ cosines(_BANDS, _MFCCS).astype(np.float32)).T,
    ]
    moments = [(np.mean(column), np.var(column)) for column in columns]
    values = [float(moment) for pair in moments for moment in pair]
    return np.array([*values[:16], _tempo(level), *values[16:]], dtype=np.float32)


def _centroid_and_bandwidth(
    magnitude: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Mean and standard deviation of the frequency, in Hz; in double precision, as the deviation
    # of a pure tone is the small difference of large numbers.
    total, first, second = (magnitude.astype(np.float64) @ np.stack([_HZ**0, _HZ, _HZ**2], 1)).T
    total[total < _TINY] = 1
    centroid = first / total
    return centroid, np.sqrt(np.maximum(0, second / total - np.square(centroid)))


def _rolloff(magnitude: NDArray[np.float32]) -> NDArray[np.float64]:
    # The frequency in Hz below which 85 % of a frame's magnitudes are.
    below = np.cumsum(magnitude, axis=1)
    bins = np.count_nonzero(below < np.float32(0.85) * below[:, -1:], axis=1)
    return np.asarray(_HZ[bins])


def _chroma(magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
    power = np.square(magnitude)
    chroma = power @ _chroma_filters(_tuning(power))
    loudest = chroma.max(axis=1, keepdims=True)
    loudest[loudest < _TINY] = 1
    return np.asarray(chroma / loudest)


def _tuning(power: NDArray[np.float32]) -> float:
    # How far the peaks between 150 and 4,000 Hz mostly are from the notes, in semitones from -½
    # to ½: of peaks above a tenth of their frame's largest value, parabolas give the frequencies,
    # and the louder half is counted (librosa's estimate_tuning).
    low, high = np.searchsorted(_HZ, (150, 4000))
    near = power[:, low - 1 : high + 1]
    middle = near[:, 1:-1]
    loud = middle > np.float32(0.1) * power.max(axis=1, keepdims=True)
    frames, bins = np.nonzero(loud & (middle > near[:, :-2]) & (middle >= near[:, 2:]))
    peak, before, after = (near[frames, bins + i] for i in (1, 0, 2))
    slope, bend = (after - before) / 2, after + before - 2 * peak
    flat = np.abs(slope) >= np.abs(bend)
    shift = -slope / np.where(flat, np.float32(np.inf), bend)
    pitch = ((bins + low + shift) * (SAMPLING_RATE / _N_FFT)).astype(np.float32)
    size = peak + np.float32(0.5) * slope * shift
    if not len(pitch):
        return 0.0
    pitch = pitch[size >= np.median(size)]
    offset = np.mod(12 * np.log2(pitch / np.float32(440 / 16)), np.float32(1))
    offset[offset >= 0.5] -= 1
    counts, edges = np.histogram(offset, np.linspace(-0.5, 0.5, 101))
    return float(edges[np.argmax(counts)])


@lru_cache(maxsize=128)
def _chroma_filters(tuning: float) -> NDArray[np.float32]:
    # (bins, 12): each bin's weight in each pitch class from C, by Ellis' chromagram (2007).
    hz = np.arange(1, _N_FFT) * (SAMPLING_RATE / _N_FFT)
    semitones = 12 * np.log2(hz / (440 * 2 ** (tuning / 12) / 16))
    semitones = np.concatenate([[semitones[0] - 18], semitones])  # 0 Hz: 1½ octaves below
    width = np.concatenate([np.maximum(np.diff(semitones), 1), [1]])[:_BINS, None]
    semitones = semitones[:_BINS, None]
    away = np.remainder(semitones - np.arange(12) + 6 + 120, 12) - 6
    weights = np.exp(-0.5 * np.square(2 * away / width))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    weights *= np.exp(-0.5 * np.square((semitones / 12 - 5) / 2))
    return np.asarray(np.roll(weights, -3, axis=1), dtype=np.float32)


def _rms(y: Waveform) -> NDArray[np.float32]:
    squares = np.square(np.pad(y, _N_FFT // 2, mode="reflect"))
    return np.asarray(np.sqrt(_frame_sums(squares) / np.float32(_N_FFT)))


def _zero_crossings(y: Waveform) -> NDArray[np.float64]:
    # Sign changes inside a frame, per sample; values near zero count as positive.
    below = np.pad(y, _N_FFT // 2, mode="edge") < -1e-10
    changes = np.concatenate([[0], below[1:] != below[:-1]], dtype=np.int32)
    sums = _frame_sums(changes)
    return np.asarray((sums - changes[: _HOP * len(sums) : _HOP]) / _N_FFT)


def _frame_sums(values: NDArray[Any]) -> NDArray[Any]:
    hops = values[: len(values) // _HOP * _HOP].reshape(-1, _HOP).sum(axis=1)
    return np.asarray(sum(hops[i : len(hops) - _OVERLAP + 1 + i] for i in range(_OVERLAP)))


def _waves(
    y: Waveform, spectrum: NDArray[np.complex64], magnitude: NDArray[np.float32]
) -> tuple[Waveform, Waveform]:
    # Harmonic and percussive waveforms, (samples,) each, by Fitzgerald (DAFx 2010): medians over
    # time and over frequency. The two masks sum to one, so the percussive waveform is the
    # remainder of the harmonic one.
    harmonics = moving_median(magnitude, 31)
    strokes = moving_median(np.ascontiguousarray(magnitude.T), 31).T
    frames, window = len(spectrum), hann(_N_FFT).astype(np.float32)
    hops, weights = (np.zeros((frames + _OVERLAP - 1, _HOP), np.float32) for _ in range(2))
    for start in range(0, frames, _BLOCK):
        some = slice(start, min(start + _BLOCK, frames))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            mask = 1 / (1 + np.square(strokes[some] / harmonics[some]))
        mask[np.isnan(mask)] = 0.5  # where there is neither
        pieces = (np.fft.irfft(spectrum[some] * mask) * window).reshape(-1, _OVERLAP, _HOP)
        squares = np.square(window).reshape(_OVERLAP, _HOP)
        for i in range(_OVERLAP):
            at = slice(some.start + i, some.stop + i)
            hops[at] += pieces[:, i]
            weights[at] += squares[i]
    # Without the padding and the incomplete last hop, as librosa 0.7 did.
    inside = slice(_N_FFT // 2, _N_FFT // 2 + (frames - 1) * _HOP)
    harmonic, percussive = np.zeros_like(y), np.zeros_like(y)
    found = hops.ravel()[inside] / weights.ravel()[inside]
    harmonic[: len(found)] = found
    percussive[: len(found)] = y[: len(found)] - found
    return harmonic, percussive


def _tempo(level: NDArray[np.float32]) -> float:
    # In BPM. The median band's rise from frame to frame is compared with itself over windows of
    # 8 s; of the lags, near ones to half a second are preferred (librosa's tempo; Ellis 2007).
    rises = np.sort(np.maximum(0, np.diff(level, axis=0)), axis=1)
    lag = 1 + _N_FFT // (2 * _HOP)
    onsets = np.zeros(len(level))
    onsets[lag:] = rises[:, _BANDS // 2 - 1 : _BANDS // 2 + 1].mean(axis=1)[: len(level) - lag]
    if not onsets.any():
        return 0.0
    length = 8 * SAMPLING_RATE // _HOP
    padded = np.pad(onsets, length // 2, mode="linear_ramp")
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[: len(onsets)]
    windows = windows * hann(length)
    energy = np.einsum("ij,ij->i", windows, windows)
    energy[energy < np.finfo(np.float64).tiny] = 1
    padded_length = 720  # at least 2 · length - 1, and fast to transform
    transformed = np.fft.rfft(windows, padded_length)
    powers = np.square(transformed.real) + np.square(transformed.imag)
    likeness = np.fft.irfft((1 / energy) @ powers / len(energy), padded_length)[1:length]
    bpm = 60 * SAMPLING_RATE / (_HOP * np.arange(1, length))
    score = np.log1p(1e6 * likeness) - 0.5 * np.square(np.log2(bpm / 120))
    return float(bpm[np.argmax(np.where(bpm < 320, score, -np.inf))])


@representation("descriptors")
@dataclass(frozen=True)
class Descriptors(Representation):
    """The 57 descriptors, from the published table or from audio."""

    sampling_rate: ClassVar[int] = SAMPLING_RATE

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        return (len(COLUMNS),)

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """See the module's ``compute``."""
        return compute(waveform, sampling_rate)

    def source(self, track: Track) -> Source | None:
        """The published row, or else the audio."""
        return Source("table", None) if track.descriptors else super().source(track)

    def of_track(
        self, track: Track, transform: AudioTransform = PLAIN, *, allow_damaged: bool = False
    ) -> NDArray[np.float32]:
        """From the published row, or else from the audio."""
        if track.descriptors is None:
            return super().of_track(track, transform, allow_damaged=allow_damaged)
        return np.array(track.descriptors, dtype=np.float32)
