"""Two methods compared: the difference of their means, its standard error, interval and p-value.

Two things are chance. Another training would draw other seeds, and another test set other images; which scores share
images is known to `clustering`. What is said of a pair depends on that pair's runs alone, on no other row of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtlbench.report.clustering import Clustered, Scores

LEVEL = 0.05  # of a column: the chance that any two of its methods are told apart though all are equal
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(100)


@dataclass(frozen=True)
class Comparison:
    """The difference between two methods in what a column holds.

    Attributes:
        difference: first minus second, the mean over seeds, tasks and triplets or queries; a share, not per cent.
        from_seeds: variance of `difference` that other seeds would bring; seed_freedom: its degrees of freedom.
        from_images: variance that other test images would bring; images: how many test images of equal weight carry as
            much evidence, one more than its degrees of freedom.
    """

    difference: float
    from_seeds: float
    seed_freedom: float
    from_images: float
    images: float

    @property
    def error(self) -> float:
        """The standard error of `difference`."""
        return math.sqrt(self.from_seeds + self.from_images)

    def critical(self, level: float) -> float:
        """Return how many standard errors a difference must exceed at a two-sided level.

        The two variances have degrees of freedom of their own; the critical value is the mean of both Student's t,
        weighted by variance (Cochran and Cox, Experimental Designs, 1957, section 4.14), which errs on the safe side.
        """
        total = self.from_seeds + self.from_images
        if total <= 0:
            return 0.0
        parts = ((self.from_seeds, self.seed_freedom), (self.from_images, max(self.images - 1, 1.0)))
        return sum(part * student_t(level, freedom) for part, freedom in parts) / total

    def differs(self, level: float = LEVEL) -> bool:
        """Return whether the difference is told apart from 0 at a two-sided level."""
        return abs(self.difference) > self.critical(level) * self.error

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference: the level at which `differs` changes its answer."""
        if self.error <= 0:
            return float(self.difference == 0)
        low, high = -60.0, 0.0  # of the logarithm of the level
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if self.differs(math.exp(middle)) else (middle, high)
        return math.exp(high)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the confidence interval of the difference, at 1 - `level`."""
        half = self.critical(level) * self.error
        return self.difference - half, self.difference + half


@dataclass(frozen=True)
class Prior:
    """What is known of a method's variance between seeds before its own seeds are looked at.

    Attributes:
        deviation: the standard deviation that is expected.
        freedom: what that knowledge is worth, in degrees of freedom.
    """

    deviation: float
    freedom: float


# Of a mean over so many tasks, the last of more too: the highest deviation and the lowest freedom over metrics that
# tools/seed_prior.py finds in results/published, the latter rounded down so far that simulated false positives stay
# below 6 %.
PRIORS = {1: Prior(0.032, 0.7), 2: Prior(0.028, 1.2), 3: Prior(0.025, 1.8)}
_DAMPED_BELOW = 10.0  # of the expected variance over a method's own


def moderated(variance: float, freedom: float, prior: Prior) -> tuple[float, float]:
    """Return a variance shrunken towards what is expected, with its degrees of freedom.

    Smyth's moderated variance (Statistical Applications in Genetics and Molecular Biology 2004):
    (d0 s0^2 + d s^2) / (d0 + d), with d0 + d degrees of freedom. A variance that hardly fits the prior takes less of
    it, as in robust empirical Bayes (Phipson et al., Annals of Applied Statistics 2016), here by a fixed rule: d0 is
    multiplied by (s0^2 / s^2)^2 above s0^2, and by (10 s^2 / s0^2)^2 below a tenth of it. So a method that varies more
    than expected is not told apart for it, and one that varies less keeps its short intervals.
    """
    expected = prior.deviation**2
    ratio = variance / expected
    fit = min(1.0, ratio**-2 if ratio > 1 else 1.0, (_DAMPED_BELOW * ratio) ** 2)
    known = fit * prior.freedom
    return (known * expected + freedom * variance) / (known + freedom), known + freedom


def compare(
    first: Sequence[Scores], second: Sequence[Scores], shared: Clustered, priors: Mapping[int, Prior] | None = PRIORS
) -> Comparison | None:
    """Compare two methods by their runs' scores, a (T, n) array a seed; None where either has one seed alone.

    Variance from seeds: each method's own sample variance of its seeds' means, from three seeds on `moderated`, with
    Welch's degrees of freedom. Seeds aren't paired: unpaired there are up to twice the degrees of freedom, and what two
    methods share of a seed's effect makes intervals wider than they need be. With two seeds a method there is one
    degree of freedom: what two numbers say of a variance is not worth more. Variance from images: that of the mean over
    seeds of the difference, by `shared`. What is neither a seed's alone nor an image's alone is in both, on the safe
    side.

    Args:
        first: of one method.
        second: of the other.
        shared: which scores share images.
        priors: by number of tasks, the last of more too; None takes each method's own variance as it is.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    sides = [np.stack(runs).astype(np.float64) for runs in (first, second)]
    apart = sides[0].mean(axis=0) - sides[1].mean(axis=0)  # (T, n)
    few = min(len(first), len(second)) == 2
    parts, freedoms = [], []
    for side in sides:
        variance, freedom = float(np.var([shared.mean(run) for run in side], ddof=1)), float(len(side) - 1)
        if priors and not few:
            variance, freedom = moderated(variance, freedom, priors[min(len(apart), max(priors))])
        parts.append(variance / len(side))
        freedoms.append(freedom)
    uncertain = sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    freedom = sum(parts) ** 2 / uncertain if uncertain > 0 else sum(freedoms)
    return Comparison(
        shared.mean(apart), sum(parts), 1.0 if few else freedom, shared.spread(apart), shared.images
    )  # fmt: skip


def threshold(methods: int) -> float:
    """Return the p-value below which two of a suite's methods are told apart.

    Bonferroni over all pairs: the best of a column is the best by luck where all are equal, so that each comparison
    with it stands for all pairs. It depends on how many methods a suite has, not on what they scored.
    """
    return LEVEL / max(methods * (methods - 1) // 2, 1)


def student_p(t: float, freedom: float) -> float:
    """Return the probability of |T| ≥ t for Student's t with (real) degrees of freedom above 0."""
    if freedom > 500:
        # the normal value of the same probability, to 1e-6 here (Abramowitz and Stegun 26.7.8)
        normal = t * (1 - 1 / (4 * freedom)) / math.sqrt(1 + t * t / (2 * freedom))
        return math.erfc(normal / math.sqrt(2))
    # with T = sqrt(freedom) tan(angle) the density is that of cos(angle)^(freedom - 1)
    begin = math.atan(t / math.sqrt(freedom))
    half = (math.pi / 2 - begin) / 2
    tail = half * float(_WEIGHTS @ np.cos(begin + half * (_NODES + 1)) ** (freedom - 1))
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    return min(1.0, tail / whole)


def student_t(p: float, freedom: float) -> float:
    """Return the t that |T| exceeds with probability `p`, by bisection."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > p and high < 1e6:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > p else (low, middle)
    return (low + high) / 2
