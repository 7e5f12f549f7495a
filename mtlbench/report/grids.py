"""The one writer of tables: cells of text, for the terminal, in Markdown and in LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

MARKS: dict[str, str] = {"best": "*", "tied": "≈", "undecided": "?"}  # of how a cell stands to its column's best
Look = Literal["plain", "reference", "trouble"]  # of a row
_ROWS: dict[Look, str] = {"plain": "", "reference": "dim", "trouble": "red"}
Kind = Literal["warning", "trouble", "remark", "small"]
_LENGTHS = (80, 20, 12)  # of a heading's lines, in characters, from the widest table to the narrowest
_MOST = 20  # columns of numbers in a table of Markdown or LaTeX: ten tasks beside means, differences and retrieval
_NOTES: dict[Kind, str] = {"warning": "bold yellow", "trouble": "bold red", "remark": "", "small": "dim"}


@dataclass(frozen=True)
class CellText:
    """The content of a cell.

    Attributes:
        number: the cell's text itself.
        spread: what stands behind it, such as "±0.3".
        standing: how it stands to the column's best, see `rows.Standing`; empty where that was not compared.
        rank: 1 for the column's best, 2 for the second, 0 for any other or none.
    """

    number: str
    spread: str = ""
    standing: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        body: rows of cells; plain text stands for a cell of nothing else.
        names: how many columns, the first ones, name what a row is.
        looks: of the rows; plain where it is empty. A line is drawn above the first reference row.
        spare: columns that say again what others say, which a narrow terminal does without.
    """

    title: str
    head: list[str]
    body: Sequence[Sequence[CellText | str]]
    names: int = 1
    looks: Sequence[Look] = ()
    spare: Sequence[int] = ()

    @property
    def cells(self) -> list[list[CellText]]:
        """The body, every cell as a `CellText`."""
        return [[CellText(cell) if isinstance(cell, str) else cell for cell in row] for row in self.body]

    @property
    def rule(self) -> int:
        """The first reference row, if others stand above it; else 0."""
        return list(self.looks).index("reference") if "reference" in self.looks else 0


@dataclass(frozen=True)
class Note:
    """A line below tables, and how much it wants to be seen."""

    text: str
    kind: Kind = "small"


def notes(*given: tuple[Kind, Iterable[str]]) -> list[Note]:
    """Return lines of several kinds, one below the other."""
    return [Note(text, kind) for kind, texts in given for text in texts]


# --- terminal ---------------------------------------------------------------------------------------------------------


class Trimmed:
    """Shows something on a rich console without the spaces that rich puts at the ends of lines."""

    def __init__(self, what: RenderableType) -> None:
        self.what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render line by line."""
        for line in console.render_lines(self.what, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
            yield from line
            yield Segment.line()


def for_terminal(grids: Sequence[Grid], below: Sequence[Note], width: int, whole: bool = True) -> Group:
    """Return tables, and notes below them, for a rich console of `width` characters.

    A table that is too wide goes on below, the columns that name rows repeated; unless it is wanted `whole`, it first
    does without its spare columns.
    """
    parts: list[Any] = []
    for grid in grids:
        cells = grid.cells
        marked = [any(row[column].standing for row in cells) for column in range(len(grid.head))]
        plain = [[_plain(cell, mark) for cell, mark in zip(row, marked, strict=True)] for row in cells]
        parts.append(Text(grid.title, style="bold"))
        for length in _LENGTHS:  # headings are broken as little as the width allows
            head = [_heading(_cut(text, max(24, width // 4)), length) for text in grid.head]
            blocks = _blocks(grid, head, plain, width)
            if len(blocks) == 1:
                break
        if len(blocks) > 1 and not whole:
            blocks = _blocks(grid, head, plain, width, grid.spare)
        for number, block in enumerate(blocks):
            table = RichTable(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), show_edge=False)
            for column in block:
                side: Any = "left" if column < grid.names else "right"
                heading = Text(head[column])  # rich would read the brackets of a method as markup
                table.add_column(heading, justify=side, no_wrap=True, vertical="bottom")
            for place, row in enumerate(cells):
                if place and place == grid.rule:
                    table.add_section()
                written = []
                for column in block:
                    named = number and column < grid.names  # what is said of a row stands once
                    cell = Text(row[column].number if named else plain[place][column])
                    cell.stylize(("", "bold green", "underline")[row[column].rank], 0, len(row[column].number))
                    written.append(cell)
                table.add_row(*written, style=_ROWS[grid.looks[place]] if grid.looks else "")
            parts += [table, Text("")]
    return Group(Trimmed(Group(*parts, *(Text(note.text, style=_NOTES[note.kind]) for note in below))))


def _plain(cell: CellText, marked: bool) -> str:
    """Write a cell; in a column with marks all numbers stand below each other."""
    mark = f" {MARKS.get(cell.standing, ' ')}" if marked else ""
    return f"{cell.number}{cell.spread and ' '}{cell.spread}{mark}"


def _heading(text: str, length: int = _LENGTHS[-1]) -> str:
    """Break a heading at its spaces into lines of at most `length` characters; a method's name has none."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + len(word) < length:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _cut(heading: str, longest: int) -> str:
    """Cut the middle out of a heading's long words: such a column would take the width of those that name rows."""
    half = longest // 2
    return " ".join(w if len(w) <= longest else f"{w[:half]}…{w[1 - half :]}" for w in heading.split(" "))


