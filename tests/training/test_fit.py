from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2Model

from genrescope.classifier import Classifier
from genrescope.representations import make_representation
from genrescope.tracks.gtzan import read
from genrescope.training.export import export
from genrescope.training.fit import PackedTracks, fit, read_curves
from genrescope.training.recipe import Recipe, load_recipe

GENRES = 3


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Descriptor-like rows whose genre shows in small columns beside one huge one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % GENRES
    values = rng.normal(size=(count, 57)).astype(np.float32)
    values[:, :GENRES] += 6 * np.eye(GENRES)[labels]
    values[:, 40] = rng.uniform(1e5, 1e6, count)
    return values, labels.astype(np.int64)


def tracks(count: int, seed: int = 0) -> PackedTracks:
    values, labels = rows(count, seed)
    return PackedTracks(make_representation("descriptors"), values, np.arange(count), labels)


def small(**settings: object) -> Recipe:
    return load_recipe(
        {"extends": "report-mlp", "model": {"widths": [16]}, "epochs": 6, **settings}
    )


def run(recipe: Recipe, folder: Path, seed: int = 0, **more: object):
    return fit(
        recipe,
        tracks(50),
        tracks(20, seed=1),
        shape=(57,),
        genres=GENRES,
        seed=seed,
        folder=folder,
        accelerator="cpu",
        **more,
    )


def weights(network: torch.nn.Module) -> np.ndarray:
    return torch.cat([p.detach().ravel() for p in network.parameters()]).numpy()


