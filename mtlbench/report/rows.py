"""The rows of comparison tables, one per method.

`suites` decides what may share a table; `columns` makes columns of rows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mtlbench.report.evidence import read_validated
from mtlbench.report.inference import LEVEL, Comparison
from mtlbench.report.outcome import Outcome, Status
from mtlbench.report.suites import Suite
from mtlbench.runs import Record

LEARNED = 0.05  # above chance: over less, a ratio is mostly noise, so Δm divides by no less
MACRO = "macro "  # what the keys of retrieval metrics' columns begin with
RETRIEVAL = ("map@r", "precision@1")  # the metrics that every table has beside
Standing = Literal["best", "tied", "worse", "undecided"]


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
        mean = statistics.fmean(known)
        if len(known) == 1:
            return Cell(mean)
        # statistics.stdev counts in fractions: most of a large table's time
        return Cell(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in known) / (len(known) - 1)))


@dataclass(frozen=True)
class Row:
    """One method's results over its seeds, by column key.

    Attributes:
        accuracy: shares, not per cent; `delta_m` in per cent where there is a base; `hurt`, a count, where a test could
            compare with it.
        outcome: how its runs ended.
        is_base: whether it is what others' Δm is relative to.
        again: the row that this one is once more, trained in the same way (see `Suite.again`); it counts once,
            and the tables that people read leave it out.
        default_won: whether its runs are the method's plain ones and its tuned ones.
        standing: how it stands to the best method of a column, by key; nothing where that was not compared.
        versus: its differences to the best methods, by key, and `level` at which their intervals hold.
        against: its difference of the mean to a method that was named for it.
        unlearned: tasks that Δm leaves out, for the base did not learn them.
        by_test: whether the base's test scores decided that, for lack of validation scores.
    """

    method: str
    kind: str
    seeds: tuple[int, ...]
    accuracy: dict[str, Cell]
    costs: dict[str, Cell]
    outcome: Outcome = field(default_factory=Outcome)
    is_base: bool = False
    again: str = ""
    default_won: bool = False
    standing: dict[str, Standing] = field(default_factory=dict)
    versus: dict[str, Comparison] = field(default_factory=dict)
    level: float = LEVEL
    against: Comparison | None = None
    unlearned: tuple[str, ...] = ()
    by_test: bool = False

    @property
    def status(self) -> Status:
        """How its runs ended, in a word; see `Outcome.status`."""
        return self.outcome.status

    @property
    def note(self) -> str:
        """What went wrong and what else there is to say, in words; empty where there is nothing."""
        return self.outcome.note()


def rows(suite: Suite, metric: str = "triplet", tasks: Sequence[str] = ()) -> list[Row]:
    """Summarise a suite, a row per method, best mean first; failed methods follow, reference rows come last.

    Means, worst task and Δm are over `tasks`; without any, over all.
    """
    by_method: dict[str, list[Record]] = {}
    for record in suite.records:
        by_method.setdefault(record.method, []).append(record)
    shown = tuple(tasks) or suite.tasks
    chance = chance_of(suite, metric, shown)
    found = []
    further = [str(m) for m in suite.benchmark.get("evaluation", {}).get("metrics", ())]
    learned_of: dict[str, tuple[list[str], bool]] = {}
    for name, records in by_method.items():
        base = suite.row_of(suite.base, name)
        finished = {r.seed: r for r in by_method.get(base, []) if r.status == "done"}
        row = _row(name, sorted(records, key=lambda r: r.seed), shown, metric, [*RETRIEVAL, *further])
        if row.kind == "method":
            if base not in learned_of:
                learned_of[base] = _learned(list(finished.values()), shown, metric, chance)
            learned, by_test = learned_of[base]
            row = _with_delta(row, records, finished, learned, metric, chance)
            unlearned = tuple(t for t in shown if t not in learned)
            row = replace(row, is_base=name == base, unlearned=unlearned, by_test=by_test)
        found.append(row)
    return in_order(found, lambda row: row.accuracy["mean"].mean, "high")


def in_order(found: Iterable[Row], value: Callable[[Row], float | str | None], better: str) -> list[Row]:
    """Sort rows, the best first, those without a value after them; reference rows come last, whatever theirs."""

    def order(row: Row) -> tuple[bool, bool, Any]:
        number = value(row)
        missing = number is None
        sign = -1 if better == "high" else 1
        return row.kind == "reference", missing, 0 if missing else number if isinstance(number, str) else sign * number  # type: ignore[operator]

    return sorted(found, key=order)


def _row(name: str, records: list[Record], tasks: Sequence[str], metric: str, retrieval: Sequence[str]) -> Row:
    done = [r for r in records if r.status == "done"]
    kind = records[0].kind

    def over(pick: Callable[[Record], float | None]) -> Cell:
        return Cell.of([pick(r) for r in done]) if done else Cell(None)

    accuracy = {
        "mean": over(lambda r: across(r, tasks, metric, statistics.fmean)),
        "worst": over(lambda r: across(r, tasks, metric, min)),
        **{f"task/{t}": over(lambda r, t=t: r.metrics[t].get(metric)) for t in tasks},  # type: ignore[misc]
        **{f"{MACRO}{m}": over(lambda r, m=m: across(r, tasks, f"macro/{m}", statistics.fmean)) for m in retrieval},  # type: ignore[misc]
    }
    names = dict.fromkeys(k for r in done for k in r.costs)
    # those of some seeds may be due yet, and one exported file is enough
    costs = {k: _cost_of([r.costs[k] for r in done if k in r.costs], k) for k in names}
    costs["training_seconds"] = over(lambda r: r.receipt.get("training_seconds"))
    return Row(name, kind, tuple(r.seed for r in done), accuracy, costs, Outcome.of(records, tasks))


def across(record: Record, tasks: Iterable[str], name: str, how: Callable[[list[float]], float]) -> float | None:
    """Return a run's mean or worst of a metric over tasks; None unless all have a number."""
    values = [record.metrics[task].get(name) for task in tasks]
    known = [v for v in values if v is not None and not math.isnan(v)]
    return how(known) if len(known) == len(values) else None


