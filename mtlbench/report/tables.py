"""Comparison tables from run records, for the terminal, Markdown, LaTeX and CSV. Nothing here loads an image.

Runs that differ in protocol, tasks, data, precision or device go into tables of their own.
"""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from mtlbench.runs import Json, Record, essential, without_training


@dataclass(frozen=True)
class Suite:
    """Records that may stand in one table: they differ in method and seed alone."""

    benchmark: Json
    tasks: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def receipt(self) -> Json:
        """The receipt of its first finished run, or of its first."""
        done = [r for r in self.records if r.status == "done" and r.kind == "method"]
        return (done or list(self.records))[0].receipt


@dataclass(frozen=True)
class Cell:
    """A measured value over seeds; None where there is none."""

    mean: float | None
    deviation: float | None = None  # sample standard deviation, from two seeds on

    @staticmethod
    def of(values: Sequence[float | None]) -> Cell:
        """Summarise one value a seed."""
        known = [v for v in values if v is not None and not math.isnan(v)]
        if not known or len(known) < len(values):
            return Cell(None)
        return Cell(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True)
class Row:
    """One method's results over its seeds, by column name; `note` says what went wrong."""

    method: str
    kind: str
    seeds: tuple[int, ...]
    accuracy: dict[str, Cell]
    costs: dict[str, Cell]
    note: str


