"""Comparison tables for machines: what `--format csv` and `runs` write, and the schema of the former.

Columns are the same whatever was measured, in the same order; what a suite lacks is empty. Those of single tasks and of
further metrics come last. Meanings are the table columns' own.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtlbench.report.columns import Column, all_columns
from mtlbench.report.rows import MACRO, RETRIEVAL, Cell, Row
from mtlbench.report.suites import Suite
from mtlbench.report.summary import Summary, Table

SCHEMA = 2
"""The version of the columns; it grows when one is renamed, goes, or changes its unit."""


@dataclass(frozen=True)
class Field:
    """A column of the CSV: its name, its unit and what it holds."""

    name: str
    unit: str
    meaning: str


_ABOUT = (
    Field("schema", "", "The version of these columns."),
    Field("suite", "", "Rows of one number may share a table."),
    Field("benchmark", "", "The benchmark's name."),
    Field("method", "", "The row's name: the method, and the factors that rows are named by."),
    Field("kind", "", "`method` or `reference`."),
    Field("status", "", "`done`, `partial` (some runs failed), `collapsed` or `failed`."),
    Field("metric", "", "What the accuracies are: `triplet`, or what `--metric` named."),
    Field("n", "", "The number of finished seeds."),
    Field("seeds", "", "The finished seeds, joined by blanks."),
)
_MEASURED = ("within", "mean", "worst", "delta_m", "hurt", *(f"{MACRO}{name}" for name in RETRIEVAL))
_COMPARED = (
    Field("/sd", "as the column", "Sample standard deviation over seeds; empty with one."),
    Field("/standing", "", "How the row stands to the column's best: `best`, `tied`, `worse` or `undecided`."),
    Field("/tied", "", "1 for the best and for what is tied with it, 0 for other compared rows."),
    Field("/vs_best", "share", "Difference to the best."),
    Field("/vs_best/low", "share", "Lower end of its 95 % interval, which holds for all pairs of methods at once."),
    Field("/vs_best/high", "share", "Upper end of that interval."),
)
_AGAINST = (
    Field("mean/against", "share", "Difference of the mean to the method of `--against`."),
    Field("mean/against/low", "share", "Lower end of its 95 % interval."),
    Field("mean/against/high", "share", "Upper end of its 95 % interval."),
)
_COSTS = {  # unit, and the meaning of what has no column in tables
    "parameters": ("", ""),
    "parameters_shared": ("", "Trained numbers that all tasks use."),
    "parameters_per_task": ("", "Trained numbers that one task uses alone, a mean over tasks."),
    "parameters_added": ("", "Trained numbers that one more task would add."),
    "training_parameters": ("", "Trained numbers of loss and balancer, which are not deployed."),
    "file_bytes": ("bytes", ""),
    "bytes": ("bytes", "Size of all stored tensors."),
    "bytes_shared": ("bytes", ""),
    "bytes_per_task": ("bytes", ""),
    "bytes_added": ("bytes", ""),
    "flops_one_task": ("operations", "Operations to embed one image under one task; a multiply-add counts as two."),
    "flops_all_tasks": ("operations", "Operations to embed one image under all tasks; a multiply-add counts as two."),
    **{
        f"{rate}{end}": ("images/s", words)
        for rate in ("train_rate", "embed_rate_one_task", "embed_rate_all_tasks")
        for end, words in (
            ("", ""),
            ("_slowest", "The slowest repeat of it."),
            ("_fastest", "The fastest repeat of it."),
        )
    },
    "training_memory": ("bytes", ""),
    "training_seconds": ("s", ""),
}
_RECEIPT = {  # lines of the small print by their names, and what they are about
    "order": "order", "accuracy": "accuracy", "rows": "rows", "equal_seconds": "equal seconds",
    "comparison": "comparison with the best", "marks": "marks", "without_marks": "without marks",
    "test_images": "test images", "against": "vs …", "delta_m": "Δm", "recipes": "recipes", "data": "data",
    "protocol": "protocol", "speed": "speed, memory", "made_by": "made by", "tried": "tried",
}  # fmt: skip


def schema() -> list[Field]:
    """Return every column of `--format csv`, in order; `<task>` and `<metric>` stand for what a benchmark has."""
    shown = {column.key: column for column in all_columns()}
    found = list(_ABOUT)
    for key in _MEASURED:
        found += _measures(key, *_in_words(shown[key]))
    found += _AGAINST
    for name, (unit, words) in _COSTS.items():
        found.append(Field(f"cost/{name}", unit, words or _bare(shown[name].meaning)))
    found += [
        Field("note", "", "What went wrong, in words."),
        Field("warnings", "", "Why not all rows can be compared, in words."),
    ]
    found += [Field(f"receipt/{name}", "", f"The small print's line `{about}`.") for name, about in _RECEIPT.items()]
    found += _measures("task/<task>", "share", "The accuracy on one task; a column each, in the benchmark's order.")
    found += _measures(
        f"{MACRO}<metric>", "share", "A further metric of the benchmark, macro mean over label values, mean over tasks."
    )
    return found


def _measures(key: str, unit: str, meaning: str) -> list[Field]:
    name = _name(key)
    own = {"within": _COMPARED[:1], "worst": _COMPARED[:1], "delta_m": _COMPARED[:1], "hurt": ()}.get(key, _COMPARED)
    return [Field(name, unit, meaning), *(Field(f"{name}{end.name}", end.unit, end.meaning) for end in own)]


def _name(key: str) -> str:
    """Return a column's name: `macro map@r` as `macro/map@r`."""
    return f"macro/{key.removeprefix(MACRO)}" if key.startswith(MACRO) else key