def _cost_of(values: Sequence[float], key: str) -> Cell:
    """Summarise a cost over seeds; of the ends of a speed's range the outermost, so that it holds every measurement."""
    if key.endswith("_slowest"):
        return Cell(min(values))
    return Cell(max(values)) if key.endswith("_fastest") else Cell.of(values)


def at_chance(record: Record, task: str) -> bool:
    """Return whether a run's triplet accuracy on a task is no more than `LEARNED` above chance."""
    accuracy = record.metrics.get(task, {}).get("triplet")
    return accuracy is not None and accuracy <= 0.5 + LEARNED


def chance_of(suite: Suite, metric: str, tasks: Sequence[str]) -> dict[str, float]:
    """Return what random embeddings reach, by task; without the tasks of which that is not known."""
    if metric == "triplet":
        return dict.fromkeys(tasks, 0.5)
    runs = [record for record in suite.records if record.setup["method"]["name"] == "chance"]
    found = {task: _mean(runs, task, metric) for task in tasks}
    return {task: mean for task, mean in found.items() if mean is not None}


def _mean(records: Iterable[Record], task: str, metric: str) -> float | None:
    """Return a metric's mean over runs; None where one of them lacks it, or there is none."""
    values = [record.metrics.get(task, {}).get(metric) for record in records]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _learned(
    base: Sequence[Record], tasks: Sequence[str], metric: str, chance: dict[str, float]
) -> tuple[list[str], bool]:
    """Return the tasks on which each of the base's seeds is above chance: the mean of one that is may be luck.

    By validation scores: by the test scores that Δm is relative to, it would keep tasks on which the base had luck
    there, and other methods would lose. Whether it had to take those is said too.
    """
    scores = [read_validated(record) if metric == "triplet" else {} for record in base]
    by_test = not all(set(tasks) <= set(own) for own in scores)
    if by_test:
        scores = [{task: record.metrics.get(task, {}).get(metric, math.nan) for task in tasks} for record in base]
    learned = [t for t in tasks if base and t in chance and all(own[t] > chance[t] + LEARNED for own in scores)]
    return learned, by_test


def _with_delta(
    row: Row,
    records: Sequence[Record],
    base: dict[int, Record],
    learned: Sequence[str],
    metric: str,
    chance: dict[str, float],
) -> Row:
    """Add Δm, in per cent: the mean over tasks of the difference to the base, over what the base has above chance.

    The difference is taken seed by seed, what the base has above chance from all its seeds: one seed's may be near 0.
    It counts as `LEARNED` where it is less.
    """
    above = {t: max((_mean(base.values(), t, metric) or 0.0) - chance[t], LEARNED) for t in learned}
    pairs = [(r, base[r.seed]) for r in records if r.status == "done" and r.seed in base]
    differences = [[(task, _mean([own], task, metric), _mean([ref], task, metric)) for task in learned]
                   for own, ref in pairs]  # fmt: skip
    if not differences or not learned or any(None in one for seed in differences for one in seed):
        return row
    delta = [100 * statistics.fmean((own - ref) / above[task] for task, own, ref in seed) for seed in differences]  # type: ignore[operator]
    return replace(row, accuracy=row.accuracy | {"delta_m": Cell.of(delta)})
