import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2Model

from genrescope.classifier import Classifier
from genrescope.datasets.gtzan import read
from genrescope.errors import GenrescopeError
from genrescope.models import make_model
from genrescope.models.classical import fit_estimator
from genrescope.representations import make_representation
from genrescope.training import data as data_module
from genrescope.training.data import PackedTracks
from genrescope.training.export import export
from genrescope.training.fit import fit, precision_here
from genrescope.training.loggers import read_curves
from genrescope.training.module import rate_factor
from genrescope.training.recipe import Augment, Optimiser, Recipe, Schedule, load_recipe

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
        {
            "extends": "original-mlp",
            "model": {"widths": [16]},
            "epochs": 6,
            "calibrate": False,
            **settings,
        }
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


def test_a_temperature_changes_neither_curves_nor_predictions(tmp_path: Path) -> None:
    plain, calibrated = (
        run(small(calibrate=whether), tmp_path / str(whether)) for whether in (False, True)
    )
    assert plain.curves == calibrated.curves
    assert np.array_equal(weights(plain.network), weights(calibrated.network))
    assert not np.allclose(plain.valid_logits, calibrated.valid_logits)
    seen = tracks(30, seed=2).arrays
    with torch.no_grad():
        one, other = (fitted.network(seen).numpy() for fitted in (plain, calibrated))
    np.testing.assert_array_equal(one.argsort(axis=1), other.argsort(axis=1))


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


def test_curves_state_what_the_network_does_on_the_validation_tracks(tmp_path) -> None:
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


@pytest.mark.parametrize(
    ("known", "accelerator", "used"),
    [
        ({"avx2": True, "avx512_bf16": False}, "cpu", "32-true"),
        ({"avx512_bf16": True}, "cpu", "bf16-mixed"),
        ({"neon": True, "bf16": True}, "cpu", "bf16-mixed"),
        ({"avx2": True}, "gpu", "bf16-mixed"),
    ],
)
def test_mixed_precision_is_for_what_has_such_numbers(
    monkeypatch, known: dict[str, bool], accelerator: str, used: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    recipe = small(precision="bf16-mixed")
    assert precision_here(recipe, {"accelerator": accelerator}) == used
    assert precision_here(small(), {"accelerator": accelerator}) == "32-true"


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
    fits = []
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
        fits.append(weights(fitted.network))
    assert not np.array_equal(*fits)


def test_classical_models_learn_from_every_version(tmp_path) -> None:
    values, labels = rows(60)
    lda = load_recipe({"extends": "audio", "name": "x", "augmentations": ["loud"]})
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


@pytest.mark.parametrize("together", [1, 16 * 57 * 2, 2**20])
def test_the_losses_are_those_of_a_plain_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """However many batches Lightning is handed at once; with one row over, which is left out."""
    monkeypatch.setattr(data_module, "_VALUES_PER_LOAD", together)
    schedule = {"name": "cosine", "warmup": 0.2}
    recipe = small(
        double_softmax=False, epochs=4, accumulate=2, schedule=schedule, normalise="none"
    )
    values, labels = map(torch.from_numpy, rows(65))
    values /= 1e5
    data = PackedTracks(
        make_representation("descriptors"), values.numpy(), np.arange(65), labels.numpy()
    )
    fitted = fit(
        recipe, data, data, shape=(57,), genres=GENRES, seed=3, folder=tmp_path, accelerator="cpu"
    )

    torch.manual_seed(3)
    model = make_model("mlp", (57,), GENRES, {"widths": [16], "dropout": 0.5})
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)
    steps = 4 * 2
    for epoch in range(4):
        order = np.random.default_rng([3, epoch]).permutation(65)[:64]
        torch.manual_seed(3 + 1000 * (epoch + 1))
        model.train()
        losses = []
        for number, batch in enumerate(np.split(order, 4)):
            loss = functional.cross_entropy(model(values[batch]), labels[batch])
            losses.append(float(loss.detach()))
            (loss / 2).backward()
            if number % 2 == 1:
                at = 2 * epoch + number // 2
                optimiser.param_groups[0]["lr"] = 1e-4 * rate_factor(
                    Schedule(**schedule), at, steps
                )
                optimiser.step()
                optimiser.zero_grad()
        assert fitted.curves[epoch]["train_loss"] == pytest.approx(np.mean(losses), abs=1e-6)


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
            "extends": "original-wav2vec2",
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
        [t for t in dataset.tracks if t.genre == genre and t.audio_variant == "full" and t.audio][
            :2
        ]
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


