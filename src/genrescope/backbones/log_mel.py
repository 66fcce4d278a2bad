"""Log-mel patches, the input of the pretrained music taggers.

16 kHz, frames of 512 samples every 256 (16 ms), 96 mel bands up to 8 kHz on the power spectrum,
then ``log10(10000 · mel + 1)``: J. Pons and X. Serra, "musicnn: pre-trained convolutional neural
networks for music audio tagging" (2019). 0 for silence, about 6 for loud music.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import Waveform, resample
from genrescope.audio.spectral import mel_spectrogram

SAMPLING_RATE = 16000
N_FFT, HOP, BANDS = 512, 256, 96
PATCH = 187
"""Frames that a network takes at once."""
PATCH_SECONDS = PATCH * HOP / SAMPLING_RATE

_PER_E_FOLD = np.float32(np.log10(np.e))


def compute(waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
    """Compute the log-mel spectrogram of a clip.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    sampling_rate
        In Hz; resampled to 16,000.

    Returns
    -------
    log_mel
        float32 (1 + samples // 256, 96).

    Raises
    ------
    ValueError
        If the clip is not longer than 256 samples (16 ms) at 16 kHz.
    """
    mel = mel_spectrogram(
        resample(waveform, sampling_rate, SAMPLING_RATE), SAMPLING_RATE, N_FFT, HOP, BANDS
    )
    mel *= 10_000
    mel += 1
    np.log(mel, out=mel)  # vectorised by NumPy, unlike log10
    mel *= _PER_E_FOLD
    return mel


def patches(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut a spectrogram into consecutive patches; an incomplete last one is dropped.

    Parameters
    ----------
    log_mel
        float32 (frames, 96), at least 187 frames.

    Returns
    -------
    patches
        float32 (patches, 187, 96), at least one.
    """
    count = len(log_mel) // PATCH
    return log_mel[: count * PATCH].reshape(count, PATCH, BANDS)


def views(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut a spectrogram of less than two patches into three overlapping patches.

    One shorter than a patch is repeated to fill it, as in the networks' training, from three
    starting points: each seam adds an artefact, and averaging reduces it.

    Parameters
    ----------
    log_mel
        float32 (frames, 96), 1 to 373 frames.

    Returns
    -------
    views
        float32 (3, 187, 96).
    """
    spare = len(log_mel) - PATCH
    if spare >= 0:
        return np.stack([log_mel[spare * i // 2 :][:PATCH] for i in range(3)])
    turned = [np.roll(log_mel, -(len(log_mel) * i // 3), axis=0) for i in range(3)]
    return np.stack([np.resize(part, (PATCH, BANDS)) for part in turned])  # repeats the rows


def to_patches(waveform: Waveform, *, is_continuation: bool = False) -> NDArray[np.float32]:
    """Compute the patches of a waveform at 16 kHz, or of a piece of a longer one.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    is_continuation
        Whether its first ``HOP`` samples repeat the end of the previous piece. Then its patches
        equal those of the whole waveform, and there are none if it is too short.

    Returns
    -------
    patches
        float32 (patches, 187, 96); of a short waveform, its ``views``.
    """
    if is_continuation:
        if len(waveform) < PATCH * HOP:
            return np.empty((0, PATCH, BANDS), dtype=np.float32)
        # The first frame overlaps the edge of the piece.
        return patches(compute(waveform, SAMPLING_RATE)[1:])
    spectrogram = compute(waveform, SAMPLING_RATE)
    return (views if len(spectrogram) < 2 * PATCH else patches)(spectrogram)
