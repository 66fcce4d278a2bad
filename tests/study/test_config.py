"""What a study's file may say."""

from pathlib import Path

import pytest

from genrescope.errors import GenrescopeError
from genrescope.study.config import load_study
from genrescope.training.recipe import Ensemble


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_an_ensemble_brings_its_recipes_with_it() -> None:
    config = load_study("original", recipes=["ensemble-no-audio", "svm"])
    (ensemble,) = config.ensembles
    names = [recipe.name for recipe in config.recipes]
    assert set(ensemble.of) <= set(names)
    assert names.count("svm") == 1
    assert config.entries[-1] is ensemble


def test_an_ensemble_may_be_of_the_studys_own_recipes(tmp_path: Path) -> None:
    config = load_study(
        written(
            tmp_path,
            """
            recipes:
              - {extends: svm, name: mine, search: {c: [1], gamma: [0.01]}}
              - {name: both, of: [mine, knn], pool: average}
            train_shares: [0.25, 0.5]
            """,
        )
    )
    assert [recipe.name for recipe in config.recipes] == ["mine", "knn"]
    assert config.ensembles == [Ensemble(name="both", of=("mine", "knn"), pool="average")]
    assert config.train_shares == (0.25, 0.5)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("recipes: [{name: a, of: [svm, nothing]}]", "no recipe 'nothing'"),
        ("recipes: [svm, {name: svm, of: [knn, mlp]}]", "recipes with the same name: svm"),
        ("{recipes: [svm], train_shares: [1.5]}", "train_shares"),
        ("{recipes: [svm], train_shares: [0]}", "train_shares"),
        ("{recipes: [svm], skip: {knn: [random]}}", "skip.*knn"),
        ("{recipes: [svm], skip: {svm: [never]}}", "never"),
    ],
)
def test_faults_are_reported(tmp_path: Path, text: str, shown: str) -> None:
    with pytest.raises(GenrescopeError, match=shown):
        load_study(written(tmp_path, text))


def test_chosen_recipes_are_not_skipped() -> None:
    assert load_study("systems").skip
    assert not load_study("systems", recipes=["original-cnn"]).skip