def test_rate_factor_warms_up_and_comes_down() -> None:
    cosine = Schedule(name="cosine", warmup=0.1)
    factors = [rate_factor(cosine, step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0, abs=1e-9)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    linear = Schedule(name="linear")
    assert [rate_factor(linear, step, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert rate_factor(Schedule(warmup=0.5), 9, 10) == 1


def modern(**settings: object) -> Recipe:
    return small(
        normalise="standardise",
        double_softmax=False,
        optimiser={"name": "adamw", "lr": 0.01},
        schedule={"name": "cosine", "warmup": 0.1},
        label_smoothing=0.1,
        augment={"mixup": 0.4},
        **settings,
    )


def test_members_are_several_networks_averaged(tmp_path) -> None:
    fitted = run(modern(members=3), tmp_path)
    networks = list(fitted.network.networks)
    assert len(networks) == 3
    assert len({weights(network).tobytes() for network in networks}) == 3
    seen = tracks(20, seed=1).arrays
    with torch.no_grad():
        mean = torch.stack([n(seen).softmax(dim=1) for n in networks]).mean(dim=0)
        torch.testing.assert_close(fitted.network(seen).exp(), mean)
    # The first member is what a fit of one would have been.
    alone = run(modern(), tmp_path / "alone")
    assert np.array_equal(weights(alone.network), weights(networks[0]))


def test_a_refit_learns_from_the_validation_tracks_and_states_what_it_did_not(tmp_path) -> None:
    first = run(modern(), tmp_path / "first")
    again = run(modern(refit=True), tmp_path / "again")
    assert not np.array_equal(weights(first.network), weights(again.network))
    # The logits kept are those of the network that had not seen these tracks.
    assert np.array_equal(first.valid_logits, again.valid_logits)
    with torch.no_grad():
        refitted = again.network(tracks(20, seed=1).arrays).numpy()
    assert not np.allclose(refitted, again.valid_logits)
    assert [row["epoch"] for row in again.curves] == [1, 2, 3, 4, 5, 6]


def test_epochs_of_several_fits_are_distinguished(tmp_path) -> None:
    reported: list[tuple[int, int]] = []
    run(
        modern(members=2, refit=True, epochs=2),
        tmp_path,
        on_epoch=lambda row: reported.append((row["fit"], row["epoch"])),
    )
    assert reported == [(fit_, epoch) for fit_ in range(4) for epoch in (1, 2)]


def test_a_fit_stopped_in_a_later_member_goes_on_to_the_same_bits(tmp_path) -> None:
    class StopError(Exception):
        pass

    def stop(row: object) -> None:
        if (row["fit"], row["epoch"]) == (1, 4):
            raise StopError

    whole = run(modern(members=2), tmp_path / "whole")
    with pytest.raises(StopError):
        run(modern(members=2), tmp_path / "stopped", on_epoch=stop)
    resumed = run(modern(members=2), tmp_path / "stopped")
    assert np.array_equal(weights(whole.network), weights(resumed.network))


def test_validation_may_be_looked_at_now_and_then(tmp_path) -> None:
    fitted = run(modern(validate_every=3), tmp_path)
    looked = [row["epoch"] for row in fitted.curves if "valid_loss" in row]
    assert looked == [3, 6]


def test_a_search_takes_what_the_validation_tracks_like_best(tmp_path) -> None:
    # Two genres in rings: one neighbour states them apart, as many as half the tracks do not.
    values = {"neighbours": [50, 1]}
    settings = {"extends": "knn", "name": "rings", "search": values}
    angle = np.linspace(0, 40, 80)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + np.arange(80) % 2)[:, None]
    labels = np.arange(80) % 2
    made = make_representation("descriptors")
    parts = [
        PackedTracks(made, ring.astype(np.float32), rows_, labels[rows_])
        for rows_ in (np.arange(60), np.arange(60, 80))
    ]
    fitted = fit(load_recipe(settings), *parts, shape=(2,), genres=2, seed=0, folder=tmp_path)
    assert fitted.found == {"neighbours": 1}


def test_segments_of_a_track_are_put_together(tmp_path) -> None:
    # One segment in four states the genre, and not always the same: only together they state it.
    rng = np.random.default_rng(0)
    labels = (np.arange(120) % 3).astype(np.int64)
    arrays = rng.normal(size=(120, 4, 57)).astype(np.float32)
    arrays[np.arange(120), rng.integers(0, 4, 120), labels] += 12
    made = make_representation("segments", {"count": 4})
    parts = [
        PackedTracks(made, arrays, rows_, labels[rows_])
        for rows_ in (np.arange(60), np.arange(60, 90))
    ]
    recipe = load_recipe({"extends": "random-forest-3s", "name": "x", "search": {"leaf": [3]}})
    fitted = fit(recipe, *parts, shape=(4, 57), genres=3, seed=0, folder=tmp_path, segmented=True)
    assert fitted.valid_logits.shape == (30, 3)
    assert (fitted.valid_logits.argmax(axis=1) == labels[60:90]).mean() > 0.8
    whole, single = arrays[90:], arrays[90:].reshape(-1, 1, 57)
    with torch.no_grad():
        together = fitted.network(torch.from_numpy(whole)).argmax(dim=1).numpy()
        alone = fitted.network(torch.from_numpy(single)).argmax(dim=1).numpy()
    assert (together == labels[90:]).mean() > 0.8
    assert (alone == labels[90:].repeat(4)).mean() < 0.7
    export(tmp_path / "model", fitted.network, made, ["a", "b", "c"], trained={})
    classifier = Classifier(tmp_path / "model", threads=1)
    for seen in (whole, single):
        with torch.no_grad():
            expected = fitted.network(torch.from_numpy(seen)).numpy()
        np.testing.assert_allclose(classifier.logits(seen), expected, atol=1e-4)


def test_windows_and_masks_are_reported_where_they_do_not_fit(tmp_path) -> None:
    with pytest.raises(GenrescopeError, match="windows of 99 columns"):
        run(modern(windows={"length": 99}), tmp_path / "a")
    masked = modern()
    masked = masked.model_copy(update={"augment": Augment(time_masks=1, time_mask=3)})
    with pytest.raises(GenrescopeError, match="masks are for"):
        run(masked, tmp_path / "b")
    with pytest.raises(GenrescopeError, match="depths"):
        run(modern().model_copy(update={"optimiser": Optimiser(lr=1, layer_decay=0.5)}), tmp_path)


def test_groups_of_all_tracks_and_versions_reach_an_estimator(tmp_path: Path) -> None:
    values, labels = rows(60)
    groups = np.arange(60) // 4 % 7
    train, valid = np.arange(40), np.arange(40, 60)
    both = np.concatenate([values, values + 1])  # two versions of every track
    recipe = load_recipe(
        {
            "name": "weighted",
            "representation": {"name": "descriptors"},
            "model": {"name": "lda", "group_weight": 1.0},
        }
    )
    packed = [
        PackedTracks(make_representation("descriptors"), both, part, labels[part], 2, groups[part])
        for part in (train, valid)
    ]
    fitted = fit(recipe, *packed, shape=(57,), genres=GENRES, seed=0, folder=tmp_path)
    order = np.concatenate([part + 60 * n for part in (train, valid) for n in (0, 1)])
    expected, plain = (
        fit_estimator(
            "lda", both[order], labels[order % 60], GENRES, 0, {"group_weight": 1.0}, found
        )
        for found in (groups[order % 60], None)
    )
    seen = torch.from_numpy(values)
    with torch.no_grad():
        logits = fitted.network(seen)
        torch.testing.assert_close(logits, expected(seen))
        assert not torch.allclose(logits, plain(seen), atol=0.01)
