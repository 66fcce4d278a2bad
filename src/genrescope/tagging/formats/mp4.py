"""MP4: atoms below moov.udta.meta.ilst."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mutagen.mp4 import MP4, MP4Tags

from genrescope.audio.ranges import Container
from genrescope.tagging.formats.common import digest_of, words
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot
from genrescope.tagging.formats.internals import Atoms, unparsed_atoms


class _PlainMP4Tags(MP4Tags):
    """Copies all atoms but the genre's as bytes."""

    def load(self, atoms: Any, fileobj: BinaryIO) -> None:
        super().load(atoms, fileobj)
        genres = self.get("\xa9gen")
        self.clear()
        unparsed = unparsed_atoms(self)
        unparsed.clear()
        for atom in atoms.path(b"moov", b"udta", b"meta", b"ilst")[-1].children:
            if atom.name not in {b"\xa9gen", b"gnre"}:
                name = atom.name.decode("latin-1")
                unparsed.setdefault(name, []).append(atom.read(fileobj)[1])
        if genres:
            self["\xa9gen"] = genres


class _PlainMP4(MP4):
    MP4Tags = _PlainMP4Tags


def _read(path: Path) -> list[str]:
    tags = MP4(path).tags
    return words(tags.get("\xa9gen", [])) if tags else []


def _refusal(path: Path) -> str | None:
    _PlainMP4(path)
    with path.open("rb") as file:
        atoms = Atoms(file)
        if not _fit(atoms.atoms, file.seek(0, 2)):
            return "one of its atoms is longer than its parent"
    names = [atom.name for atom in atoms.atoms]
    if b"moof" in names:
        return "it is a fragmented MP4 file, whose tags genrescope does not write"
    if any(atom.name in {b"saio", b"iloc"} for _, atom in _leaves(atoms.atoms, "")):
        return "it has several tables of audio positions, as encrypted files have"
    if names.count(b"moov") != 1:
        return "it has no moov atom, or several"
    if b"moov.udta.meta" in atoms and b"moov.udta.meta.ilst" not in atoms:
        return "its tags have a format that genrescope does not write"
    return None


def _write(path: Path, genres: list[str]) -> None:
    file: Any = _PlainMP4(path)
    if file.tags is None:
        file.add_tags()
    file.tags["\xa9gen"] = genres
    if not genres:
        del file.tags["\xa9gen"]
    file.save()


def _others(path: Path) -> Snapshot:
    """Return all atoms but audio, padding, genre and tables of audio positions."""
    _PlainMP4(path)
    found: Snapshot = defaultdict(list)
    with path.open("rb") as file:
        for place, atom in _leaves(Atoms(file).atoms, ""):
            if place in _CREATED or atom.name in {b"mdat", b"free", b"stco", b"co64"}:
                continue
            found[place].append(digest_of(path, (atom.offset + 8, atom.offset + atom.length)))
    return dict(found)


_CREATED = {  # created with the first tag, and the genre
    "moov/udta/meta/hdlr",
    "moov/udta/meta/ilst/\xa9gen",
    "moov/udta/meta/ilst/gnre",
}


def _fit(atoms: list[Any], stop: int) -> bool:
    ends = [(atom, atom.offset + atom.length) for atom in atoms]
    return all(end <= stop and _fit(atom.children or [], end) for atom, end in ends)


def _leaves(atoms: list[Any], place: str) -> Iterator[tuple[str, Any]]:
    for atom in atoms:
        here = place + atom.name.decode("latin-1")
        if atom.children is None:
            yield here, atom
        else:
            yield from _leaves(atom.children, here + "/")


FORMATS[Container.MP4] = Format(_read, _refusal, _write, _others)