def _blocks(
    grid: Grid, head: Sequence[str], plain: Sequence[Sequence[str]], width: int, without: Sequence[int] = ()
) -> list[list[int]]:
    """Cut columns into blocks that fit a width, each with the columns that name rows; leave out those of `without`."""

    def needed(column: int) -> int:
        texts = [*head[column].split("\n"), *(cells[column] for cells in plain)]
        return max(map(len, texts)) + 2

    names = list(range(grid.names))
    short = {name: max(len(grid.head[name]), *(len(row[name].number) for row in grid.cells)) + 2 for name in names}
    blocks, used = [[*names]], sum(map(needed, names))
    for column in range(grid.names, len(grid.head)):
        if column in without:
            continue
        if used + needed(column) > width and len(blocks[-1]) > grid.names:
            blocks.append([*names])
            used = sum(short.values())
        blocks[-1].append(column)
        used += needed(column)
    return blocks


# --- Markdown ---------------------------------------------------------------------------------------------------------


def as_markup(grids: Sequence[Grid], below: Sequence[Note], style: str) -> str:
    """Return tables, and notes below them, as Markdown (`md`), LaTeX (`latex`) or HTML (`html`).

    In Markdown and LaTeX a table of many columns is several, each with the columns that name rows. LaTeX needs the
    packages booktabs, graphicx and, before 2018's release, inputenc for UTF-8; notes stand below its first table.
    """
    if style != "html":
        grids = [piece for grid in grids for piece in _pieces(grid)]
    return {"md": _markdown, "latex": _latex, "html": _html}[style](grids, below)


