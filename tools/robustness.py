"""Measure robustness and explanations on real GTZAN and write ``docs/robustness.md``.

    python tools/robustness.py --data /path/to/gtzan

A stopped run resumes. The page's text is in this file, its figures come from the study and from the
deletion test. ``--deletion MODEL`` runs that test alone, on any model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import genrescope
from genrescope.audio import decode
from genrescope.classifier import Classifier
from genrescope.classifier.explain import Occluder, explain
from genrescope.datasets.open import open_dataset
from genrescope.datasets.splits import get_protocol
from genrescope.datasets.track import Track
from genrescope.representations.representation import Representation
from genrescope.study.statistics import paired_bootstrap, wilson

DOCS = Path(__file__).parents[1] / "docs"
RECIPES, PROTOCOL = ("default", "cnn", "mlp"), "grouped"
DRAWS = 5  # of random cells, for each clip
SHARE = 0.1  # of the cells

TEXT = """# Robustness and explanations

Remade by `python tools/robustness.py --data /path/to/gtzan`.

A model may be right for the wrong reason: because it recognises the genre, or because it
recognises something that goes with it in this data set, such as the sound of a certain recording.
B. L. Sturm calls the latter a "horse" ("A Simple Method to Determine if a Music Information
Retrieval System is a 'Horse'", IEEE Transactions on Multimedia 16, 2014). Two commands help to
find out which it is.

## The same music, otherwise unchanged

<!-- not run: needs GTZAN and takes an hour or two on two cores -->
```sh
genrescope study --data gtzan --recipes {recipes} --protocols {protocol} --seeds 1 --robustness
```

Every test track is classified again after {count} transforms that keep its genre: as MP3, louder,
softer, equalised, through a telephone, pitched, faster, slower, with noise, in a room, without
its first seconds, faded. (`genrescope list transforms` has all of them; random choices, such as
noise, depend on the track's name alone.) Descriptors, pictures and embeddings are all computed
from the transformed audio. Each fold's model is asked only about its own test tracks, so no
figure is of tracks or artists that it was trained on. An answer is the most likely genre, also of a
model that can answer [other](commands.md#other): every track has one of its genres, and figures of
models with and without such answers compare. A single model is tested by:

<!-- not run: needs a model's data set -->
```sh
genrescope robustness report/models/cnn-filtered --data gtzan --protocol filtered --out robustness
genrescope robustness my-model --data other-clips/ --transforms mp3-64,telephone --json
```

![Share of changed answers and change of accuracy, transforms × models.](images/robustness.png)

Protocol `{protocol}` (5 folds, no artist on both sides), {tracks}. The others have no audio here
that the model can use: excerpts of 2 to 3 s are enough for `default` only,
whose audio then answers alone. A cell shows the
change of accuracy with the 95 % interval of a paired bootstrap over tracks (not corrected for
multiple comparisons), then the share of tracks whose answer changed, right or wrong. Tracks too
short for a transform, 16 kHz clips for the low-pass filter, and GTZAN's mono clips for "the first
channel alone" are not counted.

{table}

{findings}

The audio member of `default` is trained on versions of every track that are faster, slower,
brighter and darker, all brought to one level; `cnn` and `mlp` are not.

## What an answer rests on

```sh
genrescope classify song.mp3 --explain why.png
```

![The spectrogram of a sample, with the cells that its answer rests on in red.](images/explain.png)

The clip is divided into cells of 3 s × 8 frequency bands (equally wide on the mel scale). One
cell at a time is replaced by the clip's mean level in that band, the audio is resynthesised, and
the model is asked again. Red: the genre's probability drops without the cell, so it speaks for
the genre. Blue: it speaks against it. This works for every model that takes audio. `--json`
prints the data, and so does Python:

```python
import genrescope

why = genrescope.explain(genrescope.load(), "song.mp3")
step, band = divmod(why.drops.argmax(), why.drops.shape[1])
print(f"{{why.genre}}: {{why.times[step]:.0f}} s, {{why.bands[band]:.0f}} Hz and above")
```

A cell is replaced alone: where two cells say the same, neither has a large drop. Of a model with
several members, the first is explained: of `default` the audio, not its picture.

### Does it mark what matters?

Deletion test: the tenth of the cells with the largest drops is replaced at once, and compared
with random tenths ({draws} for each clip). If the marks mean something, the marked tenth changes
the answer more often.

{deletion}

Remade for any model by `python tools/robustness.py --data /path/to/gtzan --deletion MODEL`.
"""


def main() -> None:
    """Run the study and the deletion tests, and write the page; or one deletion test."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="GTZAN, in any layout")
    options.add_argument("--out", type=Path, default=Path("robustness"), help="folder of the study")
    options.add_argument("--deletion", metavar="MODEL", help="only the deletion test of a model")
    options.add_argument("--clips", type=int, default=60, help="for the deletion test")
    given = options.parse_args()
    if given.deletion:
        print(deletion(given.deletion, genrescope.load(given.deletion), given))
        return
    command = [sys.executable, "-m", "genrescope", "study", "--data", str(given.data)]
    command += ["--recipes", ",".join(RECIPES), "--protocols", PROTOCOL, "--seeds", "1"]
    command += ["--robustness", "--out", str(given.out)]
    subprocess.run(command, check=True)  # noqa: S603  our own
    results = json.loads((given.out / "robustness.json").read_text(encoding="utf-8"))
    picture = given.out / "figures" / f"robustness-{PROTOCOL}.png"
    shutil.copyfile(picture, DOCS / "images" / "robustness.png")
    sample = [str(genrescope.sample("shuffle")), "--explain", str(DOCS / "images" / "explain.png")]
    command = [sys.executable, "-m", "genrescope", "classify", *sample]
    subprocess.run(command, check=True)  # noqa: S603  our own
    page = DOCS / "robustness.md"
    page.write_text(text(results, given), encoding="utf-8")
    print(f"wrote {page}")


def text(results: dict[str, Any], given: argparse.Namespace) -> str:
    """Format the page."""
    rows = {(row["transform"], row["model"]): row for row in results["rows"]}
    left = {one["model"]: one["tracks"] for one in results["without_usable_audio"]}
    tracks = [
        f"{rows['unchanged', name]['tracks']} test tracks for `{name}` ({left[name]} left out)"
        for name in RECIPES
    ]
    tests = []
    for name in RECIPES:
        folder = given.out / "models" / f"{name}-{PROTOCOL}"
        tests.append(deletion(name, Classifier(folder, threads=1), given))
    return TEXT.format(
        recipes=",".join(RECIPES),
        protocol=PROTOCOL,
        count=len(results["transforms"]) - 1,
        tracks=", ".join(tracks),
        table=table(results["transforms"], rows),
        findings="\n".join(f"- {finding(results['rows'], name)}" for name in RECIPES),
        draws=DRAWS,
        deletion="\n".join(f"- {test}" for test in tests),
    )


def table(transforms: dict[str, str], rows: dict[tuple[str, str], dict[str, Any]]) -> str:
    """A line for each transform, a column for each model."""
    lines = [f"| transform | {' | '.join(RECIPES)} |", f"| --- |{' --- |' * len(RECIPES)}"]
    for name, about in transforms.items():
        cells = [cell(rows.get((name, recipe))) for recipe in RECIPES]
        if any(cells):
            lines.append(f"| {about} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: dict[str, Any] | None) -> str:
    """Accuracy of unchanged clips; of others its change, and the share of changed answers."""
    if row is None:
        return ""
    if row["transform"] == "unchanged":
        low, high = row["accuracy_low"], row["accuracy_high"]
        return f"accuracy {row['accuracy']:.3f} ({low:.2f} to {high:.2f})"
    interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
    return f"{row['difference']:+.3f} ({interval}), {row['changed']:.0%}"


def finding(rows: Sequence[dict[str, Any]], model: str) -> str:
    """What changes most, and how often accuracy does."""
    own = [row for row in rows if row["model"] == model and row["transform"] != "unchanged"]
    most = sorted(own, key=lambda row: -row["changed"])
    worse = [row["transform"] for row in own if row["high"] < 0]
    first = ", ".join(f"{row['transform']} {row['changed']:.0%}" for row in most[:3])
    mean = np.mean([row["changed"] for row in own])
    lost = f"lower under {', '.join(worse)}" if worse else "lower under none"
    return (
        f"`{model}` changes {mean:.0%} of its answers in the mean of {len(own)} transforms, most "
        f"under {first}. Its accuracy is {lost} (interval below zero)."
    )


def deletion(name: str, classifier: Classifier, given: argparse.Namespace) -> str:
    """How often the answer changes without the marked and without random tenths of the cells."""
    clips = whole_clips(given.data, classifier.representation, given.clips)
    rng = np.random.default_rng(0)
    marked: list[list[bool]] = []
    drawn: list[list[bool]] = []
    for track in clips:
        assert track.audio is not None  # noqa: S101  chosen so
        rate = classifier.representation.sampling_rate
        found = explain(classifier, track.audio)
        occluder = Occluder(decode(track.audio, rate).waveform, rate, found.times, found.bands)
        cells = found.strongest(SHARE)
        marks = [
            cells,
            *(rng.permutation(cells.ravel()).reshape(cells.shape) for _ in range(DRAWS)),
        ]
        first, *others = [
            classifier.predict(occluder.without(one), rate).best != found.genre for one in marks
        ]
        marked.append([first] * DRAWS)
        drawn.append(others)
    gap = paired_bootstrap(marked, drawn)
    share = np.mean(marked)
    low, high = wilson(sum(one[0] for one in marked), len(marked))
    return (
        f"`{name}`, {len(clips)} clips of 30 s: the answer changes in {share:.0%} ({low:.0%} to "
        f"{high:.0%}) without the marked tenth and in {np.mean(drawn):.0%} without a random one; "
        f"difference {gap.difference:+.0%} ({gap.low:+.0%} to {gap.high:+.0%})."
    )


def whole_clips(data: Path, representation: Representation, count: int) -> list[Track]:
    """Whole clips, those first that a study's model of the first fold was not trained on."""
    dataset = open_dataset(data)
    test = set(get_protocol(PROTOCOL).splits(dataset, 0)[0].test)
    usable = [
        track
        for track in dataset.tracks
        if track.audio is not None
        and track.audio_variant in representation.audio_variants - {"excerpt"}
    ]
    first = [track for track in usable if track.id in test]
    rest = [track for track in usable if track.id not in test]
    order = np.random.default_rng(0).permutation(len(rest))
    return [*first, *(rest[i] for i in order)][:count]


if __name__ == "__main__":
    main()
