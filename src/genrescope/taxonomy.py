"""Taxonomies: the allowed genres, their aliases, and their tree.

A taxonomy is a TOML file that users write; its whitelist, aliases, tree and placeholders (names in
tags that mean no genre) are in it or in text files beside it. The default one has no whitelist.

Names are compared without case, accents, spaces and punctuation; ``&`` is ``and``. ID3's numbers
(``17``, ``(17)``), ``RX`` and ``CR`` are replaced by their names.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mutagen.id3 import TCON

from genrescope.errors import InputError

_ID3 = {str(number): name for number, name in enumerate(TCON.GENRES)}
_ID3 |= {"RX": "Remix", "CR": "Cover"}
_KEYS = ("extends", "whitelist", "aliases", "tree", "placeholders")
_DEFAULT = "default"
_NUMBER = re.compile(r"\s*(?:\(([0-9]{1,3}|RX|CR)\)(.*)|([0-9]{1,3}|RX|CR))\s*", re.DOTALL)
_LETTERLESS = ("Z", "P", "C")  # Unicode's spaces, punctuation and control characters
_ACCENTS = range(0x300, 0x370)


@dataclass(frozen=True)
class Taxonomy:
    """Genres, their aliases and their tree; see ``load_taxonomy``.

    A key is the normalised form of a name.

    Attributes
    ----------
    whitelist
        Key to name of each allowed genre; empty if every genre is allowed.
    spellings
        Key to name of each known genre.
    aliases
        Key of an alias to key of its genre.
    parents
        Key of a genre to key of its parent.
    placeholders
        Keys of names that mean no genre.
    """

    whitelist: Mapping[str, str] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    placeholders: frozenset[str] = frozenset()

    def canonical(self, name: str) -> str | None:
        """Return the genre of a name.

        Parameters
        ----------
        name
            From a tag or a model.

        Returns
        -------
        genre
            With a whitelist: the name's genre, or its nearest ancestor, that is on it. Without:
            the genre in the taxonomy's spelling, or the unknown name unchanged. None if no such
            genre is allowed, or the name is blank.
        """
        name = _decoded(name)
        if not name.strip():
            return None
        key = self._key(name)
        if not self.whitelist:
            return self.spellings.get(key, name)
        allowed = (self.whitelist[step] for step in self._upwards(key) if step in self.whitelist)
        return next(allowed, None)

    def spelling(self, name: str) -> str:
        """Return a name in the taxonomy's spelling, allowed or not; an unknown one unchanged."""
        name = _decoded(name)
        return self.spellings.get(self._key(name), name)

    def key(self, name: str) -> str:
        """Return the key of a name's genre: equal for spellings and aliases of one genre."""
        return self._key(_decoded(name))

    def is_placeholder(self, name: str) -> bool:
        """Return whether a name means no genre: it is listed as such, or has no letter."""
        decoded = _decoded(name)
        key = _key(decoded)
        known = key in self.spellings or key in self.aliases
        return key in self.placeholders or not (known or any(map(str.isalpha, decoded)))

    def ancestors(self, name: str) -> list[str]:
        """Return the genres above a name's, nearest first, of the whitelist if there is one."""
        names = self.whitelist or self.spellings
        _, *above = self._upwards(self.key(name))
        return [names[step] for step in above if step in names]

    def is_within(self, name: str, genre: str) -> bool:
        """Return whether a name is a genre or one of its subgenres; ignores the whitelist."""
        return self._key(_decoded(genre)) in self._upwards(self._key(_decoded(name)))

    def nearest(self, name: str, genres: Iterable[str]) -> str | None:
        """Return the one of some genres that a name is, or else its nearest ancestor of them."""
        by_key: dict[str, str] = {}
        for genre in genres:
            by_key.setdefault(self._key(_decoded(genre)), genre)
        steps = self._upwards(self._key(_decoded(name)))
        return next((by_key[step] for step in steps if step in by_key), None)

    def map_probabilities(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Map a model's genres to this taxonomy's.

        Parameters
        ----------
        probabilities
            Of each of the model's genres.

        Returns
        -------
        mapped
            Of each canonical genre, most likely first. Probabilities of genres that become the same
            are added; those of disallowed genres are dropped, so that the sum may be below 1.
        """
        mapped: dict[str, float] = {}
        for name, probability in probabilities.items():
            if (genre := self.canonical(name)) is not None:
                mapped[genre] = mapped.get(genre, 0.0) + probability
        return dict(sorted(mapped.items(), key=lambda item: -item[1]))

    def _key(self, name: str) -> str:
        key = _key(name)
        return self.aliases.get(key, key)

    def _upwards(self, key: str) -> Iterator[str]:
        step: str | None = key
        while step is not None:
            yield step
            step = self.parents.get(step)


def track_genres(tags: Sequence[str], taxonomy: Taxonomy) -> tuple[str, ...]:
    """Give the genres of a track's tags by their names in the taxonomy, without placeholders.

    A genre is left out beside one of its subgenres, which implies it.
    """
    names = [taxonomy.canonical(tag) for tag in tags if not taxonomy.is_placeholder(tag)]
    genres = {taxonomy.key(name): name.strip() for name in names if name is not None}
    implied = {
        taxonomy.key(above) for name in genres.values() for above in taxonomy.ancestors(name)
    }
    return tuple(name for key, name in genres.items() if key not in implied)


def load_taxonomy(path: Path | None = None, *, placeholders: Path | None = None) -> Taxonomy:
    """Read a taxonomy.

    Parameters
    ----------
    path
        Of a TOML file with any of ``whitelist`` (a list), ``aliases`` (a table: alias to genre),
        ``tree`` (a table: genre to the list of its subgenres) and ``placeholders`` (a list), each
        of which may instead name a text file beside it; ``extends = "default"`` adds them to the
        default. Placeholders are always added to the default's. None for the default.
    placeholders
        Of a text file of more placeholders, a name a line; they are none of its genres.

    Returns
    -------
    taxonomy
        Without contradictions.

    Raises
    ------
    InputError
        If a file cannot be read or parsed, or contradicts itself; names the line or key.
    """
    is_default = path is None
    path = path or Path(str(files("genrescope") / "taxonomies" / f"{_DEFAULT}.toml"))
    document = _read_toml(path)
    base = load_taxonomy() if "extends" in document else Taxonomy()
    tree = list(_part(path, document, "tree", _tree_table, _tree_text))
    allowed = list(_unique(_part(path, document, "whitelist", _list, _lines)))
    others = list(_unique(_part(path, document, "aliases", _alias_table, _alias_text)))
    no_genres = list(_unique(_part(path, document, "placeholders", _list, _lines)))
    # The whitelist's spelling takes precedence, then the first one in the tree.
    own = {entry.key: entry.name for entry in (*reversed(tree), *allowed)}
    spellings = {**base.spellings, **own}
    # A genre that the file declares is no longer an alias.
    inherited = {key: genre for key, genre in base.aliases.items() if key not in own}
    taxonomy = Taxonomy(
        {entry.key: entry.name for entry in allowed} or base.whitelist,
        spellings or {_key(entry.of): entry.of for entry in reversed(others)},
        {**inherited, **_resolved(others, spellings, inherited)},
        {**base.parents, **_linked(tree, base.parents)},
        # A name that the file declares to be a genre is one.
        (frozenset() if is_default else _default_placeholders())
        .union(entry.key for entry in no_genres)
        .difference(own),
    )
    _check_ends(others, taxonomy)
    if placeholders is None:
        return taxonomy
    text = _read_text(placeholders, "Give a text file of names, one a line")
    more = {entry.checked().key for entry in _unique(_lines(placeholders, text))}
    return replace(taxonomy, placeholders=taxonomy.placeholders | more)


@cache
def _default_placeholders() -> frozenset[str]:
    return load_taxonomy().placeholders


@dataclass(frozen=True)
class _Entry:
    """An entry of a file: a genre, or a name and the genre that it belongs to."""

    path: Path
    where: str
    name: str
    of: str = ""

    @property
    def key(self) -> str:
        return _key(self.name)

    def checked(self) -> _Entry:
        """Check for names that no tag should hold, or that can never match."""
        name, of = self.name.strip(), self.of.strip()
        for text in (name, of) if self.of else (name,):
            if not text:
                raise self.error("a name is missing", "Add the name of a genre")
            if any(sign == ";" or unicodedata.category(sign) == "Cc" for sign in text):
                cause = f"{text!r} has a sign that separates genres, or a control character"
                raise self.error(cause, "Remove it")
            if (decoded := _decoded(text)) != text:
                cause = f"{text!r} is an ID3 number, which means {decoded!r}"
                raise self.error(cause, f"Write {decoded!r}")
        return _Entry(self.path, self.where, name, of)

    def error(self, cause: str, remedy: str) -> InputError:
        return InputError(self.path, f"{self.where}: {cause}", remedy)


def _part(
    path: Path,
    document: dict[str, Any],
    name: str,
    inline: Callable[[Path, str, Any], Iterator[_Entry]],
    text: Callable[[Path, str], Iterator[_Entry]],
) -> Iterator[_Entry]:
    """Read a part of the taxonomy, inline or from its text file."""
    value = document.get(name)
    if value is None:
        return
    if isinstance(value, str):
        beside = path.parent / Path(value).expanduser()
        remedy = f"Put the {name} there, or name another file in {path.name}"
        found = text(beside, _read_text(beside, remedy))
    else:
        found = inline(path, name, value)
    for entry in found:
        yield entry.checked()


def _list(path: Path, where: str, value: Any) -> Iterator[_Entry]:
    if not isinstance(value, list):
        cause = f"{where}: it is neither a list nor the name of a text file"
        raise InputError(path, cause, 'Write it as ["Rock", "Jazz"]')
    for number, name in enumerate(value, 1):
        if not isinstance(name, str):
            cause = f"{where}: entry {number} ({name!r}) is not a name"
            raise InputError(path, cause, 'Write it as ["Rock", "Jazz"]')
        yield _Entry(path, where, name)


def _alias_table(path: Path, where: str, value: Any) -> Iterator[_Entry]:
    remedy = 'Write [aliases] and lines such as "heavy metal" = "Metal"'
    if not isinstance(value, dict):
        cause = f"{where}: it is neither a table nor the name of a text file"
        raise InputError(path, cause, remedy)
    for name, genre in value.items():
        if not isinstance(genre, str) or not genre:
            raise InputError(path, f"{where}.{name}: {genre!r} is not a genre", remedy)
        yield _Entry(path, f"{where}.{name}", name, genre)


def _tree_table(path: Path, where: str, value: Any) -> Iterator[_Entry]:
    remedy = 'Write [tree] and lines such as Rock = ["Punk", "Indie Rock"]'
    if not isinstance(value, dict):
        cause = f"{where}: it is neither a table nor the name of a text file"
        raise InputError(path, cause, remedy)
    yield from _unique(_Entry(path, f"{where}.{genre}", genre) for genre in value)
    for genre, kinds in value.items():
        for entry in _list(path, f"{where}.{genre}", kinds):
            yield _Entry(path, entry.where, entry.name, genre)


def _lines(path: Path, text: str) -> Iterator[_Entry]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield _Entry(path, f"line {number}", line)


def _alias_text(path: Path, text: str) -> Iterator[_Entry]:
    for entry in _lines(path, text):
        name, *genre = entry.name.split("=")
        if len(genre) != 1 or not genre[0].strip():
            raise entry.error("it is not `alias = genre`", "Write one `=` between the two")
        yield _Entry(path, entry.where, name, genre[0])


def _tree_text(path: Path, text: str) -> Iterator[_Entry]:
    above: list[str] = []
    for entry in _unique(_lines(path, text)):
        name = entry.name.lstrip(" ")
        depth, odd = divmod(len(entry.name) - len(name), 2)
        if odd or depth > len(above) or name.startswith("\t"):
            cause = "it is not indented by two spaces for each genre above it"
            raise entry.error(cause, "Indent it by two spaces more than its parent")
        above[depth:] = [name]
        yield _Entry(path, entry.where, name, above[depth - 1] if depth else "")


def _unique(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    first: dict[str, _Entry] = {}
    for entry in entries:
        if (before := first.setdefault(entry.key, entry)) is not entry:
            same = (
                "" if before.name.strip() == entry.name.strip() else f" as {before.name.strip()!r}"
            )
            cause = f"{entry.name.strip()!r} is a duplicate entry, first in {before.where}{same}"
            raise entry.error(cause, "Remove one of them")
        yield entry


def _linked(tree: list[_Entry], base: Mapping[str, str]) -> dict[str, str]:
    """Map the key of each genre to that of its parent, without loops."""
    links: dict[str, _Entry] = {}
    for entry in tree:
        if not entry.of:
            continue
        if (before := links.setdefault(entry.key, entry)) is not entry:
            cause = f"{entry.name!r} is already under {before.of!r}"
            raise entry.error(cause, "Keep one of the two")
    parents = {key: _key(entry.of) for key, entry in links.items()}
    for key, entry in links.items():
        if key in _above(key, {**base, **parents}):
            cause = f"{entry.name!r} is under {entry.of!r}, which is under {entry.name!r} itself"
            raise entry.error(cause, "Remove one of the two")
    return parents


def _above(key: str, parents: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    while (step := parents.get(key)) is not None and step not in found:
        found.add(step)
        key = step
    return found


def _resolved(
    entries: list[_Entry], known: Mapping[str, str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """Map the key of each alias to that of its genre."""
    links = {one.key: _key(one.of) for one in entries}
    others = {key for key, genre in {**inherited, **links}.items() if key != genre}
    for one in entries:
        if one.key == _key(one.of):
            continue
        if one.key in known:
            cause = f"{one.name!r} is an alias of {one.of!r}, but also a genre"
            raise one.error(cause, "Remove one of the two")
        if _key(one.of) in others:
            cause = f"{one.of!r} is itself an alias"
            raise one.error(cause, "Give the genre that it is an alias of")
        if known and _key(one.of) not in known:
            cause = f"{one.of!r} is neither on the whitelist nor in the tree"
            raise one.error(cause, "Add it to one of them, or correct its spelling")
    return links


def _check_ends(entries: list[_Entry], taxonomy: Taxonomy) -> None:
    for one in entries:
        if taxonomy.canonical(one.of) is None:
            cause = f"neither {one.of!r} nor a genre above it is on the whitelist"
            raise one.error(cause, f"Add {one.of!r} to the whitelist, or remove the alias")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(_read_text(path, "Give a taxonomy in TOML"))
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits
        cause = f"it is not TOML ({error or 'too deep'})"
        raise InputError(path, cause, "Correct it") from error
    for key in document:
        if key not in _KEYS:
            raise InputError(path, f"{key}: unknown key", f"Known keys are: {', '.join(_KEYS)}")
    if document.get("extends", _DEFAULT) != _DEFAULT:
        cause = f"extends: there is no taxonomy {document['extends']!r} to extend"
        raise InputError(path, cause, f'Write extends = "{_DEFAULT}", or remove it')
    return document


def _read_text(path: Path, remedy: str) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(path, "no such file", remedy) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(path, f"line {line}: it is not UTF-8", "Save it as UTF-8") from error
    except (OSError, ValueError) as error:
        cause = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(path, cause, remedy) from error


def _key(name: str) -> str:
    """Return the key of a name; a name without letters or digits is its own key."""
    plain = unicodedata.normalize("NFKD", name).replace("&", "and").casefold()
    plain = unicodedata.normalize("NFKD", plain)  # casefolding may compose letters again
    kept = [
        sign
        for sign in plain
        if unicodedata.category(sign)[0] not in _LETTERLESS and ord(sign) not in _ACCENTS
    ]
    return "".join(kept) or plain.strip()


def _decoded(name: str) -> str:
    """Replace an ID3 number by its name; text after a number refines it, and replaces it."""
    while match := _NUMBER.fullmatch(name):
        bracketed, refinement, alone = match.groups()
        named = (refinement or "").strip() or _ID3.get(bracketed or alone)
        if named is None:
            break
        name = named
    return name
