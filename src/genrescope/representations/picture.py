"""The mel-spectrogram picture of the Kaggle copy of GTZAN: read it, and draw it from audio.

The pictures (432 × 288) were made with librosa's ``specshow`` on a 6 × 4 inch figure at 72 dpi.
matplotlib samples such a picture by points, so it can be drawn with an index and a colour table:
inner pixel (x, y) shows frame ``floor((x + 1 - 1/512 - 54) · n / 334.8)`` of n frames and mel bin
``floor((252 - y) · 128 / 217.44)``. ``magma.png`` is matplotlib's magma (CC0), 256 colours.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrescope.audio import AudioWarning, Waveform, excerpts, level_gain, resample
from genrescope.audio.spectral import mel_spectrogram, to_db
from genrescope.datasets.track import Track
from genrescope.errors import InputError
from genrescope.representations.representation import Representation, Source
from genrescope.representations.transform import PLAIN, AudioTransform

SAMPLING_RATE = 22050
WIDTH, HEIGHT = 432, 288
BINS, COLUMNS = 128, 336
PLOT_PIXELS = 334.8
"""Width of the plot, which all frames of a clip share."""

POWER_RANGE_DB = 40.0
"""The range that a picture shows: 80 dB of *amplitude* decibels taken of a power spectrogram."""

STRETCH_S = 30.0
"""Length of the clips of the published pictures."""

TOLERANCE = 0.05
"""Of that length, in parts of it: of clips within it, the picture is of the whole clip."""

_STRETCHES = 3  # maximum number of stretches of a file

# The axes' box; its outermost pixels are covered by the frame line (80 % black).
_LEFT, _TOP, _RIGHT, _BOTTOM = 54, 35, 389, 252
_FRAME = 51  # the line over the white page, to the right and below
_CORNER = 19

Pixels = NDArray[np.uint8]


def levels(waveform: Waveform, sampling_rate: int) -> Pixels:
    """Colour indices of a clip's mel spectrogram, by the settings of the published pictures.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    sampling_rate
        In Hz; resampled to 22,050.

    Returns
    -------
    levels
        uint8 (frames, 128), 0 at the clip's quietest shown point and 255 at its loudest.

    Raises
    ------
    ValueError
        If the clip is shorter than 1,025 samples at 22,050 Hz.
    """
    mel = mel_spectrogram(
        resample(waveform, sampling_rate, SAMPLING_RATE),
        SAMPLING_RATE,
        n_fft=2048,
        hop=512,
        bands=BINS,
    )
    level = to_db(mel, factor=20)
    low, high = float(level.min()), float(level.max())
    if high == low:  # silence
        return np.zeros(level.shape, dtype=np.uint8)
    return np.asarray(np.minimum((level - low) / (high - low) * 256, 255), dtype=np.uint8)


def draw(waveform: Waveform, sampling_rate: int) -> Pixels:
    """Draw the picture of a clip; the same as the published PNG within 1/255 in every pixel.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, in [-1, 1].
    sampling_rate
        In Hz.

    Returns
    -------
    picture
        uint8 (288, 432, 3), RGB.
    """
    shown = levels(waveform, sampling_rate)
    frame = _frames(np.arange(_LEFT, _RIGHT), len(shown))
    bin_ = _bins(np.arange(_TOP, _BOTTOM))
    picture = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    inner = magma()[shown[np.ix_(frame, bin_)].T]
    inner[0] = inner[0] // 5
    inner[:, 0] = inner[:, 0] // 5
    picture[_TOP:_BOTTOM, _LEFT:_RIGHT] = inner
    picture[_BOTTOM, _LEFT : _RIGHT + 1] = _FRAME
    picture[_TOP : _BOTTOM + 1, _RIGHT] = _FRAME
    picture[[_TOP, _BOTTOM, _BOTTOM], [_RIGHT, _LEFT, _RIGHT]] = _CORNER
    return picture


def read(path: Path) -> Pixels:
    """Read a published picture.

    Returns
    -------
    picture
        uint8 (288, 432, 3), RGB.

    Raises
    ------
    InputError
        If it is not a picture, is damaged, or has another size.
    """
    from PIL import Image  # noqa: PLC0415  classifying audio starts without it

    try:
        with Image.open(path) as image:
            size = image.size
            if size == (WIDTH, HEIGHT):
                return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        remedy = "Replace the file with an intact copy or remove it"
        raise InputError(path, f"it cannot be read as a picture ({error})", remedy) from error
    raise InputError(
        path,
        f"the picture is {size[0]} × {size[1]} pixels, not {WIDTH} × {HEIGHT}",
        "Give the spectrogram as published, or remove it so that it is drawn from the audio",
    )


def grid_of_picture(picture: Pixels) -> Pixels:
    """Recover the colour indices that a picture shows.

    Parameters
    ----------
    picture
        uint8 (288, 432, 3), RGB.

    Returns
    -------
    grid
        uint8 (128, 336): mel bin (low first) × column. The first and the last column are hidden
        by the frame line and repeat their neighbours.
    """
    return _nearest_level(picture[_grid_rows()][:, _grid_columns()])


def grid_of_waveform(waveform: Waveform, sampling_rate: int) -> Pixels:
    """Make the same grid as ``grid_of_picture`` from audio; uint8 (128, 336)."""
    shown = levels(waveform, sampling_rate)
    return np.ascontiguousarray(shown[_frames(_grid_columns(), len(shown))].T)


def stretches(waveform: Waveform, sampling_rate: int) -> list[Waveform]:
    """Cut a clip into stretches of the length of the published pictures.

    Parameters
    ----------
    waveform
        float32 (samples,), mono, not empty.
    sampling_rate
        In Hz.

    Returns
    -------
    stretches
        One after the other, or evenly spread with an overlap where the clip's length is not a
        multiple of 30 s. A shorter clip is repeated until it fills one; one of 30 s ± 5 % is
        returned as it is.
    """
    length = round(STRETCH_S * sampling_rate)
    ratio = len(waveform) / length
    if abs(ratio - 1) <= TOLERANCE:
        return [waveform]
    if ratio < 1:
        return [np.resize(waveform, length)]
    starts = np.linspace(0, len(waveform) - length, math.ceil(ratio - TOLERANCE))
    return [waveform[start : start + length] for start in starts.round().astype(int)]


def grid_pixels() -> NDArray[np.float64]:
    """Give where the grid's columns lie in the plot, in pixels from its left; float64 (336,)."""
    return _from_left(_grid_columns())


