"""The rows of comparison tables, one per method, and the columns that they have.

What may share a table is decided in `suites`; how tables are written is left to `tables`.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
        note: what went wrong.
        alike: keys of the columns in which it can't be told apart from the best method.
    """

    method: str
    kind: str
    seeds: tuple[int, ...]
    accuracy: dict[str, Cell]
    costs: dict[str, Cell]
    note: str
    alike: frozenset[str] = frozenset()


def rows(suite: Suite, metric: str = "triplet", tasks: Sequence[str] = ()) -> list[Row]:
    """Summarise a suite, a row per method, best mean first; failed methods follow, reference rows come last.

    Means, worst task and Δm are over `tasks`; without any, over all.
    """
    by_method: dict[str, list[Record]] = {}
    for record in suite.records:
        by_method.setdefault(record.method, []).append(record)
    base = {r.seed: r for r in by_method.get(BASE, []) if r.status == "done"}
    shown = tuple(tasks) or suite.tasks
    found = [
        _row(name, sorted(records, key=lambda r: r.seed), shown, metric, base) for name, records in by_method.items()
    ]
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
    return Row(name, kind, tuple(r.seed for r in done), accuracy, costs, _note(records))


def _against(base: dict[int, Record], done: list[Record], tasks: Sequence[str], metric: str) -> dict[str, Cell]:
    """Compare a method with the base, seed by seed: Δm in per cent, and on how many tasks its mean is lower."""
    pairs = [(r, base[r.seed]) for r in done if r.seed in base]
    values = [[(r.metrics[t].get(metric), b.metrics[t].get(metric)) for t in tasks] for r, b in pairs]
    if not values or not all(own is not None and ref for seed in values for own, ref in seed):
        return {}
    delta = [100 * statistics.fmean((own - ref) / ref for own, ref in seed) for seed in values]  # type: ignore[operator]
    means = [[statistics.fmean(side) for side in zip(*seeds, strict=True)] for seeds in zip(*values, strict=True)]
    return {"delta_m": Cell.of(delta), "hurt": Cell(float(sum(own < ref for own, ref in means)))}


def _note(records: list[Record]) -> str:
    notes = []
    for record in records:
        seed = f"seed {record.seed} " if len(records) > 1 else ""
        if record.status != "done":
            notes.append(f"{seed}FAILED: {record.reason}")
            continue
        if record.collapsed:
            every = len(record.collapsed) == len(record.setup["tasks"])
            chosen = f"checkpoint of step {record.receipt.get('selected_step')} shown"
            which = "all tasks" if every else ", ".join(record.collapsed)
            notes.append(f"{seed}COLLAPSED ({which}): all embeddings equal, loss stuck at the margin; {chosen}")
        if record.reason:
            notes.append(f"{seed}{record.reason}")
    return "; ".join(notes)


