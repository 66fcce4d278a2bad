"""The 57 columns of GTZAN's public descriptor table, from audio.

Each column is the mean or variance over time of a feature of the whole clip, as librosa up to 0.7
computed it: spectra padded by reflection, and inverse transforms that dropped what did not fill a
hop. Needs librosa (``pip install 'genrescope[train]'``).
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import platformdirs
from numpy.typing import NDArray

from genrescope.audio import Waveform, resample
from genrescope.errors import GenrescopeError
from genrescope.representations.alteration import PLAIN, Alteration
from genrescope.representations.representation import Representation, Source, representation
from genrescope.tracks.gtzan import TABLE_COLUMNS
from genrescope.tracks.track import Track

RATE = 22050
_N_FFT, _HOP, _MFCCS = 2048, 512, 20

COLUMNS = TABLE_COLUMNS
"""The 57 column names, in the table's order (``perceptr`` is the percussive wave)."""


def compute(waveform: Waveform, rate: int) -> NDArray[np.float32]:
    """Compute the 57 descriptors of one clip.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    rate
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
    y = resample(waveform, rate, RATE)
    if len(y) < _N_FFT:
        raise ValueError(f"the clip is too short for descriptors ({len(y) / RATE:.3f} s)")
    with warnings.catch_warnings():
        # Silence has no tuning and no tempo; the values are finite all the same.
        warnings.simplefilter("ignore", UserWarning)
        _compile()
        features, tempo, mfcc = _features(y)
    moments = [_moments(feature) for feature in features]
    return np.array([*np.ravel(moments), tempo, *np.ravel([_moments(row) for row in mfcc])]).astype(
        np.float32
    )


def _moments(feature: NDArray[Any]) -> tuple[float, float]:
    return float(np.mean(feature)), float(np.var(feature))


@functools.cache
def _compile() -> None:
    # librosa compiles itself when first used and keeps the code on disk, in files that processes
    # doing so at once overwrite for one another: whoever loads them then crashes, from then on.
    import filelock  # noqa: PLC0415  comes with the extra

    cache = Path(platformdirs.user_cache_dir("genrescope"))
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / "librosa.lock"):
        _features(np.random.default_rng(0).standard_normal(3 * RATE, dtype=np.float32))


def _features(y: Waveform) -> tuple[list[NDArray[Any]], float, NDArray[Any]]:
    import librosa  # noqa: PLC0415  an extra, and slow to import

    spectrum = librosa.stft(y, n_fft=_N_FFT, hop_length=_HOP, pad_mode="reflect")
    magnitude = np.abs(spectrum)
    power = magnitude**2
    mel = librosa.feature.melspectrogram(S=power, sr=RATE)
    harmonic, percussive = librosa.decompose.hpss(spectrum)
    onsets = librosa.onset.onset_strength(y=y, sr=RATE, aggregate=np.median, pad_mode="reflect")
    tempo = librosa.beat.beat_track(onset_envelope=onsets, sr=RATE)[0]
    features = [
        librosa.feature.chroma_stft(S=power, sr=RATE),
        librosa.feature.rms(y=y, pad_mode="reflect"),
        librosa.feature.spectral_centroid(S=magnitude, sr=RATE),
        librosa.feature.spectral_bandwidth(S=magnitude, sr=RATE),
        librosa.feature.spectral_rolloff(S=magnitude, sr=RATE),
        librosa.feature.zero_crossing_rate(y),
        _wave(harmonic, len(y)),
        _wave(percussive, len(y)),
    ]
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=_MFCCS)
    return features, float(np.ravel(tempo)[0]), mfcc


def _wave(spectrum: NDArray[Any], samples: int) -> NDArray[Any]:
    # Without `length`, the inverse drops the samples after the last whole hop, as it once did.
    import librosa  # noqa: PLC0415

    return librosa.util.fix_length(librosa.istft(spectrum), size=samples)


@representation("descriptors")
@dataclass(frozen=True)
class Descriptors(Representation):
    """The 57 descriptors, from the published table or from audio."""

    rate: ClassVar[int] = RATE

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns."""
        return (len(COLUMNS),)

    def compute(self, waveform: Waveform, rate: int) -> NDArray[np.float32]:
        """See the module's ``compute``."""
        try:
            return compute(waveform, rate)
        except ModuleNotFoundError as error:
            remedy = "pip install 'genrescope[train]'"
            raise GenrescopeError(f"Descriptors need {error.name}: {remedy}.") from error

    def source(self, track: Track) -> Source | None:
        """The published row, or else the audio."""
        return Source("table", None) if track.descriptors else super().source(track)

    def of_track(self, track: Track, alteration: Alteration = PLAIN) -> NDArray[np.float32]:
        """From the published row, or else from the audio."""
        if track.descriptors is None:
            return super().of_track(track, alteration)
        return np.array(track.descriptors, dtype=np.float32)
