import time
from pathlib import Path
from typing import Any

import pytest

from genrescope.errors import GenrescopeError, InputError
from genrescope.study.config import load_study
from genrescope.training.recipe import (
    Ensemble,
    bundled_recipes,
    load_entry,
    load_recipe,
    read_yaml,
)


def test_the_studys_recipes_are_as_it_gives_them() -> None:
    mlp, cnn, wav2vec2 = (load_recipe(f"original-{name}") for name in ("mlp", "cnn", "wav2vec2"))
    assert mlp.normalise == "l2-rows"
    assert mlp.model.parameters == {"widths": [512, 128], "dropout": 0.5}
    assert cnn.model.parameters["channels"] == [8, 16, 32, 64, 128]
    assert cnn.make_representation().shape == (3, 224, 224)
    assert wav2vec2.model.parameters["weights"] == "facebook/wav2vec2-base"
    assert wav2vec2.make_representation().sampling_rate == 16000
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
    base = load_recipe("original-mlp")
    renamed = load_recipe({"extends": "original-mlp", "name": "other", "about": "else"})
    changed = load_recipe({"extends": "original-mlp", "double_softmax": False})
    deeper = load_recipe({"extends": "original-mlp", "model": {"dropout": 0.4}})
    assert renamed.hash == base.hash
    assert len({base.hash, changed.hash, deeper.hash}) == 3
    assert deeper.model.parameters == {"widths": [512, 128], "dropout": 0.4}


def test_another_model_does_not_inherit_parameters() -> None:
    recipe = load_recipe({"extends": "original-cnn", "model": {"name": "mlp"}})
    assert recipe.model.parameters == {}


def test_a_recipe_file_may_extend_a_file_beside_it(tmp_path) -> None:
    (tmp_path / "base.yaml").write_text("extends: original-mlp\nname: base\nepochs: 7\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nname: mine\n")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert (recipe.name, recipe.epochs) == ("mine", 7)


def test_quick_keeps_two_epochs_at_least_and_never_adds_any() -> None:
    assert load_recipe("original-mlp").quick().epochs == 17
    assert load_recipe({"extends": "original-mlp", "epochs": 30}).quick().epochs == 2
    assert load_recipe({"extends": "original-mlp", "epochs": 1}).quick().epochs == 1


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
        load_recipe({"extends": "original-mlp", **settings})


def test_a_wrong_augmentation_is_named_though_the_weights_are_not_there() -> None:
    backbones = ["transformers:nobody/has-this"]
    representation = {"name": "embedding", "backbones": backbones, "layers": ["last"]}
    settings = {"extends": "audio", "representation": representation}
    assert load_recipe({**settings, "augmentations": ["loud"]}).augmentations == ("loud",)
    with pytest.raises(GenrescopeError, match="'loudest'"):
        load_recipe({**settings, "augmentations": ["loudest"]})


def test_the_former_name_of_augmentations_is_named() -> None:
    with pytest.raises(InputError, match="`alterations` is now named `augmentations`"):
        load_recipe({"extends": "audio", "alterations": ["loud"]})


def test_faults_of_files_are_named(tmp_path) -> None:
    with pytest.raises(GenrescopeError, match="original-cnn"):
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
    with pytest.raises(InputError, match="circular"):
        load_recipe(str(tmp_path / "a.yaml"))


