"""The triplet loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.benchmark import Embedding, Loss


def triplet_losses(embeddings: Tensor, triplets: Tensor, possible: Tensor, loss: Loss, protocol: Embedding) -> Tensor:
    """Return the mean triplet loss of every task, (T,) float32.

    The loss of a triplet is max(0, d(a, p) - d(a, n) + margin), d squared or plain Euclidean as the protocol says.

    Args:
        embeddings: (T, B, D), normalised here if the protocol says so.
        triplets: (T, n, 3) indices into the batch.
        possible: (T,) bool; a task without triplets in this batch has loss 0.
        loss: its margin.
        protocol: distance and normalisation.
    """
    points = embeddings.float()
    if protocol.normalise:
        points = F.normalize(points, dim=2)
    rows = torch.arange(len(points), device=points.device)[:, None, None]
    anchor, positive, negative = points[rows, triplets].unbind(2)
    near = _distance(anchor, positive, protocol)
    far = _distance(anchor, negative, protocol)
    return F.relu(near - far + loss.margin).mean(1) * possible


def _distance(a: Tensor, b: Tensor, protocol: Embedding) -> Tensor:
    squared = (a - b).square().sum(-1)
    # the root has no gradient at 0, where anchor and positive of a collapsed network lie
    return squared if protocol.distance == "squared" else squared.clamp_min(1e-12).sqrt()
