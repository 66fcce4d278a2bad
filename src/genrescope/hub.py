"""Bundled models, and the Hugging Face hub with its local cache."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path
from typing import Any

from genrescope.environment import HUB_TIMEOUT_S, configure
from genrescope.errors import GenrescopeError, InputError, install
from genrescope.files import sha256

MAX_BYTES = 2**30
"""Maximum size of a model folder to fetch."""
MAX_CHECKPOINT_BYTES = 2**33
"""Maximum size of a checkpoint's settings and weights to fetch."""

MODEL_FILES = ("config.json", "model.onnx", "model.safetensors", "README.md")
"""Files of a model folder."""


@dataclass(frozen=True)
class Checkpoint:
    """Pretrained weights on the hub, of one revision.

    Attributes
    ----------
    repo_id
        On the Hugging Face hub.
    revision
        The commit, 40 hex digits.
    file, sha256
        The weights, and their checksum in hex digits.
    licence
        As the authors name it.
    usage
        What to run next.
    """

    repo_id: str
    revision: str
    file: str
    sha256: str
    licence: str
    usage: str


CHECKPOINTS = {
    "wav2vec2-base": Checkpoint(
        "facebook/wav2vec2-base",
        "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        "pytorch_model.bin",
        "3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
        "Apache-2.0",
        "genrescope study --data gtzan --recipes original-wav2vec2,wav2vec2",
    ),
    "distilhubert": Checkpoint(
        "ntu-spml/distilhubert",
        "fa87d96265d6b7af66e112faff6ff44df419cec9",
        "model.safetensors",
        "77ad8f985c97750d8d27d6950c917800d80732a141370bf316058bded71a6cbe",
        "Apache-2.0",
        "genrescope study --data gtzan --recipes distilhubert",
    ),
    "hubert": Checkpoint(
        "facebook/hubert-base-ls960",
        "dba3bb02fda4248b6e082697eee756de8fe8aa8a",
        "pytorch_model.bin",
        "062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad",
        "Apache-2.0",
        "genrescope train --encoder facebook/hubert-base-ls960 --data my-genres/",
    ),
    "wavlm": Checkpoint(
        "microsoft/wavlm-base-plus",
        "4c66d4806a428f2e922ccfa1a962776e232d487b",
        "pytorch_model.bin",
        "3bb273a6ace99408b50cfc81afdbb7ef2de02da2eab0234e18db608ce692fe51",
        "CC-BY-SA-3.0, of github.com/microsoft/UniSpeech",
        "genrescope train --encoder microsoft/wavlm-base-plus --data my-genres/",
    ),
    "mert": Checkpoint(
        "m-a-p/MERT-v1-95M",
        "12af15fef9d0ac838c3f475bfbbf26d2060dd4f5",
        "pytorch_model.bin",
        "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd",
        "CC-BY-NC-4.0, not for commercial use",
        "export it to ONNX for the representation `embedding`; its network is code on the hub, "
        "which genrescope does not run",
    ),
}
"""By the names that ``genrescope data get`` takes."""

