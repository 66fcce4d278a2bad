"""A model as one ONNX graph from audio to genres."""

from __future__ import annotations

import json

import onnx

from genrescope import __version__
from genrescope.classifier import ONNX, OTHER, Classifier
from genrescope.classifier.folder import LOGITS, REMEDY
from genrescope.errors import InputError
from genrescope.files import read_bounded
from genrescope.inference import MAX_MODEL_BYTES
from genrescope.onnx_export import embedding, members, picture  # noqa: F401  extend add_columns
from genrescope.onnx_export.columns import add_columns
from genrescope.onnx_graph import OnnxGraph


def make_model(classifier: Classifier) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Make the network that ``export_onnx`` writes, and the sampling rates of its inputs in Hz.

    Raises
    ------
    GenrescopeError
        If there are no operators for the classifier's representation; an `InputError` if they
        cannot be joined with its ``model.onnx``.
    """
    graph = OnnxGraph()
    found = add_columns(classifier.representation, graph)
    head = classifier.folder / ONNX
    network = onnx.load_model_from_string(read_bounded(head, MAX_MODEL_BYTES, REMEDY))
    try:
        given = graph.call(network, {network.graph.input[0].name: found.values})
    except ValueError as error:
        raise InputError(head, str(error), "Train the model again") from error
    logits = given[LOGITS]
    config, genres = classifier.config, classifier.genres
    own = classifier.representation.embedding
    columns = slice(0, len(genres)) if own is None else own
    source = logits if own is None else found.values
    outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
        "probabilities": (graph.Softmax(logits, axis=1), (1, len(genres))),
        "embedding": (
            graph.Slice(source, [columns.start], [columns.stop], [1]),
            (1, columns.stop - columns.start),
        ),
    }
    if found.tags:
        outputs["tags"] = found.tags, (1, len(found.tag_names))
    metadata = {
        "genres": json.dumps(genres),
        "tags": json.dumps(found.tag_names),
        "sampling_rates": json.dumps(graph.sampling_rates),
        "unsure_below": str(config.unsure_below),
        "license": str(config.trained.get("license", "not stated")),
        "notices": "\n\n".join(found.notices),
        "genrescope_version": __version__,
        "representation": json.dumps(classifier.representation.to_json()),
        "trained": json.dumps(config.trained),
    }
    if OTHER in given and config.other_above is not None:
        outputs[OTHER] = given[OTHER], (1,)
        metadata["other_above"] = str(config.other_above)
    return graph.to_model("genrescope", outputs, metadata), graph.sampling_rates
