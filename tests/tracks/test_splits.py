"""No track and, where promised, no artist stands on two sides of a split; the same seed repeats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from genrescope.errors import GenrescopeError
from genrescope.tracks import gtzan as gtzan_reader
from genrescope.tracks.splits import (
    PROTOCOLS,
    SEGMENTS,
    Split,
    get_protocol,
    segment_id,
    share_of,
)
from genrescope.tracks.track import Dataset, SplitLists, Track


def make_dataset(genres: dict[str, list[str | None]]) -> Dataset:
    """Make a dataset from each genre's artists, one a track."""
    return Dataset(
        "invented",
        tuple(
            Track(f"{genre}.{number:03d}", genre, group=artist)
            for genre, artists in sorted(genres.items())
            for number, artist in enumerate(artists)
        ),
    )


@st.composite
def datasets(draw: st.DrawFn, fewest: int) -> Dataset:
    """Two to four genres, whose artists may be unknown, prolific, or at home in two genres."""
    names = draw(st.lists(st.sampled_from("abcd"), min_size=2, max_size=4, unique=True))
    genres = {}
    for name in names:
        own = [f"{name}{number}" for number in range(draw(st.integers(1, 25)))]
        artist = st.sampled_from([*own, "everywhere", None])
        genres[name] = draw(st.lists(artist, min_size=fewest, max_size=40))
    return make_dataset(genres)


def splits_or_assume(protocol: str, dataset: Dataset, seed: int) -> list[Split]:
    try:
        return get_protocol(protocol).splits(dataset, seed)
    except GenrescopeError:  # and nothing else: too few of something, told in words
        assume(False)
        raise


def parts(split: Split) -> tuple[set[str], set[str], set[str]]:
    return set(split.train), set(split.valid), set(split.test)


seeds = st.integers(0, 2**32 - 1)
anything_goes = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.filter_too_much]
)


@anything_goes
@given(dataset=datasets(fewest=8), seed=seeds, protocol=st.sampled_from(sorted(PROTOCOLS)))
def test_a_split_is_whole_and_disjoint_or_says_why_not(
    dataset: Dataset, seed: int, protocol: str
) -> None:
    for split in splits_or_assume(protocol, dataset, seed):
        train, valid, test = parts(split)
        assert train.isdisjoint(valid)
        assert train.isdisjoint(test)
        assert valid.isdisjoint(test)
        numbers = range(SEGMENTS) if get_protocol(protocol).of_segments else [None]
        genre_of = {
            track.id if number is None else segment_id(track.id, number): track.genre
            for track in dataset.tracks
            for number in numbers
        }
        assert train | valid | test == set(genre_of)
        assert train
        assert valid
        assert test
        assert {genre_of[id_] for id_ in train} == set(dataset.genres)
        for part in (split.train, split.valid, split.test):
            assert list(part) == sorted(set(part))


@anything_goes
@given(dataset=datasets(fewest=15), seed=seeds, protocol=st.sampled_from(["grouped", "filtered"]))
def test_no_artist_stands_on_two_sides(dataset: Dataset, seed: int, protocol: str) -> None:
    assert get_protocol(protocol).honest
    artists = {track.id: track.group for track in dataset.tracks if track.group}
    for split in splits_or_assume(protocol, dataset, seed):
        train, valid, test = ({artists.get(id_) for id_ in part} - {None} for part in parts(split))
        assert train.isdisjoint(test)
        assert valid.isdisjoint(test)
        assert train.isdisjoint(valid)


@anything_goes
@given(
    dataset=datasets(fewest=15),
    seed=seeds,
    protocol=st.sampled_from([("kfold", 10), ("grouped", 5)]),
)
def test_folds_test_every_track_once(
    dataset: Dataset, seed: int, protocol: tuple[str, int]
) -> None:
    name, count = protocol
    splits = splits_or_assume(name, dataset, seed)
    assert len(splits) == count
    tested = Counter(id_ for split in splits for id_ in split.test)
    assert tested == Counter(track.id for track in dataset.tracks)


