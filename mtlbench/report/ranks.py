"""Several suites side by side: each method's rank on each data set, its mean rank, and which mean ranks differ.

Demšar: Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006). A data set counts once, by its
name, whatever tasks, part or split of it a suite has: they share images. Rendered and real ones are never ranked
together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlbench.report.summary import Summary

LEVEL = 0.05
_LEAST_SETS, _LEAST_METHODS = 11, 6  # Demšar's rule of thumb, section 3.2.2: more than 10 data sets and 5 methods


@dataclass(frozen=True)
class Ranks:
    """The ranks of the methods that all of some suites have finished.

    Attributes:
        rendered: whether the suites' images are rendered.
        suites: their titles, N; left_out: those of a data set that another one of them is of.
        methods: K, lowest mean rank first.
        accuracy: (K, N) means over tasks and seeds, shares; ranks: (K, N), 1 is the highest, equals share theirs.
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
    made = []
    for rendered in (False, True):
        alike = [s for s in summaries if bool(_data(s).get("rendered")) == rendered]
        seen: dict[str, Summary] = {}
        for summary in alike:
            seen.setdefault(str(_data(summary).get("name") or summary.subject), summary)
        found = _ranks(rendered, list(seen.values()), [s.subject for s in alike if s not in seen.values()])
        made += [found] if found else []
    return made


def _data(summary: Summary) -> dict[str, object]:
    data: dict[str, object] = summary.suite.receipt.get("data", {})
    return data


def _ranks(rendered: bool, suites: Sequence[Summary], left_out: Sequence[str]) -> Ranks | None:
    from scipy.stats import rankdata

    means = [
        {row.method: mean for row in s.rows if row.kind == "method" and (mean := row.accuracy["mean"].mean) is not None}
        for s in suites
    ]
    again = [{row.method for row in s.rows if row.again} for s in suites]
    twice = set.intersection(*again) if again else set()  # the same run twice on every data set: a method counts once
    common = sorted(set.intersection(*map(set, means)) - twice) if means else []
    if len(suites) < 2 or len(common) < 2:
        return None
    accuracy = np.array([[by[method] for by in means] for method in common])
    ranks = rankdata(-accuracy, axis=0)
    order = np.argsort(ranks.mean(1), kind="stable")
    p, critical, reason = _tested(ranks)
    return Ranks(
        rendered, tuple(s.subject for s in suites), tuple(left_out), tuple(common[n] for n in order), accuracy[order],
        ranks[order], p, critical, reason,
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
