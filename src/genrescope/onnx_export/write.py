"""Write a model as one ONNX file that takes audio."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from genrescope.audio.formats import may_be_audio
from genrescope.classifier import Classifier
from genrescope.classifier.folder import SHARED_FILES
from genrescope.errors import GenrescopeError, install
from genrescope.io import check_output, whole


def export_onnx(classifier: Classifier, out: str | os.PathLike[str]) -> dict[str, int]:
    """Write a classifier as one ONNX file that takes audio, for use without genrescope.

    An input is float32 (1, samples), mono, in [-1, 1]. There is one for each sampling rate that the
    model needs, all of the same audio: the first is called ``waveform``, one of 22,050 Hz beside it
    ``waveform_22050``. The outputs are ``probabilities`` (1, genres), those of ``predict`` for this
    audio, ``embedding`` (1, columns), and ``tags`` (1, tags) where the model's network has some.
    The file's metadata hold the names of genres and tags, the sampling rates, the licences and how
    the model was trained.

    Parameters
    ----------
    classifier
        On embeddings by musicnn's networks, on the picture's columns or on both, as the bundled one
        is.
    out
        The file, which appears whole or not at all; an existing one is replaced.

    Returns
    -------
    sampling_rates
        Of the inputs, by name, in Hz.

    Raises
    ------
    GenrescopeError
        If the classifier cannot be exported, or the file not be written: one of the classifier's
        own files and audio are never replaced. Needs the extra ``train``.
    """
    if find_spec("onnx") is None:
        raise GenrescopeError(f"Exporting needs an optional package. Run {install('train')}.")
    from genrescope.onnx_export.model import make_model  # noqa: PLC0415  an extra

    own = [classifier.folder / name for name in SHARED_FILES]
    check_output(Path(out), "OUT", inputs=own, is_audio=may_be_audio)
    model, sampling_rates = make_model(classifier)
    with whole(Path(out), "OUT", is_audio=may_be_audio) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return sampling_rates
