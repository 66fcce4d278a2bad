"""Waveforms: arrays of samples, without files.

A waveform is a float32 array (samples,), mono, nominally in [-1, 1]; a sampling rate is an int in
Hz. Samples beyond 1 are kept; samples beyond `MAX_AMPLITUDE` are invalid.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from genrescope.errors import WaveformError

Waveform = NDArray[np.float32]

MAX_AMPLITUDE = 2.0**31
"""Maximum of a sample: that of unscaled integers in a file of floats.

No representation overflows up to here.
"""

SILENCE_PEAK = 2.0**-14
"""Two quantisation steps of 16-bit audio: a lower peak is silence, possibly with dither."""

LEVEL_RMS = 0.1
"""The level that pretrained networks are given: a root mean square of -20 dB."""

LEVEL_FRAME_S = 0.1
LEVEL_RANGE = 1e-4  # power of a frame relative to the loudest, below which it is a pause

# A mix with less than this share of the power of uncorrelated channels: a correlation of -0.8.
_ANTIPHASE = 0.2
_WINDOW = 2**13  # samples that are mixed in the same way


def to_waveform(samples: NDArray[Any]) -> Waveform:
    """Convert an array to a waveform.

    Parameters
    ----------
    samples
        Floats in [-1, 1]: (samples,), (samples, channels) as from soundfile, or
        (channels, samples) as from librosa. The shorter axis holds the channels, the second one
        if both are equal; their mean is taken.

    Returns
    -------
    waveform
        float32 (samples,).

    Raises
    ------
    WaveformError
        If it is empty, has another number of dimensions, is not of floats, or holds values that
        are not finite or beyond `MAX_AMPLITUDE`. Integers are refused, as by librosa: their type
        does not say how large their full scale is (24-bit samples are stored as int32).
    """
    if samples.dtype.kind != "f":
        message = f"a waveform must be of floats in [-1, 1], not of {samples.dtype}"
        if samples.dtype.kind in "iu":
            full_scale = -np.iinfo(samples.dtype).min or 2 ** (8 * samples.itemsize - 1)
            offset = " - 1" if samples.dtype.kind == "u" else ""
            message += f"; scale it first (full-scale audio: samples / {full_scale}.0{offset})"
        raise WaveformError(message)
    if samples.ndim not in {1, 2}:
        raise WaveformError(
            "a waveform must be of shape (samples,), (samples, channels) or (channels, samples), "
            f"not {samples.shape}"
        )
    if samples.size == 0:
        raise WaveformError("the waveform is too short: it has no samples")
    if (fault := fault_of(samples)) is not None:
        raise WaveformError(fault)
    if samples.ndim == 2:
        samples = samples.mean(axis=0 if samples.shape[0] < samples.shape[1] else 1)
    return np.ascontiguousarray(samples, dtype=np.float32)


def fault_of(samples: NDArray[Any]) -> str | None:
    """Return why samples are invalid, as a clause; None if they are valid."""
    # A single NaN makes both extremes NaN.
    peak = max(float(samples.max(initial=0)), -float(samples.min(initial=0)))
    if not math.isfinite(peak):
        return "it holds samples that are not finite numbers"
    return f"it holds samples of {peak:.0e}, but full scale is 1" if peak > MAX_AMPLITUDE else None


def is_silent(waveform: Waveform) -> bool:
    """Return whether float32 (samples,) is silent: not empty, with no peak above `SILENCE_PEAK`."""
    return bool(len(waveform)) and float(np.abs(waveform).max()) <= SILENCE_PEAK


def level_gain(waveform: Waveform, sampling_rate: int) -> float:
    """Give the factor that brings a waveform to a root mean square of `LEVEL_RMS`.

    Pauses do not count: frames of 0.1 s that are 40 dB below the loudest one. So the factor of a
    quieter copy is larger in the same proportion, whatever the level.

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    sampling_rate
        In Hz.

    Returns
    -------
    gain
        1 for silence; see ``is_silent``.
    """
    if is_silent(waveform):
        return 1.0
    length = max(1, min(round(LEVEL_FRAME_S * sampling_rate), len(waveform)))
    frames = waveform[: len(waveform) // length * length].reshape(-1, length)
    power = np.einsum("fs,fs->f", frames, frames, dtype=np.float64) / length
    loud = power[power > LEVEL_RANGE * power.max(initial=0)]
    return LEVEL_RMS / math.sqrt(loud.mean()) if len(loud) else 1.0


def resample(waveform: Waveform, sampling_rate: int, target: int) -> Waveform:
    """Resample with soxr's high quality (librosa's default).

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    sampling_rate, target
        Source and target sampling rate in Hz.

    Returns
    -------
    waveform
        float32 (samples,) at ``target``.
    """
    if sampling_rate == target:
        return waveform
    out: Waveform = soxr.resample(waveform, sampling_rate, target, quality="HQ").astype(np.float32)
    return out


def fit_length(waveform: Waveform, samples: int) -> Waveform:
    """Cut, or pad with silence at the end, to exactly ``samples`` samples."""
    if len(waveform) >= samples:
        return waveform[:samples]
    return np.pad(waveform, (0, samples - len(waveform)))


class Mixer:
    """Mixes channels to mono: their mean, or the loudest one where the mean would cancel out.

    The mean of a channel and its inverted copy (miswired cables, tapes) holds only noise.

    Attributes
    ----------
    cancelled
        Samples for which one channel was used.
    total
        Samples mixed.
    only
        The channel to take alone; None to mix them.
    channels
        Maximum number of channels so far.
    """

    def __init__(self) -> None:
        self.cancelled = self.total = self.channels = 0
        self.only: int | None = None
        self._channel = 0

    def mix(self, samples: NDArray[np.float32]) -> Waveform:
        """Mix float32 (samples, channels) to float32 (samples,)."""
        self.total += len(samples)
        channels = samples.shape[1]
        self.channels = max(self.channels, channels)
        if channels == 1 or self.only is not None:
            return np.ascontiguousarray(samples[:, min(self.only or 0, channels - 1)])
        with np.errstate(over="ignore", invalid="ignore"):  # the result is checked
            mixed = np.ascontiguousarray(samples.mean(axis=1, dtype=np.float32))
            for start in range(0, len(samples), _WINDOW):
                window, left = samples[start : start + _WINDOW], mixed[start : start + _WINDOW]
                power = np.einsum("sc,sc->c", window, window, dtype=np.float64)
                rest = np.einsum("s,s->", left, left, dtype=np.float64)
                audible = power.sum() > len(window) * SILENCE_PEAK**2
                if audible and rest < _ANTIPHASE * power.sum() / channels**2:
                    if power[min(self._channel, channels - 1)] < power.max() / 2:
                        self._channel = int(power.argmax())  # switch for a clear difference only
                    left[:] = window[:, min(self._channel, channels - 1)]
                    self.cancelled += len(window)
        return mixed
