"""All that is written of each suite: the rows and columns that were asked for, in order, marked, with their receipt.

Hits and curves are read here, from beside `run.json`; `tables` writes the tables.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mtlbench.errors import UserError, did_you_mean, leave_out
from mtlbench.names import listed, names_in
from mtlbench.report.columns import Column, accuracy_columns, cost_columns, find_column
from mtlbench.report.comparison import Compared, compared_with_best
from mtlbench.report.evidence import accuracy_within, read_validations
from mtlbench.report.groups import groups_of
from mtlbench.report.pairs import compared_with
from mtlbench.report.receipt import (
    Line,
    accuracy_line,
    base_line,
    factors_line,
    receipt_of,
    recipes_line,
    warnings_of,
)
from mtlbench.report.rows import Cell, Row, in_order, rows
from mtlbench.report.suites import Suite, differing_settings, has_recipe, in_words, joining, suites
from mtlbench.report.tried import tried_line
from mtlbench.runs import Change, Record, find_records, folder_of, record_folders, results_inside
from mtlbench.tuning.outcome import FOLDER, read_trials


@dataclass(frozen=True)
class Choice:
    """What of the records is shown, and in which order.

    Attributes:
        metric: what the accuracy columns hold.
        sort: heading or key of the column to sort by; empty for the mean, or the accuracy within `seconds`.
        tasks, methods: names joined by commas; empty for all. Methods may be groups or patterns such as `shared*`.
        against: a method that every row is compared with too, beside the best.
        across: settings in which the runs of one table may differ; rows are named by their values.
        seconds: rank by what validation had measured after so many seconds of training; `shortest` for those of the
            method that needs the fewest; empty for no such column.
        folders: only methods with a run in one of these; empty for all.
    """

    metric: str = "triplet"
    sort: str = ""
    tasks: str = ""
    methods: str = ""
    seconds: str = ""
    against: str = ""
    across: tuple[str, ...] = ()
    folders: frozenset[Path] = frozenset()

    def has(self, record: Record) -> bool:
        """Return whether a record's row is shown for its folder; reference rows are shown beside any."""
        return not self.folders or record.kind == "reference" or record.folder in self.folders


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
        subject: what the tables are of: the benchmark with its name, rendered or not, quick or not.
        tables: accuracy, and cost if any was measured.
        unequal: in what runs of one table differ beside method and seed, in sentences.
        lines: the small print.
        comparison: what was compared with the best; `Row.standing` has its columns alone.
        metric: what the accuracy columns hold.
        reordered: whether another order was asked for; the small print says which.
        separated: the settings for which this suite has a table of its own, below one of the same benchmark.
    """

    suite: Suite
    subject: str
    tables: list[Table]
    unequal: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    comparison: Compared = field(default_factory=Compared)
    metric: str = "triplet"
    reordered: bool = False
    separated: tuple[Change, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """The rows of the accuracy table."""
        return self.tables[0].rows if self.tables else []

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that have columns."""
        columns = self.tables[0].columns if self.tables else []
        return tuple(column.task for column in columns if column.task is not None)

    @property
    def warnings(self) -> list[str]:
        """Why not all can be compared with all, in sentences."""
        if not self.separated:
            return self.unequal
        factors = "".join(f" --across {key}" for key in joining(self.separated))
        one = f" One table of both: mtlbench report {self.suite.benchmark['name']}{factors}." if factors else ""
        return [
            f"a separate table, because these settings differ from the table above: {in_words(self.separated)}.{one}",
            *self.unequal,
        ]

    @property
    def notes(self) -> list[str]:
        """What went wrong in runs that are shown, and what else there is to say of them, in sentences."""
        return [*self.wrong, *self.remarks]

    @property
    def wrong(self) -> list[str]:
        """The notes on methods with which something went wrong."""
        return [f"{row.method}: {row.note}" for row in self.rows if row.outcome.wrong]

    @property
    def remarks(self) -> list[str]:
        """The notes on other methods."""
        return [f"{row.method}: {row.note}" for row in self.rows if row.outcome.remarkable and not row.outcome.wrong]

    @property
    def receipt(self) -> list[str]:
        """The small print as it is written."""
        return list(map(str, self.lines))

    @property
    def brief(self) -> list[str]:
        """What of the small print no table goes without."""
        return [line.brief for line in self.lines if line.brief]


