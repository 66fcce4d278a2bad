from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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


def test_the_first_genre_must_be_sure_by_itself_and_a_second_one_likely_enough() -> None:
    assert genres((), TWO, Policy()) is None  # 0.45 + 0.3 is more than 0.7
    chosen = choose((), TWO, DEFAULT, Policy(min_confidence=0.4))
    assert chosen == Choice(("Rock", "Pop"), 0.45, "Rock 0.45, Pop 0.30")
    assert genres((), TWO, Policy(min_confidence=0.4, min_second=0.35)) == ("Rock",)
    assert genres((), TWO, Policy(min_confidence=0, max_genres=3)) == ("Rock", "Pop", "Jazz")
    assert genres((), TWO, Policy(min_confidence=0.4, max_genres=1)) == ("Rock",)
    assert genres((), {"rock": 0.7, "pop": 0.28}, Policy()) == ("Rock", "Pop")


def test_rounding_makes_none_unsure() -> None:
    almost = {"rock": 0.7 - 1e-8, "pop": 0.3 - 1e-8}
    assert genres((), almost, Policy(min_second=0.3)) == ("Rock", "Pop")
    assert genres((), {"rock": 0.699, "pop": 0.3}, Policy()) is None


@pytest.mark.parametrize("existing", Existing)
def test_an_unsure_answer_is_never_written(existing: Existing) -> None:
    policy = Policy(existing, min_confidence=0.0)
    chosen = choose(("Polka",), {"rock": 0.6, "pop": 0.4}, DEFAULT, policy, unsure_below=0.61)
    assert chosen.genres is None
    assert chosen.proposed == ()
    sure = choose((), {"rock": 0.61, "pop": 0.39}, DEFAULT, policy, unsure_below=0.61)
    assert sure.genres == ("Rock", "Pop")


@pytest.mark.parametrize(
    ("probabilities", "policy", "reason"),
    [
        (
            {"rock": 0.41, "pop": 0.22, "jazz": 0.2},
            Policy(),
            "low confidence: Rock 0.41",
        ),
        ({"rock": 0.6, "pop": 0.25, "jazz": 0.15}, Policy(), "low confidence: Rock 0.60"),
        (TWO, Policy(max_genres=1), "low confidence: Rock 0.45"),
        ({"rock": 0.69, "pop": 0.31}, Policy(), "low confidence: Rock 0.69"),
        ({}, Policy(), "no genre"),
    ],
)
def test_a_file_is_left_alone_if_its_music_is_unclear(
    probabilities: dict[str, float], policy: Policy, reason: str
) -> None:
    chosen = choose((), probabilities, DEFAULT, policy)
    assert (chosen.genres, chosen.reason) == (None, reason)


def test_a_file_that_has_a_genre_is_left_alone() -> None:
    assert choose(("Polka",), SURE, DEFAULT, Policy()) == Choice(None, 0.83, "it has a genre")


@pytest.mark.parametrize("empty", [("Other",), ("(12)", "Misc"), ("Unknown", "?"), ("2001",)])
@pytest.mark.parametrize("existing", Existing)
def test_placeholders_count_as_no_genre(empty: tuple[str, ...], existing: Existing) -> None:
    assert genres(empty, SURE, Policy(existing)) == ("Metal",)
    assert genres((*empty, "Polka"), SURE, Policy()) is None


@pytest.mark.parametrize(
    ("old", "proposed"),
    [
        (("Jazz",), ("Metal",)),  # which the model knows, and did not say
        (("Bebop",), ("Metal",)),
        (("Metal",), ()),
        (("Death Metal",), ()),
        (("Jazz", "Metal"), ()),
        (("Polka",), ()),  # for which the model has no name
        (("Jazz", "Polka"), ()),
    ],
)
def test_a_sure_answer_that_contradicts_the_tag_is_to_be_reviewed(
    old: tuple[str, ...], proposed: tuple[str, ...]
) -> None:
    model = {"metal": 0.83, "jazz": 0.17}
    chosen = choose(old, model, DEFAULT, Policy())
    assert (chosen.genres, chosen.proposed) == (None, proposed)
    assert chosen.reason == (
        f"review: sounds like Metal 0.83, but it is tagged {', '.join(old)}"
        if proposed
        else "it has a genre"
    )
    for unclear in (
        choose(old, model, DEFAULT, Policy(min_confidence=0.9)),
        choose(old, model, DEFAULT, Policy(), other=True),
        choose(old, model, DEFAULT, Policy(), unsure_below=0.84),
    ):
        assert (unclear.proposed, unclear.reason) == ((), "it has a genre")


