"""Learning a library's own genres: labels, folds, the model, its measurement, and the command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.flac import FLAC

import commands
import formats
import genrescope
from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError, InputError
from genrescope.learn.discriminant import (
    calibrate,
    held_out_scores,
    measure_moments,
    track_shares,
)
from genrescope.learn.folds import artist_folds
from genrescope.learn.labels import choose_genres
from genrescope.learn.learn import (
    LearnedModel,
    TaggedTracks,
    check_embedding,
    learn,
    read_tracks,
    write_model,
)
from genrescope.learn.measure import doubts, measure
from genrescope.library.catalogue import Catalogue, CatalogueEntry
from genrescope.representations import make_representation
from genrescope.representations.embedding import Embedding
from genrescope.tagging.albums import artist_key
from genrescope.tagging.formats import read_artists
from genrescope.taxonomy import load_taxonomy, track_genres

TAXONOMY = load_taxonomy()
WIDTH = 24


def library(
    sizes: dict[str, int], artists: int = 8, seed: int = 0, distance: float = 3.0
) -> TaggedTracks:
    """Tracks whose embeddings lie around a point of their genre, by so many artists a genre."""
    rng = np.random.default_rng(seed)
    points = {genre: distance * rng.standard_normal(WIDTH) for genre in sizes}
    names = [genre for genre, count in sizes.items() for _ in range(count)]
    offsets = {(genre, by): rng.standard_normal(WIDTH) for genre in sizes for by in range(artists)}
    rows = [
        points[genre] + offsets[genre, i % artists] + rng.standard_normal(WIDTH)
        for i, genre in enumerate(names)
    ]
    keys = [f"{genre}/{i % artists}" for i, genre in enumerate(names)]
    _, numbers = np.unique(keys, return_inverse=True)
    return TaggedTracks(
        [f"{genre}/{i}.flac" for i, genre in enumerate(names)],
        [(genre,) for genre in names],
        numbers,
        np.array(rows, dtype=np.float16),
        len(names),
        [],
    )


def retagged(tracks: TaggedTracks, genres: list[tuple[str, ...]]) -> TaggedTracks:
    return TaggedTracks(
        tracks.paths, genres, tracks.artists, tracks.embeddings, tracks.analysed, tracks.problems
    )


@pytest.mark.parametrize(
    ("tags", "genres"),
    [
        (["metal music", "Metal"], {"Metal"}),
        (["Soul", "Funk"], {"Soul", "Funk"}),
        (["Other", "(12)", "unknown", "Misc.", "<Unknown>", "2001", "?", ""], set()),
        (["Rock", "Punk"], {"Punk"}),
        (["(17)"], {"Rock"}),
        (["Schlonkwave"], {"Schlonkwave"}),
    ],
)
def test_tags_become_genres(tags: list[str], genres: set[str]) -> None:
    assert set(track_genres(tags, TAXONOMY)) == genres


def test_a_taxonomy_may_name_placeholders_and_make_one_a_genre(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('placeholders = ["Schrott"]\n[tree]\nRock = ["Other"]\n')
    taxonomy = load_taxonomy(path)
    tags = ["SCHROTT", "other", "Misc", "Rock"]
    assert [tag for tag in tags if taxonomy.is_placeholder(tag)] == ["SCHROTT", "Misc"]


def test_the_artist_is_the_album_s_or_the_track_s_or_the_folder() -> None:
    folder = Path("b")
    assert artist_key(["Various Artists", "Björk feat. Anohni"], folder) == "björk"
    assert artist_key(["BJÖRK ", "x"], folder) == artist_key(["björk"], folder)
    assert artist_key(["VA"], folder) == artist_key([], folder) != artist_key([], Path("c"))


def test_a_rare_genre_counts_as_the_one_above_it_and_one_without_is_left_out() -> None:
    tracks = [("Punk",)] * 3 + [("Indie Rock",)] * 2 + [("Rock",)] * 2
    tracks += [("Jazz",)] * 6 + [("Zouk", "Jazz")] + [("Schlonkwave",)] * 5
    artists = np.arange(len(tracks)) % 4
    artists[-5:] = 0
    found = choose_genres(tracks, artists, TAXONOMY, min_tracks=4, min_artists=3)
    assert found.genres == ("Jazz", "Rock")
    assert found.member.sum(axis=0).tolist() == [7, 7]
    left = {one.genre: (one.tracks, one.reason, one.learned_as) for one in found.left_out}
    assert left["Punk"] == (3, "fewer than 4 tracks", "Rock")
    assert left["Schlonkwave"] == (5, "fewer than 3 artists", None)
    assert left["Zouk"][0] == 1
    assert not found.member[-5:].any()


def test_spellings_of_an_unknown_genre_are_one() -> None:
    tracks = [("Schlonk Wave",), ("schlonk-wave",), ("Schlonk Wave",), ("Jazz",), ("Jazz",)]
    found = choose_genres(tracks, np.arange(5), TAXONOMY, min_tracks=2, min_artists=2)
    assert found.genres == ("Jazz", "Schlonk Wave")
    assert found.member[:, 1].tolist() == [True, True, True, False, False]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_artist_is_in_two_folds_and_no_genre_in_one(data: st.DataObject) -> None:
    genres, tracks = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    # Of one genre each, as an artist of several may fill two folds' worth of one of them.
    artists = rng.integers(0, data.draw(st.integers(2, 30)), tracks)
    member = np.eye(genres, dtype=bool)[artists % genres]
    folds = artist_folds(member, artists)
    for artist in np.unique(artists):
        assert len(set(folds[artists == artist])) == 1
    for own in member.T:
        by = len(set(artists[own]))
        assert len(set(folds[own])) == min(by, 5)


def test_folds_have_as_much_of_each_genre() -> None:
    tracks = library({"Rock": 400, "Jazz": 100, "Zouk": 25}, artists=25)
    member = choose_genres(
        tracks.genres, tracks.artists, TAXONOMY, min_tracks=2, min_artists=2
    ).member
    folds = artist_folds(member, tracks.artists)
    counts = np.array([member[folds == fold].sum(axis=0) for fold in range(5)])
    assert (counts == member.sum(axis=0) / 5).all()


def test_genres_that_can_be_separated_are_learned() -> None:
    learned = learn(library({"Rock": 60, "Jazz": 40, "Zouk": 20}), TAXONOMY)
    assert learned.genres == ("Jazz", "Rock", "Zouk")
    measured = learned.measured
    assert measured.accuracy > 0.95
    assert measured.micro.low <= measured.micro.value <= measured.micro.high
    assert measured.genres["Zouk"].tracks == 20
    assert measured.genres["Zouk"].artists == 8
    assert measured.genres["Rock"].threshold is not None


def test_labels_without_relation_to_the_embeddings_are_not_learned() -> None:
    tracks = library({"Rock": 100, "Jazz": 100}, distance=0.0)
    measured = learn(tracks, TAXONOMY).measured
    assert 0.3 < measured.accuracy < 0.7
    assert all(one.threshold is None for one in measured.genres.values())


def test_two_genres_of_a_track_have_a_half_each() -> None:
    plain = library({"Soul": 60, "Rock": 60, "Jazz": 60})
    both = [("Soul", "Funk") if own == ("Soul",) else own for own in plain.genres]
    learned = learn(retagged(plain, both), TAXONOMY)
    rows = np.sign(plain.embeddings) * np.log1p(np.abs(plain.embeddings.astype(float)))
    logits = rows[:60] @ learned.discriminant.weight.T + learned.discriminant.bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    places = [learned.genres.index(genre) for genre in ("Soul", "Funk")]
    assert np.abs(shares[:, places] - 0.5).max() < 0.05
    assert measured_f1(learned) > 0.95


def measured_f1(learned: LearnedModel) -> float:
    return learned.measured.macro.value


def test_probabilities_are_calibrated_where_a_genre_is_rare() -> None:
    tracks = library({"Rock": 970, "Zouk": 30}, artists=30, distance=0.35)
    learned = learn(tracks, TAXONOMY)
    zouk = learned.genres.index("Zouk")
    rows = np.sign(tracks.embeddings) * np.log1p(np.abs(tracks.embeddings.astype(float)))
    logits = rows @ learned.discriminant.weight.T + learned.discriminant.bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert abs(shares[:, zouk].mean() - 0.03) < 0.015  # with equal priors it is a third


def test_wrong_tags_are_doubted_first() -> None:
    tracks = library({"Rock": 100, "Jazz": 100, "Zouk": 100})
    genres = list(tracks.genres)
    wrong = {3: "Jazz", 50: "Zouk", 120: "Rock", 150: "Zouk", 250: "Rock"}
    for i, genre in wrong.items():
        genres[i] = (genre,)
    found = learn(retagged(tracks, genres), TAXONOMY).doubts
    assert {one.path for one in found[:5]} == {tracks.paths[i] for i in wrong}
    assert found[0].tags != (found[0].answer,)
    assert found[0].probability > 0.5 > found[0].tags_probability


def test_a_genre_above_the_tag_is_no_contradiction() -> None:
    shares = np.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]], dtype=np.float32)
    member = np.array([[True, False, False], [False, False, True]])
    genres = ("Punk", "Rock", "Zouk")
    found = doubts(shares, member, genres, TAXONOMY, ["a", "b"], [("Punk",), ("Zouk",)])
    assert [(one.path, one.answer) for one in found] == [("b", "Punk")]


def test_results_by_hand() -> None:
    shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.45, 0.55], [0.3, 0.7], [0.1, 0.9]])
    member = np.array([[1, 0], [1, 0], [0, 1], [1, 0], [0, 1], [0, 1]], dtype=bool)
    found = measure(shares.astype(np.float32), member, np.arange(6), ("a", "b"), 0.6)
    assert found.accuracy == pytest.approx(4 / 6)
    a, b = found.genres["a"], found.genres["b"]
    assert (a.tracks, a.artists) == (3, 3)
    assert a.mixed_up == {"b": pytest.approx(1 / 3)}
    assert b.mixed_up == {"a": pytest.approx(1 / 3)}
    # Of the five with the highest probability, three are right: at 0.3 and 0.2.
    assert a.threshold == pytest.approx(0.3)
    assert a.threshold_recall == 1
    assert b.threshold == pytest.approx(0.2)


def test_too_few_tracks_are_refused() -> None:
    with pytest.raises(GenrescopeError, match=r"^1 genres .* --min-tracks"):
        learn(library({"Rock": 60, "Zouk": 6}), TAXONOMY)


def test_the_rows_are_not_copied() -> None:
    def peak(count: int) -> int:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((count, 512), dtype=np.float32).astype(np.float16)
        artists = np.arange(count) % 40
        names = [("Rock",) if i % 2 else ("Jazz",) for i in artists]
        tracks = TaggedTracks([str(i) for i in range(count)], names, artists, rows, count, [])
        tracemalloc.start()
        learn(tracks, TAXONOMY)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, more = 9000, 18000  # several blocks
    assert peak(more) - peak(few) < (more - few) * 512  # half of a copy as float16


def test_artists_are_read_in_all_formats_that_hold_them(tmp_path: Path) -> None:
    made = formats.make_library(tmp_path, 1.0)
    assert read_artists(made["mp3-v23-art"]) == ("Ärtist",)
    assert read_artists(made["mp3-v1"]) == ("Someone",)
    assert read_artists(made["flac-tight"]) == ("one",)
    assert read_artists(made["flac-bare"]) == ()
    flac = FLAC(made["flac-tight"])
    flac["albumartist"] = ["All of them"]
    flac.save()
    assert read_artists(made["flac-tight"]) == ("All of them", "one")
    for name, field in (("m4a-end", "aART"), ("wma-tagged", "Author"), ("wv-ape", "Artist")):
        import mutagen

        file = mutagen.File(made[name])
        file.tags[field] = ["Someone else"]
        file.save()
        assert read_artists(made[name]) == ("Someone else",)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.default()


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, classifier: Classifier) -> tuple[Path, Path]:
    """A folder of tagged files, and its catalogue with embeddings as of two kinds of music."""
    folder = tmp_path_factory.mktemp("scanned").resolve()
    plain = formats.make_library(folder / "plain", 0.5)["flac-tight"]
    rng = np.random.default_rng(0)
    points = rng.standard_normal((2, classifier.embedding_width))
    music = folder / "Music"
    with Catalogue(folder / "library.db", write=True) as catalogue:
        model, walk = catalogue.model(classifier), catalogue.begin_walk()
        for genre in ("metal music", "Jazz"):
            own = music / genre
            own.mkdir(parents=True)
            for i in range(12):
                path = own / f"{i}.flac"
                path.write_bytes(plain.read_bytes())
                flac = FLAC(path)
                flac["genre"] = [genre if i else "Misc"]
                flac["artist"] = [f"{genre} {i % 4}"]
                flac.save()
            entries = [
                CatalogueEntry(path.name, path.stat().st_size, path.stat().st_mtime_ns)
                for path in sorted(own.iterdir())
            ]
            catalogue.see(str(own), entries, walk)
        probabilities = dict.fromkeys(classifier.genres, 1 / len(classifier.genres))
        first = classifier.genres[0]
        answer = genrescope.Prediction(first, probabilities[first], False, probabilities, {}, ())
        for waiting in list(catalogue.waiting(str(music), model)):
            point = points[int(waiting.path.parent.name == "Jazz")]
            row = (point + 0.3 * rng.standard_normal(len(point))).astype(np.float16)
            catalogue.save(
                waiting.row, waiting.path.stat(), b"%16d" % waiting.row, model, (answer, row)
            )
    return music, folder / "library.db"


@pytest.fixture
def catalogue(scanned: tuple[Path, Path]) -> Iterator[Catalogue]:
    with Catalogue(scanned[1]) as opened:
        yield opened


def test_a_model_whose_logits_are_in_the_catalogue_is_refused() -> None:
    waveform = make_representation("waveform", {"seconds": 30})
    other: Any = SimpleNamespace(representation=waveform, folder=Path("cnn"))
    with pytest.raises(GenrescopeError, match="cnn: its representation is waveform"):
        check_embedding(other)


def test_tracks_are_read_with_their_tags(
    scanned: tuple[Path, Path], catalogue: Catalogue, classifier: Classifier
) -> None:
    seen: list[int] = []
    found = read_tracks(catalogue, classifier, scanned[0], TAXONOMY, on_read=seen.append)
    assert found.analysed == seen[-1] == 24
    assert len(found.paths) == 22  # Misc is no genre
    assert set(found.genres) == {("Metal",), ("Jazz",)}
    assert len(set(found.artists.tolist())) == 8
    assert found.embeddings.shape == (22, classifier.embedding_width)
    place = found.paths.index("Jazz/5.flac")
    known = catalogue.find(scanned[0] / "Jazz" / "5.flac", classifier)
    assert known is not None
    np.testing.assert_array_equal(found.embeddings[place], known[1])


def test_a_file_that_is_gone_is_left_out_and_named(
    scanned: tuple[Path, Path], catalogue: Catalogue, classifier: Classifier
) -> None:
    gone = scanned[0] / "Jazz" / "7.flac"
    moved = gone.rename(gone.with_suffix(".moved"))
    try:
        found = read_tracks(catalogue, classifier, scanned[0], TAXONOMY)
    finally:
        moved.rename(gone)
    assert [problem.path for problem in found.problems] == [gone]
    assert (found.analysed, len(found.paths)) == (24, 21)


def test_a_library_that_was_not_scanned_is_refused(
    catalogue: Catalogue, classifier: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="Run `genrescope scan` on it"):
        read_tracks(catalogue, classifier, tmp_path, TAXONOMY)


def test_a_genre_of_artists_that_are_all_left_out_does_not_spoil_the_rest() -> None:
    tracks = library({"Rock": 40, "Jazz": 40, "Zouk": 20})
    member = np.array(
        [[genre == own[0] for genre in ("Jazz", "Rock", "Zouk")] for own in tracks.genres]
    )
    folds = np.where(member[:, 2], 0, 1 + np.arange(100) % 2)
    moments = measure_moments(tracks.embeddings, track_shares(member), np.ones(100), folds)
    scores = held_out_scores(tracks.embeddings, moments, folds, 0.6)
    found = calibrate(scores, member).probabilities(scores).argmax(axis=1)
    assert (found == member.argmax(axis=1))[folds > 0].mean() > 0.95


def test_the_model_folder_answers_as_what_was_learned(
    scanned: tuple[Path, Path], catalogue: Catalogue, classifier: Classifier, tmp_path: Path
) -> None:
    tracks = read_tracks(catalogue, classifier, scanned[0], TAXONOMY)
    learned = learn(tracks, TAXONOMY, min_tracks=5)
    embedder = classifier.representation.embedder
    assert isinstance(embedder, Embedding)
    write_model(learned, embedder, tmp_path / "model", precision=0.9)
    loaded = Classifier(tmp_path / "model")
    rows = tracks.embeddings.astype(np.float32)
    compressed = np.sign(rows) * np.log1p(np.abs(rows))
    expected = compressed @ learned.discriminant.weight.T + learned.discriminant.bias
    np.testing.assert_allclose(loaded.logits(rows), expected, rtol=1e-3, atol=1e-3)
    right = [(loaded.genres[i],) for i in loaded.logits(rows).argmax(axis=1)]
    assert right == tracks.genres
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| Metal | 11 | 4 |" in card
    assert not set(tracks.paths) & set(card.split())


def test_the_command_writes_a_model_and_the_doubts(
    scanned: tuple[Path, Path], tmp_path: Path
) -> None:
    music, db = scanned

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
        return commands.run("learn", music, "--db", db, *words, cwd=tmp_path, env=env, timeout=300)

    done = run("--out", "model", "--min-tracks", 5, "--doubts", "wrong.csv")
    assert done.returncode == 0, done.stderr
    assert "On held-out artists: micro F1 1.000" in done.stdout
    assert "model: 2 genres, 22 tracks by 8 artists, of 24 in the catalogue" in done.stdout
    assert "Not learned from: 2 without a genre other than placeholders" in done.stdout
    with (tmp_path / "wrong.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [
            "path",
            "tags",
            "answer",
            "probability",
            "tags_probability",
        ]
    again = run("--out", "model", "--min-tracks", 5)
    assert again.returncode == 1
    assert "--force" in again.stderr
    shown = run("--out", "model", "--min-tracks", 5, "--force", "--json")
    found = json.loads(shown.stdout)
    assert found["by_genre"]["Jazz"]["tracks"] == 11
    assert found["doubts"] == []
    refused = run("--out", "other", "--doubts", "wrong.txt")
    assert refused.returncode == 1
    assert ".csv or .json" in refused.stderr
    assert not (tmp_path / "other").exists()
