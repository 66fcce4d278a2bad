"""The encoder's options, on small random checkpoints of every kind that it is for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError, InputError
from genrescope.models import make_model
from genrescope.models.encoder import encoder_config
from genrescope.representations import make_representation
from genrescope.training.export import export
from tiny_backbones import SPEECH

GENRES = ("blues", "jazz", "pop", "rock")
LABELS = torch.arange(4)
SAMPLES = 8000  # 24 states
LAYERS = 2
KINDS = ("Wav2Vec2", "Hubert", "WavLM")
STEADY = {
    f"{part}_dropout": 0.0 for part in ("hidden", "attention", "activation", "final", "feat_proj")
} | {"layerdrop": 0.0}

MakeEncoder = Callable[..., nn.Module]


@pytest.fixture
def encoder(tmp_path: Path) -> MakeEncoder:
    """Make an encoder from a checkpoint of a kind; ``config`` is its own."""

    def make(kind: str = "Wav2Vec2", config: dict[str, Any] | None = None, **model: Any):
        shown = {**SPEECH, **STEADY, "mask_time_length": 4, **(config or {})}
        folder = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        torch.manual_seed(0)
        settings = getattr(transformers, f"{kind}Config")(**shown)
        getattr(transformers, f"{kind}Model")(settings).save_pretrained(folder)
        torch.manual_seed(0)
        return make_model("encoder", (SAMPLES,), 4, {"weights": str(folder), "hidden": 8, **model})

    return make


def clips(count: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(count, SAMPLES, generator=torch.Generator().manual_seed(seed))


def loss_of(network: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(network(clips()), LABELS)


def take_steps(network: nn.Module, count: int, lr: float) -> list[float]:
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.1)
    losses = []
    for _ in range(count):
        loss = loss_of(network)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


FULL: dict[str, Any] = {
    "standardise": True,
    "freeze": "features",
    "layers": "weighted",
    "pool": "lstm",
    "lstm_width": 6,
    "head": "projector",
    "masking": False,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, FULL], ids=["plain", "full"])
def test_the_exported_encoder_agrees_for_any_batch(
    encoder: MakeEncoder, kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    network = encoder(kind, **options).eval()
    waveform = make_representation("waveform", {"seconds": SAMPLES / 16000})
    export(tmp_path / "model", network, waveform, GENRES, {})
    classifier = Classifier.from_pretrained(tmp_path / "model")
    for count in (1, 3):
        batch = clips(count) + 0.3  # what standardising takes away
        with torch.no_grad():
            wanted = network(batch).numpy()
        np.testing.assert_allclose(classifier.logits(batch.numpy()), wanted, atol=1e-4)
    assert np.ptp(wanted, axis=0).max() > 1e-3  # it states the clips apart


def test_standardising_takes_away_gain_and_offset(encoder: MakeEncoder) -> None:
    config = {"feat_extract_norm": "layer", "conv_bias": True}  # its group norm hides a gain
    plain, standardised = (encoder(config=config, standardise=s).eval() for s in (False, True))
    batch = clips(2)
    moved = batch * torch.tensor([[0.05], [7.0]]) + torch.tensor([[0.4], [-2.0]])
    with torch.no_grad():
        torch.testing.assert_close(standardised(moved), standardised(batch), rtol=1e-3, atol=1e-4)
        assert (plain(moved) - plain(batch)).abs().max() > 1e-3
        assert standardised(torch.zeros(1, SAMPLES)).isfinite().all()


def test_standardising_is_what_the_feature_extractors_do(encoder: MakeEncoder) -> None:
    network = encoder(standardise=True).eval()
    seen: list[Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = clips(3) * 0.1 + 0.2
    with torch.no_grad():
        network(batch)
    extract = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    wanted = extract(list(batch.numpy()), sampling_rate=16000, return_tensors="pt").input_values
    torch.testing.assert_close(seen[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("freeze", ["none", "features", "all"])
def test_what_is_frozen_gets_no_gradient_and_never_changes(
    encoder: MakeEncoder, kind: str, freeze: str
) -> None:
    network = encoder(kind, freeze=freeze).train()
    before = state(network)
    take_steps(network, 2, lr=0.01)
    frozen = {"none": "nothing", "features": "encoder.feature_extractor.", "all": "encoder."}
    moved = changed(before, state(network))
    assert not [name for name in moved if name.startswith(frozen[freeze])]
    for part in ("encoder.feature_extractor.", "encoder.encoder.layers.0.", "head."):
        assert any(name.startswith(part) for name in moved) != part.startswith(frozen[freeze])
    for name, parameter in network.named_parameters():
        if name.startswith(frozen[freeze]):
            assert parameter.grad is None, name


def test_a_frozen_encoder_is_always_in_evaluation_mode(encoder: MakeEncoder) -> None:
    noisy = {"hidden_dropout": 0.5, "layerdrop": 0.5, "mask_time_prob": 0.5}
    frozen, free = (encoder(config=noisy, freeze=f, head="projector") for f in ("all", "none"))
    batch = clips()
    for network in (frozen, free):
        nn.Sequential(network).train()  # as whatever holds it does
        assert network.training
    assert not any(module.training for module in frozen.encoder.modules())
    assert torch.equal(frozen(batch), frozen(batch))
    assert not torch.equal(free(batch), free(batch))


def test_masking_can_be_turned_off(encoder: MakeEncoder) -> None:
    masked = {"mask_time_prob": 0.5}
    batch = clips()
    on, off = (encoder(config=masked, head="projector", masking=m).train() for m in (True, False))
    assert not torch.equal(on(batch), on(batch))
    assert torch.equal(off(batch), off(batch))
    # What stands in for what is masked has nothing to do.
    assert on.encoder.masked_spec_embed.requires_grad
    assert not off.encoder.masked_spec_embed.requires_grad


def test_layers_start_alike_and_learn(encoder: MakeEncoder) -> None:
    network = encoder(layers="weighted", masking=False)
    batch = clips()
    with torch.no_grad():
        found = network.eval().encoder(batch, output_hidden_states=True).hidden_states
        assert len(found) == LAYERS + 1
        mean = torch.stack(found).mean(dim=0).mean(dim=1)
        torch.testing.assert_close(network(batch), network.head(mean), rtol=1e-4, atol=1e-5)
        network.layer_weights.copy_(torch.tensor([50.0, 0, 0]))  # all on what enters
        alone = network.head(found[0].mean(dim=1))
        torch.testing.assert_close(network(batch), alone, rtol=1e-4, atol=1e-5)
        network.layer_weights.zero_()
    take_steps(network.train(), 3, lr=0.01)
    assert network.layer_weights.abs().min() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_layers_are_never_skipped(encoder: MakeEncoder, kind: str) -> None:
    network = encoder(kind, {"layerdrop": 0.9}, layers="weighted").train()
    for _ in range(4):
        loss_of(network).backward()  # a missing layer would fit no weight
    assert network.layer_weights.grad.ne(0).all()


def test_the_last_layer_is_as_the_encoder_ends(encoder: MakeEncoder) -> None:
    # With a norm after the last layer, which the list of hidden states may or may not have.
    config = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
    network = encoder(config=config, layers="weighted").eval()
    batch = clips()
    with torch.no_grad():
        network.layer_weights.copy_(torch.tensor([0.0, 0, 50]))
        last = network.encoder(batch).last_hidden_state
        wanted = network.head(last.mean(dim=1))
        torch.testing.assert_close(network(batch), wanted, rtol=1e-4, atol=1e-5)


def test_an_lstm_depends_on_the_order(encoder: MakeEncoder) -> None:
    network = encoder(pool="lstm", lstm_width=6).eval()
    assert (network.lstm.bidirectional, network.head[0].in_features) == (True, 12)
    shuffled = {}
    for pool in ("mean", "lstm"):
        network = encoder(pool=pool).eval()
        batch = clips()
        with torch.no_grad():
            states = network.encoder(batch).last_hidden_state
            network.encoder.forward = partial(_say, states)
            shown = network(batch)
            network.encoder.forward = partial(_say, states.flip(1))
            shuffled[pool] = (network(batch) - shown).abs().max().item()
    assert shuffled["mean"] < 1e-5
    assert shuffled["lstm"] > 1e-4


def _say(states: Tensor, *_: Any, **__: Any) -> Any:
    return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states)


def test_the_projector_is_that_of_transformers(tmp_path: Path, encoder: MakeEncoder) -> None:
    network = encoder(head="projector").eval()
    source = next(tmp_path.iterdir())
    theirs = transformers.AutoModelForAudioClassification.from_pretrained(
        source, num_labels=4, classifier_proj_size=8
    ).eval()
    network.head[0].load_state_dict(theirs.projector.state_dict())
    network.head[1].load_state_dict(theirs.classifier.state_dict())
    batch = clips()
    with torch.no_grad():
        torch.testing.assert_close(network(batch), theirs(batch).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"freeze": "features"}, {"freeze": "all"}, FULL])
def test_depths_cover_what_learns_once(
    encoder: MakeEncoder, kind: str, options: dict[str, Any]
) -> None:
    network = encoder(kind, **options)
    groups = network.parameter_depths()
    covered = [id(parameter) for group, _ in groups for parameter in group]
    learning = {id(p) for p in network.parameters() if p.requires_grad}
    assert len(covered) == len(learning)
    assert set(covered) == learning
    depths = [depth for _, depth in groups]
    assert depths == ([0] if options.get("freeze") == "all" else list(range(LAYERS + 2)))
    depth_of = {id(parameter): depth for group, depth in groups for parameter in group}
    names = {name: depth_of.get(id(p)) for name, p in network.named_parameters()}
    assert names["head.0.weight"] == 0
    if options.get("freeze") != "all":
        inner = [f"encoder.encoder.layers.{i}.final_layer_norm.weight" for i in range(LAYERS)]
        assert [names[name] for name in inner] == [2, 1]
        assert names["encoder.feature_projection.projection.weight"] == LAYERS + 1


@pytest.mark.parametrize("freeze", ["none", "features", "all"])
@pytest.mark.parametrize("layers", ["last", "weighted"])
def test_checkpointing_changes_no_gradient(encoder: MakeEncoder, freeze: str, layers: str) -> None:
    found = []
    for checkpointing in (False, True):
        network = encoder(
            freeze=freeze, layers=layers, masking=False, gradient_checkpointing=checkpointing
        ).train()
        loss_of(network).backward()
        found.append({name: p.grad for name, p in network.named_parameters()})
        on = any(getattr(m, "gradient_checkpointing", False) for m in network.modules())
        assert on == checkpointing
    for name, grad in found[0].items():
        if grad is None:
            assert found[1][name] is None, name
        else:
            torch.testing.assert_close(found[1][name], grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"head": "projector", "hidden": 32, "standardise": True},
        {"pool": "lstm", "lstm_width": 16},
        {"freeze": "all", "layers": "weighted", "pool": "lstm", "lstm_width": 16},
    ],
    ids=["projector", "lstm", "probe"],
)
def test_a_handful_of_clips_is_learnt(encoder: MakeEncoder, options: dict[str, Any]) -> None:
    network = encoder(masking=False, **options).train()
    losses = take_steps(network, 80, lr=0.03)
    assert losses[0] > 1
    assert min(losses[-5:]) < 0.2


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16"),
    reason="without bfloat16 the processor is fitted on in full precision, and has no such LSTM",
)
def test_half_precision_trains_all_of_it(encoder: MakeEncoder) -> None:
    network = encoder(**FULL, gradient_checkpointing=True).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(network)
    loss.backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("freeze", "some", "none, features, all"),
        ("layers", "first", "last, weighted"),
        ("pool", "max", "mean, lstm"),
        ("head", "mlp", "batchnorm, projector"),
    ],
)
def test_an_unknown_option_is_reported_which_there_are(
    encoder: MakeEncoder, option: str, value: str, known: str
) -> None:
    with pytest.raises(GenrescopeError, match=f"{option} must be one of {known}, not '{value}'"):
        encoder(**{option: value})


def test_a_checkpoint_whose_settings_are_nested_without_end_is_refused(tmp_path: Path) -> None:
    depth = 100_000
    (tmp_path / "config.json").write_text('{"a": ' * depth + "1" + "}" * depth)
    with pytest.raises(InputError, match=r"config\.json describes no known network"):
        encoder_config(tmp_path)
