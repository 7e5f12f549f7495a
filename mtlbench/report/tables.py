"""Comparison tables as they are written: for the terminal, in Markdown, LaTeX and CSV. Nothing here loads an image.

What they hold is decided in `summary`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, Group

from mtlbench.report import grids
from mtlbench.report.columns import Column
from mtlbench.report.grids import CellText, Grid, Note
from mtlbench.report.rows import Row, rows
from mtlbench.report.suites import Suite, suites
from mtlbench.report.summary import EVERYTHING, Choice, Summary, Table, summarise
from mtlbench.report.verdict import verdict
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
    ranked = [row for row in shown if row.kind == "method" and (column.base_ranked or not row.is_base)]
    texts = {row.method: column.number(row) for row in ranked}
    numbers = {method: float(text.replace(",", "")) for method, text in texts.items() if text}
    places = sorted(set(numbers.values()), reverse=column.better == "high")
    if len(places) == 1 < len(numbers):
        return {}
    return {method: places.index(number) + 1 for method, number in numbers.items() if number in places[:2]}


def _grid(table: Table) -> Grid:
    texts = cell_texts(table)
    return Grid(
        table.title,
        [column.heading for column in table.columns],
        [[texts[row.method, column.key] for column in table.columns] for row in table.rows],
        looks=[
            "reference" if row.kind == "reference" else "trouble" if row.outcome.remarkable else "plain"
            for row in table.rows
        ],
    )


def _notes(summary: Summary) -> list[Note]:
    return grids.notes(("warning", summary.warnings), ("trouble", summary.notes), ("small", summary.receipt))


def for_terminal(summary: Summary, width: int) -> Group:
    """Return a suite's tables, its receipt and what they come to, for a rich console of `width` characters."""
    below = [*_notes(summary), *grids.notes(("remark", ["", *verdict(summary).closing]))]
    return grids.for_terminal([_grid(table) for table in summary.tables], below, width)


def as_markup(summary: Summary, style: str) -> str:
    """Return a suite's tables and receipt as Markdown (`md`), LaTeX (`latex`) or HTML (`html`)."""
    return grids.as_markup([_grid(table) for table in summary.tables], _notes(summary), style)


# --- CSV --------------------------------------------------------------------------------------------------------------


def as_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return one row per method of each suite, unrounded: what `--format csv` writes.

    Accuracies are shares, Δm per cent, costs in the units of `run.json`. `<column>/sd` is the sample standard deviation
    over seeds, `<column>/standing` how the method stands to the column's best (best, tied, worse, undecided; empty
    where that was not compared), `<column>/vs_best` the difference to it with its interval, /low and /high.
    `suite` numbers what may share a table; each line of its receipt is a column.
    """
    lines = []
    for number, summary in enumerate(summaries, 1):
        accuracy = summary.tables[0] if summary.tables else Table("", [], [])
        keys = [column.key for column in accuracy.columns if column.key not in ("method", "seeds", "versus", "against")]
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
                if key in summary.comparison.best and row.kind == "method":
                    line[f"{key}/standing"] = row.standing.get(key)
                    line |= _versus(row, key)
            if row.against is not None:
                low, high = row.against.interval(row.level)
                line |= {"mean/against": row.against.difference, "mean/against/low": low, "mean/against/high": high}
            line |= {f"cost/{key}": cell.mean for key, cell in row.costs.items()}
            line |= {"status": row.status, "note": row.note, "warnings": " ".join(summary.warnings)}
            line |= {f"receipt/{small.about}": small.text for small in summary.lines}
            lines.append(line)
    return pd.DataFrame(lines)


def _versus(row: Row, key: str) -> dict[str, float | None]:
    pair = row.versus.get(key)
    names = [f"{key}/vs_best{end}" for end in ("", "/low", "/high")]
    values = (pair.difference, *pair.interval(row.level)) if pair else (None, None, None)
    return dict(zip(names, values, strict=True))


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
        console.file.write(grids.as_csv(runs_frame(suites(records))))
        return
    found = summarise(records, choice, results)
    if style == "csv":
        console.file.write(grids.as_csv(as_frame(found)))
    elif style == "table":
        for summary in found:
            console.print(for_terminal(summary, console.width))
            console.print()
    else:
        console.file.write("\n".join(as_markup(summary, style) for summary in found))
