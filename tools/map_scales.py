"""Measure the standard deviations of MSD_musicnn's feature maps, which ``second-order`` divides by.

    python tools/map_scales.py --data ../shared/gtzan src/genrescope/weights/musicnn

takes every ninth picture of the filtered training list (no test track of ``filtered`` among them;
labels are not used), and writes the deviation of each map over the frames of a picture, root mean
square over pictures, to ``MSD_musicnn_scales.json``; 0 for maps that do not vary. Development only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from genrescope.backbones import log_mel
from genrescope.datasets.open import open_dataset
from genrescope.inference import open_session
from genrescope.representations import picture
from genrescope.representations.picture_embedding import PictureEmbedding, to_log_mel

NETWORK, LAYERS = "MSD_musicnn", ("front", "first", "third")
STEP = 9  # one in so many tracks
MIN_SD = 1e-3  # below it a map is dead, or alive in hardly any track


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the network and for the deviations.")],
    data: Annotated[Path, typer.Option(help="GTZAN, with its pictures.")],
) -> None:
    """Measure the deviations on pictures and write them."""
    session = open_session((out / f"{NETWORK}.onnx").read_bytes())
    dataset = open_dataset(data)
    image = {track.id: track.image for track in dataset.tracks}
    paths = [path for i in dataset.lists["filtered"].train[::STEP] if (path := image[i])]
    loudest = PictureEmbedding().loudest
    variances = []
    for path in paths:
        grid = picture.grid_of_picture(picture.read(path))
        patches = log_mel.patches(to_log_mel(grid, loudest))
        maps = session.run(list(LAYERS), {"log_mel": patches})
        variances.append([layer.var(axis=(0, 2), dtype=np.float64) for layer in maps])
    scales = {}
    for layer, rows in zip(LAYERS, zip(*variances, strict=True), strict=True):
        sds = np.sqrt(np.mean(rows, axis=0))
        scales[layer] = [float(f"{sd:.4g}") if sd > MIN_SD else 0 for sd in sds]
        typer.echo(f"{layer}: {np.count_nonzero(scales[layer])} of {len(sds)} maps vary")
    text = json.dumps(scales, separators=(", ", ": ")).replace("], ", "],\n ")
    (out / f"{NETWORK}_scales.json").write_text(text + "\n", encoding="utf-8")
    typer.echo(f"from {len(paths)} pictures")


if __name__ == "__main__":
    typer.run(main)