def summarise(records: Sequence[Record], choice: Choice = EVERYTHING, results: Path | None = None) -> list[Summary]:
    """Summarise records, suite by suite.

    Args:
        records: of any benchmarks.
        choice: what of them is shown.
        results: where they lie, for the comparison triplet by triplet and `choice.seconds`, which need more of a run
            than its `run.json`.

    Raises:
        UserError: `choice` names a task, method or column that isn't there, or no number of seconds.
    """
    methods = _chosen_methods(choice.methods, records)
    found = _with_tasks(suites(records, choice.across), choice.tasks)
    found = [(s, tasks) for s, tasks in found if any(r.setup["method"]["name"] in methods for r in s.records)]
    if choice.folders:
        found = [(suite, tasks) for suite, tasks in found if any(r.folder in choice.folders for r in suite.records)]
    if choice.against:
        known = sorted(set().union(*(_against_names(rows(s, choice.metric, tasks), s) for s, tasks in found)))
        if choice.against not in known:
            hint = did_you_mean(choice.against, known)
            raise UserError(f"--against {choice.against}: no finished run of it.{hint} There: {listed(known)}.")
        shown = {r.method for s, _ in found for r in s.done if r.setup["method"]["name"] in methods}
        if choice.against not in shown | methods:
            raise UserError(f"--against {choice.against}: its row is not shown; add it to --methods.")
    made = [_summary(suite, tasks, methods, choice, results) for suite, tasks in found]
    if choice.sort and not any(find_column(_columns(summary.tables), choice.sort) for summary in made):
        known = list(dict.fromkeys(column.heading for summary in made for column in _columns(summary.tables)))
        raise UserError(f"No column '{choice.sort}'.{did_you_mean(choice.sort, known)} There: {', '.join(known)}.")
    earlier: dict[str, Suite] = {}
    for place, summary in enumerate(made):
        name = summary.suite.benchmark["name"]
        if name in earlier:
            made[place] = replace(summary, separated=tuple(differing_settings(earlier[name], summary.suite)))
        earlier[name] = summary.suite
    return made


def records_in(results: Path, benchmark: str | None) -> list[Record]:
    """Return the records of one benchmark in a folder, or of all.

    Raises:
        UserError: there are none; it says of which benchmarks there are some.
    """
    records = find_records(results, benchmark)
    if not records:
        there = sorted({folder.relative_to(results).parts[0] for folder in record_folders(results)})
        has = f"{did_you_mean(benchmark or '', there)} There: {', '.join(there)}." if there else ""
        whose = benchmark or "any benchmark"
        asked = f"mtlbench report {benchmark}" if benchmark else "mtlbench report"
        has = has or " Make some with mtlbench run."
        inside = results_inside(results, benchmark)[:1]
        has += "".join(f" {folder} has some: {asked} --results {folder}" for folder in inside)
        raise UserError(f"No run records of {whose} in {results}.{has}")
    return records


def check_metric(metric: str, records: Sequence[Record]) -> None:
    """Refuse a metric that none of some records has.

    Raises:
        UserError: it says which there are.
    """
    known = list(dict.fromkeys(name for r in records for metrics in r.metrics.values() for name in metrics))
    if known and metric not in known:
        raise UserError(f"No run has the metric '{metric}'.{did_you_mean(metric, known)} There: {', '.join(known)}.")


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
        members = [name for name in known if fnmatch.fnmatchcase(name, pattern)] or _members(word, records)
        if not members and re.search(r"[*?]", word):  # a pattern may fit nothing; the rest is shown
            leave_out(f"--methods {word}: no run has such a name.")
            continue
        if word and not members:
            hint = did_you_mean(word, known)
            raise UserError(f"No run of the method '{word}'.{hint} There: {', '.join(sorted(known))}.")
        chosen.update(members)
    if not chosen.intersection(known):
        raise UserError(f"No run of any method of --methods {text}. There: {', '.join(sorted(known))}.")
    return chosen