def suites(records: Sequence[Record]) -> list[Suite]:
    """Sort records into suites; reference rows join every suite that differs from theirs in training alone."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == "method":
            # the digests of methods' own sources differ between methods; they are compared before a run is skipped
            setup = {k: v for k, v in essential(record.setup).items() if k not in ("method", "code", "seed")}
            key = [setup, record.setup.get("code", {}).get("training"), record.receipt.get("device")]
            found.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    for members in found.values():
        wanted = without_training(members[0].setup)
        members += [r for r in records if r.kind == "reference" and without_training(r.setup) == wanted]
    return [Suite(rs[0].setup["benchmark"], tuple(rs[0].setup["tasks"]), tuple(rs)) for rs in found.values()]


def rows(suite: Suite, metric: str = "triplet") -> list[Row]:
    """Summarise a suite, a row per method, best mean first; failed methods follow, reference rows come last."""
    by_method: dict[str, list[Record]] = {}
    for record in suite.records:
        by_method.setdefault(record.method, []).append(record)
    found = [_row(name, sorted(records, key=lambda r: r.seed), suite, metric) for name, records in by_method.items()]

    def order(row: Row) -> tuple[bool, bool, float]:
        mean = row.accuracy["mean"].mean
        return row.kind == "reference", mean is None, -(mean or 0)

    return sorted(found, key=order)


def _row(name: str, records: list[Record], suite: Suite, metric: str) -> Row:
    done = [r for r in records if r.status == "done"]

    def over(pick: Callable[[Record], float | None]) -> Cell:
        return Cell.of([pick(r) for r in done]) if done else Cell(None)

    def value(record: Record, task: str, name: str) -> float | None:
        return record.metrics[task].get(name)

    def across(record: Record, name: str, how: Callable[[list[float]], float]) -> float | None:
        values = [value(record, task, name) for task in suite.tasks]
        known = [v for v in values if v is not None]
        return how(known) if len(known) == len(values) else None

    accuracy = {
        "mean": over(lambda r: across(r, metric, statistics.mean)),
        "worst": over(lambda r: across(r, metric, min)),
        **{f"task/{t}": over(lambda r, t=t: value(r, t, metric)) for t in suite.tasks},  # type: ignore[misc]
        "macro map@r": over(lambda r: across(r, "macro/map@r", statistics.mean)),
        "macro precision@1": over(lambda r: across(r, "macro/precision@1", statistics.mean)),
    }
    names = dict.fromkeys(k for r in done for k in r.costs)
    costs = {k: over(lambda r, k=k: r.costs.get(k)) for k in names}  # type: ignore[misc]
    costs["training_seconds"] = over(lambda r: r.receipt.get("training_seconds"))
    notes = []
    for record in records:
        seed = f"seed {record.seed} " if len(records) > 1 else ""
        if record.status != "done":
            notes.append(f"{seed}FAILED: {record.reason}")
            continue
        if record.collapsed:
            which = "all tasks" if len(record.collapsed) == len(suite.tasks) else ", ".join(record.collapsed)
            chosen = f"checkpoint of step {record.receipt.get('selected_step')} shown"
            notes.append(f"{seed}COLLAPSED ({which}): all embeddings equal, loss stuck at the margin; {chosen}")
        if record.reason:
            notes.append(f"{seed}{record.reason}")
    return Row(name, records[0].kind, tuple(r.seed for r in done), accuracy, costs, "; ".join(notes))


# --- what the columns are --------------------------------------------------------------------------------------------

Column = tuple[str, Callable[[Row], str]]  # heading, text


def _number(cell: Cell | None, digits: int = 1, scale: float = 1.0, deviation: bool = True) -> str:
    if cell is None or cell.mean is None:
        return ""
    text = f"{cell.mean * scale:,.{digits}f}"
    return text + (f" ±{cell.deviation * scale:.{digits}f}" if deviation and cell.deviation is not None else "")


def _short(cell: Cell | None) -> str:
    """Three figures: 1,234 · 123 · 12.3 · 1.23."""
    if cell is None or cell.mean is None:
        return ""
    return _number(cell, 0 if abs(cell.mean) >= 100 else 1 if abs(cell.mean) >= 10 else 2, deviation=False)


def _accuracy_columns(suite: Suite, found: Sequence[Row]) -> list[Column]:
    def percent(key: str) -> Callable[[Row], str]:
        return lambda row: _number(row.accuracy[key], 1, 100)

    several = any(len(row.seeds) > 1 for row in found)
    columns: list[Column] = [("method", lambda row: row.method)]
    if several:
        columns.append(("seeds", lambda row: str(len(row.seeds)) if row.seeds else ""))
    columns += [("mean", percent("mean")), ("worst", percent("worst"))]
    columns += [(task.replace("_", " "), percent(f"task/{task}")) for task in suite.tasks]
    columns += [("mAP@R", percent("macro map@r")), ("P@1", percent("macro precision@1"))]
    return columns


def _cost_columns() -> list[Column]:
    def scaled(key: str, scale: float) -> Callable[[Row], str]:
        def text(row: Row) -> str:
            cell = row.costs.get(key)
            return _short(Cell(cell.mean * scale)) if cell and cell.mean is not None else ""

        return text

    def rate(key: str) -> Callable[[Row], str]:
        def text(row: Row) -> str:
            middle, low, high = (row.costs.get(key + end) for end in ("", "_slowest", "_fastest"))
            if not (middle and low and high and middle.mean and low.mean and high.mean):
                return ""
            spread = (high.mean - low.mean) / 2 / middle.mean
            return f"{_short(middle)} ±{spread * 100:.0f}%"

        return text

    return [
        ("method", lambda row: row.method),
        ("parameters", lambda row: _number(row.costs.get("parameters"), 0, deviation=False)),
        ("file MB", scaled("file_bytes", 1e-6)),
        ("shared MB", scaled("bytes_shared", 1e-6)),
        ("per task kB", scaled("bytes_per_task", 1e-3)),
        ("next task adds kB", scaled("bytes_added", 1e-3)),
        ("MFLOPs, 1 task", scaled("flops_one_task", 1e-6)),
        ("MFLOPs, all tasks", scaled("flops_all_tasks", 1e-6)),
        ("train img/s", rate("train_rate")),
        ("embed img/s, 1 task", rate("embed_rate_one_task")),
        ("embed img/s, all tasks", rate("embed_rate_all_tasks")),
        ("train MB", scaled("training_memory", 1e-6)),
        ("train s", scaled("training_seconds", 1)),
    ]


def title(suite: Suite, metric: str) -> str:
    """Return what a suite's tables are headed with."""
    quick = ", quick protocol" if suite.benchmark["name"].endswith("-quick") else ""
    drawn = " (rendered images, not real ones)" if suite.receipt.get("data", {}).get("rendered") else ""
    shown = "triplet accuracy" if metric == "triplet" else metric
    return f"{suite.benchmark['title']}{drawn}{quick}: {shown} in %"