# --- columns ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: what `--sort` and Row.alike call it, beside its heading.
        number: a row's value as it is shown, empty where there is none.
        value: the same unrounded, to sort by.
        spread: what stands behind the number, such as "±0.3".
        better: whether high or low values are, for sorting.
        ranked: whether tables mark the best and the second.
    """

    key: str
    heading: str
    number: Callable[[Row], str]
    value: Callable[[Row], float | str | None]
    spread: Callable[[Row], str] = lambda row: ""
    better: Literal["high", "low"] = "high"
    ranked: bool = False


def _accuracy_column(key: str, heading: str, form: str = ".1f", scale: float = 100, better: Any = "high") -> Column:
    def cell(row: Row) -> Cell:
        return row.accuracy.get(key, Cell(None))

    def number(row: Row) -> str:
        mean = cell(row).mean
        return "" if mean is None else f"{mean * scale:{form}}"

    def spread(row: Row) -> str:
        deviation = cell(row).deviation
        return "" if deviation is None else f"±{deviation * scale:.1f}"

    return Column(key, heading, number, lambda row: cell(row).mean, spread, better, ranked=True)


def accuracy_columns(found: Sequence[Row], tasks: Sequence[str], seconds: float | None) -> list[Column]:
    """Return the columns of the accuracy table; with `seconds`, that of what validation had measured by then too."""
    columns = [Column("method", "method", lambda row: row.method, lambda row: row.method, better="low")]
    if any(len(row.seeds) > 1 for row in found):
        number = lambda row: str(len(row.seeds)) if row.seeds else ""  # noqa: E731
        columns.append(Column("seeds", "seeds", number, lambda row: len(row.seeds)))
    if seconds is not None:
        columns.append(_accuracy_column("within", f"validation within {seconds:,.4g} s"))
    columns += [_accuracy_column("mean", "mean"), _accuracy_column("worst", "worst")]
    if any("delta_m" in row.accuracy for row in found if row.method != BASE):
        columns.append(_accuracy_column("delta_m", "Δm", "+.1f", 1))
        columns.append(_accuracy_column("hurt", "tasks hurt", ".0f", 1, "low"))
    columns += [_accuracy_column(f"task/{task}", task.replace("_", " ")) for task in tasks]
    columns += [_accuracy_column("macro map@r", "mAP@R"), _accuracy_column("macro precision@1", "P@1")]
    return columns


def _three_figures(value: float) -> str:
    """1,234 · 123 · 12.3 · 1.23."""
    return f"{value:,.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def cost_columns() -> list[Column]:
    """Return the columns of the cost table."""

    def cost(key: str, heading: str, scale: float, show: Callable[[float], str] = _three_figures) -> Column:
        def number(row: Row) -> str:
            mean = row.costs.get(key, Cell(None)).mean
            return "" if mean is None else show(mean * scale)

        return Column(key, heading, number, lambda row: row.costs.get(key, Cell(None)).mean, better="low")

    def rate(key: str, heading: str) -> Column:
        def parts(row: Row) -> list[float]:
            cells = (row.costs.get(key + end, Cell(None)).mean for end in ("", "_slowest", "_fastest"))
            return [mean for mean in cells if mean]

        def spread(row: Row) -> str:
            middle, low, high = parts(row)
            return f"±{(high - low) / 2 / middle * 100:.0f}%"

        return Column(
            key,
            heading,
            lambda row: _three_figures(parts(row)[0]) if len(parts(row)) == 3 else "",
            lambda row: row.costs.get(key, Cell(None)).mean,
            lambda row: spread(row) if len(parts(row)) == 3 else "",
        )

    return [
        Column("method", "method", lambda row: row.method, lambda row: row.method, better="low"),
        cost("parameters", "parameters", 1, lambda value: f"{value:,.0f}"),
        cost("file_bytes", "file MB", 1e-6),
        cost("bytes_shared", "shared MB", 1e-6),
        cost("bytes_per_task", "per task kB", 1e-3),
        cost("bytes_added", "next task adds kB", 1e-3),
        cost("flops_one_task", "MFLOPs, 1 task", 1e-6),
        cost("flops_all_tasks", "MFLOPs, all tasks", 1e-6),
        rate("train_rate", "train img/s"),
        rate("embed_rate_one_task", "embed img/s, 1 task"),
        rate("embed_rate_all_tasks", "embed img/s, all tasks"),
        cost("training_memory", "train MB", 1e-6),
        cost("training_seconds", "train s", 1),
    ]


def find_column(columns: Iterable[Column], name: str) -> Column | None:
    """Return the column of a key, a heading or a task, however it is spaced and capitalised; the first that fits."""

    def plain(text: str) -> str:
        return re.sub(r"[\s_,-]", "", text.lower())

    wanted = {"dm": "deltam"}.get(plain(name), plain(name))
    for column in columns:
        if wanted in (plain(column.key), plain(column.heading), plain(column.key.removeprefix("task/"))):
            return column
    return None
