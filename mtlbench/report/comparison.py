"""How a table's rows compare with the best of each column and with the base.

Scores of triplets and queries are read here, from beside `run.json`; the test itself is in `inference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UserError, did_you_mean
from mtlbench.names import joined
from mtlbench.report.clustering import Clustered, Scores, SharedImages, SharedQueries
from mtlbench.report.evidence import read_gallery, read_groups, read_hits, read_labels, read_queries, read_triplets
from mtlbench.report.inference import PRIORS, Comparison, Prior, compare, threshold
from mtlbench.report.receipt import Line
from mtlbench.report.rows import MACRO, Cell, Row, Standing
from mtlbench.report.suites import Suite
from mtlbench.runs import Record, folder_of

EQUAL = 0.01  # a difference significantly below this counts as none
_ENOUGH = 3  # seeds of a method that others are compared with; with two, a single degree of freedom decides nothing
Obstacle = Literal["", "few", "metric", "answers", "triplets", "questions", "gallery", "seeds"]
_REASONS: dict[Obstacle, str] = {
    "metric": "not compared, since only means over queries that weigh all label values equally, such as macro/map@r,"
    " can be compared",
    "answers": "not compared, since these runs' test.safetensors is missing, incomplete or from another run",
    "triplets": "not compared, since these runs kept no triplets",
    "questions": "not compared, since the runs were tested on different triplets or images",
    "gallery": "not compared, since these runs did not keep which test images are in the gallery",
    "seeds": "not compared, since with one seed the variation between seeds is unknown; run --seeds 0-2",
}


@dataclass(frozen=True)
class Compared:
    """What was compared with the best.

    Attributes:
        best: the best method of each column in which the others were compared with it, by key: of those with three
            seeds or, if none has, with the most.
        above: methods with a higher mean of fewer seeds.
        missing: methods that were compared in no column, since a run's answers are missing or are not its own.
        single: methods of one seed among others of several: undecided.
        methods: how many finished methods the suite has, shown or not; rows that are the same run twice count once.
        images: how many test images of equal weight carry as much evidence as those of the weakest column.
        weakest: that column's key.
        obstacle: why the mean and the tasks were not compared; `few` where there are no two methods.
        unmarked: columns of retrieval metrics, by key, that runs kept no scores of single queries for.
        metric: what the mean is of; judge: what compares any two methods in it, where it was compared.
    """

    best: dict[str, str] = field(default_factory=dict)
    above: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    methods: int = 0
    images: float = 0.0
    weakest: str = ""
    obstacle: Obstacle = "few"
    unmarked: tuple[str, ...] = ()
    metric: str = "triplet"
    judge: Judge | None = field(default=None, compare=False, repr=False)

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
            "Not compared, because test.safetensors is missing, incomplete or from another run:"
            f" {', '.join(self.missing)}; columns led by one of them have no marks."
        )

    @property
    def higher(self) -> str:
        """Say which methods have a higher mean than the best, of too few seeds; empty where there are none."""
        said = "A higher mean, but of too few seeds to compare others with it"
        return f"{said}: {joined(self.above, 4)}." if self.above else ""

    def lines(self) -> list[Line]:
        """Return its lines of the small print."""
        if self.obstacle == "few":
            return []
        said = []
        if self.obstacle:
            why = " ".join(filter(None, (self.reason, self.lacking)))
            brief = "" if self.obstacle == "seeds" else f"Marks: {why}"
            said.append(Line("comparison with the best", why, brief))
        if self.best:
            legend = "Against the best (*) of a column: ≈ tied, ? undecided, no mark worse."
            first, *others = self._marks()
            text, brief = (" ".join(filter(None, [one, *others])) for one in (first, legend))
            said.append(Line("marks", text, brief))
        if self.unmarked:
            names = ", ".join(key.removeprefix(MACRO) for key in self.unmarked)
            text = f"{names}: not all of these runs kept the scores of single queries."
            said.append(Line("without marks", text, f"No marks on {text}"))
        if self.images:
            column = self.weakest.removeprefix("task/").replace("_", " ")
            what = "triplets" if self.metric == "triplet" else "queries"
            said.append(
                Line(
                    "test images",
                    f"the {what} of the weakest column, {column}, are worth {self.images:,.0f} independent test"
                    " images; those of one person or product count as one where that is known.",
                )
            )
        return said

    def _marks(self) -> list[str]:
        """Say what the marks mean, and of whom there are none."""
        retrieval = [f"of {key.removeprefix(MACRO)}" for key in self.best if key.startswith(MACRO)]
        columns = ["of the mean", "of each task"] if "mean" in self.best else []
        return [
            f"the best {joined([*columns, *retrieval])} is bold or has a *; ≈: tied with it"
            f" (the interval of the difference lies within ±{100 * EQUAL:g} point); no mark:"
            " worse (the interval lies below 0); ?: undecided."
            " Intervals account for the variation between seeds (moderated by a prior from"
            " earlier runs) and between test images (which triplets and queries share); they"
            f" hold in each column, at 95 % for all pairs of the suite's {self.methods} methods at once.",
            f"One seed, so undecided: {', '.join(self.single)}." if self.single else "",
            self.higher,
            "" if self.obstacle else self.lacking,
        ]


@dataclass(frozen=True)
class _Answers:
    """Runs' scores (T, n) of one metric by row and seed, and what all were asked: triplets, or queries' labels.

    `groups` (N,), `labels` (T, N) and `searched` (T, N) of the test images are as `clustering` takes them.
    """

    metric: str
    scores: dict[str, dict[int, Scores]]
    missing: tuple[str, ...]
    asked: NDArray[np.integer] | None
    obstacle: Obstacle
    groups: NDArray[np.integer] | None = None
    labels: NDArray[np.integer] | None = None
    searched: NDArray[np.integer] | None = None

    def shared(self, tasks: list[int]) -> Clustered:
        """Return what the answers under some tasks share.

        Raises:
            ValueError: nothing was asked.
        """
        if self.asked is None:
            raise ValueError("nothing was asked")
        labels, searched = (None if own is None else own[tasks] for own in (self.labels, self.searched))
        if self.metric == "triplet":
            return SharedImages(self.asked[tasks], self.groups, labels)
        return SharedQueries(self.asked[tasks], searched, self.groups)


class Judge:
    """Compares methods in one column, all against the best or any two.

    Args:
        answers: of the runs, by row and seed.
        tasks: which of their tasks the column is of.
        methods: how many finished methods the suite has.

    Attributes:
        methods: the rows that have answers.
        level: at which two of them are told apart.
    """

    def __init__(self, answers: _Answers, tasks: Sequence[int], methods: int) -> None:
        self.shared = answers.shared(list(tasks))
        self.level = threshold(methods)
        self._scores = {name: [runs[list(tasks)] for runs in by.values()] for name, by in answers.scores.items()}
        self.methods = tuple(self._scores)

    def seeds(self, method: str) -> int:
        """Return how many runs of a method have answers."""
        return len(self._scores.get(method, ()))

    def compare(self, method: str, other: str, priors: Mapping[int, Prior] | None = PRIORS) -> Comparison | None:
        """Compare two methods; None where either has one seed or no answers."""
        if method not in self._scores or other not in self._scores:
            return None
        return compare(self._scores[method], self._scores[other], self.shared, priors)

    def standing(self, pair: Comparison | None) -> Standing:
        """Return how a method stands to the best, from the comparison with it."""
        if pair is None:
            return "undecided"
        if pair.differs(self.level):
            return "worse" if pair.difference < 0 else "undecided"  # of fewer seeds than the best
        return "tied" if max(map(abs, pair.interval(self.level))) <= EQUAL else "undecided"


def compared_with_best(
    found: list[Row], suite: Suite, tasks: Sequence[str], metric: str, results: Path
) -> tuple[list[Row], Compared]:
    """Say how rows stand to the best of each column, and on how many tasks they are below the base.

    The verdict about a pair depends on that pair's runs and on the number of the suite's finished methods alone. A row
    that is another one again counts once, and stands as that one does.
    """
    methods = len(set(suite.configurations.values()))
    measured = [row for row in found if row.kind == "method" and row.accuracy["mean"].mean is not None]
    rivals = [row for row in measured if not row.again]
    if len(rivals) > 1 and all(len(row.seeds) < 2 for row in rivals):
        return found, Compared(obstacle="seeds", methods=methods)
    bases = {row.method: suite.row_of(suite.base, row.method) for row in measured}
    wanted = set(bases) | set(bases.values())
    records = [record for record in suite.done if record.method in wanted]
    place = [suite.tasks.index(task) for task in tasks]
    answers = _read(suite, records, results, metric)
    judges: dict[str, Judge] = {}
    rows = found
    if answers.asked is not None:
        columns = {"mean": place} | {f"task/{task}": [at] for task, at in zip(tasks, place, strict=True)}
        judges = {key: Judge(answers, chosen, methods) for key, chosen in columns.items()}
        rows = [_below_base(row, bases, judges, [f"task/{task}" for task in tasks]) for row in found]
    obstacle = answers.obstacle if answers.asked is None else ""
    if len(rivals) < 2:
        return rows, Compared(obstacle="few", methods=methods)
    if not obstacle and sum(row.method in answers.scores for row in rivals) < 2:
        obstacle = "answers"
    missing = tuple(row.method for row in rivals if row.method in answers.missing)
    primary = {} if obstacle else judges
    further, unmarked = _further(suite, records, results, rivals, place, methods)
    best, rows = _marked(rows, rivals, primary | further, methods)
    if obstacle:
        return rows, Compared(best, missing=missing, methods=methods, obstacle=obstacle, unmarked=unmarked)
    means = {row.method: row.accuracy["mean"].mean or 0.0 for row in rivals}
    above = tuple(name for name, mean in means.items() if mean > means.get(best.get("mean", ""), 1.0))
    single = tuple(row.method for row in rivals if judges["mean"].seeds(row.method) == 1)
    weakest = min(judges, key=lambda key: (judges[key].shared.images, key == "mean"))  # a task rather than the mean
    return rows, Compared(
        best,
        above,
        missing,
        single,
        methods,
        judges[weakest].shared.images,
        weakest,
        "",
        unmarked,
        metric,
        judges["mean"],
    )


def _further(
    suite: Suite, records: Sequence[Record], results: Path, rivals: Sequence[Row], place: Sequence[int], methods: int
) -> tuple[dict[str, Judge], tuple[str, ...]]:
    """Return the judges of the columns of macro means of retrieval metrics, and the columns that can't be judged."""
    judges, unmarked = {}, []
    keys = dict.fromkeys(key for row in rivals for key, cell in row.accuracy.items()
                         if key.startswith(MACRO) and cell.mean is not None)  # fmt: skip
    for key in keys:
        answers = _read(suite, records, results, f"macro/{key.removeprefix(MACRO)}")
        if answers.asked is None or sum(row.method in answers.scores for row in rivals) < 2:
            unmarked.append(key)
        else:
            judges[key] = Judge(answers, place, methods)
    return judges, tuple(unmarked)


