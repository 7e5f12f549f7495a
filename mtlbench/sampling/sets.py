"""Triplets of a task whose labels are sets: the positive shares a value with the anchor, the negative shares none."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.devices import whole
from mtlbench.errors import UserError

_CELLS = 2**24  # of a table of anchors and sets at once


class SetTriplets:
    """Draws triplets of one task whose labels are sets.

    A value is drawn evenly over those that can anchor, then an image that has it, another image that has it, and one
    that shares no value with the anchor, each evenly.

    Args:
        labels: (N,) int64 numbers of sets, -1 for not labelled.
        members: (V, U) bool, the values in each set.
        query: (N,) bool, the images that anchor; gallery: (N,) bool, the others'; None for all.
        min_images: a value with fewer anchors than this is drawn less often, in proportion to them; 0 draws all evenly.

    Raises:
        UserError: no triplet can be drawn.
    """

    def __init__(
        self,
        labels: Tensor,
        members: Tensor,
        query: Tensor | None = None,
        gallery: Tensor | None = None,
        min_images: int = 0,
    ) -> None:
        everyone = torch.ones(len(labels), dtype=torch.bool)
        query, gallery = everyone if query is None else query, everyone if gallery is None else gallery
        sets = len(members)
        self.labels, self.members = labels, members.float()
        found = torch.nonzero((labels >= 0) & gallery).flatten()
        self.images = found[labels[found].argsort(stable=True)]  # of the gallery, by set
        self.counts = torch.bincount(labels[found], minlength=sets)
        self.starts = self.counts.cumsum(0) - self.counts
        self.of_value, self.value_counts = self._by_value(found)
        self.value_starts = self.value_counts.cumsum(0) - self.value_counts
        # images of a value stand in ascending order, so that an image's place among them is found by its key
        value_of = torch.repeat_interleave(torch.arange(len(self.value_counts)), self.value_counts)
        self.keys = value_of * len(labels) + self.of_value
        asked = torch.nonzero((labels >= 0) & query).flatten()
        anchor, value = torch.nonzero(members[labels[asked]], as_tuple=True)
        anchor = asked[anchor]
        inside = gallery[anchor]
        used = torch.unique(labels[asked])
        unlike = torch.zeros(sets, dtype=torch.int64)
        for some in used.split(max(1, _CELLS // max(1, sets))):
            unlike[some] = (self._apart(some).long() * self.counts).sum(1)
        able = (self.value_counts[value] - inside.long() > 0) & (unlike[labels[anchor]] > 0)
        anchor, value = anchor[able], value[able]
        if not len(anchor):
            raise UserError(
                "No triplet can be drawn: it takes two images whose sets share a value, and one that shares none with"
                " the first."
            )
        order = value.argsort(stable=True)
        self.anchors, self.unlike = anchor[order], unlike
        self.able, self.of_able = torch.unique_consecutive(value[order], return_counts=True)
        self.first = self.of_able.cumsum(0) - self.of_able
        self.inside = inside[able][order]
        parts = self.of_able.clamp(max=min_images).double() if min_images else torch.ones(len(self.able)).double()
        self.bounds = parts.cumsum(0) / parts.sum()

    def _by_value(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gallery's images by value, and how many each value has."""
        row, value = torch.nonzero(self.members[self.labels[found]], as_tuple=True)
        return found[row[value.argsort(stable=True)]], torch.bincount(value, minlength=self.members.shape[1])

    def _apart(self, sets: Tensor) -> Tensor:
        """Return (n, V) bool: which sets share no value with each of some."""
        return self.members[sets] @ self.members.T == 0

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Return (number, 3) int64 indices of anchor, positive and negative into the labels."""
        return self.drawn(torch.rand(4, number, generator=generator, dtype=torch.float64))

    def drawn(self, draws: Tensor) -> Tensor:
        """Return (n, 3) triplets; all chance is in `draws`, (4, n) float64 in [0, 1)."""
        place = torch.searchsorted(self.bounds, draws[0], right=True).clamp(max=len(self.able) - 1)
        pick = self.first[place] + whole(draws[1], self.of_able[place])
        anchor, value, inside = self.anchors[pick], self.able[place], self.inside[pick]
        positive = whole(draws[2], self.value_counts[value] - inside.long())
        start = self.value_starts[value]
        own = torch.searchsorted(self.keys, value * len(self.labels) + anchor) - start
        # those from the anchor on move up by one
        positive += (inside & (positive >= own)).long()
        nth = whole(draws[3], self.unlike[self.labels[anchor]])
        negative = [self._negative(self.labels[a], n) for a, n in self._parts(anchor, nth)]
        return torch.stack([anchor, self.of_value[start + positive], torch.cat(negative)], dim=1)

    def _parts(self, anchor: Tensor, nth: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = max(1, _CELLS // max(1, len(self.members)))
        return list(zip(anchor.split(size), nth.split(size), strict=True))

    def _negative(self, sets: Tensor, nth: Tensor) -> Tensor:
        """Return the nth gallery image that shares no value with each of some sets."""
        sums = (self._apart(sets).long() * self.counts).cumsum(1)
        other = torch.searchsorted(sums, nth[:, None], right=True).squeeze(1)
        before = sums.gather(1, other[:, None]).squeeze(1) - self.counts[other]
        return self.images[self.starts[other] + nth - before]
