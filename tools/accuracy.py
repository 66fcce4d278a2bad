"""Measure the heads of the classifier on real GTZAN and write ``docs/accuracy.md``.

    python tools/accuracy.py --data /path/to/gtzan

A stopped run resumes. The page's text is in this file, its figures come from the two studies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
AUDIO, FULL = "full,full-16k,excerpt", "full,full-16k"

TEXT = """# How often it is right

Remade by `python tools/accuracy.py --data /path/to/gtzan`. There were {tracks} tracks with audio,
{full} of them whole clips and the others excerpts of 2 to 3 s; {seeds} seeds.

Each figure is the share of test tracks whose genre is right, mean ± standard deviation over seeds.

- **filtered**: the published artist- and fault-filtered lists; {filtered} test tracks have audio,
  none of them jazz, so it is right to about ± 9 points.
- **grouped**: 5 folds, no artist on both sides. The steadier figure, and the one to go by.
- **10-fold**: random folds by track, over all tracks and over whole clips only. The same artists
  stand on both sides: what most papers print, and too good.

| head | filtered | grouped | 10-fold, all | 10-fold, whole clips | calibration error (grouped) |
| --- | --- | --- | --- | --- | --- |
{table}

{about}

`default` is the classifier in the package. Its calibration error is the expected one over 15 bins;
a classifier that says 0.8 and is right in 80 % of such cases has 0.

## By genre (default, grouped)

| genre | recall | tracks | most often taken for |
| --- | --- | --- | --- |
{genres}

## How the default was chosen

By the grouped folds, in two rounds. A search over 123 heads on stored embeddings (logistic
regression, SVM, shrunk LDA, small networks with mixup and dropout; each layer, all three; each
network, all four, early and late fusion; with the 57 descriptors; per-window rows; whitening;
altered versions of the tracks at training and at test) had LDA on all three layers with altered
versions ahead; more networks, the descriptors, SVM and small networks added nothing beyond the
spread over seeds. Then scaling of the layers, other shrinkage and averaging LDA with logistic
regression were tried, and added nothing. All of these compared figures on the same tracks, so the
figure of the winner is up to a point too high. The filtered test tracks were looked at several
times on the way, not once.

A 30 s clip is ten windows; `lda-five-windows` beside `lda-unaltered` shows what sampling half of
them costs. Four networks took twenty minutes a seed to fit and did no better (0.746 ± 0.013
grouped, 0.710 filtered), so they are not in the study.

## Known weaknesses

- Trained on {tracks} tracks of ten genres, most of them recorded before 2002; blues is by eight
  artists, and whole styles of it are missing.
- Rock, blues, country and pop are taken for one another; see the table.
- Whatever is none of the ten genres is given one of them, at best called unsure; the tags know
  more kinds.
"""


def main() -> None:
    """Run both studies and write the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="GTZAN, in any layout")
    options.add_argument("--out", type=Path, default=Path("accuracy"), help="folder of the studies")
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    every = study(given, given.out / "all", AUDIO, "filtered,grouped,kfold")
    whole = study(given, given.out / "whole", FULL, "kfold")
    PAGE.write_text(page(every, whole), encoding="utf-8")
    print(f"wrote {PAGE}")


def study(
    given: argparse.Namespace, out: Path, audio_variants: str, protocols: str
) -> dict[str, Any]:
    """Run or resume one study; give its results."""
    command = [sys.executable, "-m", "genrescope", "study", "heads", "--data", str(given.data)]
    command += ["--out", str(out), "--audio-variants", audio_variants, "--protocols", protocols]
    subprocess.run([*command, "--seeds", str(given.seeds)], check=True)  # noqa: S603  our own
    results: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return results


def page(every: dict[str, Any], whole: dict[str, Any]) -> str:
    """Format the page."""
    recipes = every["study"]["recipes"]
    lines = []
    for recipe in recipes:
        name = recipe["name"]
        cells = [shown(every, name, p) for p in ("filtered", "grouped", "kfold")]
        error = np.mean([row["ece"] for row in rows(every, name, "grouped")])
        cells += [shown(whole, name, "kfold"), f"{error:.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return TEXT.format(
        tracks=sum(every["dataset"]["tracks"].values()),
        full=sum(whole["dataset"]["tracks"].values()),
        seeds=every["study"]["seeds"],
        filtered=rows(every, "default", "filtered")[0]["n_test"],
        table="\n".join(lines),
        about="\n".join(f"- **{recipe['name']}**: {recipe['about']}" for recipe in recipes),
        genres="\n".join(genres(rows(every, "default", "grouped"))),
    )


def rows(results: dict[str, Any], recipe: str, protocol: str) -> list[dict[str, Any]]:
    """One row for each seed."""
    wanted = (recipe, protocol)
    return [row for row in results["rows"] if (row["recipe"], row["protocol"]) == wanted]


def shown(results: dict[str, Any], recipe: str, protocol: str) -> str:
    """Accuracy as mean ± sd."""
    found = [row["accuracy"] for row in rows(results, recipe, protocol)]
    spread = np.std(found, ddof=1) if len(found) > 1 else 0.0
    return f"{np.mean(found):.3f} ± {spread:.3f}"


def genres(seeds: list[dict[str, Any]]) -> list[str]:
    """A line for each genre: recall, number of tracks, the likeliest confusions."""
    names = seeds[0]["genres"]
    matrix = np.sum([row["confusion"] for row in seeds], axis=0)
    lines = []
    for i, name in enumerate(names):
        others = [j for j in np.argsort(-matrix[i], kind="stable") if j != i and matrix[i, j]][:2]
        total = matrix[i].sum()
        taken = ", ".join(f"{names[j]} {matrix[i, j] / total:.2f}" for j in others)
        share = matrix[i, i] / total
        lines.append(f"| {name} | {share:.2f} | {total // len(seeds)} | {taken} |")
    return lines


if __name__ == "__main__":
    main()
