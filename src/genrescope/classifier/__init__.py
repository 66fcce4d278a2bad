"""A trained model folder: its format, loading it, and what it says of audio. No torch here."""

from genrescope.classifier.classifier import Audio, Classifier
from genrescope.classifier.folder import (
    CARD,
    CONFIG,
    ONNX,
    TRANSFORMERS,
    WEIGHTS,
    ClassifierConfig,
)
from genrescope.classifier.prediction import Prediction, Timeline

__all__ = [
    "CARD",
    "CONFIG",
    "ONNX",
    "TRANSFORMERS",
    "WEIGHTS",
    "Audio",
    "Classifier",
    "ClassifierConfig",
    "Prediction",
    "Timeline",
]
