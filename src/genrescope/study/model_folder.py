"""The folder that a trained model is written to: what may be in it, and how it is replaced."""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from genrescope.classifier import CARD, CONFIG, ONNX, TRANSFORMERS, WEIGHTS
from genrescope.errors import InputError
from genrescope.io import check_folder
from genrescope.reading import read_bounded

_FILES = (
    *(f"{TRANSFORMERS}/{name}" for name in (CONFIG, WEIGHTS, "preprocessor_config.json")),
    *(ONNX, WEIGHTS, CARD, CONFIG),
)
_MOST_CONFIG_BYTES = 2**20


def check_place(out: Path, *, force: bool = False) -> None:
    """Refuse a folder that a model cannot be written to, before it is trained.

    Parameters
    ----------
    out
        The folder; made if need be.
    force
        Whether it may hold something: a model, which is replaced, or other files, which stay.

    Raises
    ------
    InputError
        If it cannot be written, or holds something that may not be touched.
    """
    check_folder(out)
    if not out.exists() or not any(out.iterdir()):
        return
    is_model = _is_model(out)
    if not force:
        cause = "there is a model already" if is_model else "it is not empty, and no model folder"
        does = "replace that model" if is_model else "write the model beside what is there"
        raise InputError(out, cause, f"Give another --out, or {does} with --force")
    strangers = [] if is_model else [name for name in _FILES if (out / name).exists()]
    if strangers:
        cause = f"it is no model folder, and its {strangers[0]} would be overwritten"
        raise InputError(out, cause, "Give another --out")


def _is_model(folder: Path) -> bool:
    try:
        config = json.loads(read_bounded(folder / CONFIG, _MOST_CONFIG_BYTES, ""))
    except (InputError, ValueError):
        return False
    return isinstance(config, dict) and {"genres", "representation"} <= config.keys()


def put_model(model: Path, out: Path) -> None:
    """Put a complete model folder's files in the place of those of a former model.

    Each file is at any moment the old or the new one; the config, which knows the others' hashes,
    is the last. Nothing but a former model's files is removed.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        copy = out / f".genrescope-{secrets.token_hex(4)}"
        try:
            shutil.copytree(model, copy, copy_function=shutil.copyfile)
            new = [file.relative_to(copy) for file in copy.rglob("*") if file.is_file()]
            for name in sorted(new, key=lambda name: name == Path(CONFIG)):
                (out / name).parent.mkdir(exist_ok=True)
                (copy / name).replace(out / name)
            for name in {*map(Path, _FILES)} - {*new}:
                (out / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        with suppress(OSError):  # not empty: there is a new one in it, or something of others'
            (out / TRANSFORMERS).rmdir()
    except OSError as error:
        cause = f"it cannot be written ({error.strerror or error})"
        raise InputError(out, cause, "Give another place with --out, or make room") from error
