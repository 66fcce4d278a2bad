"""The folder of a trained model: what may be in it, and what is left of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genrescope.errors import InputError
from genrescope.study.model_folder import check_place, put_model

CONFIG = json.dumps({"genres": ["a", "b"], "representation": {}})


def model(folder: Path, word: str, *names: str) -> Path:
    (folder / "transformers").mkdir(parents=True)
    for name in ("model.onnx", "README.md", *names):
        (folder / name).write_text(word)
    (folder / "config.json").write_text(CONFIG)
    return folder


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_a_new_or_empty_folder_will_do(tmp_path: Path) -> None:
    check_place(tmp_path)
    check_place(tmp_path / "new" / "deep")
    put_model(model(tmp_path / "made", "new"), tmp_path / "new" / "deep")
    assert content(tmp_path / "new" / "deep") == content(tmp_path / "made")


def test_a_model_is_replaced_only_by_force_and_nothing_else_goes(tmp_path: Path) -> None:
    old = model(tmp_path / "old", "old", "model.safetensors", "transformers/config.json")
    (old / "transformers" / "notes.txt").write_text("mine")
    (old / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"it contains a model.*replace.*with --force"):
        check_place(old)
    check_place(old, force=True)
    put_model(model(tmp_path / "made", "new"), old)
    assert content(old) == {
        "model.onnx": "new",
        "README.md": "new",
        "config.json": CONFIG,
        "transformers/notes.txt": "mine",
        "thesis.txt": "mine",
    }


def test_other_files_stay_beside_a_model(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not a model folder.*--force"):
        check_place(tmp_path)
    check_place(tmp_path, force=True)
    (tmp_path / "README.md").write_text("mine, too")
    with pytest.raises(InputError, match=r"its README\.md would be overwritten"):
        check_place(tmp_path, force=True)


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/model"):
        with pytest.raises(InputError, match="not a folder"):
            check_place(tmp_path / place, force=True)
