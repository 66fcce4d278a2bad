"""Tracks and data sets, without files."""

from genrescope.datasets.track import Dataset, Track


def test_tracks_of_one_artist_have_one_number() -> None:
    artists = {"a": "abba", "b": None, "c": "chic", "d": "abba", "e": None}
    dataset = Dataset("mine", tuple(Track(i, "pop", group=who) for i, who in artists.items()))
    assert dataset.group_numbers(list("abcde")) == (0, 1, 2, 0, 3)
    assert dataset.group_numbers(list("eda")) == (0, 1, 1)
    # An unknown artist is no other's, whatever the tracks are called.
    assert len({track.unit for track in dataset.tracks}) == 4
