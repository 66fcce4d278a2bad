"""Tables of a report: text in rows and groups, as LaTeX here, and elsewhere by the templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from genrescope.errors import one_line

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "±": r"$\pm$", "×": r"$\times$", "–": "--", "−": "$-$", "…": r"\ldots{}", "‘": "`", "’": "'",
    "\xa0": "~",
}  # fmt: skip
_LATIN = re.compile("(?![ĦħĸĿŀŉŦŧ])[ -~¡-ÿĀ-ž]")  # what LaTeX's font encoding T1 has


@dataclass(frozen=True)
class TableRow:
    """A row.

    Attributes
    ----------
    cells
        One for each column; of fewer, the last spans the rest.
    bold
        The place of the cell in bold; None for none.
    """

    cells: Sequence[str]
    bold: int | None = None


@dataclass(frozen=True)
class TableGroup:
    """Rows that belong together.

    Attributes
    ----------
    rows
        In order.
    title
        Such as a protocol; empty for none.
    mark
        A word about it, which pages colour.
    """

    rows: Sequence[TableRow]
    title: str = ""
    mark: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table.

    Attributes
    ----------
    name
        Of its file, without extension.
    caption
        A clause.
    columns
        Their headings.
    align
        A letter for each column: l (left), r (right) or X (text of several lines).
    groups
        In order.
    group_heading
        Of the column that Markdown, which has no rows over all columns, gives titles in.
    """

    name: str
    caption: str
    columns: Sequence[str]
    align: str
    groups: Sequence[TableGroup]
    group_heading: str = "protocol"


def plus_minus(mean: float, sd: float | None) -> str:
    """Format a mean and its standard deviation, if there is one."""
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"


def signed(difference: float) -> str:
    """Format a difference, with the minus sign of typesetting."""
    return f"{difference:+.3f}".replace("-", "−")


def span(ends: tuple[float, float]) -> str:
    """Format an interval."""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def or_dash(value: float | None, form: str) -> str:
    """Format a number; a dash if it is unknown."""
    return "–" if value is None else format(value, form)


def latex(table: ReportTable) -> str:
    """Format a table for LaTeX, in font encoding T1, with the packages booktabs and tabularx."""
    count = len(table.columns)
    flexible = "X" in table.align
    align = table.align.replace("X", r">{\raggedright\arraybackslash}X")
    kind, width = ("tabularx", r"{\linewidth}") if flexible else ("tabular", "")
    lines = [
        "% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs,tabularx}.",
        "\\begin{table}",
        "  \\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        f"  \\caption{{{latex_text(table.caption)}}}",
        f"  \\label{{tab:{table.name}}}",
        f"  \\begin{{{kind}}}{width}{{{align}}}",
        "    \\toprule",
        f"    {' & '.join(map(latex_text, table.columns))} \\\\",
    ]
    for group in table.groups:
        lines.append("    \\midrule")
        if group.title:
            title = latex_text(f"{group.title}, {group.mark}" if group.mark else group.title)
            lines.append(f"    \\multicolumn{{{count}}}{{l}}{{\\emph{{{title}}}}} \\\\")
        lines += [f"    {_latex_row(row, count)} \\\\" for row in group.rows]
    return "\n".join([*lines, "    \\bottomrule", f"  \\end{{{kind}}}", "\\end{table}", ""])


def _latex_row(row: TableRow, count: int) -> str:
    cells = [latex_text(cell) for cell in row.cells]
    if row.bold is not None:
        cells[row.bold] = f"\\textbf{{{cells[row.bold]}}}"
    if len(cells) < count:
        cells[-1] = f"\\multicolumn{{{count - len(cells) + 1}}}{{l}}{{{cells[-1]}}}"
    # A bracket after the end of a line, or a star, would be an argument.
    return "{}" * cells[0].startswith(("[", "*")) + " & ".join(cells)


def latex_text(text: str) -> str:
    """Escape a text for LaTeX; characters of other scripts become their code point."""
    return "".join(
        _LATEX.get(sign) or (sign if _LATIN.match(sign) else f"[U+{ord(sign):04X}]")
        for sign in one_line(text)
    )
