"""Music genre classification you can check.

>>> import genrescope
>>> classifier = genrescope.load()
>>> classifier.predict(genrescope.sample()).genre
'classical'

The names in ``__all__`` are the public interface: they change only with a note in the changelog.
Everything else in the package may change without notice.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrescope.environment import configure
from genrescope.errors import GenrescopeError, InputError, WaveformError

if TYPE_CHECKING:
    import os

    from genrescope.classifier import Classifier, Prediction, Timeline
    from genrescope.classifier.batch import FileResult, classify_files, find_audio
    from genrescope.classifier.explain import Explanation, explain
    from genrescope.hub import WeightsNotAvailableError, list_models
    from genrescope.onnx_export.write import export_onnx

__all__ = [
    "SAMPLES",
    "Classifier",
    "Explanation",
    "FileResult",
    "GenrescopeError",
    "InputError",
    "Prediction",
    "Timeline",
    "WaveformError",
    "WeightsNotAvailableError",
    "__version__",
    "classify_files",
    "explain",
    "export_onnx",
    "find_audio",
    "list_models",
    "load",
    "sample",
]
__version__ = "0.1.0"

configure("onnxruntime")

SAMPLES = ("lament", "pulse", "shuffle")
"""Names of the sound samples in the package: a slow quartet, a machine beat, a swinging band."""

_LAZY = {
    "Classifier": "classifier",
    "Prediction": "classifier",
    "Timeline": "classifier",
    "Explanation": "classifier.explain",
    "explain": "classifier.explain",
    "FileResult": "classifier.batch",
    "classify_files": "classifier.batch",
    "find_audio": "classifier.batch",
    "WeightsNotAvailableError": "hub",
    "list_models": "hub",
    "export_onnx": "onnx_export.write",
}
# From name to module: imported on first use, so that `import genrescope` stays fast.


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    model: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    *,
    quality: str = "standard",
) -> Classifier:
    """Load a classifier.

    Parameters
    ----------
    model
        A model folder, a classifier named by ``list_models``, or the ``user/name`` of one on the
        Hugging Face hub; None for the bundled default.
    revision
        A branch, tag or commit of the hub; None for the newest.
    quality
        How much of a track is analysed: ``fast``, ``standard`` or ``best``; see `Classifier`.

    Returns
    -------
    classifier
        Its ``predict`` takes a file, or a waveform, float32 or float64, and its rate in Hz.

    Raises
    ------
    GenrescopeError
        If the model does not exist, is invalid or cannot be fetched.
    """
    from genrescope.classifier import Classifier  # noqa: PLC0415  keeps `import genrescope` fast

    if model is None:
        return Classifier.default(quality=quality)
    return Classifier.from_pretrained(model, revision, threads=1, quality=quality)


def sample(name: str = SAMPLES[0]) -> Path:
    """Return the path of a sound sample in the package: 9 s of synthetic music, for examples.

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
