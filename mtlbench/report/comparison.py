"""How a table's rows stand to the best of each column, and to the base: what was compared, and what it says.

Answers are read here, from beside `run.json`; the test itself is in `inference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UserError, did_you_mean
from mtlbench.report.evidence import read_hits, read_triplets
from mtlbench.report.inference import Comparison, Hits, SharedImages, compare, threshold
from mtlbench.report.receipt import Line
from mtlbench.report.rows import BASE, Cell, Row, Standing
from mtlbench.report.suites import Suite
from mtlbench.runs import Record, folder_of

EQUAL = 0.01  # a difference surely below this is none
Obstacle = Literal["", "few", "metric", "answers", "triplets", "questions", "seeds"]
_REASONS: dict[Obstacle, str] = {
    "metric": "not compared: runs keep their answers one by one for triplet accuracy alone",
    "answers": "not compared: test.safetensors is missing beside these runs, or is not of the same run",
    "triplets": "not compared: these runs kept no triplets",
    "questions": "not compared: the runs answered different test triplets",
    "seeds": "one seed: not compared. How much another seed would change is not known; --seeds 0,1,2 tells",
}


@dataclass(frozen=True)
class Compared:
    """What was compared with the best.

    Attributes:
        best: the best method of each column in which the others were compared with it, by key.
        missing: methods that were compared in no column, since a run's answers are missing or are not its own.
        single: methods of one seed among others of several: undecided.
        methods: how many finished methods the suite has, shown or not.
        images: how many test images of equal weight carry as much evidence as those of the weakest column.
        weakest: that column's key.
        obstacle: why nothing was compared; `few` where there are no two methods.
    """

    best: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    methods: int = 0
    images: float = 0.0
    weakest: str = ""
    obstacle: Obstacle = "few"

    @property
    def reason(self) -> str:
        """Say why nothing was compared; empty where that needs no word."""
        return f"{_REASONS[self.obstacle]}." if self.obstacle in _REASONS else ""

    @property
    def lacking(self) -> str:
        """Say which methods were not compared for lack of their answers; empty where there are none."""
        if not self.missing:
            return ""
        return (
            "Not compared, for answers or triplets in test.safetensors are missing, or are not of the same run:"
            f" {', '.join(self.missing)}; columns that one of them leads have no marks."
        )

    def lines(self) -> list[Line]:
        """Return its lines of the small print."""
        if self.obstacle:
            said = " ".join(filter(None, (self.reason, self.lacking)))
            return [Line("comparison with the best", said)] if self.reason else []
        single = f"One seed, so undecided: {', '.join(self.single)}." if self.single else ""
        marks = (
            "the best of the mean and of each task is bold or has a *; ≈ is tied with it, the interval of the"
            f" difference within ±{100 * EQUAL:g} point, no mark is worse, the interval below 0, and ? is undecided."
            " Intervals allow for other seeds and for other test images, which triplets share, and hold at 95 % for"
            f" all pairs of the suite's {self.methods} methods at once."
        )
        column = self.weakest.removeprefix("task/").replace("_", " ")
        images = f"the triplets of the weakest column, {column}, are worth {self.images:,.0f} independent test images."
        return [
            Line("marks", " ".join(filter(None, (marks, single, self.lacking)))),
            Line("test images", images),
        ]


@dataclass(frozen=True)
class _Answers:
    """Runs' hits by row and seed, and the triplets that they all answered."""

    hits: dict[str, dict[int, Hits]]
    missing: tuple[str, ...]
    triplets: NDArray[np.integer] | None
    obstacle: Obstacle


def compared_with_best(
    found: list[Row], suite: Suite, tasks: Sequence[str], metric: str, results: Path
) -> tuple[list[Row], Compared]:
    """Say how rows stand to the best, in the mean and on each task, and on how many tasks they are below the base.

    The verdict about a pair depends on that pair's runs and on the number of the suite's finished methods alone.
    """
    methods = len({record.method for record in suite.done})
    if metric != "triplet":
        return found, Compared(obstacle="metric", methods=methods)
    rivals = [row for row in found if row.kind == "method" and row.accuracy["mean"].mean is not None]
    bases = {row.method: suite.row_of(BASE, row.method) for row in rivals}
    wanted = {row.method for row in rivals} | set(bases.values())
    if len(rivals) > 1 and all(len(row.seeds) < 2 for row in rivals):
        return found, Compared(obstacle="seeds", methods=methods)
    answers = _read(suite, [record for record in suite.done if record.method in wanted], results)
    if answers.triplets is None:
        return found, Compared(obstacle="few" if len(rivals) < 2 else answers.obstacle, methods=methods)
    place = [suite.tasks.index(task) for task in tasks]
    columns = {"mean": place} | {f"task/{task}": [at] for task, at in zip(tasks, place, strict=True)}
    judges = {key: _Judge(answers.hits, answers.triplets, chosen, methods) for key, chosen in columns.items()}
    rows = [_below_base(row, bases, judges, [f"task/{task}" for task in tasks]) for row in found]
    shown = [row for row in rivals if row.method in answers.hits]
    obstacle: Obstacle = ""
    if len(rivals) < 2:
        obstacle = "few"
    elif len(shown) < 2:
        obstacle = "answers"
    missing = tuple(row.method for row in rivals if row.method in answers.missing)
    if obstacle:
        return rows, Compared(missing=missing, obstacle=obstacle, methods=methods)
    best: dict[str, str] = {}
    standing: dict[str, dict[str, Standing]] = {}
    versus: dict[str, dict[str, Comparison]] = {}
    for key, judge in judges.items():
        leader = max(rivals, key=lambda row: row.accuracy[key].mean or 0.0).method
        if leader not in answers.hits:
            continue
        best[key] = leader
        for row in shown:
            pair = None if row.method == leader else judge.compare(row.method, leader)
            standing.setdefault(row.method, {})[key] = "best" if row.method == leader else judge.standing(pair)
            if pair:
                versus.setdefault(row.method, {})[key] = pair
    rows = [
        replace(row, standing=standing.get(row.method, {}), versus=versus.get(row.method, {}), level=threshold(methods))
        for row in rows
    ]
    single = tuple(row.method for row in shown if len(answers.hits[row.method]) < 2)
    weakest = min(judges, key=lambda key: (judges[key].shared.images, key == "mean"))  # a task rather than the mean
    return rows, Compared(best, missing, single, methods, judges[weakest].shared.images, weakest, "")


