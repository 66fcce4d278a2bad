"""A pretrained audio encoder from the Hugging Face hub (wav2vec2, HuBERT, …) with a head.

It takes 16 kHz waveforms and consists of a convolutional feature encoder and a transformer, like
wav2vec2, HuBERT, DistilHuBERT and WavLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from genrescope.errors import InputError
from genrescope.hub import resolve_weights
from genrescope.models.attention import attend_in_blocks
from genrescope.models.model import Count, model

SAMPLING_RATE = 16000  # Hz
Freeze = Literal["none", "features", "all"]
Layers = Literal["last", "weighted"]
Pool = Literal["mean", "lstm"]
Head = Literal["batchnorm", "projector"]


@model("encoder")
class Encoder(nn.Module):
    """An encoder's hidden states, averaged over time, through a small head.

    Parameters
    ----------
    shape
        (samples,) of one track's waveform, or of a window of it, at 16 kHz.
    genres
        Number of logits.
    weights
        A checkpoint folder, or the hub id of a downloaded one.
    hidden
        Width of the head's layer.
    gradient_checkpointing
        Trade time for memory when training; the result is the same.
    standardise
        Bring each waveform to zero mean and unit variance first, as the feature extractors of
        checkpoints with ``do_normalize`` do.
    freeze
        ``none``; ``features``: the convolutional feature encoder is not trained, as in A. Baevski
        et al., "wav2vec 2.0", NeurIPS 2020; ``all``: nor is the transformer, and the encoder is
        always in evaluation mode.
    layers
        ``last``: the last hidden state; ``weighted``: the sum of the transformer's input and its
        layers' outputs, with learned weights that sum to one (S. Yang et al., "SUPERB: Speech
        Processing Universal PERformance Benchmark", Interspeech 2021), without layerdrop.
    pool
        ``mean``: over time; ``lstm``: the mean of a bidirectional LSTM's outputs.
    lstm_width
        Of the LSTM, in each direction.
    head
        ``batchnorm``: linear → BatchNorm → ReLU → linear; ``projector``: linear → linear, as
        in ``AutoModelForAudioClassification``, for batches of any size.
    masking
        Whether stretches of time (and channels) are masked in training as the checkpoint's
        settings say (SpecAugment, on the features); False never masks.

    Attributes
    ----------
    micro_batch
        Clips that are encoded at once; None for the whole batch. Above the encoder, the batch is
        one: its pooled states go through the head, with its BatchNorm, together. The backward pass
        encodes the clips again, part by part and with the same random numbers, so the gradients
        are those of the whole batch, in the memory of one part (L. Gao et al., "Scaling Deep
        Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021). An encoder
        with batch normalisation, such as a conformer, always takes the whole batch.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        genres: int,
        weights: str,
        hidden: Count = 768,
        gradient_checkpointing: bool = False,
        standardise: bool = False,
        freeze: Freeze = "none",
        layers: Layers = "last",
        pool: Pool = "mean",
        lstm_width: Count = 256,
        head: Head = "batchnorm",
        masking: bool = True,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise ValueError(f"takes waveforms (samples,), not arrays of shape {shape}")
        self._standardise, self._frozen = standardise, freeze == "all"
        self._as_theirs = (layers, pool, head) == ("last", "mean", "projector")
        self.encoder = _load(resolve_weights(weights, download=False))
        attend_in_blocks(self.encoder)
        config = self.encoder.config
        if gradient_checkpointing:
            # transformers 5 has a new name for it. Reentrant checkpoints, the default of older
            # versions, warn about frozen features.
            old = self.encoder.gradient_checkpointing_enable
            enable = getattr(self.encoder, "activation_checkpointing_enable", old)
            enable({"use_reentrant": False})
        self.layer_weights = None
        if layers == "weighted":
            config.layerdrop = 0.0  # a skipped layer has no state
            self.layer_weights = nn.Parameter(torch.zeros(config.num_hidden_layers + 1))
        if not masking:
            self._mask_nothing()
        self._freeze(freeze)
        self.lstm, width = None, config.hidden_size
        if pool == "lstm":
            self.lstm = nn.LSTM(width, lstm_width, batch_first=True, bidirectional=True)
            width = 2 * lstm_width
        between = [nn.BatchNorm1d(hidden), nn.ReLU()] if head == "batchnorm" else []
        self.head = nn.Sequential(nn.Linear(width, hidden), *between, nn.Linear(hidden, genres))
        self.micro_batch: int | None = None

    def forward(self, waveforms: Tensor) -> Tensor:
        """float32 (batch, samples) → logits (batch, genres)."""
        if self.lstm is None:
            pooled = _summed(self.encode(waveforms), self.layer_weights)
        else:
            pooled = self._in_parts(self._lstm_mean, waveforms)
        logits: Tensor = self.head(pooled)
        return logits

    def encode(self, waveforms: Tensor) -> Tensor:
        """float32 (batch, samples) → the used layers' means over time (batch, layers, width)."""
        return self._in_parts(self._means, waveforms)

    def probe(self) -> LayerProbe:
        """The trainable part if the encoder is frozen; it shares this network's parameters."""
        return LayerProbe(self.layer_weights, self.head)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.encoder.eval()
        return self

    def parameter_depths(self) -> list[tuple[list[nn.Parameter], int]]:
        """Trainable parameters with their depth below the head.

        Returns
        -------
        groups
            Each trainable parameter once. Depth 0 is everything above the encoder, 1 its top
            layer, and so on; the deepest is everything below its layers.
        """
        blocks = [list(layer.parameters()) for layer in reversed(self.encoder.encoder.layers)]
        encoder = {id(parameter) for parameter in self.encoder.parameters()}
        inside = {id(parameter) for block in blocks for parameter in block}
        above = [p for p in self.parameters() if id(p) not in encoder]
        below = [p for p in self.encoder.parameters() if id(p) not in inside]
        groups = [[p for p in group if p.requires_grad] for group in (above, *blocks, below)]
        return [(group, depth) for depth, group in enumerate(groups) if group]

    def save_transformers(
        self, folder: Path, genres: Sequence[str], temperature: float = 1.0
    ) -> bool:
        """Write the same function as a ``transformers`` model, where possible.

        It is with ``layers: last``, ``pool: mean`` and ``head: projector``: the projection of
        ``AutoModelForAudioClassification`` comes before the mean over time, which is equivalent. A
        BatchNorm with a ReLU, an LSTM and an encoder's adapter have no counterpart there.

        Parameters
        ----------
        folder
            For ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.
        genres
            In the order of the logits.
        temperature
            Divides the logits.

        Returns
        -------
        written
            False if there is no counterpart.
        """
        import transformers  # noqa: PLC0415

        hf: Any = transformers  # these classes' methods are not typed
        config = deepcopy(self.encoder.config)
        if not self._as_theirs or getattr(config, "add_adapter", False):
            return False
        projector, classifier = self.head
        config.id2label = dict(enumerate(genres))
        config.label2id = {genre: place for place, genre in enumerate(genres)}
        config.classifier_proj_size = projector.out_features
        config.use_weighted_layer_sum = False
        theirs = hf.AutoModelForAudioClassification.from_config(config)
        setattr(theirs, theirs.base_model_prefix, self.encoder)
        theirs.projector.load_state_dict(projector.state_dict())
        scaled = {name: value / temperature for name, value in classifier.state_dict().items()}
        theirs.classifier.load_state_dict(scaled)
        theirs.save_pretrained(folder)
        hf.Wav2Vec2FeatureExtractor(
            sampling_rate=SAMPLING_RATE,
            do_normalize=self._standardise,
            return_attention_mask=config.feat_extract_norm == "layer",  # as the checkpoints do
        ).save_pretrained(folder)
        return True

    def _in_parts(self, encode: Callable[[Tensor], Tensor], waveforms: Tensor) -> Tensor:
        if (
            self.micro_batch is None
            or torch.onnx.is_in_onnx_export()
            or normalises_batch(self.encoder)
        ):
            return encode(waveforms)
        *parts, last = torch.split(waveforms, self.micro_batch)
        encoded = [
            checkpoint(encode, part, use_reentrant=False, context_fn=_numpy_replay)
            for part in parts
        ]
        # Its backward pass comes first, so that encoding it once is enough.
        return torch.cat([*encoded, encode(last)])

    def _means(self, waveforms: Tensor) -> Tensor:
        return torch.stack([states.mean(dim=1) for states in self._states(waveforms)], dim=1)

    def _lstm_mean(self, waveforms: Tensor) -> Tensor:
        assert self.lstm is not None  # noqa: S101  only called then
        states = torch.stack(self._states(waveforms), dim=1)
        mean: Tensor = self.lstm(_summed(states, self.layer_weights))[0].mean(dim=1)
        return mean

    def _states(self, waveforms: Tensor) -> list[Tensor]:
        # Of each layer that is used, float32 (batch, time, width).
        if self._standardise:
            waveforms = _standardised(waveforms)
        every = self.layer_weights is not None
        found = self.encoder(waveforms, output_hidden_states=every, return_dict=True)
        # Depending on transformers' version, the last of the hidden states is not normalised like
        # last_hidden_state.
        return [*(found.hidden_states[:-1] if every else ()), found.last_hidden_state]

    def _mask_nothing(self) -> None:
        self.encoder.config.apply_spec_augment = False
        filler = getattr(self.encoder, "masked_spec_embed", None)
        if filler is not None:
            filler.requires_grad_(requires_grad=False)  # unused

    def _freeze(self, freeze: Freeze) -> None:
        if freeze != "none":
            # Also disables gradients of its input.
            self.encoder.feature_extractor._freeze_parameters()
        if freeze == "all":
            self.encoder.requires_grad_(requires_grad=False)


