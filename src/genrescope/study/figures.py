"""The figures of a report, drawn with matplotlib; each function returns a ``Figure``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from genrescope.audio import load
from genrescope.audio.spectral import mel_centres, mel_spectrogram, to_db
from genrescope.classifier import OTHER, Timeline
from genrescope.classifier.explain import Explanation
from genrescope.io import picture_text
from genrescope.study.results import LEAKS, Cell, mark_of, of_segments
from genrescope.study.statistics import reliability

if TYPE_CHECKING:
    from genrescope.training.loggers import Curves

# Okabe & Ito's colours, distinguishable with colour blindness.
_TRAIN, _VALID = "#0072B2", "#D55E00"
_LEAKAGE_FREE, _LEAKING, _WARNING = "#009E73", "#999999", "#C1121F"
_SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
_LINES = (*_SERIES, "#D55E00", "#000000")


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


def accuracies(cells: Sequence[Cell], leakage_free: Mapping[str, bool], title: str) -> Figure:
    """Dots with 95 % intervals: test accuracy of every recipe, a panel for each protocol.

    Recipes are ordered by accuracy under the first protocol.
    """
    recipes = _ranked(cells)
    protocols = list(dict.fromkeys(cell.protocol for cell in cells))
    columns = min(2, len(protocols))
    lines = -(-len(protocols) // columns)
    figure = Figure(figsize=(9, 0.8 + lines * (0.9 + 0.24 * len(recipes))), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, protocol in zip(grid.flat, protocols, strict=False):
        _panel(axes, [cell for cell in cells if cell.protocol == protocol], recipes, leakage_free)
    for axes in grid.flat[len(protocols) :]:
        axes.set_visible(False)
    grid[0, 0].set_yticks(range(len(recipes)), recipes)
    grid[0, 0].set_ylim(len(recipes) - 0.5, -0.5)
    grid[0, 0].set(xlim=(0, 1.15), xticks=np.linspace(0, 1, 6))
    figure.suptitle(title)
    figure.supxlabel("test accuracy, mean of seeds with 95 % interval", fontsize="medium")
    return figure


def gap(cells: Sequence[Cell], leakage_free: Mapping[str, bool], title: str) -> Figure:
    """Dumbbells: accuracy by the first leakage-free protocol and by the first random one."""
    strict, random = gap_protocols(cells, leakage_free)
    found = {(cell.protocol, cell.recipe): cell.mean for cell in cells}
    recipes = _ranked([cell for cell in cells if cell.protocol == strict] + list(cells))
    figure = Figure(figsize=(9, 1.7 + 0.26 * len(recipes)), layout="constrained")
    axes = figure.subplots()
    for y, recipe in enumerate(recipes):
        _dumbbell(axes, y, found.get((strict, recipe)), found.get((random, recipe)))
    _columns(axes, -0.5, (strict, random, "gap"), above=9, weight="bold")
    for protocol, style, label in _gap_marks(cells, leakage_free):
        points = [(found[protocol, r], y) for y, r in enumerate(recipes) if (protocol, r) in found]
        axes.plot(*zip(*points, strict=True), label=label, linestyle="none", **style)
        if of_segments(protocol):
            for point in points:
                _beside(axes, point, LEAKS, color=_WARNING, fontsize=7, fontweight="bold")
    axes.set_yticks(range(len(recipes)), recipes)
    axes.set_ylim(len(recipes) - 0.5, -0.5)
    lowest = min(cell.mean for cell in cells)
    axes.set(xlim=(max(0, np.floor(lowest * 10 - 0.5) / 10), 1.1), xlabel="test accuracy")
    axes.set_xticks([tick for tick in np.linspace(0, 1, 11) if tick >= axes.get_xlim()[0]])
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _tidy(axes, grid="x")
    return figure


def gap_protocols(cells: Sequence[Cell], leakage_free: Mapping[str, bool]) -> tuple[str, str]:
    """The first leakage-free and the first random protocol, without segments; "" for none."""
    present = [cell.protocol for cell in cells if not of_segments(cell.protocol)]
    strict = next((protocol for protocol in present if leakage_free[protocol]), "")
    return strict, next((protocol for protocol in present if not leakage_free[protocol]), "")


def learning(cells: Sequence[Cell], title: str) -> Figure:
    """Lines: accuracy against the number of training tracks, which is on a logarithmic axis.

    Cells are of one protocol. The best with all tracks are in colour, the others grey; each line is
    labelled at its end.
    """
    lines = {
        recipe: sorted((c.n_train, c.mean) for c in cells if c.recipe == recipe)
        for recipe in dict.fromkeys(cell.recipe for cell in cells)
    }
    best = sorted(lines, key=lambda recipe: -lines[recipe][-1][1])
    height = max(4.5, 1.2 + 0.2 * len(lines))
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    for recipe in reversed(best):  # the best on top of the others
        shown = best.index(recipe) < len(_LINES)
        colour = _LINES[best.index(recipe)] if shown else _LEAKING
        style = {"linewidth": 1.8, "marker": "o", "markersize": 4} if shown else {"linewidth": 0.9}
        axes.plot(*zip(*lines[recipe], strict=True), color=colour, label=recipe, **style)
    sizes = [size for line in lines.values() for size, _ in line]
    _log_ticks(axes, min(sizes), max(sizes))
    _name_ends(axes, {recipe: lines[recipe][-1] for recipe in best}, height - 1.1)
    axes.set(xlabel="training tracks", ylabel="test accuracy, mean of seeds", title=title)
    _tidy(axes, grid="both")
    return figure


def calibration(cells: Sequence[Cell], title: str) -> Figure:
    """Reliability diagrams: accuracy against confidence.

    Below the diagonal, the model is overconfident. Points are bins of confidence, their area the
    number of predictions, over all seeds (A. Niculescu-Mizil and R. Caruana, "Predicting Good
    Probabilities With Supervised Learning", ICML 2005). Cells are of one protocol.
    """
    columns = min(5, len(cells))
    lines = -(-len(cells) // columns)
    size = (max(4.5, 1.8 * columns), 1.0 + 2.1 * lines)
    figure = Figure(figsize=size, layout="compressed")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, cell in zip(grid.flat, cells, strict=False):
        outcomes = [outcome for tested in cell.tested for outcome in tested]
        bins = reliability([o.confidence for o in outcomes], [o.right for o in outcomes])
        points = [(one.confidence, one.accuracy) for one in bins]
        areas = [4 + 120 * one.count / len(outcomes) for one in bins]
        axes.plot([0, 1], [0, 1], color=_LEAKING, linewidth=0.8)
        axes.plot(*zip(*points, strict=True), color=_TRAIN, linewidth=1)
        axes.scatter(*zip(*points, strict=True), s=areas, color=_TRAIN, alpha=0.8, linewidth=0)
        error = "–" if cell.ece is None else f"{cell.ece:.2f}"
        name = textwrap.fill(cell.recipe, 22)
        axes.set_title(f"{name}\nECE {error}", fontsize=8)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.tick_params(labelsize=7)
        _tidy(axes, grid="both")
    for axes in grid.flat[len(cells) :]:
        axes.set_visible(False)
    figure.suptitle(title)
    figure.supxlabel("confidence", fontsize="medium")
    figure.supylabel("accuracy", fontsize="medium")
    return figure


def curves(cell: Cell, title: str) -> Figure:
    """Loss and accuracy by epoch, train and validation: mean over seeds with a band of ± sd."""
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour in (("train", _TRAIN), ("valid", _VALID)):
            _band(axes, cell.curves, f"{part}_{measure}", colour, part)
        axes.set(xlabel="epoch", ylabel=measure)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        if measure == "accuracy":
            axes.set_ylim(0, 1.02)
    figure.suptitle(title, fontsize="medium")
    return figure


def confusion(matrix: NDArray[np.int64], genres: Sequence[str], title: str) -> Figure:
    """Row-normalised confusion matrix; counts are int (genres, genres), true × predicted."""
    size = 1.2 + 0.33 * len(genres)
    figure = Figure(figsize=(max(4, size), max(4, size) + 0.2), layout="constrained")
    axes = figure.subplots()
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(fractions, vmin=0, vmax=1, cmap="Blues")
    for (row, column), fraction in np.ndenumerate(fractions):
        if matrix[row, column]:
            colour = "white" if fraction > 0.5 else "black"
            text = f"{fraction:.2f}".removeprefix("0") if fraction < 1 else "1"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(genres)), genres, rotation=45, ha="right")
    axes.set_yticks(range(len(genres)), genres)
    axes.set(xlabel="predicted (fraction of the true genre's tracks)", ylabel="true")
    figure.suptitle(title, fontsize="small")
    return figure


def timeline(path: Path, times: Timeline, *, other: bool = False) -> Figure:
    """The five most probable genres of an audio file over time, under its mel spectrogram.

    With ``other``, the title says that the file is none of them.
    """
    waveform, sampling_rate = load(path, 22050)
    mel = to_db(mel_spectrogram(waveform, sampling_rate, n_fft=2048, hop=512, bands=128), factor=10)
    seconds = len(waveform) / sampling_rate
    step = min(times.step_s, seconds)
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    upper.imshow(mel.T, origin="lower", aspect="auto", extent=(0, seconds, 0, 128), cmap="magma")
    title = f"{path.name}: {OTHER}" if other else path.name
    upper.set(ylabel="mel band", title=picture_text(title))
    strongest = np.argsort(-times.probabilities.mean(axis=0), kind="stable")[:5]
    # Silent windows have no genre, and their rows are 0.
    every = times.probabilities.sum(axis=1)
    rest = every - times.probabilities[:, strongest].sum(axis=1)
    layers = [*times.probabilities[:, strongest].T, rest]
    edges = np.arange(len(times.probabilities) + 1) * step
    lower.stackplot(
        edges,
        *(np.append(layer, layer[-1]) for layer in layers),
        labels=[*(picture_text(times.genres[i]) for i in strongest), "the rest"],
        colors=[*_SERIES, _LEAKING],
        step="post",
    )
    lower.set(xlim=(0, seconds), ylim=(0, 1), xlabel="time / s", ylabel="probability")
    lower.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def explanation(path: Path, why: Explanation, *, other: bool = False) -> Figure:
    """What the answer for an audio file rests on, over its mel spectrogram in grey.

    With ``other``, the title says that the file is none of the model's genres, and the closest one.
    """
    bands = 128
    rate = round(2 * why.bands[-1])
    waveform, _ = load(path, rate)
    mel = to_db(mel_spectrogram(waveform, rate, n_fft=2048, hop=512, bands=bands), factor=10)
    seconds = len(waveform) / rate
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(mel.T, origin="lower", aspect="auto", extent=(0, seconds, 0, bands), cmap="gray_r")
    # Opaque where the drop is large: elsewhere the spectrogram shows.
    reach = max(float(np.abs(why.drops).max()), 1e-6)
    image = axes.imshow(
        why.drops.T,
        origin="lower",
        aspect="auto",
        extent=(0, why.times[-1], 0, bands),
        cmap="RdBu_r",
        vmin=-reach,
        vmax=reach,
        alpha=0.75 * np.abs(why.drops.T) / reach,
    )
    hertz = [hz for hz in (250, 500, 1000, 2000, 4000, 8000, 16000) if hz <= why.bands[-1]]
    scale = [0, *mel_centres(rate, bands - 1), rate / 2]
    axes.set_yticks(np.interp(hertz, scale, range(bands + 1)), map(str, hertz))
    axes.set(xlim=(0, seconds), ylim=(0, bands), xlabel="time / s", ylabel="frequency / Hz")
    closest = f"{OTHER}; closest is " if other else ""
    axes.set_title(picture_text(f"{path.name}: {closest}{why.genre} {why.probability:.2f}"))
    colours = ScalarMappable(image.norm, image.cmap)  # without the image's transparency
    figure.colorbar(colours, ax=axes, label="drop of the probability without it")
    return figure


def _ranked(cells: Sequence[Cell]) -> list[str]:
    # Best first, by the first protocol with a result of the recipe.
    order = list(dict.fromkeys(cell.protocol for cell in cells))
    key: dict[str, tuple[int, float]] = {}
    for cell in cells:
        key.setdefault(cell.recipe, (order.index(cell.protocol), -cell.mean))
    return sorted(key, key=lambda recipe: key[recipe])


def _panel(
    axes: Axes, cells: Sequence[Cell], recipes: Sequence[str], leakage_free: Mapping[str, bool]
) -> None:
    protocol = cells[0].protocol
    marker, colour, size = ("o", _LEAKAGE_FREE, 6) if leakage_free[protocol] else ("D", _LEAKING, 5)
    if of_segments(protocol):
        marker, colour, size = "X", _WARNING, 8
    for cell in cells:
        y = recipes.index(cell.recipe)
        low, high = cell.interval()
        axes.plot([low, high], [y, y], color=colour, linewidth=2)
        axes.plot(cell.mean, y, marker, color=colour, markersize=size)
        _beside(axes, (high, y), f"{cell.mean:.2f}", fontsize=8)
    kind = mark_of(protocol)
    axes.set_title(f"{protocol}: {kind}", fontsize=10, color=_WARNING if kind == LEAKS else "black")
    _tidy(axes, grid="x")


def _dumbbell(axes: Axes, y: int, strict: float | None, random: float | None) -> None:
    texts = ["" if mean is None else f"{mean:.2f}" for mean in (strict, random)]
    if strict is not None and random is not None:
        axes.plot([strict, random], [y, y], color=_LEAKING, linewidth=1.5, zorder=1)
        texts.append(f"{random - strict:+.2f}")
    _columns(axes, y, texts)


def _gap_marks(
    cells: Sequence[Cell], leakage_free: Mapping[str, bool]
) -> list[tuple[str, dict[str, Any], str]]:
    # Protocol, marker and label in the legend.
    strict, random = gap_protocols(cells, leakage_free)
    present = list(dict.fromkeys(cell.protocol for cell in cells))
    others = [name for name in present if leakage_free[name] and name != strict]
    hollow = {"marker": "D", "markeredgecolor": "#666666", "markerfacecolor": "white"}
    marks: list[tuple[str, dict[str, Any], str]] = [
        (random, {**hollow, "markersize": 6}, f"{random}: random split, artists leak"),
        *(
            (
                name,
                {"marker": "|", "color": _LEAKAGE_FREE, "markersize": 13},
                f"{name}: also leakage-free",
            )
            for name in others
        ),
        (
            strict,
            {"marker": "o", "color": _LEAKAGE_FREE, "markersize": 7},
            f"{strict}: leakage-free",
        ),
    ]
    cross = {"marker": "x", "color": _WARNING, "markersize": 6, "markeredgewidth": 1.6}
    marks += [(name, cross, f"{name}: {LEAKS}") for name in present if of_segments(name)]
    return marks


def _columns(axes: Axes, y: float, texts: Sequence[str], *, above: float = 0, **style: Any) -> None:
    # A table row right of the axes, ``above`` points above y.
    for i, text in enumerate(texts):
        axes.annotate(
            text,
            (1, y),
            xytext=(44 + 46 * i, above),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8,
            annotation_clip=False,
            **style,
        )


def _beside(axes: Axes, point: tuple[float, float], text: str, **style: Any) -> None:
    axes.annotate(text, point, xytext=(6, 0), textcoords="offset points", va="center", **style)


def _log_ticks(axes: Axes, low: int, high: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low / 1.1, high * 1.1)
    wanted = [step * 10**power for power in range(7) for step in (1, 2, 5)]
    ticks = [tick for tick in wanted if low / 1.1 <= tick <= high * 1.1]
    axes.xaxis.set_major_locator(FixedLocator(ticks or [low, high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def _name_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], inches: float) -> None:
    # Labels right of the axes, moved as little as possible so that they do not overlap.
    low, high = axes.get_ylim()
    step = (high - low) / max(len(ends), inches / 0.17)
    names = sorted(ends, key=lambda recipe: ends[recipe][1])
    ladder = step * np.arange(len(names))
    places = isotonic_regression([ends[name][1] for name in names] - ladder).x + ladder
    places += min(0, high - places[-1]) + max(0, low - places[0])
    colours = {line.get_label(): line.get_color() for line in axes.get_lines()}
    edge = axes.get_xlim()[1]
    for name, place in zip(names, places, strict=True):
        x, y = ends[name]
        axes.plot([x, edge], [y, place], ":", color=colours[name], linewidth=0.7)
        _beside(axes, (edge, place), name, fontsize=8, color=colours[name], annotation_clip=False)
    axes.set_ylim(low, high)


def _tidy(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _band(axes: Axes, runs: Sequence[Curves], column: str, colour: str, label: str) -> None:
    # Fits may stop at different epochs: each epoch averages those that reached it.
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
