"""Short-time spectra and mel bands in numpy and scipy: what the mel representations stand on.

Values follow librosa (``librosa.stft`` and ``librosa.filters.mel`` with their defaults, padding
by reflection), which is not needed at run time.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal
import scipy.sparse
from numpy.typing import NDArray

from genrescope.audio import Waveform


def power_spectrogram(waveform: Waveform, n_fft: int, hop: int) -> NDArray[np.float32]:
    """Squared magnitudes of a centred STFT with a periodic Hann window.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, at least ``n_fft // 2 + 1`` samples.
    n_fft
        Window and transform length in samples.
    hop
        Samples between frames.

    Returns
    -------
    power
        float32 (1 + samples // hop, 1 + n_fft // 2).

    Raises
    ------
    ValueError
        If the waveform is too short to be padded by reflection.
    """
    if len(waveform) <= n_fft // 2:
        raise ValueError(
            f"the clip is too short ({len(waveform)} samples; more than {n_fft // 2} are needed)"
        )
    padded = np.pad(waveform, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    spectrum = scipy.fft.rfft(frames * _hann(n_fft), axis=1)
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag), dtype=np.float32)


def mel_spectrogram(
    waveform: Waveform, rate: int, n_fft: int, hop: int, bands: int
) -> NDArray[np.float32]:
    """Power in mel bands (Slaney's scale and area normalisation, 0 Hz to half the rate).

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    rate
        In Hz.
    n_fft, hop
        In samples.
    bands
        Number of mel bands.

    Returns
    -------
    mel
        float32 (1 + samples // hop, bands).
    """
    power = power_spectrogram(waveform, n_fft, hop)
    return np.ascontiguousarray((_mel_filters(rate, n_fft, bands) @ power.T).T)


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


@lru_cache(maxsize=8)
def _hann(n_fft: int) -> NDArray[np.float32]:
    window: NDArray[np.float32] = scipy.signal.get_window("hann", n_fft).astype(np.float32)
    return window


@lru_cache(maxsize=8)
def _mel_filters(rate: int, n_fft: int, bands: int) -> scipy.sparse.csr_array:
    # float32 (bands, 1 + n_fft // 2); about 2 % of it is not zero, hence sparse.
    frequencies = np.linspace(0, rate / 2, 1 + n_fft // 2)
    edges = _mel_to_hz(np.linspace(0, _hz_to_mel(rate / 2), bands + 2))
    width = np.diff(edges)
    ramps = edges[:, None] - frequencies
    rising, falling = -ramps[:-2] / width[:-1, None], ramps[2:] / width[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    triangles *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return scipy.sparse.csr_array(triangles.astype(np.float32))


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
