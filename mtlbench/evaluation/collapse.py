"""Embeddings that have collapsed to a point, task by task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.benchmark import Embedding, Loss
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.losses.triplet import _distance

_COLLAPSED = 0.05  # share of the margin


def collapsed_tasks(embeddings: Tensor, questions: HeldOutTriplets, loss: Loss, protocol: Embedding) -> Tensor:
    """Return (T,) bool: under which tasks the embeddings have collapsed to a point.

    Collapsed means that anchors and negatives of the questions lie, on average, nearer than 5 % of the margin, so that
    the loss can't be farther than that from the margin; or that embeddings are not finite.
    """
    points = F.normalize(embeddings, dim=2) if protocol.normalise else embeddings
    rows = torch.arange(len(points), device=points.device)[:, None]
    apart = _distance(points[rows, questions.triplets[:, :, 0]], points[rows, questions.triplets[:, :, 2]], protocol)
    return ~(apart.mean(1) > _COLLAPSED * loss.margin)
