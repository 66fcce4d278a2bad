"""The Hugging Face hub and its cache on this machine: checkpoints, and model folders to share."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from genrescope.environment import HUB_TIMEOUT_S, configure
from genrescope.errors import GenrescopeError

MOST_BYTES = 2**30
"""A model folder of more than this is not fetched."""
MAX_CHECKPOINT_BYTES = 2**33
"""Nor are a checkpoint's settings and weights of more than this."""

MODEL_FILES = ("config.json", "model.onnx", "model.safetensors", "README.md")
"""What a model folder consists of."""

_COMMIT = re.compile("[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


class WeightsNotAvailableError(GenrescopeError):
    """Pretrained weights cannot be had or used here; the message says what to do."""


def find_model(
    model: str | os.PathLike[str] | None, revision: str | None = None, *, token: str | None = None
) -> Path:
    """Find the folder of a classifier: the package's, one on this machine, or one of the hub.

    Parameters
    ----------
    model
        A folder, or the hub's ``user/name``; a folder of that name comes first. None for the one
        in the package.
    revision
        A branch, tag or commit of the hub; None for the newest. A folder has none.
    token
        Of the hub, for a private model; None takes what ``hf auth login`` has kept.

    Raises
    ------
    GenrescopeError
        If there is no such model on the hub, or it cannot be reached.
    """
    if model is None:
        return Path(__file__).parent / "weights" / "default"
    folder = Path(model)
    if not folder.exists() and _HUB_ID.fullmatch(str(model)):
        return fetch(str(model), MODEL_FILES, revision=revision, token=token)
    return folder


def resolve_weights(
    weights: str, *, download: bool, revision: str | None = None, pickled: bool = True
) -> Path:
    """Find the folder of a checkpoint: a local folder, the Hugging Face cache, or the hub.

    Parameters
    ----------
    weights
        A folder as ``save_pretrained`` writes it, or a hub id such as ``facebook/wav2vec2-base``.
    download
        Whether the hub may be asked for what is not on this machine.
    revision
        A branch, tag or commit of the hub; None for the newest. A folder has none.
    pickled
        Whether weights that are not in safetensors will do.

    Returns
    -------
    folder
        With ``config.json`` and the weights.

    Raises
    ------
    WeightsNotAvailableError
        If the checkpoint cannot be had; says why and what to do.
    """
    try:
        folder = Path(weights).expanduser()
    except RuntimeError as error:
        raise WeightsNotAvailableError(f"{weights}: {error}. Give its whole path.") from error
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise WeightsNotAvailableError(
            f"{folder} holds no checkpoint (config.json is missing). Give a folder written by "
            "save_pretrained."
        )
    _import_hub()
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415

    endings = ["*.safetensors", "*.bin"] if pickled else ["*.safetensors"]
    needed = ["*.json", *endings]
    cached = _cached(weights, revision, needed)
    if cached is not None and any(any(cached.glob(ending)) for ending in endings):
        return cached
    remedy = (
        f"Fetch it where there is a network (`hf download {weights}`) and give its folder, or "
        "copy the cache"
    )
    if not download:
        raise WeightsNotAvailableError(
            f"{weights} is not on this machine, and downloads are off. {remedy}."
        )
    try:
        info = HfApi().model_info(
            weights, revision=revision, timeout=HUB_TIMEOUT_S, files_metadata=True
        )
        names = {file.rfilename for file in info.siblings or ()}
        # The same weights often lie there twice; safetensors is safer and enough.
        skip = ["*.bin"] if "model.safetensors" in names else []
        wanted = {name for name in names if _any_fits(name, needed) and not _any_fits(name, skip)}
        _check_size(info, wanted, MAX_CHECKPOINT_BYTES)
        return Path(
            snapshot_download(
                weights,
                revision=_commit(info, revision),
                allow_patterns=needed,
                ignore_patterns=skip,
            )
        )
    except Exception as error:
        raise WeightsNotAvailableError(
            f"{weights} cannot be had from the hub ({_reason(error)}). {remedy}."
        ) from error


def fetch(
    repo_id: str, names: Sequence[str], *, revision: str | None = None, token: str | None = None
) -> Path:
    """Fetch files of a hub repository into the cache, all from one commit.

    Parameters
    ----------
    repo_id
        Such as ``user/name``.
    names
        The files that are wanted; those that are not there are left out.
    revision
        A branch, tag or commit; None for the newest.
    token
        Of the hub; None takes the one that ``hf auth login`` has kept.

    Returns
    -------
    folder
        In the cache. If the hub cannot be reached, with what had been fetched before.

    Raises
    ------
    GenrescopeError
        If there is no such repository, if it is too large, or if the hub cannot be reached.
    """
    _import_hub()
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f"{repo_id} at {revision}" if revision else repo_id
    wanted: dict[str, Any] = {"allow_patterns": list(names), "token": token}
    try:
        info = HfApi(token=token).model_info(
            repo_id, revision=revision, timeout=HUB_TIMEOUT_S, files_metadata=True
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise GenrescopeError(
            f"There is no folder {repo_id} here, and no model {at} on the Hugging Face hub. Check "
            "the name; for a private model, log in first (`hf auth login`)."
        ) from error
    except Exception as error:
        if (cached := _cached(repo_id, revision, names)) is not None:
            return cached
        raise GenrescopeError(
            f"{at} is no folder, has not been fetched before, and cannot be had from the "
            f"Hugging Face hub ({_reason(error)}). Check the name and the network."
        ) from error
    try:
        _check_size(info, names, MOST_BYTES)
    except ValueError as error:
        raise GenrescopeError(f"{at}: {error}. Check the name.") from error
    try:
        return Path(snapshot_download(repo_id, revision=_commit(info, revision), **wanted))
    except Exception as error:
        raise GenrescopeError(
            f"{at} could not be fetched from the Hugging Face hub ({_reason(error)}). Try again."
        ) from error


def push(
    folder: Path, names: Sequence[str], repo_id: str, *, private: bool, token: str | None
) -> str:
    """Upload files of a folder to a hub repository, which is made if need be, in one commit.

    Returns
    -------
    url
        Of the commit.

    Raises
    ------
    GenrescopeError
        If the hub cannot be reached or does not let it be written.
    """
    _import_hub()
    from huggingface_hub import HfApi  # noqa: PLC0415

    hub = HfApi(token=token)
    try:
        hub.create_repo(repo_id, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=list(names),
            commit_message="Upload a genrescope classifier",
        )
    except Exception as error:
        raise GenrescopeError(
            f"{repo_id} cannot be written on the Hugging Face hub ({_reason(error)}). Check the "
            "name and the network, and log in with a token that may write (`hf auth login`)."
        ) from error
    return str(commit.commit_url)


def _commit(info: Any, revision: str | None) -> str:
    # All files are of one commit, which the hub names: the one that was asked for, if it was one.
    sha = str(info.sha)
    if not _COMMIT.fullmatch(sha):
        raise ValueError(f"the hub names no commit, but {sha[:50]!r}")
    if revision is not None and _COMMIT.fullmatch(revision) and sha != revision:
        raise ValueError(f"the hub answers with another commit, {sha}")
    return sha


def _check_size(info: Any, names: Collection[str], most: int) -> None:
    sizes = [file.size or 0 for file in info.siblings or () if file.rfilename in names]
    if sum(sizes) > most:
        told = "more than a genre classifier has any use for"
        raise ValueError(f"it holds {sum(sizes):,} bytes, {told} ({most:,})")


def _any_fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _cached(repo_id: str, revision: str | None, wanted: Sequence[str]) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(
            snapshot_download(
                repo_id, revision=revision, local_files_only=True, allow_patterns=list(wanted)
            )
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def _import_hub() -> None:
    configure("huggingface_hub")
    try:
        import huggingface_hub  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise GenrescopeError(
            "The Hugging Face hub needs more than the base install: pip install 'genrescope[hub]'"
        ) from error


def _reason(error: Exception) -> str:
    told = str(error).strip()
    return told.splitlines()[0].rstrip(".") if told else type(error).__name__
