"""Models trained on one data set are tested on another, over the genres that both have."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

import commands
from genrescope.datasets.demo import SAMPLING_RATE, render
from genrescope.datasets.splits import across_name, get_protocol
from genrescope.datasets.track import Dataset, Track
from genrescope.errors import GenrescopeError
from genrescope.study.transfer import across, map_genres
from genrescope.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()


def dataset(name: str, genres: Sequence[str], *, artist: str = "") -> Dataset:
    return Dataset(
        name,
        tuple(
            Track(f"{genre}.{n}", genre, group=f"{artist or name} {n % 5}")
            for genre in sorted(genres)
            for n in range(10)
        ),
    )


def test_genres_are_matched_by_alias_and_tree() -> None:
    found = map_genres(
        ("hiphop", "metal", "rock", "disco"),
        ("Hip-Hop", "Rock", "punk", "heavy metal", "Folk", "rap"),
        TAXONOMY,
    )
    assert found.names["Hip-Hop"] == "hiphop"
    assert found.names["Rock"] == found.names["punk"] == "rock"
    assert found.names["heavy metal"] == "metal"
    assert (found.own_left, "Folk" in found.other_left) == (("disco",), True)
    assert str(found).endswith("left out: disco, Folk (no counterpart)")
    assert "rock ← Rock, punk" in str(found)


def test_a_broader_genre_has_no_counterpart() -> None:
    assert map_genres(("heavy metal",), ("Rock",), TAXONOMY).names == {}


def test_one_data_set_is_for_training_and_the_other_for_testing() -> None:
    own, other = dataset("gtzan", ["hiphop", "rock", "disco"]), dataset("fma", ["Hip-Hop", "Rock"])
    both, protocol = across(own, other, TAXONOMY)
    assert protocol == "trained on gtzan, tested on fma" == across_name("gtzan", "fma")
    assert both.genres == ("hiphop", "rock")
    assert [track.id for track in both.tracks] == sorted(track.id for track in both.tracks)
    known = get_protocol(protocol)
    assert known.leakage_free
    for seed in range(2):
        (split,) = known.splits(both, seed)
        assert {i.partition("/")[0] for i in (*split.train, *split.valid)} == {"train"}
        assert len(split.train) + len(split.valid) == 20
        assert split.test == tuple(sorted(f"test/{track.id}" for track in other.tracks))
        group = {track.id: track.group for track in both.tracks}
        assert not {group[i] for i in split.train} & {group[i] for i in split.valid}
    assert both.notes[0] == (
        "Genres of gtzan ← fma: hiphop ← Hip-Hop; rock ← Rock; left out: disco (no counterpart)."
    )


def test_tracks_by_the_same_artists_are_left_out_and_counted() -> None:
    own = dataset("a", ["rock", "jazz"], artist="same")
    other = dataset("b", ["rock", "jazz"])
    one = other.tracks[0]
    other = Dataset("b", (Track(one.id, one.genre, group="same 1"), *other.tracks[1:]))
    both, protocol = across(own, other, TAXONOMY)
    (split,) = get_protocol(protocol).splits(both, 0)
    assert len(split.test) == 19
    assert both.notes[0].endswith(" Left out: 1 tracks of b by artists of a.")


def test_too_few_common_genres_are_an_error() -> None:
    with pytest.raises(GenrescopeError, match="fewer than two genres in common"):
        across(dataset("a", ["rock", "disco"]), dataset("b", ["Rock", "Polka"]), TAXONOMY)


def test_the_protocol_needs_a_pair() -> None:
    with pytest.raises(GenrescopeError, match="--test-on"):
        get_protocol(across_name("a", "b")).splits(dataset("a", ["rock", "jazz"]), 0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two data sets of demo clips under names of genres, with other artists in each."""
    folder = tmp_path_factory.mktemp("pair")
    for name, genres, first in (
        ("mine", {"rock": "stomp", "classical": "chorale", "disco": "pulse"}, 0),
        ("theirs", {"Punk": "stomp", "Classical": "chorale", "Polka": "march"}, 3),
    ):
        rows = [["path", "genre", "artist"]]
        for genre, style in genres.items():
            for n in range(8):
                artist = first + n % 2
                path = folder / name / f"{genre}-{n}.wav"
                path.parent.mkdir(exist_ok=True)
                samples = render(style, artist, n, seconds=1.5)
                soundfile.write(path, samples.astype(np.float32), SAMPLING_RATE)
                rows.append([str(path), genre, f"{style} {artist}"])
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return folder / "mine.csv", folder / "theirs.csv"


def test_a_study_says_which_was_for_what(pair: tuple[Path, Path], tmp_path: Path) -> None:
    mine, theirs = pair
    line = ("study", "--data", mine, "--test-on", theirs, "--recipes", "knn", "--seeds", 1)
    done = commands.run(*line, "--out", tmp_path / "out", "--cache-dir", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    mapping = "classical ← Classical; rock ← Punk; left out: disco, Polka (no counterpart)"
    assert mapping in " ".join(done.stderr.split())
    results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    (row,) = results["rows"]
    assert row["protocol"] == "trained on mine, tested on theirs"
    assert (row["n_train"] + row["n_valid"], row["n_test"]) == (16, 16)
    assert results["dataset"]["name"] == "mine-to-theirs"
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "| knn | " in report.split("trained on mine, tested on theirs", 2)[-1]
    assert mapping in report
    again = commands.run(*line, "--out", tmp_path / "out", "--cache-dir", tmp_path / "store")
    assert again.returncode == 0, again.stderr
    assert "test accuracy" not in again.stderr  # nothing is fitted again


def test_protocols_cannot_be_named_beside_it(pair: tuple[Path, Path]) -> None:
    mine, theirs = pair
    done = commands.run("study", "--data", mine, "--test-on", theirs, "--protocols", "random")
    assert done.returncode == 2
    assert "--protocols is not for --test-on" in " ".join(done.stderr.split())
