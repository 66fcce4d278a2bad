import pytest

from genrescope.errors import GenrescopeError, InputError
from genrescope.training.recipe import Ensemble, bundled_recipes, load_entry, load_recipe


def test_the_studys_recipes_are_as_it_gives_them() -> None:
    mlp, cnn, wav2vec2 = (load_recipe(f"report-{name}") for name in ("mlp", "cnn", "wav2vec2"))
    assert mlp.normalise == "l2-rows"
    assert mlp.model.parameters == {"widths": [512, 128], "dropout": 0.5}
    assert cnn.model.parameters["channels"] == [8, 16, 32, 64, 128]
    assert cnn.make_representation().shape == (3, 224, 224)
    assert wav2vec2.model.parameters["weights"] == "facebook/wav2vec2-base"
    assert wav2vec2.make_representation().rate == 16000
    for recipe, lr, batch in ((mlp, 1e-4, 16), (cnn, 1e-4, 16), (wav2vec2, 5e-5, 8)):
        assert recipe.optimiser.name == "adam"
        assert recipe.optimiser.lr == pytest.approx(lr)
        assert recipe.optimiser.weight_decay == pytest.approx(1e-5)
        assert recipe.batch_size == batch
        assert recipe.double_softmax
        assert recipe.patience is None


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_bundled_recipe_says_what_it_is_and_is_named_like_its_file(name: str) -> None:
    recipe = load_entry(name)
    assert recipe.name == name
    assert recipe.about.endswith(".")
    if isinstance(recipe, Ensemble):
        assert set(recipe.of) <= set(bundled_recipes())


def test_hash_follows_the_settings_and_nothing_else() -> None:
    base = load_recipe("report-mlp")
    renamed = load_recipe({"extends": "report-mlp", "name": "other", "about": "else"})
    changed = load_recipe({"extends": "report-mlp", "double_softmax": False})
    deeper = load_recipe({"extends": "report-mlp", "model": {"dropout": 0.4}})
    assert renamed.hash == base.hash
    assert len({base.hash, changed.hash, deeper.hash}) == 3
    assert deeper.model.parameters == {"widths": [512, 128], "dropout": 0.4}


def test_another_model_does_not_inherit_parameters() -> None:
    recipe = load_recipe({"extends": "report-cnn", "model": {"name": "mlp"}})
    assert recipe.model.parameters == {}


def test_a_recipe_file_may_extend_a_file_beside_it(tmp_path) -> None:
    (tmp_path / "base.yaml").write_text("extends: report-mlp\nname: base\nepochs: 7\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nname: mine\n")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert (recipe.name, recipe.epochs) == ("mine", 7)


def test_quick_keeps_two_epochs_at_least_and_never_adds_any() -> None:
    assert load_recipe("report-mlp").quick().epochs == 17
    assert load_recipe({"extends": "report-mlp", "epochs": 30}).quick().epochs == 2
    assert load_recipe({"extends": "report-mlp", "epochs": 1}).quick().epochs == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": "many"}, "batch_size"),
        ({"learning": 1}, "learning"),
        ({"representation": {"name": "melody"}}, "melody"),
        ({"representation": {"size": 3}}, "size"),
        ({"normalise": "l1"}, "normalise"),
        ({"optimiser": {"lr": -1}}, "lr"),
    ],
)
def test_wrong_settings_are_named(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_recipe({"extends": "report-mlp", **settings})


def test_a_wrong_alteration_is_named_though_the_weights_are_not_there() -> None:
    backbones = ["transformers:nobody/has-this"]
    representation = {"name": "embedding", "backbones": backbones, "layers": ["last"]}
    settings = {"extends": "default", "representation": representation}
    assert load_recipe({**settings, "alterations": ["loud"]}).alterations == ("loud",)
    with pytest.raises(GenrescopeError, match="'loudest'"):
        load_recipe({**settings, "alterations": ["loudest"]})


def test_faults_of_files_are_named(tmp_path) -> None:
    with pytest.raises(GenrescopeError, match="report-cnn"):
        load_recipe("no-such")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed")
    with pytest.raises(InputError, match=r"broken.yaml.*line"):
        load_recipe(str(broken))
    listing = tmp_path / "list.yaml"
    listing.write_text("- a\n- b\n")
    with pytest.raises(InputError, match="mapping"):
        load_recipe(str(listing))
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(InputError, match="circle"):
        load_recipe(str(tmp_path / "a.yaml"))


def test_the_hashes_of_what_was_measured_stay_what_they_were() -> None:
    # Results on disk are found again by them.
    known = {
        "default": "a93d5dd4f8fe",
        "musicnn-head": "d62c2d066c3f",
        "report-cnn": "3e85330bf119",
        "report-mlp": "b76dedc5c440",
        "report-wav2vec2": "74eb5e0d6227",
    }
    assert {name: load_recipe(name).hash for name in known} == known


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing": 0.1},
        {"members": 2},
        {"refit": True},
        {"accumulate": 2},
        {"schedule": {"name": "cosine"}},
        {"augment": {"mixup": 0.2}},
        {"windows": {"length": 5}},
        {"validate_every": 2},
        {"optimiser": {"layer_decay": 0.9}},
    ],
)
def test_every_later_setting_changes_the_hash(change: dict) -> None:
    assert load_recipe({"extends": "report-mlp", **change}).hash != load_recipe("report-mlp").hash


def test_what_is_not_for_a_kind_of_model_is_refused() -> None:
    with pytest.raises(GenrescopeError, match=r"search: not for a network"):
        load_recipe({"extends": "report-mlp", "search": {"dropout": [0.1, 0.5]}})
    with pytest.raises(GenrescopeError, match=r"members, refit: not for a classical model"):
        load_recipe({"extends": "svm", "members": 2, "refit": True})
    with pytest.raises(GenrescopeError, match="patience"):
        load_recipe({"extends": "report-mlp", "refit": True, "patience": 3})
    with pytest.raises(GenrescopeError, match="patience"):
        load_recipe({"extends": "report-mlp", "validate_every": 2, "patience": 3})


def test_an_ensemble_is_no_recipe_to_train() -> None:
    with pytest.raises(GenrescopeError, match=r"ensemble is an ensemble.*default"):
        load_recipe("ensemble")
    with pytest.raises(GenrescopeError, match="of"):
        load_entry({"name": "alone", "of": ["svm"]})
    with pytest.raises(GenrescopeError, match="pool"):
        load_entry({"name": "odd", "of": ["svm", "knn"], "pool": "vote"})
