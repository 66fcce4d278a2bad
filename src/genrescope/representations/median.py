"""An exact moving median that shares comparisons between neighbouring windows."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

# Windows per block: few enough for the processor's cache, with long rows for vectorised NumPy.
_LANES, _ROWS = 256, 1024


def moving_median(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Median of the ``width`` values about each, along the first axis.

    The array is padded by reflection (scipy's ``median_filter`` with ``mode="reflect"``).
    Neighbouring windows share most of their values, which are sorted once per group of windows.
    The group is then halved repeatedly down to single windows; each step keeps only the values
    that can still be a median. A median of 31 takes about 36 comparisons of whole rows. One
    dimension of Adams, "Fast median filters using separable sorting networks" (ACM TOG 40(4),
    2021).

    Parameters
    ----------
    values
        float32 (n, lanes), not negative and not NaN. Fastest with many lanes.
    width
        Odd, and one less than a power of two.

    Returns
    -------
    medians
        float32 (n, lanes).

    Raises
    ------
    ValueError
        If the width is not one less than a power of two.
    """
    group = (width + 1) // 2  # windows in a group
    if width < 3 or 2 * group != width + 1 or group & (group - 1):
        raise ValueError(f"the width must be 3, 7, 15, 31, …, not {width}")
    count, lanes = values.shape
    groups = -(-count // group)
    # Non-negative floats order like the integers of the same bits, which compare faster, as there
    # is no NaN. The last group is padded.
    after = group * groups - count + group
    padded = np.pad(values.view(np.int32), ((group - 1, after), (0, 0)), mode="symmetric")
    found = np.empty((groups * group, lanes), np.int32)
    rows = max(group, _ROWS // group * group)
    for lane in range(0, lanes, _LANES):
        some = slice(lane, lane + _LANES)
        for row in range(0, len(found), rows):
            _medians(padded[row:, some], found[row : row + rows, some], group)
    return found[:count].view(np.float32)


def _medians(rows: NDArray[np.int32], found: NDArray[np.int32], group: int) -> None:
    # Each node of a level represents 2h consecutive windows, the first of which starts at row
    # 2h·node. Its core: the 2h values common to them, sorted, that may be a median.
    lanes = found.shape[1]
    nodes, h = len(found) // group, group // 2
    shape: tuple[int, ...] = group, nodes, lanes
    core, spare, new, other = (np.empty(shape, np.int32) for _ in range(4))
    _compare_exchange(_windows(rows, group - 1, group, nodes, group), core, 1)
    core, spare = _sort(core, spare)
    while h:
        # Each half's windows share h more values: the left half's before, the right half's after.
        shape = h, nodes, 2, lanes
        new, other, spare = new.reshape(shape), other.reshape(shape), spare.reshape(shape)
        for side, start in enumerate((h - 1, 2 * group - 1)):
            values = _windows(rows, start, h, nodes, 2 * h)
            if h > 1:
                _compare_exchange(values, new[:, :, side], 1)
            else:
                new[:, :, side] = values
        new, other = _sort(new, other)
        # Of these and the core's 2h, the middle h may still be medians. Drop the h lowest …
        np.maximum(core[:h, :, None], new[::-1], out=other)
        new, other = _merge(other, new, h // 2)
        # … and the h highest.
        np.minimum(core[h:, :, None], new[::-1], out=spare)
        core, spare = _merge(spare, core.reshape(shape), h // 2)
        nodes *= 2
        core = core.reshape((h, nodes, lanes))
        h //= 2
    found[:] = core[0]


def _windows(
    rows: NDArray[np.int32], start: int, count: int, nodes: int, step: int
) -> NDArray[np.int32]:
    # (count, nodes, lanes): rows start + step · node + i.
    row, lane = rows.strides
    return as_strided(
        rows[start:], (count, nodes, rows.shape[1]), (row, step * row, lane), writeable=False
    )


def _sort(
    values: NDArray[np.int32], spare: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    # Sorts along the first axis; pairs are in order already. Both arrays are overwritten; the first
    # one returned holds the result.
    run = 2
    while run < len(values):
        _compare_exchange(values, spare, run, mirrored=True)
        values, spare = _merge(spare, values, run // 2)
        run *= 2
    return values, spare


def _merge(
    values: NDArray[np.int32], spare: NDArray[np.int32], step: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    # Sorts bitonic runs of length 2 · `step`.
    while step:
        _compare_exchange(values, spare, step)
        values, spare = spare, values
        step //= 2
    return values, spare


def _compare_exchange(
    values: NDArray[np.int32], found: NDArray[np.int32], step: int, *, mirrored: bool = False
) -> None:
    # Orders each pair of values `step` apart.
    low, high = values.reshape(-1, 2, step, *values.shape[1:]).swapaxes(0, 1)
    less, more = found.reshape(-1, 2, step, *found.shape[1:]).swapaxes(0, 1)
    if mirrored:
        high = high[:, ::-1]
    np.minimum(low, high, out=less)
    np.maximum(low, high, out=more)
