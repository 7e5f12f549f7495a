"""Two methods compared: the difference of their accuracies, its standard error, interval and p-value.

The unit of chance is twofold. Another training would draw other seeds, and another test set other images. A triplet is
not a unit: triplets share images, and a label with 50 images gives 2,000 triplets no more than 50 images' worth of
evidence. What is said of a pair depends on that pair's runs alone, on no other row of a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05  # of a column: the chance that any two of its methods are told apart though all are equal
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(100)
Hits = NDArray[np.uint8]  # (T, n): 1 where a run ordered a test triplet rightly
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The difference in accuracy between two methods.

    Attributes:
        difference: first minus second, the mean over seeds, tasks and triplets; a share, not per cent.
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


class SharedImages:
    """Which test triplets share images, for variances that know of it.

    Args:
        triplets: (T, n, 3) test images of each task's triplets; a task's images are the other tasks' too.

    Attributes:
        images: how many test images of equal weight carry as much evidence, under the task with the fewest.
        stretch: what the variance of errors about their own mean is multiplied by.
    """

    def __init__(self, triplets: NDArray[np.integer]) -> None:
        rows = np.sort(triplets.reshape(-1, 3).astype(np.int64), axis=1)
        self.size = len(rows)
        images, places = np.unique(rows, return_inverse=True)
        places = places.reshape(-1, 3)
        number = len(images)
        first, second, third = places.T
        pairs = np.stack([first * number + second, first * number + third, second * number + third], axis=1)
        whole = first * number + second
        self._groups = [
            _Groups(places, +1.0),
            _Groups(np.unique(pairs, return_inverse=True)[1].reshape(-1, 3), -1.0),
            _Groups(np.unique(np.stack([whole, third]), axis=1, return_inverse=True)[1].reshape(-1, 1), +1.0),
        ]
        each = [_effective_number(task) for task in triplets]
        self.images = min(each)
        # errors about a task's own mean are smaller than errors, the more the fewer images decide it
        self.stretch = float(np.mean([(number / max(number - 1, 1)) ** 2 for number in each]))

    def variance(self, errors: Floats) -> float:
        """Return the variance of the mean of the triplets' errors, (T * n,), each of mean 0.

        Two triplets vary together where they share one image or more; so it is the sum of e_q e_r over all q and r
        that share an image, over the square of their number (dyadic clustering: Aronow, Samii and Assenova, Political
        Analysis 2015, for three members instead of two). The sum over shared images counts a pair of triplets once for
        each; less that over shared pairs of images, plus that over shared triples, leaves one.
        """
        total = sum(groups.sign * groups.sum_of_squares(errors) for groups in self._groups)
        alone = float(errors @ errors)  # as if triplets were independent: never less, whatever chance says
        return max(total, alone) / self.size**2


def _effective_number(triplets: NDArray[np.integer]) -> float:
    """Return how many images of equal weight carry as much evidence as those of (n, 3) triplets."""
    weight = np.bincount(triplets.ravel().astype(np.int64)).astype(np.float64) ** 2
    return float(weight.sum() ** 2 / (weight**2).sum())


class _Groups:
    """Triplets by something that they share."""

    def __init__(self, members: NDArray[np.int64], sign: float) -> None:
        self.members, self.sign = members, sign
        self.number = int(members.max()) + 1

    def sum_of_squares(self, errors: Floats) -> float:
        sums = np.zeros(self.number)
        for column in self.members.T:
            sums += np.bincount(column, errors, self.number)
        return float(sums @ sums)


def compare(first: Sequence[Hits], second: Sequence[Hits], shared: SharedImages) -> Comparison | None:
    """Compare two methods by their runs' hits, a (T, n) array a seed; None where either has one seed alone.

    Variance from seeds: each method's own sample variance of its seeds' means, with Welch's degrees of freedom. Seeds
    aren't paired: two methods share little of what a seed decides, and unpaired there are up to twice the degrees of
    freedom. With two seeds a method there is one degree of freedom: what two numbers say of a variance is not worth
    more. Variance from images: that of the mean over seeds of the difference, by `SharedImages`. What is neither a
    seed's alone nor an image's alone is in both, on the safe side.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    sides = [np.stack(runs).astype(np.float64) for runs in (first, second)]
    apart = sides[0].mean(axis=0) - sides[1].mean(axis=0)  # (T, n)
    errors = (apart - apart.mean(axis=1, keepdims=True)).ravel()
    parts = [float(side.mean(axis=(1, 2)).var(ddof=1)) / len(side) for side in sides]
    uncertain = sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True))
    freedom = sum(parts) ** 2 / uncertain if uncertain > 0 else float(len(first) + len(second) - 2)
    if min(len(first), len(second)) == 2:
        freedom = 1.0
    return Comparison(float(apart.mean()), sum(parts), freedom, shared.stretch * shared.variance(errors), shared.images)


def threshold(methods: int, level: float = LEVEL) -> float:
    """Return the p-value below which two of a suite's methods are told apart.

    Bonferroni over all pairs: the best of a column is the best by luck where all are equal, so that each comparison
    with it stands for all pairs. It depends on how many methods a suite has, not on what they scored.
    """
    return level / max(methods * (methods - 1) // 2, 1)


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
