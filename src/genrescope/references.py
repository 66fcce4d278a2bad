"""The works that genrescope cites, from ``references.bib``: formatted, and as BibTeX.

References in the report, the documents and the notes of data sets are of this one file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

_ENTRY = re.compile(r"^@\w+\{(?P<key>\w+),\n(?P<fields>(?:  .*\n)+)\}$", re.MULTILINE)
_FIELD = re.compile(r"^  (\w+) = \{?(.*?)\}?,$", re.MULTILINE)
_PLAIN = {r"{\c{C}}": "Ç", r"{\"O}": "Ö", r"{\"u}": "ü", "``": "'", "''": "'", "{": "", "}": ""}
_MONTHS = {"may": "May"}


@dataclass(frozen=True)
class CitedWork:
    """A cited work.

    Attributes
    ----------
    key
        To cite it by.
    bibtex
        Its entry, as it is in the file.
    fields
        Of the entry, as plain text.
    """

    key: str
    bibtex: str
    fields: Mapping[str, str]

    @property
    def link(self) -> str:
        """The address of the work, by its DOI if it has one; may be empty."""
        doi = self.fields.get("doi")
        return f"https://doi.org/{doi}" if doi else self.fields.get("url", "")

    @property
    def text(self) -> str:
        """Authors, title, place and date, without the link."""
        of = self.fields
        authors = re.sub(r" and (?=.* and )", ", ", of["author"])
        volume = of.get("volume", "") + (f"({of['number']})" if "number" in of else "")
        place = [of.get("type"), of.get("howpublished"), of.get("booktitle"), of.get("institution")]
        if "journal" in of:
            place.append(f"{of['journal']} {volume}")
        place.append(of.get("publisher"))
        date = " ".join(filter(None, (of.get("day"), _MONTHS.get(of.get("month", "")), of["year"])))
        return ", ".join(filter(None, (authors, f'"{of["title"]}"', *place, date)))


@cache
def cited_works() -> Mapping[str, CitedWork]:
    """Read all works, by their keys."""
    text = resources.files("genrescope").joinpath("references.bib").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            entry["key"]: CitedWork(entry["key"], entry[0], _fields(entry["fields"]))
            for entry in _ENTRY.finditer(text)
        }
    )


def cite(key: str) -> str:
    """Give a work's authors, title, place and date as a clause."""
    return cited_works()[key].text


def _fields(text: str) -> dict[str, str]:
    found = dict(_FIELD.findall(text))
    for name, value in found.items():
        for tex, plain in _PLAIN.items():
            value = value.replace(tex, plain)  # noqa: PLW2901
        found[name] = value
    return found
