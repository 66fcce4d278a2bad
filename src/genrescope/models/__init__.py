"""The models, from arrays to logits. Importing this package fills the registry."""

from genrescope.models import cnn, cnn_1d, encoder, mlp, recurrent
from genrescope.models.model import MODELS, check_model, make_model, plain_fault

__all__ = [
    "MODELS",
    "check_model",
    "cnn",
    "cnn_1d",
    "encoder",
    "make_model",
    "mlp",
    "plain_fault",
    "recurrent",
]