def _pieces(grid: Grid) -> list[Grid]:
    """Cut a table of more columns than a page can show into several of about equal width."""
    more = len(grid.head) - grid.names
    number = math.ceil(more / _MOST)
    if number < 2:
        return [grid]
    cells, found = grid.cells, []
    for piece in range(number):
        start, end = (grid.names + more * place // number for place in (piece, piece + 1))
        body = [
            [*(CellText(name.number) if piece else name for name in row[: grid.names]), *row[start:end]]
            for row in cells
        ]
        head = [*grid.head[: grid.names], *grid.head[start:end]]
        found.append(Grid(f"{grid.title}, part {piece + 1} of {number}", head, body, grid.names, grid.looks))
    return found


def _markdown(grids: Sequence[Grid], below: Sequence[Note]) -> str:
    parts = []
    for grid in grids:
        body = [[_cell_in_markdown(cell) for cell in row] for row in grid.cells]
        align = ["left"] * grid.names + ["right"] * (len(grid.head) - grid.names)
        head = [in_markdown(heading) for heading in grid.head]
        parts.append(f"### {in_markdown(grid.title)}\n")
        parts.append(tabulate(body, head, "github", colalign=align, disable_numparse=True) + "\n")
    for note in below:
        text = in_markdown(note.text)
        parts.append(f"- **{text}**" if note.kind in ("warning", "trouble") else f"- {text}")
    return "\n".join(parts) + "\n"


def _cell_in_markdown(cell: CellText) -> str:
    number = in_markdown(cell.number)
    number = ("{}", "**{}**", "<ins>{}</ins>")[cell.rank].format(number) if number else ""
    return " ".join(filter(None, (number, cell.spread, MARKS.get(cell.standing, "").strip("*"))))


def in_markdown(text: str) -> str:
    """Return text as Markdown writes it, in one line: no sign of it formats, links or begins a formula."""
    plain = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(text.split()))
    return re.sub(r"([\\|*<>\[\]`$]|~(?=~))", r"\\\1", re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", plain))


# --- CSV --------------------------------------------------------------------------------------------------------------


def in_csv(value: Any) -> Any:
    """Return a cell as CSV holds it: of text that a spreadsheet would take for a formula, an apostrophe comes first.

    >>> in_csv("=1+1"), in_csv("-0.5"), in_csv(2.0)
    ("'=1+1", '-0.5', 2.0)
    """
    return f"'{value}" if isinstance(value, str) and re.match(r"[=+\-@\t\r]", value) and not _number(value) else value


def _number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def as_csv(frame: pd.DataFrame) -> str:
    """Write a frame as CSV, a row per line, without its index."""
    return frame.rename(columns=in_csv).map(in_csv).to_csv(index=False)


# --- HTML -------------------------------------------------------------------------------------------------------------


def _html(grids: Sequence[Grid], below: Sequence[Note]) -> str:
    parts = []
    for grid in grids:
        sides = ["left"] * grid.names + ["right"] * (len(grid.head) - grid.names)
        head = "".join(f'<th style="text-align:{s}">{escape(h)}</th>' for s, h in zip(sides, grid.head, strict=True))
        rows = []
        for row in grid.cells:
            cells = zip(sides, map(_cell_in_html, row), strict=True)
            rows.append("".join(f'<td style="text-align:{side}">{cell}</td>' for side, cell in cells))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        caption = f'<caption style="text-align:left;font-weight:bold">{escape(grid.title)}</caption>'
        parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    small = [f"<b>{escape(n.text)}</b>" if n.kind in ("warning", "trouble") else escape(n.text) for n in below]
    return "\n".join([*parts, f"<small>{'<br>'.join(small)}</small>"])


def _cell_in_html(cell: CellText) -> str:
    number = ("{}", "<b>{}</b>", "<u>{}</u>")[cell.rank].format(escape(cell.number)) if cell.number else ""
    return " ".join(filter(None, (number, escape(cell.spread), MARKS.get(cell.standing, "").strip("*"))))


# --- LaTeX ------------------------------------------------------------------------------------------------------------

_PACKAGES = "% needs \\usepackage{booktabs,graphicx}"
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", **{letter: f"\\{letter}" for letter in "&%$#_{}"}, "±": r"$\pm$",
    "×": r"$\times$", "Δ": r"$\Delta$", "≈": r"$\approx$", "²": r"$^2$", "…": r"\dots{}", "≥": r"$\geq$",
    "·": r"$\cdot$", "[": "{[}", "*": "{*}",  # after a row's end these two would be read as its options
}  # fmt: skip


_SIGNS = {"tied": r"$^{\approx}$", "undecided": "$^{?}$"}  # the best is bold


def in_latex(text: str) -> str:
    """Return text as LaTeX writes it, in one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _latex(grids: Sequence[Grid], below: Sequence[Note]) -> str:
    return "\n".join([_PACKAGES, *(_latex_table(grid, () if place else below) for place, grid in enumerate(grids))])


def _latex_table(grid: Grid, below: Sequence[Note]) -> str:
    """Return a float with a table, as wide as the page at most, and its small print where there is any."""
    head = [_stacked(heading, "l" if n < grid.names else "r") for n, heading in enumerate(grid.head)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{in_latex(grid.title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * grid.names}{'r' * (len(grid.head) - grid.names)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    for place, row in enumerate(grid.cells):
        if place and place == grid.rule:
            lines.append(r"\midrule")
        lines.append(" & ".join(map(_cell_in_latex, row)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if below:
        small = " \\par\n".join(in_latex(note.text) for note in below)
        lines += [r"\par\smallskip", r"\parbox{\linewidth}{\scriptsize", small + "}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _cell_in_latex(cell: CellText) -> str:
    number = re.sub(r"(^| |\{\[\})([+-])(?=\d)", r"\1$\2$", in_latex(cell.number))
    number = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")[cell.rank].format(number) if number else ""
    spread = rf"\,{{\scriptsize {in_latex(cell.spread)}}}" if cell.spread else ""
    return number + spread + _SIGNS.get(cell.standing, "")


def _stacked(heading: str, side: str) -> str:
    """Return a heading, in several lines where it is long: a table of many columns would be too small to read."""
    lines = _heading(heading).split("\n")
    stack = r" \\ ".join(map(in_latex, lines))
    return rf"\shortstack[{side}]{{{stack}}}" if len(lines) > 1 else stack
