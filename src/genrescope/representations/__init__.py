"""Floor 2: what a model sees of a track. Importing this package fills the registry."""

from genrescope.representations import (
    descriptors,
    embedding,
    mel_from_image,
    mel_image,
    mfcc,
    musicnn_backbone,
    onnx_backbone,
    picture_embedding,
    segments,
    transformers_backbone,
    waveform,
)
from genrescope.representations.representation import (
    REPRESENTATIONS,
    Representation,
    make_representation,
)

__all__ = [
    "REPRESENTATIONS",
    "Representation",
    "descriptors",
    "embedding",
    "make_representation",
    "mel_from_image",
    "mel_image",
    "mfcc",
    "musicnn_backbone",
    "onnx_backbone",
    "picture_embedding",
    "segments",
    "transformers_backbone",
    "waveform",
]