class LayerProbe(nn.Module):
    """The part of an ``Encoder`` above its layers' averaged states.

    Parameters
    ----------
    layer_weights
        (layers,), the logits of the weights; None for one layer.
    head
        From the weighted sum (batch, width) to logits (batch, genres).
    """

    def __init__(self, layer_weights: nn.Parameter | None, head: nn.Module) -> None:
        super().__init__()
        self.layer_weights, self.head = layer_weights, head

    def forward(self, means: Tensor) -> Tensor:
        """float32 (batch, layers, width) → logits (batch, genres)."""
        logits: Tensor = self.head(_summed(means, self.layer_weights))
        return logits

    def parameter_depths(self) -> list[tuple[list[nn.Parameter], int]]:
        """As in ``Encoder``: everything has depth 0."""
        return [(list(self.parameters()), 0)]


def encoder_config(folder: Path) -> Any:
    """Read a checkpoint's settings.

    Raises
    ------
    InputError
        If they cannot be read, or it is not an encoder of waveforms.
    """
    from transformers import AutoConfig  # noqa: PLC0415

    remedy = "Give wav2vec2, HuBERT, WavLM or a similar encoder"
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        cause = f"its config.json describes no known network ({str(error).splitlines()[0]})"
        raise InputError(folder, cause, remedy) from error
    if not hasattr(config, "conv_stride") or not hasattr(config, "feat_extract_norm"):
        cause = f"{config.model_type} is not an encoder of waveforms"
        raise InputError(folder, cause, remedy)
    return config


