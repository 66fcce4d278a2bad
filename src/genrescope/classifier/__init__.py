"""Trained models: the folder format, loading and classification. torch is not needed."""

from genrescope.classifier.classifier import Audio, Classifier
from genrescope.classifier.folder import CARD, CONFIG, ONNX, TRANSFORMERS, WEIGHTS, ClassifierConfig
from genrescope.classifier.prediction import OTHER, GenreLabel, Prediction, Timeline

__all__ = [
    "CARD",
    "CONFIG",
    "ONNX",
    "OTHER",
    "TRANSFORMERS",
    "WEIGHTS",
    "Audio",
    "Classifier",
    "ClassifierConfig",
    "GenreLabel",
    "Prediction",
    "Timeline",
]