def _marked(
    rows: Sequence[Row], rivals: Sequence[Row], judges: Mapping[str, Judge], methods: int
) -> tuple[dict[str, str], list[Row]]:
    """Return the best of each column, and the rows with how they stand to it."""
    best: dict[str, str] = {}
    standing: dict[str, dict[str, Standing]] = {}
    versus: dict[str, dict[str, Comparison]] = {}
    for key, judge in judges.items():
        measured = [row for row in rivals if row.accuracy[key].mean is not None]
        enough = min(_ENOUGH, max(len(row.seeds) for row in measured))
        able = [row for row in measured if len(row.seeds) >= enough]
        leader = max(able, key=lambda row: row.accuracy[key].mean or 0.0).method
        if leader not in judge.methods:
            continue
        best[key] = leader
        for row in measured:
            if row.method not in judge.methods:
                continue
            pair = None if row.method == leader else judge.compare(row.method, leader)
            standing.setdefault(row.method, {})[key] = "best" if row.method == leader else judge.standing(pair)
            if pair:
                versus.setdefault(row.method, {})[key] = pair
    for row in rows:
        if row.again in standing:
            first = standing[row.again]
            standing[row.method] = {key: "tied" if stands == "best" else stands for key, stands in first.items()}
            versus[row.method] = versus.get(row.again, {})
    return best, [
        replace(row, standing=standing.get(row.method, {}), versus=versus.get(row.method, {}), level=threshold(methods))
        for row in rows
    ]


