"""Measure what likelihood a tag has for music of other genres: ``taxonomies/tags.csv``.

    python tools/tag_rates.py --data /path/to/gtzan > src/genrescope/taxonomies/tags.csv

GTZAN has none of these genres, but for some soul and funk among its disco and pop, which makes the
table stricter.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

import genrescope
from genrescope.datasets.open import open_dataset
from genrescope.quality import Quality

GENRES = {
    "ambient": "Ambient",
    "easy listening": "Easy Listening",
    "electro": "Electro",
    "electronic": "Electronic",
    "electronica": "Electronic",
    "experimental": "Experimental",
    "folk": "Folk",
    "funk": "Funk",
    "House": "House",
    "punk": "Punk",
    "rnb": "R&B",
    "soul": "Soul",
}
USUAL = 0.99  # share of tracks


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="GTZAN, in any layout")
    given = options.parse_args()
    classifier = genrescope.load(quality=Quality.FAST)
    rows = []
    for track in open_dataset(given.data).tracks:
        if track.audio is None:
            continue
        try:
            rows.append(classifier.predict(track.audio).tags)
        except genrescope.GenrescopeError:  # the data set has a file without audio
            continue
    print(f"# The likelihood of tags that {USUAL:.0%} of GTZAN's {len(rows)} tracks stay below,")
    print("# by the tagger in the package (MSD_musicnn); written by tools/tag_rates.py.")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("tag", "genre", "usual"))
    for tag, genre in GENRES.items():
        found = np.array([row[tag] for row in rows])
        table.writerow((tag, genre, f"{np.quantile(found, USUAL):.3f}"))


if __name__ == "__main__":
    main()
