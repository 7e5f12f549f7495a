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
# means over triplets of images: Hoeffding, Annals of Mathematical Statistics 1948). Two parts are in the gallery. What
# the images of a label value have in common plays two parts: what is looked for, and what is not.
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

    Images of one person or product are one cluster. Of a task with many label values, such as persons or brands,
    another test set has others: there, the images of one value are a cluster too.

    Args:
        triplets: (T, n, 3) test images of each task's triplets; a task's images are the other tasks' too.
        groups: (N,) of each test image; images of one group belong together, and a negative number stands alone.
        labels: (T, N) of the test images, below 0 where there is none.

    Attributes:
        images: how many test images, or groups of them, of equal weight carry as much evidence, under the task with the
            fewest.
        stretch: what the variance of errors about their own mean is multiplied by.
    """

    def __init__(
        self,
        triplets: NDArray[np.integer],
        groups: NDArray[np.integer] | None = None,
        labels: NDArray[np.integer] | None = None,
    ) -> None:
        units = _units(groups, int(triplets.max()) + 1)
        rows = units[triplets]
        self.size = rows.shape[0] * rows.shape[1]
        self._shared = _Triples(rows.reshape(-1, 3))
        self._of_values: list[tuple[int, _Triples, _Triples]] = []  # a task, its triplets by value and by image
        each = []
        for t, task in enumerate(triplets):
            clusters, shared = rows[t], _Triples(rows[t])
            if (
                labels is not None
                and labels.shape[1] > task.max()
                and len(np.unique(labels[t][labels[t] >= 0])) >= _MANY
            ):
                clusters = _units(labels[t], labels.shape[1])[task]
                shared, by_image = _Triples(clusters), shared
                self._of_values.append((t, shared, by_image))
            each.append((_number_of_equal(np.bincount(clusters.ravel())), _lost(clusters, shared)))
        self.images = min(number for number, _ in each)
        # of three images nothing can be told, as of one number
        self.stretch = float(np.mean([1 / max(1 - lost, number**-2.0) for number, lost in each]))

    def mean(self, scores: Scores) -> float:
        """Return the mean over tasks and triplets of (T, n) scores."""
        return float(scores.mean(dtype=np.float64))

    def spread(self, difference: Floats) -> float:
        """Return the variance that other test images would bring to the mean of (T, n) differences."""
        errors = difference - difference.mean(axis=1, keepdims=True)
        more = sum(
            max(by_value.together(errors[t]) - by_image.together(errors[t]), 0)
            for t, by_value, by_image in self._of_values
        )
        return float(self.stretch * (self.variance(errors.ravel()) + more / self.size**2))

    def variance(self, errors: Floats) -> float:
        """Return the variance of the mean of the triplets' errors, (T * n,), each of mean 0.

        Two triplets vary together where they share one image or more, or images of one group; so it is the sum of e_q
        e_r over all q and r that do, over the square of their number (dyadic clustering: Aronow, Samii and Assenova,
        Political Analysis 2015, for three members instead of two).
        """
        return float(self._shared.together(errors) / self.size**2)


class SharedQueries:
    """Which queries are the same image, for variances of means over queries that know of it.

    The column is a mean over tasks of means over label values of means over a value's queries. An image's errors under
    all tasks are one cluster. All queries share the gallery, which their scores don't show: an image's influence there
    is taken for as large as that of its own score, once as a relevant image and once as another. Where all queries
    count alike it can be far larger: a rare label's few images stand in everybody's gallery. Such means are not
    compared.

    A query's error is that about its value's mean. A few queries don't tell how much a value varies, and of many
    values, such as persons or brands, another test set has others. There the errors are those about the mean of the
    values, and those of one value are a cluster.

    Args:
        labels: (T, N) of each task's queries, below 0 where a query has no score.
        searched: (T, N) labels of the images in the gallery, below 0 elsewhere, where not all images are queries and in
            the gallery.
        groups: (N,) as of `SharedImages`: images of one group are one cluster.

    Attributes:
        images: how many test images, or groups of them, of equal weight carry as much evidence, under the task with the
            fewest.
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        searched: NDArray[np.integer] | None = None,
        groups: NDArray[np.integer] | None = None,
    ) -> None:
        tasks, number = labels.shape
        self._units = _units(groups, number)
        self._weights = np.zeros(labels.shape)
        self._stretch = np.zeros(labels.shape)  # of errors, for all that they don't show
        self._alone: list[NDArray[np.int64]] = []  # places in the raveled (T, N) scores that share a mean
        self._together: list[list[NDArray[np.int64]]] = []  # the same by value, where the mean is that of values
        each = []
        for t, task in enumerate(labels):
            values = [np.flatnonzero(task == value) for value in np.unique(task[task >= 0])]
            sizes = [len(np.unique(self._units[places])) for places in values]
            pooled = _pooled(sizes)
            # where all images are queries and in the gallery, only sets that share values have single queries
            of_sets = searched is None and any(len(places) == 1 for places in values)
            share, counts = 1 / (tasks * max(len(values), 1)), [np.zeros(0)]
            for places, own, together in zip(values, sizes, pooled, strict=True):
                self._weights[t, places] = share / len(places)
                size, parts = own, 1.0 + _IN_GALLERY
                if together:
                    size, parts = sum(pooled), parts if of_sets else _OF_VALUE
                    counts.append(np.full(1, share))
                else:
                    self._alone.append(places + t * number)
                    counts.append(_by(self._units[places], self._weights[t, places]))
                    if searched is not None:
                        there = searched[t] == task[places[0]]
                        gallery = int(there.sum())
                        parts = _beside(len(places), gallery, apart=not there[places].any())
                        weight = _IN_GALLERY * share / max(gallery, 1)
                        counts.append(_by(self._units[there], np.full(gallery, weight)))
                # the root of n / (n - 1): errors about a mean are smaller than errors
                self._stretch[t, places] = parts * np.sqrt(size / max(size - 1, 1))
            if any(pooled):
                self._together.append([p + t * number for p, together in zip(values, pooled, strict=True) if together])
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
        by_image = _by(self._units, errors.sum(axis=0))
        found = max(float(by_image @ by_image), float((errors * errors).sum()))
        for values in self._together:  # what a value's queries have in common beside the image
            by_value = [float(flat[places].sum()) for places in values]
            every = np.concatenate(values)
            by_image = _by(self._units[every % errors.shape[1]], flat[every])
            found += max(float(np.square(by_value).sum()) - float(by_image @ by_image), 0)
        return found


