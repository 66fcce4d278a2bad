"""Representations: arrays that models take as input. Importing it fills the registry."""

import genrescope.backbones  # noqa: F401  fills the registry that some of these use
from genrescope.representations import (
    block_level,
    descriptors,
    embedding,
    mel_from_image,
    mel_image,
    members,
    mfcc,
    picture_concat,
    picture_embedding,
    second_order,
    segments,
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
    "block_level",
    "descriptors",
    "embedding",
    "make_representation",
    "mel_from_image",
    "mel_image",
    "members",
    "mfcc",
    "picture_concat",
    "picture_embedding",
    "second_order",
    "segments",
    "waveform",
]