def _members(group: str, records: Sequence[Record]) -> list[str]:
    """Return the methods of a group, those with options left out, as where they are run."""
    return [name for name, groups in groups_of(records).items() if group in groups and "[" not in name]


def _with_tasks(found: list[Suite], text: str) -> list[tuple[Suite, tuple[str, ...]]]:
    """Return the suites that have all the named tasks, each with them; all tasks where none is named."""
    wanted = tuple(dict.fromkeys(names_in(text)))
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
    chosen = {r.method for r in suite.records if r.setup["method"]["name"] in methods and choice.has(r)}
    found = [row for row in rows(suite, choice.metric, tasks) if row.method in chosen]
    again = suite.again([row.method for row in found])
    shown = {row.method for row in found}
    made_by = [r for r in suite.records if r.method in shown]
    kept: list[str] = []
    if results is not None and any(has_recipe(record) for record in made_by):  # beside plain rows alone nothing is said
        trials = read_trials(results / str(suite.benchmark["name"]) / FOLDER)
        kept = [one.method for one in trials if one.recipe == {}]
    won = _default_rows(made_by, again, kept)
    found = [replace(row, again=again.get(row.method, ""), default_won=row.method in won) for row in found]
    seconds, comparison = None, Compared()
    against = choice.against if choice.against in _against_names(found, suite) else ""
    lines: list[Line | None] = [factors_line(suite)]
    if choice.seconds:
        seconds, found, line = _at_seconds(found, suite, tasks, choice, results)
        lines.append(line)
    if results is not None:
        found, comparison = compared_with_best(found, suite, tasks, choice.metric, results)
        lines += comparison.lines()
        if against:
            found, line = compared_with(found, suite, comparison, against)
            lines.append(line)
    lines.append(base_line(found, suite, choice.metric))
    columns = accuracy_columns(found, tasks, seconds, choice.metric, against)
    costly = [row for row in found if row.costs.get("parameters")]
    measured = [column for column in cost_columns() if any(column.number(row) for row in costly)]
    subject = _subject(suite, tasks)
    title = f"{subject}: {_measure(choice, seconds)}"
    tables = [Table(title, columns, found), Table(f"Cost: {subject}", measured, costly)]
    by = find_column(_columns(tables), choice.sort or ("mean" if seconds is None else "within"))
    if by is None:  # this suite lacks the column; another one has it, or `summarise` says so
        lines.insert(0, _order(f"by mean, since there is no column '{choice.sort}' here."))
    else:
        asked = [[replace(c, spare=c.spare and c.key != by.key) for c in table.columns] for table in tables]
        tables = [
            replace(table, columns=columns, rows=in_order(table.rows, by.value, by.better))
            for table, columns in zip(tables, asked, strict=True)
        ]
        if choice.sort:
            lines.insert(0, _order(f"by {by.heading}, {by.better} first."))
    small = [
        accuracy_line(suite, tasks, made_by, choice.metric),
        *(line for line in (*lines, recipes_line(made_by, again, won)) if line is not None),
        *receipt_of(suite, made_by).lines(),
        *filter(None, [tried_line(suite, made_by, results) if results is not None else None]),
    ]
    return Summary(
        suite, subject, [table for table in tables if table.rows], warnings_of(suite, made_by, kept), small, comparison,
        choice.metric, bool(choice.sort),
    )  # fmt: skip