def test_same_seed_same_bits_other_seed_other_weights(tmp_path) -> None:
    one, two, other = (run(small(), tmp_path / str(i), seed=i // 2) for i in (0, 1, 2))
    assert np.array_equal(weights(one.network), weights(two.network))
    assert one.curves == two.curves
    assert not np.array_equal(weights(one.network), weights(other.network))


class _StopError(Exception):
    pass


def test_a_fit_that_was_stopped_goes_on_to_the_same_weights(tmp_path) -> None:
    whole = run(small(), tmp_path / "whole")

    def stop_after_four(row) -> None:
        if row["epoch"] == 4:
            raise _StopError

    with pytest.raises(_StopError):
        run(small(), tmp_path / "stopped", on_epoch=stop_after_four)
    seen: list[float] = []
    resumed = run(small(), tmp_path / "stopped", on_epoch=lambda row: seen.append(row["epoch"]))
    assert 0 < len(seen) < 6  # it did go on, rather than begin again
    assert np.array_equal(weights(resumed.network), weights(whole.network))
    assert resumed.curves == whole.curves


def test_curves_tell_what_the_network_does_on_the_validation_tracks(tmp_path) -> None:
    fitted = run(small(double_softmax=False), tmp_path)
    assert [row["epoch"] for row in fitted.curves] == [1, 2, 3, 4, 5, 6]
    assert read_curves(tmp_path / "curves.csv") == fitted.curves
    values, labels = rows(20, seed=1)
    with torch.no_grad():
        logits = fitted.network(torch.from_numpy(values))
    right = (logits.argmax(dim=1).numpy() == labels).mean()
    loss = functional.cross_entropy(logits, torch.from_numpy(labels))
    assert fitted.curves[-1]["valid_accuracy"] == pytest.approx(right, abs=1e-6)
    assert fitted.curves[-1]["valid_loss"] == pytest.approx(float(loss), abs=1e-5)
    assert list(tmp_path.glob("tensorboard/events*"))


def test_double_softmax_keeps_the_loss_above_its_floor(tmp_path) -> None:
    # With a softmax before it, the cross-entropy of n genres cannot fall below
    # log(e + n - 1) - 1; without, it can.
    floor = np.log(np.e + GENRES - 1) - 1
    settings = {"normalise": "standardise", "epochs": 60, "optimiser": {"lr": 0.01}}
    double = run(small(**settings), tmp_path / "double")
    single = run(small(**settings, double_softmax=False), tmp_path / "single")
    assert min(row["train_loss"] for row in double.curves) > floor
    assert single.curves[-1]["train_loss"] < floor


def test_standardised_columns_learn_what_l2_rows_hide(tmp_path) -> None:
    settings = {"epochs": 40, "optimiser": {"lr": 0.003}}
    hidden = run(small(**settings), tmp_path / "l2")
    shown = run(small(**settings, normalise="standardise"), tmp_path / "standardised")
    assert shown.curves[-1]["valid_accuracy"] > 0.8
    assert hidden.curves[-1]["valid_accuracy"] < 0.6


def test_patience_stops_early_and_keeps_the_best_epoch(tmp_path) -> None:
    settings = {"normalise": "standardise", "double_softmax": False, "optimiser": {"lr": 0.05}}
    fitted = run(small(**settings, epochs=200, patience=3), tmp_path)
    losses = [row["valid_loss"] for row in fitted.curves]
    assert len(losses) < 200
    values, labels = rows(20, seed=1)
    with torch.no_grad():
        logits = fitted.network(torch.from_numpy(values))
    loss = float(functional.cross_entropy(logits, torch.from_numpy(labels)))
    assert loss == pytest.approx(min(losses), abs=1e-5)


def test_versions_are_learnt_from_and_not_validated_on(tmp_path) -> None:
    values, labels = rows(60)
    valid, truth = rows(20, seed=1)
    nonsense = np.concatenate([valid, np.full_like(valid, 7)])
    heard = []
    for versions in (1, 2):
        train = np.concatenate([values, 0.5 * values])[: 60 * versions]
        descriptors = make_representation("descriptors")
        fitted = fit(
            small(),
            PackedTracks(descriptors, train, np.arange(60), labels, versions),
            PackedTracks(descriptors, nonsense[: 20 * versions], np.arange(20), truth, versions),
            shape=(57,),
            genres=GENRES,
            seed=0,
            folder=tmp_path / str(versions),
            accelerator="cpu",
        )
        with torch.no_grad():
            right = fitted.network(torch.from_numpy(valid)).argmax(dim=1).numpy() == truth
        assert fitted.curves[-1]["valid_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
        heard.append(weights(fitted.network))
    assert not np.array_equal(*heard)


def test_classical_models_learn_from_every_version(tmp_path) -> None:
    values, labels = rows(60)
    lda = load_recipe({"extends": "default", "name": "x", "alterations": ["loud"]})
    pack = [np.concatenate([values, values + shift]) for shift in (0, 1)]
    networks = [
        fit(
            lda.model_copy(update={"calibrate": False}),
            PackedTracks(make_representation("descriptors"), both, np.arange(40), labels[:40], 2),
            PackedTracks(
                make_representation("descriptors"), both, np.arange(40, 60), labels[40:], 2
            ),
            shape=(57,),
            genres=GENRES,
            seed=0,
            folder=tmp_path,
        ).network
        for both in pack
    ]
    with torch.no_grad():
        first, second = (network(torch.from_numpy(values)).numpy() for network in networks)
    assert not np.allclose(first, second)


def test_a_lone_last_track_does_not_break_batch_norm(tmp_path) -> None:
    fitted = fit(
        small(batch_size=7),
        tracks(50),
        tracks(1),
        shape=(57,),
        genres=GENRES,
        seed=0,
        folder=tmp_path,
        accelerator="cpu",
    )
    assert len(fitted.curves) == 6


@pytest.mark.slow
def test_two_devices_fit_as_lightning_has_it(tmp_path) -> None:
    fitted = run(small(epochs=2), tmp_path, devices=2, strategy="ddp_spawn")
    assert len(fitted.curves) == 2
    assert np.isfinite(weights(fitted.network)).all()


def tiny_wav2vec2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16, 16),
        conv_stride=(10, 8, 4),
        conv_kernel=(10, 8, 4),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        mask_time_prob=0.0,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_wav2vec2_recipe_overfits_a_handful_of_real_clips(gtzan: Path, tmp_path) -> None:
    # The recipe as it is, but for the checkpoint (made here, random), the length and the rate.
    recipe = load_recipe(
        {
            "extends": "report-wav2vec2",
            "model": {"weights": str(tiny_wav2vec2(tmp_path / "weights"))},
            "representation": {"seconds": 5},
            "double_softmax": False,
            "optimiser": {"lr": 2e-3},
            "epochs": 40,
        }
    )
    representation = recipe.make_representation()
    wanted = ("classical", "metal", "hiphop", "blues")
    dataset = read(gtzan)
    chosen = [
        [t for t in dataset.tracks if t.genre == genre and t.extent == "full" and t.audio][:2]
        for genre in wanted
    ]
    packed = np.stack(
        [representation.pack(representation.of_track(track)) for pair in chosen for track in pair]
    )
    labels = np.repeat(np.arange(len(wanted)), 2).astype(np.int64)
    clips = PackedTracks(representation, packed, np.arange(len(packed)), labels)
    fitted = fit(
        recipe,
        clips,
        clips,
        shape=representation.shape,
        genres=len(wanted),
        seed=0,
        folder=tmp_path / "fit",
        accelerator="cpu",
    )
    assert fitted.curves[0]["train_loss"] > 1.0
    assert fitted.curves[-1]["train_accuracy"] == 1.0
    assert fitted.curves[-1]["train_loss"] < 0.2
    export(tmp_path / "model", fitted.network, representation, wanted, {})
    logits = Classifier(tmp_path / "model").logits(representation.unpack(packed))
    with torch.no_grad():
        expected = fitted.network(clips.arrays).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-3)
