"""What an answer rests on: how far the genre's probability drops without a part of the clip.

Occlusion (M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV
2014) in the short-time spectrum of the audio, so that it works for every model that takes audio:
one cell of time × frequency band at a time is replaced by the clip's mean level in that band, and
the clip is resynthesised and classified again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, decode, resample, to_waveform
from genrescope.audio.spectral import hann, mel_centres, spectra
from genrescope.classifier.classifier import Audio, Classifier, softmax
from genrescope.errors import InputError, WaveformError
from genrescope.quality import Quality

_N_FFT, _HOP = 2048, 512
_OVERLAP = _N_FFT // _HOP  # frames that a sample is in
_STEP_S, _MIN_STEPS, _MAX_STEPS = 3.0, 4, 20  # of models that take a clip as one
MAX_S = 600.0
"""Longer clips are not explained, in s."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """How far the probability of the most likely genre drops without each part of a clip.

    Attributes
    ----------
    genre
        The most likely one: ``Prediction.best``, also of a clip that is none of the model's genres.
    probability
        Its probability for the whole clip, in [0, 1].
    times
        float64 (steps + 1,): edges of the cells, in s.
    bands
        float64 (bands + 1,): edges of the cells, in Hz; equally spaced on the mel scale.
    drops
        float32 (steps, bands): ``probability`` minus that without the cell, in [-1, 1]. Positive
        where the cell speaks for the genre, negative where it speaks against it.
    """

    genre: str
    probability: float
    times: NDArray[np.float64]
    bands: NDArray[np.float64]
    drops: NDArray[np.float32]

    def strongest(self, share: float) -> NDArray[np.bool_]:
        """Return the cells with the largest drops: bool (steps, bands), at least one."""
        count = max(1, round(share * self.drops.size))
        marked = np.zeros(self.drops.size, dtype=bool)
        marked[np.argsort(-self.drops.ravel(), kind="stable")[:count]] = True
        return marked.reshape(self.drops.shape)


def explain(
    classifier: Classifier, audio: Audio, sampling_rate: int = 0, *, bands: int = 8
) -> Explanation:
    """Find the seconds and the frequency bands that an answer rests on.

    A model with windows (such as the bundled one, 3 s) gets a column for each window, otherwise
    there are 4 to 20 columns of about 3 s. Of a model with several members, the first is explained:
    the others would take a hundred times as long.

    Parameters
    ----------
    classifier
        Whose answer is explained.
    audio
        A file, or a waveform as of ``Classifier.predict``; at most 10 minutes.
    sampling_rate
        Of the waveform, in Hz.
    bands
        Number of frequency bands, at least 2.

    Raises
    ------
    InputError
        If the file cannot be read, is silent or too long.
    WaveformError
        If a waveform is too long, or as of ``Classifier.predict``.
    """
    if bands < 2:
        raise ValueError(f"bands = {bands} must be at least 2")
    prediction = classifier.predict(audio, sampling_rate)  # checks the audio
    representation = classifier.representation.at(Quality.FAST)
    rate = representation.sampling_rate
    if isinstance(audio, np.ndarray):
        waveform = resample(to_waveform(audio), sampling_rate, rate)
    else:
        waveform = decode(Path(audio), rate).waveform
    seconds = len(waveform) / rate
    if seconds > MAX_S:
        cause = f"it is longer than {MAX_S / 60:g} minutes"
        if isinstance(audio, np.ndarray):
            raise WaveformError(f"the waveform cannot be explained: {cause}; give a part of it")
        raise InputError(Path(audio), cause, "Cut out the part to be explained")
    whole = representation.analyse(waveform, rate)
    by_window = isfinite(whole.window_s) and len(whole.arrays) > 1
    steps = min(max(round(seconds / _STEP_S), _MIN_STEPS), _MAX_STEPS)
    end_s = seconds
    if by_window:
        steps = len(whole.arrays)
        end_s = steps * whole.window_s
    times = np.linspace(0, end_s, steps + 1)
    edges = np.array([0, *mel_centres(rate, bands - 1), rate / 2])
    occluder = Occluder(waveform, rate, times, edges)
    mean = whole.arrays.mean(axis=0, keepdims=True)
    inputs = []  # (steps, *shape), for each band
    for band in range(bands):
        cells = np.zeros((steps, bands), dtype=bool)
        if by_window:
            # Windows are independent: all are occluded at once, and one at a time is exchanged.
            cells[:, band] = True
            rows = representation.analyse(occluder.without(cells), rate).arrays
            inputs.append(mean + (rows - whole.arrays) / steps)
            continue
        for step in range(steps):
            cells[:] = False
            cells[step, band] = True
            rows = representation.analyse(occluder.without(cells), rate).arrays
            inputs.append(rows.mean(axis=0, keepdims=True))
    probabilities = softmax(classifier.logits(np.concatenate([mean, *inputs])))
    place = classifier.genres.index(prediction.best)
    own = probabilities[:, place]
    drops = (own[0] - own[1:]).reshape(bands, steps).T
    return Explanation(
        prediction.best, float(own[0]), times, edges, np.ascontiguousarray(drops, np.float32)
    )


class Occluder:
    """A clip, of which cells of time × frequency can be replaced by the mean level of their band.

    Parameters
    ----------
    waveform
        float32 (samples,), mono.
    sampling_rate
        In Hz.
    times, bands
        Edges of the cells in s and Hz, as of an `Explanation` of this clip.
    """

    def __init__(
        self,
        waveform: Waveform,
        sampling_rate: int,
        times: NDArray[np.float64],
        bands: NDArray[np.float64],
    ) -> None:
        self._waveform = waveform
        shape = 1 + len(waveform) // _HOP, 1 + _N_FFT // 2
        spectrum = np.empty(shape, dtype=np.complex64)
        for frames, block in spectra(waveform, _N_FFT, _HOP):
            spectrum[frames] = block
        centres = np.arange(shape[0]) * _HOP / sampling_rate
        hertz = np.arange(shape[1]) * sampling_rate / _N_FFT
        self._step = np.searchsorted(times, centres, side="right") - 1
        self._band = np.searchsorted(bands[1:-1], hertz, side="right")
        self._steps = len(times) - 1
        # A cell keeps its phases, but every bin gets the band's mean level over the clip: a hole
        # would be unlike any music that the model has been trained on.
        sizes = np.abs(spectrum)
        levels = np.array(
            [
                np.sqrt(np.mean(np.square(sizes[:, self._band == band])))
                for band in range(len(bands) - 1)
            ],
            dtype=np.float32,
        )
        factors = levels[self._band] / np.maximum(sizes, np.float32(1e-12))
        self._change: NDArray[np.complex64] = spectrum * (factors - 1)

    def without(self, cells: NDArray[np.bool_]) -> Waveform:
        """Replace cells.

        Parameters
        ----------
        cells
            bool (steps, bands): which.

        Returns
        -------
        waveform
            float32 (samples,).
        """
        known = np.concatenate([cells, np.zeros((1, cells.shape[1]), dtype=bool)])
        frames = known[np.minimum(self._step, self._steps)]
        used = np.flatnonzero(frames.any(axis=1))
        if not len(used):
            return self._waveform
        some = slice(used[0], used[-1] + 1)
        change = np.where(frames[some][:, self._band], self._change[some], 0)
        return self._waveform + _inverse(change, used[0], len(self._waveform))


def _inverse(spectrum: NDArray[np.complex64], first: int, samples: int) -> Waveform:
    # Overlap-add of the frames from ``first`` on; squared Hann windows sum to 3/8 of the overlap.
    pieces = np.fft.irfft(spectrum, _N_FFT).astype(np.float32)
    pieces *= (hann(_N_FFT) / (_OVERLAP * 3 / 8)).astype(np.float32)
    padded = np.zeros((first + len(pieces) + _OVERLAP - 1, _HOP), dtype=np.float32)
    for part in range(_OVERLAP):
        padded[first + part : first + part + len(pieces)] += pieces[
            :, part * _HOP : (part + 1) * _HOP
        ]
    start = _N_FFT // 2
    whole = np.zeros(samples, dtype=np.float32)
    found = padded.ravel()[start : start + samples]
    whole[: len(found)] = found
    return whole