@anything_goes
@given(dataset=datasets(fewest=20), seed=seeds, protocol=st.sampled_from(sorted(PROTOCOLS)))
def test_the_same_seed_gives_the_same_splits(dataset: Dataset, seed: int, protocol: str) -> None:
    first = splits_or_assume(protocol, dataset, seed)
    assert get_protocol(protocol).splits(dataset, seed) == first


def plain(tracks: int = 100, genres: int = 10) -> Dataset:
    return make_dataset(
        {f"g{genre}": [f"{genre}-{n // 4}" for n in range(tracks)] for genre in range(genres)}
    )


@pytest.mark.parametrize("protocol", ["report", "kfold", "grouped"])
def test_another_seed_gives_other_splits(protocol: str) -> None:
    first, second = (get_protocol(protocol).splits(plain(), seed)[0] for seed in (0, 1))
    assert first.test != second.test
    assert first.valid != second.valid


def test_the_filtered_split_is_fixed() -> None:
    assert get_protocol("filtered").splits(plain(), 0) == get_protocol("filtered").splits(
        plain(), 1
    )


def test_report_is_64_16_20_in_every_genre() -> None:
    (split,) = get_protocol("report").splits(plain(), 0)
    assert [len(part) for part in parts(split)] == [640, 160, 200]
    for part, count in zip(parts(split), (64, 16, 20), strict=True):
        assert set(Counter(id_.partition(".")[0] for id_ in part).values()) == {count}


def test_kfold_is_stratified() -> None:
    for split in get_protocol("kfold").splits(plain(), 0):
        assert set(Counter(id_.partition(".")[0] for id_ in split.test).values()) == {10}
        assert [len(part) for part in parts(split)] == [720, 180, 100]


def test_only_protocols_that_keep_artists_apart_are_called_honest() -> None:
    honest = {name for name, protocol in PROTOCOLS.items() if protocol.honest}
    assert honest == {"filtered", "grouped"}
    for name in ("report", "kfold"):
        (split, *_) = get_protocol(name).splits(plain(), 0)
        artists = {track.id: track.group for track in plain().tracks}
        train, _, test = parts(split)
        assert {artists[i] for i in train} & {artists[i] for i in test}  # they do leak


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_one_genre_is_nothing_to_tell_apart(protocol: str) -> None:
    dataset = make_dataset({"a": [f"a{number}" for number in range(40)]})
    with pytest.raises(GenrescopeError, match="nothing to tell apart"):
        get_protocol(protocol).splits(dataset, 0)


@pytest.mark.parametrize(
    ("protocol", "tracks", "needed"), [("report", 4, 5), ("kfold", 9, 10), ("grouped", 4, 5)]
)
def test_too_few_tracks(protocol: str, tracks: int, needed: int) -> None:
    dataset = make_dataset({"few": [f"a{i}" for i in range(tracks)], "many": ["b", "c", "d"] * 9})
    wanted = rf"Genre few has {tracks} tracks, and {needed} are needed .* leave the genre out"
    with pytest.raises(GenrescopeError, match=wanted):
        get_protocol(protocol).splits(dataset, 0)


def test_too_few_tracks_for_validation_are_not_called_all_there_are() -> None:
    dataset = make_dataset({"few": [None] * 5, "many": [None] * 20})
    with pytest.raises(GenrescopeError, match="few has 4 tracks left beside the test, and 5 are"):
        get_protocol("report").splits(dataset, 0)


@pytest.mark.parametrize("protocol", ["grouped", "filtered"])
def test_unknown_artists(protocol: str) -> None:
    dataset = make_dataset({"a": [None] * 20, "b": [None] * 20})
    with pytest.raises(GenrescopeError, match=r"No track's artist is known.*artist column"):
        get_protocol(protocol).splits(dataset, 0)


