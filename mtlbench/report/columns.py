"""The columns of comparison tables: what each holds, how it is written, and what it means.

A column's meaning stands here once: the page's tooltips and glossary and `mtlbench report --columns` read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mtlbench.report.pairs import in_points
from mtlbench.report.rows import LEARNED, MACRO, RETRIEVAL, Cell, Row
from mtlbench.runs.sizes import STORED

_METRICS = {  # what the column of means holds
    "triplet": "Mean over the tasks. Triplet accuracy, in per cent: how often a test image is nearer to one of the same"
    " label than to one of another; 50 is chance.",
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: what `--sort` and Row.standing call it, beside its heading.
        number: a row's value as it is shown, empty where there is none.
        value: the same unrounded, to sort by.
        spread: what stands behind the number, such as "±0.3".
        better: whether high or low values are, for sorting.
        ranked: whether tables mark the best and the second.
        task: the single task that it is of.
        meaning: what it holds and in which unit, in a sentence or two.
        term: what a glossary calls it, where that is not its heading.
        spare: whether it says again what other columns say: a narrow terminal does without it.
    """

    key: str
    heading: str
    number: Callable[[Row], str]
    value: Callable[[Row], float | str | None]
    spread: Callable[[Row], str] = lambda row: ""
    better: Literal["high", "low"] = "high"
    ranked: bool = False
    task: str | None = None
    meaning: str = ""
    term: str = ""
    spare: bool = False


def glossary(columns: Iterable[Column]) -> list[tuple[str, str]]:
    """Return what columns mean, each with its term; those of single tasks, and others that need no word, have none."""
    return [(column.term or column.heading, column.meaning) for column in columns if column.meaning]


def method_column(told: bool = False) -> Column:
    """Return the column of the rows' names.

    With `told`, it says of which rows the numbers are not to be trusted, and which were tuned to no avail.
    """

    def remark(row: Row) -> str:
        trouble = {"collapsed": "COLLAPSED", "failed": "FAILED", "partial": "PARTLY FAILED"}.get(row.status, "")
        return " ".join(filter(None, (trouble, "(default won)" * row.default_won)))

    spread = remark if told else lambda row: ""
    return Column("method", "method", lambda row: row.method, lambda row: row.method, spread, better="low")


def _accuracy_column(
    key: str,
    heading: str,
    meaning: str,
    form: str = ".1f",
    scale: float = 100,
    better: Any = "high",
    ranked: bool = True,
    **more: Any,
) -> Column:
    def cell(row: Row) -> Cell:
        return row.accuracy.get(key, Cell(None))

    def number(row: Row) -> str:
        mean = cell(row).mean
        return "" if mean is None else f"{mean * scale:{form}}"

    def spread(row: Row) -> str:
        deviation = cell(row).deviation
        return "" if deviation is None else f"±{deviation * scale:.1f}"

    return Column(
        key, heading, number, lambda row: cell(row).mean, spread, better, ranked=ranked, meaning=meaning, **more
    )


def _seeds_column() -> Column:
    return Column(
        "seeds", "seeds", lambda row: str(len(row.seeds)) if row.seeds else "", lambda row: len(row.seeds),
        meaning="How many runs with different seeds the numbers are means of.",
    )  # fmt: skip


def _within_column(seconds: float | None) -> Column:
    within = "…" if seconds is None else f"{seconds:,.4g} s"
    return _accuracy_column(
        "within", f"validation within {within}",
        "Validation accuracy after the same training time, in per cent; not tested.", term="validation within …",
        ranked=False,
    )  # fmt: skip


def _mean_column(metric: str) -> Column:
    measured = _METRICS.get(metric, f"Mean over the tasks of {metric}, in per cent.")
    return _accuracy_column("mean", "mean", f"{measured} ± is the sample standard deviation over seeds.")


def _versus_column() -> Column:
    def number(row: Row) -> str:
        if row.standing.get("mean") == "best":
            return "best"
        pair = row.versus.get("mean")
        if pair is None:
            return ""
        return in_points(pair, row.level)

    def value(row: Row) -> float | None:
        pair = row.versus.get("mean")
        return pair.difference if pair else 0.0 if row.standing.get("mean") == "best" else None

    return Column(
        "versus", "vs best", number, value,
        meaning="Difference of the mean to the best mean of enough seeds, in points, with its 95 % interval, which"
        " holds for all pairs of methods at once; unknown where that is 100 points wide or wider.",
    )  # fmt: skip


