"""The rows of comparison tables, one per method.

What may share a table is decided in `suites`, what columns are made of rows in `columns`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mtlbench.report.outcome import Outcome, Status
from mtlbench.report.suites import Suite
from mtlbench.runs import Record

BASE = "independent"  # what Δm is relative to


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
        accuracy: shares, not per cent; `delta_m` in per cent and `hurt` a count where there is a base to compare with.
        outcome: how its runs ended.
        is_base: whether it is what others' Δm is relative to.
        tied: keys of the columns in which a paired test can't tell it apart from the best method.
    """

    method: str
    kind: str
    seeds: tuple[int, ...]
    accuracy: dict[str, Cell]
    costs: dict[str, Cell]
    outcome: Outcome = field(default_factory=Outcome)
    is_base: bool = False
    tied: frozenset[str] = frozenset()

    @property
    def status(self) -> Status:
        """How its runs ended, in a word; see `Outcome.status`."""
        return self.outcome.status

    @property
    def note(self) -> str:
        """What went wrong, in words; empty where nothing did."""
        return self.outcome.note()


def rows(suite: Suite, metric: str = "triplet", tasks: Sequence[str] = ()) -> list[Row]:
    """Summarise a suite, a row per method, best mean first; failed methods follow, reference rows come last.

    Means, worst task and Δm are over `tasks`; without any, over all.
    """
    by_method: dict[str, list[Record]] = {}
    for record in suite.records:
        by_method.setdefault(record.method, []).append(record)
    shown = tuple(tasks) or suite.tasks
    found = []
    for name, records in by_method.items():
        base = suite.row_of(BASE, name)
        finished = {r.seed: r for r in by_method.get(base, []) if r.status == "done"}
        row = _row(name, sorted(records, key=lambda r: r.seed), shown, metric, finished)
        found.append(replace(row, is_base=name == base))
    return in_order(found, lambda row: row.accuracy["mean"].mean, "high")


def in_order(found: Iterable[Row], value: Callable[[Row], float | str | None], better: str) -> list[Row]:
    """Sort rows, the best first, those without a value after them; reference rows come last, whatever theirs."""

    def order(row: Row) -> tuple[bool, bool, Any]:
        number = value(row)
        missing = number is None
        sign = -1 if better == "high" else 1
        return row.kind == "reference", missing, 0 if missing else number if isinstance(number, str) else sign * number  # type: ignore[operator]

    return sorted(found, key=order)


def _row(name: str, records: list[Record], tasks: Sequence[str], metric: str, base: dict[int, Record]) -> Row:
    done = [r for r in records if r.status == "done"]
    kind = records[0].kind

    def over(pick: Callable[[Record], float | None]) -> Cell:
        return Cell.of([pick(r) for r in done]) if done else Cell(None)

    def across(record: Record, name: str, how: Callable[[list[float]], float]) -> float | None:
        values = [record.metrics[task].get(name) for task in tasks]
        known = [v for v in values if v is not None]
        return how(known) if len(known) == len(values) else None

    accuracy = {
        "mean": over(lambda r: across(r, metric, statistics.fmean)),
        "worst": over(lambda r: across(r, metric, min)),
        **{f"task/{t}": over(lambda r, t=t: r.metrics[t].get(metric)) for t in tasks},  # type: ignore[misc]
        "macro map@r": over(lambda r: across(r, "macro/map@r", statistics.fmean)),
        "macro precision@1": over(lambda r: across(r, "macro/precision@1", statistics.fmean)),
    }
    if kind == "method":
        accuracy |= _against(base, done, tasks, metric)
    names = dict.fromkeys(k for r in done for k in r.costs)
    costs = {k: over(lambda r, k=k: r.costs.get(k)) for k in names}  # type: ignore[misc]
    costs["training_seconds"] = over(lambda r: r.receipt.get("training_seconds"))
    return Row(name, kind, tuple(r.seed for r in done), accuracy, costs, Outcome.of(records))


def _against(base: dict[int, Record], done: list[Record], tasks: Sequence[str], metric: str) -> dict[str, Cell]:
    """Compare a method with the base, seed by seed: Δm in per cent, and on how many tasks its mean is lower."""
    pairs = [(r, base[r.seed]) for r in done if r.seed in base]
    values = [[(r.metrics[t].get(metric), b.metrics[t].get(metric)) for t in tasks] for r, b in pairs]
    if not values or not all(own is not None and ref for seed in values for own, ref in seed):
        return {}
    delta = [100 * statistics.fmean((own - ref) / ref for own, ref in seed) for seed in values]  # type: ignore[operator]
    means = [[statistics.fmean(side) for side in zip(*seeds, strict=True)] for seeds in zip(*values, strict=True)]
    return {"delta_m": Cell.of(delta), "hurt": Cell(float(sum(own < ref for own, ref in means)))}
