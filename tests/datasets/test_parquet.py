"""Data sets of the Hugging Face hub in Parquet are unpacked once, GTZAN under its own names."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import commands
from genrescope.datasets.gtzan import GENRES
from genrescope.datasets.layout import Layout
from genrescope.datasets.open import open_dataset
from genrescope.datasets.parquet import unpacked
from genrescope.errors import InputError

pa = pytest.importorskip("pyarrow", reason="needs genrescope[library]")
pq = pytest.importorskip("pyarrow.parquet")


def clip(seed: int, form: str = "WAV") -> bytes:
    noise = 0.1 * np.random.default_rng(seed).standard_normal(4000)
    file = io.BytesIO()
    soundfile.write(file, noise.astype(np.float32), 8000, format=form)
    return file.getvalue()


def write(path: Path, label: str, rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> None:
    """As ``datasets`` writes it: a label is a number, its names are in the schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "audio": {"sampling_rate": 22050, "_type": "Audio"},
        label: {"names": list(classes), "_type": "ClassLabel"},
    }
    info = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pa.schema([("audio", audio), (label, pa.int64())], metadata=info)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


@pytest.fixture
def mteb(tmp_path: Path) -> Path:
    """Two shards, with a column ``label`` as in ``mteb/gtzan-genre``."""
    for shard in range(2):
        rows = [
            {
                "audio": {"bytes": clip(10 * number + n), "path": f"{genre}.{n:05d}.wav"},
                "label": number,
            }
            for number, genre in enumerate(GENRES)
            for n in (2 * shard, 2 * shard + 1)
        ]
        path = tmp_path / "hub" / "data" / f"train-0000{shard}-of-00002.parquet"
        write(path, "label", rows, GENRES)
    return tmp_path / "hub"


def test_gtzan_has_its_names_genres_and_lists(mteb: Path) -> None:
    dataset = open_dataset(mteb)
    assert dataset.name == "gtzan"
    assert len(dataset.tracks) == 40
    assert dataset.tracks[0].id == "blues.00000"
    assert {track.genre for track in dataset.tracks} == set(GENRES)
    assert set(dataset.lists) == {"filtered"}


def test_it_is_unpacked_once(mteb: Path, tmp_path: Path) -> None:
    folder = unpacked(mteb, tmp_path / "cache")
    first = {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    assert (folder / "jazz" / "jazz.00003.wav").read_bytes() == clip(53)
    assert unpacked(mteb, tmp_path / "cache") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")} == first
    assert not list(folder.parent.glob("*.part"))


def test_check_opens_it(mteb: Path) -> None:
    done = commands.run("data", "check", mteb, "--json")
    printed = json.loads(done.stdout)
    assert printed["tracks"] == 40
    assert printed["counts"]["unlisted"] == 0


def test_rows_without_names_are_numbered_in_folders_of_their_genres(tmp_path: Path) -> None:
    rows = [
        {"audio": {"bytes": clip(n, ("WAV", "FLAC")[n % 2]), "path": None}, "genre": n % 2}
        for n in range(6)
    ]
    write(tmp_path / "mine" / "train-00000-of-00001.parquet", "genre", rows, ["polka", "waltz"])
    dataset = open_dataset(tmp_path / "mine")
    assert dataset.name == "mine"
    assert dataset.counts == {"polka": 3, "waltz": 3}
    assert dataset.tracks[0].id == "polka/00000.wav"
    assert dataset.tracks[-1].id == "waltz/00005.flac"


def test_other_parquet_files_are_not_taken_for_it(tmp_path: Path) -> None:
    rows = [{"audio": {"bytes": clip(0), "path": "a.wav"}, "genre": 0}]
    write(tmp_path / "genres.parquet", "genre", rows, ["polka"])
    assert unpacked(tmp_path) == tmp_path


def test_own_genres_beside_it_can_be_read(mteb: Path, tmp_path: Path) -> None:
    for genre in ("a", "b"):
        (mteb / genre).mkdir()
        (mteb / genre / "1.wav").write_bytes(clip(len(genre) + ord(genre)))
    assert open_dataset(mteb, layout=Layout.FOLDER, allow_missing_genres=True).genres == ("a", "b")


@pytest.mark.parametrize(
    ("rows", "label", "classes", "cause"),
    [
        ([{"audio": {"bytes": None, "path": "a.wav"}, "label": 0}], "label", ["x"], "has no audio"),
        ([{"audio": {"bytes": b"RIFF", "path": ""}, "label": 0}], "label", ["../x"], "no genre"),
        ([{"audio": {"bytes": b"RIFF", "path": ""}, "label": 3}], "label", ["x"], "cannot be read"),
        ([{"audio": {"bytes": b"RIFF", "path": ""}, "mood": 0}], "mood", ["x"], "its columns are"),
    ],
)
def test_what_cannot_be_used_is_an_error(
    rows: list[dict[str, Any]], label: str, classes: list[str], cause: str, tmp_path: Path
) -> None:
    write(tmp_path / "hub" / "train-00000-of-00001.parquet", label, rows, classes)
    with pytest.raises(InputError, match=cause):
        unpacked(tmp_path / "hub", tmp_path / "cache")
    assert not [path for path in tmp_path.rglob("x") if path.is_file()]


def test_a_file_that_is_no_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        unpacked(tmp_path, tmp_path / "cache")
