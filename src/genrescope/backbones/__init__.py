"""Pretrained encoders, audio to embeddings and tags. Importing it fills the registry."""

from genrescope.backbones import musicnn, onnx, transformers

__all__ = ["musicnn", "onnx", "transformers"]
