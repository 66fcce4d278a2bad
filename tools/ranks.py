"""Print how the ranks of a study's models change with the protocol, as Markdown.

    genrescope study ranks --data /path/to/gtzan --out ranks
    python tools/ranks.py ranks                   # each model on the tracks that it can use
    python tools/ranks.py ranks --scope audio     # all on the test tracks that have audio

The last line is Kendall's rank correlation with the first protocol. For GTZAN it is followed by the
accuracy on the tracks that have an identical twin with the same label, and on the others.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from genrescope.datasets.gtzan import IDENTICAL

FIRST = "kfold"
Means = dict[str, dict[str, tuple[float, str]]]
"""By protocol and recipe: mean accuracy, and its text."""


def read(summary: Path, scope: str) -> Means:
    """Read the accuracies of one scope."""
    means: Means = defaultdict(dict)
    with summary.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["scope"] == scope:
                mean, sd = float(row["accuracy_mean"]), row["accuracy_sd"]
                text = f"{mean:.3f} ± {float(sd):.3f}" if sd else f"{mean:.3f}"
                means[row["protocol"]][row["recipe"]] = mean, text
    if not means:
        raise SystemExit(f"{summary}: no figures of scope {scope}. Give --scope all or audio.")
    return means


def ranks(found: dict[str, tuple[float, str]]) -> dict[str, int]:
    """Number the recipes from the best, 1."""
    order = sorted(found, key=lambda recipe: -found[recipe][0])
    return {recipe: place for place, recipe in enumerate(order, start=1)}


def table(means: Means) -> str:
    """Format accuracies and ranks, the best by the first protocol on top."""
    protocols = sorted(means, key=lambda name: name != FIRST)
    recipes = sorted(means[protocols[0]], key=lambda recipe: -means[protocols[0]][recipe][0])
    places = {name: ranks(means[name]) for name in protocols}
    lines = [
        f"| model | {' | '.join(f'`{name}`' for name in protocols)} |",
        "| --- |" + " --- |" * len(protocols),
    ]
    for recipe in recipes:
        cells = [
            f"{means[name][recipe][1]} ({places[name][recipe]})" if recipe in means[name] else ""
            for name in protocols
        ]
        lines.append(f"| `{recipe}` | {' | '.join(cells)} |")
    cells = []
    for name in protocols:
        both = [recipe for recipe in recipes if recipe in means[name]]
        pair = [[means[which][recipe][0] for recipe in both] for which in (protocols[0], name)]
        cells.append(f"{kendalltau(*pair).statistic:.2f}")
    return "\n".join([*lines, f"| rank correlation | {' | '.join(cells)} |"])


def twins(report: Path) -> str:
    """Format the accuracy on tracks with an identical twin of the same label, over all seeds."""
    same = [pair for pair in IDENTICAL if len({track.partition(".")[0] for track in pair}) == 1]
    alike = {track for pair in same for track in pair}
    with (report / "results.csv").open(encoding="utf-8", newline="") as file:
        fits = {(row["recipe"], row["protocol"], row["seed"]) for row in csv.DictReader(file)}
    right: dict[tuple[str, str], dict[str, list[bool]]] = {}
    for path in sorted(report.glob("runs/*/*/seed-*/predictions.csv")):
        folder, protocol, seed = path.parts[-4:-1]
        recipe = folder.rpartition("-")[0]
        if (recipe, protocol, seed.removeprefix("seed-")) not in fits:
            continue  # of an earlier run with more seeds
        sides = right.setdefault((recipe, protocol), {"twin": [], "other": []})
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                side = "twin" if row["id"] in alike else "other"
                sides[side].append(row["genre"] == row["predicted"])
    lines = ["| model | protocol | with a twin | others |", "| --- | --- | --- | --- |"]
    for (recipe, protocol), sides in sorted(right.items()):
        if protocol in {FIRST, "grouped"} and sides["twin"]:
            cells = [f"{np.mean(sides[side]):.3f}" for side in ("twin", "other")]
            lines.append(f"| `{recipe}` | `{protocol}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("report", type=Path, help="folder of a study's report")
    parser.add_argument("--scope", default="all", help="all or audio")
    options = parser.parse_args()
    print(table(read(options.report / "summary.csv", options.scope)))
    if options.scope == "all":
        print(f"\n{twins(options.report)}")


if __name__ == "__main__":
    main()
