"""Data sets of the Hugging Face hub in Parquet, such as ``marsyas/gtzan`` and MTEB's copy of it.

A row holds an audio file with its name (``audio``: bytes and path) and a class label. The files are
unpacked into the user's cache once, as genre folders: GTZAN's, if they bear its names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

from genrescope.datasets.track import genre_fault
from genrescope.errors import GenrescopeError, InputError, install

_LABELS, _NAMES = ("genre", "label"), ("file", "path")
_SUFFIXES = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}
_BATCH = 16  # rows, of a megabyte each
_REMEDY = "Give a folder of genre folders, or download the data set again"


def unpacked(folder: Path, cache: Path | None = None) -> Path:
    """Return a folder of genre folders for one of Parquet files; any other folder is returned.

    Parameters
    ----------
    folder
        With files such as ``train-00000-of-00003.parquet``, in it or in ``data``.
    cache
        By default the user's.

    Raises
    ------
    GenrescopeError
        If pyarrow is missing.
    InputError
        If a file has no audio or no label, or the cache cannot be written.
    """
    places = (folder, folder / "data") if folder.is_dir() else ()
    shards = sorted(path for place in places for path in place.glob("*-of-*.parquet"))
    if not shards:
        return folder
    if find_spec("pyarrow") is None:
        raise GenrescopeError(
            f"{folder} has Parquet files. To read them, run {install('library')}."
        )
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    digest = hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
    root = cache or Path(platformdirs.user_cache_dir("genrescope")) / "parquet"
    target = root / digest / folder.resolve().name
    if target.is_dir():
        return target
    partial = target.with_name(f"{target.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for number, (path, genre, name, content) in enumerate(_rows(shards)):
            if content is None or genre_fault(genre) is not None or Path(genre).name != genre:
                raise InputError(path, f"row {number} has no audio or no genre", _REMEDY)
            suffix = _SUFFIXES.get(content[:4], ".mp3")
            place = partial / genre / (Path(name).name or f"{number:05d}{suffix}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        partial.rename(target)
    except OSError as error:
        cause = f"its Parquet files cannot be unpacked to {target} ({error.strerror or error})"
        raise InputError(folder, cause, "Make room there, or unpack them yourself") from error
    return target


def _rows(shards: list[Path]) -> Iterator[tuple[Path, str, str, bytes | None]]:
    import pyarrow as pa  # noqa: PLC0415  an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    for path in shards:
        try:
            with pq.ParquetFile(path) as file:
                names = file.schema_arrow.names
                label = next((name for name in _LABELS if name in names), None)
                if label is None or "audio" not in names:
                    cause = f"its columns are {', '.join(names)}, not audio and genre or label"
                    raise InputError(path, cause, _REMEDY)
                classes = _classes(file.schema_arrow.metadata, label)
                named = [name for name in _NAMES if name in names]
                for batch in file.iter_batches(_BATCH, columns=["audio", label, *named]):
                    for row in batch.to_pylist():
                        audio, genre = row["audio"] or {}, row[label]
                        genre = classes[genre] if isinstance(genre, int) and classes else genre
                        name = audio.get("path") or next((row[n] for n in named if row[n]), "")
                        yield path, str(genre), name, audio.get("bytes")
        except (pa.ArrowInvalid, IndexError, AttributeError) as error:
            raise InputError(path, f"it cannot be read as Parquet ({error})", _REMEDY) from error


def _classes(metadata: dict[bytes, bytes] | None, label: str) -> list[str]:
    try:
        features: Any = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return list(features[label]["names"])
    except (KeyError, ValueError, TypeError):
        return []