@lru_cache(maxsize=1)
def magma() -> Pixels:
    """The colour table, uint8 (256, 3)."""
    from PIL import Image  # noqa: PLC0415  see above

    with Image.open(Path(__file__).with_name("magma.png")) as image:
        return np.asarray(image.convert("RGB")).reshape(256, 3)


def _frames(x: NDArray[np.int_], count: int) -> NDArray[np.int_]:
    shown = np.floor(_from_left(x) * count / PLOT_PIXELS).astype(int)
    return np.asarray(np.minimum(shown, count - 1))


def _from_left(x: NDArray[np.int_]) -> NDArray[np.float64]:
    return np.asarray(x + 1 - 1 / 512 - _LEFT)


def _bins(y: NDArray[np.int_]) -> NDArray[np.int_]:
    return np.floor((_BOTTOM - y) * BINS / 217.44).astype(int)


def _grid_columns() -> NDArray[np.int_]:
    return np.clip(np.arange(_LEFT, _LEFT + COLUMNS), _LEFT + 1, _RIGHT - 1)


@lru_cache(maxsize=1)
def _grid_rows() -> NDArray[np.int_]:
    # One row of pixels for each mel bin, low bins first; the top row is under the frame line.
    rows = np.arange(_BOTTOM - 1, _TOP, -1)
    _, first = np.unique(_bins(rows), return_index=True)
    return np.asarray(rows[first])


