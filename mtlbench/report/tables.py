"""Comparison tables as they are written: for the terminal, in Markdown, LaTeX and CSV. Nothing here loads an image.

What they hold is decided in `summary`.
"""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from mtlbench.report.grids import LATEX_PACKAGES, in_latex, latex_table
from mtlbench.report.rows import Column, Row, rows
from mtlbench.report.suites import Suite, suites
from mtlbench.report.summary import EVERYTHING, Choice, Summary, Table, summarise
from mtlbench.runs import Record

__all__ = [
    "ALIKE",
    "CellText",
    "Suite",
    "as_frame",
    "as_markup",
    "cell_texts",
    "for_terminal",
    "rows",
    "runs_frame",
    "show",
    "suites",
]
ALIKE = "≈"


@dataclass(frozen=True)
class CellText:
    """What stands in a cell; rank 1 is the column's best, 2 the second, 0 any other or none."""

    number: str
    spread: str
    alike: bool
    rank: int


def cell_texts(table: Table) -> dict[tuple[str, str], CellText]:
    """Return every cell of a table by (method, column key)."""
    found = {}
    for column in table.columns:
        ranks = _ranks(table.rows, column) if column.ranked else {}
        for row in table.rows:
            alike = column.key in row.alike
            found[row.method, column.key] = CellText(
                column.number(row), column.spread(row), alike, ranks.get(row.method, 0)
            )
    return found


def _ranks(shown: Sequence[Row], column: Column) -> dict[str, int]:
    """Return 1 for the methods with the best value as shown, 2 for those with the second; none if all are equal."""
    texts = {row.method: column.number(row) for row in shown if row.kind == "method"}
    numbers = {method: float(text.replace(",", "")) for method, text in texts.items() if text}
    places = sorted(set(numbers.values()), reverse=column.better == "high")
    if len(places) == 1 < len(numbers):
        return {}
    return {method: places.index(number) + 1 for method, number in numbers.items() if number in places[:2]}


# --- terminal ---------------------------------------------------------------------------------------------------------


def for_terminal(summary: Summary, width: int) -> Group:
    """Return a suite's tables and its receipt for a rich console of `width` characters.

    A table that is too wide goes on below, its first column repeated.
    """
    parts: list[Any] = []
    for table in summary.tables:
        texts = cell_texts(table)
        marked = {key for (_, key), text in texts.items() if text.alike}

        def plain(row: Row, column: Column, texts: Any = texts, marked: Any = marked) -> str:
            text = texts[row.method, column.key]
            mark = (f" {ALIKE}" if text.alike else "  ") if column.key in marked else ""
            return f"{text.number}{text.spread and ' '}{text.spread}{mark}"

        parts.append(Text(table.title, style="bold"))
        for block in _blocks(table, width, plain):
            grid = RichTable(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), show_edge=False)
            for column in block:
                side: Literal["left", "right"] = "left" if column.key == "method" else "right"
                grid.add_column(_heading(column.heading), justify=side, no_wrap=True, vertical="bottom")
            for number, row in enumerate(table.rows):
                if row.kind == "reference" and number and table.rows[number - 1].kind != "reference":
                    grid.add_section()
                style = "dim" if row.kind == "reference" else "red" if row.note else ""
                cells = []
                for column in block:
                    text = texts[row.method, column.key]
                    cell = Text(plain(row, column))
                    cell.stylize(("", "bold green", "underline")[text.rank], 0, len(text.number))
                    cells.append(cell)
                grid.add_row(*cells, style=style)
            parts += [grid, Text("")]
    parts += [Text(line, style="bold yellow") for line in summary.warnings]
    parts += [Text(line, style="bold red") for line in summary.notes]
    parts += [Text(line, style="dim") for line in summary.receipt]
    return Group(*parts)


def _heading(heading: str) -> str:
    return "\n".join(textwrap.wrap(heading, 10, break_long_words=False))


def _blocks(table: Table, width: int, text: Callable[[Row, Column], str]) -> list[list[Column]]:
    """Cut columns into blocks that fit a width, each with the first column."""

    def needed(column: Column) -> int:
        lines = _heading(column.heading).split("\n")
        return max(*map(len, lines), *(len(text(row, column)) for row in table.rows)) + 2

    first, *rest = table.columns
    blocks, used = [[first]], needed(first)
    for column in rest:
        if used + needed(column) > width and len(blocks[-1]) > 1:
            blocks.append([first])
            used = needed(first)
        blocks[-1].append(column)
        used += needed(column)
    return blocks


# --- Markdown and LaTeX -----------------------------------------------------------------------------------------------


def as_markup(summary: Summary, style: str) -> str:
    """Return a suite's tables and receipt as Markdown (`md`) or LaTeX (`latex`).

    LaTeX needs the packages booktabs, graphicx and, before 2018's release, inputenc for UTF-8.
    """
    return _markdown(summary) if style == "md" else _latex(summary)


def _markdown(summary: Summary) -> str:
    parts = []
    for table in summary.tables:
        texts = cell_texts(table)

        def cell(row: Row, column: Column, texts: Any = texts) -> str:
            text = texts[row.method, column.key]
            number = _in_markdown(text.number)
            number = ("{}", "**{}**", "<ins>{}</ins>")[text.rank].format(number) if number else ""
            return " ".join(filter(None, (number, text.spread, ALIKE if text.alike else "")))

        body = [[cell(row, column) for column in table.columns] for row in table.rows]
        align = ["left", *["right"] * (len(table.columns) - 1)]
        headings = [_in_markdown(column.heading) for column in table.columns]
        parts.append(f"### {_in_markdown(table.title)}\n")
        parts.append(tabulate(body, headings, tablefmt="github", colalign=align, disable_numparse=True) + "\n")
    for lines in (summary.warnings, summary.notes):
        parts += [f"- **{_in_markdown(line)}**" for line in lines]
    parts += [f"- {_in_markdown(line)}" for line in summary.receipt]
    return "\n".join(parts) + "\n"


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\|*<\[\]])", r"\\\1", re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text))


