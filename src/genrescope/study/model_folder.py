"""The output folder of training: checks before, and atomic replacement of files after."""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from genrescope.classifier import CARD, CONFIG, ONNX, TRANSFORMERS, WEIGHTS
from genrescope.errors import InputError
from genrescope.files import read_bounded
from genrescope.io import check_folder

_FILES = (
    *(f"{TRANSFORMERS}/{name}" for name in (CONFIG, WEIGHTS, "preprocessor_config.json")),
    *(ONNX, WEIGHTS, CARD, CONFIG),
)
_MAX_CONFIG_BYTES = 2**20


def check_place(out: Path, *, force: bool = False) -> None:
    """Check, before training, that a model can be written to a folder.

    Parameters
    ----------
    out
        The folder; need not exist.
    force
        Allow a folder with a model, which is replaced, or with other files, which are kept.

    Raises
    ------
    InputError
        If it cannot be written, or holds files that must not be overwritten.
    """
    check_folder(out)
    if not out.exists() or not any(out.iterdir()):
        return
    is_model = _is_model(out)
    if not force:
        cause = "it contains a model" if is_model else "it is not empty, and not a model folder"
        action = "replace that model" if is_model else "write the model beside those files"
        raise InputError(out, cause, f"Give another --out, or {action} with --force")
    strangers = [] if is_model else [name for name in _FILES if (out / name).exists()]
    if strangers:
        cause = f"it is not a model folder, and its {strangers[0]} would be overwritten"
        raise InputError(out, cause, "Give another --out")


def _is_model(folder: Path) -> bool:
    try:
        config = json.loads(read_bounded(folder / CONFIG, _MAX_CONFIG_BYTES, ""))
    except (InputError, ValueError):
        return False
    return isinstance(config, dict) and {"genres", "representation"} <= config.keys()


def put_model(model: Path, out: Path) -> None:
    """Replace a former model's files by those of a complete model folder.

    Each file is replaced atomically; the config, with the others' hashes, is the last. Only a
    former model's files are removed.

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
        with suppress(OSError):  # not empty
            (out / TRANSFORMERS).rmdir()
    except OSError as error:
        cause = f"it cannot be written ({error.strerror or error})"
        raise InputError(out, cause, "Give another --out, or free disk space") from error
