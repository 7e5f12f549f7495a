"""What the figures are drawn from: a suite's records, and the files in its runs' folders. It draws nothing.

A run's folder may lack any of these files, since records are copied about; what is missing is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtlbench.probes import ALL, FILE, OLD_FILE
from mtlbench.report.agreement import probes_or_none
from mtlbench.report.evidence import read_curve
from mtlbench.report.suites import Suite
from mtlbench.runs import Record, folder_of

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """One method's finished runs.

    Attributes:
        name: its row's.
        accuracy: triplet accuracy in per cent on the test split, (seeds, T).
        records: one a seed, in the order of seeds.
        label: the name that figures write; see `scene.labels`.
    """

    name: str
    kind: str
    records: tuple[Record, ...]
    accuracy: Array
    label: str

    @property
    def mean(self) -> float:
        """Mean over tasks and seeds."""
        return float(self.accuracy.mean())

    @property
    def deviation(self) -> float:
        """Sample standard deviation over seeds of the mean over tasks; nan for one seed."""
        return spread([float(row.mean()) for row in self.accuracy])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its finished runs."""
        return tuple(record.seed for record in self.records)

    @property
    def collapsed(self) -> bool:
        """Whether embeddings collapsed under some task, with some seed."""
        return any(record.collapsed for record in self.records)

    def cost(self, name: str) -> tuple[float, float]:
        """Return mean and sample standard deviation of a cost over the seeds that have it; nan where none has."""
        known = [float(record.costs[name]) for record in self.records if name in record.costs]
        return (float(np.mean(known)), spread(known)) if known else (math.nan, math.nan)


def spread(values: Sequence[float]) -> float:
    """Return the sample standard deviation; nan for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def finished(suite: Suite) -> list[Method]:
    """Return the methods with finished runs, best mean first, then the reference rows; failed runs are left out."""
    groups: dict[str, list[Record]] = {}
    for record in suite.records:
        if record.status == "done" and all("triplet" in record.metrics.get(task, {}) for task in suite.tasks):
            groups.setdefault(record.method, []).append(record)
    methods = []
    for name, records in groups.items():
        records.sort(key=lambda record: record.seed)
        accuracy = [[100 * record.metrics[task]["triplet"] for task in suite.tasks] for record in records]
        methods.append(Method(name, records[0].kind, tuple(records), np.array(accuracy, dtype=np.float64), name))
    return sorted(methods, key=lambda method: (method.kind == "reference", -method.mean, method.name))


def against(base: Method, method: Method) -> Array:
    """Return by how many points a method is better than a base, by task, (T,), over the seeds that both have."""
    common = [seed for seed in method.seeds if seed in base.seeds]
    if not common:
        return np.full(method.accuracy.shape[1], math.nan)
    rows, base_rows = ([m.seeds.index(seed) for seed in common] for m in (method, base))
    gained: Array = (method.accuracy[rows] - base.accuracy[base_rows]).mean(0)
    return gained


def _files(results: Path, method: Method, name: str) -> list[Path]:
    folders = [folder_of(record, results) for record in method.records]
    return [folder / name for folder in folders if (folder / name).exists()]


def probed(suite: Suite, results: Path, method: Method) -> bool:
    """Return whether a run of a method has cosines between gradients."""
    asked = suite.benchmark["evaluation"].get("agreement_every", 0)  # older records know of none
    paths = [path for name in (FILE, OLD_FILE) for path in _files(results, method, name)] if asked else []
    return any(path.read_bytes()[:4096].count(b"\n") > 1 for path in paths)  # more than the heading


def curves(suite: Suite, results: Path, method: Method) -> list[pd.DataFrame]:
    """Return each run's curve: step, seconds, mean validation accuracy (a share; nan between validations), weights."""
    columns = ("step", "seconds", "accuracy")
    found = []
    for record in method.records:
        folder = folder_of(record, results)
        table = read_curve(folder, lambda name: name in columns or name.startswith("weight/"), columns)
        if table is not None:
            found.append(table[[*columns, *(c for c in table if c not in columns)]])
    return found


def cosines(suite: Suite, results: Path, method: Method) -> list[pd.DataFrame]:
    """Return each run's cosines between two tasks' gradients on all shared parameters: step, task_a, task_b, cosine.

    Pairs in which a task had no gradient have no cosine and are left out; so are runs that shared nothing, and, with a
    warning, those whose probes are damaged.
    """
    found = []
    for record in method.records:
        table = probes_or_none(suite, results, record)
        if table is not None:
            table = table[table["layer"] == ALL].dropna(subset="cosine")
            found += [table] if len(table) else []
    return found


def mean_known(parts: Sequence[Array]) -> Array:
    """Return the mean of equal arrays over those that are not nan; nan where none is."""
    stacked = np.stack(parts)
    known = ~np.isnan(stacked)
    count = known.sum(0)
    total: Array = np.where(known, stacked, 0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def windows(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Average a table with a `step` column over windows of steps, at most `most` of them, step included.

    Windows hold equally many of the table's steps, so that tables with the same steps have the same windows.
    """
    import pandas as pd

    steps = np.unique(table["step"].to_numpy())
    size = max(1, math.ceil(len(steps) / most))
    order = np.argsort(table["step"].to_numpy(), kind="stable")
    numbers = table.select_dtypes("number").iloc[order]
    number = np.searchsorted(steps, numbers["step"].to_numpy()) // size
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    values = numbers.to_numpy(np.float64)
    known = ~np.isnan(values)
    total, count = (np.add.reduceat(part, starts, axis=0) for part in (np.where(known, values, 0), known.astype(int)))
    with np.errstate(invalid="ignore"):  # nan where a window has no value
        means = total / count
    return pd.DataFrame(means, columns=numbers.columns)