def _latex(summary: Summary) -> str:
    small = [*summary.warnings, *summary.notes, *summary.receipt]
    parts = []
    for table in summary.tables:
        texts = cell_texts(table)

        def cell(row: Row, column: Column, texts: Any = texts) -> str:
            text = texts[row.method, column.key]
            number = in_latex(text.number)
            number = re.sub(r"^([+-])(?=\d)", r"$\1$", number)
            number = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")[text.rank].format(number) if number else ""
            spread = rf"\,{{\scriptsize {in_latex(text.spread)}}}" if text.spread else ""
            return number + spread + (r"$^{\approx}$" if text.alike else "")

        body = [[cell(row, column) for column in table.columns] for row in table.rows]
        references = [number for number, row in enumerate(table.rows) if row.kind == "reference"]
        head = [column.heading for column in table.columns]
        parts.append(latex_table(table.title, head, body, small, rule=references[0] if references else 0))
    return "\n".join([LATEX_PACKAGES, *parts])


# --- CSV --------------------------------------------------------------------------------------------------------------


def as_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return one row per method of each suite, unrounded: what `--format csv` writes.

    Accuracies are shares, Δm per cent, costs in the units of `run.json`. `<column>/sd` is the sample standard deviation
    over seeds, `<column>/alike` whether the method can't be told apart from the column's best, empty where that was not
    tested. `suite` numbers what may share a table; each line of its receipt is a column.
    """
    lines = []
    for number, summary in enumerate(summaries, 1):
        accuracy = summary.tables[0] if summary.tables else Table("", [], [])
        keys = [column.key for column in accuracy.columns if column.key not in ("method", "seeds")]
        compared = {key for row in accuracy.rows for key in row.alike}
        notes = dict(line.split(": ", 1) for line in summary.receipt)
        for row in accuracy.rows:
            line: dict[str, Any] = {
                "suite": number,
                "benchmark": summary.suite.benchmark["name"],
                "method": row.method,
                "kind": row.kind,
                "n": len(row.seeds),
                "seeds": " ".join(map(str, row.seeds)),
            }
            for key in keys:
                cell = row.accuracy.get(key)
                line |= {key: cell and cell.mean, f"{key}/sd": cell and cell.deviation}
                if key in compared and row.kind == "method":
                    tested = row.seeds and row.method not in summary.untested
                    line[f"{key}/alike"] = key in row.alike if tested else None
            line |= {f"cost/{key}": cell.mean for key, cell in row.costs.items()}
            line |= {"note": row.note}
            line |= {"warnings": " ".join(summary.warnings)} | {
                f"receipt/{about}": text for about, text in notes.items()
            }
            lines.append(line)
    return pd.DataFrame(lines)


def runs_frame(found: Sequence[Suite]) -> pd.DataFrame:
    """Return one row per run with every metric, cost and receipt entry, unrounded: what `--format runs` writes."""
    lines = []
    for number, suite in enumerate(found, 1):
        for record in suite.records:
            line: dict[str, Any] = {
                "suite": number,
                "benchmark": suite.benchmark["name"],
                "method": record.method,
                "seed": record.seed,
                "kind": record.kind,
                "status": record.status,
                "reason": record.reason,
                "collapsed": " ".join(record.collapsed),
            }
            if record.metrics:
                for metric in dict.fromkeys(name for m in record.metrics.values() for name in m):
                    values = [m[metric] for m in record.metrics.values() if metric in m]
                    line |= {f"{metric}/mean": statistics.mean(values), f"{metric}/worst": min(values)}
            for task, metrics in record.metrics.items():
                line |= {f"{metric}/{task}": value for metric, value in metrics.items()}
            line |= {f"cost/{k}": v for k, v in record.costs.items()}
            flat = {**record.receipt, **{f"data_{k}": v for k, v in record.receipt.get("data", {}).items()}}
            line |= {f"receipt/{k}": v for k, v in flat.items() if k not in ("data", "traceback", "groups")}
            lines.append(line)
    return pd.DataFrame(lines)


def show(
    records: Sequence[Record],
    style: str,
    console: Console,
    choice: Choice = EVERYTHING,
    results: Path | None = None,
) -> None:
    """Write records to a console as `table`, `md`, `latex`, `csv` (a row per method) or `runs` (CSV, a row per run).

    Args:
        records: of any benchmarks.
        style: how.
        console: where to.
        choice: what of them is shown; `runs` has every run and metric anyway.
        results: where the records lie, see `summarise`.

    Raises:
        UserError: see `summarise`.
    """
    if style == "runs":
        console.file.write(runs_frame(suites(records)).to_csv(index=False))
        return
    found = summarise(records, choice, results)
    if style == "csv":
        console.file.write(as_frame(found).to_csv(index=False))
    elif style == "table":
        for summary in found:
            console.print(for_terminal(summary, console.width))
            console.print()
    else:
        console.file.write("\n".join(as_markup(summary, style) for summary in found))
