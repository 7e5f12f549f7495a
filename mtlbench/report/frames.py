"""Comparison tables for machines: what `--format csv` and `runs` write, and their schema.

Columns are always the same, in the same order; those that a suite lacks are empty. Those of single tasks and of
further metrics come last. Cells hold numbers, names and dates, never sentences. Meanings are the table columns' own.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtlbench.report.columns import Column, all_columns
from mtlbench.report.receipt import unsteady
from mtlbench.report.rows import LEARNED, MACRO, RETRIEVAL, Cell, Row, across
from mtlbench.report.suites import Suite, has_recipe
from mtlbench.report.summary import Summary, Table
from mtlbench.runs import Record
from mtlbench.runs.sizes import STORED

SCHEMA = 3
"""The version of the columns; it grows when one is renamed, goes, or changes its unit."""


@dataclass(frozen=True)
class Field:
    """A column of the CSV: its name, its unit and what it holds."""

    name: str
    unit: str
    meaning: str


_ABOUT = (
    Field("schema", "", "The version of these columns."),
    Field("suite", "", "Rows with the same number may share a table."),
    Field("benchmark", "", "The benchmark's name."),
    Field("method", "", "The row's name: the method, and the factors that rows are named by."),
    Field("kind", "", "`method` or `reference`."),
    Field("status", "", "`done`, `partial` (some runs failed), `collapsed` or `failed`."),
    Field("metric", "", "What the accuracies are: `triplet`, or what `--metric` named."),
    Field("n", "", "The number of finished seeds."),
    Field("seeds", "", "The finished seeds, joined by blanks."),
    Field("failed", "", "The failed seeds, joined by blanks."),
    Field("collapsed", "", "The tasks under which embeddings collapsed with some seed, joined by `;`."),
    Field("tuned", "", "1 where the method was tuned, also where its default won, else 0."),
    Field("comparable", "", "0 where the tables warn that rows differ in more than the method, else 1."),
    Field("steady", "", "0 where a speed varied by more than ±20 % or was measured on a busy machine, else 1."),
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
    "parameters_shared": ("", "Parameters that all tasks use, frozen ones too."),
    "parameters_per_task": ("", "Parameters that one task uses alone, a mean over tasks."),
    "parameters_added": ("", "Parameters that one more task would add."),
    "training_parameters": ("", "Trained parameters of loss and balancer, which are not deployed."),
    "file_bytes": ("bytes", ""),
    "bytes": ("bytes", "Size of all stored tensors."),
    "bytes_shared": ("bytes", ""),
    "bytes_per_task": ("bytes", ""),
    "bytes_added": ("bytes", ""),
    **{key: ("bytes", "") for kind in STORED for key in (kind.size, kind.added)},
    "flops_one_task": (
        "operations",
        "Operations to embed one image under one task, the mean over tasks; a multiply-add counts as two.",
    ),
    "flops_all_tasks": ("operations", "Operations to embed one image under all tasks; a multiply-add counts as two."),
    **{
        f"{rate}{end}": ("images/s", words)
        for rate in ("train_rate", "embed_rate_one_task", "embed_rate_all_tasks")
        for end, words in (
            ("", ""),
            ("_slowest", "The slowest round of any seed; a round is the median of a fifth of the repeats."),
            ("_fastest", "The fastest round of any seed."),
        )
    },
    "training_memory": ("bytes", ""),
    "training_seconds": ("s", ""),
}
_RECEIPT = (  # what the rows of a suite have in common; of values that differ between runs, all are joined by `;`
    Field("receipt/quick", "", "1 for the quick protocol, else 0."),
    Field("receipt/rendered", "", "1 for rendered images, which say nothing about real ones, else 0."),
    Field("receipt/data", "", "The name of the data."),
    Field("receipt/fingerprint", "", "The fingerprint of images, labels and split."),
    Field("receipt/train_images", "", "The number of training images."),
    Field("receipt/val_images", "", "The number of validation images."),
    Field("receipt/test_images", "", "The number of test images."),
    Field("receipt/test_triplets", "", "The number of test triplets of each task."),
    Field("receipt/backbone", "", "The backbone."),
    Field("receipt/embedding", "", "The number of an embedding's dimensions."),
    Field("receipt/loss", "", "The loss."),
    Field("receipt/steps", "", "The number of training steps."),
    Field("receipt/precision", "", "The numbers in which networks ran."),
    Field("receipt/device", "", "The processor, and how many threads of it."),
    Field("receipt/mtlbench", "", "mtlbench's version."),
    Field("receipt/commit", "", "mtlbench's commit."),
    Field("receipt/torch", "", "PyTorch's version."),
    Field("receipt/first_date", "", "When the first of the row's runs ended, ISO 8601."),
    Field("receipt/last_date", "", "When the last of the row's runs ended, ISO 8601."),
)
_RUN = (
    Field("schema", "", "The version of these columns."),
    Field("suite", "", "Runs with the same number may share a table."),
    Field("benchmark", "", "The benchmark's name."),
    Field("method", "", "The method, and the factors that rows are named by."),
    Field("seed", "", "The seed."),
    Field("kind", "", "`method` or `reference`."),
    Field("status", "", "`done` or `failed`."),
    Field("reason", "", "The error message of a failed run, unchanged."),
    Field("collapsed", "", "The tasks under which embeddings collapsed, joined by `;`."),
    Field("<metric>/mean", "share", "A metric, mean over the tasks; `triplet` is triplet accuracy."),
    Field("<metric>/worst", "share", "The same on the task where it is lowest."),
    Field("<metric>/<task>", "share", "The same on one task."),
    Field("cost/<cost>", "", "A cost, named and in the unit of the CSV's column."),
    Field("receipt/<entry>", "", "An entry of the receipt in `run.json`; those on the data begin with `data_`."),
)


def schema() -> list[Field]:
    """Return every column of `--format csv`, in order; `<task>` and `<metric>` stand for what a benchmark has."""
    shown = {column.key: column for column in all_columns()}
    found = list(_ABOUT)
    for key in _MEASURED:
        found += _measures(key, *_in_words(shown[key]))
    found += _AGAINST
    for name, (unit, words) in _COSTS.items():
        found.append(Field(f"cost/{name}", unit, words or _bare(shown[name].meaning)))
    found += _RECEIPT
    found += _measures("task/<task>", "share", "The accuracy on one task; a column each, in the benchmark's order.")
    found += _measures(
        f"{MACRO}<metric>", "share", "A further metric of the benchmark, macro mean over label values, mean over tasks."
    )
    return found


def runs_schema() -> list[Field]:
    """Return the columns of `--format runs`; after the first nine, there are those that some run has."""
    return list(_RUN)


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
    text = text.replace(f"{100 * LEARNED:g} points", f"{LEARNED:g}").replace("; 50 is", "; 0.5 is")
    return text.replace("in per cent of what", "as a share of what")


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
            "failed": " ".join(map(str, sorted(row.outcome.failed))),
            "collapsed": _joined(task for one in row.outcome.collapsed.values() for task in one.tasks),
            "comparable": int(not summary.warnings),
            **_receipt_of(summary.suite, [r for r in summary.suite.records if r.method == row.method]),
        }
        for key in (*_MEASURED, *tasks, *metrics):
            line |= _measured(row, key, key in summary.comparison.best and row.kind == "method")
        if row.against is not None:
            low, high = row.against.interval(row.level)
            line |= {"mean/against": row.against.difference, "mean/against/low": low, "mean/against/high": high}
        line |= {f"cost/{key}": cell.mean for key, cell in row.costs.items() if key in _COSTS}
        yield line


def _joined(words: Iterable[Any]) -> str:
    return ";".join(dict.fromkeys(str(word) for word in words if word is not None))


def _receipt_of(suite: Suite, records: Sequence[Record]) -> dict[str, Any]:
    """Return what the runs of one row were made on and with."""
    done = [record for record in records if record.status == "done"] or list(records)
    first, benchmark = done[0], suite.benchmark
    data = first.receipt.get("data", {})
    dates = sorted(str(r.receipt["date"]) for r in done if r.receipt.get("date"))
    each = {key: _joined(r.receipt.get(key) for r in done) for key in ("precision", "device", "mtlbench", "commit")}
    setups = [r.setup.get("benchmark", {}) for r in done]
    receipt = {
        "quick": int(suite.quick),
        "rendered": int(suite.rendered),
        "data": data.get("name"),
        **{key: data.get(key) for key in ("fingerprint", "train_images", "val_images", "test_images")},
        "test_triplets": first.receipt.get("test_triplets"),
        "backbone": benchmark["model"]["backbone"],
        "embedding": benchmark["model"]["embedding"],
        "loss": _joined(setup.get("loss", {}).get("name") for setup in setups),
        "steps": _joined(setup.get("train", {}).get("steps") for setup in setups),
        **each,
        "torch": _joined(r.receipt.get("torch") for r in done),
        "first_date": dates[0] if dates else None,
        "last_date": dates[-1] if dates else None,
    }
    return {
        "tuned": int(any(map(has_recipe, records))),
        "steady": int(not unsteady(done)),
        **{f"receipt/{key}": value for key, value in receipt.items()},
    }


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
    """Return one row per run with every metric, cost and receipt entry, unrounded: what `--format runs` writes.

    `runs_schema` says what columns hold.
    """
    lines = []
    for number, suite in enumerate(found, 1):
        for record in suite.records:
            line: dict[str, Any] = {
                "schema": SCHEMA,
                "suite": number,
                "benchmark": suite.benchmark["name"],
                "method": record.method,
                "seed": record.seed,
                "kind": record.kind,
                "status": record.status,
                "reason": record.reason,
                "collapsed": _joined(record.collapsed),
            }
            if record.metrics:
                for metric in dict.fromkeys(name for m in record.metrics.values() for name in m):
                    for what, how in (("mean", statistics.mean), ("worst", min)):
                        if (value := across(record, record.metrics, metric, how)) is not None:
                            line[f"{metric}/{what}"] = value
            for task, metrics in record.metrics.items():
                line |= {f"{metric}/{task}": value for metric, value in metrics.items()}
            line |= {f"cost/{k}": v for k, v in record.costs.items()}
            flat = {**record.receipt, **{f"data_{k}": v for k, v in record.receipt.get("data", {}).items()}}
            line |= {f"receipt/{k}": v for k, v in flat.items() if k not in ("data", "traceback", "groups")}
            lines.append(line)
    return pd.DataFrame(lines)
