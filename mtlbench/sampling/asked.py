"""Triplets of a query that is searched for in a gallery: the anchor is a query, the others are of the gallery."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.devices import whole
from mtlbench.errors import UserError


class AskedTriplets:
    """Draws triplets of one task whose anchors are queries, and whose positives and negatives are gallery images.

    Args:
        labels: (N,) int64, -1 for not labelled.
        query: (N,) bool, the images that anchor; gallery: (N,) bool, the others'.
        anchors, min_images: as in `TripletSampler`; the images of a label that are counted are its queries.

    The anchor's label is drawn evenly over those that can anchor, then one of its queries, a gallery image of that
    label that is another image, and one of another label, each evenly.

    Raises:
        UserError: no triplet can be drawn.
    """

    def __init__(
        self, labels: Tensor, query: Tensor, gallery: Tensor, anchors: str = "balanced", min_images: int = 0
    ) -> None:
        values = 1 + int(labels.max()) if len(labels) else 0
        asked = torch.nonzero((labels >= 0) & query).flatten()
        found = torch.nonzero((labels >= 0) & gallery).flatten()
        self.images = found[labels[found].argsort(stable=True)]  # of the gallery, by label
        self.counts = torch.bincount(labels[found], minlength=max(1, values))
        self.starts = self.counts.cumsum(0) - self.counts
        own = torch.full((len(labels),), -1)  # an image's place among the gallery's of its label
        own[self.images] = torch.arange(len(self.images)) - self.starts[labels[self.images]]
        others = self.counts[labels[asked]] - (own[asked] >= 0).long()
        able = (others > 0) & (self.counts[labels[asked]] < len(self.images))
        if anchors == "positive":
            able &= labels[asked] == 1
        asked = asked[able]
        if len(asked) == 0:
            raise UserError(
                "No triplet can be drawn: it takes a query with a gallery image of its label"
                + (" (1, with anchors = 'positive')" if anchors == "positive" else "")
                + " and one of another."
            )
        self.queries = asked[labels[asked].argsort(stable=True)]
        self.labels = labels[self.queries]
        self.own = own[self.queries]
        self.able, self.of_label = torch.unique_consecutive(self.labels, return_counts=True)
        self.first = self.of_label.cumsum(0) - self.of_label
        parts = self.of_label.clamp(max=min_images).double() if min_images else torch.ones(len(self.able)).double()
        self.bounds = parts.cumsum(0) / parts.sum()

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Return (number, 3) int64 indices of anchor, positive and negative into the labels."""
        draws = torch.rand(4, number, generator=generator, dtype=torch.float64)
        label = torch.searchsorted(self.bounds, draws[0], right=True).clamp(max=len(self.able) - 1)
        place = self.first[label] + whole(draws[1], self.of_label[label])
        code, own = self.able[label], self.own[place]
        inside = own >= 0
        positive = whole(draws[2], self.counts[code] - inside.long())
        positive += (inside & (positive >= own)).long()
        negative = whole(draws[3], len(self.images) - self.counts[code])
        negative += torch.where(negative >= self.starts[code], self.counts[code], 0)
        others = self.images[torch.stack([self.starts[code] + positive, negative])]
        return torch.stack([self.queries[place], *others], dim=1)
