"""Music genre classification you can check.

A track becomes audio, audio becomes a representation, a representation goes through a model,
and the model's prediction goes to a study, a library or a page.

>>> import genrescope
>>> classifier = genrescope.load()
>>> classifier.predict(genrescope.sample()).genre
'classical'
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genrescope.environment import configure
from genrescope.errors import GenrescopeError, InputError

if TYPE_CHECKING:
    import os

    from genrescope.classifier import Classifier

__all__ = ["SAMPLES", "GenrescopeError", "InputError", "__version__", "load", "sample"]
__version__ = "0.1.0"

configure("onnxruntime")

SAMPLES = ("lament", "pulse", "shuffle")
"""Names of the sound samples in the package: a slow quartet, a machine beat, a swinging band."""


def load(model: str | os.PathLike[str] | None = None, revision: str | None = None) -> Classifier:
    """Open a classifier.

    Parameters
    ----------
    model
        A model folder, or the ``user/name`` of one on the Hugging Face hub; None for the classifier
        that comes with the package.
    revision
        A branch, tag or commit of the hub; None for the newest.

    Returns
    -------
    classifier
        Its ``predict`` takes a file, or a waveform, float32 (samples,), and its rate in Hz.

    Raises
    ------
    GenrescopeError
        If there is no such model, or it cannot be had.
    """
    from genrescope.classifier import Classifier  # noqa: PLC0415  `import genrescope` stays quick

    if model is None:
        return Classifier.default()
    return Classifier.from_pretrained(model, revision, threads=1)


def sample(name: str = SAMPLES[0]) -> Path:
    """Find a sound sample in the package: 9 s of synthetic music, to try things out with.

    Parameters
    ----------
    name
        One of ``SAMPLES``.

    Returns
    -------
    path
        An MP3 file of 22,050 Hz, mono.
    """
    if name not in SAMPLES:
        raise GenrescopeError(f"There is no sample {name!r}; there are: {', '.join(SAMPLES)}.")
    return Path(__file__).parent / "samples" / f"{name}.mp3"