def outline(config: Any) -> nn.Module:
    """Build an encoder from a checkpoint's settings, without its weights and their memory."""
    import transformers  # noqa: PLC0415

    hf: Any = transformers  # this method is not typed
    with torch.device("meta"):
        encoder: nn.Module = hf.AutoModel.from_config(config)
    return encoder


def normalises_batch(encoder: nn.Module) -> bool:
    """Tell whether an encoder's outputs for a clip depend on the others of a batch."""
    return any(isinstance(module, _BatchNorm) for module in encoder.modules())


def _load(folder: Path) -> Any:
    from transformers import AutoModel, Wav2Vec2Model  # noqa: PLC0415

    config = encoder_config(folder)
    kind = Wav2Vec2Model if config.model_type == "wav2vec2" else AutoModel
    # Some checkpoints are in half precision, unlike waveforms and the head. Many are pickles, of
    # which only tensors are read: none of their code runs.
    safe: dict[str, Any] = {"local_files_only": True, "weights_only": True}
    try:
        return kind.from_pretrained(folder, trust_remote_code=False, **safe).float()
    except OSError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:200]
        raise ValueError(f"the weights in {folder} cannot be read ({cause})") from error


def _numpy_replay() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    # Contexts of a part's first pass and of its second. The masks of transformers are drawn from
    # NumPy's global generator; torch's generators are replayed by ``checkpoint`` itself.
    return nullcontext(), _numpy_state(np.random.get_state())  # noqa: NPY002


@contextmanager
def _numpy_state(state: Any) -> Iterator[None]:
    before = np.random.get_state()  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _summed(states: Tensor, weights: Tensor | None) -> Tensor:
    # (batch, layers, …) → (batch, …)
    if weights is None:
        return states[:, 0]
    return torch.einsum("bl...,l->b...", states, weights.softmax(dim=0))


def _standardised(waveforms: Tensor) -> Tensor:
    centred = waveforms - waveforms.mean(dim=1, keepdim=True)
    # The same constant as in transformers' feature extractors; silence stays silent.
    return centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()