_BUNDLED = Path(__file__).parent / "weights"
_COMMIT = re.compile("[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


class WeightsNotAvailableError(GenrescopeError):
    """Pretrained weights are missing or cannot be used; the message says what to do."""


def list_models(pattern: str = "*") -> list[str]:
    """List the models in the package, which work without a download.

    Parameters
    ----------
    pattern
        As of `fnmatch`, such as ``MSD*``.

    Returns
    -------
    names
        Sorted: of classifiers, which ``genrescope.load`` takes, and of backbones, which the
        representation ``embedding`` takes.
    """
    classifiers = (path.parent.name for path in _BUNDLED.glob("*/config.json"))
    backbones = (path.stem for path in _BUNDLED.glob("musicnn/*.onnx"))
    return sorted(name for name in (*classifiers, *backbones) if fnmatchcase(name, pattern))


def find_model(
    model: str | os.PathLike[str] | None, revision: str | None = None, *, token: str | None = None
) -> Path:
    """Find the folder of a classifier: bundled, on this machine, or on the hub.

    Parameters
    ----------
    model
        A folder, a bundled classifier's name, or the hub's ``user/name``; an existing folder of
        that name comes first. None for the bundled default.
    revision
        A branch, tag or commit of the hub; None for the newest. Ignored for folders.
    token
        Hub access token, for private models; None uses the one stored by ``hf auth login``.

    Raises
    ------
    GenrescopeError
        If the model does not exist on the hub, or the hub cannot be reached.
    """
    if model is not None and Path(model).exists():
        return Path(model)
    name = "default" if model is None else os.fspath(model)
    if name in list_models() and (_BUNDLED / name).is_dir():
        return _BUNDLED / name
    if _HUB_ID.fullmatch(name):
        return fetch(name, MODEL_FILES, revision=revision, token=token)
    return Path(name)


def resolve_weights(
    weights: str, *, download: bool, revision: str | None = None, pickled: bool = True
) -> Path:
    """Find the folder of a checkpoint: local, in the Hugging Face cache, or on the hub.

    Parameters
    ----------
    weights
        A folder written by ``save_pretrained``, or a hub id such as ``facebook/wav2vec2-base``.
    download
        Whether missing files may be fetched from the hub.
    revision
        A branch, tag or commit of the hub; None for that of ``CHECKPOINTS``, else for the newest.
        Ignored for folders.
    pickled
        Whether pickled weights are accepted, beside safetensors.

    Returns
    -------
    folder
        With ``config.json`` and the weights.

    Raises
    ------
    WeightsNotAvailableError
        If the checkpoint is missing or cannot be fetched; the message says what to do.
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
    name, known = _known(weights)
    pinned = known.revision if known is not None and revision is None else revision
    for wanted_revision in dict.fromkeys((pinned, revision)):
        cached = _cached(weights, wanted_revision, needed)
        if cached is not None and any(any(cached.glob(ending)) for ending in endings):
            return cached
    command = f"hf download {weights}" if name is None else f"genrescope data get {name}"
    remedy = (
        f"Fetch it where there is a network (`{command}`) and give its folder, or copy the cache"
    )
    if not download:
        raise WeightsNotAvailableError(
            f"{weights} is not on this machine, and downloads are off. {remedy}."
        )
    try:
        info = HfApi().model_info(
            weights, revision=pinned, timeout=HUB_TIMEOUT_S, files_metadata=True
        )
        names = {file.rfilename for file in info.siblings or ()}
        # Many checkpoints hold the same weights in both formats; safetensors is safer.
        skip = ["*.bin"] if "model.safetensors" in names else []
        wanted = {name for name in names if _any_fits(name, needed) and not _any_fits(name, skip)}
        _check_size(info, wanted, MAX_CHECKPOINT_BYTES)
        folder = Path(
            snapshot_download(
                weights,
                revision=_commit(info, pinned),
                allow_patterns=needed,
                ignore_patterns=skip,
            )
        )
        if known is not None and folder.name == known.revision:
            _check_content(folder / known.file, known.sha256)
    except Exception as error:
        raise WeightsNotAvailableError(
            f"{weights} cannot be fetched from the hub ({_reason(error)}). {remedy}."
        ) from error
    return folder


def get_checkpoint(name: str, out: Path | None = None) -> Path:
    """Fetch a checkpoint of ``CHECKPOINTS``, of its revision; a download that stopped resumes.

    Parameters
    ----------
    name
        Its name there.
    out
        Folder to copy it to, such as for a machine without a network; None leaves it in the cache
        of the hub, where recipes find it.

    Returns
    -------
    folder
        With the settings and the weights, whose checksum is right.

    Raises
    ------
    WeightsNotAvailableError
        If it cannot be fetched, or is not what it was.
    InputError
        If the folder cannot be written.
    """
    checkpoint = CHECKPOINTS[name]
    folder = resolve_weights(checkpoint.repo_id, download=True, revision=checkpoint.revision)
    try:
        _check_content(folder / checkpoint.file, checkpoint.sha256)
    except (OSError, ValueError) as error:
        raise WeightsNotAvailableError(f"{folder}: {_reason(error)}. Run it again.") from error
    if out is None:
        return folder
    try:
        shutil.copytree(folder, out, dirs_exist_ok=True)
    except OSError as error:  # also shutil's own
        cause = f"it cannot be written ({_reason(error)})"
        raise InputError(out, cause, "Make room, or give another folder with --out") from error
    return out


def fetch(
    repo_id: str, names: Sequence[str], *, revision: str | None = None, token: str | None = None
) -> Path:
    """Fetch files of a hub repository into the cache, all of one commit.

    Parameters
    ----------
    repo_id
        Such as ``user/name``.
    names
        The files to fetch; missing ones are skipped.
    revision
        A branch, tag or commit; None for the newest.
    token
        Hub access token; None uses the one stored by ``hf auth login``.

    Returns
    -------
    folder
        In the cache. If the hub cannot be reached, with the files fetched before.

    Raises
    ------
    GenrescopeError
        If the repository does not exist or is too large, or the hub cannot be reached.
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
            f"{at} is not a folder, has not been fetched before, and cannot be fetched from the "
            f"Hugging Face hub ({_reason(error)}). Check the name and the network."
        ) from error
    try:
        _check_size(info, names, MAX_BYTES)
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
    """Upload files of a folder to a hub repository, created if missing, in one commit.

    Returns
    -------
    url
        Of the commit.

    Raises
    ------
    GenrescopeError
        If the hub cannot be reached or refuses the upload.
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
            "name and the network, and log in with a write token (`hf auth login`)."
        ) from error
    return str(commit.commit_url)


def _known(repo_id: str) -> tuple[str, Checkpoint] | tuple[None, None]:
    known = {checkpoint.repo_id: name for name, checkpoint in CHECKPOINTS.items()}
    name = known.get(repo_id)
    return (None, None) if name is None else (name, CHECKPOINTS[name])


def _check_content(path: Path, wanted: str) -> None:
    # The hub's client checks sizes alone. Without the file, the next attempt downloads it again.
    if sha256(path) != wanted:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name} is not that of this revision by its SHA-256, and was deleted"
        )


def _commit(info: Any, revision: str | None) -> str:
    # All files are of the commit that the hub names; it must be the requested one.
    sha = str(info.sha)
    if not _COMMIT.fullmatch(sha):
        raise ValueError(f"the hub names no commit, but {sha[:50]!r}")
    if revision is not None and _COMMIT.fullmatch(revision) and sha != revision:
        raise ValueError(f"the hub answers with another commit, {sha}")
    return sha


def _check_size(info: Any, names: Collection[str], max_bytes: int) -> None:
    size = sum(file.size or 0 for file in info.siblings or () if file.rfilename in names)
    if size > max_bytes:
        raise ValueError(f"it holds {size:,} bytes, more than the limit of {max_bytes:,}")


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
            f"The Hugging Face hub needs an optional package. Run {install('hub')}."
        ) from error


def _reason(error: Exception) -> str:
    message = str(error).strip()
    return message.splitlines()[0].rstrip(".") if message else type(error).__name__
