"""Short-time spectra and mel bands in numpy: what the mel representations stand on.

Values follow librosa (``librosa.stft`` and ``librosa.filters.mel`` with their defaults, padding
by reflection), which is not needed at run time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform

_GROUP = 8  # mel bands multiplied at once
_BLOCK = 128  # frames transformed at once: few enough to stay in the processor's cache


def mel_spectrogram(
    waveform: Waveform, sampling_rate: int, n_fft: int, hop: int, bands: int
) -> NDArray[np.float32]:
    """Power in mel bands (Slaney's scale and area normalisation, 0 Hz to half the rate).

    Computed from ``spectra``; single precision is enough for the sums.

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    sampling_rate
        In Hz.
    n_fft, hop
        In samples.
    bands
        Number of mel bands.

    Returns
    -------
    mel
        float32 (1 + samples // hop, bands).

    Raises
    ------
    ValueError
        If the waveform is not longer than half of ``n_fft``: it cannot be padded by reflection.
    """
    if len(waveform) <= n_fft // 2:
        raise ValueError(
            f"the clip is too short ({len(waveform)} samples; more than {n_fft // 2} are needed)"
        )
    groups = _filter_groups(sampling_rate, n_fft, bands)
    mel = np.empty((1 + len(waveform) // hop, bands), dtype=np.float32)
    for some, block in spectra(waveform, n_fft, hop):
        squares = block.view(np.float64)  # of real and imaginary parts by turns
        np.square(squares, out=squares)
        power = (squares[:, ::2] + squares[:, 1::2]).astype(np.float32)
        for bins, of, weights in groups:
            mel[some, of] = power[:, bins] @ weights
    return mel


def spectra(
    waveform: Waveform, n_fft: int, hop: int
) -> Iterator[tuple[slice, NDArray[np.complex128]]]:
    """Centred STFT with a periodic Hann window, padded by reflection, some frames at a time.

    Yields
    ------
    frames, spectrum
        Which frames, and complex128 (frames, 1 + n_fft // 2), the caller's own: in double
        precision a loud band's rounding errors do not drown a quiet one.
    """
    padded = np.pad(waveform, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = hann(n_fft)
    for start in range(0, len(frames), _BLOCK):
        some = slice(start, min(start + _BLOCK, len(frames)))
        yield some, np.fft.rfft(frames[some] * window)


def to_db(power: NDArray[np.float32], factor: float, floor: float = 80.0) -> NDArray[np.float32]:
    """Decibels below the maximum: ``factor · log10(power / max)``, cut at ``-floor`` dB.

    A factor of 10 is right for power; the GTZAN pictures used 20 (``amplitude_to_db`` of power).
    Silence gives zeros.
    """
    # librosa clips amplitudes at 1e-5 and powers at 1e-10 before the logarithm.
    smallest = np.float32(1e-5 if factor == 20 else 1e-10)
    level = factor * np.log10(np.maximum(power, smallest))
    level -= factor * np.log10(max(float(power.max()), float(smallest)))
    return np.maximum(level, -floor, dtype=np.float32)


def log_power(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Level in dB: ``10 · log10(power)``, cut at 80 dB below the loudest (librosa's power_to_db).

    Unlike ``to_db`` it keeps how loud the clip is. Silence gives -100.
    """
    return to_db(power, factor=10) + np.float32(10 * np.log10(max(float(power.max()), 1e-10)))


@lru_cache(maxsize=8)
def hann(n_fft: int) -> NDArray[np.float64]:
    """Periodic Hann window; float64 (n_fft,)."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft))


@lru_cache(maxsize=8)
def mel_filters(sampling_rate: int, n_fft: int, bands: int) -> NDArray[np.float32]:
    """Each FFT bin's weight in each mel band; float32 (1 + n_fft // 2, bands)."""
    frequencies = np.linspace(0, sampling_rate / 2, 1 + n_fft // 2)[:, None]
    edges = _edges(sampling_rate, bands)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (high - low)).astype(np.float32)


@lru_cache(maxsize=8)
def _filter_groups(
    sampling_rate: int, n_fft: int, bands: int
) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    # Bins, bands and weights of neighbouring mel bands, without the bins that they do not use.
    # Products this small are computed by the calling thread: OpenBLAS would distribute larger
    # ones to threads of its own, whose spinning makes a busy machine several times slower.
    filters, groups = mel_filters(sampling_rate, n_fft, bands), []
    for first in range(0, bands, _GROUP):
        part = filters[:, first : first + _GROUP]
        used = np.flatnonzero(part.any(axis=1))
        bins = slice(used.min(initial=len(part)), used.max(initial=-1) + 1)
        groups.append((bins, slice(first, first + _GROUP), np.ascontiguousarray(part[bins])))
    return groups


@lru_cache(maxsize=8)
def cosines(bands: int, coefficients: int) -> NDArray[np.float64]:
    """First columns of the orthonormal DCT-II; float64 (bands, coefficients)."""
    band, coefficient = np.arange(bands)[:, None], np.arange(coefficients)
    columns = np.cos(np.pi * (band + 0.5) * coefficient / bands) * np.sqrt(2 / bands)
    columns[:, 0] /= np.sqrt(2)
    return np.asarray(columns)


def mel_centres(sampling_rate: int, bands: int) -> NDArray[np.float64]:
    """Middle frequencies of the mel bands in Hz; float64 (bands,)."""
    return _edges(sampling_rate, bands)[1:-1]


def _edges(sampling_rate: int, bands: int) -> NDArray[np.float64]:
    return _mel_to_hz(np.linspace(0, _hz_to_mel(sampling_rate / 2), bands + 2))


# Slaney's mel scale (Auditory Toolbox, 1998): linear to 1 kHz, then 27 steps a factor 6.4.
_LINEAR_STEP = 200.0 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(frequency: float) -> float:
    if frequency < _BREAK_HZ:
        return frequency / _LINEAR_STEP
    return float(_BREAK_HZ / _LINEAR_STEP + np.log(frequency / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    mel_break = _BREAK_HZ / _LINEAR_STEP
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - mel_break))
    return np.where(mel < mel_break, mel * _LINEAR_STEP, above)