def _default_rows(records: Sequence[Record], again: Mapping[str, str], kept: Sequence[str]) -> set[str]:
    """Return the rows whose runs are by default and tuned ones too.

    Args:
        records: of the rows.
        again: see `Suite.again`.
        kept: methods whose default was the best of their trials.
    """
    recipes = {r.method: r.setup["method"].get("recipe") for r in records if r.kind == "method"}
    names = {r.method: str(r.setup["method"]["name"]) for r in records}
    tuned = {names[row] for row, recipe in recipes.items() if recipe is not None}
    plain = {row for row, recipe in recipes.items() if recipe is None and names[row] in {*kept} - tuned}
    return {row for row, recipe in recipes.items() if recipe == {}} | plain | set(again.values())


def _order(text: str) -> Line:
    return Line("order", text, f"order: {text}")


def _against_names(found: Sequence[Row], suite: Suite) -> set[str]:
    """Return by which names rows can be compared with: rows', and methods' where factors name rows."""
    shown = {row.method for row in found if row.kind == "method"}
    return shown | {record.setup["method"]["name"] for record in suite.done if record.method in shown}


def _at_seconds(
    found: list[Row], suite: Suite, tasks: Sequence[str], choice: Choice, results: Path | None
) -> tuple[float | None, list[Row], Line]:
    """Add to rows what validation had measured within some seconds of training."""
    if results is None:
        raise UserError("--at-seconds needs the runs' curves, curve.csv beside their run.json.")
    shown = {row.method for row in found}
    curves = {(r.method, r.seed): read_validations(folder_of(r, results)) for r in suite.done if r.method in shown}
    if choice.seconds == "shortest":
        lasts: dict[str, float] = {}
        for (method, _), curve in curves.items():
            lasts[method] = max(lasts.get(method, 0.0), math.inf if curve is None else curve["seconds"].max())
        seconds = min(lasts.values(), default=math.inf)
        if not math.isfinite(seconds):
            none = "none, because no run here kept its curve with seconds."
            return None, found, Line("equal seconds", none, f"equal seconds: {none}")
        whose = f", the time that {min(lasts, key=lambda m: lasts[m])} took"
    else:
        try:
            seconds, whose = float(choice.seconds), ""
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise UserError(f"--at-seconds {choice.seconds}: give a number of seconds, or 'shortest'.")

    select = str(suite.benchmark["evaluation"].get("select", "mean"))
    schedule = suite.benchmark["train"].get("schedule", "constant")
    unfair = ""
    if schedule != "constant" or "train.schedule" in suite.factors:
        unfair = (
            "slower methods are judged in the middle of their learning-rate schedule, when accuracy is still low; to"
            " compare at equal time, train them with fewer steps (--set train.steps)."
        )

    def within(row: Row) -> Cell:
        there = [curves[row.method, seed] for seed in row.seeds if (row.method, seed) in curves]
        return Cell.of([None if c is None else accuracy_within(c, seconds, tasks, select) for c in there])

    added = [replace(row, accuracy=row.accuracy | {"within": within(row)}) for row in found]
    line = Line(
        "equal seconds",
        f"triplet accuracy on the validation split, mean over tasks, of the best checkpoint within"
        f" {seconds:,.4g} s of training steps{whose}, as the curves have it; empty where nothing was validated by then"
        " or the checkpoint is chosen by a retrieval metric. All other columns are of whole runs, which have equal"
        f" steps.{f' Unfair: {unfair}' if unfair else ''}",
        f"equal seconds, unfair: {unfair}" if unfair else "",
    )
    return seconds, added, line


def _subject(suite: Suite, tasks: Sequence[str]) -> str:
    """Return what a suite's tables are of."""
    some = f", {len(tasks)} of {len(suite.tasks)} tasks" if len(tasks) < len(suite.tasks) else ""
    return f"{suite.title}{some}"


def _measure(choice: Choice, seconds: float | None) -> str:
    """Return what the accuracy table holds."""
    shown = "triplet accuracy" if choice.metric == "triplet" else choice.metric
    ranked = f", ranked at {seconds:,.4g} s of training" if seconds is not None and not choice.sort else ""
    return f"{shown} in %{ranked}"