def test_the_hashes_of_what_was_measured_stay_what_they_were() -> None:
    # Results on disk are found again by them.
    known = {
        "musicnn-head": "d62c2d066c3f",
        "original-cnn": "84837b770783",
        "original-mlp": "fed74f67d6f9",
        "original-wav2vec2": "b96ab7dac066",
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
    assert (
        load_recipe({"extends": "original-mlp", **change}).hash != load_recipe("original-mlp").hash
    )


def test_a_score_for_none_of_the_genres_changes_the_hash_of_those_that_have_it_alone() -> None:
    plain, without, with_it = (
        load_recipe({"extends": "svm", **more}) for more in ({}, {"other": False}, {"other": True})
    )
    assert plain.hash == without.hash != with_it.hash


def test_what_is_not_for_a_kind_of_model_is_refused() -> None:
    with pytest.raises(GenrescopeError, match=r"search: not for a network"):
        load_recipe({"extends": "original-mlp", "search": {"dropout": [0.1, 0.5]}})
    with pytest.raises(GenrescopeError, match=r"members, refit: not for a classical model"):
        load_recipe({"extends": "svm", "members": 2, "refit": True})
    with pytest.raises(GenrescopeError, match=r"other: not for a network"):
        load_recipe({"extends": "original-mlp", "other": True})
    with pytest.raises(GenrescopeError, match=r"other: only for columns.*\(10, 57\)"):
        load_recipe({"extends": "svm-3s", "other": True})
    with pytest.raises(GenrescopeError, match="patience"):
        load_recipe({"extends": "original-mlp", "refit": True, "patience": 3})
    with pytest.raises(GenrescopeError, match="patience"):
        load_recipe({"extends": "original-mlp", "validate_every": 2, "patience": 3})


def test_an_ensemble_is_no_recipe_to_train() -> None:
    with pytest.raises(GenrescopeError, match=r"ensemble is an ensemble.*audio"):
        load_recipe("ensemble")
    with pytest.raises(GenrescopeError, match="of"):
        load_entry({"name": "alone", "of": ["svm"]})
    with pytest.raises(GenrescopeError, match="pool"):
        load_entry({"name": "odd", "of": ["svm", "knn"], "pool": "vote"})


def refused(path: Path, text: str, words: str) -> None:
    """By a recipe's and by a study's reader, with the file's name, and at once."""
    path.write_text(text, encoding="utf-8")
    for read in (load_entry, load_study):
        begun = time.process_time()
        with pytest.raises(InputError, match=words) as refusal:
            read(str(path))
        assert refusal.value.path == path
        assert time.process_time() - begun < 2


def chained(levels: int, text: str) -> str:
    """Mappings, each of which stands for the one before as ``text`` says."""
    rest = (f"a{i}: &a{i} {{{text.replace('@', f'*a{i - 1}')}}}" for i in range(1, levels + 1))
    return "\n".join(["a0: &a0 {x: 1}", *rest])


@pytest.mark.parametrize("levels", [6, 9, 200])
@pytest.mark.parametrize(
    "text",
    [
        "<<: [@, @, @, @, @, @, @, @, @]",
        "<<: @, y: [@, @, @, @, @, @]",
        "y: @, z: @, u: @, v: @, w: @, t: @",
    ],
)
def test_what_stands_for_too_much_is_refused_at_once(
    tmp_path: Path, levels: int, text: str
) -> None:
    refused(tmp_path / "r.yaml", chained(levels, text), "more than 20,000 values")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "[" * 60_000, "more than 20 deep"),
        ("a: " + "{b: " * 15_000, "more than 20 deep"),
        ("? " * 30_000, "more than 20 deep"),
        ("\n".join(" " * i + "a:" for i in range(300)), "more than 20 deep"),
        (chained(60, "y: @"), "more than 20 deep"),
        ("a: &a [*a]", "within its own target"),
        ("a: &a {<<: *a}", "within its own target"),
        ("name: mine\nextends: knn\nname: other", r"'name' is given twice \(line 3\)"),
        ("name: mine\nsearch: {neighbours: [1], 'neighbours': [3]}", "given twice"),
        ("epochs: " + "9" * 5000, "4300 digits"),
        ("epochs: " + "9" * 400, "a number beyond ±9,007"),
        ("epochs: 1e999", "a number beyond ±9,007"),
        ("epochs: .nan", "a number beyond ±9,007"),
        ("about: " + "a" * 2**16, "more than 65,536"),
        ("a: !!set {b}", "is not text"),
        ("a: !!python/object/apply:os.getcwd []", "readable YAML"),
        ("2024: a", "2024' is not text"),
    ],
    ids=map(str, range(17)),
)
def test_yaml_is_bounded(tmp_path: Path, text: str, words: str) -> None:
    refused(tmp_path / "r.yaml", text, words)


@pytest.mark.parametrize(
    "piece",
    [
        "? a\n",
        "#\n",
        "x: &x 1\n",
        "- - ",
        "&a ",
        "!a ",
        "*a ",
        ": ",
        "a ",
        "'",
        '"\n',
        "a\t",
        "[,",
        "1,",
        "|\n ",
        "é",
        "---\n",
        "%YAML 1.1\n",
        "<<: ",
        "0:0",
        "_",
        "\r\n",
        "{a: ",
        "k" * 900 + "\n",
    ],
    ids=map(str, range(24)),
)
@pytest.mark.parametrize(
    "before", ["", "a: ", "a: [", 'a: "', "a: |\n ", "a: 1"], ids=map(str, range(6))
)
def test_no_text_of_the_largest_size_takes_long(tmp_path: Path, before: str, piece: str) -> None:
    path = tmp_path / "r.yaml"
    text = before + piece * 2**16
    path.write_bytes(text.encode()[: 2**16 - 1])
    begun = time.process_time()
    try:
        read_yaml(path)
    except InputError as error:
        assert len(str(error)) < 1000
    assert time.process_time() - begun < 2


