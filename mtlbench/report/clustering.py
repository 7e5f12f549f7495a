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
# means over triplets of images: Hoeffding, Annals of Mathematical Statistics 1948). Two of them are in the gallery. What
# a label value's images have in common plays two parts: as what is looked for, and among what is not.
_IN_GALLERY, _OF_VALUE = 2, 2.0
_FEW = 5  # queries, fewer of which don't tell how much a value's scores vary
_MANY = 20  # values, of which another test set has others


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

    A query's error is that about its value's mean. A few queries don't tell how much a value varies, and of many values,
    such as persons or products, another test set has others. There the errors are those about the mean of the values,
    and those of one value are a cluster.

    Args:
        labels: (T, N) of each task's queries, below 0 where a query has no score.
        searched: (T, N) labels of the images in the gallery, below 0 elsewhere, where not all images are queries and in
            the gallery.

    Attributes:
        images: how many test images of equal weight carry as much evidence, under the task with the fewest.
    """

    def __init__(self, labels: NDArray[np.integer], searched: NDArray[np.integer] | None = None) -> None:
        tasks, number = labels.shape
        self._weights = np.zeros(labels.shape)
        self._stretch = np.zeros(labels.shape)  # of errors, for all that they don't show
        self._alone: list[NDArray[np.int64]] = []  # places in the raveled (T, N) scores that share a mean
        self._together: list[list[NDArray[np.int64]]] = []  # the same by value, where the mean is that of values
        each = []
        for t, task in enumerate(labels):
            groups = [np.flatnonzero(task == value) for value in np.unique(task[task >= 0])]
            sizes = [len(places) for places in groups]
            pooled = _pooled(sizes)
            # where all images are queries and in the gallery, only sets that share values have single queries
            of_sets = searched is None and 1 in sizes
            share, counts = 1 / (tasks * max(len(groups), 1)), [np.zeros(0)]
            for places, together in zip(groups, pooled, strict=True):
                self._weights[t, places] = share / len(places)
                # the root of n / (n - 1): errors about a mean are smaller than errors
                size = sum(pooled) if together else len(places)
                stretch = np.sqrt(size / max(size - 1, 1))
                counts.append(np.full(1, share) if together else self._weights[t, places])
                if together:
                    stretch *= 1 + _IN_GALLERY if of_sets else _OF_VALUE
                elif searched is None:
                    stretch *= 1 + _IN_GALLERY
                else:
                    there = searched[t] == task[places[0]]
                    stretch *= _beside(len(places), there.sum(), apart=not there[places].any())
                    counts.append(np.full(max(there.sum(), 1), share / max(there.sum(), 1)))
                self._stretch[t, places] = stretch
                if not together:
                    self._alone.append(places + t * number)
            if any(pooled):
                self._together.append([p + t * number for p, together in zip(groups, pooled, strict=True) if together])
            each.append(_number_of_equal(np.concatenate(counts)))
        self.images = min(each, default=0.0)

    def mean(self, scores: Scores) -> float:
        """Return the mean over tasks of the means over queries of (T, N) scores; without weight they may be NaN."""
        return float((self._weights * np.where(self._weights > 0, scores, 0.0)).sum())

    def spread(self, difference: Floats) -> float:
        """Return the variance that other test images would bring to the mean of (T, N) differences."""
        errors = np.where(self._weights > 0, difference, 0.0)
        flat = errors.reshape(-1)
        for places in self._alone:
            flat[places] -= flat[places].mean()
        for values in self._together:
            middle = np.mean([flat[places].mean() for places in values])
            for places in values:
                flat[places] -= middle
        errors *= self._weights * self._stretch
        by_image = errors.sum(axis=0)
        found = max(float(by_image @ by_image), float((errors * errors).sum()))
        for values in self._together:  # what a value's queries have in common beside the image
            found += max(
                sum(float(flat[places].sum()) ** 2 - float(flat[places] @ flat[places]) for places in values), 0
            )
        return found


def _pooled(sizes: list[int]) -> list[bool]:
    """Say for which values of a task, of so many queries each, errors are those about the mean of values."""
    if len(sizes) >= _MANY:
        return [True] * len(sizes)
    found = [size < _FEW for size in sizes]
    if any(found) and len(sizes) > 1:
        for i in np.argsort(sizes, kind="stable"):  # the smallest first, until there is enough to tell
            if sum(found) > 1 and sum(size for size, yes in zip(sizes, found, strict=True) if yes) >= _FEW:
                break
            found[i] = True
    return found


def _beside(queries: int, gallery: int, *, apart: bool) -> float:
    """Return how much larger the influence of a value's images is than their scores as queries show.

    Args:
        queries: how many of them are queries; gallery: how many are in the gallery; apart: none is both.
    """
    more = _IN_GALLERY * float(np.sqrt(queries / max(gallery, 1)))
    return float(np.hypot(1, more)) if apart else 1 + more


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