def receipt_lines(suite: Suite) -> list[str]:
    """Return the small print under a suite's tables: what was measured, on what, and how it was chosen."""
    receipt, train, ev = suite.receipt, suite.benchmark["train"], suite.benchmark["evaluation"]
    data, data_settings = receipt.get("data", {}), suite.benchmark["data"]
    seeds = sorted({r.seed for r in suite.records if r.kind == "method"})
    size = data_settings["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    done = [r.receipt for r in suite.records if r.status == "done" and r.kind == "method"]
    seen = sorted({r["images_seen"] for r in done})
    commits = sorted({r["commit"] for r in done if r.get("commit")})
    tried = suite.benchmark["train"].get("tried", 1)
    chosen = f"protocol chosen among {tried}, the same for all methods" if tried > 1 else "no other protocol tried"
    over = f", mean ± sample standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else ""
    named = "rendered, not real" if data.get("rendered") else "real images"
    cells = {
        "value": "",
        "first": ", of several values in a cell the first",
        "unlabelled": ", cells of several values unlabelled",
    }
    rules = cells[data_settings.get("multi_valued", "value")]
    if data_settings.get("min_images"):
        rules += f", values of fewer than {data_settings['min_images']} images unlabelled"
    if data.get("unreadable"):
        rules += f", {data['unreadable']:,} unreadable image{'s' * (data['unreadable'] > 1)} left out"
    return [
        f"accuracy: {receipt.get('test_triplets', ev['triplets']):,} test triplets a task, the same for all"
        f" methods{over};"
        " mAP@R, P@1: macro means over label values, mean over tasks.",
        f"data: {data.get('name')} ({named}), {data.get('train_images', 0):,} / {data.get('val_images', 0):,} /"
        f" {data.get('test_images', 0):,} train / val / test images {height}×{width} px,"
        f" split {data.get('split')}{rules}, fingerprint {data.get('fingerprint')}.",
        f"protocol: {suite.benchmark['model']['backbone']} backbone, {suite.benchmark['model']['embedding']}-d,"
        f" {train['sampling']} triplets, {train['optimiser']} lr {train['lr']:g} {train['schedule']},"
        f" {train['steps']:,} steps{''.join(f', {s:,} images seen' for s in seen)};"
        f" checkpoint of highest mean validation accuracy; {chosen}; seeds"
        f" {', '.join(map(str, seeds))}.",
        f"speed, memory: {receipt.get('device')}, {receipt.get('precision')}; median ± half the range; rates count"
        " images, not images × tasks.",
        f"made by: mtlbench {receipt.get('mtlbench')}{f' ({chr(44).join(commits)})' if commits else ''},"
        f" torch {receipt.get('torch')}, Python {receipt.get('python')}, {str(receipt.get('date'))[:10]}.",
    ]


# --- the formats ------------------------------------------------------------------------------------------------------


def for_terminal(suite: Suite, width: int, metric: str = "triplet") -> Group:
    """Return a suite's tables and its receipt for a rich console of `width` characters.

    A table that is too wide goes on below, its first column repeated.
    """
    parts: list[Any] = []
    found = rows(suite, metric)
    for name, columns, shown in _tables(suite, found, metric):
        best = _best(shown, columns) if name != "Cost" else {}
        parts.append(Text(name, style="bold"))
        for block in _blocks(columns, shown, width):
            table = RichTable(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), show_edge=False)
            for heading, _ in block:
                side: Literal["left", "right"] = "left" if heading == "method" else "right"
                table.add_column(_heading(heading), justify=side, no_wrap=True, vertical="bottom")
            for number, row in enumerate(shown):
                if row.kind == "reference" and number and shown[number - 1].kind != "reference":
                    table.add_section()
                style = "dim" if row.kind == "reference" else "red" if row.note else ""
                marks = ["bold green" if row.method in best.get(heading, ()) else "" for heading, _ in block]
                table.add_row(*(Text(c[1](row), style=m) for c, m in zip(block, marks, strict=True)), style=style)
            parts += [table, Text("")]
    parts += [Text(f"{row.method}: {row.note}", style="bold red") for row in found if row.note]
    parts += [Text(line, style="dim") for line in receipt_lines(suite)]
    return Group(*parts)


