from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrescope.errors import GenrescopeError
from genrescope.tagging.policy import Choice, Existing, Policy, choose
from genrescope.taxonomy import Taxonomy, load_taxonomy

DEFAULT = load_taxonomy()
SURE = {"metal": 0.83, "rock": 0.1, "pop": 0.07}
TWO = {"rock": 0.45, "pop": 0.3, "jazz": 0.25}


@pytest.fixture(scope="module")
def broad(tmp_path_factory: pytest.TempPathFactory) -> Taxonomy:
    path = tmp_path_factory.mktemp("broad") / "broad.toml"
    path.write_text('extends = "default"\nwhitelist = ["Rock", "Metal", "Pop"]\n')
    return load_taxonomy(path)


def genres(
    old: tuple[str, ...],
    probabilities: dict[str, float],
    policy: Policy,
    taxonomy: Taxonomy = DEFAULT,
) -> tuple[str, ...] | None:
    return choose(old, probabilities, taxonomy, policy).genres


def test_a_file_without_a_genre_gets_the_one_that_is_sure() -> None:
    assert choose((), SURE, DEFAULT, Policy()) == Choice(("Metal",), 0.83, "Metal 0.83")
    assert genres(("", "  "), SURE, Policy()) == ("Metal",)


def test_genres_are_added_until_they_are_sure_together() -> None:
    chosen = choose((), TWO, DEFAULT, Policy())
    assert chosen.genres == ("Rock", "Pop")
    assert chosen.confidence == pytest.approx(0.75)
    assert chosen.reason == "Rock 0.45, Pop 0.30"
    assert genres((), TWO, Policy(min_confidence=0.4)) == ("Rock",)
    assert genres((), TWO, Policy(min_confidence=0)) == ("Rock",)
    assert genres((), TWO, Policy(min_confidence=1, max_genres=3)) == ("Rock", "Pop", "Jazz")


def test_rounding_makes_none_unsure() -> None:
    assert genres((), {"rock": 0.4, "pop": 0.2, "jazz": 0.1}, Policy(min_confidence=0.6)) == (
        "Rock",
        "Pop",
    )
    tenths = {"rock": 0.1, "pop": 0.1, "jazz": 0.1}
    assert sum([0.1, 0.1, 0.1]) != 0.3
    assert len(genres((), tenths, Policy(min_confidence=0.3, max_genres=3)) or ()) == 3


@pytest.mark.parametrize(
    ("probabilities", "policy", "reason"),
    [
        (
            {"rock": 0.41, "pop": 0.22, "jazz": 0.2},
            Policy(),
            "low confidence: Rock 0.41, Pop 0.22",
        ),
        ({"rock": 0.6, "pop": 0.25, "jazz": 0.15}, Policy(), "low confidence: Rock 0.60"),
        (TWO, Policy(max_genres=1), "low confidence: Rock 0.45"),
        ({}, Policy(), "no genre on the whitelist"),
    ],
)
def test_a_file_is_left_alone_if_its_music_is_unclear(
    probabilities: dict[str, float], policy: Policy, reason: str
) -> None:
    chosen = choose((), probabilities, DEFAULT, policy)
    assert (chosen.genres, chosen.reason) == (None, reason)


def test_a_file_that_has_a_genre_is_left_alone() -> None:
    assert choose(("Polka",), SURE, DEFAULT, Policy()) == Choice(None, 0.83, "it has a genre")


def test_replace_overwrites() -> None:
    policy = Policy(existing=Existing.REPLACE)
    assert genres(("Polka", "Pop"), SURE, policy) == ("Metal",)
    assert genres(("metal",), SURE, policy) == ("Metal",)
    assert choose(("Metal",), SURE, DEFAULT, policy) == Choice(None, 0.83, "unchanged")
    assert genres(("Polka",), {"rock": 0.5, "pop": 0.2, "jazz": 0.2}, policy) is None


def test_keep_adds_what_is_not_said_yet() -> None:
    policy = Policy(existing=Existing.ADD)
    assert genres(("my Polka",), SURE, policy) == ("my Polka", "Metal")
    assert genres(("Polka", "Waltz"), SURE, policy) is None
    assert genres(("Death Metal",), SURE, policy) is None
    assert genres(("heavy-metal",), SURE, policy) is None
    assert genres(("(9)",), SURE, policy) is None
    assert genres(("Polka",), TWO, policy) == ("Polka", "Rock")
    assert genres(("Rock",), {"metal": 0.8}, policy) == ("Rock", "Metal")
    assert genres(("Polka", "Polka", "x"), TWO, Policy(Existing.ADD, max_genres=5)) == (
        *("Polka", "Polka", "x"),
        *("Rock", "Pop"),
    )


