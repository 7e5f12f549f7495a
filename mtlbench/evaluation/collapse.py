"""Embeddings that have collapsed to a point, task by task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.benchmark import Embedding
from mtlbench.evaluation.distances import euclidean
from mtlbench.evaluation.triplets import HeldOutTriplets

# A twentieth of the margin of the bundled protocols, which no distance within a point reaches; and a thousandth of the
# embeddings' length, for losses that leave the scale of unnormalised embeddings free.
_POINT, _SHARE_OF_LENGTH = 0.01, 0.001


def collapsed_tasks(embeddings: Tensor, triplets: HeldOutTriplets, protocol: Embedding) -> Tensor:
    """Return (T,) bool: under which tasks the embeddings have collapsed to a point, whatever loss they come from.

    Collapsed means that anchors and negatives of the triplets lie, on average, within 0.01 of each other in the
    protocol's distance; where embeddings are not normalised, also within a thousandth of their mean length; or that
    embeddings are not finite.
    """
    points = F.normalize(embeddings, dim=2) if protocol.normalise else embeddings
    rows = torch.arange(len(points), device=points.device)[:, None]
    anchors, negatives = points[rows, triplets.triplets[:, :, 0]], points[rows, triplets.triplets[:, :, 2]]
    apart = euclidean(anchors, negatives, protocol.distance).mean(1)
    collapsed = ~(apart > _POINT)
    if not protocol.normalise:
        collapsed |= ~(euclidean(anchors, negatives, "plain").mean(1) > _SHARE_OF_LENGTH * points.norm(dim=2).mean(1))
    return collapsed
