"""Level, mel spectrogram and log-mel patches as ONNX operators.

Each function adds to a graph what a function of the package computes in NumPy, in the same
precision: spectra in double, so that a loud band's rounding errors do not drown a quiet one.
"""

from __future__ import annotations

import numpy as np

from genrescope.audio.spectral import hann, mel_filters
from genrescope.audio.waveform import LEVEL_FRAME_S, LEVEL_RANGE, LEVEL_RMS
from genrescope.backbones import log_mel
from genrescope.onnx_graph import DOUBLE, FLOAT, OnnxGraph


def levelled(graph: OnnxGraph, waveform: str, sampling_rate: int) -> str:
    """Multiply a waveform by its ``level_gain``.

    Parameters
    ----------
    graph
        Is added to.
    waveform
        float32 (1, samples).
    sampling_rate
        In Hz.

    Returns
    -------
    levelled
        float32 (1, samples).
    """
    samples = graph.Shape(waveform, start=1)
    length = graph.Min(samples, [round(LEVEL_FRAME_S * sampling_rate)])
    whole = graph.Mul(graph.Div(samples, length), length)
    frames = graph.Reshape(
        graph.Cast(graph.Slice(waveform, [0], whole, [1]), to=DOUBLE),
        graph.Concat([-1], length, axis=0),
    )
    power = graph.ReduceMean(graph.Mul(frames, frames), axes=[1])
    loudest = graph.ReduceMax(power)
    loud = graph.Cast(graph.Greater(power, graph.Mul(loudest, LEVEL_RANGE)), to=DOUBLE)
    mean = graph.Div(graph.ReduceSum(graph.Mul(power, loud)), graph.Max(graph.ReduceSum(loud), 1.0))
    gain = graph.Where(graph.Greater(loudest, 0.0), graph.Div(LEVEL_RMS, graph.Sqrt(mean)), [[1.0]])
    return graph.Mul(waveform, graph.Cast(gain, to=FLOAT))


def mel_spectrogram(
    graph: OnnxGraph, waveform: str, sampling_rate: int, n_fft: int, hop: int, bands: int
) -> str:
    """Power in mel bands, as of ``audio.spectral.mel_spectrogram``.

    Parameters
    ----------
    graph
        Is added to.
    waveform
        float32 (clips, samples), longer than half of ``n_fft``.
    sampling_rate
        In Hz.
    n_fft, hop
        In samples.
    bands
        Number of mel bands.

    Returns
    -------
    mel
        float32 (clips, 1 + samples // hop, bands).
    """
    half = n_fft // 2
    padded = graph.Pad(graph.Cast(waveform, to=DOUBLE), [0, half, 0, half], mode="reflect")
    spectrum = graph.STFT(graph.Unsqueeze(padded, [2]), hop, hann(n_fft), n_fft)
    power = graph.ReduceSum(graph.Mul(spectrum, spectrum), [3], keepdims=0)
    return graph.MatMul(graph.Cast(power, to=FLOAT), mel_filters(sampling_rate, n_fft, bands))


def log_mel_patches(graph: OnnxGraph, waveform: str) -> str:
    """Log-mel patches of a waveform at 16 kHz, as of ``backbones.log_mel.to_patches``.

    Parameters
    ----------
    graph
        Is added to.
    waveform
        float32 (1, samples), at least 257.

    Returns
    -------
    patches
        float32 (patches, 187, 96); three overlapping ones of less than two patches.
    """
    mel = mel_spectrogram(
        graph, waveform, log_mel.SAMPLING_RATE, log_mel.N_FFT, log_mel.HOP, log_mel.BANDS
    )
    scaled = graph.Mul(graph.Squeeze(mel, [0]), np.float32(10_000))
    above = graph.Add(scaled, np.float32(1))
    spectrogram = graph.Mul(graph.Log(above), np.float32(np.log10(np.e)))
    # The patches are rows of frames' numbers, from each one's start on, around the end of a clip
    # that is shorter than one: so there is no branch for short clips.
    frames = graph.Shape(spectrogram, end=1)
    is_long = graph.Not(graph.Less(frames, [2 * log_mel.PATCH]))
    count = graph.Where(is_long, graph.Div(frames, [log_mel.PATCH]), [3])
    numbers = graph.Range(0, graph.Squeeze(count), 1)
    spare = graph.Sub(frames, [log_mel.PATCH])
    overlapping = graph.Where(
        graph.Less(spare, [0]),
        graph.Div(graph.Mul(numbers, frames), [3]),
        graph.Div(graph.Mul(numbers, spare), [2]),
    )
    starts = graph.Where(is_long, graph.Mul(numbers, [log_mel.PATCH]), overlapping)
    places = graph.Add(graph.Unsqueeze(starts, [1]), np.arange(log_mel.PATCH))
    return graph.Gather(spectrogram, graph.Mod(places, frames))