def _tables(suite: Suite, found: Sequence[Row], metric: str) -> list[tuple[str, list[Column], list[Row]]]:
    """Return what a suite's tables are: heading, columns, rows."""
    costly = [row for row in found if row.costs.get("parameters")]
    tables = [(title(suite, metric), _accuracy_columns(suite, found), list(found)), ("Cost", _cost_columns(), costly)]
    return [table for table in tables if table[2]]


def _heading(heading: str) -> str:
    return "\n".join(textwrap.wrap(heading, 10, break_long_words=False))


def _blocks(columns: Sequence[Column], shown: Sequence[Row], width: int) -> list[list[Column]]:
    """Cut columns into blocks that fit a width, each with the first column."""

    def needed(column: Column) -> int:
        heading, text = column
        return max(*(len(line) for line in _heading(heading).split("\n")), *(len(text(row)) for row in shown)) + 2

    first, *rest = columns
    blocks, used = [[first]], needed(first)
    for column in rest:
        if used + needed(column) > width and len(blocks[-1]) > 1:
            blocks.append([first])
            used = needed(first)
        blocks[-1].append(column)
        used += needed(column)
    return blocks


def _best(shown: Sequence[Row], columns: Sequence[Column]) -> dict[str, list[str]]:
    """Return the methods with the highest value shown, by the heading of the accuracy column."""
    best = {}
    for heading, text in columns:
        cells = {row.method: text(row).split(" ")[0] for row in shown if row.kind == "method"}
        numbers = {method: float(cell) for method, cell in cells.items() if cell and heading not in ("method", "seeds")}
        best[heading] = [method for method, number in numbers.items() if number == max(numbers.values())]
    return best


def as_markup(suite: Suite, style: str, metric: str = "triplet") -> str:
    """Return a suite's tables and receipt as Markdown (`md`) or LaTeX (`latex`, for the booktabs package)."""
    found, parts = rows(suite, metric), []
    markdown = style == "md"
    for name, columns, shown in _tables(suite, found, metric):
        body = [[text(row) for _, text in columns] for row in shown]
        align = ["left", *["right"] * (len(columns) - 1)]
        parts.append(f"### {name}\n" if markdown else f"% {name}")
        parts.append(
            tabulate(
                body,
                [heading for heading, _ in columns],
                tablefmt="github" if markdown else "latex_booktabs",
                colalign=align,
                disable_numparse=True,
            )
            + "\n"
        )
    notes = [f"{row.method}: {row.note}" for row in found if row.note]
    parts += [f"**{n}**" if markdown else f"% {n}" for n in notes] + ([""] if notes else [])
    parts += [f"- {line}" if markdown else f"% {line}" for line in receipt_lines(suite)]
    return "\n".join(parts) + "\n"


def as_frame(suites_: Sequence[Suite]) -> pd.DataFrame:
    """Return one row per run with every metric, cost and receipt entry, unrounded: what `--format csv` writes."""
    lines = []
    for suite in suites_:
        for record in suite.records:
            line: dict[str, Any] = {
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
            line |= {f"receipt/{k}": v for k, v in flat.items() if k not in ("data", "traceback")}
            lines.append(line)
    return pd.DataFrame(lines)


def show(records: Sequence[Record], style: str, console: Console, metric: str = "triplet") -> None:
    """Write all records to a console as `table`, `md`, `latex` or `csv`; the last holds every metric anyway."""
    found = suites(records)
    if style == "csv":
        console.file.write(as_frame(found).to_csv(index=False))
    elif style == "table":
        for suite in found:
            console.print(for_terminal(suite, console.width, metric))
            console.print()
    else:
        console.file.write("\n".join(as_markup(suite, style, metric) for suite in found))