def _in_words(column: Column) -> tuple[str, str]:
    """Return the unit and the meaning of a column of accuracies, which tables write in per cent."""
    return "" if column.key == "hurt" else "share", _bare(column.meaning)


def _bare(meaning: str) -> str:
    """Leave out of a meaning the units that tables write numbers in."""
    meaning = re.sub(r" ± is [^.]*\.", "", meaning)
    text = re.sub(r",? in (per cent|points|MB|kB)(?=[ ,.;:])(?! of)", "", meaning)
    return text.replace("; 50 is chance", "; 0.5 is chance").replace("in per cent of what", "as a share of what")


def as_frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Return one row per method of each suite, unrounded: what `--format csv` writes; `schema` says what columns hold.

    Accuracies, differences and Δm are shares, costs are in the units of `run.json`.
    """
    names = [field.name for field in schema()]
    fixed = [name for name in names if "<" not in name]
    lines = [line for number, summary in enumerate(summaries, 1) for line in _lines_of(summary, number)]
    further = dict.fromkeys(name for line in lines for name in line if name not in set(fixed))
    frame = pd.DataFrame(lines, columns=[*fixed, *further])
    return frame.astype({name: "Int64" for name in frame.columns if name.endswith("/tied")})


def _lines_of(summary: Summary, number: int) -> Iterator[dict[str, Any]]:
    accuracy = summary.tables[0] if summary.tables else Table("", [], [])
    tasks = [column.key for column in accuracy.columns if column.task is not None]
    metrics = [c.key for c in accuracy.columns if c.key.startswith(MACRO) and c.key not in _MEASURED]
    for row in accuracy.rows:
        line: dict[str, Any] = {
            "schema": SCHEMA,
            "suite": number,
            "benchmark": summary.suite.benchmark["name"],
            "method": row.method,
            "kind": row.kind,
            "status": row.status,
            "metric": summary.metric,
            "n": len(row.seeds),
            "seeds": " ".join(map(str, row.seeds)),
        }
        for key in (*_MEASURED, *tasks, *metrics):
            line |= _measured(row, key, key in summary.comparison.best and row.kind == "method")
        if row.against is not None:
            low, high = row.against.interval(row.level)
            line |= {"mean/against": row.against.difference, "mean/against/low": low, "mean/against/high": high}
        line |= {f"cost/{key}": cell.mean for key, cell in row.costs.items()}
        line |= {"note": row.note, "warnings": " ".join(summary.warnings)}
        line |= {f"receipt/{small.name}": small.text for small in summary.lines}
        yield line


def _measured(row: Row, key: str, compared: bool) -> dict[str, Any]:
    """Return a measured value, and how it stands to the best of its column."""
    cell, name = row.accuracy.get(key, Cell(None)), _name(key)
    scale = 0.01 if key == "delta_m" else 1.0  # a row has it in per cent
    mean, deviation = (None if value is None else value * scale for value in (cell.mean, cell.deviation))
    standing = row.standing.get(key) if compared else None
    pair = row.versus.get(key) if compared else None
    values: list[Any] = [deviation, standing, None if standing is None else int(standing in ("best", "tied"))]
    values += [pair.difference, *pair.interval(row.level)] if pair else [None, None, None]
    fields = _measures(key, "", "")
    return {name: mean} | {field.name: value for field, value in zip(fields[1:], values, strict=False)}


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
