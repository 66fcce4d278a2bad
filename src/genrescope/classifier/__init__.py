"""Trained models: the folder format, loading and classification. torch is not needed."""

from genrescope.classifier.classifier import Audio, Classifier
from genrescope.classifier.folder import CARD, CONFIG, ONNX, TRANSFORMERS, WEIGHTS, ClassifierConfig
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
