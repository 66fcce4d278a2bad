"""Small random networks, one of each kind of backbone that does not come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TINY = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
SPEECH = {
    **TINY,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 3),
    "conv_stride": (80, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
CHECKPOINTS = ("wav2vec2", "hubert", "wavlm", "ast", "clap", "onnx-waveform", "onnx-log-mel")


def save_checkpoint(kind: str, folder: Path, **settings: int) -> Path:
    """Save an encoder with random weights, speech encoders with settings; and its extractor."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    if kind == "ast":
        ast = hf.ASTConfig(
            **TINY, max_length=32, num_mel_bins=16, patch_size=8, frequency_stride=8, time_stride=8
        )
        hf.ASTModel(ast).save_pretrained(folder)
        hf.ASTFeatureExtractor(max_length=32, num_mel_bins=16).save_pretrained(folder)
    elif kind == "clap":
        audio = {
            "spec_size": 64,
            "num_mel_bins": 16,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [1, 1],
            "hidden_size": 16,
            "window_size": 4,
            "num_hidden_layers": 2,
            "projection_dim": 8,
        }
        text = {**TINY, "vocab_size": 16, "max_position_embeddings": 8, "projection_dim": 8}
        config = hf.ClapConfig(text_config=text, audio_config=audio, projection_dim=8)
        hf.ClapModel(config).save_pretrained(folder)
        hf.ClapFeatureExtractor(
            feature_size=16, max_length_s=1, truncation="rand_trunc", sampling_rate=16000
        ).save_pretrained(folder)
    else:
        make = {
            "wav2vec2": (hf.Wav2Vec2Config, hf.Wav2Vec2Model),
            "hubert": (hf.HubertConfig, hf.HubertModel),
            "wavlm": (hf.WavLMConfig, hf.WavLMModel),
        }
        config, network = make[kind]
        network(config(**{**SPEECH, **settings})).save_pretrained(folder)
        hf.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def save_onnx(
    path: Path, shape: list[int | str], operator: str = "MatMul", domain: str = ""
) -> Path:
    """Save a random projection of a window's last axis, with 5 columns, and its square."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    width = shape[-1]
    assert isinstance(width, int)
    weights = np.random.default_rng(0).standard_normal((width, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node(operator, ["input", "weights"], ["projected"], domain=domain),
            helper.make_node("Mul", ["projected", "projected"], ["squared"]),
        ],
        "projection",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [*shape[:-1], 5])
            for name in ("projected", "squared")
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid("", 17)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def settings(name: str, folder: Path) -> dict[str, Any]:
    """Settings of an embedding through one of ``CHECKPOINTS``, which is made if need be."""
    path = folder / name
    kind, _, form = name.partition("-")
    shown: dict[str, Any] = {"kind": "transformers", "source": str(path), "window_s": 1.0}
    if kind == "onnx":
        shape = ["windows", 8000] if form == "waveform" else ["windows", 187, 96]
        shown = {"kind": "onnx", "source": str(path), "input": form}
    if not path.exists():
        save_onnx(path, shape) if kind == "onnx" else save_checkpoint(name, path)
    layers = {"onnx": ["projected", "squared"], "clap": ["pooled"]}
    return {"backbones": [shown], "layers": layers.get(kind, ["layer-1", "last"])}
