"""Comparison tables as they are written: for the terminal, in Markdown and LaTeX. Nothing here loads an image.

`summary` decides what they hold; `frames` writes tables for machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group

from mtlbench.report import grids
from mtlbench.report.columns import Column
from mtlbench.report.frames import as_frame, runs_frame
from mtlbench.report.grids import CellText, Grid, Note
from mtlbench.report.rows import Row, rows
from mtlbench.report.suites import Suite, suites
from mtlbench.report.summary import EVERYTHING, Choice, Summary, Table, summarise
from mtlbench.report.verdict import verdict, verdicts
from mtlbench.runs import Record

__all__ = [
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


def cell_texts(table: Table) -> dict[tuple[str, str], CellText]:
    """Return every cell of a table by (method, column key)."""
    found = {}
    for column in table.columns:
        ranks = _ranks(table.rows, column) if column.ranked else {}
        for row in table.rows:
            standing = row.standing.get(column.key, "")
            found[row.method, column.key] = CellText(
                column.number(row), column.spread(row), standing, ranks.get(row.method, 0)
            )
    return found


def _ranks(shown: Sequence[Row], column: Column) -> dict[str, int]:
    """Return 1 for the methods with the best value as shown, 2 for those with the second; none if all are equal."""
    ranked = [row for row in shown if row.kind == "method"]
    texts = {row.method: column.number(row) for row in ranked}
    numbers = {method: float(text.replace(",", "")) for method, text in texts.items() if text}
    places = sorted(set(numbers.values()), reverse=column.better == "high")
    if len(places) == 1 < len(numbers):
        return {}
    return {method: places.index(number) + 1 for method, number in numbers.items() if number in places[:2]}


def _grid(table: Table) -> Grid:
    texts = cell_texts(table)
    shown = [row for row in table.rows if not row.again]
    return Grid(
        table.title,
        [column.heading for column in table.columns],
        [[texts[row.method, column.key] for column in table.columns] for row in shown],
        looks=[
            "reference" if row.kind == "reference" else "trouble" if row.outcome.wrong else "plain" for row in shown
        ],
        spare=[place for place, column in enumerate(table.columns) if column.spare],
    )


def _notes(summary: Summary, small: Sequence[str]) -> list[Note]:
    return grids.notes(
        ("warning", summary.warnings), ("trouble", summary.wrong), ("remark", summary.remarks), ("small", small)
    )


def for_terminal(summary: Summary, width: int, notes: bool = True) -> Group:
    """Return a suite's tables and what they come to, for a rich console of `width` characters.

    Without `notes`, the small print is what no table goes without, and a table that is too wide leaves out the columns
    that say again what others say.
    """
    small = summary.receipt if notes else summary.brief
    given = _notes(summary, small)
    below = [*given, *grids.notes(("remark", [*([""] if given else []), *verdict(summary).closing]))]
    return grids.for_terminal([_grid(table) for table in summary.tables], below, width, whole=notes)


def as_markup(summary: Summary, style: str) -> str:
    """Return a suite's tables and receipt as Markdown (`md`), LaTeX (`latex`) or HTML (`html`)."""
    return grids.as_markup([_grid(table) for table in summary.tables], _notes(summary, summary.receipt), style)


def show(
    records: Sequence[Record],
    style: str,
    console: Console,
    choice: Choice = EVERYTHING,
    results: Path | None = None,
    notes: bool = True,
) -> None:
    """Write records to a console: `table`, `md`, `latex`, `csv` (a row per method), `runs` (a row per run), `verdict`.

    Args:
        records: of any benchmarks.
        style: how.
        console: where to.
        choice: what of them is shown; `runs` has every run and metric anyway.
        results: where the records lie, see `summarise`.
        notes: of a `table`, see `for_terminal`.

    Raises:
        UserError: see `summarise`.
    """
    if style == "runs":
        console.file.write(grids.as_csv(runs_frame(suites(records))))
        return
    found = summarise(records, choice, results)
    if style == "csv":
        console.file.write(grids.as_csv(as_frame(found)))
    elif style == "verdict":
        console.file.write(verdicts(found))
    elif style == "table":
        for summary in found:
            console.print(for_terminal(summary, console.width, notes))
            console.print()
    else:
        console.file.write("\n".join(as_markup(summary, style) for summary in found))
