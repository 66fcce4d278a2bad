"""A moving median, exact and fast: every window of a neighbourhood shares its comparisons."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

# Windows done together: few enough for the processor's cache, and rows that numpy does in one go.
_LANES, _ROWS = 256, 1024


def moving_median(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Median of the ``width`` values about each, along the first axis.

    The array is thought to go on beyond its ends as in a mirror, the last value twice (scipy's
    ``median_filter`` with ``mode="reflect"``). Windows that lie side by side have most of their
    values in common, which are sorted once for all of them; of those, only the ones that can
    still be a median are kept as the group is halved, and halved again, until it is one window.
    So a median of 31 takes some 36 comparisons, each of whole rows at once. The plan is that of
    Adams, "Fast median filters using separable sorting networks" (ACM TOG 40(4), 2021), for one
    dimension.

    Parameters
    ----------
    values
        float32 (n, lanes), not negative and not NaN. Best with many lanes.
    width
        Odd, and one less than a power of two.

    Returns
    -------
    medians
        float32 (n, lanes).

    Raises
    ------
    ValueError
        If the width is another.
    """
    group = (width + 1) // 2  # as many windows as are begun with together
    if width < 3 or 2 * group != width + 1 or group & (group - 1):
        raise ValueError(f"the width must be 3, 7, 15, 31, …, not {width}")
    count, lanes = values.shape
    groups = -(-count // group)
    # Numbers that are not negative are ordered as the integers of the same bits, which are
    # compared without a thought for NaN. The last group is completed, and a row is never used.
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
    # Nodes of a level stand for 2h windows side by side, the first of which starts at row 2h·node.
    # A node's core are those 2h of the values common to them, sorted, that may be a median.
    lanes = found.shape[1]
    nodes, h = len(found) // group, group // 2
    shape: tuple[int, ...] = group, nodes, lanes
    core, spare, new, other = (np.empty(shape, np.int32) for _ in range(4))
    _compare_exchange(_windows(rows, group - 1, group, nodes, group), core, 1)
    core, spare = _sort(core, spare)
    while h:
        # Each half's windows share h values more: the left half's before, the right half's after.
        shape = h, nodes, 2, lanes
        new, other, spare = new.reshape(shape), other.reshape(shape), spare.reshape(shape)
        for side, start in enumerate((h - 1, 2 * group - 1)):
            values = _windows(rows, start, h, nodes, 2 * h)
            if h > 1:
                _compare_exchange(values, new[:, :, side], 1)
            else:
                new[:, :, side] = values
        new, other = _sort(new, other)
        # Of these and the core's 2h, the h in the middle may still be medians. The h lowest go …
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
    # Along the first axis, pairs being in order. Both arrays are written to; the first returned
    # has the answer.
    run = 2
    while run < len(values):
        _compare_exchange(values, spare, run, mirrored=True)
        values, spare = _merge(spare, values, run // 2)
        run *= 2
    return values, spare


def _merge(
    values: NDArray[np.int32], spare: NDArray[np.int32], step: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    # Runs of twice `step` that rise and then fall, or the other way round, come in order.
    while step:
        _compare_exchange(values, spare, step)
        values, spare = spare, values
        step //= 2
    return values, spare


def _compare_exchange(
    values: NDArray[np.int32], found: NDArray[np.int32], step: int, *, mirrored: bool = False
) -> None:
    # The lesser of each pair of values that are `step` apart goes first.
    low, high = values.reshape(-1, 2, step, *values.shape[1:]).swapaxes(0, 1)
    less, more = found.reshape(-1, 2, step, *found.shape[1:]).swapaxes(0, 1)
    if mirrored:
        high = high[:, ::-1]
    np.minimum(low, high, out=less)
    np.maximum(low, high, out=more)
