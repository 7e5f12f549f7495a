"""Embeddings that have collapsed to a point, task by task, whatever the loss that they were trained with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.evaluation.triplets import HeldOutTriplets

# How far anchors and negatives lie from each other in a collapsed task, in the embeddings' own scale. Both limits are
# what 5 % of the triplet loss's margin of 0.2 was in the protocols that they come from, so that a run which was judged
# by its margin is judged alike by its scale.
_SQUARED_ON_THE_SPHERE = 0.05 * 0.2  # mean squared distance of normalised embeddings, of which the largest is 4
# A common offset, which no distance sees, lengthens embeddings that are not normalised: they are given more room.
_SHARE_OF_THE_NORM = 0.05 * 0.2  # mean distance over mean norm


def collapsed_tasks(embeddings: Tensor, held_out: HeldOutTriplets, normalise: bool) -> Tensor:
    """Return (T,) bool: under which tasks the embeddings have collapsed to a point.

    Collapsed means that anchors and negatives of the held-out triplets lie, on average, next to each other, measured in
    the embeddings' own scale: the unit sphere where they are normalised, else their mean norm; or that embeddings are
    not finite. No setting of the loss plays a part, nor the unit in which a network embeds.

    Args:
        embeddings: (T, N, D), of the images of `held_out`.
        held_out: the triplets of a split.
        normalise: divide each embedding by its L2 norm first (a zero vector stays zero).
    """
    points = F.normalize(embeddings, dim=2) if normalise else embeddings
    rows = torch.arange(len(points), device=points.device)[:, None]
    anchors, negatives = points[rows, held_out.triplets[:, :, 0]], points[rows, held_out.triplets[:, :, 2]]
    squared = (anchors - negatives).square().sum(-1)
    if normalise:
        return ~(squared.mean(1) > _SQUARED_ON_THE_SPHERE)
    length = points.square().sum(-1).sqrt().mean(1)
    return ~(squared.sqrt().mean(1) > _SHARE_OF_THE_NORM * length)
