"""Options, data set and devices of `study` and `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from genrescope.datasets.layout import Layout

LAYOUT = typer.Option(help="Layout of the folder: detected, a data set, or your own genres.")
DAMAGED = typer.Option(
    "--allow-damaged", help="Use tracks with missing parts, instead of leaving them out."
)
MISSING_GENRES = typer.Option(
    "--allow-missing-genres", help="Leave out genres without a usable track."
)
MICRO_BATCH = typer.Option(
    "--micro-batch",
    min=1,
    help="Clips that an encoder encodes at once; same gradients, less memory. "
    "[default: as many as fit]",
)


def open_data(
    path: Path | None, progress: Any, layout: Layout, *, allow_missing_genres: bool
) -> Any:
    """Open a data set, or the demo set without a path, and print the notes about it."""
    from genrescope.datasets.open import open_dataset, open_demo

    if path is not None:
        dataset = open_dataset(path, layout=layout, allow_missing_genres=allow_missing_genres)
        for remark in dataset.remarks:
            progress.note(f"Note: {remark}")
        if dataset.missing_genres:
            names = ", ".join(dataset.missing_genres)
            progress.note(f"Note: {path}: no track can be used of the genres {names}.")
        return dataset
    return open_demo(lambda done, total: progress.representing("demo clips", done, total))


def trainer_flags(accelerator: str, devices: str, strategy: str) -> dict[str, Any]:
    """Return Lightning's settings: for `auto` the best device, and one process on a CPU."""
    if accelerator == "auto":
        import torch

        if torch.cuda.is_available():
            accelerator = "gpu"
        else:
            accelerator = "mps" if torch.backends.mps.is_available() else "cpu"
    flags: dict[str, Any] = {"accelerator": accelerator}
    if devices != "auto":
        flags["devices"] = int(devices) if devices.lstrip("-").isdigit() else devices
    elif accelerator == "cpu":
        flags["devices"] = 1
    several = flags.get("devices") not in (None, 1)
    # The default for several devices would start this command again for each of them.
    flags["strategy"] = "ddp_spawn" if several and strategy == "auto" else strategy
    return flags


def names(text: str | None) -> list[str] | None:
    """Split names at commas."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter("give names, comma-separated")
    return names
