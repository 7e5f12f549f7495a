"""Scores that share test images: their mean, and the variance that other test images would bring to it.

Neither a triplet nor a query is a unit of evidence. Triplets share images, a query is searched for among the other
queries, and an image is asked about under every task.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.generic]  # (T, n): of triplets, or of queries
Floats = NDArray[np.float64]

# An image plays three parts in retrieval: the query, one that should be found, and one that should not. Where all three
# weigh alike, its influence is three times what its own score as a query shows, and the variance nine times (as in
# means over triplets of images: Hoeffding, Annals of Mathematical Statistics 1948).
_PARTS = 3**2


class Clustered(Protocol):
    """What scores (T, n) were given for, and what of it they share.

    Attributes:
        images: how many test images of equal weight carry as much evidence, under the task with the fewest.
    """

    images: float

    def mean(self, scores: Scores) -> float:
        """Return the mean that a column holds."""
        ...

    def spread(self, difference: Floats) -> float:
        """Return the variance that other test images would bring to the mean of (T, n) differences."""
        ...


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
        each = [_number_of_equal(np.bincount(task.ravel().astype(np.int64))) for task in triplets]
        self.images = min(each)
        # errors about a task's own mean are smaller than errors, the more the fewer images decide it
        self.stretch = float(np.mean([(number / max(number - 1, 1)) ** 2 for number in each]))

    def mean(self, scores: Scores) -> float:
        """Return the mean over tasks and triplets of (T, n) scores."""
        return float(scores.mean(dtype=np.float64))

    def spread(self, difference: Floats) -> float:
        """Return the variance that other test images would bring to the mean of (T, n) differences."""
        return self.stretch * self.variance((difference - difference.mean(axis=1, keepdims=True)).ravel())

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


class SharedQueries:
    """Which queries are the same image, for variances of means over queries that know of it.

    The column is a mean over tasks of means over label values of means over a value's queries. An image's errors under
    all tasks are one cluster. All queries share the gallery, which their scores don't show: an image's influence there
    is taken for as large as that of its own score, once as a relevant image and once as another. Where all queries
    count alike it can be far larger: a rare label's few images stand in everybody's gallery. Such means are not
    compared.

    Args:
        labels: (T, N) of each task's queries, below 0 where a query has no score.

    Attributes:
        images: how many test images of equal weight carry as much evidence, under the task with the fewest.
    """

    def __init__(self, labels: NDArray[np.integer]) -> None:
        tasks = len(labels)
        self._groups: list[NDArray[np.int64]] = []  # places in the raveled (T, N) scores that share a mean
        self._weights = np.zeros(labels.shape)
        self._stretch = np.zeros(labels.shape)
        for t, task in enumerate(labels):
            groups = [np.flatnonzero(task == value) for value in np.unique(task[task >= 0])]
            for places in groups:
                self._weights[t, places] = 1 / (tasks * len(groups) * len(places))
                # the root of n / (n - 1): errors about a value's own mean are smaller than errors
                self._stretch[t, places] = np.sqrt(len(places) / max(len(places) - 1, 1))
                self._groups.append(places + t * labels.shape[1])
        self.images = min((_number_of_equal(task) for task in self._weights), default=0.0)

    def mean(self, scores: Scores) -> float:
        """Return the mean over tasks of the means over queries of (T, N) scores; without weight they may be NaN."""
        return float((self._weights * np.where(self._weights > 0, scores, 0.0)).sum())

    def spread(self, difference: Floats) -> float:
        """Return the variance that other test images would bring to the mean of (T, N) differences."""
        errors = np.where(self._weights > 0, difference, 0.0)
        flat = errors.reshape(-1)
        for places in self._groups:
            flat[places] -= flat[places].mean()
        errors *= self._weights * self._stretch
        by_image = errors.sum(axis=0)
        return _PARTS * max(float(by_image @ by_image), float((errors * errors).sum()))


def _number_of_equal(weights: NDArray[np.generic]) -> float:
    """Return how many images of equal weight carry as much evidence as images of these weights."""
    squares = weights.astype(np.float64) ** 2
    total = float((squares**2).sum())
    return float(squares.sum()) ** 2 / total if total else 0.0


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