def _by(units: NDArray[np.int64], numbers: Floats) -> Floats:
    """Return the sums of numbers by unit, of those that occur."""
    return np.bincount(np.unique(units, return_inverse=True)[1], numbers).astype(np.float64)


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


def _lost(members: NDArray[np.int64], shared: _Triples) -> float:
    """Return which share of the variance of a task's mean is missing where errors are those about that mean.

    Exact where a triplet's score is a sum of its members' independent effects. A member counts w_u times in a triplet
    on average, and the variance is that of the sum of w_u x_u. Its estimate is the sum of e_q e_r over triplets that
    share a member, with e_q the sum of (A_qu - w_u) x_u, and expects sums over A_qu A_ru, w_u A_qu and w_u w_u.

    Args:
        members: (n, 3) of the triplets, A_qu; shared: the same.
    """
    number = len(members)
    weights = np.bincount(members.ravel()) / number
    total = float(weights @ weights)
    both = shared.product(weights[members].sum(axis=1), np.ones(number))
    return (2 * both / total - shared.product(np.ones(number), np.ones(number))) / number**2


def _units(groups: NDArray[np.integer] | None, images: int) -> NDArray[np.int64]:
    """Return numbers that images of one group share; each image has its own where groups are not known of all."""
    if groups is None or len(groups) < images:
        return np.arange(images)
    own = np.arange(len(groups)) + int(groups.max(initial=-1)) + 1
    return np.unique(np.where(groups < 0, own, groups), return_inverse=True)[1][:images]


class _Triples:
    """Triplets that share members, of which a triplet may have the same twice.

    Args:
        members: (n, 3) numbers.
    """

    def __init__(self, members: NDArray[np.int64]) -> None:
        first, second, third = np.sort(members, axis=1).T
        number, rows = int(third.max()) + 1, np.arange(len(members))
        two, three = first != second, second != third  # all three are different where both hold
        all_three = two & three
        pairs = [(two, first * number + second), (three, second * number + third), (all_three, first * number + third)]
        pair = np.unique(first * number + second, return_inverse=True)[1]
        ones = [(np.full(len(rows), True), first), (two, second), (three, third)]
        self._groups = [
            _Groups(+1.0, [(rows[there], shared[there]) for there, shared in ones]),
            _Groups(-1.0, [(rows[there], shared[there]) for there, shared in pairs]),
            _Groups(+1.0, [(rows[all_three], (pair * number + third)[all_three])]),
        ]

    def together(self, errors: Floats) -> float:
        """Return the sum of e_q e_r over all triplets q and r that share a member or more.

        The sum over shared members counts a pair of triplets once for each; less that over shared pairs of members,
        plus that over shared triples, leaves one.
        """
        total = self.product(errors, errors)
        return max(total, float(errors @ errors))  # as if triplets were independent: never less, whatever chance says

    def product(self, first: Floats, second: Floats) -> float:
        """Return the sum of first_q second_r over all triplets q and r that share a member or more."""
        return sum(groups.sign * groups.product(first, second) for groups in self._groups)


class _Groups:
    """Triplets by something that they share; each is given as many places and numbers as it shares things."""

    def __init__(self, sign: float, shared: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
        self.sign, self._rows = sign, np.concatenate([rows for rows, _ in shared])
        self._what = np.unique(np.concatenate([what for _, what in shared]), return_inverse=True)[1]

    def product(self, first: Floats, second: Floats) -> float:
        sums = np.bincount(self._what, first[self._rows])
        others = sums if second is first else np.bincount(self._what, second[self._rows])
        return float(sums @ others)
