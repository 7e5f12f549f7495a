"""Several suites side by side: each method's rank on each data set, its mean rank, and which mean ranks differ.

Demšar: Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006). A data set counts once, by its
name, whatever tasks, part or split of it a suite has: they share images. Of several suites on one data set a method has
its mean rank over them. Rendered and real images are never ranked together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlbench.report.suites import apart
from mtlbench.report.summary import Summary

LEVEL = 0.05
_LEAST_SETS, _LEAST_METHODS = 11, 6  # Demšar's rule of thumb, section 3.2.2: more than 10 data sets and 5 methods


@dataclass(frozen=True)
class Ranks:
    """The ranks of the methods that all of some suites have finished, on N data sets.

    Attributes:
        rendered: whether the suites' images are rendered.
        suites: what each data set's ranks are of, N: its name and its suites' names; left_out: the names of the suites
            that lack some of the methods.
        methods: K, lowest mean rank first.
        accuracy: (K, N) means over tasks, seeds and suites, shares.
        ranks: (K, N), 1 is the highest, equals share theirs; means over a data set's suites.
        p: of the Friedman test in the form of Iman and Davenport; None where it doesn't hold.
        critical: by how much two mean ranks must differ, by Nemenyi's test; None where it doesn't hold.
        reason: why there is no critical difference; empty where there is one.
    """

    rendered: bool
    suites: tuple[str, ...]
    left_out: tuple[str, ...]
    methods: tuple[str, ...]
    accuracy: NDArray[np.float64]
    ranks: NDArray[np.float64]
    p: float | None
    critical: float | None
    reason: str

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean rank of each method, (K,)."""
        means: NDArray[np.float64] = self.ranks.mean(1)
        return means

    @property
    def groups(self) -> list[tuple[int, int]]:
        """The first and last of each largest run of methods whose mean ranks don't differ; none without a test."""
        if self.critical is None:
            return []
        found: list[tuple[int, int]] = []
        for first, low in enumerate(self.means):
            last = max(n for n, mean in enumerate(self.means) if mean - low <= self.critical)
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def ranked(summaries: Sequence[Summary]) -> list[Ranks]:
    """Rank the methods over the real suites and over the rendered ones; a kind without two of each is left out."""
    named = [
        _Suite(", ".join(filter(None, (str(s.suite.benchmark["name"]), own))), s)
        for s, own in zip(summaries, apart([summary.suite for summary in summaries]), strict=True)
    ]
    found = [_ranks(rendered, [one for one in named if one.rendered is rendered]) for rendered in (False, True)]
    return [ranks for ranks in found if ranks is not None]


class _Suite:
    """A suite by what tells it apart, with its data set and the mean accuracies of its methods."""

    def __init__(self, name: str, summary: Summary) -> None:
        data = summary.suite.receipt.get("data", {})
        self.name, self.rendered = name, bool(data.get("rendered"))
        self.dataset = str(data.get("name") or summary.subject)
        means = {row.method: row.accuracy["mean"].mean for row in summary.rows if row.kind == "method"}
        self.means = {method: mean for method, mean in means.items() if mean is not None}
        self.again = {row.method for row in summary.rows if row.again}


def _common(by_set: Sequence[Sequence[_Suite]]) -> frozenset[str]:
    """Return the most methods that some suite of every data set has; of equally many, those that most suites have."""
    found = {frozenset(suite.means) for suite in by_set[0]}
    for suites in by_set[1:]:
        found = {methods & set(suite.means) for methods in found for suite in suites}

    def worth(methods: frozenset[str]) -> tuple[int, int, list[str]]:
        return len(methods), sum(methods <= set(one.means) for suites in by_set for one in suites), sorted(methods)

    return max(found, key=worth)


def _ranks(rendered: bool, named: Sequence[_Suite]) -> Ranks | None:
    from scipy.stats import rankdata

    by_set: dict[str, list[_Suite]] = {}
    for suite in named:
        by_set.setdefault(suite.dataset, []).append(suite)
    if len(by_set) < 2:
        return None
    common = _common(list(by_set.values()))
    whole = {name: [one for one in suites if common <= set(one.means)] for name, suites in by_set.items()}
    twice = set.intersection(*(one.again for suites in whole.values() for one in suites))  # the same runs: once
    methods = sorted(common - twice)
    if len(methods) < 2:
        return None
    accuracy, ranks = [], []
    for suites in whole.values():
        means = np.array([[one.means[method] for one in suites] for method in methods])
        accuracy.append(means.mean(1))
        ranks.append(rankdata(-means, axis=0).mean(1))
    over = np.stack(ranks, 1)
    order = np.argsort(over.mean(1), kind="stable")
    p, critical, reason = _tested(over)
    return Ranks(
        rendered,
        tuple(f"{name}: {'; '.join(one.name for one in suites)}" for name, suites in whole.items()),
        tuple(one.name for one in named if not common <= set(one.means)),
        tuple(methods[n] for n in order), np.stack(accuracy, 1)[order], over[order], p, critical, reason,
    )  # fmt: skip


def _tested(ranks: NDArray[np.float64]) -> tuple[float | None, float | None, str]:
    methods, sets = ranks.shape
    if sets < _LEAST_SETS or methods < _LEAST_METHODS:
        return None, None, (
            f"Which mean ranks differ is not tested: the Friedman test and Nemenyi's critical difference hold for more"
            f" than {_LEAST_SETS - 1} independent data sets and more than {_LEAST_METHODS - 1} methods, here there are"
            f" {sets} and {methods}."
        )  # fmt: skip
    p = friedman(ranks)
    if p >= LEVEL:
        return p, None, f"No mean ranks differ significantly: the Friedman test gives p = {p:.3f}."
    return p, critical_difference(methods, sets), ""


def friedman(ranks: NDArray[np.float64]) -> float:
    """Return the p-value of equal mean ranks, (K, N) ranks: Friedman's chi-square, in Iman and Davenport's form.

    F = (N - 1) chi^2 / (N (K - 1) - chi^2), with K - 1 and (K - 1)(N - 1) degrees of freedom.
    """
    from scipy.stats import f, friedmanchisquare

    methods, sets = ranks.shape
    chi = float(friedmanchisquare(*ranks).statistic)
    if not math.isfinite(chi):  # all equal on every data set
        return 1.0
    rest = sets * (methods - 1) - chi
    if rest <= 1e-12:  # the same order on every data set
        return 0.0
    return float(f.sf((sets - 1) * chi / rest, methods - 1, (methods - 1) * (sets - 1)))


def critical_difference(methods: int, sets: int) -> float:
    """Return Nemenyi's critical difference of mean ranks, q sqrt(K (K + 1) / (6 N)).

    q is the studentised range over the square root of 2.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * sets))
