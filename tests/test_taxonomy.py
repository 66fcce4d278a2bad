import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.id3 import TCON

import genrescope
from genrescope.errors import InputError
from genrescope.taxonomy import Taxonomy, load_taxonomy

DEFAULT = load_taxonomy()
# Names of every kind: known ones, numbers, brackets, accents, and anything at all.
KNOWN = [*DEFAULT.spellings.values(), *DEFAULT.aliases, *TCON.GENRES]
NAMES = st.one_of(
    st.sampled_from(KNOWN),
    st.text(max_size=12),
    st.text("()0123456789RXC &-é\u0301İß", max_size=9),
    st.integers(0, 300).map(lambda number: f"({number})"),
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(toml: str, **texts: str) -> Path:
        (tmp_path / "my.toml").write_text(toml, encoding="utf-8")
        for name, text in texts.items():
            (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
        return tmp_path / "my.toml"

    return write


MINE = """
whitelist = ["Metal", "Rock", "Hip-Hop"]
[aliases]
"heavy metal" = "Metal"
rap = "hip hop"
[tree]
Rock = ["Indie Rock", "Punk"]
Punk = ["Hardcore Punk"]
Metal = ["Death Metal"]
Jazz = ["Bebop"]
"""


def test_the_default_model_s_genres_are_known() -> None:
    genres = [DEFAULT.canonical(name) for name in genrescope.load().genres]
    shown = "Blues, Classical, Country, Disco, Hip-Hop, Jazz, Metal, Pop, Reggae, Rock"
    assert ", ".join(map(str, genres)) == shown


def test_the_default_allows_every_genre() -> None:
    assert DEFAULT.canonical("heavy-metal") == "Heavy Metal"
    assert DEFAULT.canonical("drum n bass") == "Drum & Bass"
    assert DEFAULT.canonical("death-metal") == "Death Metal"
    assert DEFAULT.canonical("Schlonk  wave") == "Schlonk  wave"
    assert DEFAULT.is_within("Hardcore Punk", "rock")
    assert not DEFAULT.is_within("Rock", "Hardcore Punk")
    assert len(DEFAULT.spellings) > 600


@pytest.mark.parametrize("number", range(192))
def test_id3_s_numbers_are_the_names_that_they_stand_for(number: int) -> None:
    genre = DEFAULT.canonical(TCON.GENRES[number])
    assert genre is not None
    assert DEFAULT.canonical(f"{number}") == DEFAULT.canonical(f"({number})") == genre


def test_most_of_id3_s_genres_have_their_place_in_the_default() -> None:
    placed = [DEFAULT.canonical(name) in DEFAULT.spellings.values() for name in TCON.GENRES]
    assert sum(placed) >= 170


@pytest.mark.parametrize(
    ("name", "genre"),
    [
        ("(17)", "Rock"),
        (" 17 ", "Rock"),
        ("(17)Punk Rock", "Punk"),
        ("(51)(39)", "Noise"),
        ("(17)(255)", "(255)"),
        ("RX", "Remix"),
        ("(CR)", "Cover"),
        ("rx", "rx"),
        ("1980", "1980"),
        ("9" * 5000, "9" * 5000),
        ("", None),
        (" \t", None),
        ("!!!", "!!!"),
    ],
)
def test_numbers_and_what_is_none(name: str, genre: str | None) -> None:
    assert DEFAULT.canonical(name) == genre


def test_a_name_becomes_the_nearest_allowed_genre_above_it(write: Callable[..., Path]) -> None:
    taxonomy = load_taxonomy(write(MINE))
    names = ["HEAVY-METAL", "hardcore punk", "Indie Rock", "Bebop", "Techno", "rap", "(22)"]
    expected = ["Metal", "Rock", "Rock", None, None, "Hip-Hop", "Metal"]
    assert [taxonomy.canonical(name) for name in names] == expected


@pytest.mark.parametrize("name", ["Hip Hop", "hiphop", "HIP_HOP", "hip\N{NON-BREAKING HYPHEN}hop"])
def test_case_hyphens_and_spaces_do_not_count(name: str, write: Callable[..., Path]) -> None:
    assert load_taxonomy(write(MINE)).canonical(name) == "Hip-Hop"
    assert DEFAULT.canonical("r AND b") == DEFAULT.canonical("R＆B") == "R&B"
    assert DEFAULT.canonical("Norteno") == DEFAULT.canonical("Norten\u0303o") == "Norteño"


def test_accents_of_other_scripts_do_count() -> None:
    taxonomy = Taxonomy({"कि": "कि"})
    assert taxonomy.canonical("का") is None


def test_names_without_letters_are_distinguished(write: Callable[..., Path]) -> None:
    taxonomy = load_taxonomy(write('whitelist = ["!!!", "♥"]'))
    assert [taxonomy.canonical(name) for name in ("!!!", " ♥", "???")] == ["!!!", "♥", None]


def test_a_genre_with_kinds_is_spelled_as_it_is_there(write: Callable[..., Path]) -> None:
    taxonomy = load_taxonomy(write('tree = {Rock = ["punk"], Punk = ["Oi!"]}'))
    assert taxonomy.canonical("PUNK") == "Punk"
    assert taxonomy.is_within("oi", "Rock")


def test_text_files_say_the_same_as_the_tables(write: Callable[..., Path]) -> None:
    tables = load_taxonomy(write(MINE))
    texts = load_taxonomy(
        write(
            'whitelist = "w.txt"\naliases = "a.txt"\ntree = "t.txt"\n',
            w="# mine\n\nMetal\n  Rock  \nHip-Hop\n",
            a="heavy metal = Metal\r\nrap=hip hop\r\n",
            t="\ufeffJazz\n  Bebop\nRock\n  Indie Rock\n  # a kind\n  Punk\n"
            "    Hardcore Punk\n\nMetal\n  Death Metal\n",
        )
    )
    assert texts == tables


def test_an_empty_file_allows_everything_and_changes_nothing(write: Callable[..., Path]) -> None:
    taxonomy = load_taxonomy(write(""))
    assert taxonomy == Taxonomy(placeholders=DEFAULT.placeholders)
    assert taxonomy.canonical("hEAVY metal") == "hEAVY metal"
    assert taxonomy.canonical("(9)") == "Metal"


def test_aliases_alone_are_enough(write: Callable[..., Path]) -> None:
    taxonomy = load_taxonomy(write('[aliases]\n"heavy metal" = "Metal"\nhiphop = "Hip-Hop"\n'))
    assert taxonomy.canonical("Heavy Metal") == taxonomy.canonical("metal") == "Metal"
    assert taxonomy.canonical("hip hop") == "Hip-Hop"


def test_the_default_can_be_extended(write: Callable[..., Path]) -> None:
    taxonomy = load_taxonomy(
        write(
            'extends = "default"\nwhitelist = ["Heavy Metal", "metal", "Hip Hop", "Study"]\n'
            '[aliases]\nRevision = "Study"\nRap = "Study"\n'
            '[tree]\nStudy = ["Lo-Fi Hip-Hop"]\n"Hip Hop" = ["Trap Soul"]\n'
        )
    )
    names = ["heavy metal", "Death Metal", "G-Funk", "lofi hiphop", "revision", "rap", "trap soul"]
    expected = ["Heavy Metal", "metal", "Hip Hop", "Study", "Study", "Study", "Hip Hop"]
    assert [taxonomy.canonical(name) for name in names] == expected
    assert taxonomy.canonical("Rock") is None


def test_shares_of_what_becomes_the_same_are_added(write: Callable[..., Path]) -> None:
    shares = load_taxonomy(write(MINE)).map_probabilities(
        {"jazz": 0.35, "rock": 0.2, "metal": 0.15, "punk": 0.1, "heavy metal": 0.2}
    )
    assert list(shares) == ["Metal", "Rock"]
    assert shares == pytest.approx({"Metal": 0.35, "Rock": 0.3})


@pytest.mark.parametrize(
    ("toml", "shown"),
    [
        (
            "whitelst = []",
            "whitelst: unknown key. Known keys are: extends, whitelist,",
        ),
        ("extends = 'mine'", "extends: there is no taxonomy 'mine'"),
        ("whitelist = 3", "whitelist: it is neither a list"),
        ("whitelist = ['Rock', 3]", "whitelist: entry 2 (3) is not a name"),
        ("whitelist = ['Rock', ' ']", "whitelist: a name is missing"),
        ("whitelist = ['Hip-Hop', 'hip hop']", "'hip hop' is a duplicate entry"),
        ("whitelist = ['17']", "'17' is an ID3 number, which means 'Rock'"),
        ('whitelist = ["Ro\\u0007ck"]', "control character"),
        ("whitelist = ['Rock; Pop']", "'Rock; Pop' has a sign that separates genres"),
        ("whitelist = 'gone.txt'", "gone.txt: no such file"),
        ('whitelist = "a\\u0000b"', "cannot be read"),
        ("whitelist = '.'", "cannot be read"),
        ("aliases = ['a']", "aliases: it is neither a table"),
        ("aliases = {a = 3}", "aliases.a: 3 is not a genre"),
        ("aliases = {a = ''}", "aliases.a: '' is not a genre"),
        ("aliases = {a = 'B', A = 'C'}", "aliases.A: 'A' is a duplicate entry"),
        ("aliases = {a = 'b', b = 'c'}", "aliases.a: 'b' is itself an alias"),
        ("aliases = {a = 'Jazz'}\ntree = {Rock = []}", "'Jazz' is neither on the whitelist nor"),
        (
            "aliases = {punk = 'Rock'}\ntree = {Rock = ['Punk']}",
            "alias of 'Rock', but also a genre",
        ),
        (
            "whitelist = ['Pop']\naliases = {a = 'Punk'}\ntree = {Rock = ['Punk']}",
            "aliases.a: neither 'Punk' nor a genre above it is on the whitelist",
        ),
        ("tree = ['Rock']", "tree: it is neither a table"),
        ("tree = {Rock = 'Punk'}", "tree.Rock: it is neither a list"),
        ("tree = {Rock = [['Punk']]}", "tree.Rock: entry 1 (['Punk']) is not a name"),
        ("tree = {Rock = ['Punk', 'punk']}", "'punk' is already under 'Rock'"),
        ("tree = {Rock = ['Punk'], Pop = ['Punk']}", "tree.Pop: 'Punk' is already under 'Rock'"),
        ("tree = {Rock = ['A'], rock = ['B']}", "tree.rock: 'rock' is a duplicate entry"),
        ("tree = {Rock = ['rock']}", "'rock' is under 'Rock', which is under 'rock' itself"),
        ("tree = {A = ['B'], B = ['C'], C = ['A']}", "itself"),
        ("extends = 'default'\ntree = {Punk = ['Rock']}", "tree.Punk: 'Rock' is under 'Punk'"),
        ("tree = {'' = []}", "a name is missing"),
        ("whitelist = [", "it is not TOML"),
        ("whitelist = " + "[" * 5000, "it is not TOML"),
    ],
)
def test_what_is_wrong_is_named(toml: str, shown: str, write: Callable[..., Path]) -> None:
    with pytest.raises(InputError) as caught:
        load_taxonomy(write(toml))
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("part", "text", "shown"),
    [
        ("tree", "Rock\n Punk\n", "line 2: it is not indented"),
        ("tree", "Rock\n    Punk\n", "line 2: it is not indented"),
        ("tree", "Rock\n\tPunk\n", "line 2: it is not indented"),
        ("tree", "  Rock\n", "line 1: it is not indented"),
        ("tree", "Rock\n  Punk\n\n# no\npunk\n", "line 5: 'punk' is a duplicate entry, first in"),
        ("whitelist", "Rock\nJazz\nRock\n", "line 3: 'Rock' is a duplicate entry, first in line 1"),
        ("aliases", "heavy metal\n", "line 1: it is not `alias = genre`"),
        ("aliases", "a = b = c\n", "line 1: it is not `alias = genre`"),
        ("aliases", "# x\n = Rock\n", "line 2: a name is missing"),
        ("aliases", "rock =\n", "line 1: it is not `alias = genre`"),
    ],
)
def test_lines_are_named(part: str, text: str, shown: str, write: Callable[..., Path]) -> None:
    path = write(f'{part} = "it.txt"', it=text)
    with pytest.raises(InputError) as caught:
        load_taxonomy(path)
    assert caught.value.path == path.parent / "it.txt"
    assert shown in str(caught.value)


def test_other_encodings_are_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes("aliases = {}\n# caf\xe9".encode("latin-1"))
    with pytest.raises(InputError, match="line 2: it is not UTF-8"):
        load_taxonomy(tmp_path / "my.toml")
    with pytest.raises(InputError, match="no such file"):
        load_taxonomy(tmp_path / "gone.toml")
    with pytest.raises(InputError, match="cannot be read"):
        load_taxonomy(tmp_path)


def with_whitelist(names: list[str]) -> Taxonomy:
    whitelist = {key: name for key, name in DEFAULT.spellings.items() if name in names}
    return Taxonomy(whitelist, DEFAULT.spellings, DEFAULT.aliases, DEFAULT.parents)


TAXONOMIES = st.one_of(
    st.just(DEFAULT),
    st.just(Taxonomy()),
    st.lists(st.sampled_from(list(DEFAULT.spellings.values())), min_size=1, max_size=9).map(
        with_whitelist
    ),
)


@settings(max_examples=500, deadline=None)
@given(TAXONOMIES, NAMES)
def test_what_is_canonical_stays_so(taxonomy: Taxonomy, name: str) -> None:
    genre = taxonomy.canonical(name)
    if genre is not None:
        assert taxonomy.canonical(genre) == genre
        assert taxonomy.is_within(name, genre)
        assert not taxonomy.whitelist or genre in taxonomy.whitelist.values()


@settings(max_examples=200, deadline=None)
@given(TAXONOMIES, st.dictionaries(NAMES, st.floats(0, 1), max_size=8))
def test_shares_are_ranked_and_none_is_made_up(
    taxonomy: Taxonomy, probabilities: dict[str, float]
) -> None:
    shares = taxonomy.map_probabilities(probabilities)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    kept = [share for name, share in probabilities.items() if taxonomy.canonical(name)]
    assert sum(shares.values()) == pytest.approx(sum(kept))
    assert taxonomy.map_probabilities(shares) == shares


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["whitelist", "aliases", "tree"]),
    st.text("abAB =#\n\r\t-(17)é", max_size=40),
)
def test_no_text_file_does_worse_than_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, part: str, text: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "my.toml").write_text(f'{part} = "it.txt"')
    (folder / "it.txt").write_text(text, encoding="utf-8", newline="")
    try:
        taxonomy = load_taxonomy(folder / "my.toml")
    except InputError:
        return
    for genre in taxonomy.spellings.values():
        assert taxonomy.canonical(genre) == genre


VALUES = st.recursive(
    st.one_of(st.text("abc17 ", max_size=3), st.integers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def as_toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {as_toml(of)}' for key, of in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)


@settings(max_examples=300, deadline=None)
@given(whitelist=VALUES, aliases=VALUES, tree=VALUES)
def test_no_table_does_worse_than_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, whitelist: object, aliases: object, tree: object
) -> None:
    toml = "".join(
        f"{key} = {as_toml(value)}\n"
        for key, value in (("whitelist", whitelist), ("aliases", aliases), ("tree", tree))
    )
    tomllib.loads(toml)
    path = tmp_path_factory.mktemp("any") / "my.toml"
    path.write_text(toml, encoding="utf-8")
    try:
        taxonomy = load_taxonomy(path)
    except InputError:
        return
    for name in ("a", "b", "ab", "(17)"):
        genre = taxonomy.canonical(name)
        assert genre is None or taxonomy.canonical(genre) == genre