def compare_rows(
    suite: Suite,
    first: str,
    second: str,
    task: str,
    results: Path,
    metric: str = "triplet",
    priors: Mapping[int, Prior] | None = PRIORS,
) -> Comparison:
    """Compare two rows of a suite, on a task or, where `task` is empty, in the mean.

    `priors` are those of `inference.compare`: None takes each row's variance between seeds as it is.

    Raises:
        UserError: no such row or task, a row of one seed, a metric that can't be compared, or answers that are missing.
    """
    rows = list(dict.fromkeys(record.method for record in suite.done))
    for name, known, what in ((first, rows, "method"), (second, rows, "method"), (task, suite.tasks, "task")):
        if name and name not in known:
            raise UserError(f"There is no {what} '{name}'.{did_you_mean(name, known)} There: {', '.join(known)}.")
    answers = _read(suite, [record for record in suite.done if record.method in (first, second)], results, metric)
    if answers.asked is None or answers.missing:
        raise UserError(f"{first} and {second}: {_REASONS[answers.obstacle]}.")
    chosen = [suite.tasks.index(task)] if task else list(range(len(suite.tasks)))
    judge = Judge(answers, chosen, 2)
    pair = judge.compare(first, second, priors)
    if pair is None:
        alone = next(name for name in (first, second) if judge.seeds(name) < 2)
        raise UserError(f"{alone} has one seed, so the variation between seeds is unknown. Run it with --seeds 0-2.")
    return pair