def _against_column(method: str) -> Column:
    return Column(
        "against", f"vs {method}",
        lambda row: "" if row.against is None else in_points(row.against, row.level),
        lambda row: row.against.difference if row.against else None,
        meaning=f"Difference of the mean to that of {method}, in points, with its 95 % interval, which holds for all"
        " pairs of methods at once; unknown where that is 100 points wide or wider.",
    )  # fmt: skip


def _worst_column() -> Column:
    return _accuracy_column(
        "worst", "worst", "Mean over seeds of the accuracy on each seed's own worst task, in per cent; not tested.",
        ranked=False,
    )  # fmt: skip


def _base_columns() -> list[Column]:
    return [
        _accuracy_column(
            "delta_m", "Δm",
            "Difference to the base, a network for each task, in per cent of what the base has above chance, at least"
            f" {100 * LEARNED:g} points; mean over the tasks on which each of its seeds is more than that above chance."
            " Above 0, sharing helped; not tested.",
            "+.1f", 1, ranked=False,
        ),
        _accuracy_column(
            "hurt", "tasks hurt",
            "The number of tasks on which the method is significantly worse than the base, all tasks together at 95 %;"
            " empty where it was not compared.",
            ".0f", 1, "low", ranked=False,
        ),
    ]  # fmt: skip


def _retrieval_columns() -> list[Column]:
    return [
        _accuracy_column(
            "macro map@r", "mAP@R",
            "Retrieval: mean average precision among the R nearest, where R is the number of images of the same"
            " label, in per cent; macro mean over label values, so that a rare value counts as much as a common one.",
        ),
        _accuracy_column(
            "macro precision@1", "P@1",
            "Retrieval: how often the nearest image has the same label, in per cent; macro mean over label values.",
        ),
    ]  # fmt: skip


def _further_column(name: str, what: str = "") -> Column:
    measured = f"{what[:1].lower()}{what[1:]}".rstrip(".") or name
    return _accuracy_column(
        f"{MACRO}{name}", name,
        f"Retrieval: {measured}, in per cent; macro mean over label values, mean over the tasks.",
    )  # fmt: skip


def _further_columns(found: Sequence[Row]) -> list[Column]:
    """Return the columns of the metrics that a benchmark asks for beside the usual ones."""
    keys = dict.fromkeys(key for row in found for key in row.accuracy if key.startswith(MACRO))
    names = [key.removeprefix(MACRO) for key in keys]
    return [_further_column(name) for name in names if name not in RETRIEVAL]


def accuracy_columns(
    found: Sequence[Row], tasks: Sequence[str], seconds: float | None, metric: str = "triplet", against: str = ""
) -> list[Column]:
    """Return the columns of the accuracy table.

    With `seconds`, that of what validation had measured by then too; with `against`, that of differences to a method.
    """
    columns = [method_column(told=True)]
    if any(len(row.seeds) > 1 for row in found):
        alike = len({len(row.seeds) for row in found if row.seeds}) == 1
        columns.append(replace(_seeds_column(), spare=alike))
    if seconds is not None:
        columns.append(_within_column(seconds))
    columns.append(_mean_column(metric))
    if any("mean" in row.versus for row in found):
        columns.append(_versus_column())
    if against:
        columns.append(_against_column(against))
    columns.append(_worst_column())
    if any("delta_m" in row.accuracy for row in found if not row.is_base):
        delta, hurt = _base_columns()
        columns += [delta, hurt] if any(hurt.number(row) for row in found) else [delta]  # one seed compares nothing
    columns += [_accuracy_column(f"task/{task}", task.replace("_", " "), "", task=task) for task in tasks]
    columns += _retrieval_columns() + _further_columns(found)
    if any(row.kind == "method" and len(row.seeds) > 1 for row in found):
        return columns
    return [replace(column, ranked=False) for column in columns]  # with one seed nothing is compared: none is the best


def three_figures(value: float) -> str:
    """1,234 · 123 · 12.3 · 1.23."""
    return f"{value:,.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def _cost(
    key: str,
    heading: str,
    scale: float,
    meaning: str,
    show: Callable[[float], str] = three_figures,
    spare: bool = False,
) -> Column:
    def number(row: Row) -> str:
        mean = row.costs.get(key, Cell(None)).mean
        return "" if mean is None else show(mean * scale)

    return Column(
        key, heading, number, lambda row: row.costs.get(key, Cell(None)).mean, better="low", meaning=meaning,
        spare=spare,
    )  # fmt: skip


