"""The command that writes a model as one ONNX file that takes audio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrescope.cli.console import require, say
from genrescope.cli.options import ModelOption, QualityOption, RevisionOption
from genrescope.errors import InputError
from genrescope.io import replaces
from genrescope.quality import Quality

app = typer.Typer()


@app.command(
    "export-onnx",
    epilog="Examples:\n\n"
    "- `genrescope export-onnx genres.onnx`\n\n"
    "- `genrescope export-onnx small.onnx --quality fast` takes audio at 16 kHz alone\n\n"
    "- `genrescope export-onnx my-genres.onnx --model my-model`",
)
def export_onnx(
    out: Annotated[Path, typer.Argument(help="ONNX file to write.", show_default=False)],
    model: ModelOption = None,
    revision: RevisionOption = None,
    quality: QualityOption = Quality.STANDARD,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")] = False,
) -> None:
    """Write a model as one ONNX file from audio to genres, for use without genrescope.

    The analysis of the audio is inside: the inputs are waveforms.
    """
    require("onnx", "train")
    from genrescope import load
    from genrescope.onnx_export.write import export_onnx as write

    if replaces(out, "OUT") and not force:
        raise InputError(out, "the file exists", "Give another name, or replace it with --force")
    classifier = load(model, revision, quality=quality)
    inputs = [f"{name} at {rate:,} Hz" for name, rate in write(classifier, out).items()]
    say(f"{out}: {len(classifier.genres)} genres, from {' and '.join(inputs)}")
