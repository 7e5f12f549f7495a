"""The triplet loss. Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015 (arXiv 1503.03832); soft margin and mining after
Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, 2017 (arXiv 1703.07737).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.distances import euclidean
from mtlbench.losses.contract import Loss, LossContext, register_loss
from mtlbench.sampling.contract import Batch


@register_loss("triplet")
class Triplet(Loss):
    """The mean over triplets of max(0, d(a, p) - d(a, n) + margin), d squared or plain Euclidean distance.

    Args:
        margin: how much farther than the positive a negative must be.
        soft_margin: log(1 + exp(d(a, p) - d(a, n))) instead, which has no margin and never reaches 0.
        mining: which negative a drawn anchor and positive get: the one drawn (`all`), the nearest image of another
            label in the batch (`hard`), or the nearest that is farther than the positive, and the farthest where none
            is (`semi-hard`). In per-task sampling the batch is the task's own group.
    """

    takes_sets = True

    def __init__(
        self,
        context: LossContext,
        *,
        margin: Annotated[float, Field(gt=0)] = 0.2,
        soft_margin: bool = False,
        mining: Literal["all", "hard", "semi-hard"] = "all",
    ) -> None:
        super().__init__(context)
        self.margin, self.soft_margin, self.mining = margin, soft_margin, mining
        if mining != "all" and any(context.sets):
            raise UserError(
                f"loss.mining = '{mining}' looks for images of another label, and labels here are sets: set loss.mining"
                " = 'all', or data.multi_valued to another rule than 'set'."
            )

    def forward(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """See `Loss.forward`; a task without triplets in this batch has loss 0."""
        if batch.triplets is None or batch.possible is None:
            raise UserError(
                "The loss triplet needs triplets, and this sampler forms none: set train.sampling = 'joint'. A sampler"
                " of your own gets them from source.batch(index, generators)."
            )
        points, triplets = self.points(embeddings), batch.triplets
        if self.mining != "all":
            triplets = self._mined(points.detach(), batch.labels, triplets)
        rows = torch.arange(len(points), device=points.device)[:, None, None]
        anchor, positive, negative = points[rows, triplets].unbind(2)
        near = euclidean(anchor, positive, self.context.distance)
        far = euclidean(anchor, negative, self.context.distance)
        each = F.softplus(near - far) if self.soft_margin else F.relu(near - far + self.margin)
        return each.mean(1) * batch.possible

    def _mined(self, points: Tensor, labels: Tensor, triplets: Tensor) -> Tensor:
        """Return (T, n, 3) triplets with negatives chosen by distance; as drawn where an anchor has none."""
        rows = torch.arange(len(points), device=points.device)[:, None]
        anchor, positive, drawn = triplets.unbind(2)
        distances = torch.cdist(points, points)[rows, anchor]  # (T, n, B)
        own = labels[rows, anchor][:, :, None]
        other = (labels[:, None, :] >= 0) & (own >= 0) & (labels[:, None, :] != own)
        other = other.scatter(2, positive[:, :, None], False)  # a listed positive may have another label
        if self.mining == "hard":
            chosen = distances.masked_fill(~other, torch.inf).argmin(2)
        else:
            farther = other & (distances > distances.gather(2, positive[:, :, None]))
            nearest = distances.masked_fill(~farther, torch.inf).argmin(2)
            farthest = distances.masked_fill(~other, -torch.inf).argmax(2)
            chosen = torch.where(farther.any(2), nearest, farthest)
        return torch.stack([anchor, positive, torch.where(other.any(2), chosen, drawn)], dim=2)