def test_an_answer_that_contradicts_the_tags_of_the_album_is_to_be_reviewed() -> None:
    chosen = choose((), SURE, DEFAULT, Policy(), around=("Folk",))
    assert (chosen.genres, chosen.proposed) == (None, ("Metal",))
    assert chosen.reason == "review: sounds like Metal 0.83, but its album is tagged Folk"
    assert choose((), SURE, DEFAULT, Policy(), around=("Folk", "Thrash Metal")).genres == ("Metal",)
    replaced = choose(("Pop",), SURE, DEFAULT, Policy(Existing.REPLACE), around=("Folk",))
    assert replaced.genres == ("Metal",)


def test_the_album_of_a_genre_that_a_short_list_does_not_name_contradicts_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.toml").write_text('whitelist = ["Jazz", "Rock"]')
    mine = load_taxonomy(tmp_path / "mine.toml")
    assert choose((), {"jazz": 0.9}, mine, Policy(), around=("Bebop",)).genres == ("Jazz",)
    assert choose((), {"rock": 0.9}, mine, Policy(), around=("Bebop",)).proposed == ("Rock",)


def test_the_reason_names_what_is_kept_and_what_is_sure_only_by_a_list(tmp_path: Path) -> None:
    kept = choose(("Baroque", "Pop"), {"classical": 0.9}, DEFAULT, Policy(Existing.REPLACE))
    assert kept.reason == "Classical 0.90; kept Baroque"
    (tmp_path / "mine.toml").write_text('whitelist = ["Rock"]')
    mine = load_taxonomy(tmp_path / "mine.toml")
    low = choose((), {"rock": 0.48, "pop": 0.3, "jazz": 0.22}, mine, Policy())
    assert low.reason == "low confidence: Rock 0.48, 1.00 of what is on your list"


def test_replace_overwrites() -> None:
    policy = Policy(existing=Existing.REPLACE)
    assert genres(("Polka", "Pop"), SURE, policy) == ("Metal",)
    assert genres(("metal",), SURE, policy) == ("Metal",)
    assert choose(("Metal",), SURE, DEFAULT, policy) == Choice(None, 0.83, "unchanged")
    assert genres(("Polka",), {"rock": 0.5, "pop": 0.2, "jazz": 0.2}, policy) is None


@pytest.mark.parametrize(
    ("old", "predicted", "new"),
    [
        (("Baroque",), {"classical": 0.9}, None),
        (("Baroque", "Pop"), {"classical": 0.9}, ("Baroque",)),
        (("Baroque", "Opera", "Pop"), {"classical": 0.9}, ("Baroque", "Opera")),
        (("Thrash Metal",), {"metal": 0.9}, None),
        (("Heavy Metal",), {"metal": 0.9}, None),
        (("Classical", "Romantic"), {"classical": 0.9}, None),
        (("Classical", "Romantic", "Pop"), {"classical": 0.9}, ("Classical", "Romantic")),
        (("Baroque",), {"jazz": 0.7, "classical": 0.3}, ("Jazz", "Baroque")),
        (("Baroque", "Opera"), {"jazz": 0.7, "classical": 0.3}, ("Jazz",)),
        (("Baroque",), {"metal": 0.9}, ("Metal",)),
        (("Rock",), {"metal": 0.9}, ("Metal",)),
    ],
)
def test_a_genre_is_not_replaced_by_one_that_contains_it(
    old: tuple[str, ...], predicted: dict[str, float], new: tuple[str, ...] | None
) -> None:
    assert genres(old, predicted, Policy(Existing.REPLACE)) == new