def _nearest_level(colours: Pixels) -> Pixels:
    # A resaved picture may be off by a little; look exact colours up and search for the others.
    table = magma().astype(np.int32)
    codes = colours.astype(np.int32) @ np.array([65536, 256, 1])
    known = table @ np.array([65536, 256, 1])
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], codes), 255)
    level = order[place]
    wrong = known[level] != codes
    if wrong.any():
        distance = np.abs(colours[wrong].astype(np.int32)[:, None] - table).sum(axis=2)
        level[wrong] = distance.argmin(axis=1)
    return np.asarray(level, dtype=np.uint8)


@dataclass(frozen=True)
class PictureRepresentation(Representation):
    """A representation made from the published picture, or from audio drawn as one."""

    sampling_rate: ClassVar[int] = SAMPLING_RATE

    @abstractmethod
    def of_picture(self, pixels: Pixels) -> NDArray[np.float32]:
        """Make the array from a picture, uint8 (288, 432, 3)."""

    def source(self, track: Track) -> Source | None:
        """The published picture, or else the audio."""
        return Source("image", track.image) if track.image else super().source(track)

    def of_track(
        self, track: Track, transform: AudioTransform = PLAIN, *, allow_damaged: bool = False
    ) -> NDArray[np.float32]:
        """From the published picture, or else from the audio."""
        if track.image is None:
            return super().of_track(track, transform, allow_damaged=allow_damaged)
        return self.of_picture(read(track.image))


@dataclass(frozen=True)
class GridRepresentation(PictureRepresentation):
    """A representation made from the grid of mel bins × columns, whichever it comes from."""

    @abstractmethod
    def of_grid(self, grid: Pixels) -> NDArray[np.float32]:
        """Make the array from a grid, uint8 (128, 336)."""

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """Draw the grid of a clip and make the array from it.

        Raises
        ------
        ValueError
            If the clip is shorter than 1,025 samples at 22,050 Hz.
        """
        return self.of_grid(grid_of_waveform(waveform, sampling_rate))

    def of_picture(self, pixels: Pixels) -> NDArray[np.float32]:
        """Make the array from a published picture, uint8 (288, 432, 3)."""
        return self.of_grid(grid_of_picture(pixels))


@dataclass(frozen=True)
class GridColumns(GridRepresentation):
    """Columns made from the grid; of a clip that is not of 30 s, the mean over stretches of 30 s.

    Of a file of more than three stretches, three are decoded, evenly spread. Repeated three-second
    clips still help an embedding of the audio: on the 149 whole clips of GTZAN here, artists kept
    on one side, 0.799 of them are right with both, and 0.773 without.
    """

    shortest_s: ClassVar[float] = 3.0

    def compute(self, waveform: Waveform, sampling_rate: int) -> NDArray[np.float32]:
        """Draw the grid of each stretch and average the columns made from them; float32 (columns,).

        Raises
        ------
        ValueError
            If the clip is empty.
        """
        samples = resample(waveform, sampling_rate, SAMPLING_RATE)
        if not len(samples):
            raise ValueError("it is too short: it has no samples")
        # The decibels of a very quiet clip end at a fixed floor, which loud ones do not reach.
        levelled = samples * np.float32(level_gain(samples, SAMPLING_RATE))
        parts = stretches(levelled, SAMPLING_RATE)
        grids = [grid_of_waveform(one, SAMPLING_RATE) for one in parts]
        return np.asarray(np.mean([self.of_grid(grid) for grid in grids], axis=0))

    def _decode(self, path: Path, sampling_rate: int) -> tuple[Waveform, tuple[AudioWarning, ...]]:
        found = excerpts(path, sampling_rate, span_s=STRETCH_S, max_spans=_STRETCHES)
        return np.concatenate(found.waveforms), found.warnings