def test_merge_keys_and_aliases_are_for_what_is_short(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "recipes:\n"
        "- &base {extends: svm, name: one, search: &values {c: [1], gamma: [1e-2]}}\n"
        "- {<<: *base, name: two, search: {<<: *values, c: [3.0]}}\n"
    )
    one, two = load_study(str(path)).recipes
    assert one.search == {"c": (1,), "gamma": (0.01,)}
    assert (two.name, two.search) == ("two", {"c": (3.0,), "gamma": (0.01,)})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1.5E+2", -150.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("010", 10),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("0x1F", "0x1F"),
        ("2024-05-03", "2024-05-03"),
        ("'1'", "1"),
        ("yes", True),
        ("~", None),
    ],
)
def test_numbers_are_those_of_json(tmp_path: Path, text: str, value: Any) -> None:
    (tmp_path / "r.yaml").write_text(f"a: {text}\n")
    found = read_yaml(tmp_path / "r.yaml")["a"]
    assert (found, type(found)) == (value, type(value))


def test_what_is_read_twice_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: [1]\n")
    read_yaml(tmp_path / "r.yaml")["a"].append(2)
    assert read_yaml(tmp_path / "r.yaml") == {"a": [1]}


def test_a_study_of_very_many_recipes_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"recipes: [{','.join(['svm'] * 10_000)}]")
    with pytest.raises(InputError, match=r"lists 10,000 recipes.*1 to 200"):
        load_study(str(path))


def test_a_message_names_a_few_faults_and_counts_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("extends: svm\n" + "".join(f"no{i}: 1\n" for i in range(900)))
    with pytest.raises(InputError, match=r"no0: .*; and 895 more\. ") as refusal:
        load_recipe(str(path))
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("search: {gama: [1]}", "search.gama: Model svm has no parameter gama; it has: c, gamma"),
        (
            "search: {gama: [1], c: [-1]}",
            "search.c: .*greater than 0; search.gama: Model svm has no",
        ),
        ("search: {c: []}", "search.c: it has no values"),
        ("search: {c: 1}", "search.c: Input should be a list"),
        ("search: {c: [1, '3']}", "search.c: Model svm: c is '3': Input should be a valid number"),
        ("search: {c: [yes]}", "search.c: Model svm: c is True"),
        ("search: {c: [-1]}", "search.c: Model svm: c is -1: .*greater than 0"),
        ("search: {c: [[1, 3]]}", r"search.c: Model svm: c is \[1, 3\]"),
        ("search: [c]", "search: "),
        (f"search: {{c: {[*range(1, 40)]}, gamma: {[*range(1, 40)]}}}", "1,521 combinations"),
        ("model: {gama: 1}", "Model svm has no parameter gama; it has: c, gamma"),
        ("model: {gamma: scale}", "gamma is 'scale'"),
        ("model: {name: svn}", "no model 'svn'; there are: .*svm"),
        ("model: {name: mlp}", "mlp is a network and needs optimiser"),
        ("extends: random-forest\nmodel: {share: all}", "share.* 'all'"),
        ("extends: random-forest\nmodel: {trees: 1.5}", "trees is 1.5"),
        ("extends: knn\nsearch: {neighbours: [1, 2.5]}", "search.neighbours: .* is 2.5"),
        ("extends: knn\nsearch: {neighbors: [1]}", "it has: neighbours"),
        ("extends: mlp\nmodel: {width: [3]}", "no parameter width; it has: dropout, widths"),
        ("extends: mlp\nmodel: {widths: 3}", "widths is 3: Input should be a list"),
        ("extends: mlp\nmodel: {widths: [3, 0]}", "widths.1 is 0"),
        ("extends: mlp\nmodel: {dropout: 2}", "dropout is 2"),
        ("extends: mlp\nmodel: {name: svm}", "svm is not a network"),
        (
            "extends: wav2vec2\nmodel: {freeze: some}",
            "freeze must be one of none, features, all, not 'some'",
        ),
        ("extends: wav2vec2\nmodel: {weights: [a]}", r"weights is \['a'\]"),
        ("extends: wav2vec2\nmodel: null", "model: "),
        (f"name: {'x' * 101}", "name: it has more than 100 bytes"),
        (f"name: {'ж' * 60}", "name: it has more than 100 bytes"),
    ],
)
def test_wrong_parameters_are_named_with_their_file_before_anything_is_fitted(
    tmp_path: Path, settings: str, words: str
) -> None:
    path = tmp_path / "mine.yaml"
    base = "" if "extends" in settings else "extends: svm\n"
    path.write_text(f"{base}{settings}\n", encoding="utf-8")
    for read in (load_recipe, lambda text: load_study("original", recipes=[text])):
        with pytest.raises(InputError, match=rf"mine\.yaml: .*{words}"):
            read(str(path))


def test_of_a_studys_recipes_the_wrong_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("recipes: [svm, {extends: knn, name: near, search: {k: [1]}}]")
    with pytest.raises(InputError, match=r"study\.yaml: recipe 'near': .*search\.k"):
        load_study(str(path))
