"""The paired test of a table's rows against the best of each column: what was tested, and what it says.

Hits are read here, from beside `run.json`; the test itself is in `compare`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mtlbench.report.compare import read_hits, tied
from mtlbench.report.receipt import Line
from mtlbench.report.rows import Row
from mtlbench.report.suites import Suite
from mtlbench.runs import Record, folder_of, without_training

Obstacle = Literal["", "few", "metric", "numbers", "questions"]
_REASONS = {
    "metric": "runs keep their answers one by one for triplet accuracy alone",
    "numbers": "the runs answered different numbers of test triplets",
    "questions": "the runs answered different test triplets",
}


@dataclass(frozen=True)
class Comparison:
    """What was tested against the best.

    Attributes:
        best: the best method of each column in which the others were tested against it, by key.
        missing: methods that were tested in no column, since a run's answers are missing or are not its own.
        seeds: whether the test is over seeds too.
        obstacle: why nothing was tested; `few` where there are no two methods.
    """

    best: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    seeds: bool = False
    obstacle: Obstacle = "few"

    @property
    def reason(self) -> str:
        """Say why nothing was tested; empty where that needs no word."""
        return f"none, {_REASONS[self.obstacle]}." if self.obstacle in _REASONS else ""

    @property
    def lacking(self) -> str:
        """Say which methods were not tested for lack of their answers; empty where there are none."""
        if not self.missing:
            return ""
        return (
            f"Not compared, for test.safetensors is missing or is not of the same run: {', '.join(self.missing)};"
            " columns that one of them leads have no marks."
        )

    def line(self) -> Line | None:
        """Return its line of the small print."""
        if self.obstacle:
            return Line("comparison with the best", self.reason) if self.reason else None
        how = "paired by test triplet, variance as of a bootstrap over them"
        covered = "; how results vary between seeds is not covered, for there is one"
        if self.seeds:
            how = (
                "paired by seed and test triplet, variance as of a bootstrap over both, that over seeds pooled over"
                " pairs"
            )
            covered = ""
        said = (
            f"can't be told apart from the best of the column (the mean, single tasks): {how}; Student's t, two-sided"
            f" 5 %, Holm's correction within a column; test triplets are taken as independent{covered}."
        )
        return Line("≈", " ".join(filter(None, (said, self.lacking))))


def compared_with_best(
    found: list[Row], suite: Suite, tasks: Sequence[str], metric: str, results: Path
) -> tuple[list[Row], Comparison]:
    """Mark which rows can't be told apart from the best, in the mean and on each task."""
    if metric != "triplet":
        return found, Comparison(obstacle="metric")
    rivals = [row for row in found if row.kind == "method" and row.accuracy["mean"].mean is not None]
    if len(rivals) < 2:
        return found, Comparison()
    shown = {row.method for row in rivals}
    records = [record for record in suite.done if record.method in shown]
    hits: dict[str, dict[int, Any]] = {}
    missing: dict[str, None] = {}
    shapes = set()
    for record in records:
        answers = read_hits(folder_of(record, results), record)
        if answers is None:
            missing[record.method] = None
        else:
            shapes.add(answers.shape)
            hits.setdefault(record.method, {})[record.seed] = answers
    if len(shapes) > 1:
        return found, Comparison(obstacle="numbers")
    if suite.factors and len({_exam(record) for record in records}) > 1:
        return found, Comparison(obstacle="questions")
    hits = {method: by_seed for method, by_seed in hits.items() if method not in missing}
    place = [suite.tasks.index(task) for task in tasks]
    columns = {"mean": place} | {f"task/{task}": [at] for task, at in zip(tasks, place, strict=True)}
    marked: dict[str, set[str]] = {row.method: set() for row in rivals}
    leaders = {}
    for key, chosen in columns.items():
        best = max(rivals, key=lambda row: row.accuracy[key].mean or 0.0).method
        if best in hits and len(hits) > 1:
            leaders[key] = best
            for method in tied(hits, best, chosen):
                marked[method].add(key)
    several = any(len(by_seed) > 1 for by_seed in hits.values())
    rows = [replace(row, tied=frozenset(marked.get(row.method, ()))) for row in found]
    return rows, Comparison(leaders, tuple(missing), several, "")


def _exam(record: Record) -> str:
    """Return what decides a run's test triplets: data, and how triplets are drawn from them."""
    setup = without_training(record.setup)
    settings = setup["benchmark"]
    drawn = {key: settings.get("evaluation", {}).get(key) for key in ("triplets", "seed", "anchors")}
    parts = [setup.get("data"), settings.get("data"), drawn]
    return json.dumps(parts, sort_keys=True)