def test_keep_adds_what_is_not_said_yet() -> None:
    policy = Policy(existing=Existing.ADD)
    assert genres(("my Polka",), SURE, policy) == ("my Polka", "Metal")
    assert genres(("Polka", "Waltz"), SURE, policy) is None
    assert genres(("Death Metal",), SURE, policy) is None
    assert genres(("heavy-metal",), SURE, policy) is None
    assert genres(("(9)",), SURE, policy) is None
    two = {"rock": 0.7, "pop": 0.3}
    assert genres(("Polka",), two, policy) == ("Polka", "Rock")
    assert genres(("Rock",), {"metal": 0.8}, policy) == ("Rock", "Metal")
    assert genres(("Rock",), two, policy) is None  # a second genre stands beside the first only
    assert genres(("Polka", "Polka", "x"), two, Policy(Existing.ADD, max_genres=5)) == (
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


def test_a_whitelist_renormalises_over_what_is_on_it(broad: Taxonomy) -> None:
    shares = {"heavy metal": 0.55, "jazz": 0.3, "pop": 0.15}
    chosen = choose((), shares, broad, Policy())
    assert chosen.genres == ("Metal",)
    assert chosen.confidence == pytest.approx(0.55 / 0.7)
    assert choose((), shares, broad, Policy(min_confidence=0.8)).genres is None


def test_a_model_s_placeholder_is_not_written() -> None:
    chosen = choose((), {"misc": 0.9, "rock": 0.1}, DEFAULT, Policy())
    assert chosen == Choice(None, None, "Misc is not on your list")


def test_what_is_not_on_the_whitelist_is_not_taken_for_what_is(broad: Taxonomy) -> None:
    disco = choose((), {"disco": 0.82, "pop": 0.08, "jazz": 0.1}, broad, Policy())
    assert (disco.genres, disco.reason) == (None, "Disco is not on your list")
    assert choose((), {"jazz": 1.0}, broad, Policy()).reason == "Jazz is not on your list"
    poor = {"rock": 0.34, "jazz": 0.33, "blues": 0.33}  # Rock 1.00 of what is on the list
    assert choose((), poor, broad, Policy()).genres is None
    assert choose((), poor, broad, Policy(), unsure_below=0.3).genres is None
    assert choose((), {"rock": 0.6, "jazz": 0.4}, broad, Policy(), unsure_below=0.62).genres is None


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: Policy(existing="overwrite"), "skip, add, replace"),  # type: ignore[arg-type]
        (lambda: Policy(min_confidence=70), "between 0 and 1, not 70"),
        (lambda: Policy(min_confidence=float("nan")), "between 0 and 1, not nan"),
        (lambda: Policy(max_genres=0), "at least 1, not 0"),
        (lambda: Policy(min_second=-0.1), "between 0 and 1, not -0.1"),
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
    min_second=st.floats(0, 1),
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
    assert chosen.confidence is None or 0 <= chosen.confidence <= 1
    assert chosen.reason


@checked
def test_keep_never_drops_a_genre(
    old: tuple[str, ...], shares: dict[str, float], taxonomy: Taxonomy, policy: Policy
) -> None:
    chosen = choose(old, shares, taxonomy, policy)
    if chosen.genres is None or policy.existing != Existing.ADD:
        return
    for genre in old:
        if not genre.strip() or taxonomy.is_placeholder(genre):
            continue
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
    said = [genre for genre in old if genre.strip() and not taxonomy.is_placeholder(genre)]
    if policy.existing == Existing.REPLACE and any(genre in said for genre in chosen.genres):
        return  # the file's own, which may be several spellings of one
    added = chosen.genres[len(said) if kept else 0 :]
    canonical = [taxonomy.canonical(genre) for genre in added]
    named = [genre for genre in canonical if genre is not None]
    assert len(set(named)) == len(named)
    if kept:
        assert not {taxonomy.canonical(genre) for genre in said} & set(named)


@checked
def test_what_is_written_was_likely_before_a_whitelist_left_genres_out(
    old: tuple[str, ...], shares: dict[str, float], taxonomy: Taxonomy, policy: Policy
) -> None:
    chosen = choose(old, shares, taxonomy, policy, unsure_below=0.4)
    named = {name: p for name, p in shares.items() if not taxonomy.is_placeholder(name)}
    mapped = taxonomy.map_probabilities(named)
    if chosen.genres is None and not chosen.proposed:
        return
    first = max(mapped.values())
    assert first >= max(0.4, min(0.5, policy.min_confidence)) - 1e-6
    assert taxonomy.canonical(max(shares, key=lambda name: shares[name])) is not None
    total = sum(shares.values())
    assert chosen.confidence == pytest.approx(min(first / sum(mapped.values()) * total, 1))


@checked
def test_no_genre_is_replaced_by_one_that_contains_it(
    old: tuple[str, ...], shares: dict[str, float], taxonomy: Taxonomy, policy: Policy
) -> None:
    policy = replace(policy, existing=Existing.REPLACE, map_existing=False)
    chosen = choose(old, shares, taxonomy, policy).genres or ()
    for genre in old:
        if genre.strip() and not taxonomy.is_placeholder(genre) and genre not in chosen:
            assert not [
                new
                for new in chosen
                if taxonomy.is_within(genre, new) and taxonomy.key(genre) != taxonomy.key(new)
            ]
