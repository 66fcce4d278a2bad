"""The figures of a report, drawn with matplotlib; each function returns a ``Figure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genrescope.audio import load
from genrescope.classifier import Timeline
from genrescope.representations.spectral import mel_spectrogram, to_db
from genrescope.study.results import Cell
from genrescope.training.fit import Curves

# Okabe & Ito's colours, which colour-blind readers can tell apart.
_TRAIN, _VALID = "#0072B2", "#D55E00"
_HONEST, _LEAKING = "#009E73", "#999999"
_SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")


def class_balance(counts: Mapping[str, int], name: str) -> Figure:
    """Bars: tracks per genre."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(list(counts), list(counts.values()), color=_TRAIN)
    axes.bar_label(bars, padding=2)
    axes.set(ylabel="tracks", title=f"Class balance of {name}, {sum(counts.values())} tracks")
    axes.margins(y=0.12)
    axes.tick_params(axis="x", rotation=30)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def accuracies(cells: Sequence[Cell], honest: Mapping[str, bool], title: str) -> Figure:
    """Dots with 95 % intervals: test accuracy of every recipe under every protocol."""
    recipes = list(dict.fromkeys(cell.recipe for cell in cells))
    protocols = list(dict.fromkeys(cell.protocol for cell in cells))
    figure = Figure(figsize=(8, 1.4 + 0.32 * len(recipes) * len(protocols)), layout="constrained")
    axes = figure.subplots()
    for cell in cells:
        offset = (protocols.index(cell.protocol) - (len(protocols) - 1) / 2) * 0.22
        y = recipes.index(cell.recipe) + offset
        low, high = cell.interval()
        colour = _HONEST if honest[cell.protocol] else _LEAKING
        axes.plot([low, high], [y, y], color=colour, linewidth=2)
        axes.plot(cell.mean, y, "o" if honest[cell.protocol] else "D", color=colour)
        axes.annotate(
            f"{cell.mean:.2f} {cell.protocol}",
            (high, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(recipes)), recipes)
    axes.set_ylim(len(recipes) - 0.5, -0.5)
    axes.set(xlim=(0, 1.12), xlabel="test accuracy, mean of seeds with 95 % interval", title=title)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def curves(cell: Cell, title: str) -> Figure:
    """Loss and accuracy by epoch, train and validation: mean over seeds with a band of ± sd."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour in (("train", _TRAIN), ("valid", _VALID)):
            _band(axes, cell.curves, f"{part}_{measure}", colour, part)
        axes.set(xlabel="epoch", ylabel=measure)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        if measure == "accuracy":
            axes.set_ylim(0, 1.02)
    figure.suptitle(title)
    return figure


def confusion(matrix: NDArray[np.int64], genres: Sequence[str], title: str) -> Figure:
    """Row-normalised confusion matrix; counts are int (genres, genres), true × predicted."""
    size = 2.6 + 0.46 * len(genres)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (row, column), share in np.ndenumerate(shares):
        if matrix[row, column]:
            colour = "white" if share > 0.5 else "black"
            text = f"{share:.2f}".removeprefix("0") if share < 1 else "1"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(genres)), genres, rotation=45, ha="right")
    axes.set_yticks(range(len(genres)), genres)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true genre's tracks")
    return figure


def timeline(path: Path, times: Timeline) -> Figure:
    """Genres over time, under the clip's mel spectrogram.

    Parameters
    ----------
    path
        The audio file.
    times
        Its genres over time; the five strongest are named.
    """
    waveform, rate = load(path, 22050)
    mel = to_db(mel_spectrogram(waveform, rate, n_fft=2048, hop=512, bands=128), factor=10)
    seconds = len(waveform) / rate
    step = min(times.step_s, seconds)
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    upper.imshow(mel.T, origin="lower", aspect="auto", extent=(0, seconds, 0, 128), cmap="magma")
    upper.set(ylabel="mel band", title=path.name)
    strongest = np.argsort(-times.probabilities.mean(axis=0), kind="stable")[:5]
    rest = 1 - times.probabilities[:, strongest].sum(axis=1)
    layers = [*times.probabilities[:, strongest].T, rest]
    edges = np.arange(len(times.probabilities) + 1) * step
    lower.stackplot(
        edges,
        *(np.append(layer, layer[-1]) for layer in layers),
        labels=[*(times.genres[i] for i in strongest), "other"],
        colors=[*_SERIES, _LEAKING],
        step="post",
    )
    lower.set(xlim=(0, seconds), ylim=(0, 1), xlabel="time / s", ylabel="probability")
    lower.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _band(axes: Axes, runs: Sequence[Curves], column: str, colour: str, label: str) -> None:
    # Fits may stop at different epochs: each epoch averages those that came so far.
    longest = max((len(run) for run in runs), default=0)
    values = np.full((len(runs), longest), np.nan)
    for i, run in enumerate(runs):
        values[i, : len(run)] = [row.get(column, np.nan) for row in run]
    shown = ~np.isnan(values).all(axis=0) if longest else np.zeros(0, dtype=bool)
    if not shown.any():
        return
    epochs = np.arange(1, longest + 1)[shown]
    mean, sd = np.nanmean(values[:, shown], axis=0), np.nanstd(values[:, shown], axis=0)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, mean, color=colour, label=label, marker=marker)
    axes.fill_between(epochs, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
