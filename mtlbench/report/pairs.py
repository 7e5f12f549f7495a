"""Any two methods of a suite: each against a named one, the matrix of all differences, and the places they can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mtlbench.report.comparison import Compared
from mtlbench.report.inference import Comparison
from mtlbench.report.receipt import Line
from mtlbench.report.rows import Row
from mtlbench.report.suites import Suite

MOST = 15  # methods of a matrix; of more it can't be read


@dataclass(frozen=True)
class Pairs:
    """All differences of the mean between a suite's methods.

    Attributes:
        methods: those that could be compared, best mean first, at most `MOST`.
        differences: row minus column, by (row, column), each pair in both orders.
        level: at which two methods are told apart, such that it holds for all pairs at once.
        left_out: how many methods with lower means there are beside them.
    """

    methods: tuple[str, ...]
    differences: dict[tuple[str, str], Comparison]
    level: float
    left_out: int = 0

    def told_apart(self, method: str, other: str) -> bool:
        """Return whether two methods are told apart."""
        return self.differences[method, other].differs(self.level)

    def places(self, method: str) -> tuple[int, int]:
        """Return the best and the worst place that a method can hold among `methods`.

        Each method that is told apart above it takes a place before it, each below it one after. Since all pairs hold
        at once, so do all places: the true ranks lie within them at 95 %.
        """
        others = [self.differences[method, other] for other in self.methods if other != method]
        told = [pair.difference for pair in others if pair.differs(self.level)]
        return 1 + sum(one < 0 for one in told), len(self.methods) - sum(one > 0 for one in told)


def pairs_of(rows: Sequence[Row], compared: Compared) -> Pairs | None:
    """Compare all methods of a table with each other by their means; None where there are no two to compare."""
    judge = compared.judge
    if judge is None:
        return None
    able = [row for row in rows if row.kind == "method" and not row.again and judge.seeds(row.method) > 1]
    able.sort(key=lambda row: -(row.accuracy["mean"].mean or 0.0))
    methods = tuple(row.method for row in able[:MOST])
    differences = {}
    for place, method in enumerate(methods):
        for other in methods[place + 1 :]:
            pair = judge.compare(method, other)
            if pair is not None:
                differences[method, other] = pair
                differences[other, method] = replace(pair, difference=-pair.difference)
    return Pairs(methods, differences, judge.level, len(able) - len(methods)) if len(methods) > 1 else None


def compared_with(rows: Sequence[Row], suite: Suite, compared: Compared, against: str) -> tuple[list[Row], Line]:
    """Add to rows their differences to a named method, of the same factors where rows are named by some."""
    judge = compared.judge
    if judge is None:
        why = compared.reason or "there are no two methods to compare."
        return list(rows), Line(f"vs {against}", why, f"vs {against}: {why}")
    added = []
    for row in rows:
        other = against if against in judge.methods else suite.row_of(against, row.method)
        pair = judge.compare(row.method, other) if row.method != other else None
        added.append(replace(row, against=pair))
    return added, Line(
        f"vs {against}",
        f"difference of means to {against}, in points, with its interval, at 95 % for all"
        f" pairs of the suite's {compared.methods} methods at once; an interval that"
        " contains 0 is undecided. Empty with one seed.",
    )


def in_points(pair: Comparison, level: float) -> str:
    """Write a difference with its interval: `-6.6 [-13.9, +0.6]`; one of 100 points is `[unknown]`."""
    low, high = (100 * end for end in pair.interval(level))
    within = "unknown" if high - low >= 100 else f"{low:+.1f}, {high:+.1f}"
    return f"{100 * pair.difference:+.1f} [{within}]"
