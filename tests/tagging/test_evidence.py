"""Albums and artists by tags and folders, and what their tracks say together."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrescope.tagging.albums import GroupCollector, Groups, album_key
from genrescope.tagging.evidence import Evidence, Weights, weigh
from genrescope.tagging.formats import TrackNames
from genrescope.tagging.policy import AlbumVote

ROCK, JAZZ = [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]
UNSURE = [0.45, 0.5, 0.05]


def grouped(*tracks: tuple[str, TrackNames]) -> Groups:
    collector = GroupCollector()
    for folder, names in tracks:
        collector.add(names, PurePosixPath(folder))
    return collector.groups()


def names(artist: str = "", album: str = "", album_artist: str = "") -> TrackNames:
    return TrackNames("", artist, album, album_artist)


def weighed(
    shares: list[list[float]],
    albums: list[int],
    *,
    artists: list[int] | None = None,
    other: list[bool] | None = None,
    tags: list[list[float]] | None = None,
    vote: AlbumVote = AlbumVote.AGREE,
) -> Evidence:
    count = len(shares)
    by = np.array(artists or [count + album for album in albums])
    groups = Groups(np.array(albums), np.unique(by, return_inverse=True)[1], np.zeros(count, bool))
    return weigh(
        np.array(shares),
        np.array(other or [False] * count),
        np.array(tags or np.zeros((count, len(shares[0])))),
        groups,
        vote,
    )


# Albums and artists.


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("A/X/CD1", names()), ("A/X/CD 2", names()), True),
        (("A/X", names()), ("A/X/Disc 2", names()), True),
        (("A/X (Disc 1)", names()), ("A/X (Disc 2)", names()), True),
        (("A/X", names()), ("A/Y", names()), False),
        (("A/X/live", names()), ("A/X", names()), False),
        (("", names()), ("", names()), False),  # the library's own folder is no album
        (("a", names("", "X", "ABBA")), ("b", names("", "x ", "Abba")), True),
        (("a", names("", "X", "A")), ("a", names("", "X", "B")), False),
        (("a", names("", "Greatest Hits")), ("b", names("", "Greatest Hits")), False),
        (("a", names("", "X CD1")), ("a", names("", "X [Disc 2]")), True),
        (("a", names("", "Disc 1")), ("a", names("", "Disc 2")), False),
        (("a", names("", "Unknown Album")), ("b", names("", "Unknown Album")), False),
        (("", names("", "X", "Various Artists")), ("", names("", "X", "VA")), True),
    ],
)
def test_albums_are_recognised(
    first: tuple[str, TrackNames], second: tuple[str, TrackNames], same: bool
) -> None:
    one, two = (album_key(tags, PurePosixPath(folder)) for folder, tags in (first, second))
    assert (one is not None and one == two) == same
    found = grouped(first, second).albums
    assert (found[0] == found[1]) == same


def test_an_album_of_many_artists_is_a_compilation_and_its_tracks_are_alone() -> None:
    various = [("Hits", names(artist=f"Artist {i % 3}", album="Hits")) for i in range(6)]
    own = [("X", names(artist=name, album="X")) for name in ("A", "A feat. B", "a", "C")]
    elsewhere = [("Y", names(artist="Artist 0", album="Y")), ("Z", names(artist="A", album="Z"))]
    found = grouped(*various, *own, *elsewhere)
    assert found.compilation.tolist() == [True] * 6 + [False] * 6
    assert len(set(found.albums.tolist())) == 6 + 3
    assert len(set(found.albums[6:10].tolist())) == 1
    assert found.artists[0] == found.artists[3] == found.artists[10]
    assert set(found.artists[6:10].tolist()) == {found.artists[11]}  # also of C's track on it


def test_tracks_without_an_artist_have_none_in_common() -> None:
    found = grouped(("a", names()), ("a", names()), ("b", names()), ("", names()), ("", names()))
    assert found.albums[0] == found.albums[1]
    assert found.artists[0] == found.artists[1]
    assert len(set(found.artists[1:].tolist())) == 4
    assert not found.compilation.any()
    assert grouped().albums.shape == (0,)


# Evidence.


def test_a_track_alone_is_what_its_audio_says() -> None:
    for vote in AlbumVote:
        found = weighed([ROCK, JAZZ], [0, 1], vote=vote)
        assert found.posterior.tolist() == [ROCK, JAZZ]
        assert found.album_tracks.tolist() == found.artist_tracks.tolist() == [0, 0]
        assert not found.album.any()


def test_an_album_whose_tracks_agree_gets_one_genre() -> None:
    found = weighed([ROCK] * 4 + [UNSURE], [0] * 5)
    assert found.agree.all()
    assert found.posterior.argmax(axis=1).tolist() == [0] * 5
    assert np.ptp(found.posterior, axis=0).max() < 1e-12
    assert found.posterior[0, 0] > 0.7
    assert found.album[4].argmax() == 0
    assert found.album_tracks.tolist() == [4] * 5
    alone = weighed([ROCK] * 4 + [UNSURE], [0] * 5, vote=AlbumVote.OFF)
    assert alone.posterior[4].tolist() == UNSURE


def test_an_album_whose_tracks_differ_is_left_to_each_of_them_unless_it_votes() -> None:
    tracks = [[0.9, 0.05, 0.05]] * 4 + [[0.03, 0.9, 0.07]] * 3
    found = weighed(tracks, [0] * 7)
    assert not found.agree.any()
    assert found.posterior.tolist() == tracks
    voted = weighed(tracks, [0] * 7, vote=AlbumVote.VOTE).posterior
    assert set(voted.argmax(axis=1).tolist()) == {0}


def test_many_tracks_count_as_a_few() -> None:
    two, many = (weighed([UNSURE] * n, [0] * n, vote=AlbumVote.VOTE) for n in (2, 1000))
    assert UNSURE[1] < two.posterior[0, 1] < many.posterior[0, 1] < 0.61


def test_what_is_other_has_no_voice_and_gets_none() -> None:
    found = weighed([JAZZ] * 3 + [ROCK], [0] * 4, other=[True, True, True, False])
    assert found.posterior.tolist() == [JAZZ] * 3 + [ROCK]
    assert found.album_tracks.tolist() == [1, 1, 1, 0]
    both = weighed([JAZZ] * 9 + [ROCK, UNSURE], [0] * 11, other=[True] * 9 + [False] * 2)
    assert not both.agree.any()  # most of it is none of the genres


def test_the_artist_s_other_tracks_count_less_than_the_track_itself() -> None:
    found = weighed([ROCK, JAZZ, JAZZ, UNSURE], [0, 1, 2, 3], artists=[0, 0, 0, 0])
    assert found.artist_tracks.tolist() == [3] * 4
    assert found.posterior.argmax(axis=1).tolist() == [0, 1, 1, 1]
    assert found.posterior[0, 0] < ROCK[0]
    assert found.posterior[3, 1] > UNSURE[1]
    assert found.artist[3].argmax() == 1


def test_tags_of_the_album_are_evidence_for_a_file_without() -> None:
    tags = [[1.0, 0.0, 0.0]] * 3 + [[0.0] * 3]
    found = weighed([UNSURE] * 4, [0] * 4, tags=tags)
    assert found.posterior.argmax(axis=1).tolist() == [1, 1, 1, 0]  # those with tags are compared
    off = weighed([UNSURE] * 4, [0] * 4, tags=tags, vote=AlbumVote.OFF)
    assert off.posterior[3].tolist() == UNSURE
    by_artist = weighed([UNSURE] * 4, [0, 0, 0, 1], artists=[0] * 4, tags=tags)
    assert by_artist.posterior[3].argmax() == 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_posteriors_are_probabilities_and_do_not_depend_on_the_order(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    count, genres = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 6))
    shares = rng.dirichlet(np.full(genres, 0.3), count)
    albums = rng.integers(0, data.draw(st.integers(1, 8)), count)
    artists = albums // 2
    other, tags = rng.random(count) < 0.2, np.eye(genres)[rng.integers(0, genres, count)]
    tags[rng.random(count) < 0.5] = 0
    vote = data.draw(st.sampled_from(AlbumVote))

    def made(order: np.ndarray) -> Evidence:
        _, on = np.unique(albums[order], return_inverse=True)
        _, by = np.unique(artists[order], return_inverse=True)
        groups = Groups(on, by, np.zeros(count, bool))
        return weigh(shares[order], other[order], tags[order], groups, vote)

    found, order = made(np.arange(count)), rng.permutation(count)
    again = made(order)
    assert np.allclose(found.posterior.sum(axis=1), 1)
    assert (found.posterior >= 0).all()
    assert np.allclose(again.posterior, found.posterior[order])
    assert np.allclose(found.posterior[other], shares[other])
    sizes = np.bincount(albums)[albums] - 1
    assert (found.album_tracks <= sizes).all()
    if vote == AlbumVote.AGREE:
        lone = (found.album_tracks == 0) & (found.artist_tracks == 0) & tags.any(axis=1)
        assert np.allclose(found.posterior[lone], shares[lone])


def test_the_weight_of_tracks_has_a_limit() -> None:
    counts = np.array([0, 1, 2, 10**9])
    found = Weights(correlation=0.25).of_tracks(counts)
    assert found == pytest.approx([0, 1, 1.6, 4])
    assert Weights(correlation=0).of_tracks(counts) == pytest.approx(counts)
