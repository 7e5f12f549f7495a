"""All that is written of each suite: the rows and columns that were asked for, in order, marked, with their receipt.

Hits and curves are read here, from beside `run.json`; how the tables are written is left to `tables`.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mtlbench.errors import UserError, did_you_mean
from mtlbench.report.compare import accuracy_within, alike, read_hits, read_validations
from mtlbench.report.receipt import accuracy_line, base_line, receipt_lines, warnings_of
from mtlbench.report.rows import Cell, Column, Row, accuracy_columns, cost_columns, find_column, in_order, rows
from mtlbench.report.suites import Suite, apart, suites
from mtlbench.runs import Record, folder_of


@dataclass(frozen=True)
class Choice:
    """What of the records is shown, and in which order.

    Attributes:
        metric: what the accuracy columns hold.
        sort: heading or key of the column to sort by; empty for the mean, or the accuracy within `seconds`.
        tasks, methods: names joined by commas; empty for all. Methods may be groups or patterns such as `shared*`.
        seconds: rank by what validation had measured after so many seconds of training; `shortest` for those of the
            method that needs the fewest; empty for no such column.
    """

    metric: str = "triplet"
    sort: str = ""
    tasks: str = ""
    methods: str = ""
    seconds: str = ""


EVERYTHING = Choice()


@dataclass(frozen=True)
class Table:
    """Columns and rows under a heading."""

    title: str
    columns: list[Column]
    rows: list[Row]


@dataclass(frozen=True)
class Summary:
    """All that is written of one suite.

    Attributes:
        tables: accuracy, and cost if any was measured.
        warnings: why some rows can't be compared as others can.
        notes: what went wrong in runs that are shown.
        receipt: the small print.
        compared: the best method of each column, by key, where the others were tested against it: `Row.alike` means
            something in these columns alone.
        metric: what the accuracy columns hold.
        untested: methods that were not tested against the best one, in no column, for lack of their answers.
    """

    suite: Suite
    tables: list[Table]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    receipt: list[str] = field(default_factory=list)
    compared: dict[str, str] = field(default_factory=dict)
    untested: tuple[str, ...] = ()
    metric: str = "triplet"


def summarise(records: Sequence[Record], choice: Choice = EVERYTHING, results: Path | None = None) -> list[Summary]:
    """Summarise records, suite by suite.

    Args:
        records: of any benchmarks.
        choice: what of them is shown.
        results: where they lie, for the comparison question by question and `choice.seconds`, which need more of a run
            than its `run.json`.

    Raises:
        UserError: `choice` names a task, method or column that isn't there, or no number of seconds.
    """
    methods = _chosen_methods(choice.methods, records)
    found = _with_tasks(suites(records), choice.tasks)
    found = [(s, tasks) for s, tasks in found if any(r.setup["method"]["name"] in methods for r in s.records)]
    made = [_summary(suite, tasks, methods, choice, results) for suite, tasks in found]
    if choice.sort and not any(find_column(_columns(summary.tables), choice.sort) for summary in made):
        known = list(dict.fromkeys(column.heading for summary in made for column in _columns(summary.tables)))
        raise UserError(f"No column '{choice.sort}'.{did_you_mean(choice.sort, known)} There: {', '.join(known)}.")
    earlier: dict[str, Suite] = {}
    for summary in made:
        name = summary.suite.benchmark["name"]
        if name in earlier:
            why = "; ".join(apart(earlier[name], summary.suite))
            summary.warnings.insert(0, f"a table of its own, for it differs from the one above: {why}.")
        earlier[name] = summary.suite
    return made


def chosen_records(records: Sequence[Record], methods: str) -> list[Record]:
    """Return the records of methods that are named as in `Choice.methods`.

    Raises:
        UserError: none of them has a run.
    """
    chosen = _chosen_methods(methods, records)
    return [record for record in records if record.setup["method"]["name"] in chosen]


def _chosen_methods(text: str, records: Sequence[Record]) -> set[str]:
    known = list(dict.fromkeys(r.setup["method"]["name"] for r in records))
    if not text:
        return set(known)
    chosen: set[str] = set()
    for word in re.split(r",(?![^\[]*\])", text):
        word = word.strip()
        pattern = word.replace("[", "[[]")  # brackets are of options here
        members = [name for name in known if fnmatch.fnmatchcase(name, pattern)] or _group(word)
        if word and not members:
            hint = did_you_mean(word, known)
            raise UserError(f"No run of the method '{word}'.{hint} There: {', '.join(sorted(known))}.")
        chosen.update(members)
    if not chosen.intersection(known):
        raise UserError(f"No run of any method of --methods {text}. There: {', '.join(sorted(known))}.")
    return chosen


def _group(word: str) -> list[str]:
    from mtlbench.plugins import load_plugins  # loads torch, for no other use here
    from mtlbench.specs import method_groups

    load_plugins()
    return method_groups().get(word, [])


def _with_tasks(found: list[Suite], text: str) -> list[tuple[Suite, tuple[str, ...]]]:
    """Return the suites that have all the named tasks, each with them; all tasks where none is named."""
    wanted = tuple(dict.fromkeys(task.strip() for task in text.split(",") if task.strip()))
    known = sorted({task for suite in found for task in suite.tasks})
    for task in wanted:
        if task not in known:
            raise UserError(f"No run has the task '{task}'.{did_you_mean(task, known)} There: {', '.join(known)}.")
    kept = [(suite, wanted or suite.tasks) for suite in found if set(wanted) <= set(suite.tasks)]
    if not kept and wanted:
        raise UserError(f"No run has all of the tasks {', '.join(wanted)}.")
    return kept


def _columns(tables: Sequence[Table]) -> list[Column]:
    return [column for table in tables for column in table.columns]


def _summary(suite: Suite, tasks: tuple[str, ...], methods: set[str], choice: Choice, results: Path | None) -> Summary:
    chosen = {r.method for r in suite.records if r.setup["method"]["name"] in methods}
    found = [row for row in rows(suite, choice.metric, tasks) if row.method in chosen]
    seconds, lines = None, []
    if choice.seconds:
        seconds, found, line = _at_seconds(found, suite, tasks, choice, results)
        lines.append(line)
    compared: dict[str, str] = {}
    untested: tuple[str, ...] = ()
    if results is not None:
        found, line, compared, untested = _compared(found, suite, tasks, choice.metric, results)
        lines.append(line)
    lines.append(base_line(found, suite, choice.metric))
    columns = accuracy_columns(found, tasks, seconds)
    costly = [row for row in found if row.costs.get("parameters")]
    measured = [column for column in cost_columns() if any(column.number(row) for row in costly)]
    tables = [Table(_title(suite, tasks, choice, seconds), columns, found), Table("Cost", measured, costly)]
    by = find_column(_columns(tables), choice.sort or ("mean" if seconds is None else "within"))
    if by is None:  # this suite lacks the column; another one has it, or `summarise` says so
        lines.insert(0, f"order: by mean, for there is no column '{choice.sort}' here.")
    else:
        tables = [replace(table, rows=in_order(table.rows, by.value, by.better)) for table in tables]
        if choice.sort:
            lines.insert(0, f"order: by {by.heading}, {by.better} first.")
    shown = {row.method for row in found}
    made_by = [r for r in suite.records if r.method in shown]
    notes = [f"{row.method}: {row.note}" for row in tables[0].rows if row.note]
    receipt = [
        accuracy_line(suite, tasks, made_by, choice.metric),
        *filter(None, lines),
        *receipt_lines(suite, made_by),
    ]
    tables = [table for table in tables if table.rows]
    return Summary(suite, tables, warnings_of(made_by), notes, receipt, compared, untested, choice.metric)


def _folder(results: Path, record: Record) -> Path:
    return folder_of(results, record)


def _at_seconds(
    found: list[Row], suite: Suite, tasks: Sequence[str], choice: Choice, results: Path | None
) -> tuple[float | None, list[Row], str]:
    """Add to rows what validation had measured within some seconds of training."""
    if results is None:
        raise UserError("--at-seconds needs the curves of the runs, which lie beside their run.json.")
    shown = {row.method for row in found}
    curves = {(r.method, r.seed): read_validations(_folder(results, r)) for r in suite.done if r.method in shown}
    if choice.seconds == "shortest":
        lasts: dict[str, float] = {}
        for (method, _), curve in curves.items():
            lasts[method] = max(lasts.get(method, 0.0), math.inf if curve is None else curve["seconds"].max())
        seconds = min(lasts.values(), default=math.inf)
        if not math.isfinite(seconds):
            return None, found, "equal seconds: none, no run here kept its curve with seconds."
        whose = f", the time that {min(lasts, key=lambda m: lasts[m])} took"
    else:
        try:
            seconds, whose = float(choice.seconds), ""
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise UserError(f"--at-seconds {choice.seconds}: give a number of seconds, or 'shortest'.")

    def within(row: Row) -> Cell:
        there = [curves[row.method, seed] for seed in row.seeds if (row.method, seed) in curves]
        return Cell.of([None if c is None else accuracy_within(c, seconds, tasks) for c in there])

    added = [replace(row, accuracy=row.accuracy | {"within": within(row)}) for row in found]
    line = (
        f"equal seconds: triplet accuracy on the validation split, mean over tasks, of the best checkpoint within"
        f" {seconds:,.4g} s of training steps{whose}, as the curves have it; empty where nothing was validated by then."
        " All other columns are of each run's whole budget, equal in steps."
    )
    return seconds, added, line


def _compared(
    found: list[Row], suite: Suite, tasks: Sequence[str], metric: str, results: Path
) -> tuple[list[Row], str, dict[str, str], tuple[str, ...]]:
    """Mark which rows can't be told apart from the best, in the mean and on each task; say how, which best, and which
    methods were not tested.
    """
    if metric != "triplet":
        why = "comparison with the best: none, runs keep their answers one by one for triplet accuracy alone."
        return found, why, {}, ()
    rivals = [row for row in found if row.kind == "method" and row.accuracy["mean"].mean is not None]
    if len(rivals) < 2:
        return found, "", {}, ()
    shown = {row.method for row in rivals}
    hits: dict[str, dict[int, Any]] = {}
    missing: dict[str, None] = {}
    shapes = set()
    for record in suite.done:
        if record.method in shown:
            answers = read_hits(_folder(results, record), record)
            if answers is None:
                missing[record.method] = None
            else:
                shapes.add(answers.shape)
                hits.setdefault(record.method, {})[record.seed] = answers
    if len(shapes) > 1:
        return found, "comparison with the best: none, the runs answered different numbers of test triplets.", {}, ()
    lacking = (
        f" Not compared, for test.safetensors is missing or is not of the same run: {', '.join(missing)}; columns that"
        " one of them leads have no marks."
    )
    hits = {method: by_seed for method, by_seed in hits.items() if method not in missing}
    place = [suite.tasks.index(task) for task in tasks]
    columns = {"mean": place} | {f"task/{task}": [at] for task, at in zip(tasks, place, strict=True)}
    marked: dict[str, set[str]] = {row.method: set() for row in rivals}
    compared = {}
    for key, chosen in columns.items():
        best = max(rivals, key=lambda row: row.accuracy[key].mean or 0.0).method
        if best in hits and len(hits) > 1:
            compared[key] = best
            for method in alike(hits, best, chosen):
                marked[method].add(key)
    several = any(len(by_seed) > 1 for by_seed in hits.values())
    how = "paired by test triplet, variance as of a bootstrap over them"
    covered = "; how results vary between seeds is not covered, for there is one"
    if several:
        how = "paired by seed and test triplet, variance as of a bootstrap over both, that over seeds pooled over pairs"
        covered = ""
    line = (
        f"≈: can't be told apart from the best of the column (the mean, single tasks): {how}; Student's t, two-sided"
        f" 5 %, Holm's correction within a column; test triplets are taken as independent{covered}."
        f"{lacking if missing else ''}"
    )
    marked_rows = [replace(row, alike=frozenset(marked.get(row.method, ()))) for row in found]
    return marked_rows, line, compared, tuple(missing)


def _title(suite: Suite, tasks: Sequence[str], choice: Choice, seconds: float | None) -> str:
    """Return what a suite's tables are headed with."""
    quick = ", quick protocol" if suite.benchmark["name"].endswith("-quick") else ""
    drawn = " (rendered images, not real ones)" if suite.receipt.get("data", {}).get("rendered") else ""
    shown = "triplet accuracy" if choice.metric == "triplet" else choice.metric
    some = f", {len(tasks)} of {len(suite.tasks)} tasks" if len(tasks) < len(suite.tasks) else ""
    ranked = f", ranked at {seconds:,.4g} s of training" if seconds is not None and not choice.sort else ""
    return f"{suite.benchmark['title']}{drawn}{quick}{some}: {shown} in %{ranked}"
