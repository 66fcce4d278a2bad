"""Trained models as one ONNX file, from audio to genres."""