def compare_rows(suite: Suite, first: str, second: str, task: str, results: Path) -> Comparison:
    """Compare two rows of a suite, on a task or, where `task` is empty, in the mean.

    Raises:
        UserError: no such row or task, a row of one seed, or answers that are missing.
    """
    rows = list(dict.fromkeys(record.method for record in suite.done))
    for name, known, what in ((first, rows, "method"), (second, rows, "method"), (task, suite.tasks, "task")):
        if name and name not in known:
            raise UserError(f"There is no {what} '{name}'.{did_you_mean(name, known)} There: {', '.join(known)}.")
    answers = _read(suite, [record for record in suite.done if record.method in (first, second)], results)
    if answers.triplets is None or answers.missing:
        raise UserError(f"{first} and {second}: {_REASONS[answers.obstacle]}.")
    chosen = [suite.tasks.index(task)] if task else list(range(len(suite.tasks)))
    pair = _Judge(answers.hits, answers.triplets, chosen, 2).compare(first, second)
    if pair is None:
        alone = next(name for name in (first, second) if len(answers.hits[name]) < 2)
        raise UserError(f"{alone} has one seed: how much another would change is not known. Run it with --seeds 0-2.")
    return pair


def _read(suite: Suite, records: Sequence[Record], results: Path) -> _Answers:
    """Read runs' answers; without triplets, or with unequal ones, there is nothing to compare them by."""
    hits: dict[str, dict[int, Hits]] = {}
    missing: dict[str, None] = {}
    without: dict[str, None] = {}
    triplets: NDArray[np.integer] | None = None
    if len({record.setup.get("data") for record in records}) > 1:  # equal places among other images
        return _Answers({}, (), None, "questions")
    for record in records:
        folder = folder_of(record, results)
        answers = read_hits(folder, record)
        if answers is None:
            missing[record.method] = None
            continue
        asked = read_triplets(folder)
        if asked is None or asked.shape[:2] != answers.shape:
            without[record.method] = None
            continue
        if triplets is not None and not np.array_equal(triplets, asked):
            return _Answers({}, (), None, "questions")
        triplets = asked
        hits.setdefault(record.method, {})[record.seed] = answers
    left_out = (*missing, *without)
    kept = {method: by_seed for method, by_seed in hits.items() if method not in left_out}
    return _Answers(kept, left_out, triplets, "triplets" if without else "answers")


class _Judge:
    """Compares methods in one column.

    Args:
        hits: by row and seed, each (T, n).
        triplets: (T, n, 3), that they answer.
        tasks: which of their rows the column is of.
        methods: how many finished methods the suite has.
    """

    def __init__(
        self,
        hits: Mapping[str, Mapping[int, Hits]],
        triplets: NDArray[np.integer],
        tasks: Sequence[int],
        methods: int,
    ) -> None:
        self.shared = SharedImages(triplets[list(tasks)])
        self.level = threshold(methods)
        self.hits = {name: [runs[list(tasks)] for runs in by_seed.values()] for name, by_seed in hits.items()}

    def compare(self, method: str, other: str) -> Comparison | None:
        """Compare two methods; None where either has one seed or no answers."""
        if method not in self.hits or other not in self.hits:
            return None
        return compare(self.hits[method], self.hits[other], self.shared)

    def standing(self, pair: Comparison | None) -> Standing:
        """Return how a method stands to the best, from the comparison with it."""
        if pair is None:
            return "undecided"
        if pair.differs(self.level):
            return "worse"
        return "tied" if max(map(abs, pair.interval(self.level))) <= EQUAL else "undecided"


def _below_base(row: Row, bases: Mapping[str, str], judges: Mapping[str, _Judge], keys: Sequence[str]) -> Row:
    """Count the tasks on which a method is told apart from the base, below it; no number where that is not known."""
    base = bases.get(row.method)
    if base is None or row.method == base:
        return row
    pairs = [judges[key].compare(row.method, base) for key in keys]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(pairs):
        return row
    hurt = sum(pair.difference < 0 and pair.differs(judges[key].level) for key, pair in zip(keys, known, strict=True))
    return replace(row, accuracy=row.accuracy | {"hurt": Cell(float(hurt))})
