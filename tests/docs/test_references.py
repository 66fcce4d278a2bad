"""What is cited: the file is read whole, and the documents cite the study and GTZAN's analyses."""

import re
from pathlib import Path

import pytest

from genrescope.references import cite, cited_works

ROOT = Path(__file__).resolve().parents[2]
BIBTEX = (ROOT / "src" / "genrescope" / "references.bib").read_text("utf-8")


def plain(path: Path) -> str:
    return " ".join(path.read_text("utf-8").split())


def test_every_entry_is_read() -> None:
    assert list(cited_works()) == re.findall(r"^@\w+\{(\w+),$", BIBTEX, re.MULTILINE)
    assert len(cited_works()) >= 15


@pytest.mark.parametrize("work", cited_works().values(), ids=lambda work: work.key)
def test_a_work_has_authors_a_title_a_place_and_a_year(work) -> None:
    assert re.fullmatch(r'[^"]+, "[^"]+"(, [^"]+)?, (\d+ \w+ )?(19|20)\d\d', work.text)
    assert not re.search(r"[{}\\`]", work.text)
    assert re.fullmatch(r"(https://\S+)?", work.link)
    assert work.bibtex.count("{") == work.bibtex.count("}")


def test_authors_volume_and_date_are_formatted() -> None:
    assert cite("kereliuk2015") == (
        'C. Kereliuk, B. L. Sturm and J. Larsen, "Deep learning and music adversaries", '
        "IEEE Transactions on Multimedia 17(11), 2015"
    )
    assert cite("zhang2024") == (
        'Z. Zhang, "Music genre classification", project report, COMP47650 Deep Learning, '
        "School of Computer Science, University College Dublin, 3 May 2024"
    )


def test_the_page_of_references_has_every_work_with_its_link() -> None:
    page = plain(ROOT / "docs" / "references.md")
    for work in cited_works().values():
        assert f"- {work.text}." + f" <{work.link}>" * bool(work.link) in page


@pytest.mark.parametrize(
    "key",
    ["zhang2024", "elbir2018", "choudhury2023", "lau2022", "baevski2020", "audiocourse",
     "tzanetakis2002", "sturm2012", "sturm2013", "sturm2014", "kereliuk2015"],
)  # fmt: skip
def test_the_readme_cites_the_study_its_related_work_and_the_data(key: str) -> None:
    work = cited_works()[key]
    assert work.text + f", <{work.link}>" * bool(work.link) in plain(ROOT / "README.md")


def test_the_page_of_studies_names_the_study() -> None:
    assert cite("zhang2024") in plain(ROOT / "docs" / "studies.md")
