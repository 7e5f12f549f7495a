"""Tables whose cells are text already: for the terminal, in Markdown and in LaTeX. What they hold is left to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate


@dataclass(frozen=True)
class Grid:
    """A table as text; its first `names` columns name what a row is."""

    title: str
    head: list[str]
    body: list[list[str]]
    names: int = 1


def for_terminal(grids: Sequence[Grid], notes: Sequence[Text], width: int) -> Group:
    """Return tables, and notes below them, for a rich console of `width` characters.

    A table that is too wide goes on below, its first columns repeated.
    """
    parts: list[Any] = []
    for grid in grids:
        parts.append(Text(grid.title, style="bold"))
        for block in _blocks(grid, width):
            table = RichTable(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), show_edge=False)
            for column in block:
                side: Any = "left" if column < grid.names else "right"
                heading = Text(_heading(grid.head[column]))  # rich would read the brackets of a method as markup
                table.add_column(heading, justify=side, no_wrap=True, vertical="bottom")
            for cells in grid.body:
                table.add_row(*(Text(cells[column]) for column in block))
            parts += [table, Text("")]
    return Group(*parts, *notes)


def as_markup(grids: Sequence[Grid], notes: Sequence[str], style: str) -> str:
    """Return tables, and notes below them, as Markdown (`md`) or LaTeX (`latex`); see `latex_table`."""
    if style == "latex":
        made = []
        for grid in grids:
            body = [[in_latex(cell) for cell in row] for row in grid.body]
            made.append(latex_table(grid.title, grid.head, body, notes, names=grid.names))
        return "\n".join([LATEX_PACKAGES, *made])
    parts = []
    for grid in grids:
        align = ["left"] * grid.names + ["right"] * (len(grid.head) - grid.names)
        parts.append(f"### {grid.title}\n")
        parts.append(tabulate(grid.body, grid.head, "github", colalign=align, disable_numparse=True) + "\n")
    return "\n".join([*parts, *(f"- {line}" for line in notes)]) + "\n"


# --- LaTeX ------------------------------------------------------------------------------------------------------------

LATEX_PACKAGES = "% needs \\usepackage{booktabs,graphicx}"
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", **{letter: f"\\{letter}" for letter in "&%$#_{}"}, "±": r"$\pm$",
    "×": r"$\times$", "Δ": r"$\Delta$", "≈": r"$\approx$", "²": r"$^2$", "…": r"\dots{}", "≥": r"$\geq$",
}  # fmt: skip


def in_latex(text: str) -> str:
    """Return text as LaTeX writes it."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _stacked(heading: str, side: str) -> str:
    """Return a heading, in several lines where it is long: a table of many columns would be too small to read."""
    lines = _heading(heading).split("\n")
    stack = r" \\ ".join(map(in_latex, lines))
    return rf"\shortstack[{side}]{{{stack}}}" if len(lines) > 1 else stack


def latex_table(
    title: str, head: Sequence[str], body: Sequence[Sequence[str]], small: Sequence[str], rule: int = 0, names: int = 1
) -> str:
    """Return a float with a table, as wide as the page at most, and its small print.

    It needs the packages booktabs, graphicx and, before 2018's release, inputenc for UTF-8.

    Args:
        title, head, small: plain text.
        body: rows of cells in LaTeX.
        rule: a line is drawn above this row, unless it is the first.
        names: columns that name rows, flush left.
    """
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{in_latex(title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * names}{'r' * (len(head) - names)}}}",
        r"\toprule",
        " & ".join(_stacked(heading, "l" if n < names else "r") for n, heading in enumerate(head)) + r" \\",
        r"\midrule",
    ]
    for number, row in enumerate(body):
        if number and number == rule:
            lines.append(r"\midrule")
        lines.append(" & ".join(row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip", r"\parbox{\linewidth}{\scriptsize"]
    return "\n".join([*lines, " \\par\n".join(map(in_latex, small)) + "}", r"\end{table}", ""])


def _heading(text: str) -> str:
    """Break a heading at its spaces; a method's name has none."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + len(word) < 12:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _blocks(grid: Grid, width: int) -> list[list[int]]:
    """Cut columns into blocks that fit a width, each with the columns that name rows."""

    def needed(column: int) -> int:
        texts = [*_heading(grid.head[column]).split("\n"), *(cells[column] for cells in grid.body)]
        return max(map(len, texts)) + 2

    names = list(range(grid.names))
    blocks, used = [[*names]], sum(map(needed, names))
    for column in range(grid.names, len(grid.head)):
        if used + needed(column) > width and len(blocks[-1]) > grid.names:
            blocks.append([*names])
            used = sum(map(needed, names))
        blocks[-1].append(column)
        used += needed(column)
    return blocks
