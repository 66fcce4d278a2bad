"""A taxonomy: which genres may be written, their other names, and what is a kind of what.

It is plain text that people write by hand: a TOML file, whose whitelist, aliases and tree stand in
it or in text files beside it. The one that comes with the package has no whitelist.

Names are looked up without regard to case, accents, spaces and punctuation; ``&`` is ``and``. ID3's
numbers (``17``, ``(17)``) and its ``RX`` and ``CR`` are the names that they stand for.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from mutagen.id3 import TCON

from genrescope.errors import InputError

_ID3 = {str(number): name for number, name in enumerate(TCON.GENRES)}
_ID3 |= {"RX": "Remix", "CR": "Cover"}
_KEYS = ("extends", "whitelist", "aliases", "tree")
_DEFAULT = "default"
_NUMBER = re.compile(r"\s*(?:\(([0-9]{1,3}|RX|CR)\)(.*)|([0-9]{1,3}|RX|CR))\s*", re.DOTALL)
_LETTERLESS = ("Z", "P", "C")  # Unicode's spaces, punctuation and control characters
_ACCENTS = range(0x300, 0x370)


@dataclass(frozen=True)
class Taxonomy:
    """Genres, their other names and their tree; made by ``load_taxonomy``.

    Everything is by key: a name as it is looked up.

    Attributes
    ----------
    whitelist
        Key to name of each genre that is allowed; empty if every genre is.
    spellings
        Key to name of each genre that is known.
    aliases
        Key of another name to key of the genre.
    parents
        Key of a genre to key of the one that it is a kind of.
    """

    whitelist: Mapping[str, str] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)

    def canonical(self, name: str) -> str | None:
        """Give the genre that a name stands for.

        Parameters
        ----------
        name
            As a tag or a model has it.

        Returns
        -------
        genre
            With a whitelist: the name's genre, or the nearest above it, that is on it. Without:
            the genre in the taxonomy's spelling, or, if it is not known, the name unchanged.
            None if no genre on the way is allowed, and of a blank name.
        """
        name = _decoded(name)
        if not name.strip():
            return None
        key = self._key(name)
        if not self.whitelist:
            return self.spellings.get(key, name)
        allowed = (self.whitelist[step] for step in self._upwards(key) if step in self.whitelist)
        return next(allowed, None)

    def is_within(self, name: str, genre: str) -> bool:
        """Tell whether a name stands for a genre or a kind of it, whatever is allowed."""
        return self._key(_decoded(genre)) in self._upwards(self._key(_decoded(name)))

    def map_shares(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Turn a model's genres into this taxonomy's.

        Parameters
        ----------
        probabilities
            Of each of the model's genres.

        Returns
        -------
        shares
            Of each canonical genre, most likely first. Those of genres that become the same are
            added; those of genres that are not allowed are left out, so the sum may be below 1.
        """
        shares: dict[str, float] = {}
        for name, share in probabilities.items():
            if (genre := self.canonical(name)) is not None:
                shares[genre] = shares.get(genre, 0.0) + share
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _key(self, name: str) -> str:
        key = _key(name)
        return self.aliases.get(key, key)

    def _upwards(self, key: str) -> Iterator[str]:
        step: str | None = key
        while step is not None:
            yield step
            step = self.parents.get(step)


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read a taxonomy.

    Parameters
    ----------
    path
        Of a TOML file with any of ``whitelist`` (a list), ``aliases`` (a table: other name to
        genre) and ``tree`` (a table: genre to the list of its kinds), each of which may instead
        name a text file beside it; ``extends = "default"`` adds them to the default. None for the
        default.

    Returns
    -------
    taxonomy
        Without contradictions.

    Raises
    ------
    InputError
        If a file cannot be read or understood, or contradicts itself; it names the line or key.
    """
    if path is None:
        path = Path(str(files("genrescope") / "taxonomies" / f"{_DEFAULT}.toml"))
    document = _read_toml(path)
    base = load_taxonomy() if "extends" in document else Taxonomy()
    tree = list(_part(path, document, "tree", _tree_table, _tree_text))
    allowed = list(_unique(_part(path, document, "whitelist", _list, _lines)))
    others = list(_unique(_part(path, document, "aliases", _alias_table, _alias_text)))
    # Of several spellings in the tree the first counts, and the whitelist's above all.
    own = {said.key: said.name for said in (*reversed(tree), *allowed)}
    spellings = {**base.spellings, **own}
    # A genre of one's own is no longer another name of something else.
    inherited = {key: genre for key, genre in base.aliases.items() if key not in own}
    taxonomy = Taxonomy(
        {said.key: said.name for said in allowed} or base.whitelist,
        spellings or {_key(said.of): said.of for said in reversed(others)},
        {**inherited, **_resolved(others, spellings, inherited)},
        {**base.parents, **_linked(tree, base.parents)},
    )
    _check_ends(others, taxonomy)
    return taxonomy


@dataclass(frozen=True)
class _Said:
    """One thing that a file says: a genre, or a name and the genre that it belongs to."""

    path: Path
    where: str
    name: str
    of: str = ""

    @property
    def key(self) -> str:
        return _key(self.name)

    def checked(self) -> _Said:
        """Refuse names that no tag should hold, or that could never be found."""
        name, of = self.name.strip(), self.of.strip()
        for text in (name, of) if self.of else (name,):
            if not text:
                raise self.error("a name is missing", "Write a genre's name there")
            if any(sign == ";" or unicodedata.category(sign) == "Cc" for sign in text):
                cause = f"{text!r} has a sign that separates genres, or a control character"
                raise self.error(cause, "Write it without")
            if (decoded := _decoded(text)) != text:
                cause = f"{text!r} is a number of ID3's, which is read as {decoded!r}"
                raise self.error(cause, f"Write {decoded!r}")
        return _Said(self.path, self.where, name, of)

    def error(self, cause: str, remedy: str) -> InputError:
        return InputError(self.path, f"{self.where}: {cause}", remedy)


def _part(
    path: Path,
    document: dict[str, Any],
    name: str,
    inline: Callable[[Path, str, Any], Iterator[_Said]],
    text: Callable[[Path, str], Iterator[_Said]],
) -> Iterator[_Said]:
    """Read a part of the taxonomy, wherever it stands."""
    value = document.get(name)
    if value is None:
        return
    if isinstance(value, str):
        beside = path.parent / Path(value).expanduser()
        remedy = f"Put the {name} there, or name another file in {path.name}"
        found = text(beside, _read_text(beside, remedy))
    else:
        found = inline(path, name, value)
    for said in found:
        yield said.checked()


def _list(path: Path, where: str, value: Any) -> Iterator[_Said]:
    if not isinstance(value, list):
        cause = f"{where}: it is neither a list nor the name of a text file"
        raise InputError(path, cause, 'Write it as ["Rock", "Jazz"]')
    for number, name in enumerate(value, 1):
        if not isinstance(name, str):
            cause = f"{where}: entry {number} ({name!r}) is not a name"
            raise InputError(path, cause, 'Write it as ["Rock", "Jazz"]')
        yield _Said(path, where, name)


def _alias_table(path: Path, where: str, value: Any) -> Iterator[_Said]:
    remedy = 'Write [aliases] and lines such as "heavy metal" = "Metal"'
    if not isinstance(value, dict):
        cause = f"{where}: it is neither a table nor the name of a text file"
        raise InputError(path, cause, remedy)
    for name, genre in value.items():
        if not isinstance(genre, str) or not genre:
            raise InputError(path, f"{where}.{name}: {genre!r} is not a genre", remedy)
        yield _Said(path, f"{where}.{name}", name, genre)


def _tree_table(path: Path, where: str, value: Any) -> Iterator[_Said]:
    remedy = 'Write [tree] and lines such as Rock = ["Punk", "Indie Rock"]'
    if not isinstance(value, dict):
        cause = f"{where}: it is neither a table nor the name of a text file"
        raise InputError(path, cause, remedy)
    yield from _unique(_Said(path, f"{where}.{genre}", genre) for genre in value)
    for genre, kinds in value.items():
        for said in _list(path, f"{where}.{genre}", kinds):
            yield _Said(path, said.where, said.name, genre)


def _lines(path: Path, text: str) -> Iterator[_Said]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield _Said(path, f"line {number}", line)


def _alias_text(path: Path, text: str) -> Iterator[_Said]:
    for said in _lines(path, text):
        name, *genre = said.name.split("=")
        if len(genre) != 1 or not genre[0].strip():
            raise said.error("it is not `other name = genre`", "Write one `=` between the two")
        yield _Said(path, said.where, name, genre[0])


def _tree_text(path: Path, text: str) -> Iterator[_Said]:
    above: list[str] = []
    for said in _unique(_lines(path, text)):
        name = said.name.lstrip(" ")
        depth, odd = divmod(len(said.name) - len(name), 2)
        if odd or depth > len(above) or name.startswith("\t"):
            cause = "it is not indented by two spaces for each genre above it"
            raise said.error(
                cause, "Indent with spaces, two more than the genre that it is a kind of"
            )
        above[depth:] = [name]
        yield _Said(path, said.where, name, above[depth - 1] if depth else "")


def _unique(all_said: Iterable[_Said]) -> Iterator[_Said]:
    first: dict[str, _Said] = {}
    for said in all_said:
        if (before := first.setdefault(said.key, said)) is not said:
            same = (
                "" if before.name.strip() == said.name.strip() else f" as {before.name.strip()!r}"
            )
            cause = f"{said.name.strip()!r} stands there twice, first in {before.where}{same}"
            raise said.error(cause, "Remove one of them")
        yield said


def _linked(tree: list[_Said], base: Mapping[str, str]) -> dict[str, str]:
    """Key of each genre to that of the one above it, without loops."""
    links: dict[str, _Said] = {}
    for said in tree:
        if not said.of:
            continue
        if (before := links.setdefault(said.key, said)) is not said:
            cause = f"{said.name!r} is already under {before.of!r}"
            raise said.error(cause, "Leave it in one place")
    parents = {key: _key(said.of) for key, said in links.items()}
    for key, said in links.items():
        if key in _above(key, {**base, **parents}):
            cause = f"{said.name!r} is under {said.of!r}, which is a kind of {said.name!r} itself"
            raise said.error(cause, "Leave one of the two out")
    return parents


def _above(key: str, parents: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    while (step := parents.get(key)) is not None and step not in found:
        found.add(step)
        key = step
    return found


def _resolved(
    said: list[_Said], known: Mapping[str, str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """Key of each other name to that of its genre."""
    links = {one.key: _key(one.of) for one in said}
    others = {key for key, genre in {**inherited, **links}.items() if key != genre}
    for one in said:
        if one.key == _key(one.of):
            continue
        if one.key in known:
            cause = f"{one.name!r} is another name of {one.of!r}, but also a genre of its own"
            raise one.error(cause, "Leave one of the two out")
        if _key(one.of) in others:
            cause = f"{one.of!r} is itself another name"
            raise one.error(cause, "Give the genre that it is another name of")
        if known and _key(one.of) not in known:
            cause = f"{one.of!r} is neither on the whitelist nor in the tree"
            raise one.error(cause, "Add it to one of them, or correct its spelling")
    return links


def _check_ends(said: list[_Said], taxonomy: Taxonomy) -> None:
    for one in said:
        if taxonomy.canonical(one.of) is None:
            cause = f"neither {one.of!r} nor a genre above it is on the whitelist"
            raise one.error(cause, f"Add {one.of!r} to the whitelist, or leave the alias out")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(_read_text(path, "Give a taxonomy in TOML"))
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits
        cause = f"it is not TOML ({error or 'too deep'})"
        raise InputError(path, cause, "Correct it there") from error
    for key in document:
        if key not in _KEYS:
            raise InputError(path, f"{key}: unknown key", f"There are: {', '.join(_KEYS)}")
    if document.get("extends", _DEFAULT) != _DEFAULT:
        cause = f"extends: there is no taxonomy {document['extends']!r} to extend"
        raise InputError(path, cause, f'Write extends = "{_DEFAULT}", or leave it out')
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
    """Give a name as it is looked up; one without letters is looked up as it is."""
    plain = unicodedata.normalize("NFKD", name).replace("&", "and").casefold()
    plain = unicodedata.normalize("NFKD", plain)  # casefolding may compose letters again
    kept = [
        sign
        for sign in plain
        if unicodedata.category(sign)[0] not in _LETTERLESS and ord(sign) not in _ACCENTS
    ]
    return "".join(kept) or plain.strip()


def _decoded(name: str) -> str:
    """Replace a number of ID3's by its name; text after a number refines it, and counts alone."""
    while match := _NUMBER.fullmatch(name):
        bracketed, refinement, alone = match.groups()
        named = (refinement or "").strip() or _ID3.get(bracketed or alone)
        if named is None:
            break
        name = named
    return name