def _read(suite: Suite, records: Sequence[Record], results: Path, metric: str) -> _Answers:
    """Read runs' answers; where they were asked nothing that is known, or unequal things, they can't be compared."""
    scores: dict[str, dict[int, Scores]] = {}
    missing: dict[str, None] = {}
    without: dict[str, None] = {}
    asked: NDArray[np.integer] | None = None
    groups: NDArray[np.integer] | None = None
    labels: NDArray[np.integer] | None = None
    searched: NDArray[np.integer] | None = None
    if metric != "triplet" and not metric.startswith("macro/"):
        return _Answers(metric, {}, (), None, "metric")
    if len({record.setup.get("data") for record in records}) > 1:  # equal places among other images
        return _Answers(metric, {}, (), None, "questions")
    for record in records:
        folder = folder_of(record, results)
        own: Scores | None
        questions: NDArray[np.integer] | None
        if metric == "triplet":
            own = read_hits(folder, record)
            questions = read_triplets(folder)
            if own is not None and (questions is None or questions.shape[:2] != own.shape):
                without[record.method] = None
                continue
        else:
            own, questions = read_queries(folder, record, metric.removeprefix("macro/")) or (None, None)
        if own is None or questions is None:
            missing[record.method] = None
            continue
        if asked is not None and not np.array_equal(asked, questions):
            return _Answers(metric, {}, (), None, "questions")
        asked = questions
        scores.setdefault(record.method, {})[record.seed] = own
        groups = read_groups(folder) if groups is None else groups
        if metric == "triplet":
            labels = read_labels(folder, record) if labels is None else labels
        elif "test_gallery" in record.receipt.get("data", {}):
            searched = read_gallery(folder, record) if searched is None else searched
            if searched is None:
                return _Answers(metric, {}, (), None, "gallery")
    left_out = (*missing, *without)
    kept = {method: by_seed for method, by_seed in scores.items() if method not in left_out}
    obstacle: Obstacle = "triplets" if without else "answers"
    return _Answers(metric, kept, left_out, asked, obstacle, groups, labels, searched)


def _below_base(row: Row, bases: Mapping[str, str], judges: Mapping[str, Judge], keys: Sequence[str]) -> Row:
    """Count the tasks on which a method is told apart from the base, below it; no number where that is not known."""
    base = bases.get(row.method)
    if base is None or row.method == base:
        return row
    pairs = [judges[key].compare(row.method, base) for key in keys]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(pairs):
        return row
    # a sum over tasks: its level is divided among them
    hurt = sum(
        one.difference < 0 and one.differs(judges[k].level / len(keys)) for k, one in zip(keys, known, strict=True)
    )
    return replace(row, accuracy=row.accuracy | {"hurt": Cell(float(hurt))})
