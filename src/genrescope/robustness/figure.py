"""The heat map of robustness: models × transforms, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genrescope.io import picture_text
from genrescope.robustness.results import RobustnessRow
from genrescope.robustness.transforms import TRANSFORMS, UNCHANGED


def heat_map(rows: Sequence[RobustnessRow], title: str) -> Figure:
    """Two panels: the share of changed answers, and the change of accuracy.

    Parameters
    ----------
    rows
        Of one protocol. A transform that applies to no clip of a model has a grey cell.
    title
        Of the figure.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    present = {row.transform for row in rows} - {UNCHANGED.name}
    names = [name for name in TRANSFORMS if name in present]
    changed, gaps = (np.full((len(names), len(models)), np.nan) for _ in range(2))
    for row in rows:
        if row.transform in present:
            place = names.index(row.transform), models.index(row.model)
            changed[place], gaps[place] = row.changed, row.difference
    size = (5.2 + 1.5 * len(models), 1.9 + 0.27 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    reach = max(0.1, float(np.nanmax(np.abs(gaps), initial=0)))
    _panel(left, changed, "share of changed answers", "{:.2f}", "Blues", (0, 1))
    _panel(right, gaps, "change of accuracy", "{:+.2f}", "RdBu", (-reach, reach))
    left.set_yticks(range(len(names)), [TRANSFORMS[name].about for name in names])
    counts = {row.model: row.tracks for row in rows if row.transform == UNCHANGED.name}
    labels = [f"{picture_text(model)}\n{counts[model]} tracks" for model in models]
    for axes in (left, right):
        axes.set_xticks(range(len(models)), labels, fontsize=8)
    figure.suptitle(picture_text(title))
    return figure


def _panel(
    axes: Axes,
    values: NDArray[np.float64],
    title: str,
    form: str,
    colours: str,
    limits: tuple[float, float],
) -> None:
    axes.set_facecolor("#dddddd")
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1])
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        red, green, blue, _ = image.to_rgba(np.array([value]))[0]
        colour = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "black"
        axes.text(
            column, row, form.format(value), ha="center", va="center", color=colour, fontsize=8
        )
    axes.set_title(title, fontsize=10)
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0, labelsize=8)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
    bar.ax.tick_params(labelsize=8)
