"""The moving median is that of every window sorted, and scipy's, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from genrescope.representations.median import moving_median


@settings(deadline=None)
@given(
    rows=st.integers(1, 150),
    lanes=st.integers(1, 12),
    width=st.sampled_from([3, 7, 15, 31, 63]),
    values=st.integers(1, 2**31 - 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_array_gives_the_middle_of_every_window_sorted(
    rows: int, lanes: int, width: int, values: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few different values are many ties; all sizes of float, infinity among them, are a few more.
    bits = rng.choice(rng.integers(0, 0x7F800001, values % 50 + 1), (rows, lanes))
    array = bits.astype(np.int32).view(np.float32)
    # Not scipy's: where the window is many times the array, as 31 about 2, it gives other values.
    half = width // 2
    mirrored = np.pad(array, ((half, half), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, width, axis=0)
    assert (moving_median(array, width) == np.sort(windows, axis=-1)[..., half]).all()


@pytest.mark.parametrize("shape", [(1300, 1025), (1025, 300), (2048, 256), (2049, 257)])
def test_arrays_larger_than_what_is_done_together(shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    some = slice(None, None, 97)  # lanes: scipy takes its time
    wanted = median_filter(np.ascontiguousarray(array[:, some]), size=(31, 1), mode="reflect")
    assert (moving_median(array, 31)[:, some] == wanted).all()


@pytest.mark.parametrize("width", [-31, 0, 1, 2, 5, 9, 30, 32])
def test_other_widths_are_reported(width: int) -> None:
    with pytest.raises(ValueError, match=f"3, 7, 15, 31, …, not {width}"):
        moving_median(np.ones((40, 2), np.float32), width)