def test_existing_genres_are_mapped_only_if_asked(broad: Taxonomy) -> None:
    old = ("Thrash Metal", "death metal", "Polka")
    keep = Policy(existing=Existing.ADD, max_genres=3)
    assert genres(old, SURE, keep, broad) is None
    mapped = Policy(existing=Existing.ADD, max_genres=3, map_existing=True)
    assert genres(old, SURE, mapped, broad) == ("Metal", "Polka")
    assert genres(old, {"pop": 0.9}, mapped, broad) == ("Metal", "Polka", "Pop")


def test_genres_outside_the_whitelist_lend_nothing(broad: Taxonomy) -> None:
    shares = {"jazz": 0.5, "metal": 0.3, "heavy metal": 0.2}
    assert choose((), shares, broad, Policy()).reason == "low confidence: Metal 0.50"
    assert genres((), shares, Policy(min_confidence=0.5), broad) == ("Metal",)
    none = choose((), {"jazz": 1.0}, broad, Policy())
    assert (none.genres, none.reason) == (None, "no genre on the whitelist")


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: Policy(existing="overwrite"), "skip, add, replace"),  # type: ignore[arg-type]
        (lambda: Policy(min_confidence=70), "between 0 and 1, not 70"),
        (lambda: Policy(min_confidence=float("nan")), "between 0 and 1, not nan"),
        (lambda: Policy(max_genres=0), "at least 1, not 0"),
    ],
)
def test_what_no_policy_can_be_is_refused(make: Callable[[], Policy], shown: str) -> None:
    with pytest.raises(GenrescopeError, match=shown):
        make()


SOME = [*list(DEFAULT.spellings.values())[::9], "rock", "heavy metal", "(17)", "my own", "My-Own"]
NAMES = st.one_of(st.sampled_from(SOME), st.text(max_size=4))
OLD = st.lists(NAMES, max_size=5).map(tuple)
SHARES = st.lists(st.tuples(NAMES, st.floats(0.001, 1)), min_size=1, max_size=6).map(
    lambda pairs: {name: share / sum(of for _, of in pairs) for name, share in pairs}
)
POLICIES = st.builds(
    Policy,
    existing=st.sampled_from(Existing),
    min_confidence=st.floats(0, 1),
    max_genres=st.integers(1, 5),
    map_existing=st.booleans(),
)
TAXONOMIES = st.sampled_from(
    [
        DEFAULT,
        Taxonomy(),
        Taxonomy(
            {"rock": "Rock", "metal": "Metal", "electronic": "Electronic", "jazz": "Jazz"},
            DEFAULT.spellings,
            DEFAULT.aliases,
            DEFAULT.parents,
        ),
    ]
)


def checked(test: Callable[..., None]) -> Callable[..., None]:
    strategies = given(old=OLD, shares=SHARES, taxonomy=TAXONOMIES, policy=POLICIES)
    return settings(max_examples=500, deadline=None)(strategies(test))


@checked
def test_the_own_choice_is_left_alone(
    old: tuple[str, ...], shares: dict[str, float], taxonomy: Taxonomy, policy: Policy
) -> None:
    chosen = choose(old, shares, taxonomy, policy)
    if chosen.genres is not None:
        assert choose(chosen.genres, shares, taxonomy, policy).genres is None
        assert chosen.genres != old


@checked
def test_there_are_never_too_many(
    old: tuple[str, ...], shares: dict[str, float], taxonomy: Taxonomy, policy: Policy
) -> None:
    chosen = choose(old, shares, taxonomy, policy)
    if chosen.genres is not None:
        assert 1 <= len(chosen.genres) <= max(len(old), policy.max_genres)
        assert chosen.confidence >= policy.min_confidence - 1e-6
    assert 0 <= chosen.confidence <= 1
    assert chosen.reason


@checked
def test_keep_never_drops_a_genre(
    old: tuple[str, ...], shares: dict[str, float], taxonomy: Taxonomy, policy: Policy
) -> None:
    chosen = choose(old, shares, taxonomy, policy)
    if chosen.genres is None or policy.existing != Existing.ADD:
        return
    for genre in filter(str.strip, old):
        renamed = taxonomy.canonical(genre) or genre
        assert (renamed if policy.map_existing else genre) in chosen.genres


@checked
def test_no_genre_is_said_twice(
    old: tuple[str, ...], shares: dict[str, float], taxonomy: Taxonomy, policy: Policy
) -> None:
    chosen = choose(old, shares, taxonomy, policy)
    if chosen.genres is None:
        return
    kept = policy.existing == Existing.ADD and not policy.map_existing
    added = chosen.genres[len([genre for genre in old if genre.strip()]) if kept else 0 :]
    canonical = [taxonomy.canonical(genre) for genre in added]
    named = [genre for genre in canonical if genre is not None]
    assert len(set(named)) == len(named)
    if kept:
        assert not {taxonomy.canonical(genre) for genre in old} & set(named)