@pytest.mark.parametrize("protocol", ["grouped", "filtered"])
@pytest.mark.parametrize("artists", [1, 2])
def test_too_few_artists(protocol: str, artists: int) -> None:
    few = [f"a{number % artists}" for number in range(20)]
    many = [f"b{number}" for number in range(20)]
    with pytest.raises(GenrescopeError, match=r"Genre a has too few artists.*`report`"):
        get_protocol(protocol).splits(make_dataset({"a": few, "b": many}), 0)
    with pytest.raises(GenrescopeError, match=r"too few artists"):
        get_protocol(protocol).splits(make_dataset({"a": few, "b": ["b"] * 20}), 0)


def test_a_track_of_unknown_artist_is_an_artist_of_its_own() -> None:
    dataset = make_dataset({"a": ["x"] * 3 + [None] * 17, "b": ["y"] * 3 + [None] * 17})
    splits = get_protocol("grouped").splits(dataset, 0)
    assert all(len(split.test) == 8 for split in splits)


def test_published_lists_are_used_as_they_are() -> None:
    lists = SplitLists(train=("b", "a"), valid=("c",), test=("e", "d"))
    tracks = tuple(Track(id_, "pop") for id_ in "abcde")
    dataset = Dataset("listed", tracks, lists={"filtered": lists})
    assert get_protocol("filtered").splits(dataset, 3) == [Split(("a", "b"), ("c",), ("d", "e"))]


def test_an_unknown_protocol_is_told_what_there_is() -> None:
    with pytest.raises(GenrescopeError, match=r"no protocol 'random'; .*filtered.*report"):
        get_protocol("random")


def test_the_real_filtered_lists(gtzan: Path) -> None:
    dataset = gtzan_reader.read(gtzan)
    (split,) = get_protocol("filtered").splits(dataset, 0)
    assert [len(part) for part in parts(split)] == [443, 197, 290]
    for name, part in zip(("train", "valid", "test"), parts(split), strict=True):
        published = (gtzan / "splits" / f"{name}_filtered.txt").read_text().split()
        assert part == {Path(line).stem for line in published}


def test_the_real_artists_are_kept_apart(gtzan: Path) -> None:
    dataset = gtzan_reader.read(gtzan)
    artists = {track.id: track.group or track.id for track in dataset.tracks}
    for seed in range(3):
        splits = get_protocol("grouped").splits(dataset, seed)
        assert sorted(id_ for split in splits for id_ in split.test) == sorted(artists)
        for split in splits:
            train, valid, test = ({artists[id_] for id_ in part} for part in parts(split))
            assert not (train & valid | train & test | valid & test)
            assert {id_.partition(".")[0] for id_ in split.test} == set(dataset.genres)


def test_leaky_segments_leak_and_say_so() -> None:
    dataset = make_dataset({"a": ["x"] * 20, "b": ["y"] * 20})
    protocol = get_protocol("leaky-segments")
    (split,) = protocol.splits(dataset, 0)
    tracks = [{id_.rpartition("#")[0] for id_ in part} for part in parts(split)]
    assert len(tracks[0] & tracks[2]) > 30  # of 40 tracks
    assert not protocol.honest
    assert "LEAKS" in protocol.about


@anything_goes
@given(dataset=datasets(fewest=15), seed=seeds, share=st.floats(0.01, 1))
def test_a_share_is_of_every_genre_and_spares_the_test(
    dataset: Dataset, seed: int, share: float
) -> None:
    (split,) = splits_or_assume("report", dataset, 0)
    genre_of = {track.id: track.genre for track in dataset.tracks}
    some = share_of(split, genre_of, share, seed)
    assert some.test == split.test
    assert some == share_of(split, genre_of, share, seed)
    for whole, part in ((split.train, some.train), (split.valid, some.valid)):
        assert set(part) <= set(whole)
        before = Counter(genre_of[id_] for id_ in whole)
        after = Counter(genre_of[id_] for id_ in part)
        assert after == {genre: max(1, round(share * n)) for genre, n in before.items()}
