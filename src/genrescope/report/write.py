"""A study's report: ``report.md``, a self-contained ``report.html``, figures, tables, BibTeX."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure

from genrescope import __version__
from genrescope.io import markdown_text, write_text
from genrescope.references import CitedWork, cited_works
from genrescope.report.hard_tracks import write_errors
from genrescope.report.sections import SECTIONS, Picture, on_audio
from genrescope.report.tables import ReportTable, latex
from genrescope.study.results import write_comparisons, write_summary
from genrescope.study.run import Study

_DPI = 200


class _Figures:
    """Saves figures in a folder, as PNG and SVG."""

    def __init__(self, folder: Path) -> None:
        self._folder = _emptied(folder, "*.png", "*.svg")

    def __call__(self, figure: Figure, name: str, alt: str, mark: str = "") -> Picture:
        png, svg = (self._folder / f"{name}.{kind}" for kind in ("png", "svg"))
        # No dates or versions inside.
        figure.savefig(png, dpi=_DPI, metadata={"Software": None})
        figure.set_layout_engine("none")  # laid out, which takes most of the time
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
        data = base64.b64encode(svg.read_bytes()).decode("ascii")
        return Picture(f"{self._folder.name}/{png.name}", alt, data, mark)


class _Numbers:
    """Numbers names in the order in which they are first asked for, from 1."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name) + 1

    def works(self) -> list[CitedWork]:
        return [cited_works()[name] for name in self.names]


def write_report(study: Study, out: Path) -> Path:
    """Write the report of a study.

    Parameters
    ----------
    study
        With its results.
    out
        The folder; ``report.md``, ``report.html``, ``summary.csv``, ``comparisons.csv``,
        ``errors.csv``, ``references.bib``, ``figures/`` and ``tables/`` are replaced.

    Returns
    -------
    html
        The path of ``report.html``.
    """
    draw = _Figures(out / "figures")
    used = {recipe: sum(counts.values()) for recipe, counts in study.used.items()}
    write_summary(out / "summary.csv", {"all": study.cells, "audio": on_audio(study)}, used)
    write_comparisons(out / "comparisons.csv", study.cells)
    write_errors(out / "errors.csv", study)
    # "$" in names is not a formula; the same figures give the same bytes.
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "genrescope"}):
        sections = {
            name: data for name, make in SECTIONS.items() if (data := make(study, draw)) is not None
        }
    tables = _emptied(out / "tables", "*.tex")
    for table in _tables(sections):
        with write_text(tables / f"{table.name}.tex") as file:
            file.write(latex(table))
    for form in ("md", "html"):
        text, cited = _render(form, study, sections)
        with write_text(out / f"report.{form}") as file:
            file.write(text)
    with write_text(out / "references.bib") as file:
        file.write("\n\n".join(work.bibtex for work in cited) + "\n")
    return out / "report.html"


def _render(
    form: str, study: Study, sections: dict[str, dict[str, Any]]
) -> tuple[str, list[CitedWork]]:
    cited, numbered = _Numbers(), _Numbers()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genrescope.report", "templates"),
        autoescape=form == "html",  # noqa: S701  Markdown has its own filter
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["name"] = str if form == "html" else markdown_text
    unbroken = "\N{NO-BREAK SPACE}" if form == "html" else " "
    environment.filters["unbroken"] = lambda text: text.replace(" ", unbroken)
    environment.globals |= {
        "cited": cited,
        "numbered": numbered,
        "study": study,
        "version": __version__,
        "environment": study.cells[0].rows[0].environment if study.cells else {},
    }
    environment.globals["f"] = environment.get_template(f"{form}.j2").module
    text = environment.get_template(f"report.{form}.j2").render(sections=sections)
    return text, cited.works()


def _tables(value: Any) -> Iterator[ReportTable]:
    if isinstance(value, ReportTable):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tables(one)


def _emptied(folder: Path, *patterns: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for old in folder.glob(pattern):
            old.unlink()
    return folder