def _rate(key: str, heading: str, meaning: str) -> Column:
    def parts(row: Row) -> list[float]:
        cells = (row.costs.get(key + end, Cell(None)).mean for end in ("", "_slowest", "_fastest"))
        return [mean for mean in cells if mean]

    def spread(row: Row) -> str:
        middle, low, high = parts(row)
        return f"±{(high - low) / 2 / middle * 100:.0f}%"

    return Column(
        key,
        heading,
        lambda row: three_figures(parts(row)[0]) if len(parts(row)) == 3 else "",
        lambda row: row.costs.get(key, Cell(None)).mean,
        lambda row: spread(row) if len(parts(row)) == 3 else "",
        meaning=f"{meaning} ± is half the range of the measurements of all seeds, in per cent of the value.",
    )


def _stored_columns() -> list[Column]:
    """Return the columns of exported files: shown where one was written."""
    found = []
    for kind in STORED:
        found += [
            _cost(
                kind.size, f"{kind.heading} MB", 1e-6,
                f"Size of the {kind.words} that mtlbench export wrote with all tasks, in MB; empty where none was"
                " exported.",
            ),
            _cost(
                kind.added, f"{kind.heading}: next task adds kB", 1e-3,
                "What one more task adds to that file, in kB: the difference of two files that are exported in the same"
                " way, with made-up weights, of these tasks and of one more.",
            ),
        ]  # fmt: skip
    return found


def cost_columns() -> list[Column]:
    """Return the columns of the cost table."""
    return [
        method_column(),
        _cost(
            "parameters", "parameters", 1, "Parameters in the whole network, frozen ones too.",
            lambda value: f"{value:,.0f}", spare=True,
        ),
        _cost("file_bytes", "file MB", 1e-6, "Size of the file that holds the whole network, for all tasks, in MB."),
        _cost("bytes_shared", "shared MB", 1e-6, "The part of the stored network that all tasks use, in MB.",
              spare=True),
        _cost(
            "bytes_per_task", "per task kB", 1e-3,
            "The part of the stored network that one task alone uses (mean over tasks), in kB.",
            spare=True,
        ),
        _cost("bytes_added", "next task adds kB", 1e-3, "What one more task would add to the stored network, in kB."),
        *_stored_columns(),
        _cost(
            "flops_one_task", "MFLOPs, 1 task", 1e-6,
            "Million operations to embed one image under one task (mean over tasks).",
        ),
        _cost("flops_all_tasks", "MFLOPs, all tasks", 1e-6, "Million operations to embed one image under all tasks."),
        _rate("train_rate", "train img/s", "How many images a second training takes in."),
        _rate("embed_rate_one_task", "embed img/s, 1 task", "Images a second, embedded under one task, the first."),
        _rate(
            "embed_rate_all_tasks", "embed img/s, all tasks",
            "How many images a second are embedded, each under every task.",
        ),
        _cost("training_memory", "train MB", 1e-6, "Peak memory during training, in MB."),
        _cost("training_seconds", "train s", 1, "Duration of training, in seconds."),
    ]  # fmt: skip


def all_columns(metrics: Mapping[str, str] | None = None) -> list[Column]:
    """Return every column that tables may have, but for those of single tasks.

    Args:
        metrics: further ones that benchmarks may ask for, by name, each with what it measures.
    """
    return [
        _seeds_column(),
        _within_column(None),
        _mean_column("triplet"),
        _versus_column(),
        _against_column("…"),
        _worst_column(),
        *_base_columns(),
        *_retrieval_columns(),
        *(_further_column(name, what) for name, what in (metrics or {}).items() if name not in RETRIEVAL),
        *cost_columns()[1:],
    ]


def find_column(columns: Iterable[Column], name: str) -> Column | None:
    """Return the column of a key, a heading or a task, however it is spaced and capitalised; the first that fits."""

    def plain(text: str) -> str:
        return re.sub(r"[\s_,-]", "", text.lower())

    wanted = {"dm": "deltam"}.get(plain(name), plain(name))
    for column in columns:
        if wanted in (plain(column.key), plain(column.heading), plain(column.task or column.key)):
            return column
    return None
